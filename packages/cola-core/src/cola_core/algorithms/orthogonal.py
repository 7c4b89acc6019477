"""Gram-Schmidt against a growing basis, the step that all Krylov methods share.

A basis is stored by rows, ``(*batch, m, n)``, so that projecting is one product of matrix and vector; every
batch entry has a basis of its own (a column of a right-hand side, a probe). Classical Gram-Schmidt is done
again where the first pass cancelled (Daniel, Gragg, Kaufman & Stewart, Math. Comp. 30 (1976) 772; twice is
enough: Giraud, Langou & Rozložník 2005). Breakdown, a vector that lies in the space already, is a normal end:
it is recognised relative to the vector's own size, so that A and 1e-9 A break down alike, and gives zeros.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend

__all__ = ["normalize", "orthogonalize", "project", "sweep"]

# the part that is left may be this much smaller before rounding has spoiled it (1/sqrt 2: Kahan-Parlett)
CANCELLED = 0.7071

# entries from which on the traffic of a vector counts more than a call
LONG = 10_000


def project(be: Backend, basis: Array, w: Array, count: Any = None) -> tuple[Array, Array]:
    """``w - V V^H w`` and the coefficients ``V^H w``, once.

    basis: (*batch, m, n), rows orthonormal. w: (*batch, n). count: rows in use (default all). Coefficients:
    (*batch, count), or (*batch, m) with zeros behind ``count`` where shapes must not change (JAX).
    """
    xp = be.xp
    m = basis.shape[-2]
    fixed = be.name == "jax"
    known = basis if fixed or count is None or count == m else basis[..., :count, :]
    if known.shape[-2] == 0:
        return w, be.zeros((*w.shape[:-1], 0), w.dtype, be.device(w))
    if be.is_complex(known):
        c = be.conj(known @ be.conj(w)[..., None])  # conjugates the vector instead of the basis
    else:
        c = known @ w[..., None]
    if fixed and count is not None:
        c = xp.where((xp.arange(m) < count)[:, None], c, xp.zeros_like(c))
    return w - (known.mT @ c)[..., 0], c[..., 0]


def orthogonalize(
    be: Backend, basis: Array, w: Array, count: Any = None, always_twice: bool = False
) -> tuple[Array, Array, Array, Array]:
    """What is left of w, the coefficients, its norm, and the norm of w before: ``w = V c + left``.

    Arguments as ``project``. Norms: (*batch,). Cost: 4 m n flops a pass, two passes at most. always_twice: do
    not look at values to find out whether one pass is enough.
    """
    xp = be.xp
    before = xp.linalg.vector_norm(w, axis=-1)
    w, c = project(be, basis, w, count)
    after = xp.linalg.vector_norm(w, axis=-1)
    looked = not always_twice and be.is_concrete(after)
    if c.shape[-1] and not (looked and bool(xp.all(after > CANCELLED * before))):
        w, more = project(be, basis, w, count)
        c = c + more
        after = xp.linalg.vector_norm(w, axis=-1)
    return w, c, after, before


def sweep(be: Backend, basis: Array, w: Array, count: Any = None) -> tuple[Array, Array, Array, Array]:
    """As ``orthogonalize``, but long vectors of NumPy only once, row after row (modified Gram-Schmidt).

    The basis is then orthonormal to as many digits as GMRES needs and no more (Paige, Rozložník & Strakoš,
    SIAM J. Matrix Anal. Appl. 28 (2006) 264), at half the traffic.
    """
    if be.name != "numpy" or w.dtype != basis.dtype or w.shape[-1] < LONG:
        return orthogonalize(be, basis, w, count)
    import numpy as np

    from ..backends.numpy_backend import _blas

    m, n = basis.shape[-2:]
    count = m if count is None else count
    axpy, dot = _blas("axpy", w), _blas("dotc" if be.is_complex(w) else "dot", w)
    flat = np.array(w, order="C").reshape(-1, n)  # a copy: the caller's array may be the operator's
    c = np.zeros((len(flat), count), w.dtype)
    squares = np.zeros((2, len(flat)), w.real.dtype)
    for one, square, rows, x in zip(c, squares.T, basis.reshape(-1, m, n), flat, strict=True):
        square[0] = dot(x, x).real
        for i in range(count):
            one[i] = dot(rows[i], x)
            axpy(rows[i], x, a=-one[i])
        square[1] = dot(x, x).real
    before, after = np.sqrt(squares).reshape(2, *w.shape[:-1])
    return flat.reshape(w.shape), c.reshape(*w.shape[:-1], count), after, before


def normalize(be: Backend, w: Array, norm: Array, size: Array) -> tuple[Array, Array]:
    """``w / norm`` and the norm, both zero where ``norm`` is rounding error beside ``size`` (breakdown).

    w: (*batch, n). norm, size: (*batch,); size is that of the vector before, or of the operator.
    """
    xp = be.xp
    eps = float(xp.finfo(norm.dtype).eps)
    alive = norm > 10 * eps * w.shape[-1] ** 0.5 * size
    norm = xp.where(alive, norm, xp.zeros_like(norm))
    scale = xp.where(alive, 1 / xp.where(alive, norm, xp.ones_like(norm)), xp.zeros_like(norm))
    q = w * be.astype(scale, w.dtype)[..., None]
    if be.is_concrete(alive) and bool(xp.all(alive)):
        return q, norm
    return xp.where(alive[..., None], q, xp.zeros_like(q)), norm

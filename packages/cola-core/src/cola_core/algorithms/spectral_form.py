"""``f(A) = V f(W) V^{-1}`` of dense matrices with derivatives of any order, right at equal eigenvalues.

Daleckii & Krein 1965; Higham 2008, thm 3.11: ``df(A) = V (F o (V^{-1} dA V)) V^{-1}`` with F the divided
differences of f at pairs of eigenvalues. The k-th derivative is a sum of multilinear forms

    T_k(E_1, .., E_k) = V [sum f[w_i0, .., w_ik] (V^{-1} E_1 V)_{i0 i1} .. (V^{-1} E_k V)_{i(k-1) ik}] V^{-1}

and these are closed under differentiation: that of T_k along dA is the sum of the T_{k+1} with dA in every
place among the E's, and the transpose of T_k is T_k with its arguments turned. Eigenvectors are never
differentiated, so neither ties nor their gauge matter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array
from ..errors import PropertyError
from .divided_differences import divided

__all__ = ["spectral_form"]

ENTRIES = 2**22  # of a table of divided differences in memory at a time


def spectral_form(be: Any, f: Any, M: Array, w: Array, V: Array, W: Array, *factors: Array) -> Array:
    """``T_k`` of the matrices ``factors`` at M (*batch, n, n) with eigenvalues w, eigenvectors V and their
    inverse W, which are constants: M alone carries the derivative. Without factors ``f(M)``.

    Cost: 4 products of matrices for the first derivative, ``n^(k+1)`` divided differences for the k-th.
    """

    def run(M: Array, w: Array, V: Array, W: Array, *factors: Array) -> Any:
        return (_evaluated(be, f, w, V, W, factors),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        M, w, V, W, *E = inputs
        total: Any = None
        forms = []
        if d.moves(0):
            forms += [(*E[:p], d[0], *E[p:]) for p in range(len(E) + 1)]
        forms += [(*E[:j], d[4 + j], *E[j + 1 :]) for j in range(len(E)) if d.moves(4 + j)]
        for made in forms:
            part = spectral_form(be, f, M, w, V, W, *made)
            total = part if total is None else total + part
        return (0 * outputs[0] if total is None else total,)

    def turned(inputs: Any, G: Array, j: int | None, p: int = 0) -> Array:
        """The transpose in factor j, or (None) in M by way of what its tangent is in place p."""
        M, w, V, W, *E = inputs
        made = (*E[p:], G, *E[:p]) if j is None else (*E[j + 1 :], G, *E[:j])
        like = M if j is None else E[j]
        S = be.adjoint(spectral_form(be, f, M, w, V, W, *made))
        return S if be.is_complex(like) or not be.is_complex(S) else be.xp.real(S)

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        G = be.adjoint(grads[0])
        count = len(inputs) - 4
        total: Any = 0
        for p in range(count + 1):
            total = total + turned(inputs, G, None, p)
        return (total, None, None, None, *(turned(inputs, G, j) for j in range(count)))

    def of_factor(j: int) -> Any:
        return lambda grads, inputs: turned(inputs, be.adjoint(grads[0]), j)

    linear = {4 + j: of_factor(j) for j in range(len(factors))}
    inputs = (M, w, V, W, *factors)
    return be.differentiable(run, tangent, *inputs, cotangent=cotangent, linear=linear)[0][0]  # type: ignore[no-any-return]


def _evaluated(be: Any, f: Any, w: Array, V: Array, W: Array, factors: tuple[Array, ...]) -> Array:
    xp = be.xp
    n = w.shape[-1]
    if not factors:
        return be.matmul(V * f.on(be, w)[..., None, :], W)
    moved = [be.matmul(be.matmul(W, E), V) for E in factors]
    if not n:
        return moved[0]
    if len(moved) == 1:
        inner = _table(be, f, [w[..., :, None], w[..., None, :]]) * moved[0]
    else:
        inner = _summed(be, f, w, moved)
    return be.matmul(be.matmul(V, be.astype(inner, xp.result_type(inner.dtype, V.dtype))), W)


def _summed(be: Any, f: Any, w: Array, moved: list[Array]) -> Array:
    """Sum over the inner indices, some of them at a time."""
    xp, n = be.xp, w.shape[-1]
    batch = int(np.prod(np.broadcast_shapes(w.shape[:-1], *(E.shape[:-2] for E in moved)), initial=1))
    places = np.stack(np.unravel_index(np.arange(n ** (len(moved) - 1)), (n,) * (len(moved) - 1)))
    size = max(min(ENTRIES // max(batch * n * n, 1), places.shape[-1]), 1)

    def part(index: Any, keep: Any) -> Array:
        """index: (k - 1, c) inner indices; keep: 0 for those that fill up the last part."""
        points = [w[..., :, None, None], *(w[..., None, i, None] for i in index), w[..., None, None, :]]
        F = _table(be, f, points)
        left, right = moved[0][..., :, index[0]], moved[-1][..., index[-1], :]
        for E, i, j in zip(moved[1:-1], index[:-1], index[1:], strict=True):
            left = left * E[..., i, j][..., None, :]
        left = left * be.astype(keep, left.dtype)
        return xp.sum(F * left[..., :, :, None] * right[..., None, :, :], axis=-2)

    count = -(-places.shape[-1] // size)
    fill = count * size - places.shape[-1]
    places = np.pad(places, ((0, 0), (0, fill)))
    keep = np.pad(np.ones(count * size - fill), (0, fill))
    chunks = np.moveaxis(places.reshape(-1, count, size), 1, 0)
    device = be.device(w)
    real = be.real_dtype(w.dtype)
    if be.name == "jax" and count > 4:
        import jax

        chunks, keep = xp.asarray(chunks), xp.asarray(keep.reshape(count, size), dtype=real)
        first = jax.eval_shape(part, chunks[0], keep[0])
        zero = xp.zeros(first.shape, first.dtype)
        return jax.lax.scan(lambda total, c: (total + part(*c), None), zero, (chunks, keep))[0]
    total: Any = 0
    for c, k in zip(chunks, keep.reshape(count, size), strict=True):
        index = [be.asarray(i, device=device) for i in c]
        total = total + part(index, be.asarray(k, dtype=real, device=device))
    return total


def _table(be: Any, f: Any, points: list[Array]) -> Array:
    """Divided differences at eigenvalues, or an error where f has no derivative."""
    F = divided(be, f, points)
    xp = be.xp
    if be.is_concrete(F, *points) and 0 not in F.shape and not bool(xp.all(xp.isfinite(F))):
        order = len(points) - 1
        if bool(xp.all(xp.isfinite(f.fn(xp, points[0])))):
            raise PropertyError(
                f"{f.name} of an operator has no finite derivative of order {order} here: {f.name} itself "
                "has none at one of the eigenvalues (a root at zero, for example). Add a multiple of the "
                "identity."
            )
    return F

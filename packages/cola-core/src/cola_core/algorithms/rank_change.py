"""Derivatives of a pseudoinverse that do not exist, because the rank changes.

``A^+`` is continuous only where the rank of A is constant. In a direction dA it stays so, to first order,
where ``y^H dA z = 0`` for all y in the null space of ``A^H`` and z in that of A. If A has full rank one of
these spaces is trivial. If not, a change of a single entry of a matrix will do, while a change of the factors
of a product may not. So y is taken from a residual, z from what the solves left of a random vector (or of the
cotangent), and ``y^H dA z`` is compared with that of any other vector in the place of z: in forward mode
along the direction at hand, in reverse mode in the gradient of every array that is differentiated.

Iterations do not know the rank: a vector counts as null that A shortens to the tolerance, and where b is in
the range of A, so that there is no residual, nothing is noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..backends.base import Array, Backend
from ..dispatch.session import aside
from ..errors import SingularMatrixError
from ..pytree import map_leaves, tree_leaves
from .iteration import relative_to

__all__ = ["guarded", "refuse_rank_change"]

NULL = 10.0  # times the tolerance: what may be left of |A z| / (|A| |z|) for a null vector z
SEEN = 1e-3  # what is less than this part of its like is rounding

Solve = Callable[[Any, Array], tuple[Array, Any]]


def guarded(
    be: Backend, A: Any, B: Array, R: Array, d: Any, moved: Array, again: Solve, tol: float, method: str
) -> Array:
    """``moved``, the derivative of ``A^+ B`` (R: the residual), if it exists along d (in reverse mode: in
    every array that has a tangent); NaN where that cannot be looked at."""
    fixed = map_leaves(be.constant, A)
    B, R = be.constant(B), be.constant(R)
    if be.is_concrete(B, R) and not _any(be, _large(be, R, B, tol)):
        return moved
    with aside(always=True):
        other = _probe(be, A, B)
        z = other - again(fixed, fixed @ other)[0]
        z = be.constant(z)
        y, deficient = _null_pair(be, fixed, B, R, other, z, other, tol)
        if be.is_concrete(deficient) and not bool(deficient):
            return moved
        across, along = d.product(0, z), d.product(0, other)
        if be.name != "jax":
            fine = _still(be, y, across, along) | ~deficient
            return _judged(be, fine, moved, A, method)
        free = _in_arrays(be, fixed, d.moving(0), y, z, other) | ~deficient
        if be.is_concrete(across, along):
            return _judged(be, _still(be, y, across, along) | ~deficient, moved, A, method)
        if be.is_concrete(free) and not bool(free):
            _refuse(A, method)
        return _linear_guard(be, free, deficient, y, moved, across, along)


def refuse_rank_change(
    be: Backend, A: Any, B: Array, R: Array, G: Array, N: Array, moving: list[bool], U: Array,
    tol: float, method: str,
) -> Array:  # fmt: skip
    """U, if ``A^+ B`` has derivatives in all arrays that are ``moving``. N: the part of the cotangent G in
    the null space of A."""
    fixed = map_leaves(be.constant, A)
    B, R, G, N = (be.constant(x) for x in (B, R, G, N))
    if be.is_concrete(R, N) and not (_any(be, _large(be, R, B, tol)) and _any(be, _large(be, N, G, SEEN))):
        return U
    with aside(always=True):
        other = _probe(be, A, B)
        y, deficient = _null_pair(be, fixed, B, R, G, N, other, tol)
        if be.is_concrete(deficient) and not bool(deficient):
            return U
        z = _joined(be, N, _large(be, N, G, SEEN))
        free = _in_arrays(be, fixed, moving, y, z, other) | ~deficient
        return _judged(be, free, U, A, method)


def _judged(be: Backend, fine: Array, X: Array, A: Any, method: str) -> Array:
    if be.is_concrete(fine):
        return X if bool(fine) else _refuse(A, method)
    return be.xp.where(fine, X, be.xp.full_like(X, float("nan")))


def _refuse(A: Any, method: str) -> NoReturn:
    raise SingularMatrixError(
        f"the derivative of lstsq({A!r}) by {method} does not exist: A does not have full rank, and what it "
        "is differentiated in changes the rank, where the answer jumps. Use damp= (LSMR, LSQR, CGLS) or "
        "solve with A^H A + s I, or differentiate in factors of A that keep its rank."
    )


def _probe(be: Backend, A: Any, B: Array) -> Array:
    x = np.random.default_rng(5).standard_normal((A.shape[-1], 1))
    x = x / np.linalg.norm(x)
    return be.asarray(x, B.dtype, be.device(B)) + 0 * B[..., :1, :1]


def _size(be: Backend, X: Array) -> Array:
    return be.frobenius(X, axis=-2)


def _large(be: Backend, X: Array, other: Array, part: float) -> Array:
    """Which columns are more than a part of another's."""
    return _size(be, X) > 1.1 * part * _size(be, other)


def _any(be: Backend, x: Array) -> bool:
    return bool(be.xp.any(x))


def _joined(be: Backend, X: Array, large: Array) -> Array:
    """The sum of the large columns, each of norm one, (..., n, 1)."""
    X = relative_to(be, X, _size(be, X)[..., None, :])
    return be.xp.sum(be.xp.where(large[..., None, :], X, 0 * X), axis=-1)[..., None]


def _null_pair(
    be: Backend, A: Any, B: Array, R: Array, whole: Array, part: Array, other: Array, tol: float
) -> tuple[Array, Array]:
    """y, a null vector of ``A^H`` in R, and whether there is one as well as one of A in ``part``."""
    xp = be.xp
    y = _joined(be, R, _large(be, R, B, tol))
    z = _joined(be, part, _large(be, part, whole, SEEN))
    limit = NULL * max(tol, 50 * float(xp.finfo(R.dtype).eps))
    Ao = A @ other
    norm = relative_to(be, _size(be, Ao), _size(be, other))
    null = (_size(be, A @ z) <= limit * norm * _size(be, z)) & (_size(be, z) > 0)
    null = null & (_size(be, A.H @ y) <= limit * norm * _size(be, y)) & (_size(be, y) > 0)
    return y, xp.any(null)


def _still(be: Backend, y: Array, across: Array, along: Array) -> Array:
    """Whether ``y^H dA z``, with ``across = dA z``, is nothing beside ``|y| |dA other|``."""
    xp = be.xp
    inner = xp.abs(be.inner(y, across))
    return xp.all(inner <= SEEN * _size(be, y) * (_size(be, along) + _size(be, across)))


def _in_arrays(be: Backend, A: Any, moving: list[bool], y: Array, z: Array, other: Array) -> Array:
    """Whether the gradient of ``Re <y, A z>`` is nothing in each array that moves, beside that of any other
    vectors."""
    xp = be.xp
    leaves = tree_leaves(A)
    flags = iter(moving)
    places = [i for i, x in enumerate(leaves) if hasattr(x, "shape") and next(flags)]
    places = [i for i in places if xp.isdtype(leaves[i].dtype, ("real floating", "complex floating"))]

    def gradient(Y: Array, V: Array) -> list[Array]:
        def product(*parts: Array) -> Array:
            found = list(leaves)
            for i, x in zip(places, parts, strict=True):
                found[i] = x
            supply = iter(found)
            return map_leaves(lambda _: next(supply), A) @ V

        pull = be.vjp(product, *(leaves[i] for i in places))[1]
        return [xp.sqrt(xp.sum(xp.abs(g) ** 2)) for g in pull(Y + xp.zeros_like(A @ V))]

    fine = xp.sum(xp.abs(y)) >= 0
    any_y = relative_to(be, A @ other, _size(be, A @ other)[..., None, :]) + _probe(be, A.H, other)
    for across, along in zip(gradient(y, z), gradient(any_y, other), strict=True):
        fine = fine & (across <= SEEN * (along + across))
    return fine


def _linear_guard(
    be: Backend, free: Array, deficient: Array, y: Array, moved: Array, across: Array, along: Array
) -> Array:
    """``moved``, in forward mode NaN where ``across`` shows that the rank changes, in reverse mode where not
    ``free``: JAX transposes what is linear in tangents, and a test is not, so it is told both."""
    import jax

    xp, m, n = be.xp, across.shape[-2], moved.shape[-2]

    # one array: of several, those that do not move would need tangents too
    def judged(rhs: Array, fine: Array) -> Array:
        return xp.where(fine, rhs, xp.full_like(rhs, float("nan")))

    def forward(_: Any, rhs: Array) -> Array:
        across, along = rhs[..., n : n + m, :1], rhs[..., n + m :, :1]
        return judged(rhs, _still(be, y, across, along) | ~deficient)

    def backward(_: Any, rhs: Array) -> Array:
        return judged(rhs, free)

    like = xp.zeros_like(moved[..., :1, :])
    rhs = xp.concat([moved, across + like, along + like], axis=-2)
    return jax.lax.custom_linear_solve(lambda x: x, rhs, forward, backward)[..., :n, :]

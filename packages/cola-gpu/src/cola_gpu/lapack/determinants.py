"""`inverse, det, slogdet`, with the derivative of the determinant at singular matrices too.

det is a polynomial in the entries, differentiable everywhere, while `det(A) A^{-T}` exists only for regular
A. With `A = U diag(s) V^T` frozen at the point and `E = U^T (A - A_0) V`, to second order

    det(A) = det(U) det(V) [prod s + sum_i p_i E_ii + 1/2 sum_{i != j} p_ij (E_ii E_jj - E_ij E_ji)],

p_i and p_ij the products of all singular values but those: the cofactors and the 2 x 2 minors' complements,
found without a division. So the gradient has rank one at rank n - 1 and is zero at rank n - 2 or less, and
the second derivative is right as well. Where A is well enough conditioned Jacobi's formula is taken (any
order); where it is not (and in programs that are traced, where both are compiled), this one, whose
third derivative is refused. Source: the expansion of a
determinant by minors (Horn & Johnson 2013, sec. 0.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.errors import SingularMatrixError

from .checks import matrix_backend, require_finite, require_shapes, require_square

__all__ = [
    "SignAndLog",
    "det",
    "det_backward",
    "inverse",
    "inverse_backward",
    "slogdet",
    "slogdet_backward",
]

Array = Any


class SignAndLog(NamedTuple):
    """`det(A) = sign exp(logabsdet)`, both (*,)."""

    sign: Array
    logabsdet: Array


def inverse(A: Array, *, check: bool = True) -> Array:
    """`A^{-1}` of A (*, n, n) by LU with partial pivoting.

    Errors: SingularMatrixError where a pivot is exactly zero (in traced programs, and with `check=False`, NaN
    for that matrix of the batch); NonSquareError, NonFiniteError. Cost: 2 n^3 flops.
    """
    bk = matrix_backend("inverse", A=A)
    require_square("inverse", A)
    if 0 in A.shape:
        return A
    if check:
        require_finite("inverse", bk, A)
    X, singular = _inverse(bk, A)
    if check and bk.is_concrete(singular) and bool(bk.xp.any(singular)):
        raise SingularMatrixError(
            f"inverse: a matrix of shape {tuple(A.shape)} ({A.dtype}) is singular, a pivot of its LU "
            "factorisation is exactly zero. Add s*I, or use cola_core.linalg.pinv."
        )
    nan = bk.astype(bk.xp.where(singular, bk.xp.nan, 0.0), A.dtype)
    return X if bk.is_concrete(singular) and check else X + nan[..., None, None]


def inverse_backward(X: Array, Xbar: Array) -> Array:
    """`Abar = -X^T Xbar X^T` of `X = inverse(A)`; shapes (*, n, n)."""
    bk = matrix_backend("inverse_backward", X=X, Xbar=Xbar)
    n = X.shape[-1]
    require_shapes("inverse_backward", X=(X, (n, n)), Xbar=(Xbar, (n, n)))
    return -bk.xp.matmul(bk.xp.matmul(X.mT, Xbar), X.mT)


def det(A: Array, *, check: bool = True) -> Array:
    """The determinant of A (*, n, n), shape (*,); 1 for n = 0.

    First and second derivatives are right for matrices of any rank; third ones where A is regular and its
    values can be looked at (PyTorch), NotImplementedError elsewhere.
    Errors: NonSquareError, NonFiniteError. Cost: 2/3 n^3 flops; where a derivative is wanted four times that,
    and about 20 n^3 for a singular value decomposition where A is singular, all but singular or traced.
    """
    bk = matrix_backend("det", A=A)
    require_square("det", A)
    if check:
        require_finite("det", bk, A)
    n = A.shape[-1]
    if n == 0:
        return bk.xp.ones_like(bk.zeros(A.shape[:-2], A.dtype, bk.device(A)))
    if 0 in A.shape or not bk.differentiating(A):
        return bk.xp.linalg.det(A)
    near = _all_but_singular(bk, bk.constant(A))
    if bk.name == "jax":
        import jax

        return jax.lax.cond(
            bk.xp.any(near), lambda A: _mixed(bk, A, near), lambda A: _regular(bk, A, near), A
        )
    if bk.is_concrete(near) and not bool(bk.xp.any(near)):
        return bk.derived(_DET, A)[0]
    return _mixed(bk, A, near)


def det_backward(A: Array, gbar: Array) -> Array:
    """`gbar` times the matrix of cofactors of A, at any rank; gbar (*,). By singular values, about 20 n^3
    flops."""
    bk = matrix_backend("det_backward", A=A)
    require_square("det_backward", A)
    if 0 in A.shape:
        return A
    U, s, V = bk.svd(A)
    orientation = bk.xp.linalg.det(U) * bk.xp.linalg.det(V)
    scaled = U * (_all_but_one(bk, s) * (gbar * orientation)[..., None])[..., None, :]
    return bk.xp.matmul(scaled, V.mT)


def slogdet(A: Array, *, check: bool = True) -> SignAndLog:
    """Sign and logarithm of the absolute value of the determinant of A (*, n, n); `(0, -inf)` if singular.

    The sign has derivative zero. A singular matrix has no derivative: NotDifferentiableError where that can
    be seen, else NaN. Errors: NonSquareError, NonFiniteError. Cost: 2/3 n^3 flops.
    """
    bk = matrix_backend("slogdet", A=A)
    require_square("slogdet", A)
    if check:
        require_finite("slogdet", bk, A)
    if A.shape[-1] == 0:
        zero = bk.zeros(A.shape[:-2], A.dtype, bk.device(A))
        return SignAndLog(bk.xp.ones_like(zero), zero)
    return SignAndLog(*bk.derived(_SLOGDET, A))


def slogdet_backward(A: Array, logbar: Array) -> Array:
    """`logbar A^{-T}`; logbar (*,), the cotangent of the logarithm. Errors: SingularMatrixError."""
    matrix_backend("slogdet_backward", A=A)
    return logbar[..., None, None] * inverse(A).mT


# --- inverse ----------------------------------------


def _inverse(bk: Backend, A: Array) -> tuple[Array, Array]:
    """`A^{-1}`, and which matrices of the batch are singular; nothing is raised."""
    if bk.name == "torch":
        import torch

        X, info = torch.linalg.inv_ex(A)
        return X, info > 0
    if bk.name == "jax":
        X = bk.xp.linalg.inv(A)
        return X, ~bk.xp.all(bk.xp.isfinite(bk.constant(X)), axis=(-2, -1))
    import numpy as np

    try:
        return np.linalg.inv(A), np.zeros(A.shape[:-2], bool)
    except np.linalg.LinAlgError:
        if A.ndim == 2:
            return np.full_like(A, np.nan), np.ones((), bool)
        found = [_inverse(bk, a) for a in A]
        return np.stack([x for x, _ in found]), np.stack([bad for _, bad in found])


# --- determinant ----------------------------------------


def _all_but_singular(bk: Backend, A: Array) -> Array:
    """Whether the condition number is above `eps^(-1/3)`, (*,): there `det(A) A^{-T}` and differences of
    products of entries of the inverse lose more than a third of the digits."""
    xp = bk.xp
    X, singular = _inverse(bk, A)
    norms = [xp.max(xp.sum(xp.abs(M), axis=-2), axis=-1) for M in (A, X)]
    return singular | ~(norms[0] * norms[1] < float(xp.finfo(A.dtype).eps) ** (-1 / 3))


def _regular(bk: Backend, A: Array, near: Array) -> Array:
    """By Jacobi's formula, with the identity in place of matrices that are `near` singular."""
    eye = bk.eye(A.shape[-1], A.dtype, bk.device(A))
    return bk.derived(_DET, bk.xp.where(near[..., None, None], eye, A))[0]


def _mixed(bk: Backend, A: Array, near: Array) -> Array:
    return bk.xp.where(near, _expanded(bk, A), _regular(bk, A, near))


def _expanded(bk: Backend, A: Array) -> Array:
    """The determinant as the polynomial of the module's formula, right to second order."""
    xp, here = bk.xp, bk.constant(A)
    U, s, V = (bk.constant(x) for x in bk.svd(here))
    E = xp.matmul(U.mT, xp.matmul(A - here, V))
    d = xp.linalg.diagonal(E)
    pairs = d[..., :, None] * d[..., None, :] - E * E.mT
    total = xp.sum(_all_but_one(bk, s) * d, axis=-1)
    total = total + 0.5 * xp.sum(xp.sum(_all_but_two(bk, s) * pairs, axis=-1), axis=-1)
    orientation = xp.linalg.det(U) * xp.linalg.det(V)
    guard = bk.derived(_Derivatives(2), A)[0]
    return bk.constant(xp.linalg.det(here)) + bk.constant(orientation) * total + guard


def _all_but_one(bk: Backend, s: Array) -> Array:
    """`prod_{k != i} s_k`, (*, n)."""
    before, after = _outside(bk, s)
    return before * after


def _all_but_two(bk: Backend, s: Array) -> Array:
    """`prod_{k != i, j} s_k`, (*, n, n), zero on the diagonal."""
    xp, n = bk.xp, s.shape[-1]
    before, after = _outside(bk, s)
    one = xp.ones_like(s)
    # between[i, j] = s_{i+1} ... s_{j-1} for i < j: running products of the part above the diagonal
    above = xp.triu(xp.ones_like(s[..., :, None] * s[..., None, :]), k=1) > 0
    part = xp.where(above, s[..., None, :], one[..., None, :])
    running = _running_products(xp, part)
    between = xp.concat([xp.ones_like(running[..., :1]), running[..., : n - 1]], axis=-1)
    upper = xp.where(above, before[..., :, None] * between * after[..., None, :], xp.zeros_like(part))
    return upper + upper.mT


def _outside(bk: Backend, s: Array) -> tuple[Array, Array]:
    """The products of what stands before each number, and of what stands after it."""
    xp, one = bk.xp, bk.xp.ones_like(s[..., :1])
    before = xp.concat([one, _running_products(xp, s)[..., :-1]], axis=-1)
    back = _running_products(xp, xp.flip(s, axis=-1))[..., :-1]
    return before, xp.flip(xp.concat([one, back], axis=-1), axis=-1)


def _running_products(xp: Any, x: Array) -> Array:
    """Along the last axis; the standard's name for it is missing from NumPy 2.0."""
    return (xp.cumulative_prod if hasattr(xp, "cumulative_prod") else xp.cumprod)(x, axis=-1)


@dataclass(frozen=True)
class _Det:
    """`det` of regular matrices: the tangent is `det(A) tr(A^{-1} dA)`. (PyTorch's own second derivative
    under `torch.func` takes an SVD and is NaN at equal singular values, those of an orthogonal matrix.)"""

    name: str = "det"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 1

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        return (be.xp.linalg.det(A),)

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def push(self, tools: Any, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        xp = tools.be.xp
        products = _inverse(tools.be, A)[0].mT * dA
        return (out[0] * xp.sum(xp.sum(products, axis=-1), axis=-1),)

    def pull(self, tools: Any, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        if g[0] is None:
            return None
        return (g[0] * out[0])[..., None, None] * _inverse(tools.be, A)[0].mT


_DET = _Det()


@dataclass(frozen=True)
class _Derivatives:
    """Zero, added to what has only so many derivatives: the next one is refused."""

    left: int
    name: str = "det"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 1

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        return (be.xp.zeros_like(A[..., 0, 0]),)

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        return None

    def _next(self, be: Any, A: Array) -> Array:
        if not self.left:
            raise NotImplementedError(
                f"det: third derivatives of the determinant at a singular matrix (or in a traced program) of "
                f"shape {tuple(A.shape)}. They exist for regular matrices in eager PyTorch."
            )
        return be.derived(_Derivatives(self.left - 1), A)[0]

    def push(self, tools: Any, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        be = tools.be
        return (self._next(be, A) * be.xp.sum(be.xp.sum(dA, axis=-1), axis=-1),)

    def pull(self, tools: Any, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        if g[0] is None:
            return None
        return (self._next(tools.be, A) * g[0])[..., None, None] * tools.be.xp.ones_like(A)


# --- its logarithm ----------------------------------------


@dataclass(frozen=True)
class _SLogDet:
    """`slogdet`: the tangent of the logarithm is `tr(A^{-1} dA)`, that of the sign zero."""

    name: str = "slogdet"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 2

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        sign, logabsdet = be.xp.linalg.slogdet(A)
        return sign, logabsdet

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> tuple[Array, str]:
        return be.constant(out[0]) == 0, (
            "the derivative of slogdet of a singular matrix does not exist: the logarithm is -inf. Use det, "
            "which has one everywhere, or add s*I."
        )

    def push(self, tools: Any, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        xp = tools.be.xp
        products = _inverse(tools.be, A)[0].mT * dA
        return xp.zeros_like(out[0]), xp.sum(xp.sum(products, axis=-1), axis=-1)

    def pull(self, tools: Any, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        if g[1] is None:
            return None
        return g[1][..., None, None] * _inverse(tools.be, A)[0].mT


_SLOGDET = _SLogDet()

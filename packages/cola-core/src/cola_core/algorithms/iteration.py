"""What iterative solvers share:
operands brought into one form, stopping codes, residuals recomputed at exit."""

from __future__ import annotations

import math
from typing import Any

from ..backends.base import Array, Backend
from ..dispatch.session import aside, record
from ..errors import ColaError, ShapeError
from ..info import Info, failed
from ..pytree import tree_leaves
from ..reasons import (
    BAD_PRECONDITIONER,
    BREAKDOWN,
    CONVERGED,
    DRIFTED,
    INCONSISTENT,
    INDEFINITE,
    NONFINITE,
    REASONS,
    RUNNING,
    SINGULAR,
    STAGNATED,
    STOPPED,
    TIMEOUT,
    TRACED,
    UNDERFLOW,
)
from .cholesky import check_finite
from .progress import observe

__all__ = [
    "BAD_PRECONDITIONER",
    "BREAKDOWN",
    "CONVERGED",
    "DRIFTED",
    "INCONSISTENT",
    "INDEFINITE",
    "NONFINITE",
    "REASONS",
    "RUNNING",
    "SINGULAR",
    "STAGNATED",
    "STOPPED",
    "TIMEOUT",
    "UNDERFLOW",
    "as_preconditioner",
    "column_scale",
    "diagnosed",
    "differentiated",
    "extreme_scale",
    "finish",
    "finite_columns",
    "first_guess",
    "observe",
    "outcome",
    "prepare",
    "relative_to",
    "true_residual",
]

SAFETY = 3.0  # of an error estimate, for a condition number that is known from below


def prepare(A: Any, b: Array) -> tuple[Backend, Array, bool]:
    """Backend, right-hand side as (*batch, n, k) in the common dtype, and whether it was a vector."""
    be: Backend = A.backend
    if be is None:
        from ..backends import backend_of

        be = backend_of(b)  # type: ignore[assignment]
    check_finite(A, b)
    vector = len(b.shape) == 1
    B = b[:, None] if vector else b
    dtype = be.xp.result_type(B.dtype, A.dtype) if A.backend is not None else B.dtype
    if not be.xp.isdtype(dtype, ("real floating", "complex floating")):
        dtype = be.dtype(be.default_float)
    B = be.astype(B, dtype)
    if A.batch_shape and B.shape[:-2] != A.batch_shape:
        batch = be.xp.broadcast_arrays(be.zeros(A.batch_shape, dtype), be.zeros(B.shape[:-2], dtype))[0].shape
        B = be.xp.broadcast_to(B, (*batch, *B.shape[-2:]))
    return be, B, vector


def as_preconditioner(P: Any, A: Any) -> Any:
    """None, an operator that approximates A^{-1}, or a function A -> such an operator (settings such as
    ``Jacobi()``, or their class)."""
    if P is None:
        return None
    if not hasattr(P, "_matmat"):
        from ..operators import as_operator

        if isinstance(P, type):
            P = P()
        P = P(A) if callable(P) else as_operator(P)
    want, got = tuple(A.shape[-2:]), tuple(getattr(P, "shape", ()))[-2:]
    if got not in (want, want[1:] * 2):
        raise ShapeError(
            f"the preconditioner {P!r} has shape {got}, the operator {A!r} {want}: P is an operator of the "
            "shape of A, or a function that makes one of A, such as Jacobi()."
        )
    return P


def first_guess(be: Backend, algorithm: str, x0: Any, B: Array) -> Array | None:
    """A first guess in the form of the right-hand side; one vector serves every column."""
    if x0 is None:
        return None
    x0 = be.asarray(x0)
    x0 = x0[:, None] if x0.ndim == 1 else x0
    if x0.shape[-2] != B.shape[-2] or x0.shape[-1] not in (1, B.shape[-1]):
        raise ShapeError(
            f"{algorithm}(x0=...) has shape {tuple(x0.shape)}, the right-hand side {tuple(B.shape)}."
        )
    return be.xp.broadcast_to(be.astype(x0, B.dtype), B.shape)


def column_scale(be: Backend, B: Array, always: bool = False) -> Array | None:
    """Powers of two, (*batch, 1, k), that bring the largest entry of each column to between one and two,
    where squares of the entries (times the squared precision) could leave the range of the dtype; None where
    they cannot. Where values cannot be looked at, always an array."""
    xp = be.xp
    if 0 in B.shape:
        return None
    top = be.constant(xp.max(xp.abs(B), axis=-2, keepdims=True))
    if be.is_concrete(top) and not always:
        limits = xp.finfo(be.real_dtype(B.dtype))
        low = float(limits.smallest_normal) ** 0.5 / float(limits.eps) ** 1.5
        if bool(xp.all(((top > low) & (top < 1 / low)) | (top == 0))):
            return None
    usable = (top > 0) & xp.isfinite(top)
    exponent = xp.floor(xp.log2(xp.where(usable, top, xp.ones_like(top))))
    return be.astype(xp.exp2(exponent), top.dtype)


def finite_columns(be: Backend, X: Array, first: Array | None, codes: Array) -> tuple[Array, Array]:
    """X and codes; a column in which anything overflowed is the first guess (None: zero) again."""
    xp = be.xp
    fine = xp.all(xp.isfinite(X), axis=-2)
    if be.is_concrete(fine) and bool(xp.all(fine)):
        return X, codes
    first = xp.zeros_like(X) if first is None else first
    # what had been seen before is the reason that counts
    unseen = ~fine & ((codes == CONVERGED) | (codes == RUNNING))
    return xp.where(fine[..., None, :], X, first), xp.where(unseen, NONFINITE, codes)


def extreme_scale(be: Backend, A: Any, x: Array, seen: Array) -> float | None:
    """A power of two by which A is to be divided where an iteration met norms of it (``seen``) whose squares
    leave the range of the dtype; None where they do not. One product, with x, where they may."""
    xp = be.xp
    if not be.is_concrete(seen, x) or 0 in seen.shape:
        return None
    limits = xp.finfo(be.real_dtype(x.dtype))
    low = float(limits.smallest_normal) ** 0.5 / float(limits.eps) ** 1.5
    if bool(xp.all((seen > low) & (seen < 1 / low))):
        return None
    with aside():
        size = be.frobenius(A @ relative_to(be, x, be.frobenius(x, axis=-2)[..., None, :]), axis=-2)
    top = be.number(xp.max(size)) if bool(xp.all(xp.isfinite(size))) else 0.0
    if not top > 0 or low < top < 1 / low:
        return None
    most = math.log2(float(limits.max)) - 2
    return 2.0 ** max(min(math.floor(math.log2(top)), most), -most)


def true_residual(be: Backend, A: Any, X: Array, B: Array) -> Array:
    """Column norms of ``B - A X``, from one more product. Of what A had to compute for it, failures count."""
    with aside() as inside:
        R = B - A @ X
    if inside is not None:
        for info in inside.infos:
            if failed(info):
                record(info)
    return be.frobenius(R, axis=-2)


def diagnosed(
    be: Backend,
    A: Any,
    X: Array,
    B: Array,
    rnorm: Array,
    codes: Array,
    tol: float,
    self_adjoint: bool,
    lengths: Array | None = None,
) -> tuple[Array, int]:
    """Codes, those of columns that failed for no known reason examined: is the operator singular?

    Of a least-squares solution of an inconsistent system the residual r is orthogonal to the range,
    ``A^H r = 0``; an iteration that grows in a null direction ends with ``|A| |x| eps`` of the size of b.
    Both are told relative to ``|A|``, of which the products give a lower bound.
    lengths: norms of the last iterates, where better ones are given. Also returned: products made.
    """
    xp = be.xp
    size = be.frobenius(B, axis=-2)
    open_ = (rnorm > 1.1 * tol * size) & xp.isfinite(rnorm) & (codes != STOPPED) & (codes != TIMEOUT)
    open_ = open_ & (codes != BAD_PRECONDITIONER) & (codes != NONFINITE)
    if not bool(xp.any(open_)):
        return codes, 0
    eps = float(xp.finfo(be.real_dtype(B.dtype)).eps)
    with aside():
        R = B - A @ X
        unit = relative_to(be, R, be.frobenius(R, axis=-2)[..., None, :])
        try:
            S = A @ unit if self_adjoint else A.H @ unit
        except (NotImplementedError, ColaError):  # no products with the adjoint
            return codes, 1
    length = be.frobenius(X, axis=-2)
    norm = xp.maximum(
        be.frobenius(B - R, axis=-2) / xp.where(length > 0, length, xp.ones_like(length)),
        be.frobenius(S, axis=-2),
    )
    if lengths is not None:
        length = xp.maximum(length, be.astype(lengths, length.dtype))
    grown = norm * length * eps > 0.01 * size
    codes = xp.where(open_ & grown & (codes != INDEFINITE), SINGULAR, codes)  # the first cause stays
    # a curvature that was not positive, and be it by rounding, is evidence of its own
    orthogonal = be.frobenius(S, axis=-2) <= xp.where(codes == INDEFINITE, eps**0.5, eps**0.75) * norm
    return xp.where(open_ & orthogonal, INCONSISTENT, codes), 2


def relative_to(be: Backend, norms: Array, sizes: Array) -> Array:
    """``norms / sizes``; where a size is zero, the norm."""
    xp = be.xp
    return xp.where(sizes > 0, norms / xp.where(sizes > 0, sizes, xp.ones_like(sizes)), norms)


def finish(
    be: Backend,
    A: Any,
    method: str,
    X: Array,
    B: Array,
    vector: bool,
    tol: float,
    iterations: Any,
    matvecs: Any,
    codes: Array,
    residual: Array | None = None,
    estimated: bool = False,
    **more: Any,
) -> Array:
    """``outcome``, recorded, and X in the shape the user sent."""
    record(outcome(be, A, method, X, B, tol, iterations, matvecs, codes, residual, estimated, **more))
    return X[..., 0] if vector else X


def outcome(
    be: Backend,
    A: Any,
    method: str,
    X: Array,
    B: Array,
    tol: float,
    iterations: Any,
    matvecs: Any,
    codes: Array,
    residual: Array | None = None,
    estimated: bool = False,
    **more: Any,
) -> Info:
    """The Info of an answer: the residual is recomputed and decides alone whether it has converged.

    residual: norms of ``B - A X`` where they have been computed already. more: further fields of the Info.
    estimated: whether ``norm`` and ``condition`` among them are lower bounds for A itself; the error of X is
    then estimated from them.
    """
    xp = be.xp
    bnorm = be.frobenius(B, axis=-2)
    rnorm = true_residual(be, A, X, B) if residual is None else residual
    relative = be.constant(relative_to(be, rnorm, bnorm))
    # rounding in the recomputed residual itself may add a little to a residual that met the tolerance
    good = relative <= 1.1 * tol
    codes = xp.where(codes == CONVERGED, DRIFTED, codes)
    codes = xp.where(~xp.isfinite(relative) & (codes <= BREAKDOWN), NONFINITE, codes)
    codes = xp.where(good, CONVERGED, codes)
    if "condition" in more:
        more = with_error(be, X, bnorm, rnorm, more, estimated)
    info = Info(
        method=method,
        converged=xp.all(good),
        reason=TRACED,
        codes=codes,
        iterations=iterations,
        matvecs=matvecs + 1,
        residual=xp.max(relative) if 0 not in relative.shape else xp.sum(relative),
        residuals=relative,
        tolerance=tol,
        **more,
    )
    return info.concrete(be) if be.is_concrete(relative, codes, iterations, matvecs) else info


def with_error(
    be: Backend, X: Array, bnorm: Array, rnorm: Array, facts: dict[str, Any], estimated: bool
) -> dict[str, Any]:
    """Facts with an estimate of the relative error of X where they are of A itself.

    ``|x - x*| / |x*|`` is, up to a factor of two, at most ``cond(A) (eta + eps)`` with the backward error
    ``eta = |r| / (|A| |x| + |b|)`` (Rigal & Gaches 1967; Higham 2002, sec. 7.1). SAFETY makes up for both
    being known from below: what a Krylov space has not seen of A is not in its condition number, though
    hardly in the error either. The answer itself is a vector that A was multiplied with, and improves both.
    Unknown (no step was made): NaN under a trace, else None.
    """
    xp = be.xp
    bnorm, rnorm, length = be.constant(bnorm), be.constant(rnorm), be.constant(be.frobenius(X, axis=-2))
    norm, condition = (xp.asarray(facts[name], dtype=bnorm.dtype) for name in ("norm", "condition"))
    if be.name == "torch":
        norm, condition = norm.to(bnorm.device), condition.to(bnorm.device)
    if not estimated or 0 in bnorm.shape:
        out = {**facts}
    else:
        one = xp.ones_like(bnorm)
        safe = xp.where(length > 0, length, one)
        inverse = condition / xp.where(norm > 0, norm, xp.ones_like(norm))
        some = length > 0
        size = xp.where(some, (bnorm - rnorm) / safe, 0 * one)
        norm = xp.maximum(norm, xp.max(xp.where(xp.isfinite(size), size, 0 * one)))
        total = bnorm + rnorm
        seen = xp.where(xp.isfinite(total) & (total > 0), length / xp.where(total > 0, total, one), 0 * one)
        inverse = xp.maximum(inverse, xp.max(xp.where(xp.isfinite(seen), seen, 0 * one)))
        condition = norm * inverse
        whole = norm * length + bnorm
        eta = xp.where(whole > 0, rnorm / xp.where(whole > 0, whole, one), rnorm)
        eps = float(xp.finfo(bnorm.dtype).eps)
        out = {**facts, "norm": norm, "condition": condition}
        out["error_estimate"] = SAFETY * condition * (xp.max(eta) + eps)
    if be.is_concrete(norm, condition, bnorm):
        for name in ("norm", "condition", "error_estimate"):
            value = out.get(name)
            if value is not None and bool(value != value):  # NaN: nothing was learnt
                out[name] = None
    return out


def differentiated(be: Backend, A: Any, B: Array) -> bool:
    """Whether a framework may want derivatives of this solve."""
    return be.differentiating(B, *tree_leaves(A))

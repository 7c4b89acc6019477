"""What iterative solvers share:
operands brought into one form, stopping codes, residuals recomputed at exit."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend
from ..dispatch.session import record
from ..info import Info
from ..pytree import tree_leaves
from .cholesky import check_finite

__all__ = ["REASONS", "as_preconditioner", "differentiated", "finish", "prepare", "true_residual"]

RUNNING, CONVERGED, INDEFINITE, NONFINITE, STAGNATED, BAD_PRECONDITIONER, UNDERFLOW = range(7)
REASONS = {
    RUNNING: "iteration limit reached",
    CONVERGED: "converged",
    INDEFINITE: "a direction of non-positive curvature was met: the operator is not positive definite",
    NONFINITE: "a product with the operator gave NaN or infinity",
    STAGNATED: "the residual stopped decreasing",
    BAD_PRECONDITIONER: "the preconditioner is not positive definite",
    UNDERFLOW: "the squares of the right-hand side underflow; scale it, or use a higher precision",
}


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
    """None, an operator that approximates A^{-1}, or a function A -> such an operator."""
    if P is None or hasattr(P, "_matmat"):
        return P
    if callable(P):
        return P(A)
    from ..operators import as_operator

    return as_operator(P)


def true_residual(be: Backend, A: Any, X: Array, B: Array) -> Array:
    """Column norms of ``B - A X``, from one more product."""
    return be.norm(B - A @ X)


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
) -> Array:
    """Recompute the residual, decide convergence from it alone, report,
    and give X the shape the user sent."""
    xp = be.xp
    bnorm = be.norm(B)
    rnorm = true_residual(be, A, X, B) if residual is None else residual
    relative = xp.where(bnorm > 0, rnorm / xp.where(bnorm > 0, bnorm, xp.ones_like(bnorm)), rnorm)
    if 0 not in B.shape:
        # squares of tiny entries vanish: such a column looks like zero, and zero like its solution
        lost = (bnorm * bnorm == 0) & (xp.max(xp.abs(B), axis=-2) > 0)
        relative = xp.where(lost, xp.ones_like(relative), relative)
        codes = xp.where(lost, UNDERFLOW, codes)
    # rounding in the recomputed residual itself may add a little to a residual that met the tolerance
    good = relative <= 1.1 * tol
    if be.is_concrete(relative):
        worst = be.number(xp.max(relative)) if 0 not in relative.shape else 0.0
        converged = bool(xp.all(good))
        reason = "converged"
        if not converged:
            flat = xp.reshape(codes, (-1,))
            bad = [
                int(c) for c, g in zip(flat.tolist(), xp.reshape(good, (-1,)).tolist(), strict=True) if not g
            ]
            code = max(bad)
            reason = REASONS[STAGNATED if code == CONVERGED else code]
        info = Info(
            method=method,
            converged=converged,
            reason=reason,
            iterations=int(iterations),
            matvecs=int(matvecs) + 1,
            residual=worst,
            residuals=relative,
            tolerance=tol,
        )
    else:
        info = Info(
            method=method,
            converged=xp.all(good),
            reason="see converged",
            iterations=iterations,
            matvecs=matvecs + 1,
            residual=xp.max(relative),
            residuals=relative,
            tolerance=tol,
        )
    record(info)
    return X[..., 0] if vector else X


def differentiated(be: Backend, A: Any, B: Array) -> bool:
    """Whether a framework may want derivatives of this solve."""
    if be.name == "jax":
        return not be.is_concrete(B, *tree_leaves(A))
    if be.name == "torch":
        import torch

        return torch.is_grad_enabled() and any(
            getattr(x, "requires_grad", False) for x in (B, *tree_leaves(A))
        )
    return False

"""What methods for some singular triples share: residuals of both sides, the probed error, the report."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend
from ..dispatch.session import record
from ..errors import NonFiniteError, UnknownNameError
from ..info import Info
from ..reasons import CONVERGED, NONFINITE, STAGNATED, TRACED

__all__ = ["PROBES", "probed_error", "refuse", "report_triples", "triple_residuals"]

PROBES = 6  # random vectors that bound the norm of an error with probability 1 - 10^-PROBES


def refuse(which: str, method: str) -> None:
    """Refuse by name what cannot be done: the smallest triples."""
    if which != "LM":
        raise UnknownNameError(
            f"{method}(which={which!r}): only the largest singular values come from products alone. "
            "Use SVD(), or svd(inv(A)) for the smallest."
        )


def triple_residuals(be: Backend, A: Any, U: Array, s: Array, V: Array) -> Array:
    """The larger of ``|A v - s u|`` and ``|A^H u - s v|`` for each triple."""
    weights = be.astype(s, U.dtype)
    return be.xp.maximum(
        be.frobenius(A @ V - U * weights, axis=-2), be.frobenius(A.H @ U - V * weights, axis=-2)
    )


def probed_error(be: Backend, A: Any, U: Array, s: Array, V: Array, key: Any) -> Array:
    """A bound of ``|A - U diag(s) V^H|`` that fails with probability ``10^-PROBES``.

    Halko, Martinsson & Tropp, SIREV 53 (2011) 217, eq. (4.3): ``10 sqrt(2/pi) max_i |E w_i|`` for normal w_i.
    """
    xp = be.xp
    Z = be.normal(key, (A.shape[-1], PROBES), A.dtype, A.device)
    E = A @ Z - be.matmul(U, be.astype(s, U.dtype)[:, None] * be.matmul(be.adjoint(V), Z))
    return 10 * (2 / 3.141592653589793) ** 0.5 * xp.max(be.frobenius(E, axis=-2))


def report_triples(
    be: Backend,
    A: Any,
    method: str,
    residuals: Array,
    s: Array,
    tol: float,
    iterations: Any,
    matvecs: Any,
    code: Any,
    error: Array | None = None,
) -> None:
    """Record how triples came out: residuals relative to the largest singular value, a code for each.

    error: of the approximation of A by the triples, for ``Info.error_estimate``; without it, the largest
    residual, which bounds the errors of the singular values.
    """
    xp = be.xp
    eps = float(xp.finfo(residuals.dtype).eps)
    top = xp.max(s)
    relative = residuals / xp.where(top > 0, top, xp.ones_like(top))
    good = relative <= max(1.1 * tol, 100 * eps * max(A.shape[-2:]) ** 0.5)
    concrete = be.is_concrete(relative)
    if concrete and int(code) == NONFINITE:
        raise NonFiniteError(f"a product with {A!r} gave NaN or infinity within {int(iterations)} steps.")
    stop = xp.zeros_like(good, dtype=be.dtype("int32")) + code
    codes = xp.where(good, CONVERGED, xp.where(stop == CONVERGED, STAGNATED, stop))
    info = Info(
        method=method,
        converged=xp.all(good),
        reason=TRACED,
        codes=codes,
        iterations=iterations,
        matvecs=matvecs,
        residual=xp.max(relative),
        residuals=relative,
        tolerance=tol,
        error_estimate=xp.max(residuals) if error is None else error,
    )
    record(info.concrete(be) if concrete else info)

"""Comparing answers: one place that decides what "equal up to rounding" means and writes
the message when it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import ConformanceError

__all__ = ["close", "condition", "eps_of", "expect", "host", "raises", "survives"]


def expect(condition: Any, message: str) -> None:
    """Fail with ``message`` unless the condition holds."""
    if not condition:
        raise ConformanceError(message)


def host(x: Any) -> Any:
    """A NumPy array of an array of any library, of an operator's entries, or of a number."""
    from ..backends import backend_of_type
    from ..operators import LinearOperator

    if isinstance(x, LinearOperator):
        x = x.to_dense()
    be = backend_of_type(type(x))
    return np.asarray(x) if be is None else np.asarray(be.to_numpy(x))


def eps_of(dtype: Any) -> float:
    """Unit roundoff of a dtype name."""
    return float(np.finfo(np.dtype(str(dtype))).eps)


def condition(M: Any) -> float:
    """2-norm condition number of a (batch of) matrices, at least one; infinite for singular ones."""
    if 0 in M.shape:
        return 1.0
    return float(max(1.0, np.max(np.linalg.cond(M.astype(complex if M.dtype.kind == "c" else float)))))


def close(got: Any, want: Any, what: str, rtol: float, scale: float | None = None) -> None:
    """Equal to ``rtol`` relative to the largest entry wanted (or to ``scale``)."""
    got, want = host(got), np.asarray(want)
    expect(got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}")
    if not want.size:
        return
    wide = np.complex128 if "c" in (got.dtype.kind, want.dtype.kind) else np.float64
    got, want = got.astype(wide), want.astype(wide)
    same = (got == want) | (np.isnan(got) & np.isnan(want))  # infinities and NaN where they are wanted
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(got - want))
    finite = np.abs(want[np.isfinite(want)])
    size = scale if scale is not None else (float(finite.max()) if finite.size else 1.0)
    bound = rtol * max(size, 1e-300)
    bad = ~(error <= bound)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        worst = float(np.nanmax(np.where(np.isnan(error), np.inf, error)))
        raise ConformanceError(
            f"{what}: off by {worst:.3g} where {bound:.3g} is allowed ({int(bad.sum())} of {bad.size} "
            f"entries; at {at} got {got[at]:.6g}, expected {want[at]:.6g})"
        )


def raises(
    error: type[BaseException] | tuple[type[BaseException], ...], what: str, call: Any
) -> BaseException:
    """The error that ``call()`` raises; fails if it raises none, or another."""
    names = error.__name__ if isinstance(error, type) else " or ".join(e.__name__ for e in error)
    try:
        call()
    except error as caught:
        return caught
    except Exception as other:  # noqa: BLE001 - the wrong error is what this check is about
        raise ConformanceError(
            f"{what}: raised {type(other).__name__} ({other}), expected {names}"
        ) from other
    raise ConformanceError(f"{what}: raised nothing, expected {names}")


def survives(what: str, call: Any) -> Any:
    """The value of ``call()``; any error is a failure of the check."""
    try:
        return call()
    except ConformanceError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise ConformanceError(f"{what} fails: {type(error).__name__}: {first}") from error

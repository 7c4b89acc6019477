"""The condition number as a Krylov method sees it, from the numbers of its recurrence, at some twenty scalar
operations a step.

The projected matrix has an upper triangular factor R with at most three diagonals: the Cholesky factor of
the tridiagonal matrix of CG, the QR factor of that of MINRES. As R grows by a column, a vector x with
``R^H x`` of norm one is extended so that ``|x|``, a lower bound of ``|R^{-1}|``, becomes as large as a plane
rotation can make it: Bischof, SIAM J. Matrix Anal. Appl. 11 (1990) 312; for Lanczos and CG, Meurant & Tichy,
Numer. Algorithms 82 (2019) 937. Of a banded R only the last two entries of x are needed. The norm is bounded
below by the columns of the projected matrix, at most ``sqrt(3)`` too low.

Both bounds hold for the operator, too, since its singular values enclose those of its projection: what is
found is a lower bound of the condition number, as far as the right-hand side and the steps have seen it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Array, Backend
from .columns import Single

__all__ = ["Growth", "cg_column", "cg_facts", "facts", "few", "replayed"]

MOST_KEPT = 16  # columns of a right-hand side whose coefficients are kept
MOST_COLUMNS = 4  # of these, those with the most steps, that are looked at afterwards


class Growth(NamedTuple):
    """Last two entries of x, ``|x|^2`` (zero: no step yet), and the largest column norm, all but the last in
    units of the first column's norm (``unit``, zero before the first step)."""

    x1: Any
    x2: Any
    square: Any
    unit: Any
    norm: Any

    @classmethod
    def none(cls, zero: Any) -> Growth:
        return cls(zero, zero, zero, zero, zero)

    def step(self, ns: Any, epsilon: Any, delta: Any, gamma: Any, size: Any, live: Any) -> Growth:
        """With a column (epsilon, delta, gamma) of R; size: norm of that of the projected matrix, or its
        root if R is the Cholesky factor. Where not live, or gamma is zero, nothing changes."""
        good = live & (gamma > 0)
        unit = ns.where(self.unit > 0, self.unit, ns.where(good, size, self.unit))
        one = ns.ones_like(gamma)
        safe = ns.where(good, gamma, one)
        scale = ns.where(unit > 0, unit, one)
        q = scale / safe
        t = (epsilon / safe) * self.x1 + (delta / safe) * self.x2
        # the larger eigenvalue of [[square + t^2, -t q], [-t q, q^2]], and its vector (s, c)
        difference, off = self.square + t * t - q * q, -2 * t * q
        root = ns.hypot(difference, off)
        ahead = difference >= 0
        s = ns.where(ahead, difference + root, off)
        c = ns.where(ahead, off, root - difference)
        length = ns.hypot(s, c)
        length = ns.where(length > 0, length, one)
        s, c = s / length, c / length
        square = (self.square + t * t + q * q + root) / 2
        return Growth(
            ns.where(good, s * self.x2, self.x1),
            ns.where(good, c * q - s * t, self.x2),
            ns.where(good, square, self.square),
            unit,
            ns.where(good, ns.maximum(self.norm, size), self.norm),
        )


def facts(xp: Any, growth: Growth, cholesky: bool = False) -> dict[str, Any]:
    """Estimates for the Info of the operator's norm and condition number; NaN where no step was made."""
    some = growth.square > 0
    unit = xp.where(some, growth.unit, xp.ones_like(growth.unit))
    condition = growth.norm / unit * xp.sqrt(growth.square)
    norm = growth.norm * growth.norm if cholesky else growth.norm
    nan = float("nan") * xp.ones_like(condition)
    condition = xp.where(condition > 1, condition, xp.ones_like(condition))
    return {
        "norm": xp.where(some, norm, nan),
        "condition": xp.where(some, condition * condition if cholesky else condition, nan),
    }


def cg_column(ns: Any, growth: Growth, alpha: Any, before: Any, ratio: Any, after: Any, live: Any) -> Growth:
    """A step of CG: its length alpha and that before it (zero: none), and the ratios of the squared residuals
    before and after it."""
    one = ns.ones_like(alpha)
    live = live & (alpha > 0)
    safe = ns.where(live, alpha, one)
    carried = ns.where(before > 0, ratio / ns.where(before > 0, before, one), 0 * one)
    diagonal = 1 / safe + carried
    beside = ns.hypot(ns.sqrt(carried / ns.where(before > 0, before, one)), ns.sqrt(after) / safe)
    return growth.step(
        ns, 0 * one, ns.sqrt(carried), ns.sqrt(1 / safe), ns.sqrt(ns.hypot(diagonal, beside)), live
    )


def few(values: Array) -> Any:
    """Coefficients in the form in which they are kept: a number for one column, some of many columns."""
    shape = tuple(values.shape)
    if shape == (1,):
        return values.item()
    size = math.prod(shape)
    return values if size <= MOST_KEPT else values.reshape(-1)[:MOST_KEPT] + 0


def replayed(be: Backend, coefficients: list[Any], kind: str) -> dict[str, Any]:
    """The same after a run that kept its coefficients, numbers or arrays of one per column: for CG the pairs
    (alpha, ratio after it), for MINRES the columns (epsilon, delta, gamma, norm). Zero alphas (gammas): the
    column has stopped. Where there are many columns, those that took most steps."""
    numbers = [_host(be, values) for values in zip(*coefficients, strict=True)]
    if not numbers:
        nan = np.full(1, np.nan)
        return {"norm": nan, "condition": nan}
    steps = (numbers[0 if kind == "cg" else 2] > 0).sum(axis=0)
    found = [
        _column([values[:, column].tolist() for values in numbers], kind)
        for column in np.argsort(-steps, kind="stable")[:MOST_COLUMNS]
    ]
    told = [facts(np, Growth(*map(np.asarray, growth)), kind == "cg") for growth in found]
    return {name: np.asarray([one[name] for one in told]) for name in ("norm", "condition")}


def _host(be: Backend, values: tuple[Any, ...]) -> np.ndarray:
    if isinstance(values[0], float):
        return np.asarray(values)[:, None]
    stacked = be.xp.stack(values)
    return np.asarray(be.to_numpy(be.constant(stacked)), dtype=float).reshape(len(values), -1)


def _column(values: list[list[float]], kind: str) -> Growth:
    growth = Growth.none(0.0)
    if kind != "cg":
        for epsilon, delta, gamma, size in zip(*values, strict=True):
            growth = growth.step(Single, epsilon, delta, gamma, size, True)
        return growth
    before = ratio = 0.0
    for alpha, after in zip(*values, strict=True):
        if not 0 < alpha < float("inf") or not 0 <= after < float("inf"):
            break
        growth = cg_column(Single, growth, alpha, before, ratio, after, True)
        before, ratio = alpha, after
    return growth


def cg_facts(xp: Any, growth: Growth) -> dict[str, Any]:
    """``facts`` of the Cholesky factor."""
    return facts(xp, growth, cholesky=True)

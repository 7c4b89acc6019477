"""Systems without a solution, recognised on the way by the minimal-residual methods.

In exact arithmetic a self-adjoint system without a solution shows itself by ``A r = 0`` at the last step.
Rounding lets ``|A r|`` sink to about ``sqrt(eps) |A| |r|`` and then rise again, while the iterate runs away
along the null space. So the iterate with the least ``|A r| / |r|`` is put aside when that becomes small, and
taken as the least-squares solution if the residual does not fall in the steps that follow. A consistent
system, however ill-conditioned, goes on falling. What a recurrence claims to be a fall is none once the
iterate is so large that its rounding error in ``A x`` is of the size of the residual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backends.base import Array
from ..reasons import INCONSISTENT, RUNNING

__all__ = ["Suspicion"]

PATIENCE = 20  # steps without a fall of the residual by a hundredth
RUNAWAY = 0.1  # part of the residual that may be rounding error of A x


class Suspicion(NamedTuple):
    """Per column: the iterate put aside, its ``|A r| / (|A| |r|)``, its residual, and how many steps ago
    that became small (-1: it is not)."""

    best: Array
    ratio: Array
    left: Array
    since: Array

    @classmethod
    def none(cls, be: Any, X: Array, rnorm: Array, code: Array) -> Suspicion:
        return cls(X, be.xp.ones_like(rnorm), rnorm, be.xp.zeros_like(code) - 1)

    def look(
        self,
        be: Any,
        tol: Any,
        ratio: Array,
        left: Array,
        code: Array,
        iterate: Callable[[], Array],
        size: Array | None = None,
    ) -> tuple[Suspicion, Array]:
        """After a step with this ratio and residual (of the iterate given): what is known now, and codes.
        size: ``|A|``, for a recurrence whose iterate may run away."""
        xp = be.xp
        eps = float(xp.finfo(ratio.dtype).eps)
        live = code == RUNNING
        small = live & (ratio <= xp.maximum(xp.asarray(tol, dtype=ratio.dtype), xp.asarray(3 * eps**0.5)))
        if be.is_concrete(small) and not bool(xp.any(small | (self.since >= 0))):
            return self, code
        doubted = self.since >= 0
        found = small & ~doubted
        gone = xp.zeros_like(doubted)
        if size is not None and not (be.is_concrete(doubted) and not bool(xp.any(doubted & live))):
            gone = doubted & live & (eps * size * be.norm(iterate()) > RUNAWAY * left)
        better = found | (doubted & live & ~gone & (ratio < 0.5 * self.ratio))
        since = xp.where(found, 0, xp.where(doubted, self.since + 1, self.since))
        start = xp.where(found, left, self.left)
        since = xp.where((since >= 0) & (left <= 0.99 * start) & ~gone, -1, since)
        best = xp.where(better[..., None, :], iterate(), self.best)
        ratio = xp.where(better, ratio, self.ratio)
        given_up = live & (since >= 0) & (gone | (since > PATIENCE) | (ratio <= 100 * eps))
        code = xp.where(given_up, INCONSISTENT, code)
        return Suspicion(best, ratio, start, since), code

    def settle(self, be: Any, X: Array, code: Array) -> Array:
        """X, with the iterate put aside where the system proved to have no solution."""
        doubted = (code == INCONSISTENT) | ((code == RUNNING) & (self.since >= 0))
        if be.is_concrete(doubted) and not bool(be.xp.any(doubted)):
            return X
        return be.xp.where(doubted[..., None, :], self.best, X)

"""Algorithms that are wrong in exactly one way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ... import ops
from ...algorithms import CG, LU, Hutchinson
from ...cost import Cost
from ...dispatch import record, session
from ...info import Info
from ...operators import map_leaves
from ..case import Case
from .common import Mutant
from .derivatives import products, stopped

__all__ = ["ALGORITHMS"]


def _last(**changes: Any) -> None:
    """Falsify what was just reported."""
    current = session()
    if current is not None and current.infos:
        current.infos[-1] = current.infos[-1].replace(**changes)


@dataclass(frozen=True)
class Inaccurate(LU):
    """A tenth of a per cent too large."""

    def solve(self, A: Any, b: Any) -> Any:
        return 1.001 * super().solve(A, b)


@dataclass(frozen=True)
class NotForOne(LU):
    """Wrong for one unknown."""

    def solve(self, A: Any, b: Any) -> Any:
        return 2 * super().solve(A, b) if A.shape[-1] == 1 else super().solve(A, b)


@dataclass(frozen=True)
class FirstColumnOnly(LU):
    """Solves for the first right-hand side."""

    def solve(self, A: Any, b: Any) -> Any:
        X = super().solve(A, b)
        return X * 0 + X[..., :1]


@dataclass(frozen=True)
class FirstOfBatch(LU):
    """Answers for the first operator of a batch."""

    def solve(self, A: Any, b: Any) -> Any:
        X = super().solve(A, b)
        return X if not A.batch_shape else X * 0 + X[:1]


@dataclass(frozen=True)
class Widening(LU):
    """Answers in double precision whatever the question's."""

    def solve(self, A: Any, b: Any) -> Any:
        be = A._concrete_backend()
        return be.astype(super().solve(A, b), "complex128" if be.is_complex(b) else "float64")


@dataclass(frozen=True)
class AbsoluteError(LU):
    """An error of fixed size, whatever the units."""

    def solve(self, A: Any, b: Any) -> Any:
        return super().solve(A, b) + 1e-3


@dataclass(frozen=True)
class Overconfident(Hutchinson):
    """Reports a hundredth of its standard error."""

    def trace(self, A: Any) -> Any:
        out = super().trace(A)
        _last(standard_error=session().infos[-1].standard_error / 100)  # type: ignore[union-attr]
        return out


@dataclass(frozen=True)
class FalseSuccess(CG):
    """Perturbs its answer and still says converged."""

    def solve(self, A: Any, b: Any) -> Any:
        return 1.001 * super().solve(A, b)


@dataclass(frozen=True)
class NeverFails(CG):
    """Converged, it says, after one step."""

    def solve(self, A: Any, b: Any) -> Any:
        out = super().solve(A, b)
        _last(converged=True, reason="converged")
        return out


@dataclass(frozen=True)
class DeafToTol(CG):
    """Always stops at one digit."""

    def solve(self, A: Any, b: Any) -> Any:
        return CG(tol=1e-1).solve(A, b)


_calls = itertools.count()


@dataclass(frozen=True)
class Moody(LU):
    """Another answer at every call."""

    def solve(self, A: Any, b: Any) -> Any:
        return super().solve(A, b) * (1 + 1e-9 * next(_calls))


@dataclass(frozen=True)
class Undercounting(CG):
    """Hides its products."""

    def solve(self, A: Any, b: Any) -> Any:
        out = super().solve(A, b)
        _last(matvecs=1)
        return out


@dataclass(frozen=True)
class NoZero(LU):
    """Never quite zero."""

    def solve(self, A: Any, b: Any) -> Any:
        return super().solve(A, b) + 1e-30


@dataclass(frozen=True)
class NanToZero(LU):
    """Takes NaN for zero."""

    def solve(self, A: Any, b: Any) -> Any:
        xp = A.xp
        return super().solve(A, xp.where(xp.isfinite(b), b, xp.zeros_like(b)))


@dataclass(frozen=True)
class LeastSquares(LU):
    """Silently a least-squares solution."""

    def solve(self, A: Any, b: Any) -> Any:
        return A.xp.linalg.pinv(A.to_dense()) @ b


@dataclass(frozen=True)
class Gullible(LU):
    """Believes the declaration and answers something."""

    def solve(self, A: Any, b: Any) -> Any:
        record(Info(method="gullible", converged=True))
        return b


@dataclass(frozen=True)
class Talkative(LU):
    """Describes itself on two lines."""

    def describe(self) -> str:
        return "first\nsecond"


@dataclass(frozen=True)
class NegativeCost(LU):
    """Cheaper than nothing."""

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return Cost(flops=-1.0)


@dataclass(frozen=True)
class Detached(LU):
    """Cuts the gradient."""

    def solve(self, A: Any, b: Any) -> Any:
        be = A._concrete_backend()
        return super().solve(map_leaves(lambda x: stopped(be.name, x), A), b)


@dataclass(frozen=True)
class WrongForward(LU):
    """Its forward derivative in the right-hand side is twice too large."""

    def solve(self, A: Any, b: Any) -> Any:
        be = A._concrete_backend()
        return super().solve(A, products(A).wrong_forward(be.eye(b.shape[-2], b.dtype), b))


@dataclass(frozen=True)
class FirstOrderOnly(LU):
    """One step of refinement with a factorisation that has no derivative: right to first order only."""

    def solve(self, A: Any, b: Any) -> Any:
        name = A._concrete_backend().name
        fixed = ops.Dense(stopped(name, A.to_dense()))
        X = stopped(name, super().solve(fixed, b))
        return X + super().solve(fixed, b - A @ X)


@dataclass(frozen=True)
class Looking(LU):
    """Reads a value where only shapes exist."""

    def solve(self, A: Any, b: Any) -> Any:
        return super().solve(A, b) if float(A.xp.max(A.xp.abs(b))) >= 0 else b


def _of(cls: type, question: str, problem: str, folder: Path, starve: dict[str, Any] | None = None) -> Mutant:
    case = Case(
        "mutant",
        kind="algorithm",
        factory=lambda backend, dtype, seed: cls(),
        questions=(question,),
        problem=problem,
        max_condition=1e4,
    )
    return Mutant(replace(case, starve=starve) if starve else case)


def _mutant(cls: type, problem: str = "general", question: str = "solve") -> Callable[[Path], Mutant]:
    return partial(_of, cls, question, problem)


ALGORITHMS: dict[str, Callable[[Path], Mutant]] = {
    "algorithm.accuracy": _mutant(Inaccurate),
    "algorithm.size-one": _mutant(NotForOne),
    "algorithm.columns": _mutant(FirstColumnOnly),
    "algorithm.batch": _mutant(FirstOfBatch),
    "algorithm.dtype": _mutant(Widening),
    "algorithm.scale": _mutant(AbsoluteError),
    "algorithm.standard-error": _mutant(Overconfident, "psd", "trace"),
    "algorithm.residual": _mutant(FalseSuccess, "psd"),
    "algorithm.starved": _mutant(NeverFails, "psd"),
    "algorithm.tolerance": _mutant(DeafToTol, "psd"),
    "algorithm.deterministic": _mutant(Moody),
    "algorithm.products": _mutant(Undercounting, "psd"),
    "algorithm.zero": _mutant(NoZero),
    "algorithm.nonfinite": _mutant(NanToZero),
    "algorithm.singular": _mutant(LeastSquares),
    "algorithm.indefinite": _mutant(Gullible, "psd"),
    "algorithm.settings": _mutant(Talkative),
    "algorithm.cost": _mutant(NegativeCost),
    "algorithm.grad": _mutant(Detached),
    "algorithm.grad-forward": _mutant(WrongForward),
    "algorithm.grad-second": _mutant(FirstOrderOnly),
    "algorithm.jit": _mutant(Looking),
}

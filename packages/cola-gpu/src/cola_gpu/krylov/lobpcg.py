"""``DeviceLOBPCG``: locally optimal block preconditioned conjugate gradients without a wait in any step.

The steps are the core's (Knyazev 2001; Duersch, Shao, Yang & Gu 2018), which look at values in two places
only: the condition of the loop, which is looked at every ``check_every`` steps here, and the small dense
eigenproblems, whose routine in PyTorch waits for CUDA and which are solved by Jacobi rotations there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, ClassVar

from cola_core import PSD
from cola_core.algorithms import LOBPCG
from cola_core.cost import Cost
from cola_core.dispatch import array_library

from .blocks import OnDevice
from .jacobi import LAUNCHES, sweeps_for
from .settings import check_positive, launched, on_accelerator, resident

__all__ = ["DeviceLOBPCG"]

Array = Any


def _iterate(
    A: Any,
    B: Any,
    P: Any,
    X: Array,
    tol: Any,
    limit: Any,
    *,
    k: int,
    largest: bool,
    watch: Any = None,
    check_every: int = 8,
) -> tuple[Array, Array, Any, Array, Array]:
    every = 1 if watch is not None else check_every
    be = OnDevice(A._concrete_backend(), every, recorded=watch is None)
    return LOBPCG._iterate(A, B, P, X, tol, limit, k=k, largest=largest, watch=watch, be=be)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class DeviceLOBPCG(LOBPCG):
    """The k largest ("LA") or smallest ("SA") eigenpairs of a self-adjoint A, or of ``A v = w B v``.

    tol, max_iters, x0, P, guard, key, pbar, callback, max_seconds: as of ``LOBPCG``, whose numbers this
    reproduces; whatever watches looks at every step. ``Auto(P=...)`` takes it where a preconditioner is
    given. check_every: steps between two looks of the host; steps
    after convergence are thrown away, and ``Info.matvecs`` counts them. A batch of operators is refused
    (NotImplementedError).
    """

    check_every: int = field(default=8, kw_only=True)

    _method: ClassVar[str] = "DeviceLOBPCG"
    _iterate: ClassVar[Callable[..., Any]] = staticmethod(_iterate)

    def __post_init__(self) -> None:
        check_positive("DeviceLOBPCG(check_every=...)", self.check_every)

    def _static(self) -> dict[str, Any]:
        return {"check_every": int(self.check_every)}

    def _made(self, steps: Any) -> Any:
        watched = self.progress or self.pbar or self.callback is not None or self.max_seconds is not None
        every = 1 if watched else int(self.check_every)
        return (steps + every - 1) // every * every

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        def suits() -> bool | str:
            which = operands[-1]
            if which not in (("LA", "SA", "LM", "SM") if A.isa(PSD) else ("LA", "SA")):
                return f"it finds the ends of a spectrum (LA, SA), not which={which!r}"
            if self.P is None:
                return "without a preconditioner Lanczos needs fewer products"
            return LOBPCG.applicable(self, question, A, *operands)

        return on_accelerator(A, suits)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        found = LOBPCG.cost(self, question, A, *operands)
        k = next(x for x in operands if isinstance(x, int))
        b = self._width(k, A.shape[-1])
        steps = found.matvecs / b
        if (
            array_library(A) == "torch" and find_spec("triton") is None
        ):  # rotations are many small launches, a fifth of the price in a graph
            rounds = 6 * sweeps_for(b) * b + sweeps_for(3 * b) * 3 * b
            found = replace(found, calls=found.calls + 0.2 * LAUNCHES * rounds * steps)
        return resident(found, steps / self.check_every + 5)

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        with launched():
            return LOBPCG.eigsh(self, A, k, which)

    def geigsh(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        with launched():
            return LOBPCG.geigsh(self, A, B, k, which)

"""``DeviceSLQ``: log-determinants and traces of functions by Lanczos sweeps that look at no value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from cola_core.algorithms import SLQ
from cola_core.cost import Cost

from .cg import DeviceCG
from .settings import CHECK_EVERY, check_positive, launched, on_accelerator, resident

__all__ = ["DeviceSLQ"]

Array = Any


@dataclass(frozen=True)
class DeviceSLQ(SLQ):
    """``log det A``, or the trace of a lazy f(A), by stochastic Lanczos quadrature.

    tol, max_iters, P, samples, max_samples, key: as of ``SLQ``, whose numbers this reproduces. check_every:
    steps of a sweep between two looks at whether every recurrence has ended; values are looked at once a
    round of probes besides. Derivatives solve by ``DeviceCG``. A batch of operators is refused.
    """

    check_every: int = field(default=CHECK_EVERY, kw_only=True)

    _method: ClassVar[str] = "DeviceSLQ"
    _solver: ClassVar[type] = DeviceCG

    def __post_init__(self) -> None:
        check_positive("DeviceSLQ(check_every=...)", self.check_every)

    @property
    def _look_every(self) -> int:  # type: ignore[override]
        # with one, the core's sweep also looks in every step at whether a second pass is needed
        return max(int(self.check_every), 2)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return on_accelerator(A, lambda: SLQ.applicable(self, question, A, *operands))

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        found = SLQ.cost(self, question, A, *operands)
        return resident(found, found.matvecs / (self.samples * self.check_every) + 20)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        with launched():
            return SLQ.slogdet(self, A)

    def trace(self, A: Any) -> Array:
        with launched():
            return SLQ.trace(self, A)

"""What an operation costs, before it is run:
floating point operations, bytes moved, memory held, products made."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]

# A modest CPU core. Only ratios matter for choosing; a machine profile may replace them.
FLOPS_PER_SECOND = 2e10
BYTES_PER_SECOND = 1e10
SECONDS_PER_CALL = 5e-6


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of an operation.

    ``flops`` and ``bytes`` (traffic) add up over a plan; ``memory`` is the peak held at once, so it is the
    maximum; ``matvecs`` counts products with the operator, and ``calls`` kernel launches (each has a fixed
    price).
    """

    flops: float = 0.0
    bytes: float = 0.0
    memory: float = 0.0
    matvecs: float = 0.0
    calls: float = 1.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            max(self.memory, other.memory),
            self.matvecs + other.matvecs,
            self.calls + other.calls,
        )

    def __mul__(self, times: float) -> Cost:
        """The same work repeated ``times`` times, one after the other (memory is reused)."""
        return Cost(
            self.flops * times, self.bytes * times, self.memory, self.matvecs * times, self.calls * times
        )

    __rmul__ = __mul__

    @property
    def seconds(self) -> float:
        """Estimated time: the larger of arithmetic and traffic, plus a fixed price per call."""
        return (
            max(self.flops / FLOPS_PER_SECOND, self.bytes / BYTES_PER_SECOND) + self.calls * SECONDS_PER_CALL
        )

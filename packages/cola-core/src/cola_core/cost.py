"""What an operation costs, before it is run: arithmetic, bytes moved, memory held, products made.

``Cost`` counts; what the counts mean in seconds is for the machine's ``Profile`` to say (``profile.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Estimated cost of an operation.

    ``flops`` (at the speed of a matrix product), ``factor`` (flops at the speed of LU, Cholesky, QR and
    triangular solves), ``eigen`` (flops at the speed of eigen- and singular value decompositions) and
    ``bytes`` (traffic) add up over a plan; ``memory`` is the peak held at once beside the operands, so it is
    the maximum. ``matvecs`` counts products with the operator, ``calls`` array operations (each has a fixed
    price), ``steps`` columns that a factorisation in compiled code treats one after the other (each has a
    small one), ``syncs`` how often the host waits for a value of the device (free on a CPU), and ``moved``
    bytes sent from device to device. Flops are operations on numbers of the operator's dtype.
    """

    flops: float = 0.0
    bytes: float = 0.0
    memory: float = 0.0
    matvecs: float = 0.0
    calls: float = 1.0
    factor: float = 0.0
    eigen: float = 0.0
    steps: float = 0.0
    syncs: float = 0.0
    moved: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            max(self.memory, other.memory),
            self.matvecs + other.matvecs,
            self.calls + other.calls,
            self.factor + other.factor,
            self.eigen + other.eigen,
            self.steps + other.steps,
            self.syncs + other.syncs,
            self.moved + other.moved,
        )

    def __mul__(self, times: float) -> Cost:
        """The same work repeated ``times`` times, one after the other (memory is reused)."""
        return Cost(
            self.flops * times,
            self.bytes * times,
            self.memory,
            self.matvecs * times,
            self.calls * times,
            self.factor * times,
            self.eigen * times,
            self.steps * times,
            self.syncs * times,
            self.moved * times,
        )

    __rmul__ = __mul__

    @property
    def arithmetic(self) -> float:
        """All flops, whatever their speed."""
        return self.flops + self.factor + self.eigen

    @property
    def seconds(self) -> float:
        """Estimated time in double precision with NumPy (``Profile.seconds`` knows other cases)."""
        from .profile import profile

        return profile().seconds(self)

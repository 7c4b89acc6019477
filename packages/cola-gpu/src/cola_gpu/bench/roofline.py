"""The least time that counted work can take on a device (Williams, Waterman & Patterson, CACM 2009).

A phase with F flops and B bytes takes at least `max(F / ceiling, B / bandwidth)`; phases follow one another.
The larger of the two says what a phase is bound by. Counts are of what an algorithm cannot avoid (an operator
read once per product, vectors once per pass): what is missing to one is overhead, or traffic beyond need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ceilings import Ceilings

__all__ = ["ARITHMETIC", "BANDWIDTH", "Phase", "Roof", "roof"]

BANDWIDTH, ARITHMETIC = "bandwidth", "arithmetic"


@dataclass(frozen=True)
class Phase:
    """Work of one kind: flops in `dtype`, and bytes between the memory and the processor."""

    flops: float
    bytes: float
    dtype: str = "float64"

    def __mul__(self, times: float) -> Phase:
        return Phase(self.flops * times, self.bytes * times, self.dtype)

    __rmul__ = __mul__


@dataclass(frozen=True)
class Roof:
    """The least seconds, and what most of them are bound by."""

    seconds: float
    bound: str

    def fraction(self, measured: float) -> float:
        """Of the roof that was reached, for a time in seconds: 1 is as fast as the device can."""
        return self.seconds / measured


def roof(phases: Sequence[Phase], ceilings: Ceilings) -> Roof:
    """The roof over phases that follow one another. No work: no time, bound by bandwidth."""
    spent = {BANDWIDTH: 0.0, ARITHMETIC: 0.0}
    for phase in phases:
        compute = phase.flops / ceilings.flops_per_second(phase.dtype)
        traffic = phase.bytes / ceilings.bytes_per_second
        spent[ARITHMETIC if compute > traffic else BANDWIDTH] += max(compute, traffic)
    return Roof(sum(spent.values()), max(spent, key=lambda bound: spent[bound]))

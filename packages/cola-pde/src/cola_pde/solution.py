"""What a solver of this package returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cola_core.info import Info

from .discretise import Affine
from .space import Space

__all__ = ["Solution"]


@dataclass(frozen=True)
class Solution:
    """A grid function: ``u`` (array of ``space.shape``), where it lives, and how far it can be trusted.

    info.residual is the relative residual ``|r - S v| / |r|`` of the symmetric system, recomputed (None if
    not checked).
    imbalance: for problems without a Dirichlet side, the relative mean that was removed from the source
    (else 0).
    """

    u: Any
    space: Space
    operator: Affine
    info: Info
    imbalance: float = 0.0

    @property
    def residual(self) -> Any:
        return self.info.residual

"""Exact inference, chosen by the structure of the covariance and not by the class of the model.

``choose(model, X)`` takes the first structure of ``STRUCTURES`` that applies; ``explain(model, X)`` says
which and why the others were refused.
"""

from __future__ import annotations

from typing import Any

from cola_core.errors import MemoryBudgetError

from .base import Conditioned, Structure
from .dense import DenseStructure
from .grid import GridStructure
from .lazy import LazyStructure
from .lowrank import LowRankStructure

# From the most special to the most general; the first that applies is taken.
STRUCTURES: list[Structure] = [GridStructure(), LowRankStructure(), DenseStructure(), LazyStructure()]


def choose(model: Any, X: Any) -> Structure:
    """The structure by which inference for ``model`` at inputs ``X`` is done."""
    reasons = []
    for structure in STRUCTURES:
        answer = structure.applies(model, X)
        if answer is True:
            return structure
        reasons.append(f"{structure.name}: {answer}")
    raise MemoryBudgetError("no exact inference applies: " + "; ".join(reasons))


def explain(model: Any, X: Any) -> str:
    """One line per structure: taken, or refused with its reason."""
    lines = []
    taken = False
    for structure in STRUCTURES:
        answer = structure.applies(model, X)
        if answer is True:
            answer = "applies, but a more special one was taken" if taken else "taken"
            taken = True
        lines.append(f"{structure.name}: {answer}")
    return "\n".join(lines)


__all__ = ["STRUCTURES", "Conditioned", "Structure", "choose", "explain"]

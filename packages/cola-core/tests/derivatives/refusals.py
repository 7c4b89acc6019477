"""Derivatives that are refused by name: the list that ``test_grid`` holds to be true, entry by entry."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from cola_core.testing.derivatives import MODES

__all__ = ["REFUSED", "Refusal", "reason"]

TRACED = ("forward", "forward-reverse", "vmap")
"""Modes in which values cannot be looked at."""


@dataclass(frozen=True)
class Refusal:
    """cells: a pattern of question/family/algorithm. library, dtype: patterns. modes: those refused."""

    cells: str
    why: str
    modes: tuple[str, ...] = MODES
    library: str = "*"
    dtype: str = "*"

    def of(self, cell: str) -> bool:
        """Whether it is about this cell, in some mode."""
        return fnmatchcase(cell, self.cells)

    def covers(self, cell: str, library: str, dtype: str, mode: str) -> bool:
        return (
            mode in self.modes
            and self.of(cell)
            and fnmatchcase(library, self.library)
            and fnmatchcase(dtype, self.dtype)
        )


def reason(cell: str, library: str, dtype: str, mode: str) -> str:
    """Why this derivative is refused; an empty string where it must be right."""
    return next((r.why for r in REFUSED if r.covers(cell, library, dtype, mode)), "")


REFUSED: tuple[Refusal, ...] = (
    Refusal("nullspace/*", "the dimension of a null space depends on values", TRACED, "torch"),
    Refusal("orth/*", "the dimension of a range depends on values", TRACED, "torch"),
    Refusal("nullspace/*", "the dimension of a null space depends on values", MODES, "jax"),
    Refusal("orth/*", "the dimension of a range depends on values", MODES, "jax"),
)

DEFECTS: tuple[Refusal, ...] = ()
"""Neither right nor refused by name: errors that are loud, and should say more."""

"""What a failed check raises, and what a check raises that does not apply to its case."""

from __future__ import annotations

__all__ = ["ConformanceError", "MissingBackend"]


class ConformanceError(AssertionError):
    """A check failed: the message says what was promised, what was found, and by how much it is off."""


class MissingBackend(Exception):
    """The array library of this check is not installed."""

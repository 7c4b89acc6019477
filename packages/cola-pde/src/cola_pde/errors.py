"""Errors of this package; each is a `ColaError` and the built-in exception a user would catch."""

from __future__ import annotations

from cola_core.errors import ColaError, SingularMatrixError

__all__ = ["BoundaryError", "GridError", "IncompatibleError"]


class GridError(ColaError, ValueError):
    """A grid, or an array that should live on it, makes no sense."""


class BoundaryError(ColaError, ValueError):
    """Boundary conditions or their data do not fit the grid."""


class IncompatibleError(SingularMatrixError):
    """An all-Neumann or periodic problem whose source and fluxes do not balance: it has no solution."""

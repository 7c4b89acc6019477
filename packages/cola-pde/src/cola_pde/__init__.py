"""Grids, boundary conditions and discretised differential operators whose fast solvers are found by dispatch.

>>> from cola_pde import Dirichlet, Grid, Neumann, Periodic, poisson
>>> solution = poisson(Grid.box((64, 64)), 1.0, "D")
>>> solution.u.shape
(64, 64)

Public names load at first use, so that discovering the plugin imports next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Affine": "discretise",
    "Axis": "grid",
    "BoundaryError": "errors",
    "Diffusion1D": "ops",
    "Dirichlet": "boundary",
    "Grid": "grid",
    "GridError": "errors",
    "IncompatibleError": "errors",
    "Laplacian1D": "ops",
    "Manufactured": "manufactured",
    "Modes": "modes",
    "Neumann": "boundary",
    "OrderTable": "manufactured",
    "Periodic": "boundary",
    "Solution": "solution",
    "Space": "space",
    "Transform": "ops",
    "eigenmodes": "modes",
    "exact_eigenvalues": "modes",
    "heat": "heating",
    "neg_laplacian": "discretise",
    "observed_order": "manufactured",
    "poisson": "elliptic",
    "trigonometric": "manufactured",
}

__all__ = [
    "Affine",
    "Axis",
    "BoundaryError",
    "Diffusion1D",
    "Dirichlet",
    "Grid",
    "GridError",
    "IncompatibleError",
    "Laplacian1D",
    "Manufactured",
    "Modes",
    "Neumann",
    "OrderTable",
    "Periodic",
    "Solution",
    "Space",
    "Transform",
    "eigenmodes",
    "exact_eigenvalues",
    "heat",
    "neg_laplacian",
    "observed_order",
    "poisson",
    "trigonometric",
]

if TYPE_CHECKING:
    from .boundary import Dirichlet, Neumann, Periodic
    from .discretise import Affine, neg_laplacian
    from .elliptic import poisson
    from .errors import BoundaryError, GridError, IncompatibleError
    from .grid import Axis, Grid
    from .heating import heat
    from .manufactured import Manufactured, OrderTable, observed_order, trigonometric
    from .modes import Modes, eigenmodes, exact_eigenvalues
    from .ops import Diffusion1D, Laplacian1D, Transform
    from .solution import Solution
    from .space import Space


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

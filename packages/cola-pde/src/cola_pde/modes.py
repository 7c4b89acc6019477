"""Eigenmodes of the Laplacian on a grid, lowest first, from the spectra of its one-dimensional factors.

The eigenvalues of a Kronecker sum are sums of its factors' eigenvalues, so the k lowest, with their
multiplicities, come from a best-first search over index tuples; no vector of length N is formed until a mode
is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core.backends import get_backend
from cola_core.linalg import eigh
from cola_core.operators import KronSum, LinearOperator

from .discretise import neg_laplacian
from .errors import GridError
from .grid import Grid
from .space import Space, scale_ends
from .spectrum import continuous_eigenvalues
from .sums import multiplicities, smallest_sums

__all__ = ["Modes", "eigenmodes", "exact_eigenvalues"]


@dataclass(frozen=True)
class Modes:
    """The k lowest eigenvalues (ascending, float64) of the discrete ``-div(a grad)``, homogeneous conditions.

    indices: (k, d) position of each in its factors' spectra.
    """

    values: np.ndarray
    indices: np.ndarray
    space: Space
    bases: tuple[LinearOperator, ...]

    def multiplicities(self, rtol: float = 1e-10) -> list[tuple[float, int]]:
        """(eigenvalue, multiplicity) in ascending order; the last may be cut off by k."""
        return multiplicities(self.values, rtol)

    def mode(self, i: int) -> Any:
        """The i-th eigenfunction, an array of the space's shape with discrete L2 norm 1."""
        if not 0 <= i < len(self.values):
            raise GridError(f"mode {i} was not computed; there are {len(self.values)}")
        out: Any = None
        for axis, basis in enumerate(self.bases):
            be = basis._concrete_backend()
            unit = np.zeros(self.space.shape[axis])
            unit[self.indices[i, axis]] = 1.0
            column = basis @ be.asarray(unit, dtype=basis.dtype, device=basis.device)
            shape = (1,) * axis + (-1,) + (1,) * (self.space.ndim - axis - 1)
            column = be.xp.reshape(column, shape)
            out = column if out is None else out * column
        out = out / math.sqrt(math.prod(self.space.grid.spacings))
        return scale_ends(out, self.space, -1, be, overwrite=True)


def eigenmodes(
    grid: Grid,
    k: int,
    bc: Any = "D",
    *,
    coefficients: Sequence[Any] | None = None,
    dtype: Any = None,
    backend: Any = None,
) -> Modes:
    """The k lowest eigenpairs of the discrete ``-div(a grad)`` on ``grid`` (fewer if the grid has fewer).

    Only the kinds of the boundary conditions matter. Cost: O(sum of axis lengths + k log k) for constant
    coefficients, plus one dense 1-D eigenproblem per axis with a variable one. Raises GridError,
    BoundaryError.
    """
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise GridError(f"ask for at least one mode; got k={k!r}")
    space = Space(grid, bc)
    be = get_backend(backend or "numpy")
    homogeneous = Space(grid, ",".join(space.kinds))
    S = neg_laplacian(homogeneous, coefficients=coefficients, dtype=dtype, backend=be).S
    factors = S.Ms if isinstance(S, KronSum) else (S,)
    pairs = [eigh(factor) for factor in factors]
    values, indices = smallest_sums([np.asarray(be.to_numpy(w), dtype=np.float64) for w, _ in pairs], int(k))
    return Modes(values, indices, space, tuple(V for _, V in pairs))


def exact_eigenvalues(grid: Grid, k: int, bc: Any = "D") -> np.ndarray:
    """The k lowest eigenvalues of the continuous ``-Laplacian`` on the box, with multiplicity."""
    space = Space(grid, bc)
    lists = [
        continuous_eigenvalues(k, a.length, kind) for a, kind in zip(grid.axes, space.kinds, strict=True)
    ]
    return smallest_sums(lists, k)[0]

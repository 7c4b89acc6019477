"""An operator as a function of its arrays: on a framework, and for reference as a NumPy matrix.

Derivatives are checked along directions in which the arrays may move together: towards the arrays of the same
operator made from another seed, which keeps every declared property that is linear or convex (a self-adjoint
matrix stays self-adjoint). Arrays of declared orthonormal columns stay where they are; those that do not
depend on the seed grow, or move at random where nothing is declared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import get_backend
from ..properties import Stiefel
from . import data
from .compare import host
from .trees import inexact_leaves, operators_in, with_inexact

__all__ = ["Moving", "double"]


def double(M: Any) -> Any:
    """An array in double precision."""
    M = np.asarray(M)
    return M.astype(np.complex128 if M.dtype.kind == "c" else np.float64)


class Moving:
    """``make(backend, seed)`` as a function of its floating-point arrays.

    arrays: NumPy arrays. directions: two lists like it. matrix: the dense matrix. here: the operator of NumPy
    arrays (of ``backend`` itself for operators that NumPy cannot hold, whose own matrix is the reference).
    """

    def __init__(self, make: Callable[[Any, int], Any], backend: Any, seed: int) -> None:
        self.backend, self.home = backend, get_backend("numpy")
        try:
            self.here = make(self.home, seed)
            self.matrix = double(host(self.here))
        except Exception:  # noqa: BLE001 - an operator of some libraries only
            self.home = backend
            self.here = make(backend, seed)
            self.matrix = double(host(self.here))
        self.there = make(backend, seed)
        self.arrays = [host(x) for x in inexact_leaves(self.here)]
        self.directions = [self._towards(make(self.home, seed + 1 + i), i) for i in range(2)]

    def operator(self, new: list[Any]) -> Any:
        """The framework's operator with these arrays of its."""
        return with_inexact(self.there, new) if self.arrays else self.there

    def dense(self, new: list[Any]) -> Any:
        """The matrix with these NumPy arrays."""
        if not self.arrays:
            return self.matrix
        moved = new if self.home.name == "numpy" else [self.home.asarray(x) for x in new]
        return double(host(with_inexact(self.here, moved)))

    def _towards(self, other: Any, i: int) -> list[Any]:
        theirs = [host(x) for x in inexact_leaves(other)]
        if [x.shape for x in theirs] != [x.shape for x in self.arrays]:
            theirs = self.arrays
        out = []
        # columns that are declared orthonormal do not stay so on a straight line
        bound = {
            id(x) for B in operators_in(self.here) if B.isa(Stiefel) and B.declared for x in inexact_leaves(B)
        }
        still = [id(x) in bound for x in inexact_leaves(self.here)]
        free = not any(B.properties for B in operators_in(self.here))
        for j, (x, y) in enumerate(zip(self.arrays, theirs, strict=True)):
            if still[j]:
                out.append(0 * x)
            elif np.any(x != y):
                out.append((y - x) / 3)
            elif free:
                size = float(np.abs(x).max(initial=0.0)) or 1.0
                out.append(size * data.normal(71 + i + 2 * j, x.shape, x.dtype) / 3)
            else:
                out.append((0.2 + 0.1 * i + 0.05 * j) * x)
        return out

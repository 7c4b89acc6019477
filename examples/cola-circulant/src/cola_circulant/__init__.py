"""Circulant matrices for cola-core:
``Circulant``, its rules, and ``CirculantCG`` with the optimal preconditioner.

    import cola_core as cola
    from cola_circulant import Circulant

    C = Circulant(column)            # C[i, j] = column[(i - j) mod n]
    x = cola.solve(C, b)             # by fast Fourier transforms, O(n log n)

The core loads the rules (``rules.py``) when it first meets a ``Circulant``;
importing this module registers nothing.
"""

from __future__ import annotations

__version__ = "0.1.0"

from .algorithm import CirculantCG, optimal_circulant
from .bases import Fourier, Hartley
from .operator import Circulant

__all__ = ["Circulant", "CirculantCG", "Fourier", "Hartley", "optimal_circulant"]

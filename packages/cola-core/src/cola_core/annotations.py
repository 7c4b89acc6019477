"""Properties under the name of CoLA's ``cola.annotations``.

An annotation is called on an operator to declare it; ``get_annotations`` lists what is declared or implied.
"""

from __future__ import annotations

from typing import Any

from .operators import as_operator
from .properties import PSD, Hermitian, Property, SelfAdjoint, Stiefel, Unitary

__all__ = ["PSD", "Annotation", "Hermitian", "SelfAdjoint", "Stiefel", "Unitary", "get_annotations"]

Annotation = Property


def get_annotations(A: Any) -> frozenset[Property]:
    """All properties of A: declared, implied by structure, and what follows from those.

    >>> import numpy as np, cola_core as cola
    >>> sorted(map(str, cola.get_annotations(cola.PSD(np.eye(2)))))
    ['PSD', 'SelfAdjoint']
    """
    return as_operator(A).properties

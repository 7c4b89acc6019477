"""Invariants of V^p tensor (V*)^q for one group: one file per method, each the exact answer to the same
question.

    orbits      permutation groups: indicator vectors of the orbits, by connected components
    casimir     connected reductive groups: a polynomial of the Casimir operator, then discrete generators
    average     finite matrix groups: the mean of all elements
    nullspace   anything, for small sizes: Gram matrix of the stacked constraints

`invariants(group, p, q)` chooses by structure.
"""

from .choose import Invariants, invariants

__all__ = ["Invariants", "invariants"]

"""Groups, representations and equivariant bases, as structured operators.

    from cola_emlp import S, SO, T, equivariant_basis
    basis = equivariant_basis((T(2) >> T(2))(SO(3)))
    basis.dimension, basis.Q, basis.certified

A group is its generators (`groups`, `families`); a representation is an expression in V, T(p, q), +, *, .T
and >> (`reps`); a basis comes from the method that fits the group's structure and carries a certificate
(`bases`, `solvers`, `counting`).
"""

from .bases import (
    Basis,
    WordReport,
    equivariance_error,
    equivariant_basis,
    equivariant_projector,
    generator_residual,
)
from .counting import exact_dimension
from .errors import BasisError, GroupError, ParseError, RepError
from .families import (
    GL,
    O11,
    O13,
    SL,
    SO,
    SO11,
    SO13,
    SU,
    A,
    C,
    D,
    Lorentz,
    O,
    Parity,
    S,
    SO11p,
    SO13p,
    Sp,
    Trivial,
    U,
    Z,
)
from .groups import DirectProduct, Group, MatrixGroup, PermutationGroup
from .ops import EquivariantProjector, OrbitBasis, OrbitFrame, OrbitProjector, RangeFrame
from .reps import Base, Hom, Rep, Scalar, Sum, T, Tensor, V, Vector

__all__ = [
    "GL",
    "O11",
    "O13",
    "SL",
    "SO",
    "SO11",
    "SO13",
    "SU",
    "A",
    "Base",
    "Basis",
    "BasisError",
    "C",
    "D",
    "DirectProduct",
    "EquivariantProjector",
    "Group",
    "GroupError",
    "Hom",
    "Lorentz",
    "MatrixGroup",
    "O",
    "OrbitBasis",
    "OrbitFrame",
    "OrbitProjector",
    "Parity",
    "ParseError",
    "PermutationGroup",
    "RangeFrame",
    "Rep",
    "RepError",
    "S",
    "SO11p",
    "SO13p",
    "Scalar",
    "Sp",
    "Sum",
    "T",
    "Tensor",
    "Trivial",
    "U",
    "V",
    "Vector",
    "WordReport",
    "Z",
    "equivariance_error",
    "equivariant_basis",
    "equivariant_projector",
    "exact_dimension",
    "generator_residual",
]

__version__ = "0.1.0"

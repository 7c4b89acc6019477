"""What a matrix is: one file per structure family, all immutable pytrees. See ``base.LinearOperator``."""

from __future__ import annotations

from ..pytree import flatten, map_leaves, operator, register_pytrees, static, unflatten
from .adopt import adopted, parts
from .algebra import add, as_operator, block_diag, kron, kronsum, matmul, power, scale
from .base import LinearOperator
from .blockdiag import BlockDiag
from .dense import Dense, Triangular
from .derivative import FIM, Fisher, GaussNewton, Hessian, Jacobian
from .diagonal import Diagonal, Identity, ScalarMul
from .function import FunctionOperator
from .kronecker import Kronecker, apply_along_axes
from .kronsum import KronSum
from .lowrank import LowRank
from .opaque import NoDispatch, no_dispatch
from .permutation import Permutation
from .product import Product, split_scalar
from .sliced import Sliced
from .sparse import Sparse
from .sum import Sum
from .transpose import Adjoint, Transpose
from .zero import Zero, is_zero

__all__ = [
    "Adjoint",
    "BlockDiag",
    "Dense",
    "Diagonal",
    "FIM",
    "Fisher",
    "FunctionOperator",
    "GaussNewton",
    "Hessian",
    "Identity",
    "Jacobian",
    "KronSum",
    "Kronecker",
    "LinearOperator",
    "LowRank",
    "NoDispatch",
    "Permutation",
    "Product",
    "ScalarMul",
    "Sliced",
    "Sparse",
    "Sum",
    "Transpose",
    "Triangular",
    "Zero",
    "add",
    "adopted",
    "apply_along_axes",
    "as_operator",
    "block_diag",
    "flatten",
    "is_zero",
    "kron",
    "kronsum",
    "map_leaves",
    "matmul",
    "no_dispatch",
    "operator",
    "parts",
    "power",
    "register_pytrees",
    "scale",
    "split_scalar",
    "static",
    "unflatten",
]

"""What a matrix is: one file per structure family, all immutable pytrees. See ``base.LinearOperator``."""

from __future__ import annotations

from ..pytree import flatten, map_leaves, operator, register_pytrees, static, tree_leaves, unflatten
from .adopt import adopted, parts
from .algebra import add, as_operator, block_diag, kron, kronsum, matmul, power, scale
from .banded import Banded, Tridiagonal
from .base import LinearOperator
from .block import Block, block
from .blockdiag import BlockDiag
from .circulant import Circulant
from .concatenated import Concatenated
from .convolution import CircularConvolution, ConvolveND
from .dense import Dense, Triangular
from .derivative import FIM, Fisher, GaussNewton, Hessian, Jacobian
from .diagonal import Diagonal, Identity, ScalarMul
from .function import FunctionOperator
from .hadamard import HadamardProduct
from .householder import Householder, HouseholderProduct
from .interpolated import Interpolated, interpolation_weights
from .kernel import Kernel
from .khatrirao import KhatriRao
from .kronecker import Kronecker, apply_along_axes
from .kronsum import KronSum
from .lowrank import LowRank
from .opaque import NoDispatch, no_dispatch
from .pair_function import PairFunction
from .permutation import Permutation
from .product import Product, split_scalar
from .projection import Projection
from .realpart import RealPart
from .sliced import Sliced
from .sparse import Sparse
from .sum import Sum
from .toeplitz import Hankel, Toeplitz
from .transforms import DCT, DST, FFT, Hartley, WalshHadamard
from .transpose import Adjoint, Transpose
from .zero import Zero, is_zero

__all__ = [
    "FIM",
    "Circulant",
    "CircularConvolution",
    "ConvolveND",
    "DCT",
    "Hankel",
    "Toeplitz",
    "DST",
    "FFT",
    "Hartley",
    "WalshHadamard",
    "Adjoint",
    "Block",
    "Banded",
    "BlockDiag",
    "Concatenated",
    "Dense",
    "Diagonal",
    "Fisher",
    "FunctionOperator",
    "GaussNewton",
    "HadamardProduct",
    "Hessian",
    "Householder",
    "HouseholderProduct",
    "Identity",
    "Interpolated",
    "Jacobian",
    "KhatriRao",
    "Kernel",
    "KronSum",
    "Kronecker",
    "LinearOperator",
    "LowRank",
    "NoDispatch",
    "PairFunction",
    "Permutation",
    "Product",
    "Projection",
    "RealPart",
    "ScalarMul",
    "Sliced",
    "Sparse",
    "Sum",
    "Transpose",
    "Triangular",
    "Tridiagonal",
    "Zero",
    "add",
    "adopted",
    "apply_along_axes",
    "as_operator",
    "block",
    "block_diag",
    "flatten",
    "is_zero",
    "interpolation_weights",
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
    "tree_leaves",
    "unflatten",
]

"""Covariance functions: immutable pytrees that know their matrix, diagonal, derivatives and structure."""

from .base import Kernel
from .compose import ActiveDims, Product, Scale, Sum
from .coregion import Coregion
from .polynomial import Polynomial
from .simple import Constant, Linear, Ones, White
from .spectral import Cosine, SpectralMixture
from .stationary import RBF, Matern12, Matern32, Matern52, Periodic, RationalQuadratic

__all__ = [
    "RBF",
    "ActiveDims",
    "Constant",
    "Coregion",
    "Cosine",
    "Kernel",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Ones",
    "Periodic",
    "Polynomial",
    "Product",
    "RationalQuadratic",
    "Scale",
    "SpectralMixture",
    "Sum",
    "White",
]

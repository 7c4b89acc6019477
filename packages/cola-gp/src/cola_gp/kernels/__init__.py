"""Covariance functions: immutable pytrees that know their matrix, diagonal, derivatives and structure."""

from .base import Kernel
from .compose import ActiveDims, Product, Scale, Sum
from .coregion import Coregion
from .deep import Deep
from .derivatives import diagonal_gradient, point_gradient
from .inducing import Inducing
from .nystrom import Nystrom
from .polynomial import Polynomial
from .random_fourier import RandomFourier
from .simple import Constant, Linear, Ones, White
from .ski import SKI
from .spectral import Cosine, SpectralMixture
from .stationary import RBF, Matern12, Matern32, Matern52, Periodic, RationalQuadratic

__all__ = [
    "RBF",
    "SKI",
    "ActiveDims",
    "Constant",
    "Coregion",
    "Cosine",
    "Deep",
    "Inducing",
    "Kernel",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Nystrom",
    "Ones",
    "Periodic",
    "Polynomial",
    "Product",
    "RandomFourier",
    "RationalQuadratic",
    "Scale",
    "SpectralMixture",
    "Sum",
    "White",
    "diagonal_gradient",
    "point_gradient",
]

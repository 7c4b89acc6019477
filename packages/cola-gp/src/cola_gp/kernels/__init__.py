"""Covariance functions: immutable pytrees that know their matrix, diagonal, derivatives and structure."""

from .base import Kernel
from .compose import ActiveDims, Product, Scale, Sum
from .simple import Constant, Linear, Ones, White
from .stationary import RBF, Matern12, Matern32, Matern52, Periodic, RationalQuadratic

__all__ = [
    "RBF",
    "ActiveDims",
    "Constant",
    "Kernel",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Ones",
    "Periodic",
    "Product",
    "RationalQuadratic",
    "Scale",
    "Sum",
    "White",
]

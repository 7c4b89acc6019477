"""Covariance functions with fused products, for ``cola_core.ops.Kernel``.

``RBF``, ``Matern12``, ``Matern32``, ``Matern52`` and ``RationalQuadratic`` are functions of the distance
between points over a lengthscale, as objects for ``Kernel(x1, x2, fn=RBF(), params={...})``; ``rbf``,
``matern12``, ... make that operator at once. Their products and first gradients never hold an n x m array:
compiled by Triton on CUDA, in blocks that are overwritten in place elsewhere on NumPy and PyTorch, in a scan
under XLA on JAX. Importing this module imports none of them.
"""

from .construct import matern12, matern32, matern52, rational_quadratic, rbf
from .functions import RBF, Matern12, Matern32, Matern52, RationalQuadratic, Stationary

__all__ = [
    "RBF",
    "Matern12",
    "Matern32",
    "Matern52",
    "RationalQuadratic",
    "Stationary",
    "matern12",
    "matern32",
    "matern52",
    "rational_quadratic",
    "rbf",
]

"""The covariance functions as objects: values, the choice of a path, products and gradients.

``RBF()(a, b, params)`` sums squared differences, coordinate by coordinate, so that close points keep their
digits in every precision: the error of an entry is a few rounding units times ``1 + log(1 / entry)``. The
products say what they do in ``inplace`` and ``triton_path``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core.backends import backend_of
from cola_core.errors import UnknownNameError
from cola_core.ops import PairFunction

from .parameters import Parameters, parameters
from .profiles import PROFILES, Profile, largest

__all__ = ["RBF", "Matern12", "Matern32", "Matern52", "RationalQuadratic", "Stationary"]

Array = Any
PATHS = ("auto", "chunked", "triton")
PRECISIONS = ("ieee", "tf32")
UNROLLED = 64  # coordinates whose differences are written one after the other


@dataclass(frozen=True)
class Stationary(PairFunction):
    """A function of the distance between points in lengthscales, times ``outputscale``.

    params: a dict with any of ``"lengthscale"`` (one, or one for each coordinate), ``"outputscale"`` (the
    value at distance zero) and, of ``RationalQuadratic``, ``"alpha"``; what is missing is one.
    path: ``"auto"`` takes Triton on CUDA for at most 64 coordinates in float32, float16 or bfloat16 and
    blocks elsewhere; ``"triton"`` and ``"chunked"`` ask for one, and ``"triton"`` raises where it is not to
    be had. Derivatives of second and higher order, forward mode, and products under ``torch.func``,
    ``torch.compile`` and JAX are made of differentiable blocks on every path.
    precision: ``"tf32"`` lets the Triton path multiply values and vectors in TF32 (10 bits of mantissa,
    float32 sums); distances and values stay in float32.

    >>> import numpy as np, cola_core as cola
    >>> from cola_gpu.kernels import RBF
    >>> K = cola.ops.Kernel(np.zeros((3, 2)), fn=RBF(), params={"lengthscale": 0.5, "outputscale": 2.0})
    >>> (K @ np.ones(3)).tolist()
    [6.0, 6.0, 6.0]
    """

    path_: str = "auto"
    precision: str = "ieee"

    symmetric: ClassVar[bool] = True
    alphas: ClassVar[bool] = False

    def __init__(self, path: str = "auto", precision: str = "ieee") -> None:
        for name, value, known in (("path", path, PATHS), ("precision", precision, PRECISIONS)):
            if value not in known:
                raise UnknownNameError(
                    f"{type(self).__name__}: {name}={value!r} is not known; known are {', '.join(known)}."
                )
        object.__setattr__(self, "path_", path)
        object.__setattr__(self, "precision", precision)

    @property
    def profile(self) -> Profile:
        """The function of the scaled squared distance."""
        return PROFILES[type(self).__name__]

    def describe(self) -> str:
        """The settings that are not the defaults."""
        said = [] if self.path_ == "auto" else [f"path={self.path_!r}"]
        return ", ".join(said + ([] if self.precision == "ieee" else [f"precision={self.precision!r}"]))

    def _parameters(self, be: Any, x: Array, params: Any) -> Parameters:
        return parameters(be, x, params, self.alphas, type(self).__name__)

    def __call__(self, a: Array, b: Array, params: Any = None) -> Array:
        be = backend_of(a, b)
        if be is None:
            raise TypeError(f"{type(self).__name__} takes arrays of points, got {type(a).__name__}.")
        given = self._parameters(be, a, params)
        u = self.profile.kappa(given.alpha) * squared_distances(be, a, b, given.lengthscale)
        big = be.asarray(largest(str(u.dtype).rpartition(".")[2]), dtype=u.dtype, device=be.device(u))
        out = self.profile.value(be, be.xp.where(u < big, u, big), given.alpha)
        return out if given.outputscale is None else given.outputscale * out

    def flops(self, d: int) -> float:
        return 3.0 * d + self.profile.flops

    def footprint(self, d: int) -> float:
        return max(1.0, d / 4)

    # -- fused products --------------------------------------------------------------------------------------
    def path(self, x1: Array, x2: Array, columns: int, params: Any) -> str | None:
        from .paths import path_for

        return path_for(self, x1, x2)

    def matmat(self, x1: Array, x2: Array, V: Array, params: Any) -> Array:
        from .paths import product

        return product(self, x1, x2, V, params)

    def gradients(self, x1: Array, x2: Array, V: Array, G: Array, params: Any) -> Any:
        from .paths import gradients

        return gradients(self, x1, x2, V, G, params)


def squared_distances(be: Any, a: Array, b: Array, lengthscale: Array) -> Array:
    """Sums of squared differences in lengthscales, (p, q)."""
    d = a.shape[-1]
    rate = 1.0 / lengthscale  # a division for every entry and coordinate would cost more than all the rest
    many = rate.ndim == 1
    if be.name == "jax" and d > UNROLLED:  # one operation, which XLA does not hold in memory
        gap = (a[:, None, :] - b[None, :, :]) * rate
        return be.xp.sum(gap * gap, axis=-1)
    total = None
    for k in range(d):
        gap = (a[:, k][:, None] - b[:, k][None, :]) * (rate[k] if many else rate)
        total = gap * gap if total is None else total + gap * gap
    return a @ b.T if total is None else total  # no coordinates: zeros


class RBF(Stationary):
    """``outputscale * exp(-r^2 / 2)``, r the distance in lengthscales; see ``Stationary``."""


class Matern12(Stationary):
    """``outputscale * exp(-r)``; see ``Stationary``. Its gradient where points coincide is taken as zero."""


class Matern32(Stationary):
    """``outputscale * (1 + t) exp(-t)``, t = sqrt(3) r; see ``Stationary``."""


class Matern52(Stationary):
    """``outputscale * (1 + t + t^2 / 3) exp(-t)``, t = sqrt(5) r; see ``Stationary``."""


class RationalQuadratic(Stationary):
    """``outputscale * (1 + r^2 / (2 alpha))^-alpha``; see ``Stationary``."""

    alphas: ClassVar[bool] = True

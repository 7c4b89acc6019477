"""Cases of the covariance operators for `cola_core.testing`: products, parts, questions and derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import ops
from cola_core.testing import Capabilities, Case, closed, data, only

__all__ = ["kernel_cases"]

REAL = closed("covariance functions of real points")
NO_COMPILE = closed("torch does not trace how optree takes trees of parameters apart")

DOUBLE = only("float64", reason="single and half precision have bounds of their own in the package's tests")


def _distances(a: Any, b: Any, lengthscale: Any) -> Any:
    gap = (a[:, None, :] - b[None, :, :]) / lengthscale
    return (gap * gap).sum(-1)


def _square() -> Case:
    def parts(dtype: str, seed: int) -> tuple[Any, Any, Any]:
        scales = np.asarray([0.75, 1.5], dtype), np.asarray(1.25, dtype)
        return data.normal(seed, (5, 2), dtype), *scales

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        from . import rbf

        x, lengthscale, outputscale = map(backend.asarray, parts(dtype, seed))
        return rbf(x, lengthscale=lengthscale, outputscale=outputscale) + 0.5 * ops.Identity(5)

    def reference(dtype: str, seed: int) -> Any:
        x, lengthscale, outputscale = parts(dtype, seed)
        return outputscale * np.exp(-_distances(x, x, lengthscale) / 2) + 0.5 * np.eye(5, dtype=dtype)

    return Case(
        "covariance-rbf",
        factory=factory,
        reference=reference,
        tolerance=10,
        capabilities=Capabilities(complex=REAL, torch_compile=NO_COMPILE, dtypes=DOUBLE),
    )


def _rectangular() -> Case:
    def parts(dtype: str, seed: int) -> tuple[Any, Any]:
        return data.normal(seed, (6, 3), dtype), data.normal(seed + 1, (4, 3), dtype)

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        from . import matern52

        a, b = map(backend.asarray, parts(dtype, seed))
        return matern52(a, b, lengthscale=1.5)

    def reference(dtype: str, seed: int) -> Any:
        t = np.sqrt(5 * _distances(*parts(dtype, seed), 1.5))
        return (1 + t + t * t / 3) * np.exp(-t)

    return Case(
        "covariance-matern52",
        factory=factory,
        reference=reference,
        tolerance=10,
        capabilities=Capabilities(
            complex=REAL,
            torch_compile=NO_COMPILE,
            dtypes=DOUBLE,
            backends=only("numpy", "torch", reason="JAX multiplies the core's blocks, as in the square case"),
        ),
    )


def kernel_cases() -> list[Case]:
    """A square and a rectangular one."""
    return [_square(), _rectangular()]

"""Dense covariance matrices in NumPy's double precision, and problems for them."""

from __future__ import annotations

import numpy as np

from cola_core.backends.base import dtype_name
from cola_gpu import kernels

NAMES = ("RBF", "Matern12", "Matern32", "Matern52", "RationalQuadratic")
UNIT = {"float32": 2.0**-23, "float64": 2.0**-52, "bfloat16": 2.0**-7, "float16": 2.0**-10}


def dense(name, a, b, params):
    """The textbook formula, from differences."""
    l = np.asarray(params.get("lengthscale", 1.0))
    s = np.zeros((len(a), len(b)))
    for k in range(a.shape[1]):
        s += (np.subtract.outer(a[:, k], b[:, k]) / np.broadcast_to(l, (a.shape[1],))[k]) ** 2
    r = np.sqrt(s)
    alpha = params.get("alpha", 1.0)
    values = {
        "RBF": lambda: np.exp(-s / 2),
        "Matern12": lambda: np.exp(-r),
        "Matern32": lambda: (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r),
        "Matern52": lambda: (1 + np.sqrt(5) * r + 5 * s / 3) * np.exp(-np.sqrt(5) * r),
        "RationalQuadratic": lambda: (1 + s / (2 * alpha)) ** (-alpha),
    }
    return params.get("outputscale", 1.0) * values[name]()


def given(name, d, rng, ard=True):
    """Parameters with numbers that single precision holds exactly."""
    params = {"lengthscale": np.round(rng.uniform(0.5, 2, d if ard else ()) * 64) / 64, "outputscale": 1.75}
    return params | ({"alpha": 0.8125} if name == "RationalQuadratic" else {})


def rounded(x, dtype):
    """x as the dtype holds it, in double precision."""
    if dtype == "bfloat16":
        bits = np.asarray(x, np.float32).view(np.uint32)
        return (bits & np.uint32(0xFFFF0000)).view(np.float32).astype(float)
    return np.asarray(x).astype(dtype).astype(float)


def put(backend, params, dtype):
    """Parameters beside points of a dtype."""
    return {key: backend.asarray(np.asarray(value), dtype=dtype) for key, value in params.items()}


def function(name, **settings):
    return getattr(kernels, name)(**settings)


def values(backend, x):
    """As NumPy's double precision."""
    if backend.name == "torch" and dtype_name(x.dtype) == "bfloat16":
        x = x.float()
    return np.asarray(backend.to_numpy(x)).astype(complex if backend.is_complex(x) else float)


def largest_error(got, want):
    """Relative to the largest entry of a matrix; of nothing none."""
    assert got.shape == want.shape
    return float(np.max(np.abs(got - want), initial=0.0) / max(np.max(np.abs(want), initial=0.0), 1e-300))

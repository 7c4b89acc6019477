"""Reproducible NumPy data shared by factories and references: the same numbers for every backend.

All functions are of (seed, shape, dtype);
matrices of the problem grid have the condition number that is asked for.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["normal", "orthogonal", "psd", "selfadjoint", "general", "with_spectrum"]


def normal(seed: int, shape: tuple[int, ...], dtype: Any = "float64") -> Any:
    """Standard normal numbers (complex ones of unit variance), rounded to ``dtype``."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    x = rng.standard_normal(shape)
    if dtype.kind == "c":
        x = (x + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return x.astype(dtype)


def orthogonal(seed: int, n: int, dtype: Any = "float64") -> Any:
    """A random orthogonal (unitary) matrix in double precision."""
    return _orthogonal(seed, n, np.dtype(dtype).kind == "c").copy()


@lru_cache(maxsize=256)  # most operators of the kit are made of a few such matrices, hundreds of times
def _orthogonal(seed: int, n: int, unitary: bool) -> Any:
    return np.linalg.qr(normal(seed, (n, n), np.complex128 if unitary else np.float64))[0]


def with_spectrum(seed: int, w: Any, dtype: Any = "float64") -> Any:
    """``Q diag(w) Q^H`` exactly symmetric after rounding to ``dtype``."""
    Q = orthogonal(seed, len(w), dtype)
    M = (Q * w) @ Q.conj().T
    return ((M + M.conj().T) / 2).astype(dtype)


def psd(seed: int, n: int, dtype: Any = "float64", condition: float = 10.0) -> Any:
    """Positive definite with eigenvalues from 1/condition to 1, equally spaced in logarithm."""
    return with_spectrum(seed, np.logspace(-np.log10(condition), 0, n) if n > 1 else np.ones(n), dtype)


def selfadjoint(seed: int, n: int, dtype: Any = "float64", condition: float = 10.0) -> Any:
    """Indefinite self-adjoint: magnitudes as ``psd``, signs alternating."""
    w = np.logspace(-np.log10(condition), 0, n) if n > 1 else np.ones(n)
    return with_spectrum(seed, w * (-1.0) ** np.arange(n), dtype)


def general(seed: int, n: int, dtype: Any = "float64", condition: float = 10.0) -> Any:
    """Square without symmetry, singular values from 1/condition to 1."""
    s = np.logspace(-np.log10(condition), 0, n) if n > 1 else np.ones(n)
    return ((orthogonal(seed, n, dtype) * s) @ orthogonal(seed + 1, n, dtype)).astype(dtype)

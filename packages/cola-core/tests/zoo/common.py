"""Random matrices for the entries of the zoo, and how exactly answers about them must agree."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

DTYPES = ["float64", "float32", "complex128", "complex64"]

Build = Callable[[Callable[[Any], Any]], Any]


def installed(library: str) -> bool:
    """Whether an array library can be imported here."""
    return importlib.util.find_spec(library) is not None


def tolerance(dtype: str) -> float:
    """Relative tolerance of well-conditioned direct answers."""
    return 1e-10 if dtype in ("float64", "complex128") else 2e-4


def draw(rng, *shape, cplx=False):
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if cplx else x


def spd(rng, n, cplx=False):
    a = draw(rng, n, n, cplx=cplx)
    return a @ a.conj().T + n * np.eye(n)


def sym(rng, n, cplx=False):
    a = draw(rng, n, n, cplx=cplx)
    return a + a.conj().T


def well(rng, n, cplx=False):
    """A general, well-conditioned matrix."""
    return draw(rng, n, n, cplx=cplx) + 2 * np.sqrt(n) * np.eye(n)

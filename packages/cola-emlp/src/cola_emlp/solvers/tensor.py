"""Small matrices acting on axes of a tensor stored as rows: the kernels the solvers share.

X has shape (N, b) with N = d^k, rows in row-major order of the k indices. A letter is False for V, True for
the dual.
"""

from __future__ import annotations

import numpy as np

from ..errors import BasisError


def letters(p: int, q: int) -> tuple[bool, ...]:
    return (False,) * p + (True,) * q


def on_axis(a: np.ndarray, x: np.ndarray, axis: int, k: int) -> np.ndarray:
    """Apply the d x d matrix a to one of the k indices."""
    d = a.shape[0]
    rows = x.reshape(d**axis, d, -1)
    return np.matmul(a, rows).reshape(x.shape)


def group_action(h: np.ndarray, x: np.ndarray, word: tuple[bool, ...]) -> np.ndarray:
    """rho(h) X."""
    dual = np.linalg.inv(h).T if any(word) else h
    for axis, letter in enumerate(word):
        x = on_axis(dual if letter else h, x, axis, len(word))
    return x


def algebra_action(a: np.ndarray, x: np.ndarray, word: tuple[bool, ...]) -> np.ndarray:
    """drho(A) X."""
    out = np.zeros(x.shape, np.result_type(a, x))
    for axis, letter in enumerate(word):
        out += on_axis(-a.T if letter else a, x, axis, len(word))
    return out


def orthonormal(y: np.ndarray, tolerance: float) -> np.ndarray:
    """Orthonormal basis of the column space; singular values up to `tolerance` do not count.

    The tolerance is absolute: y is a projection of columns of size about 1, and may be nothing but rounding.
    """
    if not y.shape[1]:
        return y
    u, s, _ = np.linalg.svd(y, full_matrices=False)
    if not np.isfinite(s).all():
        raise BasisError("the singular value decomposition of a projected block returned NaN")
    return u[:, s > tolerance]

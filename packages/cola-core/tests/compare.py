"""Comparing answers on any backend with NumPy references."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
from zoo import tolerance


def close(backend, got, want, dtype, scale=None):
    """Equal shapes, and entries equal to the dtype's tolerance times ``scale`` (default: the largest)."""
    got = np.asarray(backend.to_numpy(got)) if hasattr(got, "shape") else np.asarray(got)
    assert got.shape == np.shape(want)
    scale = np.max(np.abs(want), initial=1.0) if scale is None else scale
    np.testing.assert_allclose(got, want, atol=tolerance(dtype) * max(scale, 1.0), rtol=0)


def square(D):
    return D.shape[0] == D.shape[1]


def near(got, want, tol):
    """Equal shapes, and NumPy entries equal to ``tol`` times the largest."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=tol * max(np.max(np.abs(want), initial=0.0), 1.0), rtol=0)


def _double(x):
    """Older SciPys answer in extended precision, which LAPACK does not take."""
    return np.asarray(x).astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def sqrtm(M):
    return _double(sl.sqrtm(M))


def fractional_power(M, p):
    return _double(sl.fractional_matrix_power(M, p))

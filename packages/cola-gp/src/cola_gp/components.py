r"""Principal components and whitening of rows ``X (n, d)``, on NumPy, torch and JAX.

Components come from the singular values of the centred rows, whitening from their LQ factorisation:
neither forms the covariance, whose condition number would be that of the rows squared.  Probabilistic
principal components: Tipping & Bishop (1999), section 3.
"""

from __future__ import annotations

from typing import Any

from cola_core.errors import ShapeError
from cola_core.linalg import lq, svd

from ._struct import Struct, struct
from .arrays import backend_for
from .checks import finite_numbers
from .kernels.base import Array

__all__ = ["Components", "Whitener", "principal_components", "whiten"]


@struct
class Components(Struct):
    """``mean (d,)``, orthonormal ``directions (k, d)`` as rows, and the ``variance (k,)`` along them.

    Variances are descending and divided by n - 1; ``total`` is that in all directions.
    """

    mean: Array
    directions: Array
    variance: Array
    total: Array

    def transform(self, X: Array) -> Array:
        """Coordinates ``(m, k)`` of the rows of ``X (m, d)``."""
        return (X - self.mean) @ self.directions.T

    def inverse(self, Z: Array) -> Array:
        """Rows ``(m, d)`` with the coordinates ``Z (m, k)``."""
        return Z @ self.directions + self.mean


@struct
class Whitener(Struct):
    """``mean (d,)`` and the lower triangular ``factor (d, d)`` with ``factor @ factor.T`` the covariance."""

    mean: Array
    factor: Array

    def transform(self, X: Array) -> Array:
        """Rows ``(m, d)`` whose covariance over the fitted data is the identity."""
        return backend_for(X).solve_triangular(self.factor, (X - self.mean).T).T

    def inverse(self, Z: Array) -> Array:
        """The rows of which ``Z (m, d)`` are the white ones."""
        return Z @ self.factor.T + self.mean


def _centred(X: Any, least: int) -> tuple[Array, Array]:
    X = finite_numbers("X", X, 2)
    if X.shape[0] < least or X.shape[1] == 0:
        raise ShapeError(f"X has shape {tuple(X.shape)}; it needs {least} rows and one column.")
    mean = backend_for(X).xp.mean(X, axis=0)
    return mean, X - mean


def principal_components(X: Any, k: int | None = None) -> Components:
    """The first ``k`` principal components (default: ``min(n, d)``) of the rows of ``X (n, d)``.

    The sign of every direction is such that its largest entry is positive.  Cost: O(n d min(n, d)).
    """
    mean, rows = _centred(X, 1)
    n, d = rows.shape
    k = min(n, d) if k is None else k
    if not 0 <= k <= min(n, d):
        raise ShapeError(f"k = {k}, but {n} rows of {d} entries have at most {min(n, d)} components.")
    backend = backend_for(rows)
    xp = backend.xp
    _, S, V = svd(rows)
    directions = V.to_dense().T[:k]
    largest = xp.take_along_axis(directions, xp.argmax(xp.abs(directions), axis=1)[:, None], axis=1)
    directions = directions * xp.where(largest < 0, -xp.ones_like(largest), xp.ones_like(largest))
    variance = S.diag**2 / max(n - 1, 1)
    return Components(mean, directions, variance[:k], xp.sum(variance))


def whiten(X: Any) -> Whitener:
    """Whitening of the rows of ``X (n, d)``, ``n > d``, by LQ.  Cost: O(n d^2).

    Raises ShapeError without more rows than columns: their covariance is singular.
    """
    mean, rows = _centred(X, 2)
    n, d = rows.shape
    if n <= d:
        raise ShapeError(
            f"X has shape ({n}, {d}): the covariance of {n} rows of {d} entries is singular; whiten with the "
            "first principal components, PCA(k, whiten=True), instead."
        )
    L, _ = lq(rows.T)
    return Whitener(mean, L.to_dense() / (n - 1) ** 0.5)

"""Principal components by `syevd` of the covariance, and whitening by LQ of the data.

    python examples/lapack_use_cases/pca.py

Data are columns: X (d, n), d <= n. `syevd` of the small `X X^T` gives all components, differentiably (ties
left out). Whitening needs no eigenvalues: with `X = L Q` the rows of `sqrt(n) Q` are uncorrelated and of
variance one, and `sqrt(n) L^-1` whitens what comes later. No covariance is formed there, so features of
condition number 1e5 are whitened in float32, where the Cholesky factor of their covariance does not exist.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from data import iris
from frameworks import best_backend, library

from cola_gpu.lapack import gelqf, syevd, syrk, trsm

__all__ = ["Components", "Whitened", "pca", "reconstruction_error", "whiten"]

Array = Any


class Components(NamedTuple):
    """The mean (d, 1), components as rows (k, d), and the variances along them (k,), largest first."""

    mean: Array
    components: Array
    variance: Array


class Whitened(NamedTuple):
    """Uncorrelated rows of variance one (d, n), the mean (d, 1), and L with `X - mean = L rows`."""

    rows: Array
    mean: Array
    L: Array

    def apply(self, X: Array) -> Array:
        """The same map of other columns X (d, m)."""
        return trsm(self.L, X - self.mean)


def pca(X: Array, k: int) -> Components:
    """The first k principal components of the columns of X (d, n). Cost: d^2 n + 9 d^3 flops."""
    bk = library(X)
    mean = bk.xp.mean(X, axis=-1, keepdims=True)
    U, lam = syevd(syrk(X - mean, alpha=1.0 / X.shape[-1]))
    return Components(mean, bk.xp.flip(U, axis=-2)[:k], bk.xp.flip(lam, axis=-1)[:k])


def reconstruction_error(X: Array, k: int) -> Array:
    """Mean squared distance of the columns of X to the plane of their first k components."""
    xp = library(X).xp
    mean, U, _ = pca(X, k)
    Y = X - mean
    return xp.sum((Y - U.mT @ (U @ Y)) ** 2) / X.shape[-1]


def whiten(X: Array) -> Whitened:
    """Whiten the columns of X (d, n) by LQ. Cost: 4 d^2 n flops."""
    bk = library(X)
    mean = bk.xp.mean(X, axis=-1, keepdims=True)
    Q, L = gelqf(X - mean)
    root = X.shape[-1] ** 0.5
    return Whitened(root * Q, mean, L / root)


def main() -> int:
    bk = best_backend()
    name, flowers = iris()
    X = bk.asarray(np.ascontiguousarray(flowers.T))
    found = pca(X, 2)
    share = bk.to_numpy(found.variance).sum() / flowers.var(axis=0).sum()
    rows = bk.to_numpy(whiten(X).rows)
    error = np.abs(rows @ rows.T / len(flowers) - np.eye(flowers.shape[1])).max()
    print(f"{name} ({bk.name}): {flowers.shape[0]} columns of {flowers.shape[1]} measurements")
    print(f"  two components hold {100 * share:.1f} % of the variance")
    print(f"  mean squared distance to their plane {float(reconstruction_error(X, 2)):.4f}")
    print(f"  whitened: covariance differs from the identity by {error:.1e}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

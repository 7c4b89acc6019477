"""Gaussian process regression by `potrf`, `trsm` and `sumlogdiag`: no inverse, no determinant.

    python examples/lapack_use_cases/gaussian_process.py

With `K = L L^T` and `z = L^-1 y` the negative log marginal likelihood of `y ~ N(0, K)` is
`|z|^2 / 2 + sum log L_ii + n/2 log 2 pi` (Rasmussen & Williams 2006, algorithm 2.1; section 2.1 of
arXiv:1710.08717). Its gradient is the library's own: the three functions are differentiable.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from data import diabetes
from frameworks import best_backend, fit, library

from cola_gpu.lapack import potrf, sumlogdiag, trsm

__all__ = ["covariance", "negative_log_marginal", "predict", "rbf"]

Array = Any


def rbf(X: Array, Z: Array, theta: Array) -> Array:
    """`s^2 exp(-|x - z|^2 / (2 l^2))` for rows of X (n, d) and Z (m, d); theta = log (s, noise, l)."""
    xp = library(X, Z, theta).xp
    difference = (X[:, None, :] - Z[None, :, :]) * xp.exp(-theta[2])
    return xp.exp(2 * theta[0] - 0.5 * xp.sum(difference**2, axis=-1))


def covariance(X: Array, theta: Array) -> Array:
    """The covariance of the observations at X: the kernel, and the variance of the noise on the diagonal."""
    bk = library(X, theta)
    eye = bk.eye(X.shape[0], X.dtype, bk.device(X))
    return rbf(X, X, theta) + bk.xp.exp(2 * theta[1]) * eye


def negative_log_marginal(X: Array, y: Array, theta: Array) -> Array:
    """`-log p(y | X, theta)` for X (n, d), y (n,), theta = log (s, noise, l). Cost: n^3/3 flops."""
    xp = library(X, y, theta).xp
    L = potrf(covariance(X, theta))
    z = trsm(L, y[:, None])
    return 0.5 * xp.sum(z**2) + sumlogdiag(L) + 0.5 * math.log(2 * math.pi) * y.shape[0]


def predict(X: Array, y: Array, theta: Array, at: Array) -> tuple[Array, Array]:
    """Mean and variance (without noise) of the function at the rows of `at` (m, d), each (m,)."""
    xp = library(X, y, theta, at).xp
    L = potrf(covariance(X, theta))
    z = trsm(L, y[:, None])
    V = trsm(L, rbf(X, at, theta))
    return (V.mT @ z)[:, 0], xp.exp(2 * theta[0]) - xp.sum(V**2, axis=0)


def main() -> int:
    bk = best_backend()
    name, X, y = diabetes()
    train = np.arange(len(y)) % 3 > 0
    args = bk.asarray(X[train]), bk.asarray(y[train])
    theta = bk.asarray(fit(lambda t: negative_log_marginal(*args, t), bk.asarray(np.log([1.0, 0.7, 3.0]))))
    mean, _ = predict(*args, theta, bk.asarray(X[~train]))
    error = np.sqrt(np.mean((bk.to_numpy(mean) - y[~train]) ** 2))
    scale, noise, length = np.exp(bk.to_numpy(theta))
    print(f"{name} ({bk.name}): {train.sum()} rows to learn from, {(~train).sum()} to predict")
    print(f"  -log p(y) {float(negative_log_marginal(*args, theta)):.2f}")
    print(f"  scale {scale:.3f}, noise {noise:.3f}, length {length:.3f}")
    print(f"  error {error:.3f} standard deviations of y (the mean alone: {np.std(y[~train]):.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Gaussian processes with m inducing points, by two `potrf`, two `trsm` and a `syrk`: O(n m^2), never n x n.

    python examples/lapack_use_cases/sparse_gp.py

Titsias' lower bound of the log marginal likelihood (2009, equation 9) is
`log N(y | 0, Q + s^2 I) - tr(K - Q) / (2 s^2)`, where `Q = K_fu K_uu^-1 K_uf`. With `K_uu = L L^T`,
`V = L^-1 K_uf / s`, `B = I + V V^T = M M^T` and `c = M^-1 V y / s` it needs only triangular solves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from data import diabetes
from frameworks import best_backend, fit, library
from gaussian_process import rbf

from cola_gpu.lapack import potrf, sumlogdiag, syrk, trsm

__all__ = ["bound", "predict"]

Array = Any
JITTER = 1e-6  # of K_uu's diagonal: inducing points may come close to each other


def _factors(X: Array, y: Array, Z: Array, theta: Array) -> tuple[Array, Array, Array, Array]:
    """L, V, M and c of the module's first lines."""
    bk = library(X, y, Z, theta)
    xp, eye = bk.xp, bk.eye(Z.shape[0], X.dtype, bk.device(X))
    scale, noise = xp.exp(2 * theta[0]), xp.exp(theta[1])
    L = potrf(rbf(Z, Z, theta) + JITTER * scale * eye)
    V = trsm(L, rbf(Z, X, theta)) / noise
    M = potrf(syrk(V) + eye)
    c = trsm(M, V @ y[:, None]) / noise
    return L, V, M, c


def bound(X: Array, y: Array, Z: Array, theta: Array) -> Array:
    """Titsias' bound for X (n, d), y (n,), inducing points Z (m, d) and theta = log (s, noise, l)."""
    xp, n = library(X, y, Z, theta).xp, y.shape[0]
    _, V, M, c = _factors(X, y, Z, theta)
    precision = xp.exp(-2 * theta[1])
    fit_of_y = 0.5 * xp.sum(c**2) - 0.5 * precision * xp.sum(y**2)
    volume = sumlogdiag(M) + n * theta[1] + 0.5 * n * math.log(2 * math.pi)
    lost = 0.5 * (precision * xp.exp(2 * theta[0]) * n - xp.sum(V**2))
    return fit_of_y - volume - lost


def predict(X: Array, y: Array, Z: Array, theta: Array, at: Array) -> tuple[Array, Array]:
    """Mean and variance (without noise) of the function at the rows of `at` (m, d), each (m,)."""
    xp = library(X, y, Z, theta, at).xp
    L, _, M, c = _factors(X, y, Z, theta)
    U = trsm(L, rbf(Z, at, theta))
    W = trsm(M, U)
    return (W.mT @ c)[:, 0], xp.exp(2 * theta[0]) - xp.sum(U**2, axis=0) + xp.sum(W**2, axis=0)


def main() -> int:
    bk = best_backend()
    name, X, y = diabetes()
    train = np.arange(len(y)) % 3 > 0
    chosen = np.random.default_rng(0).choice(train.sum(), 30, replace=False)
    known = bk.asarray(X[train]), bk.asarray(y[train])
    start = np.concatenate([np.log([1.0, 0.7, 3.0]), X[train][chosen].ravel()])

    def parts(p: Array) -> tuple[Array, Array]:
        return bk.xp.reshape(p[3:], (len(chosen), X.shape[1])), p[:3]

    def loss(p: Array) -> Array:
        return -bound(*known, *parts(p))

    before = -float(loss(bk.asarray(start)))
    if bk.name == "numpy":  # differences in 303 variables are too slow: the points stay where they are
        points = bk.asarray(X[train][chosen])
        found = np.concatenate([fit(lambda t: -bound(*known, points, t), start[:3]), start[3:]])
    else:
        found = fit(loss, bk.asarray(start))
    mean, _ = predict(*known, *parts(bk.asarray(found)), bk.asarray(X[~train]))
    error = np.sqrt(np.mean((bk.to_numpy(mean) - y[~train]) ** 2))
    print(f"{name} ({bk.name}): {train.sum()} rows, {len(chosen)} inducing points, moved with the rest")
    print(f"  bound of log p(y): {before:.2f}, fitted {-float(loss(bk.asarray(found))):.2f}")
    print(f"  error {error:.3f} standard deviations of y (the mean alone: {np.std(y[~train]):.3f})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

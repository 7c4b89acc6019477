"""Kalman filtering and smoothing with square roots, each step one LQ of stacked factors.

    python examples/lapack_use_cases/kalman.py

The model is `x' = F x + w`, `y = H x + v`, covariances given by factors: `cov w = W W^T`, `cov v = V V^T`.
A factor of `A A^T + B B^T` is the L of `[A, B] = L Q`, so no covariance is ever formed and none can lose
positive semidefiniteness (Kaminski, Bryson & Schmidt 1971; Park & Kailath 1996 for the smoother). What a
covariance filter needs double precision for, this does in single. Differentiable in everything.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from data import nile
from frameworks import best_backend, fit, library

from cola_gpu.lapack import gelqf, sumlogdiag, trsm

__all__ = ["Filtered", "Model", "kalman_filter", "log_likelihood", "rts_smoother"]

Array = Any


class Model(NamedTuple):
    """A linear Gaussian state space: F (n, n), W (n, n), H (p, n), V (p, p), the first state's mean (n,) and
    factor S (n, n)."""

    F: Array
    W: Array
    H: Array
    V: Array
    mean: Array
    S: Array


class Filtered(NamedTuple):
    """Means and lower triangular factors of `x_t` given `y_1 .. y_t`, and the log-likelihood of all y."""

    means: list[Array]
    factors: list[Array]
    log_likelihood: Array


def _triangular(bk: Any, rows: list[list[Array]]) -> Array:
    """The L of the LQ of a matrix given by blocks.

    Unchecked: a direction that is known almost exactly makes a small pivot, which is what square roots are
    for.
    """
    stacked = bk.xp.concat([bk.xp.concat(row, axis=1) for row in rows], axis=0)
    return gelqf(stacked, check=False).L


def kalman_filter(model: Model, y: Array) -> Filtered:
    """Filter observations y (T, p). Cost per step: the LQ of (p + n) x (p + n) and of n x 2n matrices."""
    F, W, H, V, mean, S = model
    bk = library(*model, y)
    p, n = H.shape
    none = bk.zeros((n, p), y.dtype, bk.device(y))
    total = -0.5 * p * y.shape[0] * math.log(2 * math.pi)
    means, factors = [], []
    for t in range(y.shape[0]):
        if t:
            mean, S = F @ mean, _triangular(bk, [[F @ S, W]])
        # cov(y, x) as one triangular factor: [[V, H S], [0, S]] = [[Y, 0], [G, S+]] Q, and the gain is G Y^-1
        L = _triangular(bk, [[V, H @ S], [none, S]])
        Y, G, S = L[:p, :p], L[p:, :p], L[p:, p:]
        innovation = trsm(Y, (y[t] - H @ mean)[:, None])
        mean = mean + (G @ innovation)[:, 0]
        total = total - 0.5 * bk.xp.sum(innovation**2) - sumlogdiag(Y)
        means.append(mean)
        factors.append(S)
    return Filtered(means, factors, total)


def log_likelihood(model: Model, y: Array) -> Array:
    """`log p(y_1 .. y_T)`, by the filter's innovations."""
    return kalman_filter(model, y).log_likelihood


def rts_smoother(model: Model, y: Array) -> tuple[list[Array], list[Array]]:
    """Means and lower triangular factors of `x_t` given all y (Rauch, Tung & Striebel), t = 0 .. T-1.

    Needs W of full rank: the joint factor of `(x_t+1, x_t)` is divided by that of `x_t+1`.
    """
    filtered = kalman_filter(model, y)
    bk, n = library(*model, y), model.F.shape[0]
    none = bk.zeros((n, n), y.dtype, bk.device(y))
    mean, S = filtered.means[-1], filtered.factors[-1]
    means, factors = [mean], [S]
    for m, R in zip(filtered.means[-2::-1], filtered.factors[-2::-1], strict=True):
        # [[F R, W], [R, 0]] = [[P, 0], [G, C]] Q: P of the prediction, C of x_t given x_t+1
        L = _triangular(bk, [[model.F @ R, model.W], [R, none]])
        gain = trsm(L[:n, :n], L[n:, :n], rightside=True)
        mean = m + gain @ (mean - model.F @ m)
        S = _triangular(bk, [[L[n:, n:], gain @ S]])
        means.append(mean)
        factors.append(S)
    return means[::-1], factors[::-1]


def local_level(theta: Array) -> Model:
    """A random walk seen through noise; theta = log standard deviations of (noise, step), in units of the
    data.

    The first level is all but unknown.
    """
    bk = library(theta)
    one = bk.eye(1, theta.dtype, bk.device(theta))
    noise, step = bk.xp.exp(theta)[:, None, None] * one
    return Model(one, step, one, noise, bk.zeros((1,), theta.dtype, bk.device(theta)), 1e4 * one)


def main() -> int:
    bk = best_backend()
    name, volumes = nile()
    y = bk.asarray(volumes[:, None])
    theta = bk.asarray(fit(lambda t: -log_likelihood(local_level(t), y), bk.asarray(np.log([100.0, 100.0]))))
    means, factors = rts_smoother(local_level(theta), y)
    noise, step = np.exp(2 * bk.to_numpy(theta))
    print(f"{name} ({bk.name}): {len(volumes)} years, local level model fitted by maximum likelihood")
    print(f"  log-likelihood {float(log_likelihood(local_level(theta), y)):.2f}")
    print(f"  variance of the noise {noise:.0f}, of the yearly step {step:.0f}")
    for year in (0, len(volumes) // 2, len(volumes) - 1):
        print(f"  level of year {year}: {float(means[year][0]):.0f} +- {float(factors[year][0, 0]):.0f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

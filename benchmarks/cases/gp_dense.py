"""Exact Gaussian process regression by Cholesky: likelihood with gradient, and predictive variances."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import scipy.linalg

import cola_gp as gp

from ..harness import Bench, Contender, Goal

LENGTHSCALE, VARIANCE, NOISE = np.array([0.7, 1.1]), 1.3, 0.05


def problem(n: int, d: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scattered points and a smooth function with noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, np.sin(2 * X[:, 0]) * np.cos(X[:, 1]) + np.sqrt(NOISE) * rng.normal(size=n)


def model() -> gp.GP:
    return gp.GP(VARIANCE * gp.RBF(LENGTHSCALE), noise=NOISE)


def by_formula(X: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Rasmussen & Williams (2006), 2.30 and 5.9, as in a textbook; derivatives by logarithms."""
    n = len(y)
    squares = [((X[:, None, j] - X[None, :, j]) / s) ** 2 for j, s in enumerate(LENGTHSCALE)]
    R = VARIANCE * np.exp(-0.5 * sum(squares))
    L = np.linalg.cholesky(R + NOISE * np.eye(n))
    alpha = scipy.linalg.cho_solve((L, True), y)
    value = -0.5 * y @ alpha - np.log(np.diag(L)).sum() - 0.5 * n * np.log(2 * np.pi)
    W = 0.5 * (np.outer(alpha, alpha) - scipy.linalg.cho_solve((L, True), np.eye(n)))
    return float(value), np.array([*(np.sum(W * R * s) for s in squares), np.sum(W * R), NOISE * np.trace(W)])


def flat(answer: tuple[Any, tuple[Any, ...]]) -> tuple[float, np.ndarray]:
    value, gradient = answer
    return float(value), np.concatenate([np.ravel(np.asarray(g)) for g in gradient])


def _likelihood(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import torch

    torch.set_num_threads(1)
    X, y = problem(200 if short else 2000)
    data, tensors = gp.Data(X, y), gp.Data(torch.from_numpy(X), torch.from_numpy(y))
    contenders = [
        Contender("ours, NumPy", lambda: flat(gp.value_and_gradient(model(), data))),
        Contender("ours, PyTorch", lambda: flat(gp.value_and_gradient(model(), tensors))),
    ]
    if find_spec("gpytorch"):
        from ..peers import gpytorch

        peer, likelihood = gpytorch.exact_gp(X, y, LENGTHSCALE, VARIANCE, NOISE)

        def theirs() -> Any:
            with gpytorch.cholesky():
                return gpytorch.value_and_gradient(peer, likelihood)

        contenders.append(Contender("GPyTorch, Cholesky", theirs))
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(VARIANCE) * RBF(LENGTHSCALE) + WhiteKernel(NOISE)
    fitted = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(X, y)

    def scikit_learn() -> Any:
        value, gradient = fitted.log_marginal_likelihood(fitted.kernel_.theta, eval_gradient=True)
        return value, gradient[[1, 2, 0, 3]]

    contenders.append(Contender("scikit-learn", scikit_learn))
    value, gradient = by_formula(X, y)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(answer[0], value, rtol=1e-7)
        np.testing.assert_allclose(answer[1], gradient, rtol=1e-5, atol=1e-6 * np.abs(gradient).max())

    return contenders, check


def _variance(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n, m = (100, 300) if short else (1000, 10_000)
    X, y = problem(n)
    Z = problem(m, seed=1)[0]
    posterior = gp.Posterior(model(), gp.Data(X, y))
    L = np.linalg.cholesky(model().covariance(X).to_dense())

    def by_hand() -> np.ndarray:
        out = []
        for i in range(0, m, 2000):
            A, B = X / LENGTHSCALE, Z[i : i + 2000] / LENGTHSCALE
            K = A @ B.T
            K -= 0.5 * (A * A).sum(1)[:, None]
            K -= 0.5 * (B * B).sum(1)
            np.exp(K, out=K)
            K *= VARIANCE
            half = scipy.linalg.solve_triangular(L, K, lower=True, check_finite=False)
            out.append(VARIANCE - np.einsum("ij,ij->j", half, half))
        return np.concatenate(out)

    want = by_hand()

    def check(answer: Any) -> None:
        np.testing.assert_allclose(answer, want, atol=1e-9)

    return [Contender("ours", lambda: posterior.variance(Z)), Contender("by hand", by_hand)], check


BENCHES = [
    Bench(
        "gp-likelihood",
        "GP log likelihood and gradient, RBF, n = 2000, d = 2, float64",
        _likelihood,
        Goal("ratio", 1 / 1.8, "GPyTorch, Cholesky"),
        needs=("torch", "sklearn"),
        rounds=7,
    ),
    Bench(
        "gp-variance",
        "GP predictive variance at 10,000 points after 1,000 observations",
        _variance,
        Goal("ratio", 1.2, "by hand"),
        rounds=7,
    ),
]

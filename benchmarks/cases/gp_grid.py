"""Gaussian processes on grids: a spatial grid of 200 x 200 points, evaluated and fitted, beside GPyTorch."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import cola_gp as gp

from ..harness import Bench, Contender, Goal
from .gp_dense import flat

LENGTHSCALE, VARIANCE, NOISE = np.array([0.2, 0.3]), 1.3, 0.1
RATE = 0.1


def problem(n: int) -> tuple[gp.Data, np.ndarray]:
    """A smooth function with noise on an ``n x n`` grid with spacing 0.01; the coordinates of an axis."""
    axis = gp.Regular(0.0, 2.0 / n, n)
    grid = gp.Grid(axis, axis)
    X = grid.points()
    noise = np.sqrt(NOISE) * np.random.default_rng(0).normal(size=n * n)
    return gp.Data(grid, np.sin(6 * X[:, 0]) * np.cos(4 * X[:, 1]) + noise), axis.coordinates()


def model() -> gp.GP:
    return gp.GP(VARIANCE * gp.RBF(LENGTHSCALE), noise=NOISE)


def reference(data: gp.Data) -> tuple[float, np.ndarray]:
    """The likelihood by the eigenvalues of the two factors, its derivatives by differences of step 1e-4."""
    axes, y = data.X.axis_points(), data.y.reshape(data.X.sizes)

    def value(theta: np.ndarray) -> float:
        pairs = [
            np.linalg.eigh(np.exp(-0.5 * ((a - a.T) / np.exp(t)) ** 2))
            for a, t in zip(axes, theta[:2], strict=True)
        ]
        (u, P), (v, Q) = pairs
        spectrum = np.exp(theta[2]) * np.outer(u.clip(0), v.clip(0)) + np.exp(theta[3])
        rotated = P.T @ y @ Q
        return float(-0.5 * (rotated**2 / spectrum + np.log(2 * np.pi * spectrum)).sum())

    theta, step = np.log([*LENGTHSCALE, VARIANCE, NOISE]), 1e-4 * np.eye(4)
    slopes = [(value(theta + e) - value(theta - e)) / 2e-4 for e in step]
    return value(theta), np.array(slopes)


def _likelihood(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    data, axis = problem(20 if short else 200)
    plain = gp.Data(gp.Grid(axis, axis), data.y)
    contenders = [
        Contender("ours", lambda: flat(gp.value_and_gradient(model(), data))),
        Contender("ours, spacing not declared", lambda: flat(gp.value_and_gradient(model(), plain))),
    ]
    if find_spec("gpytorch"):
        from ..peers import gpytorch

        peer, likelihood = gpytorch.grid_gp(axis, data.y, LENGTHSCALE, VARIANCE, NOISE)
        contenders.append(Contender("GPyTorch", lambda: gpytorch.grid_value_and_gradient(peer, likelihood)))

        def stored() -> Any:
            with gpytorch.stored_factors():
                return gpytorch.grid_value_and_gradient(peer, likelihood)

        contenders.append(Contender("GPyTorch, Toeplitz off", stored))
    value, gradient = reference(data)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(answer[0], value, rtol=1e-6)
        np.testing.assert_allclose(answer[1], gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())

    return contenders, check


def _fit(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    data, axis = problem(20 if short else 200)
    steps = 20

    def ours() -> float:
        result = gp.fit(model(), data, optimizer="adam", learning_rate=RATE, max_iters=steps, tol=0.0)
        return result.log_likelihood

    contenders = [Contender("ours", ours)]
    if find_spec("gpytorch"):
        from ..peers import gpytorch

        def theirs() -> float:
            peer, likelihood = gpytorch.grid_gp(axis, data.y, LENGTHSCALE, VARIANCE, NOISE)
            gpytorch.fit(peer, likelihood, steps, RATE)
            return gpytorch.grid_value_and_gradient(peer, likelihood)[0]

        contenders.append(Contender("GPyTorch", theirs))
    best = gp.fit(model(), data).log_likelihood
    start = float(gp.marginal_likelihood(model(), data))

    def check(value: Any) -> None:  # most of the way from the start to the optimum
        assert start + 0.5 * (best - start) <= value <= best + 1e-6 * abs(best), (start, value, best)

    return contenders, check


BENCHES = [
    Bench(
        "gp-grid-likelihood",
        "GP log likelihood and gradient on a grid of 200 x 200, RBF, float64",
        _likelihood,
        Goal("ratio", 1 / 5, "GPyTorch"),
        rounds=7,
    ),
    Bench(
        "gp-grid-fit",
        "GP fit on a grid of 200 x 200: 20 steps of Adam",
        _fit,
        Goal("ratio", 1 / 5, "GPyTorch"),
        rounds=5,
    ),
]

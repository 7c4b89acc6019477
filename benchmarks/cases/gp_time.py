"""Gaussian processes in time: likelihood and gradient of a Matern kernel by the Kalman filter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import cola_gp as gp
from cola_gp.inference import StateSpaceInference

from ..harness import Bench, Contender, Goal

LENGTHSCALE, VARIANCE, NOISE = 1.3, 0.8, 0.05


def problem(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Irregular times, a hundred per unit, and a smooth function with noise."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, n / 100, n))
    return t, np.sin(t) + math.sqrt(NOISE) * rng.normal(size=n)


def model() -> gp.GP:
    return gp.GP(VARIANCE * gp.Matern32(LENGTHSCALE), noise=NOISE)


def by_steps(t: np.ndarray, y: np.ndarray) -> Callable[[], tuple[float, np.ndarray]]:
    """The filter of a textbook, one ``lax.scan`` over all times, differentiated by JAX (Sarkka 2013, 4.2)."""
    import jax
    import jax.numpy as jnp

    gaps, values = jnp.asarray(np.diff(t, prepend=t[0])), jnp.asarray(y)

    def likelihood(logs: Any) -> Any:
        scale, variance, noise = jnp.exp(logs)
        rate = math.sqrt(3.0) / scale
        P0 = jnp.diag(jnp.stack([variance, variance * rate**2]))

        def step(carry: Any, at: Any) -> Any:
            m, P, total = carry
            dt, z = at
            A = jnp.exp(-rate * dt) * jnp.array([[1 + rate * dt, dt], [-(rate**2) * dt, 1 - rate * dt]])
            m, P = A @ m, A @ (P - P0) @ A.T + P0
            S, e = P[0, 0] + noise, z - m[0]
            gain = P[:, 0] / S
            P = P - gain[:, None] * P[0][None, :]
            return (m + gain * e, P, total - 0.5 * (e * e / S + jnp.log(2 * math.pi * S))), None

        return jax.lax.scan(step, (jnp.zeros(2), P0, 0.0), (gaps, values))[0][2]

    compiled = jax.jit(jax.value_and_grad(likelihood))
    logs = jnp.log(jnp.array([LENGTHSCALE, VARIANCE, NOISE]))

    def run() -> tuple[float, np.ndarray]:
        value, gradient = compiled(logs)
        return float(value), np.asarray(gradient)

    return run


def _flat(answer: Any) -> tuple[float, np.ndarray]:
    value, gradient = answer
    return float(value), np.array([float(g) for g in gradient])


def _likelihood(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import jax
    import torch

    jax.config.update("jax_enable_x64", True)
    torch.set_num_threads(1)
    t, y = problem(2000 if short else 100_000)
    kalman = StateSpaceInference()
    data = gp.Data(t, y)
    tensors = gp.Data(torch.from_numpy(t), torch.from_numpy(y))
    traced = gp.Data(jax.numpy.asarray(t), jax.numpy.asarray(y))
    arrays = jax.tree.map(jax.numpy.asarray, model())
    compiled = jax.jit(lambda m, d: gp.value_and_gradient(m, d, kalman))
    steps = by_steps(t, y)
    want = steps()

    def check(answer: Any) -> None:
        np.testing.assert_allclose(answer[0], want[0], rtol=1e-8)
        np.testing.assert_allclose(answer[1], want[1], rtol=1e-6, atol=1e-8 * np.abs(want[1]).max())

    contenders = [
        Contender("ours, JAX (compiled)", lambda: _flat(compiled(arrays, traced))),
        Contender("ours, NumPy", lambda: _flat(gp.value_and_gradient(model(), data))),
        Contender("ours, PyTorch", lambda: _flat(gp.value_and_gradient(model(), tensors))),
        Contender("textbook filter, JAX (compiled)", steps),
    ]
    return contenders, check


BENCHES = [
    Bench(
        "gp-time",
        "Matern 3/2 in time: likelihood and gradient of 100,000 observations, float64",
        _likelihood,
        Goal("absolute", 2.0),
        needs=("torch", "jax"),
        rounds=5,
    )
]

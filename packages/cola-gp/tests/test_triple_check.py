"""One answer by every way there is: dense, Toeplitz, low rank, state space on the same equally spaced axis.

The table says for each kernel which ways its structure allows; that those and no others apply is part of the
test.  The textbook Kalman filter stands beside them in test_state_space.py.
"""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ColaError

N = 24
AXIS = gp.Regular(0.0, 0.25, N)
Y = np.sin(0.25 * np.arange(N)) + 0.3 * np.cos(2.1 * np.arange(N))
Z = np.array([-0.4, 0.5, 1.3, 5.9])[:, None]

T, L, S = "toeplitz", "low-rank", "state-space"
KERNELS = {
    "matern12": (1.3 * gp.Matern12(0.7), {T, S}),
    "matern32": (1.3 * gp.Matern32(0.7), {T, S}),
    "matern52": (1.3 * gp.Matern52(0.7), {T, S}),
    "periodic": (gp.Periodic(1.5, 1.7), {T, S}),
    "cosine": (gp.Cosine(1.7), {T, L, S}),
    "constant": (gp.Constant(0.8), {T, L, S}),
    "linear": (gp.Linear(0.8), {L, S}),
    "polynomial": (gp.Polynomial(2, 0.3, 0.5), {L, S}),
    "rbf": (1.3 * gp.RBF(0.7), {T}),
    "rational-quadratic": (gp.RationalQuadratic(0.7, 1.1), {T}),
    "mixture": (gp.SpectralMixture([0.6, 1.4], [0.3, 0.9], [0.2, 0.1]), {T}),
    "quasi-periodic": (0.9 * (gp.Periodic(1.5, 1.7) * gp.Matern12(2.0)), {T, S}),
    "sum": (gp.Matern32(0.7) + 0.4 * gp.Matern12(2.0) + gp.Constant(0.2), {T, S}),
    "trend": (gp.Matern32(0.7) + gp.Linear(0.2), {S}),
    "damped-cosine": (gp.Cosine(1.7) * gp.Matern32(2.0) + gp.White(0.1), {T, S}),
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_way_gives_the_same(name):
    kernel, ways = KERNELS[name]
    model = gp.GP(kernel, gp.ConstantMean(0.2), noise=0.1)
    data = gp.Data(gp.Grid(AXIS), Y)
    value, gradient = gp.value_and_gradient(model, data, "dense")
    dense = gp.Posterior(model, data, "dense")
    for way in (T, L, S):
        if way not in ways:
            with pytest.raises(ColaError):
                gp.condition(model, data, way)
            continue
        found, slopes = gp.value_and_gradient(model, data, way)
        assert float(found) == pytest.approx(float(value), rel=1e-8, abs=1e-8), way
        assert float(gp.marginal_likelihood(model, data, way)) == pytest.approx(float(value), rel=1e-8), way
        scale = max(float(np.max(np.abs(g))) for g in gradient)
        for a, b in zip(slopes, gradient, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8 * scale, err_msg=way)
        posterior = gp.Posterior(model, data, way)
        np.testing.assert_allclose(posterior.mean(Z), dense.mean(Z), rtol=1e-8, atol=1e-9, err_msg=way)
        np.testing.assert_allclose(
            posterior.covariance(Z), dense.covariance(Z), rtol=1e-8, atol=1e-8, err_msg=way
        )

"""Expectation propagation: against sampling, finite differences and Laplace's approximation."""

import math
import warnings

import numpy as np
import pytest
from scipy import special

import cola_gp as gp
from cola_core.errors import NoRuleError
from cola_gp._struct import leaves, with_leaves

PROBIT = gp.BernoulliLikelihood("probit")
EP = gp.EPInference()
RBF = gp.Scale(gp.RBF([0.8, 1.2]), 4.0)


def classes(rng, n):
    X = rng.normal(size=(n, 2))
    return X, (np.sin(2 * X[:, 0]) + X[:, 1] + 0.3 * rng.normal(size=n) > 0).astype(float)


def test_closer_to_the_truth_than_laplace(rng):
    X, y = classes(rng, 8)
    model, data = gp.GP(RBF, gp.ConstantMean(0.3), PROBIT), gp.Data(X, y)
    f = 0.3 + np.linalg.cholesky(RBF(X)) @ rng.normal(size=(8, 400_000))
    weight = np.exp(special.log_ndtr((2 * y - 1)[:, None] * f).sum(axis=0))
    truth, mean = math.log(weight.mean()), (f * weight).sum(axis=1) / weight.sum()
    ep, laplace = gp.condition(model, data, EP), gp.condition(model, data)
    assert ep.info.converged and ep.method == "EP"
    assert float(ep.log_marginal_likelihood()) == pytest.approx(truth, abs=0.03)
    np.testing.assert_allclose(ep.mode, mean, atol=0.05)
    assert abs(float(laplace.log_marginal_likelihood()) - truth) > 0.1


def test_one_observation_is_exact():
    """One site matches one factor: evidence and moments are those of the integral."""
    model = gp.GP(gp.Scale(gp.RBF(1.0), 3.0), gp.ConstantMean(0.5), PROBIT)
    found = gp.condition(model, gp.Data([[0.0]], [1.0]), EP)
    want, mean, variance = PROBIT.moments(np.ones(1), np.full(1, 0.5), np.full(1, 3.0))
    assert float(want[0]) == pytest.approx(special.log_ndtr(0.25))
    assert float(found.log_marginal_likelihood()) == pytest.approx(float(want[0]), abs=1e-9)
    np.testing.assert_allclose(found.mode, mean, rtol=1e-6)
    np.testing.assert_allclose(found.latent_variance(np.zeros((1, 1))), variance, rtol=1e-6)


def test_moments_are_the_integrals():
    y, mean, variance = np.array([0.0, 1.0, 1.0]), np.array([0.3, -4.0, 2.0]), np.array([2.0, 9.0, 0.01])
    log_z, first, second = PROBIT.moments(y, mean, variance)
    for i in range(3):
        f = mean[i] + math.sqrt(variance[i]) * np.linspace(-14, 14, 200_001)
        p = np.exp(special.log_ndtr((2 * y[i] - 1) * f) - (f - mean[i]) ** 2 / (2 * variance[i]))
        step = f[1] - f[0]
        total = p.sum() * step
        assert math.exp(log_z[i]) == pytest.approx(total / math.sqrt(2 * math.pi * variance[i]), rel=1e-8)
        assert first[i] == pytest.approx((f * p).sum() * step / total, rel=1e-8)
        assert second[i] == pytest.approx((p * (f - first[i]) ** 2).sum() * step / total, rel=1e-7)


@pytest.mark.parametrize("kernel", [RBF, gp.Linear([0.8, 1.0]) + gp.Constant(0.2)], ids=["dense", "low rank"])
def test_gradient_is_that_of_the_value(rng, kernel):
    X, y = classes(rng, 25)
    model, data = gp.GP(kernel, gp.ConstantMean(0.3), PROBIT), gp.Data(X, y)
    value, gradient = gp.value_and_gradient(model, data, EP)
    assert float(value) == pytest.approx(float(gp.marginal_likelihood(model, data, EP)), rel=1e-12)
    start, step = leaves(model), 1e-4
    for number, leaf in enumerate(start):
        for index in np.ndindex(leaf.shape):

            def at(t, number=number, index=index):
                moved = [np.array(other, dtype=float) for other in start]
                moved[number][index] += t
                return float(gp.marginal_likelihood(with_leaves(model, moved), data, EP))

            slope = (at(step) - at(-step)) / (2 * step)
            assert float(np.asarray(gradient[number])[index]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("variance", [1e-6, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_separable_classes_and_one_class(variance, dtype):
    X = np.linspace(0, 5, 30, dtype=dtype)[:, None]
    model = gp.GP(variance * gp.RBF(1.0), noise=PROBIT)
    for y in ((X[:, 0] > 2.5).astype(dtype), np.ones(30, dtype), np.zeros(30, dtype)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = gp.condition(model, gp.Data(X, y), EP)
            p, _ = gp.Posterior(model, gp.Data(X, y), EP).response(X)
        assert found.info.converged and p.dtype == dtype and np.all((p > 0.5) == (y > 0.5))
        if variance >= 1e3:
            # sure where Laplace's approximation is not
            assert p[0] > 0.95 or p[0] < 0.05
        assert -25 < float(found.log_marginal_likelihood()) < 0


def test_other_likelihoods_are_refused(rng):
    X, y = classes(rng, 10)
    for likelihood in (gp.BernoulliLikelihood(), gp.PoissonLikelihood(), 0.1):
        with pytest.raises(
            (NoRuleError, TypeError, ValueError), match="not available|is Gaussian|EPInference"
        ):
            gp.condition(gp.GP(RBF, noise=likelihood), gp.Data(X, y), EP)


@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_torch_and_jax_differentiate(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = classes(rng, 20)
    model = gp.GP(RBF, gp.ConstantMean(0.1), PROBIT)
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y), EP)
    moving = [torch.tensor(np.array(leaf, dtype=float), requires_grad=True) for leaf in leaves(model)]
    found = gp.marginal_likelihood(with_leaves(model, moving), gp.Data(torch.tensor(X), torch.tensor(y)), EP)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(value), rel=1e-9)
    for a, b in zip(moving, gradient, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b, rtol=1e-5, atol=1e-6)
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        data = gp.Data(jax.numpy.asarray(X), jax.numpy.asarray(y))
        start = [jax.numpy.asarray(np.array(leaf, dtype=float)) for leaf in leaves(model)]
        found, slope = jax.jit(
            jax.value_and_grad(lambda moving: gp.marginal_likelihood(with_leaves(model, moving), data, EP))
        )(start)
        assert float(found) == pytest.approx(float(value), rel=1e-9)
        for a, b in zip(slope, gradient, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

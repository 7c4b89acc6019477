"""Iterative inference on grids against a dense factorisation of the same points: solutions to the tolerance,
what is estimated within its reported scatter."""

import warnings

import numpy as np
import pytest

import cola_gp as gp
from cola_core import ops
from cola_core.errors import ConvergenceWarning, MemoryBudgetError

ADDITIVE = 1.3 * gp.ActiveDims(gp.RBF(0.5), 0) + 0.7 * gp.ActiveDims(gp.Matern32(0.6), 1)
SMOOTH = 1.5 * gp.RBF([0.5, 0.6])


def case(name, rng):
    grid = gp.Grid(gp.Regular(0.0, 0.1, 12), gp.Regular(0.0, 0.1, 10))
    X = grid.points()
    y = np.sin(2 * X[:, 0]) * np.cos(3 * X[:, 1]) + 0.3 * rng.normal(size=120)
    kernel, noise = SMOOTH, 0.1
    if "additive" in name:
        kernel = ADDITIVE
    if "two" in name:
        kernel = gp.RBF([0.5, 0.6]) + 0.5 * gp.RBF([0.1, 0.2])
    if "noise" in name:
        noise = gp.FixedNoise(rng.uniform(0.05, 0.2, 120))
    if "missing" in name:
        y[rng.random(120) < 0.3] = np.nan
        noise = 0.1
    return gp.GP(kernel, gp.ConstantMean(0.1), noise=noise), gp.Data(grid, y)


CASES = ["noise", "missing", "additive", "two", "additive noise", "two missing"]


@pytest.mark.parametrize("name", CASES)
def test_against_dense(name, rng):
    model, data = case(name, rng)
    ours = gp.condition(model, data, gp.GridIterativeInference(probes=300))
    dense = gp.condition(model, gp.Data(data.X.points(), data.y), gp.DenseInference())
    assert ours.info.converged and ours.info.residual < 1e-7
    np.testing.assert_allclose(ours.alpha, dense.alpha, rtol=1e-5, atol=1e-6)
    allowed = 4 * ours.info.standard_error + 1e-7
    assert abs(ours.log_det - dense.log_det) < allowed
    assert ours.info.standard_error < 0.02 * abs(dense.log_det)
    scale = max(np.abs(g).max() for g in dense.gradient()[:-1])
    for a, b in zip(ours.gradient(), dense.gradient(), strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.linalg.norm(a - b) <= 0.2 * max(scale, np.linalg.norm(b))
    Z = data.X.points()[:7] + 0.03
    for method in ("latent_mean", "latent_variance", "latent_covariance"):
        np.testing.assert_allclose(getattr(ours, method)(Z), getattr(dense, method)(Z), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.inverse_diagonal(), dense.inverse_diagonal(), rtol=1e-5)


def test_exact_where_the_preconditioner_is(rng):
    # one product and one noise variance: B is P, and nothing is left to estimate
    model, data = case("plain", rng)
    ours = gp.condition(model, data, gp.GridIterativeInference())
    exact = gp.condition(model, data, gp.KroneckerInference())
    np.testing.assert_allclose(ours.log_marginal_likelihood(), exact.log_marginal_likelihood(), rtol=1e-9)
    for a, b in zip(ours.gradient(), exact.gradient(), strict=True):
        np.testing.assert_allclose(np.sum(a), np.sum(b), rtol=1e-6)
    assert ours.info.standard_error < 1e-8 and ours.info.iterations <= 3


def test_the_same_key_gives_the_same_numbers(rng):
    model, data = case("additive", rng)
    first, again, other = (
        gp.condition(model, data, gp.GridIterativeInference(key=key)).log_det for key in (0, 0, 1)
    )
    assert first == again and first != other


def test_the_plan_by_size(rng):
    model, data = case("additive", rng)
    assert "dense" in gp.condition(model, data).method
    axis = gp.Regular(0.0, 0.05, 120)
    text = str(gp.explain(model, gp.Grid(axis, axis)))
    assert "by gp:represent/grid-terms" in text and "by gp:condition/grid-iterative" in text
    prior = model.prior(gp.Grid(axis, axis))
    assert isinstance(prior, ops.Sum) and all(isinstance(M, ops.Kronecker) for M in prior.Ms)


def test_fit_of_an_additive_model(rng):
    model, data = case("additive", rng)
    fitted = gp.fit(model, data, alg=gp.GridIterativeInference(probes=30), max_iters=20)
    exact = gp.fit(model, gp.Data(data.X.points(), data.y), alg=gp.DenseInference(), max_iters=60)
    value = gp.marginal_likelihood(fitted.model, gp.Data(data.X.points(), data.y), gp.DenseInference())
    assert value > exact.log_likelihood - 1.0


def test_what_is_refused_says_why(rng):
    axis = gp.Regular(0.0, 0.05, 50)
    data = gp.Data(gp.Grid(axis, axis), rng.normal(size=2500))
    model = gp.GP(ADDITIVE, noise=0.1)
    with pytest.raises(MemoryBudgetError, match="up to 2000"):
        gp.condition(model, data, gp.GridIterativeInference(probes=2)).inverse_diagonal()
    radial = gp.GP(gp.Matern32(0.3), noise=gp.FixedNoise(np.full(2500, 0.1)))
    assert "not a sum of products over the axes" in str(gp.explain(radial, data))


def test_hard_problems_warn(rng):
    axis = gp.Regular(0.0, 0.02, 40)
    y = rng.normal(size=1600)
    y[rng.random(1600) < 0.5] = np.nan
    model = gp.GP(gp.ActiveDims(gp.Matern12(0.5), 0) * gp.ActiveDims(gp.Matern12(0.5), 1), noise=1e-7)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = gp.condition(model, gp.Data(gp.Grid(axis, axis), y), gp.GridIterativeInference(probes=2))
    assert any(w.category is ConvergenceWarning and "random vectors" in str(w.message) for w in seen)
    assert found.info.converged is False and "not" in found.info.reason


def test_torch(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, data = case("two missing", rng)
    alg = gp.GridIterativeInference(probes=300)
    expected = gp.condition(model, data, alg)
    X = gp.GridSubset(
        gp.Grid(*(torch.tensor(P[:, 0]) for P in data.X.axis_points())),
        torch.tensor(data.X.index),
        torch.tensor(data.X.missing),
    )
    there = gp.condition(model, gp.Data(X, torch.tensor(data.y)), alg)
    np.testing.assert_allclose(there.alpha, expected.alpha, rtol=1e-6, atol=1e-7)
    scatter = np.hypot(float(there.info.standard_error), expected.info.standard_error)
    assert abs(float(there.log_det) - expected.log_det) < 4 * scatter
    scale = max(np.abs(g).max() for g in expected.gradient())
    for a, b in zip(there.gradient(), expected.gradient(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.1, atol=0.1 * scale)


def test_jax(rng):
    # few shapes: JAX compiles every operation
    jax = pytest.importorskip("jax", reason="jax is not installed")
    model, data = case("noise", rng)
    model = model.replace(noise=gp.FixedNoise(np.linspace(0.08, 0.12, 120)))
    alg = gp.GridIterativeInference(probes=2, steps=20)
    expected = gp.condition(model, data, alg)
    with jax.enable_x64(True):
        X = gp.Grid(*(jax.numpy.asarray(P[:, 0]) for P in data.X.axis_points()))
        there = gp.condition(model, gp.Data(X, jax.numpy.asarray(data.y)), alg)
        np.testing.assert_allclose(np.asarray(there.alpha), expected.alpha, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", [SMOOTH, ADDITIVE], ids=["product", "sum"])
def test_other_likelihoods_keep_a_form_with_gradients(kernel, rng):
    axis = gp.Regular(0.0, 0.1, 10)
    grid = gp.Grid(axis, axis)
    data = gp.Data(grid, (rng.random(100) < 0.5) * 1.0)
    model = gp.GP(kernel, noise=gp.BernoulliLikelihood())
    assert "BernoulliLikelihood is not Gaussian" in str(gp.explain(model, data))
    conditioned = gp.condition(model, data)
    assert all(np.all(np.isfinite(g)) for g in conditioned.gradient())

"""White noise inside of kernels does not hide their structure."""

import contextlib

import numpy as np
import pytest

import cola_gp as gp
from cola_core.backends import get_backend
from cola_gp._struct import leaves, named_leaves, with_leaves

GRID = gp.Grid(np.linspace(0, 2, 4), np.array([0.0, 0.3, 1.1]))
SMOOTH = 1.3 * gp.RBF([0.7, 1.1])


def setups():
    rng = np.random.default_rng(3)
    line = rng.uniform(0, 4, (25, 1))
    return {
        "grid": (gp.GP(SMOOTH + gp.White(0.2), noise=0.1), GRID, "gp:represent/kronecker"),
        "two-terms": (
            gp.GP(gp.White(0.05) + SMOOTH + 0.5 * gp.White(0.3), gp.ConstantMean(0.4), 0.1),
            GRID,
            "gp:represent/kronecker",
        ),
        "low-rank": (gp.GP(gp.Linear(0.7) + gp.White(0.2), noise=0.1), line, "gp:represent/low-rank"),
        "nested": (
            gp.GP(gp.Sum(gp.White(0.1), gp.Linear(1.0), gp.Constant(0.5)), noise=1e-3),
            line,
            "gp:represent/low-rank",
        ),
        "dense": (gp.GP(gp.RBF(0.8) + gp.White(0.2), noise=0.1), line, "gp:represent/dense"),
    }


SETUPS = setups()


@pytest.fixture(params=sorted(SETUPS))
def setup(request):
    return SETUPS[request.param]


def reference(model, points, y):
    K = model.kernel(points) + np.diag(model.noise.variances(y))
    r = y - model.mean(points)
    return -0.5 * (r @ np.linalg.solve(K, r) + np.linalg.slogdet(2 * np.pi * K)[1])


def test_values_derivatives_and_predictions(setup, rng):
    model, X, form = setup
    points = X.points() if isinstance(X, gp.Grid) else X
    y = rng.normal(size=len(points))
    data = gp.Data(X, y)
    plan = gp.explain(model, data)
    assert plan.root.by == "gp:condition/white"
    assert plan.root.children[0].children[0].by == form
    want = reference(model, points, y)
    value, gradient = gp.value_and_gradient(model, data)
    assert float(value) == pytest.approx(want, rel=1e-10)
    assert float(gp.marginal_likelihood(model, data)) == pytest.approx(want, rel=1e-10)
    start = leaves(model)
    assert [np.shape(g) for g in gradient] == [np.shape(v) for v in start]
    for i, (name, leaf, _) in enumerate(named_leaves(model)):
        for j in range(leaf.size):
            ends = []
            for sign in (1, -1):
                moved = [np.array(v) for v in start]
                moved[i].flat[j] += sign * 1e-5
                ends.append(reference(with_leaves(model, moved), points, y))
            slope = (ends[0] - ends[1]) / 2e-5
            assert np.ravel(gradient[i])[j] == pytest.approx(slope, rel=1e-5, abs=1e-6), name
    Z = rng.normal(size=(5, points.shape[1]))
    posterior = gp.Posterior(model, data)
    K = model.kernel(points) + np.diag(model.noise.variances(y))
    C = model.kernel(Z, points)
    np.testing.assert_allclose(
        posterior.mean(Z),
        model.mean(Z) + C @ np.linalg.solve(K, y - model.mean(points)),
        rtol=1e-7,
        atol=1e-8,
    )
    covariance = model.kernel(Z, Z) - C @ np.linalg.solve(K, C.T)
    np.testing.assert_allclose(posterior.covariance(Z), covariance, rtol=1e-6, atol=1e-8)
    white = model.kernel.diag(Z) - model.kernel.cross_diag(Z)
    noisy = posterior.variance(Z, include_noise=True) - posterior.variance(Z)
    np.testing.assert_allclose(noisy, white + np.exp(model.noise.log_variance), rtol=1e-8)
    loo = posterior.leave_one_out()
    np.testing.assert_allclose(loo.variance, 1 / np.diag(np.linalg.inv(K)), rtol=1e-7)
    paths = posterior.paths(2000, key=1)(Z)
    assert np.abs(paths.mean(axis=0) - posterior.mean(Z)).max() < 6 * np.sqrt(
        np.diag(covariance).max() / 2000
    )


def test_where_it_stays(rng):
    X = rng.normal(size=(8, 1))
    fixed = gp.GP(gp.RBF() + gp.White(0.1), noise=gp.FixedNoise(np.full(8, 0.2)))
    alone = gp.GP(gp.White(0.1), noise=0.2)
    y = rng.normal(size=8)
    for model, why in ((fixed, "FixedNoise is not one common"), (alone, "nothing but white noise")):
        plan = gp.explain(model, gp.Data(X, y))
        assert plan.root.by == "gp:condition/represent" and why in str(plan)
        assert float(gp.value_and_gradient(model, gp.Data(X, y))[0]) == pytest.approx(reference(model, X, y))
    tiny = gp.GP(gp.Linear(1.0) + gp.White(1e-300), noise=1e-2)
    assert float(gp.marginal_likelihood(tiny, gp.Data(X, y))) == pytest.approx(
        reference(tiny, X, y), rel=1e-9
    )


def test_a_fit_keeps_the_model_as_it_was_written(rng):
    y = rng.normal(size=12)
    model = gp.GP(SMOOTH + gp.White(0.2), noise=0.1)
    result = gp.fit(model, gp.Data(GRID, y), fixed=["noise.variance"], max_iters=5)
    assert [n for n, _, _ in named_leaves(result.model)] == [n for n, _, _ in named_leaves(model)]
    assert result.method == "Kronecker eigenbasis"


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library, rng):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    model, X, _ = SETUPS["two-terms"]
    y = rng.normal(size=12)
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    with module.enable_x64(True) if library == "jax" else contextlib.nullcontext():
        backend = get_backend(library)
        data = gp.Data(gp.Grid(*(backend.asarray(a) for a in X.axes)), backend.asarray(y))
        theirs, parts = gp.value_and_gradient(model, data)
        assert float(theirs) == pytest.approx(float(value), rel=1e-10)
        for ours, other in zip(gradient, parts, strict=True):
            np.testing.assert_allclose(backend.to_numpy(other), ours, rtol=1e-8, atol=1e-10)
        if library == "torch":
            start = [module.tensor(np.asarray(v), requires_grad=True) for v in leaves(model)]
            gp.marginal_likelihood(with_leaves(model, start), data).backward()
            for ours, leaf in zip(gradient, start, strict=True):
                np.testing.assert_allclose(leaf.grad.numpy(), ours, rtol=1e-7, atol=1e-9)

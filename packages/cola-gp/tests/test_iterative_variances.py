"""Variances of iterative inference: bounds, the cached root, solves, and what is told of their errors."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core import PSD, ops
from cola_core.backends import get_backend
from cola_core.errors import ConvergenceWarning
from cola_gp.inference import DenseInference, IterativeInference, condition, variances
from cola_gp.inference.nearest import Nearest
from cola_gp.inference.whitening import Whitening


def problem(seed, kernel, n=150, d=2):
    """Points, some of them twice, and noise that differs from point to point."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, d)) * 3
    X[-5:] = X[:5]
    y = np.sin(X.sum(axis=1)) + 0.2 * rng.normal(size=n)
    model = gp.GP(kernel, noise=gp.FixedNoise(rng.uniform(0.01, 0.1, n)))
    return model, gp.Data(X, y), rng.uniform(-0.5, 3.5, size=(90, d))


@pytest.fixture
def few(monkeypatch):
    """Few neighbours and directions, so that bounds of small problems are not exact."""
    monkeypatch.setattr(variances, "NEIGHBOURS", (6, 9, 12))
    monkeypatch.setattr(variances, "DIRECTIONS", 8)


ROUGH, LONG = 1.5 * gp.Matern12(0.3), 1.5 * gp.RBF([1.5, 1.5])
KERNELS = {
    "rough": ROUGH,
    "long": LONG,
    "white": 1.2 * gp.Matern32([0.9, 1.2]) * gp.Matern52(2.0) + gp.White(0.02) + gp.Constant(0.3),
    "not stationary": gp.Matern52([0.9, 1.2]) * (gp.Linear(0.5) + gp.Constant(1.0)),
}


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_bounds_are_the_best_predictions_from_their_functionals(library):
    pytest.importorskip(library)
    be = get_backend(library)
    name, nugget = ("rough", 0.0) if library == "jax" else ("white", 0.02)
    model, data, Z = problem(0, KERNELS[name], n=60)
    Z = Z[:7]
    d = np.asarray(model.noise.variance) + nugget
    A = np.array(model.kernel(data.X, data.X)) + np.diag(d)
    white = Whitening.of(model.kernel, data.X, d, 30, 0)
    L = white.scale[:, None] * white.U[:, -5:]
    cross, prior = model.kernel(data.X, Z), model.kernel.cross_diag(Z)
    exact = prior - np.sum(cross * np.linalg.solve(A, cross), axis=0)
    want = {}
    for count in (0, 5):
        for i in range(7):
            near = np.argsort(cross[:, i] ** 2 / np.diag(A))[-9:]
            T = np.concatenate([np.eye(60)[:, near], L[:, :count]], axis=1)
            seen = T.T @ cross[:, i]
            want[count, i] = prior[i] - seen @ np.linalg.solve(T.T @ A @ T, seen)
    plain = Nearest(model.kernel, be.asarray(data.X), be.asarray(d), 9)
    moved = Whitening(*(be.asarray(x) for x in (white.d, white.U, white.square, white.trace_error)))
    both = plain.with_directions(PSD(ops.Dense(be.asarray(A))), moved, 5)
    assert "5 directions" in both.words
    found = be.to_numpy(both.variance(be.asarray(Z)))
    rtol = 1e-8 if found.dtype == np.float64 else 1e-3  # JAX has no doubles unless it was told so
    np.testing.assert_allclose(found, [want[5, i] for i in range(7)], rtol=rtol)
    assert (exact < found).all()
    if library != "jax":  # compiled too slowly for more
        first = be.to_numpy(plain.variance(be.asarray(Z)))
        np.testing.assert_allclose(first, [want[0, i] for i in range(7)], rtol=rtol)
        assert (found < first).all()
        np.testing.assert_allclose(be.to_numpy(plain.among(99).variance(be.asarray(Z))), exact, rtol=rtol)


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
def test_bounds_are_never_below_and_off_by_what_is_told(few, name):
    off, told = [], []
    for seed in range(4):
        model, data, Z = problem(seed, KERNELS[name])
        alg = IterativeInference(tol=1.0, rank=40, samples=2, key=seed, variance="bound", variance_tol=0.02)
        found = condition(model, data, alg)
        want, got = condition(model, data, DenseInference()).latent_variance(Z), found.latent_variance(Z)
        assert (got > want - 1e-9).all()
        info = found.variance_info
        assert "nearest" in info.method
        assert info.converged == (info.error_estimate <= 0.02 * (got.mean() + 0.1 * found.white.d.mean()))
        off.append(np.sqrt(np.mean((got - want) ** 2)))
        told.append(found.variance_errors["prediction"])
    # a few points speak for all
    assert 0.3 < np.mean(told) / np.mean(off) < 3 or np.mean(off) < 1e-5


def test_the_way_follows_from_what_is_measured(few):
    for kernel, words in ((LONG, "cached inverse root"), (gp.Matern12(0.02), "6 nearest")):
        model, data, Z = problem(1, kernel)
        found = condition(model, data, IterativeInference(tol=1.0, rank=60, samples=4))
        want = condition(model, data, DenseInference()).latent_variance(Z)
        np.testing.assert_allclose(found.latent_variance(Z), want, rtol=2e-2)
        assert words in found.variance_info.method and found.variance_info.converged
        np.testing.assert_allclose(found.latent_variance(Z[:9]), want[:9], rtol=1e-6)
        assert found.variance_info.method == variances.SOLVED


def test_what_is_asked_for_is_taken(few):
    model, data, Z = problem(2, ROUGH)
    want = condition(model, data, DenseInference()).latent_variance(Z)

    def of(way):
        alg = IterativeInference(tol=1.0, rank=20, samples=4, variance=way, variance_tol=5.0)
        found = condition(model, data, alg)
        return found.latent_variance(Z), found.variance_info

    solved, info = of("solve")
    np.testing.assert_allclose(solved, want, rtol=1e-5)
    assert info.error_estimate < 1e-6
    assert "root" in of("root")[1].method
    bound, info = of("bound")
    assert "nearest" in info.method and (bound > want).all()
    with pytest.raises(ValueError, match="variance"):
        IterativeInference(variance="exact")


def test_other_points_are_measured_anew():
    """What is good enough beside large variances need not be beside small ones."""
    model, data, Z = problem(3, ROUGH)
    found = condition(model, data, IterativeInference(tol=1.0, rank=20, samples=4, variance="root"))
    found.alg.__dict__["variance_tol"] = 0.5
    far = found.latent_variance(Z + 50.0)
    np.testing.assert_allclose(far, 1.5, rtol=1e-6)
    before = found.variance_info.error_estimate
    with pytest.warns(ConvergenceWarning, match="variances miss"):
        found.latent_variance(np.repeat(data.X[:5], 20, axis=0) + 1e-3)
    assert found.variance_info.error_estimate > 10 * before and not found.variance_info.converged


def test_solves_that_end_early_are_told():
    model, data, Z = problem(3, ROUGH)
    with pytest.warns(ConvergenceWarning):
        found = condition(model, data, IterativeInference(tol=1.0, rank=5, samples=2, max_iters=4))
    with pytest.warns(ConvergenceWarning, match="max_iters"):
        got = found.latent_variance(Z[:20])
    want = condition(model, data, DenseInference()).latent_variance(Z[:20])
    assert 0 < np.abs(got - want).max() < found.variance_errors["prediction"]


def test_single_precision_does_not_cancel(few):
    model, data, Z = problem(4, LONG)
    model = gp.GP(model.kernel, noise=1e-4)
    narrow = gp.Data(data.X.astype(np.float32), data.y.astype(np.float32))
    wide = gp.Data(narrow.X.astype(float), narrow.y.astype(float))
    Z = np.clip(Z, 0.2, 2.8).astype(np.float32)
    want = condition(model, wide, DenseInference()).latent_variance(Z.astype(float))
    assert want.min() < 1e-4
    for way, rtol in (("bound", 1e9), ("solve", 1e-3)):
        alg = IterativeInference(tol=1.0, samples=4, variance=way, variance_tol=1e9)
        got = condition(model, narrow, alg).latent_variance(Z)
        assert got.dtype == np.float32 and (got > want * (1 - 1e-3)).all()
        np.testing.assert_allclose(got, want, rtol=rtol)


def test_posteriors_hand_them_on():
    model, data, Z = problem(5, ROUGH)
    posterior = gp.Posterior(model, data, IterativeInference(tol=1.0, rank=20, samples=4))
    exact = gp.Posterior(model, data)
    assert posterior.variance_info is None and exact.variance_info is None
    np.testing.assert_allclose(posterior.variance(Z), exact.variance(Z), rtol=1e-2)
    assert "nearest" in posterior.variance_info.method and exact.variance_info is None


@pytest.mark.parametrize(("d", "noise"), [(1, 1e-8), (2, 1e-10)])
@pytest.mark.parametrize("variance", ["auto", "bound"])
@pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
def test_noise_near_rounding_is_no_error_and_what_is_told_covers_it(d, noise, variance):
    rng = np.random.default_rng(0)
    X, Z = rng.random((400, d)), rng.random((100, d))
    X[1] = X[0]
    model, data = gp.GP(gp.RBF(np.full(d, 0.3)), noise=noise), gp.Data(X, np.sin(5 * X[:, 0]))
    posterior = gp.Posterior(model, data, gp.IterativeInference(variance=variance, max_iters=100))
    found = posterior.variance(Z)
    dense = gp.Posterior(model, data, gp.DenseInference()).variance(Z)
    off = float(np.sqrt(np.mean((found - dense) ** 2)))
    # the reference itself is known up to the rounding of a solve of this condition
    assert np.all(found >= 0) and off <= 5 * posterior.variance_info.error_estimate + 1e-16 / noise**0.5

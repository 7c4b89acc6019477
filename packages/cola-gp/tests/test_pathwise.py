"""Draws of priors and posteriors: their means and covariances against closed forms, for every structure."""

import contextlib

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ConvergenceWarning
from cola_gp.kernels.prior_features import PriorFeatures, spectral_draw
from cola_gp.pathwise import without_white

COUNT = 6000


def check_moments(draws, mean, covariance, slack=0.0, limit=5.0):
    """Means and covariances within ``limit`` standard errors (and ``slack`` of the variance for features)."""
    n = draws.shape[0]
    d = np.diagonal(covariance)
    scale = np.sqrt(np.outer(d, d))
    tiny = 1e-9 * d.max()
    assert np.all(np.abs(draws.mean(axis=0) - mean) <= limit * np.sqrt(d / n) + tiny)
    error = np.abs(np.cov(draws.T) - covariance)
    assert np.all(error <= limit * np.sqrt((scale**2 + covariance**2) / n) + slack * d.max() + tiny)


def scattered(n=25, d=1):
    rng = np.random.default_rng(7)
    X = rng.uniform(-2, 2, size=(n, d))
    return X, np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=n)


GRID = gp.Grid(np.linspace(0, 1, 5), np.linspace(0, 2, 4))


def grid_cases():
    rng = np.random.default_rng(1)
    y = rng.normal(size=20)
    gaps = y.copy()
    gaps[[3, 4, 11]] = np.nan
    return {"full": y, "missing": gaps}


KERNELS = {
    "rbf": 1.3 * gp.RBF(0.7),
    "matern12": gp.Matern12(0.9),
    "matern52": 0.5 * gp.Matern52(0.9),
    "rq": gp.RationalQuadratic(0.8, 0.7),
    "periodic": gp.Periodic(0.9, 1.7),
    "spectral": gp.SpectralMixture([0.4, 1.1], [0.2, 0.5], [0.2, 0.3]),
    "sum": gp.RBF(0.7) + 0.3 * gp.Matern32(0.4) + gp.Linear(0.2) + gp.White(0.3),
    "product": 1.2 * gp.RBF(1.5) * gp.Periodic(1.1, 0.9) * (gp.Linear(0.4) + gp.Constant(0.6)),
    "deep": gp.Deep(gp.RBF(0.8), gp.Affine(np.array([[0.7, 0.2]]), np.array([0.1, 0.0]))),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_features_average_to_the_kernel(name, rng):
    kernel = KERNELS[name]
    X = rng.uniform(-2, 2, size=(9, 1))
    wanted = kernel(X, X)
    drawn = []
    for key in range(30):
        U = PriorFeatures(kernel, X, 64, key)(X)
        drawn.append(U @ U.T)
    error = np.std(drawn, axis=0, ddof=1) / np.sqrt(30) + 1e-3 * wanted.max()
    assert np.max(np.abs(np.mean(drawn, axis=0) - wanted) / error) < 5.0
    features = PriorFeatures(kernel, X, 2048, 0)
    U = features(X)
    w = rng.normal(size=(U.shape[1], 1))
    np.testing.assert_allclose(features.times(X, w), U @ w, rtol=1e-9, atol=1e-9)
    assert np.abs(U @ U.T - wanted).max() < 0.03 * np.diagonal(wanted).max()


def test_features_in_several_dimensions(rng):
    X = rng.uniform(-1, 1, size=(8, 3))
    kernel = gp.ActiveDims(gp.Periodic([0.9, 1.2], [1.7, 2.0]), (0, 2)) * gp.Matern52([0.5, 1.0, 2.0])
    kernel = kernel + gp.SpectralMixture([0.7, 0.4], [[0.1, 0.3, 0.2]] * 2, [[0.2, 0.1, 0.3]] * 2)
    U = PriorFeatures(kernel, X, 4096, 1)(X)
    assert np.abs(U @ U.T - kernel(X, X)).max() < 0.06 * np.diagonal(kernel(X)).max()
    finite = PriorFeatures(gp.Linear(0.3) + gp.Constant(0.2), X, 16, 0)
    assert finite.exact and finite(X).shape == (8, 4)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_paths_have_the_posterior_distribution(name):
    X, y = scattered()
    Z = np.array([[-2.5], [-1.0], [0.3], [1.1], [2.6]])
    posterior = gp.Posterior(gp.GP(KERNELS[name], gp.ConstantMean(0.2), 0.05), gp.Data(X, y))
    paths = posterior.paths(COUNT, key=3)
    assert paths.error < 0.02
    check_moments(paths(Z), posterior.mean(Z), posterior.covariance(Z), slack=0.02)


def every_structure():
    X, y = scattered(40)
    rng = np.random.default_rng(5)
    smooth = gp.Data(X, y)
    gaps = grid_cases()["missing"]
    spaced = gp.Grid(gp.Regular(-2.0, 0.2, 21))
    return {
        "dense, white": (gp.GP(1.2 * gp.RBF(0.7) + gp.White(0.1), noise=0.05), smooth, gp.DenseInference()),
        "iterative": (gp.GP(1.2 * gp.RBF(0.7), noise=0.05), smooth, gp.IterativeInference()),
        "state space": (gp.GP(1.2 * gp.Matern52(0.7), noise=0.05), smooth, gp.StateSpaceInference()),
        "toeplitz": (gp.GP(1.2 * gp.RBF(0.7), noise=0.05), gp.Data(spaced, np.sin(np.arange(21.0))), None),
        "grid": (gp.GP(1.3 * gp.RBF([0.3, 0.5]), noise=0.1), gp.Data(GRID, grid_cases()["full"]), None),
        "missing": (gp.GP(1.3 * gp.RBF([0.3, 0.5]), noise=0.1), gp.Data(GRID, gaps), None),
        "noise per observation": (
            gp.GP(gp.Matern32(0.8), noise=gp.FixedNoise(rng.uniform(0.05, 0.5, 40))),
            smooth,
            None,
        ),
        "laplace": (
            gp.GP(2.0 * gp.RBF(0.7), noise=gp.BernoulliLikelihood()),
            gp.Data(X, (y > 0).astype(float)),
            None,
        ),
        "expectation propagation": (
            gp.GP(2.0 * gp.RBF(0.7), noise=gp.BernoulliLikelihood(link="probit")),
            gp.Data(X, (y > 0).astype(float)),
            gp.EPInference(),
        ),
    }


@pytest.mark.parametrize("name", sorted(every_structure()))
def test_paths_by_every_structure(name):
    model, data, alg = every_structure()[name]
    posterior = gp.Posterior(model, data) if alg is None else gp.Posterior(model, data, alg)
    Z = np.array([[-2.5], [-1.0], [0.3], [1.1]])
    if data.X.shape[1] == 2:
        Z = np.array([[0.1, 0.3], [0.9, 1.5], [0.5, 2.2]])
    draws = posterior.sample(Z, COUNT, key=3, method="paths")
    check_moments(draws, posterior.mean(Z), posterior.covariance(Z), slack=0.02)


@pytest.mark.parametrize("method", ["vfe", "fitc"])
def test_paths_through_inducing_points(method):
    X, y = scattered(40)
    Z = np.array([[-2.5], [-1.0], [0.3], [2.6]])
    kernel = gp.Inducing(1.2 * gp.Matern52(0.8), X[::5], method)
    posterior = gp.Posterior(gp.GP(kernel, gp.ConstantMean(0.2), 0.05), gp.Data(X, y))
    check_moments(posterior.paths(COUNT, key=3)(Z), posterior.mean(Z), posterior.covariance(Z), slack=0.02)


@pytest.mark.parametrize(
    "kernel", [gp.Linear(0.5) + gp.Constant(0.3), gp.Nystrom(gp.RBF(1.0), np.arange(3.0))]
)
def test_paths_of_finite_rank_are_exact(kernel):
    X, y = scattered(40)
    posterior = gp.Posterior(gp.GP(kernel, noise=0.05), gp.Data(X, y))
    assert "low rank" in posterior.method
    Z = np.array([[-2.5], [0.3], [2.6]])
    paths = posterior.paths(COUNT, key=3)
    assert paths.exact and paths.error == 0.0
    check_moments(paths(Z), posterior.mean(Z), posterior.covariance(Z))


def test_solves_of_the_iterative_posterior(rng):
    X, y = scattered(60)
    model = gp.GP(1.2 * gp.RBF(0.7) + gp.White(0.1), noise=0.05)
    B = rng.normal(size=(60, 3))
    found = gp.condition(model, gp.Data(X, y), gp.IterativeInference(solve_tol=1e-10)).solve(B)
    np.testing.assert_allclose(found, np.linalg.solve(model.kernel(X) + 0.05 * np.eye(60), B), rtol=1e-6)


def test_a_path_is_one_function_and_keys_matter():
    X, _ = scattered()
    y = np.sin(2 * X[:, 0])
    posterior = gp.Posterior(gp.GP(gp.RBF(0.7), noise=1e-6), gp.Data(X, y))
    paths = posterior.paths(3, key=0)
    Z = np.linspace(-3, 3, 40)[:, None]
    whole = paths(Z)
    assert whole.shape == (3, 40)
    np.testing.assert_allclose(np.concatenate([paths(Z[:17]), paths(Z[17:])], axis=1), whole, rtol=1e-12)
    np.testing.assert_array_equal(posterior.paths(3, key=0)(Z), whole)
    assert not np.allclose(posterior.paths(3, key=1)(Z), whole)
    np.testing.assert_allclose(
        paths(X), np.broadcast_to(y, (3, 25)), atol=0.02
    )  # little noise: through the data


@pytest.mark.parametrize("name", sorted(grid_cases()))
def test_structured_draws_on_a_grid(name):
    model = gp.GP(1.3 * gp.RBF([0.3, 0.5]), gp.ConstantMean(0.4), 0.1)
    data = gp.Data(GRID, grid_cases()[name])
    posterior = gp.Posterior(model, data)
    draws = posterior.sample(GRID, COUNT, key=2, method="structure")
    check_moments(draws, posterior.mean(GRID), posterior.covariance(GRID))
    noisy = posterior.sample(GRID, COUNT, key=2, method="structure", include_noise=True)
    check_moments(noisy, posterior.mean(GRID), posterior.covariance(GRID, include_noise=True))


def test_structured_draws_take_no_square_matrix_on_a_large_grid():
    # 40,000 points: their joint covariance would take 12.8 GB
    grid = gp.Grid(np.linspace(0, 1, 200), np.linspace(0, 1, 200))
    model = gp.GP(gp.RBF([0.1, 0.2]), noise=0.01)
    truth = gp.sample_prior(model, grid, 1, key=5)[0]
    posterior = gp.Posterior(model, gp.Data(grid, truth))
    draws = posterior.sample(grid, 2, key=0)
    assert draws.shape == (2, 40000)
    spread = np.sqrt(np.mean((draws - posterior.mean(grid)) ** 2))
    assert 0.0 < spread < 0.1  # between nothing and the noise's standard deviation


def test_structured_draws_in_time(rng):
    t = rng.uniform(0, 60, size=(400, 1))  # in no order
    data = gp.Data(t, np.sin(t[:, 0]))
    model = gp.GP(1.2 * gp.Matern32(2.0), gp.ConstantMean(0.3), 0.1)
    Z = np.array([[-3.0], [30.1], [5.0], [t[7, 0]], [66.0], [30.4]])
    posterior = gp.Posterior(model, data)
    draws = posterior.sample(Z, COUNT, key=2, method="structure")
    dense = gp.Posterior(model, data, gp.DenseInference())
    check_moments(draws, dense.mean(Z), dense.covariance(Z))


def test_prior_draws_on_an_equally_spaced_axis():
    axis = gp.Grid(gp.Regular(0.0, 0.5, 9))
    model = gp.GP(1.2 * gp.RBF(0.7), noise=0.1)
    check_moments(gp.sample_prior(model, axis, COUNT, key=1), np.zeros(9), model.kernel(axis.points()))


@pytest.mark.parametrize("inputs", ["points", "grid", "line"])
def test_prior_draws(inputs):
    kernel = 1.3 * gp.RBF(0.8) + gp.White(0.2) if inputs != "grid" else 1.3 * gp.RBF([0.3, 0.5])
    X = {"points": scattered(6, 2)[0], "grid": GRID, "line": np.linspace(0, 1, 7)[:, None]}[inputs]
    places = X.points() if inputs == "grid" else X
    model = gp.GP(kernel, gp.ConstantMean(0.4), 0.3)
    mean, latent = np.full(len(places), 0.4), kernel(places, places)
    check_moments(gp.sample_prior(model, X, COUNT, key=1), mean, latent)
    noisy = kernel(places) + 0.3 * np.eye(len(places))
    check_moments(gp.sample_prior(model, X, COUNT, key=1, include_noise=True), mean, noisy)


def test_prior_draws_of_finite_rank_and_of_nothing():
    X = np.linspace(-1, 1, 8)[:, None]
    model = gp.GP(gp.Linear(0.5) + gp.Constant(0.2), noise=0.1)
    check_moments(gp.sample_prior(model, X, COUNT, key=1), np.zeros(8), model.kernel(X))
    silent = gp.sample_prior(gp.GP(gp.White(0.5), noise=0.1), X, 3, key=1)
    np.testing.assert_array_equal(silent, np.zeros((3, 8)))
    assert without_white(gp.RBF(1.0) * gp.White(1.0) + 2.0 * gp.White(1.0)) is None
    assert without_white(gp.ActiveDims(gp.RBF(1.0) + gp.White(1.0), 0)).kernel.log_lengthscale == 0.0


def test_joint_draws_at_training_and_test_points():
    """The joint distribution of the latent function at both, as one covariance."""
    X, y = scattered(8)
    both = np.concatenate([X[:4], np.array([[0.15], [2.4]])])
    posterior = gp.Posterior(gp.GP(gp.Matern32(0.8), noise=0.1), gp.Data(X, y))
    want = posterior.mean(both), posterior.covariance(both)
    check_moments(posterior.sample(both, COUNT, key=4), *want)
    check_moments(posterior.sample(both, COUNT, key=4, method="paths"), *want, slack=0.02)


def test_many_points_are_drawn_as_functions():
    X, y = scattered()
    posterior = gp.Posterior(gp.GP(1.1 * gp.RBF(0.7), noise=0.05), gp.Data(X, y))
    Z = np.linspace(-3, 3, 6000)[:, None]
    draws = posterior.sample(Z, 4, key=0)
    assert draws.shape == (4, 6000)
    assert np.abs(np.diff(draws, axis=1)).max() < 0.05  # smooth, as the kernel is
    noisy = posterior.sample(Z, 4, key=0, include_noise=True)
    assert np.std(noisy - draws) == pytest.approx(np.sqrt(0.05), rel=0.05)


def test_refusals_and_warnings():
    X, y = scattered()
    posterior = gp.Posterior(gp.GP(gp.RBF(0.7), noise=0.05), gp.Data(X, y))
    with pytest.raises(NotImplementedError, match="have no structure"):
        posterior.sample(X[:3] + 0.1, method="structure")
    with pytest.raises(ValueError, match="'auto', 'covariance'"):
        posterior.sample(X, method="exact")
    with pytest.raises(ValueError, match="count >= 1"):
        posterior.paths(0)
    with pytest.warns(ConvergenceWarning, match="random frequencies"):
        posterior.paths(1, features=2)

    class Own(gp.RBF):
        pass

    with pytest.raises(NotImplementedError, match="Own has neither"):
        spectral_draw.dispatch(object)(Own(1.0), np.zeros((2, 2)), 1)


def test_torch_draws():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = scattered()
    Z = np.linspace(-2, 2, 5)[:, None]
    for kernel in (1.1 * gp.Matern52(0.7), gp.Inducing(1.1 * gp.Matern52(0.7), X[::4])):
        model = gp.GP(kernel, noise=0.05)
        ours = gp.Posterior(model, gp.Data(X, y))
        theirs = gp.Posterior(model, gp.Data(torch.tensor(X), torch.tensor(y)))
        draws = np.asarray(theirs.sample(torch.tensor(Z), 3000, key=1, method="paths"))
        check_moments(draws, ours.mean(Z), ours.covariance(Z), slack=0.02)
    draws = np.asarray(gp.sample_prior(model, torch.tensor(Z), 3000, key=1))
    check_moments(draws, np.zeros(5), model.kernel(Z, Z))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_libraries_draw_by_structure(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    with library.enable_x64(True) if name == "jax" else contextlib.nullcontext():
        convert = library.numpy.asarray if name == "jax" else library.tensor
        places = gp.Grid(*(convert(a) for a in GRID.axes))
        y = grid_cases()["full"]
        model = gp.GP(gp.RBF([0.3, 0.5]), noise=0.1)
        posterior = gp.Posterior(model, gp.Data(places, convert(y)))
        draws = np.asarray(posterior.sample(places, 3000, key=1, method="structure"))
        ours = gp.Posterior(model, gp.Data(GRID, y))
        check_moments(draws, ours.mean(GRID), ours.covariance(GRID))
        paths = posterior.paths(2, key=0)(places)  # within the noise of the data, and no draw like another
        assert np.std(np.asarray(paths) - y) < 0.5 and not np.allclose(
            np.asarray(paths[0]), np.asarray(paths[1])
        )


def test_float32():
    X, y = scattered()
    data = gp.Data(X.astype(np.float32), y.astype(np.float32))
    posterior = gp.Posterior(gp.GP(gp.RBF(0.7), noise=0.05), data)
    draws = posterior.paths(3000, key=0)(data.X[:4])
    assert draws.dtype == np.float32
    check_moments(
        draws.astype(float),
        posterior.mean(data.X[:4]).astype(float),
        posterior.covariance(data.X[:4]).astype(float),
        slack=0.02,
    )

"""Preconditioned Lanczos inference against the dense one: values, gradients, error bars, predictions."""

import warnings

import numpy as np
import pytest

import cola_core as cola
import cola_gp as gp
from cola_core.errors import ConvergenceWarning
from cola_gp.inference import DenseInference, IterativeInference, condition
from cola_gp.inference.whitening import Whitening
from cola_gp.kernels.symmetric import pull_low_rank, symmetric, times

N = 400


def flat(gradient):
    return np.concatenate([np.ravel(np.asarray(g)) for g in gradient])


def problem(seed=0, d=2, n=N, noise=0.05, kernel=None):
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, d)) * 3
    y = np.sin(X.sum(axis=1)) + np.sqrt(noise) * rng.normal(size=n)
    kernel = 1.5 * gp.Matern52(np.linspace(0.9, 1.2, d)) if kernel is None else kernel
    return gp.GP(kernel, gp.ConstantMean(0.1), noise), gp.Data(X, y)


KERNELS = {
    "rbf": 1.5 * gp.RBF([0.9, 1.2]),
    "sum with white noise": 1.2 * gp.Matern32([0.9, 1.2]) + gp.White(0.02),
    "product": gp.Matern52([0.9, 1.2]) * (gp.Linear(0.5) + gp.Constant(1.0)),
}


@pytest.mark.parametrize("name", list(KERNELS))
def test_value_and_gradient_within_their_error_bars(name):
    model, data = problem(kernel=KERNELS[name])
    exact = condition(model, data, DenseInference())
    value, gradient = float(exact.log_marginal_likelihood()), flat(exact.gradient())
    for key in range(3):
        found = condition(model, data, IterativeInference(tol=3e-3, key=key, max_samples=64))
        assert found.info.converged and found.info.residual < 1e-4
        assert abs(float(found.log_marginal_likelihood()) - value) < 4 * found.info.standard_error
        np.testing.assert_allclose(found.alpha, exact.alpha, rtol=0, atol=1e-3 * np.abs(exact.alpha).max())
        assert np.linalg.norm(flat(found.gradient()) - gradient) < 0.02 * np.linalg.norm(gradient)
        # reproducible
        again = condition(model, data, IterativeInference(tol=3e-3, key=key, max_samples=64))
        assert float(again.log_marginal_likelihood()) == float(found.log_marginal_likelihood())


def test_errors_have_the_size_that_is_told():
    model, data = problem()
    value = float(condition(model, data, DenseInference()).log_marginal_likelihood())
    # a poor preconditioner and few probes, so that there is an error to tell
    alg = {"tol": 1.0, "rank": 10, "samples": 8, "max_samples": 8}
    found = [condition(model, data, IterativeInference(key=key, **alg)) for key in range(12)]
    off = [float(f.log_marginal_likelihood()) - value for f in found]
    assert 0.5 < np.std(off) / np.mean([f.info.standard_error for f in found]) < 2
    assert abs(np.mean(off)) < 1.2 * np.std(off)


@pytest.mark.parametrize("samples, rank, seeds", [(16, 20, 50), (40, 5, 12)])
def test_coverage_of_the_errors_of_derivatives(samples, rank, seeds):
    """Two standard errors of 16 probes hold the truth in 94 % of the cases, by Student's distribution."""
    model, data = problem(n=150)
    exact = flat(condition(model, data, DenseInference()).gradient())
    alg = {"tol": 1.0, "rank": rank, "samples": samples, "max_samples": samples}
    off = []
    for key in range(seeds):
        found = condition(model, data, IterativeInference(key=key, **alg))
        kernel, noise = found.gradient_error
        errors = np.append(flat(kernel), np.exp(model.noise.log_variance) * noise)
        # that by the mean, the fourth, is not random
        off.append(np.delete(flat(found.gradient()) - exact, 3) / errors)
    assert 0.85 < np.mean(np.abs(off) < 2) < 0.99
    assert 0.7 < np.sqrt(np.mean(np.square(off))) < 1.5


@pytest.mark.parametrize("solve_tol", [1e-5, 3e-2])
def test_errors_are_told_where_a_few_eigenvalues_are_left(solve_tol):
    # by the spread of eight z^T log(B) z alone, some are off by more than six standard errors
    model, data = problem(kernel=KERNELS["rbf"], n=200)
    value = float(condition(model, data, DenseInference()).log_marginal_likelihood())
    alg = {"tol": 1.0, "rank": 25, "samples": 8, "max_samples": 8, "solve_tol": solve_tol}
    found = [condition(model, data, IterativeInference(key=key, **alg)) for key in range(30)]
    off = np.array([(float(f.log_marginal_likelihood()) - value) / f.info.standard_error for f in found])
    assert 0.5 < np.sqrt(np.mean(off**2)) < 1.4 and np.abs(off).max() < 4


def test_what_few_steps_leave_out_is_part_of_the_error():
    model, data = problem(kernel=1.5 * gp.Matern12(0.3), noise=1e-2, n=200)
    value = float(condition(model, data, DenseInference()).log_marginal_likelihood())
    alg = {"tol": 1.0, "rank": 5, "samples": 128, "max_samples": 128, "solve_tol": 1e-12}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = [condition(model, data, IterativeInference(max_iters=m, **alg)) for m in (1, 4, 16, 60)]
    off = [abs(float(f.log_marginal_likelihood()) - value) for f in found]
    told = [f.info.standard_error for f in found]
    assert all(a < 3 * b for a, b in zip(off, told, strict=True))
    assert off[0] > 10 * told[-1] and told[-1] < 0.1 * told[0]


def test_the_control_variate_pays():
    model, data = problem(kernel=KERNELS["rbf"])
    gradient = flat(condition(model, data, DenseInference()).gradient())
    errors = {}
    for rank in (2, 60):
        found = condition(model, data, IterativeInference(rank=rank, samples=8, max_samples=8, tol=1.0))
        errors[rank] = np.linalg.norm(flat(found.gradient()) - gradient) / np.linalg.norm(gradient)
    assert errors[60] < 0.1 * errors[2]


def test_missed_tolerances_are_told():
    model, data = problem()
    with pytest.warns(ConvergenceWarning, match="standard error"):
        found = condition(model, data, IterativeInference(tol=1e-9, rank=5, max_samples=16))
    assert not found.info.converged
    with pytest.warns(ConvergenceWarning, match="step limit"):
        condition(model, data, IterativeInference(rank=1, max_iters=3, tol=10.0))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_predictions(dtype):
    model, data = problem(n=500)
    data = gp.Data(data.X.astype(dtype), data.y.astype(dtype))
    wide = gp.Data(data.X.astype(float), data.y.astype(float))
    exact = condition(model, wide, DenseInference())
    found = condition(model, data, IterativeInference(rank=150))
    assert found.log_marginal_likelihood().dtype == dtype and found.alpha.dtype == dtype
    Z = np.random.default_rng(1).uniform(size=(150, 2)) * 3
    z = Z.astype(dtype)
    Z = z.astype(float)
    np.testing.assert_allclose(found.latent_mean(z), exact.latent_mean(Z), atol=1e-3)
    want = exact.latent_variance(Z)
    few, many = found.latent_variance(z[:20]), found.latent_variance(z)
    assert few.dtype == many.dtype == dtype
    np.testing.assert_allclose(few, want[:20], atol=1e-6)
    error = np.sqrt(np.mean((many - want) ** 2))
    assert error < 4 * found.variance_errors["prediction"] + 1e-6 and error < 0.05 * want.mean()
    covariance = found.latent_covariance(z[:7])
    np.testing.assert_allclose(covariance, exact.latent_covariance(Z[:7]), atol=2e-5)
    np.testing.assert_allclose(found.inverse_diagonal(), exact.inverse_diagonal(), rtol=0.2)


def test_variances_that_cannot_be_cached_are_solved_for_or_told(monkeypatch):
    from cola_gp.inference import variances

    model, data = problem(kernel=1.5 * gp.Matern12(0.3), noise=1e-3)
    found = condition(model, data, IterativeInference(rank=5, tol=1.0, samples=2))
    Z = np.random.default_rng(1).uniform(size=(100, 2)) * 3
    want = condition(model, data, DenseInference()).latent_variance(Z)
    monkeypatch.setattr(variances, "NEIGHBOURS", (1, 1, 1))
    np.testing.assert_allclose(found.latent_variance(Z), want, rtol=1e-4)
    assert found.variance_info.method == variances.SOLVED
    monkeypatch.setattr(variances, "AFFORDABLE", 0.0)
    with pytest.warns(ConvergenceWarning, match="variances miss"):
        told = found.latent_variance(Z)
    error = np.sqrt(np.mean((told - want) ** 2))
    assert error < 5 * found.variance_errors["prediction"]


def test_noise_per_observation_and_duplicates():
    model, data = problem()
    X = np.concatenate([data.X[:200], data.X[:200]])
    noise = gp.FixedNoise(np.random.default_rng(2).uniform(0.02, 0.2, N))
    model, data = gp.GP(model.kernel, noise=noise), gp.Data(X, data.y)
    exact, found = (condition(model, data, alg) for alg in (DenseInference(), IterativeInference()))
    value = float(exact.log_marginal_likelihood())
    assert abs(float(found.log_marginal_likelihood()) - value) < 1e-3 * abs(value)
    want = flat(exact.gradient())
    assert np.linalg.norm(flat(found.gradient()) - want) < 0.02 * np.linalg.norm(want)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_points_are_exact(n):
    model, data = problem(n=n)
    exact, found = (condition(model, data, alg) for alg in (DenseInference(), IterativeInference()))
    np.testing.assert_allclose(
        float(found.log_marginal_likelihood()), float(exact.log_marginal_likelihood()), rtol=1e-2
    )
    Z = data.X[:1] + 0.1
    np.testing.assert_allclose(found.latent_variance(Z), exact.latent_variance(Z), rtol=1e-6)
    np.testing.assert_allclose(found.latent_mean(Z), exact.latent_mean(Z), rtol=1e-6)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    model, data = problem(n=60)
    moved = gp.Data(be.asarray(data.X), be.asarray(data.y))
    exact = condition(model, data, DenseInference())
    found = condition(model, moved, IterativeInference(tol=5e-3, samples=8, max_samples=8, max_iters=20))
    value = float(exact.log_marginal_likelihood())
    assert abs(float(found.log_marginal_likelihood()) - value) < 6 * found.info.standard_error + 1e-4 * abs(
        value
    )
    np.testing.assert_allclose(be.to_numpy(found.alpha), exact.alpha, atol=1e-2 * np.abs(exact.alpha).max())
    if library == "jax":
        return  # compiled too slowly for more
    want = flat(exact.gradient())
    assert np.linalg.norm(flat([be.to_numpy(g) for g in found.gradient()]) - want) < 0.05 * np.linalg.norm(
        want
    )
    Z = np.random.default_rng(1).uniform(size=(5, 2)) * 3
    np.testing.assert_allclose(be.to_numpy(found.latent_mean(be.asarray(Z))), exact.latent_mean(Z), atol=1e-3)
    np.testing.assert_allclose(
        be.to_numpy(found.latent_variance(be.asarray(Z))), exact.latent_variance(Z), atol=1e-5
    )


def test_likelihood_of_what_is_not_stored_and_its_derivative_by_autograd():
    torch = pytest.importorskip("torch")
    model, data = problem(n=150)
    alg = IterativeInference(samples=64, rank=60)
    want = float(gp.marginal_likelihood(model, data))
    np.testing.assert_allclose(float(gp.marginal_likelihood(model, data, alg)), want, atol=0.3)
    _, gradient = gp.value_and_gradient(model, data)
    leaf = torch.tensor(model.kernel.kernel.log_lengthscale, requires_grad=True)
    kernel = gp.Scale(gp.Matern52(log_lengthscale=leaf), log_variance=torch.tensor(np.log(1.5)))
    tensors = gp.Data(torch.asarray(data.X), torch.asarray(data.y))
    value = gp.marginal_likelihood(gp.GP(kernel, model.mean, model.noise), tensors, alg)
    value.backward()
    np.testing.assert_allclose(float(value.detach()), want, atol=0.3)
    np.testing.assert_allclose(leaf.grad.numpy(), gradient[0], rtol=0.1)


def test_costs_prefer_exact_answers_while_they_are_affordable():
    model, _ = problem()

    def taken(n):
        K = gp.CovarianceOperator(model.kernel, np.zeros((n, 2)))
        return str(cola.explain(gp.represent, K)).splitlines()[1]

    assert "represent/dense" in taken(2000) and "represent/dense" in taken(10_000)
    assert "represent/lazy" in taken(20_000)


@pytest.mark.parametrize("n", [20_000, 31_000, 50_000, 100_000, 200_000])
def test_what_is_the_last_resort_fits_into_the_usual_memory(n):
    """Probes of a round and columns of the preconditioner become fewer instead of being refused."""
    model, _ = problem()
    for dtype in ("float64", "float32"):
        plan = gp.explain(model, np.zeros((n, 2), dtype=dtype))
        assert plan.root.children[1].by == "gp:condition/iterative", str(plan)


def test_products_and_pullbacks_in_tiles():
    model, data = problem(n=130)
    rng = np.random.default_rng(3)
    kernel = KERNELS["sum with white noise"]
    K, pull = symmetric(kernel, data.X)
    V = rng.normal(size=(130, 3))
    for entries in (1, 50, 2**14):
        np.testing.assert_allclose(times(kernel, data.X, V, entries), K @ V, atol=1e-12)
    d = rng.normal(size=130)
    first, second = pull_low_rank(kernel, data.X, (V * [1, -1, 2], V, d), (V, V))
    np.testing.assert_allclose(flat(first), flat(pull((V * [1, -1, 2]) @ V.T + np.diag(d))), rtol=1e-10)
    np.testing.assert_allclose(flat(second), flat(pull(V @ V.T)), rtol=1e-10)
    lazy = gp.represent(gp.CovarianceOperator(kernel, data.X), alg=cola.Auto(rules=("gp:represent/lazy",)))
    np.testing.assert_allclose(flat(lazy.pull((V, V))), flat(second), rtol=1e-10)


def test_whitening_is_what_it_says():
    model, data = problem(n=90)
    d = np.random.default_rng(0).uniform(0.05, 0.2, 90)
    white = Whitening.of(model.kernel, data.X, d, 30, 0)
    S = np.diag(white.scale)
    R = white.root.to_dense()
    inverse = np.diag(1 / d) - white.low_rank @ white.low_rank.T
    np.testing.assert_allclose(S @ R @ R @ S, inverse, atol=1e-9)
    np.testing.assert_allclose(-np.linalg.slogdet(inverse)[1], white.log_det, rtol=1e-10)
    A = model.kernel(data.X) + np.diag(d)
    B = white.whitened(cola.PSD(cola.ops.Dense(A))).to_dense()
    np.testing.assert_allclose(B, R @ S @ A @ S @ R, atol=1e-10)
    assert np.linalg.eigvalsh(B)[0] > 1 - 1e-8  # what F has missed is positive semidefinite


def test_nothing_is_stored():
    model, data = problem(n=1500)
    import tracemalloc

    tracemalloc.start()
    found = condition(model, data, IterativeInference(rank=50, samples=4, max_samples=4, tol=1.0))
    found.gradient()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * 2**20  # the matrix takes 18 MiB, with temporaries of the dense path 70


def test_fit_with_iterative_inference_is_as_good_as_the_dense_one():
    model, data = problem(n=300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found, exact = (
            gp.fit(model, data, alg=alg, max_iters=15) for alg in (IterativeInference(), DenseInference())
        )
    dense = condition(found.model, data, DenseInference())
    assert float(dense.log_marginal_likelihood()) > exact.log_likelihood - 1.0

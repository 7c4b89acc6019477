"""Inducing points: Titsias' bound and FITC against dense formulas, GPyTorch and refits; reports."""

import math

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import NotPositiveDefiniteError, ShapeError
from cola_gp._struct import leaves, with_leaves

METHODS = ["vfe", "fitc"]


def matern52(X, Z, scale, variance):
    t = np.sqrt(5.0 * np.sum(((X[:, None] - Z[None]) / np.asarray(scale)) ** 2, axis=-1))
    return variance * (1.0 + t + t * t / 3.0) * np.exp(-t)


def reference(method, X, y, Z, noise, k, T=None):
    """Textbook formulas with explicit n x n matrices: value, and mean and covariance at T."""
    Q = k(X, Z) @ np.linalg.solve(k(Z, Z), k(Z, X))
    left = np.diagonal(k(X, X) - Q)
    D = np.diag(noise + (left if method == "fitc" else 0.0))
    S = Q + D
    value = -0.5 * (y @ np.linalg.solve(S, y) + np.linalg.slogdet(S)[1] + len(y) * math.log(2 * math.pi))
    if method == "vfe":
        value -= 0.5 * np.sum(left / noise)
    if T is None:
        return value
    cross = k(T, Z) @ np.linalg.solve(k(Z, Z), k(Z, X))
    return value, cross @ np.linalg.solve(S, y), k(T, T) - cross @ np.linalg.solve(S, cross.T)


def problem(rng, n=40, m=7):
    X = rng.uniform(-2, 2, size=(n, 2))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=n)
    return X, y, rng.uniform(-2, 2, size=(m, 2)), rng.uniform(0.05, 0.3, size=n)


@pytest.mark.parametrize("method", METHODS)
def test_value_and_predictions_are_the_textbooks(method, rng):
    X, y, Z, noise = problem(rng)
    T = rng.uniform(-3, 3, size=(6, 2))
    kernel = gp.Inducing(1.4 * gp.Matern52([0.8, 1.3]), Z, method, nugget=0.0)
    model = gp.GP(kernel, gp.ConstantMean(0.1), gp.FixedNoise(noise))

    def k(A, B):
        return matern52(A, B, [0.8, 1.3], 1.4)

    value, mean, covariance = reference(method, X, y - 0.1, Z, noise, k, T)
    data = gp.Data(X, y)
    assert float(gp.marginal_likelihood(model, data)) == pytest.approx(value, rel=1e-9)
    posterior = gp.Posterior(model, data)
    assert posterior.method.startswith("inducing points") and posterior.jitter == 0.0
    np.testing.assert_allclose(posterior.mean(T), 0.1 + mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(posterior.covariance(T), covariance, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(posterior.variance(T), np.diagonal(covariance), rtol=1e-7, atol=1e-9)
    # as an operator: what the points see
    K = model.prior(X).to_dense()
    Q = k(X, Z) @ np.linalg.solve(k(Z, Z), k(Z, X))
    np.testing.assert_allclose(
        K, Q if method == "vfe" else Q + np.diag(np.diagonal(k(X, X) - Q)), rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(model.covariance(X).to_dense(), K + np.diag(noise), rtol=1e-8, atol=1e-10)


# GPyTorch 1.15 (float64, Cholesky, cholesky_jitter 1e-10), on the data of the test below: InducingPointKernel
# around a scaled Matern 5/2, ExactMarginalLogLikelihood times n; gradients by logarithms of parameters.
# Its predictions switch to those of FITC unless sgpr_diagonal_correction(False), so both are there.
GPYTORCH = {
    "value": -87.31785249968434,
    "lengthscale": [49.585160118012, 46.192881364715],
    "variance": -61.781637278061,
    "noise": 60.558653882276,
    "mean": 5.614517956384,
    "points": [[15.874790635870, -7.309966161066], [5.605778857080, 1.322576663482]],
    "vfe": [0.38154408399166173, -0.32344584936597653, 0.1240691627016818],
    "fitc": [0.20684368267538986, -0.2970765839334819, 0.11836382412941569],
    "fitc variance": [0.6994029611145527, 0.2548300081879795, 1.3984592274010152],
}


def test_matches_gpytorch():
    i = np.arange(40.0)
    X = 1.5 * np.stack([np.sin(1.3 * i), np.cos(0.7 * i)], axis=1)
    y = np.sin(2 * X[:, 0]) + 0.3 * X[:, 1] + 0.1 * np.cos(5 * i)
    data = gp.Data(X, y)
    T = np.array([[0.2, 0.3], [-1.0, 0.9], [3.0, 3.0]])
    for method in METHODS:
        kernel = gp.Inducing(1.4 * gp.Matern52([0.8, 1.3]), X[::8], method, nugget=0.0)
        model = gp.GP(kernel, gp.ConstantMean(0.1), 0.15)
        posterior = gp.Posterior(model, data)
        np.testing.assert_allclose(posterior.mean(T), GPYTORCH[method], rtol=1e-9)
        if method == "fitc":
            np.testing.assert_allclose(posterior.variance(T), GPYTORCH["fitc variance"], rtol=1e-9)
            continue
        value, (scale, variance, points, mean, noise) = gp.value_and_gradient(model, data)
        assert float(value) == pytest.approx(GPYTORCH["value"], rel=1e-11)
        np.testing.assert_allclose(scale, GPYTORCH["lengthscale"], rtol=1e-8)
        np.testing.assert_allclose(points[:2], GPYTORCH["points"], rtol=1e-8)
        assert (float(variance), float(mean), float(noise)) == pytest.approx(
            (GPYTORCH["variance"], GPYTORCH["mean"], GPYTORCH["noise"]), rel=1e-9
        )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_against_finite_differences_and_torch(method, rng):
    X, y, Z, _ = problem(rng, 25, 4)
    kernel = 1.3 * gp.RBF([0.7, 1.1]) * gp.RationalQuadratic(2.0, 1.5) + gp.Polynomial(2, 0.3, 0.5)
    model = gp.GP(gp.Inducing(kernel, Z, method), gp.ConstantMean(0.2), 0.1)
    data = gp.Data(X, y)
    _, gradient = gp.value_and_gradient(model, data)
    values = [np.asarray(v, dtype=float) for v in leaves(model)]
    for i, value in enumerate(values):
        for j in range(value.size):
            ends = []
            for step in (1e-5, -1e-5):
                moved = value.copy()
                moved.flat[j] += step
                other = with_leaves(model, [moved if k == i else v for k, v in enumerate(values)])
                ends.append(float(gp.marginal_likelihood(other, data)))
            slope = (ends[0] - ends[1]) / 2e-5
            assert np.asarray(gradient[i]).flat[j] == pytest.approx(slope, rel=1e-5, abs=1e-5)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theirs = gp.Data(torch.tensor(X), torch.tensor(y))
    params = [torch.tensor(v, requires_grad=True) for v in values]
    gp.marginal_likelihood(with_leaves(model, params), theirs).backward()
    _, closed = gp.value_and_gradient(model, theirs)
    for ours, auto, other in zip(gradient, params, closed, strict=True):
        np.testing.assert_allclose(auto.grad.numpy(), ours, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(np.asarray(other), ours, rtol=1e-8, atol=1e-9)


def test_jax_compiled(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, y, Z, _ = problem(rng, 20, 4)
    model = gp.GP(gp.Inducing(1.3 * gp.RBF([0.7, 1.1]), Z), noise=0.1)
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    with jax.enable_x64(True):
        data = gp.Data(jax.numpy.asarray(X), jax.numpy.asarray(y))
        params = [jax.numpy.asarray(v) for v in leaves(model)]

        @jax.jit
        def both(v):
            closed = gp.value_and_gradient(with_leaves(model, v), data)
            return closed, jax.grad(lambda u: gp.marginal_likelihood(with_leaves(model, u), data))(v)

        (other, closed), auto = both(params)
        assert float(other) == pytest.approx(float(value), rel=1e-10)
        for ours, one, two in zip(gradient, closed, auto, strict=True):
            np.testing.assert_allclose(np.asarray(one), ours, rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(np.asarray(two), ours, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_likelihood_lies_between_the_bounds(seed):
    rng = np.random.default_rng(seed)
    X, y, _, noise = problem(rng, 50)
    kernel = rng.uniform(0.5, 2.0) * gp.Matern32(rng.uniform(0.5, 2.0, size=2))
    last = np.inf
    for m in (2, 10, 30):
        Z = gp.select_inducing(kernel, X, m)
        for method in METHODS:
            model = gp.GP(gp.Inducing(kernel, Z, method), noise=gp.FixedNoise(noise))
            report = gp.approximation_report(model, gp.Data(X, y))
            assert report.lower <= report.exact <= report.upper
            assert report.rank == m and report.n == 50
        unknown = gp.approximation_report(model, gp.Data(X, y), exact_limit=10)
        assert unknown.exact is None and unknown.gap == pytest.approx(report.upper - report.lower)
        assert report.upper - report.lower < last
        last = report.upper - report.lower
    # every observation an inducing point: nothing is lost
    full = gp.GP(gp.Inducing(kernel, X, nugget=0.0), noise=gp.FixedNoise(noise))
    report = gp.approximation_report(full, gp.Data(X, y))
    assert report.gap == pytest.approx(0.0, abs=1e-6)
    assert report.relative_residual < 1e-10 and report.worst_entry < 1e-9
    assert "exact log likelihood" in report.summary()


def test_bounds_stay_bounds_with_any_nugget(rng):
    X, y, _, _ = problem(rng, 30)
    kernel = 1.0 * gp.RBF(1.0)
    exact = float(gp.marginal_likelihood(gp.GP(kernel, noise=0.1), gp.Data(X, y)))
    values = []
    for nugget in (1e-2, 1e-4, 1e-8, 1e-10):
        model = gp.GP(gp.Inducing(kernel, X[::2], nugget=nugget), noise=0.1)
        values.append(float(gp.marginal_likelihood(model, gp.Data(X, y))))
    assert np.all(np.diff(values) > -1e-6) and values[-1] <= exact + 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_leave_one_out_equals_refitting(method, rng):
    X, y, Z, noise = problem(rng, 15, 4)
    kernel = gp.Inducing(1.2 * gp.RBF(0.9), Z, method)
    loo = gp.Posterior(gp.GP(kernel, noise=gp.FixedNoise(noise)), gp.Data(X, y)).leave_one_out()
    for i in (0, 7):
        keep = np.arange(15) != i
        reduced = gp.GP(kernel, noise=gp.FixedNoise(noise[keep]))
        posterior = gp.Posterior(reduced, gp.Data(X[keep], y[keep]))
        assert loo.mean[i] == pytest.approx(posterior.mean(X[i : i + 1])[0], rel=1e-7)
        assert loo.variance[i] == pytest.approx(posterior.variance(X[i : i + 1])[0] + noise[i], rel=1e-7)


def test_fit_moves_the_points_and_never_beats_the_exact_optimum(rng):
    X = np.sort(rng.uniform(0, 6, 80))[:, None]
    data = gp.Data(X, np.sin(2 * X[:, 0]) + 0.1 * rng.normal(size=80))
    Z = np.linspace(0, 2, 8)[:, None]  # badly placed
    exact = gp.fit(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), data)
    fixed = gp.fit(gp.GP(gp.Inducing(1.0 * gp.RBF(1.0), Z, fixed=True), noise=0.1), data)
    free = gp.fit(gp.GP(gp.Inducing(1.0 * gp.RBF(1.0), Z), noise=0.1), data, max_iters=100)
    np.testing.assert_array_equal(fixed.model.kernel.inducing, Z)
    assert fixed.log_likelihood < free.log_likelihood <= exact.log_likelihood + 1e-6
    assert exact.log_likelihood - free.log_likelihood < 2.0
    assert free.model.kernel.inducing.max() > 4.0
    T = np.linspace(0, 6, 7)[:, None]
    np.testing.assert_allclose(
        gp.Posterior(free.model, data).mean(T), gp.Posterior(exact.model, data).mean(T), atol=0.05
    )


def test_no_square_matrix_is_formed(rng):
    # 20,000 observations: a covariance of 3.2 GB, and working memory of a few n x m arrays
    import tracemalloc

    X = rng.uniform(0, 20, size=(20000, 1))
    data = gp.Data(X, np.sin(X[:, 0]))
    model = gp.GP(gp.Inducing(1.0 * gp.RBF(1.0), np.linspace(0, 20, 10)[:, None]), noise=0.1)
    tracemalloc.start()
    value, _ = gp.value_and_gradient(model, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(float(value)) and peak < 40 * 20000 * 10 * 8


def test_float32_and_duplicates(rng):
    X, y, Z, _ = problem(rng, 40)
    exact = gp.GP(1.4 * gp.Matern52(0.8), noise=0.1)
    model = gp.GP(gp.Inducing(1.4 * gp.Matern52(0.8), np.repeat(Z, 3, axis=0)), noise=0.1)
    once = gp.GP(gp.Inducing(1.4 * gp.Matern52(0.8), Z), noise=0.1)
    double, single = gp.Data(X, y), gp.Data(X.astype(np.float32), y.astype(np.float32))
    value, gradient = gp.value_and_gradient(model, double)
    assert float(value) == pytest.approx(float(gp.marginal_likelihood(once, double)), rel=1e-5)
    low, low_gradient = gp.value_and_gradient(model, single)
    assert low.dtype == np.float32 and float(low) == pytest.approx(float(value), rel=1e-3)
    for a, b in zip(gradient[:2], low_gradient[:2], strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-2)
    assert float(value) < float(gp.marginal_likelihood(exact, double))
    with pytest.raises(NotPositiveDefiniteError, match="inducing points is not positive definite"):
        zeros = gp.Inducing(gp.Constant(1.0), np.zeros((2, 1)), nugget=0.0)
        gp.marginal_likelihood(gp.GP(zeros, noise=0.1), gp.Data(X[:, :1], y))


def test_one_observation_and_one_point():
    data = gp.Data(np.array([[0.5]]), np.array([1.0]))
    posterior = gp.Posterior(gp.GP(gp.Inducing(2.0 * gp.RBF(1.0), [[0.5]], nugget=0.0), noise=0.5), data)
    assert posterior.mean(np.array([[0.5]]))[0] == pytest.approx(2.0 / 2.5)
    assert posterior.variance(np.array([[0.5]]))[0] == pytest.approx(2.0 - 4.0 / 2.5)


def test_the_exact_answer_on_request_and_the_plan(rng):
    X, y, Z, _ = problem(rng)
    data = gp.Data(X, y)
    kernel = 1.4 * gp.Matern52(0.8)
    exact = float(gp.marginal_likelihood(gp.GP(kernel, noise=0.1), data))
    for method in METHODS:
        model = gp.GP(gp.Inducing(kernel, Z, method), noise=0.1)
        assert float(gp.marginal_likelihood(model, data, gp.DenseInference())) == pytest.approx(exact)
        plan = str(gp.explain(model, data))
        assert "by gp:represent/inducing" in plan and "by gp:condition/inducing" in plan
    plan = str(gp.explain(gp.GP(kernel, noise=0.1), data))
    assert "the kernel is not Inducing" in plan


def test_reports_of_kernels_of_finite_rank(rng):
    X, y, _, _ = problem(rng, 60)
    data = gp.Data(X, y)
    kernel = 1.4 * gp.Matern52(0.8) + gp.Linear(0.3)
    exact = float(gp.marginal_likelihood(gp.GP(kernel, noise=0.1), data))
    nystrom = gp.GP(1.4 * gp.Nystrom(gp.Matern52(0.8), X[::4]) + gp.Linear(0.3), noise=0.1)
    report = gp.approximation_report(nystrom, data)
    assert report.exact == pytest.approx(exact) and report.rank == 17 and report.lower is None
    K, Q = kernel(X), nystrom.kernel(X)
    assert report.residual_trace == pytest.approx(np.trace(K - Q))
    errors = []
    for count in (32, 2048):
        random = gp.GP(1.4 * gp.RandomFourier(gp.Matern52(0.8), count, 2) + gp.Linear(0.3), noise=0.1)
        report = gp.approximation_report(random, data)
        errors.append(report.entry_error)
        worst = np.abs(random.kernel(X) - K).max() / np.diagonal(K).mean()
        assert report.worst_entry == pytest.approx(worst)  # with 60 points every entry is looked at
    assert errors[1] < 0.2 * errors[0] and abs(report.gap) < 1.0
    with pytest.raises(ValueError, match="nothing is|nothing to report"):
        gp.approximation_report(gp.GP(kernel, noise=0.1), data)


def test_likelihoods_that_are_not_gaussian(rng):
    X = rng.uniform(-2, 2, size=(60, 1))
    data = gp.Data(X, (np.sin(2 * X[:, 0]) > 0).astype(float))
    with pytest.raises(NotImplementedError, match="Use Nystrom"):
        gp.Posterior(gp.GP(gp.Inducing(gp.RBF(0.7), X[::6]), noise=gp.BernoulliLikelihood()), data)
    model = gp.GP(gp.Nystrom(2.0 * gp.RBF(0.7), X[::6]), noise=gp.BernoulliLikelihood())
    report = gp.approximation_report(model, data)
    exact = gp.GP(2.0 * gp.RBF(0.7), noise=gp.BernoulliLikelihood())
    assert report.exact == pytest.approx(float(gp.marginal_likelihood(exact, data)), rel=1e-6)
    assert abs(report.gap) < 1.0


def test_initial_values_reach_the_kernel_inside(rng):
    X = rng.uniform(0, 600, size=(50, 1))
    data = gp.Data(X, 40 * np.sin(X[:, 0] / 100))
    plain = gp.initialise(gp.GP(1.0 * gp.RBF(1.0)), data).kernel
    for wrap in (lambda k: gp.Inducing(k, X[:5]), lambda k: gp.Nystrom(k, X[:5])):
        inner = gp.initialise(gp.GP(wrap(1.0 * gp.RBF(1.0))), data).kernel.kernel
        assert inner.log_variance == plain.log_variance
        assert inner.kernel.log_lengthscale == plain.kernel.log_lengthscale
    random = gp.initialise(gp.GP(1.0 * gp.RandomFourier(gp.RBF(1.0), 8)), data).kernel
    assert random.log_variance == plain.log_variance
    assert random.kernel.kernel.log_lengthscale == plain.kernel.log_lengthscale


def test_saved_and_read_back(tmp_path, rng):
    X, y, Z, _ = problem(rng)
    model = gp.GP(gp.Inducing(1.4 * gp.Matern52(0.8), Z, "fitc", fixed=True), noise=0.1)
    predictor = gp.Predictor.fit(X, y, model, optimize=False)
    predictor.save(tmp_path / "model.npz")
    again, _ = gp.Predictor.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.mean(X[:3]), predictor.mean(X[:3]))
    assert again.model.kernel.method == "fitc" and again.model.kernel.fixed


def test_bad_input():
    with pytest.raises(ValueError, match="one of vfe, fitc, not 'dtc'"):
        gp.Inducing(gp.RBF(1.0), np.zeros((2, 1)), "dtc")
    with pytest.raises(ValueError, match="leave White out"):
        gp.Inducing(gp.RBF(1.0) + gp.White(0.1), np.zeros((2, 1)))
    inside = gp.Inducing(gp.RBF(1.0), np.zeros((2, 1)))
    for wrong in (lambda: 2.0 * inside, lambda: gp.RBF(1.0) + inside, lambda: inside * gp.RBF(1.0)):
        with pytest.raises(TypeError, match="goes around the whole kernel"):
            wrong()
    data = gp.Data(np.zeros((3, 2)), np.zeros(3))
    with pytest.raises(ShapeError, match=r"shape \(2, 1\) but the points have shape \(3, 2\)"):
        gp.Posterior(gp.GP(gp.Inducing(gp.RBF(1.0), np.zeros((2, 1))), noise=0.1), data)

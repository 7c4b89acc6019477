"""Laplace's approximation: against scikit-learn, dense formulas, finite differences and brute force."""

import math
import warnings

import numpy as np
import pytest
from scipy import optimize, special

import cola_gp as gp
from cola_core.algorithms import Auto
from cola_core.errors import NonFiniteError
from cola_gp._struct import leaves, with_leaves

RBF = gp.Scale(gp.RBF([0.8, 1.2]), 2.0)
LINEAR = gp.Linear([0.8, 1.0]) + gp.Constant(0.2)


def observations(name, rng, n=30):
    X = rng.normal(size=(n, 2))
    f = np.sin(2 * X[:, 0]) + X[:, 1]
    if name.startswith("bernoulli"):
        return X, (f + 0.3 * rng.normal(size=n) > 0).astype(float)
    if name == "poisson":
        return X, rng.poisson(np.exp(f)).astype(float)
    y = f + 0.1 * rng.normal(size=n)
    y[::7] += 4 * rng.normal(size=len(y[::7]))
    return X, y


LIKELIHOODS = {
    "bernoulli-logit": gp.BernoulliLikelihood(),
    "bernoulli-probit": gp.BernoulliLikelihood("probit"),
    "poisson": gp.PoissonLikelihood(),
    "student-t": gp.StudentTLikelihood(0.1, 4.0, "hessian"),
    "student-t-fisher": gp.StudentTLikelihood(0.1, 4.0),
}


def log_density(name, y, f):
    """Written out with SciPy."""
    if name == "bernoulli-logit":
        return special.log_expit((2 * y - 1) * f)
    if name == "bernoulli-probit":
        return special.log_ndtr((2 * y - 1) * f)
    if name == "poisson":
        return y * f - np.exp(f) - special.gammaln(y + 1)
    scale, df = 0.1, 4.0
    norm = (
        special.gammaln((df + 1) / 2)
        - special.gammaln(df / 2)
        - 0.5 * math.log(df * math.pi)
        - math.log(scale)
    )
    return norm - (df + 1) / 2 * np.log1p(((y - f) / scale) ** 2 / df)


def dense_laplace(name, K, m, y, start):
    """The mode by a generic optimiser, the evidence by determinants: no formula of the package."""
    inverse = np.linalg.inv(K)

    def minus(f):
        return 0.5 * (f - m) @ inverse @ (f - m) - log_density(name, y, f).sum()

    f = optimize.minimize(minus, start, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}).x
    h = 1e-4
    curve = log_density(name, y, f + h) - 2 * log_density(name, y, f) + log_density(name, y, f - h)
    W = np.full(len(y), 5 / 7 / 0.01) if name.endswith("fisher") else -curve / h**2
    value = -minus(f) - 0.5 * np.linalg.slogdet(np.eye(len(y)) + K * W)[1]
    return f, W, value


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_mode_evidence_and_prediction(rng, name):
    X, y = observations(name, rng, 12)
    model = gp.GP(RBF, gp.ConstantMean(0.3), LIKELIHOODS[name])
    found = gp.condition(model, gp.Data(X, y))
    K = RBF(X)
    f, W, value = dense_laplace(name, K, 0.3, y, np.asarray(found.mode))
    assert found.info.converged and found.info.residual < 1e-8
    np.testing.assert_allclose(found.mode, f, atol=1e-5)
    assert float(gp.marginal_likelihood(model, gp.Data(X, y))) == pytest.approx(value, abs=1e-4)
    Z = rng.normal(size=(5, 2))
    posterior = gp.Posterior(model, gp.Data(X, y))
    cross = RBF(Z, X)
    np.testing.assert_allclose(posterior.mean(Z), 0.3 + cross @ np.linalg.solve(K, f - 0.3), atol=1e-4)
    R = np.linalg.solve(np.eye(12) + W[:, None] * K, np.diag(W))
    want = RBF(Z) - cross @ R @ cross.T
    np.testing.assert_allclose(posterior.covariance(Z), want, atol=1e-4)
    np.testing.assert_allclose(posterior.variance(Z), want.diagonal(), atol=1e-4)
    assert posterior.method == "Laplace"


@pytest.mark.parametrize("kernel", [RBF, LINEAR], ids=["dense", "low rank"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradient_is_that_of_the_value(rng, name, kernel):
    X, y = observations(name, rng)
    data = gp.Data(X, y)
    model = gp.GP(kernel, gp.ConstantMean(0.3), LIKELIHOODS[name])
    value, gradient = gp.value_and_gradient(model, data)
    assert float(value) == pytest.approx(float(gp.marginal_likelihood(model, data)), rel=1e-12)
    start = leaves(model)
    step = 1e-5
    for number, leaf in enumerate(start):
        for index in np.ndindex(leaf.shape):

            def at(t, number=number, index=index):
                moved = [np.array(other, dtype=float) for other in start]
                moved[number][index] += t
                return float(gp.marginal_likelihood(with_leaves(model, moved), data))

            slope = (at(step) - at(-step)) / (2 * step)
            assert float(np.asarray(gradient[number])[index]) == pytest.approx(slope, rel=2e-6, abs=2e-5)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_low_rank_is_dense(rng, name):
    """The same model, stored: what is exact of Woodbury's identity is exact here, outliers or not."""
    X, y = observations(name, rng)
    model = gp.GP(LINEAR, gp.ConstantMean(0.1), LIKELIHOODS[name])
    data = gp.Data(X, y)
    thin = gp.condition(model, data)
    full = gp.condition(model, data, Auto(rules=("gp:represent/dense",)))
    assert (type(thin.form).__name__, type(full.form).__name__) == ("LowRankForm", "DenseForm")
    assert float(thin.log_marginal_likelihood()) == pytest.approx(
        float(full.log_marginal_likelihood()), rel=1e-9
    )
    Z = rng.normal(size=(4, 2))
    np.testing.assert_allclose(thin.latent_mean(Z), full.latent_mean(Z), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(thin.latent_variance(Z), full.latent_variance(Z), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(thin.latent_covariance(Z), full.latent_covariance(Z), rtol=1e-5, atol=1e-8)
    for a, b in zip(thin.gradient(), full.gradient(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_scikit_learn_classifies_the_same(rng):
    sklearn = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    X, y = observations("bernoulli-logit", rng, 60)
    kernel = sklearn.kernels.ConstantKernel(2.0) * sklearn.kernels.RBF([0.8, 1.2])
    theirs = sklearn.GaussianProcessClassifier(kernel, optimizer=None).fit(X, y)
    model = gp.GP(RBF, noise=gp.BernoulliLikelihood())
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    want, slope = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)
    assert float(value) == pytest.approx(want, rel=1e-10)
    np.testing.assert_allclose([float(gradient[1]), *np.asarray(gradient[0])], slope, rtol=1e-6)
    Z = rng.normal(size=(9, 2))
    # their average over the posterior is a fit by five error functions
    p, variance = gp.Posterior(model, gp.Data(X, y)).response(Z)
    np.testing.assert_allclose(p, theirs.predict_proba(Z)[:, 1], atol=2e-4)
    np.testing.assert_allclose(variance, p * (1 - p), rtol=1e-9)


def average(name, y, mean, variance):
    """``log E p(y | f)`` on half a million points."""
    z = np.linspace(-12, 12, 400_001)
    density = np.exp(log_density(name, y, mean + math.sqrt(variance) * z) - 0.5 * z * z)
    return math.log(density.sum() * (z[1] - z[0]) / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_predictive_densities(name):
    likelihood = LIKELIHOODS[name]
    mean = np.array([0.0, 1.0, -3.0, 5.0, 0.3, 2.0])
    variance = np.array([1e-6, 0.5, 4.0, 30.0, 1.0, 300.0])
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    if name == "poisson":
        y = np.array([0.0, 3.0, 1.0, 20.0, 100.0, 2.0])
    want = [average(name, *each) for each in zip(y, mean, variance, strict=True)]
    np.testing.assert_allclose(likelihood.log_predictive_density(y, mean, variance), want, atol=1e-7)
    centre, spread = likelihood.response(mean, variance)
    if name.startswith("bernoulli"):
        one = likelihood.log_predictive_density(np.ones(6), mean, variance)
        np.testing.assert_allclose(np.log(centre), one, rtol=1e-9)
    elif name == "poisson":
        np.testing.assert_allclose(centre, np.exp(mean + variance / 2))
        np.testing.assert_allclose(spread[:2], centre[:2] + np.expm1(variance[:2]) * centre[:2] ** 2)
    else:
        np.testing.assert_allclose(spread, variance + 0.1**2 * 2)


def test_moments_of_heavy_tails():
    for df, exists in ((1.0, (False, False)), (2.0, (True, False)), (3.0, (True, True))):
        mean, variance = gp.StudentTLikelihood(0.1, df).response(np.ones(1), np.ones(1))
        assert (bool(np.isfinite(mean[0])), bool(np.isfinite(variance[0]))) == exists


def test_cauchy_and_nearly_gaussian_predictions():
    y, mean, variance = np.array([0.4]), np.zeros(1), np.array([0.3])
    gaussian = gp.StudentTLikelihood(0.5, 1e7).log_predictive_density(y, mean, variance)
    total = 0.3 + 0.25
    assert float(gaussian[0]) == pytest.approx(
        -0.5 * (0.16 / total + math.log(2 * math.pi * total)), abs=1e-6
    )
    sure = gp.StudentTLikelihood(0.5, 1.0).log_predictive_density(y, mean, np.zeros(1))
    assert float(sure[0]) == pytest.approx(-math.log(math.pi * 0.5 * (1 + 0.64)), abs=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_derivatives_of_densities(rng, name, dtype):
    _, y = observations(name, rng)
    likelihood = LIKELIHOODS[name]
    f = rng.normal(size=30) * 2
    slope, weight, third = (
        np.asarray(part, dtype=float) for part in likelihood.curve(y.astype(dtype), f.astype(dtype))
    )
    assert likelihood.curve(y.astype(dtype), f.astype(dtype)).third.dtype == dtype
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if dtype == "float64" else {"rtol": 2e-3, "atol": 2e-3}
    h = 1e-5
    up, down = likelihood.curve(y, f + h), likelihood.curve(y, f - h)
    by_f = (log_density(name, y, f + h) - log_density(name, y, f - h)) / (2 * h)
    np.testing.assert_allclose(slope, by_f, **tolerance)
    np.testing.assert_allclose(weight, (down.slope - up.slope) / (2 * h), **tolerance)
    np.testing.assert_allclose(third, (down.weight - up.weight) / (2 * h), **tolerance)
    # a parabola with this weight lies below
    bound = likelihood.bound_weight(y, f)
    if not likelihood.log_concave:
        d = rng.normal(size=30)
        under = log_density(name, y, f) + slope * d - 0.5 * bound * d * d
        assert np.all(log_density(name, y, f + d) >= under - 1e-6)


def test_both_tails_of_the_links_keep_their_digits():
    z = np.array([-1e8, -1e3, -130.0, -30.0, -20.5, -20.3, -8.0, 8.0, 38.0])
    logit, probit = (gp.BernoulliLikelihood(link).curve(np.ones(9), z) for link in ("logit", "probit"))
    np.testing.assert_allclose(logit.slope, special.expit(-z), rtol=1e-14)
    np.testing.assert_allclose(logit.weight, special.expit(z) * special.expit(-z), rtol=1e-14)
    with np.errstate(all="ignore"):
        mills = math.sqrt(2 / math.pi) / special.erfcx(-z / math.sqrt(2))
    np.testing.assert_allclose(probit.slope, mills, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(probit.weight[2:], (mills * (mills + z))[2:], rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(probit.third[0], 0.0, atol=1e-20)
    assert np.all(np.diff(probit.weight) <= 1e-12)


@pytest.mark.parametrize("link", ["logit", "probit"])
@pytest.mark.parametrize("variance", [1e-8, 1.0, 1e4, 1e8])
def test_separable_classes_and_one_class(link, variance):
    X = np.linspace(0, 5, 40)[:, None]
    model = gp.GP(variance * gp.RBF(1.0), noise=gp.BernoulliLikelihood(link))
    for y in ((X[:, 0] > 2.5).astype(float), np.ones(40), np.zeros(40)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = gp.condition(model, gp.Data(X, y))
            gradient = found.gradient()
            p, _ = gp.Posterior(model, gp.Data(X, y)).response(X)
        assert found.info.converged and all(np.all(np.isfinite(part)) for part in gradient)
        assert np.all((p > 0.5) == (y > 0.5)) and -40 < float(found.log_marginal_likelihood()) < 0


@pytest.mark.parametrize(
    ("name", "mean", "y"),
    [
        ("bernoulli-logit", -300.0, 1.0),
        ("bernoulli-probit", 300.0, 0.0),
        ("poisson", 8.0, 0.0),
        ("poisson", -30.0, 50.0),
        ("student-t", 100.0, 0.0),
    ],
)
def test_far_from_the_mode(name, mean, y):
    X = np.linspace(0, 5, 20)[:, None]
    data = gp.Data(X, np.full(20, y))
    found = gp.condition(gp.GP(gp.RBF(1.0), gp.ConstantMean(mean), LIKELIHOODS[name]), data)
    assert found.info.converged
    slope = LIKELIHOODS[name].curve(data.y, found.mode).slope
    np.testing.assert_allclose(found.alpha, slope, rtol=1e-5, atol=1e-8)


def test_duplicates_one_point_and_single_precision():
    bernoulli = gp.BernoulliLikelihood()
    same = gp.Data(np.ones((20, 1)), np.arange(20) % 2 * 1.0)
    p, _ = gp.Posterior(gp.GP(gp.RBF(1.0), noise=bernoulli), same).response(np.ones((1, 1)))
    assert p[0] == pytest.approx(0.5, abs=1e-9)
    one = gp.Posterior(gp.GP(gp.RBF(1.0), noise=bernoulli), gp.Data([[0.0]], [1.0]))
    assert 0.5 < one.response([[0.0]])[0][0] < 0.7
    X = np.linspace(0, 5, 40, dtype=np.float32)[:, None]
    y = (X[:, 0] > 2.5).astype(np.float32)
    model = gp.GP(100.0 * gp.RBF(1.0), noise=bernoulli)
    single, double = (
        gp.Posterior(model, gp.Data(X.astype(d), y.astype(d))) for d in (np.float32, np.float64)
    )
    assert single.response(X)[0].dtype == np.float32
    np.testing.assert_allclose(single.response(X)[0], double.response(X.astype(float))[0], atol=1e-4)
    assert float(single.log_marginal_likelihood()) == pytest.approx(
        float(double.log_marginal_likelihood()), abs=1e-3
    )


def test_outliers_do_not_move_the_function(rng):
    X = np.linspace(0, 6, 60)[:, None]
    y = np.sin(X[:, 0]) + 0.05 * rng.normal(size=60)
    y[::9] += 10.0
    robust = gp.fit(gp.GP(gp.Scale(gp.RBF(1.0)), noise=gp.StudentTLikelihood()), gp.Data(X, y))
    plain = gp.fit(gp.GP(gp.Scale(gp.RBF(1.0)), noise=0.1), gp.Data(X, y))
    errors = [
        np.abs(gp.Posterior(r.model, gp.Data(X, y)).mean(X) - np.sin(X[:, 0])).max() for r in (robust, plain)
    ]
    assert robust.converged and robust.method == "Laplace"
    assert errors[0] < 0.15 and errors[1] > 0.5
    assert robust.parameters["noise.scale"] < 0.2


@pytest.mark.parametrize("scale", [1e-6, 1e-3])
@pytest.mark.parametrize("df", [0.5, 4.0])
@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_nearly_everything_is_an_outlier(rng, scale, df, curvature):
    X = np.linspace(0, 5, 40)[:, None]
    y = np.sin(X[:, 0]) + 0.05 * rng.normal(size=40)
    y[::5] += 20 * rng.normal(size=8)
    found = gp.condition(gp.GP(gp.RBF(1.0), noise=gp.StudentTLikelihood(scale, df, curvature)), gp.Data(X, y))
    assert found.info.converged and math.isfinite(float(found.log_marginal_likelihood()))


def test_counts_on_a_grid(rng):
    """A Kronecker prior is stored for this, and the answer is that of the points."""
    grid = gp.Grid(np.linspace(0, 1, 6), np.linspace(0, 1, 5))
    y = rng.poisson(3.0, 30).astype(float)
    model = gp.GP(gp.Scale(gp.RBF([0.4, 0.5])), gp.ConstantMean(1.0), gp.PoissonLikelihood())
    value, gradient = gp.value_and_gradient(model, gp.Data(grid, y))
    want, slope = gp.value_and_gradient(model, gp.Data(grid.points(), y))
    assert float(value) == pytest.approx(float(want), rel=1e-10)
    for a, b in zip(gradient, slope, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8)


def test_covariances_known_by_products_only(rng):
    X, y = observations("bernoulli-logit", rng, 40)
    model, data = gp.GP(RBF, noise=gp.BernoulliLikelihood()), gp.Data(X, y)
    stored = gp.condition(model, data)
    lazy = gp.condition(model, data, Auto(memory=4.2e4))
    assert type(lazy.form).__name__ == "Form"
    assert float(lazy.log_marginal_likelihood()) == pytest.approx(
        float(stored.log_marginal_likelihood()), rel=2e-2
    )
    np.testing.assert_allclose(lazy.latent_mean(X[:5]), stored.latent_mean(X[:5]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lazy.latent_variance(X[:5]), stored.latent_variance(X[:5]), rtol=1e-3)
    with pytest.raises(NotImplementedError, match="stored or low-rank"):
        lazy.gradient()


def test_the_plan_says_so(rng):
    X, y = observations("poisson", rng)
    plan = str(gp.explain(gp.GP(RBF, noise=gp.PoissonLikelihood()), gp.Data(X, y)))
    assert "by gp:condition/laplace" in plan and "PoissonLikelihood is not Gaussian" in plan
    plain = str(gp.explain(gp.GP(RBF, noise=0.1), gp.Data(X, y)))
    assert "laplace: GaussianNoise is Gaussian" in plain


def test_refusals(rng):
    X, y = observations("poisson", rng)
    with pytest.raises(ValueError, match="observations 0 or 1"):
        gp.condition(gp.GP(RBF, noise=gp.BernoulliLikelihood()), gp.Data(X, y + 2))
    with pytest.raises(ValueError, match="whole numbers"):
        gp.condition(gp.GP(RBF, noise=gp.PoissonLikelihood()), gp.Data(X, y + 0.5))
    with pytest.raises(ValueError, match="link must be"):
        gp.BernoulliLikelihood("cloglog")
    with pytest.raises(ValueError, match="curvature must be"):
        gp.StudentTLikelihood(0.1, 4.0, "exact")
    with pytest.raises(ValueError, match="scale must be positive"):
        gp.StudentTLikelihood(-1.0)
    model = gp.GP(RBF, noise=gp.PoissonLikelihood())
    posterior = gp.Posterior(model, gp.Data(X, y))
    with pytest.raises(ValueError, match=r"Posterior\.response"):
        posterior.variance(X, include_noise=True)
    with pytest.raises(NotImplementedError, match="leave-one-out"):
        posterior.leave_one_out()
    with pytest.raises(NotImplementedError, match="joint"):
        posterior.log_predictive_density(X, y, joint=True)
    with pytest.raises(ValueError, match="whole numbers"):
        posterior.log_predictive_density(X, y - 0.5)
    with pytest.raises(TypeError, match="not jointly Gaussian"):
        model.covariance(X)
    with pytest.raises(NonFiniteError):
        gp.condition(model, gp.Data(X * np.nan, y))


def test_response_of_gaussian_models(rng):
    X, y = observations("student-t", rng)
    posterior = gp.Posterior(gp.GP(RBF, noise=0.1), gp.Data(X, y))
    mean, variance = posterior.response(X)
    np.testing.assert_array_equal(mean, posterior.mean(X))
    np.testing.assert_array_equal(variance, posterior.variance(X, include_noise=True))


def test_saved_models_are_the_same(rng, tmp_path):
    from cola_gp import storage

    X, y = observations("student-t", rng)
    for likelihood in (
        gp.StudentTLikelihood(0.2, 3.0),
        gp.BernoulliLikelihood("probit"),
        gp.PoissonLikelihood(),
    ):
        model = gp.GP(RBF, noise=likelihood)
        storage.save(tmp_path / "m.npz", {"model": model})
        assert repr(storage.load(tmp_path / "m.npz")[0]["model"]) == repr(model)


@pytest.mark.filterwarnings("ignore:Converting a tensor")
@pytest.mark.parametrize("name", ["bernoulli-logit", "student-t", "student-t-fisher"])
def test_torch_differentiates_and_agrees(rng, name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = observations(name, rng)
    model = gp.GP(RBF, gp.ConstantMean(0.1), LIKELIHOODS[name])
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    data = gp.Data(torch.tensor(X), torch.tensor(y))
    moving = [torch.tensor(np.array(leaf, dtype=float), requires_grad=True) for leaf in leaves(model)]
    found = gp.marginal_likelihood(with_leaves(model, moving), data)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(value), rel=1e-9)
    for a, b, c in zip(moving, gp.value_and_gradient(model, data)[1], gradient, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), c, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(b.numpy(), c, rtol=1e-7, atol=1e-8)
    p, _ = gp.Posterior(model, data).response(torch.tensor(X[:3]))
    np.testing.assert_allclose(p.numpy(), gp.Posterior(model, gp.Data(X, y)).response(X[:3])[0], rtol=1e-8)


@pytest.mark.parametrize("name", ["bernoulli-probit", "student-t"])
def test_jax_differentiates_compiled(rng, name):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, y = observations(name, rng, 20)
    model = gp.GP(RBF, gp.ConstantMean(0.1), LIKELIHOODS[name])
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    with jax.enable_x64(True):
        data = gp.Data(jax.numpy.asarray(X), jax.numpy.asarray(y))
        start = [jax.numpy.asarray(np.array(leaf, dtype=float)) for leaf in leaves(model)]
        found, slope = jax.jit(
            jax.value_and_grad(lambda moving: gp.marginal_likelihood(with_leaves(model, moving), data))
        )(start)
        assert float(found) == pytest.approx(float(value), rel=1e-9)
        for a, c in zip(slope, gradient, strict=True):
            np.testing.assert_allclose(a, c, rtol=1e-6, atol=1e-7)


def test_jax_finds_the_mode_of_an_outlier_to_the_last_digits(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, y = rng.normal(size=(13, 2)), rng.normal(size=13)
    y[-1] = 8.0
    model = gp.GP(gp.RBF(0.6), noise=gp.StudentTLikelihood(0.3, 4.0))
    _, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    with jax.enable_x64(True):
        _, found = gp.value_and_gradient(model, gp.Data(jax.numpy.asarray(X), jax.numpy.asarray(y)))
    np.testing.assert_allclose(np.array(found), np.array(gradient), rtol=1e-9)

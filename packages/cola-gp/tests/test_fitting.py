"""Fits: they reach scikit-learn's optimum, honour bounds and priors, and tell the truth when they fail."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.algorithms import Auto
from cola_core.errors import NoRuleError, UnknownNameError
from cola_gp.parameters import ParameterSpace


def toy(rng, n=40, noise=0.1):
    X = np.sort(rng.uniform(0, 6, n))[:, None]
    return gp.Data(X, np.sin(X[:, 0]) + noise * rng.normal(size=n))


def test_reaches_scikit_learns_optimum(rng):
    sk = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    data = toy(rng)
    theirs = sk.GaussianProcessRegressor(
        ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1), alpha=0.0, n_restarts_optimizer=2, random_state=0
    ).fit(data.X, data.y)
    result = gp.fit(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), data)
    assert result.converged and result.gradient_norm < 1e-4 and result.jitter == 0.0
    assert result.log_likelihood == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-6)
    assert result.parameters["kernel.kernel.lengthscale"] == pytest.approx(
        theirs.kernel_.k1.k2.length_scale, rel=1e-2
    )
    assert "converged" in result.summary()


def test_grid_and_low_rank_fits_reach_the_dense_optimum(rng):
    grid = gp.Grid(np.linspace(0, 1, 6), np.linspace(0, 1, 5))
    P = grid.points()
    y = np.sin(4 * P[:, 0]) * np.cos(3 * P[:, 1]) + 0.05 * rng.normal(size=30)
    model = gp.GP(1.0 * gp.RBF([0.3, 0.3]), noise=0.01)
    on_grid, dense = gp.fit(model, gp.Data(grid, y)), gp.fit(model, gp.Data(P, y))
    assert on_grid.method != dense.method
    assert on_grid.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-7)
    X = rng.normal(size=(50, 2))
    linear = gp.fit(
        gp.GP(gp.Linear([1.0, 1.0]) + gp.Constant(1.0), noise=0.5),
        gp.Data(X, X @ [1.0, -2.0] + rng.normal(size=50)),
    )
    assert linear.converged and linear.method == "low rank (Woodbury)"
    assert 0.5 < linear.parameters["noise.variance"] < 2.0


def test_restarts_are_reproducible_and_never_worse(rng):
    data = toy(rng)
    bad = gp.GP(1.0 * gp.RBF(100.0), noise=1.0)
    alone = gp.fit(bad, data)
    several = gp.fit(bad, data, restarts=3, seed=4)
    again = gp.fit(bad, data, restarts=3, seed=4)
    assert len(several.runs) == 4
    assert several.log_likelihood >= alone.log_likelihood - 1e-9
    assert several.parameters == again.parameters


def test_bounds_fixed_and_priors(rng):
    data = toy(rng)
    model = gp.GP(1.0 * gp.RBF(1.0), noise=0.1)
    bounded = gp.fit(model, data, bounds={"*.lengthscale": (0.1, 0.5)})
    assert bounded.parameters["kernel.kernel.lengthscale"] == pytest.approx(0.5)
    assert bounded.at_bounds == ("kernel.kernel.lengthscale",)
    assert "at their bounds" in bounded.summary()
    fixed = gp.fit(model, data, fixed=["noise.variance"])
    assert "noise.variance" not in fixed.parameters
    assert np.exp(fixed.model.noise.log_variance) == pytest.approx(0.1)
    free = gp.fit(model, data)
    prior = gp.fit(model, data, priors={"noise.variance": gp.LogNormal(1.0, 0.05)})
    assert free.parameters["noise.variance"] < prior.parameters["noise.variance"] < 1.0
    assert prior.log_posterior < prior.log_likelihood
    nothing = gp.fit(model, data, fixed="*")
    assert nothing.converged and nothing.reason == "the model has no free parameters"


@pytest.mark.parametrize("prior", [gp.LogNormal(2.0, 0.7), gp.Gamma(3.0, 1.5)])
def test_prior_slopes(prior):
    for t in (-1.0, 0.3, 2.0):
        h = 1e-6
        slope = (prior.log_density(t + h)[0] - prior.log_density(t - h)[0]) / (2 * h)
        assert prior.log_density(t)[1] == pytest.approx(slope, rel=1e-6)


def test_vector_parameters_have_names():
    space = ParameterSpace(gp.GP(gp.RBF([1.0, 2.0]), gp.ConstantMean(0.5)), fixed=["kernel.lengthscale[0]"])
    assert space.all_names == [
        "kernel.lengthscale[0]",
        "kernel.lengthscale[1]",
        "mean.value",
        "noise.variance",
    ]
    assert space.names == space.all_names[1:]
    model = space.build(np.array([0.0, 7.0, 0.0]))
    np.testing.assert_allclose(np.exp(model.kernel.log_lengthscale), [1.0, 1.0])
    assert model.mean.value == 7.0
    with pytest.raises(
        UnknownNameError, match=r"no parameter matches 'kernel.period'; this model has kernel.length"
    ):
        ParameterSpace(gp.GP(gp.RBF(1.0)), fixed=["kernel.period"])
    with pytest.raises(ValueError, match="increasing"):
        ParameterSpace(gp.GP(gp.RBF(1.0)), bounds={"*": (2.0, 1.0)})
    with pytest.raises(ValueError, match="any sign"):
        ParameterSpace(gp.GP(gp.RBF(1.0), gp.ConstantMean()), priors={"mean.value": gp.LogNormal(1.0)})


def test_iteration_limit_is_reported_and_best_point_returned(rng):
    data = toy(rng)
    result = gp.fit(gp.GP(1.0 * gp.RBF(50.0), noise=5.0), data, max_iters=1)
    assert not result.converged
    assert "iteration" in result.reason.lower()
    start = float(gp.marginal_likelihood(gp.GP(1.0 * gp.RBF(50.0), noise=5.0), data))
    assert result.log_likelihood > start
    assert float(gp.marginal_likelihood(result.model, data)) == pytest.approx(result.log_likelihood, rel=1e-9)
    evaluated = gp.fit(gp.GP(1.0 * gp.RBF(50.0), noise=5.0), data, max_iters=0)
    assert evaluated.log_likelihood == pytest.approx(start) and not evaluated.converged


def test_no_finite_likelihood_gives_a_reason(rng):
    data = gp.Data(np.zeros((3, 1)), np.full(3, 1e200))
    result = gp.fit(gp.GP(gp.RBF(1.0), noise=1e-3), data, bounds={"noise.variance": (1e-4, 1e-2)})
    assert not result.converged
    assert result.reason.startswith("no finite likelihood")
    assert result.failures == result.evaluations > 0
    assert result.log_likelihood == -np.inf
    assert result.model.noise.log_variance == pytest.approx(np.log(1e-3))


def test_callback_sees_progress(rng):
    seen = []
    gp.fit(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), toy(rng), callback=lambda n, value: seen.append((n, value)))
    assert len(seen) > 2 and seen[-1][1] >= seen[0][1]


@pytest.mark.filterwarnings("ignore:all targets")
def test_degenerate_data(rng):
    for X, y in [
        (np.repeat(np.arange(5.0), 4)[:, None], np.repeat(np.arange(5.0), 4) + 0.1 * rng.normal(size=20)),
        (np.arange(10.0)[:, None], np.full(10, 3.0)),
        (np.array([[1.0]]), np.array([2.0])),
        (np.full((6, 1), 2.0), np.arange(6.0)),
    ]:
        predictor = gp.Predictor.fit(X, y)
        mean = predictor.mean(X)
        assert np.all(np.isfinite(mean)) and np.all(np.isfinite(predictor.variance(X)))
        assert abs(mean.mean() - y.mean()) < 0.2 * (1 + abs(y.mean()))


@pytest.mark.parametrize("unit", [1e-150, 1e-9, 1e9, 1e150])
def test_scaled_fit_does_not_depend_on_units(unit, rng):
    data = toy(rng)
    reference = gp.Predictor.fit(data.X, data.y)
    other = gp.Predictor.fit(unit * data.X, data.y * unit)
    np.testing.assert_allclose(other.mean(unit * data.X) / unit, reference.mean(data.X), rtol=1e-4, atol=1e-4)
    assert other.result.converged


def test_torch_data_are_fitted_by_the_same_closed_form(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = toy(rng)
    model = gp.GP(1.0 * gp.RBF(1.0), noise=0.1)
    theirs = gp.fit(model, gp.Data(torch.tensor(data.X), torch.tensor(data.y)))
    assert theirs.log_likelihood == pytest.approx(gp.fit(model, data).log_likelihood, rel=1e-8)


def test_too_large_to_store_is_refused_with_a_remedy(rng):
    with pytest.raises(NoRuleError, match=r"iterative: needs .* the budget is .* raise Auto\(memory"):
        gp.fit(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), toy(rng), alg=Auto(memory=3e4))


def test_weak_priors_are_for_several_lengthscales(rng):
    d = 4
    X = rng.normal(size=(12, d))
    y = X[:, 0] + rng.normal(size=12)
    kernel = 1.0 * gp.RBF(np.full(d, 2.0)) + gp.Matern32(1.0) * gp.Periodic(1.0, 2.0)
    space = ParameterSpace(gp.GP(kernel), priors="weak")
    held = {name for name, prior in zip(space.names, space.priors, strict=True) if prior is not None}
    assert held == {f"kernel.terms.0.kernel.lengthscale[{j}]" for j in range(d)}
    wanted = gp.LogNormal(np.exp(np.sqrt(2)) * np.sqrt(d), np.sqrt(3))  # Hvarfner et al. 2024
    assert all(p == wanted for p in space.priors if p is not None)
    model = gp.GP(1.0 * gp.RBF(np.full(d, 2.0)), noise=0.1)
    weak, plain = (gp.fit(model, gp.Data(X, y), priors=p) for p in ("weak", None))
    assert weak.log_likelihood <= plain.log_likelihood + 1e-6
    assert weak.log_posterior != weak.log_likelihood
    with pytest.raises(UnknownNameError, match="'weak', None or a dictionary"):
        gp.fit(model, gp.Data(X, y), priors="strong")
    assert gp.GPRegressor(scale=False).fit(X, y).fit_result_.log_posterior == pytest.approx(
        gp.GPRegressor(scale=False, priors=None).fit(X, y).fit_result_.log_posterior
    )

"""Models as pure functions: JAX transformations and torch.func against the closed form."""

import subprocess
import sys

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import BackendError, ShapeError, UnknownNameError
from cola_gp import functional

MODEL = gp.GP(1.5 * gp.RBF([0.7, 1.1]) + gp.White(0.2), gp.ConstantMean(0.3), noise=0.1)


@pytest.fixture
def jax():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        yield jax


def scattered(rng, n=9):
    X = rng.normal(size=(n, 2))
    return X, np.sin(X[:, 0]) + 0.2


def test_the_module_is_an_attribute():
    """`gp.functional` was an AttributeError until something else had imported it."""
    program = "import sys, cola_gp as gp; assert 'jax' not in sys.modules; gp.functional.loss; gp.nothing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "module 'cola_gp' has no attribute 'nothing'" in done.stderr


def test_parameters_are_the_trainable_leaves(rng):
    names = list(functional.parameters(MODEL))
    assert names == [
        "kernel.terms.0.kernel.log_lengthscale",
        "kernel.terms.0.log_variance",
        "kernel.terms.1.log_variance",
        "mean.value",
        "noise.log_variance",
    ]
    fixed = gp.GP(gp.RBF(1.0), noise=gp.FixedNoise(np.ones(4)))
    assert list(functional.parameters(fixed)) == ["kernel.log_lengthscale"]
    changed = functional.with_parameters(MODEL, {"mean.value": np.asarray(2.0)})
    assert changed.mean.value == 2.0 and changed.kernel is not MODEL.kernel
    np.testing.assert_array_equal(changed.noise.log_variance, MODEL.noise.log_variance)
    with pytest.raises(UnknownNameError, match="called 'noise.variance'; this model has kernel"):
        functional.with_parameters(MODEL, {"noise.variance": np.asarray(2.0)})
    with pytest.raises(ShapeError, match=r"mean.value has shape \(\), but \(2,\) was given"):
        functional.with_parameters(MODEL, {"mean.value": np.ones(2)})


def test_numpy_values(rng):
    X, y = scattered(rng)
    given = functional.parameters(MODEL)
    want = float(gp.marginal_likelihood(MODEL, gp.Data(X, y)))
    assert float(functional.log_likelihood(given, MODEL, X, y)) == pytest.approx(want)
    assert float(functional.loss(given, MODEL, X, y)) == pytest.approx(-want / 9)
    mean, variance = functional.predict(given, MODEL, X, y, X[:3])
    posterior = gp.Posterior(MODEL, gp.Data(X, y))
    np.testing.assert_allclose(mean, posterior.mean(X[:3]))
    np.testing.assert_allclose(variance, posterior.variance(X[:3]))


CASES = {
    "dense": (MODEL, None),
    "low rank": (gp.GP(gp.Linear([0.5, 2.0]) + gp.Constant(0.3), noise=0.2), None),
    "grid": (gp.GP(1.5 * gp.RBF([0.7, 1.1]), noise=0.1), (3, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_jitted_gradient_is_the_closed_form(rng, jax, case):
    model, sizes = CASES[case]
    if sizes is None:
        X, y = scattered(rng, 12)
        inputs = jax.numpy.asarray(X)
    else:
        axes = [np.sort(rng.uniform(0, 2, n)) for n in sizes]
        X, y = gp.Grid(*axes), rng.normal(size=12)
        inputs = gp.Grid(*(jax.numpy.asarray(a) for a in axes))
    given = functional.parameters(model, like=jax.numpy.asarray(y))
    value, slope = jax.jit(jax.value_and_grad(functional.log_likelihood))(
        given, model, inputs, jax.numpy.asarray(y)
    )
    want, closed = gp.value_and_gradient(model, gp.Data(X, y))
    assert float(value) == pytest.approx(float(want), rel=1e-10)
    for name, g in zip(given, closed, strict=True):
        np.testing.assert_allclose(slope[name], g, rtol=1e-7, atol=1e-9, err_msg=name)


def test_maps_over_targets_and_parameters(rng, jax):
    X, y = scattered(rng)
    Y = np.stack([y, np.cos(y), y**2])
    given = functional.parameters(MODEL, like=jax.numpy.asarray(y))
    stacked = {k: jax.numpy.stack([v, v + 0.1, v - 0.2]) for k, v in given.items()}
    run = jax.jit(jax.vmap(functional.log_likelihood, in_axes=(0, None, None, 0)))
    values = run(stacked, MODEL, jax.numpy.asarray(X), jax.numpy.asarray(Y))
    for i, (value, targets) in enumerate(zip(values, Y, strict=True)):
        model = functional.with_parameters(MODEL, {k: np.asarray(v[i]) for k, v in stacked.items()})
        want = gp.marginal_likelihood(model, gp.Data(X, targets))
        assert float(value) == pytest.approx(float(want), rel=1e-9)


def test_adam_reaches_the_optimum_of_fit(rng, jax):
    X = np.sort(rng.uniform(0, 6, 30))[:, None]
    Y = np.stack([np.sin(X[:, 0]), np.cos(X[:, 0])]) + 0.1 * rng.normal(size=(2, 30))
    model = gp.GP(1.0 * gp.RBF(1.0), noise=0.1)
    inputs = jax.numpy.asarray(X)
    start = functional.parameters(model, like=inputs)

    def train(y):
        return functional.adam(lambda p: functional.loss(p, model, inputs, y), start, 150)

    found = jax.jit(jax.vmap(train))(jax.numpy.asarray(Y))
    assert found.history.shape == (2, 150)
    assert bool((found.loss <= found.history.min(axis=1)).all())
    for i, y in enumerate(Y):
        want = gp.fit(model, gp.Data(X, y))
        assert -30 * float(found.loss[i]) == pytest.approx(want.log_likelihood, abs=2e-3)
        # The parameters returned are those of the loss returned.
        again = functional.loss(
            {k: v[i] for k, v in found.parameters.items()}, model, inputs, jax.numpy.asarray(y)
        )
        assert float(again) == pytest.approx(float(found.loss[i]), rel=1e-9)


def test_adam_with_a_prior_and_past_a_wall(jax):
    """Where there is no value, the search goes on from the best point."""
    jnp = jax.numpy

    def objective(p):
        return jnp.where(p["x"] > 0.5, (p["x"] - 1.0) ** 2, jnp.nan) + 0.0 * p["x"]

    found = functional.adam(objective, {"x": jnp.asarray(2.5)}, 200, learning_rate=0.9)
    assert float(found.parameters["x"]) == pytest.approx(1.0, abs=1e-2)
    hopeless = functional.adam(lambda p: p["x"] * jnp.nan, {"x": jnp.asarray(2.5)}, 3)
    assert float(hopeless.parameters["x"]) == 2.5 and not np.isfinite(float(hopeless.loss))
    X = jnp.linspace(0.0, 1.0, 4)[:, None]
    given = functional.parameters(MODEL.replace(kernel=gp.RBF(1.0)), like=X)
    model = MODEL.replace(kernel=gp.RBF(1.0))
    with_prior = functional.loss(given, model, X, X[:, 0], log_prior=lambda p: -(p["mean.value"] ** 2))
    without = functional.loss(given, model, X, X[:, 0])
    assert float(with_prior - without) == pytest.approx(0.09 / 4)


def test_adam_refuses_other_libraries(rng):
    with pytest.raises(BackendError, match="needs parameters that are JAX arrays"):
        functional.adam(lambda p: 0.0, functional.parameters(MODEL), 3)


def test_torch_func_gradient_and_hessian(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, y = scattered(rng)
    model = gp.GP(1.5 * gp.RBF([0.7, 1.1]), noise=0.1)
    inputs, targets = torch.tensor(X), torch.tensor(y)
    given = functional.parameters(model, like=targets)
    slope = torch.func.grad(functional.log_likelihood)(given, model, inputs, targets)
    _, closed = gp.value_and_gradient(model, gp.Data(X, y))
    for name, g in zip(given, closed, strict=True):
        np.testing.assert_allclose(slope[name], g, rtol=1e-7, atol=1e-9)
    curvature = torch.func.hessian(functional.log_likelihood)(given, model, inputs, targets)
    h = 1e-5
    noise = "noise.log_variance"

    def slope_at(t):
        changed = functional.with_parameters(model, {noise: np.asarray(np.log(0.1) + t)})
        return float(gp.value_and_gradient(changed, gp.Data(X, y))[1][-1])

    numeric = (slope_at(h) - slope_at(-h)) / (2 * h)
    assert float(curvature[noise][noise]) == pytest.approx(numeric, rel=1e-5)

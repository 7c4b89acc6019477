"""Structured kernel interpolation against the exact kernel, and its inference against the dense one."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ShapeError
from cola_gp import storage
from cola_gp._struct import leaves, with_leaves


def case(rng, d, noise=0.1):
    X = rng.uniform(0, 3, (40, d))
    y = np.sin(2 * X.sum(axis=1)) + 0.1 * rng.normal(size=40)
    base = 1.3 * gp.RBF(0.8) * gp.Periodic(2.0, 2.5)
    kernel = gp.SKI.around(base, X, 25 if d == 1 else (9, 8))
    return gp.GP(kernel, gp.ConstantMean(0.1), noise=noise), gp.Data(X, y)


@pytest.mark.parametrize("order", ["linear", "cubic"])
def test_error_falls_with_the_spacing(order, rng):
    X, exact = rng.uniform(0, 3, (50, 1)), gp.RBF(0.5)
    errors = [abs(gp.SKI.around(exact, X, n, order)(X) - exact(X)).max() for n in (20, 40, 80)]
    power = 2 if order == "linear" else 3
    assert errors[1] < errors[0] / 2 ** (power - 0.7) and errors[2] < errors[1] / 2 ** (power - 0.7)


def test_kernel_is_consistent(rng):
    model, data = case(rng, 2)
    k, X, Z = model.kernel, data.X, rng.uniform(0.1, 2.9, (6, 2))
    full = k(np.vstack([X, Z]))
    np.testing.assert_allclose(k(X, Z), full[:40, 40:], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(k.diag(X), np.diag(full)[:40], rtol=1e-10)
    assert np.linalg.eigvalsh(full).min() > -1e-10
    W = rng.normal(size=(40, 6))
    gradient = k.evaluate(X, Z)[1](W)
    for i, (value, slope) in enumerate(zip(leaves(k), gradient, strict=True)):
        if i >= len(leaves(k.kernel)):  # the grid is no parameter
            assert np.all(slope == 0)
            continue
        up, down = ([v + (h if j == i else 0) for j, v in enumerate(leaves(k))] for h in (1e-5, -1e-5))
        change = np.sum(W * (with_leaves(k, up)(X, Z) - with_leaves(k, down)(X, Z))) / 2e-5
        np.testing.assert_allclose(slope, change, rtol=1e-6, atol=1e-8)
        assert np.shape(slope) == np.shape(value)


@pytest.mark.parametrize("noise", ["common", "each"])
@pytest.mark.parametrize("d", [1, 2])
def test_inference_is_dense_inference(d, noise, rng):
    model, data = case(rng, d, 0.1 if noise == "common" else gp.FixedNoise(rng.uniform(0.05, 0.2, 40)))
    ours = gp.condition(model, data, gp.InterpolatedInference())
    dense = gp.condition(model, data, gp.DenseInference())
    Z = rng.uniform(0.1, 2.9, (7, d))
    pairs = [(ours.log_marginal_likelihood(), dense.log_marginal_likelihood()), (ours.alpha, dense.alpha)]
    pairs += [*zip(ours.gradient(), dense.gradient(), strict=True)]
    pairs += [(ours.inverse_diagonal(), dense.inverse_diagonal())]
    for name in ("latent_mean", "latent_variance", "latent_covariance", "explained_variance"):
        pairs.append((getattr(ours, name)(Z), getattr(dense, name)(Z)))
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    assert ours.jitter == 0


def test_fit_of_many_points_stays_small(rng):
    X = rng.uniform(0, 10, (5000, 1))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=5000)
    data = gp.Data(X, y)
    model = gp.GP(gp.SKI.around(1.0 * gp.RBF(1.0), X, 60), noise=0.1)
    assert "by gp:represent/interpolated" in str(gp.explain(model, data))
    result = gp.fit(model, data, max_iters=30)
    assert result.converged and "interpolation" in result.method
    assert result.parameters["noise.variance"] == pytest.approx(0.01, rel=0.1)
    assert set(result.parameters) == {
        "kernel.kernel.kernel.lengthscale",
        "kernel.kernel.variance",
        "noise.variance",
    }
    Z = np.linspace(0.5, 9.5, 20)[:, None]
    posterior = gp.Posterior(result.model, data)
    np.testing.assert_allclose(posterior.mean(Z), np.sin(Z[:, 0]), atol=0.03)


def test_other_noise_and_sums_fall_back(rng):
    model, data = case(rng, 1)
    outside = gp.GP(2.0 * model.kernel, noise=0.1)
    assert "the kernel is not SKI" in str(gp.explain(outside, data))
    assert np.isfinite(gp.condition(outside, data).log_marginal_likelihood())


def test_bad_input_says_why(rng):
    regular = gp.Grid(gp.Regular(0.0, 0.1, 20))
    with pytest.raises(TypeError, match="axes are all Regular"):
        gp.SKI(gp.RBF(), gp.Grid(np.linspace(0, 1, 10)))
    with pytest.raises(ShapeError, match="needs 4 points"):
        gp.SKI(gp.RBF(), gp.Grid(gp.Regular(0.0, 0.1, 3)))
    with pytest.raises(ValueError, match="white noise"):
        gp.SKI(gp.RBF() + gp.White(), regular)
    with pytest.raises(ValueError, match="order"):
        gp.SKI(gp.RBF(), regular, order="quintic")
    with pytest.raises(ShapeError, match="1 dimensions but the points have 2"):
        gp.SKI(gp.RBF(), regular)(rng.normal(size=(3, 2)))
    with pytest.raises(ShapeError, match="outside|within|grid"):
        gp.SKI(gp.RBF(), regular)(np.array([[5.0]]))


def test_saved_and_read_back(tmp_path, rng):
    model, data = case(rng, 2)
    storage.save(tmp_path / "m.npz", {"model": model})
    again = storage.load(tmp_path / "m.npz")[0]["model"]
    np.testing.assert_array_equal(again.kernel(data.X), model.kernel(data.X))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library, rng):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    import contextlib

    model, data = case(rng, 1)
    expected, slopes = gp.value_and_gradient(model, data, gp.InterpolatedInference())
    with module.enable_x64(True) if library == "jax" else contextlib.nullcontext():
        convert = module.tensor if library == "torch" else module.numpy.asarray
        there = gp.Data(convert(data.X), convert(data.y))

        def both(model, data):
            return gp.value_and_gradient(model, data, gp.InterpolatedInference())

        compiled = module.jit(both) if library == "jax" else both
        value, gradient = compiled(model, there)
        assert float(value) == pytest.approx(float(expected), rel=1e-9)
        for a, b in zip(gradient, slopes, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-7, atol=1e-8)

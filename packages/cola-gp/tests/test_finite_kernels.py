"""Nystrom and random Fourier kernels: dense formulas, their limits, derivatives, inference by Woodbury."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import NonFiniteError, ShapeError
from cola_gp._struct import leaves, with_leaves
from cola_gp.kernels import diagonal_gradient, point_gradient
from cola_gp.kernels.derivatives import evaluate_with_points
from cola_gp.kernels.random_fourier import unit_frequencies


def rbf(X, Z, scale, variance=1.0):
    return variance * np.exp(-0.5 * np.sum(((X[:, None] - Z[None]) / np.asarray(scale)) ** 2, axis=-1))


KERNELS = {
    "rbf": gp.RBF([0.7, 1.1]),
    "matern12": 0.4 * gp.Matern12(0.9),
    "matern32": gp.Matern32(0.9),
    "matern52": gp.Matern52([0.4, 2.0]),
    "rq": gp.RationalQuadratic([0.8, 0.5], 1.7),
    "periodic": gp.Periodic([0.9, 1.3], 1.7),
    "linear": gp.Linear([0.5, 2.0]) + gp.Constant(0.3),
    "polynomial": gp.Polynomial(3, [0.5, 0.2], 0.7),
    "cosine": gp.Cosine([1.7, 0.9]),
    "spectral": gp.SpectralMixture([0.4, 1.1], [[0.2, 0.3], [0.5, 0.1]], [[0.2, 0.1], [0.3, 0.2]]),
    "product": 1.3 * gp.RBF(0.7) * gp.Linear(0.5) + gp.ActiveDims(gp.Matern52(0.6), 1),
}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_derivatives_by_the_points_and_of_the_diagonal(name, rng):
    kernel = KERNELS[name]
    X, Z, W, v = rng.normal(size=(5, 2)), rng.normal(size=(4, 2)), rng.normal(size=(5, 4)), rng.normal(size=5)
    got = point_gradient(kernel, X, Z, W)
    step = 1e-6
    for index in np.ndindex(X.shape):
        E = np.zeros_like(X)
        E[index] = step
        slope = np.sum(W * (kernel(X + E, Z) - kernel(X - E, Z))) / (2 * step)
        assert got[index] == pytest.approx(slope, rel=1e-6, abs=1e-8)
    value, both = evaluate_with_points(kernel, Z, X)
    own, by_points = both(W.T)
    np.testing.assert_allclose(value, kernel(Z, X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_points, got, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(own, kernel.evaluate(Z, X)[1](W.T), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    # the diagonal's derivative is that of the whole matrix with weights on the diagonal
    expected = kernel.evaluate(X, X)[1](np.diag(v))
    for ours, theirs in zip(diagonal_gradient(kernel, X, v), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_derivatives_of_somebody_elses_kernel(rng):
    class Own(gp.Kernel):
        _child_fields = ("inner",)

        def __init__(self, inner):
            object.__setattr__(self, "inner", inner)

        def evaluate(self, X1, X2=None):
            return self.inner.evaluate(X1, X2)

    X, W, v = rng.normal(size=(70, 2)), rng.normal(size=(70, 3)), rng.normal(size=70)
    kernel = KERNELS["product"]
    with pytest.raises(NotImplementedError, match="Own does not know"):
        point_gradient(Own(kernel), X, X[:3], W)
    for ours, theirs in zip(
        diagonal_gradient(Own(kernel), X, v), diagonal_gradient(kernel, X, v), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    got = point_gradient(Own(kernel), torch.tensor(X), torch.tensor(X[:3]), torch.tensor(W))
    np.testing.assert_allclose(np.asarray(got), point_gradient(kernel, X, X[:3], W), rtol=1e-9, atol=1e-12)


def test_nystrom_is_its_formula_and_exact_at_its_points(rng):
    X, Z, Y = rng.normal(size=(9, 2)), rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
    kernel = gp.Nystrom(1.5 * gp.RBF([0.7, 1.1]), Z, nugget=0.0)
    middle = np.linalg.inv(rbf(Z, Z, [0.7, 1.1], 1.5))
    expected = rbf(X, Z, [0.7, 1.1], 1.5) @ middle @ rbf(Z, Y, [0.7, 1.1], 1.5)
    np.testing.assert_allclose(kernel(X, Y), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(kernel(Z), rbf(Z, Z, [0.7, 1.1], 1.5), rtol=1e-10)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(kernel(X)), rtol=1e-12)
    U, _ = kernel.features(X)
    assert U.shape == (9, 4) and kernel.feature_count(2) == 4
    # a nugget makes it smaller, never larger
    smaller = gp.Nystrom(1.5 * gp.RBF([0.7, 1.1]), Z, nugget=1e-2)(X)
    assert np.linalg.eigvalsh(kernel(X) - smaller).min() > -1e-12


def finite_differences(f, values, step=1e-6):
    out = []
    for i, value in enumerate(values):
        value = np.asarray(value, dtype=float)
        slopes = np.zeros(value.size)
        for j in range(value.size):
            moved = [value.copy(), value.copy()]
            moved[0].flat[j] += step
            moved[1].flat[j] -= step
            ends = [f([m if k == i else v for k, v in enumerate(values)]) for m in moved]
            slopes[j] = (ends[0] - ends[1]) / (2 * step)
        out.append(slopes.reshape(value.shape))
    return out


FINITE = {
    "nystrom": gp.Nystrom(
        1.5 * gp.RBF([0.7, 1.1]) + gp.Linear(0.2),
        np.array([[0.1, 0.2], [1.0, -0.5], [-0.8, 0.4]]),
        fixed=False,
    ),
    "rff": 0.7 * gp.RandomFourier(gp.RBF([0.7, 1.1]), 5, 2, key=1),
    "rff-product": gp.RandomFourier(gp.Matern32(0.9) * gp.RBF([0.7, 1.1]), 4, 2, key=1),
}


@pytest.mark.parametrize("name", sorted(FINITE))
def test_pullbacks(name, rng):
    kernel = FINITE[name]
    X, Y = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    values = leaves(kernel)
    r = kernel.feature_count(2)
    G, W, V = rng.normal(size=(6, r)), rng.normal(size=(6, 6)), rng.normal(size=(6, 4))
    cases = [
        (kernel.features(X)[1](G), lambda v: np.sum(G * with_leaves(kernel, v).features(X)[0])),
        (kernel.evaluate(X)[1](W), lambda v: np.sum(W * with_leaves(kernel, v)(X))),
        (kernel.evaluate(X, Y)[1](V), lambda v: np.sum(V * with_leaves(kernel, v)(X, Y))),
    ]
    for got, f in cases:
        for ours, theirs in zip(got, finite_differences(f, values), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(FINITE))
def test_inference_is_by_woodbury_and_equals_the_dense_one(name, rng):
    model = gp.GP(FINITE[name], gp.ConstantMean(0.3), 0.2)
    X = rng.normal(size=(40, 2))
    data = gp.Data(X, np.sin(X[:, 0]))
    assert "by gp:represent/low-rank" in str(gp.explain(model, X))
    assert gp.Posterior(model, data).method == "low rank (Woodbury)"
    K = model.kernel(X) + 0.2 * np.eye(40)
    r = data.y - 0.3
    expected = -0.5 * (r @ np.linalg.solve(K, r) + np.linalg.slogdet(K)[1] + 40 * np.log(2 * np.pi))
    value, gradient = gp.value_and_gradient(model, data)
    assert float(value) == pytest.approx(expected, rel=1e-9)
    assert float(gp.marginal_likelihood(model, data)) == pytest.approx(expected, rel=1e-9)

    def f(v):
        return float(gp.marginal_likelihood(with_leaves(model, v), data))

    for ours, theirs in zip(gradient, finite_differences(f, leaves(model), 1e-5), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(FINITE))
def test_torch_agrees_and_differentiates(name, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X = rng.normal(size=(20, 2))
    data = gp.Data(X, np.sin(X[:, 0]))
    theirs = gp.Data(torch.tensor(X), torch.tensor(data.y))
    model = gp.GP(FINITE[name], noise=0.2)
    value, gradient = gp.value_and_gradient(model, data)
    other, other_gradient = gp.value_and_gradient(model, theirs)
    assert float(other) == pytest.approx(float(value), rel=1e-9)
    params = [torch.tensor(np.asarray(v), requires_grad=True) for v in leaves(model)]
    gp.marginal_likelihood(with_leaves(model, params), theirs).backward()
    for ours, closed, found in zip(gradient, other_gradient, params, strict=True):
        np.testing.assert_allclose(np.asarray(closed), ours, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.grad.numpy(), ours, rtol=1e-6, atol=1e-8)


def test_jax_agrees_and_differentiates_compiled(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, G = rng.normal(size=(6, 2)), rng.normal(size=(6, 3 + 8))
    kernel = FINITE["nystrom"] + FINITE["rff-product"]
    expected = kernel.features(X)[1](G)
    with jax.enable_x64(True):
        Xj, Gj = jax.numpy.asarray(X), jax.numpy.asarray(G)

        def f(v):
            return jax.numpy.sum(Gj * with_leaves(kernel, v).features(Xj)[0])

        found = jax.jit(jax.grad(f))([jax.numpy.asarray(v) for v in leaves(kernel)])
        for ours, theirs in zip(expected, found, strict=True):
            np.testing.assert_allclose(np.asarray(theirs), ours, rtol=1e-7, atol=1e-9)


def test_fixed_points_stay_and_free_ones_move(rng):
    X = np.sort(rng.uniform(0, 6, 40))[:, None]
    data = gp.Data(X, np.sin(X[:, 0]) + 0.1 * rng.normal(size=40))
    Z = np.linspace(0, 6, 5)[:, None]
    result = gp.fit(gp.GP(1.0 * gp.Nystrom(gp.RBF(1.0), Z), noise=0.1), data)
    np.testing.assert_array_equal(result.model.kernel.kernel.inducing, Z)
    assert not any("inducing" in name for name in result.parameters)
    free = gp.fit(gp.GP(1.0 * gp.Nystrom(gp.RBF(1.0), Z, fixed=False), noise=0.1), data)
    assert free.log_likelihood >= result.log_likelihood - 1e-6
    assert any("inducing" in name for name in free.parameters)


SPECTRA = {
    "rbf": gp.RBF(0.8),
    "matern12": gp.Matern12(0.8),
    "matern32": gp.Matern32(0.8),
    "matern52": gp.Matern52([0.8, 1.5]),
    "product": gp.RBF(1.3) * gp.Matern52(0.9),
}


@pytest.mark.parametrize("name", sorted(SPECTRA))
def test_random_features_are_unbiased_and_converge(name, rng):
    exact = SPECTRA[name]
    X = rng.normal(size=(12, 2))
    K = exact(X)
    drawn = np.stack([gp.RandomFourier(exact, 128, 2, key=key)(X) for key in range(40)])
    error = drawn.std(axis=0, ddof=1) / np.sqrt(40) + 1e-12
    assert np.abs((drawn.mean(axis=0) - K) / error)[np.triu_indices(12, 1)].max() < 5.0
    assert drawn.std(axis=0).max() < 1.5 / np.sqrt(2 * 128)  # no worse than independent frequencies
    np.testing.assert_allclose(np.diagonal(drawn[0]), 1.0, rtol=1e-12)
    finer = gp.RandomFourier(exact, 2048, 2, key=0)(X)
    assert np.abs(finer - K).max() < 0.03


def test_frequencies_have_the_spectral_density():
    from scipy import stats

    u = np.random.default_rng(0).uniform(size=(4000, 2))
    for freedom, law in ((np.inf, stats.norm()), (1.0, stats.cauchy()), (5.0, stats.t(5))):
        assert stats.kstest(unit_frequencies(freedom, u, 1)[:, 0], law.cdf).pvalue > 1e-3


def test_keys_and_float32(rng):
    X = rng.normal(size=(5, 2)).astype(np.float32)
    a, b, c = (gp.RandomFourier(gp.RBF(1.0), 16, 2, key=key)(X) for key in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c) and a.dtype == np.float32
    K = gp.Nystrom(gp.RBF(1.0), np.repeat(X, 2, axis=0))(X)  # every point twice
    assert K.dtype == np.float32
    np.testing.assert_allclose(K, gp.RBF(1.0)(X), atol=2e-4)


def test_greedy_points_explain_most_and_skip_duplicates(rng):
    X = np.repeat(rng.uniform(0, 4, 30), 3)[:, None]
    kernel = 1.2 * gp.RBF(0.8)
    Z = gp.select_inducing(kernel, X, 100)
    assert Z.shape[1] == 1 and len(Z) <= 30 and len(np.unique(Z)) == len(Z)

    def left(Z):
        return np.sum(kernel.diag(X) - gp.Nystrom(kernel, Z).diag(X))

    rival = [left(gp.select_inducing(kernel, X, 10, method="random", key=key)) for key in range(9)]
    assert left(gp.select_inducing(kernel, X, 10)) < np.median(rival)
    assert left(Z) < 1e-6 * len(X)
    # the residual is that of pivoted Cholesky: each point has the largest variance left by those before
    for m in (1, 3):
        Z = gp.select_inducing(kernel, X, m + 1)
        Q = kernel.diag(X) - gp.Nystrom(kernel, Z[:m], nugget=0.0).diag(X)
        assert X[np.argmax(Q)] == pytest.approx(Z[m])
    np.testing.assert_array_equal(gp.select_inducing(kernel, X[:1], 5), X[:1])


def test_bad_input():
    Z = np.zeros((3, 2))
    with pytest.raises(ValueError, match="white noise does not pass"):
        gp.Nystrom(gp.RBF(1.0) + gp.White(0.1), Z)
    with pytest.raises(ShapeError, match=r"\(m, d\)"):
        gp.Nystrom(gp.RBF(1.0), np.zeros((0, 2)))
    with pytest.raises(NonFiniteError, match="finite"):
        gp.Nystrom(gp.RBF(1.0), np.full((2, 2), np.nan))
    with pytest.raises(ShapeError, match="dimensions must agree"):
        gp.Nystrom(gp.RBF(1.0), Z)(np.zeros((4, 3)))
    with pytest.raises(TypeError, match="made of kernels"):
        gp.Nystrom("rbf", Z)
    with pytest.raises(ValueError, match="nugget"):
        gp.Nystrom(gp.RBF(1.0), Z, nugget=-1.0)
    with pytest.raises(NotImplementedError, match="not Periodic"):
        gp.RandomFourier(gp.Periodic(1.0), 8, 1)
    with pytest.raises(NotImplementedError, match="alpha"):
        gp.RandomFourier(gp.RationalQuadratic(1.0), 8, 1)
    with pytest.raises(ShapeError, match="drawn for 1 dimensions"):
        gp.RandomFourier(gp.RBF(1.0), 8)(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="count >= 1"):
        gp.RandomFourier(gp.RBF(1.0), 0, 1)
    with pytest.raises(ShapeError, match="frequencies of shape"):
        gp.RandomFourier(gp.RBF(1.0), frequencies=np.zeros((2, 8, 1)))
    with pytest.raises(ValueError, match="positive integer"):
        gp.select_inducing(gp.RBF(1.0), Z, 0)
    with pytest.raises(ValueError, match="'greedy' or 'random'"):
        gp.select_inducing(gp.RBF(1.0), Z, 2, method="best")


def test_saved_and_read_back(tmp_path, rng):
    from cola_gp import storage

    model = gp.GP(FINITE["nystrom"] + FINITE["rff"], noise=0.1)
    storage.save(tmp_path / "model.npz", {"model": model})
    again = storage.load(tmp_path / "model.npz")[0]["model"]
    X = rng.normal(size=(4, 2))
    np.testing.assert_array_equal(again.kernel(X), model.kernel(X))
    assert again.kernel.terms[0].fixed is False

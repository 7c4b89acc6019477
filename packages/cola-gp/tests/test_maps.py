"""Maps, deep kernels, mean functions and noise that depends on inputs: derivatives on every library."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import FileFormatError, ShapeError
from cola_gp._struct import leaves, with_leaves
from cola_gp.kernels import diagonal_gradient, point_gradient
from cola_gp.noise import HeteroscedasticNoise, TaskNoise

AFFINE = gp.Affine([[0.5, -1.0], [0.3, 0.8], [1.1, 0.2]], [0.1, -0.2])
MAPS = {
    "affine": AFFINE,
    "affine-vector": gp.Affine([0.5, -1.0, 0.4]),
    "tanh": gp.Network.random((3, 4, 2), seed=1),
    "sin": gp.Network.random((3, 4, 5, 2), seed=2, activation="sin"),
    "softplus": gp.Network.random((3, 4, 2), seed=3, activation="softplus"),
    "relu": gp.Network.random((3, 6, 2), seed=4, activation="relu"),
    "one-layer": gp.Network.random((3, 2), seed=5),
    "chain": gp.Chain(gp.Network.random((3, 4, 2), seed=6), gp.Affine([[0.4, 0.1], [0.7, -0.3]])),
}


def numerical_gradient(function, tree, h=1e-5):
    values = leaves(tree)
    out = []
    for i, value in enumerate(values):
        grad = np.zeros(np.shape(value))
        for index in np.ndindex(*np.shape(value)):
            ends = []
            for step in (h, -h):
                moved = np.array(value, dtype=float)
                moved[index] += step
                ends.append(function(with_leaves(tree, [*values[:i], moved, *values[i + 1 :]])))
            grad[index] = (ends[0] - ends[1]) / (2 * h)
        out.append(grad)
    return out


def by_points(function, X, h=1e-5):
    out = np.zeros_like(X)
    for index in np.ndindex(*X.shape):
        step = np.zeros_like(X)
        step[index] = h
        out[index] = (function(X + step) - function(X - step)) / (2 * h)
    return out


def assert_close(ours, theirs, rtol=2e-6, atol=1e-7):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_maps_know_their_derivatives(name, rng):
    f, X = MAPS[name], rng.normal(size=(6, 3))
    Z = f(X)
    assert Z.shape == (6, f.images(3))
    G = rng.normal(size=Z.shape)
    assert_close(f.pullback(X, G), numerical_gradient(lambda m: np.sum(G * m(X)), f))
    np.testing.assert_allclose(
        f.input_gradient(X, G), by_points(lambda Y: np.sum(G * f(Y)), X), rtol=2e-6, atol=1e-8
    )
    assert f(X[:0]).shape == (0, f.images(3)) and f(X.astype("float32")).dtype == np.float32


DEEP = {
    "network": gp.Deep(1.5 * gp.RBF([0.9, 1.4]), MAPS["tanh"]),
    "projection": gp.Deep(gp.Matern52(0.8), AFFINE),
    "sum": gp.Deep(gp.Matern32(0.7) * gp.Cosine(2.0) + gp.Linear(0.4) + gp.White(0.1), MAPS["sin"]),
    "nested": gp.Deep(gp.Deep(gp.RBF(0.9), gp.Affine([[0.4, 0.1], [0.7, -0.3]])), MAPS["softplus"]),
    "periodic": gp.Deep(gp.Periodic(0.9, 2.0) + gp.RationalQuadratic(1.1, 0.7), AFFINE),
    "mixture": gp.Deep(gp.SpectralMixture([0.5], [[0.3, 0.2]], [[0.1, 0.2]]) + gp.Polynomial(2), AFFINE),
    "within": 2.0 * gp.ActiveDims(gp.Deep(gp.RBF(1.0), gp.Affine([0.7, -0.4])), (0, 2)) + gp.Matern12(1.0),
}


@pytest.mark.parametrize("name", sorted(DEEP))
def test_deep_kernels_know_their_derivatives(name, rng):
    kernel, X, Z = DEEP[name], rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    K = kernel(X)
    np.testing.assert_allclose(K, K.T, atol=1e-13)
    assert np.linalg.eigvalsh(K).min() > -1e-10
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-12)
    np.testing.assert_allclose(kernel.cross_diag(X), np.diagonal(kernel(X, X)), rtol=1e-12)
    for second in (None, Z):
        W = rng.normal(size=(6, 6 if second is None else 4))
        expected = numerical_gradient(lambda k, W=W, s=second: np.sum(W * k(X, s)), kernel)
        assert_close(kernel.evaluate(X, second)[1](W), expected)
    np.testing.assert_allclose(
        point_gradient(kernel, X, Z, W),
        by_points(lambda Y: np.sum(W * kernel(Y, Z)), X),
        rtol=2e-6,
        atol=1e-8,
    )
    v = rng.normal(size=6)
    assert_close(
        diagonal_gradient(kernel, X, v), numerical_gradient(lambda k: np.sum(v * k.cross_diag(X)), kernel)
    )
    assert not kernel.stationary and kernel.axis_factors(3) is None


def test_a_linear_kernel_of_features_has_finite_rank(rng):
    kernel = gp.Deep(0.7 * gp.Linear([0.5, 1.2]) + gp.Constant(0.3), MAPS["tanh"])
    X = rng.normal(size=(20, 3))
    U, pull = kernel.features(X)
    assert U.shape[1] == kernel.feature_count(3) == 3
    np.testing.assert_allclose(U @ U.T, kernel(X), rtol=1e-11, atol=1e-13)
    G = rng.normal(size=U.shape)
    assert_close(pull(G), numerical_gradient(lambda k: np.sum(G * k.features(X)[0]), kernel))
    assert gp.Deep(gp.RBF(), MAPS["tanh"]).feature_count(3) is None
    assert gp.Deep(gp.Linear(), lambda X: X**2).feature_count(3) is None
    data = gp.Data(X, np.sin(X[:, 0]))
    model = gp.GP(kernel, noise=0.1)
    assert "low rank" in gp.Posterior(model, data).method
    value, gradient = gp.value_and_gradient(model, data)
    K = kernel(X) + 0.1 * np.eye(20)
    expected = -0.5 * (data.y @ np.linalg.solve(K, data.y) + np.linalg.slogdet(K)[1] + 20 * np.log(2 * np.pi))
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    numeric = numerical_gradient(lambda m: float(gp.marginal_likelihood(m, data)), model)
    assert_close(gradient, numeric, rtol=1e-5, atol=1e-6)


def test_plain_functions_are_maps(rng):
    X = rng.normal(size=(5, 2))
    kernel = gp.Deep(gp.RBF(0.8), lambda X: np.stack([X[:, 0] ** 2, np.sin(X[:, 1])], axis=1))
    warped = np.stack([X[:, 0] ** 2, np.sin(X[:, 1])], axis=1)
    np.testing.assert_allclose(kernel(X), gp.RBF(0.8)(warped), rtol=1e-14)
    W = rng.normal(size=(5, 5))
    assert_close(kernel.evaluate(X)[1](W), gp.RBF(0.8).evaluate(warped)[1](W))
    with pytest.raises(NotImplementedError, match="no derivative with respect to its points"):
        point_gradient(kernel, X, X, W)
    with pytest.raises(NotImplementedError, match="parameters of a NumPy function"):
        gp.Deep(gp.RBF(), gp.Function(lambda p, X: X * p, np.ones(2))).evaluate(X)[1](W)


def test_parameters_keep_their_form():
    tree = {"b": [np.ones(2), (np.zeros(()),)], "a": 3.0}
    seen = []
    f = gp.Function(lambda p, X: seen.append(p) or X, tree)
    f(np.zeros((1, 1)))
    assert (
        list(seen[0]) == ["a", "b"] and isinstance(seen[0]["b"], list) and isinstance(seen[0]["b"][1], tuple)
    )
    assert len(leaves(f)) == 3
    assert float(f.module_parameters()["a"]) == 3.0


MEANS = {
    "constant": gp.ConstantMean(0.7),
    "linear": gp.LinearMean([0.5, -0.3, 0.1], 0.4),
    "network": gp.MapMean(gp.Network.random((3, 4, 1), seed=1)),
    "tasks": gp.TaskMean([0.3, -0.2, 1.1], dim=2),
    "sum": gp.LinearMean([0.5, -0.3, 0.1]) + gp.TaskMean(3, dim=2) + gp.ConstantMean(1.0),
}
NOISES = {
    "tasks": TaskNoise([0.1, 0.3, 0.05], dim=2),
    "log-linear": HeteroscedasticNoise(gp.Affine([0.5, -0.3, 0.1], -2.0)),
    "network": HeteroscedasticNoise(gp.Network.random((3, 4, 1), seed=2)),
}


def draw(rng, n):
    X = rng.normal(size=(n, 3))
    X[:, 2] = rng.integers(0, 3, n)
    return X


@pytest.mark.parametrize("name", sorted(MEANS))
def test_means_know_their_derivatives(name, rng):
    mean, X, v = MEANS[name], draw(rng, 7), rng.normal(size=7)
    assert mean(X).shape == (7,) and mean(X[:0]).shape == (0,)
    assert_close(mean.pullback(X, v), numerical_gradient(lambda m: np.sum(v * m(X)), mean))


def test_means_are_what_they_say(rng):
    X = draw(rng, 5)
    np.testing.assert_allclose(MEANS["linear"](X), X @ [0.5, -0.3, 0.1] + 0.4)
    np.testing.assert_allclose(MEANS["tasks"](X), np.array([0.3, -0.2, 1.1])[X[:, 2].astype(int)])
    np.testing.assert_allclose(MEANS["sum"](X), X @ [0.5, -0.3, 0.1] + 1.0)
    assert len(MEANS["sum"].terms) == 3
    np.testing.assert_allclose(gp.MapMean(lambda X: X[:, 0] ** 2)(X), X[:, 0] ** 2)


@pytest.mark.parametrize("name", sorted(NOISES))
def test_noises_know_their_derivatives(name, rng):
    noise, X, v = NOISES[name], draw(rng, 7), rng.normal(size=7)
    variances = noise.variances(v, X)
    assert np.all(variances > 0) and noise.at_test_points(v, X[:2]).shape == (2,)
    np.testing.assert_allclose(noise.operator(v, X).to_dense(), np.diag(variances))
    assert_close(noise.pullback(v, X), numerical_gradient(lambda m: np.sum(v * m.variances(v, X)), noise))
    with pytest.raises(ValueError, match="depends on the inputs"):
        noise.variances(v)
    with pytest.raises(ShapeError, match="have 3 inputs"):
        noise.variances(v, X[:3])


@pytest.mark.parametrize("name", sorted(NOISES))
def test_inference_with_noise_of_the_inputs(name, rng):
    X, Z = draw(rng, 15), draw(rng, 4)
    data = gp.Data(X, np.sin(X[:, 0]))
    model = gp.GP(gp.ActiveDims(gp.RBF(0.9), (0, 1)), MEANS["tasks"], NOISES[name])
    value, gradient = gp.value_and_gradient(model, data)
    noise = model.noise.variances(data.y, X)
    K = model.kernel(X) + np.diag(noise)
    r = data.y - model.mean(X)
    expected = -0.5 * (r @ np.linalg.solve(K, r) + np.linalg.slogdet(K)[1] + 15 * np.log(2 * np.pi))
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    np.testing.assert_allclose(gp.marginal_likelihood(model, data), expected, rtol=1e-10)
    numeric = numerical_gradient(lambda m: float(gp.marginal_likelihood(m, data)), model)
    assert_close(gradient, numeric, rtol=1e-5, atol=1e-6)
    posterior = gp.Posterior(model, data)
    extra = posterior.variance(Z, include_noise=True) - posterior.variance(Z)
    np.testing.assert_allclose(extra, model.noise.variances(Z[:, 0], Z), rtol=1e-9)
    K_test = model.kernel(Z, X)
    np.testing.assert_allclose(posterior.mean(Z), model.mean(Z) + K_test @ np.linalg.solve(K, r), rtol=1e-9)


def test_heteroscedastic_noise_is_found_by_a_fit():
    rng = np.random.default_rng(3)
    X = np.sort(rng.uniform(-2, 2, 150))[:, None]
    sd = np.exp(0.8 * X[:, 0] - 1.5)
    data = gp.Data(X, np.sin(2 * X[:, 0]) + sd * rng.normal(size=150))
    model = gp.GP(1.0 * gp.RBF(1.0), noise=HeteroscedasticNoise(gp.Affine([0.0], -2.0)))
    result = gp.fit(model, data)
    slope = float(result.model.noise.map.weight[0, 0])
    assert result.converged and abs(slope - 1.6) < 0.5
    assert result.log_likelihood > gp.fit(gp.GP(1.0 * gp.RBF(1.0)), data).log_likelihood + 5


def test_bad_input():
    with pytest.raises(ShapeError, match=r"must be \(d, q\) and \(q,\)"):
        gp.Affine(np.ones((2, 2)), np.ones(3))
    with pytest.raises(ShapeError, match="Affine takes 3 dimensions but the points have 2"):
        AFFINE(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="activation must be one of tanh"):
        gp.Network([np.ones((1, 1))], [np.ones(1)], "cube")
    with pytest.raises(ShapeError, match="layer 1 of Network does not fit"):
        gp.Network([np.ones((1, 2)), np.ones((3, 1))], [np.ones(2), np.ones(1)])
    with pytest.raises(ShapeError, match="one offset per weight"):
        gp.Network([np.ones((1, 2))], [])
    with pytest.raises(ValueError, match="at least two positive integers"):
        gp.Network.random((3,))
    with pytest.raises(TypeError, match="expected a map"):
        gp.Deep(gp.RBF(), 3.0)
    with pytest.raises(TypeError, match="must return a numpy array"):
        gp.Function(lambda X: 1.0)(np.zeros((2, 1)))
    with pytest.raises(ShapeError, match="must map points"):
        gp.Function(lambda X: X[:1])(np.zeros((2, 1)))
    with pytest.raises(TypeError, match="Chain is made of maps"):
        gp.Chain()
    with pytest.raises(ShapeError, match="LinearMean has 2 weights but the points have 1"):
        gp.LinearMean([1.0, 2.0])(np.zeros((2, 1)))
    with pytest.raises(ShapeError, match="one image per point"):
        gp.MapMean(AFFINE)(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="not one of the labels of TaskNoise"):
        TaskNoise([0.1, 0.2]).variances(np.ones(1), np.array([[2.0]]))
    with pytest.raises(ShapeError, match="uses dimension 1"):
        gp.TaskMean(2, dim=1)(np.zeros((2, 1)))
    with pytest.raises(ShapeError, match="one variance per task"):
        TaskNoise(0.1)
    with pytest.raises(TypeError, match="made of means"):
        gp.SumMean()
    with pytest.raises(ValueError, match="weight must be finite"):
        gp.LinearMean([np.nan])


def test_models_with_maps_are_saved_and_functions_are_not(tmp_path):
    from cola_gp import storage

    model = gp.GP(DEEP["network"], MEANS["sum"], NOISES["log-linear"])
    storage.save(tmp_path / "m.npz", {"model": model})
    back = storage.load(tmp_path / "m.npz")[0]["model"]
    assert_close(leaves(back), leaves(model), rtol=0, atol=0)
    assert back.kernel.map.activation == "tanh"
    with pytest.raises(FileFormatError):
        storage.save(tmp_path / "f.npz", {"model": gp.GP(gp.Deep(gp.RBF(), lambda X: X))})


def test_torch(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, W = draw(rng, 6), rng.normal(size=(6, 6))
    Xt, Wt = torch.tensor(X), torch.tensor(W)
    for name in ("network", "within", "nested"):
        kernel = DEEP[name]
        params = [torch.tensor(v, requires_grad=True) for v in leaves(kernel)]
        (Wt * with_leaves(kernel, params)(Xt)).sum().backward()
        assert_close(kernel.evaluate(X)[1](W), [p.grad.numpy() for p in params], rtol=1e-9, atol=1e-12)
        closed = with_leaves(kernel, [p.detach() for p in params]).evaluate(Xt)[1](Wt)
        assert_close(kernel.evaluate(X)[1](W), [g.numpy() for g in closed], rtol=1e-9, atol=1e-12)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    deep = gp.Deep(1.5 * gp.RBF([0.9, 1.4]), gp.Function.of_module(module))
    ws = [module[i].weight.detach().numpy().T for i in (0, 2)]
    bs = [module[i].bias.detach().numpy() for i in (0, 2)]
    same = gp.Deep(1.5 * gp.RBF([0.9, 1.4]), gp.Network(ws, bs))
    np.testing.assert_allclose(deep(Xt).detach().numpy(), same(X), rtol=1e-10)
    ours, theirs = same.evaluate(X)[1](W), deep.evaluate(Xt)[1](Wt)
    np.testing.assert_allclose(theirs[2].numpy(), ours[2].T, rtol=1e-9)  # a torch layer stores its transpose
    data = gp.Data(Xt, torch.tensor(np.sin(X[:, 0])))
    model = gp.GP(deep, noise=0.1)
    value, gradient = gp.value_and_gradient(model, data)
    params = [torch.as_tensor(v).clone().requires_grad_() for v in leaves(model)]
    auto = gp.marginal_likelihood(with_leaves(model, params), data)
    auto.backward()
    assert abs(float(value.detach()) - float(auto.detach())) < 1e-9
    assert_close([g.numpy() for g in gradient], [p.grad.numpy() for p in params], rtol=1e-7, atol=1e-9)
    result = gp.fit(model, data, max_iters=3)
    assert result.log_likelihood > float(value.detach())


def test_jax(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X, W = draw(rng, 6), rng.normal(size=(6, 6))
    with jax.enable_x64(True):
        jnp = jax.numpy
        deep = gp.Deep(
            1.5 * gp.RBF(0.9),
            gp.Function(
                lambda p, X: jnp.tanh(X @ p["w"] + p["b"]), {"w": MAPS["tanh"].weights[0], "b": np.ones(4)}
            ),
        )
        same = gp.Deep(
            1.5 * gp.RBF(0.9),
            gp.Network([MAPS["tanh"].weights[0], np.eye(4)], [np.ones(4), np.zeros(4)]),
        )
        both = jax.jit(
            lambda p, X: (
                jax.grad(lambda q: jnp.sum(W * with_leaves(deep, q)(X)))(p),
                with_leaves(deep, p).evaluate(X)[1](jnp.asarray(W)),
            )
        )
        auto, closed = both([jnp.asarray(v) for v in leaves(deep)], jnp.asarray(X))
        assert_close([np.asarray(a) for a in auto], [np.asarray(c) for c in closed], rtol=1e-9, atol=1e-12)
        ours = same.evaluate(X)[1](W)
        assert_close(
            [np.asarray(auto[i]) for i in (0, 2, 3)], [ours[0], ours[4], ours[2]], rtol=1e-8, atol=1e-10
        )
        model = gp.GP(same, MEANS["sum"], NOISES["log-linear"])
        data = gp.Data(jnp.asarray(X), jnp.sin(jnp.asarray(X[:, 0])))

        @jax.jit
        def run(p):
            m = with_leaves(model, p)
            return jax.grad(lambda q: gp.marginal_likelihood(with_leaves(model, q), data))(p), (
                gp.value_and_gradient(m, data)[1]
            )

        auto, closed = run([jnp.asarray(v) for v in leaves(model)])
        assert_close([np.asarray(a) for a in auto], [np.asarray(c) for c in closed], rtol=1e-7, atol=1e-9)


def test_columns_of_labels_are_known_and_stay_unscaled():
    rng = np.random.default_rng(5)
    X = np.concatenate([rng.uniform(-4, 4, (60, 2)), rng.integers(0, 3, (60, 1))], axis=1)
    y = np.sin(X[:, 0]) * (1 + X[:, 2]) + 50.0 + 0.05 * rng.normal(size=60)
    tasks = gp.ActiveDims(gp.RBF([1.0, 1.0]), (0, 1)) * gp.ActiveDims(gp.Coregion(3), 2)
    model = gp.GP(tasks, gp.ConstantMean() + gp.TaskMean(3, dim=-1), TaskNoise([0.1] * 3, dim=2))
    assert model.label_dims(3) == {2}
    assert gp.ActiveDims(1.0 * tasks, (4, 0, 1)).label_dims(5) == {1}
    assert (gp.RBF() + gp.Deep(gp.RBF(), gp.Affine([1.0]))).label_dims(1) == set()
    assert gp.GP(gp.RBF()).label_dims(2) == set()
    predictor = gp.Predictor.fit(X, y, model, fixed=("mean.terms.0.value",))
    np.testing.assert_array_equal(predictor.scaling.x_scale[2], 1.0)
    np.testing.assert_allclose(predictor.scaling.x_scale[:2], X[:, :2].std(axis=0))
    assert np.sqrt(np.mean((predictor.mean(X) - y) ** 2)) < 0.1
    new = np.array([[0.5, 0.0, 2.0]])
    np.testing.assert_allclose(predictor.mean(new), 50.0 + 3 * np.sin(0.5), atol=0.3)


def test_points_are_mapped_once_however_many_there_are():
    rng = np.random.default_rng(6)
    X, calls = rng.normal(size=(700, 2)), []
    kernel = 1.5 * gp.Deep(gp.RBF(0.9), lambda X: calls.append(len(X)) or np.tanh(X)) + gp.Linear(0.1)
    assert not kernel.blockwise and (gp.RBF() + gp.Linear()).blockwise
    data = gp.Data(X, np.sin(X[:, 0]))
    value, gradient = gp.value_and_gradient(gp.GP(kernel, noise=0.3), data)
    assert sum(calls) <= 2 * 700
    plain = gp.GP(1.5 * gp.RBF(0.9), noise=0.3)
    network = gp.Network([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)])
    same = gp.GP(1.5 * gp.Deep(gp.RBF(0.9), network), noise=0.3)
    expected, slopes = gp.value_and_gradient(plain, gp.Data(np.tanh(X), data.y))
    found, ours = gp.value_and_gradient(same, data)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose([ours[0], ours[-2], ours[-1]], slopes, rtol=1e-9)
    moved = with_leaves(same, [v + (1e-6 if i == 1 else 0.0) for i, v in enumerate(leaves(same))])
    back = with_leaves(same, [v - (1e-6 if i == 1 else 0.0) for i, v in enumerate(leaves(same))])
    slope = (gp.marginal_likelihood(moved, data) - gp.marginal_likelihood(back, data)) / 2e-6
    np.testing.assert_allclose(np.sum(ours[1]), slope, rtol=1e-5)


@pytest.mark.parametrize("name", ["network", "sum", "nested", "within"])
def test_blocks_of_a_deep_kernel_take_any_weights(name, rng, monkeypatch):
    kernel, X, W = DEEP[name], rng.normal(size=(37, 3)), rng.normal(size=(37, 37))
    value, pull = kernel.evaluate(X)
    expected = pull(W)
    monkeypatch.setattr("cola_gp.kernels.symmetric.LEAST", 4)
    monkeypatch.setattr("cola_gp.kernels.symmetric.BLOCK_ENTRIES", 1)
    found, blocks = kernel.evaluate(X)
    np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-14)
    assert_close(blocks(W), expected, rtol=1e-9, atol=1e-11)

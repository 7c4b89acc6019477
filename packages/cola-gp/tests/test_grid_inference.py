"""Inference on grids against the same model on the same points written out, by a dense factorisation."""

import contextlib

import numpy as np
import pytest

import cola_core as cola
import cola_gp as gp
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.errors import ShapeError
from cola_gp._struct import leaves, with_leaves
from cola_gp.inference.axis_basis import axis_basis
from cola_gp.inference.tensors import apply, diagonal_sums
from cola_gp.inference.toeplitz import diagonal_of_inverse, diagonal_sums_of_inverse

STATIONARY = 1.3 * gp.Matern32(0.2) + gp.RBF(0.05) * gp.Periodic(0.7, 0.3) + gp.White(0.03)


def regular_case(rng, n):
    axis = gp.Regular(-0.3, 0.05, n)
    return gp.GP(STATIONARY, gp.ConstantMean(0.3), noise=0.02), gp.Data(gp.Grid(axis), rng.normal(size=n))


def grid_case(rng, kind):
    if kind == "space":
        grid = gp.Grid(gp.Regular(0.0, 0.1, 7), gp.Regular(0.0, -0.2, 8))
        kernel = 1.3 * gp.RBF([0.3, 0.5]) * gp.ActiveDims(gp.Matern32(0.4), 1)
    elif kind == "tasks":
        grid = gp.Grid(rng.normal(size=(6, 2)), np.arange(3.0))
        kernel = gp.ActiveDims(gp.Matern52([0.5, 0.8]), (0, 1)) * gp.ActiveDims(gp.Coregion(3, rank=2), 2)
    else:
        grid = gp.Grid(gp.Regular(0.0, 0.1, 5), rng.normal(size=4), gp.Regular(1.0, 0.2, 3))
        kernel = gp.Periodic(0.5, [0.3, 0.7, 2.0]) * gp.Constant(2.0)
    return gp.GP(kernel, gp.ConstantMean(0.2), noise=0.2), gp.Data(grid, rng.normal(size=grid.shape[0]))


def missing_case(rng, kind, fraction):
    """A grid on which some values are missing, the first always."""
    if kind == "line":
        model = gp.GP(gp.RBF(0.3) + gp.Linear(), noise=0.1)
        grid = gp.Grid(gp.Regular(0.0, 0.1, 15))
    else:
        model, full = grid_case(rng, kind)
        grid = full.X
    y = rng.normal(size=grid.shape[0])
    y[rng.random(y.size) < fraction] = np.nan
    y[0] = np.nan
    return model, gp.Data(grid, y)


def written_out(data):
    return gp.Data(data.X.points(), data.y)


def assert_same_inference(model, data, alg, rng, rtol=1e-8, atol=1e-10):
    """Every answer of a structured inference, against the dense one."""
    ours = gp.condition(model, data, alg)
    dense = gp.condition(model, written_out(data), gp.DenseInference())

    def same(a, b):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)

    same(ours.log_marginal_likelihood(), dense.log_marginal_likelihood())
    same(ours.alpha, dense.alpha)
    for a, b in zip(ours.gradient(), dense.gradient(), strict=True):
        same(a, b)
    same(ours.inverse_diagonal(), dense.inverse_diagonal())
    Z = data.X.points()[rng.permutation(data.n)[:5]] + 0.0
    if not isinstance(model.kernel, gp.Product):  # task numbers must stay task numbers
        Z = Z + 0.03
    for name in ("latent_mean", "latent_variance", "latent_covariance"):
        same(getattr(ours, name)(Z), getattr(dense, name)(Z))
    return ours


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_toeplitz_is_dense_inference(n, rng):
    model, data = regular_case(rng, n)
    assert "Levinson" in assert_same_inference(model, data, gp.ToeplitzInference(), rng).method


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_diagonals_of_the_inverse_of_toeplitz(n, rng):
    column = 0.5 ** np.arange(n) + 0.2 * np.cos(np.arange(n)) + np.where(np.arange(n) == 0, 0.3, 0)
    T = column[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]
    inverse = np.linalg.inv(T)
    expected = [np.trace(inverse, k) for k in range(n)]
    np.testing.assert_allclose(diagonal_sums_of_inverse(inverse[:, 0]), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(diagonal_of_inverse(inverse[:, 0]), np.diag(inverse), rtol=1e-9)
    W = rng.normal(size=(n, n))
    both = [np.trace(W, k) + (np.trace(W, -k) if k else 0) for k in range(n)]
    np.testing.assert_allclose(diagonal_sums(W), both, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_eigenpairs_of_a_toeplitz_factor(n):
    T = cola.PSD(ops.Toeplitz(np.exp(-0.5 * (np.arange(n) / 2.0) ** 2)))
    w, Q = axis_basis(T).values, axis_basis(T).matrix
    np.testing.assert_allclose((Q * w) @ Q.T, T.to_dense(), atol=1e-13)
    np.testing.assert_allclose(Q.T @ Q, np.eye(n), atol=1e-13)


def test_apply_multiplies_axes(rng):
    T = rng.normal(size=(2, 3, 4))
    Ms = [rng.normal(size=(k, k)) for k in T.shape]
    np.testing.assert_allclose(apply(Ms, T), np.einsum("ai,bj,ck,ijk->abc", *Ms, T), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["space", "tasks", "three"])
def test_kronecker_is_dense_inference(kind, rng):
    model, data = grid_case(rng, kind)
    assert_same_inference(model, data, gp.KroneckerInference(), rng)


@pytest.mark.parametrize("case", [grid_case, lambda rng, kind: missing_case(rng, kind, 0.2)])
@pytest.mark.parametrize("kind", ["space", "tasks"])
def test_predictions_on_a_grid_are_those_at_its_points(kind, case, rng):
    model, data = case(rng, kind)
    grid = data.X if isinstance(data.X, gp.Grid) else data.X.grid
    first = grid.axis_points()[0][:3] + 0.01
    test = gp.Grid(first if kind == "tasks" else first[:, 0], grid.axes[1])
    alg = gp.KroneckerInference() if data.X is grid else gp.ObservedInference()
    posterior = gp.Posterior(model, data, alg)
    np.testing.assert_allclose(posterior.mean(test), posterior.mean(test.points()), rtol=1e-9, atol=1e-11)
    for noise in (False, True):
        expected = posterior.variance(test.points(), include_noise=noise)
        np.testing.assert_allclose(posterior.variance(test, include_noise=noise), expected, rtol=1e-8)
    whole = posterior._conditioned.latent_variance_on(grid)
    np.testing.assert_allclose(whole, posterior.variance(grid.points()), rtol=1e-7, atol=1e-10)
    joined = gp.Grid(test.points())  # one axis for all dimensions
    np.testing.assert_allclose(posterior.mean(joined), posterior.mean(test), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("kind", ["space", "tasks", "three", "line"])
def test_missing_values_are_dense_inference(kind, fraction, rng):
    model, data = missing_case(rng, kind, fraction)
    assert_same_inference(model, data, gp.ObservedInference(), rng)
    expected = gp.condition(model, written_out(data), gp.DenseInference()).log_marginal_likelihood()
    assert gp.marginal_likelihood(model, data, gp.ObservedInference()) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_noise_per_task(fraction, rng):
    model, data = missing_case(rng, "tasks", fraction)
    if not fraction:
        model, data = grid_case(rng, "tasks")
    model = model.replace(noise=gp.TaskNoise([0.1, 0.3, 0.7], dim=2))
    alg = gp.ObservedInference() if fraction else gp.KroneckerInference()
    assert_same_inference(model, data, alg, rng)
    if not fraction:
        expected = gp.condition(model, data, gp.DenseInference()).log_marginal_likelihood()
        assert gp.marginal_likelihood(model, data, alg) == pytest.approx(expected, rel=1e-10)
        test = gp.Grid(data.X.axis_points()[0][:2] + 0.1, np.arange(3.0))
        posterior = gp.Posterior(model, data, alg)
        np.testing.assert_allclose(posterior.variance(test), posterior.variance(test.points()), rtol=1e-9)
        assert "kronecker" in str(cola.explain(cola.logdet, model.covariance(data.X)))


@pytest.mark.parametrize("alg", [gp.KroneckerInference(), gp.GridIterativeInference(probes=2)])
def test_many_targets_with_common_parameters(alg, rng):
    X, Y = rng.normal(size=(9, 2)), rng.normal(size=(9, 4))
    one = gp.GP(gp.Matern32([0.7, 1.1]), noise=0.3)
    tasks = gp.ActiveDims(gp.Coregion(4, rank=0), 2)
    together = one.replace(kernel=gp.ActiveDims(one.kernel, (0, 1)) * tasks)
    data = gp.Data(gp.Grid(X, np.arange(4.0)), Y)
    value, gradient = gp.value_and_gradient(together, data, alg)
    apart = [gp.value_and_gradient(one, gp.Data(X, y)) for y in Y.T]
    assert value == pytest.approx(sum(v for v, _ in apart), rel=1e-9)
    np.testing.assert_allclose(gradient[0], sum(g[0] for _, g in apart), rtol=1e-6)
    np.testing.assert_allclose(gradient[-1], sum(g[-1] for _, g in apart), rtol=1e-6)
    assert gradient[1].shape == (4, 0)


@pytest.mark.parametrize("sizes", [(1, 5), (4, 1), (1, 1), (2, 3)])
def test_axes_of_one_place(sizes, rng):
    grid = gp.Grid(gp.Regular(0.0, 0.3, sizes[0]), gp.Regular(0.0, 0.2, sizes[1]))
    model = gp.GP(1.3 * gp.RBF([0.3, 0.5]), noise=0.2)
    y = rng.normal(size=sizes)
    assert_same_inference(model, gp.Data(grid, y), gp.KroneckerInference(), rng)
    if y.size > 1:
        y.flat[1:] = np.nan  # one observation is left
        assert_same_inference(model, gp.Data(grid, y), gp.ObservedInference(), rng)


@pytest.mark.parametrize("missing", [False, True])
def test_float32_on_a_grid(missing, rng):
    y = rng.normal(size=(20, 20))
    if missing:
        y[3, 4:9] = np.nan
    model = gp.GP(1.0 * gp.RBF([0.2, 0.3]), noise=0.01)
    found = []
    for dtype in (np.float32, np.float64):
        axis = gp.Regular(dtype(0.0), dtype(0.05), 20)
        alg = gp.ObservedInference() if missing else gp.KroneckerInference()
        found.append(gp.condition(model, gp.Data(gp.Grid(axis, axis), y.astype(dtype)), alg))
    single, double = found
    assert single.alpha.dtype == np.float32 and single.jitter == 0
    np.testing.assert_allclose(single.log_marginal_likelihood(), double.log_marginal_likelihood(), rtol=1e-4)
    for a, b in zip(single.gradient(), double.gradient(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2 * np.abs(b).max())


def test_observed_operator_is_a_block_of_the_grid(rng):
    model, data = missing_case(rng, "space", 0.4)
    whole = gp.Grid(*data.X.grid.axes)
    pinned = cola.Auto(rules=("gp:represent/observed-on-grid",))
    K = gp.represent(gp.CovarianceOperator(model.kernel, data.X), alg=pinned)
    block = model.prior(whole).to_dense()[np.ix_(data.X.index, data.X.index)]
    np.testing.assert_allclose(K.operator.to_dense(), block, rtol=1e-12)
    A = K.operator + cola.PSD(ops.ScalarMul(np.array(0.3), data.n))
    b = rng.normal(size=(data.n, 2))
    np.testing.assert_allclose(cola.solve(A, b), np.linalg.solve(block + 0.3 * np.eye(data.n), b), rtol=1e-9)
    assert "observed-on-grid" in str(cola.explain(cola.logdet, A))


def test_few_missing_values_stay_on_the_grid(rng):
    # the cost decides: with most values missing the observed points alone are cheaper
    grid = gp.Grid(gp.Regular(0.0, 0.1, 40), gp.Regular(0.0, 0.1, 30))
    model, y = gp.GP(gp.RBF([0.3, 0.5]), noise=0.1), rng.normal(size=1200)
    few, most = y.copy(), y.copy()
    few[::100] = np.nan
    most[30:] = np.nan
    assert "Schur" in gp.condition(model, gp.Data(grid, few)).method
    assert "dense" in gp.condition(model, gp.Data(grid, most)).method


def test_the_form_follows_the_axes(rng):
    model, data = grid_case(rng, "space")
    classes = {type(M) for M in model.prior(data.X).Ms}
    assert classes == {ops.Toeplitz}
    plain = gp.Grid(*(P[:, 0] for P in data.X.axis_points()))
    assert {type(M) for M in model.prior(plain).Ms} == {ops.Dense}
    np.testing.assert_allclose(model.prior(plain).to_dense(), model.prior(data.X).to_dense(), rtol=1e-12)


def test_explain_says_why_not_toeplitz(rng):
    model, data = regular_case(rng, 40)
    text = str(gp.explain(model, gp.Data(gp.Grid(data.X.points()[:, 0]), data.y)))
    assert "not declared equally spaced" in text
    linear = gp.GP(gp.Linear() + gp.RBF(), noise=0.1)
    assert "Sum is not stationary" in str(gp.explain(linear, data))
    large = gp.Data(gp.Grid(gp.Regular(0.0, 0.05, 3000)), rng.normal(size=3000))
    assert "toeplitz" in str(gp.explain(model, large)).splitlines()[0] + str(gp.explain(model, large))


def test_singular_toeplitz_takes_the_dense_path_and_reports(rng):
    axis = gp.Regular(0.0, 0.001, 60)
    data = gp.Data(gp.Grid(axis), np.sin(axis.coordinates()))
    model = gp.GP(gp.RBF(10.0), noise=1e-17)
    ours = gp.condition(model, data, gp.ToeplitzInference())
    assert "lost its accuracy" in ours.method and ours.jitter > 0
    dense = gp.condition(model, written_out(data), gp.DenseInference())
    np.testing.assert_allclose(ours.log_marginal_likelihood(), dense.log_marginal_likelihood(), rtol=1e-3)


def test_float32_toeplitz(rng):
    model, data = regular_case(rng, 200)
    axis = data.X.axes[0]
    single = gp.Grid(gp.Regular(np.float32(axis.start), np.float32(axis.step), axis.count))
    value, gradient = gp.value_and_gradient(
        model, gp.Data(single, data.y.astype(np.float32)), gp.ToeplitzInference()
    )
    expected, slopes = gp.value_and_gradient(model, data, gp.ToeplitzInference())
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    for a, b in zip(gradient, slopes, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-2)


def in_library(X, convert):
    """The same inputs with every array converted."""
    if isinstance(X, gp.GridSubset):
        return gp.GridSubset(in_library(X.grid, convert), convert(X.index), convert(X.missing))
    return gp.Grid(
        *(
            gp.Regular(convert(a.start), convert(a.step), a.count)
            if isinstance(a, gp.Regular)
            else convert(a)
            for a in X.axes
        )
    )


def library_case(kind, rng):
    if kind == "line":
        return (*regular_case(rng, 12), gp.ToeplitzInference())
    if kind == "missing":
        return (*missing_case(rng, "space", 0.2), gp.ObservedInference())
    return (*grid_case(rng, kind), gp.KroneckerInference())


LIBRARY_KINDS = ["line", "tasks", "space", "missing"]


@pytest.mark.parametrize("kind", LIBRARY_KINDS)
def test_torch_values_gradients_and_autodiff(kind, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, data, alg = library_case(kind, rng)
    expected, slopes = gp.value_and_gradient(model, data, alg)
    there = gp.Data(in_library(data.X, lambda a: torch.tensor(np.asarray(a))), torch.tensor(data.y))
    params = [torch.tensor(np.asarray(v), requires_grad=True) for v in leaves(model)]
    value = gp.marginal_likelihood(with_leaves(model, params), there, alg)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-9)
    close(slopes, [p.grad for p in params])
    value, gradient = gp.value_and_gradient(model, there, alg)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)
    close(slopes, gradient)


@pytest.mark.parametrize("kind", LIBRARY_KINDS)
def test_jax_compiled_values_and_gradients(kind, rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    model, data, alg = library_case(kind, rng)
    expected, slopes = gp.value_and_gradient(model, data, alg)
    with jax.enable_x64(True):
        there = gp.Data(in_library(data.X, jax.numpy.asarray), jax.numpy.asarray(data.y))
        traced = with_leaves(model, [jax.numpy.asarray(v) for v in leaves(model)])
        value, gradient = jax.jit(lambda m, d: gp.value_and_gradient(m, d, alg))(traced, there)
        assert float(value) == pytest.approx(float(expected), rel=1e-9)
        close(slopes, gradient)
        if kind in ("tasks", "space"):  # the core's own rules, which its tests cover
            return
        by_core = jax.jit(jax.value_and_grad(lambda m: gp.marginal_likelihood(m, there, alg)))(traced)
        assert float(by_core[0]) == pytest.approx(float(expected), rel=1e-9)
        close(slopes, leaves(by_core[1]))


def close(expected, found):
    for e, f in zip(expected, found, strict=True):
        np.testing.assert_allclose(np.asarray(f), e, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_known_noise_of_every_grid_point_beside_missing_targets(library, rng):
    """Variances may belong to the grid's points, of which only some are observed."""
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    with module.enable_x64(True) if library == "jax" else contextlib.nullcontext():
        known_noise(get_backend(library), rng)


def known_noise(backend, rng):
    variances = np.exp(rng.normal(size=20)) * 0.1
    y = rng.normal(size=20)
    y[[3, 11, 12]] = np.nan
    seen = ~np.isnan(y)
    axes = np.linspace(0, 1, 4), np.linspace(0, 2, 5)
    grid = gp.Grid(*(backend.asarray(a) for a in axes))
    data = gp.Data(grid, backend.asarray(y))
    values, gradients = [], []
    for noise in (variances, variances[seen]):
        model = gp.GP(1.3 * gp.RBF([0.5, 0.8]), noise=gp.FixedNoise(backend.asarray(noise)))
        value, gradient = gp.value_and_gradient(model, data)
        values.append(float(value))
        gradients.append([backend.to_numpy(g) for g in gradient])
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    np.testing.assert_allclose(gradients[0][-1][seen], gradients[1][-1], rtol=1e-10)
    np.testing.assert_array_equal(gradients[0][-1][~seen], 0.0)
    K = gp.GP(1.3 * gp.RBF([0.5, 0.8])).kernel(gp.Grid(*axes).points()) + np.diag(variances)
    K = K[np.ix_(seen, seen)]
    want = -0.5 * (y[seen] @ np.linalg.solve(K, y[seen]) + np.linalg.slogdet(2 * np.pi * K)[1])
    assert values[0] == pytest.approx(want, rel=1e-10)
    with pytest.raises(ShapeError, match="20 points"):
        gp.value_and_gradient(gp.GP(gp.RBF(), noise=gp.FixedNoise(backend.asarray(variances[:5]))), data)

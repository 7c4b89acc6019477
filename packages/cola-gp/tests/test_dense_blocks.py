"""Kernels evaluated block by block, squared distances by matrix products, and the dense path on them."""

import numpy as np
import pytest

import cola_gp as gp
from cola_gp.kernels import distances
from cola_gp.kernels.symmetric import symmetric

KERNELS = {
    "rbf": lambda d: 1.5 * gp.RBF(np.linspace(0.7, 1.3, d)),
    "matern12": lambda d: gp.Matern12(0.8),
    "matern32": lambda d: gp.Matern32(np.linspace(0.7, 1.3, d)) + gp.White(0.3),
    "matern52": lambda d: gp.Matern52(0.9) * gp.Linear(0.4),
    "rq": lambda d: gp.RationalQuadratic(np.linspace(0.7, 1.3, d), 0.7),
}


def long_double(kernel_name: str, X: np.ndarray, Z: np.ndarray) -> np.ndarray:
    """The kernels above, without parts that are not stationary, in extended precision from differences."""
    X, Z = X.astype(np.longdouble), Z.astype(np.longdouble)
    d = X.shape[1]
    scale = {"matern12": np.full(d, 0.8)}.get(kernel_name, np.linspace(0.7, 1.3, d)).astype(np.longdouble)
    s = np.sum(((X[:, None] - Z[None]) / scale) ** 2, axis=-1)
    if kernel_name == "rbf":
        return 1.5 * np.exp(-s / 2)
    if kernel_name == "matern12":
        return np.exp(-np.sqrt(s))
    return (1 + s / np.longdouble(1.4)) ** np.longdouble(-0.7)


@pytest.mark.parametrize("name", list(KERNELS))
@pytest.mark.parametrize("d", [1, 2, 5])
def test_blocks_give_the_matrix_and_its_pullback(name, d):
    rng = np.random.default_rng(d)
    X = rng.normal(size=(701, d))
    X[700] = X[3]  # duplicates in blocks far apart
    kernel = KERNELS[name](d)
    want, back = kernel.evaluate(X)
    K, pull = symmetric(kernel, X)
    np.testing.assert_allclose(K, K.T, rtol=0, atol=1e-15)
    np.testing.assert_allclose(K, want, rtol=0, atol=1e-13)
    W = rng.normal(size=(701, 701))
    W = W + W.T
    for got, expected in zip(pull(W), back(W), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["rbf", "matern12", "rq"])
@pytest.mark.parametrize("gap", [0.0, 1e-9, 1e-6, 1e-3])
def test_close_points_keep_their_digits(name, gap):
    rng = np.random.default_rng(0)
    X = 3 + rng.normal(size=(40, 4))
    Z = X + gap * rng.normal(size=X.shape)
    got = KERNELS[name](4)(X, Z)
    # distances to points 6 lengthscales off the origin are off by 1e-15 themselves
    np.testing.assert_allclose(got, long_double(name, X, Z).astype(float), rtol=0, atol=2e-14)


def test_the_expansion_is_not_taken_where_it_loses_digits():
    rng = np.random.default_rng(1)
    Z, one = rng.normal(size=(30, 4)), np.asarray(1.0)
    assert distances._expanded(Z, Z, one) is not None
    assert distances._expanded(1e3 * Z, 1e3 * Z, one) is None  # far apart
    assert distances._expanded(1e9 + Z, 1e9 + Z, one) is not None  # far from the origin is no matter
    assert distances._expanded(Z.astype(np.float32), Z.astype(np.float32), one) is None
    assert distances._expanded(Z[:, :2], Z[:, :2], one) is None
    assert distances._expanded(np.full((3, 4), np.nan), Z, one) is None
    assert distances._expanded(Z[:0], Z, one) is None


def test_weighted_moments_of_far_points():
    rng = np.random.default_rng(2)
    Z1, Z2 = 8 * rng.uniform(size=(50, 5)), 8 * rng.uniform(size=(60, 5))
    M = np.exp(-0.5 * np.sum((Z1[:, None] - Z2[None]) ** 2, axis=-1)) * rng.normal(size=(50, 60))
    s, moments = distances.squared_distances(Z1, Z2, np.asarray(1.0), smooth=True)
    want = [np.sum(M * (Z1[:, None, j] - Z2[None, :, j]) ** 2) for j in range(5)]
    np.testing.assert_allclose(moments(M), want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(s, np.sum((Z1[:, None] - Z2[None]) ** 2, axis=-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torch_agrees_and_autograd_still_works(dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    X, y = rng.uniform(size=(600, 3)).astype(dtype), rng.normal(size=600).astype(dtype)
    model = gp.GP(1.3 * gp.Matern32([0.5, 0.6, 0.7]), noise=0.2)
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    tensors = gp.Data(torch.asarray(X), torch.asarray(y))
    found, slopes = gp.value_and_gradient(model, tensors)
    rtol = 1e-9 if dtype == "float64" else 2e-3
    np.testing.assert_allclose(float(found), float(value), rtol=rtol)
    for a, b in zip(slopes, gradient, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=rtol, atol=rtol)
    # a leaf that requires a gradient takes the path that autograd can follow, and finds the same
    leaf = torch.tensor(model.kernel.kernel.log_lengthscale.astype(dtype), requires_grad=True)
    kernel = model.kernel.replace(
        kernel=gp.Matern32(log_lengthscale=leaf), log_variance=torch.tensor(np.log(1.3), dtype=leaf.dtype)
    )
    K, _ = symmetric(kernel, tensors.X)
    torch.sum(K * K).backward()
    _, pull = symmetric(model.kernel, X.astype(float))
    want = pull(2 * symmetric(model.kernel, X.astype(float))[0])[0]
    np.testing.assert_allclose(leaf.grad.numpy(), want, rtol=rtol)


def test_gradient_of_the_dense_path_is_that_of_finite_differences():
    rng = np.random.default_rng(4)
    X, y = rng.uniform(size=(600, 4)), rng.normal(size=600)
    data = gp.Data(X, y)

    def model(t):
        return gp.GP(gp.Scale(gp.RBF(log_lengthscale=t[:4]), log_variance=t[4]), noise=np.exp(t[5]))

    t = np.log([0.5, 0.6, 0.7, 0.8, 1.2, 0.3])
    _, gradient = gp.value_and_gradient(model(t), data)
    flat = np.concatenate([np.ravel(g) for g in gradient])
    step = 1e-5 * np.random.default_rng(5).normal(size=6)
    change = gp.marginal_likelihood(model(t + step), data) - gp.marginal_likelihood(model(t - step), data)
    np.testing.assert_allclose(change / 2, flat @ step, rtol=1e-5)


def test_variance_of_many_points_in_blocks_and_of_none(monkeypatch):
    from cola_gp.inference import dense

    rng = np.random.default_rng(6)
    X, Z = rng.uniform(size=(30, 2)), rng.uniform(size=(17, 2))
    posterior = gp.Posterior(gp.GP(1.3 * gp.RBF(0.4), noise=0.1), gp.Data(X, np.sin(X[:, 0])))
    whole = posterior.variance(Z)
    monkeypatch.setattr(dense, "VARIANCE_BYTES", 8 * 30 * 4)
    np.testing.assert_allclose(posterior.variance(Z), whole, rtol=1e-12)
    np.testing.assert_allclose(whole, np.diag(posterior.covariance(Z)), rtol=1e-10)
    assert posterior.variance(Z[:0]).shape == posterior.mean(Z[:0]).shape == (0,)

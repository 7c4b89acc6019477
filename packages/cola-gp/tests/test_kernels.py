"""Kernels: reference values, derivatives, diagonals, features and separability."""

import numpy as np
import pytest

from cola_core.errors import BackendError, ShapeError
from cola_gp._struct import leaves, named_leaves, with_leaves
from cola_gp.kernels import (
    RBF,
    ActiveDims,
    Constant,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Ones,
    Periodic,
    Product,
    RationalQuadratic,
    Scale,
    Sum,
    White,
)

KERNELS = {
    "rbf": RBF(0.7),
    "rbf-ard": RBF([0.7, 1.3, 2.0]),
    "matern12": Matern12(0.9),
    "matern12-ard": Matern12([0.9, 1.1, 0.4]),
    "matern32": Matern32(0.9),
    "matern32-ard": Matern32([0.9, 1.1, 0.4]),
    "matern52": Matern52(0.9),
    "matern52-ard": Matern52([0.9, 1.1, 0.4]),
    "rq": RationalQuadratic(0.8, 0.6),
    "rq-ard": RationalQuadratic([0.8, 1.0, 1.7], 2.5),
    "periodic": Periodic(0.8, 1.3),
    "periodic-ard": Periodic([0.8, 1.0, 1.7], [1.3, 0.9, 2.0]),
    "linear": Linear(0.5),
    "linear-ard": Linear([0.5, 1.0, 0.2]),
    "constant": Constant(2.0),
    "white": White(0.3),
    "scale": 2.5 * RBF(0.7),
    "sum": Matern32(0.5) + 0.5 * Linear(1.0) + White(0.1),
    "product": RBF(2.0) * Periodic(0.8, 1.3) * Linear(0.4),
    "active": ActiveDims(RBF(0.5), 1) * ActiveDims(Matern52([0.9, 0.4]), (0, 2)),
    "white-inside": (RBF(1.0) + White(0.2)) * (Linear(0.3) + Constant(0.7)),
    "polynomial": (Linear(0.5) + Constant(1.5)) * (Linear([0.5, 1.0, 0.2]) + Constant(0.3)),
}


@pytest.fixture(params=sorted(KERNELS))
def kernel(request):
    return KERNELS[request.param]


def flat(tree):
    return np.concatenate([np.ravel(v) for v in leaves(tree)]) if leaves(tree) else np.zeros(0)


def unflat(tree, theta):
    out, start = [], 0
    for value in leaves(tree):
        size = np.size(value)
        out.append(np.reshape(theta[start : start + size], np.shape(value)))
        start += size
    return with_leaves(tree, out)


def numerical_gradient(function, theta, h=1e-5):
    out = np.zeros_like(theta)
    for i in range(theta.size):
        step = np.zeros_like(theta)
        step[i] = h
        out[i] = (function(theta + step) - function(theta - step)) / (2 * h)
    return out


def test_pullback_matches_finite_differences(kernel, rng):
    X1, X2 = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    for second in (None, X2):
        W = rng.normal(size=(7, 7 if second is None else 5))
        theta = flat(kernel)
        _, pull = kernel.evaluate(X1, second)
        ours = np.concatenate([np.ravel(g) for g in pull(W)])
        shapes = [np.shape(g) for g in pull(W)]
        assert shapes == [np.shape(v) for v in leaves(kernel)]

        def weighted(t, W=W, second=second):
            return np.sum(W * unflat(kernel, t)(X1, second))

        expected = numerical_gradient(weighted, theta)
        np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=1e-7)


def test_matrix_is_symmetric_psd_and_diag_agrees(kernel, rng):
    X = rng.normal(size=(9, 3))
    K = kernel(X)
    np.testing.assert_allclose(K, K.T, atol=1e-14)
    assert np.linalg.eigvalsh(K).min() > -1e-10
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-13)
    np.testing.assert_allclose(kernel.cross_diag(X), np.diagonal(kernel(X, X)), rtol=1e-13)
    np.testing.assert_allclose(K - kernel(X, X), np.diag(kernel.diag(X) - kernel.cross_diag(X)), atol=1e-14)


def test_duplicate_points_have_finite_derivatives(kernel, rng):
    X = np.repeat(rng.normal(size=(3, 3)), 2, axis=0)
    K, pull = kernel.evaluate(X)
    assert np.isfinite(K).all()
    assert all(np.isfinite(g).all() for g in pull(rng.normal(size=K.shape)))


def test_features_give_the_matrix_and_its_derivatives(rng):
    X = rng.normal(size=(6, 3))
    for name in ("linear", "linear-ard", "constant", "polynomial"):
        kernel = KERNELS[name]
        U, pull = kernel.features(X)
        assert U.shape[1] == kernel.feature_count(3)
        np.testing.assert_allclose(U @ U.T, kernel(X), rtol=1e-12, atol=1e-13)
        G = rng.normal(size=U.shape)

        def weighted(t, G=G, kernel=kernel):
            return np.sum(G * unflat(kernel, t).features(X)[0])

        expected = numerical_gradient(weighted, flat(kernel))
        np.testing.assert_allclose(
            np.concatenate([np.ravel(g) for g in pull(G)]), expected, rtol=1e-6, atol=1e-8
        )
    assert KERNELS["rbf"].features(X) is None
    assert KERNELS["sum"].feature_count(3) is None


SEPARABLE = {
    "rbf": RBF(0.7),
    "rbf-ard": RBF([0.7, 1.3, 2.0]),
    "periodic": Periodic(0.8, [1.3, 0.9, 2.0]),
    "scaled": 2.5 * RBF([0.7, 1.3, 2.0]),
    "product": Constant(0.5) * RBF(0.7) * Periodic([0.8, 1.0, 1.7], 1.3) * Ones(),
    "active": ActiveDims(Matern12(0.5), 2) * (3.0 * ActiveDims(RBF([0.9, 0.4]), (1, 0))),
}


@pytest.mark.parametrize("name", sorted(SEPARABLE))
def test_axis_factors_multiply_to_the_kernel(name, rng):
    kernel = SEPARABLE[name]
    X = rng.normal(size=(8, 3))
    factors = kernel.axis_factors(3)
    parts = [factor(X[:, j : j + 1]) for j, factor in enumerate(factors)]
    np.testing.assert_allclose(np.prod(parts, axis=0), kernel(X), rtol=1e-12)
    W = rng.normal(size=(8, 8))
    pieces = []
    for j, factor in enumerate(factors):
        others = np.prod([parts[i] for i in range(3) if i != j], axis=0)
        pieces.append(factor.evaluate(X[:, j : j + 1])[1](W * others))
    joined = kernel.join_axis_gradients(tuple(pieces))
    expected = kernel.evaluate(X)[1](W)
    assert len(joined) == len(expected)
    for ours, theirs in zip(joined, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_not_separable():
    assert Matern32(1.0).axis_factors(2) is None
    assert (RBF(1.0) + RBF(2.0)).axis_factors(2) is None
    assert (RBF(1.0) * Matern32(1.0)).axis_factors(2) is None


def test_values_match_scikit_learn(rng):
    sk = pytest.importorskip("sklearn.gaussian_process.kernels", reason="scikit-learn is not installed")
    X, Y = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    cases = [
        (RBF([0.5, 1.0, 2.0]), sk.RBF([0.5, 1.0, 2.0])),
        (Matern12(0.6), sk.Matern(0.6, nu=0.5)),
        (Matern32([0.5, 1.0, 2.0]), sk.Matern([0.5, 1.0, 2.0], nu=1.5)),
        (Matern52(0.6), sk.Matern(0.6, nu=2.5)),
        (RationalQuadratic(0.6, 1.7), sk.RationalQuadratic(0.6, 1.7)),
        (Linear(1.0) + Constant(0.25), sk.DotProduct(0.5)),
        (2.0 * RBF(0.6) + White(0.1), sk.ConstantKernel(2.0) * sk.RBF(0.6) + sk.WhiteKernel(0.1)),
    ]
    for ours, theirs in cases:
        np.testing.assert_allclose(ours(X), theirs(X), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(ours(X, Y), theirs(X, Y), rtol=1e-12, atol=1e-14)
    t = rng.normal(size=(6, 1))
    np.testing.assert_allclose(Periodic(0.7, 1.3)(t), sk.ExpSineSquared(0.7, 1.3)(t), rtol=1e-12)


def test_gradient_matches_scikit_learn(rng):
    sk = pytest.importorskip("sklearn.gaussian_process.kernels", reason="scikit-learn is not installed")
    X, W = rng.normal(size=(6, 3)), rng.normal(size=(6, 6))
    ours = Matern32([0.5, 1.0, 2.0]).evaluate(X)[1](W)[0]
    theirs = sk.Matern([0.5, 1.0, 2.0], nu=1.5)(X, eval_gradient=True)[1]
    np.testing.assert_allclose(ours, np.einsum("ij,ijp->p", W, theirs), rtol=1e-10)


def test_float32_close_points_keep_their_distance():
    x = np.float32(1000) + np.float32(2.0**-10) * np.arange(4, dtype=np.float32)[:, None]
    K = RBF(2.0**-9)(x)
    assert K.dtype == np.float32
    np.testing.assert_allclose(K[0], np.exp(-0.5 * (np.arange(4) / 2.0) ** 2), rtol=1e-5)


def test_composition_flattens_and_names():
    kernel = RBF(1.0) + White(0.1) + 2.0 * Linear(1.0)
    assert isinstance(kernel, Sum) and len(kernel.terms) == 3
    assert isinstance(kernel.terms[2], Scale)
    assert isinstance(RBF(1.0) * RBF(1.0) * Linear(1.0), Product)
    names = [name for name, _, _ in named_leaves(kernel)]
    assert names == [
        "terms.0.log_lengthscale",
        "terms.1.log_variance",
        "terms.2.kernel.log_variance",
        "terms.2.log_variance",
    ]
    assert "lengthscale=1" in repr(kernel)


def test_sums_of_lists_and_arrays_as_factors():
    assert len(sum([RBF(1.0), Linear(1.0), White(0.1)]).terms) == 3
    for number in (np.float64(2.0), np.float32(2.0), np.asarray(2.0)):
        for kernel in (number * RBF(1.0), RBF(1.0) * number):
            assert isinstance(kernel, Scale) and float(np.exp(kernel.log_variance)) == pytest.approx(2.0)
    for bad in (1.0, "2"):
        with pytest.raises(TypeError):
            bad + RBF(1.0)
    with pytest.raises(TypeError):
        RBF(1.0) * np.ones(2)


def test_tensors_as_factors_keep_their_graph():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    size = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    X = torch.zeros((1, 1), dtype=torch.float64)
    for kernel in (size * RBF(1.0), RBF(1.0) * size):
        (slope,) = torch.autograd.grad(kernel(X).sum(), size)
        np.testing.assert_allclose(float(slope), 1.0)


def test_bad_input():
    with pytest.raises(ValueError, match="lengthscale must be positive"):
        RBF(0.0)
    with pytest.raises(ValueError, match="positive and finite"):
        RBF(np.nan)
    with pytest.raises(TypeError, match="must be a number"):
        RBF("wide")
    with pytest.raises(ShapeError, match="2 values but the points have 3"):
        RBF([1.0, 2.0])(np.zeros((4, 3)))
    with pytest.raises(ShapeError, match=r"\(n, d\) array"):
        RBF(1.0)(np.zeros(4))
    with pytest.raises(ShapeError, match="different dimensions"):
        RBF(1.0)(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(ShapeError, match="ActiveDims uses dimension 3"):
        ActiveDims(RBF(1.0), 3)(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="distinct"):
        ActiveDims(RBF(1.0), (0, 0))
    with pytest.raises(TypeError, match="made of kernels"):
        Sum(RBF(1.0), 3.0)
    with pytest.raises(TypeError, match="NumPy, torch or JAX"):
        RBF(1.0)([[1.0], [2.0]])


def test_torch_autodiff_agrees_with_the_closed_form(kernel, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X = np.repeat(rng.normal(size=(4, 3)), 2, axis=0)  # duplicates: the square root must stay differentiable
    W = rng.normal(size=(8, 8))
    params = [torch.tensor(v, requires_grad=True) for v in leaves(kernel)]
    value = (torch.tensor(W) * with_leaves(kernel, params)(torch.tensor(X))).sum()
    value.backward()
    for ours, theirs in zip(kernel.evaluate(X)[1](W), params, strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-9, atol=1e-12)
    with pytest.raises(BackendError, match="torch"):
        with_leaves(kernel, params)(X)


# Every new shape compiles in JAX, so a kernel of each kind stands for the rest, which torch covers.
@pytest.mark.parametrize("name", ["matern12-ard", "rq", "periodic-ard", "white-inside", "active"])
def test_jax_autodiff_agrees_with_the_closed_form(name, rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kernel = KERNELS[name]
    X = np.repeat(rng.normal(size=(4, 3)), 2, axis=0)
    W = rng.normal(size=(8, 8))
    with jax.enable_x64(True):
        params = [jax.numpy.asarray(v) for v in leaves(kernel)]
        Xj, Wj = jax.numpy.asarray(X), jax.numpy.asarray(W)
        grads = jax.jit(jax.grad(lambda p: jax.numpy.sum(Wj * with_leaves(kernel, p)(Xj))))(params)
        for ours, theirs in zip(kernel.evaluate(X)[1](W), grads, strict=True):
            np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-9, atol=1e-12)


STATIONARY = {
    "rbf-ard": RBF([0.7, 1.3, 2.0]),
    "rq": 2.0 * RationalQuadratic(0.8, 0.6),
    "periodic": Periodic(0.8, [1.3, 0.9, 2.0]),
    "sum": 1.5 * Matern32(0.5) * Constant(0.7) + White(0.3),
    "white-inside": (RBF(1.0) + White(0.2)) * (Matern12(0.3) + White(0.7)),
    "active": ActiveDims(Matern52([0.9, 0.4]), (0, 2)) * Ones(),
}


@pytest.mark.parametrize("name", sorted(STATIONARY))
def test_the_profile_is_the_first_column(name, rng):
    kernel = STATIONARY[name]
    X = rng.normal(size=(7, 3))
    w = rng.normal(size=7)
    for white, K, pull in (
        (True, *kernel.evaluate(X)),
        (False, *kernel.evaluate(X, X[:1])),
    ):
        value, back = kernel.profile(X - X[0], white=white)
        np.testing.assert_allclose(value, K[:, 0], rtol=1e-12, atol=1e-14)
        W = np.zeros_like(K)
        W[:, 0] = w
        for ours, theirs in zip(back(w), pull(W), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_what_is_not_stationary_has_no_profile():
    for kernel in (
        Linear(1.0),
        RBF(1.0) + Linear(1.0),
        RBF(1.0) * Linear(1.0),
        2.0 * ActiveDims(Linear(1.0), 0),
    ):
        assert not kernel.stationary
        with pytest.raises(ValueError, match="is not stationary"):
            kernel.profile(np.zeros((2, 1)))
    assert RBF(1.0).profile(np.zeros((0, 2)))[0].shape == (0,)


GROUPED = {
    "ard": RBF([0.7, 1.3, 2.0, 0.4]),
    "periodic": 2.0 * Periodic(0.8, [1.3, 0.9, 2.0, 1.0]),
    "by-group": ActiveDims(Matern32([0.5, 0.9, 1.2]), (0, 1, 2)) * ActiveDims(Matern12(0.8), 3),
    "within": Constant(0.4) * ActiveDims(Matern32(0.8), (2, 0)) * ActiveDims(RBF([0.5, 0.9, 1.3]), (3, 1, 0)),
}


@pytest.mark.parametrize("name", sorted(GROUPED))
def test_factors_over_groups_of_dimensions(name, rng):
    kernel = GROUPED[name]
    widths, cuts = (3, 1), (slice(0, 3), slice(3, 4))
    X = rng.normal(size=(6, 4))
    factors = kernel.axis_factors(widths)
    parts = [factor.evaluate(X[:, cut]) for factor, cut in zip(factors, cuts, strict=True)]
    np.testing.assert_allclose(parts[0][0] * parts[1][0], kernel(X), rtol=1e-12)
    W = rng.normal(size=(6, 6))
    joined = kernel.join_axis_gradients((parts[0][1](W * parts[1][0]), parts[1][1](W * parts[0][0])), widths)
    for ours, theirs in zip(joined, kernel.evaluate(X)[1](W), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_a_kernel_across_groups_is_refused():
    assert ActiveDims(Matern32(0.8), (1, 3)).axis_factors((3, 1)) is None
    assert ActiveDims(RBF(0.8), (0, 3, 1)).axis_factors((3, 1)) is None
    kernel = Matern32(0.8)
    assert kernel.axis_factors((3,)) == (kernel,) and kernel.axis_factors(1) == (kernel,)


@pytest.mark.parametrize("cls", [Matern12, Matern32, Matern52])
def test_jax_compiled_with_the_pullback_has_ones_on_the_diagonal(cls, rng):
    # XLA computes the distances twice there, and a point's distance to itself may then be zero in one copy
    # and of the size of rounding in the other
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kernel, X = cls([0.5, 0.8]), rng.normal(size=(6, 2))
    with jax.enable_x64(True):

        def both(X, W):
            value, pull = kernel.evaluate(X)
            return value, pull(W)

        value, gradient = jax.jit(both)(jax.numpy.asarray(X), jax.numpy.ones((6, 6)))
        np.testing.assert_allclose(np.asarray(value), kernel(X), rtol=1e-12)
        np.testing.assert_allclose(np.asarray(gradient[0]), both(X, np.ones((6, 6)))[1][0], rtol=1e-10)

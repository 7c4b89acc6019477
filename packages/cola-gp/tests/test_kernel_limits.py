"""Kernels at the ends: close and coinciding points and derivatives there, tiny and huge scales, no points."""

import numpy as np
import pytest

from cola_core.errors import ShapeError
from cola_gp._struct import leaves, with_leaves
from cola_gp.kernels import (
    RBF,
    Constant,
    Cosine,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    Polynomial,
    RationalQuadratic,
    SpectralMixture,
    White,
)
from cola_gp.kernels.waves import Waves

STATIONARY = {
    "rbf": RBF(0.7),
    "matern12": Matern12(0.7),
    "matern32": Matern32(0.7),
    "matern52": Matern52(0.7),
    "rq": RationalQuadratic(0.7, 1.3),
    "periodic": Periodic(0.7, 1.1),
    "cosine": Cosine(1.1),
    "mixture": SpectralMixture([0.4, 0.6], [0.3, 1.1], [0.2, 0.5]),
}
ALL = {
    **STATIONARY,
    "linear": Linear(0.5),
    "polynomial": Polynomial(3),
    "constant": Constant(),
    "white": White(),
}

# d^2 k(x, x') / dx dx' at x = x': the variance of the slope of the process.
SLOPE_VARIANCE = {
    "rbf": 1 / 0.49,
    "matern32": 3 / 0.49,
    "matern52": 5 / 3 / 0.49,
    "rq": 1 / 0.49,
    "periodic": 4 * np.pi**2 / (0.49 * 1.21),
    "cosine": 4 * np.pi**2 / 1.21,
    "mixture": 4 * np.pi**2 * (0.4 * (0.3**2 + 0.2**2) + 0.6 * (1.1**2 + 0.5**2)),
}


def reference(name, t):
    """In extended precision, from the textbook formulas."""
    t = np.abs(np.asarray(t, dtype=np.longdouble))
    r, two_pi = t / np.longdouble("0.7"), 2 * np.longdouble(np.pi)
    return {
        "rbf": lambda: np.exp(-(r**2) / 2),
        "matern12": lambda: np.exp(-r),
        "matern32": lambda: (1 + np.sqrt(np.longdouble(3)) * r) * np.exp(-np.sqrt(np.longdouble(3)) * r),
        "matern52": lambda: (
            (1 + np.sqrt(np.longdouble(5)) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(np.longdouble(5)) * r)
        ),
        "rq": lambda: (1 + r**2 / np.longdouble("2.6")) ** np.longdouble("-1.3"),
        "periodic": lambda: np.exp(
            -2 * np.sin(np.pi * t / np.longdouble("1.1")) ** 2 / np.longdouble("0.49")
        ),
        "cosine": lambda: np.cos(two_pi * t / np.longdouble("1.1")),
        "mixture": lambda: sum(
            w * np.exp(-2 * np.pi**2 * t**2 * b**2) * np.cos(two_pi * t * f)
            for w, f, b in ((0.4, 0.3, 0.2), (0.6, 1.1, 0.5))
        ),
    }[name]()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(STATIONARY))
def test_close_points_far_from_the_origin(name, dtype):
    # Neighbours one unit of rounding apart at 1000: their difference is exact, an expansion would lose it.
    step = np.spacing(np.asarray(1000, dtype=dtype))
    x = (1000 + step * np.arange(6)).astype(dtype)[:, None]
    K = STATIONARY[name](x)
    assert K.dtype == dtype and np.all(np.diagonal(K) == K[0, 0]) and np.array_equal(K, K.T)
    expected = np.asarray(reference(name, (x[:, 0] - x[0, 0]).astype(np.longdouble)), dtype=float)
    np.testing.assert_allclose(1.0 - K[0], 1.0 - expected, rtol=1e-3, atol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", sorted(STATIONARY))
def test_float32_agrees_with_the_formula(name, rng):
    x = rng.uniform(-3, 3, (40, 1)).astype("float32")
    expected = reference(name, x.astype(np.longdouble) - x.astype(np.longdouble).T).astype(float)
    np.testing.assert_allclose(STATIONARY[name](x), expected, atol=1e-5)
    np.testing.assert_allclose(STATIONARY[name](x.astype(float)), expected, atol=1e-14)


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize("name", ["rbf", "matern12", "matern32", "matern52", "rq"])
def test_distances_by_products_are_as_good_as_differences(name, d, rng):
    # Clusters of near duplicates far from each other, for which matrix products lose most.
    X = np.repeat(rng.normal(scale=3.0, size=(6, d)), 5, axis=0) + 1e-9 * rng.normal(size=(30, d)) + 50.0
    r = np.sqrt(np.sum(((X[:, None] - X[None]) / 0.7).astype(np.longdouble) ** 2, axis=-1))
    expected = np.asarray(reference(name, 0.7 * r), dtype=float)
    np.testing.assert_allclose(STATIONARY[name](X), expected, atol=3e-12)
    np.testing.assert_allclose(STATIONARY[name](X, X.copy()), expected, atol=3e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("width", [3.0, 1e5])
@pytest.mark.parametrize("name", ["periodic", "cosine", "mixture"])
def test_phases_by_products_are_as_good_as_differences(name, width, offset, rng):
    x = np.concatenate([rng.uniform(0, width, 20), 0.5 * width + 1e-9 * rng.normal(size=5)])[:, None] + offset
    t = x.astype(np.longdouble) - x.astype(np.longdouble).T
    expected = np.asarray(reference(name, t), dtype=float)
    # an ulp of a difference is what any double precision formula may lose
    np.testing.assert_allclose(STATIONARY[name](x), expected, atol=1e-12 + 4e-15 * width)
    W = rng.normal(size=t.shape)
    slopes = STATIONARY[name].evaluate(x)[1](W)
    h = 1e-6
    for i, leaf in enumerate(leaves(STATIONARY[name])):
        ends = [
            np.sum(
                W
                * with_leaves(
                    STATIONARY[name], [v + s * h * (i == j) for j, v in enumerate(leaves(STATIONARY[name]))]
                )(x)
            )
            for s in (1, -1)
        ]
        if width < 10:
            np.testing.assert_allclose(np.sum(slopes[i]), (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-6)
        assert np.shape(slopes[i]) == np.shape(leaf)


def test_products_of_phases_are_not_taken_where_they_lose_digits():
    x, one = np.linspace(0, 10, 30)[:, None], np.asarray(1.0)
    assert Waves(x, x, 0, one)._parts is not None
    assert Waves(x + 1e9, x + 1e9, 0, one)._parts is not None  # far from the origin is no matter
    for bad in (1e4 * x, x.astype("float32"), x[:0], np.full((3, 1), np.nan)):
        assert Waves(bad, bad, 0, one)._parts is None
    assert Waves(x, x, 0, one, 1e4)._parts is None and Waves(x, x, 0, one, lambda: 1e4)._parts is None
    sharp = Periodic(1e-4, 3.0)
    t = np.subtract.outer(x[:, 0], x[:, 0]).astype(np.longdouble)
    expected = np.exp(-2 * (np.sin(np.pi * t / 3) / np.longdouble("1e-4")) ** 2).astype(float)
    np.testing.assert_allclose(sharp(x), expected, atol=1e-10)


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_points_and_one_point(name):
    kernel = ALL[name]
    for d in (1, 2):
        if name == "mixture" and d == 2:
            continue
        none, one = np.zeros((0, d)), np.ones((1, d))
        for X, Z in ((none, one), (one, none), (none, None), (one, None)):
            K, pull = kernel.evaluate(X, Z)
            assert K.shape == (len(X), len(X if Z is None else Z)) and kernel.diag(X).shape == (len(X),)
            grads = pull(np.ones(K.shape))
            assert [np.shape(g) for g in grads] == [np.shape(v) for v in leaves(kernel)]
            assert all(np.isfinite(g).all() for g in grads)


def test_points_without_coordinates_are_refused():
    for kernel in (RBF(), Matern32()):
        with pytest.raises(ShapeError, match="no coordinates"):
            kernel(np.zeros((3, 0)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize("name", ["rbf", "matern12", "matern32", "matern52", "rq", "periodic"])
def test_tiny_and_huge_lengthscales(name, scale, dtype, rng):
    kernel = STATIONARY[name].replace(log_lengthscale=np.log(scale * np.ones(2)))
    X = rng.normal(size=(5, 2)).astype(dtype)
    K, pull = kernel.evaluate(X)
    assert np.isfinite(K).all() and np.all(np.diagonal(K) == 1.0)
    assert all(np.isfinite(g).all() for g in pull(np.ones((5, 5), dtype)))
    if name != "rq":  # decays by a power
        off = K[~np.eye(5, dtype=bool)]
        np.testing.assert_allclose(off, 0.0 if scale < 1 else 1.0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("name", ["rbf", "matern12", "matern32", "matern52", "rq", "periodic", "cosine"])
def test_units_do_not_matter(name, scale, rng):
    kernel, X = STATIONARY[name], rng.normal(size=(5, 1))
    names = [field for field in kernel._child_fields if field != "log_alpha"]
    moved = kernel.replace(**{field: getattr(kernel, field) + np.log(scale) for field in names[-1:]})
    if name == "periodic":  # its lengthscale is relative to the period
        assert names[-1] == "log_period"
    np.testing.assert_allclose(moved(scale * X), kernel(X), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", sorted(SLOPE_VARIANCE))
def test_second_derivatives_at_distance_zero_in_torch(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kernel = STATIONARY[name]

    def k(a, b):
        return kernel(a[None, None], b[None, None])[0, 0]

    for gap in (0.0, 1e-200, 1e-9):
        a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        b = torch.tensor(0.3 + gap, dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(k(a, b), a, create_graph=True)
        (second,) = torch.autograd.grad(first, b)
        assert abs(float(first.detach())) < 1e-6
        np.testing.assert_allclose(float(second), SLOPE_VARIANCE[name], rtol=1e-7)
    forward = torch.func.jacfwd(torch.func.grad(k, 0), 1)(a.detach(), a.detach())
    np.testing.assert_allclose(float(forward), SLOPE_VARIANCE[name], rtol=1e-12)


@pytest.mark.parametrize("name", sorted(SLOPE_VARIANCE))
def test_second_derivatives_at_distance_zero_in_jax(name):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kernel = STATIONARY[name]
    with jax.enable_x64(True):

        def k(a, b):
            return kernel(a[None, None], b[None, None])[0, 0]

        second = jax.jit(jax.grad(jax.grad(k, 0), 1))
        for gap in (0.0, 1e-200, 1e-9):
            a = jax.numpy.asarray(0.3)
            np.testing.assert_allclose(float(second(a, a + gap)), SLOPE_VARIANCE[name], rtol=1e-7)


@pytest.mark.parametrize("name", ["matern32", "matern52"])
def test_fourth_derivatives_and_hessians_of_parameters(name, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kernel = STATIONARY[name]
    X = torch.tensor(np.repeat(rng.normal(size=(3, 1)), 2, axis=0))
    W = torch.tensor(rng.normal(size=(6, 6)))

    def value(p):
        return (W * with_leaves(kernel, [p])(X)).sum()

    p = torch.tensor(leaves(kernel)[0])
    hessian = torch.func.hessian(value)(p)
    slope = [
        with_leaves(kernel, [p + h]).evaluate(X)[1](W)[0] for h in (1e-5, -1e-5)
    ]  # closed-form first derivatives
    np.testing.assert_allclose(float(hessian), float(slope[0] - slope[1]) / 2e-5, rtol=1e-6)
    if name == "matern52":  # twice differentiable paths: the variance of the curvature is 25 / l^4
        grad = torch.func.grad

        def k(a, b):
            return kernel(a[None, None], b[None, None])[0, 0]

        at = torch.tensor(0.3, dtype=torch.float64)
        fourth = grad(grad(grad(grad(k, 0), 0), 1), 1)(at, at)
        np.testing.assert_allclose(float(fourth), 25 / 0.7**4, rtol=1e-10)


def test_compiled_float32_is_symmetric_with_ones_on_the_diagonal(rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    X = jax.numpy.asarray(rng.normal(size=(9, 3)), dtype="float32")
    for name in ("matern12", "matern52"):
        K = np.asarray(jax.jit(STATIONARY[name])(X))
        np.testing.assert_allclose(np.diagonal(K), 1.0, atol=1e-6)
        gradient = jax.jit(jax.grad(lambda X, k=STATIONARY[name]: k(X).sum()))(X)
        assert np.isfinite(np.asarray(gradient)).all()

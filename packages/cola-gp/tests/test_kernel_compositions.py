"""Random compositions of all kernels: whatever a kernel says of itself agrees with its matrix, and every
closed-form derivative with a difference quotient."""

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import cola_gp as gp  # noqa: E402
from cola_gp._struct import leaves, with_leaves  # noqa: E402
from cola_gp.kernels import diagonal_gradient, point_gradient  # noqa: E402

D = 3  # the last column holds task numbers
NETWORK = gp.Network.random((D, 3, 2), seed=1)


def ard(cls, **fixed):
    return st.sampled_from([0.6, [0.6, 1.1, 0.9]]).map(lambda v: cls(v, **fixed))


TASKS = gp.ActiveDims(gp.Coregion(3, 2, variance=[0.3, 0.5, 0.2]), 2)
BASE = st.one_of(
    *(ard(cls) for cls in (gp.RBF, gp.Matern12, gp.Matern32, gp.Matern52, gp.Linear)),
    ard(gp.RationalQuadratic, alpha=1.4),
    ard(gp.Periodic, period=1.9),
    ard(gp.Cosine).map(lambda k: k.replace(log_period=k.log_period + 1.0)),
    st.sampled_from(
        [
            gp.Constant(0.7),
            gp.White(0.4),
            gp.Ones(),
            gp.Polynomial(2, 0.4, 0.5),
            gp.SpectralMixture([0.6, 0.3], [[0.2, 0.1, 0.3], [0.4, 0.3, 0.1]], [[0.1, 0.2, 0.1]] * 2),
            gp.SpectralMixture([0.6], [[0.2, 0.1, 0.3]], [[0.1, 0.2, 0.1]]),
            TASKS,
            gp.ActiveDims(gp.Matern32([0.7, 0.9]), (1, 0)),
            gp.ActiveDims(gp.Cosine(1.7), 2),
            gp.Deep(gp.RBF(0.9), NETWORK),
            gp.Deep(gp.Linear([0.4, 0.9]), NETWORK),
        ]
    ),
)
KERNELS = st.recursive(
    BASE,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        inner.map(lambda k: 1.3 * k),
    ),
    max_leaves=4,
)


def points(seed, n):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D))
    X[:, 2] = rng.integers(0, 3, n)
    return X


def close(ours, theirs, scale):
    assert abs(ours - theirs) <= 1e-5 * abs(theirs) + 1e-6 * scale


def directional(function, kernel, seed, h=1e-6):
    """Derivative of ``function(kernel)`` along a random direction of all leaves, and that direction."""
    rng = np.random.default_rng(seed)
    values = leaves(kernel)
    step = [rng.normal(size=np.shape(v)) for v in values]
    ends = [
        function(with_leaves(kernel, [v + s * h * e for v, e in zip(values, step, strict=True)]))
        for s in (1, -1)
    ]
    return (ends[0] - ends[1]) / (2 * h), step


def along(gradient, step):
    assert [np.shape(g) for g in gradient] == [np.shape(s) for s in step]
    return sum(float(np.sum(g * s)) for g, s in zip(gradient, step, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernel=KERNELS, seed=st.integers(0, 10**6))
def test_a_kernel_is_what_it_says(kernel, seed):
    rng = np.random.default_rng(seed)
    X, Z = points(seed, 6), points(seed + 1, 4)
    K, pull = kernel.evaluate(X)
    size = float(np.max(np.abs(K)))
    np.testing.assert_allclose(K, K.T, atol=1e-12 * size)
    assert np.linalg.eigvalsh(K).min() > -1e-10 * size
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-11)
    cross = kernel(X, X)
    np.testing.assert_allclose(kernel.cross_diag(X), np.diagonal(cross), rtol=1e-11)
    off = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(K[off], cross[off], rtol=1e-11, atol=1e-13 * size)

    W, V, v = rng.normal(size=(6, 6)), rng.normal(size=(6, 4)), rng.normal(size=6)
    expected, step = directional(lambda k: np.sum(W * k(X)), kernel, seed)
    close(along(pull(W), step), expected, size)
    expected, step = directional(lambda k: np.sum(V * k(X, Z)), kernel, seed)
    close(along(kernel.evaluate(X, Z)[1](V), step), expected, size)
    expected, step = directional(lambda k: np.sum(v * k.cross_diag(X)), kernel, seed)
    close(along(diagonal_gradient(kernel, X, v), step), expected, size)

    # Task numbers stay where they are.
    E = rng.normal(size=X.shape) * [1.0, 1.0, 0.0]
    h = 1e-6
    expected = np.sum(V * (kernel(X + h * E, Z) - kernel(X - h * E, Z))) / (2 * h)
    close(float(np.sum(point_gradient(kernel, X, Z, V) * E)), expected, size)

    count, features = kernel.feature_count(D), kernel.features(X)
    assert (count is None) == (features is None)
    if features is not None:
        U, back = features
        assert U.shape == (6, count)
        np.testing.assert_allclose(U @ U.T, cross, rtol=1e-10, atol=1e-12 * size)
        G = rng.normal(size=U.shape)
        expected, step = directional(lambda k: np.sum(G * k.features(X)[0]), kernel, seed)
        close(along(back(G), step), expected, size)

    if kernel.stationary:
        value, back = kernel.profile(X - X[0], white=True)
        np.testing.assert_allclose(value, K[:, 0], rtol=1e-10, atol=1e-12 * size)
        W0 = np.zeros((6, 6))
        W0[:, 0] = v
        assert abs(along(back(v), step) - along(pull(W0), step)) < 1e-9 * size * 6

    for widths in ((1, 1, 1), (2, 1)):
        factors = kernel.axis_factors(widths)
        if factors is not None:
            cuts = [slice(sum(widths[:i]), sum(widths[: i + 1])) for i in range(len(widths))]
            parts = [f.evaluate(X[:, cut]) for f, cut in zip(factors, cuts, strict=True)]
            np.testing.assert_allclose(
                np.prod([p[0] for p in parts], axis=0), K, rtol=1e-9, atol=1e-12 * size
            )
            pieces = [
                back(W * np.prod([q[0] for j, q in enumerate(parts) if j != i], axis=0))
                for i, (_, back) in enumerate(parts)
            ]
            joined = kernel.join_axis_gradients(tuple(pieces), widths)
            for a, b in zip(joined, pull(W), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * size)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernel=KERNELS, seed=st.integers(0, 10**6))
def test_torch_finds_the_same(kernel, seed):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, W = points(seed, 6), np.random.default_rng(seed).normal(size=(6, 6))
    K, pull = kernel.evaluate(X)
    size = float(np.max(np.abs(K)))
    Xt, Wt = torch.tensor(X), torch.tensor(W)
    Kt, back = kernel.evaluate(Xt)
    np.testing.assert_allclose(Kt.numpy(), K, rtol=1e-10, atol=1e-12 * size)
    params = [torch.tensor(v, requires_grad=True) for v in leaves(kernel)]
    automatic = []
    if params:
        total = (Wt * with_leaves(kernel, params)(Xt)).sum()
        automatic = torch.autograd.grad(total, params, allow_unused=True)
    for ours, theirs, auto in zip(pull(W), back(Wt), automatic, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-8, atol=1e-10 * size)
        np.testing.assert_allclose(0.0 if auto is None else auto.numpy(), ours, rtol=1e-7, atol=1e-9 * size)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(kernel=KERNELS, seed=st.integers(0, 10**6))
def test_float32_agrees_with_float64(kernel, seed):
    X = points(seed, 8)
    low, high = kernel(X.astype("float32")), kernel(X)
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, high, atol=1e-4 * np.max(np.abs(high)))

"""Polynomial, cosine, spectral mixture and coregionalisation kernels: values, derivatives, structure.

Numbers called "GPyTorch" were computed with GPyTorch 1.15 in float64 for the points A and B below.
"""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ShapeError
from cola_gp._struct import leaves, with_leaves
from cola_gp.kernels import (
    RBF,
    ActiveDims,
    Constant,
    Coregion,
    Cosine,
    Linear,
    Matern52,
    Periodic,
    Polynomial,
    RationalQuadratic,
    SpectralMixture,
    White,
)

A = np.array([[0.1, -0.4], [0.7, 0.2], [-1.3, 0.9]])
B = np.array([[0.3, 0.5], [-0.2, -1.1]])
ROOT = [[0.5, -0.2], [1.1, 0.3], [-0.7, 0.8]]

KERNELS = {
    "polynomial": Polynomial(3, 0.6, 0.8),
    "polynomial-ard": Polynomial(2, [0.6, 1.1, 0.3], 0.4),
    "polynomial-1": Polynomial(1, 0.6, 0.8),
    "cosine": Cosine(1.7),
    "cosine-ard": Cosine([1.7, 0.9, 2.2]),
    "mixture": SpectralMixture([0.6, 1.4], [[0.3, 0.7, 0.2], [1.1, 0.2, 0.4]], [[0.2, 0.1, 0.3]] * 2),
    "mixture-1": SpectralMixture([0.6], [[0.3, 0.7, 0.2]], [[0.2, 0.1, 0.3]]),
    "tasks": ActiveDims(Coregion(root=ROOT, variance=[0.3, 0.2, 0.9]), 2) * ActiveDims(RBF(0.7), (0, 1)),
    "tasks-sum": ActiveDims(Coregion(3), 2) + ActiveDims(Cosine(0.9), 0) * Polynomial(2),
}


def draw(rng, n):
    """Points whose last coordinate is a task number."""
    X = rng.normal(size=(n, 3))
    X[:, 2] = rng.integers(0, 3, n)
    return X


@pytest.fixture(params=sorted(KERNELS))
def kernel(request):
    return KERNELS[request.param]


def numerical_gradient(function, tree, h=1e-5):
    """Central differences of ``function(tree)`` for every leaf."""
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


def test_values_of_gpytorch():
    cases = [
        (
            Polynomial(3, 1.0, 0.7),
            A,
            B,
            [[0.148877, 1.404928], [1.030301, 0.039304], [0.438976, -2.7e-05]],
        ),
        (
            Cosine(1.6),
            A[:, :1],
            B[:, :1],
            [
                [0.7071067811865478, 0.38268343236509],
                [5.053215498074303e-16, -0.9238795325112872],
                [1.0, -0.38268343236509034],
            ],
        ),
        (
            ActiveDims(SpectralMixture([0.6, 1.4], [0.3, 1.1], [0.2, 0.05]), 0)  # its mixture is one of
            * ActiveDims(SpectralMixture([0.6, 1.4], [0.7, 0.2], [0.1, 0.4]), 1),  # every dimension apart
            A,
            B,
            [
                [-0.24381092235178195, 0.07061294287203135],
                [-1.0203220284033614, 0.47224001177425023],
                [-0.0008769212612928087, -0.04778181434049296],
            ],
        ),
        (
            Coregion(root=ROOT, variance=[0.3, 0.2, 0.9]),
            np.array([[0.0], [2.0], [1.0], [2.0]]),
            np.array([[1.0], [2.0]]),
            [[0.49, -0.51], [-0.53, 2.03], [1.5, -0.53], [-0.53, 2.03]],
        ),
        (  # its lengthscale enters without the square
            Periodic(np.sqrt(0.5), 1.3),
            A[:, :1],
            B[:, :1],
            [
                [0.42152739628387126, 0.1722296291280898],
                [0.06658940660414028, 0.06658940660414008],
                [0.17222962912808992, 0.4215273962838709],
            ],
        ),
        (
            RationalQuadratic(0.6, 1.7),
            A,
            B,
            [
                [0.4079937702379248, 0.5171616397929854],
                [0.7290925965511907, 0.1508384174764772],
                [0.13681561582984506, 0.05954024455266401],
            ],
        ),
        (
            Matern52([0.6, 1.2]),
            A,
            B,
            [
                [0.6315931682734268, 0.6642125251895243],
                [0.6994328795200591, 0.17310807880052667],
                [0.04677624278351074, 0.06583777657130549],
            ],
        ),
    ]
    for kernel, X, Z, expected in cases:
        np.testing.assert_allclose(kernel(X, Z), expected, rtol=1e-11, atol=1e-14)


def test_a_mixture_is_the_sum_of_products_of_the_paper(rng):
    X, Z = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    w, f, b = (np.exp(v) for v in leaves(KERNELS["mixture"]))
    t = X[:, None, :] - Z[None, :, :]
    terms = np.exp(-2 * np.pi**2 * t**2 * b[:, None, None] ** 2) * np.cos(2 * np.pi * t * f[:, None, None])
    expected = np.sum(w[:, None, None] * np.prod(terms, axis=-1), axis=0)
    np.testing.assert_allclose(KERNELS["mixture"](X, Z), expected, rtol=1e-12, atol=1e-14)


def test_pullback_matches_finite_differences(kernel, rng):
    X1, X2 = draw(rng, 7), draw(rng, 5)
    for second in (None, X2):
        W = rng.normal(size=(7, 7 if second is None else 5))
        ours = kernel.evaluate(X1, second)[1](W)
        assert [np.shape(g) for g in ours] == [np.shape(v) for v in leaves(kernel)]
        expected = numerical_gradient(lambda k, W=W, s=second: np.sum(W * k(X1, s)), kernel)
        for g, e in zip(ours, expected, strict=True):
            np.testing.assert_allclose(g, e, rtol=2e-6, atol=1e-7)


def test_symmetric_psd_and_diagonal(kernel, rng):
    X = draw(rng, 9)
    K = kernel(X)
    np.testing.assert_allclose(K, K.T, atol=1e-13)
    assert np.linalg.eigvalsh(K).min() > -1e-10
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(K), rtol=1e-12)
    np.testing.assert_allclose(kernel.cross_diag(X), np.diagonal(kernel(X, X)), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1])
def test_no_points_and_one_point(kernel, n, rng):
    X, Z = draw(rng, n), draw(rng, 3)
    K, pull = kernel.evaluate(X, Z)
    assert K.shape == (n, 3) and kernel(X).shape == (n, n) and kernel.diag(X).shape == (n,)
    grads = pull(np.ones((n, 3)))
    assert [np.shape(g) for g in grads] == [np.shape(v) for v in leaves(kernel)]
    assert all(np.isfinite(g).all() for g in grads)


@pytest.mark.parametrize(
    "name", ["polynomial", "polynomial-ard", "polynomial-1", "cosine", "cosine-ard", "tasks-sum"]
)
def test_features_give_the_matrix_and_its_derivatives(name, rng):
    kernel, X = KERNELS[name], draw(rng, 6)
    U, pull = kernel.features(X)
    assert U.shape == (6, kernel.feature_count(3))
    np.testing.assert_allclose(U @ U.T, kernel(X), rtol=1e-11, atol=1e-12)
    G = rng.normal(size=U.shape)
    expected = numerical_gradient(lambda k: np.sum(G * k.features(X)[0]), kernel)
    for g, e in zip(pull(G), expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["cosine", "cosine-ard", "mixture-1"])
@pytest.mark.parametrize("widths", [(1, 1, 1), (2, 1)])
def test_axis_factors(name, widths, rng):
    kernel, X, W = KERNELS[name], rng.normal(size=(6, 3)), rng.normal(size=(6, 6))
    cuts = [slice(sum(widths[:i]), sum(widths[: i + 1])) for i in range(len(widths))]
    parts = [f.evaluate(X[:, c]) for f, c in zip(kernel.axis_factors(widths), cuts, strict=True)]
    np.testing.assert_allclose(np.prod([K for K, _ in parts], axis=0), kernel(X), rtol=1e-11, atol=1e-13)
    pieces = []
    for i, (_, pull) in enumerate(parts):
        pieces.append(pull(W * np.prod([K for j, (K, _) in enumerate(parts) if j != i], axis=0)))
    joined = kernel.join_axis_gradients(tuple(pieces), widths)
    for g, e in zip(joined, kernel.evaluate(X)[1](W), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-12)


def test_tasks_are_an_axis_of_a_grid():
    kernel = KERNELS["tasks"]
    inputs, tasks = kernel.axis_factors((2, 1))
    assert tasks(np.zeros((1, 1))).shape == (1, 1)
    X, T = np.array([[0.1, 0.2], [0.5, -0.3]]), np.arange(3.0)[:, None]
    points = np.array([[*x, *t] for x in X for t in T])
    np.testing.assert_allclose(np.kron(inputs(X), tasks(T)), kernel(points), rtol=1e-13)
    assert KERNELS["mixture"].axis_factors(3) is None


@pytest.mark.parametrize("name", ["cosine-ard", "mixture", "mixture-1"])
def test_stationary_kernels_have_a_profile(name, rng):
    kernel, X, w = KERNELS[name], rng.normal(size=(7, 3)), rng.normal(size=7)
    value, back = (kernel + White(0.2)).profile(X - X[0], white=True)
    np.testing.assert_allclose(value, (kernel + White(0.2))(X)[:, 0], rtol=1e-12, atol=1e-13)
    W = np.zeros((7, 7))
    W[:, 0] = w
    for g, e in zip(back(w), (kernel + White(0.2)).evaluate(X)[1](W), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-13)
    assert not KERNELS["polynomial"].stationary and not Coregion(2).stationary


def test_a_polynomial_is_a_product_of_linear_kernels(rng):
    X = rng.normal(size=(6, 3))
    base = Linear([0.6, 1.1, 0.3]) + Constant(0.4)
    np.testing.assert_allclose(Polynomial(2, [0.6, 1.1, 0.3], 0.4)(X), (base * base)(X), rtol=1e-13)
    for degree in (1, 4, 7):
        np.testing.assert_allclose(Polynomial(degree)(X), (X @ X.T + 1.0) ** degree, rtol=1e-12)


def test_tasks_without_a_root_differ_and_follow_their_numbers():
    kernel = Coregion(4, 2, variance=0.5)
    assert kernel.tasks == 4 and kernel.root.shape == (4, 2)
    assert np.linalg.matrix_rank(kernel.root) == 2
    C = kernel.covariance()
    np.testing.assert_allclose(C, kernel.root @ kernel.root.T + 0.5 * np.eye(4), rtol=1e-14)
    np.testing.assert_allclose(kernel(np.array([[3.0], [1.0], [3.0]])), C[np.ix_([3, 1, 3], [3, 1, 3])])
    assert Coregion(3, 0)(np.arange(3.0)[:, None]).tolist() == np.eye(3).tolist()


def test_a_mixture_guesses_frequencies_of_data():
    x = np.linspace(0.0, 10.0, 200)
    y = 2.0 * np.sin(2 * np.pi * 0.7 * x) + 0.5 * np.cos(2 * np.pi * 2.1 * x) + 3.0
    kernel = SpectralMixture.guess(x, y, 2)
    np.testing.assert_allclose(np.sort(np.exp(kernel.log_frequency[:, 0])), [0.7, 2.1], atol=0.06)
    np.testing.assert_allclose(kernel.diag(x[:1, None]), np.var(y), rtol=1e-12)
    for X, targets in ((np.zeros((3, 2)), np.ones(3)), (np.zeros((1, 1)), np.zeros(1))):
        assert all(np.isfinite(v).all() for v in leaves(SpectralMixture.guess(X, targets, 3)))


def test_bad_input():
    with pytest.raises(ValueError, match="degree must be a positive integer"):
        Polynomial(0)
    with pytest.raises(ValueError, match="degree must be a positive integer"):
        Polynomial(2.5)
    with pytest.raises(ShapeError, match="offset must be"):
        Polynomial(2, 1.0, [1.0, 2.0])
    with pytest.raises(ShapeError, match="one value per component"):
        SpectralMixture([1.0], 0.5, [1.0])
    with pytest.raises(ShapeError, match=r"weight \(2,\)"):
        SpectralMixture([1.0, 2.0], [0.5], [1.0])
    with pytest.raises(ShapeError, match="for 1 dimensions"):
        SpectralMixture([1.0], [0.5], [1.0])(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match="components >= 1"):
        SpectralMixture.guess(np.zeros((3, 1)), np.zeros(4))
    with pytest.raises(ShapeError, match="one column of task numbers"):
        Coregion(2)(np.zeros((3, 2)))
    with pytest.raises(
        ValueError, match="2 is not one of the labels of Coregion, which are the numbers 0 to 1"
    ):
        Coregion(2)(np.array([[0.0], [2.0]]))
    with pytest.raises(ValueError, match=r"0\.5 is not one of the labels"):
        Coregion(2)(np.array([[0.5]]))
    with pytest.raises(ValueError, match="tasks >= 1"):
        Coregion()
    with pytest.raises(ShapeError, match="2 values for 3 tasks"):
        Coregion(3, variance=[1.0, 2.0])
    with pytest.raises(ShapeError, match="root must be"):
        Coregion(4, root=ROOT)


def test_torch_autodiff_agrees_with_the_closed_form(kernel, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    X, W = draw(rng, 8), rng.normal(size=(8, 8))
    params = [torch.tensor(v, requires_grad=True) for v in leaves(kernel)]
    value = (torch.tensor(W) * with_leaves(kernel, params)(torch.tensor(X))).sum()
    value.backward()
    Xt = torch.tensor(X)
    theirs = with_leaves(kernel, [p.detach() for p in params]).evaluate(Xt)[1](torch.tensor(W))
    for ours, auto, closed in zip(kernel.evaluate(X)[1](W), params, theirs, strict=True):
        np.testing.assert_allclose(ours, auto.grad.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours, closed.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["polynomial-ard", "cosine-ard", "mixture", "tasks"])
def test_jax_autodiff_agrees_with_the_closed_form(name, rng):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kernel, X, W = KERNELS[name], draw(rng, 8), rng.normal(size=(8, 8))
    with jax.enable_x64(True):
        params = [jax.numpy.asarray(v) for v in leaves(kernel)]
        Xj, Wj = jax.numpy.asarray(X), jax.numpy.asarray(W)

        @jax.jit
        def both(p, X):
            auto = jax.grad(lambda q: jax.numpy.sum(Wj * with_leaves(kernel, q)(X)))(p)
            return auto, with_leaves(kernel, p).evaluate(X)[1](Wj)

        auto, closed = both(params, Xj)
        for ours, a, c in zip(kernel.evaluate(X)[1](W), auto, closed, strict=True):
            np.testing.assert_allclose(ours, np.asarray(a), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(ours, np.asarray(c), rtol=1e-9, atol=1e-12)


def test_compiled_functions_mark_numbers_that_are_no_tasks():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    kernel = Coregion(root=np.float32(ROOT), variance=1.0)
    X = jax.numpy.asarray([[0.0], [3.0]], dtype="float32")
    K, diagonal = jax.jit(lambda X: (kernel(X), kernel.diag(X)))(X)
    assert np.isnan(np.asarray(K)).tolist() == [[False, True], [True, True]]
    assert np.isnan(np.asarray(diagonal)).tolist() == [False, True]


def test_every_kernel_can_be_planned(rng):
    X = draw(rng, 40)
    data = gp.Data(X, np.sin(X[:, 0]))
    others = [Periodic(), RationalQuadratic(), gp.Matern12(), gp.Deep(RBF(), gp.Network.random((3, 4, 2)))]
    for kernel in [*KERNELS.values(), *others]:
        model = gp.GP(kernel + White(0.1), gp.TaskMean(3, 2), gp.TaskNoise([0.1, 0.2, 0.3], 2))
        plan = str(gp.explain(model, data))
        assert "by gp:condition/" in plan and "not planned further" not in plan


def test_initial_values_of_a_mixture_are_the_peaks_of_the_data(rng):
    x = np.sort(rng.uniform(0, 20, 150))
    data = gp.Data(x, 3.0 * np.sin(2 * np.pi * 0.9 * x) + 0.1 * rng.normal(size=150))
    start = SpectralMixture([1.0, 1.0], [0.01, 0.02], [1.0, 1.0])
    result = gp.fit(gp.GP(start), data, initial="data")
    strongest = int(np.argmax(result.model.kernel.log_weight))
    assert abs(np.exp(result.model.kernel.log_frequency[strongest, 0]) - 0.9) < 0.01
    new = np.linspace(20, 22, 9)
    np.testing.assert_allclose(
        gp.Posterior(result.model, data).mean(new[:, None]), 3.0 * np.sin(2 * np.pi * 0.9 * new), atol=0.3
    )

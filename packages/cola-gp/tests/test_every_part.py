"""Every kernel, mean, noise and likelihood of the package, none left out: its value by a formula written
out here, derivatives of the likelihood of a model with it by differences and by PyTorch, and its file.

Other tests look at each more closely, and with JAX, where a class compiles for seconds; this one fails as
soon as a class is exported and not in its tables.
"""

import math

import numpy as np
import pytest
from scipy import special

import cola_gp as gp
from cola_gp import storage
from cola_gp._struct import leaves, named_leaves, with_leaves

N = 9
RNG = np.random.default_rng(7)
X = np.column_stack([RNG.uniform(0.3, 2.7, N), RNG.uniform(0.3, 2.7, N), np.arange(N) % 3.0])
Y = np.sin(2 * X[:, 0]) + 0.2 * X[:, 2]
AT = RNG.uniform(0.5, 2.5, (4, 3))
FREQUENCIES = RNG.normal(size=(1, 5, 3))
ROOT, OWN = np.array([[0.5], [1.1], [-0.7]]), np.array([0.3, 0.2, 0.9])
SCALE = np.array([0.7, 1.3, 2.0])
KNOTS = gp.Regular(0.0, 0.5, 7)
WEIGHTS, BIASES = [RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))], [RNG.normal(size=4), np.zeros(2)]
NETWORK = gp.Network(WEIGHTS, BIASES)
SLOPE = gp.Affine([0.3, -0.2, 0.1], -2.0)


def distance(A, B, scale=1.0):
    return np.sqrt(np.sum(((A[:, None] - B[None]) / scale) ** 2, axis=-1))


def rbf(A, B, scale=1.0):
    return np.exp(-0.5 * distance(A, B, scale) ** 2)


def each(f):
    """A product over the dimensions of ``f(difference, dimension)``."""
    return lambda A, B: np.prod([f(A[:, None, i] - B[None, :, i], i) for i in range(A.shape[1])], axis=0)


def matern(order):
    def value(A, B):
        t = math.sqrt(2 * order) * distance(A, B, SCALE)
        half = {0.5: 1.0, 1.5: 1 + t, 2.5: 1 + t + t**2 / 3}[order]
        return half * np.exp(-t)

    return value


def same(A, B):
    """White noise is not shared by points of two sets, even if they coincide."""
    return np.eye(len(A)) if A is B else np.zeros((len(A), len(B)))


def mixture(A, B):
    parts = [(0.6, 0.3, 0.2), (1.4, 0.9, 0.1)]
    wave = [
        w * np.exp(-2 * (np.pi * b * (A[:, None, 0] - B[None, :, 0])) ** 2)
        * np.cos(2 * np.pi * f * (A[:, None, 0] - B[None, :, 0]))
        for w, f, b in parts
    ]  # fmt: skip
    return sum(wave)


def network(A):
    return np.tanh(A @ WEIGHTS[0] + BIASES[0]) @ WEIGHTS[1] + BIASES[1]


def hats(a):
    """Linear interpolation weights from the knots."""
    knots = 0.5 * np.arange(7)
    return np.maximum(0, 1 - np.abs(a[:, None] - knots) / 0.5)


def tasks(A, B):
    return (ROOT @ ROOT.T + np.diag(OWN))[np.ix_(A[:, 2].astype(int), B[:, 2].astype(int))]


def first(A):
    return A[:, :1]


def through(A, B):
    points = X[:4]
    K = rbf(points, points, SCALE)
    return rbf(A, points, SCALE) @ np.linalg.solve(K, rbf(points, B, SCALE))


# Rasmussen & Williams (2006), chapter 4, unless the test of the class names another source.
KERNELS = {
    "RBF": (gp.RBF(SCALE), lambda A, B: rbf(A, B, SCALE)),
    "Matern12": (gp.Matern12(SCALE), matern(0.5)),
    "Matern32": (gp.Matern32(SCALE), matern(1.5)),
    "Matern52": (gp.Matern52(SCALE), matern(2.5)),
    "RationalQuadratic": (
        gp.RationalQuadratic(SCALE, 0.6),
        lambda A, B: (1 + distance(A, B, SCALE) ** 2 / 1.2) ** -0.6,
    ),
    "Periodic": (
        gp.Periodic(0.8, SCALE),
        each(lambda t, i: np.exp(-2 * (np.sin(np.pi * t / SCALE[i]) / 0.8) ** 2)),
    ),
    "Cosine": (gp.Cosine(SCALE), each(lambda t, i: np.cos(2 * np.pi * t / SCALE[i]))),
    "SpectralMixture": (
        gp.ActiveDims(gp.SpectralMixture([0.6, 1.4], [0.3, 0.9], [0.2, 0.1]), 0),
        mixture,
    ),
    "Linear": (gp.Linear(SCALE), lambda A, B: (A * SCALE) @ B.T),
    "Polynomial": (gp.Polynomial(3, 0.6, 0.8), lambda A, B: (0.6 * A @ B.T + 0.8) ** 3),
    "Constant": (gp.Constant(0.4), lambda A, B: np.full((len(A), len(B)), 0.4)),
    "Ones": (gp.Ones(), lambda A, B: np.ones((len(A), len(B)))),
    "White": (gp.White(0.3), lambda A, B: 0.3 * same(A, B)),
    "Coregion": (gp.ActiveDims(gp.Coregion(root=ROOT, variance=OWN), 2), tasks),
    "Deep": (gp.Deep(gp.RBF(1.0), NETWORK), lambda A, B: rbf(network(A), network(B))),
    "Sum": (
        gp.RBF(SCALE) + gp.Linear(SCALE) + gp.White(0.3),
        lambda A, B: rbf(A, B, SCALE) + (A * SCALE) @ B.T + 0.3 * same(A, B),
    ),
    "Product": (gp.RBF(SCALE) * gp.Linear(SCALE), lambda A, B: rbf(A, B, SCALE) * ((A * SCALE) @ B.T)),
    "Scale": (2.5 * gp.RBF(SCALE), lambda A, B: 2.5 * rbf(A, B, SCALE)),
    "ActiveDims": (gp.ActiveDims(gp.RBF(0.7), 0), lambda A, B: rbf(first(A), first(B), 0.7)),
    "Nystrom": (gp.Nystrom(gp.RBF(SCALE), X[:4], nugget=0.0), through),
    "RandomFourier": (
        gp.RandomFourier(gp.RBF(SCALE), frequencies=FREQUENCIES),
        lambda A, B: np.mean([np.cos((A[:, None] - B[None]) @ (w / SCALE)) for w in FREQUENCIES[0]], axis=0),
    ),
    "SKI": (
        gp.ActiveDims(gp.SKI(gp.RBF(0.7), gp.Grid(KNOTS), "linear"), 0),
        lambda A, B: (
            hats(A[:, 0])
            @ rbf(0.5 * np.arange(7)[:, None], 0.5 * np.arange(7)[:, None], 0.7)
            @ hats(B[:, 0]).T
        ),
    ),
    # as a function it is the kernel inside; only inference goes through the points
    "Inducing": (gp.Inducing(gp.RBF(SCALE), X[:4], nugget=1e-6), lambda A, B: rbf(A, B, SCALE)),
}

MEANS = {
    "ZeroMean": (gp.ZeroMean(), lambda A: np.zeros(len(A))),
    "ConstantMean": (gp.ConstantMean(0.4), lambda A: np.full(len(A), 0.4)),
    "LinearMean": (gp.LinearMean([0.3, -0.2, 0.1], 0.5), lambda A: A @ [0.3, -0.2, 0.1] + 0.5),
    "MapMean": (gp.MapMean(SLOPE), lambda A: A @ [0.3, -0.2, 0.1] - 2.0),
    "TaskMean": (
        gp.TaskMean([0.1, 0.5, -0.2], dim=2),
        lambda A: np.array([0.1, 0.5, -0.2])[A[:, 2].astype(int)],
    ),
    "SumMean": (
        gp.ConstantMean(0.4) + gp.LinearMean([0.3, -0.2, 0.1], 0.5),
        lambda A: A @ [0.3, -0.2, 0.1] + 0.9,
    ),
}

NOISES = {
    "GaussianNoise": (gp.GaussianNoise(0.1), lambda A: np.full(len(A), 0.1)),
    "FixedNoise": (gp.FixedNoise(0.05 + 0.02 * np.arange(N)), lambda A: 0.05 + 0.02 * np.arange(len(A))),
    "TaskNoise": (
        gp.TaskNoise([0.1, 0.2, 0.3], dim=2),
        lambda A: np.array([0.1, 0.2, 0.3])[A[:, 2].astype(int)],
    ),
    "HeteroscedasticNoise": (gp.HeteroscedasticNoise(SLOPE), lambda A: np.exp(A @ [0.3, -0.2, 0.1] - 2.0)),
}


def student(y, f):
    constant = special.gammaln(2.5) - special.gammaln(2.0) - 0.5 * math.log(4 * math.pi) - math.log(0.3)
    return constant - 2.5 * np.log1p(((y - f) / 0.3) ** 2 / 4)


# targets, and the log density of each observation
LIKELIHOODS = {
    "BernoulliLikelihood": (
        gp.BernoulliLikelihood(),
        (Y > 0.2) * 1.0,
        lambda y, f: special.log_expit((2 * y - 1) * f),
    ),
    "PoissonLikelihood": (
        gp.PoissonLikelihood(),
        np.floor(np.exp(Y)),
        lambda y, f: y * f - np.exp(f) - special.gammaln(y + 1),
    ),
    "StudentTLikelihood": (gp.StudentTLikelihood(0.3, 4.0), Y, student),
}


def exported(base):
    found = {n for n in gp.__all__ if isinstance(getattr(gp, n), type) and issubclass(getattr(gp, n), base)}
    return found - {base.__name__}


def test_no_class_is_left_out():
    assert exported(gp.Kernel) == set(KERNELS)
    assert exported(gp.Mean) == set(MEANS)
    assert exported(gp.Noise) - exported(gp.Likelihood) - {"Likelihood"} == set(NOISES)
    assert exported(gp.Likelihood) == set(LIKELIHOODS)


def models():
    """A model with each, and its targets."""
    out = {name: (gp.GP(kernel, noise=0.1), Y) for name, (kernel, _) in KERNELS.items()}
    plain = 1.2 * gp.RBF(SCALE)
    out |= {name: (gp.GP(plain, mean, 0.1), Y) for name, (mean, _) in MEANS.items()}
    out |= {name: (gp.GP(plain, noise=noise), Y) for name, (noise, _) in NOISES.items()}
    out |= {name: (gp.GP(plain, noise=noise), y) for name, (noise, y, _) in LIKELIHOODS.items()}
    return out


MODELS = models()


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_their_formulas(name):
    kernel, formula = KERNELS[name]
    at = np.column_stack([AT[:, :2], [2.0, 0.0, 1.0, 1.0]])
    np.testing.assert_allclose(kernel(X), formula(X, X), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(kernel(X, at), formula(X, at), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(kernel.diag(X), np.diagonal(formula(X, X)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MEANS)
def test_means_are_their_formulas(name):
    mean, formula = MEANS[name]
    np.testing.assert_allclose(mean(X), formula(X), rtol=1e-14)


@pytest.mark.parametrize("name", NOISES)
def test_noises_are_their_formulas(name):
    noise, formula = NOISES[name]
    np.testing.assert_allclose(noise.variances(Y, X), formula(X), rtol=1e-14)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_are_their_formulas(name):
    likelihood, y, formula = LIKELIHOODS[name]
    f = np.linspace(-2, 2, N)
    np.testing.assert_allclose(likelihood.log_density(y, f), formula(y, f), rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_differences(name):
    model, y = MODELS[name]
    data = gp.Data(X, y)
    value, gradient = gp.value_and_gradient(model, data)
    assert float(value) == pytest.approx(float(gp.marginal_likelihood(model, data)), rel=1e-9)
    start, h = leaves(model), 1e-5
    for i, (leaf, stored, trainable) in enumerate(named_leaves(model)):
        for index in np.ndindex(*np.shape(stored)) if trainable else ():
            ends = []
            for sign in (1, -1):
                moved = [np.array(v, dtype=float) for v in start]
                moved[i][index] += sign * h
                ends.append(float(gp.marginal_likelihood(with_leaves(model, moved), data)))
            slope = (ends[0] - ends[1]) / (2 * h)
            assert np.asarray(gradient[i])[index] == pytest.approx(slope, rel=5e-6, abs=2e-6), leaf


@pytest.mark.parametrize("name", MODELS)
def test_torch_differentiates_to_the_same(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, y = MODELS[name]
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    which = [trainable for _, _, trainable in named_leaves(model)]
    params = [torch.tensor(v, requires_grad=t) for v, t in zip(leaves(model), which, strict=True)]
    found = gp.marginal_likelihood(with_leaves(model, params), gp.Data(torch.tensor(X), torch.tensor(y)))
    found.backward()
    assert float(found.detach()) == pytest.approx(float(value), rel=1e-9)
    for ours, theirs, trainable in zip(gradient, params, which, strict=True):
        if trainable:
            np.testing.assert_allclose(theirs.grad.numpy(), ours, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_files(name, tmp_path):
    model, y = MODELS[name]
    storage.save(tmp_path / "model.npz", {"model": model})
    again = storage.load(tmp_path / "model.npz")[0]["model"]
    assert repr(again) == repr(model)
    data = gp.Data(X, y)
    assert float(gp.marginal_likelihood(again, data)) == float(gp.marginal_likelihood(model, data))

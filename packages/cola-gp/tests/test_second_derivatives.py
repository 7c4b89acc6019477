"""Automatic second derivatives of evidences, against differences of the closed-form first derivatives."""

import numpy as np
import pytest

import cola_gp as gp
from cola_gp._struct import leaves, with_leaves

KERNELS = {
    "stored": lambda: gp.Scale(gp.RBF(0.7), 2.0),
    "in time": lambda: gp.Scale(gp.Matern32(0.7), 2.0),
    "low rank": lambda: gp.Scale(gp.Linear(0.6) + gp.Constant(0.4), 1.5),
}
CASES = {
    "logit": (gp.BernoulliLikelihood("logit"), "auto", ("stored", "in time", "low rank")),
    "poisson": (gp.PoissonLikelihood(), "auto", ("stored", "low rank")),
    "student": (gp.StudentTLikelihood(0.3, 4.0), "auto", ("stored",)),
    "propagation": (gp.BernoulliLikelihood("probit"), "ep", ("stored", "in time", "low rank")),
}


def problem(name, kind):
    rng = np.random.default_rng(5)
    likelihood, alg, _ = CASES[name]
    X = np.sort(rng.uniform(-2, 2, 12))[:, None]
    y = np.sin(2 * X[:, 0]) + 0.5 * rng.normal(size=12)
    if name != "student":
        y = rng.poisson(np.exp(y)) * 1.0 if name == "poisson" else (y > 0) * 1.0
    return gp.GP(KERNELS[kind](), gp.ConstantMean(0.2), likelihood), X, y, alg


def differences(model, X, y, alg, h=1e-4):
    """The matrix of second derivatives by all leaves, which are numbers here."""
    start = [np.array(leaf, dtype=float) for leaf in leaves(model)]
    rows = []
    for i in range(len(start)):
        ends = []
        for sign in (1, -1):
            moved = [leaf + sign * h * (i == j) for j, leaf in enumerate(start)]
            ends.append(np.array(gp.value_and_gradient(with_leaves(model, moved), gp.Data(X, y), alg)[1]))
        rows.append((ends[0] - ends[1]) / (2 * h))
    return np.array(rows)


@pytest.mark.parametrize(
    "name,kind", [(name, kind) for name, (_, _, kinds) in CASES.items() for kind in kinds]
)
def test_torch(name, kind):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, X, y, alg = problem(name, kind)
    data = gp.Data(torch.tensor(X), torch.tensor(y))
    moving = torch.tensor([float(leaf) for leaf in leaves(model)], dtype=torch.float64)

    def evidence(values):
        return gp.marginal_likelihood(with_leaves(model, list(values)), data, alg)

    found = torch.autograd.functional.hessian(evidence, moving)
    np.testing.assert_allclose(found.numpy(), differences(model, X, y, alg), rtol=2e-5, atol=2e-5)


def test_jax():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    model, X, y, alg = problem("logit", "stored")
    direction = np.array([1.0, -0.5, 0.3])
    with jax.enable_x64(True):
        data = gp.Data(jax.numpy.asarray(X), jax.numpy.asarray(y))
        moving = jax.numpy.asarray([float(leaf) for leaf in leaves(model)])
        slope = jax.grad(lambda values: gp.marginal_likelihood(with_leaves(model, list(values)), data, alg))
        found = jax.jit(lambda x, v: jax.jvp(slope, (x,), (v,))[1])(moving, jax.numpy.asarray(direction))
    np.testing.assert_allclose(found, differences(model, X, y, alg) @ direction, rtol=2e-5, atol=2e-5)

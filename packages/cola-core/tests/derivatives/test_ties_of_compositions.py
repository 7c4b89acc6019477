"""Questions on Kronecker compositions whose factors have equal or nearly equal eigenvalues, against NumPy."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import NotDifferentiableError
from cola_core.testing.derivatives import MODES, check_derivatives

I2, I3 = np.eye(2), np.eye(3)


def symmetric(rng, w):
    Q = np.linalg.qr(rng.standard_normal((len(w), len(w))))[0]
    return (Q * np.asarray(w)) @ Q.T


def function(f, M):
    w, V = np.linalg.eigh((M + M.T) / 2)
    return (V * f(w)) @ V.T


def cube(w):
    return w**3


def kronsum(a):
    return cola.kronsum(cola.PSD(ops.Dense(a[0])), cola.PSD(ops.Dense(a[1])))


def kronecker(a):
    return cola.kron(cola.PSD(ops.Dense(a[0])), cola.PSD(ops.Dense(a[1])))


def shifted(a):
    return kronecker(a) + 0.5 * ops.Identity(6)


def dense_sum(a):
    return np.kron(a[0], I2) + np.kron(I3, a[1])


def dense_product(a):
    return np.kron(a[0], a[1])


def dense_shifted(a):
    return dense_product(a) + 0.5 * np.eye(6)


CASES = {
    "sqrt of a sum": (
        lambda a: (a[2] * (cola.sqrt(kronsum(a)) @ a[3])).sum(),
        lambda a: a[2] @ function(np.sqrt, dense_sum(a)) @ a[3],
    ),
    "sqrt of a shifted product": (
        lambda a: (a[2] * (cola.sqrt(shifted(a)) @ a[3])).sum(),
        lambda a: a[2] @ function(np.sqrt, dense_shifted(a)) @ a[3],
    ),
    "function of a product": (
        lambda a: (a[2] * (cola.apply_unary(cube, kronecker(a)) @ a[3])).sum(),
        lambda a: a[2] @ function(cube, dense_product(a)) @ a[3],
    ),
    "logdet of a sum": (
        lambda a: cola.logdet(kronsum(a)),
        lambda a: np.linalg.slogdet(dense_sum(a))[1],
    ),
    "logdet of a shifted product": (
        lambda a: cola.logdet(shifted(a)),
        lambda a: np.linalg.slogdet(dense_shifted(a))[1],
    ),
    "trace of a root": (
        lambda a: cola.trace(cola.sqrt(kronsum(a))),
        lambda a: np.trace(function(np.sqrt, dense_sum(a))),
    ),
    "diagonal of an inverse": (
        lambda a: (a[2] * cola.diag(cola.inv(kronsum(a)))).sum(),
        lambda a: a[2] @ np.diag(np.linalg.inv(dense_sum(a))),
    ),
    "diagonal of a root": (
        lambda a: (a[2] * cola.diag(cola.sqrt(kronsum(a)))).sum(),
        lambda a: a[2] @ np.diag(function(np.sqrt, dense_sum(a))),
    ),
    "solve with a shifted product": (
        lambda a: (a[2] * cola.solve(shifted(a), a[3])).sum(),
        lambda a: a[2] @ np.linalg.solve(dense_shifted(a), a[3]),
    ),
}
GAPS = [0.0, 1e-9, "multiple"]
PROBLEMS = [("torch", name, gap) for name in CASES for gap in GAPS]
PROBLEMS += [("jax", "function of a product", 0.0), ("jax", "logdet of a shifted product", "multiple")]


@pytest.mark.parametrize(("framework", "name", "gap"), PROBLEMS)
def test_all_modes(framework, name, gap):
    pytest.importorskip(framework)
    rng = np.random.default_rng(5)
    step = 0.0 if gap == "multiple" else gap
    top = 1.0 if gap == "multiple" else 2.0
    A, B = symmetric(rng, [1.0, 1.0 + step, top]), symmetric(rng, [1.0, 1.0 + step])
    if gap == "multiple":
        A = A.copy() * 0 + I3
    a, b = rng.standard_normal((2, 6))

    def direction():
        D, E = rng.standard_normal((3, 3)), rng.standard_normal((2, 2))
        return [D + D.T, E + E.T, *rng.standard_normal((2, 6))]

    loss, reference = CASES[name]
    modes = MODES if framework == "torch" else ("reverse", "forward-reverse")  # JAX compiles them long
    check_derivatives(framework, loss, reference, [A, B, a, b], modes, directions=[direction(), direction()])


@pytest.mark.parametrize("loss", ["one by one", "a function that vanishes there"])
def test_what_weighs_equal_eigenvalues_differently_is_refused(loss):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    A = torch.as_tensor(symmetric(rng, [1.0, 1.0, 2.0])).requires_grad_()
    C = torch.as_tensor(symmetric(rng, [1.0, 2.0, 4.0]))
    w, V = cola.eigh(cola.SelfAdjoint(ops.Dense(A)))
    V = V.to_dense()
    y = (w * torch.arange(3.0)).sum() if loss == "one by one" else (C * ((V * (w - 1)) @ V.T)).sum()
    with pytest.raises(NotDifferentiableError):
        torch.autograd.grad(y, A)
    (g,) = torch.autograd.grad((cola.eigvals(cola.SelfAdjoint(ops.Dense(A))) ** 3).sum(), A)
    assert torch.allclose(g, 3 * (A @ A).detach())

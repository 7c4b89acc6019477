"""Rules for functions of compositions: derivatives where a part has equal eigenvalues."""

import numpy as np
import pytest

import cola_core as cola
from cola_core.testing.derivatives import check_derivatives

ALL = ("reverse", "forward", "reverse-reverse", "forward-reverse")


def self_adjoint(rng, w):
    Q, _ = np.linalg.qr(rng.normal(size=(len(w), len(w))))
    return (Q * np.asarray(w)) @ Q.T


def half(x):
    return (x + (x.mT if hasattr(x, "mT") else x.T)) / 2


def check(rng, arrays, build, dense, f, fn):
    C = rng.normal(size=dense(arrays).shape)

    def loss(xs):
        A = build(xs)
        be = A._concrete_backend()
        y = be.xp.sum(f(A).to_dense() * be.asarray(C))
        return y + y**2

    def known(xs):
        w, V = np.linalg.eigh(dense(xs))
        y = np.sum((V * fn(w)) @ V.T * C)
        return y + y**2

    check_derivatives("torch", loss, known, arrays, ALL)


def rational(w):
    return w**3 / (3 + w**2)


FUNCTIONS = {
    "exp": (cola.exp, np.exp),
    "log": (cola.log, np.log),
    "sqrt": (cola.sqrt, np.sqrt),
    "user": (lambda A: cola.apply_unary(rational, A), rational),
}


@pytest.mark.parametrize("f", ["exp", "log", "user"])
def test_kronecker_sums_of_equal_blocks(rng, f):
    pytest.importorskip("torch")
    M, one = self_adjoint(rng, [1.0, 1.0, 2.0]), np.eye(3)
    check(
        rng,
        [M, M.copy()],
        lambda xs: cola.kronsum(cola.PSD(half(xs[0])), cola.PSD(half(xs[1]))),
        lambda xs: np.kron(half(xs[0]), one) + np.kron(one, half(xs[1])),
        *FUNCTIONS[f],
    )


@pytest.mark.parametrize("f", ["sqrt", "user"])
def test_kronecker_products(rng, f):
    pytest.importorskip("torch")
    check(
        rng,
        [self_adjoint(rng, [1.0, 1.0, 2.0]), self_adjoint(rng, [1.0, 3.0])],
        lambda xs: cola.kron(cola.PSD(half(xs[0])), cola.PSD(half(xs[1]))),
        lambda xs: np.kron(half(xs[0]), half(xs[1])),
        *FUNCTIONS[f],
    )


@pytest.mark.parametrize("f", ["sqrt", "log"])
@pytest.mark.parametrize("tied", [True, False])
def test_low_rank_plus_identity(rng, f, tied):
    pytest.importorskip("torch")
    U = rng.normal(size=(9, 2))
    U = np.linalg.qr(U)[0] if tied else U

    def build(xs):
        low = cola.ops.LowRank(xs[0], xs[0])
        return low + cola.ops.Identity.like(low)

    check(rng, [U], build, lambda xs: xs[0] @ xs[0].T + np.eye(9), *FUNCTIONS[f])


def test_the_trace_of_a_function_with_ties_is_exact(rng):
    torch = pytest.importorskip("torch")
    x = torch.tensor(self_adjoint(rng, [1.0, 1.0, 2.0]), requires_grad=True)
    A = cola.PSD(half(x))
    y = cola.trace(cola.log(cola.kronsum(A, A)))
    w = np.array([1.0, 1.0, 2.0])
    assert np.isclose(y.item(), np.log(w[:, None] + w).sum(), rtol=1e-12)
    (g,) = torch.autograd.grad(y, x)
    wanted = torch.func.grad(
        lambda t: torch.logdet(torch.kron(half(t), torch.eye(3)) + torch.kron(torch.eye(3), half(t)))
    )(x.detach())
    assert torch.allclose(g, wanted, rtol=1e-9)

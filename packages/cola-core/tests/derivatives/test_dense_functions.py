"""f(A) of dense matrices: derivatives of both orders in every mode, also at equal eigenvalues and Jordan
blocks."""

import numpy as np
import pytest
import scipy.linalg as sl

import cola_core as cola
from cola_core.algorithms.divided_differences import divided
from cola_core.backends import get_backend
from cola_core.errors import ColaError
from cola_core.linalg.scalar_function import EXP, LOG, power
from cola_core.testing.derivatives import check_derivatives

SPECTRA = {
    "distinct": (1.0, 2.0, 3.5),
    "c I": (2.0, 2.0, 2.0),
    "two clusters": (1.0, 1.0, 3.0),
    "near ties": (1.0, 1.0 + 1e-9, 3.0),
}
JORDAN = np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 2.0]])
PAIR = np.array([[1.0, 1.0, 0.0], [-1.0, 1.0, 0.3], [0.2, 0.0, 2.0]])


def rational(w):
    return w**3 / (3 + w**2)


def of_rational(M):
    return np.linalg.solve((3 * np.eye(len(M)) + M @ M).T, (M @ M @ M).T).T


FUNCTIONS = {
    "exp": (cola.exp, sl.expm),
    "log": (cola.log, sl.logm),
    "sqrt": (cola.sqrt, sl.sqrtm),
    "pow": (lambda A: cola.pow(A, 0.3), lambda M: sl.fractional_matrix_power(M, 0.3)),
    "sign": (cola.sign, sl.signm),
    "user": (lambda A: cola.apply_unary(rational, A), of_rational),
}


def self_adjoint(rng, w, wide=False):
    Z = rng.normal(size=(len(w), len(w))) + (1j * rng.normal(size=(len(w), len(w))) if wide else 0)
    Q, _ = np.linalg.qr(Z)
    return (Q * np.asarray(w)) @ Q.conj().T


def losses(f, reference, C, symmetric):
    """A loss with second derivatives of its own, and the same in NumPy."""

    def loss(xs):
        (x,) = xs
        if symmetric:
            adjoint = x.mT.conj() if hasattr(x, "resolve_conj") else x.conj().T
            A = cola.PSD((x + adjoint) / 2)
        else:
            A = cola.ops.Dense(x)
        be = A._concrete_backend()
        F = f(A).to_dense()
        y = be.xp.sum(F * be.asarray(C, dtype=F.dtype))
        y = be.xp.real(y) if be.is_complex(y) else y
        return y + y**2

    def known(xs):
        (x,) = xs
        y = np.real(np.sum(reference((x + x.conj().T) / 2 if symmetric else x) * C))
        return y + y**2

    return loss, known


def by_eigh(fn):
    def f(M):
        w, V = np.linalg.eigh(M)
        return (V * fn(w)) @ V.conj().T

    return f


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("function", ["log", "user"])
def test_self_adjoint(library, rng, name, function):
    if library == "numpy":
        return
    wide = function == "user" and library == "torch"
    M = self_adjoint(rng, SPECTRA[name], wide)
    f = FUNCTIONS[function][0]
    C = rng.normal(size=M.shape) + (1j * rng.normal(size=M.shape) if wide else 0)
    loss, known = losses(f, by_eigh(np.log if function == "log" else rational), C, True)
    modes = ("reverse", "forward", "reverse-reverse", "forward-reverse", "vmap")
    check_derivatives(library, loss, known, [M], modes if library == "torch" else modes[:4:3])


@pytest.mark.parametrize("name", ["Jordan", "pair", "c I"])
@pytest.mark.parametrize("function", ["log", "sqrt", "pow", "sign"])
def test_general_torch(rng, name, function):
    pytest.importorskip("torch")
    M = {"Jordan": JORDAN, "pair": PAIR, "c I": 2 * np.eye(3)}[name]
    M = M - 2.9 * np.eye(3) if function == "sign" else M
    f, reference = FUNCTIONS[function]
    loss, known = losses(f, reference, rng.normal(size=M.shape), False)
    check_derivatives("torch", loss, known, [M])


def test_general_jax(rng):
    pytest.importorskip("jax")
    loss, known = losses(*FUNCTIONS["sqrt"], rng.normal(size=(3, 3)), False)
    check_derivatives("jax", loss, known, [JORDAN], ("reverse", "forward-reverse"))


def test_functions_of_the_user_of_general_matrices(rng):
    pytest.importorskip("torch")
    loss, known = losses(*FUNCTIONS["user"], rng.normal(size=(3, 3)), False)
    for M in (PAIR, 2 * np.eye(3)):
        check_derivatives("torch", loss, known, [M], ("reverse", "forward-reverse"))


def test_what_is_not_holomorphic_is_refused():
    torch = pytest.importorskip("torch")
    x = torch.tensor(PAIR, requires_grad=True)
    y = cola.apply_unary(lambda w: w.abs() ** 2 + 0 * w, cola.ops.Dense(x)).to_dense().sum()
    with pytest.raises(NotImplementedError, match="holomorphic"):
        y.backward()


def test_a_root_at_zero_has_no_derivative():
    torch = pytest.importorskip("torch")
    x = torch.diag(torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)).requires_grad_()
    y = cola.sqrt(cola.PSD(x)).to_dense().sum()
    with pytest.raises(ColaError, match="no finite derivative"):
        y.backward()


def test_third_derivatives(rng):
    torch = pytest.importorskip("torch")
    M = torch.as_tensor(self_adjoint(rng, (1.0, 1.0, 2.0)))
    E = torch.as_tensor(self_adjoint(rng, (1.0, -1.0, 0.5)))
    C = torch.as_tensor(rng.normal(size=(3, 3)))
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    y = (cola.apply_unary(power(-1.0), cola.PSD(M + t * E), cola.Eigh()).to_dense() * C).sum()
    for _ in range(3):
        (y,) = torch.autograd.grad(y, t, create_graph=True)
    inv = torch.linalg.inv(M)
    expected = -6 * (inv @ E @ inv @ E @ inv @ E @ inv * C).sum()
    assert torch.allclose(y, expected, rtol=1e-10)


def test_single_precision_gradients_are_as_good_as_values(rng):
    torch = pytest.importorskip("torch")
    M = self_adjoint(rng, (1.0, 1.0 + 1e-4, 1.0 + 2e-4, 4.0, 30.0))
    G = {}
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(M, dtype=dtype, requires_grad=True)
        cola.log(cola.PSD(x)).to_dense().square().sum().backward()
        G[dtype] = x.grad.double()
    assert torch.linalg.norm(G[torch.float32] - G[torch.float64]) < 1e-5 * torch.linalg.norm(G[torch.float64])


@pytest.mark.parametrize("n", [0, 1])
def test_small(library, n):
    if library == "numpy":
        return
    be = get_backend(library)
    x = be.asarray(2 * np.eye(n))
    _, pull = be.vjp(lambda x: cola.log(cola.PSD(x)).to_dense(), x)
    assert np.allclose(be.to_numpy(pull(be.asarray(np.eye(n)))[0]), np.eye(n) / 2)


@pytest.mark.parametrize("gap", [0.0, 1e-300, 1e-17, 1e-12, 1e-8, 1e-4, 0.1, 1.0, 10.0])
def test_divided_differences_at_any_distance(gap):
    """Against ``e^a expm1(gap) / gap`` and ``log1p(gap) / gap``; the second by differences of exact ones."""
    be = get_backend("numpy")
    one, other = np.asarray(1.0), np.asarray(1.0 + gap)
    gap = float(other - one)
    wanted = np.e * np.expm1(gap) / gap if gap else np.e
    assert np.isclose(divided(be, EXP, [one, other]), wanted, rtol=1e-13)
    wanted = np.log1p(gap) / gap if gap else 1.0
    assert np.isclose(divided(be, LOG, [one, other]), wanted, rtol=1e-13)
    assert np.isclose(divided(be, power(-1.0), [one, other, one, other]), -1 / other**2, rtol=1e-12)

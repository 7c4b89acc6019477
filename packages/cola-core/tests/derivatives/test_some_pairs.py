"""Derivatives of some eigenpairs and singular triples found by iterations, values and vectors."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.testing.derivatives import MODES, check_derivatives

N, K = 24, 2
BACKENDS = ("torch", "jax")


@pytest.fixture(params=BACKENDS)
def framework(request):
    pytest.importorskip(request.param)
    return request.param


def xp_of(framework):
    from cola_core.backends import get_backend

    return get_backend(framework)


def drawn(shape, kind, seed):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=shape)
    return M + 1j * rng.normal(size=shape) if kind == "complex" else M


def selfadjoint(kind, seed=0, n=N):
    """A well separated spectrum, 1 ... n at random distances."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(drawn((n, n), kind, seed))[0]
    return (Q * (np.arange(1.0, n + 1) + 0.3 * rng.random(n))) @ Q.conj().T


def hermitian(M):
    return (M + M.conj().swapaxes(-1, -2)) / 2


def measured(w, V, weights):
    """A number that sees values, the space and single vectors, but no phase."""
    a, S = weights
    P = (V * w) @ V.conj().swapaxes(-1, -2)
    return (a * w).sum() + (P * S).sum().real + (abs(V) ** 4).sum()


WEIGHTS = (np.array([0.7, -1.3]), np.random.default_rng(5).normal(size=(N, N)))


def weights(framework):
    be = xp_of(framework)
    return tuple(map(be.asarray, WEIGHTS))


SELF_ADJOINT = {
    "Lanczos": (cola.Lanczos(tol=1e-11), "LA"),
    "LOBPCG": (cola.LOBPCG(tol=1e-11), "SA"),
    "Davidson": (cola.Davidson(tol=1e-11), "SA"),
    "ShiftInvert": (cola.ShiftInvert(tol=1e-11), "SM"),
}


def eigh_reference(which, n=N):
    def reference(arrays):
        w, V = np.linalg.eigh(hermitian(arrays[0]))
        at = slice(n - K, n) if which == "LA" else slice(0, K)
        return measured(w[at], V[:, at], WEIGHTS)

    return reference


EACH = [("torch", name, kind) for name in SELF_ADJOINT for kind in ("real", "complex")]
EACH += [("jax", "Lanczos", "complex"), ("jax", "LOBPCG", "real")]  # JAX compiles each mode


@pytest.mark.parametrize(("framework", "name", "kind"), EACH)
def test_self_adjoint(framework, name, kind):
    pytest.importorskip(framework)
    alg, which = SELF_ADJOINT[name]

    def loss(arrays):
        w, V = cola.eigh(cola.SelfAdjoint(ops.Dense(hermitian(arrays[0]))), K, which, alg)
        return measured(w, V.to_dense(), weights(framework))

    modes = MODES
    if framework == "jax":
        modes = ("reverse", "reverse-reverse") if kind == "complex" else ("forward", "forward-reverse")
    check_derivatives(
        framework, loss, eigh_reference(which), [selfadjoint(kind)], modes=modes, jit=framework == "jax"
    )

"""The rules, against dense linear algebra; and that it is they who answer, alone and inside compositions."""

import numpy as np
import pytest
import scipy.linalg

import cola_core as cola
from cola_circulant import Circulant, Fourier, Hartley
from cola_core.errors import SingularMatrixError

rng = np.random.default_rng(1)
N = 6


def make(backend, dtype="float64", psd=False):
    c = rng.standard_normal(N) + (1j * rng.standard_normal(N) if "complex" in dtype else 0)
    c = (c + np.conj(np.roll(c[::-1], 1))) / 2 if psd else c
    c[0] = 2 * N
    C = Circulant(backend.asarray(c.astype(dtype)))
    D = np.stack([np.roll(c, j) for j in range(N)], axis=-1)
    return (cola.PSD(C) if psd else C), D


@pytest.fixture(params=["float64", "complex128"])
def dtype(request):
    return request.param


def close(backend, got, want):
    got = got.to_dense() if isinstance(got, cola.LinearOperator) else got
    np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-10, atol=1e-10)


def test_solve_and_inverse(backend, dtype):
    C, D = make(backend, dtype)
    b = rng.standard_normal((N, 2))
    close(backend, cola.solve(C, backend.asarray(b)), np.linalg.solve(D, b))
    close(backend, cola.solve(C, backend.asarray(b[:, 0])), np.linalg.solve(D, b[:, 0]))
    assert isinstance(cola.inv(C), Circulant)
    close(backend, cola.inv(C), np.linalg.inv(D))
    assert cola.solve(C, backend.asarray(b)).dtype == C.dtype


def test_determinant(backend, dtype):
    C, D = make(backend, dtype)
    sign, value = cola.slogdet(C)
    want = np.linalg.slogdet(D)
    close(backend, sign, want[0])
    close(backend, value, want[1])


def test_trace_and_diagonals(backend, dtype):
    C, D = make(backend, dtype)
    close(backend, cola.trace(C), np.trace(D))
    for k in range(-N + 1, N):
        close(backend, cola.diag(C, k), np.diag(D, k))
    assert cola.diag(C, N).shape == (0,)


def test_functions(backend, dtype):
    C, D = make(backend, dtype)
    assert isinstance(cola.exp(C), Circulant)
    close(backend, cola.exp(C), scipy.linalg.expm(D))
    close(backend, cola.apply_unary(lambda w: w**3, C), D @ D @ D)
    S, E = make(backend, dtype, psd=True)
    close(backend, cola.sqrt(S), scipy.linalg.sqrtm(E))
    close(backend, cola.log(S), scipy.linalg.logm(E))
    assert cola.sqrt(S).isa(cola.PSD)
    assert cola.sqrt(S).dtype == S.dtype


def test_eigenvectors_are_transforms(backend, dtype):
    S, E = make(backend, dtype, psd=True)
    w, V = cola.eigh(S)
    close(backend, w, np.linalg.eigvalsh(E))
    close(backend, V @ cola.ops.Diagonal(backend.astype(w, dtype)) @ V.H, E)
    plan = cola.explain(cola.eigh, S)
    assert plan.root.by == "circulant:eigh/circulant"
    C, D = make(backend, dtype)
    w, V = cola.eig(C)
    V = backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(D @ V, V * backend.to_numpy(w), atol=1e-10)


def test_the_real_basis_is_real():
    assert isinstance(_inner(cola.eigh(make(cola.backends.get_backend("numpy"), psd=True)[0])[1]), Hartley)
    assert isinstance(_inner(cola.eig(make(cola.backends.get_backend("numpy"))[0])[1]), Fourier)


def _inner(V):
    return getattr(V, "Ms", (V,))[0]


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "SM"])
def test_some_eigenpairs(backend, which):
    S, E = make(backend, psd=True)
    w, V = cola.eigh(S, 2, which)
    every = np.linalg.eigvalsh(E)
    close(backend, w, every[-2:] if which[0] == "L" else every[:2])
    close(backend, S @ V.to_dense(), backend.to_numpy(V.to_dense()) * backend.to_numpy(w))


def test_eig_leaves_self_adjoint_ones_to_eigh():
    plan = cola.explain(cola.eig, make(cola.backends.get_backend("numpy"), psd=True)[0], candidates=True)
    (refusal,) = [reason for name, reason, _ in plan.root.rejected if name == "circulant:eig/circulant"]
    assert "self-adjoint" in refusal


def test_inside_compositions(backend):
    """The core's own rules take a composition apart until they meet a circulant."""
    (S, E), (T, F) = make(backend, psd=True), make(backend, psd=True)
    b = rng.standard_normal(N * N)
    A = cola.kron(S, T) + 0.5 * cola.ops.Identity(N * N)
    want = np.kron(E, F) + 0.5 * np.eye(N * N)
    close(backend, cola.solve(A, backend.asarray(b)), np.linalg.solve(want, b))
    close(backend, cola.logdet(A), np.linalg.slogdet(want)[1])
    plan = cola.explain(cola.solve, A, backend.asarray(b))
    assert [node.by for node in plan.nodes()][-1] == "circulant:eigh/circulant"
    U = rng.standard_normal((N, 2))
    low = S + cola.ops.LowRank(backend.asarray(U))
    close(backend, cola.solve(low, backend.asarray(b[:N])), np.linalg.solve(E + U @ U.T, b[:N]))


def test_singular():
    C = Circulant(np.array([1.0, -1.0, 0.0]))
    with pytest.raises(SingularMatrixError, match="eigenvalue is zero"):
        cola.solve(C, np.ones(3))
    with pytest.raises(SingularMatrixError):
        cola.inv(C)
    assert cola.slogdet(C)[1] < -30


def test_gradients():
    """d log det C / dc = n * (first column of C^-T)."""
    torch = pytest.importorskip("torch")
    c = torch.tensor([5.0, 1.0, -0.5, 2.0], dtype=torch.float64, requires_grad=True)
    cola.logdet(Circulant(c)).backward()
    want = 4 * cola.inv(Circulant(c.detach())).T.column
    assert torch.allclose(c.grad, want)


def test_plans_know_the_plugin():
    plan = cola.explain(cola.solve, Circulant(np.ones(3)), np.ones(3))
    assert plan.root.by == "circulant:solve/circulant"
    assert plan.root.where.startswith("cola_circulant/rules.py:")
    assert plan.root.cost.flops > 0

"""SciPy's operators, and sparse matrices of SciPy, PyTorch and JAX, both ways."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from compare import near

import cola_core as cola
from cola_core import interop, ops
from cola_core.errors import ShapeError


def test_scipy_operators_are_taken_apart(rng):
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(3, 3)) + 1j * rng.normal(size=(3, 3))
    A, B = sla.aslinearoperator(a), sla.aslinearoperator(b)
    assert isinstance(cola.as_operator(A), ops.Dense)
    assert isinstance(cola.as_operator(sla.aslinearoperator(sp.csr_array(a))), ops.Sparse)
    for given, dense in (
        (A + B, a + b),
        (A @ B, a @ b),
        (2j * B, 2j * b),
        (B.H, b.conj().T),
        (B.T, b.T),
        (A**2, a @ a),
    ):
        made = cola.as_operator(given)
        near(made.to_dense(), dense, 1e-12)
        near(made.H.to_dense(), dense.conj().T, 1e-12)


def test_a_scipy_function_operator(rng):
    a = rng.normal(size=(4, 3))
    F = sla.LinearOperator((4, 3), matvec=lambda x: a @ x.ravel(), rmatvec=lambda x: a.T @ x.ravel())
    A = cola.as_operator(F)
    near(A.to_dense(), a, 1e-14)
    near(A.H.to_dense(), a.T, 1e-14)
    x = rng.normal(size=(3, 2))
    near(A @ x, a @ x, 1e-14)
    near((ops.Dense(a.T) @ F).to_dense(), a.T @ a, 1e-13)
    near((F + ops.Dense(a)).to_dense(), 2 * a, 1e-13)
    one_way = cola.as_operator(sla.LinearOperator((4, 3), matvec=lambda x: a @ x))
    with pytest.raises(NotImplementedError):
        one_way.H @ np.ones(4)


def test_to_scipy_on_every_backend(backend, rng, dtype):
    a, b = rng.normal(size=(3, 3)), rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2))
    b = b if "complex" in dtype else b.real
    K = cola.kron(*(backend.asarray(m.astype(dtype)) for m in (a, b)))
    S, dense = interop.to_scipy(K), np.kron(a, b)
    assert S.dtype == np.dtype(dtype) and S.shape == (6, 6)
    x = rng.normal(size=(6, 2)).astype(dtype)
    tol = 1e-12 if dtype in ("float64", "complex128") else 1e-4
    for out, want in ((S @ x, dense @ x), (S @ x[:, 0], dense @ x[:, 0]), (S.H @ x, dense.conj().T @ x)):
        assert isinstance(out, np.ndarray) and out.dtype == dtype
        near(out, want, tol)
    with pytest.raises(ShapeError, match="batch"):
        interop.to_scipy(ops.Dense(backend.asarray(np.ones((2, 3, 3)))))


def test_a_batch_is_not_one_sparse_matrix(backend):
    at = np.arange(2)
    S = ops.Sparse(backend.asarray(np.ones((3, 2))), at, at, (2, 2))
    write = {"torch": interop.to_torch_sparse, "jax": interop.to_jax_sparse}
    for out in (interop.to_scipy_sparse, write.get(backend.name, interop.to_scipy_sparse)):
        with pytest.raises(ShapeError, match="batch"):
            out(S)


def test_sparse_matrices_of_scipy_beside_an_operator(rng):
    M = sp.csc_array(sp.random(4, 4, 0.5, random_state=rng))
    a = rng.normal(size=(4, 4))
    A = ops.Dense(a)
    for made, want in ((A @ M, a @ M), (A + M, a + M), (M + A, a + M), (A - M, a - M), (M - A, M - a)):
        near(made.to_dense(), np.asarray(want), 1e-13)
    with pytest.raises(TypeError, match="as_operator"):
        M @ A
    near((cola.as_operator(M) @ A).to_dense(), M @ a, 1e-13)


def test_to_scipy_sparse_shares_the_entries(rng):
    A = ops.Sparse(rng.normal(size=3), [0, 1, 2], [1, 1, 0], (3, 2))
    M = interop.to_scipy_sparse(A)
    assert np.shares_memory(M.data, A.data)
    near(M.toarray(), A.to_dense(), 0)
    with pytest.raises(TypeError, match="to_scipy"):
        interop.to_scipy_sparse(ops.Diagonal(np.ones(3)))


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr"])
def test_sparse_tensors_of_torch(layout, rng):
    torch = pytest.importorskip("torch")
    dense = torch.as_tensor(rng.normal(size=(4, 6)) * (rng.uniform(size=(4, 6)) < 0.5))
    t = getattr(dense, f"to_sparse_{layout}")(*(((2, 2),) if layout == "bsr" else ()))
    A = cola.as_operator(t)
    assert isinstance(A, ops.Sparse)
    near(A.to_dense().numpy(), dense.numpy(), 0)
    x = torch.as_tensor(rng.normal(size=6))
    near((A @ x).numpy(), (dense @ x).numpy(), 1e-13)
    if layout in ("coo", "csr"):
        back = interop.to_torch_sparse(A, layout)
        assert back.layout == t.layout and torch.equal(back.to_dense(), dense)
        assert back.values().data_ptr() == A.data.data_ptr() if layout == "csr" else True
        near(
            (ops.Dense(dense.mT) @ cola.as_operator(t)).to_dense().numpy(), (dense.mT @ dense).numpy(), 1e-12
        )
        near((ops.Dense(dense) + t).to_dense().numpy(), 2 * dense.numpy(), 1e-12)


def test_gradients_reach_the_values_of_a_sparse_tensor():
    torch = pytest.importorskip("torch")
    values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    t = torch.sparse_coo_tensor(torch.tensor([[0, 1, 1], [0, 0, 1]]), values, (2, 2))
    (g,) = torch.autograd.grad((cola.as_operator(t) @ torch.ones(2, dtype=torch.float64)).sum(), values)
    assert torch.equal(g, torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["BCOO", "BCSR", "COO", "CSR", "CSC"])
def test_sparse_arrays_of_jax(kind, rng):
    jax = pytest.importorskip("jax")
    from jax.experimental import sparse

    dense = rng.normal(size=(4, 3)) * (rng.uniform(size=(4, 3)) < 0.5)
    M = getattr(sparse, kind).fromdense(jax.numpy.asarray(dense))
    A = cola.as_operator(M)
    assert isinstance(A, ops.Sparse)
    near(np.asarray(A.to_dense()), dense, 0)
    near(np.asarray((ops.Dense(jax.numpy.asarray(dense.T)) @ M).to_dense()), dense.T @ dense, 1e-12)
    if kind.startswith("B"):
        back = interop.to_jax_sparse(A, kind.lower())
        assert type(back) is type(M)
        near(np.asarray(back.todense()), dense, 0)
        near(np.asarray(back @ jax.numpy.ones(3)), dense.sum(axis=1), 1e-12)


def test_padded_and_batched_arrays_of_jax():
    jax = pytest.importorskip("jax")
    from jax.experimental import sparse

    padded = sparse.BCOO.fromdense(jax.numpy.eye(3), nse=5)
    near(np.asarray(cola.as_operator(padded).to_dense()), np.eye(3), 0)
    with pytest.raises(ShapeError, match="batch"):
        cola.as_operator(sparse.BCOO.fromdense(jax.numpy.ones((2, 3, 3)), n_batch=1))


@pytest.mark.parametrize("source", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("target", ["numpy", "torch", "jax"])
def test_moving_between_libraries_copies_only_where_it_must(source, target, rng):
    from cola_core.backends import get_backend

    for name in {source, target} - {"numpy"}:
        pytest.importorskip(name)
    be, to = get_backend(source), get_backend(target)
    a = rng.normal(size=(64, 8))
    A = ops.Dense(be.asarray(a))
    B = A.to(backend=target)
    assert B.backend is to
    near(to.to_numpy(B.to_dense()), a, 0)
    shared = np.shares_memory(be.to_numpy(A.array), to.to_numpy(B.array))
    if (source, target) in {("numpy", "torch"), ("torch", "numpy"), ("jax", "numpy"), ("jax", "torch")}:
        assert shared
    P = ops.Permutation(be.asarray(np.array([2, 0, 1]))).to(backend=target)
    assert to.to_numpy(P.perm).tolist() == [2, 0, 1]


def test_moving_what_cannot_be_shared(rng):
    torch = pytest.importorskip("torch")
    a = rng.normal(size=(3, 4)) + 1j
    for given in (a[::-1], a.T.conj(), np.broadcast_to(a, (2, 3, 4))):
        near(ops.Dense(given).to(backend="torch").to_dense().numpy(), given, 0)
    t = torch.as_tensor(a).mH
    near(ops.Dense(t).to(backend="numpy").to_dense(), a.conj().T, 0)
    g = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(cola.errors.BackendError, match="detach"):
        ops.Dense(g).to(backend="numpy")
    near(ops.Dense(g.detach()).to(backend="numpy").to_dense(), np.ones((2, 2)), 0)
    with torch.no_grad():
        near(ops.Dense(g).to(backend="numpy").to_dense(), np.ones((2, 2)), 0)

"""Every row of docs/migrating-from-cola-ml.md, run as that page says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed

import cola_core as cola
from cola_core import ops

PAGE = Path(__file__).resolve().parents[3] / "docs" / "migrating-from-cola-ml.md"

# what `cola`, `cola.ops`, `cola.fns`, `cola.annotations` and `cola.linalg` of cola-ml 0.0.7 list in __all__
PUBLIC = """
    lazify densify no_dispatch kron kronsum block_diag Stiefel Unitary SelfAdjoint PSD
    get_annotations Algorithm Auto Cholesky LU Arnoldi Lanczos eig eigmax eigmin iram lobpcg LOBPCG
    PowerIteration CG GMRES solve inv pinv logdet slogdet diag trace Exact Hutch HutchPP
    hutchinson_diag_estimate apply_unary Eigh Eig exp log pow sqrt isqrt dispatch parametric export
    import_every import_from_all LinearOperator Dense Triangular Sparse ScalarMul Identity Product
    Sum Kronecker KronSum BlockDiag Diagonal Tridiagonal Transpose Adjoint Sliced Jacobian Hessian
    Permutation Concatenated ConvolveND Householder Kernel I_like FFT Array utils backends
""".split()

RNG = np.random.default_rng(0)
M = RNG.normal(size=(4, 4)) + 4 * np.eye(4)
S = M @ M.T
x = np.linspace(-1, 1, 4)
close = np.testing.assert_allclose


def dense(A, want):
    close(A.to_dense() if hasattr(A, "to_dense") else A, want, atol=1e-10)


def refused(name, call=lambda f: f(ops.Dense(M))):
    for home in (cola, cola.linalg):
        with pytest.raises(NotImplementedError, match=f"{name} of cola-ml"):
            call(getattr(home, name))


ROWS = {}


def row(name):
    def note(f):
        ROWS[name] = f
        return f

    return note


# -- operators -----------------------------------------------------------------------------------------------
@row("ops.LinearOperator(dtype, shape, matmat)")
def _():
    A = ops.FunctionOperator(lambda X: M @ X, (4, 4), np.float64)
    close(A @ x, M @ x)
    assert isinstance(A, ops.LinearOperator) and isinstance(A, cola.LinearOperator)


@row("ops.Dense(A)")
def _():
    dense(ops.Dense(A=M), M)
    close(ops.Dense(M).A, M)


@row("ops.Triangular(A, lower)")
def _():
    dense(ops.Triangular(A=M, lower=False), np.triu(M))
    dense(ops.Triangular(M), np.tril(M))


@row("ops.Sparse(data, row_indices, col_indices, shape)")
def _():
    i, j = np.array([2, 0, 1]), np.array([1, 3, 1])
    want = np.zeros((4, 4))
    want[i, j] = x[:3]
    dense(ops.Sparse(data=x[:3], row_indices=i, col_indices=j, shape=(4, 4)), want)
    dense(ops.Sparse(x[:3], i, j, (4, 4)), want)


@row("ops.ScalarMul(c, shape, dtype, device)")
def _():
    dense(ops.ScalarMul(2.0, (4, 4), np.float64), 2 * np.eye(4))
    dense(ops.ScalarMul(2.0, shape=(4, 4), dtype=np.float64, device=None), 2 * np.eye(4))


@row("ops.Identity(shape, dtype)")
def _():
    dense(ops.Identity(shape=(4, 4), dtype=np.float64), np.eye(4))


@row("ops.I_like(A)")
def _():
    dense(ops.I_like(ops.Dense(M)), np.eye(4))


@row("ops.Product(*Ms)")
def _():
    dense(ops.Product(ops.Dense(M), ops.Dense(S)), M @ S)


@row("ops.Sum(*Ms)")
def _():
    dense(ops.Sum(ops.Dense(M), ops.Dense(S)), M + S)


@row("ops.Kronecker(*Ms)")
def _():
    dense(ops.Kronecker(ops.Dense(M), ops.Dense(S)), np.kron(M, S))


@row("ops.KronSum(*Ms)")
def _():
    dense(ops.KronSum(ops.Dense(M), ops.Dense(S)), np.kron(M, np.eye(4)) + np.kron(np.eye(4), S))


@row("ops.BlockDiag(*Ms, multiplicities)")
def _():
    dense(ops.BlockDiag(ops.Dense(M), ops.Dense(S), multiplicities=[2, 1]), sl.block_diag(M, M, S))


@row("ops.Diagonal(diag)")
def _():
    dense(ops.Diagonal(diag=x), np.diag(x))


@row("ops.Tridiagonal(alpha, beta, gamma)")
def _():
    want = np.diag(x[:3], -1) + np.diag(x) + np.diag(x[1:], 1)
    dense(ops.Tridiagonal(alpha=x[:3], beta=x, gamma=x[1:]), want)


@row("ops.Transpose(A)")
def _():
    dense(ops.Transpose(ops.Dense(M)), M.T)


@row("ops.Adjoint(A)")
def _():
    dense(ops.Adjoint(ops.Dense(M + 1j)), (M + 1j).conj().T)


@row("ops.Sliced(A, slices)")
def _():
    dense(ops.Sliced(ops.Dense(M), (slice(0, 2), slice(None))), M[:2])
    dense(ops.Sliced(A=ops.Dense(M), slices=(slice(None), np.array([2, 0]))), M[:, [2, 0]])


@row("ops.Jacobian(f, x)")
def _():
    if installed("torch"):
        import torch

        at = torch.tensor(x)
        close(ops.Jacobian(f=lambda v: torch.tensor(M) @ v**2, x=at).to_dense(), 2 * M * x)
    else:
        with pytest.raises(cola.errors.BackendError):
            ops.Jacobian(lambda v: M @ v**2, x) @ x


@row("ops.Hessian(f, x)")
def _():
    if installed("torch"):
        import torch

        H = ops.Hessian(f=lambda v: v @ torch.tensor(M) @ v, x=torch.tensor(x))
        close(H.to_dense(), M + M.T)
        assert H.isa(cola.SelfAdjoint)
    else:
        with pytest.raises(cola.errors.BackendError):
            ops.Hessian(lambda v: v @ M @ v, x) @ x


@row("ops.Permutation(perm, dtype)")
def _():
    p = np.array([2, 0, 3, 1])
    dense(ops.Permutation(perm=p, dtype=np.float64), np.eye(4)[p])


@row("ops.Concatenated(*Ms, axis)")
def _():
    dense(ops.Concatenated(ops.Dense(M), ops.Dense(S[:2]), axis=0), np.vstack([M, S[:2]]))
    dense(ops.Concatenated(ops.Dense(M), ops.Dense(S[:, :2]), axis=1), np.hstack([M, S[:, :2]]))


@row("ops.ConvolveND(filter, array_shape, mode)")
def _():
    from scipy.signal import convolve

    kernel, image = RNG.normal(size=(3, 3)), RNG.normal(size=(5, 6))
    A = ops.ConvolveND(filter=kernel, array_shape=(5, 6), mode="same")
    close(A @ image.ravel(), convolve(image, kernel, mode="same").ravel(), atol=1e-12)


@row("ops.Householder(vec, beta)")
def _():
    v = x / np.linalg.norm(x)
    dense(ops.Householder(vec=v, beta=2.0), np.eye(4) - 2 * np.outer(v, v))


@row("ops.Kernel(x1, x2, fn, block_size1, block_size2)")
def _():
    K = ops.Kernel(x1=x[:, None], x2=x[:3, None], fn=lambda a, b: a @ b.T, block_size1=2, block_size2=2)
    dense(K, np.outer(x, x[:3]))


@row("ops.FFT(n, dtype)")
def _():
    dense(ops.FFT(n=4, dtype=np.complex128), np.fft.fft(np.eye(4), norm="ortho", axis=0))
    assert ops.FFT(4).isa(cola.Unitary)


@row("ops.Array")
def _():
    assert ops.Array is not None


@row("ops.FIM(logits_fn, theta)")
def _():
    assert callable(ops.FIM) and callable(ops.Fisher)
    if installed("torch"):
        import torch

        J = torch.tensor(M)
        F = ops.FIM(logits_fn=lambda t: (J @ t)[None], theta=torch.tensor(x))
        p = np.exp(M @ x) / np.exp(M @ x).sum()
        close(F.to_dense(), M.T @ (np.diag(p) - np.outer(p, p)) @ M, atol=1e-10)


# -- arithmetic and methods ----------------------------------------------------------------------------------
@row("A @ B, A + B, A - B, -A, c * A, A / c")
def _():
    A, B = ops.Dense(M), ops.Dense(S)
    for got, want in (
        (A @ B, M @ S),
        (A + B, M + S),
        (A - B, M - S),
        (-A, -M),
        (3 * A, 3 * M),
        (A / 2, M / 2),
    ):
        dense(got, want)


@row("c / A")
def _():
    with pytest.raises(TypeError, match="inv"):
        1 / ops.Dense(M)


@row("A.T, A.H")
def _():
    dense(ops.Dense(M + 1j).T, (M + 1j).T)
    dense(ops.Dense(M + 1j).H, (M + 1j).conj().T)


@row("A[i], A[:, j], A[i, j], A[rows, cols]")
def _():
    A = cola.kron(M, S)
    D = np.kron(M, S)
    for index in (
        (3,),
        (slice(None), 2),
        (1, 5),
        (slice(2, 6), slice(0, 3)),
        (np.array([4, 1]), np.array([0, 2])),
    ):
        want = D[np.ix_(*index)] if len(index) == 2 and isinstance(index[0], np.ndarray) else D[index]
        dense(A[index if len(index) > 1 else index[0]], want)


@row("A.to_dense()")
def _():
    close(ops.Dense(M).to_dense(), M)


@row("A.to(device, dtype)")
def _():
    assert ops.Dense(M).to(None, np.float32).to_dense().dtype == np.float32


@row("A.isa(PSD)")
def _():
    assert cola.PSD(ops.Dense(S)).isa(cola.PSD) and not ops.Dense(S).isa(cola.PSD)


@row("A.annotations")
def _():
    assert cola.PSD(ops.Dense(S)).annotations == {cola.PSD, cola.SelfAdjoint}


@row("A.flatten()")
def _():
    A = cola.kron(M, S)
    arrays, rebuilt = A.flatten()
    dense(rebuilt([2 * a for a in arrays]), 4 * np.kron(M, S))


@row("A.shape, A.dtype, A.device")
def _():
    A = ops.Dense(M)
    assert A.shape == (4, 4) and A.dtype == np.float64
    assert A.device == ops.Dense(S).device


@row("A.xnp")
def _():
    with pytest.raises(AttributeError, match="A.xp"):
        _ = ops.Dense(M).xnp
    assert ops.Dense(M).xp.exp(0.0) == 1


# -- functions -----------------------------------------------------------------------------------------------
@row("lazify(A)")
def _():
    dense(cola.lazify(M), M)


@row("densify(A)")
def _():
    close(cola.densify(ops.Dense(M)), M)


@row("no_dispatch(A)")
def _():
    dense(cola.no_dispatch(ops.Dense(M)), M)


@row("kron(A, B)")
def _():
    dense(cola.kron(ops.Dense(M), S), np.kron(M, S))


@row("kronsum(A, B)")
def _():
    dense(cola.kronsum(M, S), np.kron(M, np.eye(4)) + np.kron(np.eye(4), S))


@row("block_diag(*ops)")
def _():
    dense(cola.block_diag(ops.Dense(M), ops.Dense(S)), sl.block_diag(M, S))


@row("fns.dot")
def _():
    dense(cola.fns.dot(ops.Dense(M), ops.Dense(S)), M @ S)


@row("fns.add")
def _():
    dense(cola.fns.add(ops.Dense(M), ops.Dense(S)), M + S)


@row("fns.mul")
def _():
    dense(cola.fns.mul(ops.Dense(M), 3), 3 * M)
    dense(cola.fns.mul(3, ops.Dense(M)), 3 * M)


@row("fns.transpose")
def _():
    dense(cola.fns.transpose(ops.Dense(M)), M.T)


@row("fns.adjoint")
def _():
    dense(cola.fns.adjoint(ops.Dense(M + 1j)), (M + 1j).conj().T)


@row("fns.concatenate(ops, axis)")
def _():
    dense(cola.fns.concatenate([ops.Dense(M), ops.Dense(S)], axis=0), np.vstack([M, S]))


# -- annotations ---------------------------------------------------------------------------------------------
@row("PSD(A)")
def _():
    assert cola.PSD(ops.Dense(S)).isa(cola.SelfAdjoint) and cola.annotations.PSD is cola.PSD


@row("SelfAdjoint(A)")
def _():
    assert cola.SelfAdjoint(S).isa(cola.SelfAdjoint) and cola.Hermitian is cola.SelfAdjoint


@row("Stiefel(A)")
def _():
    Q = np.linalg.qr(M)[0][:, :2]
    assert cola.Stiefel(ops.Dense(Q)).isa(cola.Stiefel)


@row("Unitary(A)")
def _():
    U = cola.Unitary(ops.Dense(np.linalg.qr(M)[0]))
    assert U.isa(cola.Stiefel)
    dense(cola.inv(U), U.to_dense().T)


@row("get_annotations(A)")
def _():
    assert cola.get_annotations(cola.SelfAdjoint(S)) == {cola.SelfAdjoint}


@row("annotations.Annotation")
def _():
    assert isinstance(cola.PSD, cola.annotations.Annotation)


@row("annotations.Hermitian")
def _():
    assert cola.annotations.Hermitian is cola.SelfAdjoint


# -- questions -----------------------------------------------------------------------------------------------
@row("solve(A, b, alg)")
def _():
    close(cola.solve(ops.Dense(M), x, cola.linalg.LU()), np.linalg.solve(M, x))
    close(cola.linalg.solve(cola.PSD(S), x, alg=cola.linalg.CG(tol=1e-10)), np.linalg.solve(S, x), rtol=1e-6)


@row("inv(A, alg)")
def _():
    dense(cola.inv(ops.Dense(M), alg=cola.LU()), np.linalg.inv(M))


@row("pinv(A, alg)")
def _():
    dense(cola.pinv(ops.Dense(M[:, :2]), cola.linalg.LSTSQ()), np.linalg.pinv(M[:, :2]))


@row("slogdet(A, log_alg, trace_alg)")
def _():
    want = np.linalg.slogdet(M)
    for args in ((), (cola.LU(),), (cola.Auto(), cola.Auto())):
        close(cola.slogdet(ops.Dense(M), *args), want)
    sign, value = cola.slogdet(cola.PSD(S), cola.Lanczos(), cola.Hutch())
    close((sign, value), np.linalg.slogdet(S), rtol=0.1)


@row("logdet(A, log_alg, trace_alg)")
def _():
    want = np.linalg.slogdet(S)[1]
    close(cola.logdet(cola.PSD(S), log_alg=cola.Cholesky()), want)
    close(cola.logdet(cola.PSD(S), log_alg=cola.Lanczos(), trace_alg=cola.Hutch()), want, rtol=0.1)
    with pytest.raises(NotImplementedError, match="SLQ"):
        cola.logdet(cola.PSD(S), cola.Lanczos(), cola.Exact())
    with pytest.raises(TypeError, match="log_alg"):
        cola.logdet(cola.PSD(S), cola.LU(), log_alg=cola.LU())


@row("diag(A, k, alg)")
def _():
    close(cola.diag(ops.Dense(M), 1, cola.Exact()), np.diag(M, 1))


@row("trace(A, alg)")
def _():
    close(cola.trace(ops.Dense(M), cola.Exact()), np.trace(M))


@row("apply_unary(f, A, alg)")
def _():
    dense(cola.apply_unary(np.exp, cola.SelfAdjoint(S / 50), cola.Eigh()), sl.expm(S / 50))


@row("exp(A, alg)")
def _():
    dense(cola.exp(ops.Dense(M / 9)), sl.expm(M / 9))


@row("log(A, alg)")
def _():
    dense(cola.log(cola.PSD(S), cola.Eigh()), sl.logm(S))


@row("sqrt(A, alg)")
def _():
    R = cola.sqrt(cola.PSD(S)).to_dense()
    close(R @ R, S)


@row("isqrt(A, alg)")
def _():
    R = cola.isqrt(cola.PSD(S)).to_dense()
    close(R @ R, np.linalg.inv(S), atol=1e-10)


@row("pow(A, alpha, alg)")
def _():
    dense(cola.pow(ops.Dense(M), 3), M @ M @ M)
    dense(cola.pow(cola.PSD(S), 0.5), sl.sqrtm(S))
    dense(cola.pow(cola.PSD(S), alpha=0.5, alg=cola.Eigh()), sl.sqrtm(S))


@row("eig(A, k, which, alg)")
def _():
    w, V = cola.eig(ops.Dense(M), 2, "LM", cola.Eig())
    V = V.to_dense()
    close(M @ V, V * w, atol=1e-10)
    close(np.sort(np.abs(w)), np.sort(np.abs(np.linalg.eigvals(M)))[-2:])
    w, _ = cola.eig(cola.SelfAdjoint(S), k=1, which="SM", alg=cola.Lanczos())
    close(w, np.linalg.eigvalsh(S)[:1])


@row("eigmax(A, alg)")
def _():
    close(cola.eigmax(cola.PSD(S)), np.linalg.eigvalsh(S)[-1])


@row("eigmin(A, alg)")
def _():
    close(cola.eigmin(cola.PSD(S), cola.Eigh()), np.linalg.eigvalsh(S)[0])


@row("svd(A, k, which, alg)")
def _():
    U, D, V = cola.svd(ops.Dense(M), 2, "LM", cola.linalg.DenseSVD())
    u, d, vh = np.linalg.svd(M)
    close((U @ D @ V.H).to_dense(), (u[:, :2] * d[:2]) @ vh[:2], atol=1e-10)


@row("cholesky(A)")
def _():
    dense(cola.cholesky(ops.Dense(S)), np.linalg.cholesky(S))


@row("plu(A)")
def _():
    P, L, U = cola.plu(ops.Dense(M))
    dense(P @ L @ U, M)


@row("nullspace(A)")
def _():
    Q = cola.nullspace(ops.Dense(M[:2]))
    assert Q.shape == (4, 2)
    close(M[:2] @ Q.to_dense(), 0, atol=1e-10)


# -- algorithms ----------------------------------------------------------------------------------------------
@row("Auto(**settings)")
def _():
    auto = cola.Auto(
        tol=1e-4, max_iters=50, pbar=False, x0=None, P=None, start_vector=None, bs=9, rand="normal"
    )
    close(cola.solve(ops.Dense(M), x, auto), np.linalg.solve(M, x))
    with pytest.raises(TypeError, match="typo"):
        cola.Auto(typo=3)


@row("Algorithm")
def _():
    assert isinstance(cola.CG(), cola.Algorithm)
    with pytest.raises(TypeError, match="solve"):
        cola.CG()(ops.Dense(S), x)


@row("CG(tol, max_iters, pbar, x0, P)")
def _():
    alg = cola.CG(1e-10, 100, False, np.zeros(4), cola.inv(ops.Diagonal(np.diag(S))))
    close(cola.solve(cola.PSD(S), x, alg), np.linalg.solve(S, x), rtol=1e-6)


@row("GMRES(tol, max_iters, pbar, x0, P)")
def _():
    alg = cola.GMRES(1e-10, 100, False, np.zeros(4), cola.inv(ops.Diagonal(np.diag(M))))
    close(cola.solve(ops.Dense(M), x, alg), np.linalg.solve(M, x), rtol=1e-6)


@row("Lanczos(start_vector, max_iters, tol, pbar, key)")
def _():
    w, _ = cola.eig(cola.PSD(S), 1, "LM", cola.Lanczos(np.ones(4), 100, 1e-8, False, 3))
    close(w, np.linalg.eigvalsh(S)[-1:])


@row("Arnoldi(start_vector, max_iters, tol, pbar, key)")
def _():
    w, _ = cola.eig(ops.Dense(M), 1, "LM", cola.Arnoldi(np.ones(4), 100, 1e-8, False, 3))
    close(np.abs(w), np.abs(np.linalg.eigvals(M)).max(), rtol=1e-6)


@row("PowerIteration(tol, max_iter, pbar, key)")
def _():
    alg = cola.PowerIteration(tol=1e-10, max_iter=5000, pbar=False, key=1)
    close(cola.eigmax(cola.PSD(S), alg), np.linalg.eigvalsh(S)[-1], rtol=1e-6)


@row("Cholesky()")
def _():
    close(cola.solve(cola.PSD(S), x, cola.Cholesky()), np.linalg.solve(S, x))


@row("LU()")
def _():
    close(cola.solve(ops.Dense(M), x, cola.LU()), np.linalg.solve(M, x))


@row("Eig()")
def _():
    close(np.sort_complex(cola.eig(ops.Dense(M), alg=cola.Eig())[0]), np.sort_complex(np.linalg.eigvals(M)))


@row("Eigh()")
def _():
    close(cola.eigh(cola.PSD(S), alg=cola.Eigh())[0], np.linalg.eigvalsh(S))


@row("DenseSVD()")
def _():
    close(np.diag(cola.svd(ops.Dense(M), alg=cola.linalg.DenseSVD())[1].to_dense()), np.linalg.svd(M)[1])


@row("LanczosSVD(start_vector, max_iters, tol, pbar, key)")
def _():
    _, D, _ = cola.svd(ops.Dense(M), 1, "LM", cola.linalg.LanczosSVD(None, 100, 1e-8, False, 3))
    close(D.to_dense(), np.linalg.svd(M)[1][:1, None], rtol=1e-6)


@row("LSTSQ()")
def _():
    close(cola.lstsq(M[:, :2], x, cola.linalg.LSTSQ()), np.linalg.lstsq(M[:, :2], x, rcond=None)[0])


@row("Exact(bs, pbar)")
def _():
    close(cola.trace(ops.Dense(M), cola.Exact(2, False)), np.trace(M))


@row("Hutch(tol, max_iters, bs, rand, pbar, key)")
def _():
    close(cola.trace(cola.PSD(S), cola.Hutch(1e-2, 20000, 100, "normal", False, 0)), np.trace(S), rtol=0.1)


@row("HutchPP")
def _():
    close(cola.trace(cola.PSD(S), cola.HutchPP(1e-2, 20000, 100, "normal", False, 0)), np.trace(S), rtol=0.1)


@row("LOBPCG(max_iters)")
def _():
    w, _ = cola.eig(cola.PSD(S), 1, "LA", cola.LOBPCG(max_iters=100))
    close(w, np.linalg.eigvalsh(S)[-1:])


for _name in ("lobpcg", "iram", "hutchinson_diag_estimate", "parametric", "export",
              "import_every", "import_from_all", "utils"):  # fmt: skip
    ROWS[_name] = lambda name=_name: refused(name)


@row("@dispatch")
def _():
    with pytest.raises(NotImplementedError, match="RuleBook"):

        @cola.dispatch
        def inv(A: ops.Dense):
            return A


@row("backends")
def _():
    assert cola.backends.backend_of(M) is cola.backends.get_backend("numpy")


def documented():
    """The first column of the page's tables."""
    lines = re.findall(r"^\| (.+?) \| .+\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [line.replace("`", "") for line in lines if line not in ("cola-ml",)]


@pytest.mark.parametrize("name", ROWS)
def test_row(name):
    ROWS[name]()


@pytest.mark.skipif(not PAGE.exists(), reason="the repository's documentation is not here")
def test_the_page_and_the_tests_have_the_same_rows():
    assert sorted(documented()) == sorted(ROWS)


@pytest.mark.skipif(not PAGE.exists(), reason="the repository's documentation is not here")
def test_every_public_name_of_cola_ml_is_in_the_page():
    page = " ".join(documented())
    assert [name for name in PUBLIC if not re.search(rf"\b{name}\b", page)] == []

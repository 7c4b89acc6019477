"""Operators of size 0 and 1 answer every question as NumPy does, or raise an error of their own."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import Auto
from cola_core.backends import backend_of, get_backend
from cola_core.errors import ColaError
from cola_core.testing.compare import close, eps_of, host
from cola_core.testing.probes import PROBES


def entries(backend, dtype):
    """``f(*shape)``: positive numbers from one up; a little imaginary part where complex and asked."""

    def make(*shape, whole=False):
        x = 1.0 + np.arange(math.prod(shape)).reshape(shape) / 4
        if "complex" in dtype and whole:
            x = x + 0.25j
        return backend.asarray(x.astype(dtype))

    return make


TABLE = {
    "dense": lambda f, n: ops.Dense(f(n, n, whole=True)),
    "dense_psd": lambda f, n: cola.PSD(ops.Dense(f(n, n))),
    "dense_self_adjoint": lambda f, n: cola.SelfAdjoint(ops.Dense(-f(n, n))),
    "dense_rows": lambda f, n: ops.Dense(f(n, 3, whole=True)),
    "dense_columns": lambda f, n: ops.Dense(f(3, n, whole=True)),
    "batch": lambda f, n: ops.Dense(f(2, n, n, whole=True)),
    "batch_of_none": lambda f, n: ops.Dense(f(0, n + 1, n + 1)),
    "lower": lambda f, n: ops.Triangular(f(n, n, whole=True)),
    "upper_unit": lambda f, n: ops.Triangular(f(n, n), lower=False, unit=True),
    "diagonal": lambda f, n: ops.Diagonal(f(n, whole=True)),
    "diagonal_psd": lambda f, n: cola.PSD(ops.Diagonal(f(n))),
    "identity": lambda f, n: ops.Identity(n) @ ops.Dense(f(n, n)),
    "scalar": lambda f, n: ops.ScalarMul(f(whole=True), n),
    "zero": lambda f, n: ops.Zero.like(ops.Dense(f(n, n))),
    "zero_wide": lambda f, n: ops.Zero.like(ops.Dense(f(n, 3))),
    "sparse": lambda f, n: ops.Sparse(f(n, whole=True), np.arange(n), np.arange(n), (n, n)),
    "sparse_empty": lambda f, n: ops.Sparse(f(0), np.arange(0), np.arange(0), (n, n)),
    "lowrank": lambda f, n: ops.LowRank(f(n, 1, whole=True)),
    "lowrank_none": lambda f, n: ops.LowRank(f(n, 0)),
    "lowrank_diag": lambda f, n: ops.LowRank(f(n, 1)) + cola.PSD(ops.Diagonal(f(n))),
    "product": lambda f, n: ops.Dense(f(n, n)) @ ops.Dense(f(n, n, whole=True)),
    "product_inner_none": lambda f, n: ops.Dense(f(n, 0)) @ ops.Dense(f(0, n)),
    "product_thin": lambda f, n: ops.Dense(f(3, n)) @ ops.Dense(f(n, 3)),
    "gram": lambda f, n: ops.Dense(f(3, n)).H @ ops.Dense(f(3, n)),
    "sum": lambda f, n: ops.Dense(f(n, n)) + ops.Triangular(f(n, n, whole=True)),
    "scaled": lambda f, n: -2 * ops.Dense(f(n, n)),
    "kron": lambda f, n: cola.kron(ops.Dense(f(n, n)), ops.Dense(f(2, 2, whole=True))),
    "kron_psd": lambda f, n: cola.kron(cola.PSD(f(n, n)), cola.PSD(ops.Diagonal(f(2)))),
    "kron_shift": lambda f, n: (
        cola.kron(cola.PSD(f(n, n)), cola.PSD(ops.Dense(f(1, 1)))) + 2 * ops.Identity(n)
    ),
    "kronsum": lambda f, n: cola.kronsum(ops.Dense(f(n, n)), ops.Dense(f(n, n))),
    "kronsum_psd": lambda f, n: cola.kronsum(cola.PSD(f(n, n)), cola.PSD(f(n, n))),
    "blockdiag": lambda f, n: cola.block_diag(ops.Dense(f(n, n)), ops.Dense(f(1, 1, whole=True))),
    "blockdiag_alone": lambda f, n: ops.BlockDiag(ops.Dense(f(n, n)), multiplicities=(2,)),
    "block": lambda f, n: ops.Block([[f(n, n), f(n, 1)], [f(1, n), 9 * f(1, 1)]]),
    "block_none": lambda f, n: ops.Block([[f(n, n), None], [f(n, n), f(n, n)]]),
    "concatenated": lambda f, n: ops.Concatenated(f(n, 2), f(1, 2)),
    "concatenated_columns": lambda f, n: ops.Concatenated(f(n, n), f(n, 1), axis=-1),
    "sliced": lambda f, n: ops.Dense(f(4, 4, whole=True))[1 : 1 + n, 2 : 2 + n],
    "sliced_kron": lambda f, n: cola.kron(f(2, 2), f(2, 2))[:n, :n],
    "opaque": lambda f, n: cola.no_dispatch(cola.PSD(ops.Dense(f(n, n)))),
    "opaque_general": lambda f, n: cola.no_dispatch(ops.Dense(f(n, n, whole=True))),
    "tridiagonal": lambda f, n: ops.Tridiagonal(f(max(n - 1, 0)), f(n), f(max(n - 1, 0))),
    "banded": lambda f, n: ops.Banded(f(3, n), (1, 1), (n, n)),
    "banded_psd": lambda f, n: cola.PSD(ops.Banded(f(3, n), (1, 1), (n, n))),
    "householder": lambda f, n: ops.Householder(f(n, whole=True)),
    "householder_product": lambda f, n: ops.HouseholderProduct(f(n, n), f(n)),
    "circulant": lambda f, n: ops.Circulant(f(n, whole=True)),
    "circulant_psd": lambda f, n: cola.PSD(ops.Circulant(f(n))),
    "toeplitz": lambda f, n: ops.Toeplitz(f(n), f(n)),
    "toeplitz_psd": lambda f, n: cola.PSD(ops.Toeplitz(f(n))),
    "toeplitz_rows": lambda f, n: ops.Toeplitz(f(n), f(3)),
    "hankel": lambda f, n: ops.Hankel(f(n), f(n)),
    "convolution": lambda f, n: ops.ConvolveND(f(1), (n,)),
    "convolution_circular": lambda f, n: ops.ConvolveND(f(1), (n,), "circular"),
    "fft": lambda f, n: ops.FFT(n) @ ops.Dense(f(n, n)),
    "dct": lambda f, n: ops.DCT(n) @ ops.Diagonal(f(n)) @ ops.DCT(n).H,
    "hadamard": lambda f, n: ops.HadamardProduct(f(n, n), f(n, n, whole=True)),
    "khatri_rao": lambda f, n: ops.KhatriRao(f(1, n), f(n, n)),
    "kernel": lambda f, n: ops.Kernel(f(n, 2), None, lambda a, b: 1 + a @ b.T),
    "interpolated": lambda f, n: ops.Interpolated(
        cola.PSD(ops.Dense(f(3, 3))), np.zeros((n, 2), int), f(n, 2)
    ),
    "permutation": lambda f, n: ops.Permutation(backend_of(f(n)).asarray(np.arange(n))) @ ops.Diagonal(f(n)),
    "projection": lambda f, n: ops.Projection(cola.Stiefel(f(n, n) / f(n, n))),
    "real_part": lambda f, n: ops.RealPart(ops.Dense(f(n, n, whole=True))),
    "adjoint": lambda f, n: cola.no_dispatch(ops.Dense(f(n, n, whole=True))).H,
    "transpose": lambda f, n: ops.Transpose(cola.no_dispatch(ops.Dense(f(n, n, whole=True)))),
    "inverse": lambda f, n: cola.inv(cola.no_dispatch(ops.Dense(f(n, n)))),
}


def _products(A, D, backend, dtype):
    m, n = D.shape[-2:]
    for side, op, M in ((n, A, D), (m, A.H, np.conj(D.mT)), (m, A.T, D.mT)):
        for shape in ((side,), (side, 0), (side, 2), (3, *[1] * (D.ndim - 2), side, 1)):
            X = entries(backend, dtype)(*shape)
            x = host(X)
            want = (M @ x[:, None])[..., 0] if x.ndim == 1 else M @ x
            close(host(op @ X), want, f"product with {shape}", 1e3 * eps_of(dtype))


def _square(D):
    return D.shape[-1] == D.shape[-2]


def _solvable(D):
    return _square(D) and (0 in D.shape or np.linalg.cond(D).max() < 1e6)


def _vector_questions(A, D, backend, dtype):
    n = D.shape[-1]
    f, tol = entries(backend, dtype), 1e4 * eps_of(dtype)
    for shape in ((n,), (n, 0), (n, 2)):
        b = f(*shape)
        x = host(b)
        X = x[:, None] if x.ndim == 1 else x
        X = np.broadcast_to(X, (*D.shape[:-2], *X.shape[-2:]))
        if _square(D):
            quad = np.sum(np.conj(X) * (D @ X), -2)
            close(host(cola.quad_form(A, b)), quad[..., 0] if x.ndim == 1 else quad, "quad_form", tol)
        if _solvable(D):
            Y = np.linalg.solve(D, X)
            close(host(cola.solve(A, b)), Y[..., 0] if x.ndim == 1 else Y, "solve", tol)
            close(host(cola.inv(A) @ b), Y[..., 0] if x.ndim == 1 else Y, "inv", tol)
            q, ld = cola.inv_quad_logdet(A, b)
            quad = np.sum(np.conj(X) * Y, -2)
            close(host(q), quad[..., 0] if x.ndim == 1 else quad, "inv_quad", tol)
            assert host(ld).shape == D.shape[:-2]
            close(host(cola.slogdet(A)[1]), np.linalg.slogdet(D)[1], "slogdet", tol, 1.0)


def _lstsq(A, D, backend, dtype):
    for k in ((), (0,), (2,)):
        b = entries(backend, dtype)(D.shape[-2], *k)
        x = host(b)
        P = np.linalg.pinv(D, rcond=1e-5) if D.size else np.swapaxes(D, -1, -2)
        want = (P @ x[:, None])[..., 0] if not k else P @ x
        close(host(cola.lstsq(A, b)), want, "lstsq", 1e4 * eps_of(dtype))
        close(host(cola.pinv(A).to_dense()), P, "pinv", 1e4 * eps_of(dtype))


def _functions(A, D, backend, dtype):
    if not _square(D) or D.ndim > 2:
        return
    tol = 1e5 * eps_of(dtype)
    close(host(cola.exp(A).to_dense()), sl.expm(D), "exp", tol)
    v = entries(backend, dtype)(D.shape[-1], 2)
    close(host(cola.exp(A) @ v), sl.expm(D) @ host(v), "exp action", tol)
    close(host((A @ A).to_dense()), D @ D, "A @ A", tol)
    if _solvable(D) and (np.linalg.eigvals(D).real > 1e-6).all() if D.size else True:
        for f, g in ((cola.sqrt, sl.sqrtm), (cola.log, sl.logm)):
            want = g(D) if D.size else D
            close(host(f(A).to_dense()), want, f.__name__, 1e3 * tol)


def _decompositions(A, D, backend, dtype):
    tol = 1e4 * eps_of(dtype)
    r = min(D.shape[-2:])
    U, S, V = cola.svd(A)
    assert S.shape[-1] <= r
    close(host((U @ S @ V.H).to_dense()), D, "svd", tol)
    for k in {0, min(1, r)}:
        try:
            Uk, Sk, Vk = cola.svd(A, k)
        except (ColaError, ValueError) as error:
            assert not k and "k" in str(error), error
            continue
        assert Uk.shape[-1] == Sk.shape[-1] == Vk.shape[-1] == k
    Q, R = cola.qr(A)
    close(host((Q @ R).to_dense()), D, "qr", tol)
    L, Q = cola.lq(A)
    close(host((L @ Q).to_dense()), D, "lq", tol)
    P, L, U = cola.plu(A)
    close(host((P @ L @ U).to_dense()), D, "plu", tol)
    if _square(D):
        T, Z = cola.schur(A)
        close(host((Z @ T @ Z.H).to_dense()), D, "schur", tol)
        for k in {0, min(1, r)}:
            for f in (cola.eig, cola.eigh)[: 1 + A.isa(cola.SelfAdjoint)]:
                try:
                    w, W = f(A, k)
                except (ColaError, ValueError) as error:
                    assert not k, error
                    continue
                assert w.shape[-1] == W.shape[-1] == k
        for f in (cola.eigmax, cola.eigmin):
            if not A.isa(cola.SelfAdjoint):
                continue
            if D.shape[-1] and D.ndim == 2:
                assert np.ndim(host(f(A))) == 0
            elif D.ndim == 2:
                with pytest.raises((ColaError, ValueError)) as caught:
                    f(A)
                _typed(caught.value)
        if np.linalg.det(D).all() or not A.isa(cola.PSD):  # of a PSD claim, positive definiteness is asked
            close(host(cola.det(A)), np.linalg.det(D), "det", tol)
        if A.isa(cola.PSD) and D.size:
            assert tuple(cola.sample(A, 0, (2,)).shape) == (2, *D.shape[:-2], D.shape[-1])
    if D.ndim == 2:
        rank = np.linalg.matrix_rank(D) if D.size else 0
        assert cola.nullspace(A).shape == (D.shape[-1], D.shape[-1] - rank)
        assert cola.orth(A).shape == (D.shape[-2], rank)


def _typed(error):
    assert isinstance(error, (ColaError, NotImplementedError)), repr(error)


def _norms(A, D, backend, dtype):
    for p in ("fro", 1, 2, np.inf, "nuc"):
        if D.size:
            want = np.linalg.norm(D, p, axis=(-2, -1))
            close(host(cola.norm(A, p)), want, f"norm {p}", 1e3 * eps_of(dtype))
        else:
            got = host(cola.norm(A, p))
            assert got.shape == D.shape[:-2], (p, got.shape)
            assert not got.any(), (p, got)
    if _solvable(D):
        for p in (1, 2):
            try:
                got = host(cola.cond(A, p))
            except ColaError:
                assert not D.size
                continue
            assert got.shape == D.shape[:-2]
    assert host(cola.rank(A)).shape == D.shape[:-2]


def _derived(A, D, backend, dtype):
    f, tol = entries(backend, dtype), 1e3 * eps_of(dtype)
    two = ops.Diagonal(f(2))
    close(host(cola.kron(A, two).to_dense()), _kron(D, host(f(2))), "kron", tol)
    close(host(cola.block_diag(A, two).to_dense())[..., : D.shape[-2], : D.shape[-1]], D, "block_diag", tol)
    close(host((2 * A - A).to_dense()), D, "2 A - A", tol)
    close(host((A.H @ A).to_dense()), np.conj(D.mT) @ D, "gram", tol)
    close(host(A.conj().to_dense()), D.conj(), "conj", tol)
    if _square(D):
        close(host((A + ops.Identity(D.shape[-1])).to_dense()), D + np.eye(D.shape[-1]), "shift", tol)
        for k in (-2, -1, 0, 1, 2):
            want = np.diagonal(D, k, -2, -1)
            close(host(cola.diag(A, k)), want, f"diag {k}", tol)
    repr(A), str(A), A.describe()


def _kron(D, d):
    m, n = D.shape[-2:]
    return np.einsum("...ij,k,kl->...ikjl", D, d, np.eye(len(d))).reshape(
        (*D.shape[:-2], m * len(d), n * len(d))
    )


def _sylvester(A, D, backend, dtype):
    if not _square(D) or D.ndim > 2:
        return
    f = entries(backend, dtype)
    n = D.shape[-1]
    if D.size and (np.linalg.eigvals(D).real <= 1e-6).any():
        return
    B = ops.Dense(f(1, 1))
    C = f(n, 1)
    want = sl.solve_sylvester(D, host(f(1, 1)), host(C)) if n else host(C)
    close(host(cola.sylvester(A, B, C)), want, "sylvester", 1e4 * eps_of(dtype))


GROUPS = {
    "products": _products,
    "vector-questions": _vector_questions,
    "lstsq": _lstsq,
    "functions": _functions,
    "decompositions": _decompositions,
    "norms": _norms,
    "derived": _derived,
    "sylvester": _sylvester,
}

ASKED = (*GROUPS, *(q for q in PROBES))


def check(question, A, backend, dtype):
    D = host(A.to_dense())
    assert D.shape == A.shape
    if question in GROUPS:
        GROUPS[question](A, D, backend, dtype)
        return
    probe = PROBES[question]
    wide = D.astype(np.complex128 if "complex" in dtype else np.float64)
    if not _suits(probe, A, wide):
        return
    operands = probe.operands(A, wide, backend, dtype, 0)
    if probe.name in ("svds", "eigs", "eigsh", "geigs", "geigsh") and 0 in D.shape:
        return  # one eigenpair of none
    answer = probe.question.run(A, *operands, alg=Auto(), on_failure="raise")
    try:
        want = probe.dense(wide, operands)
    except Exception:  # noqa: BLE001 - NumPy has no answer of this size; ours must only come
        return
    tol = 1e4 * eps_of(dtype) * probe.sensitivity(wide) if D.size else 1.0
    for g, w in zip(probe.arrays(A, wide, answer, operands), want, strict=True):
        size = max(np.abs(w).max(initial=0.0), np.abs(wide).max(initial=0.0), 1.0)
        close(g, w, probe.name, tol, float(size))


def _suits(probe, A, wide):
    try:
        return probe.suits(A, wide)
    except (ValueError, np.linalg.LinAlgError):  # a reduction of nothing in the test's own guard
        return False


LIBRARIES = ["numpy", pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch"))]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("name", TABLE)
def test_small_sizes(name, size, library):
    backend = get_backend(library)
    names = list(TABLE)
    share = ("float64", "complex64", "float32", "complex128")[names.index(name) % 4]
    wrong = []
    for dtype in ("float64", share) if library == "numpy" else (share,):
        A = TABLE[name](entries(backend, dtype), size)
        for question in ASKED:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    check(question, A, backend, dtype)
                except Exception as error:  # noqa: BLE001 - all that is wrong in one report
                    wrong.append(f"{question} in {dtype}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)

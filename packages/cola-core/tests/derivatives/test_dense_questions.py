"""Gradients of what decompositions of composed operators answer, against differences of NumPy's."""

import numpy as np
import pytest

import cola_core as cola
from cola_core.testing.derivatives import check_derivatives

LIBRARIES = ("torch", "jax")


def _sym(be, X):
    return (X + be.adjoint(X)) / 2


def _psd(be, X):
    return be.matmul(X, be.adjoint(X)) + be.eye(X.shape[-1], X.dtype)


# how an operator is made of two arrays, as an operator and as a matrix of NumPy
def kronecker(be, A, B):
    return cola.PSD(cola.kron(cola.PSD(_psd(be, A)), cola.PSD(_psd(be, B))))


def kronsum(be, A, B):
    return cola.PSD(cola.kronsum(cola.PSD(_psd(be, A)), cola.PSD(_psd(be, B))))


def block_diagonal(be, A, B):
    return cola.PSD(cola.ops.BlockDiag(cola.PSD(_psd(be, A)), cola.PSD(_psd(be, B))))


def dense(be, A, B):
    return cola.PSD(cola.ops.Dense(_psd(be, A) + 0 * be.xp.sum(B)))


def shifted(be, A, B):
    return cola.PSD(cola.PSD(_psd(be, A)) + cola.ops.ScalarMul(be.xp.sum(be.xp.abs(B) ** 2), 3))


MADE = (dense, kronecker, kronsum, block_diagonal, shifted)


def matrix(make, arrays):
    from cola_core.backends import get_backend

    return np.asarray(make(get_backend("numpy"), *arrays).to_dense())


def eigh_question(be, A):
    w, V = cola.eigh(A)
    k = 2
    P = V.to_dense()[..., :k]
    return w**2, be.matmul(P, be.adjoint(P))


def eigh_reference(M):
    w, V = np.linalg.eigh(M)
    return w**2, V[:, :2] @ V[:, :2].conj().T


def svd_question(be, A):
    U, S, V = cola.svd(A)
    U, V = U.to_dense()[..., :2], V.to_dense()[..., :2]
    return S.diag**2, be.matmul(U, be.adjoint(V))


def svd_reference(M):
    U, s, Vh = np.linalg.svd(M)
    return s**2, U[:, :2] @ Vh[:2]


def cholesky_question(be, A):
    return (cola.cholesky(A).to_dense(),)


def solves(be, A):
    n = A.shape[-1]
    b = be.astype(be.xp.arange(1, n + 1), A.dtype)
    one = cola.lstsq(A, b)
    return one, cola.pinv(A) @ b, cola.solve(A, b)


def solve_reference(M):
    x = np.linalg.solve(M, np.arange(1, len(M) + 1))
    return x, x, x


QUESTIONS = {
    "eigh": (eigh_question, eigh_reference),
    "svd": (svd_question, svd_reference),
    "cholesky": (cholesky_question, lambda M: (np.linalg.cholesky(M),)),
    "solves": (solves, solve_reference),
}


def weighed(be, parts):
    total = 0
    for i, X in enumerate(parts):
        n = int(np.prod(X.shape))
        W = np.cos(np.arange(n) + i).reshape(tuple(X.shape))
        y = be.asarray(W) * X
        total = total + be.xp.sum(be.xp.real(y) + 0.5 * be.xp.imag(y) if be.is_complex(y) else y)
    return total


# on JAX a program takes seconds to compile: a few of them
JAX_CASES = [(kronsum, "eigh"), (kronecker, "svd"), (block_diagonal, "cholesky"), (shifted, "solves")]
CASES = [("torch", make, question) for make in MADE for question in QUESTIONS]
CASES += [("jax", make, question) for make, question in JAX_CASES]


@pytest.mark.parametrize(("name", "make", "question"), CASES)
def test_gradients_of_answers(name, make, question):
    library = name
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be, host = get_backend(library), get_backend("numpy")
    ask, reference = QUESTIONS[question]
    rng = np.random.default_rng(7)
    arrays = [rng.normal(size=(3, 3)), rng.normal(size=(2, 2))]
    if library == "torch" and make in (dense, kronecker):
        arrays = [X + 1j * rng.normal(size=X.shape) for X in arrays]
    modes = ("reverse", "forward", "reverse-reverse") if library == "torch" else ("reverse",)
    check_derivatives(
        library,
        lambda arrays: weighed(be, ask(be, make(be, *arrays))),
        lambda arrays: float(weighed(host, reference(matrix(make, arrays)))),
        arrays,
        modes=modes,
    )


def rectangular(be, A):
    Q, R = cola.qr(A)
    L, Z = cola.lq(A)
    P, lower, upper = cola.lu(A)
    return tuple(X.to_dense() for X in (Q, R, L, Z, P, lower, upper))


@pytest.mark.parametrize("shape", ((4, 2), (2, 4)), ids=str)
def test_qr_lq_and_lu(shape):
    pytest.importorskip("torch")
    from cola_core.backends import get_backend

    be, host = get_backend("torch"), get_backend("numpy")
    rng = np.random.default_rng(3)
    A = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    check_derivatives(
        "torch",
        lambda arrays: weighed(be, rectangular(be, cola.ops.Dense(arrays[0]))),
        lambda arrays: float(weighed(host, rectangular(host, cola.ops.Dense(arrays[0])))),
        [A],
        modes=("reverse", "forward", "reverse-reverse"),
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("shape", ((4, 3), (3, 4)), ids=str)
def test_least_squares_at_equal_singular_values(library, shape):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    rng = np.random.default_rng(5)
    m, n = shape
    A = 2 * np.linalg.qr(rng.normal(size=(4, 3)))[0]
    A = A if m > n else A.T
    b, weights = rng.normal(size=(m, 2)), rng.normal(size=(n, 2))

    def loss(arrays):
        return be.xp.sum(be.asarray(weights) * cola.lstsq(cola.ops.Dense(arrays[0]), arrays[1], cola.LSTSQ()))

    modes = ("reverse", "forward", "reverse-reverse") if library == "torch" else ("reverse",)
    reference = lambda a: float(np.sum(weights * (np.linalg.pinv(a[0]) @ a[1])))  # noqa: E731
    check_derivatives(library, loss, reference, [A, b], modes=modes)


@pytest.mark.parametrize("library", LIBRARIES)
def test_solves_by_decompositions_at_ties(library):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    b, c = np.arange(1.0, 4.0), np.array([1.0, -2.0, 0.5])

    def loss(arrays):
        A = arrays[0]
        x = cola.solve(cola.ops.Dense(A), be.asarray(b), cola.SVD())
        L = cola.SelfAdjoint(_sym(be, A))
        y = cola.solve(cola.kronsum(L, L), be.asarray(np.ones(9)), cola.Eigh())
        return be.xp.sum(be.asarray(c) * x) + y[1]

    def reference(arrays):
        A = arrays[0]
        S = (A + A.T) / 2
        K = np.kron(S, np.eye(3)) + np.kron(np.eye(3), S)
        return float(c @ np.linalg.solve(A, b) + np.linalg.solve(K, np.ones(9))[1])

    A = np.diag([2.0, 2.0, 3.0])  # equal values
    modes = ("reverse", "forward", "reverse-reverse") if library == "torch" else ("reverse",)
    check_derivatives(library, loss, reference, [A], modes=modes)

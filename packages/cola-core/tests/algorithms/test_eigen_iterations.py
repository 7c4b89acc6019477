"""Iterations for some eigenpairs against dense answers: prescribed spectra, copies, non-normal matrices."""

import numpy as np
import problems
import pytest
from compare import close

import cola_core as cola
from cola_core import LOBPCG, Davidson, KrylovSchur, Lanczos, ShiftInvert, ops
from cola_core.errors import ConvergenceWarning

SELF_ADJOINT = {"lanczos": Lanczos(), "lobpcg": LOBPCG(), "davidson": Davidson()}


def lazy(backend, M, declare=cola.SelfAdjoint):
    """An operator without structure."""
    return cola.no_dispatch(declare(ops.Dense(backend.asarray(M))))


def pairs(backend, w, V):
    return backend.to_numpy(w), backend.to_numpy(V.to_dense())


def wanted(every, k, which):
    return np.sort(every[np.argsort({"LA": -every, "SA": every, "LM": -np.abs(every)}[which])[:k]])


# -- self-adjoint --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SELF_ADJOINT)
@pytest.mark.parametrize("spectrum", problems.SPECTRA)
def test_prescribed_spectra(name, spectrum):
    numpy = cola.backends.get_backend("numpy")
    for seed, which, complex_ in ((0, "LA", False), (1, "SA", True)):
        every = problems.spectrum(spectrum, 90, 1e3)
        M = problems.with_spectrum(every, seed, complex_)
        (w, V), info = cola.eigh(
            lazy(numpy, M), 4, which, SELF_ADJOINT[name], return_info=True, on_failure="ignore"
        )
        w, V = pairs(numpy, w, V)
        # blocks do not tell eigenvalues apart that agree to six digits, and say so
        assert info.converged or (spectrum == "clustered" and name != "lanczos")
        assert info.residuals.shape == (4,) and info.codes.shape == (4,)
        # the bound is that to the nearest eigenvalue; in a cluster that may be another than the wanted one
        missed = 2e-6 if spectrum == "clustered" else 0
        assert np.abs(w - wanted(every, 4, which)).max() <= max(info.error_estimate, 1e-12) + missed
        assert np.abs(V.conj().T @ V - np.eye(4)).max() < 1e-10
        assert np.linalg.norm(M @ V - V * w, axis=0).max() <= 1.1 * max(info.error_estimate, 1e-13)


@pytest.mark.parametrize("name", SELF_ADJOINT)
def test_every_backend_dtype_and_scale(backend, dtype, name):
    every = np.r_[np.linspace(-1, 1, 60), 2, 2.5, 3]
    M = problems.with_spectrum(every, 0, "complex" in dtype).astype(dtype)
    for scale in (1.0, 1e-9):
        (w, V), info = cola.eigh(lazy(backend, scale * M), 3, "LA", SELF_ADJOINT[name], return_info=True)
        assert info.converged
        close(backend, w / scale, [2, 2.5, 3], dtype, scale=10)
        if backend.name == "jax":
            return  # a scale is no new program, and a dtype one more


@pytest.mark.parametrize("name", SELF_ADJOINT)
@pytest.mark.parametrize("which", ["SA", "LA"])
def test_double_eigenvalues_of_a_square_grid(name, which):
    M = problems.poisson(12, 12).toarray()
    every = problems.poisson_eigenvalues(12, 12)
    (w, V), info = cola.eigh(cola.no_dispatch(cola.PSD(M)), 6, which, SELF_ADJOINT[name], return_info=True)
    assert info.converged
    np.testing.assert_allclose(w, wanted(every, 6, which), atol=1e-10)
    assert np.abs(V.to_dense().T @ V.to_dense() - np.eye(6)).max() < 1e-10


@pytest.mark.parametrize("name", SELF_ADJOINT)
@pytest.mark.parametrize(
    "d",
    [
        np.full(30, 3.0),
        np.zeros(25),
        np.r_[np.zeros(35), 1, 2],
        np.repeat([1.0, 2, 5], 12),
        np.arange(5.0),
        np.ones(1),
        problems.indefinite(60),
    ],
    ids=["c*I", "zero", "low rank", "three values", "n=5", "n=1", "indefinite"],
)
def test_breakdowns_and_sizes(name, d):
    n = len(d)
    M = problems.with_spectrum(d, 3)
    for k in sorted({1, min(4, n), max(n - 1, 1), n} if n < 10 else {1, 4}):
        for which in ("LA", "SA"):
            alg = SELF_ADJOINT[name]
            (w, V), info = cola.eigh(cola.no_dispatch(cola.SelfAdjoint(M)), k, which, alg, return_info=True)
            assert info.converged and np.isfinite(w).all()
            np.testing.assert_allclose(w, wanted(np.sort(d), k, which), atol=1e-9)
            np.testing.assert_allclose(V.to_dense().T @ V.to_dense(), np.eye(k), atol=1e-9)
    with pytest.raises(cola.errors.ShapeError):
        cola.eigh(cola.SelfAdjoint(M), 0, "LA", SELF_ADJOINT[name])


def test_a_starved_iteration_says_which_pairs_it_has():
    M = problems.poisson(30, 30)
    A = cola.no_dispatch(cola.PSD(ops.Sparse.from_scipy(M)))
    for alg in (Lanczos(max_iters=120), LOBPCG(max_iters=8), Davidson(max_iters=8)):
        (w, _), info = cola.eigh(A, 4, "SA", alg, return_info=True, on_failure="ignore")
        assert not info.converged and "limit" in info.reason and not (info.codes == 1).all()
        assert info.residuals.max() > info.tolerance
        with pytest.warns(ConvergenceWarning, match=info.method):
            cola.eigh(A, 4, "SA", alg)


def test_nan_in_products_is_named():
    calls = []

    def matvec(x):
        calls.append(0)
        return np.full_like(x, np.nan) if len(calls) > 5 else np.arange(1.0, 51) * x

    A = cola.SelfAdjoint(ops.FunctionOperator(matvec, (50, 50), dtype="float64"))
    for alg in SELF_ADJOINT.values():
        calls.clear()
        alg = Davidson(P=cola.I_like(A)) if isinstance(alg, Davidson) else alg
        with pytest.raises(cola.errors.NonFiniteError):
            cola.eigh(A, 2, "LA", alg)


@pytest.mark.parametrize("cls", [LOBPCG, Davidson])
def test_preconditioners_are_used_and_pay(cls):
    M = problems.poisson(20, 20)
    A = cola.PSD(ops.Sparse.from_scipy(M))
    calls = []

    def precondition(operator):
        inverse = cola.inv(operator)

        def apply(X):
            calls.append(X.shape[-1])
            return inverse @ X

        return ops.FunctionOperator(apply, operator.shape, dtype="float64")

    plain = cola.eigh(A, 3, "SA", cls(), return_info=True)[1]
    (w, _), info = cola.eigh(A, 3, "SA", cls(P=precondition), return_info=True)
    np.testing.assert_allclose(w, problems.poisson_eigenvalues(20, 20)[:3], atol=1e-9)
    assert calls and info.converged and info.iterations < plain.iterations / 2


def test_first_vectors_and_misuse():
    M = problems.with_spectrum(np.arange(60.0))
    A = cola.SelfAdjoint(M)
    w, V = cola.eigh(A, 3, "LA", LOBPCG())
    for cls in (LOBPCG, Davidson):
        info = cola.eigh(A, 3, "LA", cls(x0=V, guard=0), return_info=True)[1]
        assert info.iterations <= 2
        with pytest.raises(cola.errors.ShapeError, match="x0"):
            cola.eigh(A, 3, "LA", cls(x0=np.ones(7)))
        with pytest.raises(NotImplementedError, match="ShiftInvert"):
            cola.eigh(A, 3, "SM", cls())


def test_generalised_problem_by_lobpcg(rng):
    K = problems.poisson(15, 12).toarray()
    R = rng.normal(size=K.shape) / 50
    mass = R @ R.T + np.diag(rng.uniform(1, 2, len(K)))
    import scipy.linalg as sl

    want = sl.eigh(K, mass, eigvals_only=True)
    A, B = (cola.no_dispatch(cola.PSD(ops.Dense(X))) for X in (K, mass))
    (w, V), info = cola.eigh(A, 3, "SA", LOBPCG(P=lambda op: cola.inv(cola.PSD(K))), B=B, return_info=True)
    V = V.to_dense()
    assert info.converged
    np.testing.assert_allclose(w, want[:3], rtol=1e-8)
    np.testing.assert_allclose(V.T @ mass @ V, np.eye(3), atol=1e-8)


def test_callbacks_end_an_iteration():
    A = cola.no_dispatch(cola.PSD(ops.Sparse.from_scipy(problems.poisson(20, 20))))
    for cls in (Lanczos, LOBPCG, Davidson):
        seen = []
        alg = cls(callback=lambda step, error, seen=seen: seen.append((step, error)) or len(seen) == 3)
        info = cola.eigh(A, 3, "SA", alg, return_info=True, on_failure="ignore")[1]
        assert len(seen) == 3 and not info.converged and "callback" in info.reason


# -- shift and invert ----------------------------------------------------------------------------------------
def test_both_ends_of_a_sparse_operator_by_shift_invert(backend):
    n = 20
    every = problems.poisson_eigenvalues(n, n)
    A = ops.Sparse.from_scipy(problems.poisson(n, n))
    data, rows, cols = (backend.asarray(x) for x in (A.data, A.rows, A.cols))
    sparse = ops.Sparse(data, rows, cols, (n * n, n * n))
    for declare, shift in ((cola.PSD, 0.0), (cola.SelfAdjoint, -3.0)):
        B = declare(sparse) if not shift else declare(sparse + shift * cola.I_like(sparse))
        for which in ("SA", "LA"):
            (w, _), info = cola.eigh(B, 5, which, ShiftInvert(), return_info=True)
            assert info.converged and "shift-invert" in info.method
            np.testing.assert_allclose(backend.to_numpy(w), wanted(every + shift, 5, which), atol=1e-10)
        if backend.name == "jax":
            break


def test_auto_inverts_where_that_is_cheaper():
    A = cola.PSD(ops.Sparse.from_scipy(problems.poisson(120, 120)))
    for which in ("SA", "LA", "SM"):
        assert "shiftinvert" in str(cola.explain(cola.eigh, A, 6, which))
    # a null space found on the way: the graph Laplacian of two pieces
    L = np.kron(np.eye(2), np.diag([1.0, *[2] * 298, 1]) - np.eye(300, k=1) - np.eye(300, k=-1))
    import scipy.sparse as sp

    w, _ = cola.eigh(cola.PSD(ops.Sparse.from_scipy(sp.csr_array(L))), 4, "SA", ShiftInvert())
    np.testing.assert_allclose(w, np.linalg.eigvalsh(L)[:4], atol=1e-9)


def test_systems_by_iteration_are_solved_better_than_the_pairs():
    M = problems.poisson(12, 12)
    A = cola.PSD(ops.Sparse.from_scipy(M))
    (w, _), info = cola.eigh(A, 3, "SM", ShiftInvert(solver=cola.CG(), tol=1e-8), return_info=True)
    assert info.converged and info.matvecs > info.iterations
    np.testing.assert_allclose(w, problems.poisson_eigenvalues(12, 12)[:3], atol=1e-7)


# -- general -------------------------------------------------------------------------------------------------
RANK = {
    "LM": lambda w: -np.abs(w),
    "LR": lambda w: -np.real(w),
    "SR": lambda w: np.real(w),
    "LI": lambda w: -np.imag(w),
    "SI": lambda w: np.imag(w),
}


@pytest.mark.parametrize("which", RANK)
def test_krylov_schur_of_random_matrices(backend, which):
    for seed, complex_ in ((0, False), (1, True)):
        rng = np.random.default_rng(seed)
        M = rng.normal(size=(80, 80)) + (1j * rng.normal(size=(80, 80)) if complex_ else 0)
        M = M / 9 + np.diag(np.linspace(-2, 2, 80))
        A = cola.no_dispatch(ops.Dense(backend.asarray(M)))
        (w, V), info = cola.eig(A, 4, which, KrylovSchur(), return_info=True)
        w, V = pairs(backend, w, V)
        every = np.linalg.eigvals(M)
        assert info.converged and info.condition >= 1
        rank = RANK[which]
        np.testing.assert_allclose(rank(w), np.sort(rank(every))[:4], atol=1e-7)
        for x in w:
            assert np.abs(every - x).min() < 1e-7
        np.testing.assert_allclose(M @ V, V * w, atol=1e-7)
        if backend.name == "jax":
            return


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
def test_krylov_schur_finds_copies(which):
    rng = np.random.default_rng(1)
    every = np.concatenate([[9.0, 9, 9, -8, 0.1, 0.1], rng.uniform(1, 5, 54)])
    X = np.eye(60) + 0.1 * rng.normal(size=(60, 60))
    M = np.linalg.solve(X, every[:, None] * X)
    got = cola.eig(cola.no_dispatch(ops.Dense(M)), 3, which, KrylovSchur())[0]
    np.testing.assert_allclose(RANK[which](got), np.sort(RANK[which](every))[:3], atol=1e-7)


def test_non_normal_matrices_report_more_than_the_residual():
    for M, which in (
        (problems.grcar(100), "LI"),
        (problems.convection_diffusion(12).toarray(), "LR"),
        (problems.jordan(60), "LM"),
    ):
        every = np.linalg.eigvals(M)
        (w, V), info = cola.eig(
            cola.no_dispatch(ops.Dense(M)),
            2,
            which,
            KrylovSchur(basis=50, max_iters=2000),
            return_info=True,
            on_failure="ignore",
        )
        V = V.to_dense()
        residual = np.linalg.norm(M @ V - V * w, axis=0).max()
        assert info.error_estimate >= 0.9 * residual and info.condition >= 1
        if info.converged and info.condition < 1e6:
            gap = max(np.abs(every - x).min() for x in w)
            assert gap <= 100 * info.error_estimate + 1e-9
    # a Jordan block, whose residuals say nothing about its eigenvalue
    assert not info.converged or info.condition > 1e3


def test_condition_numbers_of_eigenvalues():
    import scipy.linalg as sl

    for M, which in ((problems.convection_diffusion(12).toarray(), "LR"), (np.diag(np.arange(60.0)), "LM")):
        every, L, R = sl.eig(M, left=True, right=True)
        exact = 1 / np.abs((L.conj() * R).sum(axis=0))
        (w, _), info = cola.eig(cola.no_dispatch(ops.Dense(M)), 3, which, KrylovSchur(), return_info=True)
        worst = max(exact[np.argmin(np.abs(every - x))] for x in w)
        assert worst / 30 <= info.condition <= 30 * worst


def test_breakdowns_of_general_operators():
    for M, want in ((2 * np.eye(30), [2, 2]), (np.diag(np.r_[np.zeros(38), 5.0, 7]), [7, 5])):
        (w, _), info = cola.eig(cola.no_dispatch(ops.Dense(M)), 2, "LM", KrylovSchur(), return_info=True)
        assert info.converged
        np.testing.assert_allclose(w, want, atol=1e-10)
    for n in (1, 2, 5):
        M = np.random.default_rng(n).normal(size=(n, n))
        w, _ = cola.eig(ops.Dense(M), n, "LM", KrylovSchur())
        np.testing.assert_allclose(np.sort(np.abs(w)), np.sort(np.abs(np.linalg.eigvals(M))), atol=1e-10)


# -- compiled by the user, and derivatives -------------------------------------------------------------------
def test_inside_jit_and_grad():
    jax = pytest.importorskip("jax")
    M = jax.numpy.asarray(problems.with_spectrum(np.r_[np.linspace(0, 1, 30), 2, 3]), dtype="float64")

    def top(a):
        (w, V), info = cola.eigh(cola.SelfAdjoint((a + a.T) / 2), 2, "LA", Lanczos(), return_info=True)
        return w, V.to_dense(), info

    w, V, info = jax.jit(top)(M)
    np.testing.assert_allclose(w, [2, 3], atol=1e-9)
    assert bool(info.converged) and info.reason == "converged"
    G = jax.grad(lambda a: top(a)[0].sum())(M)
    np.testing.assert_allclose(G, V @ V.T, atol=1e-8)
    w = jax.jit(lambda a: cola.eig(a, 2, "LM", KrylovSchur())[0])(M)
    np.testing.assert_allclose(w, [3, 2], atol=1e-9)
    solve = jax.jit(lambda a: cola.eigh(cola.PSD(a + 0.1 * np.eye(32)), 2, "SA", LOBPCG(P=cola.inv))[0])
    np.testing.assert_allclose(solve(M), np.linalg.eigvalsh(M)[:2] + 0.1, atol=1e-9)


@pytest.mark.parametrize("name", SELF_ADJOINT)
def test_derivatives_of_eigenvalues_in_torch(name):
    torch = pytest.importorskip("torch")
    M = torch.tensor(problems.with_spectrum(np.r_[np.linspace(0, 1, 30), 2, 3]), requires_grad=True)
    w, V = cola.eigh(cola.SelfAdjoint(cola.ops.Dense((M + M.T) / 2)), 2, "LA", SELF_ADJOINT[name])
    (G,) = torch.autograd.grad(w.sum(), M)
    V = V.to_dense().detach()
    assert torch.allclose(G, V @ V.T, atol=1e-7)

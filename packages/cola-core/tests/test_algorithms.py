"""Algorithms at their edges: scale, breakdown, indefinite and singular input,
honest residuals and error bars."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp

import cola_core as cola
from cola_core import (
    CG,
    GMRES,
    LU,
    SLQ,
    Cholesky,
    ConvergenceError,
    ConvergenceWarning,
    Hutchinson,
    Lanczos,
    ops,
)
from cola_core.errors import (
    IllConditionedWarning,
    NonFiniteError,
    NotPositiveDefiniteError,
    SingularMatrixError,
)


def poisson(m, dtype="float64"):
    L = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    M = sp.kron(L, sp.eye_array(m)) + sp.kron(sp.eye_array(m), L)
    return cola.PSD(ops.Sparse.from_scipy(M.astype(dtype)))


def spectrum(rng, w):
    """A dense symmetric matrix with these eigenvalues."""
    Q, _ = np.linalg.qr(rng.normal(size=(len(w), len(w))))
    return (Q * w) @ Q.T


@pytest.mark.parametrize("alg", [CG(), GMRES()])
class TestKrylovSolvers:
    def test_several_right_sides_each_with_its_own_steps(self, alg, backend, rng):
        D = spectrum(rng, np.linspace(1, 50, 30))
        A = cola.PSD(ops.Dense(backend.asarray(D)))
        B = rng.normal(size=(30, 4))
        B[:, 2] = 0
        X, info = cola.solve(A, backend.asarray(B), alg, return_info=True)
        np.testing.assert_allclose(backend.to_numpy(X), np.linalg.solve(D, B), atol=1e-7)
        assert info.converged and float(info.residual) <= info.tolerance * 1.1
        residuals = np.linalg.norm(B - D @ backend.to_numpy(X), axis=0)
        assert residuals[2] == 0 and np.all(residuals <= 1.2e-8 * np.linalg.norm(B, axis=0))
        one = np.stack(
            [backend.to_numpy(cola.solve(A, backend.asarray(B[:, j].copy()), alg)) for j in range(4)], axis=1
        )
        np.testing.assert_allclose(one, backend.to_numpy(X), atol=1e-7)

    def test_batches(self, alg, backend, rng):
        D = np.stack([spectrum(rng, np.linspace(1, 9, 8)) for _ in range(3)])
        A = cola.PSD(ops.Dense(backend.asarray(D)))
        B = rng.normal(size=(3, 8, 2))
        X = backend.to_numpy(cola.solve(A, backend.asarray(B), alg))
        np.testing.assert_allclose(X, np.linalg.solve(D, B), atol=1e-7)

    @pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
    def test_scale_changes_nothing(self, alg, scale):
        A = poisson(20)
        b = np.ones(400)
        x, info = cola.solve(scale * A, b, alg, return_info=True)
        y, info0 = cola.solve(A, b * 1e-6, alg, return_info=True)
        assert info.converged and info0.converged
        np.testing.assert_allclose(x * scale, y * 1e6, rtol=1e-6)

    def test_float32_of_a_hundred_thousand_unknowns(self, alg):
        n = 100_000
        A = 0.5 * cola.PSD(ops.Diagonal(np.ones(n, np.float32)))
        x, info = cola.solve(cola.no_dispatch(A), np.ones(n, np.float32), alg, return_info=True)
        assert info.converged and x.dtype == np.float32
        np.testing.assert_allclose(x, 2, rtol=1e-5)

    def test_too_few_steps_warn_raise_or_stay_silent(self, alg):
        A, b = poisson(30), np.random.default_rng(0).normal(size=900)
        short = type(alg)(max_iters=5)
        with pytest.warns(ConvergenceWarning, match="residual .* tolerance"):
            cola.solve(A, b, short)
        with pytest.raises(ConvergenceError):
            cola.solve(A, b, short, on_failure="raise")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            x, info = cola.solve(A, b, short, on_failure="ignore", return_info=True)
        assert not info.converged and info.iterations == 5
        true = np.linalg.norm(A @ x - b) / np.linalg.norm(b)
        assert abs(float(info.residual) - true) < 1e-12

    def test_nan_from_the_operator_is_not_success(self, alg):
        A = cola.PSD(ops.FunctionOperator(lambda v: v * np.nan, (5, 5), rmatvec=lambda v: v))
        with pytest.warns(ConvergenceWarning):
            _, info = cola.solve(A, np.ones(5), alg, return_info=True)
        assert not info.converged

    def test_nan_right_side_is_an_error(self, alg):
        with pytest.raises(NonFiniteError):
            cola.solve(poisson(3), np.full(9, np.nan), alg)

    def test_singular_inconsistent_is_flagged(self, alg):
        A = cola.PSD(ops.Diagonal(np.array([1.0, 1.0, 0.0])))
        with pytest.warns(ConvergenceWarning):
            _, info = cola.solve(cola.no_dispatch(A), np.ones(3), alg, return_info=True)
        assert not info.converged and info.residual > 0.1

    def test_singular_consistent_is_solved(self, alg):
        A = cola.PSD(ops.Diagonal(np.array([1.0, 2.0, 0.0])))
        x, info = cola.solve(cola.no_dispatch(A), np.array([1.0, 2.0, 0.0]), alg, return_info=True)
        assert info.converged
        np.testing.assert_allclose(x[:2], 1)

    def test_few_eigenvalues_end_early_and_exactly(self, alg):
        for D in (3 * np.eye(40), np.diag([2.0] * 20 + [5.0] * 20), np.eye(40) + np.ones((40, 40))):
            x, info = cola.solve(cola.PSD(ops.Dense(D)), np.arange(40.0), alg, return_info=True)
            assert info.converged and info.iterations <= 3
            np.testing.assert_allclose(D @ x, np.arange(40.0), atol=1e-9)

    def test_warm_start(self, alg):
        A, b = poisson(15), np.ones(225)
        x = cola.solve(A, b, LU())
        _, info = cola.solve(A, b, type(alg)(x0=x), return_info=True)
        assert info.converged and info.iterations == 0
        _, cold = cola.solve(A, b, alg, return_info=True)
        _, near = cola.solve(A, b, type(alg)(x0=x * (1 + 1e-5)), return_info=True)
        assert near.converged and near.iterations < cold.iterations

    def test_the_preconditioner_is_used(self, alg):
        A, b = poisson(25), np.random.default_rng(1).normal(size=625)
        exact = cola.inv(A, "sparselu")
        calls = []

        def apply(v):
            calls.append(1)
            return exact @ v

        P = cola.PSD(ops.FunctionOperator(apply, A.shape))
        x, info = cola.solve(A, b, type(alg)(P=P), return_info=True)
        assert info.converged and info.iterations <= 2 and len(calls) >= info.iterations
        built = []
        cola.solve(A, b, type(alg)(P=lambda op: built.append(op) or P))
        assert built and built[0] is A


def test_cg_reports_indefinite_operators():
    A = cola.PSD(ops.Dense(np.diag([1.0, -1.0, 2.0])))  # a false declaration
    with pytest.warns(ConvergenceWarning, match="not positive definite"):
        cola.solve(A, np.array([1.0, 3.0, 0.5]), CG())


def test_cg_reports_a_wrong_sign_preconditioner():
    P = ops.ScalarMul(-1.0, 100)
    with pytest.warns(ConvergenceWarning, match="preconditioner"):
        _, info = cola.solve(poisson(10), np.ones(100), CG(P=P), return_info=True)
    assert not info.converged


def test_cg_residual_is_the_true_one_where_the_recurrence_drifts(rng):
    A = spectrum(rng, np.logspace(0, 6, 200)).astype(np.float32)
    A = (A + A.T) / 2
    b = rng.normal(size=200).astype(np.float32)
    x, info = cola.solve(cola.PSD(ops.Dense(A)), b, CG(tol=1e-4), on_failure="ignore", return_info=True)
    true = np.linalg.norm(A.astype(float) @ x - b) / np.linalg.norm(b)
    assert abs(info.residual - true) < 0.3 * true
    assert info.converged == (info.residual <= 1.1e-4)


def test_gmres_stagnation_is_not_success():
    n = 60  # a cyclic shift: restarted GMRES makes no progress before n steps
    S = ops.Sparse(np.ones(n), np.arange(n), (np.arange(n) + 1) % n, (n, n))
    b = np.eye(n)[0]
    with pytest.warns(ConvergenceWarning, match="stopped decreasing"):
        _, info = cola.solve(S, b, GMRES(restart=10), return_info=True)
    assert not info.converged
    x, info = cola.solve(S, b, GMRES(restart=n), return_info=True)
    assert info.converged and np.allclose(S @ x, b)


def test_gmres_complex_nonsymmetric(rng, backend):
    D = rng.normal(size=(40, 40)) + 1j * rng.normal(size=(40, 40)) + 12 * np.eye(40)
    b = rng.normal(size=40) + 0j
    x, info = cola.solve(ops.Dense(backend.asarray(D)), backend.asarray(b), GMRES(), return_info=True)
    assert info.converged
    np.testing.assert_allclose(D @ backend.to_numpy(x), b, atol=1e-6)


# -- direct --------------------------------------------------------------------------------------------------
def test_singular_systems_raise_or_warn(backend):
    with pytest.raises(SingularMatrixError):
        cola.solve(ops.Dense(backend.asarray(np.zeros((3, 3)))), backend.asarray(np.ones(3)))
    # rank 5, hidden from the pivots by rounding
    M = spectrum(np.random.default_rng(1), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 1e-18]))
    with pytest.warns(IllConditionedWarning, match="singular to working precision"):
        cola.solve(ops.Dense(backend.asarray(M)), backend.asarray(np.ones(6)))
    for A in (
        ops.Diagonal(backend.asarray([1.0, 0.0])),
        ops.Triangular(backend.asarray([[1.0, 0.0], [1.0, 0.0]])),
    ):
        with pytest.raises(SingularMatrixError):
            cola.solve(A, backend.asarray(np.ones(2)))
    sign, value = cola.slogdet(ops.Dense(backend.asarray(np.zeros((3, 3)))))
    assert float(sign) == 0 and float(value) == -np.inf


def test_false_psd_declaration_is_an_error_not_a_number(backend):
    A = cola.PSD(ops.Dense(backend.asarray(np.diag([1.0, -1.0]))))
    for ask in (
        lambda: cola.solve(A, backend.asarray(np.ones(2))),
        lambda: cola.logdet(A),
        lambda: cola.cholesky(A),
    ):
        with pytest.raises(NotPositiveDefiniteError):
            ask()


def test_hilbert_matrix_is_announced():
    H = cola.PSD(ops.Dense(sl.hilbert(11)))
    with pytest.warns(IllConditionedWarning):
        cola.solve(ops.Dense(sl.hilbert(15)), np.ones(15))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        x = cola.solve(H, H @ np.ones(11), Cholesky())
    assert np.linalg.norm(H @ x - H @ np.ones(11)) < 1e-12  # backward stable all the same


def test_woodbury_steps_back_when_it_loses_accuracy(rng):
    U = rng.normal(size=(30, 2)) * 1e3
    d = np.full(30, 1e-6)
    A = ops.LowRank(U) + cola.PSD(ops.Diagonal(d))
    b = A @ np.ones(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = cola.solve(A, b)
    assert np.linalg.norm(A @ x - b) / np.linalg.norm(b) < 1e-6


# -- eigenpairs ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["LA", "SA", "LM", "SM"])
def test_lanczos_eigenpairs(backend, rng, which):
    w = np.concatenate([np.linspace(-3, 4, 120), [-9.0, -8.0, 10.0, 12.0, 15.0]])
    D = spectrum(rng, w)
    A = cola.SelfAdjoint(ops.Dense(backend.asarray((D + D.T) / 2)))
    key = {"LA": -w, "SA": w, "LM": -np.abs(w), "SM": np.abs(w)}[which]
    want = np.sort(w[np.argsort(key)[:3]])
    # interior: Lanczos is not the method, and must say so rather than return something else
    if which == "SM":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            (got, _), info = cola.eigh(A, 3, which, Lanczos(max_iters=60), return_info=True)
        assert not info.converged or np.allclose(np.sort(backend.to_numpy(got)), want, atol=1e-6)
        got, _ = cola.eigh(A, 3, which)
        np.testing.assert_allclose(np.sort(backend.to_numpy(got)), want, atol=1e-8)
        return
    (got, V), info = cola.eigh(A, 3, which, Lanczos(), return_info=True)
    assert info.converged
    np.testing.assert_allclose(backend.to_numpy(got), want, atol=1e-7)
    Vd = backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(D @ Vd, Vd * backend.to_numpy(got), atol=1e-6)


def test_lanczos_on_invariant_subspaces():
    for D in (2 * np.eye(50), np.diag([1.0] * 25 + [3.0] * 25), np.diag(np.r_[np.zeros(48), 5.0, 7.0])):
        A = cola.SelfAdjoint(cola.no_dispatch(ops.Dense(D)))
        (w, V), info = cola.eigh(A, 2, "LA", Lanczos(), return_info=True)
        np.testing.assert_allclose(w[-1], D.max(), atol=1e-9)
        assert np.isfinite(w).all() and info.converged
        np.testing.assert_allclose(D @ V.to_dense(), V.to_dense() * w, atol=1e-8)


def test_lanczos_starved_is_reported():
    with pytest.warns(ConvergenceWarning):
        cola.eigh(poisson(25), 3, "SA", Lanczos(max_iters=40))


def test_eigmax_of_negative_definite():
    A = cola.SelfAdjoint(ops.Dense(-np.diag([1.0, 2.0, 42.7])))
    assert cola.eigmax(A) == pytest.approx(-1) and cola.eigmin(A) == pytest.approx(-42.7)


# -- functions of operators ----------------------------------------------------------------------------------
def test_lanczos_functions(backend, rng):
    D = spectrum(rng, np.r_[np.linspace(0.5, 6, 60)])
    A = cola.PSD(ops.Dense(backend.asarray((D + D.T) / 2)))
    B = rng.normal(size=(60, 2))
    for ask, f in ((cola.exp, sl.expm), (cola.sqrt, sl.sqrtm), (cola.log, sl.logm)):
        got = backend.to_numpy(ask(A, Lanczos()) @ backend.asarray(B))
        np.testing.assert_allclose(got, f(D) @ B, atol=1e-7 * np.abs(f(D)).max() * 10)


def test_lanczos_function_keeps_zero_and_tiny_eigenvalues():
    d = np.r_[0.0, 1.0, 2.0, np.zeros(37)]
    A = cola.SelfAdjoint(cola.no_dispatch(ops.Diagonal(d)))
    np.testing.assert_allclose(cola.exp(A, Lanczos()) @ np.ones(40), np.exp(d), rtol=1e-9)
    np.testing.assert_allclose(
        cola.sqrt(cola.PSD(2 * cola.no_dispatch(cola.I_like(A))), Lanczos()) @ np.ones(40), 2**0.5
    )


def test_exp_of_a_defective_matrix():
    J = np.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(cola.exp(ops.Dense(J)).to_dense(), [[1, 1], [0, 1]], atol=1e-15)
    with pytest.raises(cola.errors.ColaError, match="defective|singular"):
        cola.sqrt(ops.Dense(J)).to_dense()


def test_root_of_a_negative_operator_is_an_error(backend):
    A = cola.SelfAdjoint(ops.Dense(backend.asarray(np.diag([1.0, -1.0]))))
    with pytest.raises(cola.errors.PropertyError, match="negative eigenvalue"):
        cola.sqrt(A).to_dense()


# -- stochastic ----------------------------------------------------------------------------------------------
def test_hutchinson_error_bars(rng):
    D = rng.normal(size=(200, 200))
    D = D @ D.T
    hits = 0
    for key in range(40):
        t, info = cola.trace(ops.Dense(D), Hutchinson(tol=2e-2, key=key), return_info=True)
        assert info.converged and info.standard_error <= 2e-2 * abs(t)
        hits += abs(t - np.trace(D)) <= 3 * info.standard_error
    assert hits >= 38
    d, info = cola.diag(ops.Dense(D), 0, Hutchinson(tol=5e-2), return_info=True)
    assert np.linalg.norm(d - np.diag(D)) <= 4 * info.standard_error
    assert cola.trace(ops.Dense(D), Hutchinson(key=7)) == cola.trace(ops.Dense(D), Hutchinson(key=7))


def test_hutchinson_that_runs_out_of_probes_says_so(rng):
    with pytest.warns(ConvergenceWarning, match="probe limit"):
        cola.trace(ops.Dense(rng.normal(size=(50, 50))), Hutchinson(tol=1e-4, max_iters=64))


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e8])
def test_slq_error_bars_include_truncation(rng, condition):
    w = np.logspace(0, -np.log10(condition), 120)
    A = cola.PSD(ops.Dense(spectrum(rng, w)))
    hits = 0
    for key in range(10):
        value, info = cola.logdet(A, SLQ(key=key, max_samples=32), return_info=True, on_failure="ignore")
        assert info.standard_error > 0
        hits += abs(value - np.log(w).sum()) <= 3 * info.standard_error
    assert hits >= 9


def test_slq_is_exact_where_lanczos_breaks_down(backend):
    for D in (2 * np.eye(30), np.diag([1.0] * 15 + [4.0] * 15)):
        A = cola.PSD(cola.no_dispatch(ops.Dense(backend.asarray(D))))
        value = float(cola.logdet(A, SLQ()))
        assert abs(value - np.linalg.slogdet(D)[1]) < 6  # finite, and within sampling error
    value = float(cola.logdet(cola.PSD(cola.no_dispatch(ops.Dense(backend.asarray(2 * np.eye(30))))), SLQ()))
    assert value == pytest.approx(30 * np.log(2), rel=1e-10)


def test_slq_refuses_an_indefinite_operator():
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value"):
        cola.logdet(cola.PSD(cola.no_dispatch(ops.Diagonal(np.linspace(-1, 1, 50)))), SLQ())


# -- explicit algorithms and structure -----------------------------------------------------------------------
def test_an_explicit_algorithm_is_carried_to_the_leaves(rng):
    a, b = spectrum(rng, np.linspace(1, 4, 5)), spectrum(rng, np.linspace(1, 3, 4))
    K = cola.kron(cola.PSD(a), cola.PSD(b))
    x, info = cola.solve(K, np.ones(20), CG(), return_info=True)
    np.testing.assert_allclose(K @ x, 1, atol=1e-6)
    assert info.method == "CG" and info.iterations > 0 and info.residual < 1e-6


def test_an_explicit_algorithm_is_not_replaced_by_eigenvalues(rng):
    a, b = spectrum(rng, np.linspace(1, 4, 5)), spectrum(rng, np.linspace(1, 3, 4))
    A = cola.PSD(cola.kron(cola.PSD(a), cola.PSD(b)) + 0.5 * ops.Identity(20))
    x, info = cola.solve(A, np.ones(20), CG(), return_info=True)
    assert info.method == "CG"
    np.testing.assert_allclose(A @ x, 1, atol=1e-6)
    assert cola.logdet(A, Cholesky()) == pytest.approx(np.linalg.slogdet(A.to_dense())[1])


def test_algorithm_names(rng):
    A, b = poisson(6), np.ones(36)
    for name in ("cg", "gmres", "lu", "cholesky", "sparselu", "auto"):
        np.testing.assert_allclose(A @ cola.solve(A, b, name), 1, atol=1e-6)
    with pytest.raises(cola.errors.UnknownNameError, match="known are .*cholesky"):
        cola.solve(A, b, "gaussian-elimination")
    with pytest.raises(cola.errors.UnknownNameError, match="does not answer solve"):
        cola.solve(A, b, SLQ())


def test_auto_settings_reach_the_chosen_algorithm_and_typos_do_not():
    with pytest.raises(TypeError):
        cola.Auto(tool=3)
    with pytest.raises(ValueError, match="prefer"):
        cola.Auto(prefer="luck")
    A = cola.PSD(ops.FunctionOperator(lambda v: 2 * v, (30_000, 30_000)))
    _, info = cola.solve(A, np.ones(30_000), cola.Auto(tol=1e-3), return_info=True)
    assert info.method == "CG" and info.tolerance == 1e-3


def test_auto_never_densifies_beyond_its_budget():
    A = ops.FunctionOperator(lambda v: 2 * v, (50_000, 50_000), rmatvec=lambda v: 2 * v)
    plan = cola.explain(cola.solve, A, np.ones(50_000), candidates=True)
    assert plan.root.by == "core:solve/gmres"
    assert any("budget" in reason for _, reason, _ in plan.root.rejected)
    small = cola.explain(cola.solve, ops.Dense(np.eye(1001) + 0.1), np.ones(1001))
    assert small.root.by == "core:solve/lu"


# -- what inv(A) keeps ---------------------------------------------------------------------------------------
def test_inverse_factors_once_and_gives_the_determinant(backend, rng):
    f, num = backend.asarray, backend.to_numpy
    a, b = spectrum(rng, np.linspace(1, 4, 4)), spectrum(rng, np.linspace(1, 3, 3))
    U = rng.normal(size=(12, 2))
    S, P = cola.SelfAdjoint, cola.PSD
    cases = {
        "cholesky": P(ops.Dense(f(np.kron(a, b)))),
        "lu": ops.Dense(f(np.kron(a, b) + np.tri(12))),
        "shift": cola.kron(P(f(a)), P(f(b))) + 0.3 * ops.Identity(12),
        "kronsum": cola.kronsum(P(f(a)), P(f(b))),
        "woodbury": ops.LowRank(f(U)) + P(ops.Diagonal(f(np.arange(1.0, 13)))),
        "general woodbury": ops.LowRank(f(U), f(U[::-1].copy())) + ops.Dense(f(np.kron(a, b))),
        "nested": cola.kron(P(f(a)), S(f(b))) + ops.LowRank(f(U)) + 0.1 * ops.Identity(12),
    }
    for name, A in cases.items():
        D = num(A.to_dense())
        Ainv = cola.inv(A)
        B = rng.normal(size=(12, 2))
        for _ in range(2):
            np.testing.assert_allclose(num(Ainv @ f(B)), np.linalg.solve(D, B), atol=1e-8, err_msg=name)
        assert "_factor" in Ainv.__dict__, name
        first = Ainv.__dict__["_factor"]
        sign, value = cola.slogdet(Ainv)
        assert Ainv.__dict__["_factor"] is first
        assert float(value) == pytest.approx(-np.linalg.slogdet(D)[1], abs=1e-9)
        assert float(sign) == np.linalg.slogdet(D)[0]


def test_woodbury_with_a_singular_base(backend, rng):
    """The sum is regular although the base is not: another way must answer."""
    U = rng.normal(size=(6, 2))
    base = np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 0.0])
    A = ops.LowRank(backend.asarray(U)) + ops.Diagonal(backend.asarray(np.diag(base)))
    D = base + U @ U.T
    x = backend.to_numpy(cola.solve(A, backend.asarray(np.ones(6))))
    np.testing.assert_allclose(x, np.linalg.solve(D, np.ones(6)), atol=1e-10)
    assert float(cola.logdet(A)) == pytest.approx(np.linalg.slogdet(D)[1])
    np.testing.assert_allclose(backend.to_numpy(cola.inv(A) @ backend.asarray(np.ones(6))), x, atol=1e-12)


def test_determinant_lemma_steps_back_when_the_base_is_nearly_singular(rng):
    U = rng.normal(size=(6, 2))
    d = np.array([1.0, 2.0, 3.0, 4.0, 1e-14, 1e-14])
    A = ops.LowRank(U) + ops.Diagonal(d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cola.logdet(A) == pytest.approx(np.linalg.slogdet(np.diag(d) + U @ U.T)[1], abs=1e-8)


def test_info_names_the_rule_of_the_question_that_was_asked():
    L = cola.PSD(ops.Dense(2 * np.eye(5) - np.eye(5, k=1) - np.eye(5, k=-1)))
    for A, rule in ((cola.kronsum(L, L), "core:solve/kronsum"), (cola.kron(L, L), "core:solve/kronecker")):
        assert cola.solve(A, np.ones(25), return_info=True)[1].rule == rule
    assert cola.solve(cola.kron(L, L), np.ones(25), CG(), return_info=True)[1].rule == "core:solve/kronecker"
    assert cola.solve(L, np.ones(5), return_info=True)[1].rule == ""  # an algorithm answered


# -- derivatives of iterative solves
# ------------------------------------------------------------------------------
@pytest.mark.parametrize("alg", [CG(tol=1e-13), GMRES(tol=1e-13), GMRES(tol=1e-13, P=ops.ScalarMul(0.1, 5))])
def test_derivatives_in_torch(alg, rng):
    torch = pytest.importorskip("torch")
    D, b = spectrum(rng, np.linspace(4, 9, 5)), rng.normal(size=5)
    if isinstance(alg, GMRES):
        D = D + rng.normal(size=(5, 5))

    def f(M, v):
        A = cola.PSD(ops.Dense((M + M.T) / 2)) if isinstance(alg, CG) else ops.Dense(M)
        return (cola.solve(A, v, alg) ** 2).sum()

    args = tuple(torch.tensor(x, requires_grad=True) for x in (D, b))
    assert torch.autograd.gradcheck(f, args)
    assert torch.autograd.gradgradcheck(f, args)


@pytest.mark.parametrize("alg", [CG(tol=1e-13), GMRES(tol=1e-13), GMRES(tol=1e-13, P=ops.ScalarMul(0.1, 5))])
def test_derivatives_in_jax(alg, rng):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    D, b = spectrum(rng, np.linspace(4, 9, 5)), rng.normal(size=5)
    if isinstance(alg, GMRES):
        D = D + rng.normal(size=(5, 5))

    def ours(M, v):
        A = cola.PSD(ops.Dense((M + M.T) / 2)) if isinstance(alg, CG) else ops.Dense(M)
        return (cola.solve(A, v, alg) ** 2).sum()

    def dense(M, v):
        return (jnp.linalg.solve((M + M.T) / 2 if isinstance(alg, CG) else M, v) ** 2).sum()

    D, b = jnp.asarray(D), jnp.asarray(b)
    for x, y in zip(jax.grad(ours, (0, 1))(D, b), jax.grad(dense, (0, 1))(D, b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-9)
    np.testing.assert_allclose(
        jax.jvp(ours, (D, b), (D, 2 * b))[1], jax.jvp(dense, (D, b), (D, 2 * b))[1], atol=1e-9
    )
    np.testing.assert_allclose(jax.hessian(ours, 1)(D, b), jax.hessian(dense, 1)(D, b), atol=1e-9)
    np.testing.assert_allclose(jax.jit(jax.grad(ours))(D, b), jax.grad(dense)(D, b), atol=1e-9)


def test_algorithms_for_one_matrix_refuse_batches_by_name(rng):
    A = cola.PSD(ops.Dense(np.stack([spectrum(rng, np.arange(1.0, 9))] * 2)))
    for ask in (
        lambda: cola.exp(A, Lanczos()),
        lambda: cola.eigh(A, 1, "LA", Lanczos()),
        lambda: cola.logdet(A, SLQ()),
    ):
        with pytest.raises(NotImplementedError, match="does not support batches"):
            ask()
    trace, info = cola.trace(A, Hutchinson(), return_info=True)  # probes broadcast over a batch
    assert trace.shape == (2,) and np.all(np.abs(trace - 36) <= 5 * info.standard_error + 1e-9)


@pytest.mark.parametrize("norm", [0.0, 0.1, 3.0, 6.0, 10.0, 30.0])
@pytest.mark.parametrize("cplx", [False, True])
def test_exp_is_accurate_at_every_norm(backend, rng, norm, cplx):
    """One array library scales too little just above each power of two times its bound."""
    a = rng.normal(size=(2, 5, 5)) + (1j * rng.normal(size=(2, 5, 5)) if cplx else 0)
    a *= norm / np.linalg.norm(a, 1, axis=(-2, -1))[:, None, None]
    got = backend.to_numpy(cola.exp(ops.Dense(backend.asarray(a))).to_dense())
    want = np.stack([sl.expm(x) for x in a])
    np.testing.assert_allclose(got, want, atol=1e-12 * np.abs(want).max())

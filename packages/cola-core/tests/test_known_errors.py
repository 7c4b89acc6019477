"""What other libraries answer wrongly without a word, asked here: the numbers of the tests are those of the
published reports on cola-ml (C), linear_operator (L) and lineax (X).
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
from zoo import installed

import cola_core as cola
from cola_core import PSD, SelfAdjoint, Unitary, ops
from cola_core.algorithms import CG, GMRES, LU, SLQ, Eig, Hutch, Lanczos
from cola_core.backends import get_backend


@pytest.fixture
def put(backend):
    return backend.asarray


def host(x):
    from cola_core.backends import backend_of

    x = x.to_dense() if hasattr(x, "to_dense") else x
    return np.asarray(backend_of(x).to_numpy(x)) if hasattr(x, "shape") else np.asarray(x)


def spd(n, seed=0, shift=1.0):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T / n + shift * np.eye(n)


def sym(n, seed=0):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a + a.T


# -- determinants --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [2, 5, 20])
def test_c1_a_factor_counts_once_per_row(put, n):
    a, k = spd(n), np.kron(spd(2), spd(n))
    K = cola.kron(PSD(put(spd(2))), PSD(put(spd(n))))
    assert np.isclose(float(cola.logdet(2 * PSD(put(a)))), np.linalg.slogdet(2 * a)[1])
    assert np.isclose(float(cola.logdet(3 * K)), np.linalg.slogdet(3 * k)[1])
    assert np.isclose(float(cola.logdet(2 * ops.Identity(n))), n * np.log(2))


def test_c2_signs_and_phases_of_determinants(put):
    assert float(cola.slogdet(put(np.array([[0.0, 1, 0], [2, 0, 0], [0, 0, 3]])))[0]) == -1
    P = ops.Permutation(get_backend("numpy").asarray(np.array([1, 0, 2, 3])), "float64")
    assert float(cola.slogdet(P)[0]) == -1
    z = np.array([[1j, 2], [3, 1 + 1j]])
    sign, value = cola.slogdet(put(z))
    want = np.linalg.slogdet(z)
    assert np.isclose(complex(host(sign)), want[0]) and np.isclose(float(value), want[1])


def test_c3_estimated_determinants_below_one(put):
    a = 0.05 * spd(30)
    want = np.linalg.slogdet(a)[1]
    assert want < 0
    (sign, value), info = cola.slogdet(PSD(put(a)), SLQ(tol=1e-3), return_info=True)
    assert float(host(sign)) == 1 and abs(float(value) - want) < 4 * float(info.standard_error)
    value = cola.logdet(PSD(put(a)), Lanczos(), Hutch(tol=1e-2))
    assert abs(float(value) - want) < 0.1 * abs(want)


# -- eigenvalues ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("structured", [False, True])
def test_c4_largest_means_largest(put, structured):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(5, 5)), rng.normal(size=(6, 6))
    A, m = (cola.kron(put(a), put(b)), np.kron(a, b)) if structured else (put(np.kron(a, b)), np.kron(a, b))
    want = np.sort(np.abs(np.linalg.eigvals(m)))
    for alg in (cola.Auto(), Eig()):
        largest, smallest = cola.eig(A, 3, "LM", alg)[0], cola.eig(A, 3, "SM", alg)[0]
        np.testing.assert_allclose(np.sort(np.abs(host(largest))), want[-3:], rtol=1e-6)
        np.testing.assert_allclose(np.sort(np.abs(host(smallest))), want[:3], rtol=1e-6)


def test_c5_smallest_magnitude_is_not_smallest(put):
    a = sym(30)
    w = np.linalg.eigvalsh(a)
    found, _ = cola.eig(SelfAdjoint(put(a)), 1, "SM")
    assert np.isclose(abs(host(found)[0]), np.abs(w).min())
    assert np.isclose(float(cola.eigmin(SelfAdjoint(put(a)))), w.min())


@pytest.mark.parametrize("shift", [-50.0, 0.0, 50.0])
def test_c6_the_largest_eigenvalue_may_be_negative(put, shift):
    a = sym(30, 1) + shift * np.eye(30)
    assert np.isclose(float(cola.eigmax(SelfAdjoint(put(a)))), np.linalg.eigvalsh(a).max())


@pytest.mark.parametrize("lower", [True, False])
def test_c7_eigenvectors_of_triangular_operators(put, lower):
    a = np.tril(np.random.default_rng(0).normal(size=(5, 5))) + np.diag(np.arange(1.0, 6))
    a = a if lower else a.T
    w, V = cola.eig(ops.Triangular(put(a), lower=lower))
    assert not V.isa(Unitary)
    np.testing.assert_allclose(a @ host(V), host(V) * host(w), atol=1e-10)


# -- operators -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [5, 50, 300])
def test_c8_sparse_entries_of_any_order(put, n):
    rng = np.random.default_rng(n)
    m = sp.random(n, n, min(0.3, 10 / n), random_state=rng, format="coo")
    order = rng.permutation(m.nnz)
    A = ops.Sparse(put(m.data[order]), m.row[order], m.col[order], (n, n))
    np.testing.assert_allclose(host(A), m.toarray())
    x = rng.normal(size=n)
    np.testing.assert_allclose(host(A @ put(x)), m @ x, atol=1e-12)
    twice = ops.Sparse(put(np.r_[m.data, m.data]), np.r_[m.row, m.row], np.r_[m.col, m.col], (n, n))
    np.testing.assert_allclose(host(twice), 2 * m.toarray())


def test_c9_the_null_space_is_one(put):
    a = np.random.default_rng(0).normal(size=(6, 4)) @ np.random.default_rng(1).normal(size=(4, 7))
    Q = cola.nullspace(put(a))
    assert Q.shape == (7, 3) and np.abs(a @ host(Q)).max() < 1e-12


def test_c10_exponential_of_a_defective_matrix(put):
    a = np.array([[0.0, 1], [0, 0]])
    np.testing.assert_allclose(host(cola.exp(put(a))), sl.expm(a), atol=1e-14)


def test_c11_zero_eigenvalues_are_eigenvalues(put):
    d = np.diag([0.0, 1, 2])
    A = PSD(cola.no_dispatch(ops.Dense(put(d))))
    x = np.ones(3)
    for alg in (cola.Auto(), Lanczos()):
        np.testing.assert_allclose(host(cola.exp(A, alg) @ put(x)), sl.expm(d) @ x, rtol=1e-10)


def test_c12_early_breakdown_adds_no_eigenvalues(put):
    a = np.diag([2.0] * 30 + [5.0] * 10)
    w, _ = cola.eigh(PSD(put(a)), 3, "SA", Lanczos())
    np.testing.assert_allclose(host(w), [2, 2, 2], atol=1e-8)


def test_c13_transpose_of_a_complex_self_adjoint_operator(put):
    a = np.array([[2, 1 + 1j], [1 - 1j, 3]])
    A = SelfAdjoint(cola.kron(put(a), put(np.eye(2) + 0j)))
    np.testing.assert_allclose(host(A.T), np.kron(a, np.eye(2)).T)


def test_c14_division_by_an_operator_is_refused(put):
    for number in (1, 2.0, 1j):
        with pytest.raises(TypeError, match="inv"):
            number / ops.Dense(put(np.eye(2)))


def test_c15_signs_take_properties_away(put):
    A, U = PSD(put(spd(3))), Unitary(put(np.eye(3)))
    assert not (-1 * A).isa(PSD) and (-1 * A).isa(SelfAdjoint)
    assert not (A - 2 * A).isa(PSD) and not (2 * U).isa(Unitary)
    np.testing.assert_allclose(
        host(cola.solve(A - 2 * A, put(np.ones(3)))), -np.linalg.solve(spd(3), np.ones(3)), rtol=1e-8
    )


def test_c16_pseudoinverse_and_singular_values_of_a_diagonal(put):
    np.testing.assert_allclose(host(cola.pinv(ops.Diagonal(put(np.array([0.0, 2]))))), np.diag([0, 0.5]))
    U, S, V = cola.svd(ops.Diagonal(put(np.array([-1.0, 2]))))
    np.testing.assert_allclose(host(S), np.diag([2.0, 1]))
    np.testing.assert_allclose(host(U) @ host(S) @ host(V).conj().T, np.diag([-1.0, 2]), atol=1e-14)
    a = np.random.default_rng(0).normal(size=(6, 4))
    _, S, _ = cola.svd(put(a), 2)
    np.testing.assert_allclose(np.diag(host(S)), np.linalg.svd(a, compute_uv=False)[:2])


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_c17_c18_derivatives_through_an_iteration():
    import torch

    a, b = torch.tensor(spd(6)), torch.linspace(1, 2, 6, dtype=torch.float64)

    def value(alg):
        def f(a, b):
            return (cola.solve(PSD((a + a.T) / 2), b, alg) ** 2).sum()

        return f

    a.requires_grad_(), b.requires_grad_()
    ga, gb = torch.autograd.grad(value(CG(tol=1e-12))(a, b), (a, b))
    wa, wb = torch.autograd.grad(value(LU())(a, b), (a, b))
    torch.testing.assert_close(ga, wa), torch.testing.assert_close(gb, wb)
    direction = torch.tensor(sym(6))

    def second(alg):
        (g,) = torch.autograd.grad(value(alg)(a, b), a, create_graph=True)
        return torch.autograd.grad((g * direction).sum(), a)[0]

    torch.testing.assert_close(second(CG(tol=1e-12)), second(LU()), rtol=1e-6, atol=1e-8)


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_c20_a_field_is_data_whatever_came_first():
    import jax

    ops.LowRank(np.ones((2, 1)), None)
    L = ops.LowRank(jax.numpy.ones((2, 1)), jax.numpy.ones((2, 1)))
    g = jax.grad(lambda L: (L @ jax.numpy.ones(2)).sum())(L)
    np.testing.assert_allclose(g.V, 2 * np.ones((2, 1)))


def test_c21_the_dtype_is_that_of_the_entries(put):
    A = ops.Dense(put(np.eye(2))).to(dtype="float32")
    assert str(A.dtype).endswith("float32") and A.to_dense().dtype == A.dtype
    S = ops.Dense(put(np.eye(2, dtype=np.float32))) + ops.Dense(put(np.eye(2) + 1))
    assert str(S.dtype).endswith("float64") and S.to_dense().dtype == S.dtype


def test_c22_a_kernel_smaller_than_its_blocks(put):
    x = np.linspace(0, 1, 7)[:, None]

    def gauss(x1, x2):
        be = cola.backends.backend_of(x1)
        return be.xp.exp(-((x1[..., :, None, 0] - x2[..., None, :, 0]) ** 2))

    K = ops.Kernel(put(x), put(x), gauss, 100, 100)
    want = np.exp(-((x - x.T) ** 2))
    np.testing.assert_allclose(host(K @ put(np.ones(7))), want @ np.ones(7), rtol=1e-12)


def test_c23_a_perfect_first_guess_needs_no_step(put):
    a, b = spd(40), np.random.default_rng(0).normal(size=40)
    x = np.linalg.solve(a, b)
    _, info = cola.solve(PSD(put(a)), put(b), CG(x0=put(x)), return_info=True)
    assert info.converged and int(info.iterations) == 0


# -- linear_operator -----------------------------------------------------------------------------------------
def test_l1_a_general_matrix_is_not_taken_for_a_symmetric_one(put):
    a = np.random.default_rng(0).normal(size=(8, 8)) + 3 * np.eye(8)
    x = host(cola.solve(put(a), put(np.ones(8))))
    assert np.linalg.norm(a @ x - 1) < 1e-12


def test_l2_negative_eigenvalues_are_kept(put):
    a = sym(8)
    np.testing.assert_allclose(host(cola.eigvalsh(SelfAdjoint(put(a)))), np.linalg.eigvalsh(a), atol=1e-12)


def test_l3_singular_values_of_general_and_rectangular_matrices(put):
    for shape in ((8, 8), (5, 8), (8, 5)):
        a = np.random.default_rng(1).normal(size=shape)
        np.testing.assert_allclose(host(cola.svdvals(put(a))), np.linalg.svd(a, compute_uv=False))


def test_l4_small_numbers_are_not_floored(put):
    a, b = 1e-5 * spd(4), 1e-5 * spd(5, 1)
    K = cola.kron(PSD(put(a)), PSD(put(b)))
    want = 5 * np.linalg.slogdet(a)[1] + 4 * np.linalg.slogdet(b)[1]
    assert np.isclose(float(cola.logdet(K)), want, rtol=1e-12)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
@pytest.mark.parametrize("alg", [cola.Auto(), CG(tol=1e-12)])
def test_l5_second_derivatives_of_quadratic_forms(alg):
    import torch

    a, b = torch.tensor(spd(5)), torch.linspace(1, 2, 5, dtype=torch.float64)

    def form(t):
        A = PSD(a + t * torch.eye(5, dtype=torch.float64))
        return b @ cola.solve(A, b, alg)

    H = torch.autograd.functional.hessian(form, torch.tensor(0.3, dtype=torch.float64))
    w, V = np.linalg.eigh(spd(5) + 0.3 * np.eye(5))
    want = 2 * np.sum((V.T @ b.numpy()) ** 2 / w**3)
    assert np.isclose(float(H), want, rtol=1e-6)


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
def test_l6_the_sum_of_a_toeplitz_operators_eigenvalues():
    import torch

    c = torch.tensor([3.0, 1, 0.5, 0.2, 0.1, 0.05], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(cola.eigvalsh(SelfAdjoint(ops.Toeplitz(c))).sum(), c)
    np.testing.assert_allclose(g.numpy(), [6, 0, 0, 0, 0, 0], atol=1e-10)


def test_l7_a_slice_over_several_blocks(put):
    blocks = [np.random.default_rng(i).normal(size=(3, 3)) for i in range(4)]
    A, m = cola.block_diag(*map(put, blocks)), sl.block_diag(*blocks)
    np.testing.assert_allclose(host(A[2:11, 1:10]), m[2:11, 1:10])
    np.testing.assert_allclose(host(A[[7, 0, 5], 2:9]), m[[7, 0, 5], 2:9])


def test_l8_dense_plus_low_rank(put):
    a, U, b = spd(9), np.random.default_rng(0).normal(size=(9, 2)), np.ones(9)
    A = PSD(put(a)) + ops.LowRank(put(U))
    m = a + U @ U.T
    form, logdet = cola.inv_quad_logdet(A, put(b))
    assert np.isclose(float(form), b @ np.linalg.solve(m, b))
    assert np.isclose(float(logdet), np.linalg.slogdet(m)[1])


def test_l10_the_default_solve_of_a_kernel_matrix(put):
    x = np.linspace(0, 1, 300)
    a = np.exp(-((x[:, None] - x) ** 2) / 0.02) + 1e-2 * np.eye(300)
    b = np.sin(5 * x)
    y = host(cola.solve(PSD(put(a)), put(b)))
    assert np.linalg.norm(a @ y - b) < 1e-10 * np.linalg.norm(b)


def test_l11_a_drifted_residual_is_not_reported(put):
    w = np.logspace(0, -6, 200)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 200)))[0]
    a = ((q * w) @ q.T).astype(np.float32)
    b = np.random.default_rng(1).normal(size=200).astype(np.float32)
    x, info = cola.solve(PSD(put((a + a.T) / 2)), put(b), CG(tol=1e-3), return_info=True, on_failure="ignore")
    true = np.linalg.norm(a.astype(float) @ host(x) - b) / np.linalg.norm(b)
    assert abs(float(info.residual) - true) < 0.1 * max(true, 1e-3)
    assert info.converged == (true <= 1.1e-3)


def test_l12_algorithms_are_settings_of_a_call(put):
    A = PSD(put(spd(60, shift=1e-3)))
    rough = cola.inv(A, CG(max_iters=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rough @ put(np.ones(60))
    exact = host(cola.inv(A) @ put(np.ones(60)))
    np.testing.assert_allclose(exact, np.linalg.solve(spd(60, shift=1e-3), np.ones(60)), rtol=1e-8)


def test_l13_complex_operators_have_adjoints(put):
    z = np.array([[1, 2j], [3, 4 + 1j]])
    np.testing.assert_allclose(host(ops.Dense(put(z)).H), z.conj().T)
    np.testing.assert_allclose(host(ops.Dense(put(z)).T), z.T)


# -- lineax --------------------------------------------------------------------------------------------------
def test_x1_a_singular_matrix_is_not_a_success(put):
    a = np.random.default_rng(0).normal(size=(8, 8))
    a[:, 7] = a[:, :7].sum(1) + 1e-17
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            cola.solve(put(a), put(np.ones(8)))
        except cola.errors.SingularMatrixError:
            return
    assert any("condition" in str(w.message) or "singular" in str(w.message) for w in caught)


def test_x3_a_preconditioner_of_the_wrong_sign(put):
    A, b = PSD(put(spd(10))), put(np.ones(10))
    _, info = cola.solve(A, b, CG(P=ops.ScalarMul(-1.0, 10)), return_info=True, on_failure="ignore")
    assert not info.converged and "preconditioner" in info.reason and float(info.residual) > 0.5


def test_x4_an_impossible_tolerance_is_reported_with_its_residual(put):
    a = np.diag(np.logspace(0, 12, 30))
    with pytest.warns(cola.ConvergenceWarning):
        cola.solve(PSD(put(a)), put(np.ones(30)), CG(max_iters=20))


@pytest.mark.parametrize("n", [10, 50_000])
@pytest.mark.parametrize("scale", [0.5, 1e-9, 1e9])
def test_x5_a_multiple_of_the_identity_in_single_precision(put, n, scale):
    A = PSD(cola.no_dispatch(ops.Diagonal(put(np.full(n, scale, np.float32)))))
    x, info = cola.solve(A, put(np.ones(n, np.float32)), CG(), return_info=True)
    assert info.converged and int(info.iterations) <= 2
    np.testing.assert_allclose(host(x), 1 / scale, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-10])
def test_x6_poisson_at_any_scale(put, scale):
    n = 20
    T = sp.diags([-1.0, 2, -1], [-1, 0, 1], shape=(n, n))
    L = (scale * sp.kronsum(T, T)).tocoo()
    for dtype in ("float32", "float64"):
        A = PSD(ops.Sparse(put(L.data.astype(dtype)), L.row, L.col, L.shape))
        _, info = cola.solve(A, put(np.ones(n * n, dtype)), CG(), return_info=True)
        assert info.converged


def test_x7_a_negative_definite_system(put):
    a = -2 * np.eye(40) + 0.05 * np.random.default_rng(0).normal(size=(40, 40))
    _, info = cola.solve(
        cola.no_dispatch(put(a.astype(np.float32))), put(np.ones(40, np.float32)), GMRES(), return_info=True
    )
    assert info.converged and float(info.residual) < 1e-4

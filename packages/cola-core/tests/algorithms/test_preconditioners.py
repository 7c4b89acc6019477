"""Preconditioners: close to the inverse, positive definite where A is, used, and honest about bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from compare import close
from problems import convection_diffusion, poisson, spectrum, with_spectrum

import cola_core as cola
from cola_core import CG, GMRES, PSD, ops
from cola_core.errors import (
    NonFiniteError,
    NonSquareError,
    NotPositiveDefiniteError,
    ShapeError,
    SingularMatrixError,
    UnknownNameError,
)
from cola_core.preconditioners import (
    AMG,
    BlockJacobi,
    Circulant,
    IncompleteCholesky,
    IncompleteLU,
    Jacobi,
    LowRankPlusDiagonal,
    Nystrom,
    PivotedCholesky,
    RPCholesky,
)
from cola_core.preconditioners.no_fill import no_fill, with_drops


def gaussian(n, d=2, length=1.0, seed=0):
    """The matrix of a squared exponential kernel at random points."""
    x = np.random.default_rng(seed).standard_normal((n, d))
    return np.exp(-((x[:, None] - x) ** 2).sum(-1) / (2 * length**2))


def plus_noise(K, s, backend=None):
    K = K if backend is None else backend.asarray(K)
    return PSD(ops.Dense(K) + s * ops.Identity(K.shape[0]))


def steps(A, b, P, alg=CG, **more):
    x, info = cola.solve(A, b, alg(P=P, **more), return_info=True)
    assert info.converged
    residual = np.linalg.norm(b - A @ x) / np.linalg.norm(b)
    assert residual <= 1.1 * info.tolerance
    assert info.residual == pytest.approx(residual, rel=1e-2)
    return info.iterations


class Counting:
    """An operator's products, counted."""

    def __init__(self, P):
        self.calls = 0

        def product(X):
            self.calls += 1
            return P @ X

        self.operator = PSD(ops.FunctionOperator(None, P.shape, P.dtype, matmat=product))


SPD = [
    (Jacobi(), {}),
    (BlockJacobi(4), {}),
    (BlockJacobi(blocks=[range(0, 40, 2), range(1, 40, 2)]), {}),
    (PivotedCholesky(rank=10), {}),
    (RPCholesky(rank=10), {}),
    (Nystrom(rank=10), {}),
    (Nystrom(), {}),
    (LowRankPlusDiagonal(RPCholesky(rank=5)), {}),
]


class TestEveryOne:
    @pytest.mark.parametrize("P", [p for p, _ in SPD], ids=repr)
    def test_positive_definite_and_helpful(self, P, backend, dtype, rng):
        K = gaussian(40)
        if "complex" in dtype:
            phase = np.exp(1j * np.arange(40))
            K = phase[:, None] * K * phase.conj()
        A = plus_noise(K.astype(dtype), 0.1, backend)
        D = np.asarray(backend.to_numpy(A.to_dense()))
        M = P(A)
        assert M.isa(PSD) and M.shape == (40, 40) and M.dtype == A.dtype
        got = np.asarray(backend.to_numpy(M.to_dense()))
        np.testing.assert_allclose(got, got.conj().T, atol=1e-5 * abs(got).max())
        assert np.linalg.eigvalsh(got).min() > 0
        b = backend.asarray(rng.standard_normal(40).astype(dtype))
        close(backend, M @ b, got @ np.asarray(backend.to_numpy(b)), dtype, scale=abs(got).sum(0).max())
        x, info = cola.solve(A, b, CG(P=P), return_info=True)
        assert bool(info.converged)
        np.testing.assert_allclose(
            D @ backend.to_numpy(x),
            backend.to_numpy(b),
            atol=1e-3 if "32" in dtype or "64" in dtype else 1e-6,
        )

    @pytest.mark.parametrize("P", [p for p, _ in SPD], ids=repr)
    def test_scale_of_the_operator(self, P):
        K = gaussian(40)
        for c in (1e-9, 1e9):
            one, other = P(plus_noise(K, 0.1)).to_dense(), P(plus_noise(c * K, c * 0.1)).to_dense()
            np.testing.assert_allclose(c * other, one, atol=1e-6 * abs(one).max())

    @pytest.mark.parametrize(
        "P", [p for p, _ in SPD if p != Jacobi()] + [AMG(), IncompleteCholesky(), IncompleteLU()], ids=repr
    )
    def test_refusals(self, P):
        if isinstance(P, AMG):
            pytest.importorskip("pyamg")
        with pytest.raises(NonSquareError, match="square"):
            P(np.ones((3, 2)))
        with pytest.raises(NotImplementedError, match="batch"):
            P(ops.Dense(np.ones((2, 3, 3))))
        D = np.eye(40)
        D[3, 3] = np.nan
        with pytest.raises((NonFiniteError, NotPositiveDefiniteError)):
            P(PSD(ops.Sparse.from_scipy(sp.csr_array(D))))

    @pytest.mark.parametrize("P", [p for p, _ in SPD if getattr(p, "blocks", None) is None], ids=repr)
    @pytest.mark.parametrize("n", [0, 1, 3])
    def test_small_sizes(self, P, n):
        A = plus_noise(gaussian(n), 0.1)
        x = cola.solve(A, np.ones(n), CG(P=P))
        np.testing.assert_allclose(A.to_dense() @ x, np.ones(n), atol=1e-7)

    def test_made_again_when_the_operator_changes(self, rng):
        built = []

        def fresh(A):
            built.append(A)
            return Jacobi()(A)

        alg = CG(P=fresh)
        for scale in (1.0, 10.0):
            cola.solve(PSD(ops.Dense(scale * with_spectrum(spectrum("flat", 10)))), np.ones(10), alg)
        assert len(built) == 2 and built[0] is not built[1]

    @pytest.mark.parametrize("alg", [CG, GMRES])
    def test_is_applied_in_every_step(self, alg):
        A = PSD(ops.Sparse.from_scipy(poisson(12, 12)))
        P = Counting(IncompleteCholesky()(A))
        _, info = cola.solve(A, np.ones(144), alg(P=P.operator), return_info=True)
        assert info.converged and P.calls >= info.iterations

    def test_its_shape_is_looked_at(self):
        A = plus_noise(gaussian(30), 0.1)
        for P in (np.eye(29), lambda A: ops.Identity(3)):
            with pytest.raises(ShapeError, match="preconditioner"):
                cola.solve(A, np.ones(30), CG(P=P))
        x = cola.solve(A, np.ones(30), CG(P=Jacobi))  # the class stands for its default settings
        np.testing.assert_allclose(A @ x, np.ones(30), atol=1e-6)

    def test_pickles_and_reports_its_settings(self):
        import pickle

        S = PSD(ops.Sparse.from_scipy(poisson(6, 6)))
        for P in (Jacobi(), BlockJacobi(6), IncompleteCholesky(), IncompleteLU(), Nystrom(rank=5), AMG()):
            again = pickle.loads(pickle.dumps(P))
            assert again == P
            if not isinstance(P, AMG):
                M = P(S)
                np.testing.assert_allclose(pickle.loads(pickle.dumps(M)).to_dense(), M.to_dense(), atol=1e-12)

    def test_one_of_the_wrong_sign_is_flagged(self):
        A = plus_noise(gaussian(30), 0.1)
        _, info = cola.solve(A, np.ones(30), CG(P=-Jacobi()(A)), return_info=True, on_failure="ignore")
        assert not info.converged and "preconditioner" in info.reason

    def test_gradients_pass_it_by(self):
        torch = pytest.importorskip("torch")
        K = torch.tensor(gaussian(20) + 0.1 * np.eye(20), requires_grad=True)
        for P in (None, Nystrom(rank=5, shift=0.1), Jacobi()):
            x = cola.solve(PSD(ops.Dense(K)), torch.ones(20, dtype=torch.float64), CG(tol=1e-12, P=P))
            (grad,) = torch.autograd.grad(x.sum(), K)
            y = torch.linalg.solve(K.detach(), torch.ones(20, dtype=torch.float64))
            np.testing.assert_allclose(grad, -torch.outer(y, y), atol=1e-6)

    def test_on_jax_inside_jit(self):
        jax = pytest.importorskip("jax")
        K = jax.numpy.asarray(gaussian(40))

        def answer(K, b):
            A = PSD(ops.Dense(K) + 1e-2 * ops.Identity(40))
            return tuple(cola.solve(A, b, CG(P=P)) for P in (Jacobi(), RPCholesky(rank=20), Nystrom(rank=20)))

        b = jax.numpy.ones(40)
        for x in jax.jit(answer)(K, b):
            np.testing.assert_allclose((K + 1e-2 * np.eye(40)) @ x, b, atol=1e-6)


class TestJacobi:
    def test_on_rows_of_very_different_size(self, rng):
        scale = 10.0 ** rng.uniform(-4, 4, 200)
        A = PSD(ops.Dense(scale[:, None] * with_spectrum(np.linspace(1, 3, 200)) * scale))
        b = rng.standard_normal(200)
        assert steps(A, b, Jacobi()) < 40
        _, info = cola.solve(A, b, CG(max_iters=200), return_info=True, on_failure="ignore")
        assert not info.converged

    def test_batches(self, backend):
        D = np.stack([np.diag([1.0, 2.0]), np.diag([4.0, 5.0])])
        close(backend, Jacobi()(PSD(ops.Dense(backend.asarray(D)))).diag, [[1, 0.5], [0.25, 0.2]], "float64")

    def test_pivots(self):
        with pytest.raises(SingularMatrixError):
            Jacobi()(ops.Dense(np.array([[0.0, 1.0], [1.0, 0.0]])))
        with pytest.raises(NotPositiveDefiniteError):
            Jacobi()(PSD(ops.Diagonal(np.array([1.0, -1.0]))))
        P = Jacobi(absolute=True)(ops.Dense(np.array([[-2.0, 1.0], [1.0, 4.0]])))
        assert P.isa(PSD) and P.diag.tolist() == [0.5, 0.25]

    def test_answers(self):
        P = Jacobi()(PSD(ops.Dense(np.diag([1.0, 4.0, 16.0]))))
        assert cola.logdet(P) == pytest.approx(-np.log(64.0))
        assert cola.sqrt(P).diag.tolist() == [1, 0.5, 0.25] and cola.inv(P).diag.tolist() == [1, 4, 16]


class TestBlockJacobi:
    @pytest.mark.parametrize("size", [1, 3, 7, 40, 100])
    @pytest.mark.parametrize("psd", [True, False])
    def test_blocks(self, size, psd, backend, rng):
        if backend.name == "jax" and (size, psd) != (7, True):
            pytest.skip("on JAX, which compiles every shape anew, in one size")
        D = rng.standard_normal((40, 40)) + 9 * np.eye(40)
        D = D @ D.T if psd else D
        A = ops.Dense(backend.asarray(D))
        A = PSD(A) if psd else A
        P = BlockJacobi(size)(A)
        want = np.zeros((40, 40))
        for i in range(0, 40, size):
            s = slice(i, i + size)
            want[s, s] = np.linalg.inv(D[s, s])
        close(backend, P.to_dense(), want, "float64")
        close(backend, P.H.to_dense(), want.T, "float64")
        # the same from products alone
        close(backend, BlockJacobi(size)(2 * cola.no_dispatch(A)).to_dense(), want / 2, "float64")

    def test_of_scattered_indices_and_of_a_sparse_operator(self, rng):
        S = poisson(6, 6)
        A = PSD(ops.Sparse.from_scipy(S))
        blocks = [rng.permutation(36)[:10], []]
        blocks[1] = np.setdiff1d(np.arange(36), blocks[0])
        want = np.zeros((36, 36))
        for g in blocks:
            want[np.ix_(g, g)] = np.linalg.inv(S.toarray()[np.ix_(g, g)])
        P = BlockJacobi(blocks=blocks)(A)
        np.testing.assert_allclose(P.to_dense(), want, atol=1e-12)
        assert P.isa(PSD) and cola.logdet(P) == pytest.approx(np.linalg.slogdet(want)[1])

    def test_one_block_of_everything_solves(self, rng):
        A = plus_noise(gaussian(30), 1e-2)
        assert steps(A, rng.standard_normal(30), BlockJacobi(30)) <= 2

    def test_refusals(self):
        with pytest.raises(ShapeError, match="one of the two"):
            BlockJacobi()(np.eye(3))
        with pytest.raises(ShapeError, match="once"):
            BlockJacobi(blocks=[[0, 1], [1, 2]])(np.eye(3))
        with pytest.raises(SingularMatrixError):
            BlockJacobi(2)(np.kron(np.eye(2), np.ones((2, 2))))
        with pytest.raises(NotPositiveDefiniteError):
            BlockJacobi(2)(PSD(ops.Dense(np.array([[1.0, 2.0], [2.0, 1.0]]))))


class TestIncompleteCholesky:
    @pytest.mark.parametrize("complex_", [False, True])
    def test_equals_the_matrix_on_its_pattern(self, complex_, rng):
        for seed in range(5):
            S = sp.coo_array(sp.random(60, 60, density=0.08, random_state=np.random.default_rng(seed)))
            S = S + 0.5j * S if complex_ else S
            S = sp.csr_array(S + S.conj().T + 8 * sp.eye_array(60))
            L = no_fill(S)
            assert (abs(sp.tril(S)) > 0).nnz == L.nnz
            error = abs((L @ L.conj().T - S).toarray())[abs(S.toarray()) > 0]
            assert error.max() < 1e-13
            np.testing.assert_allclose(
                with_drops(S, 0.0).toarray(), np.linalg.cholesky(S.toarray()), atol=1e-12
            )

    def test_exact_where_nothing_fills(self):
        S = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(300, 300)).tocsr()
        assert steps(PSD(ops.Sparse.from_scipy(S)), np.ones(300), IncompleteCholesky()) == 1

    def test_fewer_steps_on_a_laplacian(self, rng):
        A = PSD(ops.Sparse.from_scipy(poisson(40, 40)))
        b = rng.standard_normal(1600)
        plain, ic = steps(A, b, None), steps(A, b, IncompleteCholesky())
        assert ic < plain / 2.5 and steps(A, b, IncompleteCholesky(drop_tol=1e-2)) < ic

    def test_shifted_retry(self, rng):
        # positive definite, but no incomplete factor without fill: Kershaw's matrix
        K = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])
        A = PSD(ops.Sparse.from_scipy(sp.csr_array(K)))
        assert np.linalg.eigvalsh(K).min() > 0
        P = IncompleteCholesky()
        assert P.shift_used(A) > 0 and np.linalg.eigvalsh(P(A).to_dense()).min() > 0
        assert P.shift_used(PSD(ops.Sparse.from_scipy(poisson(5, 5)))) == 0
        steps(A, np.arange(4.0), P)

    def test_answers(self):
        P = IncompleteCholesky()(PSD(ops.Sparse.from_scipy(poisson(8, 8))))
        D = P.to_dense()
        assert cola.logdet(P) == pytest.approx(np.linalg.slogdet(D)[1])
        np.testing.assert_allclose(cola.inv(P).to_dense(), np.linalg.inv(D), atol=1e-10)
        assert P.H is P

    def test_refusals(self):
        with pytest.raises(NotPositiveDefiniteError, match="diagonal"):
            IncompleteCholesky()(PSD(ops.Sparse.from_scipy(sp.diags_array([1.0, -1.0]).tocsr())))
        indefinite = sp.csr_array(np.array([[1.0, 9.0, 0], [9.0, 1.0, 9.0], [0, 9.0, 1.0]]))
        with pytest.raises(NotPositiveDefiniteError, match="pivot"):
            IncompleteCholesky(shift=1e-6)(PSD(ops.Sparse.from_scipy(indefinite)))
        products = ops.FunctionOperator(None, (3, 3), np.float64, matmat=lambda X: X)
        with pytest.raises(NotImplementedError, match="products"):
            IncompleteCholesky()(PSD(products))

    def test_other_structures_are_assembled(self):
        T = ops.Tridiagonal(-np.ones(5), 2.5 * np.ones(6), -np.ones(5))
        for A in (cola.kronsum(T, T), PSD(T), cola.kron(T, np.eye(2)) + 0.5 * ops.Identity(12)):
            A = PSD(A)
            x = cola.solve(A, np.ones(A.shape[0]), CG(P=IncompleteCholesky()))
            np.testing.assert_allclose(A.to_dense() @ x, 1, atol=1e-7)

    def test_other_libraries(self):
        torch = pytest.importorskip("torch")
        A = PSD(ops.Sparse.from_scipy(poisson(10, 10)).to(backend="torch"))
        x, info = cola.solve(
            A, torch.ones(100, dtype=torch.float64), CG(P=IncompleteCholesky()), return_info=True
        )
        assert info.converged and info.iterations < 20 and isinstance(x, torch.Tensor)

    def test_jax_is_refused_by_name(self):
        pytest.importorskip("jax")
        A = PSD(ops.Sparse.from_scipy(poisson(4, 4)).to(backend="jax"))
        for P in (IncompleteCholesky(), IncompleteLU(), AMG()):
            with pytest.raises(NotImplementedError, match='backend="numpy"'):
                P(A)


class TestIncompleteLU:
    def test_gmres_on_convection(self, rng):
        S = convection_diffusion(30)
        A, b = ops.Sparse.from_scipy(S), rng.standard_normal(900)
        assert steps(A, b, IncompleteLU(drop_tol=1e-2), GMRES) < steps(A, b, None, GMRES) / 3

    @pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
    def test_answers(self, dtype, rng):
        S = convection_diffusion(8).astype(dtype)
        S = S * (1 + 0.2j) if "complex" in dtype else S
        P = IncompleteLU(drop_tol=0.0)(ops.Sparse.from_scipy(S))
        D = S.toarray()
        tol = 1e-3 if dtype == "float32" else 1e-9
        np.testing.assert_allclose(P.to_dense() @ D, np.eye(64), atol=tol)
        np.testing.assert_allclose(P.H.to_dense(), P.to_dense().conj().T, atol=tol)
        sign, logabs = cola.slogdet(P)
        want = np.linalg.slogdet(D)
        np.testing.assert_allclose([sign * want[0], logabs + want[1]], [1, 0], atol=100 * tol)

    def test_singular(self):
        with pytest.raises(SingularMatrixError):
            IncompleteLU()(ops.Sparse.from_scipy(sp.csr_array(np.ones((3, 3)))))


class TestMultigrid:
    def test_steps_do_not_grow_with_the_mesh(self, rng):
        pytest.importorskip("pyamg")
        counts = []
        for m in (16, 64, 160):
            A = PSD(ops.Sparse.from_scipy(poisson(m, m)))
            counts.append(steps(A, rng.standard_normal(m * m), AMG()))
        assert max(counts) <= 14 and counts[-1] <= counts[0] + 6

    def test_is_positive_definite(self):
        pytest.importorskip("pyamg")
        P = AMG(cycle="V")(PSD(ops.Sparse.from_scipy(poisson(12, 12))))
        D = P.to_dense()
        np.testing.assert_allclose(D, D.T, atol=1e-10 * abs(D).max())
        assert P.isa(PSD) and np.linalg.eigvalsh((D + D.T) / 2).min() > 0

    def test_settings(self, rng):
        pytest.importorskip("pyamg")
        A = PSD(ops.Sparse.from_scipy(poisson(20, 20)))
        b = rng.standard_normal(400)
        for P in (
            AMG(method="ruge_stuben"),
            AMG(cycle="W"),
            AMG(candidates=np.ones(400)),
            AMG(options=(("max_coarse", 50),)),
        ):
            assert steps(A, b, P) < 15
        for P in (AMG(cycle="X"), AMG(method="none")):
            with pytest.raises(UnknownNameError):
                P(A)

    def test_without_pyamg_the_error_names_the_remedy(self, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "pyamg", None)
        with pytest.raises(ImportError, match=r"cola-core\[amg\]"):
            AMG()(PSD(ops.Sparse.from_scipy(poisson(4, 4))))


class TestLowRank:
    @pytest.mark.parametrize("P", [PivotedCholesky(rank=30), RPCholesky(rank=30)], ids=repr)
    def test_the_error_is_known_exactly(self, P, backend):
        K = gaussian(80)
        fit = P.approximate(PSD(ops.Dense(backend.asarray(K))))
        F = backend.to_numpy(fit.factor)
        np.testing.assert_allclose(backend.to_numpy(fit.residual), np.diagonal(K - F @ F.T), atol=1e-12)
        assert float(fit.trace_error) == pytest.approx(np.trace(K - F @ F.T), abs=1e-11)
        assert np.linalg.eigvalsh(K - F @ F.T).min() > -1e-12
        pivots = backend.to_numpy(fit.pivots)
        assert len(set(pivots.tolist())) == len(pivots) == F.shape[1]
        best = np.linalg.eigvalsh(K)[::-1][F.shape[1] // 3 :].sum()
        assert float(fit.trace_error) < 2 * best

    def test_stops_at_the_rank(self, rng):
        F = rng.standard_normal((50, 4))
        for P in (PivotedCholesky(rank=20), RPCholesky(rank=20)):
            fit = P.approximate(PSD(ops.Dense(F @ F.T)))
            assert fit.factor.shape[1] <= 6
            np.testing.assert_allclose(fit.factor @ fit.factor.T, F @ F.T, atol=1e-11)

    def test_of_a_kernel_never_formed(self, rng):
        x = rng.standard_normal((300, 2))
        rows = []

        def fn(a, b):
            rows.append(a.shape[0] * b.shape[0])
            return np.exp(-((a[:, None] - b) ** 2).sum(-1) / 2)

        K = PSD(ops.Kernel(x, fn=fn))
        fit = PivotedCholesky(rank=12).approximate(K)
        assert sum(rows) < 300 * 12 + 300 * 40
        np.testing.assert_allclose(
            fit.factor, PivotedCholesky(rank=12).approximate(PSD(ops.Dense(K.to_dense()))).factor, atol=1e-9
        )

    def test_seeds_give_the_same_and_other_pivots(self):
        K = PSD(ops.Dense(gaussian(60)))
        pivots = [RPCholesky(rank=10, key=k).approximate(K).pivots.tolist() for k in (1, 1, 2)]
        assert pivots[0] == pivots[1] != pivots[2]

    @pytest.mark.parametrize("seed", range(3))
    def test_steps_on_a_kernel_with_noise(self, seed, rng):
        A = plus_noise(gaussian(400, d=3, length=1.5, seed=seed), 1e-3)
        b = rng.standard_normal(400)
        plain = steps(A, b, None)
        assert plain > 150
        for P in (Nystrom(key=seed), RPCholesky(rank=150, key=seed), PivotedCholesky(rank=150)):
            assert steps(A, b, P) < plain / 4
        assert steps(A, b, Nystrom(key=seed)) < 40

    def test_noise_of_its_own_for_each_row(self, rng):
        noise = 10.0 ** rng.uniform(-4, 0, 200)
        A = PSD(ops.Dense(gaussian(200)) + ops.Diagonal(noise))
        b = rng.standard_normal(200)
        assert steps(A, b, RPCholesky(rank=120)) < steps(A, b, None) / 5

    def test_woodbury_is_exact_and_answers(self, rng):
        F = rng.standard_normal((60, 3))
        for D in (0.1 * ops.Identity(60), ops.Diagonal(rng.uniform(0.1, 1, 60))):
            A = PSD(ops.LowRank(F) + D)
            P = LowRankPlusDiagonal()(A)
            M = A.to_dense()
            np.testing.assert_allclose(P.to_dense() @ M, np.eye(60), atol=1e-9)
            assert cola.logdet(P) == pytest.approx(-np.linalg.slogdet(M)[1])
            np.testing.assert_allclose(cola.inv(P).to_dense(), M, atol=1e-8)
            assert P.isa(PSD) and P.H is P
        R = cola.sqrt(LowRankPlusDiagonal()(PSD(ops.LowRank(F) + 0.1 * ops.Identity(60)))).to_dense()
        np.testing.assert_allclose(R @ R @ (F @ F.T + 0.1 * np.eye(60)), np.eye(60), atol=1e-8)

    def test_tiny_diagonals_leave_it_positive_definite(self, rng):
        F = rng.standard_normal((50, 5)).astype("float32") * 1e3
        P = LowRankPlusDiagonal(F, 1e-3)(PSD(ops.Dense(F @ F.T)))
        assert np.linalg.eigvalsh(P.to_dense().astype(float)).min() > 0

    def test_nystrom_finds_its_rank(self):
        K = with_spectrum(np.maximum(2.0 ** (-np.arange(200) / 1.6), 1e-14))
        fine, coarse = (Nystrom()(plus_noise(K, s)) for s in (1e-6, 1e-1))
        assert coarse.Ms[1].rank == 20 and fine.Ms[1].rank == 40
        kappa = np.linalg.cond(np.linalg.cholesky(fine.to_dense()).T @ (K + 1e-6 * np.eye(200)))
        assert np.isfinite(kappa)
        w = np.linalg.eigvals(fine.to_dense() @ (K + 1e-6 * np.eye(200))).real
        assert w.max() / w.min() < 15

    def test_nystrom_of_an_opaque_sum(self):
        K = gaussian(100)
        A = PSD(ops.Dense(K + 1e-3 * np.eye(100)))
        M = Nystrom(rank=40, shift=1e-3)(A).to_dense()
        np.testing.assert_allclose(M, Nystrom(rank=40)(plus_noise(K, 1e-3)).to_dense(), rtol=1e-5, atol=1e-4)

    def test_refusals(self, rng):
        bad = PSD(ops.Dense(with_spectrum(np.linspace(-1, 1, 30))))
        for P in (Nystrom(rank=10), PivotedCholesky(), RPCholesky()):
            with pytest.raises(NotPositiveDefiniteError):
                P(bad)
        with pytest.raises(NotPositiveDefiniteError, match="zero or negative"):
            PivotedCholesky(shift=-1.0)(PSD(ops.Dense(np.eye(3))))
        with pytest.raises(NotPositiveDefiniteError, match="shift"):
            Nystrom(shift=-1.0)(PSD(ops.Dense(np.eye(3))))
        with pytest.raises(SingularMatrixError):
            Nystrom(rank=2)(PSD(ops.Dense(np.zeros((3, 3)))))
        with pytest.raises(ShapeError, match="F F"):
            LowRankPlusDiagonal()(PSD(ops.Dense(np.eye(3)) + ops.Diagonal(np.ones(3))))
        with pytest.raises(NotPositiveDefiniteError, match="diagonal="):
            LowRankPlusDiagonal()(PSD(ops.Dense(np.eye(3))))


class TestCirculant:
    def test_on_a_toeplitz_matrix(self, rng):
        column = 1 / (1 + np.arange(400.0)) ** 1.1
        A = PSD(ops.Toeplitz(column))
        b = rng.standard_normal(400)
        assert steps(A, b, Circulant()) < steps(A, b, None) / 1.5
        assert isinstance(Circulant("strang")(A), ops.Circulant)


def test_names_are_there_without_an_import():
    assert cola.Jacobi is Jacobi and cola.preconditioners.Circulant is Circulant
    assert repr(cola.Nystrom(rank=3)).startswith("Nystrom(rank=3")

"""Every algorithm on matrices of real problems: meshes that ship with pyamg, grids, and non-normal operators.

References are dense: LAPACK's eigenvalues, singular values and factorisations. Eigenvalues are compared as
multisets, so that a missed copy of a multiple one, or one reported twice, is an error.
"""

from functools import cache

import numpy as np
import pytest
import scipy.linalg as sl
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from problems import convection_diffusion, grcar, poisson, poisson_eigenvalues, pyamg_example

import cola_core as cola
from cola_core import preconditioners as pc

DEFINITE = ("airfoil", "bar", "knot", "unit_cube", "local_disc_galerkin_diffusion", "square", "cube")
GENERAL = ("recirc_flow", "convection", "transport")
GENERATED = {
    "square": lambda: poisson(16, 16),
    "cube": lambda: poisson(6, 6, 6),
    "convection": lambda: convection_diffusion(15),
    "transport": lambda: convection_diffusion(15, 100.0),
    "grcar": lambda: sp.csr_array(grcar(60)),
}


@cache
def matrix(name):
    return GENERATED[name]() if name in GENERATED else pyamg_example(name)


@cache
def dense(name):
    return matrix(name).toarray()


@cache
def spectrum(name):
    return np.linalg.eigvalsh(dense(name))


def sparse(name):
    A = cola.ops.Sparse.from_scipy(matrix(name))
    return cola.PSD(A) if name in (*DEFINITE, "unit_square") else A


def system(name, seed=0):
    """The matrix, a solution and its right-hand side."""
    M = matrix(name)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(M.shape[0]) + (1j * rng.standard_normal(M.shape[0]) if M.dtype.kind == "c" else 0)
    return M, x, M @ x


def solved(A, M, b, alg, **options):
    """The solution, after its Info has been held against the matrix."""
    x, info = cola.solve(A, b, alg, return_info=True, **options)
    true = np.linalg.norm(M @ x - b) / np.linalg.norm(b)
    assert info.converged and info.reason in ("converged", "exact", "direct"), info
    assert true <= max(1.01 * (info.tolerance or 0), 1e-12), info
    assert abs(info.residual - true) <= 0.01 * true + 1e-14
    return x, info


@pytest.mark.parametrize("name", DEFINITE)
class TestDefinite:
    @pytest.mark.parametrize(
        "alg",
        [*("auto", "cholesky", "lu", "ldl", "qr", "sparselu", "cg", "blockcg", "minres", "minresqlp")]
        + [*("gmres", "fgmres", "bicgstab", "idr", "lsmr", "lsqr", "cgls")],
    )
    def test_solves(self, name, alg):
        if name == "local_disc_galerkin_diffusion" and alg in ("lsmr", "lsqr", "cgls"):
            name = "unit_cube"  # the squared condition number takes thousands of steps
        M, x, b = system(name)
        w = spectrum(name)
        found, info = solved(sparse(name), M, b, alg)
        bound = 2 * w[-1] / w[0] * max(info.residual, 1e-15)
        assert np.linalg.norm(found - x) <= bound * np.linalg.norm(x)

    @pytest.mark.parametrize("alg", ["auto", "cholesky", "lu", "ldl", "sparselu"])
    def test_determinants(self, name, alg):
        sign, log = cola.slogdet(sparse(name), alg)
        reference = np.log(spectrum(name)).sum()
        assert sign == 1 and abs(log - reference) <= 1e-10 * abs(reference)

    @pytest.mark.parametrize("which", ["SA", "LA"])
    @pytest.mark.parametrize(
        "alg", ["auto", "eigh", "lanczos", "shiftinvert", "lobpcg", "davidson", "krylovschur", "arnoldi"]
    )
    def test_both_ends(self, name, alg, which):
        if name == "local_disc_galerkin_diffusion" and alg in ("lobpcg", "davidson"):
            name = "airfoil" if which == "SA" else name
        k, D, w = 10, dense(name), spectrum(name)
        if alg in ("krylovschur", "arnoldi"):
            general = {"SA": "SR", "LA": "LR"}[which]
            found, V = cola.eig(sparse(name), k, general, alg)
            assert np.abs(np.imag(found)).max() == 0 or alg == "arnoldi"
            found = np.real(found)
        else:
            (found, V), info = cola.eigh(sparse(name), k, which, alg, return_info=True)
            assert info.converged, info
        V = V.to_dense()
        reference = w[:k] if which == "SA" else w[-k:]
        assert np.abs(np.sort(found) - reference).max() <= 1e-9 * w[-1]
        assert np.linalg.norm(D @ V - V * found, axis=0).max() <= 1e-8 * w[-1]
        assert np.linalg.matrix_rank(V) == k
        if alg not in ("krylovschur", "arnoldi"):
            assert np.abs(V.T @ V - np.eye(k)).max() <= 1e-10


class TestIndefiniteAndSingular:
    @pytest.mark.parametrize("name", ["knot", "unit_cube", "square"])
    @pytest.mark.parametrize("alg", ["auto", "lu", "ldl", "sparselu", "minres", "minresqlp", "lsmr"])
    def test_shifted_into_the_spectrum(self, name, alg):
        w = spectrum(name)
        at = np.flatnonzero(np.diff(w) > 1e-6 * w[-1])[len(w) // 4]
        s = 0.6 * w[at] + 0.4 * w[at + 1]
        M = sp.csr_array(matrix(name) - s * sp.eye_array(len(w)))
        x = np.random.default_rng(1).standard_normal(len(w))
        A = cola.SelfAdjoint(cola.ops.Sparse.from_scipy(M))
        found, info = solved(A, M, M @ x, alg)
        bound = 2 * np.abs(w - s).max() / np.abs(w - s).min() * max(info.residual, 1e-15)
        assert np.linalg.norm(found - x) <= bound * np.linalg.norm(x)
        sign, log = cola.slogdet(A)
        assert sign == np.prod(np.sign(w - s)) and abs(log - np.log(np.abs(w - s)).sum()) < 1e-8

    @pytest.mark.parametrize("alg", ["cg", "minres", "minresqlp", "gmres", "lsmr"])
    def test_pure_neumann_with_a_solution(self, alg):
        M, x, b = system("unit_square")
        found, _ = solved(sparse("unit_square"), M, b, alg)
        x, found = x - x.mean(), found - found.mean()  # the kernel: constants
        assert np.linalg.norm(found - x) <= 1e-5 * np.linalg.norm(x)

    @pytest.mark.parametrize("alg", ["minres", "minresqlp"])
    def test_pure_neumann_without_one(self, alg):
        M, _, b = system("unit_square")
        c = b + 1.0
        x, info = cola.solve(sparse("unit_square"), c, alg, return_info=True, on_failure="ignore")
        assert not info.converged and "not in its range" in info.reason
        assert np.linalg.norm(M @ (M @ x - c)) <= 1e-5 * np.linalg.norm(c)  # about the root of roundoff
        if alg == "minresqlp":
            reference = np.linalg.pinv(M.toarray(), hermitian=True, rcond=1e-10) @ c
            assert np.linalg.norm(x - reference) <= 1e-4 * np.linalg.norm(reference)

    @pytest.mark.parametrize("alg", ["auto", "cholesky", "lu", "ldl", "qr", "sparselu"])
    def test_a_factorisation_of_a_singular_matrix_warns(self, alg):
        _, _, b = system("unit_square")
        with pytest.warns(cola.errors.IllConditionedWarning, match="singular to working precision"):
            cola.solve(sparse("unit_square"), b, alg)

    def test_the_kernel(self):
        A = sparse("unit_square")
        N = cola.nullspace(A).to_dense()
        assert N.shape[1] == 1 and np.abs(np.abs(N) - len(N) ** -0.5).max() < 1e-10
        assert int(cola.rank(A)) == len(N) - 1


class TestGeneral:
    @pytest.mark.parametrize("name", GENERAL)
    @pytest.mark.parametrize(
        "alg", ["auto", "lu", "sparselu", "qr", "gmres", "fgmres", "bicgstab", "idr", "lsmr", "lsqr", "cgls"]
    )
    def test_solves(self, name, alg):
        M, x, b = system(name)
        found, info = solved(sparse(name), M, b, alg)
        bound = 2 * np.linalg.cond(dense(name)) * max(info.residual, 1e-15)
        assert np.linalg.norm(found - x) <= bound * np.linalg.norm(x)

    @pytest.mark.parametrize("name", GENERAL)
    def test_determinants(self, name):
        sign, log = np.linalg.slogdet(dense(name))
        for alg in ("auto", "lu", "sparselu"):
            found = cola.slogdet(sparse(name), alg)
            assert abs(found[0] - sign) < 1e-10 and abs(found[1] - log) < 1e-10 * abs(log)

    @pytest.mark.parametrize(
        "alg",
        [
            cola.Auto(),
            cola.GMRES(max_iters=2000),
            cola.GMRES(P=pc.IncompleteLU()),
            cola.FGMRES(P=pc.IncompleteLU()),
            cola.BiCGStab(P=pc.IncompleteLU()),
            cola.IDR(max_iters=2000),
        ],
        ids=["auto", "gmres", "gmres-ilu", "fgmres-ilu", "bicgstab-ilu", "idr"],
    )
    def test_helmholtz(self, alg):
        """Complex, symmetric and indefinite, 2880 unknowns: a preconditioner makes 600 steps few."""
        M, x, b = system("helmholtz_2D")
        found, info = solved(sparse("helmholtz_2D"), M, b, alg)
        assert np.linalg.norm(found - x) <= 1e-4 * np.linalg.norm(x)
        if getattr(alg, "P", None) is not None:
            assert info.iterations < 20

    @pytest.mark.parametrize(
        ("name", "which", "alg"),
        [
            (name, which, alg)
            for name in (*GENERAL, "grcar")
            for which, algs in {
                "LM": ("auto", "eig", "arnoldi", "krylovschur"),
                "LR": ("auto", "krylovschur"),
                "SR": ("auto", "krylovschur"),
                "SM": ("auto", "shiftinvert"),
            }.items()
            for alg in algs
            # within their products both resolve only the outer part of these
            if (name, which, alg) not in (("grcar", "SM", "shiftinvert"), ("grcar", "LM", "arnoldi"))
        ],
    )
    def test_eigenvalues(self, name, which, alg):
        """To within what their condition numbers leave of the residual, none missed and none twice."""
        from scipy.optimize import linear_sum_assignment

        k, D = 6 if name == "grcar" else 10, dense(name)
        w, L, R = sl.eig(D, left=True)
        condition = 1 / np.abs(np.sum(L.conj() * R, axis=0))
        (found, V), info = cola.eig(sparse(name), k, which, alg, return_info=True)
        V, size = V.to_dense(), np.linalg.norm(D, 2)
        assert info.converged, info
        assert np.linalg.norm(D @ V - V * found, axis=0).max() <= 1e-9 * size
        distance = np.abs(found[:, None] - w)
        rows, partners = linear_sum_assignment(distance)
        bound = np.maximum(10 * condition[partners] * 1e-10 * size, 1e-12 * size)
        assert (distance[rows, partners] <= np.minimum(bound, 0.05 * size)).all()
        key = {"LM": -np.abs(w), "LR": -w.real, "SR": w.real, "SM": np.abs(w)}[which]
        assert key[partners].max() <= np.sort(key)[k - 1] + bound.max()
        if alg in ("krylovschur", "arnoldi"):
            # reported: the least sensitive matrix that the products have shown, so never far above the truth
            assert 1 <= np.max(info.condition) <= 100 * condition.max()
            assert np.max(info.condition) >= 1e-2 * np.median(condition[partners])

    @pytest.mark.parametrize("name", [*GENERAL, "airfoil", "tall"])
    @pytest.mark.parametrize("alg", ["auto", "svd", "lanczossvd", "randomizedsvd", "blockkrylovsvd"])
    def test_singular_values(self, name, alg):
        M = matrix("square")[:, :150] if name == "tall" else matrix(name)
        alg = cola.RandomizedSVD(power_iterations=12, oversampling=40) if alg == "randomizedsvd" else alg
        A = cola.ops.Sparse.from_scipy(sp.csr_array(M))
        U, S, V = cola.svd(A, 6, "LM", alg)
        s = np.linalg.svd(M.toarray(), compute_uv=False)[:6]
        found = np.sort(np.diagonal(S.to_dense()))[::-1]
        rough = isinstance(alg, cola.RandomizedSVD)
        assert np.abs(found - s).max() <= (2e-2 if rough else 1e-9) * s[0]
        U, V = U.to_dense(), V.to_dense()
        assert np.abs(U.T @ U - np.eye(6)).max() < 1e-8 and np.abs(V.T @ V - np.eye(6)).max() < 1e-8
        if not rough:
            assert np.linalg.norm(M @ V - U * np.diagonal(S.to_dense())) <= 1e-5 * s[0]


class TestMultiplicities:
    """The Laplacian of a square has double eigenvalues, of a cube triple and sixfold ones."""

    @pytest.mark.parametrize("k", [2, 3, 6, 12])
    @pytest.mark.parametrize("which", ["SA", "LA"])
    @pytest.mark.parametrize("sides", [(14, 14), (6, 6, 6)], ids=["square", "cube"])
    @pytest.mark.parametrize(
        "alg", ["auto", "lanczos", "shiftinvert", "lobpcg", "davidson", "krylovschur", "arnoldi"]
    )
    def test_every_copy_is_found(self, alg, sides, which, k):
        A = cola.PSD(cola.ops.Sparse.from_scipy(poisson(*sides)))
        w = poisson_eigenvalues(*sides)
        for seed in range(2):
            made = {
                "auto": cola.Auto(),
                "lanczos": cola.Lanczos(key=seed),
                "shiftinvert": cola.ShiftInvert(),
                "lobpcg": cola.LOBPCG(key=seed),
                "davidson": cola.Davidson(key=seed),
                "krylovschur": cola.KrylovSchur(key=seed),
                "arnoldi": cola.Arnoldi(key=seed),
            }[alg]
            if alg in ("krylovschur", "arnoldi"):
                found = np.sort(np.real(cola.eig(A, k, {"SA": "SR", "LA": "LR"}[which], made)[0]))
            else:
                found = np.sort(cola.eigh(A, k, which, made)[0])
            reference = w[:k] if which == "SA" else w[-k:]
            assert np.abs(found - reference).max() <= 1e-9 * w[-1], (found, reference)

    def test_inside_the_spectrum(self):
        A = cola.PSD(cola.ops.Sparse.from_scipy(poisson(14, 14)))
        w = poisson_eigenvalues(14, 14)
        for sigma in (1.0, 2.5, 3.95):
            found = np.sort(cola.eigh(A, 7, sigma=sigma)[0])
            nearest = np.sort(np.abs(w - sigma))[:7]
            assert np.abs(np.sort(np.abs(found - sigma)) - nearest).max() < 1e-9


class TestEstimators:
    """Errors against the standard errors reported, over keys."""

    KEYS = 6

    def _inverse(self, name):
        lu = spl.splu(sp.csc_matrix(matrix(name)))
        n = matrix(name).shape[0]
        return cola.PSD(cola.ops.FunctionOperator(lu.solve, (n, n), rmatvec=lu.solve, vectorized=True))

    def _calibrated(self, found, errors):
        z = np.abs(found) / errors
        assert z.max() <= 5 and np.sqrt(np.mean(z**2)) <= 2.5, z

    @pytest.mark.parametrize("name", ["airfoil", "knot", "unit_cube", "square"])
    @pytest.mark.parametrize("alg", [cola.Hutchinson, cola.HutchPP, cola.XTrace, cola.XNysTrace])
    def test_trace_of_an_inverse(self, name, alg):
        A, exact = self._inverse(name), (1 / spectrum(name)).sum()
        errors, said = [], []
        for key in range(self.KEYS):
            value, info = cola.trace(A, alg(tol=0.02, key=key), return_info=True, on_failure="ignore")
            errors.append(value - exact)
            said.append(max(info.standard_error, 1e-12 * exact))
        assert max(said) < 0.1 * exact
        self._calibrated(np.array(errors), np.array(said))

    @pytest.mark.parametrize("name", ["airfoil", "unit_cube", "square"])
    def test_log_determinant(self, name):
        exact = np.log(spectrum(name)).sum()
        errors, said = [], []
        for key in range(self.KEYS):
            (_, value), info = cola.slogdet(
                sparse(name), cola.SLQ(key=key), return_info=True, on_failure="ignore"
            )
            errors.append(value - exact)
            said.append(info.standard_error)
        self._calibrated(np.array(errors), np.array(said))

    @pytest.mark.parametrize("name", ["airfoil", "unit_cube", "square"])
    @pytest.mark.parametrize("alg", [cola.Hutchinson, cola.XDiag])
    def test_diagonal_of_an_inverse(self, name, alg):
        exact = np.diagonal(np.linalg.inv(dense(name)))
        found, info = cola.diag(self._inverse(name), alg=alg(tol=0.05), return_info=True, on_failure="ignore")
        gap, said = np.abs(found - exact), np.asarray(info.standard_error)
        if said.shape == gap.shape:
            assert np.sqrt(np.mean((gap / said) ** 2)) <= 3
        else:
            assert np.linalg.norm(gap) <= 5 * max(float(said), 1e-12) * (1 if said > 1e-3 else 10)


class TestFunctions:
    @pytest.mark.parametrize("name", ["airfoil", "unit_cube", "square", "knot"])
    def test_of_definite_matrices(self, name):
        D, A = dense(name), sparse(name)
        w, V = np.linalg.eigh(D)
        b = np.random.default_rng(3).standard_normal((len(D), 2))
        functions = {
            "sqrt": (np.sqrt, cola.sqrt, ("auto", "lanczos", "contourquadrature", "chebyshev")),
            "isqrt": (lambda x: x**-0.5, cola.isqrt, ("auto", "lanczos", "contourquadrature")),
            "log": (np.log, cola.log, ("auto", "lanczos", "contourquadrature")),
        }
        for f, ask, algs in functions.values():
            exact = (V * f(w)) @ (V.T @ b)
            for alg in algs:
                if alg == "chebyshev" and w[-1] > 1000 * w[0]:
                    continue  # a branch point that near takes a polynomial of thousands
                found = ask(A, alg) @ b
                assert np.linalg.norm(found - exact) <= 1e-7 * np.linalg.norm(exact), (ask.__name__, alg)

    @pytest.mark.parametrize(
        ("name", "alg"),
        [
            (name, alg)
            for name in ("airfoil", "square", "convection", "recirc_flow", "grcar")
            for alg in ("auto", "expaction", "arnoldi", "lanczos", "chebyshev")
            if name in DEFINITE or alg not in ("lanczos", "chebyshev")
        ],
    )
    def test_exponential(self, name, alg):
        D, A = dense(name), sparse(name)
        b = np.random.default_rng(4).standard_normal(len(D))
        for t in (-0.1, -2.0):
            exact = sl.expm(t * D) @ b
            found = cola.exp(t * A, alg) @ b
            assert np.linalg.norm(found - exact) <= 1e-8 * np.linalg.norm(b)


class TestPreconditioned:
    """Right answers in fewer steps."""

    @pytest.mark.parametrize("name", ["bar", "local_disc_galerkin_diffusion", "knot", "large"])
    @pytest.mark.parametrize(
        ("P", "factor"),
        [
            (pc.Jacobi(), 1.3),
            (pc.BlockJacobi(8), 1.3),
            (pc.IncompleteCholesky(), 0.7),
            (pc.AMG(), 0.7),
        ],
        ids=["jacobi", "blockjacobi", "incomplete-cholesky", "amg"],
    )
    def test_steps(self, name, P, factor):
        if isinstance(P, pc.AMG):
            pytest.importorskip("pyamg")
        M = poisson(40, 40) if name == "large" else matrix(name)
        A = cola.PSD(cola.ops.Sparse.from_scipy(M))
        b = M @ np.random.default_rng(5).standard_normal(M.shape[0])
        _, plain = solved(A, M, b, cola.CG())
        for alg in (cola.CG(P=P), cola.MINRES(P=P, tol=1e-8), cola.GMRES(P=P)):
            _, info = solved(A, M, b, alg)
            if isinstance(alg, cola.CG):
                assert info.iterations <= factor * plain.iterations

    def test_multigrid_does_not_count_the_unknowns(self):
        pytest.importorskip("pyamg")
        steps = []
        for m in (15, 30, 60):
            M = poisson(m, m)
            A = cola.PSD(cola.ops.Sparse.from_scipy(M))
            steps.append(solved(A, M, M @ np.ones(m * m), cola.CG(P=pc.AMG()))[1].iterations)
        assert max(steps) <= 2 * min(steps) and max(steps) < 25

    @pytest.mark.parametrize("name", GENERAL)
    def test_incomplete_lu(self, name):
        M, _, b = system(name)
        _, plain = solved(sparse(name), M, b, cola.GMRES())
        for alg in (cola.GMRES(P=pc.IncompleteLU()), cola.BiCGStab(P=pc.IncompleteLU())):
            _, info = solved(sparse(name), M, b, alg)
            assert info.iterations < plain.iterations / 3

    @pytest.mark.parametrize("name", ["square", "knot"])
    def test_smallest_eigenvalues_by_preconditioned_blocks(self, name):
        w = spectrum(name)
        for P in (pc.IncompleteCholesky(), cola.inv):
            for cls in (cola.LOBPCG, cola.Davidson):
                (found, _), info = cola.eigh(sparse(name), 6, "SA", cls(P=P), return_info=True)
                _, plain = cola.eigh(sparse(name), 6, "SA", cls(), return_info=True)
                assert np.abs(np.sort(found) - w[:6]).max() <= 1e-9 * w[-1]
                assert info.iterations < plain.iterations

"""Answers that other libraries, or an early version of this one, gave silently wrong: one phenomenon each."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops

N = 6
RNG = np.random.default_rng(7)
GENERAL = RNG.standard_normal((N, N))
SPD = GENERAL @ GENERAL.T + N * np.eye(N)


@pytest.fixture
def put(backend):
    """Arrays of the library under test."""
    if backend.name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return lambda x, dtype=None: backend.asarray(np.asarray(x, dtype=dtype))


def host(x):
    return x.detach().resolve_conj().numpy() if hasattr(x, "detach") else np.asarray(x)


def name_of(dtype):
    return str(dtype).rpartition(".")[2]


# -- precision and library of the answer ---------------------------------------------------------------------
NEUTRAL = {
    "shift": lambda S: S + 2.0 * ops.Identity(N),
    "kron": lambda S: cola.kron(S, ops.Identity(2)),
    "kronsum": lambda S: cola.kronsum(S, ops.Identity(2)),
    "blocks": lambda S: cola.block_diag(S, ops.Identity(2), 2.0 * ops.Identity(1)),
    "scaled": lambda S: 2.0 * S,
    "kron_shift": lambda S: cola.kron(S, ops.Identity(2)) + 0.5 * ops.Identity(2 * N),
    "lowrank": lambda S: ops.LowRank(S.to_dense()[:, :2]) + 0.7 * ops.Identity(N),
    "diagonal": lambda S: ops.Diagonal(S.to_dense()[0] * S.to_dense()[0].conj()) + 0.3 * ops.Identity(N),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("kind", NEUTRAL)
def test_parts_without_arrays_change_neither_precision_nor_library(backend, put, kind, dtype):
    if backend.name == "jax" and dtype != "float32":
        return  # every operation compiles there; one precision shows what the rules do
    matrix = SPD + (1j * (GENERAL - GENERAL.T) if "complex" in dtype else 0)
    A = NEUTRAL[kind](cola.PSD(put(matrix, dtype)))
    dense = host(A.to_dense()).astype(complex)
    real = {"complex64": "float32"}.get(dtype, dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    b = put(np.ones(A.shape[-1]), dtype)
    answers = {
        "dense": (A.to_dense(), dense, dtype),
        "solve": (cola.solve(A, b), np.linalg.solve(dense, np.ones(len(dense))), dtype),
        "logdet": (cola.slogdet(A)[1], np.linalg.slogdet(dense)[1], real),
        "trace": (cola.trace(A), np.trace(dense), dtype),
        "diag": (cola.diag(A), np.diag(dense), dtype),
        "root": (cola.sqrt(cola.PSD(A)) @ (cola.sqrt(cola.PSD(A)) @ b), dense @ np.ones(len(dense)), dtype),
    }
    if A.isa(cola.SelfAdjoint):
        answers["eigenvalues"] = (cola.eigvalsh(A), np.linalg.eigvalsh(dense), real)
    for what, (value, wanted, kept) in answers.items():
        assert type(value) is type(b) or isinstance(value, np.generic), what
        assert name_of(value.dtype) == kept, what
        assert np.abs(host(value) - wanted).max() <= tolerance * max(1, np.abs(wanted).max()), what


def test_a_python_number_keeps_its_digits(put):
    """torch.as_tensor(0.1) is single precision."""
    A = cola.kron(cola.PSD(put(SPD)), 0.1 * ops.Identity(3))
    wanted = 0.3 * np.trace(SPD)
    assert abs(float(cola.trace(A)) - wanted) < 1e-13 * wanted


def test_the_identity_as_preconditioner(put):
    """Its product returns the operand itself, which the iteration then updates in place."""
    for P in (ops.Identity(N), cola.I_like(ops.Dense(put(SPD)))):
        x, info = cola.solve(cola.PSD(put(SPD)), put(np.ones(N)), cola.CG(P=P), return_info=True)
        assert info.converged and np.allclose(host(x), np.linalg.solve(SPD, np.ones(N)))


@pytest.mark.parametrize(("size", "precision"), [(1e-25, "float32"), (1e25, "float32"), (1e-200, "float64")])
def test_a_right_side_whose_squares_leave_the_range_is_solved_all_the_same(put, size, precision):
    b = put(np.full(N, size), precision)
    want = np.linalg.solve(SPD, np.ones(N))
    for alg in (cola.CG(), cola.GMRES()):
        x, info = cola.solve(cola.PSD(put(SPD, precision)), b, alg, return_info=True)
        assert info.converged and 0 < info.residual <= 1.1 * info.tolerance
        assert np.allclose(host(x).astype(float) / size, want, rtol=1e-3)


# -- functions of operators ----------------------------------------------------------------------------------
def test_a_complex_function_of_a_self_adjoint_operator_is_not_self_adjoint(backend, put):
    S = cola.SelfAdjoint(put(SPD / 10))
    w, V = np.linalg.eigh(SPD / 10)
    wanted = (V * np.exp(1j * w)) @ V.T

    def turn(x):
        return backend.xp.exp(1j * x)

    lazy = cola.apply_unary(turn, S, cola.Lanczos())
    assert "complex" in name_of(lazy.dtype)
    for F in (cola.apply_unary(turn, S), lazy):
        assert not F.isa(cola.SelfAdjoint)
        assert np.abs(host(F @ put(np.eye(N))) - wanted).max() < 1e-12
        assert np.abs(host(F.H @ put(np.eye(N))) - wanted.conj().T).max() < 1e-12
        assert np.abs(host(F.conj() @ put(np.eye(N))) - wanted.conj()).max() < 1e-12
    for A in (ops.Diagonal(put(np.arange(1.0, 4.0))), cola.kron(S, S), 2.0 * ops.Identity.like(S)):
        F = cola.apply_unary(turn, A)
        assert np.abs(host(F.H.to_dense()) - host(F.to_dense()).conj().T).max() < 1e-12


@pytest.mark.parametrize("entries", [(-1.0, 2.0), (-1.0, -2.0)])
def test_a_false_declaration_does_not_hide_the_sign_of_a_determinant(put, entries):
    with pytest.raises(cola.errors.NotPositiveDefiniteError):
        cola.logdet(cola.PSD(ops.Diagonal(put(np.array(entries)))))


# -- what answers say about themselves -----------------------------------------------------------------------
def test_errors_of_estimates_are_carried_through_compositions(put):
    """Kronecker powers, repeats and factors multiply an estimate, and so its error."""
    B = cola.PSD(put(SPD))
    slq = cola.SLQ(samples=4, max_samples=4, tol=1e-6)
    hutch = cola.Hutchinson(max_iters=8, bs=4, tol=1e-6)

    def error(question, A, alg):
        return float(question(A, alg, return_info=True, on_failure="ignore")[1].standard_error)

    leaf = error(cola.logdet, B, slq)
    D = ops.Diagonal(put(np.full(50, 2.0)))
    assert leaf > 0
    assert np.isclose(error(cola.logdet, cola.kron(B, D), slq), 50 * leaf)
    assert np.isclose(error(cola.logdet, cola.kron(B, B), slq), 12 * leaf)
    assert np.isclose(error(cola.logdet, cola.block_diag(B, multiplicities=(3,)), slq), 3 * leaf)
    assert np.isclose(error(cola.logdet, 2.0 * B, slq), leaf)
    for question, copies, summands in ((cola.trace, 3, 10), (cola.diag, 3**0.5, 10**0.5)):
        leaf = error(question, B, hutch)
        assert leaf > 0
        assert np.isclose(error(question, -5.0 * B, hutch), 5 * leaf)
        assert np.isclose(error(question, cola.block_diag(B, multiplicities=(3,)), hutch), copies * leaf)
        both = cola.kronsum(B, ops.Diagonal(put(np.zeros(10))))
        assert np.isclose(error(question, both, hutch), summands * leaf)
        twice = ops.Sum(B, B)
        assert np.isclose(error(question, twice, hutch), 2 * leaf)
    assert np.isclose(error(cola.trace, cola.kron(B, D), hutch), 100 * error(cola.trace, B, hutch))


def test_converged_compares_the_residual_of_the_whole_system(put):
    """A product of systems solved one after the other multiplies residuals by condition numbers."""
    Q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((40, 40)))
    hard = Q @ np.diag(np.logspace(-6, 0, 40)) @ Q.T
    A = ops.Product(cola.PSD(put((hard + hard.T) / 2)), cola.PSD(put(np.eye(40) + 0.1 * (hard + hard.T))))
    with pytest.warns(cola.ConvergenceWarning, match="composed system"):
        _, info = cola.solve(A, put(np.ones(40)), cola.CG(tol=1e-4), return_info=True)
    assert not info.converged and float(info.residual) > 10 * info.tolerance
    with pytest.warns(cola.ConvergenceWarning, match="composed system"):
        cola.solve(A, put(np.ones(40)), cola.CG(tol=1e-4))
    with pytest.raises(cola.ConvergenceError):
        cola.solve(A, put(np.ones(40)), cola.CG(tol=1e-4), on_failure="raise")


@pytest.mark.parametrize("wrap", ["kron", "blocks", "product", "lowrank"])
def test_a_leaf_that_failed_surfaces(put, wrap):
    hard = cola.PSD(put(np.diag(np.logspace(-8, 0, 30))))
    A = {
        "kron": lambda: cola.kron(hard, cola.PSD(put(SPD))),
        "blocks": lambda: cola.block_diag(cola.PSD(put(SPD)), hard),
        "product": lambda: ops.Product(hard, ops.Dense(put(np.eye(30)))),
        "lowrank": lambda: ops.LowRank(put(np.ones((30, 1)))) + hard,
    }[wrap]()
    b = put(np.ones(A.shape[-1]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        _, info = cola.solve(A, b, cola.CG(max_iters=3), return_info=True)
    assert not info.converged
    assert sum(issubclass(w.category, cola.ConvergenceWarning) for w in seen) == 1
    with pytest.warns(cola.ConvergenceWarning):
        cola.inv(A, cola.CG(max_iters=3)) @ b


def test_nested_questions_keep_their_own_on_failure():
    hard = cola.PSD(np.diag(np.logspace(-8, 0, 30)))

    def through(on_failure):
        def apply(x):
            return x + 1e-9 * cola.solve(hard, x, cola.CG(max_iters=2), on_failure=on_failure)

        return cola.PSD(ops.FunctionOperator(apply, (30, 30)))

    with pytest.raises(cola.ConvergenceError):
        cola.solve(through("raise"), np.ones(30), cola.CG(max_iters=5), on_failure="ignore")
    _, info = cola.solve(through("ignore"), np.ones(30), cola.CG(tol=1e-1), return_info=True)
    assert info.converged
    with pytest.warns(cola.ConvergenceWarning):
        cola.solve(through("warn"), np.ones(30), cola.CG(tol=1e-1))


# -- what is remembered between questions --------------------------------------------------------------------
def test_what_an_operator_remembers_does_not_outlive_a_trace():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    A = ops.Dense(jnp.asarray(GENERAL) + 1j * jnp.eye(N))
    Ainv = cola.inv(A)
    x = jnp.ones(N)
    inside = jax.jit(lambda x: (A.H @ x, A.T @ x, Ainv @ x))(x)
    outside = (A.H @ x, A.T @ x, Ainv @ x)
    assert all(np.allclose(i, o) for i, o in zip(inside, outside, strict=True))


def test_an_adjoint_made_without_gradients_does_not_lose_them():
    torch = pytest.importorskip("torch")
    a = torch.tensor(GENERAL + 1j * GENERAL.T, requires_grad=True)
    s = torch.arange(1.0, N + 1, dtype=torch.float64, requires_grad=True)
    for A in (ops.Dense(a), ops.Sparse(s, np.arange(N), np.arange(N)[::-1].copy(), (N, N))):
        with torch.no_grad():
            _ = A.H, A.T
        leaf = a if isinstance(A, ops.Dense) else s
        y = (A.H @ torch.ones(N, dtype=leaf.dtype)).abs().sum()
        assert float(torch.autograd.grad(y, leaf)[0].abs().sum()) > 0


def test_a_complex_shift_of_a_real_matrix_keeps_its_imaginary_part(backend, put):
    got = host(backend.add_diagonal(put(GENERAL), put(1 + 2j)))
    assert np.array_equal(got, GENERAL + (1 + 2j) * np.eye(N))


# -- derivatives ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("of", ["values", "vectors"])
def test_derivatives_of_eigenpairs_by_lanczos(of):
    """Of both orders, against differences: not zero, and not those of the recorded iterations."""
    torch = pytest.importorskip("torch")
    M = np.random.default_rng(3).standard_normal((40, 40))
    a = torch.tensor(M @ M.T)
    d, w = (torch.as_tensor(np.random.default_rng(4 + i).standard_normal((40, 40)[i:])) for i in range(2))

    def f(a):
        values, vectors = cola.eigh(cola.SelfAdjoint((a + a.T) / 2), 2, "LA", cola.Lanczos(tol=1e-13))
        return (values**2).sum() if of == "values" else ((w @ vectors.to_dense()) ** 2)[0]

    def slope(a):
        return (torch.autograd.grad(f(a), a, create_graph=True)[0] * d).sum()

    def slope_at(a):
        return slope(a.clone().requires_grad_()).detach()

    leaf = a.clone().requires_grad_()
    first = slope(leaf)
    (second,) = torch.autograd.grad(first, leaf)
    h = 1e-4
    assert np.isclose(first.item(), float((f(a + h * d) - f(a - h * d)) / (2 * h)), rtol=1e-6)
    numeric = (slope_at(a + h * d) - slope_at(a - h * d)) / (2 * h)
    assert np.isclose((second * d).sum().item(), float(numeric), rtol=1e-6)


def test_negative_indices(put):
    A = ops.Dense(put(GENERAL))
    i = put(np.array([-1, 0]))
    assert np.allclose(host(A[:, i] @ put(np.ones(2))), GENERAL[:, [-1, 0]].sum(1))
    assert np.allclose(host(A[i, :].H @ put(np.ones(2))), GENERAL[[-1, 0]].sum(0))
    assert np.allclose(host(A[:, [-1, 0]] @ put(np.ones(2))), GENERAL[:, [-1, 0]].sum(1))


# -- iterations and probes
def test_lanczos_finds_every_copy_of_a_multiple_eigenvalue():
    """A graph of four pieces has the eigenvalue zero four times, a square grid most of its twice."""
    rng = np.random.default_rng(5)
    n, blocks = 40, []
    for _ in range(4):
        edges = np.triu(rng.random((n, n)) < 0.15, 1)
        edges = edges + edges.T
        blocks.append(np.diag(edges.sum(1)) - edges)
    graph = np.zeros((4 * n, 4 * n))
    for i, block in enumerate(blocks):
        graph[i * n : (i + 1) * n, i * n : (i + 1) * n] = block
    line = 2 * np.eye(14) - np.eye(14, k=1) - np.eye(14, k=-1)
    grid = np.kron(line, np.eye(14)) + np.kron(np.eye(14), line)
    for matrix, k, which in ((graph, 5, "SA"), (grid, 5, "LA"), (grid, 6, "SA")):
        (w, V), info = cola.eigh(cola.PSD(matrix), k, which, cola.Lanczos(), return_info=True)
        exact = np.linalg.eigvalsh(matrix)
        assert info.converged
        assert np.abs(host(w) - (exact[:k] if which == "SA" else exact[-k:])).max() < 1e-8
        dense = host(V.to_dense())
        assert np.abs(dense.T @ dense - np.eye(k)).max() < 1e-8


def test_standard_errors_in_single_precision_do_not_cancel_to_zero(put):
    rng = np.random.default_rng(0)
    E = rng.standard_normal((200, 200))
    A = put(1e4 * np.eye(200) + (E + E.T) / 2, "float32")
    for key in range(4):
        hutch = cola.Hutchinson(key=np.int64(key), max_iters=64, tol=1e-9)
        value, info = cola.trace(A, hutch, return_info=True, on_failure="ignore")
        exact = 2e6 + np.trace(E)
        assert abs(float(value) - exact) < 5 * float(info.standard_error) + 1e-6 * exact
        assert 5 < float(info.standard_error) < 50


@pytest.mark.parametrize("condition", [1e3, 1e6, 1e8])
def test_error_bars_of_log_determinants_hold_at_high_condition_numbers(condition):
    Q, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((200, 200)))
    d = np.logspace(-np.log10(condition), 0, 200)
    A = (Q * d) @ Q.T
    value, info = cola.logdet(cola.PSD((A + A.T) / 2), cola.SLQ(), return_info=True, on_failure="ignore")
    assert abs(float(value) - np.log(d).sum()) < 4 * info.standard_error


CYCLE = (
    3 * np.eye(N) - np.roll(np.eye(N), 1, 0) - np.roll(np.eye(N), -1, 0)
)  # all but two eigenvalues are double


@pytest.mark.parametrize("shift", [False, True])
def test_solves_through_repeated_eigenvalues_have_derivatives(shift):
    torch = pytest.importorskip("torch")
    d = torch.as_tensor(np.random.default_rng(6).standard_normal((N, N)))

    def f(a):
        P = cola.PSD((a + a.T) / 2)
        A = cola.kron(P, P) + 0.5 * ops.Identity(N * N) if shift else cola.kronsum(P, P)
        ones = torch.ones(N * N, dtype=a.dtype)
        return (cola.solve(A, ones) ** 2).sum() + (cola.inv(A) @ ones)[0]

    def slope(a):
        return (torch.autograd.grad(f(a), a, create_graph=True)[0] * d).sum()

    a = torch.tensor(CYCLE, requires_grad=True)
    first = slope(a)
    (second,) = torch.autograd.grad(first, a)
    h = 1e-5
    sides = [(CYCLE + s * h * d.numpy()) for s in (1, -1)]
    values = [float(f(torch.tensor(x))) for x in sides]
    slopes = [float(slope(torch.tensor(x, requires_grad=True))) for x in sides]
    assert np.isclose(float(first), (values[0] - values[1]) / (2 * h), rtol=1e-6)
    assert np.isclose(float((second * d).sum()), (slopes[0] - slopes[1]) / (2 * h), rtol=1e-5)


def test_a_derivative_through_a_broken_down_krylov_space_is_not_a_wrong_number():
    """Two equal blocks: the Krylov space is invariant and smaller; the derivative does not lie in it."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    def f(a, n):
        P = cola.PSD((a + a.T) / 20)
        A = cola.block_diag(P, multiplicities=(2,)) if n > N else P
        return ((cola.exp(cola.no_dispatch(A), cola.Lanczos()) @ jax.numpy.ones(n)) ** 2).sum()

    general = jax.numpy.asarray(SPD)
    for n in (N, 2 * N):
        numeric = (f(general.at[0, 1].add(1e-5), n) - f(general.at[0, 1].add(-1e-5), n)) / 2e-5
        assert np.isclose(jax.grad(f)(general, n)[0, 1], numeric, rtol=1e-6)


def test_the_derivative_of_the_logarithm_of_zero_is_not_zero():
    torch = pytest.importorskip("torch")
    d = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    value = cola.logdet(ops.Diagonal(d))
    (g,) = torch.autograd.grad(value, d)
    assert float(value) == -np.inf and not np.isfinite(float(g[0])) and float(g[1]) == 0.5


def test_sessions_belong_to_a_thread():
    """What one thread's leaves report is not what another collects."""
    from concurrent.futures import ThreadPoolExecutor

    def one(i):
        A = cola.kron(cola.PSD(SPD + i * np.eye(N)), cola.PSD(SPD))
        x, info = cola.solve(A, np.ones(N * N), cola.CG(), return_info=True)
        return info.converged and len(info.parts) == 2 and np.allclose(A @ x, 1, atol=1e-6)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(40)))


def test_woodbury_steps_back_from_a_semidefinite_base(put):
    """Neither of two thin terms is regular, their sum is."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(5, 2)), rng.normal(size=(5, 3))
    B = ops.Dense(put(u)) @ ops.Dense(put(u)).T + ops.Dense(put(v)) @ ops.Dense(put(v)).T
    want = u @ u.T + v @ v.T
    x = cola.solve(B, put(np.ones(5)))
    np.testing.assert_allclose(want @ np.asarray(x), 1, atol=1e-8)
    assert np.isclose(float(cola.logdet(B)), np.linalg.slogdet(want)[1])


def test_columns_of_a_transform_without_a_dtype_are_not_rounded_to_single_precision(put):
    d = put(np.array([2.99362536 + 0j, 3.25783508]))
    F = ops.FFT(2)
    A = F.H @ ops.Diagonal(d) @ F
    U, S, V = cola.svd(A, 1)
    assert str(V.dtype).endswith("complex128")
    gap = A.to_dense() @ V.to_dense() - (U @ S).to_dense()
    assert np.abs(np.asarray(gap)).max() < 1e-14

"""Functions of non-normal, defective, nearly singular and structured operators, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import fractional_power, sqrtm

import cola_core as cola
from cola_core import PSD, ops
from cola_core.dispatch import explain

FUNCTIONS = {
    "exp": (cola.exp, sl.expm),
    "sin": (cola.sin, sl.sinm),
    "cos": (cola.cos, sl.cosm),
    "sqrt": (cola.sqrt, sqrtm),
    "isqrt": (cola.isqrt, lambda M: np.linalg.inv(sqrtm(M))),
    "log": (cola.log, sl.logm),
    "sign": (cola.sign, lambda M: M @ np.linalg.inv(sqrtm(M @ M))),
    "cube root": (lambda A: cola.pow(A, 1 / 3), lambda M: fractional_power(M, 1 / 3)),
    "power": (lambda A: cola.pow(A, -1.75), lambda M: fractional_power(M, -1.75)),
}


def jordan(n, w):
    return w * np.eye(n) + np.diag(np.ones(n - 1), 1)


def matrices():
    rng = np.random.default_rng(5)
    g = rng.normal(size=(5, 5))
    return {
        "non-normal": np.triu(rng.normal(size=(5, 5)) * 3) + np.diag([4.0, 5, 6, 7, 8]),
        "jordan": jordan(4, 2.0),
        "jordans": sl.block_diag(jordan(3, 0.5), jordan(2, 3.0)),
        "rotation": 2 * np.eye(4) + sl.block_diag(*[np.array([[0.0, 5.0], [-5.0, 0.0]])] * 2),
        "badly scaled": np.diag([1e-3, 1e3]) @ (np.eye(2) + 0.1),
        "definite part": g @ g.T + np.eye(5) + 2 * (g - g.T),
        "complex": g + 1j * np.roll(g, 1) + 6 * np.eye(5),
        "one": np.array([[2.5]]),
    }


@pytest.mark.parametrize("matrix", list(matrices()))
@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_general_matrices_against_scipy(backend, matrix):
    M = matrices()[matrix]
    for name, (f, reference) in FUNCTIONS.items():
        if matrix == "badly scaled" and name in ("exp", "sin", "cos", "sign"):
            continue
        want = reference(M)
        for A in (ops.Dense(backend.asarray(M)), ops.Dense(backend.asarray(np.stack([M, M])))):
            got = backend.to_numpy(f(A).to_dense())
            assert got.dtype == M.dtype, name
            error = np.abs(got - want).max() / np.abs(want).max()
            assert error < 1e-11 * max(1, np.linalg.cond(M)), (name, error)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_empty_and_single(backend, n):
    A = ops.Dense(backend.asarray(np.full((n, n), 2.0)))
    for name, (f, _) in FUNCTIONS.items():
        assert tuple(f(A).to_dense().shape) == (n, n), name
    assert tuple(cola.pow(A, 3).to_dense().shape) == (n, n)


def test_exponential_of_a_defective_matrix():
    """An eigendecomposition gives a relative error of 0.58 here."""
    M = np.array([[0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(cola.exp(M).to_dense(), [[1, 1], [0, 1]], atol=1e-15)
    np.testing.assert_allclose(cola.exp(cola.no_dispatch(ops.Dense(jordan(6, -1.0)))).to_dense(),
                               sl.expm(jordan(6, -1.0)), atol=1e-14)  # fmt: skip


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_zero_eigenvalues_are_not_padding(backend):
    """f is applied to the eigenvalues of the operator, zeros included: exp(0) is one."""
    d = np.array([0.0, 1.0, 2.0])
    A = cola.SelfAdjoint(ops.Dense(backend.asarray(np.diag(d))))
    for F in (cola.exp(A, cola.Lanczos()), cola.exp(A), cola.cos(A, cola.Lanczos())):
        want = np.diag(
            np.cos(d) if F is not None and "cos" in getattr(getattr(F, "f", None), "name", "") else np.exp(d)
        )
        np.testing.assert_allclose(backend.to_numpy(F @ backend.asarray(np.eye(3))), want, atol=1e-12)


def test_real_or_complex_is_decided_before_values_are_seen():
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a real logarithm, from complex eigenvalues
    np.testing.assert_allclose(cola.log(turn).to_dense(), [[0, np.pi / 2], [-np.pi / 2, 0]], atol=1e-14)
    flip = np.array([[-4.0, 1.0], [0.0, 9.0]])
    for f in (cola.sqrt, cola.log, cola.isqrt, lambda A: cola.pow(A, 0.3)):
        with pytest.raises(cola.errors.PropertyError, match="complex"):
            f(flip)
        with pytest.raises(cola.errors.PropertyError, match="complex"):
            f(cola.SelfAdjoint(np.diag([-4.0, 9.0])))
    np.testing.assert_allclose(cola.sqrt(flip + 0j).to_dense(), sqrtm(flip), atol=1e-12)
    np.testing.assert_allclose(cola.log(flip + 0j).to_dense(), sl.logm(flip), atol=1e-12)
    assert not cola.funm(lambda w: w**2, turn)._is_complex()
    with pytest.raises(cola.errors.PropertyError):
        cola.funm(np.sqrt, flip)  # real at one, not at -4


def test_the_principal_branch_on_torch():
    torch = pytest.importorskip("torch")
    flip = np.array([[-4.0, 1.0], [0.0, 9.0]])
    for f, reference in ((cola.sqrt, sqrtm), (cola.log, sl.logm)):
        with pytest.raises(cola.errors.PropertyError, match="complex"):
            f(torch.as_tensor(flip))
        got = f(torch.as_tensor(flip + 0j)).to_dense().resolve_conj().numpy()
        np.testing.assert_allclose(got, reference(flip), atol=1e-10)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_what_is_not_defined_is_refused(backend):
    f = backend.asarray
    singular = f(np.array([[1.0, 1.0], [0.0, 0.0]]))
    nearly = f(np.array([[1.0, 1.0], [1.0, np.nextafter(1.0, 2.0)]]))
    for ask in (cola.log, cola.isqrt, lambda A: cola.pow(A, -0.3)):
        with pytest.raises((cola.errors.SingularMatrixError, cola.errors.PropertyError)):
            ask(singular)
        with pytest.warns(cola.errors.IllConditionedWarning):
            ask(nearly)
    with pytest.raises(cola.errors.SingularMatrixError):
        cola.sqrt(f(np.array([[0.0, 1.0], [0.0, 0.0]])))  # it has no square root at all
    with pytest.raises(cola.errors.PropertyError, match="imaginary axis"):
        cola.sign(f(np.array([[0.0, 1.0], [-1.0, 0.0]])))
    with pytest.raises(cola.errors.SingularMatrixError):
        cola.log(ops.Diagonal(f(np.array([0.0, 1.0]))))
    with pytest.raises(TypeError):
        cola.pow(singular, 1j)
    with pytest.raises(ValueError):
        cola.pow(singular, float("nan"))
    with pytest.raises(cola.errors.NonFiniteError):
        cola.log(f(np.array([[np.nan, 1.0], [0.0, 1.0]])))


def test_an_eigenbasis_that_is_no_basis_is_refused_or_announced():
    with pytest.raises(cola.errors.ColaError, match="defective"):
        cola.funm(lambda w: w**2, jordan(3, 1.0))
    near = np.array([[1.0, 1e3], [0.0, 1.0 + 1e-8]])
    with pytest.warns(cola.errors.IllConditionedWarning):
        cola.funm(lambda w: w**2, near)


def test_a_name_does_not_choose_the_method():
    def exp(w):
        return w + 1

    np.testing.assert_allclose(
        cola.funm(exp, np.diag([1.0, 2.0])).to_dense(), np.diag([2.0, 3.0]), atol=1e-14
    )


# -- rules ---------------------------------------------------------------------------------------------------
def structures():
    rng = np.random.default_rng(3)
    g, h = rng.normal(size=(2, 3, 3))
    P = PSD(ops.Dense(g @ g.T + np.eye(3)))
    Q = PSD(ops.Dense(h @ h.T + np.eye(3)))
    G, H = ops.Dense(g + 4 * np.eye(3)), ops.Dense(h + 5 * np.eye(3))
    U = cola.Unitary(np.linalg.qr(rng.normal(size=(3, 3)))[0])
    u, v = rng.normal(size=(2, 12, 2)) / 3
    low = ops.LowRank(u, v)
    T = ops.Triangular(np.triu(g) + 4 * np.eye(3), lower=False)
    return {
        "log-kronecker": (cola.kron(P, Q), ("log",)),
        "root-kronecker": (cola.kron(P, Q), ("sqrt", "isqrt", "cube root", "power", "sign")),
        "circular-kronsum": (cola.kronsum(G, H, T), ("sin", "cos")),
        "adjoint": (ops.Adjoint(G), tuple(FUNCTIONS)),
        "transpose": (ops.Transpose(G), tuple(FUNCTIONS)),
        "inverse": (cola.inv(G), ("sqrt", "isqrt", "log", "sign", "cube root", "power")),
        "similarity": (U @ G @ U.H, tuple(FUNCTIONS)),
        "triangular": (T, tuple(FUNCTIONS)),
        "scaled-parts": (0.5 * cola.kronsum(G, H), ("sin", "sqrt", "log")),
        "shifted-parts": (cola.kronsum(G, H) + 0.5 * ops.Identity(9), ("sin", "sqrt", "log")),
        "lowrank": (low, ("exp", "sin", "cos")),
        "lowrank-shift": (low + 2.0 * ops.Identity(12), tuple(FUNCTIONS)),
        "scaled-lowrank": (0.5 * low, ("exp", "sin", "cos")),
        "blockdiag": (cola.block_diag(G, T), tuple(FUNCTIONS)),
    }


@pytest.mark.parametrize("rule", list(structures()))
def test_rules_answer_and_agree(rule):
    A, names = structures()[rule]
    M = A @ np.eye(A.shape[-1])
    for name in names:
        f, reference = FUNCTIONS[name]
        F = f(A)
        want = reference(M)
        np.testing.assert_allclose(F.to_dense(), want, atol=1e-9 * max(1, np.abs(want).max()), err_msg=name)
        np.testing.assert_allclose(F.H.to_dense(), want.T, atol=1e-9 * max(1, np.abs(want).max()))
        if name in ("exp", "sin", "cos", "sqrt", "isqrt", "log", "sign"):
            found = explain(f, A).root.by
            assert (
                found == f"core:function/{rule}"
                or rule in ("scaled-parts", "shifted-parts")
                or (rule == "lowrank-shift" and name == "exp")
            ), (name, found)


def test_answers_keep_structure():
    s = structures()
    assert isinstance(cola.log(s["log-kronecker"][0]), ops.KronSum)
    assert isinstance(cola.sqrt(s["triangular"][0]), ops.Triangular)
    assert isinstance(cola.exp(s["blockdiag"][0]), ops.BlockDiag)
    n = 50_000  # a function of a large low-rank operator needs arrays of its rank only
    U = np.ones((n, 1)) / np.sqrt(n)
    A = ops.LowRank(U) + 3.0 * ops.Identity(n)
    for f, g in ((cola.sqrt, np.sqrt), (cola.log, np.log), (cola.exp, np.exp), (cola.sin, np.sin)):
        np.testing.assert_allclose((f(A) @ U)[:, 0], g(4.0) * U[:, 0], rtol=1e-9)
    assert cola.sqrt(A).isa(PSD)


def test_semidefinite_low_rank_roots(rng):
    U = rng.normal(size=(9, 2))
    A = ops.LowRank(U)
    R = cola.sqrt(A).to_dense()
    np.testing.assert_allclose(R @ R, U @ U.T, atol=1e-12)
    W = np.concatenate([U[:, :1], U[:, :1]], axis=1)  # columns that repeat: V^H U is singular
    R = cola.sqrt(ops.LowRank(W)).to_dense()
    np.testing.assert_allclose(R @ R, W @ W.T, atol=1e-12)
    E = cola.exp(ops.LowRank(U[:, :1], np.linalg.qr(U)[0] @ np.array([[0.0], [1.0]]))).to_dense()
    np.testing.assert_allclose(
        E, sl.expm(U[:, :1] @ (np.linalg.qr(U)[0] @ np.array([[0.0], [1.0]])).T), atol=1e-12
    )


def test_whole_powers_use_structure():
    d = np.arange(1.0, 5.0)
    assert isinstance(cola.pow(ops.Diagonal(d), 5), ops.Diagonal)
    K = cola.kron(ops.Diagonal(d), ops.Diagonal(d))
    assert isinstance(cola.pow(K, 3), ops.Kronecker)
    M = jordan(3, 0.99)
    np.testing.assert_allclose(cola.pow(M, 200).to_dense(), np.linalg.matrix_power(M, 200), rtol=1e-10)
    np.testing.assert_allclose((ops.Dense(M) ** 7).to_dense(), np.linalg.matrix_power(M, 7), rtol=1e-12)


# -- derivatives and tracing ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sqrt", "log", "sign", "cube root", "cos"])
def test_torch_derivatives(name):
    torch = pytest.importorskip("torch")
    M = torch.as_tensor(matrices()["definite part"][:3, :3].copy()).requires_grad_()
    f = FUNCTIONS[name][0]
    assert torch.autograd.gradcheck(lambda M: f(ops.Dense(M)).to_dense(), (M,), atol=1e-5)


def test_jax_compiles_and_differentiates():
    jax = pytest.importorskip("jax")
    M = matrices()["definite part"][:3, :3]
    D = np.random.default_rng(0).normal(size=(3, 3))

    def value(t):
        A = ops.Dense(jax.numpy.asarray(M) + t * D)
        return jax.numpy.sum(cola.log(A).to_dense() + cola.sqrt(A).to_dense() + cola.sign(A).to_dense())

    def dense(t):
        X = M + t * D
        return np.sum(sl.logm(X) + sqrtm(X) + sl.signm(X))

    got, slope = jax.jit(jax.value_and_grad(value))(0.0)
    np.testing.assert_allclose(got, dense(0.0), rtol=1e-10)
    np.testing.assert_allclose(slope, (dense(1e-5) - dense(-1e-5)) / 2e-5, rtol=1e-5)
    bad = jax.jit(lambda X: cola.sqrt(ops.Dense(X)).to_dense())(jax.numpy.asarray([[-1.0, 0.0], [0.0, 2.0]]))
    assert not np.isfinite(np.asarray(bad)).all() or not np.allclose(
        np.asarray(bad) @ np.asarray(bad), [[-1, 0], [0, 2]]
    )


def test_all_of_a_function_takes_one_eigendecomposition_where_nobody_asked_for_products(
    backend, rng, monkeypatch
):
    from cola_core.linalg.lazy_function import FunctionAction

    n, runs = 40, []
    M = rng.normal(size=(n, n))
    M = M @ M.T + n * np.eye(n)
    A = cola.PSD(cola.ops.Dense(backend.asarray(M)))
    plain = FunctionAction._run
    monkeypatch.setattr(FunctionAction, "_run", lambda *a: runs.append(1) or plain(*a))
    w, V = np.linalg.eigh(M)
    asked = cola.log(A, cola.Lanczos())
    np.testing.assert_allclose(backend.to_numpy(asked.to_dense()), (V * np.log(w)) @ V.T, atol=1e-6)
    assert runs  # what was asked for is what runs
    runs.clear()
    for L in (asked.replace(chosen=True), asked.replace(chosen=True).H, cola.log(A)):
        np.testing.assert_allclose(backend.to_numpy(L.to_dense()), (V * np.log(w)) @ V.T, atol=1e-10)
    assert not runs
    large = cola.exp(cola.PSD(cola.ops.Dense(backend.asarray(np.eye(1000)))))
    assert not isinstance(large, FunctionAction) or large.chosen

"""What is declared of operators and what follows: upwards, downwards, outwards, and what probes refute."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo import ZOO, installed
from zoo.common import draw, spd, sym

import cola_core as cola
from cola_core import PSD, SelfAdjoint, Stiefel, Unitary, ops
from cola_core.errors import PropertyError
from cola_core.operators import flatten, unflatten

NAMED = (SelfAdjoint, PSD, Stiefel, Unitary)


def holds(prop, M, tol=1e-8):
    """Whether a property is true of a matrix (or of every one of a batch)."""
    H = M.conj().swapaxes(-1, -2)
    size = max(np.abs(M).max(initial=0.0), 1.0)
    if prop in (SelfAdjoint, PSD):
        if M.shape[-1] != M.shape[-2] or np.abs(M - H).max(initial=0.0) > tol * size:
            return False
        return prop is SelfAdjoint or np.linalg.eigvalsh((M + H) / 2).min(initial=0.0) >= -tol * size * len(M)
    if prop is Unitary and M.shape[-1] != M.shape[-2]:
        return False
    return np.abs(H @ M - np.eye(M.shape[-1])).max(initial=0.0) <= tol


def claims(A):
    return {p for p in NAMED if A.isa(p)}


def true_of(A, D, what=""):
    for p in claims(A):
        assert holds(p, D), f"{what or repr(A)} claims to be {p.name}"


def orthogonal(rng, m, n=None, cplx=False):
    return np.linalg.qr(draw(rng, m, m, cplx=cplx))[0][:, : n or m]


# -- declaring -----------------------------------------------------------------------------------------------
def test_declared_by_calling_on_operators_and_arrays(backend, rng):
    a = backend.asarray(spd(rng, 3))
    for A in (PSD(a), PSD(ops.Dense(a))):
        assert isinstance(A, ops.Dense) and claims(A) == {PSD, SelfAdjoint}
    assert PSD(A) is A and SelfAdjoint(A).isa(PSD) and cola.Hermitian is SelfAdjoint
    assert claims(Unitary(a)) == {Unitary, Stiefel}
    assert claims(Stiefel(backend.asarray(rng.normal(size=(4, 2))))) == {Stiefel}
    B = pickle.loads(pickle.dumps(PSD(ops.Dense(np.eye(2)))))
    assert claims(B) == {PSD, SelfAdjoint} and claims(unflatten(type(A), *flatten(A)[::-1])) == claims(A)
    assert claims(PSD(ops.Dense(np.eye(2))).to(dtype="float32")) == {PSD, SelfAdjoint}


def test_what_cannot_be_is_refused():
    for prop in (SelfAdjoint, PSD, Unitary):
        with pytest.raises(PropertyError, match="square"):
            prop(np.ones((3, 2)))
    with pytest.raises(PropertyError, match="as many rows"):
        Stiefel(np.ones((2, 3)))


# -- upwards -------------------------------------------------------------------------------------------------
def test_signs(rng):
    P, U = PSD(spd(rng, 3)), Unitary(np.eye(3)[[1, 2, 0]])
    S = SelfAdjoint(sym(rng, 3))
    table = [
        (-P, {SelfAdjoint}),
        (2 * P, {PSD, SelfAdjoint}),
        (0 * P, {PSD, SelfAdjoint}),
        (1j * S, set()),
        (-1 * U, {Unitary, Stiefel}),
        (2 * U, set()),
        (1j * U, {Unitary, Stiefel}),
        (P - P, {SelfAdjoint}),
        (P + ops.Identity(3), {PSD, SelfAdjoint}),
        (P - ops.Identity(3), {SelfAdjoint}),
        (-2 * PSD(ops.Diagonal(np.ones(3))), {SelfAdjoint}),
        (np.asarray(2.0) * P, {SelfAdjoint}),  # an array's sign is a value, not structure
    ]
    for A, want in table:
        assert claims(A) == want, f"{A!r} claims {claims(A)}"
        true_of(A, A.to_dense())


def test_compositions(rng):
    P, S = PSD(spd(rng, 2)), SelfAdjoint(sym(rng, 2))
    U, V = Unitary(orthogonal(rng, 2)), Stiefel(orthogonal(rng, 3, 2))
    G = ops.Dense(rng.normal(size=(2, 2)))
    K = cola.kron(G, G)
    psd, sa, un, sti = {PSD, SelfAdjoint}, {SelfAdjoint}, {Unitary, Stiefel}, {Stiefel}
    table = [
        (P + S, sa),
        (G + P, set()),
        (U + U, set()),
        (cola.kron(P, P), psd),
        (cola.kron(P, S), sa),
        (cola.kron(-1 * P, -1 * P), psd),
        (cola.kron(U, V), sti),
        (cola.kron(U, U), un),
        (cola.kronsum(P, S), sa),
        (cola.kronsum(U, U), set()),
        (cola.block_diag(P, P, multiplicities=(2, 1)), psd),
        (cola.block_diag(U, V), sti),
        (ops.HadamardProduct(P, P), psd),
        (ops.HadamardProduct(U, U), set()),
        (ops.KhatriRao(V, V), sti),
        (U @ U, un),
        (V @ U, sti),
        (P @ S, set()),
        (P @ P, psd),
        (S @ S, psd),
        (S @ S @ S, sa),
        (P @ P @ P, psd),
        (S @ P @ S, psd),
        (G.H @ G, psd),
        (G.H @ S @ G, sa),
        (V.H @ V, psd),
        (-1 * (G.H @ G), sa),
        (G + G.H, sa),
        (K + K.H, sa),
        (P.T, psd),
        (U.H, un),
        (V.H, set()),
        (ops.Adjoint(U), un),
        (cola.no_dispatch(P), psd),
        (P[:1, :1], psd),
        (U[:, :1], sti),
        (U[:1, :1], set()),
        (cola.kron(U, U)[:, 1:3], sti),
        (ops.LowRank(np.ones((3, 1))), psd),
        (ops.Permutation([1, 0]), un),
        (ops.Zero(3, 3), psd),
        (ops.Zero(3, 2), set()),
        (ops.Block([[P, G], [G.H, P]]), sa),
        (ops.Interpolated(P, np.array([[0], [1], [0]]), np.ones((3, 1))), psd),
    ]
    for A, want in table:
        assert claims(A) == want, f"{A!r} claims {claims(A)}, expected {want}"
        true_of(A, A.to_dense())
        cola.check_properties(A)


def test_outwards(rng):
    P, S, U = PSD(spd(rng, 3)), SelfAdjoint(sym(rng, 3)), Unitary(orthogonal(rng, 3))
    K = cola.kron(P, PSD(spd(rng, 2)))
    table = [
        (cola.inv(P), PSD),
        (cola.inv(S), SelfAdjoint),
        (cola.inv(U), Unitary),
        (cola.inv(K), PSD),
        (cola.exp(S), PSD),
        (cola.exp(P), PSD),
        (cola.sqrt(P), PSD),
        (cola.isqrt(P), PSD),
        (cola.log(P), SelfAdjoint),
        (cola.sqrt(K), PSD),
        (cola.pow(P, 3), PSD),
        (cola.pinv(P), PSD),
        (cola.apply_unary(np.cos, S), SelfAdjoint),
    ]
    for i, (A, want) in enumerate(table):
        assert A.isa(want), f"{i}: {A!r} claims {claims(A)}"
        true_of(A, A.to_dense())
    assert not cola.inv(S).isa(PSD) and not cola.log(P).isa(PSD)


# -- downwards -----------------------------------------------------------------------------------------------
def test_what_a_declared_whole_says_of_its_parts(rng):
    a, b = (ops.Dense(spd(rng, 2)) for _ in range(2))
    assert all(M.isa(PSD) for M in PSD(cola.block_diag(a, b)).Ms)
    assert all(M.isa(Unitary) for M in Unitary(cola.block_diag(a, b)).Ms)
    tall = ops.Dense(rng.normal(size=(3, 2)))
    assert all(M.isa(Stiefel) for M in Stiefel(cola.block_diag(a, tall)).Ms)
    assert not any(M.isa(SelfAdjoint) for M in PSD(ops.BlockDiag(tall, tall.T)).Ms)
    S = PSD(cola.kronsum(a, b))
    assert all(M.isa(SelfAdjoint) and not M.isa(PSD) for M in S.Ms), "a shift may move between the factors"
    complex_sum = SelfAdjoint(cola.kronsum(a.to(dtype="complex128"), b))
    assert not any(M.isa(SelfAdjoint) for M in complex_sum.Ms)
    assert not any(M.isa(SelfAdjoint) for M in PSD(cola.kron(a, b)).Ms), "both factors may be negative"
    assert PSD(ops.Adjoint(a)).A.isa(PSD) and PSD(cola.no_dispatch(a)).A.isa(PSD)
    assert PSD(cola.inv(a)).isa(PSD) and not PSD(cola.inv(a)).A.isa(PSD)
    assert PSD(2.0 * a).Ms[1].isa(PSD)
    below = PSD(-2.0 * a).Ms[1]
    assert below.isa(SelfAdjoint) and not below.isa(PSD)
    B = PSD(ops.Block([[a, tall.T], [tall, ops.Dense(spd(rng, 3))]]))
    assert [M.isa(PSD) for M in B.Ms] == [True, False, False, True]


def test_a_negative_kronecker_pair_is_solved_right(rng):
    a, b = -spd(rng, 2), -spd(rng, 3)
    A, D = PSD(cola.kron(ops.Dense(a), ops.Dense(b))), np.kron(a, b)
    x = rng.normal(size=6)
    np.testing.assert_allclose(cola.solve(A, x), np.linalg.solve(D, x), atol=1e-10)
    np.testing.assert_allclose(cola.logdet(A), np.linalg.slogdet(D)[1], atol=1e-10)


def test_declared_blocks_are_factorised_as_declared(rng):
    a, b = spd(rng, 3), spd(rng, 2)
    A = PSD(cola.block_diag(ops.Dense(a), ops.Dense(b)))
    assert "cholesky" in str(cola.explain(cola.solve, A, np.ones(5)))
    assert "cholesky" in str(cola.explain(cola.logdet, PSD(3.0 * ops.Dense(a))))


# -- random compositions -------------------------------------------------------------------------------------
@st.composite
def leaf(draw_, n):
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    cplx = draw_(st.booleans())
    kind = draw_(
        st.sampled_from("dense psd sa unitary diagonal psd-diagonal scalar permutation lowrank zero".split())
    )
    if kind == "dense":
        a = draw(rng, n, n, cplx=cplx)
        return ops.Dense(a), a
    if kind == "psd":
        a = spd(rng, n, cplx)
        return PSD(a), a
    if kind == "sa":
        a = sym(rng, n, cplx)
        return SelfAdjoint(a), a
    if kind == "unitary":
        a = orthogonal(rng, n, cplx=cplx)
        return Unitary(a), a
    if kind == "diagonal":
        d = draw(rng, n, cplx=cplx)
        return ops.Diagonal(d), np.diag(d)
    if kind == "psd-diagonal":
        d = np.abs(rng.normal(size=n))
        return PSD(ops.Diagonal(d)), np.diag(d)
    if kind == "scalar":
        c = draw_(st.sampled_from([1, -1, 2.0, -0.5, 1j, 0]))
        return ops.ScalarMul(c, n), c * np.eye(n)
    if kind == "permutation":
        p = rng.permutation(n)
        return ops.Permutation(p), np.eye(n)[p]
    if kind == "lowrank":
        u = draw(rng, n, 1, cplx=cplx)
        return ops.LowRank(u), u @ u.conj().T
    return ops.Zero(n, n), np.zeros((n, n))


KINDS = (
    "leaf sum minus product gram congruence power scale kron kronsum block hadamard adjoint transpose conj "
    "slice "
    "columns hidden lazy plus-adjoint inverse exp"
).split()


@st.composite
def expression(draw_, n, depth):
    kind = draw_(st.sampled_from(KINDS)) if depth else "leaf"
    if kind == "leaf":
        return draw_(leaf(n))
    if kind in ("kron", "kronsum") and n == 4:
        (A, a), (B, b) = draw_(expression(2, depth - 1)), draw_(expression(2, depth - 1))
        if kind == "kron":
            return cola.kron(A, B), np.kron(a, b)
        return cola.kronsum(A, B), np.kron(a, np.eye(2)) + np.kron(np.eye(2), b)
    if kind == "block" and n > 1:
        (A, a), (B, b) = draw_(expression(1, depth - 1)), draw_(expression(n - 1, depth - 1))
        return cola.block_diag(A, B), np.block([[a, np.zeros((1, n - 1))], [np.zeros((n - 1, 1)), b]])
    A, a = draw_(expression(n, depth - 1))
    if kind in ("sum", "minus", "product", "congruence", "hadamard"):
        B, b = draw_(expression(n, depth - 1))
        if kind == "congruence":
            return B.H @ A @ B, b.conj().T @ a @ b
        if kind == "hadamard":
            return ops.HadamardProduct(A, B), a * b
        return {"sum": A + B, "minus": A - B, "product": A @ B}[kind], {
            "sum": a + b,
            "minus": a - b,
            "product": a @ b,
        }[kind]
    if kind == "scale":
        c = draw_(st.sampled_from([-1, 2, 0, 1j, -0.5]))
        return c * A, c * a
    simple = {
        "gram": lambda: (A.H @ A, a.conj().T @ a),
        "power": lambda: (A @ A, a @ a),
        "adjoint": lambda: (A.H, a.conj().T),
        "transpose": lambda: (A.T, a.T),
        "conj": lambda: (A.conj(), a.conj()),
        "hidden": lambda: (cola.no_dispatch(A), a),
        "lazy": lambda: (ops.Adjoint(A), a.conj().T),
        "plus-adjoint": lambda: (A + A.H, a + a.conj().T),
    }
    if kind in simple:
        return simple[kind]()
    if kind == "slice":
        order = list(draw_(st.permutations(range(n))))
        index = np.array(order)
        return A[index, index], a[np.ix_(order, order)]
    if kind == "inverse" and np.linalg.cond(a) < 1e6:
        return cola.inv(A), np.linalg.inv(a)
    return A, a


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_claimed_holds_of_the_matrix(data):
    n = data.draw(st.sampled_from([1, 2, 4]))
    A, D = data.draw(expression(n, 4))
    for prop in claims(A):
        assert holds(prop, D), f"{A!r} claims to be {prop.name}"
    again = unflatten(type(A), flatten(A)[1], flatten(A)[0])
    assert claims(again) == claims(A), "a rebuilt operator claims something else"


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
@pytest.mark.parametrize("name", sorted(ZOO))
def test_eager_and_jit_agree(name, rng):
    """Properties never come from values: built under a trace, an operator claims the same."""
    import jax
    import jax.numpy as jnp

    build, _ = ZOO[name](rng, False)
    A = build(jnp.asarray)
    found = []

    def look(B):
        derived = (B, B.H, -2 * B, B + B, B.H @ B)
        found.append([claims(M) for M in derived])
        return 0.0

    look(A)
    jax.eval_shape(look, A)
    eager, traced = found
    assert eager[:2] == traced[:2]
    # a Python number is data under a trace: of products of such numbers less may be known, never more
    assert all(t <= e for e, t in zip(eager, traced, strict=True))


# -- probes --------------------------------------------------------------------------------------------------
def test_probes_find_false_claims(backend, rng):
    f = backend.asarray
    almost = spd(rng, 6) - 5 * np.eye(6)
    almost -= (np.linalg.eigvalsh(almost)[0] + 0.02) * np.eye(6)  # one eigenvalue is -0.02
    bad = [
        SelfAdjoint(f(rng.normal(size=(6, 6)))),
        SelfAdjoint(f(sym(rng, 6, True) * 1j)),
        PSD(f(np.diag([1.0, -1.0, 2.0]))),
        PSD(f(almost)),
        PSD(f(np.stack([np.eye(3), -np.eye(3)]))),
        Unitary(f(2 * np.eye(3))),
        Stiefel(f(rng.normal(size=(5, 2)))),
        SelfAdjoint(ops.Dense(f(np.array([[0.0, 1e-9], [0.0, 1e-9]])))),
    ]
    for A in bad:
        with pytest.raises(PropertyError, match="Remove the declaration or repair"):
            cola.check_properties(A)


def test_probes_need_no_adjoint_and_no_dense_matrix():
    calls = []

    def scale(d):
        def matvec(x):
            calls.append(1)
            return d * x

        return ops.FunctionOperator(matvec, (10_000, 10_000))

    d = np.ones(10_000)
    cola.check_properties(PSD(scale(d)))
    cola.check_properties(Unitary(scale(d)))
    assert len(calls) < 50
    shifted = ops.FunctionOperator(lambda x: np.roll(x, 1), (50, 50))
    cola.check_properties(Unitary(shifted))
    with pytest.raises(PropertyError, match="SelfAdjoint"):
        cola.check_properties(SelfAdjoint(shifted))
    d[7] = np.nan
    with pytest.raises(PropertyError):
        cola.check_properties(PSD(scale(d)))


def test_true_claims_pass_at_every_size_and_precision(backend, dtype, rng):
    cplx = "complex" in dtype
    for n in (1, 2, 30):
        P, U = spd(rng, n, cplx).astype(dtype), orthogonal(rng, n, cplx=cplx).astype(dtype)
        f = backend.asarray
        for A in (
            PSD(f(P)),
            Unitary(f(U)),
            Stiefel(f(U[:, : (n + 1) // 2])),
            PSD(1e-12 * f(P)),
            PSD(f(0 * P)),
        ):
            cola.check_properties(A)
    cola.check_properties(PSD(np.zeros((0, 0))))

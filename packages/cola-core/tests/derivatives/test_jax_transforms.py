"""JAX transformations over questions and solves: jit, vmap, grad, hessian, checkpoint, loops, donation; one
compilation for all values, small programs."""

import numpy as np
import pytest

import cola_core as cola

jax = pytest.importorskip("jax")
jnp = jax.numpy
pytestmark = pytest.mark.filterwarnings("ignore")

N = 4
Dense, Diagonal, PSD = cola.ops.Dense, cola.ops.Diagonal, cola.PSD


@pytest.fixture(autouse=True)
def double():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    M = rng.standard_normal((N, N))
    return tuple(jnp.asarray(x) for x in (M, M @ M.T + N * np.eye(N), rng.standard_normal(N)))


def by_cg(S, b):
    return jnp.sum(cola.solve(PSD(Dense(S)), b, cola.CG(tol=1e-12)) ** 2)


def by_hand(S, b):
    return jnp.sum(jnp.linalg.solve(S, b) ** 2)


def counting(f):
    """f compiled, and a list that grows by one whenever it is traced."""
    traces = []

    def noted(*args):
        traces.append(1)
        return f(*args)

    return jax.jit(noted), traces


def test_one_compilation_serves_all_values(arrays):
    M, S, b = arrays
    slope, traces = counting(jax.value_and_grad(by_cg))
    for s in (1.0, 2.0, 3.0):
        value, g = slope(s * S, b)
        assert np.allclose(value, by_hand(s * S, b))
        assert np.allclose(np.trace(g), np.trace(jax.grad(by_hand)(s * S, b)))
    assert len(traces) == 1
    solve, traces = counting(cola.solve)
    for s in (1.0, 2.0):
        A = cola.kron(Dense(s * M), Diagonal(jnp.abs(b) + 1))
        assert np.allclose(solve(A, jnp.ones(N * N)), jnp.linalg.solve(A.to_dense(), jnp.ones(N * N)))
    assert len(traces) == 1


def test_compositions_of_transformations(arrays):
    _, S, b = arrays
    many = jnp.stack([S, 2 * S])
    wanted = jax.vmap(jax.grad(by_hand, 1), (0, None))(many, b)
    assert np.allclose(jax.vmap(jax.grad(by_cg, 1), (0, None))(many, b), wanted)
    total = lambda b: jnp.sum(jax.vmap(by_cg, (0, None))(many, b))  # noqa: E731
    assert np.allclose(jax.grad(total)(b), jnp.sum(wanted, axis=0))
    assert np.allclose(jax.jit(jax.hessian(by_cg, 1))(S, b), jax.hessian(by_hand, 1)(S, b))
    logdet = lambda S: cola.logdet(PSD(Dense(S)))  # noqa: E731
    assert np.allclose(jax.jacfwd(logdet)(S), jax.jacrev(logdet)(S))
    assert np.allclose(jax.linearize(logdet, S)[1](S), N)


def test_checkpoint_keeps_the_gradient(arrays):
    _, S, b = arrays
    assert np.allclose(jax.grad(jax.checkpoint(by_cg))(S, b), jax.grad(by_cg)(S, b))


def test_questions_inside_of_loops(arrays):
    _, S, b = arrays

    def chain(S, solve, logdet):
        return jnp.sum(jax.lax.scan(lambda x, _: (solve(S, x), logdet(S) * x), b, None, length=3)[1])

    ours = lambda S: chain(  # noqa: E731
        S, lambda S, x: cola.solve(PSD(Dense(S)), x, cola.CG(tol=1e-12)), lambda S: cola.logdet(PSD(Dense(S)))
    )
    theirs = lambda S: chain(S, jnp.linalg.solve, lambda S: jnp.linalg.slogdet(S)[1])  # noqa: E731
    sym = lambda f: lambda S: f((S + S.T) / 2)  # noqa: E731
    assert np.allclose(jax.grad(sym(ours))(S), jax.grad(sym(theirs))(S))
    which = jax.jit(
        lambda S, x: jax.lax.cond(x > 0, lambda S: cola.logdet(Dense(S)), lambda S: cola.trace(Dense(S)), S)
    )
    assert np.allclose(which(S, 1.0), jnp.linalg.slogdet(S)[1]) and np.allclose(which(S, -1.0), jnp.trace(S))
    small = jax.lax.while_loop(lambda x: jnp.sum(x**2) > 1e-3, lambda x: cola.solve(Dense(S), x), jnp.ones(N))
    assert float(jnp.sum(small**2)) <= 1e-3
    halved = jax.lax.fori_loop(0, 3, lambda i, A: A.replace(array=A.array / 2), Dense(S))
    assert np.allclose(halved.array, S / 8)


def test_donated_buffers(arrays):
    _, S, b = arrays
    solve = jax.jit(lambda A, b: cola.solve(A, b), donate_argnums=(0, 1))
    for _ in range(2):  # nothing is kept that a later call would find deleted
        assert np.allclose(solve(PSD(Dense(S + 0)), b + 0), jnp.linalg.solve(S, b))


def test_programs_are_small(arrays):
    """Dispatch leaves no trace of itself: a direct answer is a few operations, an iteration a loop."""
    _, S, b = arrays
    size = lambda f, *args: len(jax.make_jaxpr(f)(*args).jaxpr.eqns)  # noqa: E731
    assert size(lambda S, b: cola.solve(Dense(S), b), S, b) <= 10
    assert size(lambda S: cola.logdet(PSD(Dense(S))), S) <= 20
    assert size(by_cg, S, b) == size(by_cg, jnp.eye(40) + 0, jnp.ones(40)) <= 300

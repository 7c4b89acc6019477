"""Operators spread over four and eight forced devices, on automatic and on explicit mesh axes, of sizes that
come out even and that do not: products and adjoint products equal those of one device, vectors lie as they
did, gradients lie like their arrays, and no more is sent and kept than is promised."""

import subprocess
import sys
import textwrap

import pytest
from cpu_devices import environment

pytest.importorskip("jax")

SETUP = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import cola_core as cola
from cola_core import ops
from cola_gpu.sharding import *
from cola_gpu.sharding import placing

jax.config.update("jax_enable_x64", True)
devices, kind = int(sys.argv[1]), AxisType[sys.argv[2]]
assert len(jax.devices()) == devices
rng = np.random.default_rng(devices)
line = jax.make_mesh((devices,), ("i",), axis_types=(kind,))
grid = jax.make_mesh((2, devices // 2), ("i", "j"), axis_types=(kind,) * 2)


def rbf(a, b, width):
    return jnp.exp(-0.5 * jnp.sum((a[:, None] - b[None]) ** 2, -1) / width**2)


def normal(*shape):
    return jnp.asarray(rng.standard_normal(shape))


def kernel(n, columns=None, blocks=None):
    other = None if columns is None else normal(columns, 2)
    return ops.Kernel(normal(n, 2), other, rbf, blocks, blocks, params=jnp.asarray(1.3))


def sparse(m, n, factor=1.0):
    keep = rng.random((m, n)) < 0.2
    keep[0, 0] = True
    rows, cols = np.nonzero(keep)
    return ops.Sparse(factor * normal(rows.size), rows, cols, (m, n))
"""

# for each operator: collective operations of A @ X and of A.H @ X, by first letters, where all sizes come out
# even; G all-gather, R all-reduce, S reduce-scatter, P collective-permute
PRODUCTS = """
names = {"G": "all-gather", "R": "all-reduce", "S": "reduce-scatter", "P": "collective-permute"}
count = lambda letters: {names[c]: letters.count(c) for c in letters}
p = devices
n = 16 * p
ring = "PP" * (p - 1)
even = {
    "dense": (ops.Dense(normal(n, n)), "G", "S"),
    "complex": (ops.Dense(normal(n, n) + 1j * normal(n, n)), "G", "S"),
    "columns": (ops.Dense(normal(5, n)), "R", ""),
    "kernel": (kernel(n), ring, ring),
    "blocked": (kernel(n, n // 2, 8), ring, ring),
    "inducing": (kernel(n, 7), "", "R"),
    "sparse": (sparse(n, n // 2), "G", "S"),
    "diagonal": (ops.Diagonal(normal(n)), "", ""),
    "low rank": (ops.LowRank(normal(n, 3), normal(n, 3)), "R", "R"),
    "blocks": (ops.BlockDiag(*[ops.Dense(normal(3, 4)) for _ in range(2 * p)]), "", ""),
    "mixed": (
        ops.BlockDiag(ops.Dense(normal(n, n)), ops.Diagonal(normal(p)), multiplicities=(1, 2)),
        "GGGGGP",
        "GGGGSP",
    ),
    "sum": (ops.Dense(normal(n, n)) + ops.Diagonal(normal(n)) + 2 * ops.Identity(n), "G", "S"),
    "product": (ops.Product(ops.Dense(normal(n, n)), ops.Diagonal(normal(n))), "G", "S"),
}
n += 1 + p % 3
odd = {
    "dense": (ops.Dense(normal(n, n)), "G", "R"),
    "kernel": (kernel(n, blocks=8), ring + "G", ring + "G"),
    "inducing": (kernel(n, 7), "G", "R"),
    "sparse": (sparse(n, n, 1 + 2j), "G", "R"),
    "low rank": (ops.LowRank(normal(n, 3)), "", ""),
    "blocks": (ops.BlockDiag(*[ops.Dense(normal(4, 4)) for _ in range(p + 1)]), None, None),
    "triangular": (ops.Triangular(normal(n, n)), "", ""),
    "sum": (ops.Dense(normal(n, n)) + ops.Diagonal(normal(n)), "G", "R"),
}
chosen = sys.argv[3].split(",")
for sizes, cases in (("even", even), ("odd", odd)):
    for name, (A, forward, backward) in cases.items():
        if name not in chosen and "all" not in chosen:
            continue
        mesh, axis = (line, None) if p == 4 else (grid, None if sizes == "even" else "i")
        S = shard(A, mesh, axis)
        assert S.shape == A.shape and S.dtype == A.dtype and S.declared == A.declared, name
        try:
            facts = check_sharded(S, mesh, axis=axis, reference=A, gradients=name != "blocked")
        except ShardingError as error:
            raise AssertionError((sizes, name)) from error
        if forward is not None and axis is None:
            found = facts["A @ X"].collectives, facts["A.H @ X"].collectives
            for one, bound in zip(found, map(count, (forward, backward))):
                assert all(one[k] <= bound.get(k, 0) for k in one), (sizes, name, found)
        for leaf in shard_report(S).leaves:
            assert leaf.path and (not leaf.replicated or leaf.reason), (name, leaf)
"""

BOUNDS = """
# a device takes its share of the matrix, and a product keeps no more than vectors
n = 64 * devices
A = ops.Dense(normal(n, n))
S = shard(A, line)
vectors = 2 * 3 * 8 * n
share = 8 * n * n // devices
bounds = dict(reference=A, max_collectives=1, max_temp_bytes=vectors, max_bytes_per_device=share)
check_sharded(S, line, **bounds)
K = kernel(n, blocks=16)
points = 8 * (2 * n // devices + 1)
check_sharded(
    shard(K, line), line, reference=K, max_temp_bytes=vectors + 8 * 16 * 16 * 8, max_bytes_per_device=points
)


@ops.operator
class Gathered(RowBlockDense):
    # a mutant: right, and the result lies in rows, but every device receives the whole matrix
    def _on_devices(self, X, adjoint):
        whole = placing.laid(self.array, self.mesh, self.axes, P(None, None))
        Y = (whole.T if adjoint else whole) @ placing.whole(X, self.mesh, self.axes)
        return placing.laid(Y, self.mesh, self.axes, placing.row_spec(2, self.axes))


@ops.operator
class Copied(ops.Dense):
    # another: every device has the whole matrix to begin with
    pass


def rejected(words, mutant, **bounds):
    try:
        check_sharded(mutant, line, reference=A, **bounds)
    except ShardingError as error:
        assert words in str(error), error
    else:
        raise AssertionError(f"{mutant!r} passed: {words}")


mutant = Gathered(S.array, line, ("i",))
rejected("gathers what is spread", mutant)
rejected("temporary bytes", mutant, max_message_bytes=8 * n * n, max_temp_bytes=vectors)
rejected("collective operations", mutant, max_message_bytes=8 * n * n, max_collectives=0)
copied = shard(Copied(A.array), line, specs={"array": P()})
assert type(copied) is Copied
rejected("bytes of each device", copied, max_bytes_per_device=share)
wrong = shard(ops.Dense(A.array.at[0, 0].add(1e-9)), line)
rejected("differs from one device", wrong)
"""


DERIVATIVES = """
# every mode against one device: forward, second order both ways, vmap, and products of what is made of them
n = 4 * devices
cases = {
    "dense": ops.Dense(normal(n, n)),
    "kernel": kernel(n, blocks=8),
    "odd kernel": kernel(n + 1),
    "blocks": ops.BlockDiag(*[ops.Dense(normal(4, 4)) for _ in range(devices)]),
}


def loss(A, x):
    return jnp.sum(jnp.sin(A @ x))


for name, A in cases.items():
    S = shard(A, line)
    x, v = (jnp.asarray(rng.standard_normal(A.shape[-1])) for _ in range(2))
    lies = shard_vector(x, line)
    along = lambda T: jax.tree.map(lambda t: 0.3 + 0.0 * t, T)  # noqa: E731
    of_x = lambda A, x: jax.jvp(jax.grad(loss, 1), (A, x), (along(A), 0.5 + 0.0 * x))[1]
    twice = lambda A, x: jax.grad(lambda x: jnp.sum(jnp.cos(jax.grad(loss, 1)(A, x))))(x)
    for what in (of_x, twice):
        found, wanted = jax.jit(what)(S, lies), what(A, x)
        assert np.allclose(np.asarray(found), np.asarray(wanted), atol=1e-9), (name, what)
        assert found.sharding.is_equivalent_to(lies.sharding, 1), (name, found.sharding)
    X = np.asarray(rng.standard_normal((3, A.shape[-1])))
    found = jax.jit(jax.vmap(lambda x: S @ x))(X)
    assert np.allclose(np.asarray(found), X @ np.asarray(A.to_dense()).T, atol=1e-10), name
    # the layout survives what is done to an operator
    T = jax.jit(lambda A: A)(2 * S if name == "dense" else S)
    assert type(T) is type(2 * S if name == "dense" else S)
    back = S.to(backend="numpy") if name == "dense" else S
    assert np.allclose(np.asarray(back.to_dense()), np.asarray(A.to_dense()))
    if name == "odd kernel":
        for k in (0, 1, -2):
            assert np.allclose(np.asarray(cola.diag(S, k)), np.diag(np.asarray(A.to_dense()), k)), k
        assert np.isclose(float(cola.trace(S)), n + 1)
        assert np.allclose(np.asarray(S[2:5, 1:4].to_dense()), np.asarray(A[2:5, 1:4].to_dense()))
    if name == "dense":
        assert type(S.replace(declared=frozenset())) is type(S.H) is type(S.T) is RowBlockDense
        assert type(S + S) is RowBlockDense and type(shard(S, grid)) is RowBlockDense
        assert np.allclose(np.asarray(cola.diag(S)), np.diag(np.asarray(A.array)))
        # columns that are spread over the other axis of a mesh stay there
        part = shard(A, grid, axis="i")
        X = jax.device_put(normal(n, devices), NamedSharding(grid, P("i", "j")))
        Y = jax.jit(lambda A, X: A @ X)(part, X)
        assert np.allclose(np.asarray(Y), np.asarray(A.array) @ np.asarray(X))
        assert Y.sharding.is_equivalent_to(X.sharding, 2), Y.sharding

# a sparse matrix: zeros that were added get no gradient, rows stay where they are in iterations
A = sparse(n + 2, n + 2)
S = shard(A, line)
assert 2 * S.nnz > S.nnz >= A.nnz and int(np.sum(np.asarray(S.given))) == A.nnz
slope = jax.jit(jax.grad(lambda S: loss(S, jnp.ones(n + 2)), allow_int=True))(S).data
assert not np.any(np.asarray(slope)[~np.asarray(S.given)])
assert np.allclose(np.asarray(S.to_dense()), np.asarray(A.to_dense()))
assert np.allclose(S.to_scipy().toarray(), np.asarray(A.to_dense()))
again = shard(S, line)
assert np.array_equal(np.asarray(again.data), np.asarray(S.data))

# questions about stacks of blocks
from cola_core.plugins import Registrar
from cola_gpu.sharding.stack import RULES
blocks = rng.standard_normal((2 * devices, 3, 3)) + 4 * np.eye(3)
A = ops.BlockDiag(*[ops.Dense(jnp.asarray(b)) for b in blocks])
S = shard(A, line)
assert type(S) is SpreadBlockStack
b = shard_vector(rng.standard_normal(A.shape[-1]), line)
assert np.allclose(np.asarray(cola.solve(S, b)), np.linalg.solve(np.asarray(A.to_dense()), np.asarray(b)))
assert np.isclose(float(cola.trace(S)), np.trace(blocks.sum(0)))
assert np.isclose(float(cola.logdet(S)), np.linalg.slogdet(blocks)[1].sum())
assert np.allclose(np.asarray(cola.diag(S)), np.concatenate([np.diag(b) for b in blocks]))

# what is refused
for wrong, error in (
    (lambda: shard(ops.Dense(np.eye(4)), line), "backend='jax'"),
    (lambda: shard(jnp.eye(4), line), "shard_vector"),
    (lambda: shard(A, line, axis="k"), "axes of the mesh"),
    (lambda: shard(A, line, specs={"array": P()}), "specs names"),
    (lambda: shard(A, "i"), "jax.make_mesh"),
    (lambda: jax.jit(lambda A: shard(A, line) @ b)(A), "outside of jax.jit"),
    (lambda: shard_vector(1.0, line), "a number"),
):
    try:
        wrong()
    except Exception as e:
        assert error in str(e), e
    else:
        raise AssertionError(error)
"""


def run(devices, kind, program, *words):
    env = environment(devices)
    program = textwrap.dedent(SETUP) + textwrap.dedent(program)
    command = [sys.executable, "-W", "ignore", "-c", program, str(devices), kind, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_products_on_four_devices(kind):
    run(4, kind, PRODUCTS, "all" if kind == "Auto" else "dense,kernel,inducing,sparse,blocks,mixed,sum")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_products_on_a_grid_of_eight_devices(kind):
    run(8, kind, PRODUCTS, "dense,sparse,blocks" if kind == "Auto" else "dense,inducing,sum")


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_memory_and_mutants(kind):
    run(4, kind, BOUNDS)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_derivatives_and_structure(kind):
    run(4, kind, DERIVATIVES)

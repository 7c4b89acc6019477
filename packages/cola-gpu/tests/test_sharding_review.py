"""What a seeded comparison of random compositions with one device has found: positions beyond 32 bits, mesh
axes named in another order than the mesh's, compiled solves with kernels over a mesh."""

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
from cola_core import PSD, ops
from cola_gpu.sharding import Stencil, shard, shard_vector

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
kind = AxisType[sys.argv[1]]
rng = np.random.default_rng(5)
grid = jax.make_mesh((2, 4), ("i", "j"), axis_types=(kind,) * 2)
line = jax.make_mesh((4,), ("i",), axis_types=(kind,), devices=jax.devices()[:4])
like = lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
"""

PROGRAM = """
# mesh axes in another order than the mesh's
backwards = ("j", "i")
for A in (
    Stencil(jnp.asarray([-1.0, 2.5, 0.5]), (-1, 0, 2), 24),
    Stencil(jnp.asarray(rng.standard_normal((3, 21))), (-3, 0, 2), 21, "periodic"),
    ops.Toeplitz(jnp.arange(24.0), jnp.arange(24.0) ** 2),
    ops.Kernel(jnp.asarray(rng.standard_normal((24, 2))), None, lambda a, b: jnp.exp(a @ b.T)),
    ops.Sparse(jnp.arange(1.0, 25.0), np.arange(24), (np.arange(24) * 5) % 24, (24, 24)),
):
    x = rng.standard_normal(A.shape[-1])
    lies = shard_vector(x, grid, backwards)
    y = shard(A, grid, backwards) @ lies
    assert np.allclose(y, A.to_dense() @ x, rtol=1e-10), A
    assert like(y, lies), (A, y.sharding)

# positions in a sparse matrix that 32 bits do not count
n = 60000
rows, cols = np.arange(n, dtype=np.int32), ((7919 * np.arange(n)) % n).astype(np.int32)
x, data = rng.standard_normal((2, n))
A = ops.Sparse(jnp.asarray(data), jnp.asarray(rows), jnp.asarray(cols), (n, n))
assert np.allclose(shard(A, line) @ shard_vector(x, line), data * x[cols])

# of a mesh some axes, a size that does not come out even, and no program around it
A = ops.Kernel(jnp.asarray(rng.standard_normal((21, 2))), None, lambda a, b: jnp.exp(a @ b.T))
assert np.allclose(shard(A, grid, "j").to_dense(), A.to_dense())

# compiled solves transpose the product, also of a kernel whose points travel
def rbf(a, b, width):
    return jnp.exp(-0.5 * jnp.sum((a[:, None] - b[None]) ** 2, -1) / width**2)

n = 16
points = jnp.asarray(rng.standard_normal((n, 2)))
b = rng.standard_normal(n)
solve = lambda A, b: cola.solve(A, b, cola.CG(tol=1e-12))
for block in (None, 2):
    A = PSD(ops.Kernel(points, None, rbf, block, block, params=jnp.asarray(0.7))) + ops.Identity(n)
    S, lies = shard(A, line), shard_vector(b, line)
    x = jax.jit(solve)(S, lies)
    assert np.allclose(x, np.linalg.solve(A.to_dense(), b), rtol=1e-9) and like(x, lies)
loss = lambda A, b: jnp.sum(solve(A, b) ** 2)
found, wanted = jax.jit(jax.grad(loss, (0, 1)))(S, lies), jax.jit(jax.grad(loss, (0, 1)))(A, jnp.asarray(b))
for g, h, x in zip(*map(jax.tree.leaves, (found, wanted, (S, lies))), strict=True):
    assert np.allclose(g, h, rtol=1e-7) and (like(g, x) or not x.ndim), (g.sharding, x.sharding)
"""


def run(program, kind):
    env = environment(8)
    command = [sys.executable, "-W", "ignore", "-c", SETUP + textwrap.dedent(program), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_answers_of_one_device(kind):
    run(PROGRAM, kind)


PLACES = """
# laid again over other devices, brought back, written and read
import os, tempfile
other = jax.make_mesh((8,), ("k",), axis_types=(kind,))
def definite(n):
    B = rng.standard_normal((n, n))
    return PSD(ops.Dense(jnp.asarray(B @ B.T / n + np.eye(n))))

n = 24
rbf = lambda a, b: jnp.exp(-jnp.sum((a[:, None] - b[None]) ** 2, -1))
points = lambda n: jnp.asarray(rng.standard_normal((n, 2)))
cases = [
    definite(n + 1), ops.Kernel(points(25), None, rbf) + ops.Diagonal(jnp.ones(25)),
    ops.Kronecker(definite(4), definite(6)), ops.Toeplitz(jnp.arange(n * 1.0)),
    ops.Sparse(jnp.arange(1.0, n), np.arange(n - 1), np.arange(n - 1), (n, n)),
    Stencil(jnp.asarray([-1.0, 2.5, -1.0]), (-1, 0, 1), n), ops.BlockDiag(definite(4), definite(20)),
    ops.Permutation(jnp.asarray(rng.permutation(n))), definite(n + 2)[1 : n + 1, 2 : n + 2],
]
for A in cases:
    M, x = np.asarray(A.to_dense()), rng.standard_normal(A.shape[-1])
    S = shard(A, line)
    y, lies = shard(S, other) @ shard_vector(x, other), shard_vector(M @ x, other)
    assert np.allclose(y, M @ x) and like(y, lies), (A, y.sharding)
    back = S.to(device=jax.devices()[0])
    assert "Spread" not in repr(back) and "RowBlock" not in repr(back) and "Ring" not in repr(back), back
    assert back.declared == A.declared and np.allclose(back @ jnp.asarray(x), M @ x), A
    if "Kernel" not in repr(A):
        with tempfile.TemporaryDirectory() as folder:
            cola.save(S, os.path.join(folder, "A.cola"))
            assert np.allclose(cola.load(os.path.join(folder, "A.cola")) @ jnp.asarray(x), M @ x)

# a kernel made of points that are spread already
K = ops.Kernel(jax.device_put(points(n), NamedSharding(line, P("i", None))), None, rbf)
x = rng.standard_normal(n)
y = shard(K, line) @ shard_vector(x, line)
assert np.allclose(y, np.asarray(rbf(*[jnp.asarray(np.asarray(K.x1))] * 2)) @ x)

if kind is AxisType.Auto:  # the next two compile hundreds of small programs; explicit axes refuse more
    sys.exit()

# stochastic estimates of equal blocks
A = ops.BlockDiag(*[definite(2) for _ in range(8)])
found = cola.logdet(shard(A, line), cola.SLQ(tol=1e-3))
assert abs(found - np.linalg.slogdet(np.asarray(A.to_dense()))[1]) < 0.1 * abs(found)

# randomized singular values of a Kronecker product
A = ops.Kronecker(definite(4), definite(6))
found = cola.svd(shard(A, line), 3, alg=cola.RandomizedSVD(tol=1e-8, max_iters=60))[1].diag
assert np.allclose(found, np.linalg.svd(np.asarray(A.to_dense()))[1][:3], rtol=1e-6)
"""

GRADIENTS = """
# answers of dense factorisations, and all gradients, lie like what they belong to
def definite(n):
    B = rng.standard_normal((n, n))
    return PSD(ops.Dense(jnp.asarray(B @ B.T / n + np.eye(n))))

n = 16
rbf = lambda a, b: jnp.exp(-jnp.sum((a[:, None] - b[None]) ** 2, -1))
points = lambda n: jnp.asarray(rng.standard_normal((n, 2)))
cholesky = lambda A, b: cola.solve(A, b, cola.Cholesky())
columns = lambda A, b: cola.solve(A, jnp.stack([b, b * b], -1))
logdet = lambda A, b: cola.logdet(A)
trace = lambda A, b: cola.trace(A)
cg = lambda A, b: cola.solve(A, b, cola.CG(tol=1e-12))
dense, odd = definite(n), definite(n + 1)
kernel = PSD(ops.Kernel(points(n), None, rbf)) + ops.Identity(n)
few = PSD(ops.Kernel(points(4), None, rbf)) + ops.Identity(4)
band = PSD(ops.Banded(jnp.asarray(np.c_[-np.ones(n), 3 * np.ones(n), -np.ones(n)].T), (1, 1)))
for A, questions in (
    (dense, (columns, logdet)), (odd, (cholesky,)), (kernel, (cholesky,)), (few, (cg,)), (band, (trace,)),
    (PSD(ops.Kronecker(definite(2), definite(8))), (logdet,)), (dense[0:8, 0:8], (cg,)),
):
    b = rng.standard_normal(A.shape[-1])
    S, lies = shard(A, line), shard_vector(b, line)
    for f in questions:
        y, wanted = jax.jit(f)(S, lies), f(A, jnp.asarray(b))
        what = A, f.__code__.co_names, y.sharding
        assert np.allclose(y, wanted, rtol=1e-8), what
        assert y.ndim != 1 or like(y, lies), what
        assert y.ndim != 2 or y.sharding.spec[:1] == lies.sharding.spec[:1], what
        loss = lambda A, b: jnp.sum(f(A, b) ** 2)
        found = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(S, lies)
        expected = jax.jit(jax.grad(loss, (0, 1), allow_int=True))(A, jnp.asarray(b))
        assert np.allclose(found[1], expected[1], rtol=1e-6), what
        for g, x in zip(*map(jax.tree.leaves, (found, (S, lies))), strict=True):
            moves = getattr(x, "ndim", 0) and x.dtype.kind == "f" and np.any(np.asarray(g))
            assert not moves or like(g, x), (what, g.sharding, x.sharding)
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_other_places(kind):
    run(PLACES, kind)


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_gradients_lie_like_their_arrays(kind):
    run(GRADIENTS, kind)

"""What a seeded comparison of random compositions with one device has found: positions beyond 32 bits, mesh
axes named in another order than the mesh's, compiled solves with kernels over a mesh."""

import os
import subprocess
import sys
import textwrap

import pytest

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
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "ignore", "-c", SETUP + textwrap.dedent(program), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_answers_of_one_device(kind):
    run(PROGRAM, kind)

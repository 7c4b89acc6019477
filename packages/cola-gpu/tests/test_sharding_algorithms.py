"""Algorithms of the core, unchanged, on operators spread over forced devices: the answers and gradients of
one device, laid out like what they are made of, with few messages in a loop."""

import subprocess
import sys
import textwrap

import pytest
from cpu_devices import environment

pytest.importorskip("jax")

PROGRAM = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType
import cola_core as cola
from cola_core import PSD, ops
from cola_gpu.sharding import Stencil, program_facts, shard, shard_vector

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
kind, devices = AxisType[sys.argv[1]], len(jax.devices())
mesh = jax.make_mesh((devices,), ("i",), axis_types=(kind,))
rng = np.random.default_rng(0)
n = 20 * devices
gram = lambda B: B @ B.T / len(B) + np.eye(len(B))
definite = lambda n: PSD(ops.Dense(jnp.asarray(gram(rng.standard_normal((n, n))))))
kron = lambda: PSD(ops.Kronecker(definite(2 * devices), definite(10)))
column = np.exp(-np.arange(float(n)))
column[0] = 3
tall = jnp.asarray(rng.standard_normal((n, 3)))
cases = {
    "stencil": PSD(Stencil(jnp.asarray([-1.0, 2.5, -1.0]), (-1, 0, 1), n)),
    "odd": PSD(Stencil(jnp.asarray([-1.0, 2.5, -1.0]), (-1, 0, 1), n + 3)),
    "kron": kron(),
    "toeplitz": PSD(ops.Toeplitz(jnp.asarray(column))),
    "woodbury": ops.Sum(PSD(ops.LowRank(tall)), PSD(ops.Diagonal(jnp.asarray(rng.uniform(1, 2, n))))),
    "shifted": kron() + 0.5 * ops.Identity(n),
}
CG, block = cola.CG(tol=1e-12), cola.BlockCG(tol=1e-12)
solve_cg = lambda A, b: cola.solve(A, b, CG)
solve_block = lambda A, b: cola.solve(A, b, block)
solve = lambda A, b: cola.solve(A, b)
logdet = lambda A, b: cola.logdet(A)
largest = lambda A, b: cola.eigmax(A, cola.Lanczos(tol=1e-10))
times_log = lambda A, b: cola.log(A, cola.Lanczos(tol=1e-10, max_iters=40)) @ b
slq = lambda A, b: cola.logdet(A, cola.SLQ())
sketch = lambda A, b: cola.svd(A, 3, alg=cola.RandomizedSVD(tol=1e-8, max_iters=60))[1].diag
vector, block_of = rng.standard_normal(n + 3), rng.standard_normal((n + 3, 2))
wanted = {
    solve_cg: lambda M, b: np.linalg.solve(M, b), solve: lambda M, b: np.linalg.solve(M, b),
    solve_block: lambda M, b: np.linalg.solve(M, b), logdet: lambda M, b: np.linalg.slogdet(M)[1],
    largest: lambda M, b: np.linalg.eigvalsh(M)[-1], sketch: lambda M, b: np.linalg.eigvalsh(M)[:-4:-1],
    times_log: lambda M, b: (lambda w, V: V @ (np.log(w) * (V.T @ b)))(*np.linalg.eigh(M)),
}
# question, operator, right-hand side, messages of the program by kind (a loop's body is there once)
permute, exchange = {"collective-permute": 2}, {"all-to-all": 2}
runs = [
    (solve_cg, "stencil", vector, {**permute, "all-reduce": 7}),
    (solve_cg, "toeplitz", vector, {"all-to-all": 6, "all-reduce": 7}),
    (solve_block, "stencil", block_of, None),
    (times_log, "stencil", vector, {"collective-permute": 4, "all-reduce": 12}),  # two loops
    (largest, "stencil", None, {**permute, "all-reduce": 16}),
    (slq, "stencil", None, {**permute, "all-reduce": 4}),
    (sketch, "woodbury", None, None),
    (solve_cg, "odd", vector, None),
    (solve, "kron", vector, {"all-to-all": 2}),
    (solve_cg, "kron", vector, None),
    (logdet, "kron", None, {}),
    (solve_cg, "shifted", vector, {"all-to-all": 2, "all-reduce": 7}),
    (solve, "shifted", vector, {"all-to-all": 4}),
    (solve, "woodbury", vector, {"all-reduce": 1}),
    (logdet, "woodbury", None, {"all-reduce": 1}),
]
like = lambda x, y: x.sharding.is_equivalent_to(y.sharding, x.ndim)
graded = [(solve_cg, "toeplitz"), (solve, "kron"), (logdet, "kron"), (solve, "woodbury"),
          (solve_cg, "stencil")]
def check(f, name, b, bounds):
    A = cases[name]
    S, b = shard(A, mesh), np.zeros(n + 3) if b is None else b
    b = b[: A.shape[0]]
    lies = shard_vector(b, mesh)
    y = jax.jit(f)(S, lies)
    what = (kind.name, name, [k for k, v in globals().items() if v is f])
    if f is slq:
        assert np.allclose(y, jax.jit(f)(A, jnp.asarray(b)), rtol=1e-8), what
    else:
        assert np.allclose(y, wanted[f](np.asarray(A.to_dense()), b), rtol=1e-6, atol=1e-8), what
    if y.shape == b.shape:
        assert like(y, lies), (what, y.sharding)
    if bounds is not None:
        facts = program_facts(f, S, lies)
        assert all(count <= bounds.get(k, 0) for k, count in facts.collectives.items()), (what, facts)
        if f is solve_cg:
            assert facts.temp_bytes <= 8 * n * 10, (what, facts)
    if (f, name) in graded:
        loss = lambda S, b: jnp.sum(f(S, b) ** 2)
        found = jax.jit(jax.grad(loss, (0, 1)))(S, lies)
        expected = jax.jit(jax.grad(loss, (0, 1)))(A, jnp.asarray(b))
        for g, h, x in zip(*map(jax.tree.leaves, (found, expected, (S, lies))), strict=True):
            assert np.allclose(g, h, rtol=1e-5, atol=1e-8), what
            assert like(g, x) or not np.any(h) or kind is AxisType.Auto, (what, g.sharding, x.sharding)
        if name == "woodbury" and f is solve:
            push = lambda b: jax.jvp(lambda b: f(S, b), (b,), (b,))[1]
            assert np.allclose(jax.jit(push)(lies), y, rtol=1e-6)

import traceback
failed = []
for run in runs:
    try:
        check(*run)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[1].lineno
        name = [k for k, v in globals().items() if v is run[0]]
        failed.append(f"{name} {run[1]} line {where}: {error!r:.600}")
assert not failed, chr(10).join(failed)
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_algorithms(kind):
    env = environment(4)
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]

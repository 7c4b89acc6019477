"""Operators spread over four and eight forced devices, on automatic and on explicit mesh axes: products equal
those of one device, and vectors lie as they did."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("jax")

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType
from cola_core import ops
from cola_gpu.sharding import shard, shard_report, shard_vector

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
devices, kind = int(sys.argv[1]), AxisType[sys.argv[2]]
assert len(jax.devices()) == devices
rng = np.random.default_rng(devices)


def rbf(a, b, width):
    return jnp.exp(-0.5 * jnp.sum((a[:, None] - b[None]) ** 2, -1) / width**2)


def cases(n):
    M, pts = jnp.asarray(rng.standard_normal((n, n))), jnp.asarray(rng.standard_normal((n, 2)))
    width = jnp.asarray(1.3)
    return {
        "dense": ops.Dense(M),
        "wide": ops.Dense(M[:3]),
        "complex": ops.Dense(M + 1j * M.T),
        "kernel": ops.Kernel(pts, None, rbf, params=width),
        "inducing": ops.Kernel(pts, pts[:5] * 2, rbf, params=width),
        "diagonal": ops.Diagonal(M[0]),
        "sum": ops.Dense(M) + ops.Diagonal(M[0]) + ops.ScalarMul(2.0, n),
        "product": ops.Product(ops.Dense(M), ops.Dense(M.T)),
    }


grid = (2, devices // 2), ("i", "j")
meshes = {4: [((4,), ("i",), None), (*grid, "i")], 8: [(*grid, None)]}[devices]
for shape, names, axis in meshes:
    mesh = jax.make_mesh(shape, names, axis_types=(kind,) * len(shape))
    for n in (4 * devices, 4 * devices + 1 + devices % 3):
        for name, A in cases(n).items():
            S = shard(A, mesh, axis)
            assert S.shape == A.shape and S.dtype == A.dtype and S.declared == A.declared
            assert [leaf.path for leaf in shard_report(S).leaves], name
            for B, C in ((S, A), (S.H, A.H)):
                X = rng.standard_normal((C.shape[-1], 3))
                for x in (X, X[:, 0]) if name == "dense" else (X,):
                    lies = shard_vector(x, mesh, axis)
                    y = B @ lies if name == "dense" else jax.jit(lambda B, x: B @ x)(B, lies)
                    assert np.allclose(np.asarray(y), np.asarray(C.to_dense()) @ x, atol=1e-12), name
                    if C.is_square:
                        assert y.sharding.is_equivalent_to(lies.sharding, y.ndim), (name, y.sharding)
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("devices", [4, 8])
def test_products(devices, kind):
    env = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), str(devices), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

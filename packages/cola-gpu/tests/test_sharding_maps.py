"""Kronecker, Fourier and stencil products over forced devices: those of one device, with few messages, and no
vector whole on a device; ``Stencil`` in every library."""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from cpu_devices import environment

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType
from cola_core import ops
from cola_core.properties import PSD, SelfAdjoint
from cola_gpu import sharding
from cola_gpu.sharding import Stencil, check_sharded, program_facts, shard, shard_report, shard_vector

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_disable_most_optimizations", True)
devices, full = int(sys.argv[1]), sys.argv[1] == "4"
p = devices
rng = np.random.default_rng(devices)
normal = lambda *s: jnp.asarray(rng.standard_normal(s))
complexes = lambda *s: normal(*s) + 1j * normal(*s)
D = lambda *s: ops.Dense(normal(*s))
a2a = lambda n, hops=0, gathers=0: {"all-to-all": n, "collective-permute": hops, "all-gather": gathers}
hops = lambda n: {"collective-permute": n}

# operator, class on the mesh, bounds on the messages of a product
even = [
    (ops.Kronecker(D(2 * p, 2 * p), D(6, 6)), "SpreadKronecker", a2a(2)),
    (ops.Toeplitz(normal(16 * p), normal(16 * p)), "SpreadToeplitz", a2a(6)),
    (Stencil(normal(3), (-1, 0, 1), 4 * p), "Stencil", hops(2)),
]
more = [
    (ops.Kronecker(D(2 * p, p), D(5, 7)), "SpreadKronecker", a2a(2)),
    (ops.Kronecker(D(3, 2), ops.Diagonal(normal(p)), D(2, 3)), "SpreadKronecker", a2a(2, 2)),
    (ops.Kronecker(D(6, 6), ops.Dense(complexes(10, 10))), "SpreadKronecker", a2a(2, 2)),
    (ops.Kronecker(D(5, 5), D(7, 7)), "SpreadKronecker", a2a(2, 0, 1)),
    (ops.Kronecker(ops.Identity(p), D(3, 3)), "SpreadKronecker", a2a(0)),
    (ops.KronSum(D(p, p), D(3, 3), D(2, 2)), "SpreadKronSum", a2a(2)),
    (ops.KronSum(D(5, 5), D(3, 3)), "SpreadKronSum", a2a(2, 0, 1)),
    (ops.Toeplitz(complexes(16 * p)), "SpreadToeplitz", {**a2a(6), "all-reduce": 1}),
    (ops.Toeplitz(normal(37), normal(50)), "SpreadToeplitz", a2a(8, 0, 1)),
    (ops.Toeplitz(normal(16 * p), normal(10 * p)), "SpreadToeplitz", a2a(8, 4)),
    (ops.Circulant(normal(15 * p)), "SpreadToeplitz", a2a(6)),
    (ops.Circulant(complexes(11 * p)), "SpreadToeplitz", {**a2a(6, 4), "all-reduce": 1}),
    (ops.Circulant(normal(67)), "SpreadToeplitz", {**a2a(6, 0, 1), "all-reduce": 1}),
    (Stencil(normal(3, p), (-3, 0, 5), p, "periodic"), "Stencil", hops(32)),  # three and five steps
    (Stencil(normal(3), (-3, 1, 4), 13, "periodic"),
     "Stencil", {**hops(3), "all-gather": 1, "all-reduce": 1}),
    (Stencil(complexes(4, 2 * p, 5), ((-1, 0), (0, 0), (1, 1), (0, -2)), (2 * p, 5), ("zero", "periodic")),
     "Stencil", hops(4)),  # its adjoint moves the coefficients too
    (Stencil(normal(3, 6, 2, 2), ((1, 0, 0), (-2, 1, 0), (0, 0, -1)), (6, 2, 2),
             ("periodic", "zero", "zero")), "Stencil", {**hops(6), "all-reduce": 1}),
    (ops.Banded(normal(4, 4 * p).at[0, 0].set(jnp.nan), (1, 2)), "Stencil", hops(5)),
    (ops.Tridiagonal(normal(12), normal(13)), "Stencil", {**hops(2), "all-gather": 1}),
    (ops.ConvolveND(normal(3, 2), (2 * p, 4)), "Stencil", hops(2)),
    (ops.ConvolveND(normal(3, 2), (2 * p, 4), "circular"), "Stencil", hops(2)),
]
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((devices,), ("i",), axis_types=(kind,))
    # every class on both kinds of axes, every layout on automatic ones: compiling takes the time here
    rest = (more if kind is AxisType.Auto else more[::3]) if full else []
    for A, name, bounds in even + rest:
        S = shard(A, mesh)
        assert type(S).__name__ == name and S.shape == A.shape and S.dtype == A.dtype, name
        check_sharded(S, mesh, columns=2, reference=A, max_collectives=bounds, max_message_bytes=10**9)
    long = [ops.Kronecker(D(8 * p, 8 * p), D(48, 48)), ops.Toeplitz(normal(512 * p)),
            Stencil(normal(3), (-1, 0, 1), 512 * p)]
    for A in long:  # nothing of a vector's length is sent to one device
        facts = program_facts(lambda S, x: S @ x, shard(A, mesh), shard_vector(normal(A.shape[1]), mesh))
        count = {"Kronecker": a2a(2), "Toeplitz": {**a2a(6), "all-reduce": 1}, "Stencil": hops(2)}
        wanted = {kind: n for kind, n in count[type(A).__name__].items() if n}
        assert facts.collectives == wanted, facts
        assert facts.largest <= 8 * A.shape[0] * 3 // 4, (type(A), facts)
    for A, _, _ in even:
        f = lambda S, x: jnp.sum((S @ x) ** 2)
        S, x = shard(A, mesh), shard_vector(normal(A.shape[1]), mesh)
        found = jax.jit(jax.grad(f, (0, 1)))(S, x)
        wanted = jax.grad(f, (0, 1))(A, jnp.asarray(np.asarray(x)))
        for g, h, lies in zip(*map(jax.tree.leaves, (found, wanted, (S, x))), strict=True):
            assert np.allclose(g, h), type(A)
            assert g.sharding.is_equivalent_to(lies.sharding, g.ndim), (type(A), g.sharding)

if not full:
    sys.exit()
mesh = jax.make_mesh((2, 2), ("i", "j"))
for axis in ("i", None):  # several axes, or one of several
    for A, _, _ in even:
        S, X = shard(A, mesh, axis), normal(A.shape[1], 4)
        y = S @ shard_vector(X, mesh, axis)
        assert np.allclose(y, A @ X) and not y.sharding.is_fully_replicated
        columns = jax.device_put(X, jax.NamedSharding(mesh, jax.P(None, "j")))
        assert np.allclose(S @ columns, A @ X)
        batch = normal(3, A.shape[1], 2)
        assert np.allclose(S @ batch, jnp.stack([A @ B for B in batch]))
mesh = jax.make_mesh((4,), ("i",))
small = [ops.Toeplitz(normal(0)), ops.Toeplitz(normal(1)), ops.Circulant(normal(1)),
         Stencil(normal(1), (0,), 0), ops.Kronecker(D(1, 1), D(1, 1)), ops.Kronecker(D(0, 2), D(3, 3)),
         ops.Tridiagonal(normal(1), normal(2))]
for A in small:
    X = normal(A.shape[1], 2)
    assert np.allclose(shard(A, mesh) @ X, np.asarray(A.to_dense()) @ X), A
    assert np.allclose(shard(A, mesh) @ X[:, :0], jnp.zeros((A.shape[0], 0)))
batch = ops.Toeplitz(normal(2, 8))
assert type(shard(batch, mesh)) is ops.Toeplitz and "batch" in str(shard_report(shard(batch, mesh)))
for cls in (jnp.float32, jnp.complex64):  # single precision stays that
    A = ops.Toeplitz(complexes(64).astype(cls) if cls is jnp.complex64 else normal(64).astype(cls), None)
    y = shard(A, mesh) @ shard_vector(jnp.ones(64, cls), mesh)
    assert y.dtype == cls and np.allclose(y, np.asarray(A.to_dense()) @ np.ones(64), atol=2e-5)
K = shard(ops.Kronecker(PSD(ops.Dense(jnp.eye(4))), PSD(ops.Dense(jnp.eye(3)))), mesh)
assert K.isa(PSD) and shard(SelfAdjoint(ops.Tridiagonal(normal(7), normal(8))), mesh).isa(SelfAdjoint)
assert type(K.to(backend="numpy") @ np.ones(12)) is np.ndarray
T = shard(ops.Toeplitz(normal(8)), mesh)
assert type(T.to(backend="numpy") @ np.ones(8)) is np.ndarray
plans = [sharding.fourier.plan(n, False, True, 8, (n // 2,)) for n in (10**4, 2**21 - 1, 10**7)]
for n, plan in zip((10**4, 2**21 - 1, 10**7), plans):
    assert n <= plan.n1 * plan.n2 <= 1.2 * n and max(plan[:2]) < 20 * n**0.5, plan
"""


@pytest.mark.parametrize("devices", [4, 8])
def test_products_on_a_mesh(devices):
    pytest.importorskip("jax")
    env = environment(devices)
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), str(devices)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


STENCILS = [
    ((16,), ((-1,), (0,), (1,)), ("zero",)),
    ((13,), ((-2,), (1,), (4,)), ("periodic",)),
    ((2,), ((-3,), (5,)), ("periodic",)),
    ((1,), ((0,), (1,)), ("zero",)),
    ((5, 4), ((-1, 0), (0, 0), (1, 1), (0, -2)), ("zero", "periodic")),
    ((4, 3, 2), ((1, 0, 0), (0, -1, 1), (0, 0, 0)), ("periodic", "zero", "zero")),
    ((0,), ((0,),), ("zero",)),
]


def _dense(c, offsets, grid, boundary):
    N = math.prod(grid)
    out = np.zeros((N, N), c.dtype)
    for i in np.ndindex(*grid):
        for s, o in enumerate(offsets):
            j = [a + b for a, b in zip(i, o, strict=True)]
            j = [a % n if kind == "periodic" else a for a, n, kind in zip(j, grid, boundary, strict=True)]
            if all(0 <= a < n for a, n in zip(j, grid, strict=True)):
                weight = c[s] if c.ndim == 1 else c[(s, *i)]
                out[np.ravel_multi_index(i, grid), np.ravel_multi_index(j, grid)] += weight
    return out


@pytest.mark.parametrize(("grid", "offsets", "boundary"), STENCILS)
@pytest.mark.parametrize("varies", [False, True])
def test_stencil_on_one_device(backend, rng, grid, offsets, boundary, varies):
    from cola_gpu.sharding import Stencil

    for dtype in ("float32", "complex128"):
        c = rng.standard_normal((len(offsets), *(grid if varies else ())))
        c = (c + 1j * rng.standard_normal(c.shape) if dtype == "complex128" else c).astype(dtype)
        A, wanted = Stencil(backend.asarray(c), offsets, grid, boundary), _dense(c, offsets, grid, boundary)
        X = rng.standard_normal((3, wanted.shape[1], 2)).astype(dtype)
        for B, M in ((A, wanted), (A.H, wanted.conj().T), (A.T, wanted.T), (2.0 * A, 2 * wanted)):
            found = backend.to_numpy(B @ backend.asarray(X))
            assert found.dtype == X.dtype
            np.testing.assert_allclose(found, M @ X, atol=1e-5)
    np.testing.assert_allclose(backend.to_numpy(A.to_dense()), wanted, atol=1e-12)


def test_stencil_takes_up_multiples_of_the_identity():
    from cola_core import ops
    from cola_gpu.sharding import Stencil

    for c in (np.array([-1.0, 2.0, -1.0]), np.arange(12.0).reshape(3, 4)):
        A = Stencil(c, (-1, 0, 1), 4) + ops.ScalarMul(0.5, 4)
        assert type(A) is Stencil
        np.testing.assert_array_equal(
            A.to_dense(), _dense(c, ((-1,), (0,), (1,)), (4,), ("zero",)) + 0.5 * np.eye(4)
        )
    B = Stencil(np.ones(1), (1,), 4) + ops.Identity(4)
    np.testing.assert_array_equal(B.to_dense(), np.eye(4) + np.eye(4, k=1))


def test_stencil_refuses():
    from cola_core.errors import ShapeError, UnknownNameError
    from cola_gpu.sharding import Stencil

    with pytest.raises(ShapeError, match=r"coefficients of shape \(2,\) for 3 offsets"):
        Stencil(np.ones(2), (-1, 0, 1), 4)
    with pytest.raises(ShapeError, match="each offset once"):
        Stencil(np.ones(2), (0, 0), 4)
    with pytest.raises(ShapeError, match="one number for each axis"):
        Stencil(np.ones(1), (0,), (4, 4))
    with pytest.raises(UnknownNameError, match="choose from zero, periodic"):
        Stencil(np.ones(1), (0,), 4, "reflect")

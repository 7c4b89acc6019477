"""One of the processes that ``test_distributed_jax`` starts: ``python this.py RANK SIZE PORT FOLDER``.

Two devices each, collectives by gloo over loopback. Every check compares with NumPy on the same numbers."""

import os
import sys
import traceback

from cpu_devices import environment

rank, size, port, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
os.environ.update(environment(2))

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_disable_most_optimizations", True)  # compiling is most of what small programs do
jax.distributed.initialize(
    f"127.0.0.1:{port}", num_processes=size, process_id=rank, initialization_timeout=60
)

import numpy as np  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

import cola_core as cola  # noqa: E402
from cola_core.dispatch import gathering, shards  # noqa: E402
from cola_core.errors import ShardedOperandError  # noqa: E402
from cola_gpu.sharding import shard, shard_vector  # noqa: E402

assert jax.process_count() == size and jax.device_count() == 2 * size and len(jax.local_devices()) == 2
n, rng = 16, np.random.default_rng(0)
M = rng.standard_normal((n, n))
S, b = M @ M.T / n + 2 * np.eye(n), rng.standard_normal(n)
solution = np.linalg.solve(S, b)


def check(kind: AxisType) -> np.ndarray:
    """Everything on a mesh of one kind of axes; the answer of the solve."""
    mesh = jax.make_mesh((2 * size,), ("rows",), axis_types=(kind,))
    everywhere = NamedSharding(mesh, P())
    whole = jax.jit(lambda x: x, out_shardings=everywhere)

    def value(x):
        """On this process; what is spread is gathered first."""
        return np.asarray(x if x.is_fully_replicated else whole(x))

    def put(x, *spec):
        """Every process makes the blocks of its own devices."""
        return jax.make_array_from_callback(x.shape, NamedSharding(mesh, P(*spec)), lambda i: x[i])

    A = shard(cola.PSD(cola.ops.Dense(put(S, "rows", None))), mesh)
    x = put(b, "rows")
    assert shards(A) == 2 * size and not A.array.is_fully_addressable
    assert shard_vector(b, mesh).sharding == x.sharding
    assert np.allclose(value(A @ x), S @ b)

    y, info = jax.jit(lambda A, x: cola.solve(A, x, cola.CG(tol=1e-11), return_info=True))(A, x)
    assert y.sharding.spec == P("rows"), y.sharding
    assert np.allclose(value(y), solution, rtol=1e-8) and bool(info.converged), info
    assert int(info.iterations) <= n

    slq = cola.SLQ(key=0, tol=5e-2, samples=8)
    estimate, info = jax.jit(lambda A: cola.logdet(A, slq, return_info=True))(A)
    exact = np.linalg.slogdet(S)[1]
    assert abs(float(estimate) - exact) < 5 * float(info.standard_error), (estimate, exact, info)

    with gathering(8 * n * n - 1):
        try:
            cola.solve(A, x, cola.Cholesky())
        except ShardedOperandError as error:
            assert f"{2 * size} devices" in str(error)
        else:
            raise AssertionError("gathered in silence")
    # each process keeps its own blocks of the answer in a file, and finds them again
    path = os.path.join(folder, f"answer-{kind.name}-{rank}.npz")
    blocks = {str(block.index[0].start or 0): np.asarray(block.data) for block in y.addressable_shards}
    np.savez(path, **blocks)
    with np.load(path) as kept:
        again = jax.make_array_from_callback(y.shape, y.sharding, lambda i: kept[str(i[0].start or 0)])
        assert len(kept.files) == 2
    assert np.array_equal(value(again), value(y))
    # the whole answer goes through the operators' own files, from one process
    saved = os.path.join(folder, f"whole-{kind.name}.npz")
    answer = value(y)
    if rank == 0:
        cola.save(cola.ops.Diagonal(answer), saved)
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices(f"saved {kind.name}")
    assert np.array_equal(np.asarray(cola.load(saved).diag), answer)
    return answer


try:
    for name in sys.argv[5].split(","):
        answer = check(AxisType[name])
except BaseException:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)  # an orderly shutdown would wait for the other processes
jax.distributed.shutdown()
print("done", *answer.tolist())

"""Dense factorisations of operators spread over devices: gathered and reported within the budget, refused by
name above it, never chosen by ``Auto`` then; and what plans say is sent between devices."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from cpu_devices import environment

import cola_core as cola
from cola_core.dispatch import gathering
from cola_core.errors import DeviceError, MemoryBudgetError, ShardedOperandError

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import cola_core as cola
from cola_core.dispatch import gathering, shards
from cola_core.errors import ShardedOperandError

jax.config.update("jax_enable_x64", True)
kind = AxisType[sys.argv[1]]
explicit = kind is AxisType.Explicit
mesh = jax.make_mesh((4,), ("i",), axis_types=(kind,))
n, rng = 16, np.random.default_rng(0)
M = rng.standard_normal((n, n))
S, b = M @ M.T / n + 2 * np.eye(n), rng.standard_normal(n)
put = lambda x, *spec: jax.device_put(jnp.asarray(x), NamedSharding(mesh, P(*spec)))
A = cola.PSD(cola.ops.Dense(put(S, "i", None)))
G = cola.ops.Dense(put(M, "i", None))
x = put(b, "i")
size = 8 * n * n
assert shards(A) == 4 and shards(cola.ops.Dense(put(S))) == 1

questions = {
    "Cholesky": lambda alg: cola.solve(A, x, alg), "LU": lambda alg: cola.solve(G, x, alg),
    "Eigh": lambda alg: cola.eigh(A, alg=alg)[0], "SVD": lambda alg: cola.svd(G, alg=alg)[1],
    "QR": lambda alg: cola.qr(G, alg=alg)[1].to_dense(), "LSTSQ": lambda alg: cola.lstsq(G, x, alg=alg),
    "Schur": lambda alg: cola.linalg.schur(G, alg=alg)[0].to_dense(),
    "Eig": lambda alg: cola.eigvals(G, alg=alg),
    "ScalingSquaring": lambda alg: cola.exp(G, alg).to_dense(),
}
for name, ask in questions.items():
    alg = getattr(cola.algorithms, name)()
    with gathering(size - 1):
        try:
            ask(alg)
        except ShardedOperandError as error:
            for word in (name, "(16, 16)", "4 devices", "CG()", "Lanczos()", "RandomizedSVD()", "MiB"):
                assert word in str(error), (name, word, str(error))
        else:
            raise AssertionError(f"{name} gathered in silence")
    with gathering(size):
        ask(alg)

# within the budget: done, right, and said
y, info = cola.solve(A, x, cola.Cholesky(), return_info=True)
assert np.allclose(np.asarray(y), np.linalg.solve(S, b)) and info.gathered == size, info
y, info = cola.solve(G, x, cola.LU(), return_info=True)
assert np.allclose(np.asarray(y), np.linalg.solve(M, b)) and info.gathered == size, info
if explicit:
    assert y.sharding.spec == P("i"), y.sharding
w = cola.eigvals(A, alg="eigh")
assert np.allclose(np.sort(np.asarray(w)), np.linalg.eigvalsh(S))

# Auto's choice is remembered for a budget, not for all of them
chosen = lambda: cola.solve(A, x, return_info=True)[1].method
assert chosen() == "Cholesky"
with gathering(0):
    assert chosen() == "CG"
    with gathering(size):
        assert chosen() == "Cholesky"
assert chosen() == "Cholesky"

here = cola.ops.Dense(jnp.asarray(S))
assert cola.solve(here, jnp.asarray(b), cola.LU(), return_info=True)[1].gathered is None

# Auto: above the budget never, within it as it pleases
y, info = cola.solve(A, x, cola.Auto(memory=size - 1), return_info=True)
assert "CG" in info.method and info.gathered is None, info
assert np.allclose(np.asarray(y), np.linalg.solve(S, b), rtol=1e-6)
assert cola.solve(A, x, cola.Auto(memory=10 * size), return_info=True)[1].converged
try:
    cola.linalg.schur(G, alg=cola.Auto(memory=size - 1))
except Exception as error:
    assert "would gather" in str(error) and "4 devices" in str(error), error
else:
    raise AssertionError("Auto gathered in silence")
plan = cola.explain(cola.solve, A, x, alg=cola.Auto(memory=size - 1), candidates=True)
assert any(name == "core:solve/cholesky" and "would gather" in why for name, why, _ in plan.root.rejected)

# a kept factorisation is no way around
with gathering(10):
    try:
        cola.inv(A, cola.Cholesky()) @ x
    except ShardedOperandError:
        pass
    else:
        raise AssertionError("inv gathered in silence")

# compiled: explicit axes are part of the type, and refused while the program is made
refused = None
with gathering(10):
    try:
        jax.jit(lambda A, x: cola.solve(A, x, cola.Cholesky()))(A, x)
    except ShardedOperandError as error:
        refused = error
assert (refused is not None) == explicit, refused
if explicit:
    y = jax.jit(lambda A, x: cola.solve(A, x, cola.Cholesky()))(A, x)
    assert np.allclose(np.asarray(y), np.linalg.solve(S, b))

# what plans say
p, it = 4, 8
plan = cola.explain(cola.solve, A, x, alg=cola.Cholesky())
assert "gathered onto every device: 0.00195 MiB" in str(plan), plan
assert plan.as_dict()["sent_between_devices"] == size * (p - 1) / p
with gathering(10):
    assert "refused" in str(cola.explain(cola.solve, A, x, alg=cola.Cholesky()))
plan = cola.explain(cola.solve, A, x, alg=cola.CG())
d = plan.as_dict()
assert d["sent_per_product"] == (p - 1) / p * n * it, d["sent_per_product"]
assert np.isclose(d["sent_between_devices"], d["matvecs"] * d["sent_per_product"])
assert "96 B a product" in str(plan), plan
assert json.loads(plan.to_json())["sent_per_product"] == 96
D = cola.ops.Diagonal(put(np.abs(b) + 1, "i"))
U = cola.ops.LowRank(put(M[:, :3], "i", None))
gather = (p - 1) / p * n * it
assert D.matvec_cost.moved == 0 and U.matvec_cost.moved == 2 * (p - 1) / p * 3 * it
assert (A + D + U).matvec_cost.moved == gather + U.matvec_cost.moved
assert (A + D).matmat_cost(5).moved == 5 * gather
assert G.T.matvec_cost.moved == 2 * gather, G.T.matvec_cost
assert cola.kron(G, here).matvec_cost.moved == gather * n
if not explicit:
    rbf = lambda a, b: jnp.exp(-jnp.sum((a[:, None] - b[None]) ** 2, -1))
    K = cola.ops.Kernel(put(M[:, :2], "i", None), None, rbf)
    assert K.matvec_cost.moved == (p - 1) / p * n * (2 + 1) * it, K.matvec_cost
assert here.matvec_cost.moved == 0

# and what the compiled product sends, when it has been run
plan = cola.explain(cola.solve, A, x, alg=cola.CG(), analyze=True)
sent = plan.as_dict()["measured_collectives"]
assert sent == {"all-gather": {"count": 1, "bytes": n * it}}, sent
assert "compiled product: 1 all-gather of 128 B" in str(plan), plan
plan = cola.explain(cola.solve, cola.PSD(here), jnp.asarray(b), alg=cola.CG(), analyze=True)
assert plan.as_dict()["measured_collectives"] is None
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_gathering_is_counted_reported_and_refused(kind):
    pytest.importorskip("jax")
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), kind]
    done = subprocess.run(
        command, env=environment(4), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_whole_operands_are_never_refused():
    A, b = np.diag([1.0, 2.0]), np.ones(2)
    with gathering(0):
        x, info = cola.solve(A, b, cola.LU(), return_info=True)
    assert np.allclose(x, [1, 0.5]) and info.gathered is None
    plan = cola.explain(cola.solve, A, b).as_dict()
    assert plan["sent_between_devices"] == plan["sent_per_product"] == 0 and not plan["note"]


def test_the_error_is_both_of_memory_and_of_devices():
    assert issubclass(ShardedOperandError, MemoryBudgetError) and issubclass(ShardedOperandError, DeviceError)
    with pytest.raises(ValueError, match="a number of bytes"), gathering(-1):
        pass


def test_text_of_compiled_programs_is_read():
    from cola_core.backends.jax_collectives import collectives, summary

    text = """
  %ag = f32[8,2]{1,0} all-gather(f32[2,2]{1,0} %x), replica_groups={{0,1,2,3}}, dimensions={0}
  %ags = (bf16[2]{0}, bf16[8]{0}) all-gather-start(bf16[2]{0} %y), dimensions={0}
  %agd = bf16[8]{0} all-gather-done((bf16[2]{0}, bf16[8]{0}) %ags)
  %ar = (f64[], c128[3]{0}) all-reduce(f64[] %a, c128[3]{0} %b), to_apply=%add
  %cp = (s32[4]{0}, s32[4]{0}, u32[], u32[]) collective-permute-start(s32[4]{0} %c)
  %aa = (pred[2]{0}, pred[2]{0}) all-to-all(pred[2]{0} %d, pred[2]{0} %e)
  ROOT %r = f64[4,4]{1,0} dot(f64[4,8]{1,0} %all-gather, f64[8,4]{1,0} %all-reduce.3)
"""
    found = collectives(text)
    assert [(c.kind, c.bytes) for c in found] == [
        ("all-gather", 64),
        ("all-gather", 16),
        ("all-reduce", 56),
        ("collective-permute", 16),
        ("all-to-all", 4),
    ]
    assert found[0].shapes == ((8, 2),)
    assert summary(found)["all-gather"] == {"count": 2, "bytes": 80}

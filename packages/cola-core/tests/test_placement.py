"""Where the entries are: the kind of device and the number of parts, as facts of choices and plans."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from cpu_devices import environment

import cola_core as cola
from cola_core.cost import Cost
from cola_core.dispatch import device_kind, shards
from cola_core.dispatch.facts import facts
from cola_core.profile import ACCELERATOR, BUILT_IN, profile


def test_host(backend):
    A = cola.ops.Sum(cola.ops.Dense(backend.asarray(np.eye(3))), cola.ops.Identity(3))
    assert device_kind(A) == "cpu" and shards(A) == 1
    assert device_kind(cola.ops.Identity(3)) == "cpu" and shards(cola.ops.Zero((2, 2))) == 1
    assert device_kind(backend.asarray(np.ones(2))) == "cpu"


@cola.ops.operator
class Parameters:
    """What an operator of a plugin may hold beside arrays: a pytree that is no operator."""

    width: Any
    parts: tuple[Any, ...] = ()


@cola.ops.operator
class Scaled(cola.ops.LinearOperator):
    """An array times a parameter that lies in another's."""

    parameters: Parameters
    array: Any

    def _shape(self):
        return self.array.shape

    def _matmat(self, X):
        return self.parameters.parts[0].width * (self.array @ X)


def test_parameters_held_as_a_pytree(backend):
    entries = [backend.asarray(np.array(v)) for v in (3.0, 2.0)]
    A = Scaled(Parameters(entries[0], (Parameters(entries[1]),)), backend.asarray(np.eye(4)))
    S = cola.PSD(A + cola.ops.Identity(4))
    assert shards(A) == shards(S) == 1 and device_kind(S) == "cpu"
    b = backend.asarray(np.ones(4))
    assert cola.explain(cola.solve, S, b).as_dict()["by"]
    assert np.allclose(backend.to_numpy(cola.solve(S, b)), 1 / 3)


def test_torch_devices():
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        A = cola.PSD(cola.ops.Dense(torch.empty(50, 50, device="cuda")))
        b = torch.empty(50, device="cuda")
    host = cola.PSD(cola.ops.Dense(torch.eye(50)))
    assert device_kind(A) == "cuda" and device_kind(A.H @ A) == "cuda"
    assert facts(A)[-1] != facts(host)[-1]  # a choice made for one is not taken for the other
    on_device, on_host = cola.explain(cola.solve, A, b), cola.explain(cola.solve, host, torch.ones(50))
    assert on_device.root.own_seconds != on_host.root.own_seconds


def test_plans_and_programs_load_what_is_due_for_a_device(monkeypatch):
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    from cola_core.plugins import MANAGER

    with FakeTensorMode():
        v = torch.empty(50, device="cuda")
        A = cola.PSD(cola.ops.Diagonal(v))
    with MANAGER.only():
        seen: list[str] = []
        monkeypatch.setattr(MANAGER, "trigger", seen.append)
        cola.explain(cola.solve, A, v)
        assert "device.cuda" in seen
        jax = pytest.importorskip("jax")
        seen.clear()
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        jax.make_jaxpr(lambda d: cola.solve(cola.ops.Diagonal(d), d))(jax.numpy.ones(3))
        assert "device.cuda" in seen


def test_prices():
    waiting = Cost(calls=0, syncs=10, moved=1e9)
    assert profile("cpu").sync == 0 and profile("cuda") is ACCELERATOR
    assert ACCELERATOR.seconds(waiting) == pytest.approx(10 * ACCELERATOR.sync + 1e9 / ACCELERATOR.link)
    assert BUILT_IN.seconds(Cost(calls=0, syncs=10)) == 0
    total = waiting * 2 + waiting
    assert (total.syncs, total.moved) == (30, 3e9)


PROGRAM = """
import jax, numpy as np
import cola_core as cola
from cola_core.dispatch import device_kind, shards
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((2, 2), ("x", "y"), axis_types=(kind, kind))
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))
    M = np.ones((8, 8))
    seen = []
    for spec in (P(), P("x"), P("x", "y"), P(("x", "y"))):
        A = cola.ops.Dense(put(M, spec))
        found = [shards(A), shards(A.H), shards(cola.ops.Sum(cola.ops.Identity(8), A)), shards(put(M, spec))]
        assert len(set(found)) == 1, found
        seen.append(found[0])
        assert device_kind(A) == "cpu"
        inside = []
        jax.jit(lambda A: (inside.append(shards(A)), A @ jax.numpy.ones(8))[1])(A)
        assert inside == [found[0] if kind == AxisType.Explicit else 1], (kind, spec, inside)
    assert seen == [1, 2, 4, 4], seen
    A = cola.ops.Dense(put(M, P("x")))
    from cola_core.dispatch.abstract import abstract
    from cola_core.dispatch.facts import facts
    assert shards(abstract(A)) == 2
    assert facts(A) != facts(cola.ops.Dense(put(M, P())))
print("done")
"""


def test_sharded_arrays():
    pytest.importorskip("jax")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(4), capture_output=True, text=True, timeout=900
    )
    assert run.stdout.strip() == "done", run.stderr[-3000:]

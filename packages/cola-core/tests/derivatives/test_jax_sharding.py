"""Operators whose arrays are spread over eight devices, with automatic and with explicit mesh axes: products,
solves and their gradients lie like what they are made of, and no matrix is gathered."""

import subprocess
import sys
import textwrap

import pytest
from cpu_devices import environment

pytest.importorskip("jax")

PROGRAM = """
import re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import cola_core as cola

jax.config.update("jax_enable_x64", True)
assert len(jax.devices()) == 8
kind = AxisType[sys.argv[1]]
mesh = jax.make_mesh((8,), ("i",), axis_types=(kind,))
if kind is AxisType.Explicit:
    jax.sharding.set_mesh(mesh)
n, rng = 16, np.random.default_rng(0)
M = rng.standard_normal((n, n))
host = {
    "d": rng.uniform(1, 2, n), "M": M, "S": M @ M.T / n + 2 * np.eye(n), "x": rng.standard_normal(n),
    "e": rng.uniform(1, 2, 8), "K": rng.standard_normal((2, 2)) + 3 * np.eye(2), "y": rng.standard_normal(16),
}
lies = {"d": P("i"), "M": P("i", None), "S": P("i", None), "x": P("i"), "e": P("i"), "K": P(), "y": P("i")}
Dense, Diagonal, PSD = cola.ops.Dense, cola.ops.Diagonal, cola.PSD
spread = lambda name: jax.device_put(jnp.asarray(host[name]), NamedSharding(mesh, lies[name]))
norm = lambda spec: tuple(s for s in spec if s is not None)


def check(name, names, f, wanted, gradients=True, lie=("i",), gathers=0):
    args = [spread(k) for k in names]
    program = jax.jit(f)
    text = program.lower(*args).compile().as_text()
    shapes = re.findall(r"f64\\[([\\d,]*)\\][^=]*all-gather", text)
    sizes = [np.prod([int(s) for s in shape.split(",") if s]) for shape in shapes]
    assert sizes or name not in ("rows", "CG"), "a vector has to be gathered there"
    assert max(sizes, default=0) <= gathers, (name, sizes)
    for y in (program(*args),) if len(names) > 2 else (program(*args), f(*args)):
        assert np.allclose(np.asarray(y), wanted, rtol=1e-7), name
        assert norm(y.sharding.spec) == lie, (name, y.sharding)
    if not gradients:
        return
    loss = lambda *args: jnp.sum(f(*args) ** 2)
    slopes = jax.jit(jax.grad(loss, tuple(range(len(args)))))(*args)
    for k, (g, name_of) in enumerate(zip(slopes, names)):
        if kind is AxisType.Explicit or len(lies[name_of]) == 2:
            assert norm(g.sharding.spec) == norm(lies[name_of]), (name, name_of, g.sharding)
        v = np.random.default_rng(1).standard_normal(host[name_of].shape)
        v = v + v.T if name_of == "S" else v
        along = jax.device_put(jnp.asarray(v), args[k].sharding)
        move = lambda h: [x + h * along if i == k else x for i, x in enumerate(args)]
        slope = (loss(*move(1e-5)) - loss(*move(-1e-5))) / 2e-5
        assert abs(float(slope) - np.sum(np.asarray(g) * v)) < 1e-5 * (1 + abs(float(slope))), (name, name_of)


h = host
check("diagonal", "dx", lambda d, x: Diagonal(d) @ x, h["d"] * h["x"])
check("diagonal solve", "dx", lambda d, x: cola.solve(Diagonal(d), x), h["x"] / h["d"])
check("diagonal logdet", "d", lambda d: cola.logdet(PSD(Diagonal(d))), np.log(h["d"]).sum(), lie=())
check("rows", "Mx", lambda M, x: Dense(M) @ x, h["M"] @ h["x"], gathers=n)
left = ("i",) if kind is AxisType.Explicit else ()
check("adjoint", "Mx", lambda M, x: Dense(M).H @ x, h["M"].T @ h["x"], lie=left, gathers=n)
check("left", "Mx", lambda M, x: x @ Dense(M), h["M"].T @ h["x"], False, lie=left, gathers=n)
kron = np.kron(np.diag(h["e"]), h["K"])
check("kron", "eKy", lambda e, K, y: cola.kron(Diagonal(e), Dense(K)) @ y, kron @ h["y"])
check("CG", "Sx", lambda S, x: cola.solve(PSD(Dense(S)), x, cola.CG(tol=1e-11)),
      np.linalg.solve(h["S"], h["x"]), gathers=n)
check("Lanczos", "S", lambda S: cola.eigmax(PSD(Dense(S)), cola.Lanczos(tol=1e-10)),
      np.linalg.eigvalsh(h["S"])[-1], False, lie=(), gathers=n)
"""


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_sharded_operators(kind):
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), kind]
    done = subprocess.run(command, env=environment(8), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

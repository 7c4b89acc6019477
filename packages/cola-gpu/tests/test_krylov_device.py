"""Device-resident Krylov methods: answers, breakdowns, looks at values, recorded blocks, selection."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ConvergenceWarning, NonFiniteError, NotPositiveDefiniteError
from cola_gpu.krylov import (
    DeviceBlockLanczos,
    DeviceCG,
    DeviceLanczos,
    DeviceLOBPCG,
    DeviceSLQ,
    graphs,
    jacobi,
)
from cola_gpu.krylov.jacobi import jacobi_eigh

PAIRS = [
    DeviceLanczos(check_every=8),
    DeviceBlockLanczos(check_every=6, block=3),
    DeviceLOBPCG(check_every=5, tol=1e-11),
]


def name_of(alg):
    return type(alg).__name__


def hermitian(rng, n, dtype, eigenvalues):
    """A self-adjoint matrix with the given eigenvalues in a random basis."""
    X = rng.standard_normal((n, n))
    X = X + 1j * rng.standard_normal((n, n)) if np.dtype(dtype).kind == "c" else X
    Q = np.linalg.qr(X)[0]
    M = (Q * eigenvalues) @ Q.conj().T
    return ((M + M.conj().T) / 2).astype(dtype)


def hidden(A):
    """Products only, for questions that structure would answer."""
    return cola.no_dispatch(A)


@pytest.fixture(params=["numpy", "torch"])
def eager(request):
    """For many small problems, each of which JAX would compile."""
    if request.param == "torch":
        pytest.importorskip("torch")
    return cola.backends.get_backend(request.param)


# -- conjugate gradients ------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_cg_solves(backend, rng, n, dtype):
    if backend.name == "jax" and n != 7:
        backend = cola.backends.get_backend("numpy")
    M = hermitian(rng, n, dtype, np.linspace(1, 30, n))
    b = rng.standard_normal((n, 4)).astype(dtype)
    b[:, 1] = 0
    b[:, 2] *= 1e-6
    alg = DeviceCG(check_every=8)
    x, info = cola.solve(
        hidden(cola.PSD(ops.Dense(backend.asarray(M)))), backend.asarray(b), alg, return_info=True
    )
    x = backend.to_numpy(x)
    assert info.converged and info.method == "DeviceCG" and info.reasons == ("converged",) * 4
    residual = np.linalg.norm(b - M @ x, axis=0)
    assert (residual <= 1.2 * info.tolerance * np.linalg.norm(b, axis=0)).all() and (x[:, 1] == 0).all()
    assert info.iterations == max(int(i) for i in info.column_iterations) <= n + 12
    assert info.matvecs >= info.iterations and info.matvecs <= info.iterations + 8 + 2


def test_cg_of_nothing(eager):
    A = hidden(cola.PSD(ops.Dense(eager.asarray(np.eye(3)))))
    assert cola.solve(A, eager.asarray(np.zeros((3, 0))), DeviceCG()).shape == (3, 0)
    empty = hidden(cola.PSD(ops.Dense(eager.asarray(np.zeros((0, 0))))))
    assert cola.solve(empty, eager.asarray(np.zeros(0)), DeviceCG()).shape == (0,)


EASY = {
    "multiple of the identity": (np.full(40, 3.0), 1),
    "low rank and identity": (np.r_[np.ones(37), 5.0, 50.0, 500.0], 5),
    "two eigenvalues": (np.r_[np.ones(20), np.full(20, 9.0)], 3),
}


@pytest.mark.parametrize("case", EASY)
def test_cg_past_convergence_spoils_nothing(backend, rng, case):
    d, steps = EASY[case]
    b = rng.standard_normal((40, 2))
    A = hidden(cola.PSD(ops.Diagonal(backend.asarray(d))))
    x, info = cola.solve(A, backend.asarray(b), DeviceCG(tol=1e-12, check_every=64), return_info=True)
    assert info.converged and info.iterations <= steps and info.matvecs >= 64
    np.testing.assert_allclose(backend.to_numpy(x), b / d[:, None], rtol=1e-9, atol=1e-10)


def test_cg_is_honest(eager):
    def run(d, b=None, **settings):
        A = hidden(cola.PSD(ops.Diagonal(eager.asarray(np.asarray(d)))))
        b = np.ones(len(d)) if b is None else b
        x, info = cola.solve(A, eager.asarray(b), DeviceCG(**settings), return_info=True, on_failure="ignore")
        assert np.isfinite(eager.to_numpy(x)).all()
        return eager.to_numpy(x), info

    _, info = run([-1.0, 1, 2, 3])
    assert not info.converged and "positive curvature" in info.reason
    _, info = run([0.0, 1, 2, 3])
    assert not info.converged and "converged" not in info.reason
    _, info = run([0.0, 0, 0])
    assert not info.converged and "singular" in info.reason
    x, info = run([0.0, 1, 2, 3], np.array([0.0, 1, 1, 1]))
    assert info.converged
    np.testing.assert_allclose(x, [0, 1, 1 / 2, 1 / 3], atol=1e-8)
    _, info = run(np.logspace(0, 14, 60), max_iters=50, tol=1e-12)
    assert not info.converged and info.iterations == 50 and info.residual > 1e-12
    _, info = run(np.linspace(1, 1e3, 200), max_iters=3)
    assert info.iterations == 3 and "limit" in info.reason
    with pytest.warns(ConvergenceWarning):
        A = hidden(cola.PSD(ops.Diagonal(eager.asarray(np.linspace(1, 1e3, 200)))))
        cola.solve(A, eager.asarray(np.ones(200)), DeviceCG(max_iters=3))


def test_cg_settings(eager, rng, spd):
    D = np.logspace(0, 3, 50)
    M = D[:, None] * spd(rng, 50) * D
    A, b = hidden(cola.PSD(ops.Dense(eager.asarray(M)))), eager.asarray(rng.standard_normal(50))
    P = ops.Diagonal(eager.asarray(1 / np.diag(M)))
    x, info = cola.solve(A, b, DeviceCG(P=P, check_every=7), return_info=True)
    y, other = cola.solve(A, b, cola.CG(P=P), return_info=True)
    assert info.converged and abs(info.iterations - other.iterations) <= 2
    np.testing.assert_allclose(eager.to_numpy(x), eager.to_numpy(y), rtol=1e-5, atol=1e-10)
    again = cola.solve(A, b, DeviceCG(P=P, x0=x), return_info=True)[1]
    assert again.converged and again.iterations <= 2
    bad = cola.solve(A, b, DeviceCG(P=-1 * P), return_info=True, on_failure="ignore")[1]
    assert not bad.converged and "preconditioner" in bad.reason
    seen = []
    cola.solve(A, b, DeviceCG(P=P, callback=lambda step, error: seen.append(step)))
    assert seen == list(range(1, len(seen) + 1)) and len(seen) >= other.iterations - 2
    with pytest.raises(ValueError, match="check_every"):
        DeviceCG(check_every=0)
    stack = cola.PSD(ops.Dense(eager.asarray(spd(rng, 6, (3,)))))
    rhs = rng.standard_normal((3, 6, 2))
    x, info = cola.solve(stack, eager.asarray(rhs), DeviceCG(tol=1e-12), return_info=True)
    dense = np.linalg.solve(eager.to_numpy(stack.to_dense()), rhs)
    assert info.converged
    np.testing.assert_allclose(eager.to_numpy(x), dense, rtol=1e-8, atol=1e-10)


# -- some eigenpairs ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("alg", PAIRS, ids=name_of)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_pairs(backend, rng, alg, dtype):
    n, k = 90, 4
    spectrum = np.r_[np.linspace(-1, 1, n - 6), -9, -6, -5, 4, 7, 8]
    M = hermitian(rng, n, dtype, spectrum)
    A = hidden(cola.SelfAdjoint(ops.Dense(backend.asarray(M))))
    for which in ("LA",) if backend.name == "jax" else ("LA", "SA"):
        (w, V), info = cola.eigh(A, k, which, alg, return_info=True)
        w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
        wanted = np.sort(spectrum)[:k] if which == "SA" else np.sort(spectrum)[-k:]
        np.testing.assert_allclose(np.sort(w), wanted, atol=1e-8)
        assert np.linalg.norm(M @ V - V * w) < 1e-7 and np.linalg.norm(V.conj().T @ V - np.eye(k)) < 1e-8
        assert info.converged and info.method == type(alg).__name__ and info.residual < 1e-8


BROKEN = {
    "multiple of the identity": np.full(60, 3.0),
    "two eigenvalues": np.r_[np.ones(30), np.full(30, 7.0)],
    "low rank": np.r_[np.zeros(56), 1.0, 2.0, 3.0, 3.0],
    "copies at the end": np.r_[np.linspace(0, 1, 55), np.full(5, 2.0)],
    "zero": np.zeros(60),
}


@pytest.mark.parametrize("alg", PAIRS, ids=name_of)
@pytest.mark.parametrize("case", BROKEN)
def test_exhausted_spaces(backend, alg, case):
    if backend.name == "jax" and case not in ("two eigenvalues", "copies at the end"):
        backend = cola.backends.get_backend("numpy")  # one compiled program tells as much as five
    d = BROKEN[case]
    A = hidden(cola.SelfAdjoint(ops.Diagonal(backend.asarray(d))))
    (w, V), info = cola.eigh(A, 4, "LA", alg, return_info=True)
    w, V = backend.to_numpy(w), backend.to_numpy(V.to_dense())
    np.testing.assert_allclose(np.sort(w), np.sort(d)[-4:], atol=1e-9)
    assert info.converged and np.linalg.norm(d[:, None] * V - V * w) < 1e-8
    assert np.linalg.norm(V.T @ V - np.eye(4)) < 1e-8


@pytest.mark.parametrize("which", ["LM", "SA"])
def test_lanczos_sizes(eager, rng, which):
    for n, k in ((1, 1), (2, 2), (5, 3), (31, 2)):
        M = hermitian(rng, n, "float64", rng.standard_normal(n))
        A = hidden(cola.SelfAdjoint(ops.Dense(eager.asarray(M))))
        w = eager.to_numpy(cola.eigh(A, k, which, DeviceLanczos(check_every=4))[0])
        every = np.linalg.eigvalsh(M)
        wanted = every[np.argsort(-abs(every) if which == "LM" else every)[:k]]
        np.testing.assert_allclose(np.sort(w), np.sort(wanted), atol=1e-9)


def test_lanczos_large_and_single(rng):
    d = np.r_[np.linspace(1, 2, 1997), 3, 4, 5].astype(np.float32)
    A = hidden(cola.SelfAdjoint(ops.Diagonal(d)))
    (w, V), info = cola.eigh(A, 3, "LA", DeviceLanczos(), return_info=True)
    assert info.converged and w.dtype == np.float32
    np.testing.assert_allclose(np.sort(w), [3, 4, 5], rtol=1e-5)
    (w, _), info = cola.eigh(A, 3, "LA", DeviceBlockLanczos(), return_info=True)
    assert info.converged
    np.testing.assert_allclose(np.sort(w), [3, 4, 5], rtol=1e-5)


def test_pairs_are_honest(eager, rng):
    A = hidden(cola.SelfAdjoint(ops.Diagonal(eager.asarray(np.linspace(1, 1.001, 500)))))
    for alg in (DeviceLanczos(max_iters=40, check_every=4), DeviceLOBPCG(max_iters=3, check_every=2)):
        (w, V), info = cola.eigh(A, 2, "LA", alg, return_info=True, on_failure="ignore")
        assert not info.converged and "limit" in info.reason, alg
        V, w = eager.to_numpy(V.to_dense()), eager.to_numpy(w)
        left = np.linalg.norm(np.linspace(1, 1.001, 500)[:, None] * V - V * w, axis=0)
        said = np.sort(eager.to_numpy(info.residuals)) * 1.001  # relative to the largest eigenvalue
        np.testing.assert_allclose(said, np.sort(left), rtol=0.01, atol=1e-12)
    M = np.eye(200)
    M[3, 3] = np.nan
    B = hidden(cola.SelfAdjoint(ops.Dense(eager.asarray(M))))
    with pytest.raises(NonFiniteError):
        cola.eigh(B, 2, "LA", DeviceLanczos(check_every=4))
    batch = cola.SelfAdjoint(ops.Dense(eager.asarray(np.ones((2, 3, 3)))))
    with pytest.raises(NotImplementedError, match="DeviceLanczos"):
        DeviceLanczos().eigsh(batch, 1, "LA")


def test_lobpcg_is_that_of_the_core(eager, rng):
    M = hermitian(rng, 60, "float64", np.arange(1.0, 61))
    A = hidden(cola.PSD(ops.Dense(eager.asarray(M))))
    P = ops.Diagonal(eager.asarray(1 / np.diag(M)))
    B = cola.PSD(ops.Diagonal(eager.asarray(np.linspace(1, 2, 60))))
    ours, theirs = (
        cls(P=P, **more) for cls, more in ((DeviceLOBPCG, {"check_every": 16}), (cola.LOBPCG, {}))
    )
    for question in (lambda alg: cola.eigh(A, 2, "SA", alg, return_info=True),):
        (w, _), info = question(ours)
        (v, _), other = question(theirs)
        np.testing.assert_allclose(eager.to_numpy(w), eager.to_numpy(v), rtol=1e-9)
        assert abs(info.iterations - other.iterations) <= 2 and info.matvecs >= other.matvecs
    if eager.name != "jax":
        w = DeviceLOBPCG(check_every=4).geigsh(A, B, 2, "SA")[0]
        np.testing.assert_allclose(
            eager.to_numpy(w), eager.to_numpy(cola.LOBPCG().geigsh(A, B, 2, "SA")[0]), rtol=1e-6
        )


@pytest.mark.parametrize("n", [1, 2, 7, 12])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_jacobi(eager, rng, n, dtype):
    for spectrum in (rng.standard_normal(n), np.ones(n), np.logspace(-8, 0, n), np.r_[np.zeros(n - 1), 1.0]):
        G = hermitian(rng, n, dtype, spectrum)
        w, V = (eager.to_numpy(x) for x in jacobi_eigh(eager, eager.asarray(G)))
        eps = float(np.finfo(G.real.dtype).eps)
        np.testing.assert_allclose(w, np.linalg.eigvalsh(G), atol=50 * eps)
        assert np.linalg.norm(G @ V - V * w) < 50 * n * eps
        assert np.linalg.norm(V.conj().T @ V - np.eye(n)) < 50 * n * eps


def test_jacobi_meets_clusters(rng):
    be = cola.backends.get_backend("numpy")
    for n in (20, 33):
        for spectrum in (np.logspace(-12, 0, n), np.r_[np.ones(n // 2), np.linspace(1, 2, n - n // 2)]):
            G = hermitian(rng, n, "float64", spectrum)
            w, V = jacobi_eigh(be, G)
            assert np.linalg.norm(G @ V - V * w) < 1e-13 and np.linalg.norm(V.T @ V - np.eye(n)) < 1e-12


KERNEL = """
import numpy as np, torch
from cola_core.backends import get_backend
from cola_gpu.krylov import jacobi
be, rng = get_backend("torch"), np.random.default_rng(0)
jacobi.kernel_serves = lambda be, A: True
for n, dtype in ((5, torch.float64), (8, torch.float64), (6, torch.float32)):
    G = torch.as_tensor(rng.standard_normal((n, n)), dtype=dtype)
    G = G + G.T
    w, V = jacobi.jacobi_eigh(be, G)
    eps = torch.finfo(dtype).eps
    assert float((G @ V - V * w).norm()) < 100 * n * eps
    assert float((V.T @ V - torch.eye(n)).norm()) < 100 * n * eps
    assert bool((w[1:] >= w[:-1]).all()) and not jacobi._BROKEN
flat, V = jacobi.jacobi_eigh(be, 3 * torch.eye(4))
assert flat.tolist() == [3.0] * 4 and torch.equal(V.abs().sum(0), torch.ones(4))
print("done")
"""


def test_jacobi_in_one_launch(monkeypatch):
    """The Triton kernel, by its interpreter; and a kernel that fails, which array operations replace."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    run = subprocess.run(
        [sys.executable, "-c", KERNEL],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "done", run.stderr[-2000:]
    be = cola.backends.get_backend("torch")
    assert not jacobi.kernel_serves(be, torch.eye(3))
    monkeypatch.setattr(jacobi, "kernel_serves", lambda be, A: True)
    monkeypatch.setattr(jacobi, "_BROKEN", [])
    monkeypatch.setitem(sys.modules, "cola_gpu.krylov.jacobi_kernel", None)
    with graphs.noted() as notes:
        w, _ = jacobi_eigh(be, torch.diag(torch.tensor([2.0, 1.0])))
    assert w.tolist() == [1.0, 2.0] and "array operations" in notes[0]


# -- stochastic Lanczos quadrature --------------------------------------------------------------------------
def test_slq(eager, rng):
    d = np.linspace(1, 5, 300)
    A = hidden(cola.PSD(ops.Diagonal(eager.asarray(d))))
    value, info = cola.logdet(A, DeviceSLQ(check_every=8), return_info=True)
    assert info.converged and info.method == "DeviceSLQ"
    assert abs(float(value) - np.log(d).sum()) < 4 * info.standard_error
    same = float(cola.logdet(A, cola.SLQ()))
    assert float(value) == pytest.approx(same, rel=1e-9), "the same probes, the same quadrature"
    f = cola.exp(hidden(cola.PSD(ops.Diagonal(eager.asarray(d / 5)))), cola.Lanczos())
    value, info = cola.trace(f, DeviceSLQ(), return_info=True)
    assert abs(float(value) - np.exp(d / 5).sum()) < 4 * info.standard_error + 1e-9
    flat = hidden(cola.PSD(ops.Diagonal(eager.asarray(np.full(100, 2.0)))))
    assert float(cola.logdet(flat, DeviceSLQ(check_every=4))) == pytest.approx(100 * np.log(2.0))
    wrong = hidden(cola.PSD(ops.Diagonal(eager.asarray(np.linspace(-1, 1, 50)))))
    with pytest.raises(NotPositiveDefiniteError):
        cola.logdet(wrong, DeviceSLQ())


# -- derivatives --------------------------------------------------------------------------------------------
def test_torch_derivatives(rng, spd):
    torch = pytest.importorskip("torch")
    M = torch.tensor(spd(rng, 40), requires_grad=True)
    b = torch.tensor(rng.standard_normal(40))

    def gradient(loss):
        return torch.autograd.grad(loss, M)[0]

    def operator():
        return cola.no_dispatch(cola.PSD(ops.Dense((M + M.mT) / 2)))

    exact = torch.linalg.solve((M + M.mT) / 2, b)
    got = cola.solve(operator(), b, DeviceCG(tol=1e-12, check_every=8))
    torch.testing.assert_close(gradient((got**2).sum()), gradient((exact**2).sum()), rtol=1e-8, atol=1e-10)
    for alg in (DeviceLanczos(check_every=4), DeviceLOBPCG(tol=1e-12, check_every=8)):
        w, _ = cola.eigh(operator(), 2, "LA", alg)
        torch.testing.assert_close(
            gradient(w.sum()),
            gradient(torch.linalg.eigvalsh((M + M.mT) / 2)[-2:].sum()),
            rtol=1e-6,
            atol=1e-8,
        )
    slope = gradient(cola.logdet(operator(), DeviceSLQ(tol=1e-2)))
    # an estimate, from the probes of the value, that is exact along M: tr(M^-1 M)
    assert float((slope * M.detach()).sum()) == pytest.approx(40, rel=1e-3)


def test_jax_derivatives(rng, spd):
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    M, b = jnp.asarray(spd(rng, 12)), jnp.asarray(rng.standard_normal(12))

    def ours(M):
        x = cola.solve(cola.PSD(ops.Dense((M + M.T) / 2)), b, DeviceCG(tol=1e-12, check_every=4))
        return (x**2).sum()

    def dense(M):
        return (jnp.linalg.solve((M + M.T) / 2, b) ** 2).sum()

    np.testing.assert_allclose(jax.jit(jax.grad(ours))(M), jax.grad(dense)(M), rtol=1e-7, atol=1e-9)


# -- what the host looks at ---------------------------------------------------------------------------------
LOOKS = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.equal", "aten.nonzero", "aten.item")


def looks(run):
    """(answer, how often ``run`` reads a value of a tensor)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counter(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += str(func).startswith(LOOKS)
            return func(*args, **(kwargs or {}))

    with Counter() as counter:
        answer = run()
    return answer, counter.count


def test_torch_looks_once_a_block():
    torch = pytest.importorskip("torch")
    d = torch.logspace(0, 6, 600, dtype=torch.float64)
    A, b = hidden(cola.PSD(ops.Diagonal(d))), torch.ones(600, dtype=torch.float64)

    def cg(**settings):
        return looks(
            lambda: cola.solve(A, b, DeviceCG(tol=1e-30, **settings), return_info=True, on_failure="ignore")
        )

    ((_, few), some), ((_, many), more) = (cg(max_iters=m, check_every=16) for m in (64, 320))
    assert (few.iterations, many.iterations) == (64, 320)
    assert more - some == (320 - 64) // 16
    _, host = looks(
        lambda: cola.solve(A, b, cola.CG(tol=1e-30, max_iters=320), return_info=True, on_failure="ignore")
    )
    assert host > 320 > 4 * more

    def pairs(m):
        alg = DeviceLanczos(max_iters=m, check_every=16, tol=1e-14)
        return looks(lambda: cola.eigh(A, 2, "SA", alg, return_info=True, on_failure="ignore"))

    (((_, _), few), some), (((_, _), many), more) = pairs(60), pairs(500)
    restarts = (many.iterations - few.iterations) / 16
    assert restarts > 10 and more - some <= 4 * restarts

    def slq(m):
        alg = DeviceSLQ(max_iters=m, samples=4, max_samples=4, tol=1e-12, check_every=16)
        return looks(lambda: cola.logdet(hidden(cola.PSD(ops.Diagonal(d))), alg, on_failure="ignore"))

    assert (
        slq(32)[1] + 2 * 64 > slq(128)[1]
    )  # the sweeps of 64 and 128 steps add looks of rounds, not of steps


def test_lobpcg_looks_once_a_block(monkeypatch):
    torch = pytest.importorskip("torch")
    # CUDA's way on the CPU, where LAPACK's own report is a look
    monkeypatch.setattr(jacobi, "small_eigh", lambda be, A: jacobi.jacobi_eigh(be, A, sweeps=5))
    A = hidden(cola.PSD(ops.Diagonal(torch.logspace(0, 4, 300, dtype=torch.float64))))

    def run(steps):
        alg = DeviceLOBPCG(tol=1e-30, max_iters=steps, check_every=6, guard=1)
        return looks(lambda: cola.eigh(A, 1, "SA", alg, return_info=True, on_failure="ignore"))

    (_, some), (many, more) = run(6), run(18)
    assert many[1].iterations == 18 and more - some == 2


def primitives(jaxpr, found=None):
    found = [] if found is None else found
    for eqn in jaxpr.eqns:
        found.append(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    primitives(inner, found)
    return found


def test_jax_is_one_loop():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def solved(d, b):  # the iteration itself: a program that can be differentiated holds its transpose, too
        A = hidden(cola.PSD(ops.Diagonal(d)))
        return DeviceCG._iterate(A, None, b[:, None], None, 1e-8, 100)[0]

    def pairs(alg):
        return lambda d, b: cola.eigh(hidden(cola.SelfAdjoint(ops.Diagonal(d))), 2, "LA", alg)[0]

    d = jnp.linspace(1.0, 2.0, 200)
    for program, whiles in (
        (solved, 1),
        (pairs(DeviceLOBPCG()), 1),
        (pairs(DeviceLanczos(check_every=4)), 2),
    ):
        found = primitives(jax.make_jaxpr(program)(d, d).jaxpr)
        assert found.count("while") == whiles  # of Lanczos the cycle, and in it the steps
        assert not [name for name in found if "callback" in name]


# -- recorded blocks ----------------------------------------------------------------------------------------
def tape(log, tried=True):
    """A recorder for the CPU with the ways of a CUDA graph: recording changes nothing, replaying repeats the
    operations on the same memory whatever Python has done since."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    def tensors(xs):
        return [x for x in torch.utils._pytree.tree_leaves(xs) if isinstance(x, torch.Tensor)]

    class Tape(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.lines, self.mine, self.saved = [], set(), {}

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if str(func).startswith(LOOKS):
                raise RuntimeError("operation not permitted when stream is capturing")
            for x in tensors((args, kwargs)):
                where = x.untyped_storage().data_ptr()
                if where not in self.mine and where not in self.saved:
                    self.saved[where] = (x.untyped_storage(), x.untyped_storage().clone())
            out = func(*args, **(kwargs or {}))
            known = {x.untyped_storage().data_ptr() for x in tensors((args, kwargs))}
            new = [x for x in tensors(out) if x.untyped_storage().data_ptr() not in known]
            self.mine.update(x.untyped_storage().data_ptr() for x in new)
            self.lines.append((func, args, kwargs or {}, out))
            return out

    class Recorder:
        name = "tape"

        def trial(self, work):
            out, waits = looks(work)
            return out, "it waits" if waits and tried else ""

        def record(self, work):
            with Tape() as kept:
                work()
            for storage, before in kept.saved.values():
                storage.copy_(before)

            def replay():
                log.append(len(kept.lines))
                for func, args, kwargs, out in kept.lines:
                    for old, new in zip(tensors(out), tensors(func(*args, **kwargs)), strict=True):
                        if old.data_ptr() != new.data_ptr():
                            old.copy_(new)

            return replay

    return lambda be, *arrays: Recorder() if be.name == "torch" else None


RECORDED = {
    "cg": lambda A: cola.solve(
        A, A @ A._concrete_backend().xp.ones(200, dtype=A.dtype), DeviceCG(check_every=5)
    ),
    "lanczos": lambda A: cola.eigh(A, 2, "SA", DeviceLanczos(check_every=6))[0],
    "block": lambda A: cola.eigh(A, 2, "LA", DeviceBlockLanczos(check_every=6, block=2))[0],
    "lobpcg": lambda A: cola.eigh(A, 1, "LA", DeviceLOBPCG(check_every=2, guard=1, tol=1e-3))[0],
}


@pytest.mark.parametrize("name", RECORDED)
def test_replayed_blocks_are_the_same_steps(monkeypatch, name):
    torch = pytest.importorskip("torch")
    from cola_gpu.krylov import restart

    monkeypatch.setattr(jacobi, "small_eigh", lambda be, A: jacobi.jacobi_eigh(be, A, sweeps=5))
    monkeypatch.setattr(restart, "COLUMNS", 64)  # several pieces
    A = hidden(cola.PSD(ops.Diagonal(torch.logspace(0, 2, 200, dtype=torch.float64))))
    with cola.infos() as plain:
        want = RECORDED[name](A)
    log = []
    monkeypatch.setattr(graphs, "recorder_for", tape(log))
    with cola.infos() as taped:
        got = RECORDED[name](A)
    assert len(log) >= 2, "blocks were replayed"
    assert plain[-1].converged and taped[-1].converged and taped[-1].iterations == plain[-1].iterations
    assert taped[-1].method == f"{plain[-1].method} [tape]"
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tried", [True, False])
def test_what_cannot_be_recorded_is_launched(monkeypatch, tried):
    torch = pytest.importorskip("torch")
    d = torch.linspace(1, 50, 200, dtype=torch.float64)

    def product(x):
        assert float(x.sum()) == float(x.sum())  # waits for a value
        return d * x

    A = cola.PSD(ops.FunctionOperator(product, (200, 200), "float64", backend="torch"))
    log = []
    monkeypatch.setattr(graphs, "recorder_for", tape(log, tried))
    x, info = cola.solve(A, torch.ones(200, dtype=torch.float64), DeviceCG(check_every=5), return_info=True)
    assert info.converged and not log
    why = "it waits" if tried else "RuntimeError: operation not permitted when stream is capturing"
    assert info.method == f"DeviceCG [launched step by step: no tape ({why})]"
    torch.testing.assert_close(x, 1 / d, rtol=1e-6, atol=1e-9)


def test_recorders(monkeypatch):
    torch = pytest.importorskip("torch")
    be = cola.backends.get_backend("torch")
    assert graphs.recorder_for(be, torch.ones(2)) is None
    assert graphs.recorder_for(cola.backends.get_backend("numpy"), np.ones(2)) is None
    calls = []

    class Graph:
        def replay(self):
            calls.append("replay")

    class Capture:
        def __init__(self, graph, **settings):
            calls.append(settings)

        def __enter__(self):
            calls.append("begin")

        def __exit__(self, *error):
            calls.append("end")

    class Device:
        def __init__(self, device):
            calls.append(device)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    fakes = {"CUDAGraph": Graph, "graph": Capture, "device": Device, "Stream": lambda: "own"}
    fakes |= {"current_stream": lambda: "usual", "set_stream": calls.append}
    fakes |= {"get_sync_debug_mode": lambda: 0, "set_sync_debug_mode": calls.append}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    cuda = graphs.CudaGraphs("cuda:0")
    cuda.record(lambda: calls.append("work"))()
    settings = {"stream": "own", "capture_error_mode": "thread_local"}
    assert calls == ["cuda:0", settings, "begin", "work", "end", "usual", "replay"]
    with pytest.raises(RuntimeError, match="captured"):
        cuda.record(lambda: (_ for _ in ()).throw(RuntimeError("cannot be captured")))
    assert calls[-1] == "usual", "the stream in use before is in use again"

    def waits():
        warnings.warn("called a synchronizing CUDA operation (...)", UserWarning, stacklevel=1)
        return 3

    assert cuda.trial(waits) == (3, "the operator waits for the device") and calls[-2:] == ["warn", 0]
    with pytest.warns(UserWarning, match="something else"):
        assert cuda.trial(lambda: warnings.warn("something else", stacklevel=1)) == (None, "")


# -- selection ----------------------------------------------------------------------------------------------
@pytest.fixture
def plugin():
    from cola_core.plugins import MANAGER

    MANAGER.load("gpu", "name", explicit=True)


def on(device, n=10**6):
    """A PSD operator of which only products are known, and a right-hand side, without memory behind them."""
    torch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        A = hidden(cola.PSD(ops.Diagonal(torch.empty(n, device=device))))
        return A, torch.empty(n, device=device)


def test_operands_on_an_accelerator_select_them(plugin):
    A, b = on("cuda")

    def by(*asked, **settings):
        return cola.explain(*asked, **settings).root.by

    assert by(cola.solve, A, b) == "gpu:solve/device-cg"
    assert by(cola.eigh, A, 3, "LA") == "gpu:eigsh/device-lanczos"
    assert by(cola.eigh, A, 3, "LM") == "gpu:eigsh/device-lanczos"
    P = cola.PSD(ops.Identity(10**6))
    assert by(cola.eigh, A, 3, "SA", alg=cola.Auto(P=P)) == "gpu:eigsh/device-lobpcg"
    assert by(cola.logdet, A, alg=cola.Auto(memory=1e12)) == "gpu:slogdet/device-slq"
    slq = DeviceSLQ().cost("slogdet", A)
    assert slq.syncs < 0.2 * cola.SLQ().cost("slogdet", A).syncs
    cg = DeviceCG().cost("solve", A, b)
    assert (
        cg.syncs < 0.1 * cola.CG().cost("solve", A, b).syncs
        and cg.bytes == cola.CG().cost("solve", A, b).bytes
    )


def test_operands_on_the_cpu_do_not(plugin):
    A, b = on("cpu")
    plan = cola.explain(cola.solve, A, b, candidates=True)
    assert plan.root.by == "core:solve/cg"
    reasons = {name: reason for name, reason, _ in plan.root.rejected}
    assert reasons["gpu:solve/device-cg"] == "operands are on the CPU"
    for alg in (DeviceCG(), DeviceLanczos(), DeviceBlockLanczos(), DeviceLOBPCG(P=A), DeviceSLQ()):
        assert alg.applicable("eigsh", A, 3, "LA") == "operands are on the CPU"


def test_operands_on_several_devices_do_not(monkeypatch):
    A, b = on("cuda")
    from cola_gpu.krylov import settings

    assert DeviceCG().applicable("solve", A, b) is True
    monkeypatch.setattr(settings, "shards", lambda A: 4)
    assert DeviceCG().applicable("solve", A, b) == "operands are spread over several devices"


def test_the_package_is_due_for_devices():
    import tomllib
    from pathlib import Path

    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    due = tomllib.loads(text)["project"]["entry-points"]["cola_core.rules"]
    assert {"device.cuda", "device.tpu", "device.mps"} <= set(due)
    module, _, name = due["device.cuda"].partition(":")
    assert getattr(__import__(module, fromlist=[name]), name)(object()) is None

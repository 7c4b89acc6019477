"""SLQ: gradients are the solve identity with the probes of the value, of every order, in O(n s) memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivative_modes import modes_of
from cola_core.testing.differences import slope
from cola_core.testing.run import installed

N, SAMPLES = 9, 4
ALG = cola.SLQ(samples=SAMPLES, max_samples=SAMPLES, tol=1e-9)
FUNCTIONS = {  # the answer, and f' of the eigenvalues
    "logdet": (lambda A, alg: cola.logdet(A, alg), lambda w: 1 / w),
    "inverse": (lambda A, alg: cola.trace(cola.inv(A), alg), lambda w: -1 / w**2),
    "exp": (lambda A, alg: cola.trace(cola.exp(A, cola.Lanczos()), alg), np.exp),
    "sqrt": (lambda A, alg: cola.trace(cola.sqrt(A, cola.Lanczos()), alg), lambda w: 0.5 / w**0.5),
}

frameworks = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)


def draw(rng, *shape, dtype="float64"):
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def gram(M):
    return M @ M.conj().swapaxes(-1, -2) / 4 + np.eye(M.shape[0])


def operator(M, be):
    """PSD, known by its products only."""
    return cola.no_dispatch(cola.PSD(ops.Dense(M @ be.adjoint(M) / 4 + be.eye(N, M.dtype))))


def probes(be, dtype):
    from cola_core.algorithms.sketch import next_key

    return be.to_numpy(be.rademacher(next_key(be, ALG.key, 0), (N, SAMPLES), be.dtype(dtype)))


def identity(f, Z):
    """``M, d -> E[z^H f'(A) dA z]`` with these probes, in NumPy."""

    def along(M, d):
        w, V = np.linalg.eigh(gram(M))
        dA = (d @ M.conj().T + M @ d.conj().T) / 4
        return np.mean(np.sum(Z.conj() * ((V * f(w)) @ V.conj().T @ dA @ Z), axis=0)).real

    return along


@frameworks
@pytest.mark.parametrize(
    ("name", "kind"),
    [("logdet", "float64"), ("logdet", "complex128"), ("inverse", "float64"), ("exp", "float64")],
)
def test_every_mode_is_the_identity_with_the_probes_of_the_value(library, name, kind, rng):
    if library == "jax" and (name, kind) != ("logdet", "complex128"):
        pytest.skip("on JAX, which compiles each of them, one")
    be, modes = get_backend(library), modes_of(library)
    ask, slope_of_f = FUNCTIONS[name]
    M, d, e = (draw(rng, N, N, dtype=kind) for _ in range(3))
    along = identity(slope_of_f, probes(be, kind))

    def loss(x):
        out = ask(operator(x[0], be), ALG)
        return be.xp.real(out) if be.is_complex(out) else out

    x, dx = [be.asarray(M)], [be.asarray(d)]
    want = along(M, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradient = [be.to_numpy(g) for g in modes.gradient(loss, x)]
        _, forward = modes.forward(loss, x, dx)
        twice = [
            [be.to_numpy(g) for g in mode(loss, x, dx)]
            for mode in (modes.reverse_reverse, modes.forward_reverse)
        ]
    assert abs(modes.pair(gradient, [d]) - want) < 1e-6 * abs(want)
    assert abs(float(forward) - want) < 1e-6 * abs(want)
    # the Hessian of an estimate is not symmetric: rows and columns are of different sides of the identity
    for second, (row, column) in zip(twice, ((d, e), (e, d)), strict=True):
        want2, error = slope(lambda x, row=row: along(x[0], row), [M], [column])
        assert abs(modes.pair(second, [e]) - want2) < 1e-5 * abs(want2) + 10 * error


@frameworks
def test_the_value_is_the_same_number_as_without(library, rng):
    be = get_backend(library)
    alg = cola.SLQ(samples=8, max_samples=64, tol=2e-2)  # of several rounds, or longer recurrences
    M = be.asarray(draw(rng, N, N))
    plain = float(cola.logdet(operator(M, be), alg, on_failure="ignore"))
    if library == "torch":
        import torch

        M.requires_grad_()
        recorded = float(cola.logdet(operator(M, be), alg, on_failure="ignore").detach())
        wrapped, _ = torch.func.jvp(
            lambda x: cola.logdet(operator(x, be), alg, on_failure="ignore"), (M.detach(),), (M.detach(),)
        )
    else:
        import jax

        recorded, _ = jax.value_and_grad(lambda x: cola.logdet(operator(x, be), alg, on_failure="ignore"))(M)
        wrapped = recorded
    assert plain == recorded == float(wrapped)


@frameworks
@pytest.mark.parametrize("preconditioned", [False, True])
def test_gradients_are_unbiased_and_as_exact_as_the_probes(library, preconditioned, rng):
    """Against the exact gradient of a kernel's three parameters, within the spread over keys."""
    if library == "jax" and not preconditioned:
        pytest.skip("on JAX one of both")
    be, modes, n = get_backend(library), modes_of(library), 60
    x = np.sort(rng.uniform(size=n))
    gaps = be.asarray((x[:, None] - x) ** 2)
    theta = np.log([0.15, 1.3, 0.05])

    def matrix(t, xp, gaps, eye):
        return xp.exp(t[1] - gaps / (2 * xp.exp(2 * t[0]))) + xp.exp(t[2]) * eye

    exact = np.array([
        slope(
            lambda t: np.linalg.slogdet(matrix(t[0], np, be.to_numpy(gaps), np.eye(n)))[1], [theta], [row]
        )[0]
        for row in np.eye(3)
    ])  # fmt: skip
    eye = be.eye(n, gaps.dtype)
    P = cola.preconditioners.RPCholesky(20) if preconditioned else None
    found = []
    for key in range(1 if library == "jax" else 6):
        alg = cola.SLQ(samples=32, max_samples=32, tol=1e-3, key=key, P=P)

        def loss(t, alg=alg):
            A = cola.PSD(ops.Dense(matrix(t[0], be.xp, gaps, 0 * eye))) + be.xp.exp(t[0][2]) * ops.Identity(n)
            return cola.logdet(cola.PSD(A) if preconditioned else cola.no_dispatch(cola.PSD(A)), alg)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(be.to_numpy(modes.gradient(loss, [be.asarray(theta)])[0]))
    spread = 0.05 if preconditioned else 0.3
    assert np.linalg.norm(np.mean(found, axis=0) - exact) < spread * np.linalg.norm(exact)


@frameworks
def test_a_solve_that_misses_its_tolerance_is_told(library, rng):
    """The solve of the gradient reports itself."""
    be, n = get_backend(library), 200
    w = np.logspace(0, 7, n)
    if library == "torch":
        t = be.asarray(w).requires_grad_()
    else:
        t = be.asarray(w)

    def loss(t):
        A = cola.no_dispatch(cola.PSD(ops.Dense(be.matrix_diag(t))))
        return cola.logdet(A, cola.SLQ(max_iters=4, samples=2, max_samples=2), on_failure="ignore")

    with cola.infos() as found:
        if library == "torch":
            loss(t).backward()
        else:
            import jax

            jax.block_until_ready(jax.grad(loss)(t))
            jax.effects_barrier()
    assert any("gradient of CG" in info.method for info in found)


@cola.ops.operator
class Counted(ops.LinearOperator):
    """A matrix that counts the columns it is multiplied with."""

    array: object

    def _shape(self):
        return tuple(self.array.shape)

    def _dtype(self):
        return self.array.dtype

    def _matmat(self, X):
        COLUMNS.append(X.shape[-1])
        return self.array @ X

    def _rmatmat(self, X):
        return self._matmat(X)

    def _adjoint(self):
        return self


COLUMNS: list[int] = []


def test_gradients_take_one_batched_solve(rng):
    """No product for every step of every probe again: where the recurrences have converged, next to none."""
    torch = pytest.importorskip("torch")
    n, samples = 300, 8
    array = torch.diag(torch.linspace(1, 3, n, dtype=torch.float64)).requires_grad_()
    COLUMNS.clear()
    value = cola.logdet(cola.PSD(Counted(array)), cola.SLQ(samples=samples, max_samples=samples))
    steps = len(COLUMNS)
    value.backward()
    assert len(COLUMNS) - steps <= 4 and set(COLUMNS[1:]) == {samples}
    assert array.grad.shape == (n, n)


def test_memory_does_not_grow_with_the_steps():
    """What is kept between value and gradient is as long with 10 steps as with 100."""
    torch = pytest.importorskip("torch")
    kept = []
    for steps in (10, 100):
        saved = []
        t = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        gaps = torch.as_tensor(np.subtract.outer(np.arange(150.0), np.arange(150.0)) ** 2)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, s=saved: s.append(x.numel()) or x, lambda x: x
        ):
            A = cola.PSD(cola.PSD(ops.Dense(torch.exp(-gaps * t))) + cola.PSD(1e-4 * ops.Identity(150)))
            alg = cola.SLQ(max_iters=steps, samples=2, max_samples=2)
            cola.logdet(A, alg, on_failure="ignore").backward()
        kept.append(sum(saved))
    assert kept[0] == kept[1]

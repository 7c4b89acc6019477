"""Traces and diagonals by probes and by products: the same number with and without derivatives, and its own
derivative, or an estimate of the derivative, from the same probes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivative_modes import modes_of
from cola_core.testing.derivatives import check_derivatives
from cola_core.testing.run import installed

N = 24

frameworks = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)
TRACE = {
    "hutchinson": cola.Hutchinson(bs=6, max_iters=15, rand="normal"),
    "hutchpp": cola.HutchPP(bs=3, max_iters=18),
    "xtrace": cola.XTrace(samples=4, max_iters=8),
    "xnystrace": cola.XNysTrace(samples=5, max_iters=10),
    "probing": cola.Probing(colors=tuple(np.arange(N) % 3), bs=6),
    "exact": cola.Exact(bs=7),
}
DIAG = {
    "hutchinson": cola.Hutchinson(bs=6, max_iters=15),
    "xdiag": cola.XDiag(samples=4, max_iters=8),
    "probing": cola.Probing(colors=tuple(np.arange(N) % 3), bs=6),
    "exact": cola.Exact(bs=7),
}
OWN = ("hutchinson", "probing", "xnystrace", "exact")  # the derivative is that of the estimate


def hidden(M, be):
    """PSD, known by its products only, and not linear in M."""
    return cola.no_dispatch(cola.PSD(ops.Dense(M @ be.adjoint(M) / N + be.eye(N, M.dtype))))


def entry(rng, dtype="float64"):
    M = rng.standard_normal((N, N))
    return M + 1j * rng.standard_normal((N, N)) if "complex" in dtype else M


def losses(be, M):
    """Real functions of each estimate: name, loss of the framework's arrays."""
    xp = be.xp
    weights = be.asarray(np.linspace(-1, 2, N))
    for name, alg in TRACE.items():
        yield name, lambda x, alg=alg: xp.real(cola.trace(hidden(x[0], be), alg, on_failure="ignore") + 0j)
    for name, alg in DIAG.items():

        def loss(x, alg=alg):
            d = cola.diag(hidden(x[0], be), 0, alg, on_failure="ignore")
            return xp.sum(weights * xp.abs(d) ** 2)

        yield f"diag {name}", loss


@frameworks
@pytest.mark.parametrize("name", [*TRACE, *(f"diag {n}" for n in DIAG)])
def test_derivatives_of_estimates(library, name, rng):
    """Every mode against differences of the estimate itself, where it is its own derivative."""
    if library == "jax" and name not in ("hutchinson", "hutchpp", "xnystrace"):
        pytest.skip("on JAX some of them")
    be = get_backend(library)
    M = entry(rng)
    loss = dict(losses(be, M))[name]

    def value(x):
        return float(loss([be.asarray(x[0])]))

    own = name.removeprefix("diag ") in OWN
    if own:
        modes = ("reverse", "forward", "reverse-reverse", "forward-reverse")
        if library == "jax":
            modes = ("reverse", "forward", "forward-reverse") if name == "hutchinson" else ("reverse",)
        check_derivatives(library, loss, value, [M], modes, rtol=1e-5)
        return
    # with the basis fixed: forward and reverse agree, and its mean over keys is the derivative
    d = rng.standard_normal((N, N))
    modes = modes_of(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reverse = modes.pair([be.to_numpy(modes.gradient(loss, [be.asarray(M)])[0])], [d])
        forward = float(modes.forward(loss, [be.asarray(M)], [be.asarray(d)])[1])
        second = modes.forward_reverse(loss, [be.asarray(M)], [be.asarray(d)])[0]
    assert np.isclose(forward, reverse, rtol=1e-9)
    assert np.isfinite(be.to_numpy(second)).all() and np.abs(be.to_numpy(second)).max() > 0


@pytest.mark.parametrize("name", ["hutchpp", "xtrace", "xdiag"])
def test_estimates_of_derivatives_are_unbiased(name, rng):
    """What fixes its basis in derivatives estimates the derivative: right on average over keys."""
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    scale = np.diag(0.8 ** np.arange(N))
    M, d = scale @ entry(rng) @ scale, scale @ entry(rng) @ scale
    exact = 2 * np.trace(d @ M.T) / N
    found = []
    for key in range(60):
        M_ = be.asarray(M).requires_grad_()
        A = cola.no_dispatch(cola.PSD(ops.Dense(M_ @ M_.T / N)))
        if name == "xdiag":
            out = cola.diag(A, 0, cola.XDiag(samples=4, max_iters=4, key=key), on_failure="ignore").sum()
        else:
            cls = {"hutchpp": cola.HutchPP, "xtrace": cola.XTrace}[name]
            more = {"bs": 4} if name == "hutchpp" else {"samples": 4}
            out = cola.trace(A, cls(max_iters=12, key=key, **more), on_failure="ignore")
        (g,) = torch.autograd.grad(out, M_)
        found.append(float((g * be.asarray(d)).sum()))
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / 60**0.5 + 1e-12


@frameworks
def test_the_value_is_the_same_number_as_without(library, rng):
    be = get_backend(library)
    M = be.asarray(entry(rng))
    named = dict(losses(be, M))
    for name in named if library == "torch" else ("hutchpp", "xtrace"):
        plain = float(named[name]([M]))
        if library == "torch":
            recorded = float(named[name]([M.clone().requires_grad_()]).detach())
        else:
            import jax

            recorded = float(jax.value_and_grad(lambda x, f=named[name]: f([x]))(M)[0])
        assert plain == recorded or np.isclose(plain, recorded, rtol=1e-14), name  # JAX fuses otherwise


def test_memory_does_not_grow_with_the_probes(rng):
    """What is kept between value and gradient is as long with 16 probes as with 160."""
    torch = pytest.importorskip("torch")
    d = torch.as_tensor(rng.standard_normal(400)).requires_grad_()
    kept = []
    for most in (16, 160):
        for alg in (cola.Hutchinson(bs=16, max_iters=most, tol=1e-9), cola.HutchPP(bs=4, max_iters=most)):
            saved = []
            hear = lambda x, s=saved: s.append(x.numel()) or x  # noqa: E731
            with torch.autograd.graph.saved_tensors_hooks(hear, lambda x: x):
                A = cola.no_dispatch(ops.Diagonal(d) @ ops.Circulant(d))
                value = cola.trace(A, alg, on_failure="ignore")
            value.backward()
            kept.append(sum(saved))
    assert kept[0] == kept[2]
    assert kept[3] - kept[1] <= 400 * 160 / 2  # the basis itself


@frameworks
@pytest.mark.parametrize("name", ["inverse", "product", "function"])
def test_traces_and_diagonals_of_compositions(library, name, rng):
    """Of an inverse, a product and a function: exactly, every mode."""
    if library == "jax" and name == "function":
        pytest.skip("on JAX two of them")
    be = get_backend(library)
    n = 5
    M, B = rng.standard_normal((2, n, n))
    S = M @ M.T / n + np.eye(n)
    sym = [rng.standard_normal((n, n)) for _ in range(2)]
    turns = [[d + d.T, rng.standard_normal((n, n))] for d in sym]
    w = np.linspace(1, 2, n)
    weights = be.asarray(w)

    def of(a):
        A = cola.PSD(ops.Dense(a[0]))
        if name == "inverse":
            return cola.inv(A)
        return ops.Dense(a[1]) @ cola.inv(A) if name == "product" else cola.sqrt(A)

    def dense(a):
        A = (a[0] + a[0].T) / 2
        if name == "function":
            e, V = np.linalg.eigh(A)
            return (V * np.sqrt(e)) @ V.T
        return np.linalg.inv(A) if name == "inverse" else a[1] @ np.linalg.inv(A)

    def loss(a):
        return cola.trace(of(a)) ** 2 + be.xp.sum(weights * cola.diag(of(a)))

    def reference(a):
        return np.trace(dense(a)) ** 2 + w @ np.diagonal(dense(a))

    modes = (
        ("reverse", "forward", "forward-reverse") if library == "torch" else ("reverse", "forward-reverse")
    )
    if library == "jax" and name == "inverse":
        modes = ("reverse",)
    check_derivatives(library, loss, reference, [S, B], modes, directions=turns)

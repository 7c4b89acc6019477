"""Stochastic Lanczos quadrature: errors that include truncation, other functions, preconditioners."""

from __future__ import annotations

import numpy as np
import pytest
from problems import poisson, spectrum, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.errors import NonFiniteError, NotPositiveDefiniteError
from cola_core.preconditioners import Jacobi, Nystrom, RPCholesky

N, CONDITION = 80, 1e8
SPECTRA = {
    "decaying": spectrum("decaying", N, CONDITION),
    "clustered": spectrum("clustered", N, CONDITION),
    "step": spectrum("step", N, CONDITION),
    "kernel": np.exp(-0.3 * np.arange(N)) + 1 / CONDITION,  # a smooth kernel and its noise
    "even": np.linspace(1, 1 / CONDITION, N),
}


def hidden(M, declare=cola.PSD):
    return cola.no_dispatch(declare(ops.Dense(M)))


def asked(question, A, alg):
    return question(A, alg, return_info=True, on_failure="ignore")


@pytest.mark.parametrize("steps", [20, 256], ids=["truncated", "converged"])
@pytest.mark.parametrize("name", SPECTRA)
def test_within_three_reported_errors_for_95_of_100_seeds(name, steps):
    """At condition 1e8, where too few Lanczos steps are most of the error and where they are not."""
    w = SPECTRA[name]
    A, want = hidden(with_spectrum(w, 1)), np.log(w).sum()
    hits = 0
    for key in range(100):
        value, info = asked(cola.logdet, A, cola.SLQ(max_iters=steps, samples=8, max_samples=8, key=key))
        assert info.standard_error >= info.error_estimate
        hits += abs(value - want) <= 3 * info.standard_error
    assert hits >= 95


def test_a_tolerance_is_met_or_missed_honestly():
    w = SPECTRA["even"]
    A = hidden(with_spectrum(w, 1))
    value, info = asked(cola.logdet, A, cola.SLQ(tol=3e-2))
    assert info.converged and info.standard_error <= 3e-2 * max(abs(value), N)
    _, info = asked(cola.logdet, A, cola.SLQ(tol=1e-6, max_samples=16))
    assert not info.converged and "limit" in info.reason


FUNCTIONS = {
    "exp": (lambda A: cola.exp(A, cola.Lanczos()), np.exp),
    "sqrt": (lambda A: cola.sqrt(A, cola.Lanczos()), np.sqrt),
    "log": (lambda A: cola.log(A, cola.Lanczos()), np.log),
    "inverse": (cola.inv, lambda w: 1 / w),
    "cube": (lambda A: cola.apply_unary(lambda w: w**3, A, cola.Lanczos()), lambda w: w**3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_traces_of_functions(name, library):
    """The trace of a lazy f(A), without a product with f(A), on every library."""
    from cola_core.backends import get_backend

    backend = get_backend(library)
    if library == "jax" and name != "exp":
        pytest.skip("on JAX one of the functions")
    make, f = FUNCTIONS[name]
    w = np.linspace(0.5, 3, 90)
    F = make(hidden(backend.asarray(with_spectrum(w, 3))))
    value, info = asked(cola.trace, F, cola.SLQ(tol=2e-2))
    assert bool(info.converged) and info.method == "SLQ"
    assert abs(float(value) - f(w).sum()) < 4 * float(info.standard_error)


def test_functions_of_indefinite_operators():
    """exp needs self-adjoint only; an inverse needs PSD, and says so; an operator that is no function too."""
    w = np.linspace(-1, 1, 100)
    A = hidden(with_spectrum(w, 1), cola.SelfAdjoint)
    value, info = asked(cola.trace, cola.exp(A, cola.Lanczos()), cola.SLQ())
    assert abs(value - np.exp(w).sum()) < 4 * info.standard_error
    for B, reason in ((cola.inv(A), "PSD"), (A, "no lazy function")):
        with pytest.raises(NotImplementedError, match=reason):
            cola.trace(B, cola.SLQ())
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value"):
        cola.trace(cola.inv(hidden(with_spectrum(w, 1))), cola.SLQ())


@pytest.mark.parametrize("complex_", [False, True])
def test_preconditioned(complex_):
    """A preconditioner takes steps and variance away; its products are made."""
    n = 150
    x = np.sort(np.random.default_rng(0).uniform(size=n))
    K = np.exp(-((x[:, None] - x) ** 2) / 0.02) + 1e-4 * np.eye(n)
    if complex_:
        phase = np.exp(1j * np.arange(n))
        K = phase[:, None] * K * phase.conj()
    want = np.linalg.slogdet(K)[1]
    plain = asked(cola.logdet, hidden(K), cola.SLQ(max_samples=16))[1].standard_error
    A = cola.PSD(cola.PSD(ops.Dense(K - 1e-4 * np.eye(n))) + 1e-4 * ops.Identity(n))
    for B, P in ((A, Nystrom(50)), (A, RPCholesky(50)), (hidden(K), cola.inv(cola.PSD(K)))):
        value, info = asked(cola.logdet, B, cola.SLQ(P=P, max_samples=16))
        assert abs(value - want) < 4 * info.standard_error + 1e-6 * abs(want)
        assert info.standard_error < 0.1 * plain
    value, info = asked(cola.logdet, hidden(np.diag(np.logspace(0, 8, 90))), cola.SLQ(P=Jacobi()))
    assert abs(value - 8 * np.log(10) * 45) < 1e-8


def test_breakdown_is_exact(backend):
    """Multiples of the identity and two eigenvalues: a finite answer, without truncation."""
    for w in (np.full(40, 3.0), np.r_[np.ones(20), np.full(20, 4.0)]):
        for scale in (1.0, 2.0**-40):
            A = hidden(backend.asarray(scale * with_spectrum(w, 2)))
            value, info = asked(cola.logdet, A, cola.SLQ())
            want = np.log(w * scale).sum()
            assert float(info.error_estimate) <= 1e-8 * abs(want)
            assert abs(float(value) - want) <= 4 * float(info.standard_error) + 1e-9 * abs(want)


def test_watched():
    A, seen = hidden(with_spectrum(SPECTRA["even"], 1)), []
    hear = lambda step, error: seen.append(error) or len(seen) == 3  # noqa: E731
    _, info = asked(cola.logdet, A, cola.SLQ(tol=1e-6, callback=hear))
    assert len(seen) >= 3 and not info.converged and "callback" in info.reason
    _, info = asked(cola.logdet, A, cola.SLQ(tol=1e-6, max_seconds=0.0))
    assert not info.converged and "time budget" in info.reason


def test_under_jit():
    if not installed("jax"):
        pytest.skip("jax is not installed")
    import jax

    M = poisson(9, 9).toarray() + 0.5 * np.eye(81)
    A = hidden(jax.numpy.asarray(M))
    value, info = jax.jit(lambda A: asked(cola.logdet, A, cola.SLQ()))(A)
    assert abs(float(value) - np.linalg.slogdet(M)[1]) < 4 * float(info.standard_error)


@pytest.mark.parametrize("entries", [[1.0, 0.0, 1.0, 1.0], np.r_[np.zeros(3), np.arange(1.0, 40)]], ids=len)
def test_the_determinant_of_a_singular_operator_is_not_called_converged(backend, entries):
    """Its logarithm was that of rounding errors."""
    A = cola.PSD(ops.Dense(backend.asarray(np.diag(entries))))
    _, info = cola.slogdet(A, cola.SLQ(), on_failure="ignore", return_info=True)
    assert not info.converged and "singular" in info.reason


def test_products_that_are_not_finite_are_told(backend):
    A = cola.PSD(ops.Dense(backend.asarray(np.full((5, 5), np.nan))))
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        cola.slogdet(A, cola.SLQ())

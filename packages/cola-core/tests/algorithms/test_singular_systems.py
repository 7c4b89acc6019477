"""Systems without a solution: what the iterations for self-adjoint operators say and return."""

import numpy as np
import pytest
from problems import spectrum, with_spectrum

import cola_core as cola
from cola_core import reasons
from cola_core.backends import get_backend

SINGULAR = {reasons.REASONS[reasons.SINGULAR], reasons.REASONS[reasons.INCONSISTENT]}


def _system(seed, scale):
    values = np.where(np.arange(30) < 15, spectrum("decaying", 30, 10), 0)
    M = with_spectrum(values, seed=seed)
    b = np.random.default_rng(seed).standard_normal((30, 2))
    left = b - M @ np.linalg.pinv(M, rcond=1e-10) @ b
    return scale * M, b, np.linalg.norm(left, axis=0) / np.linalg.norm(b, axis=0)


def _seeds(library):
    return range(1) if library == "jax" else range(6)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
@pytest.mark.parametrize("method", ["minres", "minres-qlp"])
def test_minimal_residuals_end_at_the_least_squares_solution(library, method, scale):
    be = get_backend(library)
    for seed in _seeds(library):
        M, b, least = _system(seed, scale)
        A = cola.SelfAdjoint(cola.ops.Dense(be.asarray(M)))
        x, info = cola.solve(A, be.asarray(b), method, return_info=True, on_failure="ignore")
        assert not info.converged and info.reason == reasons.REASONS[reasons.INCONSISTENT]
        x = be.to_numpy(x)
        found = np.linalg.norm(b - M @ x, axis=0) / np.linalg.norm(b, axis=0)
        assert np.all(found <= (1 + 1e-6) * least)
        assert np.all(np.abs(x) * scale < 1e4)  # it has not run away along the null space


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_conjugate_gradients_tell_singular_from_indefinite(library, scale):
    be = get_backend(library)
    for seed in _seeds(library):
        M, b, _ = _system(seed, scale)
        A = cola.PSD(cola.ops.Dense(be.asarray(M)))
        x, info = cola.solve(A, be.asarray(b), cola.CG(), return_info=True, on_failure="ignore")
        assert not info.converged and info.reason in SINGULAR
        assert info.residual <= 1.0
    M = scale * with_spectrum(np.linspace(-1, 1, 30))
    A = cola.PSD(cola.ops.Dense(be.asarray(M)))
    x, info = cola.solve(A, be.asarray(b), cola.CG(), return_info=True, on_failure="ignore")
    assert not info.converged and info.reason == reasons.REASONS[reasons.INDEFINITE]

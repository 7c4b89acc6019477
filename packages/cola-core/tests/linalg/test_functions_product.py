"""Functions of every operator of the zoo, against SciPy and against the same operator without structure."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from compare import fractional_power, sqrtm, square
from zoo import tolerance

import cola_core as cola
from cola_core import ops


def near(backend, got, want, dtype, size):
    got = np.asarray(backend.to_numpy(got.to_dense()))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=10 * tolerance(dtype) * max(size, np.abs(want).max()), rtol=0)


def wide(D):
    return D.astype("complex128" if np.iscomplexobj(D) else "float64")


def of_both(ask, A):
    """The answer with rules, and with the structure hidden."""
    return ask(A), ask(cola.no_dispatch(A))


def shifted(A, D):
    """A well-conditioned operator with eigenvalues away from the closed negative axis, and its matrix."""
    s = 1.5 * max(float(np.abs(np.linalg.norm(D, 2))), 0.1)
    return A + s * ops.Identity.like(A), D + s * np.eye(len(D), dtype=D.dtype)


def test_sine_and_cosine(pair, backend, dtype):
    A, D = pair
    if not square(D):
        for f in (cola.sin, cola.cos, cola.sign, lambda A: cola.pow(A, 2), cola.log):
            with pytest.raises(cola.errors.NonSquareError):
                f(A)
        return
    scale = 1 / max(np.abs(np.linalg.eigvals(D)).max(), 1.0)
    W = wide(D) * scale
    for f, reference in ((cola.sin, sl.sinm), (cola.cos, sl.cosm)):
        for F in of_both(f, scale * A):
            near(backend, F, reference(W), dtype, 10.0)
            assert "complex" in dtype or not F._is_complex()


def test_roots_logarithms_and_powers_of_general_operators(pair, backend, dtype):
    A, D = pair
    if not square(D):
        return
    A, D = shifted(A, D)
    W = wide(D)
    size = 100 * max(1.0, np.abs(W).max())
    references = (
        (cola.sqrt, sqrtm(W)),
        (cola.isqrt, np.linalg.inv(sqrtm(W))),
        (cola.log, sl.logm(W)),
        (lambda A: cola.pow(A, 0.3), fractional_power(W, 0.3)),
    )
    for f, want in references:
        for F in of_both(f, A):
            near(backend, F, want, dtype, size)
            assert "complex" in dtype or not F._is_complex()
            if A.isa(cola.PSD) and f in (cola.sqrt, cola.isqrt):
                assert F.isa(cola.PSD)


def test_whole_powers(pair, backend, dtype):
    A, D = pair
    if not square(D):
        return
    W = wide(D)
    for F in of_both(lambda A: cola.pow(A, 3), A):
        near(backend, F, W @ W @ W, dtype, 10 * np.abs(W).max() ** 3)
    near(backend, cola.pow(A, 0), np.eye(len(D)), dtype, 1.0)
    if A.isa(cola.SelfAdjoint):
        assert cola.pow(A, 2).isa(cola.PSD) and cola.pow(A, 3).isa(cola.SelfAdjoint)
    B, D = shifted(A, D)
    for F in of_both(lambda A: cola.pow(A, -2), B):
        near(backend, F, np.linalg.inv(wide(D) @ wide(D)), dtype, 100.0)


def test_sign(pair, backend, dtype):
    A, D = pair
    if not square(D):
        return
    W = wide(D)
    w = np.linalg.eigvals(W)
    if np.abs(w.real).min() <= 1e-2 * np.abs(w).max():
        return
    for F in of_both(cola.sign, A):
        S = np.asarray(backend.to_numpy(F.to_dense()))
        size = 100 * np.linalg.cond(W)
        np.testing.assert_allclose(S @ S, np.eye(len(D)), atol=tolerance(dtype) * size)
        near(backend, F, W @ np.linalg.inv(sqrtm(W @ W)), dtype, size)


def test_a_function_of_the_user(pair, backend, dtype):
    A, D = pair
    if not square(D):
        return
    A, D = shifted(A, D)
    W = wide(D)
    if not A.isa(cola.SelfAdjoint) and np.linalg.cond(np.linalg.eig(W)[1]) > 1e3:
        return  # refused or announced: see test_matrix_functions.py
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cola.errors.IllConditionedWarning)
        near(backend, cola.funm(lambda w: w**2 - w, A), W @ W - W, dtype, 1e3 * np.abs(W @ W).max())

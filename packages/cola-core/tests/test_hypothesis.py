"""Random operator expressions, four levels deep, compared with the same expression on dense matrices."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import FUSSY, SAMPLES

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.testing.probes import PROBES


@st.composite
def leaves(draw, n):
    """An operator of any class, of size n, and its dense matrix."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    names = sorted(SAMPLES) if n == 4 else [name for name in sorted(SAMPLES) if name not in FUSSY]
    return SAMPLES[draw(st.sampled_from(names))](n, rng)


@st.composite
def expressions(draw, n, depth):
    """(operator, dense) of size n, built from up to ``depth`` levels of arithmetic."""
    if depth == 0:
        return draw(leaves(n))
    kind = draw(
        st.sampled_from(
            ["leaf", "sum", "product", "scale", "kron", "kronsum", "block", "adjoint", "slice", "gram"]
        )
    )
    if kind in ("kron", "kronsum") and n % 2 == 0 and n > 2:
        A, a = draw(expressions(2, depth - 1))
        B, b = draw(expressions(n // 2, depth - 1))
        if kind == "kron":
            return cola.kron(A, B), np.kron(a, b)
        return cola.kronsum(A, B), np.kron(a, np.eye(n // 2)) + np.kron(np.eye(2), b)
    if kind == "block" and n > 1:
        k = draw(st.integers(1, n - 1))
        A, a = draw(expressions(k, depth - 1))
        B, b = draw(expressions(n - k, depth - 1))
        return cola.block_diag(A, B), sl.block_diag(a, b)
    A, a = draw(expressions(n, depth - 1))
    if kind == "sum":
        B, b = draw(expressions(n, depth - 1))
        return A + B, a + b
    if kind == "product":
        B, b = draw(expressions(n, depth - 1))
        return A @ B, a @ b
    if kind == "scale":
        c = draw(st.sampled_from([-1, 2, 0.5, -3.0, 0]))
        return c * A, c * a
    if kind == "adjoint":
        return A.H, a.T
    if kind == "gram":
        return A.H @ A, a.T @ a
    if kind == "slice":
        order = draw(st.permutations(range(n)))
        return A[np.array(order), :], a[list(order)]
    return A, a


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_products_and_properties_equal_dense(data):
    n = data.draw(st.sampled_from([1, 2, 3, 4, 6]))
    A, D = data.draw(expressions(n, 4))
    scale = max(np.abs(D).max(), 1.0)
    x = np.linspace(-1, 1, n)
    np.testing.assert_allclose(A @ x, D @ x, atol=1e-9 * scale * n)
    np.testing.assert_allclose(A.to_dense(), D, atol=1e-9 * scale)
    np.testing.assert_allclose(A.H @ x, D.T @ x, atol=1e-9 * scale * n)
    cola.check_properties(A)


@pytest.mark.parametrize("name", sorted(PROBES))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_question_equals_dense(name, data):
    probe, be = PROBES[name], get_backend("numpy")
    n = data.draw(st.sampled_from([1, 2, 3, 4, 6]))
    A, D = data.draw(expressions(n, 4))
    D = np.asarray(D, float)
    if not probe.suits(A, D):  # what needs a definite operator gets one made of this
        A, D = A.H @ A + 0.5 * cola.I_like(A), D.T @ D + 0.5 * np.eye(n)
        if not probe.suits(A, D):
            return
    sensitivity = float(probe.sensitivity(D))
    if not sensitivity < 1e6:
        return
    singular = np.linalg.svd(D, compute_uv=False)
    if np.any((singular > 1e-14 * singular[0]) & (singular < 1e-7 * singular[0])):
        return  # neither regular nor singular: whoever rounds differently has another rank
    if 0 < singular[0] < 1e-12:
        return  # numbers of the size of one have cancelled, but for rounding
    operands = probe.operands(A, D, be, "float64", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = probe.question.run(A, *operands, alg=cola.Auto(), on_failure="raise")
    got, want = probe.arrays(A, D, answer, operands), probe.dense(D, operands)
    for g, w in zip(got, want, strict=True):
        scale = max(np.abs(np.where(np.isfinite(w), w, 0)).max(initial=0.0), np.abs(D).max(), 1.0)
        np.testing.assert_allclose(g, w, atol=1e-10 * scale * sensitivity * n, err_msg=f"{name} of {A!r}")

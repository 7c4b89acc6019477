"""Random operator expressions, four levels deep, compared with the same expression on dense matrices."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops


@st.composite
def leaves(draw, n):
    """A leaf of size n and its dense matrix; entries are moderate so that conditioning stays reasonable."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = "dense psd sym diagonal identity scalar triangular permutation sparse lowrank"
    kind = draw(st.sampled_from(kinds.split()))
    a = rng.normal(size=(n, n))
    if kind == "psd":
        m = a @ a.T + np.eye(n)
        return PSD(ops.Dense(m)), m
    if kind == "sym":
        m = a + a.T
        return SelfAdjoint(ops.Dense(m)), m
    if kind == "diagonal":
        return ops.Diagonal(a[0]), np.diag(a[0])
    if kind == "identity":
        return ops.Identity(n), np.eye(n)
    if kind == "scalar":
        return ops.ScalarMul(float(a[0, 0]), n), a[0, 0] * np.eye(n)
    if kind == "triangular":
        return ops.Triangular(a, lower=bool(a[0, 0] > 0)), np.tril(a) if a[0, 0] > 0 else np.triu(a)
    if kind == "permutation":
        p = rng.permutation(n)
        return ops.Permutation(p), np.eye(n)[p]
    if kind == "sparse":
        m = a * (rng.random((n, n)) < 0.5)
        i, j = np.nonzero(m)
        return ops.Sparse(m[i, j], i, j, (n, n)), m
    if kind == "lowrank":
        return ops.LowRank(a[:, :1]), a[:, :1] @ a[:, :1].T
    return ops.Dense(a), a


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
def test_every_question_equals_dense(data):
    n = data.draw(st.sampled_from([1, 2, 3, 4, 6]))
    A, D = data.draw(expressions(n, 4))
    scale = max(np.abs(D).max(), 1.0)
    x = np.linspace(-1, 1, n)
    np.testing.assert_allclose(A @ x, D @ x, atol=1e-9 * scale * n)
    np.testing.assert_allclose(A.to_dense(), D, atol=1e-9 * scale)
    np.testing.assert_allclose(A.H @ x, D.T @ x, atol=1e-9 * scale * n)
    cola.check_properties(A)
    np.testing.assert_allclose(cola.trace(A), np.trace(D), atol=1e-9 * scale * n)
    np.testing.assert_allclose(cola.diag(A), np.diag(D), atol=1e-9 * scale)
    singular_values = np.linalg.svd(D, compute_uv=False)
    cond = singular_values[0] / max(singular_values[-1], 1e-300)
    if 0 < singular_values[0] and cond < 1e8:
        sign, value = cola.slogdet(A)
        want = np.linalg.slogdet(D)
        assert abs(value - want[1]) < 1e-8 * cond**0.5 + 1e-9 * abs(want[1]) and round(float(sign)) == want[0]
        y = cola.solve(A, x)
        assert np.linalg.norm(D @ y - x) <= 1e-12 * cond * max(np.linalg.norm(x), 1e-3) * 100
    if A.isa(SelfAdjoint):
        np.testing.assert_allclose(cola.eigvalsh(A), np.linalg.eigvalsh((D + D.T) / 2), atol=1e-8 * scale * n)
    if scale < 20:
        want = sl.expm(D / scale)
        np.testing.assert_allclose(
            cola.exp((1 / float(scale)) * A).to_dense(), want, atol=1e-8 * np.abs(want).max()
        )

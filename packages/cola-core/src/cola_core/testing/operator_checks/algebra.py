"""Closure under arithmetic and indexing: whatever normal form results, its entries are right."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compare import close, expect, host
from ..registry import check
from .common import make, name_of, rounding, vectors


def _unbatched(case: Any) -> bool:
    return len(case.sample().shape) == 2


@check("operator.algebra", "operator", "capability", capability="algebra", dtypes="pair")
def check_algebra(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Sums, multiples, products, powers, and compositions with the adjoint equal
    the same of the reference."""
    from ... import ops

    A, M = make(case, backend, dtype, seed)
    m, n = M.shape[-2:]
    tol = rounding(case, dtype, M, 100)
    E0 = vectors(backend, dtype, (m, n), seed + 3)
    E, E0 = ops.Dense(E0[0]), E0[1]
    expressions: list[tuple[str, Any, Any]] = [
        ("A + A", lambda: A + A, M + M),
        ("A - A", lambda: A - A, M - M),
        ("-A", lambda: -A, -M),
        ("2.5 * A", lambda: 2.5 * A, 2.5 * M),
        ("A / 4", lambda: A / 4, M / 4),
        ("0.5 * (2 * A)", lambda: 0.5 * (2 * A), M),
        ("A + dense", lambda: A + E, M + E0),
        ("dense - A", lambda: E - A, E0 - M),
        ("A - 3 * dense + A", lambda: A - 3 * E + A, 2 * M - 3 * E0),
    ]
    if "complex" in dtype:
        expressions.append(("(1 + 2j) * A", lambda: (1 + 2j) * A, (1 + 2j) * M))
    if case.capabilities.adjoint.is_open:
        H = np.conj(np.swapaxes(M, -1, -2))
        expressions += [
            ("A.H @ A", lambda: A.H @ A, H @ M),
            ("A @ A.H", lambda: A @ A.H, M @ H),
            ("(2 * A).H", lambda: (2 * A).H, 2 * H),
            ("(A + dense).H", lambda: (A + E).H, (M + E0).conj().swapaxes(-1, -2)),
            ("(A @ A.H).T", lambda: (A @ A.H).T, (M @ H).swapaxes(-1, -2)),
        ]
    if m == n:
        eye = np.eye(n, dtype=dtype)
        expressions += [
            ("A @ A", lambda: A @ A, M @ M),
            ("A ** 3", lambda: A**3, M @ M @ M),
            ("A ** 0", lambda: A**0, eye),
            ("A + I", lambda: A + ops.Identity(n), M + eye),
            ("2 * I - A", lambda: 2 * ops.Identity(n) - A, 2 * eye - M),
            ("A @ I", lambda: A @ ops.Identity(n), M),
            ("A @ dense + I", lambda: A @ E + ops.Identity(n), M @ E0 + eye),
            ("dense @ A", lambda: E @ A, E0 @ M),
        ]
    size = float(max(np.abs(M).max(), np.abs(E0).max(), 1.0)) if M.size else 1.0
    x, x0 = vectors(backend, dtype, (n,), seed + 5)
    for text, build, want in expressions:
        B = build()
        power = 3 if "**" in text else 2
        scale = size**power * max(m, n, 1) ** (power - 1)
        if want.ndim < M.ndim:
            B_dense = host(B)
            want = np.broadcast_to(want, B_dense.shape)
        close(B, want, f"({text}).to_dense()", tol, scale)
        xs, xs0 = (x, x0) if want.shape[-1] == n else vectors(backend, dtype, (want.shape[-1],), seed)
        got = B @ xs
        close(got, want @ xs0, f"({text}) @ x", tol, scale * max(float(np.abs(xs0).max()), 1.0) if n else 1.0)
        expect(name_of(got.dtype) == dtype, f"({text}) @ x has dtype {name_of(got.dtype)}, expected {dtype}")


@check(
    "operator.indexing", "operator", "capability", capability="indexing", dtypes="pair", applies=_unbatched
)
def check_indexing(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Entries, rows, columns and submatrices equal the reference's;
    an index out of range is an IndexError."""
    A, M = make(case, backend, dtype, seed)
    m, n = M.shape
    if not M.size:
        return
    tol = rounding(case, dtype, M)
    i, j = m - 1, n // 2
    close(A[i, j], M[i, j], f"A[{i}, {j}]", tol, float(np.abs(M).max()))
    close(A[:, j], M[:, j], f"A[:, {j}]", tol, float(np.abs(M).max()))
    rows, cols = np.arange(m)[::-1][: max(m // 2, 1)], np.array([0, n - 1, 0])
    if case.capabilities.adjoint.is_open:
        close(A[-1], M[-1], "A[-1]", tol, float(np.abs(M).max()))
    scale = float(np.abs(M).max())
    close(A[: max(m - 1, 1), 1:], M[: max(m - 1, 1), 1:], "A[:-1, 1:]", tol, scale)
    close(A[rows, cols], M[np.ix_(rows, cols)], "A[rows, cols]", tol, scale)
    close(A[::2], M[::2], "A[::2]", tol, scale)
    from ..compare import raises

    raises(IndexError, f"A[{m}, 0] of a {m} x {n} operator", lambda: A[m, 0])

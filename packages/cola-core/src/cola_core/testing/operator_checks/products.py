"""Products: what they return, that they equal the reference,
that they are linear and leave their inputs alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends import backend_of_type
from ..compare import close, expect, host
from ..registry import check
from ..trees import leaves
from .common import make, name_of, rounding, vectors


@check("operator.facts", "operator")
def check_facts(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Shape, dtype, backend and device are what they should be, also of results, and stay so."""
    A, M = make(case, backend, dtype, seed)
    expect(
        isinstance(A.shape, tuple) and all(type(s) is int for s in A.shape),
        f"shape {A.shape!r} is not a tuple of int",
    )
    expect(A.shape == M.shape, f"shape {A.shape}, the reference has {M.shape}")
    expect(name_of(A.dtype) == dtype, f"dtype {name_of(A.dtype)}, made for {dtype}")
    expect(A.backend is None or A.backend is backend, f"backend {A.backend}, made for {backend}")
    x, _ = vectors(backend, dtype, (A.shape[-1],), seed)
    before = (A.shape, name_of(A.dtype), A.backend, A.device)
    for _ in range(2):
        y = A @ x
        expect(
            backend_of_type(type(y)) is backend,
            f"A @ x is a {type(y).__name__}, not an array of {backend.name}",
        )
        expect(tuple(y.shape) == M.shape[:-1], f"A @ x has shape {tuple(y.shape)}, expected {M.shape[:-1]}")
        expect(
            name_of(y.dtype) == dtype, f"A @ x has dtype {name_of(y.dtype)}, operator and vector have {dtype}"
        )
        expect(
            backend.device(y) == backend.device(x),
            f"A @ x is on {backend.device(y)}, x on {backend.device(x)}",
        )
    expect(
        (A.shape, name_of(A.dtype), A.backend, A.device) == before,
        "shape, dtype, backend or device changed by a product",
    )


@check("operator.dense", "operator")
def check_dense(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``to_dense()`` equals the reference, with the operator's dtype."""
    A, M = make(case, backend, dtype, seed)
    D = A.to_dense()
    expect(name_of(D.dtype) == dtype, f"to_dense() has dtype {name_of(D.dtype)}, the operator {dtype}")
    close(D, M, "to_dense()", rounding(case, dtype, M))


@check("operator.matvec", "operator")
def check_matvec(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``A @ x`` equals the reference times x."""
    A, M = make(case, backend, dtype, seed)
    x, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    scale = float(np.abs(M).max() * np.abs(x0).max()) if M.size else 1.0
    close(A @ x, M @ x0, "A @ x", rounding(case, dtype, M), scale)


@check("operator.matmat", "operator")
def check_matmat(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``A @ X`` equals the reference and ``A @ x`` column by column, for one column and for none too."""
    A, M = make(case, backend, dtype, seed)
    tol = rounding(case, dtype, M)
    for k in (3, 1, 0):
        X, X0 = vectors(backend, dtype, (M.shape[-1], k), seed)
        scale = float(np.abs(M).max() * np.abs(X0).max()) if M.size and k else 1.0
        Y = A @ X
        close(Y, M @ X0, f"A @ X with {k} columns", tol, scale)
        for j in range(min(k, 2)):
            close(Y[..., j], host(A @ X[:, j]), f"column {j} of A @ X against A @ x", tol, scale)


@check("operator.left-product", "operator", "capability", capability="adjoint", dtypes="pair")
def check_left_product(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``x @ A`` and ``X @ A`` equal the reference (no conjugation sneaks in)."""
    A, M = make(case, backend, dtype, seed)
    tol = rounding(case, dtype, M)
    x, x0 = vectors(backend, dtype, (M.shape[-2],), seed)
    X, X0 = vectors(backend, dtype, (2, M.shape[-2]), seed)
    scale = float(np.abs(M).max() * np.abs(X0).max()) if M.size else 1.0
    close(x @ A, x0 @ M, "x @ A", tol, scale)
    close(X @ A, X0 @ M, "X @ A", tol, scale)


@check("operator.linear", "operator", dtypes="pair")
def check_linear(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``A (a x + b y) = a A x + b A y``, and A times zero is zero."""
    A, M = make(case, backend, dtype, seed)
    x, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    y, y0 = vectors(backend, dtype, (M.shape[-1],), seed + 1)
    a, b = (0.7, -1.3) if "complex" not in dtype else (0.7 - 0.2j, -1.3 + 1j)
    scale = 3 * float(np.abs(M).max() * max(np.abs(x0).max(), np.abs(y0).max())) if M.size else 1.0
    close(
        A @ (a * x + b * y),
        host(a * (A @ x) + b * (A @ y)),
        "A @ (a x + b y)",
        rounding(case, dtype, M),
        scale,
    )
    close(A @ (0 * x), 0 * host(A @ x), "A @ 0", 1e-300)


@check("operator.batch", "operator", "capability", capability="batch", dtypes="pair")
def check_batch(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Batches of right-hand sides broadcast as in ``numpy.matmul``."""
    A, M = make(case, backend, dtype, seed)
    batch = (2, *M.shape[:-2]) if M.ndim > 2 else (2, 3)
    X, X0 = vectors(backend, dtype, (*batch, M.shape[-1], 2), seed)
    scale = float(np.abs(M).max() * np.abs(X0).max()) if M.size else 1.0
    close(A @ X, M @ X0, f"A @ X for X of shape {X0.shape}", rounding(case, dtype, M), scale)


@check("operator.promotion", "operator", "capability", capability="promotion", dtypes="real")
def check_promotion(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A product with a wider dtype has that dtype, and its accuracy:
    nothing is silently rounded or made real."""
    A, M = make(case, backend, dtype, seed)
    rich = {"float64": "complex128", "float32": "complex64", "complex128": "complex128"}.get(dtype, dtype)
    x, x0 = vectors(backend, rich, (M.shape[-1], 2), seed)
    y = A @ x
    expect(
        name_of(y.dtype) == rich,
        f"a {dtype} operator times a {rich} array gives {name_of(y.dtype)}, expected {rich}",
    )
    scale = float(np.abs(M).max() * np.abs(x0).max()) if M.size else 1.0
    close(y, M @ x0, f"a {dtype} operator times a {rich} array", rounding(case, dtype, M), scale)


@check("operator.pure", "operator", dtypes="real")
def check_pure(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Products change neither the right-hand side nor the operator's arrays,
    and give the same answer twice."""
    A, M = make(case, backend, dtype, seed)
    X, X0 = vectors(backend, dtype, (M.shape[-1], 2), seed)
    before = [host(leaf).copy() for leaf in leaves(A)]
    first = host(A @ X).copy()
    A @ X[:, 0]
    close(X, X0, "the right-hand side after A @ X", 0.0)
    for i, (old, leaf) in enumerate(zip(before, leaves(A), strict=True)):
        expect(np.array_equal(old, host(leaf)), f"array {i} of the operator was changed by a product")
    second = A @ X
    expect(np.array_equal(first, host(second)), "the same product gave another answer the second time")
    expect(second is not X or _identity(M), "A @ X returned X itself")


def _identity(M: Any) -> bool:
    return bool(M.shape[-1] == M.shape[-2] and np.array_equal(M, np.eye(M.shape[-1], dtype=M.dtype)))

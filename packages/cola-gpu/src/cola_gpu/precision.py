"""Which precision products run in, and how an operator gets there without overflowing.

A half-precision product is scaled on both sides: the entries of the operator by a power of two (`lowered`),
every vector by its largest entry (`product`). Sums inside a product are the library's own; everything else
(dot products, updates) stays in single precision or better.
"""

from __future__ import annotations

import math
from typing import Any

from cola_core import ops
from cola_core.backends import Backend, dtype_name
from cola_core.errors import DTypeError, UnknownNameError

__all__ = ["UNIT_ROUNDOFF", "cast", "choose", "lowered", "precision_of", "product"]

Array = Any

UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
_REAL = {"complex64": "float32", "complex128": "float64"}
_COMPLEX = {"float32": "complex64", "float64": "complex128"}


def precision_of(dtype: Any) -> str:
    """The name of the real dtype of the same precision: `"float32"` for the float32 or complex64 of any
    library."""
    name = dtype_name(dtype)
    return _REAL.get(name, name)


def choose(precision: str, working: Any, backend: Backend) -> str:
    """The precision products run in, for a request and a working dtype.

    "auto" is single precision. Half precision ("bfloat16", "float16") falls back to single for complex
    operands and on NumPy, which has no half-precision products. A request above the working precision becomes
    the latter.
    """
    work = precision_of(working)
    if work not in ("float32", "float64"):
        raise DTypeError(
            "mixed-precision CG works in float32, float64, complex64 or complex128, not "
            f"{dtype_name(working)}; convert the operator with A.to(dtype=...)"
        )
    if precision in ("bfloat16", "float16"):
        available = backend.name != "numpy" and "complex" not in dtype_name(working)
        return precision if available else "float32"
    if precision in ("auto", "float32"):
        return "float32"
    if precision == "float64":
        return work
    raise UnknownNameError(
        f'unknown precision {precision!r}; known are "auto", "float32", "bfloat16", "float16" and "float64"'
    )


def cast(x: Array, precision: str, backend: Backend) -> Array:
    """x, real or complex, in the given precision."""
    return backend.astype(x, _COMPLEX[precision] if backend.is_complex(x) else precision)


def lowered(A: Any, precision: str, backend: Backend) -> tuple[Any, float]:
    """`(A_low, c)` with `A` about `c * A_low`, the entries of A_low in `precision` and of size about one.

    c is a power of two, so scaling adds no rounding. Stored matrices, and sums and (Kronecker) products of
    them, are scaled; any other operator is only converted, `c = 1`, and an overflow in it shows up as a
    failed product.
    """
    for kind, field in ((ops.Dense, "array"), (ops.Sparse, "data"), (ops.Diagonal, "diag")):
        if type(A) is kind:
            entries = getattr(A, field)
            c = _power_of_two(entries, backend)
            return A.replace(**{field: cast(entries / c, precision, backend)}), c
    if type(A) in (ops.Kronecker, ops.Product):
        parts = [lowered(M, precision, backend) for M in A.Ms]
        return A.replace(Ms=tuple(M for M, _ in parts)), math.prod(c for _, c in parts)
    if type(A) is ops.Sum:
        parts = [lowered(M, precision, backend) for M in A.Ms]
        c = max(c for _, c in parts)
        terms = [M if s == c else ops.Product(ops.ScalarMul(s / c, M.shape[-1]), M) for M, s in parts]
        return A.replace(Ms=tuple(terms)), c
    if type(A) is ops.ScalarMul and isinstance(A.c, (int, float)) and A.c:
        c = 2.0 ** math.frexp(abs(A.c))[1]
        return A.replace(c=A.c / c), c
    return A.to(dtype=precision), 1.0


def _power_of_two(x: Array, backend: Backend) -> float:
    """The power of two next above the largest |entry|; 1 for zero, non-finite or traced arrays."""
    if 0 in x.shape:
        return 1.0
    top = backend.xp.max(backend.xp.abs(x))
    if not backend.is_concrete(top):  # also for a constant inside a traced function
        return 1.0
    largest = float(backend.to_numpy(top))
    return 2.0 ** math.frexp(largest)[1] if 0.0 < largest < math.inf else 1.0


def product(A_low: Any, X: Array, precision: str, backend: Backend) -> Array:
    """`A_low X` with the product itself in a precision that may be lower than that of the vectors X.

    Vectors that have to be rounded for it are scaled to a largest entry of one first, column by column.
    """
    xp = backend.xp
    if precision_of(X.dtype) == precision:
        return backend.astype(A_low @ X, X.dtype)
    size = xp.max(xp.abs(X), axis=-2, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    return size * backend.astype(A_low @ backend.astype(X / size, precision), X.dtype)

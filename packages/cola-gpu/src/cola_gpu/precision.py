"""Which precision products run in, and how an operator gets there without overflowing.

Matrices are scaled by powers of two and vectors by their largest entry before they are rounded
(`low_operators`); between the stored matrices of a composed operator, and everywhere else in the solvers,
numbers are in single precision or better. What happens to an operator for products in a low precision:

| operator | "bfloat16", "float16" | "tfloat32" |
|---|---|---|
| Dense | scaled, stored in half; sums in float32 where the library has them | rounded to 10 bits |
| Sparse | scaled, entries rounded to half, stored and multiplied in float32 | likewise |
| LowRank | both factors as Dense | likewise |
| Sum, Product, Kronecker, KronSum, BlockDiag, Concatenated | their parts, one by one | likewise |
| FunctionOperator | gets half vectors, scaled; single ones if it cannot take them | gets rounded vectors |
| Diagonal, Identity, ScalarMul | float32, scaled | likewise |
| Toeplitz, Hankel, Circulant, Banded, Tridiagonal, convolutions | float32, scaled | likewise |
| any other (Kernel, Jacobian, an operator of yours) | converted to float32, not scaled | likewise |

If nothing of an operator takes the low precision, the products are in float32 and are called so. An overflow
that scaling could not prevent shows up as a product that is not finite, and the solvers take the next
precision. In a traced program (`jax.jit`) parts are scaled one by one instead of together.
"""

from __future__ import annotations

import math
from typing import Any

from cola_core import ops
from cola_core.backends import Backend, dtype_name
from cola_core.errors import DTypeError, UnknownNameError
from cola_core.operators import tree_leaves

from .low_operators import Rounded, RoundedVectors, cast, precision_of, round_tf32

__all__ = [
    "PRECISIONS",
    "UNIT_ROUNDOFF",
    "cast",
    "choose",
    "escalation",
    "lowered",
    "precision_of",
    "vectors_of",
    "working",
]

Array = Any

UNIT_ROUNDOFF = {
    "bfloat16": 2.0**-8,
    "float16": 2.0**-11,
    "tfloat32": 2.0**-11,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
}
PRECISIONS = ("auto", *UNIT_ROUNDOFF)
HALF = ("bfloat16", "float16")
_COMPOSED = (ops.Sum, ops.BlockDiag, ops.Concatenated, ops.KronSum)  # linear in each of their parts
_LINEAR = (  # in what they store, so that dividing that divides the operator
    ops.Diagonal,
    ops.Toeplitz,
    ops.Hankel,
    ops.Circulant,
    ops.ConvolveND,
    ops.CircularConvolution,
    ops.Banded,
    ops.Tridiagonal,
)


def choose(precision: str, working: Any, backend: Backend) -> str:
    """The precision products run in, for a request and a working dtype.

    "auto" is single precision on every device: its condition (see docs/mixed-precision.md) is met by most
    systems that double precision can solve, those of the others by few. Half precision ("bfloat16",
    "float16") falls back to single for complex operands and on NumPy, which has no half-precision products.
    A request above the working precision becomes the latter.
    """
    work = precision_of(working)
    if work not in ("float32", "float64"):
        raise DTypeError(
            "mixed-precision solvers work in float32, float64, complex64 or complex128, not "
            f"{dtype_name(working)}; convert the operator with A.to(dtype=...)"
        )
    if precision not in PRECISIONS:
        known = ", ".join(f'"{p}"' for p in PRECISIONS)
        raise UnknownNameError(f"unknown precision {precision!r}; known are {known}")
    if precision in HALF:
        available = backend.name != "numpy" and "complex" not in dtype_name(working)
        return precision if available else "float32"
    if precision == "float64":
        return work
    return "float32" if precision == "auto" else precision


def escalation(low: str, work: str) -> list[str]:
    """The precisions of products in the order in which they are tried: at most two promotions."""
    between = ["float32"] if UNIT_ROUNDOFF[low] > UNIT_ROUNDOFF["float32"] > UNIT_ROUNDOFF[work] else []
    return [low, *between, *([work] if work != low else [])]


def vectors_of(precision: str) -> str:
    """The precision of the vectors between products in the given one: single for anything lower."""
    return precision if precision in ("float32", "float64") else "float32"


def lowered(A: Any, precision: str, backend: Backend) -> tuple[Any, float, str]:
    """`(A_low, c, actual)` with `A` about `c * A_low` and the largest stored entries of A_low about one.

    A_low takes and gives vectors in single precision (double, if that is the precision asked for) and is to
    be used for products only; its matrices are in the precision `actual`, which is "float32" where no part of
    A can be lower. c is a power of two, so that scaling adds no rounding. The table above says what becomes
    of which operator.
    """
    low, exponent = _lower(A, precision, backend)
    if not -1000 < exponent < 1000:
        return _plain(A, precision, backend), 1.0, vectors_of(precision)
    return low, 2.0**exponent, precision if _has_low(low) else vectors_of(precision)


def working(A: Any, work: str, backend: Backend) -> tuple[Any, float, str]:
    """As `lowered` in the working precision: A itself, but where squares of products would leave its
    range."""
    scaled, c, _ = lowered(A, work, backend)
    return (A, 1.0, work) if c == 1.0 else (scaled, c, work)


def _lower(A: Any, precision: str, backend: Backend) -> tuple[Any, int]:
    kind = type(A)
    vectors = vectors_of(precision)
    if kind is ops.Dense:
        entries, scale, e = _scaled(A.array, backend, precision == vectors)
        if precision == vectors:
            return _times(A.replace(array=cast(entries, precision, backend)), scale), e
        return Rounded(ops.Dense(_rounded(entries, precision, backend)), scale, precision), e
    if kind is ops.Sparse:
        data, scale, e = _scaled(A.data, backend, precision == vectors)
        if precision == vectors:
            return _times(A.with_entries(cast(data, precision, backend)), scale), e
        data = cast(_rounded(data, precision, backend), vectors, backend)
        return Rounded(A.with_entries(data), scale, precision), e
    if kind is ops.LowRank:
        VH = backend.adjoint(A.right)
        return _lower(ops.Product(ops.Dense(A.U), ops.Dense(VH)), precision, backend)
    if kind in (ops.Kronecker, ops.Product):
        parts = [_lower(M, precision, backend) for M in A.Ms]
        return A.replace(Ms=tuple(M for M, _ in parts)), sum(e for _, e in parts)
    if kind in _COMPOSED:
        parts = [_lower(M, precision, backend) for M in A.Ms]
        e = max(e for _, e in parts)
        return A.replace(Ms=tuple(_times(M, math.ldexp(1.0, max(own - e, -1000))) for M, own in parts)), e
    if kind is ops.ScalarMul and isinstance(A.c, (int, float)) and A.c and math.isfinite(A.c):
        e = math.frexp(abs(A.c))[1]
        return A.replace(c=math.ldexp(A.c, -e)), e
    if kind is ops.FunctionOperator and precision != vectors:
        return _function(A, precision, backend), 0
    if kind in _LINEAR:
        e = _exponent(_stored(A), backend)
        divided = A if not e else math.ldexp(1.0, -e) * A if -1000 < e < 1000 else None
        if divided is not None and type(divided) is kind:
            return divided.to(dtype=vectors), e
    return _plain(A, precision, backend), 0


def _plain(A: Any, precision: str, backend: Backend) -> Any:
    return A.to(dtype=vectors_of(precision))


def _times(A: Any, scale: Any) -> Any:
    """`scale * A`, a factor of one left out; kept apart from the entries of A."""
    if isinstance(scale, float) and scale == 1.0:
        return A
    if isinstance(A, Rounded):
        return A.replace(scale=A.scale * scale)
    return ops.Product(ops.ScalarMul(scale, A.shape[-2]), A)


def _rounded(x: Array, precision: str, backend: Backend) -> Array:
    return (
        round_tf32(cast(x, "float32", backend), backend)
        if precision == "tfloat32"
        else cast(x, precision, backend)
    )


def _scaled(x: Array, backend: Backend, wide: bool) -> tuple[Array, Any, int]:
    """`x / 2^e`, a factor that is still missing, and e. Where values cannot be looked at the factor is an
    array and e zero. wide: the precision to come has the range of float32, and entries of ordinary size need
    no scaling."""
    if 0 in x.shape:
        return x, 1.0, 0
    top = _largest(x, backend)
    if backend.is_concrete(top):
        e = _frexp(float(backend.to_numpy(top)))
        if not e or (wide and -30 < e < 30):
            return x, 1.0, 0
        # in two steps: the reciprocal of a tiny power of two would overflow
        return x * math.ldexp(1.0, -(e // 2)) * math.ldexp(1.0, -(e - e // 2)), 1.0, e
    xp, top = backend.xp, backend.constant(top)
    usable = xp.isfinite(top) & (top > 0)
    power = xp.exp2(xp.ceil(xp.log2(xp.where(usable, top, xp.ones_like(top)))))
    return x / power, cast(power, "float32", backend), 0


def _largest(x: Array, backend: Backend) -> Array:
    """The largest |entry|, of real numbers without an array of them all."""
    xp = backend.xp
    return xp.max(xp.abs(x)) if backend.is_complex(x) else xp.maximum(xp.max(x), -xp.min(x))


def _exponent(arrays: list[Array], backend: Backend) -> int:
    """The e of the power of two next above the largest |entry|; 0 where it cannot be looked at."""
    top = 0.0
    for x in arrays:
        if 0 in x.shape:
            continue
        size = _largest(x, backend)
        if not backend.is_concrete(size):
            return 0
        top = max(top, float(backend.to_numpy(size)))
    return _frexp(top)


def _frexp(top: float) -> int:
    return math.frexp(top)[1] if 0.0 < top < math.inf else 0


def _stored(A: Any) -> list[Array]:
    return [
        x
        for x in tree_leaves(A)
        if hasattr(x, "dtype") and ("float" in dtype_name(x.dtype) or "complex" in dtype_name(x.dtype))
    ]


def _function(A: Any, precision: str, backend: Backend) -> Any:
    """A function of half vectors, or of single ones if it does not take half ones."""
    if precision == "tfloat32":
        return RoundedVectors(A.to(dtype="float32"), precision)
    half = A.to(dtype=precision)
    try:
        half @ backend.zeros((A.shape[-1], 1), precision)
    except Exception:  # noqa: BLE001 - whatever the user's function raises when it sees half precision
        return A.to(dtype="float32")
    return RoundedVectors(half, precision)


def _has_low(A: Any) -> bool:
    return isinstance(A, (Rounded, RoundedVectors)) or any(_has_low(M) for M in getattr(A, "Ms", ()))

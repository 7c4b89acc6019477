"""Arithmetic on operators, with normal forms by construction.

Sums, products and Kronecker products flatten; numbers gather in front; neighbours are offered to each other
(``_compose``, ``_plus``) so that a new operator class can add its own simplifications without touching this
file.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..backends import backend_of_type
from ..errors import NonSquareError, ShapeError
from ..interop import convert, library_of
from ..properties import PSD, Property, SelfAdjoint, Unitary
from .base import LinearOperator
from .blockdiag import BlockDiag
from .dense import Dense
from .diagonal import Diagonal, Identity, ScalarMul
from .kronecker import Kronecker
from .kronsum import KronSum
from .product import Product, are_adjoint
from .sum import Sum, broadcast_batches
from .zero import Zero, is_zero

__all__ = ["add", "as_operator", "block_diag", "coerce", "kron", "kronsum", "matmul", "power", "scale"]


def as_operator(A: Any) -> LinearOperator:
    """An operator as is; an array of at least two axes as ``Dense``; sparse matrices and operators of other
    libraries as what they are (see ``cola_core.interop``)."""
    if isinstance(A, LinearOperator):
        return A
    found = convert(A)
    if found is not None:
        return found
    if backend_of_type(type(A)) is None and not isinstance(A, (list, tuple)):
        raise TypeError(
            f"expected an operator or a matrix, got {type(A).__name__}. Wrap functions in "
            "ops.FunctionOperator."
        )
    return Dense(A)


def is_scalar(c: Any, A: LinearOperator) -> bool:
    """A number, or an array of at most A's batch rank (one number per matrix of the batch)."""
    if isinstance(c, (int, float, complex)):
        return True
    if backend_of_type(type(c)) is None:
        return False
    return len(c.shape) <= len(A.batch_shape)


def coerce(other: Any, A: LinearOperator) -> Any:
    """The right side of ``A + other`` as an operator; 0 is allowed so that ``sum([A, B])`` works."""
    if isinstance(other, LinearOperator):
        return other
    if isinstance(other, (int, float, complex)):
        if other == 0:
            return Zero.like(A)
        raise TypeError(
            f"{A!r} + {other}: adding a number to every entry and adding a multiple of the identity are both "
            f"plausible. Write A + {other} * cola_core.I_like(A), or add an array of ones."
        )
    if backend_of_type(type(other)) is None and library_of(other) is None:
        return NotImplemented
    return as_operator(other)


def scale(c: Any, A: LinearOperator) -> LinearOperator:
    """``c * A``; numbers multiply into the scalar already in front."""
    if isinstance(c, np.generic):
        c = c.item()
    if isinstance(A, Zero):
        return _zero_of(A.shape[-2], A.shape[-1], A, ScalarMul(c, A.rows))
    if isinstance(A, ScalarMul):
        return _scalar_product(ScalarMul(c, A.n), A)
    if isinstance(A, Identity):
        return ScalarMul(c, A.n) if A.library is None else _placed_scalar(c, A)
    if not isinstance(c, (int, float, complex)) and A.backend is not None:
        theirs = backend_of_type(type(c))
        if theirs is not None and theirs is not A.backend and theirs.name == "numpy" and not c.shape:
            c = c.item()  # a NumPy scalar is a number to every library
    s = ScalarMul(c, A.shape[-2])
    if is_zero(s):
        return Zero.like(A)
    if isinstance(s.c, (int, float, complex)) and s.c == 1:
        return A
    if isinstance(A, Product) and isinstance(A.Ms[0], ScalarMul):
        merged = _scalar_product(s, A.Ms[0])
        rest = A.Ms[1:]
        if isinstance(merged.c, (int, float, complex)) and merged.c == 1:
            return rest[0] if len(rest) == 1 else Product(*rest, declared=_keep_declared(A, merged))
        return Product(merged, *rest, declared=_keep_declared(A, s))
    if isinstance(A, Product):
        return Product(s, *A.Ms, declared=_keep_declared(A, s))
    if isinstance(A, Diagonal):
        return Diagonal(
            s.c * A.diag if not getattr(s.c, "shape", ()) else s.c[..., None] * A.diag,
            declared=_keep_declared(A, s),
        )
    made = A._times(s.c) if not _mixed(s, A) else NotImplemented
    if made is NotImplemented:
        return Product(s, A)
    keep = _keep_declared(A, s) - made.properties
    return made.replace(declared=made.declared | keep) if keep else made


def _placed_scalar(c: Any, A: Identity) -> LinearOperator:
    """``c I`` for an identity that is bound to a library, dtype and device."""
    if not isinstance(c, (int, float, complex)):
        return ScalarMul(c, A.n)
    facts = ScalarMul(c, A.n).declared
    be = A._concrete_backend()
    dtype = (
        A.dtype
        if not isinstance(c, complex) or A._is_complex()
        else be.xp.result_type(A.dtype, be.dtype("complex64"))
    )
    return ScalarMul(be.asarray(c, dtype=dtype, device=A.device), A.n, declared=facts)


def _keep_declared(A: LinearOperator, s: ScalarMul) -> frozenset[Any]:
    """What the declared facts of A become under multiplication by s: signs matter, unitarity is lost."""
    return frozenset(p for p in (PSD, SelfAdjoint) if A.isa(p) and s.isa(p))


def _scalar_product(a: ScalarMul, b: ScalarMul) -> ScalarMul:
    declared = frozenset({PSD}) if a.isa(PSD) and b.isa(PSD) else frozenset()
    c = a.c * b.c
    if isinstance(c, np.generic) and (isinstance(a.c, np.ndarray) or isinstance(b.c, np.ndarray)):
        c = np.asarray(c)  # data stays data: NumPy turns 0-d results into scalars
    return ScalarMul(c, a.n, declared=declared)


def add(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """``A + B``: flattened, with neighbours of one kind merged wherever they stand."""
    if A.shape[-2:] != B.shape[-2:]:
        raise ShapeError(f"cannot add {A!r} of shape {A.shape} and {B!r} of shape {B.shape}.")
    terms: list[LinearOperator] = list(A.Ms) if isinstance(A, Sum) else [A]
    for new in B.Ms if isinstance(B, Sum) else (B,):
        if is_zero(new) and _fits(new, A):
            continue
        for i, old in enumerate(terms):
            merged = old._plus(new) if not _mixed(old, new) else NotImplemented
            if merged is NotImplemented and not _mixed(old, new):
                merged = new._plus(old)
            if merged is not NotImplemented:
                terms[i] = _add_declared(merged, old, new)
                break
        else:
            terms.append(new)
    if len(terms) > 1:
        kept = [t for t in terms if not is_zero(t)]
        if kept and broadcast_batches("Sum", tuple(kept)) == broadcast_batches("Sum", tuple(terms)):
            terms = kept
    declared = frozenset(p for p in (PSD, SelfAdjoint) if A.isa(p) and B.isa(p))
    if are_adjoint(A, B):
        declared |= {SelfAdjoint}
    if len(terms) == 1:
        more = declared - terms[0].properties
        return terms[0].replace(declared=terms[0].declared | more) if more else terms[0]
    return Sum(*terms, declared=declared)


def _mixed(a: LinearOperator, b: LinearOperator) -> bool:
    return a.backend is not None and b.backend is not None and a.backend is not b.backend


def _add_declared(merged: LinearOperator, a: LinearOperator, b: LinearOperator) -> LinearOperator:
    keep = frozenset(p for p in (PSD, SelfAdjoint) if a.isa(p) and b.isa(p)) - merged.properties
    return merged.replace(declared=merged.declared | keep) if keep else merged


def _fits(zero: LinearOperator, A: LinearOperator) -> bool:
    """Whether adding this zero leaves A as it is: its batch is not larger than A's."""
    return not zero.batch_shape or broadcast_batches("Sum", (A, zero)) == A.batch_shape


def _zero_of(m: int, n: int, *operators: LinearOperator) -> Zero:
    """An m x n zero with the library, device, common dtype and common batch of the operators."""
    whole = Sum(*(Zero.like(A, m, n) for A in operators))
    return Zero.like(whole)


def matmul(A: LinearOperator, B: LinearOperator) -> LinearOperator:
    """``A @ B``: flattened, numbers in front, identities absorbed, neighbours merged."""
    if A.shape[-1] != B.shape[-2]:
        raise ShapeError(
            f"cannot multiply {A!r} of shape {A.shape} and {B!r} of shape {B.shape}: "
            f"{A.shape[-1]} columns against {B.shape[-2]} rows."
        )
    if is_zero(A) or is_zero(B):
        return _zero_of(A.shape[-2], B.shape[-1], A, B)
    if isinstance(A, Identity) and not isinstance(B, Identity):
        return B
    if isinstance(B, Identity):
        return A
    if isinstance(A, ScalarMul):
        return scale(A.c, B)
    if isinstance(B, ScalarMul):
        return scale(B.c, A)
    factors: list[LinearOperator] = []
    scalar: ScalarMul | None = None
    for M in _factors(A) + _factors(B):
        if isinstance(M, ScalarMul):
            scalar = M if scalar is None else _scalar_product(scalar, M)
            continue
        if factors and not _mixed(factors[-1], M):
            merged = factors[-1]._compose(M)
            if merged is NotImplemented:
                merged = M._rcompose(factors[-1])
            if merged is not NotImplemented:
                factors[-1] = merged
                continue
        factors.append(M)
    declared: frozenset[Property] = frozenset()
    if are_adjoint(A, B):
        declared = frozenset({PSD})
    if len(factors) == 1:
        out = factors[0]
        if declared - out.properties and scalar is None:
            out = out.replace(declared=out.declared | declared)
    else:
        out = Product(*factors, declared=declared)
    if scalar is None:
        return out
    if PSD in declared:
        out = out.replace(declared=out.declared | (declared if scalar.isa(PSD) else frozenset()))
    return Product(
        ScalarMul(scalar.c, out.shape[-2], declared=scalar.declared),
        *_factors(out),
        declared=frozenset(p for p in (PSD, SelfAdjoint) if out.isa(p) and scalar.isa(p)),
    )


def _factors(A: LinearOperator) -> tuple[LinearOperator, ...]:
    return A.Ms if isinstance(A, Product) else (A,)


def power(A: LinearOperator, k: Any) -> LinearOperator:
    """``A ** k`` for integers k >= 0 by repeated squaring (of the expression);
    negative powers through ``inv``."""
    if not A.is_square:
        raise NonSquareError(f"{A!r} ** {k}: powers need a square operator, its shape is {A.shape}.")
    if not isinstance(k, int) or isinstance(k, bool) or k < 0:
        raise TypeError(
            f"{A!r} ** {k!r}: only non-negative integers; use inv(A) ** {-k if isinstance(k, int) else 'k'} "
            "for inverses, sqrt(A) for roots."
        )
    out: LinearOperator = Identity.like(A)
    if k == 0 and A.batch_shape:
        be = A._concrete_backend()
        one = be.xp.ones(A.batch_shape, dtype=A.dtype, device=A.device)
        return ScalarMul(one, A.shape[-1], declared=frozenset({PSD, Unitary}))
    facts = frozenset(
        p for p in (PSD, SelfAdjoint) if A.isa(p) or (p is PSD and k % 2 == 0 and A.isa(SelfAdjoint))
    )
    while k:
        if k & 1:
            out = matmul(out, A)
        k >>= 1
        if k:
            A = matmul(A, A)
    return out.replace(declared=out.declared | facts) if facts - out.properties else out


def kron(*Ms: Any) -> LinearOperator:
    """Kronecker product, flattened;
    numbers gather in front, identities and diagonals merge with their neighbours."""
    factors: list[LinearOperator] = []
    scalar: ScalarMul | None = None
    Ms = tuple(map(as_operator, Ms))
    if any(map(is_zero, Ms)):
        return _zero_of(prod(M.shape[-2] for M in Ms), prod(M.shape[-1] for M in Ms), *Ms)
    for M in Ms:
        if isinstance(M, Product) and isinstance(M.Ms[0], ScalarMul):
            s, rest = M.Ms[0], M.Ms[1:]
            scalar = s if scalar is None else _scalar_product(scalar, s)
            M = rest[0] if len(rest) == 1 else Product(*rest)
        for F in M.Ms if isinstance(M, Kronecker) else (M,):
            if isinstance(F, Identity) and factors and isinstance(factors[-1], Identity):
                factors[-1] = F.replace(n=F.n * factors[-1].n)
            else:
                factors.append(F)
    out = factors[0] if len(factors) == 1 else Kronecker(*factors)
    return out if scalar is None else scale_by(scalar, out)


def scale_by(s: ScalarMul, A: LinearOperator) -> LinearOperator:
    """``s @ A`` keeping what is declared of the scalar."""
    out = scale(s.c, A)
    if isinstance(out, Product) and isinstance(out.Ms[0], ScalarMul):
        front = out.Ms[0]
        front = front.replace(declared=front.declared | frozenset(p for p in (PSD,) if s.isa(p)))
        return Product(front, *out.Ms[1:], declared=out.declared)
    return out


def kronsum(*Ms: Any) -> LinearOperator:
    """Kronecker sum, flattened."""
    factors: list[LinearOperator] = []
    for M in map(as_operator, Ms):
        factors.extend(M.Ms if isinstance(M, KronSum) else (M,))
    return factors[0] if len(factors) == 1 else KronSum(*factors)


def block_diag(*Ms: Any, multiplicities: Any = None) -> LinearOperator:
    """Block-diagonal operator of the given blocks."""
    blocks = tuple(map(as_operator, Ms))
    return BlockDiag(*blocks, multiplicities=multiplicities)

"""``ScalarFunction``: a function of eigenvalues together with what is known about it.

Real or complex is decided from static facts, never from eigenvalues: for a function that is real on the
reals (``real``), f of a real matrix is real. Where that fails, because an eigenvalue lies on the closed
negative axis and a logarithm, root or fractional power has no real principal value there (Higham 2008, thms
1.18, 1.29, 1.31), concrete input raises ``PropertyError`` and traced input gives NaN; a matrix of a complex
dtype has the principal branch everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..backends.base import Array, dtype_name
from ..errors import PropertyError, SingularMatrixError
from ..operators import LinearOperator
from ..properties import PSD, Property, SelfAdjoint

__all__ = ["COS", "EXP", "ISQRT", "LOG", "SIGN", "SIN", "SQRT", "ScalarFunction", "power"]


@dataclass(frozen=True)
class ScalarFunction:
    """A function of eigenvalues and what is known about it.

    fn(xp, w): on an array of eigenvalues. multiplicative: f(ab) = f(a) f(b) for a, b >= 0. positive: f(w) >=
    0 for real w (>= 0 where needs_positive). needs_positive: real only for w >= 0. real_on_real: f of a real
    matrix is real, whatever its eigenvalues. real: f is real on the reals. keeps_psd: f(w) >= 0 for w >= 0.
    needs_nonzero: undefined at zero. kind: which function of ``linalg`` this is (a name given by a user says
    nothing), for which there are methods beyond eigenvalues; exponent: that of ``kind == "power"``.
    """

    name: str
    fn: Callable[[Any, Array], Array]
    multiplicative: bool = False
    positive: bool = False
    needs_positive: bool = False
    real_on_real: bool = False
    real: bool = True
    keeps_psd: bool = False
    needs_nonzero: bool = False
    kind: str = ""
    exponent: float | None = None

    def on(self, be: Any, w: Array) -> Array:
        """f of the entries of w; negative arguments of roots and logarithms are an
        error (NaN under a trace)."""
        xp = be.xp
        if (self.needs_positive or self.needs_nonzero) and be.is_concrete(w):
            if self.needs_positive and not be.is_complex(w) and bool(xp.any(w < 0)):
                raise PropertyError(
                    f"{self.name} of an operator with a negative eigenvalue ({be.number(xp.min(w)):.3g}) is "
                    "not real. Cast it to a complex dtype for the principal branch, or shift it."
                )
            if self.needs_nonzero and bool(xp.any(w == 0)):
                raise SingularMatrixError(
                    f"{self.name} of a singular operator: an eigenvalue is zero, where {self.name} is not "
                    "defined. Add a multiple of the identity."
                )
        if self.needs_positive and be.is_complex(w):
            w = w + xp.zeros_like(w)  # an imaginary part of -0.0 is the lower side of the branch cut
        return self.fn(xp, w)

    def conjugate(self) -> ScalarFunction:
        """``w -> conj(f(w))``: f(A)^H is this of a self-adjoint A."""
        return self if self.real else replace(self, fn=lambda xp, w: xp.conj(self.fn(xp, w)))

    def of_inverse(self) -> ScalarFunction:
        """``w -> f(1/w)``."""
        return _of_inverse(self)

    def properties(self, A: LinearOperator, values: Array | None = None) -> frozenset[Property]:
        """What f(A) inherits; values: f of the eigenvalues, where known.
        Complex ones make f(A) normal, no more."""
        if not A.isa(SelfAdjoint) or not self.real:
            return frozenset()
        if values is not None and "complex" in dtype_name(values.dtype):
            return frozenset()
        if (self.positive and (A.isa(PSD) or not self.needs_positive)) or (self.keeps_psd and A.isa(PSD)):
            return frozenset({PSD})
        return frozenset({SelfAdjoint})


@lru_cache(maxsize=256)  # functions are static data of operators: one object per function
def _of_inverse(f: ScalarFunction) -> ScalarFunction:
    return replace(
        f,
        name=f"{f.name} of the inverse",
        fn=lambda xp, w: f.fn(xp, 1 / w),
        needs_nonzero=True,
        multiplicative=False,
        kind="",
        exponent=None,
    )


def _sign(xp: Any, w: Array) -> Array:
    return xp.sign(xp.real(w)) + 0 * w if xp.isdtype(w.dtype, "complex floating") else xp.sign(w)


EXP = ScalarFunction("exp", lambda xp, w: xp.exp(w), positive=True, real_on_real=True, kind="exp")
LOG = ScalarFunction("log", lambda xp, w: xp.log(w), needs_positive=True, needs_nonzero=True, kind="log")
SQRT = ScalarFunction(
    "sqrt", lambda xp, w: xp.sqrt(w), multiplicative=True, positive=True, needs_positive=True, kind="sqrt"
)
ISQRT = ScalarFunction(
    "isqrt",
    lambda xp, w: 1 / xp.sqrt(w),
    multiplicative=True,
    positive=True,
    needs_positive=True,
    needs_nonzero=True,
    kind="isqrt",
)
SIN = ScalarFunction("sin", lambda xp, w: xp.sin(w), real_on_real=True, kind="sin")
COS = ScalarFunction("cos", lambda xp, w: xp.cos(w), real_on_real=True, kind="cos")
SIGN = ScalarFunction("sign", _sign, multiplicative=True, real_on_real=True, keeps_psd=True, kind="sign")


@lru_cache(maxsize=256)
def power(p: float) -> ScalarFunction:
    """``w -> w**p`` for a real exponent; halves are ``sqrt`` and ``isqrt``."""
    if p == 0.5:
        return SQRT
    if p == -0.5:
        return ISQRT
    whole = float(p).is_integer()
    return ScalarFunction(
        f"pow {p:g}",
        lambda xp, w: w ** (int(p) if whole else p),
        multiplicative=True,
        positive=not whole or int(p) % 2 == 0,
        needs_positive=not whole,
        needs_nonzero=p < 0,
        real_on_real=whole,
        keeps_psd=True,
        kind="power",
        exponent=float(p),
    )

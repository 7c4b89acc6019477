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
    nothing), for which there are methods beyond eigenvalues; exponent: that of ``kind == "power"``. slope:
    gives the derivative where it has a closed form, see ``derivative``.
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
    slope: Callable[[], ScalarFunction] | None = None

    def derivative(self) -> ScalarFunction:
        """``f'`` as such a function: in closed form for those known by name, else by the library's own
        differentiation of fn (NumPy has none: BackendError when it is evaluated). The same object each time.

        >>> import numpy as np
        >>> from cola_core.linalg.scalar_function import LOG
        >>> float(LOG.derivative().fn(np, np.asarray(4.0)))
        0.25
        """
        return _derivative(self)

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
        return self if self.real else _conjugate(self)

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


@lru_cache(maxsize=256)
def _conjugate(f: ScalarFunction) -> ScalarFunction:
    return replace(
        f,
        fn=lambda xp, w: xp.conj(f.fn(xp, w)),
        slope=lambda: _conjugate(f.derivative()),
    )


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
        slope=lambda: _inverse_terms(f, ((-1.0, 2, 1),)),
    )


@lru_cache(maxsize=256)
def _inverse_terms(f: ScalarFunction, terms: tuple[tuple[float, int, int], ...]) -> ScalarFunction:
    """``w -> sum c w^-p f^(j)(1/w)`` over the terms (c, p, j): all derivatives of ``f(1/w)``."""

    def fn(xp: Any, w: Array) -> Array:
        total: Any = 0 * w
        for c, p, j in terms:
            g = f
            for _ in range(j):
                g = g.derivative()
            total = total + c * g.fn(xp, 1 / w) / w**p
        return total

    def slope() -> ScalarFunction:
        found: dict[tuple[int, int], float] = {}
        for c, p, j in terms:
            for key, part in (((p + 1, j), -c * p), ((p + 2, j + 1), -c)):
                found[key] = found.get(key, 0.0) + part
        return _inverse_terms(f, tuple((c, p, j) for (p, j), c in found.items() if c))

    name = f"derivative of {f.name} of the inverse"
    return ScalarFunction(
        name, fn, real=f.real, needs_nonzero=True, needs_positive=f.needs_positive, slope=slope
    )


@lru_cache(maxsize=256)
def _derivative(f: ScalarFunction) -> ScalarFunction:
    if f.slope is not None:
        return f.slope()
    return ScalarFunction(f"derivative of {f.name}", lambda xp, w: _differentiated(f, xp, w), real=f.real)


def _differentiated(f: ScalarFunction, xp: Any, w: Array) -> Array:
    """f' of the entries of w, by forward mode; for complex w that of a holomorphic function."""
    from ..backends import backend_of

    be: Any = backend_of(w)
    return be.jvp(lambda x: f.fn(xp, x), (w,), (xp.ones_like(w),))[1]


@lru_cache(maxsize=256)
def _monomial(c: float, p: float) -> ScalarFunction:
    """``w -> c w^p``, all derivatives of powers, roots and logarithms."""
    if c == 0:
        return _ZERO
    whole = float(p).is_integer()
    return ScalarFunction(
        f"{c:g} w^{p:g}",
        lambda xp, w: c * w ** (int(p) if whole else p),
        needs_positive=not whole,
        needs_nonzero=p < 0,
        real_on_real=whole,
        slope=lambda: _monomial(c * p, p - 1),
    )


def signs(xp: Any, x: Any) -> Any:
    """-1, 0, 1, and NaN where x is: without the mask that ``sign`` of array_api_compat puts on tensors, which
    ``torch.func.vmap`` does not take."""
    one = xp.ones_like(x)
    return xp.where(x > 0, one, xp.where(x < 0, -one, x))


def _sign(xp: Any, w: Array) -> Array:
    return signs(xp, xp.real(w)) + 0 * w if xp.isdtype(w.dtype, "complex floating") else signs(xp, w)


def _flat(xp: Any, w: Array) -> Array:
    """The derivative of sign, which has none at zero."""
    return xp.where(w == 0, xp.full_like(w, float("nan")), xp.zeros_like(w))


EXP: ScalarFunction = ScalarFunction(
    "exp", lambda xp, w: xp.exp(w), positive=True, real_on_real=True, kind="exp", slope=lambda: EXP
)
LOG = ScalarFunction(
    "log",
    lambda xp, w: xp.log(w),
    needs_positive=True,
    needs_nonzero=True,
    kind="log",
    slope=lambda: _monomial(1.0, -1.0),
)
SQRT = ScalarFunction(
    "sqrt",
    lambda xp, w: xp.sqrt(w),
    multiplicative=True,
    positive=True,
    needs_positive=True,
    kind="sqrt",
    slope=lambda: _monomial(0.5, -0.5),
)
ISQRT = ScalarFunction(
    "isqrt",
    lambda xp, w: 1 / xp.sqrt(w),
    multiplicative=True,
    positive=True,
    needs_positive=True,
    needs_nonzero=True,
    kind="isqrt",
    slope=lambda: _monomial(-0.5, -1.5),
)
SIN: ScalarFunction = ScalarFunction(
    "sin", lambda xp, w: xp.sin(w), real_on_real=True, kind="sin", slope=lambda: COS
)
COS: ScalarFunction = ScalarFunction(
    "cos", lambda xp, w: xp.cos(w), real_on_real=True, kind="cos", slope=lambda: _MINUS_SIN
)
_MINUS_SIN: ScalarFunction = ScalarFunction(
    "-sin", lambda xp, w: -xp.sin(w), real_on_real=True, slope=lambda: _MINUS_COS
)
_MINUS_COS: ScalarFunction = ScalarFunction(
    "-cos", lambda xp, w: -xp.cos(w), real_on_real=True, slope=lambda: SIN
)
_ZERO: ScalarFunction = ScalarFunction("0", lambda xp, w: 0 * w, real_on_real=True, slope=lambda: _ZERO)
_FLAT: ScalarFunction = ScalarFunction("derivative of sign", _flat, real_on_real=True, slope=lambda: _FLAT)
SIGN = ScalarFunction(
    "sign",
    _sign,
    multiplicative=True,
    real_on_real=True,
    keeps_psd=True,
    kind="sign",
    slope=lambda: _FLAT,
)


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
        slope=lambda: _monomial(float(p), float(p) - 1),
    )

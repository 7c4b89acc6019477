"""Functions of operators: ``exp``, ``log``, ``sqrt``, ``isqrt`` and any ``apply_unary(f, A)``, as operators.

Self-adjoint compositions go through the eigendecompositions of their parts; the exponential of a Kronecker
sum is a Kronecker product of exponentials; a large self-adjoint operator stays lazy and is applied by
Lanczos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.krylov import Tridiagonal, lanczos
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import SESSION, Session, record
from ..errors import DTypeError
from ..info import Info, combine, report
from ..operators import (
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    Product,
    ScalarMul,
    Sum,
    matmul,
    operator,
    parts,
    split_scalar,
    static,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import tree_leaves
from .operands import as_algorithm, square
from .structure import shift_split, spectral

__all__ = ["APPLY_UNARY", "LanczosFunction", "ScalarFunction", "apply_unary", "exp", "isqrt", "log", "sqrt"]

RULES = RuleBook()


@dataclass(frozen=True)
class ScalarFunction:
    """A function of eigenvalues and what is known about it.

    fn(xp, w): on an array of eigenvalues. multiplicative: f(ab) = f(a) f(b) for a, b >= 0. positive: f(w) >=
    0 for real w (>= 0 where needs_positive). needs_positive: real only for w >= 0. real_on_real: f of a real
    matrix is real.
    """

    name: str
    fn: Callable[[Any, Array], Array]
    multiplicative: bool = False
    positive: bool = False
    needs_positive: bool = False
    real_on_real: bool = False
    real: bool = True

    def on(self, be: Any, w: Array) -> Array:
        """f of the entries of w; negative arguments of roots and logarithms are an
        error (NaN under a trace)."""
        xp = be.xp
        if self.needs_positive and not be.is_complex(w) and be.is_concrete(w) and bool(xp.any(w < 0)):
            from ..errors import PropertyError

            raise PropertyError(
                f"{self.name} of an operator with a negative eigenvalue ({be.number(xp.min(w)):.3g}) is not "
                "real. Cast it to a complex dtype for the principal branch, or shift it."
            )
        return self.fn(xp, w)

    def conjugate(self) -> ScalarFunction:
        """``w -> conj(f(w))``: f(A)^H is this of a self-adjoint A."""
        return self if self.real else replace(self, fn=lambda xp, w: xp.conj(self.fn(xp, w)))

    def properties(self, A: LinearOperator, values: Array | None = None) -> frozenset[Property]:
        """What f(A) inherits; values: f of the eigenvalues, where known.
        Complex ones make f(A) normal, no more."""
        if not A.isa(SelfAdjoint) or not self.real:
            return frozenset()
        if values is not None and "complex" in dtype_name(values.dtype):
            return frozenset()
        if self.positive and (A.isa(PSD) or not self.needs_positive):
            return frozenset({PSD})
        return frozenset({SelfAdjoint})


EXP = ScalarFunction("exp", lambda xp, w: xp.exp(w), positive=True, real_on_real=True)
LOG = ScalarFunction("log", lambda xp, w: xp.log(w), needs_positive=True)
SQRT = ScalarFunction(
    "sqrt", lambda xp, w: xp.sqrt(w), multiplicative=True, positive=True, needs_positive=True
)
ISQRT = ScalarFunction(
    "isqrt", lambda xp, w: 1 / xp.sqrt(w), multiplicative=True, positive=True, needs_positive=True
)

APPLY_UNARY = Question("apply_unary", abstract=lambda A, f: A, doc="f(A) as an operator")


def apply_unary(f: Any, A: Any, alg: Any = Auto()) -> LinearOperator:
    """``f(A)`` as an operator, for f acting on arrays of eigenvalues (``lambda w: w**3``)
    or a ``ScalarFunction``."""
    A = square(A, "apply_unary")
    if not isinstance(f, ScalarFunction):
        user = f
        name = getattr(user, "__name__", "f")
        f = ScalarFunction(name, lambda xp, w: user(w), real=_real_valued(user, A))
    return APPLY_UNARY.run(A, f, alg=as_algorithm(alg, "apply_unary"))


def exp(A: Any, alg: Any = Auto()) -> LinearOperator:
    """The exponential of a square operator, as an operator: ``exp(A) @ v``.

    >>> import numpy as np, cola_core as cola
    >>> E = cola.exp(cola.kronsum(np.diag([0.0, 1.0]), np.diag([0.0, 2.0])))
    >>> [round(float(x), 6) for x in cola.diag(E)] == [round(float(np.exp(x)), 6) for x in (0, 2, 1, 3)]
    True
    """
    return apply_unary(EXP, A, alg)


def log(A: Any, alg: Any = Auto()) -> LinearOperator:
    """The principal logarithm of an operator with positive eigenvalues (complex dtypes: any but zero)."""
    return apply_unary(LOG, A, alg)


def sqrt(A: Any, alg: Any = Auto()) -> LinearOperator:
    """The principal square root of an operator with non-negative eigenvalues."""
    return apply_unary(SQRT, A, alg)


def isqrt(A: Any, alg: Any = Auto()) -> LinearOperator:
    """``A^{-1/2}`` of an operator with positive eigenvalues."""
    return apply_unary(ISQRT, A, alg)


_FUNCTIONS: tuple[Any, ...] = (apply_unary, exp, log, sqrt, isqrt)
for _f in _FUNCTIONS:
    _f.question = APPLY_UNARY


def _real_valued(f: Any, A: LinearOperator) -> bool:
    """Whether f maps real numbers to a real dtype: a static fact, tried on ones.
    Unknown (planning) counts as real."""
    be = A._concrete_backend()
    try:
        return not be.is_complex(f(be.xp.ones((1,), dtype=be.real_dtype(A.dtype), device=A.device)))
    except Exception:  # noqa: BLE001 - the function will say so itself when it is used
        return True


# -- rules ---------------------------------------------------------------------------------------------------
@RULES.rule(APPLY_UNARY, (Diagonal,), id="function/diagonal", source="definition")
def of_diagonal(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    d = be.xp.real(A.diag) if A._is_complex() and A.isa(SelfAdjoint) else A.diag
    values = f.on(be, d)
    return Diagonal(values, declared=f.properties(A, values))


@RULES.rule(APPLY_UNARY, (ScalarMul,), id="function/scalar", source="definition")
def of_scalar(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    value = f.on(A._concrete_backend(), A.value)
    return ScalarMul(value, A.n, declared=f.properties(A, None if A._is_complex() else value))


@RULES.rule(APPLY_UNARY, (Identity,), id="function/identity", source="definition")
def of_identity(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    value = f.on(be, be.xp.ones((), dtype=be.real_dtype(A.dtype), device=A.device))
    return ScalarMul(value, A.n, declared=f.properties(A, value))


def _square_blocks(A: Any, f: Any, *, alg: Any) -> bool | str:
    return next((f"part {M!r} is not square" for M in A.Ms if not M.is_square), True)


@RULES.rule(
    APPLY_UNARY, (BlockDiag,), id="function/blockdiag", source="Higham 2008, thm 1.13", when=_square_blocks
)
def of_blockdiag(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return A.with_blocks(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)))


def _is_exp(A: Any, f: Any, *, alg: Any) -> bool | str:
    return True if f.name == "exp" else f"holds for exp, not for {f.name}"


@RULES.rule(
    APPLY_UNARY,
    (KronSum,),
    id="function/exp-kronsum",
    source="exp(A (+) B) = exp A (x) exp B; Higham 2008, thm 10.9",
    when=_is_exp,
    precedence=1,
)
def exp_kronsum(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return Kronecker(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)), declared=f.properties(A))


def _multiplicative(A: Any, f: Any, *, alg: Any) -> bool | str:
    if not f.multiplicative:
        return f"{f.name}(ab) is not {f.name}(a) {f.name}(b)"
    return next((f"factor {M!r} is not known to be PSD" for M in A.Ms if not M.isa(PSD)), True)


@RULES.rule(
    APPLY_UNARY,
    (Kronecker,),
    id="function/root-kronecker",
    source="f(A (x) B) = f(A) (x) f(B) for multiplicative f",
    when=_multiplicative,
    precedence=1,
)
def root_kronecker(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return Kronecker(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)), declared=f.properties(A))


def _exp_shift(A: Any, f: Any, *, alg: Any) -> bool | str:
    if f.name != "exp":
        return f"holds for exp, not for {f.name}"
    return True if shift_split(A) is not None else "not one operator plus multiples of the identity"


@RULES.rule(
    APPLY_UNARY,
    (Sum,),
    id="function/exp-shift",
    source="exp(A + s I) = e^s exp A",
    when=_exp_shift,
    precedence=1,
)
def exp_shift(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    base, shifts = shift_split(A)  # type: ignore[misc]
    out = ask(APPLY_UNARY, (base, f), alg)
    for s in shifts:
        out = matmul(ask(APPLY_UNARY, (s, f), alg), out)
    return out


def _spectral(A: Any, f: Any, *, alg: Any) -> bool | str:
    return spectral(A, alg)


def _through_spectrum(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    from .eigen import EIGH

    w, V = ask(EIGH, (A,), alg)
    be = A._concrete_backend()
    if f.needs_positive and A.isa(PSD):
        w = be.xp.maximum(w, be.xp.zeros_like(w))  # rounding below zero is not a negative eigenvalue
    values = f.on(be, w)
    return Product(V, Diagonal(values), V.H, declared=f.properties(A, values))


for _cls in (Kronecker, KronSum, Sum, Product):
    RULES.rule(
        APPLY_UNARY,
        (_cls,),
        id=f"function/{_cls.__name__.lower()}",
        source="f(A) = V f(W) V^H",
        when=_spectral,
    )(_through_spectrum)


def _scaled(A: Any, f: Any, *, alg: Any) -> bool | str:
    s, rest = split_scalar(A)
    if s is None or not f.multiplicative:
        return f"no number in front, or {f.name} is not multiplicative"
    return True if s.isa(PSD) and rest.isa(PSD) else "number and operator must both be known non-negative"


@RULES.rule(
    APPLY_UNARY,
    (Product,),
    id="function/scaled-root",
    source="f(c A) = f(c) f(A)",
    when=_scaled,
    precedence=1,
)
def of_scaled(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    return matmul(ask(APPLY_UNARY, (s, f), alg), ask(APPLY_UNARY, (rest, f), alg))


# -- lazy f(A) -----------------------------------------------------------------------------------------------
@operator
class LanczosFunction(LinearOperator):
    """``f(A)`` of a self-adjoint A, applied by Lanczos from each right-hand side: ``|b| Q f(T) e_1``.

    Source: Saad, SINUM 29 (1992) 209. Steps double until the answer changes by less than the tolerance;
    the change is the reported error estimate.
    """

    A: LinearOperator
    f: ScalarFunction = static()
    alg: Any = static()

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        dtype = self.A._dtype()
        return dtype if self.f.real or dtype is None else self.A.xp.result_type(dtype, self.A.xp.complex64)

    def _adjoint(self) -> LinearOperator:
        return self.replace(f=self.f.conjugate())

    def _conj(self) -> LinearOperator:
        return self.replace(A=self.A.conj(), f=self.f.conjugate())

    def _transpose(self) -> LinearOperator:
        return self.replace(A=self.A.T)

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X) if self.f.real else self._adjoint()._matmat(X)

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost * 50

    def _matmat(self, X: Array) -> Array:
        current = SESSION.get()
        if current is not None:
            return self._run(X)
        inner = Session()
        token = SESSION.set(inner)
        try:
            out = self._run(X)
        finally:
            SESSION.reset(token)
        report(combine(inner.infos), "warn", self.f.name, repr(self.A))
        return out

    def _run(self, X: Array) -> Array:
        be = self.A._concrete_backend()
        xp = be.xp
        *batch, n, k = X.shape
        if not be.xp.isdtype(X.dtype, ("real floating", "complex floating")):
            X = be.astype(X, self.dtype)
        if be.is_complex(X) and not self.A._is_complex():
            return self._run(xp.real(X)) + 1j * self._run(xp.imag(X))
        if batch:
            parts = [self._run(X[i]) for i in _indices(batch)]
            return xp.reshape(xp.stack(parts), (*batch, n, k))
        if n == 0 or k == 0:
            return X
        eps = float(xp.finfo(be.real_dtype(self.A.dtype)).eps)
        tol = max(1e-10, 50 * eps) if self.alg.tol is None else float(self.alg.tol)
        limit = min(n, 1000 if self.alg.max_iters is None else int(self.alg.max_iters))
        # compiled, the number of steps cannot grow with the error: start where most spectra have converged
        traced = not be.is_concrete(X, *tree_leaves(self.A))
        m = min(n, limit, 128 if traced else 32)
        bnorm = be.norm(X)
        while True:
            T = lanczos(self.A, X, m)
            steps = T.alpha.shape[0]
            Y = self._combine(be, T, steps)
            if steps < m or m == n:
                error = xp.zeros_like(bnorm)
                break
            # the change over the last quarter of the steps estimates the error of the shorter run from above
            error = be.norm(Y - self._combine(be, T, max(3 * steps // 4, 1)))
            size = xp.where(be.norm(Y) > 0, be.norm(Y), xp.ones_like(bnorm))
            if not be.is_concrete(Y) or m >= limit or bool(xp.all(error <= tol * size)):
                break
            m = min(2 * m, limit)
        size = xp.where(be.norm(Y) > 0, be.norm(Y), xp.ones_like(bnorm))
        relative = xp.max(error / size)
        concrete = be.is_concrete(relative)
        met = bool(relative <= tol) if concrete else relative <= tol
        record(
            Info(
                method=f"Lanczos {self.f.name}",
                converged=met,
                reason="converged" if met is True else "step limit reached",
                iterations=steps,
                matvecs=steps * k,
                tolerance=tol,
                error_estimate=be.number(relative) if concrete else relative,
            )
        )
        return Y

    def _combine(self, be: Any, T: Tridiagonal, m: int) -> Array:
        """``|b| Q_m f(T_m) e_1`` for every column."""
        xp = be.xp
        part = Tridiagonal(T.basis[:m], T.alpha[:m], T.beta[:m], T.norm, m)
        theta, S = part.eigh(be)  # (k, m), (k, m, m)
        weight = xp.abs(S[..., 0, :]) ** 2
        eps = float(xp.finfo(be.real_dtype(self.dtype)).eps)
        present = weight > (10 * eps) ** 2
        top = xp.max(xp.abs(theta), axis=-1)[..., None]
        if self.f.needs_positive and self.A.isa(PSD):
            theta = xp.maximum(theta, xp.zeros_like(theta))
        # eigenvalues of the zero padding after a breakdown carry no weight and must not reach f
        theta = xp.where(present, theta, top + xp.zeros_like(theta))
        values = self.f.on(be, theta)
        values = xp.where(present, values, xp.zeros_like(values))
        c = xp.sum(S * (values * S[..., 0, :])[..., None, :], axis=-1)  # (k, m)
        if be.is_complex(values) and self.f.real:
            raise DTypeError(
                f"{self.f.name} gave complex values at eigenvalues of {self.A!r} although it is real "
                "at 1. Let it return a complex dtype always."
            )
        c = c.T if be.is_complex(c) else be.astype(c.T, T.basis.dtype)  # (m, k)
        return T.norm * xp.sum(part.basis * c[:, None, :], axis=0)


def _indices(batch: list[int]) -> list[tuple[int, ...]]:
    from itertools import product

    return list(product(*(range(b) for b in batch)))

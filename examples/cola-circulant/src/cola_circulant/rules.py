"""What the core can answer about circulants without touching n x n numbers.

Everything follows from ``C = F diag(w) F^H`` with ``w = fft(column)``; so a rule takes ``w``, asks the same
question of ``diag(w)`` or changes the eigenvalues, and puts the answer back together. A rule is called with
the question's operands and ``alg=``. Guards (``when=``) see static facts only and return True or the reason
why the rule does not apply.
"""

from __future__ import annotations

from typing import Any

from cola_core import ops
from cola_core.cost import Cost
from cola_core.dispatch import ask
from cola_core.errors import SingularMatrixError
from cola_core.linalg import APPLY_UNARY, DIAG, EIG, EIGH, EIGSH, INV, SLOGDET, SOLVE, TRACE, ScalarFunction
from cola_core.plugins import RuleBook
from cola_core.properties import PSD, SelfAdjoint, Stiefel, Unitary

from .algorithm import CirculantCG
from .bases import Fourier, Hartley
from .operator import Circulant

__all__ = ["RULES", "register"]

Array = Any
DAVIS = "Davis 1979, ch. 3: C = F diag(fft c) F^H"

RULES = RuleBook()


def register(registrar: Any) -> None:
    """Hand everything in this file to the core."""
    registrar.include(RULES)


# Only on request (alg="circulant-cg"): whether a circulant resembles an operator is not a static fact.
RULES.algorithm(SOLVE, CirculantCG, name="circulant-cg", automatic=False)


def _invertible(C: Circulant) -> Array:
    """The spectrum, after refusing one with an eigenvalue that is zero to rounding."""
    be, xp, w = C._concrete_backend(), C.xp, C.spectrum
    if be.is_concrete(w) and 0 not in w.shape:  # under a trace there are no values to look at
        size = xp.abs(w)
        eps = float(xp.finfo(size.dtype).eps)
        if bool(xp.any(xp.min(size, axis=-1) <= eps * xp.max(size, axis=-1))):
            raise SingularMatrixError(
                f"{C!r} is singular: an eigenvalue is zero to rounding. Add a multiple of the "
                "identity, or solve in the least-squares sense."
            )
    return w


@RULES.rule(INV, (Circulant,), id="inv/circulant", source=DAVIS)
def inv_circulant(C: Any, *, alg: Any) -> Circulant:
    """The inverse is circulant, with the reciprocal eigenvalues."""
    keep = frozenset(p for p in (PSD, SelfAdjoint, Unitary) if C.isa(p))
    return Circulant.from_spectrum(1 / _invertible(C), C, declared=keep)


def _solve_cost(C: Any, b: Any, *, alg: Any) -> Cost:
    """Shown in plans, and compared where several rules apply equally well."""
    return C.matvec_cost * b.shape[-1]


@RULES.rule(SOLVE, (Circulant,), id="solve/circulant", source=DAVIS, cost=_solve_cost)
def solve_circulant(C: Any, b: Array, *, alg: Any) -> Array:
    """Divide in Fourier space: three FFTs, O(n log n) a column."""
    be, xp = C._concrete_backend(), C.xp
    if 0 in (*C.shape, *b.shape):
        return C.column[..., :, None] * b
    X = xp.fft.ifft(xp.fft.fft(b, axis=-2) / _invertible(C)[..., :, None], axis=-2)
    return X if be.is_complex(C) or be.is_complex(b) else xp.real(X)


@RULES.rule(SLOGDET, (Circulant,), id="slogdet/circulant", source=DAVIS)
def slogdet_circulant(C: Any, *, alg: Any) -> tuple[Array, Array]:
    """The determinant of the diagonal matrix of eigenvalues."""
    be, xp = C._concrete_backend(), C.xp
    sign, value = ask(SLOGDET, (ops.Diagonal(C.spectrum),), alg)
    # eigenvalues of a real circulant come in conjugate pairs: the phase is a sign, up to rounding
    return (sign if be.is_complex(C) else be.astype(xp.sign(xp.real(sign)), C.dtype)), value


@RULES.rule(TRACE, (Circulant,), id="trace/circulant", source="the diagonal is constant")
def trace_circulant(C: Any, *, alg: Any) -> Array:
    return C.shape[-1] * C.column[..., 0] if C.shape[-1] else C.xp.sum(C.column, axis=-1)


@RULES.rule(DIAG, (Circulant,), id="diag/circulant", source="every diagonal is constant")
def diag_circulant(C: Any, k: int, *, alg: Any) -> Array:
    """The k-th diagonal repeats ``column[-k]``."""
    xp, n = C.xp, C.shape[-1]
    length = max(n - abs(k), 0)
    entry = C.column[..., -k % n, None] if length else C.column[..., :0]
    return xp.broadcast_to(entry, (*C.batch_shape, length))


@RULES.rule(APPLY_UNARY, (Circulant,), id="function/circulant", source="Higham 2008, def. 1.2 with " + DAVIS)
def function_of_circulant(C: Any, f: ScalarFunction, *, alg: Any) -> Circulant:
    """``f(C)`` is circulant, with eigenvalues ``f(w)``;
    it is real where f is known to keep real matrices real."""
    be, xp, w = C._concrete_backend(), C.xp, C.spectrum
    if C.isa(SelfAdjoint):
        w = xp.real(w)
        if f.needs_positive and C.isa(PSD):
            w = xp.maximum(w, xp.zeros_like(w))  # rounding below zero is not a negative eigenvalue
    like = C
    if not (be.is_complex(C) or C.isa(SelfAdjoint) or f.real_on_real):
        like = C.replace(column=w)  # f of a real matrix may be complex: log of a rotation, say
    return Circulant.from_spectrum(f.on(be, w), like, declared=f.properties(C))


# -- eigenvectors --------------------------------------------------------------------------------------------
@RULES.rule(
    EIGH, (Circulant,), id="eigh/circulant", source="Bini & Favati 1993 (real), Davis 1979 (Hermitian)"
)
def eigh_circulant(C: Any, *, alg: Any) -> Any:
    """Real eigenvalues in Fourier order; the eigenvectors are a transform, never a matrix."""
    n = C.shape[-1]
    w = C.xp.real(C.spectrum)
    return w, (Fourier if C._is_complex() else Hartley).of(n, C.column)


@RULES.rule(EIGSH, (Circulant,), id="eigsh/circulant", source="all eigenvalues, then the wanted ones")
def eigsh_circulant(C: Any, k: int, which: str, *, alg: Any) -> Any:
    """All eigenvalues cost one FFT, so nothing is iterated."""
    if C.batch_shape:
        return NotImplemented  # the next candidate says what it thinks of batches
    xp = C.xp
    w, V = ask(EIGH, (C,), alg)
    order = xp.argsort(xp.abs(w) if which[1] == "M" else w, stable=True)
    wanted = order[:k] if which[0] == "S" else xp.flip(order, axis=0)[:k]
    return w[wanted], ops.Sliced(V, None, wanted, declared=frozenset({Stiefel}))


def _not_self_adjoint(C: Any, *, alg: Any) -> bool | str:
    return "self-adjoint: eigh answers, with real eigenvalues" if C.isa(SelfAdjoint) else True


@RULES.rule(EIG, (Circulant,), id="eig/circulant", source=DAVIS, when=_not_self_adjoint)
def eig_circulant(C: Any, *, alg: Any) -> Any:
    """Circulants are normal: the eigenvectors are unitary, and the same for all of them."""
    w = C.spectrum
    return w, Fourier.of(C.shape[-1], w)

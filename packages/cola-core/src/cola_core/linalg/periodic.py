"""Rules of circulants and circular convolutions: everything from one Fourier transform of the first column.

``C = F^H diag(w) F`` with ``w = fft(column)`` and F unitary (Davis, Circulant Matrices, 1979, ch. 3 and 5),
so a question of C is the same question of w. Nothing of size n x n is made.
"""

from __future__ import annotations

from typing import Any

from ..algorithms.factor import warn_if_singular
from ..algorithms.spectrum import nonnegative
from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError, SingularMatrixError
from ..operators import FFT, Circulant, Diagonal, Hartley, Kronecker, LinearOperator, Product
from ..operators.circulant import Periodic
from ..operators.fourier import fft, ifft
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint, Unitary
from .determinant import SLOGDET, _believe, of_entries
from .diagonal import DIAG, exactly, length
from .eigen import EIG, EIGH, EIGS, EIGSH, EIGVALS
from .eigen_rules import _some_of_all, _some_of_all_general, _structured, _structured_general
from .inverse import INV, SURVIVES
from .lstsq import PINV, _inverted
from .matrix_function import APPLY_UNARY, ScalarFunction
from .norm import NORM
from .scalar_function import signs
from .solve import SOLVE
from .structure import by_eigenvalues, by_singular_values
from .svd import _triples
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()
DAVIS = "Davis 1979, thm 3.2.2: C = F^H diag(fft c) F"


def _exact(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for eigenvalues."""
    return by_eigenvalues(alg)


def _require_invertible(A: Any, w: Array) -> None:
    """Zero eigenvalues are an error, eigenvalues below rounding a warning; per matrix of the batch."""
    be = A._concrete_backend()
    xp = be.xp
    if not be.is_concrete(w) or 0 in w.shape:
        return
    size = xp.abs(w)
    small, large = xp.min(size, axis=-1), xp.max(size, axis=-1)
    if bool(xp.any(small == 0)):
        raise SingularMatrixError(
            f"{A!r} is singular: an eigenvalue is exactly zero. Add a multiple of the identity or "
            "project out the null space."
        )
    warn_if_singular(be.number(xp.min(small / large)), A, "Fourier")


# -- inverse and solve ---------------------------------------------------------------------------------------
@RULES.rule(INV, (Periodic,), id="inv/periodic", source=DAVIS, when=_exact, complexity="O(N log N)")
def inv_periodic(A: Any, *, alg: Any) -> LinearOperator:
    """The inverse is of the same kind, with the reciprocal eigenvalues."""
    w = A.eigenvalues()
    _require_invertible(A, w)
    return A.with_eigenvalues(1 / w, not A._is_complex(), A.properties & SURVIVES)


def _solve_cost(A: Any, b: Any, *, alg: Any) -> Cost:
    return A.matmat_cost(b.shape[-1])


@RULES.rule(
    SOLVE,
    (Periodic,),
    id="solve/periodic",
    source=DAVIS,
    when=_exact,
    cost=_solve_cost,
    complexity="O(N k log N)",
)
def solve_periodic(A: Any, b: Array, *, alg: Any) -> Array:
    """Divide by the eigenvalues in Fourier space: three transforms, O(n log n) a column."""
    be, grid = A._concrete_backend(), A.grid
    xp = be.xp
    dtype = xp.result_type(A.dtype, b.dtype)
    if 0 in (*A.shape, *b.shape):
        return A._matmat(b)
    real = not be.is_complex(b) and not A._is_complex()
    b = be.astype(b, dtype)
    s = be.astype(A._symbol(), dtype)
    S = fft(be, s, grid, -1, real)
    _require_invertible(A, xp.reshape(S, (*S.shape[: S.ndim - len(grid)], -1)))
    *batch, n, k = b.shape
    Y = fft(be, xp.reshape(b, (*batch, *grid, k)), grid, -2, real) / S[..., None]
    X = ifft(be, Y, grid, -2, real)
    return xp.reshape(X, (*X.shape[: X.ndim - len(grid) - 1], n, k))


# -- determinant, trace, diagonals ---------------------------------------------------------------------------
@RULES.rule(SLOGDET, (Periodic,), id="slogdet/periodic", source=DAVIS, when=_exact, complexity="O(N log N)")
def slogdet_periodic(A: Any, *, alg: Any) -> tuple[Array, Array]:
    """The product of the eigenvalues; those of a real matrix come in conjugate pairs, so its sign is one."""
    be = A._concrete_backend()
    xp = be.xp
    w = A.eigenvalues()
    if A.isa(SelfAdjoint):
        w = xp.real(w)
        _believe(A, w)
    sign, value = of_entries(be, w)
    if not A._is_complex():
        sign = signs(xp, xp.real(sign)) if be.is_complex(sign) else sign
    return be.astype(sign, A.dtype), value


@RULES.rule(
    DIAG,
    (Circulant,),
    id="diag/circulant",
    source="every diagonal is constant",
    when=exactly,
    complexity="O(N)",
)
def diag_circulant(A: Any, k: int, *, alg: Any) -> Array:
    size, n = length(A, k), A.shape[-1]
    entry = A.column[..., -k % n, None] if size else A.column[..., :0]
    return A.xp.broadcast_to(entry, (*A.batch_shape, size))


@RULES.rule(
    TRACE,
    (Circulant,),
    id="trace/circulant",
    source="the diagonal is constant",
    when=exactly,
    complexity="O(1)",
)
def trace_circulant(A: Any, *, alg: Any) -> Array:
    return A.shape[-1] * A.column[..., 0] if A.shape[-1] else A.xp.sum(A.column, axis=-1)


# -- eigenvalues ---------------------------------------------------------------------------------------------
def _general(A: Any, *, alg: Any) -> bool | str:
    """Guard: not self-adjoint."""
    if A.isa(SelfAdjoint):
        return "self-adjoint: eigh answers, with real eigenvalues"
    return by_eigenvalues(alg) if not hasattr(alg, "eig") else True


def _any_eigenvalues(A: Any, *, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for eigenvalues."""
    return True if hasattr(alg, "eigvals") else by_eigenvalues(alg)


@RULES.rule(EIG, (Periodic,), id="eig/periodic", source=DAVIS, when=_general, complexity="O(N log N)")
def eig_periodic(A: Any, *, alg: Any) -> Any:
    """The columns of the inverse transform are the eigenvectors of all circulants; nothing is formed."""
    return A.eigenvalues(), _fourier(A)


def _fourier(A: Any) -> LinearOperator:
    factors = [FFT.like(A, n, inverse=True) for n in A.grid]
    return factors[0] if len(factors) == 1 else Kronecker(*factors)


def _self_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint."""
    return by_eigenvalues(alg) if A.isa(SelfAdjoint) else "not known to be self-adjoint"


@RULES.rule(
    EIGH,
    (Periodic,),
    id="eigh/periodic",
    source="Bini & Favati 1993 (real: Hartley); Davis 1979 (complex)",
    when=_self_adjoint,
    complexity="O(N log N)",
)
def eigh_periodic(A: Any, *, alg: Any) -> Any:
    """Real eigenvalues in the order of the frequencies; the eigenvectors are a transform, never a matrix."""
    w = A.xp.real(A.eigenvalues())
    if A._is_complex():
        V = _fourier(A)
        return w, V if V.isa(Unitary) else V.replace(declared=V.declared | {Unitary})
    return w, Hartley.like(A, A.grid)


RULES.rule(
    EIGSH,
    (Periodic,),
    id="eigsh/periodic",
    source="all eigenvalues, then the wanted ones",
    when=_structured,
    complexity="that of eigh, O(N log N), k eigenvectors formed",
)(_some_of_all)


RULES.rule(
    EIGS,
    (Periodic,),
    id="eigs/periodic",
    source="all eigenvalues, then the wanted ones",
    when=_structured_general,
    complexity="that of eig, O(N log N), k eigenvectors formed",
)(_some_of_all_general)


@RULES.rule(
    EIGVALS, (Periodic,), id="eigvals/periodic", source=DAVIS, when=_any_eigenvalues, complexity="O(N log N)"
)
def eigvals_periodic(A: Any, *, alg: Any) -> Array:
    w = A.eigenvalues()
    return A.xp.real(w) if A.isa(SelfAdjoint) else w


# -- singular values -----------------------------------------------------------------------------------------
def _through_svd(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for singular values."""
    return by_singular_values(alg)


@_triples(
    Periodic,
    "periodic",
    "polar decomposition: C = P |C|, both circulant, |C| = H |w| H",
    _through_svd,
    complexity="O(N log N)",
)
def svd_periodic(A: Any, part: Any, *, alg: Any) -> Any:
    """The moduli of the eigenvalues; real singular vectors of real circulants come from the polar factor."""
    be = A._concrete_backend()
    xp = be.xp
    w = A.eigenvalues()
    size = xp.abs(w)
    one = xp.ones_like(size)
    phase = xp.where(size > 0, w, 1 + 0 * w) / xp.where(size > 0, size, one)
    unitary = frozenset({Unitary})
    if A._is_complex():
        V = _fourier(A)
        return lambda: Product(V, Diagonal(phase, declared=unitary), declared=unitary), size, lambda: V
    H = Hartley.like(A, A.grid)
    return lambda: Product(A.with_eigenvalues(phase, True, unitary), H, declared=unitary), size, lambda: H


@RULES.rule(
    PINV,
    (Periodic,),
    id="pinv/periodic",
    source=DAVIS,
    when=_through_svd,
    precedence=2,
    complexity="O(N log N)",
)
def pinv_periodic(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    """Eigenvalues that count are inverted, the others become zero; of the same kind."""
    w = _inverted(A, A.eigenvalues(), rcond)
    return A.with_eigenvalues(w, not A._is_complex(), A.properties & frozenset({PSD, SelfAdjoint, Unitary}))


@RULES.rule(
    NORM,
    (Periodic,),
    id="norm/periodic",
    source="every row and column holds the symbol; |w|",
    complexity="O(N); O(N log N) for 2 and nuc",
)
def norm_periodic(A: Any, ord: Any, *, alg: Any) -> Array:
    xp, n = A.xp, A.shape[-1]
    if ord in (2, "nuc") and n:
        size = xp.abs(A.eigenvalues())
        return xp.max(size, axis=-1) if ord == 2 else xp.sum(size, axis=-1)
    symbol = xp.reshape(A._symbol(), A.shape[:-1])
    if ord == "fro":
        return n**0.5 * A._concrete_backend().frobenius(symbol)
    return xp.sum(xp.abs(symbol), axis=-1)


# -- functions -----------------------------------------------------------------------------------------------
def _function_guard(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for eigenvalues."""
    return by_eigenvalues(alg) if not hasattr(alg, "eig") else True


def _in_pairs(be: Any, A: Any, f: ScalarFunction, values: Array) -> Array:
    """The principal root or logarithm of a real matrix is real if conjugate eigenvalues have conjugate
    values; a negative one, on the branch cut, has not. Then an error, and NaN under a trace.
    """
    xp = be.xp
    grid = xp.reshape(values, (*values.shape[:-1], *A.grid))
    mirrored = xp.reshape(xp.conj(A.reflected(grid)), values.shape)
    eps = float(xp.finfo(be.real_dtype(values.dtype)).eps)
    gap = xp.abs(values - mirrored)
    cut = gap > eps**0.5 * (xp.max(xp.abs(values), axis=-1, keepdims=True) if values.shape[-1] else 1.0)
    if be.is_concrete(cut) and bool(xp.any(cut)):
        raise PropertyError(
            f"{f.name}({A!r}) is not real: an eigenvalue is negative. Cast it to a complex dtype for the "
            "principal branch, or shift it."
        )
    return xp.where(cut, xp.asarray(float("nan"), dtype=values.dtype), values)


@RULES.rule(
    APPLY_UNARY,
    (Periodic,),
    id="function/periodic",
    source="Higham 2008, def. 1.2 with " + DAVIS,
    when=_function_guard,
    complexity="O(N log N)",
)
def function_of_periodic(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    """``f(C)`` is of the same kind, with eigenvalues ``f(w)``; real where f keeps real matrices real."""
    be = A._concrete_backend()
    w = A.eigenvalues()
    adjoint = A.isa(SelfAdjoint)
    if adjoint:
        w = be.xp.real(w)
        if f.needs_positive and A.isa(PSD):
            w = nonnegative(A, w)
    principal = f.needs_positive and bool(f.kind) and not adjoint and not A._is_complex()
    values = f.on(be, w)
    if principal:
        values = _in_pairs(be, A, f, values)
    real = not A._is_complex() and (f.real_on_real or principal or (adjoint and not be.is_complex(values)))
    return A.with_eigenvalues(values, real, f.properties(A, values if adjoint else None))

"""Rules for functions of operators that need no eigenvectors of the whole, and hold for non-normal ones too.

Similarity, transposes, inverses, block and triangular structure, low rank plus a multiple of the identity,
and what Kronecker products and sums do to logarithm, sine and cosine. Multiples and shifts move into the
parts of a composition where the composition has a rule. Source of all: Higham, Functions of Matrices, 2008.
"""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..backends.base import Array
from ..dispatch.choose import ask
from ..errors import SingularMatrixError
from ..operators import (
    Adjoint,
    BlockDiag,
    Dense,
    Kronecker,
    KronSum,
    LinearOperator,
    LowRank,
    Product,
    ScalarMul,
    Sum,
    Transpose,
    Triangular,
    add,
    parts,
    scale,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Congruence, SelfAdjoint, Unitary
from .inverse import Inverse
from .matrix_function import APPLY_UNARY
from .scalar_function import COS, ISQRT, SIN, SQRT, ScalarFunction, power
from .structure import by_eigenvalues, low_rank, low_rank_factors, middle, shift_split, shift_value

__all__ = ["RULES"]

RULES = RuleBook()


# -- Kronecker products and sums -----------------------------------------------------------------------------
def _log_of_psd(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: log of PSD factors."""
    if f.kind != "log":
        return f"holds for log, not for {f.name}"
    return next((f"factor {M!r} is not known to be PSD" for M in A.Ms if not M.isa(PSD)), True)


@RULES.rule(
    APPLY_UNARY,
    (Kronecker,),
    id="function/log-kronecker",
    source="log(A (x) B) = log A (+) log B for positive spectra; Higham 2008, thm 11.2",
    when=_log_of_psd,
    precedence=1,
    complexity="that of the factors",
)
def log_kronecker(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return A._kronsum(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)), declared=f.properties(A))


def _circular(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: sin and cos."""
    return True if f.kind in ("sin", "cos") else f"holds for sin and cos, not for {f.name}"


@RULES.rule(
    APPLY_UNARY,
    (KronSum,),
    id="function/circular-kronsum",
    source="addition theorems of commuting matrices; Higham 2008, thm 12.2",
    when=_circular,
    precedence=-1,
    complexity="sine and cosine of m factors, 2^(m - 1) Kronecker products of them",
)
def circular_kronsum(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    def pair(Ms: tuple[LinearOperator, ...]) -> tuple[LinearOperator, LinearOperator]:
        s, c = ask(APPLY_UNARY, (Ms[0], SIN), alg), ask(APPLY_UNARY, (Ms[0], COS), alg)
        if len(Ms) == 1:
            return s, c
        t, d = pair(Ms[1:])
        return (
            add(Kronecker(s, d), Kronecker(c, t)),
            add(Kronecker(c, d), scale(-1, Kronecker(s, t))),
        )

    return pair(parts(A))[0 if f.kind == "sin" else 1]


# -- transposes, inverses, similarity ------------------------------------------------------------------------
def _symmetric_function(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: a function that takes conjugate numbers to conjugate values."""
    return True if f.kind else f"{f.name} is not known to map conjugate numbers to conjugate values"


@RULES.rule(
    APPLY_UNARY,
    (Adjoint,),
    id="function/adjoint",
    source="f(A^H) = f(A)^H; Higham 2008, thm 1.18",
    when=_symmetric_function,
    complexity="that of A",
)
def of_adjoint(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return ask(APPLY_UNARY, (A.A, f), alg).H


@RULES.rule(
    APPLY_UNARY,
    (Transpose,),
    id="function/transpose",
    source="f(A^T) = f(A)^T; Higham 2008, thm 1.13",
    complexity="that of A",
)
def of_transpose(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return ask(APPLY_UNARY, (A.A, f), alg).T


def _inverted(f: ScalarFunction, A: LinearOperator) -> ScalarFunction | None:
    """g with ``f(A^-1) = g(A)``, where one is at hand."""
    if f.kind in ("sqrt", "isqrt"):
        return ISQRT if f.kind == "sqrt" else SQRT
    if f.kind == "power":
        return power(-float(f.exponent))  # type: ignore[arg-type]
    if f.kind in ("log", "sign"):
        return f
    return f.of_inverse() if A.isa(SelfAdjoint) else None


def _has_inverted(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: roots, powers, log and sign; any function where the operator is self-adjoint."""
    if _inverted(f, A.A) is None:
        return f"{f.name} of an inverse that is not self-adjoint has no simpler form"
    return True


@RULES.rule(
    APPLY_UNARY,
    (Inverse,),
    id="function/inverse",
    source="f(A^-1) = g(A), g(x) = f(1/x); Higham 2008, thms 1.15, 11.2",
    when=_has_inverted,
    complexity="that of A",
)
def of_inverse(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    out = ask(APPLY_UNARY, (A.A, _inverted(f, A.A)), alg)
    return scale(-1, out) if f.kind == "log" else out


def similar(A: LinearOperator) -> tuple[LinearOperator, LinearOperator, LinearOperator] | None:
    """``A = V M V^H`` with V unitary, as (V, M, V^H)."""
    if not (isinstance(A, Product) and A.isa(Congruence) and A.Ms[0].isa(Unitary)):
        return None
    return A.Ms[0], middle(A), A.Ms[-1]


def _is_similar(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: V M V^H with a unitary V."""
    return True if similar(A) is not None else "not written as V @ M @ V.H with a unitary V"


@RULES.rule(
    APPLY_UNARY,
    (Product,),
    id="function/similarity",
    source="f(V M V^H) = V f(M) V^H; Higham 2008, thm 1.13",
    when=_is_similar,
    precedence=2,
    complexity="that of the middle factor",
)
def of_similar(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    V, M, W = similar(A)  # type: ignore[misc]
    return Product(V, *_factors(ask(APPLY_UNARY, (M, f), alg)), W, declared=f.properties(A))


def _factors(A: LinearOperator) -> tuple[LinearOperator, ...]:
    return A.Ms if isinstance(A, Product) else (A,)


# -- triangular ----------------------------------------------------------------------------------------------
@RULES.rule(
    APPLY_UNARY,
    (Triangular,),
    id="function/triangular",
    source="f(T) is triangular; Higham 2008, thm 1.13",
    complexity="that of a dense matrix",
)
def of_triangular(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    out = ask(APPLY_UNARY, (Dense(A.to_dense()), f), alg)
    return Triangular(out.array, A.lower) if isinstance(out, Dense) else out


# -- multiples and shifts move into the parts ----------------------------------------------------------------
def _sized(s: LinearOperator, n: int) -> LinearOperator:
    """The same multiple of another identity."""
    return s.replace(n=n)


def _scaled_parts(s: ScalarMul, A: LinearOperator) -> LinearOperator | None:
    """``s A`` with the number inside, or None."""
    if isinstance(A, BlockDiag) and all(M.is_square for M in A.Ms):
        return A.with_blocks(*(scale(s.c, M) for M in parts(A)))
    if isinstance(A, KronSum):
        return A._kronsum(*(scale(s.c, M) for M in parts(A)))
    if isinstance(A, Triangular) and not A.unit:
        c = s.c[..., None, None] if getattr(s.c, "shape", ()) else s.c
        return Triangular(c * A.array, A.lower)
    return None


def _shifted_parts(A: LinearOperator, shifts: tuple[LinearOperator, ...]) -> LinearOperator | None:
    """``A + shifts`` with the shifts inside, or None."""

    def plus(M: LinearOperator) -> LinearOperator:
        for s in shifts:
            M = add(M, _sized(s, M.shape[-1]))
        return M

    if isinstance(A, BlockDiag) and all(M.is_square for M in A.Ms):
        return A.with_blocks(*(plus(M) for M in parts(A)))
    if isinstance(A, KronSum):
        first, *rest = parts(A)
        return KronSum(plus(first), *rest)
    if isinstance(A, Triangular) and not A.unit:
        be = A._concrete_backend()
        c = shift_value(shifts)
        c = c[..., None, None] if getattr(c, "shape", ()) else c
        return Triangular(A.array + c * be.eye(A.shape[-1], A.dtype, A.device), A.lower)
    found = similar(A)
    if found is not None:
        V, M, W = found
        return Product(V, *_factors(plus(M)), W)
    return None


def _pushes_scalar(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: a number times a block-diagonal operator, a Kronecker sum or a triangular matrix."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    simple = isinstance(rest, (BlockDiag, KronSum)) or (isinstance(rest, Triangular) and not rest.unit)
    if not simple or (isinstance(rest, BlockDiag) and not all(M.is_square for M in rest.Ms)):
        return "the number cannot move into the parts"
    return True


@RULES.rule(
    APPLY_UNARY,
    (Product,),
    id="function/scaled-parts",
    source="c (A (+) B) = cA (+) cB, c diag(A, B) = diag(cA, cB)",
    when=_pushes_scalar,
    precedence=-1,
    complexity="that of the parts",
)
def of_scaled_parts(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    return ask(APPLY_UNARY, (_scaled_parts(s, rest), f), alg)  # type: ignore[arg-type]


def _pushes_shift(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: a multiple of the identity plus an operator that can take it into its parts."""
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    base = split[0]
    if isinstance(base, BlockDiag):
        return True if all(M.is_square for M in base.Ms) else "a block is not square"
    if isinstance(base, KronSum) or (isinstance(base, Triangular) and not base.unit):
        return True
    return True if similar(base) is not None else "the shift cannot move into the parts"


@RULES.rule(
    APPLY_UNARY,
    (Sum,),
    id="function/shifted-parts",
    source="diag(A, B) + s I = diag(A + s I, B + s I), (A (+) B) + s I = (A + s I) (+) B",
    when=_pushes_shift,
    precedence=-1,
    complexity="that of the parts",
)
def of_shifted_parts(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    base, shifts = shift_split(A)  # type: ignore[misc]
    return ask(APPLY_UNARY, (_shifted_parts(base, shifts), f), alg)


# -- low rank ------------------------------------------------------------------------------------------------
def _low_rank_parts(A: Any) -> tuple[Array, Array, Any]:
    """``A = U V^H + s I`` as (U, V, s); s is 0 where there is no shift."""
    split = shift_split(A)
    base, shifts = (A, ()) if split is None else split
    U, V = low_rank_factors(base)  # type: ignore[misc]
    return U, V, shift_value(shifts) if shifts else None


def _thin(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: U V^H, scaled and shifted, of a rank of at most a quarter of the size."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    if not A.is_square:
        return "not square"
    split = shift_split(A)
    n, k = A.shape[-1], low_rank(A if split is None else split[0])
    if k is None:
        return "not a low-rank operator plus a multiple of the identity"
    return True if 4 * k <= n else f"twice the rank {k} is more than half of {n}"


def _of_low_rank(A: Any, f: ScalarFunction, *, alg: Any) -> Any:
    """``f(s I + U V^H) = f(s) I + U g(V^H U) V^H`` with ``g(x) = (f(s + x) - f(s)) / x``."""
    if not A.shape[-1]:
        return A
    U, V, s = split = _low_rank_parts(A)
    be = A._concrete_backend()
    xp = be.xp
    zero = be.zeros((), be.real_dtype(A.dtype), A.device)
    s = zero if s is None else be.asarray(s) + zero
    if be.is_complex(s) and A.isa(SelfAdjoint):
        s = xp.real(s)
    B = be.matmul(be.adjoint(V), U)
    G = None
    if U is V and f.kind and be.name != "abstract" and be.differentiating(U, s):
        # eigenvectors of B have no derivative where its eigenvalues are equal, f of a block matrix has
        try:
            value, G = f.on(be, s), _divided(be, f, B, s, shifted=split[2] is not None, psd=True)
        except SingularMatrixError:
            G = None
    if G is None and U is V:
        value, G = f.on(be, s), _divided_psd(be, f, B, s)
    elif G is None:
        try:
            value, G = f.on(be, s), _divided(be, f, B, s, shifted=split[2] is not None)
        except SingularMatrixError:
            return NotImplemented
    rest = LowRank(be.matmul(U, G), V)
    out = add(ScalarMul(value, A.shape[-1]), rest)
    return out.replace(declared=out.declared | f.properties(A, value))


def _divided_psd(be: Any, f: ScalarFunction, B: Array, s: Array) -> Array:
    """g of a positive semidefinite B from its eigenvalues; where they vanish, U has nothing to multiply."""
    xp = be.xp
    d, W = be.eigh(B)
    d = xp.maximum(d, xp.zeros_like(d))
    top = xp.max(d, axis=-1)[..., None] if d.shape[-1] else d
    seen = d > 10 * B.shape[-1] * float(xp.finfo(d.dtype).eps) * top
    safe = xp.where(seen, d, xp.ones_like(d))
    shift = s[..., None] if s.shape else s
    none = xp.zeros_like(safe)  # not 0 * safe: roots have no derivative there, and none is meant
    values = xp.where(seen, (f.on(be, safe + shift) - f.on(be, none + shift)) / safe, none)
    return be.matmul(W * values[..., None, :], be.adjoint(W))


def _divided(be: Any, f: ScalarFunction, B: Array, s: Array, shifted: bool, psd: bool = False) -> Array:
    """g(B) as the corner of ``f([[s I + B, I], [0, s I]])``: no division by a singular B."""
    xp, k = be.xp, B.shape[-1]
    if not shifted and f.kind in ("sqrt", "power") and f.exponent != 1:
        # f(x) / x is again a power, and the corner below would be a root of a singular matrix
        lower = power((0.5 if f.exponent is None else f.exponent) - 1)
        small = Dense((B + be.adjoint(B)) / 2, declared=frozenset({PSD})) if psd else Dense(B)
        return ask(APPLY_UNARY, (small, lower), Auto()).to_dense()
    one = be.eye(k, B.dtype, be.device(B)) + 0 * B
    shift = (s[..., None, None] if s.shape else s) * one
    whole = xp.concat([xp.concat([shift + B, one], axis=-1), xp.concat([0 * one, shift], axis=-1)], axis=-2)
    F = ask(APPLY_UNARY, (Dense(whole), f), Auto())
    return F.to_dense()[..., :k, k:]


for _cls, _name in ((LowRank, "lowrank"), (Product, "scaled-lowrank"), (Sum, "lowrank-shift")):
    RULES.rule(
        APPLY_UNARY,
        (_cls,),
        id=f"function/{_name}",
        source="f(s I + U V^H) = f(s) I + U f[s + V^H U, s] V^H; Higham 2008, thm 1.35",
        when=_thin,
        precedence=0 if _cls is LowRank else -2,
        complexity="O(N r^2 + r^3)",
    )(_of_low_rank)

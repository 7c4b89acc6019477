"""``norm``, ``cond`` and ``rank``: from the parts, from singular values, or from the entries."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.lstsq import cutoff, refuse_nonfinite
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import SingularMatrixError, UnknownNameError
from ..operators import (
    Adjoint,
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sparse,
    Transpose,
    Zero,
    add,
    as_operator,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import Stiefel, Unitary
from .inverse import INV, Inverse
from .operands import as_algorithm, as_promised, for_singular_values, square
from .structure import structural
from .svd import SINGULAR_VALUES

__all__ = ["COND", "NORM", "RANK", "cond", "norm", "rank"]

RULES = RuleBook()
INF = float("inf")
ORDERS = ("fro", 2, 1, INF, "nuc")


def _abstract(A: Any, ord: Any) -> Any:
    from ..backends.abstract import AbstractArray

    return AbstractArray(A.batch_shape, A._concrete_backend().real_dtype(A.dtype))


def _abstract_rank(A: Any, tol: Any) -> Any:
    from ..backends.abstract import AbstractArray

    return AbstractArray(A.batch_shape, "int64")


NORM = Question("norm", abstract=_abstract, doc="a norm of the matrix", axes=0)
COND = Question("cond", abstract=_abstract, doc="condition number", axes=0)
RANK = Question("rank", abstract=_abstract_rank, doc="numerical rank", axes=0)


def _order(ord: Any, question: str) -> Any:
    if isinstance(ord, str) and ord == "inf":
        ord = INF
    for known in ORDERS:
        if ord == known:
            return known
    raise UnknownNameError(f"{question}(A, {ord!r}): choose 'fro', 2, 1, inf or 'nuc'.")


def norm(
    A: Any, ord: Any = "fro", alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """A norm of an operator, batch shape: "fro" (Frobenius), 2 (largest singular value), 1 and inf (largest
    column and row sum of moduli), "nuc" (sum of singular values).

    Composed from the parts where the structure allows; else from the entries, a block of columns at a time
    (fro, 1, inf), or from singular values. The 2-norm of a large operator is found iteratively, from below.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.kron(np.array([[3.0, 4.0]]), np.eye(4))
    >>> round(float(cola.norm(A)), 6), round(float(cola.norm(A, 2)), 6)
    (10.0, 5.0)
    """
    A = as_operator(A)
    out = NORM.run(
        A, _order(ord, "norm"), alg=as_algorithm(alg, "norm"), return_info=return_info, on_failure=on_failure
    )
    value, info = out if return_info else (out, None)
    value = as_promised(A, value, real=True)
    return (value, info) if return_info else value


norm.question = NORM  # type: ignore[attr-defined]


def cond(
    A: Any, p: Any = 2, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """The condition number in a norm, batch shape: for p = 2 the ratio of the extreme singular values, of an
    operator of any shape; for "fro", 1 and inf ``norm(A, p) * norm(inv(A), p)`` of a square one. Infinite for
    singular operators (up to rounding).

    >>> import numpy as np, cola_core as cola
    >>> round(float(cola.cond(cola.kron(np.diag([1.0, 2.0]), np.diag([1.0, 5.0])))), 6)
    10.0
    """
    p = _order(p, "cond")
    A = as_operator(A) if p == 2 else square(A, "cond")
    alg = for_singular_values(alg, "svdvals") if p == 2 else as_algorithm(alg, "svdvals")
    out = COND.run(A, p, alg=alg, return_info=return_info, on_failure=on_failure)
    value, info = out if return_info else (out, None)
    value = as_promised(A, value, real=True)
    return (value, info) if return_info else value


cond.question = COND  # type: ignore[attr-defined]


def rank(
    A: Any, tol: Any = None, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """The number of singular values above ``tol`` (default ``max(m, n) * eps * s_max``), as an integer array
    of batch shape. The decision is one for the whole operator, not factor by factor.

    >>> import numpy as np, cola_core as cola
    >>> int(cola.rank(cola.kron(np.ones((2, 2)), np.eye(3))))
    3
    """
    A = as_operator(A)
    return RANK.run(
        A, tol, alg=for_singular_values(alg, "svdvals"), return_info=return_info, on_failure=on_failure
    )


rank.question = RANK  # type: ignore[attr-defined]


# -- norm ----------------------------------------------------------------------------------------------------
def _real_ones(A: Any) -> Array:
    be = A._concrete_backend()
    return be.xp.ones(A.batch_shape, dtype=be.real_dtype(A.dtype), device=A.device)


def _product(values: list[Array]) -> Array:
    out = values[0]
    for v in values[1:]:
        out = out * v
    return out


@RULES.rule(NORM, (Identity,), id="norm/identity", source="definition", complexity="O(1)")
def norm_identity(A: Any, ord: Any, *, alg: Any) -> Array:
    return _of_unitary(A, ord) if A.n else 0 * _real_ones(A)


@RULES.rule(NORM, (Permutation,), id="norm/permutation", source="definition", complexity="O(1)")
def norm_permutation(A: Any, ord: Any, *, alg: Any) -> Array:
    return _of_unitary(A, ord) if A.shape[-1] else 0 * _real_ones(A)


def _of_unitary(A: Any, ord: Any) -> Array:
    n = A.shape[-1]
    return {"fro": n**0.5, "nuc": float(n)}.get(ord, 1.0) * _real_ones(A)


def _invariant(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns; the norms fro, 2 and nuc."""
    if not A.isa(Stiefel):
        return "its columns are not known to be orthonormal"
    if ord in (1, INF):
        return "column and row sums depend on the entries"
    return True


@RULES.rule(
    NORM, (LinearOperator,), id="norm/orthonormal", source="all singular values are 1", when=_invariant,
    precedence=2, complexity="O(1)",
)  # fmt: skip
def norm_orthonormal(A: Any, ord: Any, *, alg: Any) -> Array:
    return _of_unitary(A, ord) if 0 not in A.shape[-2:] else 0 * _real_ones(A)


@RULES.rule(NORM, (Zero,), id="norm/zero", source="definition", complexity="O(1)")
def norm_zero(A: Any, ord: Any, *, alg: Any) -> Array:
    return 0 * _real_ones(A)


@RULES.rule(NORM, (ScalarMul,), id="norm/scalar", source="definition", complexity="O(1)")
def norm_scalar(A: Any, ord: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    one = _of_unitary(A, ord) if A.n else 0 * _real_ones(A)
    return be.xp.abs(be.astype(A.value, A.dtype)) * one


@RULES.rule(NORM, (Diagonal,), id="norm/diagonal", source="definition", complexity="O(N)")
def norm_diagonal(A: Any, ord: Any, *, alg: Any) -> Array:
    xp = A.xp
    if ord == "fro":
        return A._concrete_backend().frobenius(A.diag)
    if ord == "nuc":
        return xp.sum(xp.abs(A.diag), axis=-1)
    return xp.max(xp.abs(A.diag), axis=-1) if A.shape[-1] else 0 * _real_ones(A)


@RULES.rule(
    NORM,
    (Kronecker,),
    id="norm/kronecker",
    source="Lancaster & Farahat 1972",
    complexity="that of the factors",
)
def norm_kronecker(A: Any, ord: Any, *, alg: Any) -> Array:
    """Each of the norms is multiplicative."""
    return _product([ask(NORM, (M, ord), alg) for M in parts(A)])


@RULES.rule(NORM, (BlockDiag,), id="norm/blockdiag", source="definition", complexity="that of the blocks")
def norm_blockdiag(A: Any, ord: Any, *, alg: Any) -> Array:
    xp = A.xp
    values = [ask(NORM, (M, ord), alg) for M in parts(A)]
    stacked = xp.stack(list(xp.broadcast_arrays(*values)) if len(values) > 1 else values, axis=-1)
    if ord in (2, 1, INF):
        return xp.max(stacked, axis=-1)
    times = A._concrete_backend().asarray(
        list(map(float, A.multiplicities)), dtype=stacked.dtype, device=A.device
    )
    if ord == "nuc":
        return xp.sum(times * stacked, axis=-1)
    return A._concrete_backend().frobenius(times**0.5 * stacked)


def _entrywise(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: the norms fro, 1 and inf."""
    return True if ord in ("fro", 1, INF) else "the entries do not tell the singular values"


@RULES.rule(NORM, (Sparse,), id="norm/sparse", source="definition", when=_entrywise, complexity="O(nnz)")
def norm_sparse(A: Any, ord: Any, *, alg: Any) -> Array:
    """From the stored entries, which are one per position."""
    be = A._concrete_backend()
    xp = be.xp
    if ord == "fro":
        return be.frobenius(A.data)
    index, count = (A.cols, A.shape[-1]) if ord == 1 else (A.rows, A.shape[-2])
    if not count:
        return 0 * _real_ones(A)
    return xp.max(be.index_add(index, xp.abs(A.data)[..., None], count)[..., 0], axis=-1)


def _scaled(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: a number in front."""
    return True if split_scalar(A)[0] is not None else "no number in front"


@RULES.rule(
    NORM,
    (Product,),
    id="norm/scaled",
    source="|c A| = |c| |A|",
    when=_scaled,
    precedence=3,
    complexity="that of the operator",
)
def norm_scaled(A: Any, ord: Any, *, alg: Any) -> Array:
    s, rest = split_scalar(A)
    c: Any = s.c  # type: ignore[union-attr]
    size = abs(c) if isinstance(c, (int, float, complex)) else A.xp.abs(c)
    return size * ask(NORM, (rest, ord), alg)


def _orthonormal_factor(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: the first factor has orthonormal columns or the last one is unitary; fro, 2 and nuc."""
    if ord in (1, INF):
        return "column and row sums are not invariant"
    if len(A.Ms) > 1 and (A.Ms[0].isa(Stiefel) or A.Ms[-1].isa(Unitary)):
        return True
    return "neither the first factor has orthonormal columns nor is the last unitary"


@RULES.rule(
    NORM,
    (Product,),
    id="norm/orthonormal-factor",
    source="|Q A| = |A|",
    when=_orthonormal_factor,
    precedence=2,
    complexity="that of the other factors",
)
def norm_orthonormal_factor(A: Any, ord: Any, *, alg: Any) -> Array:
    Ms = parts(A)
    Ms = Ms[1:] if Ms[0].isa(Stiefel) else Ms[:-1]
    return ask(NORM, (Ms[0] if len(Ms) == 1 else Product(*Ms), ord), alg)


def _low_rank_frobenius(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: the Frobenius norm."""
    return True if ord == "fro" else "only the Frobenius norm"


@RULES.rule(
    NORM,
    (LowRank,),
    id="norm/lowrank",
    source="|Q1 R1 (Q2 R2)^H| = |R1 R2^H|",
    when=_low_rank_frobenius,
    complexity="O(N r^2)",
)
def norm_lowrank(A: Any, ord: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    R1 = be.qr(A.U)[1]
    R2 = R1 if A.V is None else be.qr(A.V)[1]
    return be.frobenius(be.matmul(R1, be.adjoint(R2)), axis=(-2, -1))


def _kronsum_frobenius(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: the Frobenius norm."""
    if ord != "fro":
        return "only the Frobenius norm has a closed form"
    return True if A.shape[-1] else "an empty operator"


@RULES.rule(
    NORM,
    (KronSum,),
    id="norm/kronsum",
    source="orthogonal split of each factor into its mean eigenvalue and the rest",
    when=_kronsum_frobenius,
    precedence=1,
    complexity="trace and norm of each factor",
)
def norm_kronsum(A: Any, ord: Any, *, alg: Any) -> Array:
    """``|A (+) B|^2 = n_B |A0|^2 + n_A |B0|^2 + n_A n_B |a + b|^2`` with ``A = A0 + a I`` of trace zero."""
    from .trace import TRACE

    xp = A.xp
    N = A.shape[-1]
    mean, squares = None, []
    for M in parts(A):
        n = M.shape[-1]
        a = ask(TRACE, (M,), alg) / n
        mean = a if mean is None else mean + a
        rest = add(M, ScalarMul(-a, n))
        squares.append((N / n) ** 0.5 * ask(NORM, (rest, "fro"), alg))
    squares.append(N**0.5 * xp.abs(mean))
    return A._concrete_backend().frobenius(xp.stack(list(xp.broadcast_arrays(*squares)), axis=-1))


_SWAPPED = {1: INF, INF: 1}


@RULES.rule(
    NORM,
    (Adjoint,),
    id="norm/adjoint",
    source="|A^H|_1 = |A|_inf, the others are equal",
    complexity="that of A",
)
def norm_adjoint(A: Any, ord: Any, *, alg: Any) -> Array:
    return ask(NORM, (A.A, _SWAPPED.get(ord, ord)), alg)


@RULES.rule(
    NORM,
    (Transpose,),
    id="norm/transpose",
    source="|A^T|_1 = |A|_inf, the others are equal",
    complexity="that of A",
)
def norm_transpose(A: Any, ord: Any, *, alg: Any) -> Array:
    return ask(NORM, (A.A, _SWAPPED.get(ord, ord)), alg)


def _singular(A: Any, ord: Any, *, alg: Any) -> bool | str:
    """Guard: singular values by rule; the norms fro, 2 and nuc."""
    if ord not in (2, "nuc", "fro"):
        return "not a function of the singular values"
    return structural("svdvals", A, alg)


@RULES.rule(
    NORM,
    (LinearOperator,),
    id="norm/singular-values",
    source="unitarily invariant norms; Horn & Johnson, 2nd ed., sec. 7.4.7",
    when=_singular,
    precedence=1,
    complexity="that of svdvals, O(N)",
)
def norm_singular_values(A: Any, ord: Any, *, alg: Any) -> Array:
    xp = A.xp
    s = ask(SINGULAR_VALUES, (A,), alg)
    if ord == "fro":
        return A._concrete_backend().frobenius(s)
    if ord == "nuc":
        return xp.sum(s, axis=-1)
    return xp.max(s, axis=-1) if s.shape[-1] else 0 * _real_ones(A)


# -- cond ----------------------------------------------------------------------------------------------------
def _unitary(A: Any, p: Any, *, alg: Any) -> bool | str:
    """Guard: p = 2, orthonormal columns."""
    return True if p == 2 and A.isa(Stiefel) and A.shape[-1] else "not known to be unitary, or not p = 2"


@RULES.rule(
    COND,
    (LinearOperator,),
    id="cond/orthonormal",
    source="definition",
    when=_unitary,
    precedence=2,
    complexity="O(1)",
)
def cond_orthonormal(A: Any, p: Any, *, alg: Any) -> Array:
    return _real_ones(A)


def _euclidean(A: Any, p: Any, *, alg: Any) -> bool | str:
    """Guard: p = 2."""
    return True if p == 2 else "only the 2-norm's is a ratio of singular values"


@RULES.rule(
    COND,
    (LinearOperator,),
    id="cond/singular-values",
    source="s_max / s_min; Golub & Van Loan, 4th ed., sec. 2.6.2",
    when=_euclidean,
    precedence=1,
    complexity="that of svdvals, O(N)",
)
def cond_singular_values(A: Any, p: Any, *, alg: Any) -> Array:
    from .svd import completed

    be = A._concrete_backend()
    xp = be.xp
    s = completed(A, ask(SINGULAR_VALUES, (A,), alg), min(A.shape[-2:]))
    if not s.shape[-1]:
        return 0 * _real_ones(A)
    top, low = xp.max(s, axis=-1), xp.min(s, axis=-1)
    refuse_nonfinite(be, top, A.shape)
    return xp.where(low > 0, top / xp.where(low > 0, low, xp.ones_like(low)), xp.zeros_like(low) + INF)


@RULES.rule(
    COND, (LinearOperator,), id="cond/norms", source="|A| |A^-1|", complexity="norms of A and of its inverse"
)
def cond_norms(A: Any, p: Any, *, alg: Any) -> Array:
    if not A.shape[-1]:
        return 0 * _real_ones(A)
    size = ask(NORM, (A, p), alg)
    try:
        return size * ask(NORM, (ask(INV, (A,), Auto()), p), alg)
    except SingularMatrixError:
        return 0 * size + INF


@RULES.rule(
    COND, (Kronecker,), id="cond/kronecker", source="Van Loan 2000, sec. 1", complexity="that of the factors"
)
def cond_kronecker(A: Any, p: Any, *, alg: Any) -> Array:
    Ms = parts(A)
    if any(not M.is_square for M in Ms):
        return NotImplemented
    return _product([ask(COND, (M, p), alg) for M in Ms])


@RULES.rule(COND, (Inverse,), id="cond/inverse", source="cond(A^-1) = cond(A)", complexity="that of A")
def cond_inverse(A: Any, p: Any, *, alg: Any) -> Array:
    return ask(COND, (A.A, p), alg)


def _scaled_cond(A: Any, p: Any, *, alg: Any) -> bool | str:
    """Guard: a nonzero Python number in front."""
    s, _ = split_scalar(A)
    if s is None or not isinstance(s.c, (int, float, complex)) or s.c == 0:
        return "no number known to be nonzero in front"
    return True


@RULES.rule(
    COND,
    (Product,),
    id="cond/scaled",
    source="cond(c A) = cond(A)",
    when=_scaled_cond,
    complexity="that of the operator",
)
def cond_scaled(A: Any, p: Any, *, alg: Any) -> Array:
    return ask(COND, (split_scalar(A)[1], p), alg)


# -- rank ----------------------------------------------------------------------------------------------------
@RULES.rule(
    RANK,
    (LinearOperator,),
    id="rank/singular-values",
    source="Golub & Van Loan, 4th ed., sec. 5.4.1",
    complexity="that of svdvals, O(N)",
)
def rank_singular_values(A: Any, tol: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    s = ask(SINGULAR_VALUES, (A,), alg)
    return count_above(be, s, threshold(A, s, tol))


def threshold(A: Any, s: Array, tol: Any) -> Array:
    """What counts as zero: ``tol`` itself, or the default for the whole of A."""
    be = A._concrete_backend()
    if tol is None:
        return cutoff(be, s, A.shape, A.dtype)
    if isinstance(tol, (int, float)) and not tol >= 0:
        raise ValueError(f"tol={tol!r} for {A!r}: the largest singular value that counts as zero is >= 0.")
    refuse_nonfinite(be, s, A.shape)
    return be.zeros(s.shape[:-1], s.dtype, be.device(s)) + tol


def count_above(be: Any, s: Array, limit: Array) -> Array:
    return be.xp.sum(be.xp.astype(s > limit[..., None], be.xp.int64), axis=-1)


def _full(A: Any, tol: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns, no tolerance given."""
    return True if tol is None and A.isa(Stiefel) else "not known to have orthonormal columns, or a tolerance"


@RULES.rule(
    RANK,
    (LinearOperator,),
    id="rank/orthonormal",
    source="definition",
    when=_full,
    precedence=1,
    complexity="O(1)",
)
def rank_orthonormal(A: Any, tol: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    return be.zeros(A.batch_shape, "int64", A.device) + A.shape[-1]

"""Static questions about the structure of an operator, shared by the guards of several rules."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..backends.base import Array
from ..dispatch.registry import REGISTRY
from ..operators import (
    Dense,
    Identity,
    LinearOperator,
    LowRank,
    Product,
    ScalarMul,
    Sum,
    adopted,
    split_scalar,
)
from ..operators.axes import joined
from ..properties import PSD, Congruence, SelfAdjoint

__all__ = [
    "by_eigenvalues",
    "by_singular_values",
    "eigenbasis",
    "low_rank",
    "low_rank_factors",
    "low_rank_size",
    "low_rank_split",
    "middle",
    "shift_split",
    "shift_value",
    "spectral",
    "spectral_guard",
    "structural",
]


def by_eigenvalues(alg: Any) -> bool | str:
    """Whether answering through eigenvalues respects the algorithm:
    an explicit CG() must not turn into eigh."""
    if isinstance(alg, Auto) or hasattr(alg, "eigh"):
        return True
    return f"{type(alg).__name__} was asked for explicitly"


def spectral(A: LinearOperator, alg: Any) -> bool | str:
    """True if a structural rule gives A's eigendecomposition (no dense n x n one), else the reason."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    if not A.isa(SelfAdjoint):
        return f"{A!r} is not known to be self-adjoint"
    return _by_rule("eigh", A, alg, spectral)


def eigenbasis(A: LinearOperator, alg: Any) -> bool | str:
    """True if a structural rule gives A's eigenvectors, self-adjoint or not, else the reason."""
    if not (isinstance(alg, Auto) or hasattr(alg, "eig") or hasattr(alg, "eigh")):
        return f"{type(alg).__name__} was asked for explicitly"
    return _by_rule("eig", A, alg, eigenbasis)


def _by_rule(question: str, A: LinearOperator, alg: Any, inner: Any) -> bool | str:
    for tier in REGISTRY.tiers(question, (type(A), type(alg))):
        for rule in tier:
            if rule.refuses((A,), alg) is not None:
                continue
            if rule.id == "core:eig/self-adjoint":
                return spectral(A, alg)
            if rule.id in PASSING:
                # such a rule has no eigenvectors of its own: it asks for those of the operator within
                return inner(PASSING[rule.id](A), alg)
            return True
    return f"no structural eigendecomposition of {A!r}"


def by_singular_values(alg: Any) -> bool | str:
    """Whether answering through singular values respects the algorithm: an explicit CG() must not turn into
    an SVD."""
    if isinstance(alg, Auto) or hasattr(alg, "svd") or (hasattr(alg, "lstsq") and alg.kind == "exact"):
        return True
    return f"{type(alg).__name__} was asked for explicitly"


def structural(question: str, A: LinearOperator, alg: Any, *operands: Any) -> bool | str:
    """True if some rule answers the question on A (so that no dense matrix of A's size is factorised),
    else the reason."""
    for tier in REGISTRY.tiers(question, (type(A), type(alg))):
        for rule in tier:
            if rule.refuses((A, *operands), alg) is None:
                return True
    return f"no structural {question} of {A!r}"


PASSING: dict[str, Any] = {
    "core:eigh/shift": lambda A: shift_split(A)[0],  # type: ignore[index]
    "core:eig/shift": lambda A: shift_split(A)[0],  # type: ignore[index]
    "core:eigh/scaled": lambda A: split_scalar(A)[1],
    "core:eig/scaled": lambda A: split_scalar(A)[1],
    "core:eigh/similarity": lambda A: middle(A),
    "core:eig/similarity": lambda A: middle(A),
}


def middle(A: Any) -> LinearOperator:
    """S of a product ``U S U^H``."""
    inner = A.Ms[1:-1]
    if not inner:
        return Identity.like(A)
    return inner[0] if len(inner) == 1 else Product(*inner)


def spectral_guard(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: every factor is self-adjoint, so that factor eigendecompositions give the whole one."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    for M in A.Ms:
        if not M.isa(SelfAdjoint):
            return f"factor {M!r} is not known to be self-adjoint"
    return True


def is_shift(M: LinearOperator) -> bool:
    """Whether M is a multiple of the identity."""
    return isinstance(M, (ScalarMul, Identity))


def shift_split(A: LinearOperator) -> tuple[LinearOperator, tuple[LinearOperator, ...]] | None:
    """``A = B + s1 I + ...`` as (B, the multiples), or None."""
    if not isinstance(A, Sum):
        return None
    shifts = tuple(M for M in A.Ms if is_shift(M))
    rest = [M for M in A.Ms if not is_shift(M)]
    if len(rest) != 1 or not shifts:
        return None
    return rest[0], shifts


def shift_value(shifts: tuple[LinearOperator, ...]) -> Any:
    """The sum of multiples of the identity, as a number or an array of batch shape."""
    total: Any = 0
    for s in shifts:
        total = total + (s.c if isinstance(s, ScalarMul) else 1)
    return total


def low_rank_split(A: LinearOperator) -> tuple[Array, Array, LinearOperator] | None:
    """``A = U V^H + B`` with all low-rank terms gathered;
    V is U where the sum of them is known to be U U^H."""
    if not isinstance(A, Sum):
        return None
    factors: list[tuple[Array, Array]] = []
    rest: list[LinearOperator] = []
    for M in A.Ms:
        pair = low_rank_factors(M)
        if pair is None:
            rest.append(M)
        else:
            factors.append(pair)
    if not factors or not rest:
        return None
    if len(factors) == 1:
        U, V = factors[0]
    else:
        xp = A.xp
        symmetric = all(U is V for U, V in factors)
        U = joined(xp, [U for U, _ in factors], 2)
        V = U if symmetric else joined(xp, [V for _, V in factors], 2)
    keep = frozenset({PSD}) if all(M.isa(PSD) for M in rest) else frozenset()
    base = rest[0] if len(rest) == 1 else Sum(*rest, declared=keep)
    return U, V, adopted(base, A)


def low_rank_size(A: LinearOperator) -> int | None:
    """The columns that ``low_rank_split`` would gather; None where it finds nothing. Static."""
    if not isinstance(A, Sum):
        return None
    ranks = [low_rank(M) for M in A.Ms]
    found = [k for k in ranks if k is not None]
    return sum(found) if found and len(found) < len(ranks) else None


def low_rank(M: LinearOperator) -> int | None:
    """The rank of an operator kept as two thin factors: ``LowRank``, or a product that begins and ends with
    stored n x k and k x n entries; None for others. Static."""
    _, rest = split_scalar(M)
    if isinstance(rest, LowRank):
        return rest.rank
    if not (isinstance(rest, Product) and len(rest.Ms) > 1 and M.is_square):
        return None
    first, last = rest.Ms[0], rest.Ms[-1]
    if not (isinstance(first, Dense) and isinstance(last, Dense)):
        return None
    k = min(first.shape[-1], last.shape[-2])
    return k if 2 * k <= M.shape[-1] else None


def low_rank_factors(M: LinearOperator) -> tuple[Array, Array] | None:
    """``M = U V^H`` of an operator with a ``low_rank``; V is U where M is known to be U U^H."""
    if low_rank(M) is None:
        return None
    s, rest = split_scalar(M)
    if isinstance(rest, LowRank):
        U, V = rest.U, rest.right
    else:
        U, V = _thin_product(rest, M.isa(Congruence))
    if s is None:
        return U, V
    c: Any = s.c
    return (c[..., None, None] if getattr(c, "shape", ()) else c) * U, V


def _thin_product(A: Any, mirrored: bool) -> tuple[Array, Array]:
    be = A._concrete_backend()
    first, last = A.Ms[0], A.Ms[-1]
    if len(A.Ms) == 2:
        return first.array, first.array if mirrored else be.adjoint(last.array)
    if first.shape[-1] <= last.shape[-2]:
        return first.array, be.adjoint(Product(*A.Ms[1:])._to_dense())
    return Product(*A.Ms[:-1])._to_dense(), be.adjoint(last.array)

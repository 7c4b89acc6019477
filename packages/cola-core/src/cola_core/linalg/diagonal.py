"""``diag(A, k)``: a diagonal, read off or composed from the parts'."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..algorithms.base import Auto
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import product_errors, reported, weighted
from ..operators import (
    Adjoint,
    Banded,
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sparse,
    Sum,
    Transpose,
    Triangular,
    Tridiagonal,
    as_operator,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from .operands import as_algorithm, as_promised

__all__ = ["DIAG", "diag"]

RULES = RuleBook()


def length(A: Any, k: int) -> int:
    """Number of entries of the k-th diagonal."""
    m, n = A.shape[-2:]
    return max(min(m, n - k) if k >= 0 else min(m + k, n), 0)


def _abstract(A: Any, k: int) -> Any:
    from ..backends.abstract import AbstractArray

    return AbstractArray((*A.batch_shape, length(A, k)), A.dtype)


DIAG = Question("diag", abstract=_abstract, doc="the k-th diagonal", axes=1)


def diag(
    A: Any,
    k: int = 0,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """The k-th diagonal of an operator (k > 0 above the main one), shape (*batch, length).

    Structured operators read it off or compose it; otherwise n products (``Exact``) or random probes
    (``Hutchinson``, main diagonal only, with its standard error).
    """
    A = as_operator(A)
    if not isinstance(k, int):
        alg, k = k, 0  # diag(A, alg)
    out = DIAG.run(A, k, alg=as_algorithm(alg, "diag"), return_info=return_info, on_failure=on_failure)
    value, info = out if return_info else (out, None)
    value = as_promised(A, value)
    return (value, info) if return_info else value


diag.question = DIAG  # type: ignore[attr-defined]


def main(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the main diagonal of a composition of square parts."""
    if k != 0:
        return f"composes only the main diagonal, not k={k}"
    for M in A.Ms:
        if not M.is_square:
            return f"part {M!r} is not square"
    return True


def exactly(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: no estimate by random probes was asked for."""
    if alg.kind != "stochastic" or (operands and operands[0] != 0):
        return True
    return f"{type(alg).__name__} was asked for"


def _zeros(A: Any, k: int) -> Array:
    return A._concrete_backend().zeros((*A.batch_shape, length(A, k)), A.dtype, A.device)


@RULES.rule(DIAG, (Dense,), id="diag/dense", source="entries", when=exactly, complexity="O(N)")
def diag_dense(A: Any, k: int, *, alg: Any) -> Array:
    return A._concrete_backend().diagonal(A.array, k)


@RULES.rule(DIAG, (Triangular,), id="diag/triangular", source="entries", when=exactly, complexity="O(N)")
def diag_triangular(A: Any, k: int, *, alg: Any) -> Array:
    if (A.lower and k > 0) or (not A.lower and k < 0):
        return _zeros(A, k)
    d = A.xp.linalg.diagonal(A.array, offset=k)
    return A.xp.ones_like(d) if A.unit and k == 0 else d


@RULES.rule(DIAG, (Diagonal,), id="diag/diagonal", source="definition", complexity="O(N)")
def diag_diagonal(A: Any, k: int, *, alg: Any) -> Array:
    return A.diag if k == 0 else _zeros(A, k)


@RULES.rule(DIAG, (ScalarMul,), id="diag/scalar", source="definition", complexity="O(N)")
def diag_scalar(A: Any, k: int, *, alg: Any) -> Array:
    if k != 0:
        return _zeros(A, k)
    be = A._concrete_backend()
    return be.astype(A.value, A.dtype)[..., None] * be.xp.ones((A.n,), dtype=A.dtype, device=A.device)


@RULES.rule(DIAG, (Identity,), id="diag/identity", source="definition", complexity="O(N)")
def diag_identity(A: Any, k: int, *, alg: Any) -> Array:
    return A.xp.ones((A.n,), dtype=A.dtype, device=A.device) if k == 0 else _zeros(A, k)


@RULES.rule(DIAG, (Sparse,), id="diag/sparse", source="entries", when=exactly, complexity="O(nnz)")
def diag_sparse(A: Any, k: int, *, alg: Any) -> Array:
    be = A._concrete_backend()
    size = length(A, k)
    if be.name == "numpy" and not A.batch_shape:
        return A._csr.diagonal(k) if size else _zeros(A, k)
    on = A.cols - A.rows == k
    where = be.xp.where(on, A.rows if k >= 0 else A.cols, be.xp.zeros_like(A.rows))
    values = be.xp.where(on, A.data, be.xp.zeros_like(A.data))
    return be.index_add(where, values[..., None], max(size, 1))[..., :size, 0]


def _diag_band(A: Any, k: int, *, alg: Any) -> Array:
    d = A._diagonals().get(k)
    if d is None:
        return _zeros(A, k)
    want = (*A.batch_shape, length(A, k))
    d = A._concrete_backend().astype(d, A.dtype)
    return d if tuple(d.shape) == want else A.xp.broadcast_to(d, want)


for _cls in (Banded, Tridiagonal):
    RULES.rule(
        DIAG, (_cls,), id=f"diag/{_cls.__name__.lower()}", source="entries", when=exactly, complexity="O(N)"
    )(_diag_band)


@RULES.rule(DIAG, (Permutation,), id="diag/permutation", source="fixed points", complexity="O(N)")
def diag_permutation(A: Any, k: int, *, alg: Any) -> Array:
    be = A._concrete_backend()
    xp, size = be.xp, length(A, k)
    row0 = max(-k, 0)
    return be.astype(A.perm[row0 : row0 + size] == xp.arange(size) + max(k, 0), A.dtype)


@RULES.rule(
    DIAG,
    (LowRank,),
    id="diag/lowrank",
    source="(U V^H)_ij = sum_k U_ik conj(V_jk)",
    when=exactly,
    complexity="O(N r)",
)
def diag_lowrank(A: Any, k: int, *, alg: Any) -> Array:
    be, size = A._concrete_backend(), length(A, k)
    row, col = max(-k, 0), max(k, 0)
    return be.xp.sum(A.U[..., row : row + size, :] * be.conj(A.right[..., col : col + size, :]), axis=-1)


@RULES.rule(DIAG, (Sum,), id="diag/sum", source="linearity", complexity="that of the terms")
def diag_sum(A: Any, k: int, *, alg: Any) -> Array:
    first, *rest = parts(A)
    out = ask(DIAG, (first, k), alg)
    for M in rest:
        out = out + ask(DIAG, (M, k), alg)
    return out


def _scaled(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: a number in front."""
    return True if split_scalar(A)[0] is not None else "a product of operators has no diagonal rule"


@RULES.rule(
    DIAG, (Product,), id="diag/scaled", source="linearity", when=_scaled, complexity="that of the operator"
)
def diag_scaled(A: Any, k: int, *, alg: Any) -> Array:
    s, rest = split_scalar(A)
    c = s.c[..., None] if getattr(s.c, "shape", ()) else s.c  # type: ignore[union-attr]
    return c * weighted(lambda: ask(DIAG, (rest, k), alg), magnitude(A._concrete_backend(), s))


def magnitude(be: Any, s: Any) -> Any:
    """The largest modulus of a multiple of the identity: what errors are multiplied by."""
    if isinstance(s.c, (int, float, complex)):
        return abs(s.c)
    largest = be.xp.max(be.xp.abs(s.c))
    return be.number(largest) if be.is_concrete(largest) else largest


@RULES.rule(
    DIAG,
    (Kronecker,),
    id="diag/kronecker",
    source="diag(A (x) B) = diag A (x) diag B",
    when=main,
    complexity="that of the factors, O(N)",
)
def diag_kronecker(A: Any, k: int, *, alg: Any) -> Array:
    xp = A.xp
    be = A._concrete_backend()
    out, sizes = None, []
    for M in parts(A):
        start = reported()
        d = ask(DIAG, (M, 0), alg)
        sizes.append((start, reported(), xp.linalg.vector_norm(d)))
        if out is None:
            out = d
            continue
        out = out[..., :, None] * d[..., None, :]
        out = xp.reshape(out, (*out.shape[:-2], out.shape[-2] * out.shape[-1]))
    product_errors(be, sizes)
    return out


@RULES.rule(
    DIAG,
    (KronSum,),
    id="diag/kronsum",
    source="diagonals add up",
    when=main,
    complexity="that of the factors, O(N)",
)
def diag_kronsum(A: Any, k: int, *, alg: Any) -> Array:
    from .eigen import outer_sum

    return outer_sum(
        A._concrete_backend(),
        [
            weighted(partial(ask, DIAG, (M, 0), alg), (A.shape[-1] / max(M.shape[-1], 1)) ** 0.5)
            for M in parts(A)
        ],
    )


@RULES.rule(
    DIAG,
    (BlockDiag,),
    id="diag/blockdiag",
    source="definition",
    when=main,
    complexity="that of the blocks, O(N)",
)
def diag_blockdiag(A: Any, k: int, *, alg: Any) -> Array:
    from .eigen import joined

    return joined(
        A,
        [
            weighted(partial(ask, DIAG, (M, 0), alg), t**0.5)
            for M, t in zip(parts(A), A.multiplicities, strict=True)
        ],
    )


@RULES.rule(DIAG, (Adjoint,), id="diag/adjoint", source="(A^H)_ij = conj(A_ji)", complexity="that of A")
def diag_adjoint(A: Any, k: int, *, alg: Any) -> Array:
    return A._concrete_backend().conj(ask(DIAG, (A.A, -k), alg))


@RULES.rule(DIAG, (Transpose,), id="diag/transpose", source="(A^T)_ij = A_ji", complexity="that of A")
def diag_transpose(A: Any, k: int, *, alg: Any) -> Array:
    return ask(DIAG, (A.A, -k), alg)

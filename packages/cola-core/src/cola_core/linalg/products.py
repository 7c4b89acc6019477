"""Diagonals and traces of products, and off-diagonals of Kronecker products and sums, without forming
them."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import (
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    LowRank,
    Product,
    ScalarMul,
    Sparse,
    adopted,
    parts,
    split_scalar,
)
from ..operators.entries import at_positions, columns, readable, rows, strips
from ..plugins.rulebook import RuleBook
from .diagonal import DIAG, exactly, length, main
from .trace import TRACE

__all__: list[str] = []

RULES = RuleBook()
STRIP = 128  # rows and columns of the two sides that are held at once


# -- Kronecker products and sums, off the main diagonal ------------------------------------------------------
def _tail_square(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: not the main diagonal; all factors but the first are square."""
    if main(A, k, alg=alg) is True:
        return "the main diagonal is simpler"
    for M in A.Ms[1:]:
        if not M.is_square or not M.shape[-1]:
            return f"factor {M!r} is not square"
    return exactly(A, k, alg=alg)


@RULES.rule(
    DIAG,
    (Kronecker,),
    id="diag/kronecker-offset",
    source="k = a n_B + b: diagonals a and a + 1 of A meet diagonals b and b - n_B of B",
    when=_tail_square,
    complexity="two neighbouring diagonals of each factor, O(N)",
)
def diag_kronecker_offset(A: Any, k: int, *, alg: Any) -> Array:
    return _kron_diagonal(A, list(parts(A)), k, alg)


def _kron_diagonal(A: Any, Ms: list[LinearOperator], k: int, alg: Any) -> Array:
    first, *rest = Ms
    if not rest:
        return ask(DIAG, (first, k), alg)
    be = A._concrete_backend()
    xp = be.xp
    n = 1
    for M in rest:
        n *= M.shape[-1]
    a, b = divmod(k, n)
    m = first.shape[-2]
    halves = [_by_row(be, first, a, alg)[..., :, None] * _kron_diagonal(A, rest, b, alg)[..., None, :]]
    if b:
        low = _kron_diagonal(A, rest, b - n, alg)
        halves.append(_by_row(be, first, a + 1, alg)[..., :, None] * low[..., None, :])
    if len(halves) > 1 and halves[0].shape[:-1] != halves[1].shape[:-1]:
        import numpy as np

        full = np.broadcast_shapes(halves[0].shape[:-2], halves[1].shape[:-2])
        halves = [xp.broadcast_to(h, (*full, *h.shape[-2:])) for h in halves]
    out = xp.concat(halves, axis=-1) if len(halves) > 1 else halves[0]
    out = xp.reshape(out, (*out.shape[:-2], m * n))
    row = max(-k, 0)
    size = max(min(m * n, first.shape[-1] * n - k) - row, 0)
    return out[..., row : row + size]


def _by_row(be: Any, M: LinearOperator, k: int, alg: Any) -> Array:
    """``M[i, i + k]`` for every row i, zero where that is outside."""
    m, size = M.shape[-2], length(M, k)
    if not size:
        return be.zeros((*M.batch_shape, m), M.dtype, M.device)
    d = ask(DIAG, (M, k), alg)
    before = max(-k, 0)
    pieces = [be.zeros((*d.shape[:-1], s), d.dtype, be.device(d)) for s in (before, m - before - size)]
    return be.xp.concat([pieces[0], d, pieces[1]], axis=-1)


def _square_sum(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: not the main diagonal."""
    return "the main diagonal is simpler" if main(A, k, alg=alg) is True else exactly(A, k, alg=alg)


@RULES.rule(
    DIAG,
    (KronSum,),
    id="diag/kronsum-offset",
    source="diag/kronecker-offset of I x M x I",
    when=_square_sum,
    complexity="that of the factors, O(N) for each",
)
def diag_kronsum_offset(A: Any, k: int, *, alg: Any) -> Array:
    be = A._concrete_backend()
    out: Any = be.zeros((*A.batch_shape, length(A, k)), A.dtype, A.device)
    Ms = parts(A)
    for i, M in enumerate(Ms):
        left = right = 1
        for N in Ms[:i]:
            left *= N.shape[-1]
        for N in Ms[i + 1 :]:
            right *= N.shape[-1]
        if not left * right:
            continue
        term = [Identity.like(A, left), M, Identity.like(A, right)]
        out = out + _kron_diagonal(A, term, k, alg)
    return out


# -- products ------------------------------------------------------------------------------------------------
def _expanded(A: Any) -> list[LinearOperator]:
    """The factors, with low-rank ones taken apart."""
    out: list[LinearOperator] = []
    for M in A.Ms:
        if isinstance(M, LowRank):
            out += [Dense(M.U), Dense(A._concrete_backend().adjoint(M.right))]
        else:
            out.append(adopted(M, A))
    return out


def _joined(Ms: list[LinearOperator]) -> LinearOperator:
    return Ms[0] if len(Ms) == 1 else Product(*Ms)


def _diagonal_like(M: LinearOperator) -> bool:
    return isinstance(M, (Diagonal, ScalarMul, Identity))


def _cuts(Ms: list[LinearOperator]) -> list[int]:
    """Where a product may be cut in two so that the rows of one side or the columns of the other are
    stored."""
    return [
        c
        for c in range(1, len(Ms))
        if (c == 1 and readable(Ms[0])) or (c == len(Ms) - 1 and readable(Ms[-1]))
    ]


def _cut_cost(A: Any, Ms: list[LinearOperator], c: int) -> Cost:
    """Rows of the left side, columns of the right side, and their inner products."""
    n, inner = A.shape[-1], Ms[c].shape[-2]
    total = Cost(2.0 * n * inner, 2 * A.itemsize * n * inner)
    for side in (Ms[:c], Ms[c:]):
        if len(side) > 1 or not readable(side[0]):
            for M in side:
                total = total + M.matmat_cost(n)
    return total


def _dottable(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the entries of the first or of the last factor are stored."""
    if split_scalar(A)[0] is not None:
        return "the number in front is taken out first"
    if _diagonal_like(A.Ms[0]) or _diagonal_like(A.Ms[-1]):
        return "the diagonal factor is taken out first"
    if not _cuts(_expanded(A)):
        return "neither the first nor the last factor is stored"
    return exactly(A, k, alg=alg)


@RULES.rule(
    DIAG,
    (Product,),
    id="diag/product",
    source="(A B)_ii = sum_j A_ij B_ji, strip by strip",
    when=_dottable,
    complexity="O(N r), r the inner size, and products for rows and columns that are not stored",
)
def diag_product(A: Any, k: int, *, alg: Any) -> Array:
    Ms = _expanded(A)
    cut = min(_cuts(Ms), key=lambda c: _cut_cost(A, Ms, c).seconds)
    L, R = _joined(Ms[:cut]), _joined(Ms[cut:])
    be = A._concrete_backend()
    xp = be.xp
    size, row, col = length(A, k), max(-k, 0), max(k, 0)
    pieces = []
    for start, stop in strips(size, 1, STRIP):
        left = rows(L, row + start, row + stop, A)
        right = columns(R, col + start, col + stop, A)
        pieces.append(xp.sum(left * right.mT, axis=-1))
    if not pieces:
        return be.zeros((*A.batch_shape, 0), A.dtype, A.device)
    out = xp.concat(pieces, axis=-1) if len(pieces) > 1 else pieces[0]
    full = (*A.batch_shape, size)
    return xp.broadcast_to(out, full) if tuple(out.shape) != full else out


def _diagonal_end(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the first or the last factor is diagonal."""
    if split_scalar(A)[0] is not None:
        return "the number in front is taken out first"
    if not (_diagonal_like(A.Ms[0]) or _diagonal_like(A.Ms[-1])):
        return "neither the first nor the last factor is diagonal"
    return exactly(A, k, alg=alg)


@RULES.rule(
    DIAG,
    (Product,),
    id="diag/diagonal-times",
    source="(D A)_ij = d_i A_ij",
    when=_diagonal_end,
    precedence=1,
    complexity="that of the other factors, O(N)",
)
def diag_scaled_rows(A: Any, k: int, *, alg: Any) -> Array:
    Ms = list(parts(A))
    size = length(A, k)
    if _diagonal_like(Ms[0]):
        D, rest, at = Ms[0], _joined(Ms[1:]), max(-k, 0)
    else:
        D, rest, at = Ms[-1], _joined(Ms[:-1]), max(k, 0)
    d = ask(DIAG, (D, 0), alg)[..., at : at + size]
    return d * ask(DIAG, (adopted(rest, A), k), alg)


def _sparse_pair(A: Any) -> tuple[Any, Any] | None:
    """The sparse one of two factors and the other, whose entries can be looked up."""
    if len(A.Ms) != 2:
        return None
    for S, M in ((A.Ms[0], A.Ms[1]), (A.Ms[1], A.Ms[0])):
        if isinstance(S, Sparse) and isinstance(M, (Dense, LowRank, Diagonal, Sparse)):
            return S, M
    return None


def _looked_up(A: Any, k: int = 0, *, alg: Any) -> bool | str:
    """Guard: the main diagonal of a sparse operator times one whose entries are stored."""
    if k != 0:
        return f"only the main diagonal, not k={k}"
    pair = _sparse_pair(A)
    if pair is None or A.shape[-1] != A.shape[-2]:
        return "not a sparse operator times one whose entries are stored"
    return exactly(A, alg=alg)


@RULES.rule(
    DIAG,
    (Product,),
    id="diag/sparse-product",
    source="(S B)_ii = sum over S_ij B_ji",
    when=_looked_up,
    precedence=2,
    complexity="O(nnz); O(nnz r) with a low-rank operator",
)
def diag_sparse_product(A: Any, k: int, *, alg: Any) -> Array:
    S, M = _sparse_pair(A)  # type: ignore[misc]
    be, n = A._concrete_backend(), A.shape[-1]
    entries = at_positions(M, S.cols, S.rows) if S.nnz else None
    if entries is None or not n:
        return be.zeros((*A.batch_shape, n), A.dtype, A.device)
    where = S.rows if A.Ms[0] is S else S.cols
    return be.index_add(where, (S.data * entries)[..., None], n)[..., 0]


# -- traces --------------------------------------------------------------------------------------------------
@RULES.rule(
    TRACE,
    (Product,),
    id="trace/sparse-product",
    source="tr(S B) = sum over S_ij B_ji",
    when=_looked_up,
    precedence=2,
    complexity="O(nnz); O(nnz r) with a low-rank operator",
)
def trace_sparse_product(A: Any, *, alg: Any) -> Array:
    S, M = _sparse_pair(A)  # type: ignore[misc]
    be = A._concrete_backend()
    entries = at_positions(M, S.cols, S.rows) if S.nnz else None
    if entries is None:
        return be.zeros(A.batch_shape, A.dtype, A.device)
    return be.xp.sum(S.data * entries, axis=-1)


def _rotations(Ms: list[LinearOperator]) -> list[int]:
    """Starts of a rotation after which the trace is of a narrow product, or of one with stored ends."""
    n = Ms[0].shape[-2]
    out = []
    for s in range(len(Ms)):
        if readable(Ms[s]) or readable(Ms[s - 1]) or 2 * Ms[s].shape[-2] <= n:
            out.append(s)
    return out


def _rotation_cost(A: Any, Ms: list[LinearOperator], s: int) -> Cost:
    turned = Ms[s:] + Ms[:s]
    k = turned[0].shape[-2]
    total = Cost()
    for at, M in enumerate(turned):
        if at in (0, len(turned) - 1) and readable(M):
            total = total + Cost(2.0 * k * M.shape[-1 if at == 0 else -2])
        else:
            total = total + M.matmat_cost(k)
    return total


def _rotated(A: Any, *, alg: Any) -> bool | str:
    """Guard: a factor is stored, or an inner dimension is at most half of the outer one."""
    if split_scalar(A)[0] is not None:
        return "the number in front is taken out first"
    if not _rotations(_expanded(A)):
        return "no factor is stored and no inner dimension is much smaller than the outer one"
    return exactly(A, alg=alg)


@RULES.rule(
    TRACE,
    (Product,),
    id="trace/product",
    source="tr(A B C) = tr(C A B), the cheapest rotation, strip by strip",
    when=_rotated,
    precedence=1,
    complexity="O(N r), r the inner size, and products for rows and columns that are not stored",
)
def trace_product(A: Any, *, alg: Any) -> Array:
    Ms = _expanded(A)
    s = min(_rotations(Ms), key=lambda s: _rotation_cost(A, Ms, s).seconds)
    Ms = Ms[s:] + Ms[:s]
    be = A._concrete_backend()
    xp = be.xp
    if len(Ms) == 1:
        return ask(TRACE, (Ms[0],), alg)
    out: Any = be.zeros(A.batch_shape, A.dtype, A.device)
    L, R = Ms[0], _joined(Ms[1:])
    if not readable(L) and readable(Ms[-1]):  # whichever end is stored is read off, the rest multiplies
        L, R = _joined(Ms[:-1]), Ms[-1]
    for start, stop in strips(L.shape[-2], 1, STRIP):
        if readable(L):
            strip = rows(L, start, stop, A) * columns(R, start, stop, A).mT
            out = out + xp.sum(strip, axis=(-2, -1))
        else:
            C = L._matmat(columns(R, start, stop, A))[..., start:stop, :]
            out = out + xp.sum(xp.linalg.diagonal(C), axis=-1)
    return out

"""Rules for grids of blocks: substitution, Schur complements, saddle points, block Thomas; diagonals and
spectra."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import Block, BlockDiag, Concatenated, Dense, Permutation, adopted, matmul
from ..operators.block import from_grid
from ..operators.grid import concat_rows, grid_of, offsets
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint
from .block_elimination import (
    eliminates,
    elimination_factor,
    is_tridiagonal,
    plan_of,
    product_of_pivots,
    substitution_factor,
    triangular_order,
)
from .determinant import SLOGDET
from .diagonal import DIAG, main
from .eigen import EIG, EIGVALS
from .inverse import INV, Inverse
from .solve import SOLVE
from .trace import TRACE

__all__: list[str] = []

RULES = RuleBook()


# -- systems and determinants --------------------------------------------------------------------------------
def _triangular(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: block triangular with square blocks, in any order of block rows and columns."""
    if triangular_order(A) is None:
        return "not block triangular with square blocks, in any order of block rows and columns"
    return True


def _is_saddle(A: Any) -> bool:
    """``[[A, B], [C, 0]]`` or ``[[0, C], [B, A]]``."""
    if len(A.pattern) != 2 or len(A.pattern[0]) != 2 or A.heights != A.widths:
        return False
    (a, b), (c, d) = A.pattern
    return b >= 0 and c >= 0 and (a < 0) != (d < 0)


def _saddle(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a 2 x 2 grid with one zero block on the diagonal, and affordable fill."""
    return eliminates(A, *operands, alg=alg) if _is_saddle(A) else "not a 2 x 2 grid with one zero block"


def _tridiagonal(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a block tridiagonal grid with square diagonal blocks, and affordable fill."""
    if len(A.heights) < 3 or not is_tridiagonal(A):
        return "not a block tridiagonal grid with square blocks on its diagonal"
    return eliminates(A, *operands, alg=alg)


def _elimination_cost(A: Any, *operands: Any, alg: Any) -> Cost:
    plan = plan_of(A)
    if plan is None:
        return Cost()
    k = operands[0].shape[-1] if operands else 1
    held = A.itemsize * plan.entries
    return Cost(plan.flops, 2 * held, held, 0, 4) + A.matmat_cost(2 * k)


def _substitution(A: Any, b: Array, *, alg: Any) -> Array:
    return substitution_factor(A, alg=alg).solve(b)


def _elimination(A: Any, b: Array, *, alg: Any) -> Array:
    factor = elimination_factor(A, alg=alg)
    return factor if factor is NotImplemented else factor.solve(b)


def _pivots(A: Any, *, alg: Any) -> tuple[Array, Array]:
    order = triangular_order(A) or ()
    cells = A._grid()[2]
    return product_of_pivots(A, order, [adopted(cells[at], A) for at in order], alg)


def _eliminated_pivots(A: Any, *, alg: Any) -> tuple[Array, Array]:
    factor = elimination_factor(A, alg=alg)
    return factor if factor is NotImplemented else factor.slogdet()


_SUBSTITUTION = "substitution; Golub & Van Loan, 4th ed., sec. 3.1"
_SCHUR = "Schur complement: Higham 2002, sec. 13.2"
_WAYS: Any = (
    # name, source, guard, precedence, solve, slogdet, factor, cost, complexity of solve and of slogdet
    (
        "block-triangular",
        _SUBSTITUTION,
        _triangular,
        3,
        _substitution,
        _pivots,
        substitution_factor,
        None,
        "that of the diagonal blocks, one product with each other block",
        "that of the diagonal blocks",
    ),
    (
        "saddle-point",
        "Benzi, Golub & Liesen 2005, sec. 5: -B A^-1 B^H",
        _saddle,
        2,
        _elimination,
        _eliminated_pivots,
        elimination_factor,
        _elimination_cost,
        "n_2 + k systems with the first block, O(n_1 n_2^2 + n_2^3)",
        "n_2 systems with the first block, O(n_1 n_2^2 + n_2^3)",
    ),
    (
        "block-tridiagonal",
        "block Thomas: Golub & Van Loan, 4th ed., sec. 4.5.1",
        _tridiagonal,
        1,
        _elimination,
        _eliminated_pivots,
        elimination_factor,
        _elimination_cost,
        "O(sum n_i^3 + k sum n_i^2)",
        "O(sum n_i^3)",
    ),
    (
        "schur",
        _SCHUR,
        eliminates,
        0,
        _elimination,
        _eliminated_pivots,
        elimination_factor,
        _elimination_cost,
        "that of the pivot blocks, products for the fill; at most O(N^3 + N^2 k)",
        "that of the pivot blocks, products for the fill; at most O(N^3)",
    ),
)
for _name, _source, _when, _first, _solve, _slogdet, _factor, _cost, _complexity, _determinant in _WAYS:
    RULES.rule(
        SOLVE,
        (Block,),
        id=f"solve/{_name}",
        source=_source,
        when=_when,
        precedence=_first,
        cost=_cost,
        factor=_factor,
        complexity=_complexity,
    )(_solve)
    RULES.rule(
        SLOGDET,
        (Block,),
        id=f"slogdet/{_name}",
        source=_source,
        when=_when,
        precedence=_first,
        cost=_cost,
        complexity=_determinant,
    )(_slogdet)


# -- inverses ------------------------------------------------------------------------------------------------
def _one_each(A: Any, *, alg: Any) -> bool | str:
    """Guard: one block in every block row and column, all of them square."""
    order = triangular_order(A)
    if order is None or len(A.Ms) != len(A.heights):
        return "more than one block in a block row or column"
    return True


@RULES.rule(
    INV,
    (Block,),
    id="inv/block-permutation",
    source="(P diag(A1, ...))^-1 = diag(A1, ...)^-1 P^T",
    when=_one_each,
    precedence=1,
    complexity="that of the blocks",
)
def inv_one_each(A: Any, *, alg: Any) -> Any:
    cells = {(j, i): ask(INV, (adopted(M, A),), alg) for (i, j), M in A._grid()[2].items()}
    return from_grid(A.widths, A.heights, cells)


def _solvable(A: Any, *, alg: Any) -> bool | str:
    """Guard: block triangular, or an order of square pivots with affordable fill."""
    return True if triangular_order(A) is not None else eliminates(A, alg=alg)


@RULES.rule(
    INV,
    (Block,),
    id="inv/block",
    source="block substitution or elimination",
    when=_solvable,
    complexity="O(1); that of solve at the first product",
)
def inv_block(A: Any, *, alg: Any) -> Any:
    return Inverse(A, alg)


def _triangular_in_place(A: Any) -> bool | str:
    """Whether the grid is block triangular after one reordering of its block rows and columns alike."""
    order = triangular_order(A)
    if order is None or any(i != j for i, j in order):
        return "not block triangular with its pivots on the diagonal"
    return True


def _inverse_of_triangular(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: the main diagonal, of the inverse of a block triangular grid."""
    if operands and operands[0] != 0:
        return f"only the main diagonal, not k={operands[0]}"
    return _triangular_in_place(A.A) if isinstance(A.A, Block) else "not the inverse of a grid of blocks"


@RULES.rule(
    DIAG,
    (Inverse,),
    id="diag/inverse-block-triangular",
    source="the diagonal blocks of the inverse are the inverses of the diagonal blocks",
    when=_inverse_of_triangular,
    precedence=1,
    complexity="diagonals of the inverses of the diagonal blocks",
)
def diag_inverse(A: Any, k: int, *, alg: Any) -> Array:
    B = A.A
    cells = B._grid()[2]
    found = [ask(DIAG, (ask(INV, (adopted(cells[i, i], B),), A.alg), 0), alg) for i in range(len(B.heights))]
    return _spread(B, _join(B, found))


@RULES.rule(
    TRACE,
    (Inverse,),
    id="trace/inverse-block-triangular",
    source="diag/inverse-block-triangular",
    when=_inverse_of_triangular,
    precedence=1,
    complexity="that of diag",
)
def trace_inverse(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


# -- eigenvalues ---------------------------------------------------------------------------------------------
def _eig_guard(A: Any, *, alg: Any) -> bool | str:
    """Guard: block triangular with its pivots on the diagonal."""
    return _triangular_in_place(A)


@RULES.rule(
    EIG,
    (Block,),
    id="eig/block-triangular",
    source="union of the diagonal blocks' spectra; Golub & Van Loan, 4th ed., lemma 7.1.1",
    when=_eig_guard,
    complexity="that of the diagonal blocks, O(N n_i^2) and products with n_i columns for each",
)
def eig_triangular(A: Any, *, alg: Any) -> Any:
    """Vectors of a leading block reach into the last one through a Sylvester equation with diagonal sides.

    Steps back where eigenvalues of two blocks (nearly) agree: the vectors may then not exist.
    """
    order = [i for i, _ in triangular_order(A) or ()]
    cells = {at: adopted(M, A) for at, M in A._grid()[2].items()}
    found = _eig_lower(A, cells, order, alg)
    if found is NotImplemented:
        return found
    w, V = found
    if order == sorted(order):
        return w, V
    at = offsets(A.heights)
    rows = np.concatenate([np.arange(at[i], at[i + 1]) for i in order])
    be = A._concrete_backend()
    back = Permutation(be.asarray(np.argsort(rows), device=A.device))
    return w, matmul(back, V)


@RULES.rule(
    EIGVALS,
    (Block,),
    id="eigvals/block-triangular",
    source="union of the diagonal blocks' spectra; Golub & Van Loan, 4th ed., lemma 7.1.1",
    when=_eig_guard,
    complexity="that of the diagonal blocks",
)
def eigvals_triangular(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    cells = A._grid()[2]
    w = _join(A, [ask(EIGVALS, (adopted(cells[i, i], A),), alg) for i in range(len(A.heights))])
    if not A.isa(SelfAdjoint):
        w = be.astype(w, be.xp.result_type(w.dtype, be.dtype("complex64")))
    return _spread(A, w)


def _eig_lower(A: Any, cells: Any, order: list[int], alg: Any) -> Any:
    """Eigenpairs of the blocks in this order, in which they are lower triangular."""
    last = order[-1]
    if len(order) == 1:
        return ask(EIG, (cells[last, last],), alg)
    head = _eig_lower(A, cells, order[:-1], alg)
    if head is NotImplemented:
        return head
    (w, V), (u, U) = head, ask(EIG, (cells[last, last],), alg)
    be = A._concrete_backend()
    xp = be.xp
    both = xp.result_type(w, u)
    w, u = be.astype(w, both), be.astype(u, both)
    row = [cells.get((last, i)) for i in order[:-1]]
    if all(M is None for M in row):
        return concat_rows(xp, [w[..., None], u[..., None]])[..., 0], BlockDiag(V, U)
    C = Block([row], (A.heights[last],), tuple(A.widths[i] for i in order[:-1]))
    gap = w[..., None, :] - u[..., :, None]  # (of the last block, of the others)
    if be.is_concrete(gap) and 0 not in gap.shape:
        size = max(be.number(xp.max(xp.abs(w))), be.number(xp.max(xp.abs(u))))
        if be.number(xp.min(xp.abs(gap))) <= float(xp.finfo(be.real_dtype(both)).eps) ** 0.5 * size:
            return NotImplemented
    CV = be.adjoint(V._rmatmat(be.adjoint(C.to_dense())))
    G = ask(SOLVE, (U, be.astype(CV, xp.result_type(CV, U._matmat(CV[..., :1])))), alg)
    low = Dense(U._matmat(G / gap))
    return concat_rows(xp, [w[..., None], u[..., None]])[..., 0], from_grid(
        (V.shape[-2], U.shape[-2]), (V.shape[-1], U.shape[-1]), {(0, 0): V, (1, 0): low, (1, 1): U}
    )


# -- diagonals and traces ------------------------------------------------------------------------------------
def _join(A: Any, pieces: list[Array]) -> Array:
    """Vectors (*batch, n_i) one after the other."""
    return concat_rows(A._concrete_backend().xp, [d[..., None] for d in pieces])[..., 0]


def _spread(A: Any, d: Array) -> Array:
    full = (*A.batch_shape, d.shape[-1])
    return A._concrete_backend().xp.broadcast_to(d, full) if tuple(d.shape) != full else d


def diag_of_grid(A: Any, k: int, alg: Any) -> Array:
    """The k-th diagonal of a grid runs through its blocks along one whole diagonal of each."""
    heights, widths, cells = grid_of(A)  # type: ignore[misc]
    be = A._concrete_backend()
    down, right = offsets(heights), offsets(widths)
    row, i, j = max(-k, 0), 0, 0
    end = max(min(down[-1], right[-1] - k), row)
    pieces = []
    while row < end:
        while down[i + 1] <= row:
            i += 1
        while right[j + 1] <= row + k:
            j += 1
        stop = min(down[i + 1], right[j + 1] - k)
        M = cells.get((i, j))
        if M is None:
            pieces.append(be.zeros((stop - row,), A.dtype, A.device))
        else:
            d = ask(DIAG, (adopted(M, A), k + down[i] - right[j]), alg)
            pieces.append(be.astype(d, A.dtype))
        row = stop
    if not pieces:
        return be.zeros((*A.batch_shape, 0), A.dtype, A.device)
    return _spread(A, _join(A, pieces))


for _cls in (Block, Concatenated):
    RULES.rule(
        DIAG,
        (_cls,),
        id=f"diag/{_cls.__name__.lower()}",
        source="definition",
        complexity="that of the blocks it meets",
    )(lambda A, k, *, alg: diag_of_grid(A, k, alg))


def _not_main(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: not the main diagonal, or not of square blocks."""
    return True if main(A, k, alg=alg) is not True else "diag/blockdiag has the main diagonal"


@RULES.rule(
    DIAG,
    (BlockDiag,),
    id="diag/blockdiag-offset",
    source="definition",
    when=_not_main,
    complexity="that of the blocks it meets",
)
def diag_blockdiag_offset(A: Any, k: int, *, alg: Any) -> Array:
    return diag_of_grid(A, k, alg)


def _square_blocks(A: Any, *, alg: Any) -> bool | str:
    """Guard: the diagonal blocks are square."""
    return True if A.heights == A.widths else "the blocks on the diagonal are not square"


@RULES.rule(
    TRACE,
    (Block,),
    id="trace/block",
    source="sum over the diagonal blocks",
    when=_square_blocks,
    complexity="that of the diagonal blocks",
)
def trace_block(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    out: Any = be.zeros(A.batch_shape, A.dtype, A.device)
    for (i, j), M in A._grid()[2].items():
        if i == j:
            out = out + ask(TRACE, (adopted(M, A),), alg)
    return out


def _uneven_blocks(A: Any, *, alg: Any) -> bool | str:
    """Guard: the diagonal blocks are not square."""
    return True if A.heights != A.widths else "the blocks on the diagonal are square"


def _sum_of_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


RULES.rule(
    TRACE,
    (Block,),
    id="trace/block-uneven",
    source="sum of the diagonal",
    when=_uneven_blocks,
    complexity="that of diag",
)(_sum_of_diagonal)
RULES.rule(
    TRACE, (Concatenated,), id="trace/concatenated", source="sum of the diagonal", complexity="that of diag"
)(_sum_of_diagonal)

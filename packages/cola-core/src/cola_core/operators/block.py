"""``Block``: a p x q grid of operators, with zero blocks that cost nothing; ``block`` simplifies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backends import backend_of_type
from ..backends.base import Array
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import cached, operator, static
from .base import LinearOperator
from .diagonal import Diagonal, Identity, ScalarMul
from .grid import Grid, concat_rows, grid_of, multiply, offsets
from .sum import broadcast_batches
from .zero import is_zero

__all__ = ["Block", "block", "from_grid"]

MAX_FLAT = 256  # blocks of a nested grid that are still taken apart


@operator
class Block(LinearOperator):
    """``[[M11, M12, ...], [M21, ...], ...]`` of operators or matrices; None (or ``Zero``) is a block of
    zeros.

    heights, widths: sizes of the block rows and columns, needed only where a whole row or column is None.
    A product costs one product per block. Self-adjoint where the diagonal blocks are and every block (i, j)
    was written as ``M.H`` of the block (j, i). Raises ShapeError naming the blocks that do not fit.

    >>> import numpy as np, cola_core as cola
    >>> A, B = np.array([[2.0, 0.0], [0.0, 4.0]]), cola.ops.Dense(np.array([[1.0], [1.0]]))
    >>> K = cola.ops.Block([[cola.PSD(A), B], [B.H, None]])
    >>> K.shape, K.isa(cola.SelfAdjoint)
    ((3, 3), True)
    >>> [round(float(x), 6) for x in cola.solve(K, np.array([1.0, 0.0, 0.0]))]
    [0.166667, -0.166667, 0.666667]
    """

    Ms: tuple[LinearOperator, ...]
    pattern: tuple[tuple[int, ...], ...] = static()
    heights: tuple[int, ...] = static()
    widths: tuple[int, ...] = static()

    def __init__(
        self,
        rows: Sequence[Sequence[Any]],
        heights: Sequence[int | None] | None = None,
        widths: Sequence[int | None] | None = None,
        *,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        table = _table(rows)
        h, w = _sizes(table, heights, widths)
        table = _without_zeros(table)
        found: list[LinearOperator] = []
        pattern: list[tuple[int, ...]] = []
        for row in table:
            numbers = []
            for M in row:
                numbers.append(-1 if M is None else len(found))
                if M is not None:
                    found.append(M)
            pattern.append(tuple(numbers))
        object.__setattr__(self, "Ms", tuple(found))
        object.__setattr__(self, "pattern", tuple(pattern))
        object.__setattr__(self, "heights", h)
        object.__setattr__(self, "widths", w)
        object.__setattr__(self, "declared", declared | _symmetric(table, h, w))
        self.__post_init__()

    def _check(self) -> None:
        if not self.Ms:
            raise ShapeError("Block needs at least one block that is not None; all zeros is ops.Zero(m, n).")
        self.backend  # noqa: B018 - raises if the parts mix libraries
        broadcast_batches("Block", self.Ms)

    def _shape(self) -> tuple[int, ...]:
        return (*broadcast_batches("Block", self.Ms), sum(self.heights), sum(self.widths))

    def _grid(self) -> Grid:
        return self._layout  # type: ignore[no-any-return]

    @cached
    def _layout(self) -> Grid:
        cells = {
            (i, j): self.Ms[at] for i, row in enumerate(self.pattern) for j, at in enumerate(row) if at >= 0
        }
        return self.heights, self.widths, cells

    @cached
    def _promoted(self) -> Any:
        return LinearOperator._dtype(self)

    def _dtype(self) -> Any:
        return self._promoted  # asked once per block by rules: the blocks are not all visited again

    def with_blocks(self, *Ms: LinearOperator, declared: frozenset[Property] = frozenset()) -> Block:
        """The same arrangement of other blocks of the same sizes, in the order of ``Ms``."""
        return self.replace(Ms=tuple(Ms), declared=declared)

    def _sweep(self, X: Array, adjoint: bool) -> Array:
        be: Any = self.backend or backend_of_type(type(X))
        rows, cols, cells = self._grid()
        if adjoint:
            rows, cols, cells = cols, rows, {(j, i): M for (i, j), M in cells.items()}
        at = offsets(cols)
        parts: list[Any] = [None] * len(rows)
        for (i, j), M in cells.items():
            piece = X[..., at[j] : at[j + 1], :]
            piece = M._rmatmat(piece) if adjoint else M._matmat(piece)
            parts[i] = piece if parts[i] is None else parts[i] + piece
        dtype = next(p.dtype for p in parts if p is not None)
        pieces = [
            be.zeros((h, X.shape[-1]), dtype, be.device(X)) if p is None else p
            for h, p in zip(rows, parts, strict=True)
        ]
        return concat_rows(be.xp, pieces)

    def _matmat(self, X: Array) -> Array:
        return self._sweep(X, adjoint=False)

    def _rmatmat(self, X: Array) -> Array:
        return self._sweep(X, adjoint=True)

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        rows = []
        for h, row in zip(self.heights, self.pattern, strict=True):
            pieces = [
                be.zeros((h, w), self.dtype, self.device) if at < 0 else self.Ms[at]._dense_like(self)
                for w, at in zip(self.widths, row, strict=True)
            ]
            rows.append(concat_rows(be.xp, pieces, axis=-1))
        out = be.astype(concat_rows(be.xp, rows), self.dtype)
        return be.xp.broadcast_to(out, self.shape) if tuple(out.shape) != self.shape else out

    def _turned(self, part: Any) -> Block:
        """The transposed arrangement of ``part(M)``."""
        rows = [
            [None if row[j] < 0 else part(self.Ms[row[j]]) for row in self.pattern]
            for j in range(len(self.widths))
        ]
        return Block(rows, self.widths, self.heights)

    def _adjoint(self) -> LinearOperator:
        return self._turned(lambda M: M.H)

    def _transpose(self) -> LinearOperator:
        return self._turned(lambda M: M.T)

    def _conj(self) -> LinearOperator:
        return self.with_blocks(*(M.conj() for M in self.Ms), declared=self.declared & {SelfAdjoint})

    def _compose(self, other: LinearOperator) -> Any:
        theirs = grid_of(other)
        product = None if theirs is None else multiply(self._grid(), theirs)
        return NotImplemented if product is None else from_grid(*product)

    def _rcompose(self, other: LinearOperator) -> Any:
        theirs = grid_of(other)
        product = None if theirs is None else multiply(theirs, self._grid())
        return NotImplemented if product is None else from_grid(*product)

    def _plus(self, other: LinearOperator) -> Any:
        """Block by block; diagonal operators go into the diagonal blocks, which keeps block rules
        applicable."""
        from .algebra import add

        theirs = _split_diagonal(other, self) if _is_diagonal(other) else grid_of(other)
        if theirs is None or theirs[0] != self.heights or theirs[1] != self.widths:
            return NotImplemented
        h, w, cells = self._grid()
        out = dict(cells)
        for at, M in theirs[2].items():
            out[at] = add(out[at], M) if at in out else M
        return from_grid(h, w, out)

    def _declared_down(self, prop: Property) -> LinearOperator:
        if prop not in (PSD, SelfAdjoint) or self.heights != self.widths:
            return self
        diagonal = {row[i] for i, row in enumerate(self.pattern) if row[i] >= 0}
        Ms = tuple(prop(M) if i in diagonal else M for i, M in enumerate(self.Ms))
        return self.replace(Ms=Ms)  # type: ignore[no-any-return]

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """Every block on its columns, and sums along the rows."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        size = self.itemsize * sum(self.shape[-2:]) * k
        total = Cost(0, 2 * size, size, 0, len(self.heights))
        for M in self.Ms:
            total = total + M.matmat_cost(k)
        return Cost(total.flops, total.bytes, total.memory, k, total.calls)

    def _short(self) -> str:
        shown = self.pattern if len(self.Ms) <= 9 else ()
        rows = "; ".join(", ".join("0" if at < 0 else self.Ms[at]._short() for at in row) for row in shown)
        size = "x".join(map(str, self.shape))
        return f"Block[{size}]({rows or f'{len(self.heights)}x{len(self.widths)} blocks'})"


def block(rows: Sequence[Sequence[Any]], declared: frozenset[Property] = frozenset()) -> LinearOperator:
    """The operator ``[[A, B], [C, None]]`` in its simplest form, as ``numpy.block`` and
    ``scipy.sparse.bmat``.

    Nested grids that align are flattened; blocks on the diagonal only are a ``BlockDiag``; one block is
    itself.

    >>> import numpy as np, cola_core as cola
    >>> cola.block([[np.eye(2), None], [None, np.ones((1, 3))]])
    BlockDiag(Dense[2x2], Dense[1x3])
    """
    table = _table(rows)
    heights, widths = _sizes(table, None, None)
    table = _without_zeros(table)
    cells = {(i, j): M for i, row in enumerate(table) for j, M in enumerate(row) if M is not None}
    out = from_grid(heights, widths, cells)
    return out.replace(declared=out.declared | declared) if declared else out


def from_grid(
    heights: tuple[int, ...], widths: tuple[int, ...], cells: dict[tuple[int, int], LinearOperator]
) -> LinearOperator:
    """The simplest operator with these blocks."""
    from .blockdiag import BlockDiag

    heights, widths, cells = _flatten(heights, widths, cells)
    p, q = len(heights), len(widths)
    if p == q == 1 and cells:
        return cells[0, 0]
    if p == q and len(cells) == p and all(i == j for i, j in cells):
        return BlockDiag(*(cells[i, i] for i in range(p)))
    return Block([[cells.get((i, j)) for j in range(q)] for i in range(p)], heights, widths)


def _flatten(heights: Any, widths: Any, cells: Any) -> Grid:
    """Grids within the grid become part of it, where all of a row are cut alike, and all of a column."""
    inner: dict[tuple[int, int], Grid] = {}
    for at, M in cells.items():
        found = grid_of(M)
        if found is not None and len(found[2]) <= MAX_FLAT:
            inner[at] = found
    if not inner:
        return heights, widths, cells
    rows: list[Any] = [None] * len(heights)
    cols: list[Any] = [None] * len(widths)
    for (i, j), M in cells.items():
        h, w, _ = inner.get((i, j), ((M.shape[-2],), (M.shape[-1],), {}))
        if rows[i] not in (None, h) or cols[j] not in (None, w):
            return heights, widths, cells
        rows[i], cols[j] = h, w
    rows = [(heights[i],) if h is None else h for i, h in enumerate(rows)]
    cols = [(widths[j],) if w is None else w for j, w in enumerate(cols)]
    down, right = offsets(tuple(map(len, rows))), offsets(tuple(map(len, cols)))
    flat: dict[tuple[int, int], LinearOperator] = {}
    for (i, j), M in cells.items():
        for (a, b), N in inner[i, j][2].items() if (i, j) in inner else (((0, 0), M),):
            flat[down[i] + a, right[j] + b] = N
    return _flatten(tuple(x for h in rows for x in h), tuple(x for w in cols for x in w), flat)


def _table(rows: Any) -> list[list[LinearOperator | None]]:
    from .algebra import as_operator

    if isinstance(rows, LinearOperator) or not len(rows):
        raise ShapeError("Block needs a list of rows, each a list of blocks: [[A, B], [C, None]].")
    table = []
    for i, row in enumerate(rows):
        if isinstance(row, LinearOperator) or not isinstance(row, (list, tuple)):
            raise ShapeError(f"Block: row {i} is a {type(row).__name__}, not a list of blocks.")
        if len(row) != len(rows[0]) or not row:
            raise ShapeError(
                f"Block: row {i} has {len(row)} blocks, row 0 has {len(rows[0])}; use None for zeros."
            )
        table.append([None if M is None else as_operator(M) for M in row])
    return table


def _without_zeros(table: list[list[LinearOperator | None]]) -> list[list[LinearOperator | None]]:
    """None for blocks that are zero by construction, once their sizes have been seen."""
    out = [[None if M is None or (is_zero(M) and not M.batch_shape) else M for M in row] for row in table]
    return out if any(M is not None for row in out for M in row) else table


def _sizes(table: Any, heights: Any, widths: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the block rows and columns, with both blocks named where two disagree."""
    p, q = len(table), len(table[0])
    found: list[list[Any]] = [list(heights or [None] * p), list(widths or [None] * q)]
    for name, given, want in (("heights", found[0], p), ("widths", found[1], q)):
        if len(given) != want:
            raise ShapeError(f"Block: {len(given)} {name} for {want} of them.")
    by: list[dict[int, str]] = [{}, {}]
    for i, row in enumerate(table):
        for j, M in enumerate(row):
            if M is None:
                continue
            for axis, at, size in ((0, i, M.shape[-2]), (1, j, M.shape[-1])):
                if found[axis][at] is None:
                    found[axis][at] = size
                    by[axis][at] = f"block ({i}, {j}) {M!r} of shape {M.shape}"
                elif found[axis][at] != size:
                    other = by[axis].get(at, f"the given size {found[axis][at]}")
                    what = ("row", "rows") if axis == 0 else ("column", "columns")
                    raise ShapeError(
                        f"Block: in block {what[0]} {at}, block ({i}, {j}) {M!r} of shape {M.shape} "
                        f"and {other} "
                        f"have different numbers of {what[1]}."
                    )
                else:
                    by[axis].setdefault(at, f"block ({i}, {j}) {M!r} of shape {M.shape}")
    for axis, name in ((0, "row"), (1, "column")):
        for at, size in enumerate(found[axis]):
            if size is None:
                option = "heights" if axis == 0 else "widths"
                raise ShapeError(
                    f"Block: block {name} {at} has no block, so its size is unknown: pass {option}= or an "
                    "ops.Zero block."
                )
    return tuple(map(int, found[0])), tuple(map(int, found[1]))


def _symmetric(table: Any, heights: Any, widths: Any) -> frozenset[Property]:
    """SelfAdjoint, seen when the grid is written: an adjoint remembers whose it is."""
    if heights != widths:
        return frozenset()
    for i, row in enumerate(table):
        for j in range(i + 1):
            a, b = row[j], table[j][i]
            if a is None and b is None:
                continue
            if a is None or b is None:
                return frozenset()
            if i == j or a is b:
                if not a.isa(SelfAdjoint):
                    return frozenset()
            elif not a._adjoint_pair(b):
                return frozenset()
    return frozenset({SelfAdjoint})


def _is_diagonal(A: LinearOperator) -> bool:
    return isinstance(A, (Identity, ScalarMul, Diagonal))


def _split_diagonal(D: LinearOperator, A: Block) -> Grid | None:
    if A.heights != A.widths:
        return None
    at = offsets(A.heights)
    cells: dict[tuple[int, int], LinearOperator] = {}
    for i, n in enumerate(A.heights):
        if isinstance(D, Diagonal):
            cells[i, i] = Diagonal(D.diag[..., at[i] : at[i + 1]], declared=D.declared)
        else:
            cells[i, i] = D.replace(n=n)
    return A.heights, A.widths, cells

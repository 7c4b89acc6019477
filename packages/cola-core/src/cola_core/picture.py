"""``spy(A)``: the structure of an operator as a picture, from what is known and not from values.

``regions`` says what is where (a plain list, without Matplotlib); ``spy`` draws it. Blocks are outlined where
they are, a Kronecker product shows its second factor in the cells of the first, diagonals are lines, bands
and triangles are filled, a low rank is hatched, what is constant along diagonals is striped. Nothing is made
dense: stored entries of a sparse matrix or a permutation are points, binned to ``max_size`` positions a side;
what is only known by its products is dotted. Values are read in one place: where the column and the row of a
Toeplitz or circulant matrix end in zeros, it is drawn as the band that it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ColaError
from .operators import LinearOperator

__all__ = ["Region", "regions", "spy"]

MAX_CELLS = 1024  # blocks or Kronecker cells that are drawn one by one


@dataclass(frozen=True)
class Region:
    """A rectangle of the matrix and what fills it.

    kind: "dense", "diagonal", "lower", "upper", "band" (``below`` and ``above`` the diagonal of the
    rectangle), "stripes" (constant along diagonals, or along antidiagonals if ``slope`` is -1), "lowrank",
    "product" (known by products only), "points" (``rows``, ``cols`` inside the rectangle), "block" (an
    outline).
    """

    kind: str
    row: float
    col: float
    height: float
    width: float
    below: float = 0.0
    above: float = 0.0
    rows: Any = None
    cols: Any = None
    slope: float = 0.0  # rows per column of a band's or a stripe's diagonal; 0: from corner to corner


def regions(A: LinearOperator, max_size: int = 512) -> list[Region]:
    """What is where in ``A``, in units of its rows and columns."""
    found: list[Region] = []
    _place(A, 0.0, 0.0, max_size, found)
    return found


def _place(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    m, n = map(float, A.shape[-2:])
    if not m or not n:
        return
    place = _PLACES.get(type(A).__name__)
    for base in type(A).__mro__[1:]:
        place = place or _PLACES.get(base.__name__)
    if place is None:
        out.append(Region("product", row, col, m, n))
    else:
        place(A, row, col, limit, out)


def _extent(A: Any) -> tuple[float, float]:
    m, n = A.shape[-2:]
    return float(m), float(n)


def _simple(kind: str) -> Any:
    def place(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
        out.append(Region(kind, row, col, *_extent(A)))

    return place


def _triangular(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    _simple("lower" if A.lower else "upper")(A, row, col, limit, out)


def _tridiagonal(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    out.append(Region("band", row, col, *_extent(A), 1.0, 1.0, slope=1.0))


def _banded(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    below, above = A.widths
    out.append(Region("band", row, col, *_extent(A), float(below), float(above), slope=1.0))


def _nothing(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    pass


def _sparse(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    be = A._concrete_backend()
    _points(A, be.to_numpy(A.rows), be.to_numpy(A.cols), row, col, limit, out)


def _permutation(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    perm = np.asarray(A._concrete_backend().to_numpy(A.perm))
    _points(A, np.arange(perm.size), perm, row, col, limit, out)


def _points(A: Any, rows: Any, cols: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    m, n = A.shape[-2:]
    rows, cols = np.asarray(rows, dtype=float), np.asarray(cols, dtype=float)
    h, w = max(m / limit, 1.0), max(n / limit, 1.0)
    if h > 1 or w > 1:  # one point for all entries of a bin
        bins = np.unique(np.stack([rows // h, cols // w]), axis=1)
        rows, cols = bins[0] * h, bins[1] * w
    out.append(Region("points", row, col, float(m), float(n), rows=rows + h / 2, cols=cols + w / 2))


def _toeplitz(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    m, n = A.shape[-2:]
    below, above = _last(A, A.column), _last(A, A.first_row)
    if below < m - 1 or above < n - 1:
        out.append(Region("band", row, col, float(m), float(n), float(below), float(above), slope=1.0))
    else:
        out.append(Region("stripes", row, col, float(m), float(n), slope=1.0))


def _circulant(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    n = A.shape[-1]
    half = n // 2 + 1
    below, above = _last(A, A.column[..., :half]), _last(A, A.xp.flip(A.column[..., half:], axis=-1)) + 1
    above = 0 if half == n else above
    if below + above >= n // 2:
        out.append(Region("stripes", row, col, float(n), float(n), slope=1.0))
        return
    out.append(Region("band", row, col, float(n), float(n), float(below), float(above), slope=1.0))
    if above:  # the band enters again in the two other corners
        out.append(Region("lower", row + n - above, col, float(above), float(above)))
    if below:
        out.append(Region("upper", row, col + n - below, float(below), float(below)))


def _hankel(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    out.append(Region("stripes", row, col, *_extent(A), slope=-1.0))


def _last(A: Any, x: Any) -> int:
    """Where the last nonzero of any of the vectors x (*batch, n) stands; -1 if there is none."""
    values = np.asarray(A._concrete_backend().to_numpy(x))
    (found,) = np.nonzero(values.reshape(-1, values.shape[-1]).any(axis=0))
    return int(found[-1]) if found.size else -1


def _reflection(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    out.append(Region("diagonal", row, col, *_extent(A)))
    out.append(Region("lowrank", row, col, *_extent(A)))


def _projection(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    (_reflection if A.complement else _simple("lowrank"))(A, row, col, limit, out)


def _hadamard(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    for M in (A.A, A.B):  # zero wherever a factor is: the one with zeros is drawn
        found: list[Region] = []
        _place(M, row, col, limit, found)
        if not any(r.kind in _FULL and (r.height, r.width) == _extent(A) for r in found):
            out += found
            return
    _simple("dense")(A, row, col, limit, out)


def _khatrirao(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    copies = A.A.shape[-1 if A.rowwise else -2]  # of B, their columns (or rows) scaled
    if copies > min(limit, MAX_CELLS):
        _simple("product")(A, row, col, limit, out)
        return
    for i in range(copies):
        down, right = (0, i * A.B.shape[-1]) if A.rowwise else (i * A.B.shape[-2], 0)
        _cell(A.B, row + down, col + right, limit, out)


def _flipped(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    found: list[Region] = []
    _place(A.A, 0.0, 0.0, limit, found)
    turned = {"lower": "upper", "upper": "lower"}
    for r in found:
        out.append(
            Region(
                turned.get(r.kind, r.kind),
                row + r.col,
                col + r.row,
                r.width,
                r.height,
                r.above,
                r.below,
                r.cols,
                r.rows,
                1 / r.slope if r.slope else 0.0,
            )
        )


def _inverse(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    (_inner if type(A.A).__name__ == "Triangular" else _simple("product"))(A, row, col, limit, out)


def _sum(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    for M in A.Ms:
        _place(M, row, col, limit, out)


def _product(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    rest = [M for M in A.Ms if type(M).__name__ not in ("ScalarMul", "Identity", "Diagonal")]
    if len(rest) == 1 and rest[0].shape[-2:] == A.shape[-2:]:
        _place(rest[0], row, col, limit, out)  # diagonal factors leave zeros where they are
    elif not rest:
        _simple("diagonal")(A, row, col, limit, out)
    else:
        _simple("product")(A, row, col, limit, out)


def _inner(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    _place(A.A, row, col, limit, out)


def _blockdiag(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    m, n = map(float, A.shape[-2:])
    if sum(A.multiplicities) > min(limit, MAX_CELLS):  # too many to tell apart
        tall, wide = (max(M.shape[axis] for M in A.Ms) for axis in (-2, -1))
        out.append(Region("band", row, col, m, n, below=float(tall), above=float(wide)))
        return
    for M, times in zip(A.Ms, A.multiplicities, strict=True):
        for _ in range(times):
            _cell(M, row, col, limit, out)
            row, col = row + M.shape[-2], col + M.shape[-1]


def _block(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    for line, height in zip(A.pattern, A.heights, strict=True):
        here = col
        for number, width in zip(line, A.widths, strict=True):
            if number >= 0:
                _cell(A.Ms[number], row, here, limit, out)
            here += width
        row += height


def _concatenated(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    for M in A.Ms:
        _cell(M, row, col, limit, out)
        row, col = (row + M.shape[-2], col) if A.axis == -2 else (row, col + M.shape[-1])


def _cell(M: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    out.append(Region("block", row, col, *map(float, M.shape[-2:])))
    _place(M, row, col, limit, out)


def _kronecker(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    from .operators import kron

    first, rest = A.Ms[0], A.Ms[1:]
    inner = rest[0] if len(rest) == 1 else kron(*rest)
    p, q = inner.shape[-2:]
    cells = _support(first)
    if cells is None or len(cells) * (1 + len(rest)) > min(limit, MAX_CELLS):
        grown: list[Region] = []  # the first factor's picture, each entry the size of a cell
        _place(first, 0.0, 0.0, limit, grown)
        out += [_scaled(r, row, col, float(p), float(q)) for r in grown]
        return
    for i, j in cells:
        _cell(inner, row + i * p, col + j * q, limit, out)


def _scaled(r: Region, row: float, col: float, p: float, q: float) -> Region:
    kind = "band" if r.kind == "diagonal" else r.kind
    thick = 1.0 if r.kind == "diagonal" else 0.0
    return Region(
        kind,
        row + r.row * p,
        col + r.col * q,
        r.height * p,
        r.width * q,
        (r.below + thick) * p,
        (r.above + thick) * q,
        None if r.rows is None else r.rows * p,
        None if r.cols is None else r.cols * q,
        r.slope * p / q,
    )


def _kronsum(A: Any, row: float, col: float, limit: int, out: list[Region]) -> None:
    from .operators import Identity, kron

    sizes = [M.shape[-1] for M in A.Ms]
    for k, M in enumerate(A.Ms):
        left, right = int(np.prod(sizes[:k])), int(np.prod(sizes[k + 1 :]))
        _place(kron(Identity(left), M, Identity(right)), row, col, limit, out)


def _support(A: Any) -> list[tuple[int, int]] | None:
    """Positions that structure allows to be nonzero; None if there are too many to list."""
    m, n = A.shape[-2:]
    name = type(A).__name__
    if name in ("Identity", "ScalarMul", "Diagonal"):
        return [(i, i) for i in range(n)] if n <= MAX_CELLS else None
    if name in ("Sparse", "Permutation"):
        if max(m, n) > MAX_CELLS:
            return None
        be = A._concrete_backend()
        if name == "Permutation":
            return list(enumerate(be.to_numpy(A.perm).tolist()))
        return list(zip(be.to_numpy(A.rows).tolist(), be.to_numpy(A.cols).tolist(), strict=True))
    if m * n > MAX_CELLS:
        return None
    keep = {True: lambda i, j: i >= j, False: lambda i, j: i <= j}.get(getattr(A, "lower", None))  # type: ignore[arg-type]
    return [(i, j) for i in range(m) for j in range(n) if keep is None or name != "Triangular" or keep(i, j)]


_FULL = ("dense", "lowrank", "product", "stripes")  # kinds that say nothing of zeros

_PLACES: dict[str, Any] = {
    "Adjoint": _flipped,
    "Banded": _banded,
    "Block": _block,
    "BlockDiag": _blockdiag,
    "Circulant": _circulant,
    "Concatenated": _concatenated,
    "Dense": _simple("dense"),
    "Diagonal": _simple("diagonal"),
    "HadamardProduct": _hadamard,
    "Hankel": _hankel,
    "Householder": _reflection,
    "HouseholderProduct": _reflection,
    "Identity": _simple("diagonal"),
    "Inverse": _inverse,
    "Kernel": _simple("dense"),
    "KhatriRao": _khatrirao,
    "KronSum": _kronsum,
    "Kronecker": _kronecker,
    "LowRank": _simple("lowrank"),
    "NoDispatch": _inner,
    "Permutation": _permutation,
    "Product": _product,
    "Projection": _projection,
    "RealPart": _inner,
    "ScalarMul": _simple("diagonal"),
    "Sparse": _sparse,
    "Sum": _sum,
    "Toeplitz": _toeplitz,
    "Transpose": _flipped,
    "Triangular": _triangular,
    "Tridiagonal": _tridiagonal,
    "Zero": _nothing,
}


def spy(A: LinearOperator, ax: Any = None, max_size: int = 512, color: str = "#31688e") -> Any:
    """Draw ``A`` (one matrix of a batch) and return the Matplotlib axes.

    ax: axes to draw into, new ones otherwise; max_size: finest resolution of points and blocks. Every artist
    has the kind of its region as its ``gid``. Raises ColaError if Matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ColaError("pictures need Matplotlib: pip install 'cola-core[plot]'.") from error
    if ax is None:
        ax = pyplot.figure(layout="constrained").add_subplot()
    m, n = A.shape[-2:]
    for region in regions(A, max_size):
        for artist in _artists(region, color):
            artist.set_gid(region.kind)
            ax.add_artist(artist) if hasattr(artist, "get_xdata") else ax.add_patch(artist)
    ax.set(xlim=(0, max(n, 1)), ylim=(max(m, 1), 0), aspect="equal", title=_title(A))
    ax.xaxis.tick_top()
    return ax


def _title(A: Any) -> str:
    text = repr(A)
    return text if len(text) <= 60 else f"{type(A).__name__}[{'x'.join(map(str, A.shape))}]"


def _artists(r: Region, color: str) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Polygon, Rectangle

    top, left, bottom, right = r.row, r.col, r.row + r.height, r.col + r.width
    corner = (left, top)
    fill: dict[str, Any] = dict(facecolor=color, edgecolor="none", alpha=0.5)
    if r.kind == "block":
        return [Rectangle(corner, r.width, r.height, fill=False, edgecolor="0.4", linewidth=0.6)]
    if r.kind == "dense":
        return [Rectangle(corner, r.width, r.height, **fill)]
    if r.kind in ("lowrank", "product"):
        hatch = {"lowrank": "///", "product": "..."}[r.kind]
        look: dict[str, Any] = dict(facecolor="none", edgecolor=color, linewidth=0.0, hatch=hatch)
        return [Rectangle(corner, r.width, r.height, **look)]
    if r.kind == "stripes":
        pale = Rectangle(corner, r.width, r.height, **(fill | {"alpha": 0.2}))
        return [pale, *(Line2D(x, y, color=color, linewidth=0.8) for x, y in _stripes(r))]
    if r.kind == "diagonal":
        return [Line2D([left, right], [top, bottom], color=color, linewidth=1.5)]
    if r.kind == "points":
        size = 3.0 if max(r.height, r.width) <= 64 else 1.0
        x, y = left + r.cols, top + r.rows
        return [Line2D(x, y, color=color, linestyle="none", marker="s", markersize=size)]
    if r.kind == "lower":
        return [Polygon([(left, top), (left, bottom), (right, bottom)], **fill)]
    if r.kind == "upper":
        return [Polygon([(left, top), (right, top), (right, bottom)], **fill)]
    slope = r.slope or r.height / r.width
    outline = [(0.0, 0.0), (r.width, 0.0), (r.width, r.height), (0.0, r.height)]
    outline = _cut(outline, lambda x, y: slope * x + r.below - y)
    outline = _cut(outline, lambda x, y: y - slope * (x - r.above))
    return [Polygon([(left + x, top + y) for x, y in outline], **fill)] if len(outline) > 2 else []


def _stripes(r: Region) -> list[tuple[list[float], list[float]]]:
    """Up to eleven parallel lines across the rectangle, as (x, y) pairs; the main diagonal is one of them."""
    steps = [k * (r.height + r.width) / 12 for k in range(-12, 13)]
    lines = []
    for step in steps:  # y = x + step, clipped; mirrored left to right for antidiagonals
        start, end = max(0.0, -step), min(r.width, r.height - step)
        if end > start:
            x = [start, end] if r.slope > 0 else [r.width - start, r.width - end]
            lines.append(([r.col + v for v in x], [r.row + v + step for v in (start, end)]))
    return lines


def _cut(outline: list[tuple[float, float]], side: Any) -> list[tuple[float, float]]:
    """The part of a convex polygon where the affine function ``side`` is not negative."""
    kept: list[tuple[float, float]] = []
    for k, here in enumerate(outline):
        before = outline[k - 1]
        a, b = side(*before), side(*here)
        if (a < 0) != (b < 0):
            t = a / (a - b)
            kept.append((before[0] + t * (here[0] - before[0]), before[1] + t * (here[1] - before[1])))
        if b >= 0:
            kept.append(here)
    return kept

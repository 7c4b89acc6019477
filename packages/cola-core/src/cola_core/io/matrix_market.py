"""Matrix Market exchange format: coordinate files become ``Sparse``, array files ``Dense``.

``symmetric`` and ``hermitian`` files carry the claim in their header, so the operator is declared SelfAdjoint
(a symmetric complex matrix is not self-adjoint and is not). Skew-symmetric files are expanded without a
claim. SciPy's parser reads the numbers; this module checks what it lets pass (missing and surplus columns,
NaN, Fortran exponents, entries on the wrong side of a symmetric matrix) and finds the line to blame.
Boisvert, Pozo & Remington, NISTIR 5935 (1996).
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileFormatError
from ..operators import Dense, LinearOperator, Sparse
from ..properties import SelfAdjoint
from .atomic import PathLike, atomic_path
from .content import content, excerpt, fail
from .scan import scan

__all__ = ["read_matrix_market", "read_raw", "write_matrix_market"]

_FORMATS = ("coordinate", "array")
_FIELDS = {"real": 1, "double": 1, "complex": 2, "integer": 1, "pattern": 0}
_SYMMETRIES = ("general", "symmetric", "hermitian", "skew-symmetric")
_NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_HEADER = "'%%MatrixMarket matrix coordinate|array real|complex|integer|pattern general|symmetric|...'"


@dataclass(frozen=True)
class Header:
    """What the first lines promise. line: where the size line is; start: offset of the first entry."""

    format: str
    field: str
    symmetry: str
    shape: tuple[int, int]
    entries: int
    line: int
    start: int

    @property
    def numbers(self) -> int:
        """Numbers on one entry line."""
        return (2 if self.format == "coordinate" else 0) + _FIELDS[self.field]

    @property
    def claim(self) -> bool:
        """Whether the header promises a self-adjoint matrix."""
        if self.field == "complex":
            return self.symmetry == "hermitian"
        return self.symmetry in ("symmetric", "hermitian")

    @property
    def expected(self) -> str:
        """One entry line in words."""
        value = {0: "", 1: "value", 2: "real imaginary"}[_FIELDS[self.field]]
        return f"'{('row column ' if self.format == 'coordinate' else '') + value}'".replace(" '", "'")


def read_matrix_market(path: PathLike) -> LinearOperator:
    """The matrix in a ``.mtx`` (or ``.mtx.gz``) file. Cost: one pass over the file, plus one to verify it.

    Raises FileFormatError naming file and line.
    """
    header, parts = read_raw(path)
    declared = frozenset({SelfAdjoint}) if header.claim else frozenset()
    if header.format == "array":
        return Dense(parts[0], declared=declared)
    data, rows, cols = parts
    return Sparse(data, rows, cols, header.shape, declared=declared)


def read_raw(path: PathLike) -> tuple[Header, tuple[Any, ...]]:
    """Header and either (matrix,) or (data, rows, cols), symmetric storage expanded."""
    raw = content(path)
    header = _header(path, raw)
    body = raw[header.start :]
    if header.format == "array":
        return header, (_array(path, header, body),)
    return header, _coordinate(path, header, body)


def _header(path: PathLike, raw: bytes) -> Header:
    first, _, _ = raw[:1024].partition(b"\n")
    words = first.decode("ascii", "replace").split()
    if len(words) != 5 or words[0] != "%%MatrixMarket" or words[1].lower() != "matrix":
        raise fail(path, 1, f"the header {_HEADER}", first)
    form, field, symmetry = (w.lower() for w in words[2:])
    for name, value, known in (
        ("format", form, _FORMATS),
        ("field", field, tuple(_FIELDS)),
        ("symmetry", symmetry, _SYMMETRIES),
    ):
        if value not in known:
            raise fail(path, 1, f"a Matrix Market {name} ({', '.join(known)})", value)
    if form == "array" and field == "pattern":
        raise fail(path, 1, "numbers: an array file cannot have the field 'pattern'", first)
    offset = raw.find(b"\n") + 1 or len(raw)
    number = 1
    while offset < len(raw):
        number += 1
        end = raw.find(b"\n", offset)
        end = len(raw) if end < 0 else end
        text = raw[offset:end].strip()
        offset = end + 1
        if text and not text.startswith(b"%"):
            return _sized(path, form, field, symmetry, number, offset, text)
    what = "rows columns entries" if form == "coordinate" else "rows columns"
    raise fail(path, number, f"the size line '{what}', but the file ends")


def _sized(
    path: PathLike, form: str, field: str, symmetry: str, line: int, start: int, text: bytes
) -> Header:
    what = "'rows columns entries'" if form == "coordinate" else "'rows columns'"
    try:
        sizes = [int(w) for w in text.split()]
    except ValueError:
        sizes = []
    if len(sizes) != (3 if form == "coordinate" else 2) or min(sizes, default=-1) < 0:
        raise fail(path, line, f"the size line {what}", text)
    m, n = sizes[:2]
    if m * n >= 2**62:
        raise fail(path, line, "a matrix whose positions fit into 64 bits", text)
    if symmetry != "general" and m != n:
        raise fail(path, line, f"as many rows as columns in a {symmetry} matrix", text)
    if form == "coordinate":
        entries = sizes[2]
    elif symmetry == "general":
        entries = m * n
    else:
        entries = m * (m - 1) // 2 if symmetry == "skew-symmetric" else m * (m + 1) // 2
    return Header(form, field, symmetry, (m, n), entries, line, start)


def _coordinate(path: PathLike, header: Header, body: bytes) -> tuple[Any, Any, Any]:
    body = _counted(path, header, body)
    if not header.entries:
        dtype = np.complex128 if header.field == "complex" else np.float64
        empty = np.zeros(0, np.int64)
        return np.zeros(0, dtype), empty, empty
    from scipy.io import mmread

    # read as a general matrix, to see the entries as they are stored
    m, n = header.shape
    field = "real" if header.field in ("double", "integer") else header.field
    head = f"%%MatrixMarket matrix coordinate {field} general\n{m} {n} {header.entries}\n".encode()
    try:
        coo = mmread(io.BytesIO(head + body)).tocoo()
    except (ValueError, OverflowError) as error:
        _blame(path, header, body)
        raise FileFormatError(f"{path}: {error}.") from None
    data = coo.data.astype(np.complex128 if header.field == "complex" else np.float64, copy=False)
    rows, cols = coo.row.astype(np.int64), coo.col.astype(np.int64)
    if not np.isfinite(data).all():
        _blame(path, header, body)
        raise FileFormatError(f"{path}: an entry is NaN or infinite.")
    return _expand(path, header, data, rows, cols)


def _counted(path: PathLike, header: Header, body: bytes) -> bytes:
    """The body, after making sure that it has as many entries, and as many numbers, as the size line
    promises."""
    if b"d" in body or b"D" in body:
        body = re.sub(rb"([0-9.])[dD]([+-]?[0-9])", rb"\1e\2", body)  # Fortran's double precision exponents
    if b"+" in body:
        body = re.sub(rb"(\s)\+", rb"\1", body)  # SciPy's parser knows no leading plus sign
    found = scan(body, header.numbers)
    if found.lines != header.entries:
        _blame(path, header, body)
        m, n = header.shape
        raise FileFormatError(
            f"{path}, line {header.line}: the size line promises {header.entries:,} entries of a "
            f"{m}x{n} matrix, the file "
            f"holds {found.lines:,}; it is {'truncated' if found.lines < header.entries else 'too long'}."
        )
    if not found.numbers:
        _blame(path, header, body)
    return body


def _blame(path: PathLike, header: Header, body: bytes) -> None:
    """Find the first entry line that is wrong and say so; return if there is none. Slow, for broken files
    only."""
    m, n = header.shape
    for number, line in enumerate(body.split(b"\n"), header.line + 1):
        words = line.split()
        if not words:
            continue
        if len(words) != header.numbers:
            raise fail(path, number, header.expected, line)
        values = words
        if header.format == "coordinate":
            values = words[2:]
            for word, size, what in ((words[0], m, "row"), (words[1], n, "column")):
                if not word.isdigit() or not 1 <= int(word) <= size:
                    raise fail(path, number, f"a {what} between 1 and {size}", word)
        for word in values:
            if not _NUMBER.fullmatch(word):
                finite = word.lower().lstrip(b"+-") not in (b"nan", b"inf", b"infinity")
                raise fail(path, number, "a number" if finite else "a finite number", word)
            if not np.isfinite(float(word)):
                raise fail(path, number, "a number in the range of double precision", word)


def _expand(path: PathLike, header: Header, data: Any, rows: Any, cols: Any) -> tuple[Any, Any, Any]:
    if header.symmetry == "general":
        return data, rows, cols
    below, above = rows > cols, rows < cols
    if below.any() and above.any():
        i = int(np.argmax(above))
        raise FileFormatError(
            f"{path}: a {header.symmetry} file stores one triangle, but entry ({rows[i] + 1}, "
            f"{cols[i] + 1}) is above the diagonal while others are below it; write the file as 'general'."
        )
    diagonal = rows == cols
    if header.symmetry == "skew-symmetric" and (data[diagonal] != 0).any():
        raise FileFormatError(f"{path}: the diagonal of a skew-symmetric matrix must be zero.")
    if header.symmetry == "hermitian" and np.iscomplexobj(data) and (data[diagonal].imag != 0).any():
        raise FileFormatError(f"{path}: the diagonal of a hermitian matrix must be real.")
    off = ~diagonal
    mirrored = _mirror(header, data[off])
    return (
        np.concatenate([data, mirrored]),
        np.concatenate([rows, cols[off]]),
        np.concatenate([cols, rows[off]]),
    )


def _mirror(header: Header, data: Any) -> Any:
    if header.symmetry == "hermitian":
        return data.conj()
    return -data if header.symmetry == "skew-symmetric" else data


def _array(path: PathLike, header: Header, body: bytes) -> Any:
    body = _counted(path, header, body)
    m, n = header.shape
    try:
        numbers = np.array(body.split(), dtype="S").astype(np.float64) if header.entries else np.zeros(0)
    except ValueError as error:
        _blame(path, header, body)
        raise FileFormatError(f"{path}: {excerpt(str(error))}.") from None
    if not np.isfinite(numbers).all():
        _blame(path, header, body)
    values = numbers[0::2] + 1j * numbers[1::2] if header.field == "complex" else numbers
    if header.symmetry == "general":
        return np.ascontiguousarray(values.reshape(n, m).T)  # column by column
    shift = 1 if header.symmetry == "skew-symmetric" else 0
    cols, rows = np.triu_indices(n, shift)  # the lower triangle, column by column
    out = np.zeros((n, n), values.dtype)
    out[cols, rows] = _mirror(header, values)
    out[rows, cols] = values
    if header.symmetry == "hermitian" and np.iscomplexobj(out) and (np.diagonal(out).imag != 0).any():
        raise FileFormatError(f"{path}: the diagonal of a hermitian matrix must be real.")
    return out


def write_matrix_market(path: PathLike, A: Any, comment: str = "") -> None:
    """Write an operator, a SciPy sparse matrix or an array; every digit is kept.

    ``Sparse`` and SciPy matrices become coordinate files, everything else an array file (operators are
    densified). One triangle is stored, under a symmetric or hermitian header, where the operator is known to
    be self-adjoint.
    """
    from scipy.io import mmwrite

    symmetry = "general"
    if isinstance(A, LinearOperator):
        if A.isa(SelfAdjoint):
            symmetry = "hermitian" if "complex" in str(A.dtype) else "symmetric"
        be = A._concrete_backend()
        A = A.to_scipy() if isinstance(A, Sparse) else be.to_numpy(A.to_dense())
    stream = io.BytesIO()
    mmwrite(stream, A.reshape(-1, 1) if getattr(A, "ndim", 2) == 1 else A, comment=comment, symmetry=symmetry)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())

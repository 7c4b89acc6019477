"""Tables of numbers in CSV and Parquet files: read with clear errors, written atomically.

The suffix ``.parquet`` means Parquet (by pyarrow, an optional dependency), anything else CSV with a header
line. Missing values are empty cells and what other programs write for them (``NA``, ``NaN``, ``null``,
``#N/A``, ...) in CSV, nulls and NaN in Parquet. ``True`` and ``False`` are one and zero.  Columns without a
name and the nameless index of a data frame number the rows and say nothing about them: they are left out.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cola_core.errors import ColaError, FileFormatError, UnknownNameError
from cola_core.io import atomic_path, check_target

# What pandas, R and spreadsheets write where there is nothing.
MISSING = frozenset(
    {"", "na", "n/a", "<na>", "nan", "-nan", "nat", "null", "none", "#n/a", "#na", "#n/a n/a"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
REMEDY = "; fill it in, or leave the row out"
TRUTH = {"true": 1.0, "false": 0.0}
NAMELESS_INDEX = re.compile(r"__index_level_\d+__")
OUTPUT = (".csv", ".tsv", ".txt", ".dat", ".parquet", ".pq", "")


@dataclass(frozen=True)
class Table:
    """Columns of a file; ``columns[j]`` holds the cells of ``names[j]``: text, or numbers with NaN."""

    path: str
    names: list[str]
    columns: list[Any]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0]) if self.columns else 0

    def matrix(self, names: Sequence[str], missing: bool = False, remedy: str = REMEDY) -> np.ndarray:
        """The named columns as an ``(n, k)`` array of numbers.

        missing: missing values become NaN; else they are refused, and ``remedy`` says what to do.
        Raises UnknownNameError, and FileFormatError with the row of the first cell that is no number.
        """
        out = np.empty((self.rows, len(names)))
        for k, name in enumerate(names):
            if name not in self.names:
                raise UnknownNameError(
                    f"{self.path} has no column {name!r}; it has {', '.join(self.names)}." + self._split(name)
                )
            column = self.columns[self.names.index(name)]
            for i, cell in enumerate(column):
                value = _number(cell)
                if value is None or not (np.isfinite(value) or (missing and np.isnan(value))):
                    kind = "finite " if value is not None and np.isinf(value) else ""
                    raise FileFormatError(
                        f"{self.path}: column {name!r}, data row {i + 1}: {cell!r} is not a {kind}number"
                        + (f"; the value is missing{remedy}." if _is_missing(cell) else ".")
                    )
                out[i, k] = value
        return out

    def _split(self, name: str) -> str:
        """A hint where the header was not taken apart because the file has another delimiter."""
        for mark, option in ((";", "';'"), ("\t", r"'\t'"), ("|", "'|'"), (",", "','")):
            if any(name in (part.strip() for part in column.split(mark)) for column in self.names):
                return f" Give --delimiter {option}?"
        return ""

    def numeric_columns(self) -> tuple[list[str], dict[str, str]]:
        """Names of the columns that hold numbers, and of the others with the reason why they do not.

        Missing and infinite values make no text of a column: leaving it out for them would be another model
        than the one asked for.  ``matrix`` refuses them.
        """
        numeric, others = [], {}
        for name, column in zip(self.names, self.columns, strict=True):
            text = next((i for i, c in enumerate(column) if not _is_missing(c) and _number(c) is None), None)
            if text is not None:
                others[name] = f"data row {text + 1}: {column[text]!r} is not a number"
            elif all(_is_missing(cell) for cell in column):
                others[name] = "every value is missing"
            else:
                numeric.append(name)
        return numeric, others


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, str):
        return cell.lower() in MISSING
    return cell is None or (isinstance(cell, float) and bool(np.isnan(cell)))


def _number(cell: Any) -> float | None:
    """The number in a cell, or None if there is none; what is missing is NaN."""
    if _is_missing(cell):
        return np.nan
    if isinstance(cell, str):
        if cell.lower() in TRUTH:
            return TRUTH[cell.lower()]
        if "_" in cell:  # which Python reads over
            return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _is_parquet(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in (".parquet", ".pq")


def read_table(path: str | os.PathLike[str], delimiter: str = ",") -> Table:
    """A table with its header.  Raises FileFormatError, for CSV with the line number of the first bad row."""
    name = os.fspath(path)
    if not os.path.exists(path):
        raise FileFormatError(f"{name}: no such file.")
    if os.path.isdir(path):
        raise FileFormatError(f"{name} is a folder, not a table.")
    header, columns = _read_parquet(name) if _is_parquet(path) else _read_csv(name, delimiter)
    named = [k for k, column in enumerate(header) if column]
    header, columns = [header[k] for k in named], [columns[k] for k in named]
    if len(set(header)) != len(header):
        raise FileFormatError(f"{name}: the header has repeated column names: {', '.join(header)}.")
    if not header:
        raise FileFormatError(f"{name}: no column has a name.")
    return Table(name, header, columns)


def check_table_target(path: str | os.PathLike[str]) -> Path:
    """Raise FileFormatError if a table could not be written there."""
    if _is_parquet(path):
        _pyarrow()
    return check_target(path, OUTPUT)


def _read_csv(name: str, delimiter: str) -> tuple[list[str], list[Any]]:
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise FileFormatError(f"the delimiter must be one character (or \\t), not {delimiter!r}.")
    try:
        with open(name, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError:
        raise FileFormatError(
            f"{name} cannot be read as CSV: it is not encoded as UTF-8; save it again as 'CSV UTF-8', or "
            "convert it (iconv -f LATIN1 -t UTF-8 for older files of Western Europe)."
        ) from None
    except (OSError, csv.Error) as error:
        raise FileFormatError(f"{name} cannot be read as CSV: {error}.") from None
    rows = _without_blanks(rows)
    if len(rows) < 2:
        raise FileFormatError(f"{name} needs a header line and at least one row of data.")
    header = rows[0][1]
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise FileFormatError(
                f"{name}, line {line}: {len(row)} cells, but the header has {len(header)} columns."
            )
    return header, [list(column) for column in zip(*(row for _, row in rows[1:]), strict=True)]


def _without_blanks(rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    """Without blank lines, and without rows of empty cells before the header and behind the data, as
    spreadsheets write them.  Such a row between others is an observation whose values are missing."""
    texts = [i for i, (_, row) in enumerate(rows) if any(row)]
    if not texts:
        return []
    first, last = texts[0], texts[-1]
    if len(rows[first][1]) == 1:  # an empty cell of one column is quoted, and no blank line
        return [(line, row) for line, row in rows[first:] if row]
    return [(line, row) for line, row in rows[first : last + 1] if len(row) > 1 or any(row)]


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ColaError(
            "Parquet files need pyarrow: pip install 'cola-gp[parquet]', or use CSV files."
        ) from None
    return pyarrow


def _read_parquet(name: str) -> tuple[list[str], list[Any]]:
    pyarrow = _pyarrow()
    try:
        table = pyarrow.parquet.read_table(name)
    except (OSError, pyarrow.ArrowException) as error:
        raise FileFormatError(f"{name} cannot be read as Parquet: {str(error).splitlines()[0]}.") from None
    if table.num_rows == 0:
        raise FileFormatError(f"{name} needs at least one row of data.")
    names = ["" if NAMELESS_INDEX.fullmatch(column) else column for column in table.column_names]
    return names, [column.to_pylist() for column in table.columns]


def write_table(path: str | os.PathLike[str], header: Sequence[str], table: np.ndarray) -> None:
    """Write columns of numbers ``(n, k)`` with a header; the suffix chooses the format."""
    if _is_parquet(path):
        pyarrow = _pyarrow()
        columns = {name: np.asarray(table[:, j], dtype=float) for j, name in enumerate(header)}
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(pyarrow.table(columns), temporary)
        return
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        write_csv(file, header, table)


def write_csv(file: TextIO, header: Sequence[str], table: np.ndarray) -> None:
    """Write columns of numbers with a header to an open file; names are quoted where they need it."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[repr(float(v)) for v in row] for row in table])


__all__ = ["Table", "check_table_target", "read_table", "write_csv", "write_table"]

"""Tables of numbers in CSV files: read with clear errors, written atomically."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence

import numpy as np

from cola_core.errors import FileFormatError, UnknownNameError
from cola_core.io import atomic_path


def read_table(path: str | os.PathLike[str], delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file.  Raises FileFormatError with the line number of the first bad row."""
    name = os.fspath(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            rows = [
                (reader.line_num, [cell.strip() for cell in row])
                for row in reader
                if any(c.strip() for c in row)
            ]
    except FileNotFoundError:
        raise FileFormatError(f"{name}: no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{name} cannot be read as CSV: {error}.") from None
    if len(rows) < 2:
        raise FileFormatError(f"{name} needs a header line and at least one row of data.")
    header = rows[0][1]
    if len(set(header)) != len(header) or "" in header:
        raise FileFormatError(f"{name}: the header has empty or repeated column names: {', '.join(header)}.")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise FileFormatError(
                f"{name}, line {line}: {len(row)} cells, but the header has {len(header)} columns."
            )
    return header, [row for _, row in rows[1:]]


def columns(path: str, header: list[str], rows: list[list[str]], names: Sequence[str]) -> np.ndarray:
    """The named columns as an ``(n, k)`` array; raises for unknown names and cells that are no number."""
    for name in names:
        if name not in header:
            raise UnknownNameError(f"{path} has no column {name!r}; it has {', '.join(header)}.")
    out = np.empty((len(rows), len(names)))
    for j, name in enumerate(names):
        position = header.index(name)
        for i, row in enumerate(rows):
            try:
                out[i, j] = float(row[position])
            except ValueError:
                raise FileFormatError(
                    f"{path}: column {name!r}, data row {i + 1}: {row[position]!r} is not a number."
                ) from None
    return out


def numeric_columns(header: list[str], rows: list[list[str]]) -> list[str]:
    """Names of the columns all of whose cells are numbers."""

    def numeric(j: int) -> bool:
        try:
            return all(np.isfinite(float(row[j])) for row in rows)
        except ValueError:
            return False

    return [name for j, name in enumerate(header) if numeric(j)]


def write_table(path: str | os.PathLike[str], header: Sequence[str], table: np.ndarray) -> None:
    """Write columns of numbers with a header line."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([[repr(float(v)) for v in row] for row in table])

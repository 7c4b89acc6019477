"""What a command prints: lines of facts and tables for people, one JSON object for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["bytes_text", "facts", "json_text", "number", "seconds_text", "table"]


def number(x: Any) -> str:
    """A number in at most 10 digits, whatever scalar type holds it."""
    if x is None:
        return "-"
    if isinstance(x, (bool, str)):
        return str(x)
    if isinstance(x, int):
        return f"{x:,}"
    value = complex(x)
    if value.imag:
        return f"{value.real:.10g}{value.imag:+.10g}j"
    return f"{value.real:.10g}"


def seconds_text(s: float) -> str:
    """A duration in a readable unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if s >= size:
            return f"{s / size:.3g} {unit}"
    return f"{s * 1e6:.3g} µs"


def bytes_text(n: float) -> str:
    """A number of bytes in a readable unit."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} bytes"


def facts(rows: Sequence[tuple[str, Any]]) -> None:
    """Print name and value, one pair a line, the values aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> None:
    """Print a table: by rich on a terminal, plain aligned columns otherwise. right: indices of columns of
    numbers."""
    cells = [[str(c) for c in row] for row in rows]
    if _terminal():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=None, header_style="bold", pad_edge=False)
        for i, name in enumerate(columns):
            shown.add_column(name, justify="right" if i in right else "left", overflow="fold")
        for row in cells:
            shown.add_row(*(Text(c) for c in row))  # Text: brackets in a cell are not markup
        Console().print(shown)
        return
    widths = [max(len(name), *(len(row[i]) for row in cells), 0) for i, name in enumerate(columns)]
    for row in [list(columns), *cells]:
        line = "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        print(line.rstrip())


def _terminal() -> bool:
    return sys.stdout.isatty()


def json_text(value: Any) -> str:
    """Strict JSON: NaN and infinity, which JSON lacks, become null; complex numbers {"re": , "im": }."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, complex):
        return {"re": _plain(value.real), "im": _plain(value.imag)}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)

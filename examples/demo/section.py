"""One section of the report: what was asked, the plans, the numbers, figures, and checks that can fail."""

from __future__ import annotations

import base64
import io
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Check:
    """One number and the bound it must stay below."""

    name: str
    value: float
    below: float

    @property
    def ok(self) -> bool:
        """A NaN is below nothing."""
        return bool(self.value <= self.below)


@dataclass
class Section:
    """Built from top to bottom by a section's ``run``; blocks are (kind, content) pairs in reading order."""

    id: str
    title: str
    folder: Path
    asked: str = ""
    blocks: list[tuple[str, Any]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Every check held and nothing raised."""
        return self.error is None and bool(self.checks) and all(c.ok for c in self.checks)

    def text(self, words: str) -> None:
        """A paragraph."""
        self.blocks.append(("text", words))

    def heading(self, words: str) -> None:
        """A heading inside the section."""
        self.blocks.append(("heading", words))

    def plan(self, plan: Any, caption: str = "The plan, before anything ran") -> None:
        """What ``explain`` printed."""
        self.blocks.append(("plan", (caption, str(plan))))

    def table(self, columns: list[str], rows: list[list[Any]]) -> None:
        """A table; cells are shown as they are."""
        self.blocks.append(("table", (columns, [[str(c) for c in row] for row in rows])))

    def check(self, name: str, value: Any, below: float) -> None:
        """A number that must not exceed a bound."""
        self.checks.append(Check(name, float(value), below))

    def figure(self, figure: Any, caption: str, vector: bool = True) -> None:
        """A matplotlib figure, embedded; vector=False where a drawing would hold very many shapes."""
        stream = io.BytesIO()
        if vector:
            figure.savefig(stream, format="svg", metadata={"Date": None})
        else:
            figure.savefig(stream, format="png", dpi=170)
        self.picture(stream.getvalue(), "svg+xml" if vector else "png", caption)

    def picture(self, data: bytes, kind: str, caption: str) -> None:
        """An image file, embedded."""
        url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        self.blocks.append(("figure", (url, caption)))

    def command(self, *words: str, expect: int = 0) -> str:
        """Run ``cola-core`` as a user would, in the folder of the data; record what it printed, and return
        that."""
        script = Path(sys.executable).with_name("cola-core")
        start = [str(script)] if script.is_file() else [sys.executable, "-m", "cola_core"]
        begin = time.perf_counter()
        done = subprocess.run(
            [*start, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            timeout=100,
        )
        seconds = time.perf_counter() - begin
        shown = " ".join(f"'{w}'" if " " in w or "(" in w else w for w in words)
        if "--json" not in words:
            self.blocks.append(("terminal", (f"cola-core {shown}", done.stdout + done.stderr, seconds)))
        if done.returncode != expect:
            raise RuntimeError(
                f"cola-core {shown} ended with status {done.returncode}, not {expect}: {done.stderr.strip()}"
            )
        return done.stdout

    def as_dict(self) -> dict[str, Any]:
        """The section's entry in numbers.json."""
        return {
            "title": self.title,
            "ok": self.ok,
            "seconds": self.seconds,
            "error": self.error,
            "checks": [
                {
                    "name": c.name,
                    "value": c.value if math.isfinite(c.value) else None,
                    "below": c.below,
                    "ok": c.ok,
                }
                for c in self.checks
            ],
            "numbers": self.numbers,
        }


def relative(x: Any, exact: Any) -> float:
    """``|x - exact| / |exact|`` in the 2-norm."""
    import numpy as np

    exact = np.asarray(exact)
    return float(np.linalg.norm(np.asarray(x) - exact) / np.linalg.norm(exact))

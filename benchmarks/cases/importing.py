"""What `import cola_core` costs, in fresh interpreters; and that it brings nothing heavy along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ..harness import Bench, Contender, Goal

CODE = """
import sys
import {module}
heavy = [m for m in ("torch", "jax", "scipy.sparse.linalg") if m in sys.modules]
print(",".join(heavy) or "light")
"""


def _importing(module: str) -> Callable[[], str]:
    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


def _setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    def check(answer: Any) -> None:
        assert answer == "light", f"importing brought {answer} along"

    return [
        Contender("import cola_core", _importing("cola_core")),
        Contender("import numpy", _importing("numpy")),
    ], check


BENCHES = [
    Bench("import", "Starting up", _setup, Goal("above", 0.25, "import numpy"), rounds=11, children=True)
]

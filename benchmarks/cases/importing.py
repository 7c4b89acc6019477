"""What `import cola_core` costs, in fresh interpreters; and that it brings nothing heavy along.

Both modules are byte-compiled, as installed packages are, wherever the interpreter may write and whatever
``PYTHONDONTWRITEBYTECODE`` says: the first run, which is checked and not timed, compiles into a folder of its
own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from ..harness import Bench, Contender, Goal

CODE = """
import sys
import {module}
heavy = [m for m in ("torch", "jax", "scipy.sparse.linalg") if m in sys.modules]
print(",".join(heavy) or "light")
"""


def _importing(module: str, compiled: Any) -> Callable[[], str]:
    def run() -> str:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = compiled.name
        code = CODE.format(module=module)
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


def _setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    def check(answer: Any) -> None:
        assert answer == "light", f"importing brought {answer} along"

    compiled = tempfile.TemporaryDirectory()  # the contenders hold it, so that it is removed after them
    return [
        Contender("import cola_core", _importing("cola_core", compiled)),
        Contender("import numpy", _importing("numpy", compiled)),
    ], check


BENCHES = [
    Bench("import", "Starting up", _setup, Goal("above", 0.25, "import numpy"), rounds=11, children=True)
]

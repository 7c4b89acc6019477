"""Puts examples/cola-circulant into the package as `cola_core/plugins/_template`, at build time.

`cola-core plugins new` copies that example, and it must do so for an installed wheel too. There is one copy
in the repository, the tested one; sdists carry it under src/, so a wheel built from an sdist has it too.
An editable installation finds the example where it stands.
"""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = {"wheel": "cola_core/plugins/_template", "sdist": "src/cola_core/plugins/_template"}
LEFT_OUT = {"__pycache__", "build", "dist", ".pytest_cache", ".hypothesis", ".ruff_cache", ".mypy_cache"}


class Template(BuildHookInterface):
    """Adds the files of the example to what is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict) -> None:
        example = Path(self.root).parent.parent / "examples" / "cola-circulant"
        if version == "editable" or not example.is_dir():
            return
        for path in sorted(example.rglob("*")):
            inside = path.relative_to(example)
            if path.is_file() and not LEFT_OUT & {*inside.parts} and path.suffix != ".pyc":
                build_data["force_include"][str(path)] = f"{INSIDE[self.target_name]}/{inside.as_posix()}"

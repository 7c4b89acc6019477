"""Somebody else's plugin, as its users meet it: `python .ci/thirdparty.py SCRATCH_FOLDER`.

1. Builds the wheels of the core and of examples/cola-circulant, installs the wheel *files* into a new
environment (by path: an index could hold a stranger's `cola-core`), and runs the plugin's own tests there,
in a folder from which the repository cannot be imported, and the conformance kit on its command line.
2. Lets the installed command line make a new plugin, installs that beside the first, and runs its tests too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages" / "cola-core"
PLUGIN = ROOT / "examples" / "cola-circulant"

WHERE = """
import sys, sysconfig
from importlib import import_module
site = sysconfig.get_paths()["purelib"]
for name in sys.argv[1:]:
    origin = import_module(name).__file__
    assert origin.startswith(site), f"{name} comes from {origin}, not from {site}"
    print(f"{name}: {origin}")
"""


def run(*command: object, cwd: Path) -> None:
    """One command without the caller's import paths, shown before it runs; its failure is ours."""
    words = [str(word) for word in command]
    print("+", " ".join(words), flush=True)
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    done = subprocess.run(words, cwd=cwd, env=clean, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def build(source: Path, into: Path) -> Path:
    """The wheel of one source folder."""
    into.mkdir(parents=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", into, source, cwd=into)
    (wheel,) = into.glob("*.whl")
    return wheel


def run_tests(python: Path, source: Path, work: Path, options: list[str]) -> None:
    """A plugin's tests, from a copy that has nothing but the tests."""
    shutil.copytree(source / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -ra\nxfail_strict = true\n")
    run(python, "-m", "pytest", "tests", *options, cwd=work)


def main(argv: list[str]) -> int:
    scratch = Path(argv[0]).resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    core = build(CORE, scratch / "wheels" / "core")
    plugin = build(PLUGIN, scratch / "wheels" / "plugin")

    run(sys.executable, "-m", "venv", scratch / "venv", cwd=scratch)
    python = scratch / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    pins = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", pins, f"{core}[testing]", plugin, cwd=scratch)

    run(python, "-c", WHERE, "cola_core", "_cola_core_pytest", "cola_circulant", cwd=scratch)
    run_tests(python, PLUGIN, scratch / "circulant", argv[1:])
    run(python, "-m", "cola_core", "check-plugin", "circulant", cwd=scratch / "circulant")

    new = scratch / "new"
    new.mkdir()
    run(python, "-m", "cola_core", "plugins", "new", "sample", cwd=new)
    (made,) = [path.parent for path in new.glob("*/pyproject.toml")]
    run(python, "-m", "pip", "install", "--quiet", "-c", pins, made, cwd=scratch)
    run_tests(python, made, scratch / "sample", argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Somebody else's plugin, as its users meet it: wheels in a clean environment, without the repository.

The wheels of the core and of examples/cola-circulant are built and installed *by path* (an index could hold
a stranger's `cola-core`), and the plugin's own tests run from a folder from which the repository cannot be
imported. Then the installed command line makes a new plugin, which is built, installed beside the first and
tested in the same way.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "packages" / "cola-core"
PLUGIN = ROOT / "examples" / "cola-circulant"
PINS = ROOT / "constraints.txt"

pytestmark = pytest.mark.slow


def run(*command, cwd: Path) -> str:
    """One command without the caller's import paths; what it prints. A failure shows all of it."""
    words = [str(word) for word in command]
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COLA_PLUGINS", "COLA_DISABLE_PLUGINS"}
    clean = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, into: Path) -> Path:
    """The wheel of a source folder, built from a copy so that the source stays clean."""
    into.mkdir(exist_ok=True)
    copy = into / "source"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "dist", "*.egg-info"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", into, copy, cwd=into)
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    # the core's wheel takes the template from ../../examples, so it is built where it stands
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, CORE, cwd=folder)
    (core,) = folder.glob("*.whl")
    return core, build(PLUGIN, tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def python(wheels, tmp_path_factory):
    """The interpreter of a new environment with both wheels."""
    core, plugin = wheels
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", PINS, f"{core}[testing]", plugin, cwd=folder)
    return python


def run_tests(python: Path, source: Path, work: Path) -> None:
    """A plugin's tests, from a copy that has nothing but the tests."""
    shutil.copytree(source / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -ra\nxfail_strict = true\n")
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=work)
    assert " passed" in said, said


WHERE = """
import sysconfig
from importlib import import_module
site = sysconfig.get_paths()["purelib"]
for name in ("cola_core", "_cola_core_pytest", "cola_circulant"):
    origin = import_module(name).__file__
    assert origin.startswith(site), f"{name} comes from {origin}, not from {site}"
"""


def test_both_come_from_the_wheels(python, tmp_path):
    run(python, "-c", WHERE, cwd=tmp_path)


def test_the_wheel_of_the_plugin_is_complete(wheels):
    with zipfile.ZipFile(wheels[1]) as wheel:
        names = wheel.namelist()
        (entry_points,) = [wheel.read(n).decode() for n in names if n.endswith("entry_points.txt")]
        (metadata,) = [wheel.read(n).decode() for n in names if n.endswith("METADATA")]
    assert "cola_circulant/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert "solve.circulant-cg" in entry_points
    assert "Requires-Dist: cola-core>=0.1,<0.2" in metadata


def test_it_is_listed_and_explained(python, tmp_path):
    (listed,) = [
        plugin
        for plugin in json.loads(run(python, "-m", "cola_core", "plugins", "list", "--json", cwd=tmp_path))
        if plugin["name"] == "circulant"
    ]
    assert listed["distribution"] == "cola-circulant" and listed["state"] == "discovered"
    assert listed["provides"] == {"algorithms": ["solve.circulant-cg"], "operators": ["circulant"]}
    shown = run(python, "-m", "cola_core", "plugins", "show", "circulant", cwd=tmp_path)
    assert "circulant:solve/circulant" in shown and "active" in shown


def test_its_own_tests_pass(python, tmp_path):
    run_tests(python, PLUGIN, tmp_path)


def test_a_new_plugin_builds_and_passes_its_tests(python, tmp_path):
    run(python, "-m", "cola_core", "plugins", "new", "sample_matrix", cwd=tmp_path)
    made = tmp_path / "cola-sample-matrix"
    assert (made / "src" / "cola_sample_matrix" / "plugin.py").is_file()
    wheel = build(made, tmp_path / "wheel")
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    listed = run(python, "-m", "cola_core", "plugins", "list", cwd=tmp_path)
    assert "sample_matrix" in listed and "circulant" in listed
    run_tests(python, made, tmp_path / "run")

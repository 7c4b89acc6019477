"""What the documentation shows is true: its Python runs, its plans are the plans, its links lead somewhere.

Every ```python block of README.md, docs/*.md and packages/*/README.md is executed; the blocks of one file
share a namespace. A block whose first line is a comment with a file's name, ``# cola_reflection.py``, is
that file: it is written into a folder on ``sys.path`` beside the entry points of the page's ```toml blocks,
so that a plugin shown is a plugin installed. A ```text block with a plan must agree with what the page
printed, up to line numbers and estimates.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
PACKAGES = ["cola_core", "cola_gpu", "cola_gp", "cola_pde", "cola_emlp"]
OPTIONAL = ("torch", "jax")
MISSING = 77  # exit status of a page of which some blocks need a library that is not installed

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)\b")
PLAN = re.compile(r"^[│ ]*by \S+:", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

RUNNER = f"""
import ast, sys

page, blocks = sys.argv[1], eval(sys.stdin.read())
shared, missing = {{"__name__": "__main__"}}, []
for line, source in blocks:
    tree = ast.increment_lineno(ast.parse(source), line)
    try:
        exec(compile(tree, page, "exec"), shared)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {OPTIONAL}:
            raise
        missing.append(f"the block at line {{line}} needs {{error.name}}")
print("; ".join(missing), file=sys.stderr)
sys.exit({MISSING} if missing else 0)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is that of its fence."""

    language: str
    source: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the Python file that this block is, if it is one."""
        found = FILE.match(self.source)
        return found[1] if self.language == "python" and found else None


def blocks(text: str) -> list[Block]:
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


def install(found: list[Block], folder: Path) -> None:
    """Write the files that the page shows, and a distribution with the entry points of its TOML blocks."""
    for block in found:
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.source, encoding="utf-8")
    groups: dict[str, dict[str, str]] = {}
    for block in found:
        if block.language == "toml":
            for group, entries in (
                tomllib.loads(block.source).get("project", {}).get("entry-points", {}).items()
            ):
                groups.setdefault(group, {}).update(entries)
    info = folder / "page-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: page\nVersion: 0.1\n")
    lines = [f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in es.items()) for g, es in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


def run(text: str, folder: Path, page: str = "page") -> subprocess.CompletedProcess[str]:
    """Execute a page in a process of its own."""
    found = blocks(text)
    install(found, folder)
    code = [(b.line, b.source) for b in found if b.language == "python" and not b.file]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "default", "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-c", RUNNER, page],
        input=repr(code),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def plan(text: str) -> list[str]:
    """The lines of a plan that do not depend on where a rule stands in its file and on the estimates."""
    kept = []
    for line in text.splitlines():
        bare = line.lstrip("│├└─ ")
        if bare.startswith("by "):
            kept.append(bare.partition(")")[0])
        elif re.search(r"\[[\dx]+\]$", bare):
            kept.append(bare)
    return kept


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_page(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    done = run(text, tmp_path, str(page.relative_to(ROOT)))
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    printed = "\n".join(plan(done.stdout))
    for block in blocks(text):
        if block.language == "text" and PLAN.search(block.source):
            shown = plan(block.source)
            assert "\n".join(shown) in printed, f"{page.name}:{block.line} shows a plan that was not printed"


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_links(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    local = [
        link.partition("#")[0]
        for link in LINK.findall(text)
        if "://" not in link and not link.startswith("#")
    ]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_fence_names_its_language_or_is_a_listing():
    """A block of Python called anything but ``python`` would escape the test."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            assert block.language in ("python", "text", "toml", "console", ""), f"{page.name}:{block.line}"
            if block.language == "":
                assert not re.search(r"^(import|from \w+ import)\b", block.source, re.MULTILINE), (
                    f"{page.name}:{block.line}"
                )


def modules() -> list[str]:
    names = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        names += [package, *(m.name for m in pkgutil.walk_packages(module.__path__, package + "."))]
    return [n for n in names if not n.endswith("__main__")]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name):
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in (*OPTIONAL, "sklearn", "triton"):
            raise
        pytest.skip(f"{name} needs {error.name}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_there_are_examples():
    """The finder looks where the examples are."""
    import cola_core.linalg

    found = doctest.DocTestFinder().find(cola_core.linalg.solve, globs={})
    assert found and found[0].examples


# -- the tests of these tests --------------------------------------------------------------------------------
def test_a_wrong_block_is_noticed(tmp_path):
    done = run("# t\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", tmp_path, "wrong.md")
    assert done.returncode not in (0, MISSING)
    assert 'File "wrong.md", line 8' in done.stderr


def test_a_missing_library_is_reported_and_the_rest_runs(tmp_path):
    absent = "import sys\nsys.modules['torch'] = None\n"
    text = f"```python\n{absent}```\n\n```python\nimport torch\n```\n\n```python\nprint('on')\n```\n"
    done = run(text, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (MISSING, "on")
    assert "line 6" in done.stderr and "torch" in done.stderr


def test_a_file_of_a_page_can_be_imported(tmp_path):
    assert (
        run(
            "```python\n# shown.py\nx = 1\n```\n\n```python\nimport shown\n\nassert shown.x == 1\n```\n",
            tmp_path,
        ).returncode
        == 0
    )


@pytest.mark.parametrize("what", ["rules", "algorithms"])
def test_a_generated_page_is_what_the_command_prints(what):
    command = ["-m", "cola_core", what, "--plugin", "core", "--markdown"]
    printed = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout
    kept = (ROOT / "docs" / f"{what}.md").read_text(encoding="utf-8")
    page = f"docs/{what}.md"
    assert printed == kept, f"{page} is not up to date: python {' '.join(command)} > {page}"


def test_the_table_of_derivatives_is_what_the_grid_is_held_to():
    grid = ROOT / "packages" / "cola-core" / "tests" / "derivatives" / "grid.py"
    printed = subprocess.run(
        [sys.executable, str(grid), "--markdown"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout
    text = (ROOT / "docs" / "derivatives.md").read_text(encoding="utf-8")
    kept = text.partition("grid.py --markdown -->\n")[2].partition("<!-- end -->")[0]
    assert kept == printed, "docs/derivatives.md is not up to date: python .../derivatives/grid.py --markdown"

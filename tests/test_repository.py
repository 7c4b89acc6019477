"""What must hold of every committed file: no machine's paths, no package index by name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Put together from pieces, so that this file does not match itself.
HOSTS = ["pypi" + ".org", "python" + "hosted.org", "download.py" + "torch.org", "ana" + "conda.org"]
OPTIONS = ["--" + "index-url", "--" + "extra-index-url", "--" + "find-links", "--" + "trusted-host"]
FOLDERS = ["work", "home", "root", "opt", "tmp", "Users", "mnt"]
FORBIDDEN = {
    "a package index": re.compile("|".join(map(re.escape, HOSTS + OPTIONS))),
    # a folder at the root of a file system, not a piece of a longer path or of an address
    "a path of one machine": re.compile(rf"(?<![\w./:~*<>$}}-])/(?:{'|'.join(FOLDERS)})/\w"),
}


def committed() -> list[Path]:
    """The files of the repository, as git lists them; without git, all but what is built."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    built = re.compile(r"\.venv.*|\.tox|\.git|\..*_cache|build|dist|__pycache__|.*-report")
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    return [path for path in files if not any(map(built.fullmatch, path.relative_to(ROOT).parts))]


def lines() -> list[tuple[str, int, str]]:
    found = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or data
        found += [(str(path.relative_to(ROOT)), n, line) for n, line in enumerate(text.splitlines(), 1)]
    return found


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what):
    hits = [f"{name}:{n}: {line.strip()}" for name, n, line in lines() if FORBIDDEN[what].search(line)]
    assert hits == []


@pytest.mark.parametrize(
    "line, what",
    [
        ("see https://" + "pypi" + ".org/project/x", "a package index"),
        ("pip install --" + "index-url x", "a package index"),
        ('open("' + "/ho" + 'me/somebody/x")', "a path of one machine"),
        ("cd " + "/t" + "mp/x", "a path of one machine"),
    ],
)
def test_the_patterns_find(line, what):
    assert FORBIDDEN[what].search(line)


@pytest.mark.parametrize(
    "line", ["https://example.org/home/x", "src/work/y", "demo-report/tmp/z", "{tox_root}/opt/x"]
)
def test_the_patterns_leave_alone(line):
    assert not FORBIDDEN["a path of one machine"].search(line)


def test_the_pinned_torch_is_named_once():
    """One file decides which torch development uses."""
    version = re.compile(r"\btorch\s*==")
    named = {name for name, _, line in lines() if version.search(line) and not name.endswith((".md", ".py"))}
    assert named == {"constraints.txt"}

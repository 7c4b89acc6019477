"""The report says what happened, failures included. (The parts themselves are run by ``make demo``.)"""

import json
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import run as program


@pytest.fixture
def parts(monkeypatch):
    """Three made-up parts: one that works, one whose check fails, one that raises."""

    def good(section):
        section.text("words with <angle> brackets")
        section.plan("by <nobody>")
        section.table(["name", "value"], [["a", 1.5]])
        section.check("small", 1e-3, 1e-2)
        section.numbers["answer"] = 42

    def missed(section):
        section.check("too large", 2.0, 1.0)
        section.check("not a number", float("nan"), 1.0)

    def raising(section):
        section.check("before the fall", 0.0, 1.0)
        raise ValueError("it broke")

    for name, function in (("good", good), ("missed", missed), ("raising", raising)):
        module = types.ModuleType(f"sections.{name}")
        module.TITLE, module.ASKED, module.run = f"{name}: a part", "What?", function
        monkeypatch.setitem(sys.modules, f"sections.{name}", module)
    monkeypatch.setattr(program, "SECTIONS", ("good", "missed", "raising"))


def report(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    return page, json.loads((folder / "numbers.json").read_text(encoding="utf-8"))


def test_failures_are_shown_and_counted(parts, tmp_path, capsys):
    assert program.main(["--out", str(tmp_path)]) == 1
    page, numbers = report(tmp_path)
    assert "it broke" in page and "1 of 3" in page and "2 of 4" in page
    assert not numbers["ok"] and "ValueError: it broke" in numbers["sections"]["raising"]["error"]
    assert numbers["sections"]["missed"]["checks"][1] == {
        "name": "not a number",
        "value": None,
        "below": 1.0,
        "ok": False,
    }
    out = capsys.readouterr().out
    assert out.count("FAILED") == 2 and "too large: 2 is not below 1" in out


def test_success(parts, tmp_path):
    assert program.main(["--out", str(tmp_path), "--only", "good"]) == 0
    page, numbers = report(tmp_path)
    assert numbers["ok"] and numbers["schema"] == 1
    assert numbers["sections"]["good"]["numbers"] == {"answer": 42}
    assert "words with &lt;angle&gt; brackets" in page and "by &lt;nobody&gt;" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "index.html", "numbers.json"]


def test_a_command_that_fails_stops_its_part(tmp_path):
    from section import Section

    section = Section("x", "x", tmp_path)
    assert section.command("--version").startswith("cola-core ")
    with pytest.raises(RuntimeError, match="status 1, not 0: .*no such file"):
        section.command("info", "none.mtx")
    assert section.blocks[-1][1][0] == "cola-core info none.mtx"  # what it said is in the report all the same

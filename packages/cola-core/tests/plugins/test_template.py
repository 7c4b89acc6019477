"""`plugins new`: names are checked first, and the folder appears complete or not at all."""

import ast
import tomllib

import pytest

from cola_core.errors import FileFormatError, RegistrationError
from cola_core.plugins import template
from cola_core.plugins.template import new, template_folder


@pytest.fixture
def made(tmp_path):
    return new("fast_multipole", tmp_path / "plugin")


def files(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_it_is_the_example_with_other_names(made):
    def renamed(path):
        return str(path).replace("circulant", "fast_multipole").replace("Circulant", "FastMultipole")

    example = [p for p in files(template_folder()) if not {"__pycache__", ".pytest_cache"} & {*p.parts}]
    assert sorted(map(renamed, example)) == [str(p) for p in files(made)]
    for path in files(made):
        text = (made / path).read_text()
        assert "circulant" not in text.lower(), path
        if path.suffix == ".py":
            ast.parse(text)


def test_its_metadata(made):
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["name"] == "cola-fast-multipole"
    groups = project["entry-points"]
    assert groups["cola_core.plugins"] == {"fast_multipole": "cola_fast_multipole.plugin"}
    assert groups["cola_core.operators"] == {"fast_multipole": "cola_fast_multipole:FastMultipole"}
    assert "solve.fast_multipole-cg" in groups["cola_core.algorithms"]


def test_the_default_destination(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(new("fast_multipole")) == "cola-fast-multipole"
    assert [p.name for p in tmp_path.iterdir()] == ["cola-fast-multipole"]


@pytest.mark.parametrize(
    "name", ["", "Toeplitz", "2d", "a-b", "a b", "a__b", "_a", "a_", "class", "../x", "ü", "core"]
)
def test_names_that_cannot_be(tmp_path, name):
    with pytest.raises(RegistrationError, match="name"):
        new(name, tmp_path / "plugin")
    assert list(tmp_path.iterdir()) == []


def test_destinations_that_cannot_be(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there"):
        new("toeplitz", tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    with pytest.raises(FileNotFoundError, match="nowhere"):
        new("toeplitz", tmp_path / "nowhere" / "plugin")


def test_nothing_half_written(tmp_path, monkeypatch):
    def fail(folder, name):
        raise OSError("disk full")

    monkeypatch.setattr(template, "_rename", fail)
    with pytest.raises(OSError, match="disk full"):
        new("toeplitz", tmp_path / "plugin")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_template(tmp_path, monkeypatch):
    monkeypatch.setattr(template, "__file__", str(tmp_path / "template.py"))
    with pytest.raises(FileFormatError, match="template of new plugins is missing"):
        template_folder()

"""Where an algorithm's class begins: read off the head of the class, the same as what ``inspect`` finds."""

import importlib.util
import inspect
import sys

import pytest

from cola_core.dispatch import Provenance

SOURCE = '''"""A module.

class Told: not a class, but its head
"""

from dataclasses import dataclass


def noted(**words):
    return lambda cls: cls


class Plain:
    pass


@dataclass
@noted(a=1)
class Decorated(Plain):
    x: int = 0


@noted(
    a=1,
    b=2,
)
class LongDecorated(Plain):
    pass


# about the next
class Commented(Plain):
    class Plain:
        pass


class PlainAsWell:
    pass


class Told:
    pass


if True:

    class Indented(Plain):
        pass
'''
NAMES = [
    "Plain",
    "Decorated",
    "LongDecorated",
    "Commented",
    "Commented.Plain",
    "PlainAsWell",
    "Told",
    "Indented",
]


@pytest.fixture
def module(tmp_path, monkeypatch):
    path = tmp_path / "heads.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("heads", path)
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "heads", found)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_line_is_the_one_that_inspect_finds(module, name):
    cls = module
    for part in name.split("."):
        cls = getattr(cls, part)
    found = Provenance.of(cls, "mine", "1")
    assert (found.file, found.line) == (module.__file__, inspect.getsourcelines(cls)[1])


def test_a_class_without_a_file_has_no_line():
    made = type("Made", (), {"__module__": "nowhere"})
    assert Provenance.of(made, "mine", "1").line == 0

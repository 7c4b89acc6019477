"""Plugins on the command line: listed without being imported, loaded when asked for, broken ones in one
line."""

import json

import pytest

GOOD = """
from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl
@hookimpl
def cola_plugin_info(): return PluginInfo("good", PLUGIN_API, "a test plugin", "1.0")
@hookimpl
def cola_register(registrar, trigger): pass
"""
COMMAND = """
def register(subparsers):
    parser = subparsers.add_parser("good", help="says hello")
    parser.add_argument("--name", default="world")
    parser.set_defaults(run=run)
def run(args):
    from cola_core.errors import ShapeError
    if args.name == "nobody":
        raise ShapeError("nobody\\nis there")
    print("hello", args.name)
    return 4 if args.name == "four" else 0
"""
BROKEN = "raise ImportError('this plugin is broken')\n"


@pytest.fixture
def good(plugin):
    return plugin(
        "cola-good",
        {"good_plugin": GOOD, "good_cli": COMMAND},
        {"plugins": ["good = good_plugin"], "commands": ["good = good_cli:register"]},
    )


@pytest.fixture
def both(good, plugin):
    """One that works, and one whose every module fails to import."""
    plugin(
        "cola-broken",
        {"broken_plugin": BROKEN, "broken_cli": BROKEN},
        {
            "plugins": ["broken = broken_plugin"],
            "commands": ["broken = broken_cli:register"],
            "rules": ["always = broken_plugin"],
        },
    )
    return good


def test_a_command_runs(program, good):
    assert program("good", path=good).out == "hello world\n"
    assert program("--quiet", "good", "--name", "you", path=good).out == "hello you\n"
    assert program("good", "--name", "four", path=good).status == 4
    program("good", "--name", "nobody", path=good).one_line("error: nobody is there")
    assert "--name" in program("good", "--help", path=good).out


def test_help_and_list_import_no_plugin(program, both):
    for argv in (("--help",), ("plugins", "list"), ("plugins",)):
        r = program(*argv, path=both)
        assert r.status == 0 and r.err == "", (argv, r.err)
        assert "good" in r.out and "broken" in r.out and "cola-broken 1.0" in r.out
    found = {p["name"]: p for p in json.loads(program("plugins", "list", "--json", path=both).out)}
    assert found["broken"]["state"] == "discovered"
    assert found["good"]["provides"] == {"commands": ["good"]}


def test_another_plugin_being_broken_does_not_matter(program, both):
    r = program("good", path=both)
    assert (r.status, r.out, r.err) == (0, "hello world\n", "")


def test_a_broken_one_by_chance_is_one_warning(program, both, tmp_path):
    import numpy as np

    np.save(tmp_path / "a.npy", np.eye(3))
    r = program("trace", "a.npy", path=both)
    assert r.status == 0 and "trace     3\n" in r.out  # the answer is there
    assert len(r.lines) == 1 and "broken" in r.err and "COLA_DISABLE_PLUGINS=broken" in r.err
    assert program("trace", "a.npy", "--quiet", path=both).err == ""
    assert program("trace", "a.npy", path=both, COLA_DISABLE_PLUGINS="broken").err == ""


def test_a_broken_one_by_name_is_an_error(program, both):
    program("broken", path=both).one_line("broken", "this plugin is broken")
    program("plugins", "show", "broken", path=both).one_line("broken", "this plugin is broken")
    r = program("plugins", "errors", path=both)
    assert (
        r.status == 1
        and r.err == ""
        and "ImportError: this plugin is broken" in r.out
        and "Traceback" in r.out
    )
    found = json.loads(program("plugins", "errors", "--json", path=both).out)
    assert [f["name"] for f in found] == ["broken"]


def test_a_broken_command_of_a_working_plugin(program, plugin):
    site = plugin(
        "cola-half",
        {
            "half_plugin": GOOD.replace('"good"', '"half"'),
            "half_cli": "def register(subparsers): raise KeyError('x')\n",
        },
        {"plugins": ["half = half_plugin"], "commands": ["half = half_cli:register"]},
    )
    program("half", path=site).one_line("half", "cola-half 1.0", "KeyError")


def test_a_switched_off_plugin_has_no_command(program, good):
    r = program("good", path=good, COLA_DISABLE_PLUGINS="good")
    assert r.status == 2 and "hello" not in r.out
    assert "from cola-good" not in program("--help", path=good, COLA_DISABLE_PLUGINS="good").out


def test_two_plugins_with_one_command(program, good, plugin):
    plugin(
        "cola-other",
        {"other_cli": COMMAND},
        {"commands": ["good = other_cli:register"], "plugins": ["other = good_plugin"]},
    )
    program("good", path=good).one_line("cola-good", "cola-other", "good")


def test_show_and_overrides(program, good):
    r = program("plugins", "show", "good", path=good)
    assert r.status == 0 and "a test plugin" in r.out and "active" in r.out
    assert json.loads(program("plugins", "show", "good", "--json", path=good).out)["api"] == 1
    assert program("plugins", "overrides", path=good).status == 0
    assert "active" in program("plugins", "errors", path=good).out


def test_core_shows_itself(cola):
    r = cola("plugins", "show", "core")
    assert r.status == 0 and "core:solve/woodbury" in r.out and "sparselu" in r.out


def test_a_new_plugin(cola, tmp_path):
    r = cola("plugins", "new", "toeplitzish", tmp_path / "made")
    assert r.status == 0, r.err
    assert (tmp_path / "made" / "pyproject.toml").is_file()
    cola("plugins", "new", "toeplitzish", tmp_path / "made").one_line("exists")
    cola("plugins", "new", "not a name", tmp_path / "other").one_line("not a name")


def test_check_plugin(program, cola, good):
    cola("check-plugin", "nonesuch").one_line("nonesuch", "core")
    cola("check-plugin", "core", "--backend", "fortran").one_line("fortran")
    r = program("check-plugin", "good", "--json", path=good)
    found = json.loads(r.out)
    assert found["plugin"] == "good" and r.status == (0 if found["ok"] else 1)

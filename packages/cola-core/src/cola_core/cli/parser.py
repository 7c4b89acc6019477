"""The argument parser: global flags, built-in commands, and the one plugin command that is asked for."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import PluginLoadError, UnknownNameError

__all__ = ["build_parser", "plugin_commands"]

BUILTIN = (
    "info",
    "explain",
    "solve",
    "eigs",
    "logdet",
    "trace",
    "plugins",
    "check-plugin",
    "rules",
    "algorithms",
    "tune",
)
_FLAGS = ("--debug", "--quiet", "-q")

_DESCRIPTION = "Structured linear algebra: ask questions of matrices in files, see the plan, manage plugins."
_EXIT = "exit status: 0 done, 1 error, 2 wrong usage, 3 the result is flagged unreliable"


def build_parser(argv: list[str]) -> argparse.ArgumentParser:
    """A parser for this command line. Only the command it names is built, and only its plugin imported."""
    from .. import __version__

    asked = next((a for a in argv if a not in _FLAGS), "")
    top_help = not asked or asked in ("-h", "--help")
    parser = argparse.ArgumentParser(
        prog="cola-core",
        description=_DESCRIPTION,
        epilog=_epilog() if top_help else _EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cola-core {__version__}")
    _global_flags(parser, default=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_builtin(commands)
    if asked and not asked.startswith("-") and asked not in BUILTIN:
        _add_plugin_command(commands, asked)
    for sub in set(_leaves(parser)):
        _global_flags(sub, default=argparse.SUPPRESS)
    return parser


def _global_flags(parser: argparse.ArgumentParser, default: Any) -> None:
    """Accepted before and after the command's name; a leaf's silence must not undo what came before."""
    known = {option for action in parser._actions for option in action.option_strings}
    for flags, text in (
        (("--debug",), "show the traceback of an error"),
        (("--quiet", "-q"), "print the result only: no plan, no notes, no plugin warnings"),
    ):
        free = [f for f in flags if f not in known]
        if flags[0] in free:
            parser.add_argument(*free, action="store_true", default=default, help=text)


def _leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += _leaves(sub) or [sub]
    return found


def _add_builtin(commands: Any) -> None:
    from . import algorithms, check_plugin, eigs, explain, info, logdet, plugins, rules, solve, trace, tune

    for module in (info, explain, solve, eigs, logdet, trace, plugins, check_plugin, rules, algorithms, tune):
        module.add(commands)


def plugin_commands() -> dict[str, list[Any]]:
    """Command name -> entry points that provide it, without importing any; switched-off plugins left out."""
    from ..plugins.manager import MANAGER

    index = MANAGER.discover()
    found: dict[str, list[Any]] = {}
    for entry in index.group("commands"):
        owners = index.plugin_of(entry.distribution)
        if owners and all(
            MANAGER.records[o.name].state == "disabled" for o in owners if o.name in MANAGER.records
        ):
            continue
        found.setdefault(entry.name, []).append(entry)
    return found


def _epilog() -> str:
    found = {name: entries for name, entries in plugin_commands().items() if name not in BUILTIN}
    if not found:
        return _EXIT
    width = max(map(len, found))
    lines = [
        f"  {name:<{width}}  from {', '.join(f'{e.distribution} {e.version}' for e in found[name])}"
        for name in sorted(found)
    ]
    return "commands of plugins:\n" + "\n".join(lines) + "\n\n" + _EXIT


def _add_plugin_command(commands: Any, name: str) -> None:
    """Import and register one plugin's command; a name nobody provides is left to argparse's usage error."""
    from ..plugins.manager import MANAGER

    entries = plugin_commands().get(name, [])
    if not entries:
        return
    if len(entries) > 1:
        choices = " and ".join(f"{e.distribution} ({e.value})" for e in entries)
        raise UnknownNameError(
            f"two plugins provide the command {name!r}: {choices}. Uninstall or disable one."
        )
    (entry,) = entries
    for owner in MANAGER.discover().plugin_of(entry.distribution):
        MANAGER.load(owner.name, "command", explicit=True)
    try:
        entry.load()(commands)
    except Exception as error:
        raise PluginLoadError(
            f"the command {name!r} of plugin {entry.distribution} {entry.version} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if name not in commands.choices:
        raise PluginLoadError(
            f"{entry.value} of plugin {entry.distribution} {entry.version} did not add the command {name!r}."
        )

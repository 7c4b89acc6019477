"""Sound, but its advice fails."""

from common import info

from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("raising_choose")


@hookimpl
def cola_choose(question, args, candidates):
    raise ZeroDivisionError("no data yet")


def register_always(registrar):
    pass

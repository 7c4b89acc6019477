"""Says who it is, but not in the agreed way."""

from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return {"name": "not_info", "api": 1}

"""Fails when asked who it is."""

from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    raise OSError("libaccelerator.so.3: cannot open shared object file")

"""A hook with an argument that the core never gives."""

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl


@hookimpl
def cola_plugin_info():
    return PluginInfo("bad_hook", PLUGIN_API)


@hookimpl
def cola_register(registrar, trigger, weather):
    pass

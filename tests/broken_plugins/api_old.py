"""Written for a plugin API of the past."""

from cola_core.plugins import PluginInfo, hookimpl


@hookimpl
def cola_plugin_info():
    return PluginInfo("api_old", 0)


@hookimpl
def cola_register(registrar, trigger):
    raise AssertionError("the version is checked before anything is registered")

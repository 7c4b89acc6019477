"""Written for a plugin API of the future."""

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl


@hookimpl
def cola_plugin_info():
    return PluginInfo("api_new", PLUGIN_API + 1)


@hookimpl
def cola_register(registrar, trigger):
    raise AssertionError("the version is checked before anything is registered")

"""Calls itself something else than its entry point does."""

from cola_core.plugins import PLUGIN_API, PluginInfo, hookimpl


@hookimpl
def cola_plugin_info():
    return PluginInfo("right_name", PLUGIN_API)

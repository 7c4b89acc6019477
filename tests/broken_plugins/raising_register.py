"""Fails in the middle of registering."""

from common import good_rule, info

from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("raising_register")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)
    raise RuntimeError("out of memory on device 0")

"""Replaces a rule that does not exist."""

from common import Doubled, good_rule, info

from cola_core.linalg import solve
from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("replaces_nothing")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, (Doubled,), id="solve/doubled", replaces="core:solve/no-such-rule")
    def solve_doubled(A, b, *, alg):
        return b / 2

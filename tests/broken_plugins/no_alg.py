"""Its rule does not take the algorithm to pass on."""

from common import Doubled, good_rule, info

from cola_core.linalg import solve
from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("no_alg")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, (Doubled,), id="solve/doubled")
    def solve_doubled(A, b):
        return b / 2

"""Its rule dispatches on a type that a class alone does not decide."""

from common import good_rule, info

from cola_core.linalg import solve
from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("unfaithful")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, (list[int],), id="solve/list")
    def solve_list(A, b, *, alg):
        return b

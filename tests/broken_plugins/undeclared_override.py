"""Changes how the core's operators answer, without saying so."""

from common import good_rule, info

from cola_core.linalg import solve
from cola_core.ops import Kronecker
from cola_core.plugins import hookimpl


@hookimpl
def cola_plugin_info():
    return info("undeclared_override")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, (Kronecker,), id="solve/kronecker")
    def solve_kronecker(A, b, *, alg):
        return 0 * b

"""Two rules of its own for the same operator, with nothing to choose between them."""

from common import Doubled, good_rule, info

from cola_core.linalg import solve
from cola_core.operators import operator
from cola_core.plugins import hookimpl


@operator
class Mine(Doubled):
    pass


@hookimpl
def cola_plugin_info():
    return info("ambiguous")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, (Mine,), id="solve/half")
    def half(A, b, *, alg):
        return b / 2

    @registrar.rule(solve, (Mine,), id="solve/times-half")
    def times_half(A, b, *, alg):
        return 0.5 * b

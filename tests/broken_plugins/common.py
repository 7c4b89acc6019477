"""What the broken plugins share:
an operator of their own, and a good rule that must not survive the bad one."""

from typing import Any

from cola_core.operators import LinearOperator, operator


@operator
class Doubled(LinearOperator):
    """Twice the identity, in an expensive way."""

    ones: Any

    def _shape(self):
        return (self.ones.shape[0],) * 2

    def _matmat(self, X):
        return 2 * self.ones[:, None] * X

    def _rmatmat(self, X):
        return self._matmat(X)


def good_rule(registrar):
    from cola_core.linalg import trace

    @registrar.rule(trace, (Doubled,), id="trace/doubled")
    def trace_doubled(A, *, alg):
        return 2.0 * A.shape[0]


def info(name):
    from cola_core.plugins import PLUGIN_API, PluginInfo

    return PluginInfo(name, PLUGIN_API, version="1.0")

"""Its rule is annotated with a name that exists for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from common import good_rule, info

from cola_core.linalg import solve
from cola_core.plugins import hookimpl

if TYPE_CHECKING:
    from common import Doubled


@hookimpl
def cola_plugin_info():
    return info("bad_annotation")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)

    @registrar.rule(solve, id="solve/doubled")
    def solve_doubled(A: Doubled, b: Any, *, alg: Any) -> Any:
        return b / 2

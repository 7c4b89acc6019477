"""Names of the CoLA package that have no counterpart here, and what to write instead.

Each is an object that says so when it is used: a program that imports one gets as far as it would with an
empty function, and the error names the replacement. ``docs/migrating-from-cola-ml.md`` has the whole table.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["REPLACED", "Replaced", "callable_module"]


class Replaced:
    """A name of CoLA's; calling it raises NotImplementedError with the replacement."""

    def __init__(self, name: str, instead: str) -> None:
        self.__name__, self.instead = name, instead

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{self.__name__} of cola-ml is not part of cola_core: {self.instead}")

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise AttributeError(
            f"{self.__name__}.{attribute} of cola-ml is not part of cola_core: {self.instead}"
        )

    def __repr__(self) -> str:
        return f"<{self.__name__} of cola-ml; here: {self.instead}>"


REPLACED: dict[str, Replaced] = {
    name: Replaced(name, instead)
    for name, instead in {
        "lobpcg": "use eigh(A, k, which, alg=LOBPCG()), which works in A's own precision.",
        "iram": "use eig(A, k, which).",
        "hutchinson_diag_estimate": "use diag(A, k, Hutch(...), return_info=True).",
        "NystromPrecond": "use Nystrom(rank, shift=mu)(K + mu * I), or CG(P=Nystrom(rank)).",
        "NystromPrecondLazy": "use CG(P=Nystrom(rank)), which makes it of the operator solved with.",
        "AdaNysPrecond": "use Nystrom(), which doubles its rank until it suffices.",
        "parametric": "operators are not parametric classes; put conditions on parts into a rule's when=.",
        "export": "list names in __all__.",
        "import_every": "import names explicitly.",
        "import_from_all": "import names explicitly.",
        "utils": "its functions were internal; array functions are at A.xp and cola_core.backends.",
    }.items()
}


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"the decorator cola.{self.__name__.rpartition('.')[2]} of cola-ml is not part of cola_core: "
            "register a rule with cola_core.plugins.RuleBook and its .rule(question, types, id=...); see "
            "docs/plugins.md."
        )


def callable_module(name: str) -> None:
    """Let a module that carries the name of a CoLA decorator say so when it is used as one."""
    sys.modules[name].__class__ = _CallableModule

"""``RuleBook``: rules written down beside their functions, registered later by a plugin's registrar.

RULES = RuleBook()

@RULES.rule(solve, (Circulant,), id="solve/circulant", source="Davis 1979, ch. 3")
def solve_circulant(A, b, *, alg): ...

def cola_register(registrar, trigger): registrar.include(RULES)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["RuleBook"]

F = TypeVar("F", bound=Callable[..., Any])


class RuleBook:
    """A list of rule and algorithm declarations without effect."""

    def __init__(self) -> None:
        self.rules: list[tuple[Any, Any, Callable[..., Any], dict[str, Any]]] = []
        self.algorithms: list[tuple[Any, type, dict[str, Any]]] = []

    def rule(self, question: Any, types: Any = None, **metadata: Any) -> Callable[[F], F]:
        """Declare a rule; arguments as ``Registrar.rule``."""

        def note(fn: F) -> F:
            self.rules.append((question, types, fn, metadata))
            return fn

        return note

    def algorithm(self, question: Any, cls: type, **metadata: Any) -> type:
        """Declare an algorithm; arguments as ``Registrar.algorithm``."""
        self.algorithms.append((question, cls, metadata))
        return cls

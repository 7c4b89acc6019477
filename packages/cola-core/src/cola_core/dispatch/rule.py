"""``Rule``: one identity of linear algebra, with everything needed to choose it,
show it and hold it responsible."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import RegistrationError

__all__ = ["Provenance", "Rule", "check_signature", "more_specific"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a rule or algorithm comes from."""

    plugin: str
    version: str
    module: str
    file: str
    line: int

    @classmethod
    def of(cls, obj: Any, plugin: str, version: str) -> Provenance:
        """Look up the source position of a function or class."""
        target = inspect.unwrap(obj) if callable(obj) and not isinstance(obj, type) else obj
        module = getattr(target, "__module__", "?")
        code = getattr(target, "__code__", None)
        if code is not None:
            return cls(plugin, version, module, code.co_filename, code.co_firstlineno)
        try:
            file = inspect.getsourcefile(target) or "?"
            line = _line_of_class(target, file) or inspect.getsourcelines(target)[1]
        except (OSError, TypeError):
            file, line = "?", 0
        return cls(plugin, version, module, file, line)

    @property
    def where(self) -> str:
        """``package/file.py:line``, short enough for a plan and unique enough to find."""
        parts = self.file.replace("\\", "/").split("/")
        top = self.module.partition(".")[0]
        if top in parts:
            parts = parts[len(parts) - 1 - parts[::-1].index(top) :]
        else:
            parts = parts[-2:]
        return f"{'/'.join(parts)}:{self.line}"

    def __str__(self) -> str:
        return f"{self.plugin} {self.version} ({self.where})"


def _line_of_class(cls: Any, file: str) -> int:
    """Where a class begins, by its head: ``inspect`` parses the whole file, and for a hundred algorithms that
    was most of the first answer's time. 0 where the head does not tell: nested classes, several of one name,
    decorators of several lines."""
    name = getattr(cls, "__qualname__", "")
    lines = linecache.getlines(file, getattr(sys.modules.get(cls.__module__), "__dict__", None))
    head = f"class {name}"
    found = [i for i, text in enumerate(lines) if text.startswith((f"{head}(", f"{head}:"))]
    if not name.isidentifier() or len(found) != 1:
        return 0
    at = found[0]
    while at and lines[at - 1].startswith("@"):
        at -= 1
    if at and lines[at - 1].strip() and not lines[at - 1].startswith("#"):
        return 0
    return at + 1


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """``fn(A, *operands, alg=...)`` answers ``question`` where the types match and ``when`` holds.

    types: one class per operator of the question, then the algorithm's class. when: guard over static facts
    (shape, dtype, declared properties, structure) returning True or the reason why not. cost: estimate used
    between rules that are equally specific. A rule may return NotImplemented after looking at concrete
    values (accuracy lost); the next candidate is then tried. factor(A, alg=...): for rules of ``solve``, an
    object with ``solve(B)`` and maybe ``slogdet()`` that ``inv(A)`` keeps between products. source: the
    paper or book and equation. complexity: cost for the reader, "O(n log n)".
    """

    id: str
    question: str
    types: tuple[type, ...]
    fn: Callable[..., Any]
    provenance: Provenance
    when: Callable[..., Any] | None = None
    cost: Callable[..., Any] | None = None
    precedence: int = 0
    replaces: str | None = None
    source: str = ""
    kind: str = "exact"
    summary: str = ""
    complexity: str = ""
    factor: Callable[..., Any] | None = None

    def matches(self, types: tuple[type, ...]) -> bool:
        """Whether operands of these classes fit."""
        return len(types) == len(self.types) and all(map(issubclass, types, self.types))

    def refuses(self, args: tuple[Any, ...], alg: Any) -> str | None:
        """None where the guard holds, else the reason."""
        if self.when is None:
            return None
        try:
            verdict = self.when(*args, alg=alg)
        except Exception as error:
            error.add_note(f"while the guard of rule {self} was asked")
            raise
        if verdict is True:
            return None
        return verdict if isinstance(verdict, str) and verdict else f"guard {self.when.__name__} is false"

    def __str__(self) -> str:
        return f"{self.id} [{self.provenance}]"


def check_signature(rule_id: str, types: tuple[Any, ...]) -> None:
    """Every type must be a plain class that plum can cache on (faithful);
    otherwise dispatch slows for everyone."""
    from plum import Signature, is_faithful

    for t in types:
        if not isinstance(t, type):
            raise RegistrationError(
                f"rule {rule_id}: signature entry {t!r} is not a class. Use operator and algorithm "
                "classes only; put conditions on values or structure into when=."
            )
    try:
        faithful = all(is_faithful(t) for t in types)
        Signature(*types)
    except Exception as error:
        raise RegistrationError(f"rule {rule_id}: signature {types} cannot be resolved: {error}") from error
    if not faithful:
        raise RegistrationError(
            f"rule {rule_id}: signature {types} has a type whose instances cannot be told by their "
            "class alone; one such rule would switch off the dispatch cache of the whole question."
        )


def more_specific(a: tuple[type, ...], b: tuple[type, ...]) -> bool:
    """Whether signature a is strictly below b in plum's partial order."""
    from plum import Signature

    x, y = Signature(*a), Signature(*b)
    return x != y and x <= y

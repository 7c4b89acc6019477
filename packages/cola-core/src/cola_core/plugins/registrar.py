"""``Registrar``: a transaction. A plugin stages rules, algorithms and backends;
all are validated, then all commit."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from ..dispatch.question import question_of
from ..dispatch.registry import REGISTRY, AlgorithmEntry, Registry
from ..dispatch.rule import Provenance, Rule
from ..errors import RegistrationError
from .rulebook import RuleBook

__all__ = ["Registrar"]

F = TypeVar("F", bound=Callable[..., Any])


class Registrar:
    """Handed to ``cola_register``. Nothing takes effect before ``commit``, which the manager calls."""

    def __init__(self, plugin: str, version: str = "", registry: Registry = REGISTRY) -> None:
        self.plugin, self.version, self.registry = plugin, version, registry
        self._rules: list[Rule] = []
        self._algorithms: list[AlgorithmEntry] = []
        self._backends: list[tuple[str, tuple[str, ...], str]] = []

    def rule(
        self,
        question: Any,
        types: tuple[type, ...] | None = None,
        *,
        id: str,
        when: Callable[..., Any] | None = None,
        cost: Callable[..., Any] | None = None,
        precedence: int = 0,
        replaces: str | None = None,
        source: str = "",
        kind: str = "exact",
        summary: str = "",
        complexity: str = "",
        factor: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Decorator: ``fn(A, *operands, alg)`` answers ``question`` for operators of the given classes.

        types: one class per operator, optionally followed by an algorithm class; None reads them from the
        function's annotations. id: "question/name", prefixed with the plugin's name. The other arguments are
        ``dispatch.Rule``'s.
        """

        def stage(fn: F) -> F:
            asked = question_of(question)
            full = id if id.startswith(f"{self.plugin}:") else f"{self.plugin}:{id}"
            signature = _with_algorithm(
                full, types if types is not None else _annotated(full, fn, asked.operators), asked
            )
            _check_callable(full, fn)
            _check_metadata(full, when, cost, precedence, replaces)
            rule = Rule(
                id=full,
                question=asked.name,
                types=signature,
                fn=fn,
                provenance=Provenance.of(fn, self.plugin, self.version),
                when=when,
                cost=cost,
                precedence=precedence,
                replaces=replaces,
                source=source,
                kind=kind,
                summary=summary or (inspect.getdoc(fn) or "").partition("\n")[0],
                complexity=complexity,
                factor=factor,
            )
            self._rules.append(rule)
            return fn

        return stage

    def algorithm(self, question: Any, cls: type, *, name: str | None = None, automatic: bool = True) -> type:
        """Register an algorithm class for a question;
        ``automatic=False`` keeps it out of ``Auto()``'s choice."""
        from ..algorithms.base import Algorithm

        if not (isinstance(cls, type) and issubclass(cls, Algorithm)):
            raise RegistrationError(
                f"{cls!r} of plugin {self.plugin} is not a subclass of cola_core Algorithm."
            )
        entry = AlgorithmEntry(
            question_of(question).name,
            name or cls.__name__.lower(),
            cls,
            Provenance.of(cls, self.plugin, self.version),
            automatic,
        )
        self._algorithms.append(entry)
        return cls

    def backend(self, name: str, modules: tuple[str, ...], target: str) -> None:
        """Register an array library; see ``backends.register_backend``."""
        self._backends.append((name, modules, target))

    def include(self, book: RuleBook) -> None:
        """Stage everything written down in a ``RuleBook``."""
        for question, types, fn, metadata in book.rules:
            self.rule(question, types, **metadata)(fn)
        for question, cls, metadata in book.algorithms:
            self.algorithm(question, cls, **metadata)

    def commit(self) -> None:
        """Validate all, then register all. What this plugin has registered before, unchanged, is skipped."""
        from ..backends.registry import check_backend, register_backend

        known = {r.id: r for rules in self.registry.rules.values() for r in rules}
        rules = []
        for rule in self._rules:
            old = known.get(rule.id)
            if old is not None and old.fn is rule.fn and old.provenance.plugin == self.plugin:
                continue
            rules.append(rule)
        taken = {(e.question, e.name): e for entries in self.registry.algorithms.values() for e in entries}
        algorithms = []
        for entry in self._algorithms:
            old_entry = taken.get((entry.question, entry.name))
            if old_entry is not None and old_entry.cls is entry.cls:
                continue
            algorithms.append(entry)
        for name, modules, target in self._backends:
            check_backend(name, modules, target)
        try:
            self.registry.commit(rules, algorithms)
        except RegistrationError as error:
            if error.rival:
                self.registry.contest(rules, algorithms)
            raise
        for backend in self._backends:
            register_backend(*backend)

    def depends_on(self) -> list[str]:
        """Plugins whose rules are replaced here:
        they must be registered first, whoever was asked for first."""
        plugins = (r.replaces.partition(":")[0] for r in self._rules if r.replaces)
        return sorted({p for p in plugins if p not in (self.plugin, "core")})


def _with_algorithm(rule_id: str, types: Any, question: Any) -> tuple[type, ...]:
    from ..algorithms.base import Algorithm

    types = tuple(types)
    if len(types) == question.operators:
        return (*types, Algorithm)
    if len(types) == question.operators + 1:
        return types
    raise RegistrationError(
        f"rule {rule_id}: {question.name} has {question.operators} operator(s), the signature names "
        f"{len(types)} types."
    )


def _annotated(rule_id: str, fn: Callable[..., Any], operators: int) -> tuple[Any, ...]:
    """Operator classes from annotations, resolved now:
    an unresolvable one would otherwise surface at first use."""
    try:
        hints = typing.get_type_hints(fn)
        names = [p.name for p in inspect.signature(fn).parameters.values()][:operators]
        return tuple(hints[name] for name in names)
    except Exception as error:
        raise RegistrationError(
            f"rule {rule_id}: the annotations of {fn.__name__} cannot be resolved "
            f"({type(error).__name__}: {error}). "
            "Annotate the operators with classes importable at run time, or give the types explicitly."
        ) from error


def _check_metadata(rule_id: str, when: Any, cost: Any, precedence: Any, replaces: Any) -> None:
    for name, value in (("when", when), ("cost", cost)):
        if value is not None and not callable(value):
            raise RegistrationError(f"rule {rule_id}: {name}={value!r} is not a function.")
    if not isinstance(precedence, int):
        raise RegistrationError(f"rule {rule_id}: precedence={precedence!r} is not a whole number.")
    if replaces is not None and ":" not in replaces:
        raise RegistrationError(
            f"rule {rule_id}: replaces={replaces!r} is not a rule id such as 'core:solve/kronecker'."
        )


def _check_callable(rule_id: str, fn: Callable[..., Any]) -> None:
    parameters = inspect.signature(fn).parameters
    takes = any(p.kind is p.VAR_KEYWORD or p.name == "alg" for p in parameters.values())
    if not takes:
        raise RegistrationError(
            f"rule {rule_id}: {fn.__name__} must accept the keyword alg (the algorithm to pass on)."
        )

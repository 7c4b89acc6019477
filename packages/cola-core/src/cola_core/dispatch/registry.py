"""``Registry``: the committed rules and algorithms, and the lookup from classes to candidates.

Nothing enters but whole, validated registrations (``commit``); lookups are cached per tuple of classes and the cache
is dropped at every commit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import RegistrationError, UnknownNameError
from .rule import Provenance, Rule, check_signature, more_specific

__all__ = ["REGISTRY", "AlgorithmEntry", "Registry"]


@dataclass(frozen=True, slots=True)
class AlgorithmEntry:
    """An algorithm class that answers a question; ``automatic`` ones are candidates of ``Auto()``."""

    question: str
    name: str
    cls: type
    provenance: Provenance
    automatic: bool = True

    @property
    def id(self) -> str:
        return f"{self.provenance.plugin}:{self.question}/{self.name}"


class Registry:
    """Rules and algorithms of all active plugins."""

    def __init__(self) -> None:
        self.rules: dict[str, list[Rule]] = {}
        self.algorithms: dict[str, list[AlgorithmEntry]] = {}
        self._tiers: dict[tuple[Any, ...], tuple[tuple[Rule, ...], ...]] = {}
        self.generation = 0  # counts commits, so that caches of choices know when they are stale
        self._lock = threading.RLock()

    def rule(self, rule_id: str) -> Rule:
        """The rule with this id."""
        for rules in self.rules.values():
            for rule in rules:
                if rule.id == rule_id:
                    return rule
        raise UnknownNameError(f"no rule {rule_id!r}; `cola-core rules` lists them")

    def commit(self, rules: Sequence[Rule], algorithms: Sequence[AlgorithmEntry]) -> None:
        """Validate everything, then add everything; on any error nothing changes."""
        with self._lock:
            staged = {question: list(found) for question, found in self.rules.items()}
            for rule in rules:
                self._validate(rule, staged.setdefault(rule.question, []))
                kept = [r for r in staged[rule.question] if r.id != rule.replaces]
                staged[rule.question] = [*kept, rule]
            entries = {question: list(found) for question, found in self.algorithms.items()}
            for entry in algorithms:
                known = entries.setdefault(entry.question, [])
                for other in known:
                    if other.name == entry.name:
                        raise RegistrationError(
                            f"algorithm name {entry.question}.{entry.name} of plugin {entry.provenance} is already "
                            f"taken by {other.provenance}. Choose another name."
                        )
                if not callable(getattr(entry.cls, entry.question, None)):
                    raise RegistrationError(
                        f"algorithm {entry.cls.__name__} of plugin {entry.provenance.plugin} has no method "
                        f"{entry.question}(A, ...) to answer {entry.question!r} with."
                    )
                known.append(entry)
            self.rules, self.algorithms = staged, entries
            self._tiers, self.generation = {}, self.generation + 1

    def state(self) -> tuple[Any, ...]:
        """What ``restore`` takes back: the committed rules and algorithms."""
        return self.rules, self.algorithms

    def restore(self, state: tuple[Any, ...] = ({}, {})) -> None:
        """Go back to an earlier ``state`` (default: nothing registered)."""
        with self._lock:
            self.rules, self.algorithms = (dict(part) for part in state)
            self._tiers, self.generation = {}, self.generation + 1

    def _validate(self, rule: Rule, known: list[Rule]) -> None:
        check_signature(rule.id, rule.types)
        if rule.replaces is not None and all(r.id != rule.replaces for r in known):
            raise RegistrationError(f"rule {rule} replaces {rule.replaces!r}, which is not registered.")
        for other in known:
            if other.id == rule.replaces:
                continue
            if other.id == rule.id:
                raise RegistrationError(f"rule id {rule.id!r} is registered twice: {rule} and {other}.")
            same = other.types == rule.types and other.precedence == rule.precedence
            if same and other.when is None and rule.when is None:
                raise RegistrationError(
                    f"ambiguous rules: {rule} and {other} answer {rule.question} for the same types "
                    f"{tuple(t.__name__ for t in rule.types)} without a guard. Give one a guard (when=), a "
                    "precedence=, or say replaces= explicitly."
                )
        top = {t.__module__.partition(".")[0] for t in rule.types}
        mine = rule.provenance.module.partition(".")[0]
        foreign = mine not in top and rule.provenance.plugin != "core"
        if foreign and rule.replaces is None and rule.precedence <= 0:
            raise RegistrationError(
                f"rule {rule} changes how other packages' operators answer {rule.question} "
                f"({', '.join(t.__name__ for t in rule.types)}). Say so: replaces='rule id' or precedence=1."
            )

    def tiers(self, question: str, types: tuple[type, ...]) -> tuple[tuple[Rule, ...], ...]:
        """Candidate rules for operands of these classes, most specific first; rules of one tier are incomparable."""
        key = (question, types)
        try:
            return self._tiers[key]
        except KeyError:
            pass
        remaining = [r for r in self.rules.get(question, ()) if r.matches(types)]
        tiers: list[tuple[Rule, ...]] = []
        while remaining:
            top = [
                r for r in remaining if not any(more_specific(o.types, r.types) for o in remaining if o is not r)
            ]
            tiers.append(tuple(sorted(top, key=lambda r: (-r.precedence, r.id))))
            remaining = [r for r in remaining if r not in top]
        found = tuple(tiers)
        self._tiers[key] = found
        return found

    def algorithm(self, question: str, name: str) -> AlgorithmEntry | None:
        """The registered algorithm of this name, if any."""
        for entry in self.algorithms.get(question, ()):
            if entry.name == name:
                return entry
        return None

    def overrides(self) -> list[Rule]:
        """Rules of plugins that change how other packages' operators behave."""
        out = []
        for rules in self.rules.values():
            for rule in rules:
                mine = rule.provenance.module.partition(".")[0]
                if rule.provenance.plugin != "core" and all(
                    t.__module__.partition(".")[0] != mine for t in rule.types
                ):
                    out.append(rule)
        return out


REGISTRY = Registry()

"""``Registry``: the committed rules and algorithms, and the lookup from classes to candidates.

Nothing enters but whole, validated registrations (``commit``); lookups are cached per tuple of classes and
the cache is dropped at every commit. Where two plugins contradict each other (a tie that nothing settles,
one name for two algorithms, two replacements of one rule) neither wins by having come first: both are
withdrawn.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import RegistrationError, UnknownNameError
from .question import QUESTIONS
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
        self.replaced: dict[
            str, tuple[Rule, Rule]
        ] = {}  # id -> (the rule that gave way, the one in its place)
        self._contested: tuple[list[Rule], list[AlgorithmEntry]] = ([], [])
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

    # -- changes ---------------------------------------------------------------------------------------------
    def commit(self, rules: Sequence[Rule], algorithms: Sequence[AlgorithmEntry]) -> None:
        """Validate everything, then add everything; on any error nothing changes.

        Raises RegistrationError; its ``rival`` names another plugin whose rules or
        algorithms contradict these.
        """
        with self._lock:
            staged = {question: list(found) for question, found in self.rules.items()}
            replaced = dict(self.replaced)
            for rule in rules:
                known = staged.setdefault(rule.question, [])
                self._validate(rule, known, replaced)
                if rule.replaces is not None:
                    old = next(r for r in known if r.id == rule.replaces)
                    known.remove(old)
                    if rule.precedence < old.precedence:  # in its place means with its standing
                        rule = replace(rule, precedence=old.precedence)
                    replaced[old.id] = (old, rule)
                known.append(rule)
            entries = {question: list(found) for question, found in self.algorithms.items()}
            for entry in algorithms:
                self._validate_algorithm(entry, entries.setdefault(entry.question, []))
                entries[entry.question].append(entry)
            self._set(staged, entries, replaced)

    def contest(self, rules: Sequence[Rule], algorithms: Sequence[AlgorithmEntry]) -> None:
        """Remember registrations that were refused for a contradiction,
        so that a third party meets it too."""
        with self._lock:
            self._contested[0].extend(rules)
            self._contested[1].extend(algorithms)

    def withdraw(self, plugin: str) -> None:
        """Take back all that a plugin has registered; rules that it replaced return. It stays contested."""
        with self._lock:
            self.contest(
                [r for found in self.rules.values() for r in found if r.provenance.plugin == plugin],
                [e for found in self.algorithms.values() for e in found if e.provenance.plugin == plugin],
            )
            rules = {
                q: [r for r in found if r.provenance.plugin != plugin] for q, found in self.rules.items()
            }
            replaced = {}
            for name, (old, new) in self.replaced.items():
                if new.provenance.plugin == plugin:
                    rules[old.question].append(old)
                else:
                    replaced[name] = (old, new)
            entries = {
                q: [e for e in found if e.provenance.plugin != plugin] for q, found in self.algorithms.items()
            }
            self._set(rules, entries, replaced)

    def state(self) -> tuple[Any, ...]:
        """What ``restore`` takes back."""
        return self.rules, self.algorithms, self.replaced, self._contested

    def restore(self, state: tuple[Any, ...] | None = None) -> None:
        """Go back to an earlier ``state`` (default: nothing registered)."""
        with self._lock:
            rules, algorithms, replaced, self._contested = state or ({}, {}, {}, ([], []))
            self._set(rules, algorithms, replaced)

    def _set(self, rules: Any, algorithms: Any, replaced: Any) -> None:
        self.rules, self.algorithms, self.replaced = rules, algorithms, replaced
        self._tiers, self.generation = {}, self.generation + 1

    # -- validation ------------------------------------------------------------------------------------------
    def _validate(self, rule: Rule, known: list[Rule], replaced: dict[str, tuple[Rule, Rule]]) -> None:
        check_signature(rule.id, rule.types)
        mine = rule.provenance.plugin
        if rule.replaces is not None and all(r.id != rule.replaces for r in known):
            if rule.replaces in replaced:
                other = replaced[rule.replaces][1]
                raise RegistrationError(
                    f"rules {rule} and {other} both replace {rule.replaces}. Disable one plugin, or "
                    "give one rule precedence= instead.",
                    rival=_rival(mine, other),
                )
            raise RegistrationError(f"rule {rule} replaces {rule.replaces!r}, which is not registered.")
        for other in (*known, *(r for r in self._contested[0] if r.question == rule.question)):
            if other.id == rule.replaces:
                continue
            if other.id == rule.id:
                raise RegistrationError(f"rule id {rule.id!r} is registered twice: {rule} and {other}.")
            if rule.replaces is not None and other.replaces == rule.replaces:
                raise RegistrationError(
                    f"rules {rule} and {other} both replace {rule.replaces}. Disable one plugin, or "
                    "give one rule precedence= instead.",
                    rival=_rival(mine, other),
                )
            same = other.types == rule.types and other.precedence == rule.precedence
            if same and other.when is None and rule.when is None:
                raise RegistrationError(
                    f"ambiguous rules: {rule} and {other} answer {rule.question} for the same types "
                    f"{tuple(t.__name__ for t in rule.types)} without a guard. Give one a guard (when=), a "
                    "precedence=, or say replaces= explicitly.",
                    rival=_rival(mine, other),
                )
        top = {t.__module__.partition(".")[0] for t in rule.types}
        top |= {QUESTIONS[rule.question].home} if rule.question in QUESTIONS else set()
        foreign = rule.provenance.module.partition(".")[0] not in top and mine != "core"
        if foreign and rule.replaces is None and rule.precedence <= 0:
            raise RegistrationError(
                f"rule {rule} changes how other packages' operators answer {rule.question} "
                f"({', '.join(t.__name__ for t in rule.types)}). Say so: replaces='rule id' or precedence=1."
            )

    def _validate_algorithm(self, entry: AlgorithmEntry, known: list[AlgorithmEntry]) -> None:
        for other in (*known, *(e for e in self._contested[1] if e.question == entry.question)):
            if other.name == entry.name:
                raise RegistrationError(
                    f"algorithm name {entry.question}.{entry.name} of plugin {entry.provenance} is already "
                    f"taken by {other.provenance}. Choose another name.",
                    rival=_rival(entry.provenance.plugin, other),
                )
        if not callable(getattr(entry.cls, entry.question, None)):
            raise RegistrationError(
                f"algorithm {entry.cls.__name__} of plugin {entry.provenance.plugin} has no method "
                f"{entry.question}(A, ...) to answer {entry.question!r} with."
            )

    def tiers(self, question: str, types: tuple[type, ...]) -> tuple[tuple[Rule, ...], ...]:
        """Candidate rules for operands of these classes, most specific first;
        rules of one tier are incomparable."""
        key = (question, types)
        try:
            return self._tiers[key]
        except KeyError:
            pass
        remaining = [r for r in self.rules.get(question, ()) if r.matches(types)]
        tiers: list[tuple[Rule, ...]] = []
        while remaining:
            top = [
                r
                for r in remaining
                if not any(more_specific(o.types, r.types) for o in remaining if o is not r)
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


def _rival(mine: str, other: Rule | AlgorithmEntry) -> str:
    """The other plugin of a contradiction; the core is right by definition, and so is no part of one."""
    theirs = other.provenance.plugin
    return "" if theirs in (mine, "core") else theirs


REGISTRY = Registry()

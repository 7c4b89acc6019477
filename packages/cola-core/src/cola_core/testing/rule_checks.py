"""Checks of rules: what they say of themselves, when they step in,
and that their answer is the general one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ..algorithms import Auto
from ..dispatch.abstract import abstract
from ..dispatch.registry import REGISTRY
from ..dispatch.rule import Rule, check_signature, more_specific
from ..errors import RegistrationError, UnknownNameError
from ..operators import LinearOperator, no_dispatch
from .capabilities import only
from .case import Case
from .compare import condition, expect
from .derivatives import FIRST, SECOND, Derivatives, demand
from .operator_checks.common import make
from .operator_checks.questions import _ask, allowed, compare
from .probes import PROBES, Probe
from .registry import check
from .smooth import smooth_named, smooth_problem
from .trees import leaves

__all__ = ["ambiguities", "rule_cases", "rule_named"]

# a factorisation only comes near the determinant zero; a rule that knows the rank gives it exactly
SINGULAR = replace(
    PROBES["slogdet"],
    name="slogdet-singular",
    dense=lambda M, operands: [np.zeros(M.shape[:-2]), np.full(M.shape[:-2], -np.inf)],
    suits=lambda A, M: M.shape[-1] == M.shape[-2] and condition(M) > 1e12,
)
RULE_PROBES = {**PROBES, SINGULAR.name: SINGULAR}


def rule_named(case: Any) -> Rule:
    """The rule of a case: registered, or given as the case's subject."""
    from ..plugins.manager import MANAGER

    MANAGER.ensure(case.sample())
    if isinstance(case.subject, Rule):
        return case.subject
    try:
        return REGISTRY.rule(case.rule)
    except UnknownNameError:
        plugin = case.rule.partition(":")[0]
        MANAGER.load(plugin, "name", explicit=True)
        return REGISTRY.rule(case.rule)


def probes_for(
    rule: Rule, A: Any, M: Any, backend: Any, dtype: str, seed: int
) -> list[tuple[Probe, tuple[Any, ...]]]:
    """The ways of asking the rule's question on which its types and guard hold."""
    found = []
    for probe in RULE_PROBES.values():
        if probe.question.name != rule.question or not probe.suits(A, M):
            continue
        operands = probe.operands(A, M, backend, dtype, seed)
        if rule.matches((type(A), Auto)) and rule.refuses((A, *operands), Auto()) is None:
            found.append((probe, operands))
    return found


def _wide(M: Any) -> Any:
    return M.astype(np.complex128 if M.dtype.kind == "c" else np.float64)


@check("rule.signature", "rule", dtypes="real")
def check_rule_signature(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The signature is made of plain classes that dispatch can cache on,
    one per operator and the algorithm's."""
    rule = rule_named(case)
    try:
        check_signature(rule.id, rule.types)
    except RegistrationError as error:
        expect(False, str(error))
    from ..algorithms import Algorithm

    expect(
        all(issubclass(t, LinearOperator) for t in rule.types[:-1]),
        f"{rule.id}: {rule.types} are not operator classes",
    )
    expect(
        issubclass(rule.types[-1], Algorithm),
        f"{rule.id}: the last type {rule.types[-1]} is not an algorithm class",
    )


@check("rule.identity", "rule", dtypes="real")
def check_rule_identity(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Id, provenance and source are complete: who answers, from which file and line, after which equation."""
    rule = rule_named(case)
    p = rule.provenance
    head, _, tail = rule.id.partition(":")
    expect(head and "/" in tail, f"id {rule.id!r} is not 'plugin:question/name'")
    expect(head == p.plugin, f"id {rule.id!r} does not start with its plugin {p.plugin!r}")
    expect(bool(p.version), f"{rule.id}: no version of the plugin")
    expect(p.file not in ("", "?") and p.line > 0, f"{rule.id}: no file and line ({p.file}:{p.line})")
    expect(bool(rule.source.strip()), f"{rule.id}: no source= (paper and equation, or 'definition')")
    expect(rule.kind in ("exact", "iterative", "stochastic"), f"{rule.id}: kind {rule.kind!r}")


@check("rule.guard", "rule", dtypes="real")
def check_rule_guard(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The guard reads static facts only:
    the same verdict on shapes alone, nothing changed, in well under 10 ms."""
    rule = rule_named(case)
    A, M = make(case, backend, dtype, seed)
    if rule.when is None:
        return
    asked = [p for p in RULE_PROBES.values() if p.question.name == rule.question and p.suits(A, _wide(M))]
    before = [np.array(backend.to_numpy(x), copy=True) for x in leaves(A)]
    for probe in asked:
        operands = probe.operands(A, M, backend, dtype, seed)
        verdict = rule.when(A, *operands, alg=Auto())
        expect(verdict is True or isinstance(verdict, (str, bool)), f"{rule.id}: the guard gave {verdict!r}")
        try:
            known: dict[int, Any] = {}  # operands may share arrays with A
            shapes = [abstract(x, known) for x in (A, *operands)]
            shaped = rule.when(*shapes, alg=Auto())
        except Exception as error:  # noqa: BLE001 - whatever it is, the guard looked at a value
            expect(False, f"{rule.id}: the guard fails on shapes alone ({type(error).__name__}: {error})")
        expect(
            (shaped is True) == (verdict is True),
            f"{rule.id}: the guard says {verdict!r}, on shapes alone {shaped!r}",
        )
        took = []
        for _ in range(5):
            start = time.perf_counter()
            rule.when(A, *operands, alg=Auto())
            took.append(time.perf_counter() - start)
        expect(min(took) < 1e-2, f"{rule.id}: the guard takes {min(took) * 1e3:.1f} ms")
    after = [backend.to_numpy(x) for x in leaves(A)]
    expect(
        all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)),
        f"{rule.id}: the guard changed the operator",
    )


@check("rule.answer", "rule", dtypes="pair")
def check_rule_answer(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The rule steps in, and its answer equals the dense one and the one without structural rules."""
    rule = rule_named(case)
    A, M = make(case, backend, dtype, seed)
    wide = _wide(M)
    asked = probes_for(rule, A, wide, backend, dtype, seed)
    if not asked and "complex" in dtype:
        return  # the property it needs may hold for real entries only
    expect(
        bool(asked), f"{rule.id} does not step in for {A!r}: {_refusals(rule, A, M, backend, dtype, seed)}"
    )
    answered = 0
    for probe, operands in asked:
        answer = rule.fn(A, *operands, alg=Auto())
        if answer is NotImplemented:
            continue
        answered += 1
        tol = allowed(case, probe, dtype, wide)
        got, want = probe.arrays(A, wide, answer, operands), probe.dense(wide, operands)
        compare(f"{rule.id} ({probe.name}) against the dense answer", probe, got, want, tol, wide)
        hidden = no_dispatch(A)
        if case.capabilities.fallback.is_open and probe is not SINGULAR:
            other = probe.arrays(hidden, wide, _ask(probe, hidden, operands), operands)
            compare(f"{rule.id} ({probe.name}) against the fallback", probe, got, other, 2 * tol, wide, want)
    expect(answered > 0, f"{rule.id} steps in and then always answers NotImplemented")


@check("rule.grad", "rule", "capability", capability="grad", backends=("jax", "torch"), dtypes="double-pair")
def check_rule_grad(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """First derivatives of the rule's answer, reverse and forward, equal differences of the dense answer."""
    _differentiated(case, backend, dtype, seed, FIRST)


@check(
    "rule.grad-second",
    "rule",
    "capability",
    capability="grad2",
    backends=("jax", "torch"),
    dtypes="double-pair",
)
def check_rule_grad_second(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Second derivatives of the rule's answer, reverse and forward over reverse, equal differences."""
    _differentiated(case, backend, dtype, seed, SECOND)


def _differentiated(case: Any, backend: Any, dtype: str, seed: int, modes: tuple[str, ...]) -> None:
    rule = rule_named(case)
    A, M = make(case, backend, dtype, seed)

    def answer(A: Any, operands: tuple[Any, ...]) -> Any:
        return rule.fn(A, *operands, alg=Auto())

    for probe, operands in probes_for(rule, A, _wide(M), backend, dtype, seed):
        if answer(A, operands) is NotImplemented:
            continue
        for smooth in smooth_named(probe.name):
            found = smooth_problem(smooth, case.build_for(dtype), backend, dtype, seed, ask=answer)
            if found is not None:
                f = Derivatives(
                    **found, rtol=1e-6 * case.tolerance, jit=True, what=f"{rule.id} ({smooth.name})"
                )
                demand(f, modes)


def _refusals(rule: Rule, A: Any, M: Any, backend: Any, dtype: str, seed: int) -> str:
    if not rule.matches((type(A), Auto)):
        return f"it is for {', '.join(t.__name__ for t in rule.types)}"
    reasons = {
        str(rule.refuses((A, *p.operands(A, M, backend, dtype, seed)), Auto()))
        for p in RULE_PROBES.values()
        if p.question.name == rule.question and p.suits(A, _wide(M))
    }
    return "; ".join(sorted(reasons)) or f"the kit has no way to ask {rule.question} of it"


@check("rule.cost", "rule", dtypes="real")
def check_rule_cost(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A cost estimate, where there is one, is finite, not negative, and made from shapes alone."""
    rule = rule_named(case)
    if rule.cost is None:
        return
    A, M = make(case, backend, dtype, seed)
    for _, operands in probes_for(rule, A, _wide(M), backend, dtype, seed):
        for args in ((A, *operands), (abstract(A), *map(abstract, operands))):
            cost = rule.cost(*args, alg=Auto())
            for name in ("flops", "bytes", "memory", "matvecs", "calls", "seconds"):
                value = getattr(cost, name)
                expect(math.isfinite(value) and value >= 0, f"{rule.id}: cost.{name} is {value}")


@check("rule.unambiguous", "rule", dtypes="real")
def check_rule_unambiguous(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """For no registered operator class does the rule tie with another that nothing could settle."""
    rule = rule_named(case)
    found = [
        pair for pair in ambiguities(REGISTRY, [rule], rule.question) if rule.id in (pair[0].id, pair[1].id)
    ]
    if found:
        a, b, cls = found[0]
        expect(False, f"{a} and {b} tie for {cls.__name__}: give one a precedence, a guard, or both a cost")


def ambiguities(
    registry: Any, extra: Iterable[Rule] = (), question: str | None = None
) -> list[tuple[Rule, Rule, type]]:
    """Pairs of rules that apply equally well to some registered class:
    incomparable, unguarded, equal precedence, no costs.

    Every class that a rule names is tried, and every subclass of those that exists now. Of all questions, or
    of one.
    """
    out = []
    questions: dict[str, list[Rule]] = {q: list(rules) for q, rules in registry.rules.items()}
    for rule in extra:
        known = questions.setdefault(rule.question, [])
        if all(r.id != rule.id for r in known):
            known.append(rule)
    classes = _classes({t for rules in questions.values() for r in rules for t in r.types[:-1]})
    for rules in [rules for name, rules in questions.items() if question in (None, name)]:
        algorithms = {r.types[-1] for r in rules} | {Auto}
        below = cache(more_specific)
        for cls in classes:
            for alg in algorithms:
                fit = [r for r in rules if r.matches((cls, alg))]
                if len(fit) < 2:
                    continue
                top = [r for r in fit if not any(below(o.types, r.types) for o in fit if o is not r)]
                for i, a in enumerate(top):
                    for b in top[i + 1 :]:
                        free = a.when is None and b.when is None
                        priced = a.cost is not None and b.cost is not None
                        if free and not priced and a.precedence == b.precedence:
                            out.append((a, b, cls))
    return out


def _classes(roots: set[type]) -> list[type]:
    found: set[type] = set()
    stack = list(roots)
    while stack:
        cls = stack.pop()
        if cls not in found:
            found.add(cls)
            stack += cls.__subclasses__()
    return sorted(found, key=lambda c: (c.__module__, c.__qualname__))


def rule_cases(plugin: str, cases: Iterable[Case], skip: Iterable[str] = ()) -> tuple[list[Case], list[Rule]]:
    """One case per registered rule of a plugin, on the first operator case where it steps in;
    and the rules left over."""
    from ..backends import get_backend
    from ..plugins.manager import MANAGER
    from .precision import precision
    from .run import installed

    MANAGER.load(plugin, "always", explicit=True)
    operators = [
        c for c in cases if c.kind == "operator" and any(installed(b) for b in c.capabilities.backends.names)
    ]
    made = cache(lambda i, backend, dtype: make(operators[i], backend, dtype, operators[i].seed))
    seen = set(skip)
    out: list[Case] = []
    left: list[Rule] = []
    for rules in REGISTRY.rules.values():
        for rule in rules:
            if rule.provenance.plugin != plugin or rule.id in seen:
                continue
            for i, case in enumerate(operators):
                name = next(b for b in case.capabilities.backends.names if installed(b))
                dtype, be = case.capabilities.all_dtypes[0], get_backend(name)
                with precision(name, dtype):
                    A, M = made(i, be, dtype)
                    fits = rule.matches((type(A), Auto)) and bool(
                        probes_for(rule, A, _wide(M), be, dtype, case.seed)
                    )
                if fits:
                    caps = case.capabilities
                    if "numpy" in caps.backends.names and len(caps.backends.names) > 1 and plugin == "core":
                        # products and questions run on every backend in the operator's own checks
                        caps = replace(
                            caps, backends=only("numpy", reason="the operator's checks cover the others")
                        )
                    out.append(
                        case.replace(
                            name=rule.id, kind="rule", rule=rule.id, capabilities=caps, expected_failures={}
                        )
                    )
                    break
            else:
                left.append(rule)
    return out, left

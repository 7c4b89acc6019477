"""From a question on concrete operands to the rule or algorithm that answers it.

Order: an explicit algorithm is carried to the leaves by structural rules; then type, guards, specificity,
precedence, cost; a tie that none of these settles is an error naming both sides. If no rule applies, an
explicit algorithm runs, and ``Auto`` takes the cheapest applicable registered one. That choice rests on
static facts alone, so it is remembered for operands with the same facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends import backend_of_type
from ..backends.base import dtype_name
from ..errors import AmbiguousRuleError, NoRuleError, UnknownNameError
from ..profile import profile
from .communication import priced
from .facts import facts
from .gathering import (
    allowed,
    budget,
    gathered_bytes,
    gathering,
    mebibytes,
    note_gathering,
    refuse_gathering,
)
from .placement import device_kind, shards
from .registry import REGISTRY, AlgorithmEntry
from .rule import Provenance, Rule
from .session import SESSION, array_library

__all__ = ["Candidate", "ask", "choose_algorithm", "seconds", "select"]


def ask(question: Any, args: tuple[Any, ...], alg: Any) -> Any:
    """Answer ``question`` on ``args`` (operators first) with the algorithm or policy ``alg``."""
    current = SESSION.get()
    if current is not None and current.recorder is not None:
        return current.recorder.ask(question, args, alg, _answer)
    return _answer(question, args, alg, None)


_ENSURE: Any = None


def _ensure(A: Any) -> None:
    """The plugin manager's ``ensure``, imported with the first question rather than with the package."""
    global _ENSURE
    from ..plugins.manager import MANAGER

    _ENSURE = MANAGER.ensure
    _ENSURE(A)


def ensure(A: Any) -> None:
    """Load what is due before rules or algorithms are looked up for A outside of ``ask``."""
    (_ENSURE or _ensure)(A)


def _answer(question: Any, args: tuple[Any, ...], alg: Any, node: Any) -> Any:
    A = args[0]
    ensure(A)
    types = (*(type(a) for a in args[: question.operators]), type(alg))
    tiers = REGISTRY.tiers(question.name, types)
    if alg.rules:
        tiers = _pinned(question, types, alg.rules)
    for tier in tiers:
        for rule in select(question, tier, args, alg, node):
            if node is not None:
                node.chose_rule(rule, args, alg)
                if node.thorough:
                    others(question, tiers, rule, args, alg, node)
            try:
                answer = rule.fn(*args, alg=alg)
            except Exception as error:
                _note(error, f"while rule {rule} answered {question.name}({A!r})")
                raise
            if answer is not NotImplemented:
                _answered(rule.id, rule.provenance.plugin, "")
                return question.whole(A, answer) if len(A.shape) > 2 else answer
            if node is not None:
                node.refused(rule.id, "returned NotImplemented", rule.provenance)
    chosen, entry = choose_algorithm(question, args, alg, node)
    if node is not None:
        node.chose_algorithm(chosen, entry, question, args, alg)
        if node.thorough and not isinstance(alg, _auto()):
            price_algorithms(question, args, node, f"alg={type(alg).__name__}(...) was asked for", entry)
        if node.planning:
            return question.abstract(*args)
    try:
        if getattr(chosen, "gathers", "") and shards(A) > 1:
            answer = _gathered(question, args, alg, chosen)
        else:
            answer = getattr(chosen, question.name)(*args)
    except Exception as error:
        _note(error, f"while {chosen!r} answered {question.name}({A!r})")
        raise
    _answered("", entry.provenance.plugin, type(chosen).__name__)
    return answer


def _gathered(question: Any, args: tuple[Any, ...], alg: Any, chosen: Any) -> Any:
    """The answer of an algorithm that needs all of a spread operand on every device, if the budget allows."""
    note_gathering(refuse_gathering(args[0], repr(chosen), chosen.gathers, alg))
    be: Any = args[0]._concrete_backend()
    mine = [backend_of_type(type(x)) is be for x in args[1:]]
    beside = [x for x, own in zip(args[1:], mine, strict=True) if own]
    whole = (args[0], *(be.gather(x) if own else x for x, own in zip(args[1:], mine, strict=True)))
    with gathering(budget(args[0], alg)):
        answer = getattr(chosen, question.name)(*whole)
    for x in beside:  # a solution lies like the right-hand side that it came with
        if getattr(answer, "shape", None) == x.shape:
            return be.lying_like(answer, x)
    return answer


def _answered(rule: str, plugin: str, method: str) -> None:
    """Note who answered. The outermost question is the last to be answered, so its rule is what remains."""
    current = SESSION.get()
    if current is not None:
        current.rule, current.plugin = rule, plugin
        if method and method not in current.method:
            current.method = f"{current.method} + {method}" if current.method else method


def _pinned(question: Any, types: tuple[type, ...], ids: tuple[str, ...]) -> tuple[tuple[Rule, ...], ...]:
    """The tiers, with the rules that the user asked for by id in front, in the order given."""
    from ..plugins.manager import MANAGER

    for rule_id in ids:
        MANAGER.load(rule_id.partition(":")[0], "name", explicit=True)
        REGISTRY.rule(rule_id)  # an unknown id is an error, not a wish
    tiers = REGISTRY.tiers(question.name, types)
    found = {r.id: r for tier in tiers for r in tier}
    front = tuple((found[i],) for i in ids if i in found)
    return (*front, *(tuple(r for r in tier if r.id not in ids) for tier in tiers))


def _note(error: Exception, text: str) -> None:
    """Say once, at the innermost place, who was at work; run-time errors are never swallowed."""
    if not getattr(error, "__notes__", None):
        error.add_note(text)


def select(
    question: Any, tier: tuple[Rule, ...], args: tuple[Any, ...], alg: Any, node: Any = None
) -> list[Rule]:
    """The applicable rules of one tier in order of preference; error on a tie nothing settles."""
    if len(tier) == 1 and tier[0].when is None:
        return list(tier)
    holding: list[Rule] = []
    for rule in tier:
        reason = rule.refuses(args, alg)
        if reason is None:
            holding.append(rule)
        elif node is not None:
            node.refused(rule.id, reason, rule.provenance)
    if len(holding) < 2:
        return holding
    best = holding[0].precedence
    tied = [r for r in holding if r.precedence == best]
    if len(tied) > 1:
        if any(r.cost is None for r in tied):
            names = " and ".join(map(str, tied))
            others = sorted({r.provenance.plugin for r in tied} - {"core"})
            raise AmbiguousRuleError(
                f"{question.name}({args[0]!r}): {names} apply equally well. Pin one with "
                f"alg=Auto(rules=({tied[0].id!r},)), disable a plugin (COLA_DISABLE_PLUGINS="
                f"{others[-1] if others else 'NAME'}), or give one rule a precedence= or both a cost=."
            )
        costs = {r.id: r.cost(*args, alg=alg) for r in tied}  # type: ignore[misc]
        times = {name: seconds(cost, args[0]) for name, cost in costs.items()}
        tied.sort(key=lambda r: (times[r.id], r.id))
        if node is not None:
            for r in tied[1:]:
                why = f"costs more ({times[r.id]:.2g} s against {times[tied[0].id]:.2g} s)"
                node.refused(r.id, why, r.provenance, costs[r.id], times[r.id])
        holding = tied + [r for r in holding if r not in tied]
    return holding


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """An algorithm that ``Auto`` may take here, best first; what ``cola_choose`` is given to pick from.

    seconds: the estimate, with the factor for the risk of its kind. algorithm: the object, settings applied.
    cost: what the estimate rests on.
    """

    name: str
    plugin: str
    seconds: float
    algorithm: Any
    entry: AlgorithmEntry
    cost: Any = None


def seconds(cost: Any, A: Any) -> float:
    """The estimate on this machine, for the precision and the array library of A."""
    return profile(device_kind(A)).seconds(cost, dtype_name(A.dtype), array_library(A))


_CHOICES: dict[tuple[Any, ...], tuple[int, Any]] = {}


def choose_algorithm(
    question: Any, args: tuple[Any, ...], alg: Any, node: Any = None
) -> tuple[Any, AlgorithmEntry]:
    """The algorithm that answers where no rule does: the explicit one, or the cheapest applicable."""
    from ..algorithms.base import Auto

    if not isinstance(alg, Auto):
        found = _explicit(question, alg)
        if found is not None:
            return found
        # a rule asks its own question (eigenvalues, say) of a part: the explicit choice is not for that
        alg = Auto()
    if node is None and not alg.advice:
        # the choice rests on static facts (and on what may be gathered), so that it serves all operands that
        # share them
        try:
            key = (question.name, alg, allowed(), *map(facts, args))
            generation, choice = _CHOICES.get(key, (-1, None))
        except TypeError:  # a setting that cannot be hashed, such as a JAX key
            return _cheapest(question, args, alg, node)
        if generation != REGISTRY.generation:
            choice = _cheapest(question, args, alg, node)
            if len(_CHOICES) > 1000:
                _CHOICES.clear()
            _CHOICES[key] = (REGISTRY.generation, choice)
        return choice  # type: ignore[return-value]
    return _cheapest(question, args, alg, node)


def _explicit(question: Any, alg: Any) -> tuple[Any, AlgorithmEntry] | None:
    """The algorithm given by the user; None where it is meant for the outer question only."""
    for attempt in range(2):
        entries = REGISTRY.algorithms.get(question.name, [])
        for entry in entries:
            if type(alg) is entry.cls:
                return alg, entry
        if attempt == 0 and not type(alg).__module__.startswith("cola_core."):
            from ..plugins.manager import MANAGER

            MANAGER.ensure_class(type(alg))  # its plugin may not have been needed before
    if callable(getattr(alg, question.name, None)):
        cls = type(alg)
        return alg, AlgorithmEntry(question.name, cls.__name__, cls, Provenance.of(cls, "user", ""), False)
    current = SESSION.get()
    if current is not None and current.question and current.question != question.name:
        return None
    names = ", ".join(e.cls.__name__ for e in entries) or "none"
    raise UnknownNameError(f"{alg!r} does not answer {question.name}; algorithms that do: {names}.")


def _cheapest(question: Any, args: tuple[Any, ...], alg: Any, node: Any) -> tuple[Any, AlgorithmEntry]:
    A = args[0]
    candidates: list[Candidate] = []
    reasons: list[str] = []
    machine, dtype, library = profile(device_kind(A)), dtype_name(A.dtype), array_library(A)
    limit, spread = alg.memory_budget, shards(A)
    for entry in REGISTRY.algorithms.get(question.name, []):
        if not entry.automatic:
            if node is not None:
                _only_on_request(question, args, alg, node, entry)
            continue
        candidate = alg.configure(entry.cls)
        verdict = candidate.applicable(question.name, *args)
        cost = None
        if verdict is True:
            cost = priced(candidate, question.name, args)
            copied = gathered_bytes(A, getattr(candidate, "gathers", "")) if spread > 1 else 0.0
            if copied and copied > budget(A, alg):
                verdict = (
                    f"would gather {mebibytes(copied)} MiB onto each of {spread} devices, the budget is "
                    f"{mebibytes(budget(A, alg))} MiB"
                )
            elif cost.memory > limit:
                verdict = f"needs {cost.memory / 2**20:,.0f} MiB, the budget is {limit / 2**20:,.0f} MiB"
            elif alg.accuracy is not None and not alg.attains(candidate, question.name, args):
                attained = candidate.accuracy(question.name, *args)
                verdict = f"attains an accuracy of {attained:.1e}, {alg.accuracy:.1e} is asked for"
            else:
                estimate = machine.seconds(cost, dtype, library)
                if candidate.kind != "exact":
                    estimate *= alg.weight(candidate, cost, question.name, *args)
                candidates.append(
                    Candidate(entry.name, entry.provenance.plugin, estimate, candidate, entry, cost)
                )
                continue
        reasons.append(f"{entry.name}: {verdict}")
        if node is not None:
            taken = None if cost is None else machine.seconds(cost, dtype, library)
            node.refused(entry.id, str(verdict), entry.provenance, cost, taken)
    if not candidates:
        why = "; ".join(reasons) or "no algorithm is registered"
        raise NoRuleError(
            f"no rule and no algorithm answers {question.name}({A!r}) of shape {A.shape}: {why}. "
            "Declare a property (PSD, SelfAdjoint), raise Auto(memory=...), or pass alg= explicitly."
        )
    candidates.sort(key=alg.rank)
    best = candidates[0]
    if alg.advice:
        from ..plugins.manager import MANAGER

        best = MANAGER.advice(question, args, tuple(candidates)) or best
    if node is not None:
        for c in candidates:
            if c is not best:
                estimate = machine.seconds(c.cost, dtype, library)
                why = _lost(c, best, alg, question.name, args)
                node.refused(c.entry.id, why, c.entry.provenance, c.cost, estimate)
    return best.algorithm, best.entry


def _lost(c: Candidate, best: Candidate, alg: Any, question: str, args: tuple[Any, ...]) -> str:
    """Why another candidate was taken."""
    if alg.rank(c) < alg.rank(best):
        return "cola_choose advised another"
    if alg.prefer == "memory" and c.cost.memory > best.cost.memory:
        return f"holds more ({c.cost.memory / 2**20:.3g} MiB against {best.cost.memory / 2**20:.3g} MiB)"
    risk = alg.weight(c.algorithm, c.cost, question, *args)
    weighed = f", weighed {risk:.3g} times as {c.algorithm.kind}" if risk != 1 else ""
    return f"costs more ({c.seconds:.2g} s{weighed}, against {best.seconds:.2g} s)"


# -- what explain(candidates=True) adds ----------------------------------------------------------------------
def others(question: Any, tiers: Any, taken: Rule, args: tuple[Any, ...], alg: Any, node: Any) -> None:
    """The rules that came after the one taken, and what the algorithms would have cost instead."""
    seen = False
    for tier in tiers:
        seen = seen or taken in tier  # of its own tier, those that hold with less precedence
        for rule in tier:
            if seen and rule is not taken:
                try:
                    reason = rule.refuses(args, alg)
                except Exception as error:  # noqa: BLE001 - a guard behind one that holds may expect less
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                node.refused(rule.id, reason or f"holds too; {taken.id} comes first", rule.provenance)
    price_algorithms(question, args, node, f"not needed: rule {taken.id} answers", None)


def price_algorithms(question: Any, args: tuple[Any, ...], node: Any, why: str, taken: Any) -> None:
    """Every registered algorithm, with what it would cost."""
    from ..algorithms.base import Auto

    for entry in REGISTRY.algorithms.get(question.name, []):
        if taken is None or entry.cls is not taken.cls:
            _priced(question, args, Auto(), node, entry, why)


def _only_on_request(question: Any, args: tuple[Any, ...], alg: Any, node: Any, entry: Any) -> None:
    why = "only on request (alg=...)"
    if node.thorough:
        _priced(question, args, alg, node, entry, why)
    else:
        node.refused(entry.id, why, entry.provenance)


def _priced(question: Any, args: tuple[Any, ...], alg: Any, node: Any, entry: Any, why: str) -> None:
    cost = estimate = None
    try:
        candidate = alg.configure(entry.cls)
        verdict = candidate.applicable(question.name, *args)
        if verdict is True:
            cost = priced(candidate, question.name, args)
            estimate = seconds(cost, args[0])
        else:
            why = str(verdict)
    except Exception as error:  # noqa: BLE001 - one that would fail here is refused for that
        why = f"{why} ({type(error).__name__}: {error})".splitlines()[0]
    node.refused(entry.id, why, entry.provenance, cost, estimate)


def _auto() -> type:
    from ..algorithms.base import Auto

    return Auto

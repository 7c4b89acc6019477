"""Questions: structural rules, the fallback and the dense answer agree,
and the plan tells what then happens."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...algorithms import Auto
from ...dispatch.choose import select
from ...dispatch.registry import REGISTRY
from ...operators import LinearOperator, no_dispatch
from ..compare import close, eps_of, expect
from ..probes import PROBES, Probe
from ..registry import check
from ..trees import operators_in, spy
from .common import make


def suits(case: Any, probe: Probe) -> bool:
    """Whether the question makes sense for the operator of a case (seen on one sample)."""
    A, M = case.sample(), case.dense(case.capabilities.all_dtypes[0])
    if 0 in M.shape:
        return False
    return (not case.questions or probe.name in case.questions) and probe.suits(A, M)


def structural_rules(probe: Probe, A: Any, operands: tuple[Any, ...], alg: Any = Auto()) -> list[Any]:
    """The rules whose type and guard fit, most specific first, without those for every operator."""
    from ...plugins.manager import MANAGER

    MANAGER.ensure(A)
    found = []
    for tier in REGISTRY.tiers(probe.question.name, (type(A), type(alg))):
        found += [
            r for r in select(probe.question, tier, (A, *operands), alg) if r.types[0] is not LinearOperator
        ]
    return found


def allowed(case: Any, probe: Probe, dtype: str, M: Any) -> float:
    """Relative error that rounding may cause in an answer."""
    return case.tolerance * 200 * eps_of(dtype) * max(M.shape[-1], 1) * probe.sensitivity(M)


def compare(
    what: str,
    probe: Probe,
    got: list[Any],
    want: list[Any],
    tol: float,
    M: Any,
    sizes: list[Any] | None = None,
) -> None:
    """All arrays of two answers, relative to the dense answer's size,
    or to the matrix's where that vanishes."""
    expect(len(got) == len(want), f"{what}: {len(got)} results, expected {len(want)}")
    for i, (g, w, s) in enumerate(zip(got, want, sizes or want, strict=True)):
        part = what if len(got) == 1 else f"{what}, part {i + 1}"
        size = float(np.abs(s[np.isfinite(s)]).max()) if np.isfinite(s).any() else 0.0
        entries = float(np.abs(M).max(initial=0.0))
        # an eigenvalue's error is relative to the matrix: the smallest may be all rounding
        size = max(size, entries) if probe.question.name.startswith(("eig", "svd")) else size or entries
        close(g, w, part, tol, max(size, 1.0) if "logdet" in probe.name else size)


def _ask(probe: Probe, A: Any, operands: tuple[Any, ...]) -> Any:
    return probe.question.run(A, *operands, alg=Auto(), on_failure="raise")


def check_question(probe: Probe, case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The answer equals the dense one, and that of the same operator with its structure hidden."""
    A, M = make(case, backend, dtype, seed)
    operands = probe.operands(A, M, backend, dtype, seed)
    wide = M.astype(np.complex128 if M.dtype.kind == "c" else np.float64)
    if not probe.suits(A, wide):
        return  # a property may hold for real entries only
    tol = allowed(case, probe, dtype, wide)
    want = probe.dense(wide, operands)
    name = f"{probe.name}(A)"
    got = probe.arrays(A, wide, _ask(probe, A, operands), operands)
    compare(f"{name} against the dense answer", probe, got, want, tol, wide)
    if structural_rules(probe, A, operands) and case.capabilities.fallback.is_open:
        hidden = no_dispatch(A)
        other = probe.arrays(hidden, wide, _ask(probe, hidden, operands), operands)
        compare(f"{name} against the fallback", probe, got, other, 2 * tol, wide, want)


def _register() -> None:
    for name, probe in PROBES.items():
        if not probe.everywhere:
            continue

        def run(case: Any, backend: Any, dtype: str, seed: int, probe: Probe = probe) -> None:
            check_question(probe, case, backend, dtype, seed)

        def applies(case: Any, probe: Probe = probe) -> bool:
            return suits(case, probe)

        run.__doc__ = f"``{name}`` equals the dense answer and the answer without structural rules."
        check(
            f"question.{name}",
            "operator",
            "capability",
            capability="questions",
            dtypes="all" if name in ("solve", "slogdet") else "pair",
            applies=applies,
        )(run)


_register()


def _ruled(case: Any) -> list[Probe]:
    return [p for p in PROBES.values() if p.everywhere and suits(case, p)]


@check(
    "operator.plan-matches-run",
    "operator",
    "capability",
    capability="explain",
    dtypes="real",
    applies=lambda case: bool(_ruled(case)),
)
def check_plan(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """plan matches run: ``explain`` computes nothing, and names the rules and algorithms that then answer."""
    from ...backends.abstract import AbstractArray
    from ...dispatch import explain

    A, M = make(case, backend, dtype, seed)
    classes = {type(B) for B in operators_in(A)}
    computed: list[str] = []

    def note(self: Any, args: tuple[Any, ...]) -> None:
        if args and not isinstance(args[0], AbstractArray):
            computed.append(f"{type(self).__name__} times a {type(args[0]).__name__}")

    for probe in _ruled(case):
        operands = probe.operands(A, M, backend, dtype, seed)
        asked, args = probe.public(A, operands)
        with spy(classes, "_matmat", note), spy(classes, "_rmatmat", note):
            planned = explain(asked, *args)
        expect(not computed, f"explain({probe.name}) computed: {', '.join(sorted(set(computed)))}")
        executed = explain(asked, *args, analyze=True)
        for node in planned.nodes():
            expect(
                bool(node.by), f"explain({probe.name}): nobody is named for {node.question} {node.operator}"
            )
            expect(not node.note, f"explain({probe.name}), {node.by}: {node.note}")
        mine, theirs = _decisions(planned.root), _decisions(executed.root)
        expect(
            mine == theirs, f"explain({probe.name}) planned {_short(mine)}, executed were {_short(theirs)}"
        )
        expect(str(planned) and planned.to_json(), f"explain({probe.name}) does not print")


def _decisions(node: Any) -> list[Any]:
    """Who answers what, down to the algorithms: products inside an algorithm are its own business."""
    out = [(node.question, node.by, node.shape, node.repeated)]
    if node.kind.startswith("rule"):
        for child in node.children:
            out += _decisions(child)
    return out


def _short(nodes: list[Any]) -> str:
    return " > ".join(f"{by}{shape}{'' if times == 1 else f' {times}x'}" for _, by, shape, times in nodes)


@check(
    "operator.solve-without-dense",
    "operator",
    "capability",
    capability="matrix_free",
    dtypes="real",
    applies=lambda case: suits(case, PROBES["solve"]) and _structural_solve(case),
)
def check_solve_without_dense(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A solve by a structural rule never forms the matrix of the whole operator."""
    A, M = make(case, backend, dtype, seed)
    probe = PROBES["solve"]
    operands = probe.operands(A, M, backend, dtype, seed)
    heard: list[str] = []

    def note(self: Any, args: tuple[Any, ...]) -> None:
        if self is A:
            heard.append(type(self).__name__)

    with spy({type(A)}, "to_dense", note), spy({type(A)}, "_to_dense", note):
        _ask(probe, A, operands)
    expect(not heard, f"solve({A!r}) is answered by a rule, which formed the whole matrix")


def _structural_solve(case: Any) -> bool:
    from ...backends import get_backend

    A, M = case.sample(), case.dense(case.capabilities.all_dtypes[0])
    be = get_backend(case.capabilities.backends.names[0])
    operands = PROBES["solve"].operands(A, M, be, case.capabilities.all_dtypes[0], case.seed)
    return bool(structural_rules(PROBES["solve"], A, operands))

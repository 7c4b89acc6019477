"""``explain(solve, A, b)``: the plan of a question as a tree, before anything runs."""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from .plan import Plan, Recorder
from .question import question_of
from .session import SESSION, Session

__all__ = ["explain"]


# the public function of a question that has none of its name
FEW = {"eigsh": "eigh", "eigs": "eig", "geigh": "eigh", "geigsh": "eigh", "geig": "eig", "geigs": "eig"}


def explain(
    asked: Any, *args: Any, alg: Any = None, candidates: bool = False, analyze: bool = False, **options: Any
) -> Plan:
    """Who would answer ``asked(*args)``:
    per node the operator, the rule or algorithm, plugin, file:line and cost.

    asked: a question (``cola_core.solve``, ``"logdet"``). candidates=True also lists every refused rule and
    algorithm with its reason. analyze=True runs it and shows measured beside estimated time. Nothing is
    computed otherwise: the operands are replaced by their shapes and dtypes. Returns a ``Plan``; print it.
    """
    question = question_of(asked)
    public = asked if callable(asked) and hasattr(asked, "question") else None
    if public is None:
        import cola_core.linalg as linalg

        # a few eigenpairs are asked for through eigh(A, k, which)
        public = getattr(linalg, FEW.get(question.name, question.name))
    backends = [a.backend if hasattr(a, "_child_fields") else backend_of_type(type(a)) for a in args]
    library = next((b.name for b in backends if b is not None), "numpy")
    recorder = Recorder(planning=not analyze, library=library)
    if alg is not None:
        options["alg"] = alg
    if not analyze:
        from .abstract import abstract

        known: dict[int, Any] = {}
        args = tuple(abstract(a, known) for a in args)
        options = {name: abstract(value, known) for name, value in options.items()}
    token = SESSION.set(Session(recorder=recorder, question=question.name))
    try:
        answer = public(*args, **options)
        if hasattr(answer, "_plan_through"):
            answer._plan_through()
    finally:
        SESSION.reset(token)
    if recorder.root is None:
        raise ValueError(
            f"{question.name} on {args[0]!r} was answered without dispatch; there is nothing to explain"
        )
    return Plan(recorder.root, candidates)

"""``explain(solve, A, b)``: the plan of a question as a tree, before anything runs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ..backends import backend_of_type
from .placement import device_kind
from .plan import Plan
from .question import Question, question_of
from .recorder import Recorder, take_times
from .session import SESSION, Session

__all__ = ["explain"]


# the public function of a question that has none of its name
FEW = {
    "eigsh": "eigh",
    "eigs": "eig",
    "geigh": "eigh",
    "geigsh": "eigh",
    "geig": "eig",
    "geigs": "eig",
    "svds": "svd",
}
SHORT = 1.0  # seconds; what takes no longer is run again, warm, and without the bookkeeping of memory


def explain(
    asked: Any, *args: Any, alg: Any = None, candidates: bool = False, analyze: bool = False, **options: Any
) -> Plan:
    """Who would answer ``asked(*args)``:
    per node the operator, the rule or algorithm, plugin, file:line and cost.

    asked: a question (``cola_core.solve``, ``"logdet"``, a ``Question`` of a plugin). candidates=True also
    lists every rule and algorithm that does not answer, with its reason, its place, and what it would cost.
    analyze=True runs it and shows measured beside estimated time, memory (what NumPy and Python allocate),
    products and residual; a run of less than a second is made three times, to warm up, for the memory and
    for the time. Nothing is computed otherwise: the operands are replaced by their shapes
    and dtypes. Returns a ``Plan``: print it, or take ``to_json()``, ``to_html()``.

    >>> import numpy as np, cola_core as cola
    >>> plan = cola.explain(cola.solve, np.eye(3), np.ones(3), candidates=True)
    >>> plan.root.by, [name for name, reason, where in plan.root.rejected if "declared PSD" in reason][0]
    ('core:solve/lu', 'core:solve/cholesky')
    """
    question = question_of(asked)
    public = asked if callable(asked) and hasattr(asked, "question") else _public(question)
    backends = [a.backend if hasattr(a, "_child_fields") else backend_of_type(type(a)) for a in args]
    library = next((b.name for b in backends if b is not None), "numpy")
    if alg is not None:
        options["alg"] = alg
    if analyze:
        return Plan(_analyzed(question, public, args, options, library, candidates), candidates, True)
    from .abstract import abstract

    for a in args:  # plugins that are due for these devices, which the placeholders do not show
        _load_for(a)
    device = next((kind for a in args if (kind := _kind(a)) != "cpu"), "cpu")
    known: dict[int, Any] = {}
    args = tuple(abstract(a, known) for a in args)
    options = {name: abstract(value, known) for name, value in options.items()}
    recorder = Recorder(planning=True, library=library, thorough=candidates, device=device)
    _ask(recorder, question, public, args, options)
    return Plan(recorder.root, candidates)  # type: ignore[arg-type]


def _load_for(a: Any) -> None:
    from .choose import ensure

    backend = a.backend if hasattr(a, "_child_fields") else backend_of_type(type(a))
    if backend is not None:
        ensure(SimpleNamespace(backend=backend, device=getattr(a, "device", None)))


def _kind(a: Any) -> str:
    return device_kind(a) if hasattr(a, "_child_fields") or backend_of_type(type(a)) is not None else "cpu"


def _analyzed(
    question: Question, public: Any, args: tuple[Any, ...], options: Any, library: str, thorough: bool
) -> Any:
    """The root of a plan that has been run."""
    root = _measured(question, public, args, options, library, thorough)
    if root.seconds is not None and root.seconds < SHORT:
        root = _measured(question, public, args, options, library, thorough)
        again = Recorder(planning=False, library=library)
        _ask(again, question, public, args, options)
        take_times(root, again.root)  # type: ignore[arg-type]
    return root


def _measured(
    question: Question, public: Any, args: tuple[Any, ...], options: Any, library: str, thorough: bool
) -> Any:
    """One run with readings of memory, products and residuals."""
    ours = library == "numpy" and not tracemalloc.is_tracing()
    recorder = Recorder(planning=False, library=library, thorough=thorough, measure=True)
    if ours:
        tracemalloc.start(1)
    try:
        _ask(recorder, question, public, args, options)
    finally:
        if ours:
            tracemalloc.stop()
    return recorder.root


def _ask(recorder: Recorder, question: Question, public: Any, args: tuple[Any, ...], options: Any) -> None:
    token = SESSION.set(Session(recorder=recorder, question=question.name))
    try:
        public(*args, **options)
    finally:
        SESSION.reset(token)
    if recorder.root is None:
        raise ValueError(
            f"{question.name} on {args[0]!r} was answered without dispatch; there is nothing to explain"
        )


def _public(question: Question) -> Callable[..., Any]:
    """The function that asks a question: a few eigenpairs, say, are asked for through ``eigh(A, k, which)``.

    A plugin's question may have none; it is then asked directly.
    """
    import cola_core.linalg as linalg

    found = getattr(linalg, FEW.get(question.name, question.name), None)
    if question.name == "apply_unary":
        found = None  # it takes the function first; asked by name, the operator comes first as everywhere
    if callable(found) and getattr(found, "question", None) is not None:
        return found

    def ask_directly(A: Any, *operands: Any, alg: Any = None, **options: Any) -> Any:
        from ..algorithms.base import Auto
        from ..operators.algebra import as_operator
        from .choose import ask

        first = (as_operator(a) for a in (A, *operands[: question.operators - 1]))
        rest = operands[question.operators - 1 :]
        return ask(question, (*first, *rest), Auto() if alg is None else alg)

    return ask_directly

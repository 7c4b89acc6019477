"""``Question``: a generic function of linear algebra (solve, logdet, eigh, ...) and its answer's shape.

The public function validates its arguments and calls ``question.run``; rules call the public functions again
on the parts. ``abstract`` says what an answer looks like without computing it, which is all that planning
needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from ..backends import backend_of_type
from ..backends.base import dtype_name
from ..errors import NonFiniteError, UnknownNameError
from ..info import Info, combine, report
from ..pytree import tree_leaves
from .session import COLLECTED, SESSION, Session, aside

__all__ = ["Question", "question_of", "reporting"]

QUESTIONS: dict[str, Question] = {}


@dataclass(eq=False)
class Question:
    """name: also the method an ``Algorithm`` answers it with. operators:
    how many leading operands are operators.

    abstract(A, *operands): a placeholder answer made of shapes and dtypes. axes: how many axes the arrays of
    the answer have after the batch axes of the operator; with it, what a rule found on parts with smaller
    batches gets the batch of the whole. home: the package that asks it; its rules may be about operators of
    any other. prospective: the costs of its rules are of what follows from their answer, by which they are
    ranked; plans do not add them up.
    """

    name: str
    abstract: Callable[..., Any] = field(repr=False)
    operators: int = 1
    doc: str = ""
    axes: int | None = None
    home: str = "cola_core"
    prospective: bool = False

    def __post_init__(self) -> None:
        QUESTIONS[self.name] = self

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)

    def whole(self, A: Any, answer: Any) -> Any:
        """A rule's answer with its arrays broadcast to the batch of A."""
        if isinstance(answer, tuple):
            return tuple(self.whole(A, x) for x in answer)
        if self.axes is None or hasattr(answer, "batch_shape") or not hasattr(answer, "shape"):
            return answer
        shape = tuple(answer.shape)
        core = shape[len(shape) - self.axes :]
        want = (*A.batch_shape, *core)
        return answer if shape == want else A.xp.broadcast_to(answer, want)

    def _laid(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Operands in a program that is traced, with the layouts stated that its compiler does not know."""
        A, *rest = args
        if self.name == "solve" and getattr(rest[0], "shape", None) and not hasattr(rest[0], "_rows_laid"):
            rest[0] = A._rows_laid(rest[0])
        return (A._with_layout(), *rest)

    def _like(self, args: tuple[Any, ...], answer: Any) -> Any:
        if self.name != "solve" or args[0].backend is None or args[0].backend.name != "jax":
            return answer
        if hasattr(answer, "_rows_laid") or not getattr(answer, "shape", ()):
            return answer
        return args[0]._rows_laid(answer)

    def run(
        self,
        *args: Any,
        alg: Any,
        return_info: bool = False,
        on_failure: str = "warn",
        check: Any = None,
        through: Callable[[], Any] | None = None,
    ) -> Any:
        """Ask, collect what the leaves report, and warn or raise once, at the outermost question.

        check(answer) -> Info fields recomputed from the whole operator (a residual), for composed iterative
        answers and when the caller wants an Info. through: answers instead of dispatch, where the answerer is
        known already (a kept factorisation).
        """
        from .choose import ask

        outer = SESSION.get()
        library = getattr(args[0], "backend", None)
        if outer is None and through is None and library is not None and library.name == "jax":
            args = self._laid(args)
        if outer is not None and not return_info and on_failure == "warn":
            return ask(self, args, alg) if through is None else through()  # the outermost question warns
        return reporting(
            self.name,
            args[0],
            (lambda: self._like(args, ask(self, args, alg))) if through is None else through,
            return_info,
            on_failure,
            check,
            args,
        )


def reporting(
    name: str,
    A: Any,
    compute: Callable[[], Any],
    return_info: bool = False,
    on_failure: str = "warn",
    check: Callable[[Any, Info], Info] | None = None,
    operands: tuple[Any, ...] = (),
    stacklevel: int = 5,
) -> Any:
    """``compute()`` with what its leaves report collected, and one warning or error for all of them.

    return_info: the answer and its Info. name, A: what the message names. check: see ``Question.run``.
    """
    if on_failure not in ("warn", "raise", "ignore"):
        raise UnknownNameError(f'on_failure is "warn", "raise" or "ignore", not {on_failure!r}')
    library = getattr(A, "backend", None)
    if library is not None and library.opens and (opened := library.door(A, *operands)) is not None:
        with opened:
            return reporting(name, A, compute, return_info, on_failure, check, operands, stacklevel + 1)
    outer, collected = SESSION.get(), COLLECTED.get()
    wanted = return_info or (collected is not None if outer is None else outer.wanted)
    policy = outer.on_failure if outer is not None and on_failure == "warn" else on_failure
    recorder = None if outer is None else outer.recorder
    inner = Session(recorder=recorder, question=name, wanted=wanted, on_failure=policy)
    token = SESSION.set(inner)
    start = time.perf_counter()
    try:
        answer = compute()
    finally:
        SESSION.reset(token)
    if inner.gathered and outer is not None:
        outer.gathered = max(outer.gathered, inner.gathered)
    if outer is None:
        _refuse_nan(name, operands, answer)
    if not inner.infos and not wanted:
        return answer
    seconds = time.perf_counter() - start if _outside_traces(A, operands) else None
    if inner.infos:
        info = combine(inner.infos, seconds=seconds)
    else:
        info = Info(method=inner.method or "direct", seconds=seconds)
    if inner.gathered:
        info = info.replace(gathered=inner.gathered)
    if not info.rule:
        info = info.replace(rule=inner.rule, plugin=info.plugin or inner.plugin)
    # an algorithm has looked at it itself
    known = name == "solve" and info.residuals is not None and not inner.rule
    if check is not None and not known and (wanted or inner.rule):
        with aside(always=True):  # what its products need is no part of the answer
            info = check(answer, info)
    if outer is not None and on_failure == "warn":
        outer.infos.append(info)
    else:
        report(info, on_failure, name, repr(A), stacklevel)
    if outer is None and collected is not None:
        collected.append(info)
    return (answer, info) if return_info else answer


def _outside_traces(A: Any, operands: tuple[Any, ...]) -> bool:
    """Whether now is when the answer is computed, and not when a program for it is made."""
    be = getattr(A, "backend", None)
    if be is None or be.name == "abstract":
        return True
    return bool(be.is_concrete(*(x for part in (A, *operands) for x in tree_leaves(part))))


def _refuse_nan(name: str, args: tuple[Any, ...], answer: Any) -> None:
    """An answer with NaN, to a question with NaN or infinity in it, is an error that says so."""
    parts = answer if isinstance(answer, tuple) else (answer,)
    shared: set[int] = set()
    if any(hasattr(part, "_child_fields") for part in parts):
        # what a lazy answer shares with the question is looked at when it is used
        shared = {id(x) for arg in args for x in tree_leaves(arg)}
    new = [pair for part in parts for pair in _numbers(part, shared)]
    if all(be.all_finite(x) or not _any(be, x, "isnan") for be, x in new):
        return
    for arg in args:
        for be, x in _numbers(arg):
            if _any(be, x, "isnan") or _any(be, x, "isinf"):
                raise NonFiniteError(
                    f"{name}({args[0]!r}): {_described(arg, x)} contains NaN or infinity, and so would the "
                    "answer."
                )


def _described(arg: Any, x: Any) -> str:
    return f"an operand {tuple(x.shape)}" if arg is x else f"an array {tuple(x.shape)} of the operator"


def _numbers(tree: Any, shared: Collection[int] = ()) -> list[tuple[Any, Any]]:
    """The arrays of floating-point numbers in an argument or answer, with their libraries; of an operator,
    those that are not among the ``shared``."""
    found = []
    leaves = (
        [x for x in tree_leaves(tree) if id(x) not in shared] if hasattr(tree, "_child_fields") else [tree]
    )
    for x in leaves:
        be = backend_of_type(type(x))
        if be is not None and be.name != "abstract" and be.is_concrete(x):
            if dtype_name(x.dtype).startswith(("float", "complex", "bfloat")):
                found.append((be, x))
    return found


def _any(be: Any, x: Any, what: str) -> bool:
    return bool(be.xp.any(getattr(be.xp, what)(x)))


def _by_name(name: str) -> Question:
    return QUESTIONS[name]


def question_of(asked: Any) -> Question:
    """The question behind a public function, a name, or a Question itself."""
    if isinstance(asked, Question):
        return asked
    found = getattr(asked, "question", None)
    if isinstance(found, Question):
        return found
    if isinstance(asked, str):
        import cola_core.linalg  # noqa: F401 - defines the questions

        if asked in QUESTIONS:
            return QUESTIONS[asked]
    raise UnknownNameError(f"{asked!r} is not a question; known are {', '.join(sorted(QUESTIONS))}")

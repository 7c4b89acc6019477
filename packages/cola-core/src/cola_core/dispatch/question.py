"""``Question``: a generic function of linear algebra (solve, logdet, eigh, ...) and its answer's shape.

The public function validates its arguments and calls ``question.run``; rules call the public functions again
on the parts. ``abstract`` says what an answer looks like without computing it, which is all that planning
needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import UnknownNameError
from ..info import Info, combine, report
from .session import SESSION, Session

__all__ = ["Question", "question_of"]

QUESTIONS: dict[str, Question] = {}


@dataclass(eq=False)
class Question:
    """name: also the method an ``Algorithm`` answers it with. operators:
    how many leading operands are operators.

    abstract(A, *operands): a placeholder answer made of shapes and dtypes. axes: how many axes the arrays of
    the answer have after the batch axes of the operator; with it, what a rule found on parts with smaller
    batches gets the batch of the whole.
    """

    name: str
    abstract: Callable[..., Any] = field(repr=False)
    operators: int = 1
    doc: str = ""
    axes: int | None = None

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

    def run(
        self, *args: Any, alg: Any, return_info: bool = False, on_failure: str = "warn", check: Any = None
    ) -> Any:
        """Ask, collect what the leaves report, and warn or raise once, at the outermost question.

        check(answer) -> Info fields recomputed from the whole operator (a residual), for composed iterative
        answers and when the caller wants an Info.
        """
        from .choose import ask

        outer = SESSION.get()
        if outer is not None and not return_info and on_failure == "warn":
            return ask(self, args, alg)  # the outermost question warns
        if on_failure not in ("warn", "raise", "ignore"):
            raise UnknownNameError(f'on_failure is "warn", "raise" or "ignore", not {on_failure!r}')
        inner = Session(recorder=None if outer is None else outer.recorder, question=self.name)
        token = SESSION.set(inner)
        start = time.perf_counter()
        try:
            answer = ask(self, args, alg)
        finally:
            SESSION.reset(token)
        if not inner.infos and not return_info:
            return answer
        seconds = time.perf_counter() - start
        info = (
            combine(inner.infos, seconds=seconds) if inner.infos else Info(method="direct", seconds=seconds)
        )
        if inner.rule and not info.rule:
            info = info.replace(rule=inner.rule, plugin=inner.plugin)
        if check is not None and (return_info or (inner.infos and inner.rule)):
            info = check(answer, info)
        if outer is not None and on_failure == "warn":
            outer.infos.append(info)
        else:
            report(info, on_failure, self.name, repr(args[0]))
        return (answer, info) if return_info else answer


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

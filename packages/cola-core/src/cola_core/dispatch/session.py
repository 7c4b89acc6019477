"""What one outermost question collects while it runs:
Infos of its leaves, and the plan where one is wanted."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ..info import Info

__all__ = [
    "COLLECTED",
    "SESSION",
    "Session",
    "array_library",
    "aside",
    "infos",
    "product_errors",
    "record",
    "reported",
    "reweigh",
    "session",
    "wanted",
    "weighted",
]


@dataclass(slots=True)
class Session:
    """infos: reported by algorithms, in order. recorder: builds the plan tree (``plan.Recorder``) or None.

    question: the name of the outermost question, for which an explicit algorithm was meant. wanted: somebody
    will look at the Info, so that direct algorithms should say how well they did, too. method: the algorithms
    that answered so far. on_failure: what a missed tolerance does, also that of a derivative's solve later.
    gathered: bytes of an operator spread over devices that each was given (``gathering``).
    """

    infos: list[Info] = field(default_factory=list)
    recorder: Any = None
    rule: str = ""
    plugin: str = ""
    question: str = ""
    wanted: bool = False
    method: str = ""
    on_failure: str = "warn"
    gathered: float = 0.0


SESSION: ContextVar[Session | None] = ContextVar("cola_core_session", default=None)


COLLECTED: ContextVar[list[Info] | None] = ContextVar("cola_core_collected", default=None)


@contextmanager
def infos() -> Iterator[list[Info]]:
    """Within, a list that receives the Info of every question asked and of every product with a lazy answer
    (``inv(A) @ b``, ``exp(A) @ v``): one for each outermost one, in order, direct answers included.

    Missed tolerances still warn. Under ``jax.jit`` the numbers are traced: return them with the answer.

    Solves that a derivative needs report here too, when the derivative is computed ("gradient of CG"): in
    PyTorch to the list that is open then; in JAX to the list that was open when the derivative was traced,
    which is complete after ``jax.effects_barrier()`` and at the end of the block.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> with cola.infos() as found:
    ...     x = cola.inv(A, cola.CG()) @ np.ones(2)
    >>> found[-1].method, found[-1].converged
    ('CG', True)
    """
    found: list[Info] = []
    token = COLLECTED.set(found)
    try:
        yield found
    finally:
        if "jax" in sys.modules and hasattr(sys.modules["jax"], "effects_barrier"):
            sys.modules["jax"].effects_barrier()  # what compiled derivatives have to tell
        COLLECTED.reset(token)


@contextmanager
def aside(always: bool = False) -> Iterator[Session | None]:
    """Within, what leaves report goes to a session of its own, which is yielded: for the many products inside
    an iteration (with a preconditioner that solves, say), none of which is the answer. Outside of all
    questions they speak for themselves, and None is yielded; unless ``always``."""
    current = SESSION.get()
    if current is None and not always:
        yield None
        return
    shadow = Session()
    if current is not None:
        shadow = Session(recorder=current.recorder, question=current.question, on_failure=current.on_failure)
    token = SESSION.set(shadow)
    try:
        yield shadow
    finally:
        SESSION.reset(token)


def wanted() -> bool:
    """Whether somebody will look at the Info of what runs now."""
    current = SESSION.get()
    return COLLECTED.get() is not None if current is None else current.wanted


def session() -> Session | None:
    """The running outermost question's session, if any."""
    return SESSION.get()


def record(info: Info) -> None:
    """Report how a leaf answer was reached; without a running question this does nothing."""
    current = SESSION.get()
    if current is not None:
        current.infos.append(info)


def weighted(answer: Callable[[], Any], weight: float) -> Any:
    """``answer()``, with the errors its leaves report multiplied by ``|weight|``:
    for rules that multiply answers."""
    current = SESSION.get()
    start = 0 if current is None else len(current.infos)
    out = answer()
    if current is not None:
        reweigh(start, len(current.infos), weight)
    return out


def reweigh(start: int, stop: int, weight: Any) -> None:
    """Multiply the errors of the Infos reported between two counts (see ``reported``) by ``|weight|``."""
    current = SESSION.get()
    if current is None:
        return
    for i in range(start, stop):
        info = current.infos[i]
        changes = {
            name: getattr(info, name) * abs(weight)
            for name in ("standard_error", "error_estimate")
            if getattr(info, name) is not None
        }
        current.infos[i] = info.replace(**changes) if changes else info


def product_errors(be: Any, factors: list[tuple[int, int, Any]]) -> None:
    """Errors of estimates that are multiplied: each counts as often as the size of all the others.

    factors: per factor the counts of reported Infos before and after it,
    and the size of its answer (a 0-d array).
    """
    if all(start == stop for start, stop, _ in factors):
        return
    sizes = [be.number(size) if be.is_concrete(size) else size for _, _, size in factors]
    for i, (start, stop, _) in enumerate(factors):
        if start != stop:
            reweigh(start, stop, math.prod(s for j, s in enumerate(sizes) if j != i))


def reported() -> int:
    """How many Infos the running outermost question has collected so far."""
    current = SESSION.get()
    return 0 if current is None else len(current.infos)


def array_library(A: Any) -> str:
    """The name of the array library of an operator, also while planning, when its arrays are placeholders.

    For algorithms that work on one library only:
    asking for ``A.backend`` would make the plan differ from the run.
    """
    name = "numpy" if A.backend is None else A.backend.name
    if name != "abstract":
        return str(name)
    current = SESSION.get()
    planned = "" if current is None or current.recorder is None else current.recorder.library
    return planned or "numpy"

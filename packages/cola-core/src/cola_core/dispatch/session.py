"""What one outermost question collects while it runs:
Infos of its leaves, and the plan where one is wanted."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ..info import Info

__all__ = ["SESSION", "Session", "array_library", "record", "session"]


@dataclass(slots=True)
class Session:
    """infos: reported by algorithms, in order. recorder: builds the plan tree (``plan.Recorder``) or None.

    question: the name of the outermost question, for which an explicit algorithm was meant.
    """

    infos: list[Info] = field(default_factory=list)
    recorder: Any = None
    rule: str = ""
    plugin: str = ""
    question: str = ""


SESSION: ContextVar[Session | None] = ContextVar("cola_core_session", default=None)


def session() -> Session | None:
    """The running outermost question's session, if any."""
    return SESSION.get()


def record(info: Info) -> None:
    """Report how a leaf answer was reached; without a running question this does nothing."""
    current = SESSION.get()
    if current is not None:
        current.infos.append(info)


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

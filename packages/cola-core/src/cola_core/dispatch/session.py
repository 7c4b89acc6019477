"""What one outermost question collects while it runs: Infos of its leaves, and the plan where one is wanted."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from ..info import Info

__all__ = ["SESSION", "Session", "record", "session"]


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

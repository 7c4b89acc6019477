"""Ask a question, and keep beside its answer who answered, how long it took, and what was flagged as
unreliable."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..dispatch.plan import Plan
from ..dispatch.recorder import Recorder
from ..dispatch.session import SESSION, Session
from ..errors import UnreliableResultWarning
from ..info import Info, report
from .output import facts, json_text, seconds_text

__all__ = ["Outcome", "asked", "finished"]

EXIT_UNRELIABLE = 3


@dataclass
class Outcome:
    """answer and Info of the question; plan: what was taken, with measured times; doubts: warnings about the
    answer."""

    answer: Any
    info: Info
    plan: Plan
    seconds: float
    doubts: list[str] = field(default_factory=list)

    def accepted(self, args: argparse.Namespace) -> bool:
        """Whether the answer may be used and written."""
        return not self.doubts or args.accept_unreliable


def asked(public: Callable[..., Any], *args: Any, alg: Any, name: str, **options: Any) -> Outcome:
    """Answer ``public(*args, alg=alg)`` while recording the plan taken."""
    from ..plugins.manager import MANAGER

    MANAGER.ensure(args[0])  # loading plugins is not part of the answer's time
    recorder = Recorder(planning=False)
    doubts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        token = SESSION.set(Session(recorder=recorder))
        start = time.perf_counter()
        try:
            answer, info = public(*args, alg=alg, return_info=True, **options)
        finally:
            SESSION.reset(token)
            seconds = time.perf_counter() - start
        # inside our session the question does not announce a missed tolerance itself
        report(info, "warn", name, repr(args[0]))
    for warning in caught:
        if issubclass(warning.category, UnreliableResultWarning):
            text = " ".join(str(warning.message).split())
            if text not in doubts:
                doubts.append(text)
        elif not issubclass(warning.category, (DeprecationWarning, PendingDeprecationWarning)):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    assert recorder.root is not None
    return Outcome(answer, info, Plan(recorder.root), seconds, doubts)


def finished(
    args: argparse.Namespace,
    outcome: Outcome,
    rows: list[tuple[str, Any]],
    result: dict[str, Any],
    show: Callable[[], None] | None = None,
) -> int:
    """Print plan and result (or JSON), then the doubts; the exit status."""
    if args.json:
        print(
            json_text(
                {
                    "command": args.command,
                    "file": args.file,
                    **result,
                    "seconds": outcome.seconds,
                    "info": outcome.info.as_dict(),
                    "plan": outcome.plan.as_dict(),
                    "warnings": outcome.doubts,
                    "reliable": not outcome.doubts,
                }
            )
        )
    else:
        if not args.quiet:
            print(f"plan\n{outcome.plan}\n")
        if show is not None:
            show()
        facts([*rows, ("time", seconds_text(outcome.seconds))])
    for doubt in outcome.doubts:
        warnings.warn(doubt, UnreliableResultWarning, stacklevel=2)
    return 0 if outcome.accepted(args) else EXIT_UNRELIABLE

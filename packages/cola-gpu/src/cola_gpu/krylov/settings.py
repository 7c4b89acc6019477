"""What the device-resident methods share: when ``Auto`` may take them, and their part of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cola_core.backends import Backend
from cola_core.cost import Cost
from cola_core.dispatch import device_kind, session, shards
from cola_core.reasons import RUNNING

from . import graphs

__all__ = ["check_positive", "launched", "on_accelerator", "resident", "told"]

CHECK_EVERY = 32


def on_accelerator(A: Any, otherwise: Callable[[], bool | str]) -> bool | str:
    """Whether ``Auto`` may take a device-resident method: on one accelerator, if ``otherwise`` says so."""
    if device_kind(A) == "cpu":
        return "operands are on the CPU"
    if shards(A) > 1:
        return "operands are spread over several devices"  # the core's loops are what is tested there
    return otherwise()


def resident(cost: Cost, syncs: float) -> Cost:
    """The same work, where the host waits only so often."""
    return replace(cost, syncs=syncs)


def check_positive(name: str, value: Any) -> None:
    """ValueError unless a setting is a positive whole number."""
    if int(value) != value or value < 1:
        raise ValueError(f"{name} must be a whole number of steps, at least 1, not {value!r}")


def told(be: Backend, watch: Any, step: Any, error: Any, code: Any) -> Any:
    """``code`` with RUNNING replaced by the verdict of a watch (progress bar, callback, time budget)."""
    if watch is None:
        return code
    verdict = be.ask(watch, step, error)
    if not isinstance(verdict, int):
        verdict = be.astype(verdict, code.dtype)
    return be.xp.where(code == RUNNING, verdict, code)


@contextmanager
def launched() -> Iterator[None]:
    """Within, a method reports; its Infos then also say how the steps were launched on a GPU."""
    current = session()
    start = 0 if current is None else len(current.infos)
    with graphs.noted() as notes:
        yield
    if current is not None and notes:
        for i in range(start, len(current.infos)):
            info = current.infos[i]
            current.infos[i] = info.replace(method=f"{info.method} [{'; '.join(notes)}]")

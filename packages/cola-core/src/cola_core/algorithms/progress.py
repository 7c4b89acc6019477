"""Watching an iteration: progress bar, callback and time budget, on every backend, in compiled loops too.

A ``Watch`` is a hashable object of static identity, so that a compiled loop that reports to it is compiled
once: runs of one method take the same one in turn. Loops call ``observe``, which tells the host the step and
the error and hears whether to go on; under JAX that is a host callback whose answer is part of the loop's
state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..backends.base import Array, Backend
from ..reasons import RUNNING, STOPPED, TIMEOUT

__all__ = ["ProgressBar", "Watch", "observe", "progress", "watching"]


class ProgressBar:
    """A tqdm bar that is made at its first step and made anew when steps start again from the beginning."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.total: int | None = None
        self.bar: Any = None
        self.done = 0

    def __call__(self, done: Any, error: Any) -> None:
        """Show that ``done`` steps are made and what the error (a residual, a standard error) is, or None."""
        done = int(done)
        if self.bar is None or done < self.done:
            self.close()
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, desc=self.title, leave=True)
        if error is not None:
            self.bar.set_postfix_str(f"error {float(error):.2e}", refresh=False)
        self.bar.update(done - self.done)
        self.done = done

    def close(self) -> None:
        """End the line of the bar, if there is one."""
        if self.bar is not None:
            self.bar.close()
        self.bar, self.done = None, 0


_BARS: dict[str, ProgressBar] = {}


@contextmanager
def progress(title: str, total: int | None, show: bool) -> Iterator[ProgressBar | None]:
    """The bar of a method for the duration of a run; None if none is wanted."""
    if not show:
        yield None
        return
    bar = _BARS.setdefault(title, ProgressBar(title))
    bar.total = total
    try:
        yield bar
    finally:
        bar.close()


class Watch:
    """What a run tells the outside: called with the step and the error, it answers RUNNING (go on),
    STOPPED (the callback said so) or TIMEOUT."""

    def __init__(self, title: str) -> None:
        self.bar: ProgressBar | None = None
        self.title = title
        self.callback: Callable[[int, float], Any] | None = None
        self.seconds: float | None = None
        self.began: float | None = None
        self.last = 0

    def begin(
        self,
        total: int | None,
        show: bool,
        callback: Callable[[int, float], Any] | None,
        seconds: float | None,
        now: bool,
    ) -> None:
        """Settings of a run; its time counts from now, or from its first step (compiled loops)."""
        self.bar = ProgressBar(self.title) if show else None
        if self.bar is not None:
            self.bar.total = total
        self.callback, self.seconds = callback, seconds
        self.began, self.last = (time.perf_counter() if now else None), 0

    def __call__(self, step: Any, error: Any) -> int:
        step = int(step)
        if self.began is None or step < self.last:  # a compiled run starts again
            self.began = time.perf_counter()
        self.last = step
        if self.bar is not None:
            self.bar(step, error)
        if self.callback is not None and self.callback(step, float(error)):
            return STOPPED
        if self.seconds is not None and time.perf_counter() - self.began > self.seconds:
            return TIMEOUT
        return RUNNING

    def close(self) -> None:
        """End the bar and forget the callback."""
        if self.bar is not None:
            self.bar.close()
        self.bar = self.callback = None


_FREE: dict[str, list[Watch]] = {}


@contextmanager
def watching(
    title: str,
    total: int | None = None,
    show: bool = False,
    callback: Callable[[int, float], Any] | None = None,
    seconds: float | None = None,
    compiled: bool = False,
    traced: bool = False,
) -> Iterator[Watch | None]:
    """The watch of a run for its duration; None if nothing is wanted.

    compiled: the loop compiles before its first step, and that time is not counted. traced: the run is a part
    of a program of the user's that outlives this call, and so does its watch.
    """
    if not show and callback is None and seconds is None:
        yield None
        return
    free = [] if traced else _FREE.setdefault(title, [])
    try:
        watch = free.pop()  # taken out, so that runs inside this one or beside it have their own
    except IndexError:
        watch = Watch(title)
    watch.begin(total, show, callback, seconds, not compiled)
    try:
        yield watch
    finally:
        if not traced:
            watch.close()
            free.append(watch)


def observe(be: Backend, watch: Watch | None, step: Any, error: Array, codes: Array) -> Array:
    """``codes`` with RUNNING replaced by the watch's verdict on this step; as they are without a watch.

    error: residual norms, the largest of which is told.
    """
    if watch is None:
        return codes
    xp = be.xp
    verdict = be.ask(watch, step, xp.max(error) if len(error.shape) else error)
    if isinstance(verdict, int):
        if verdict == RUNNING:
            return codes
    elif verdict.dtype != codes.dtype:
        verdict = be.astype(verdict, codes.dtype)
    return xp.where(codes == RUNNING, verdict, codes)

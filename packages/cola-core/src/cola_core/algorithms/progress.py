"""Progress bars of iterations (``pbar=True``), on every backend, in compiled loops too.

A bar is a hashable object of static identity, one per method, so that a compiled loop that reports to it is
compiled once. Loops call ``Backend.report``; under JAX that is a host callback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ProgressBar", "progress"]


class ProgressBar:
    """A tqdm bar that is made at its first step and made anew when steps start again from the beginning."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.total: int | None = None
        self.bar: Any = None
        self.done = 0

    def __call__(self, done: Any, error: Any) -> None:
        """Show that ``done`` steps are made and what the error (a residual, a standard error) is now."""
        done = int(done)
        if self.bar is None or done < self.done:
            self.close()
            from tqdm import tqdm

            self.bar = tqdm(total=self.total, desc=self.title, leave=True)
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

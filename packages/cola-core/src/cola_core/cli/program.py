"""From arguments to an exit status: what was asked, who answers, and every failure as one line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ColaError, UnreliableResultWarning
from .parser import build_parser

__all__ = ["EXIT_ERROR", "EXIT_UNRELIABLE", "run"]

EXIT_ERROR, EXIT_UNRELIABLE, EXIT_INTERRUPTED = 1, 3, 130


def run(argv: list[str] | None = None) -> int:
    """See ``cola_core.cli.main``."""
    argv = sys.argv[1:] if argv is None else list(argv)
    debug = "--debug" in argv
    try:
        with _one_line_warnings("--quiet" in argv or "-q" in argv), _terminated():
            return _command(argv)
    except SystemExit as stop:  # argparse: help, version and usage errors
        return stop.code if isinstance(stop.code, int) else EXIT_ERROR if stop.code else 0
    except KeyboardInterrupt:
        if debug:
            raise
        _say("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # the reader of our output (head, less) has gone: nothing is wrong, and nothing more can be said
        _silence(sys.stdout)
        return 0
    except (ColaError, OSError, MemoryError) as error:
        if debug:
            raise
        _say(f"error: {_line(error)}")
        return EXIT_ERROR
    except Exception as error:
        if debug:
            raise
        _say(f"error: {type(error).__name__}: {_line(error)} (unexpected; --debug shows where)")
        return EXIT_ERROR


def _command(argv: list[str]) -> int:
    parser = build_parser(argv)
    args = parser.parse_args(argv)
    command = getattr(args, "run", None) or getattr(args, "func", None)
    if command is None:
        parser.print_help()
        return 0
    status = command(args)
    sys.stdout.flush()
    return int(status or 0)


def _line(error: BaseException) -> str:
    """An error's text as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) and not text:
        text = "not enough memory"
    return text or type(error).__name__


def _say(text: str) -> None:
    try:
        print(f"cola-core: {text}", file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: Any) -> None:
    """Let the interpreter's last flush of a closed pipe go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        pass


@contextmanager
def _one_line_warnings(quiet: bool) -> Iterator[None]:
    """Warnings as one line each on stderr. Unreliable results are not for --quiet to hide."""
    said: set[str] = set()

    def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        unreliable = issubclass(category, UnreliableResultWarning)
        if text in said or (quiet and not unreliable):
            return
        said.add(text)
        _say(f"warning: {text}")

    with warnings.catch_warnings():
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        warnings.simplefilter("always", UnreliableResultWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

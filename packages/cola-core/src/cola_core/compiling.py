"""What Dynamo, the reader of ``torch.compile``, sees of this code. Imports nothing.

A compiled program is used again as long as all that was read on the way is as it was then. So caches and
tables that grow must not be read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["being_compiled", "read_instead"]

F = TypeVar("F", bound=Callable[..., Any])


def being_compiled() -> bool:
    """True where ``torch.compile`` reads; such a line is never run as it stands."""
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    return compiler is not None and bool(compiler.is_compiling())


def read_instead(replacement: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator of a function for which Dynamo reads another one: a cache, say, on whose contents a compiled
    program must not depend. It is the attribute by which ``torch.compile`` marks its own wrappers."""

    def mark(fn: F) -> F:
        fn._torchdynamo_inline = replacement  # type: ignore[attr-defined]
        return fn

    return mark

"""What a case of the benchmark is: a problem on a device, one run of it, and the work that run had to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .roofline import Phase
from .target import Target

__all__ = ["Case", "Problem"]


@dataclass(frozen=True)
class Problem:
    """A case on one device. run() is timed and gives an answer (waited for), from which phases(answer) counts
    the work; facts(answer) says how it went; size is what the problem is."""

    run: Callable[[], Any]
    phases: Callable[[Any], list[Phase]]
    size: dict[str, Any]
    facts: Callable[[Any], dict[str, Any]] = field(default=lambda answer: {})


@dataclass(frozen=True)
class Case:
    """An algorithm of the plugin. model: what the roof counts, in words. prepare(target, size) sets it up;
    libraries: of arrays that it runs on."""

    name: str
    title: str
    model: str
    prepare: Callable[[Target, str], Problem]
    libraries: tuple[str, ...] = ("numpy", "torch", "jax")

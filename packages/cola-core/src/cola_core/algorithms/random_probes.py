"""``RandomProbes``: the settings of estimates that add random probes until their standard error is small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import UnknownNameError
from .base import Algorithm, Iterative

__all__ = ["RandomProbes"]


@dataclass(frozen=True)
class RandomProbes(Algorithm):
    """tol: standard error relative to the estimate. max_iters: products at most. bs: probes per product.
    rand: "rademacher" or "normal". key: seed. Watched as an ``Iterative``."""

    tol: float = 3e-2
    max_iters: int = 10_000
    bs: int = 64
    rand: str = "rademacher"
    pbar: bool = False
    key: Any = 0
    progress: bool = field(default=False, kw_only=True)
    callback: Callable[[int, float], Any] | None = field(default=None, kw_only=True)
    max_seconds: float | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "stochastic"

    watched: ClassVar[Any] = Iterative.watched

    def __post_init__(self) -> None:
        if self.rand not in ("rademacher", "normal"):
            name = type(self).__name__
            raise UnknownNameError(f'{name}(rand=...) is "rademacher" or "normal", not {self.rand!r}')

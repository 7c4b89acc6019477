"""Schur decompositions have no derivative here: a refusal by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array

__all__ = ["MESSAGE", "SCHUR"]

MESSAGE = (
    "Schur decompositions are not differentiated (and on PyTorch they are SciPy's, on the host, which does "
    "not trace). Detach the operator, use eigh for a self-adjoint one, or functions of the matrix itself "
    "(cola_core.sqrt, log, exp, solve, ...), which have derivatives of their own."
)


@dataclass(frozen=True)
class _Schur:
    name: str = "schur"
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 2

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        T, Z = be.plain_schur(A)
        return T, Z

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        raise NotImplementedError(MESSAGE)

    def push(self, tools: Any, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        raise NotImplementedError(MESSAGE)

    def pull(self, tools: Any, A: Any, out: Any, g: Any) -> Array | None:
        raise NotImplementedError(MESSAGE)


SCHUR = _Schur()

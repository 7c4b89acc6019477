"""What becomes of a dense factorisation when its operand is spread over several devices.

Array libraries have no distributed factorisations: JAX and DTensor copy the whole matrix onto every device
without a word, and each factorises it. That is fine while it fits, and the end of the program when it does
not. So the bytes are counted here, in one place: up to a budget the copy is made and reported
(``Info.gathered``, and a note in the plan), beyond it an algorithm that was asked for raises
``ShardedOperandError``, and ``Auto`` takes another.

The budget is that of ``Auto(memory=...)``; ``with gathering(max_bytes):`` sets it for algorithms asked for
by name; otherwise it is the memory of the machine's profile, and nothing for DTensors of PyTorch. A spread
is seen on arrays and, in programs that JAX compiles, where the mesh axes are explicit; of automatic axes a
traced array knows nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..backends.base import dtype_name
from ..errors import ShardedOperandError
from ..profile import profile
from ..pytree import tree_leaves
from .placement import shards
from .session import SESSION, array_library

__all__ = ["gathered_bytes", "gathering", "gathering_note", "refuse_gathering", "report_gathering"]

_BUDGET: ContextVar[float | None] = ContextVar("cola_core_gathering", default=None)


@contextmanager
def gathering(max_bytes: float) -> Iterator[None]:
    """Within, dense factorisations may gather an operand of up to ``max_bytes`` onto every device.

    >>> with gathering(2**20):
    ...     budget()
    1048576.0
    """
    if not max_bytes >= 0:
        raise ValueError(f"gathering(max_bytes={max_bytes!r}): a number of bytes, zero to gather nothing.")
    token = _BUDGET.set(float(max_bytes))
    try:
        yield
    finally:
        _BUDGET.reset(token)


def allowed() -> float | None:
    """The bytes that ``gathering`` allows here, None outside of it: part of the key of remembered choices."""
    return _BUDGET.get()


def budget(A: Any = None, alg: Any = None) -> float:
    """Bytes of A that may be gathered onto every device here, where an algorithm or ``Auto`` is asked for."""
    if getattr(alg, "memory", None) is not None and hasattr(alg, "memory_budget"):
        return float(alg.memory_budget)
    given = _BUDGET.get()
    if given is not None:
        return given
    if A is not None and array_library(A) == "torch":
        return 0.0
    return profile().memory


def gathered_bytes(A: Any, what: str = "entries") -> float:
    """Bytes that every device would receive of an operator: 0 where nothing is spread.

    what: "entries", for work on the dense matrix, or "data", for work on the operator's arrays as they are.
    """
    if not what or shards(A) == 1:
        return 0.0
    if what == "data":
        return float(sum(_bytes(x) for x in tree_leaves(A)))
    return float(A.itemsize) * math.prod(A.shape)


def refuse_gathering(A: Any, method: str, what: str = "entries", alg: Any = None) -> float:
    """Bytes that are gathered for ``method``; ShardedOperandError if that is more than the limit allows."""
    needed = gathered_bytes(A, what)
    limit = budget(A, alg)
    if needed > limit:
        raise ShardedOperandError(_refusal(A, method, needed, limit))
    return needed


def report_gathering(A: Any) -> None:
    """As ``refuse_gathering``, for a factorisation that is about to begin; what is gathered goes into the
    Info of the question."""
    note_gathering(refuse_gathering(A, "a dense factorisation"))


def note_gathering(needed: float) -> None:
    """So many bytes are gathered for the question that is being answered."""
    current = SESSION.get()
    if current is not None:
        current.gathered = max(current.gathered, needed)


def gathering_note(A: Any, what: str, alg: Any = None) -> str:
    """What a plan says of it; nothing where nothing is spread."""
    needed = gathered_bytes(A, what)
    if not needed:
        return ""
    limit = budget(A, alg)
    note = f"gathered onto every device: {mebibytes(needed)} MiB"
    return note if needed <= limit else f"{note}, above the budget of {mebibytes(limit)} MiB: refused"


def mebibytes(size: float) -> str:
    """A size in MiB, for people."""
    return f"{size / 2**20:,.3g}" if size < 1000 * 2**20 else f"{size / 2**20:,.0f}"


def _refusal(A: Any, method: str, needed: float, limit: float) -> str:
    """The message."""
    return (
        f"{method} of {A!r}: the operator of shape {tuple(A.shape)} is spread over {shards(A)} devices, and "
        f"a factorisation would gather {mebibytes(needed)} MiB onto every device; the budget is "
        f"{mebibytes(limit)} MiB. Use an algorithm made of products, which leaves it where it is: CG() or "
        "MINRES() to solve, Lanczos() for eigenpairs and functions, SLQ() for log-determinants and traces, "
        "RandomizedSVD() for singular values. Or allow the copy: Auto(memory=bytes), "
        "cola_core.dispatch.gathering(bytes), or gather the operator yourself."
    )


def _bytes(x: Any) -> int:
    width = {"bfloat16": 2, "complex64": 8, "complex128": 16}.get(dtype_name(x.dtype))
    if width is None:
        name = dtype_name(x.dtype)
        digits = "".join(c for c in name if c.isdigit())
        width = int(digits) // 8 if digits else 1
    return width * math.prod(x.shape)

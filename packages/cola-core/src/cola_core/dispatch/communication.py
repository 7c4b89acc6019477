"""What answering costs in bytes sent between devices, where operands are spread over several.

An algorithm states products and arithmetic; what each of its products sends follows from how the operator
lies (``operators.communication``), and a dense factorisation gathers its operand first. So algorithms need
not count it themselves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..cost import Cost
from ..operators.communication import all_gather
from .gathering import gathered_bytes
from .placement import shards

__all__ = ["priced", "product_bytes"]


def product_bytes(A: Any) -> float:
    """Bytes that each device receives from the others in a product of A with one vector."""
    return float(A.matvec_cost.moved) if A._sends() else 0.0


def priced(alg: Any, question: str, args: tuple[Any, ...]) -> Cost:
    """``alg.cost(question, *args)`` with the bytes that are sent between devices."""
    cost: Cost = alg.cost(question, *args)
    A = args[0]
    if shards(A) == 1 and not A._sends():
        return cost
    copied = gathered_bytes(A, getattr(alg, "gathers", ""))
    sent = all_gather(copied, shards(A)) if copied else cost.moved or cost.matvecs * product_bytes(A)
    return replace(cost, moved=sent) if sent else cost

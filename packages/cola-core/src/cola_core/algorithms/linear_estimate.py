"""Answers that are linear in the operator for fixed probes, ``sum_j L_j(A V_j)``, one block of probes at a
time: no block is kept for the derivative, which takes the same products with the tangent of A.

So the derivative of such an estimate is the estimate, with the same probes, of the derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..backends.base import Array, Backend
from ..pytree import tree_leaves

__all__ = ["Block", "linear_estimate"]


@dataclass(frozen=True)
class Block:
    """probes() -> V (n, s). value(V, AV): what the block adds to the answer, linear in AV. pull(V, g): U with
    ``Re <g, value(V, Y)> = Re <U, Y>`` for all Y."""

    probes: Callable[[], Array]
    value: Callable[[Array, Array], Array]
    pull: Callable[[Array, Array], Array]


def linear_estimate(
    be: Backend,
    A: Any,
    run: Callable[[Any], tuple[Array, tuple[Array, ...], tuple[int, ...], Any]],
    blocks: Callable[..., Iterator[Block]],
) -> tuple[Array, Any]:
    """The answer, and aux, of ``run(A) -> (answer, kept, counts, aux)``.

    blocks(*kept, *counts): the terms that the answer is a sum of, where ``kept`` are arrays that have no
    derivative (a basis, say) and counts are whole numbers that run has found (of probes, say).
    """
    if not be.differentiating(*tree_leaves(A)):
        answer, _, _, aux = run(A)
        return answer, aux
    found: list[tuple[int, ...]] = []

    def unrecorded(A: Any) -> Any:
        answer, kept, counts, aux = run(A)
        found.append(counts)
        numbers = be.asarray([float(c) for c in counts], be.real_dtype(A.dtype), A.device)
        return (answer, numbers, *kept), aux

    def terms(outputs: Any) -> Iterator[Block]:
        _, numbers, *kept = outputs
        # of a batch that is mapped over, each has numbers of its own; in a trace they are the same for all
        counts = found[-1]
        if be.is_concrete(numbers):
            counts = tuple(round(c) for c in be.to_numpy(numbers).tolist())
        return blocks(*(be.constant(x) for x in kept), *counts)

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
        out: Any = None
        for block in terms(outputs):

            def term(block: Block = block) -> Array:
                V = block.probes()
                return block.value(V, d.product(0, V))

            # JAX makes the probes again for the transpose
            part = be.checkpoint(term)() if be.name == "jax" else term()
            out = part if out is None else out + part
        rest = tuple(be.xp.zeros_like(x) for x in outputs[1:])
        return (be.xp.zeros_like(outputs[0]) if out is None else out, *rest)

    def cotangent(g: Any, inputs: Any, outputs: Any) -> tuple[Iterator[tuple[Array, Array]]]:
        def pairs() -> Iterator[tuple[Array, Array]]:
            for block in terms(outputs):
                V = block.probes()
                yield block.pull(V, g[0]), V

        return (pairs(),)

    (answer, *_), aux = be.differentiable(unrecorded, tangent, A, cotangent=cotangent)
    return answer, aux

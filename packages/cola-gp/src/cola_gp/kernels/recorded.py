"""``k(X)`` in PyTorch's graph with its closed-form derivative in place of the graph of its steps.

Backward mode then evaluates the kernel once more, in blocks, and keeps nothing of the size of the matrix but
the matrix: a kernel of d dimensions would leave some ``3 d + 5`` of them in the graph.  The derivative may be
differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cola_core.backends import backend_of

from .._struct import leaves, with_leaves
from ..arrays import backend_for
from .base import Array, Kernel, Pullback
from .derivatives import point_gradient


def recorded(
    kernel: Kernel, X: Array, evaluate: Callable[[Kernel, Array], tuple[Array, Pullback]]
) -> tuple[Array, Pullback]:
    """``evaluate(kernel, X)`` for parameters or points that are differentiated tensors.

    evaluate: gives ``k(X)`` and its pullback; called on tensors that are not differentiated, or, for second
    derivatives, on such that are.
    """
    backend = backend_for(X)
    params = leaves(kernel)
    places = [i for i, leaf in enumerate(params) if backend_of(leaf) is backend]

    def assembled(tensors: tuple[Array, ...]) -> Kernel:
        filled = list(params)
        for i, tensor in zip(places, tensors, strict=True):
            filled[i] = tensor
        return with_leaves(kernel, filled)

    def run(*inputs: Array) -> tuple[tuple[Array, ...], Any]:
        return (evaluate(assembled(inputs[:-1]), inputs[-1])[0],), None

    def tangent(d: Any, inputs: tuple[Array, ...], outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        def value(*moving: Array) -> Array:
            return assembled(moving[:-1])(moving[-1])

        return (backend.jvp(value, inputs, tuple(d[i] for i in range(len(inputs))))[1],)

    def cotangent(grads: tuple[Array, ...], inputs: tuple[Array, ...], outputs: tuple[Array, ...]) -> Any:
        here, Z, W = assembled(inputs[:-1]), inputs[-1], grads[0]
        slopes = evaluate(here, Z)[1](W) if places else ()
        chosen = [backend.astype(slopes[i], params[i].dtype) for i in places]
        # Points seldom move, and their derivative costs as much as all others together.
        return (*chosen, point_gradient(here, Z, Z, W + W.T) if moved else None)

    moved = backend.differentiating(X)
    inputs = (*(params[i] for i in places), X)
    value = backend.differentiable(run, tangent, *inputs, cotangent=cotangent)[0][0]
    return value, lambda W: kernel.evaluate(X)[1](W)

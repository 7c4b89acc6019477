"""``cotangents.inspected`` in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["inspected"]


def inspected(x: torch.Tensor, look: Callable[..., Any], others: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """See ``cotangents.inspected``."""
    return _Inspected.apply(x, look, *others)  # type: ignore[no-any-return,no-untyped-call]


class _Inspected(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, look: Any, *others: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.look = inputs[1]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        others = ctx.saved_tensors
        return (ctx.look(grads[0], *others), None, *[None] * len(others))

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])

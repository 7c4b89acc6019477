"""``cotangents.inspected`` in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from .torch_tree import nested_forward

__all__ = ["inspected", "whole"]


def inspected(x: torch.Tensor, look: Callable[..., Any], others: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """See ``cotangents.inspected``."""
    return _Inspected.apply(x, look, *others)  # type: ignore[no-any-return,no-untyped-call]


def _plain(x: torch.Tensor) -> torch.Tensor:
    """The values behind the levels of ``torch.func.grad`` and ``jvp``."""
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


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
        known = [_plain(x) for x in (grads[0], *others)]
        if any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in known):
            g = ctx.look(grads[0], *others)
        else:  # values that can be looked at say it by an error
            g = grads[0]
            with temporarily_clear_interpreter_stack():
                ctx.look(*(x.detach() for x in known))
        return (g, None, *[None] * len(others))

    @staticmethod
    @nested_forward
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].view_as(tangents[0])


def whole() -> bool:
    """Whether the cotangents to come are those of the whole loss. In reverse mode over forward mode an answer
    has two places in the graph, one in the function and one in its tangent, and each sees a part only."""
    levels = torch._C._functorch.get_interpreter_stack() or []
    keys = [level.key() for level in levels]
    kinds = torch._C._functorch.TransformType
    pushed = [i for i, key in enumerate(keys) if key == kinds.Jvp]
    pulled = [i for i, key in enumerate(keys) if key == kinds.Grad]
    if torch.autograd.forward_ad._current_level >= 0 and not keys:
        return False
    return not pushed or (bool(pulled) and max(pushed) < min(pulled))

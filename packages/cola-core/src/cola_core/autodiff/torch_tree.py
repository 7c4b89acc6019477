"""Trees of operators and tensors taken apart for ``autograd.Function``, and their products differentiated.

An ``autograd.Function`` sees flat tensors only. ``take_apart`` separates them from the structure; the rest of
the module differentiates functions of these tensors while everything else is fixed, inside of the methods of
such a Function: eagerly by ``torch.autograd.grad`` (so that operators that recompute instead of keeping do
so), and under the transformations of ``torch.func`` by these, whose levels nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch.autograd import forward_ad

from ..pytree import map_leaves, tree_leaves

__all__ = [
    "detached",
    "merged",
    "primals",
    "pull_back",
    "push_forward",
    "take_apart",
    "transforming",
    "zero_valued",
]

Tensors = Sequence[torch.Tensor]


def take_apart(tree: Any) -> tuple[list[torch.Tensor], Callable[[Tensors], Any]]:
    """The tensors of a tree, and ``put_together(tensors)``; Python numbers stay in place."""
    leaves = tree_leaves(tree)
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    fixed = [None if isinstance(x, torch.Tensor) else x for x in leaves]
    skeleton = map_leaves(lambda _: 0, tree)  # no tensor is kept alive, or seen outside of its level

    def put_together(found: Tensors) -> Any:
        supply = iter(found)
        parts = iter([next(supply) if x is None else x for x in fixed])
        return map_leaves(lambda _: next(parts), skeleton)

    return tensors, put_together


def detached(tree: Any) -> Any:
    """A tree without its derivative graph."""
    return map_leaves(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, tree)


def merged(tensors: Sequence[Any], places: Sequence[int], parts: Sequence[Any]) -> list[Any]:
    """Tensors with those at some places exchanged."""
    out = list(tensors)
    for i, part in zip(places, parts, strict=True):
        out[i] = part
    return out


def nested_forward(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a ``jvp``: what it computes has forward derivatives of its own, for a ``torch.func.jvp``
    around the one that calls it. (torch switches them off there, and loses the outer tangents silently, so
    every ``jvp`` of an ``autograd.Function`` wears this.) The saved tensors must be taken through
    ``primals``."""

    @wraps(jvp)
    def enabled(*args: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(*args)

    return enabled


def primals(tensors: Tensors) -> list[torch.Tensor]:
    """Tensors without the tangents of the innermost forward mode."""
    return [_primal(t) for t in tensors]


def _primal(t: torch.Tensor) -> torch.Tensor:
    functorch = torch._C._functorch
    if functorch.is_batchedtensor(t):  # unpacking has no batching rule
        inner = _primal(functorch.get_unwrapped(t))
        return functorch._add_batch_dim(inner, functorch.maybe_get_bdim(t), functorch.maybe_get_level(t))  # type: ignore[no-any-return]
    return forward_ad.unpack_dual(t).primal  # type: ignore[no-any-return]


def transforming(*tensors: Any) -> bool:
    """Whether a transformation of ``torch.func`` is at work on some of these tensors."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(isinstance(x, torch.Tensor) and wrapped(x) for x in tensors)


def pull_back(
    f: Callable[..., Any], tensors: Tensors, cotangents: Any, *others: Any
) -> list[torch.Tensor | None]:
    """Vector-Jacobian product of ``f(*tensors)`` (a tensor or a tuple), everything else fixed: one for each
    tensor, None where f does not depend on it. Differentiable again where grad mode is on.

    others: further tensors that f and the cotangents are made of, from which transformations are recognised.
    """
    if not tensors:
        return []
    single = isinstance(cotangents, torch.Tensor)
    given = (cotangents,) if single else tuple(cotangents)
    if transforming(*tensors, *given, *others):
        _, pull = torch.func.vjp(f, *tensors)
        return list(pull(given[0] if single else given))
    again = torch.is_grad_enabled()  # True when a graph of this backward is wanted (create_graph=True)
    with torch.enable_grad():
        # aliases: derivatives at what is fixed, although that may itself depend on these tensors
        aliases = [
            t.view_as(t) if again and t.requires_grad else t.detach().requires_grad_() for t in tensors
        ]
        values = f(*aliases)
        values = (values,) if isinstance(values, torch.Tensor) else tuple(values)
        pairs = [(y, g) for y, g in zip(values, given, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(tensors)
        ys, gs = zip(*pairs, strict=True)
        return list(torch.autograd.grad(ys, aliases, gs, create_graph=again, allow_unused=True))


def push_forward(f: Callable[..., torch.Tensor], tensors: Tensors, tangents: Tensors) -> torch.Tensor:
    """Jacobian-vector product of ``f(*tensors)``, everything else fixed."""
    if transforming(*tensors, *tangents):
        return torch.func.jvp(f, tuple(tensors), tuple(tangents))[1]  # type: ignore[no-any-return]
    # forward AD of torch does not nest outside of torch.func: the pull-back, which is linear, is pulled back
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = _aliases(tensors, again)
        y = f(*aliases)
        out = None
        if y.requires_grad:
            u = torch.zeros_like(y, requires_grad=True)
            found = torch.autograd.grad(y, aliases, u, create_graph=True, allow_unused=True)
            pairs = [
                (g, t) for g, t in zip(found, tangents, strict=True) if g is not None and g.requires_grad
            ]
            if pairs:
                gs, ts = zip(*pairs, strict=True)
                out = torch.autograd.grad(gs, u, ts, create_graph=again, allow_unused=True)[0]
    return torch.zeros_like(y) if out is None else out


def _aliases(tensors: Tensors, again: bool) -> list[torch.Tensor]:
    return [t.view_as(t) if again and t.requires_grad else t.detach().requires_grad_() for t in tensors]


class _ZeroValued(torch.autograd.Function):
    """Zeros with the derivative of the identity: a linear map applied to them costs little, and is transposed
    by autograd all the same."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return grads[0]

    @staticmethod
    @nested_forward
    def jvp(ctx: Any, *tangents: torch.Tensor) -> Any:
        return tangents[0].clone()


def zero_valued(x: torch.Tensor) -> torch.Tensor:
    """Zeros of the shape of x that pass its derivative on."""
    return _ZeroValued.apply(x)  # type: ignore[no-any-return,no-untyped-call]

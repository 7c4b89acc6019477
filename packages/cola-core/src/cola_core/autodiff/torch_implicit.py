"""Implicit derivative of a linear solve in PyTorch.

``x = A^{-1} b`` satisfies ``dx = A^{-1} (db - dA x)``. So with the cotangent g of x: ``u = A^{-H} g`` is b's,
and the entries of A receive the pull-back of ``-u`` through ``A(entries) @ x`` at fixed x. The iteration
itself is never recorded: memory does not grow with its length. ``u`` is again such a solve, and the saved x
keeps its place in the graph, so second and higher derivatives are exact too, in both modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..backends.torch_spread import any_spread, through_door
from .torch_tree import detached, merged, nested_forward, primals, pull_back, push_forward, take_apart

__all__ = ["detached", "implicit_solve"]


def implicit_solve(
    A: Any,
    solve: Callable[[Any, Any], tuple[Any, Any]],
    b: torch.Tensor,
    solve_adjoint: Callable[[Any, Any], tuple[Any, Any]] | None = None,
    solve_tangent: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> tuple[Any, Any]:
    """``solve(A, b) -> (x, aux)`` with implicit derivatives of x in b, (*batch, n, k), and in every tensor of
    A; aux is passed through. ``solve_adjoint(A.H, b)`` serves the backward pass and ``solve_tangent(A, b)``
    forward mode and the derivatives of the backward pass (default: ``solve``).

    Under ``torch.func.vmap`` right-hand sides become further columns of one solve; operators of which there
    are several are solved with one after another, and aux is that of the last."""
    tensors, put_together = take_apart(A)
    call = _Solve(put_together, solve, solve_adjoint or solve, solve_tangent or solve)
    x = _Implicit.apply(call, None, b, *tensors)  # type: ignore[no-untyped-call]
    return x, call.told[-1]


@dataclass
class _Solve:
    """What is not a tensor of one solve."""

    put_together: Callable[[Any], Any]
    solve: Callable[[Any, Any], tuple[Any, Any]]
    solve_adjoint: Callable[[Any, Any], tuple[Any, Any]]
    solve_tangent: Callable[[Any, Any], tuple[Any, Any]]
    told: list[Any] = field(default_factory=list)

    def adjoint(self, tensors: Any, g: torch.Tensor) -> torch.Tensor:
        A = self.put_together(tensors)
        return implicit_solve(A.H, self.solve_adjoint, g, self.solve_tangent, self.solve_adjoint)[0]  # type: ignore[no-any-return]


class _Implicit(torch.autograd.Function):
    """``known``: the answer, where it is at hand and only wants a place in a graph."""

    @staticmethod
    def forward(
        call: _Solve, known: torch.Tensor | None, b: torch.Tensor, *tensors: torch.Tensor
    ) -> torch.Tensor:
        if known is not None:
            return known.clone()
        x, aux = call.solve(call.put_together(detached(tensors)), b.detach())
        call.told.append(aux)
        return x  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
        call, _, b, *tensors = inputs
        ctx.call = call
        ctx.spread = any_spread((b, *tensors))
        ctx.save_for_backward(output, *tensors)
        ctx.save_for_forward(output, b, *tensors)

    @staticmethod
    @through_door
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        call, g = ctx.call, grads[0]
        x = x if torch.is_grad_enabled() else x.detach()
        u = call.adjoint(tensors, g)
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[3:]) if needed]

        def product(*moving: torch.Tensor) -> Any:
            return call.put_together(merged(tensors, wanted, moving)) @ x

        found = pull_back(product, [tensors[i] for i in wanted], -u, x, *tensors)
        out = merged([None] * len(tensors), wanted, found)
        return (None, None, u if ctx.needs_input_grad[2] else None, *out)

    @staticmethod
    @through_door
    @nested_forward
    def jvp(ctx: Any, *tangents: Any) -> torch.Tensor:
        x, b, *tensors = primals(ctx.saved_tensors)
        call: _Solve = ctx.call
        # the output has no place in a graph yet: it gets one, for derivatives of this derivative
        x = _Implicit.apply(call, x.detach(), b, *tensors)  # type: ignore[no-untyped-call]
        rhs = tangents[2]
        moving = [i for i, t in enumerate(tangents[3:]) if t is not None]
        if moving:

            def product(*parts: torch.Tensor) -> Any:
                return call.put_together(merged(tensors, moving, parts)) @ x

            pushed = push_forward(product, [tensors[i] for i in moving], [tangents[3 + i] for i in moving])
            rhs = -pushed if rhs is None else rhs - pushed
        A, tangent = call.put_together(tensors), call.solve_tangent
        return implicit_solve(A, tangent, rhs, call.solve_adjoint, tangent)[0]  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Solve, *args: Any) -> Any:
        known, b, *tensors = args
        _, known_dim, b_dim, *dims = in_dims
        if known is None and all(d is None for d in dims):
            # (batch, ..., n, k) -> (..., n, k * batch): one solve for all
            columns = b.movedim(b_dim, -1)
            x = _Implicit.apply(call, None, columns.flatten(-2), *tensors)  # type: ignore[no-untyped-call]
            return x.unflatten(-1, columns.shape[-2:]), x.dim()
        xs = []
        for i in range(info.batch_size):
            parts = [t if d is None else t.select(d, i) for t, d in zip(args, in_dims[1:], strict=True)]
            xs.append(_Implicit.apply(call, *parts))  # type: ignore[no-untyped-call]
        return torch.stack(xs), 0

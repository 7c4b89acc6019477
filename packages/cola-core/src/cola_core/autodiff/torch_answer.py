"""Answers with a stated derivative in PyTorch; see ``tangents``.

Forward mode evaluates the formula. Reverse mode transposes it: the formula is evaluated on tangents that are
zero in value (so that its solves end at once) and pass on the derivative of the identity, and autograd goes
back through it; or the caller gives the transpose itself, as pairs (U, V) for which the gradient is that of
``Re <U, A V>``. Either may be differentiated again, as inputs and outputs keep their places in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ..backends.torch_spread import any_spread, through_door
from .torch_tree import (
    detached,
    merged,
    nested_forward,
    primals,
    pull_back,
    push_forward,
    take_apart,
    zero_valued,
)

__all__ = ["differentiable"]


def differentiable(
    run: Callable[..., tuple[tuple[torch.Tensor, ...], Any]],
    tangent: Callable[..., tuple[torch.Tensor, ...]],
    inputs: tuple[Any, ...],
    cotangent: Callable[..., tuple[Any, ...]] | None = None,
) -> tuple[tuple[torch.Tensor, ...], Any]:
    """``run(*inputs) -> (outputs, aux)`` with the derivative ``tangent(d, inputs, outputs)``.

    cotangent(grads, inputs, outputs): its transpose, where that is cheaper stated than derived: for each
    input None, an array, or, where it is an operator, pairs (U, V): a list, or an iterator that makes them
    one by one.
    Under ``torch.func.vmap`` one answer after another; aux is then that of the last.
    """
    parts = [take_apart(x) for x in inputs]
    flat = [t for tensors, _ in parts for t in tensors]
    call = _Call(run, tangent, cotangent, [(len(tensors), put) for tensors, put in parts])
    outputs = _Answer.apply(call, None, *flat)  # type: ignore[no-untyped-call]
    return outputs, call.told[-1]


@dataclass
class _Call:
    """What is not a tensor of one answer. ``parts``: of each input the number of tensors, and what puts them
    together."""

    run: Callable[..., Any]
    tangent: Callable[..., Any]
    cotangent: Callable[..., Any] | None
    parts: list[tuple[int, Callable[[Any], Any]]]
    told: list[Any] = field(default_factory=list)
    count: int = 0

    def inputs(self, flat: Any) -> tuple[Any, ...]:
        out, start = [], 0
        for size, put_together in self.parts:
            out.append(put_together(flat[start : start + size]))
            start += size
        return tuple(out)

    def places(self, i: int) -> range:
        """Where the tensors of input i stand."""
        start = sum(size for size, _ in self.parts[:i])
        return range(start, start + self.parts[i][0])


class _Answer(torch.autograd.Function):
    """``known``: the number of outputs if they are at hand, before the inputs, and only want places in a
    graph; else None."""

    @staticmethod
    def forward(call: _Call, known: int | None, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if known is not None:
            return tuple(t.clone() for t in tensors[:known])
        outputs, aux = call.run(*call.inputs(detached(tensors)))
        call.told.append(aux)
        call.count = len(outputs)
        # a Function must not hand out what it was given
        return tuple(y.clone() if any(y is t for t in tensors) else y for y in outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[torch.Tensor, ...]) -> None:
        call, known, *tensors = inputs
        ctx.call, ctx.known = call, known or 0
        ctx.spread = any_spread(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output, *tensors[ctx.known :])
        ctx.save_for_forward(*output, *tensors[ctx.known :])

    @staticmethod
    @through_door
    def backward(ctx: Any, *grads: Any) -> Any:
        call: _Call = ctx.call
        needed = ctx.needs_input_grad[2 + ctx.known :]
        none = [None] * (2 + ctx.known)
        if all(g is None for g in grads):
            return (*none, *[None] * len(needed))
        saved = ctx.saved_tensors
        if not torch.is_grad_enabled():
            saved = [t.detach() for t in saved]
        outputs, flat = tuple(saved[: call.count]), list(saved[call.count :])
        wanted = [i for i, wants in enumerate(needed) if wants]
        if call.cotangent is None:
            # outputs that nobody has used are left out: what they would need is not computed, and a place
            # where their derivative does not exist (NaN) leaves the others alone
            used = [j for j, g in enumerate(grads) if g is not None]

            def formula(*moving: torch.Tensor) -> Any:
                d = _Transposed(call, merged(flat, wanted, moving), set(wanted))
                moved = tuple(call.tangent(d, call.inputs(flat), outputs))
                return tuple(moved[j] for j in used)

            given = tuple(grads[j] for j in used)
            found = pull_back(formula, [flat[i] for i in wanted], given, *flat, *outputs)
        else:
            grads = tuple(
                torch.zeros_like(y) if g is None else g for y, g in zip(outputs, grads, strict=True)
            )
            found = _from_cotangent(call, flat, wanted, outputs, grads)
        return (*none, *merged([None] * len(flat), wanted, found))

    @staticmethod
    @through_door
    @nested_forward
    def jvp(ctx: Any, *tangents: Any) -> tuple[torch.Tensor, ...]:
        call: _Call = ctx.call
        saved = primals(ctx.saved_tensors)
        outputs, flat = saved[: call.count], saved[call.count :]
        # outputs have no place in a graph yet: they get one, for derivatives of this derivative
        outputs = _Answer.apply(call, call.count, *[y.detach() for y in outputs], *flat)  # type: ignore[no-untyped-call]
        d = _Forward(call, flat, list(tangents[2 + ctx.known :]))
        return tuple(call.tangent(d, call.inputs(flat), outputs))

    @staticmethod
    def vmap(info: Any, in_dims: Any, call: _Call, known: int | None, *tensors: torch.Tensor) -> Any:
        outputs = []
        for i in range(info.batch_size):
            parts = [t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims[2:], strict=True)]
            outputs.append(_Answer.apply(call, known, *parts))  # type: ignore[no-untyped-call]
        return tuple(torch.stack(ys) for ys in zip(*outputs, strict=True)), (0,) * call.count


class _Forward:
    """Tangents that are numbers."""

    def __init__(self, call: _Call, flat: list[torch.Tensor], tangents: list[Any]) -> None:
        self.call, self.flat, self.tangents = call, flat, tangents

    def moves(self, i: int) -> bool:
        return any(self.tangents[p] is not None for p in self.call.places(i))

    def moving(self, i: int) -> list[bool]:
        return [self.tangents[p] is not None for p in self.call.places(i)]

    def __getitem__(self, i: int) -> torch.Tensor:
        (place,) = self.call.places(i)
        found = self.tangents[place]
        return torch.zeros_like(self.flat[place]) if found is None else found

    def arrays(self, i: int) -> list[torch.Tensor]:
        found = [(self.tangents[p], self.flat[p]) for p in self.call.places(i)]
        return [torch.zeros_like(x) if t is None else t for t, x in found]

    def product(self, i: int, V: torch.Tensor) -> torch.Tensor:
        return self._pushed(i, lambda A: A @ V)

    def adjoint(self, i: int, V: torch.Tensor) -> torch.Tensor:
        return self._pushed(i, lambda A: A.H @ V)

    def _pushed(self, i: int, times: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        places = self.call.places(i)
        moving = [p for p in places if self.tangents[p] is not None]
        if not moving:
            return torch.zeros_like(times(self.call.inputs(self.flat)[i]))

        def product(*parts: torch.Tensor) -> torch.Tensor:
            return times(self.call.inputs(merged(self.flat, moving, parts))[i])

        return push_forward(product, [self.flat[p] for p in moving], [self.tangents[p] for p in moving])


class _Transposed:
    """Tangents that are zero, and the identity's derivative: ``flat`` holds what is differentiated."""

    def __init__(self, call: _Call, flat: list[torch.Tensor], wanted: set[int]) -> None:
        self.call, self.flat, self.wanted = call, flat, wanted

    def moves(self, i: int) -> bool:
        return any(p in self.wanted for p in self.call.places(i))

    def moving(self, i: int) -> list[bool]:
        return [p in self.wanted for p in self.call.places(i)]

    def __getitem__(self, i: int) -> torch.Tensor:
        (place,) = self.call.places(i)
        x = self.flat[place]
        return zero_valued(x) if place in self.wanted else torch.zeros_like(x)

    def arrays(self, i: int) -> list[torch.Tensor]:
        places = self.call.places(i)
        return [
            zero_valued(self.flat[p]) if p in self.wanted else torch.zeros_like(self.flat[p]) for p in places
        ]

    def product(self, i: int, V: torch.Tensor) -> torch.Tensor:
        return self._product(i, lambda A: A @ V)

    def adjoint(self, i: int, V: torch.Tensor) -> torch.Tensor:
        return self._product(i, lambda A: A.H @ V)

    def _product(self, i: int, times: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        Y = times(self.call.inputs(self.flat)[i])
        return zero_valued(Y) if self.moves(i) else torch.zeros_like(Y)


def _from_cotangent(
    call: _Call, flat: list[torch.Tensor], wanted: list[int], outputs: Any, grads: Any
) -> list[Any]:
    """Gradients of the wanted tensors from those the caller states of whole inputs."""
    inputs = call.inputs(flat)
    stated = call.cotangent(grads, inputs, outputs)  # type: ignore[misc]
    found: dict[int, Any] = {}
    for i, gradient in enumerate(stated):
        places = [p for p in call.places(i) if p in wanted]
        if gradient is None or not places:
            continue
        if isinstance(gradient, torch.Tensor):
            found[places[0]] = gradient
            continue
        if isinstance(gradient, tuple) and all(x is None or isinstance(x, torch.Tensor) for x in gradient):
            found.update(zip(call.places(i), gradient, strict=True))
            continue
        # a list at once; of what an iterator makes, one after the other
        groups = [gradient] if isinstance(gradient, (list, tuple)) else ([pair] for pair in gradient)
        for group in groups:
            Us, Vs = [U for U, _ in group], [V for _, V in group]

            def products(*moving: torch.Tensor, i: int = i, places: Any = places, Vs: Any = Vs) -> Any:
                A = call.inputs(merged(flat, places, moving))[i]
                return tuple(A @ V for V in Vs)

            pulled = pull_back(products, [flat[p] for p in places], tuple(Us), *flat, *Vs)
            for p, part in zip(places, pulled, strict=True):
                if part is not None:
                    found[p] = part if p not in found else found[p] + part
    return [found.get(p) for p in wanted]

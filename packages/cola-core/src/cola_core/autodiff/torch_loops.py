"""Loops whose end depends on values, where PyTorch cannot look at them.

Under ``torch.func.vmap`` every example has its own end: all of them make steps until the last one has
finished, and those that have finished keep what they had, as in JAX. In a program that is being compiled
nothing can be looked at: the steps are written out, as many as the bound on their count allows, and masked by
the same condition. The count of steps, the Python integers of a state, is known there; ``_Count`` makes it
show in the condition, of which the other part is an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree

__all__ = ["MOST_STEPS", "batched", "being_traced", "masked_loop", "plain_value", "unrolled_loop"]

MOST_STEPS = 256  # that are written out
_MODES = torch._C._TorchDispatchModeKey
_mode = torch._C._get_dispatch_mode
_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_unwrapped = torch._C._functorch.get_unwrapped
_is_batched = torch._C._functorch.is_batchedtensor


def being_traced() -> bool:
    """Whether operations are recorded rather than run, by Dynamo, AOTAutograd and the like."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch._C._len_torch_dispatch_stack()) and any(
        _mode(key) is not None for key in (_MODES.FAKE, _MODES.FUNCTIONAL, _MODES.PROXY)
    )


def plain_value(x: torch.Tensor) -> torch.Tensor:
    """The tensor inside of the wrappers of ``torch.func``."""
    while _wrapped(x):
        x = _unwrapped(x)
    return x


def batched(x: Any) -> bool:
    """Whether ``torch.func.vmap`` has wrapped x, or something inside of x."""
    while isinstance(x, torch.Tensor) and _wrapped(x):
        if _is_batched(x):
            return True
        x = _unwrapped(x)
    return False


class _Truth:
    """What is known of a condition before the program runs; ``&`` with an array is the array or False."""

    def __init__(self, value: bool) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return self.value

    def __and__(self, other: Any) -> Any:
        return other if self.value else False

    __rand__ = __and__

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        x, known = args if isinstance(args[1], _Truth) else args[::-1]
        return x if known.value else False


class _Count(int):
    """A number of steps."""

    def __add__(self, other: Any) -> Any:
        found = int(self) + other
        return _Count(found) if type(found) is int else found

    __radd__ = __add__

    def __lt__(self, other: Any) -> Any:
        return _Truth(int(self) < other) if isinstance(other, int) else int(self) < other


def _kept(live: torch.Tensor, new: Any, old: Any) -> Any:
    if not isinstance(new, torch.Tensor) and not isinstance(old, torch.Tensor):
        return new
    if not isinstance(old, torch.Tensor):
        old = torch.full_like(new, old)
    if not isinstance(new, torch.Tensor):
        new = torch.full_like(old, new)
    return torch.where(live, new, old)


def _masked(live: torch.Tensor, new: Any, old: Any) -> Any:
    flat, spec = _pytree.tree_flatten(new)
    before = _pytree.tree_leaves(old)
    return _pytree.tree_unflatten([_kept(live, n, o) for n, o in zip(flat, before, strict=True)], spec)


def masked_loop(
    condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any, going: torch.Tensor
) -> Any:
    """The loop under ``torch.func.vmap``; ``going`` is ``condition(state)``. Counts are those of the slowest
    example."""
    while not isinstance(going, torch.Tensor) or bool(plain_value(going).any()):
        if going is False:
            break
        new = body(state)
        state = _masked(going, new, state) if batched(going) else new
        going = condition(state)
    return state


def unrolled_loop(condition: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    """The loop in a program that is being compiled. The counts of the final state are those of the steps that
    its condition allowed, as arrays where they depend on values."""
    flat, spec = _pytree.tree_flatten(state)
    counts = [i for i, x in enumerate(flat) if type(x) in (int, _Count)]
    for i in counts:
        flat[i] = _Count(flat[i])
    state = _pytree.tree_unflatten(flat, spec)
    made: dict[int, Any] = {}
    for _ in range(MOST_STEPS + 1):
        going = condition(state)
        if not isinstance(going, torch.Tensor):
            if not going:
                return _counted(state, made)
            state = body(state)
            continue
        new = body(state)
        after, before = _pytree.tree_leaves(new), _pytree.tree_leaves(state)
        for i in counts:
            if not isinstance(after[i], torch.Tensor):
                made[i] = torch.where(going, int(after[i]), made.get(i, int(before[i])))
        state = _masked(going, new, state)
    raise NotImplementedError(
        f"torch.compile writes out the steps of an iteration, and this one may make more than {MOST_STEPS}. "
        "Give it a budget within that, as in CG(max_iters=20); ask outside of the compiled function; or take "
        "a direct method (LU(), Cholesky(), Eigh())."
    )


def _counted(state: Any, made: dict[int, Any]) -> Any:
    flat, spec = _pytree.tree_flatten(state)
    for i, x in enumerate(flat):
        if i in made:
            flat[i] = made[i]
        elif type(x) is _Count:
            flat[i] = int(x)
    return _pytree.tree_unflatten(flat, spec)

"""Tensors that a user's function holds besides its arguments, as a module holds its parameters.

An implicit derivative knows the arrays of an operator and no others: the gradient of what a function closes
over would be lost without a word. So operators made of functions are multiplied once, with their own arrays
held fixed; a product that still wants a derivative comes from such a tensor, and is an error.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import forward_ad

from ..errors import NotDifferentiableError
from ..operators.pair_function import PairFunction
from ..pytree import map_leaves

__all__ = ["refuse_hidden"]


def refuse_hidden(*inputs: Any) -> None:
    """Raise NotDifferentiableError where the function of an operator closes over what is differentiated."""
    if torch.compiler.is_compiling():
        return
    for A in inputs:
        if hasattr(type(A), "_child_fields") and hasattr(A, "_matmat"):
            for part in _of_functions(A):
                _refuse(A, part)


def _of_functions(A: Any) -> list[Any]:
    """The operators in A, itself included, that hold a function."""
    if isinstance(A, tuple):
        return [part for x in A for part in _of_functions(x)]
    if not hasattr(type(A), "_child_fields"):
        return []
    d = A.__dict__
    # what stands beside a function may be a function too: the whole is multiplied
    if hasattr(A, "_matmat") and any(_is_function(d[name]) for name in A._static_fields):
        return [A]
    return [part for name in A._child_fields for part in _of_functions(d[name])]


def _is_function(x: Any) -> bool:
    # a PairFunction holds no arrays: Kernel looks
    return callable(x) and not isinstance(x, (type, PairFunction))


def _refuse(A: Any, part: Any) -> None:
    fixed = map_leaves(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, part)
    with torch.enable_grad():
        y = fixed._matmat(torch.zeros((part.shape[-1], 1), dtype=part.dtype, device=part.device))
    moving = y.requires_grad
    if not moving and forward_ad._current_level >= 0:
        moving = forward_ad.unpack_dual(y).tangent is not None
    if moving:
        whole = "" if part is A else f" in {A!r}"
        raise NotDifferentiableError(
            f"the function of {part!r}{whole} closes over a tensor that requires gradients, which an "
            "implicit derivative would lose. Give the tensor as an argument: params= of Kernel, the point x "
            "of Jacobian, or a subclass of LinearOperator made with @ops.operator whose fields are tensors."
        )

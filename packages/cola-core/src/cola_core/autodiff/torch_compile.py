"""Questions inside of ``torch.compile(fullgraph=True)``: each is one traced step.

Imported while Dynamo reads a program (see ``dispatch.opaque``). ``nonstrict_trace`` makes of a function one
call in Dynamo's graph; AOTAutograd then traces through it with fake tensors, so that the compiled program
holds the array operations only, and derivatives go the way they go in eager code. Such a call takes tensors,
numbers and pytrees of them: operators are pytrees; what is static (settings, names, None) travels as the
structure of one without leaves.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree

from .. import errors
from ..backends import get_backend
from ..errors import ColaError
from ..properties import PSD, Congruence, Property, SelfAdjoint, Stiefel, Unitary
from ..pytree import register_pytrees
from .torch_loops import being_traced

__all__ = ["step"]

get_backend("torch")
register_pytrees()
PROPERTIES = {p.name: p for p in (PSD, SelfAdjoint, Stiefel, Unitary, Congruence)}


class Packed:
    """Arguments or answers as a pytree: arrays and numbers, and how they lie together (``code``)."""

    def __init__(self, arrays: list[Any], code: Any) -> None:
        self.arrays, self.code = arrays, code


_pytree.register_pytree_node(
    Packed, lambda box: (box.arrays, box.code), lambda arrays, code: Packed(list(arrays), code)
)

# All below is read by Dynamo, which keeps constants of Python's own types, classes and functions only. So
# what is static is spelled out in those.
ARRAY, ITEMS, SET, DICT, FIELDS, NAMED, PLAIN, FAILURE = range(8)


def encode(x: Any, arrays: list[Any]) -> Any:
    """A nested tuple of constants that tells what x is; its arrays are appended."""
    if isinstance(x, torch.Tensor):
        arrays.append(x)
        return (ARRAY,)
    if isinstance(x, Property):
        return (NAMED, x.name)
    if isinstance(x, (tuple, list)):
        return (ITEMS, type(x) is list, tuple([encode(part, arrays) for part in x]))
    if isinstance(x, frozenset):
        return (SET, tuple([encode(part, arrays) for part in x]))
    if isinstance(x, dict):
        names = tuple([name for name in x])
        return (DICT, names, tuple([encode(x[name], arrays) for name in names]))
    if hasattr(x, "__dataclass_fields__") and not isinstance(x, type):
        cls = type(x)
        names = tuple([f.name for f in fields(x)])
        parts = tuple([encode(getattr(x, name), arrays) for name in names])
        return (FIELDS, cls.__module__, cls.__qualname__, names, parts)
    if isinstance(x, str):  # reasons are strings of a class of their own
        return (PLAIN, str(x))
    return (PLAIN, x)


def decode(code: Any, arrays: Any) -> Any:
    """What ``encode`` was given; arrays: an iterator."""
    kind = code[0]
    if kind == ARRAY:
        return next(arrays)
    if kind == ITEMS:
        parts = [decode(part, arrays) for part in code[2]]
        return parts if code[1] else tuple(parts)
    if kind == SET:
        return frozenset([decode(part, arrays) for part in code[1]])
    if kind == NAMED:
        if code[1] not in PROPERTIES:
            raise NotImplementedError(
                f"the property {code[1]} is none of the core's, which alone compile: ask outside "
                "of the compiled function."
            )
        return PROPERTIES[code[1]]
    if kind == DICT:
        parts = [decode(part, arrays) for part in code[2]]
        return {code[1][i]: parts[i] for i in range(len(parts))}
    if kind == FIELDS:
        _, module, qualname, names, codes = code
        parts = [decode(part, arrays) for part in codes]
        made = object.__new__(getattr(sys.modules[module], qualname))
        for i in range(len(parts)):
            object.__setattr__(made, names[i], parts[i])
        return made
    if kind == FAILURE:
        raise getattr(errors, code[1], NotImplementedError)(code[2])
    return code[1]


def _pack(x: Any) -> Packed:
    arrays: list[Any] = []
    return Packed(arrays, encode(x, arrays))


def _unpack(box: Packed) -> Any:
    return decode(box.code, iter(box.arrays))


def _answer(module: str, name: str, operands: Packed) -> Packed:
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    args, kwargs = _unpack(operands)
    try:
        answer = found(*args, **kwargs)
    except (ColaError, NotImplementedError) as error:
        if not being_traced():
            raise
        # Dynamo would report it as an output of a kind that it does not know
        return Packed([], (FAILURE, type(error).__name__, str(error)))
    except (GuardOnDataDependentSymNode, DataDependentOutputException):
        told = f"{name} of these operands takes decisions by values, which torch.compile cannot look at. "
        told += "Take a direct method (LU(), Cholesky(), Eigh()), or ask outside of the compiled function."
        environment = getattr(torch._guards.detect_fake_mode(), "shape_env", None)
        if environment is not None:  # numbers that were asked for and are of no use any more
            environment.pending_fresh_unbacked_symbols.clear()
        return Packed([], (FAILURE, "NotImplementedError", told))
    return _pack(answer)


_traced = torch._dynamo.nonstrict_trace(_answer)


def step(module: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call of the function of this name, as one step of the program that is being read."""
    return _unpack(_traced(module, name, _pack((args, kwargs))))

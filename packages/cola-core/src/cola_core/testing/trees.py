"""Looking into operators: their parts, their arrays, and the same operator with other arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..backends import backend_of_type
from ..backends.base import dtype_name
from ..operators import LinearOperator, map_leaves

__all__ = ["inexact_leaves", "leaves", "operators_in", "spy", "with_inexact"]


def operators_in(A: Any) -> list[LinearOperator]:
    """The operator and all operators inside, outermost first."""
    out = [A]
    for part in A._parts():
        if isinstance(part, LinearOperator):
            out += operators_in(part)
    return out


def leaves(A: Any) -> list[Any]:
    """All arrays (not Python numbers) of an operator."""
    found: list[Any] = []

    def note(x: Any) -> Any:
        if backend_of_type(type(x)) is not None:
            found.append(x)
        return x

    map_leaves(note, A)
    return found


def _inexact(x: Any) -> bool:
    if backend_of_type(type(x)) is None:
        return False
    name = dtype_name(x.dtype)
    return "float" in name or "complex" in name


def inexact_leaves(A: Any) -> list[Any]:
    """Arrays of floating-point numbers: the ones that take gradients."""
    return [x for x in leaves(A) if _inexact(x)]


def with_inexact(A: Any, new: list[Any]) -> Any:
    """The operator with its floating-point arrays replaced, in order."""
    rest = iter(new)
    return map_leaves(lambda x: next(rest) if _inexact(x) else x, A)


@contextmanager
def spy(classes: set[type], name: str, note: Callable[[Any, tuple[Any, ...]], None]) -> Iterator[None]:
    """Within the block, ``note(self, args)`` hears of every call of method ``name``
    on instances of ``classes``."""
    owners = {next(c for c in cls.__mro__ if name in c.__dict__) for cls in classes}
    saved = {owner: owner.__dict__[name] for owner in owners}

    def wrap(original: Any) -> Any:
        def heard(self: Any, *args: Any, **kwargs: Any) -> Any:
            note(self, args)
            return original(self, *args, **kwargs)

        return heard

    try:
        for owner, original in saved.items():
            setattr(owner, name, wrap(original))
        yield
    finally:
        for owner, original in saved.items():
            setattr(owner, name, original)

"""Frozen parameter containers: kernels, means, noise models and whole models are pytrees.

A class decorated with :func:`struct` is a frozen dataclass whose array (and nested ``struct``) fields are
pytree children and whose ``static()`` fields are metadata, exactly like the operators of the core, and it
is registered the same way with JAX, torch and optree.  Rebuilding one from its children never runs
``__init__``, so transformations may put tracers or placeholders where the numbers were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np

from cola_core.operators import operator as struct
from cola_core.operators import register_pytrees, static

T = TypeVar("T")

__all__ = ["Struct", "leaves", "named_leaves", "set_fields", "static", "struct", "with_leaves"]


class Struct:
    """Base of every parameter container (see the module docstring)."""

    _child_fields: tuple[str, ...] = ()
    _static_fields: tuple[str, ...] = ()
    # Names of child fields that hold data rather than parameters: an optimiser leaves them alone.
    _data_fields: tuple[str, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        register_pytrees()  # tells frameworks imported since the last call; nothing to do otherwise
        return object.__new__(cls)

    def replace(self: T, **changes: Any) -> T:
        """A copy with some fields changed; fields of a positive parameter are called ``log_...``."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def __repr__(self) -> str:
        parts = []
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            # Not by identity: a text that was read from a file equals its default and is another object.
            static_default = field.default if field.name in self._static_fields else dataclasses.MISSING
            if type(value) is type(static_default) and value == static_default:
                continue
            if field.name.startswith("log_"):
                parts.append(f"{field.name[4:]}={_show_exp(value)}")
            else:
                parts.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


def _show_exp(value: Any) -> str:
    try:
        shown = np.exp(np.asarray(value, dtype=float))
    except Exception:  # noqa: BLE001 - a tracer has no number to show
        return f"exp({type(value).__name__})"
    return f"{float(shown):.4g}" if shown.ndim == 0 else np.array2string(shown, precision=4, separator=", ")


def rebuild(node: Any, children: tuple[Any, ...]) -> Any:
    """``node`` with other children, without running ``__init__``."""
    obj = object.__new__(type(node))
    for name in node._static_fields:
        object.__setattr__(obj, name, getattr(node, name))
    for name, value in zip(node._child_fields, children, strict=True):
        object.__setattr__(obj, name, value)
    return obj


def set_fields(obj: Any, **values: Any) -> None:
    """Assign fields of a frozen instance inside its own ``__init__``."""
    for name, value in values.items():
        object.__setattr__(obj, name, value)


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Yield ``(name, array, trainable)`` for every leaf, depth first in field order.

    Names are paths such as ``kernel.terms.0.log_lengthscale``.
    """
    if isinstance(tree, Struct):
        for name in tree._child_fields:
            path = f"{prefix}.{name}" if prefix else name
            for leaf, value, trainable in named_leaves(getattr(tree, name), path):
                yield leaf, value, trainable and name not in tree._data_fields
    elif isinstance(tree, tuple):
        for i, item in enumerate(tree):
            yield from named_leaves(item, f"{prefix}.{i}" if prefix else str(i))
    else:
        yield prefix, tree, True


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, in the order of :func:`named_leaves`."""
    return [value for _, value, _ in named_leaves(tree)]


def with_leaves(tree: T, values: list[Any]) -> T:
    """The same tree with its leaves replaced, in the order of :func:`named_leaves`."""
    feed = iter(values)

    def build(node: Any) -> Any:
        if isinstance(node, Struct):
            return rebuild(node, tuple(build(getattr(node, name)) for name in node._child_fields))
        if isinstance(node, tuple):
            return tuple(build(item) for item in node)
        return next(feed)

    return build(tree)

"""The static facts of operands as a key: what guards and estimates may look at, and what a choice rests on.

Two operators with the same key have the same classes, structure, settings, shapes, dtypes and properties all
the way down; values are no part of it.
"""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from .placement import placed

__all__ = ["facts"]


def facts(x: Any) -> Any:
    """A hashable key; raises TypeError where there is none. Kept with the operator, which never changes.

    An operand of a plugin's question that is neither operator nor array has a method ``static_facts()``,
    which returns what of it a choice may rest on (classes, settings, operators, arrays): the key outlives the
    operand, so it must not be the operand itself.
    """
    d = getattr(x, "__dict__", None)
    if d is not None and hasattr(type(x), "_child_fields"):
        known = d.get("_facts")
        if known is None:
            cls = type(x)
            children = tuple([facts(d[name]) for name in cls._child_fields])
            metadata = tuple([d[name] for name in cls._static_fields])
            known = d["_facts"] = (cls, metadata, getattr(x, "properties", None), children)
        return known
    own = getattr(type(x), "static_facts", None)
    if own is not None:
        return facts(own(x))
    shape = getattr(x, "shape", None)
    if shape is not None and (backend := backend_of_type(type(x))) is not None:
        # a derivative that is wanted, or a trace, is a fact, too
        return (type(x), tuple(shape), x.dtype, getattr(x, "requires_grad", False), placed(x, backend))
    return tuple([facts(part) for part in x]) if isinstance(x, tuple) else x

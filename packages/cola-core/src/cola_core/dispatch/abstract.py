"""Replace operands by their shapes and dtypes, keeping every structural and declared fact."""

from __future__ import annotations

from typing import Any
from weakref import ref

from ..backends import backend_of_type
from ..backends.abstract import AbstractArray
from ..backends.pieces import pieces
from ..interop import convert
from ..operators import LinearOperator, map_leaves

__all__ = ["abstract"]


def abstract(x: Any, known: dict[int, Any] | None = None) -> Any:
    """The operator (or array) with placeholders for its arrays; anything else unchanged.

    known: placeholders made so far, for several operands that share arrays.
    """
    if isinstance(x, LinearOperator):
        known = {} if known is None else known

        def once(leaf: Any) -> Any:
            # an array that occurs twice stays one: that two operators are the same data is a static fact
            made = known.get(id(leaf))
            return known.setdefault(id(leaf), _leaf(leaf)) if made is None else made

        return _relinked(x, map_leaves(once, x)._restatic(None, "abstract"))
    foreign = convert(x)
    return _leaf(x) if foreign is None else abstract(foreign, known)


def _leaf(x: Any) -> Any:
    backend = backend_of_type(type(x))
    if backend is None:
        return x
    made = AbstractArray(x.shape, x.dtype)
    spread = backend.shards(x) if backend.name != "abstract" else x.shards
    if spread > 1:
        made.shards, made.pieces = spread, pieces(x)
    return made


def _relinked(old: Any, new: Any) -> Any:
    """``B.H @ B`` is known by a link from the adjoint to B, which is a fact of the expression too."""
    if isinstance(old, tuple):
        for i, (a, c) in enumerate(zip(old, new, strict=True)):
            _relinked(a, c)
            of = a.__dict__.get("_adjoint_of") if isinstance(a, LinearOperator) else None
            for j, b in enumerate(old):
                if i != j and of is not None and of() is b:
                    c.__dict__["_adjoint_of"] = ref(new[j])
    elif isinstance(old, LinearOperator):
        if hasattr(old, "_products"):
            new.__dict__["_planned"] = old._products()
        for name in old._child_fields:
            _relinked(old.__dict__[name], new.__dict__[name])
    return new

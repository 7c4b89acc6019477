"""``describe(A)``: what an operator is made of, as a tree to read or as plain values.

One line says what a node is (class, shape; dtype, library and device where they differ from the node above)
and what is known about it: declared properties as they are, those that structure implies in parentheses. The
next says what it holds (an array that occurs twice is counted once) and what one product with a vector costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .backends.base import dtype_name
from .dispatch.plan import _si
from .operators import LinearOperator
from .pytree import tree_leaves

__all__ = ["Description", "describe"]

WIDTH = 12  # children shown of one node, after equal neighbours are folded into one


@dataclass
class Description:
    """One operator of a composition; print it, or take ``as_dict()`` or ``to_json()``."""

    operator: str
    detail: str
    shape: tuple[int, ...]
    dtype: str
    library: str
    device: str
    declared: tuple[str, ...]
    implied: tuple[str, ...]
    bytes: int
    flops: float
    settings: dict[str, str] = field(default_factory=dict)
    children: list[Description] = field(default_factory=list)
    repeated: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "operator": self.operator,
            "detail": self.detail,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "library": self.library,
            "device": self.device,
            "declared": list(self.declared),
            "implied": list(self.implied),
            "bytes": self.bytes,
            "flops": self.flops,
            "settings": self.settings,
            "repeated": self.repeated,
            "children": [c.as_dict() for c in self.children],
        }

    def to_json(self, indent: int = 2) -> str:
        """The tree as JSON."""
        return json.dumps(self.as_dict(), indent=indent)

    def __str__(self) -> str:
        lines: list[str] = []
        self._render(None, "", "", lines)
        return "\n".join(lines)

    __repr__ = __str__

    def _render(self, above: Description | None, first: str, rest: str, lines: list[str]) -> None:
        words = [f"{self.operator}{f' {self.repeated}x' if self.repeated > 1 else ''}"]
        words.append("x".join(map(str, self.shape)))
        for name in ("dtype", "library", "device"):
            value = getattr(self, name)
            if value and (above is None or getattr(above, name) != value):
                words.append(value)
        facts = [*self.declared, *(f"({p})" for p in self.implied)]
        if facts:
            words.append(", ".join(facts))
        words += [self.detail] if self.detail else []
        words += [f"{name}={value}" for name, value in self.settings.items()]
        lines.append(first + "  ".join(words))
        work = f"{_si(self.bytes)}B, ~{_si(self.flops)}flop per product"
        lines.append(f"{rest}{'│  ' if self.children else '   '}{work}".rstrip())
        shown = self.children[:WIDTH] if len(self.children) > WIDTH + 1 else self.children
        hidden = self.children[len(shown) :]
        for i, child in enumerate(shown):
            last = i == len(shown) - 1 and not hidden
            child._render(self, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "), lines)
        if hidden:
            lines.append(f"{rest}└─ ... and {sum(c.repeated for c in hidden)} more")


def describe(A: LinearOperator) -> Description:
    """The tree of an operator. Reads shapes and structure only, never values; costs a walk over the tree."""
    declared = {p.name for p in A.declared}
    device = A.device
    name = "" if device is None else str(device)
    node = Description(
        operator=type(A).__name__,
        detail=_detail(A),
        shape=A.shape,
        dtype="" if A._dtype() is None else dtype_name(A.dtype),
        library="" if A.backend is None else A.backend.name,
        device="" if name.lower().startswith(("cpu", "tfrt_cpu")) else name,
        declared=tuple(sorted(declared)),
        implied=tuple(sorted(p.name for p in A.properties if p.name not in declared)),
        bytes=_bytes(A),
        flops=float(A.matvec_cost.flops),
        settings=_settings(A),
    )
    for part in _operators(A):
        child = describe(part)
        if node.children and _alike(node.children[-1], child):
            node.children[-1].repeated += 1
        else:
            node.children.append(child)
    return node


def _operators(A: Any) -> list[LinearOperator]:
    """The operators among the fields of ``A``, at any depth of tuples."""
    found: list[LinearOperator] = []
    stack: list[Any] = list(reversed(A._parts()))
    while stack:
        part = stack.pop()
        if isinstance(part, LinearOperator):
            found.append(part)
        elif isinstance(part, tuple):
            stack.extend(reversed(part))
    return found


def _bytes(A: LinearOperator) -> int:
    distinct = {id(x): x for x in tree_leaves(A) if hasattr(x, "nbytes")}
    return int(sum(x.nbytes for x in distinct.values()))


def _detail(A: LinearOperator) -> str:
    """What the short form says inside its brackets besides the shape: a rank, a number of entries."""
    text = repr(A)
    if not text.endswith("]") or "[" not in text or _operators(A):
        return ""
    return text[text.index("[") + 1 : -1].partition(",")[2].strip()


# fields that say what the shape, the dtype or the short form say already
_UNSAID = ("declared", "entries", "library", "dtype_name", "place", "size", "n", "rows", "cols", "batch")


def _settings(A: LinearOperator) -> dict[str, str]:
    """Static fields in words, where they are short and say more than the shape does."""
    found = {}
    for name in A._static_fields:
        value = A.__dict__[name]
        if name in _UNSAID or value is None or value is False or value == ():
            continue
        if isinstance(value, (bool, int, float, str)):
            found[name] = str(value)
        elif isinstance(value, tuple) and len(value) <= 6 and all(isinstance(v, (int, str)) for v in value):
            found[name] = str(value)
        elif hasattr(value, "describe") and not callable(getattr(type(value), "_parts", None)):
            settings = value.describe()
            found[name] = f"{type(value).__name__}({settings})"
        elif callable(value):
            found[name] = getattr(value, "__name__", type(value).__name__)
    return found


def _alike(a: Description, b: Description) -> bool:
    """Whether two neighbours would print alike."""
    x, y = a.as_dict(), b.as_dict()
    x.pop("repeated"), y.pop("repeated")
    return x == y

"""Operators (and ``Info``) as pytrees:
which fields are data, which are metadata, and how frameworks learn of it.

``@operator`` makes a frozen dataclass. Fields are children (arrays, operators, tuples of them) unless marked
``static()`` (hashable metadata). That is decided by the class, never by a value, so jit, vmap, grad, pickling
and ``replace`` all see one fixed structure. JAX, torch and optree learn of each class when they are imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import wraps
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

from .compiling import read_instead

__all__ = [
    "OPERATOR_CLASSES",
    "cached",
    "flatten",
    "map_leaves",
    "node",
    "operator",
    "register_pytrees",
    "static",
    "tree_leaves",
    "unflatten",
]

T = TypeVar("T")
OPERATOR_CLASSES: list[type] = []
"""Every class made by ``@operator`` (and ``node``), in order of definition."""
_DONE: dict[str, int] = {"jax": 0, "torch": 0, "optree": 0}
_LOCK = threading.RLock()


class cached:
    """``functools.cached_property`` without its lock,
    which in Python 3.11 costs more than most values it keeps.

    The value is stored in the instance's ``__dict__``, beside the fields but not one of them, so flattening,
    pickling and ``replace`` never see it.
    """

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)
        return value


def static(default: Any = MISSING, *, kw_only: bool = False) -> Any:
    """A field that is hashable metadata, not data: it takes no gradient and is part of the structure."""
    if default is MISSING:
        return field(metadata={"static": True}, kw_only=kw_only)
    return field(default=default, metadata={"static": True}, kw_only=kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(field, static))
def operator(cls: type[T]) -> type[T]:
    """Class decorator of every operator: frozen dataclass, pytree, identity hash.

    A subclass without fields of its own keeps its base's constructor, hand-written ones included.
    ``_aliases``, a class variable {other name: field}, lets the constructor and attribute access take another
    name for a field (those of the CoLA package).
    """
    own = bool(cls.__dict__.get("__annotations__"))
    made = node(dataclass(frozen=True, eq=False, repr=False, init=own)(cls))
    aliases = cls.__dict__.get("_aliases")
    if aliases:
        _accept_aliases(made, aliases)
    return made


def _accept_aliases(cls: Any, aliases: dict[str, str]) -> None:
    init = cls.__init__

    @wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs:
            kwargs = {aliases.get(name, name): value for name, value in kwargs.items()}
        init(self, *args, **kwargs)

    cls.__init__ = __init__
    for name, field_name in aliases.items():
        if not hasattr(cls, name):
            setattr(cls, name, property(attrgetter(field_name), doc=f"Another name of ``{field_name}``."))


def node(cls: type[T]) -> type[T]:
    """Make an existing dataclass a pytree node by its ``static()`` marks."""
    made: Any = cls
    made._child_fields = tuple(f.name for f in fields(made) if not f.metadata.get("static"))
    made._static_fields = tuple(f.name for f in fields(made) if f.metadata.get("static"))
    OPERATOR_CLASSES.append(cls)
    return cls


def flatten(A: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(children, metadata) of one operator, one level deep."""
    d = A.__dict__
    return tuple(d[f] for f in A._child_fields), tuple(d[f] for f in A._static_fields)


def unflatten(cls: Any, metadata: tuple[Any, ...], children: Any) -> Any:
    """Rebuild an operator without checks: frameworks pass placeholders that are not arrays."""
    A: Any = object.__new__(cls)
    d = A.__dict__
    d.update(zip(cls._child_fields, children, strict=True))
    d.update(zip(cls._static_fields, metadata, strict=True))
    return A


def map_leaves(f: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``f`` to every array (and Python number) in an operator, tuple or leaf; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, tuple):
        return tuple(map_leaves(f, t) for t in tree)
    if hasattr(type(tree), "_child_fields"):
        children, metadata = flatten(tree)
        return unflatten(type(tree), metadata, tuple(map_leaves(f, c) for c in children))
    return f(tree)


def tree_leaves(tree: Any) -> list[Any]:
    """The arrays (and Python numbers) of an operator, in the order of ``map_leaves``."""
    found: list[Any] = []
    _walk(tree, found)
    return found


def _walk(tree: Any, found: list[Any]) -> None:
    if tree is None:
        return
    if isinstance(tree, tuple):
        for part in tree:
            _walk(part, found)
    elif hasattr(type(tree), "_child_fields"):
        d = tree.__dict__
        for name in tree._child_fields:
            _walk(d[name], found)
    else:
        found.append(tree)


def register_pytrees() -> None:
    """Tell the frameworks imported so far about all operator classes. Called whenever an operator is made."""
    with _LOCK:  # two threads may make the first operator
        for framework in _DONE:
            if _DONE[framework] < len(OPERATOR_CLASSES) and framework in sys.modules:
                register = _REGISTER[framework]()
                if register is None:  # the framework is still being imported
                    continue
                while _DONE[framework] < len(OPERATOR_CLASSES):
                    register(OPERATOR_CLASSES[_DONE[framework]])
                    _DONE[framework] += 1


@read_instead(lambda: False)  # no lock can be taken there, and a new class is no other program
def pending() -> bool:
    """Whether some imported framework has not been told of some class (cheap; see ``register_pytrees``)."""
    n = len(OPERATOR_CLASSES)
    for name, done in _DONE.items():
        if done < n and name in sys.modules:
            return True
    return False


def _register_jax() -> Callable[[type], None] | None:
    tree_util = sys.modules.get("jax.tree_util")
    if tree_util is None or not hasattr(sys.modules["jax"], "jit"):
        return None

    def register(cls: Any) -> None:
        key = tree_util.GetAttrKey

        def with_keys(A: Any) -> Any:
            children, metadata = flatten(A)
            return tuple(zip(map(key, cls._child_fields), children, strict=True)), metadata

        tree_util.register_pytree_with_keys(cls, with_keys, lambda m, c: unflatten(cls, m, c), flatten)

    return register


def _register_torch() -> Callable[[type], None] | None:
    if not hasattr(sys.modules["torch"], "compile"):
        return None
    from torch.utils import _pytree

    def register(cls: Any) -> None:
        # None is a leaf to PyTorch, and no number: an absent child is structure, as everywhere else
        def flatten_present(A: Any) -> Any:
            children, metadata = flatten(A)
            absent = tuple([i for i, child in enumerate(children) if child is None])
            return [child for child in children if child is not None], (metadata, absent)

        def rebuilt(children: Any, context: Any) -> Any:
            metadata, absent = context
            children = list(children)
            for i in absent:
                children.insert(i, None)
            return unflatten(cls, metadata, children)

        _pytree.register_pytree_node(
            cls,
            flatten_present,
            rebuilt,
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    return register


def _register_optree() -> Callable[[type], None] | None:
    optree = sys.modules["optree"]
    if not hasattr(optree, "register_pytree_node"):
        return None

    def register(cls: type) -> None:
        optree.register_pytree_node(
            cls,
            lambda A: (*flatten(A), A._child_fields),
            lambda m, c: unflatten(cls, m, c),
            namespace="cola_core",
        )

    return register


_REGISTER = {"jax": _register_jax, "torch": _register_torch, "optree": _register_optree}

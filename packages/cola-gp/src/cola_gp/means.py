"""Mean functions: what the process is expected to be before any data.

:class:`ZeroMean` and :class:`ConstantMean` are numbers, :class:`LinearMean` and :class:`MapMean` functions of
the inputs with parameters, :class:`TaskMean` one number per task.  Means may be added: ``LinearMean([1.0]) +
TaskMean(3, dim=1)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.errors import ShapeError

from ._struct import Struct, set_fields, static, struct
from .kernels.base import Array, follow, full, points, xp_of
from .labels import label_numbers, one_hot
from .maps import Map, as_map, real


class Mean(Struct):
    """``mean(X)`` is a vector ``(n,)``; ``mean.pullback(X, v)`` the derivatives of ``sum(v * mean(X))``."""

    def __call__(self, X: Array) -> Array:
        raise NotImplementedError

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        """Derivatives with respect to every leaf, in leaf order."""
        raise NotImplementedError

    def label_dims(self, d: int) -> frozenset[int]:
        """Which of ``d`` input dimensions hold labels, such as task numbers, that no scaling may touch."""
        return frozenset()

    def __add__(self, other: Any) -> Mean:
        if not isinstance(other, Mean):
            return NotImplemented
        terms = [part.terms if isinstance(part, SumMean) else (part,) for part in (self, other)]
        return SumMean(*terms[0], *terms[1])


@struct
class ZeroMean(Mean):
    """Mean zero everywhere."""

    def __call__(self, X: Array) -> Array:
        return xp_of(points(X)).zeros_like(X[:, 0])

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return ()


@struct
class ConstantMean(Mean):
    """The same unknown mean everywhere; ``value`` is a parameter."""

    value: Array

    def __init__(self, value: Any = 0.0):
        set_fields(self, value=np.asarray(value, dtype=float) if isinstance(value, (int, float)) else value)

    def __call__(self, X: Array) -> Array:
        return full(points(X), follow(self.value, X))

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return (xp_of(X).sum(v),)


@struct
class LinearMean(Mean):
    """``x @ weight + offset`` with a weight per dimension, ``(d,)``, and a number ``offset``."""

    weight: Array
    offset: Array

    def __init__(self, weight: Any, offset: Any = 0.0):
        set_fields(self, weight=real("weight", weight, 1), offset=real("offset", offset, 0))

    def __call__(self, X: Array) -> Array:
        if points(X).shape[1] != self.weight.shape[0]:
            raise ShapeError(
                f"LinearMean has {self.weight.shape[0]} weights but the points have {X.shape[1]} dimensions."
            )
        return X @ follow(self.weight, X) + follow(self.offset, X)

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return X.T @ v, xp_of(v).sum(v)


@struct
class MapMean(Mean):
    """``map(X)`` for a map with one image: a function of the inputs, with or without parameters.

    map: a :class:`~cola_gp.maps.Map`, or a plain function of the points that returns ``(n,)``.
    """

    map: Map

    def __init__(self, map: Any):
        set_fields(self, map=as_map(map))

    def __call__(self, X: Array) -> Array:
        return one_image(self.map(points(X)), "MapMean")

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return self.map.pullback(X, v[:, None])


def one_image(images: Array, owner: str) -> Array:
    """The column of a map with one image."""
    if images.shape[1] != 1:
        raise ShapeError(f"{owner} needs a map with one image per point, not {images.shape[1]}.")
    return images[:, 0]


@struct
class TaskMean(Mean):
    """One unknown mean per task; the tasks are numbered ``0, 1, ...`` in column ``dim`` of the points.

    value: the number of tasks, or one initial value for each.
    """

    value: Array
    dim: int = static(default=0)

    def __init__(self, value: Any, dim: int = 0):
        if isinstance(value, int) and not isinstance(value, bool):
            if value < 1:
                raise ValueError(f"TaskMean needs at least one task, not {value}.")
            value = np.zeros(value)
        set_fields(self, value=real("value", value, 1), dim=int(dim))

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset({self.dim % d})

    def __call__(self, X: Array) -> Array:
        numbers, good = label_numbers(X, self.dim, self.value.shape[0], "TaskMean")
        value = follow(self.value, X)[numbers]
        return value if good is None else xp_of(X).where(good, value, xp_of(X).nan)

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        numbers, _ = label_numbers(X, self.dim, self.value.shape[0], "TaskMean")
        return (one_hot(numbers, self.value.shape[0], v).T @ v,)


@struct
class SumMean(Mean):
    """The sum of means, written ``m1 + m2``."""

    terms: tuple[Mean, ...]

    def __init__(self, *given: Mean, terms: tuple[Mean, ...] = ()):
        chosen = tuple(given) or tuple(terms)
        if not chosen or not all(isinstance(m, Mean) for m in chosen):
            raise TypeError("SumMean is made of means, at least one.")
        set_fields(self, terms=chosen)

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset().union(*(term.label_dims(d) for term in self.terms))

    def __call__(self, X: Array) -> Array:
        total = self.terms[0](X)
        for term in self.terms[1:]:
            total = total + term(X)
        return total

    def pullback(self, X: Array, v: Array) -> tuple[Array, ...]:
        return tuple(g for term in self.terms for g in term.pullback(X, v))

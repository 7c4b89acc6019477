"""The free parameters of a model as one flat vector, with readable names, bounds and priors.

Names are those of the constructors, by path: ``kernel.terms.0.lengthscale``, ``noise.variance``, and
``kernel.lengthscale[2]`` for one entry of a vector.  A pattern such as ``*.lengthscale`` (see
:mod:`fnmatch`) or ``kernel.lengthscale`` addresses all entries.  Positive parameters enter the vector by
their logarithm.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import UnknownNameError

from ._struct import named_leaves, with_leaves
from .model import GP
from .priors import Prior, weak_lengthscales

# Wide enough for any scaled data, narrow enough that no kernel overflows.
DEFAULT_BOUNDS = (1e-8, 1e8)


def public_name(path: str) -> tuple[str, bool]:
    """``a.log_b`` becomes ``("a.b", True)``: the public name, and whether the leaf holds a logarithm."""
    head, _, last = path.rpartition(".")
    positive = last.startswith("log_")
    last = last[4:] if positive else last
    return (f"{head}.{last}" if head else last), positive


@dataclass(frozen=True)
class Entry:
    """One free scalar: leaf number, index inside the leaf, public name, whether stored by its logarithm."""

    leaf: int
    index: int
    name: str
    group: str
    positive: bool


class ParameterSpace:
    """Maps between a model and the vector of its free parameters.

    ``limits_of(name)`` gives the default bounds of the logarithm of a positive parameter (default:
    ``DEFAULT_BOUNDS`` for all).  Raises UnknownNameError for a pattern in ``bounds``, ``fixed`` or ``priors``
    that matches nothing.
    """

    def __init__(
        self,
        model: GP,
        bounds: Mapping[str, tuple[float, float]] | None = None,
        fixed: Iterable[str] = (),
        priors: Mapping[str, Prior] | str | None = None,
        limits_of: Callable[[str], tuple[float, float]] | None = None,
    ):
        self.model = model
        self._values: list[np.ndarray] = []
        entries: list[Entry] = []
        for i, (path, value, trainable) in enumerate(named_leaves(model)):
            backend = backend_of(value)
            array = np.array(value if backend is None else backend.to_numpy(value), dtype=float)
            self._values.append(array)
            name, positive = public_name(path)
            if trainable:
                for j in range(array.size):
                    full = name if array.ndim == 0 else f"{name}[{j}]"
                    entries.append(Entry(i, j, full, name, positive))
        self.all_names = [entry.name for entry in entries]
        fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
        held = [self._match(pattern, entries) for pattern in fixed]
        self.entries = [e for e in entries if not any(e in group for group in held)]
        self.bounds = [self._default_bounds(e, limits_of) for e in self.entries]
        for pattern, (low, high) in (bounds or {}).items():
            for entry in self._match(pattern, entries):
                if entry in self.entries:
                    self.bounds[self.entries.index(entry)] = self._transformed(entry, low, high)
        self.priors: list[Prior | None] = [None] * len(self.entries)
        if isinstance(priors, str):
            priors = self._named_priors(priors, entries)
        for pattern, prior in (priors or {}).items():
            for entry in self._match(pattern, entries):
                if prior.positive and not entry.positive:
                    raise ValueError(
                        f"{type(prior).__name__} is for positive parameters, but {entry.name} may take "
                        "any sign; use Normal or StudentT."
                    )
                if entry in self.entries:
                    self.priors[self.entries.index(entry)] = prior

    @staticmethod
    def _match(pattern: str, entries: list[Entry]) -> list[Entry]:
        # Brackets are literal in names, so escape them from fnmatch's character classes.
        escaped = pattern.replace("[", "[[]")
        found = [e for e in entries if fnmatchcase(e.name, escaped) or fnmatchcase(e.group, escaped)]
        if not found:
            known = ", ".join(e.name for e in entries) or "none"
            raise UnknownNameError(f"no parameter matches {pattern!r}; this model has {known}.")
        return found

    @staticmethod
    def _default_bounds(
        entry: Entry, limits_of: Callable[[str], tuple[float, float]] | None
    ) -> tuple[float, float]:
        if not entry.positive:
            return (-math.inf, math.inf)
        if limits_of is not None:
            return limits_of(entry.name.partition("[")[0])
        return (math.log(DEFAULT_BOUNDS[0]), math.log(DEFAULT_BOUNDS[1]))

    @staticmethod
    def _transformed(entry: Entry, low: float, high: float) -> tuple[float, float]:
        if not low < high or (entry.positive and low < 0):
            raise ValueError(
                f"bounds of {entry.name} must be increasing{' and positive' if entry.positive else ''}."
            )
        if not entry.positive:
            return (float(low), float(high))
        return (math.log(low) if low > 0 else -math.inf, math.log(high))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> list[str]:
        """Public name of every free parameter."""
        return [entry.name for entry in self.entries]

    def initial(self) -> np.ndarray:
        """The model's own values, moved inside the bounds."""
        theta = np.array([self._values[e.leaf].flat[e.index] for e in self.entries])
        lower, upper = self.limits()
        return np.clip(theta, lower, upper) if len(self) else theta

    def read(self, model: GP) -> np.ndarray:
        """The vector of another model of the same structure, moved inside the bounds."""
        values = [value for _, value, _ in named_leaves(model)]
        if [np.shape(v) for v in values] != [v.shape for v in self._values]:
            raise ValueError("the model to start from has parameters of other shapes.")
        arrays = [
            np.asarray(v if (b := backend_of(v)) is None else b.to_numpy(v), dtype=float) for v in values
        ]
        theta = np.array([arrays[e.leaf].flat[e.index] for e in self.entries])
        return np.clip(theta, *self.limits()) if len(self) else theta

    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds of the vector."""
        return np.array([b[0] for b in self.bounds]), np.array([b[1] for b in self.bounds])

    def build(self, theta: np.ndarray) -> GP:
        """The model with these free parameters; all leaves are NumPy arrays, which follow the data."""
        values = [value.copy() for value in self._values]
        for entry, t in zip(self.entries, theta, strict=True):
            values[entry.leaf].flat[entry.index] = t
        return with_leaves(self.model, values)

    def gradient(self, leaf_gradients: tuple[Any, ...]) -> np.ndarray:
        """Pick the free entries out of one gradient array per leaf."""
        arrays: dict[int, np.ndarray] = {}
        for entry in self.entries:
            if entry.leaf not in arrays:
                g = leaf_gradients[entry.leaf]
                backend = backend_of(g)
                arrays[entry.leaf] = np.asarray(g if backend is None else backend.to_numpy(g), dtype=float)
        return np.array([arrays[e.leaf].flat[e.index] for e in self.entries])

    def log_prior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Sum of the log prior densities and its gradient with respect to the vector."""
        value, gradient = 0.0, np.zeros(len(self))
        for i, prior in enumerate(self.priors):
            if prior is not None:
                at = prior.log_density if self.entries[i].positive else prior.at
                density, slope = at(float(theta[i]))
                value += density
                gradient[i] = slope
        return value, gradient

    @staticmethod
    def _named_priors(name: str, entries: list[Entry]) -> dict[str, Prior]:
        """ "weak": priors of lengthscales of which a kernel has several."""
        if name != "weak":
            raise UnknownNameError(f"priors are 'weak', None or a dictionary of patterns, not {name!r}.")
        counts = Counter(e.group for e in entries if e.group.rpartition(".")[2] == "lengthscale")
        return {group: weak_lengthscales(count) for group, count in counts.items() if count > 1}

    def natural(self, theta: np.ndarray) -> dict[str, float]:
        """Name and value of every free parameter, positive ones exponentiated."""
        pairs = zip(self.entries, theta, strict=True)
        return {e.name: float(math.exp(t)) if e.positive else float(t) for e, t in pairs}

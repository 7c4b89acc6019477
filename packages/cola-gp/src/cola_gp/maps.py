r"""Maps of the inputs ``(n, d) -> (n, q)`` with parameters: what deep kernels, mean functions and noise that
depends on the inputs are made of.

Contract of a map ``f``: ``f(X)`` is the ``(n, q)`` array of images, ``f.pullback(X, G)`` maps ``G (n, q)`` to
the derivatives of ``sum(G * f(X))`` for every leaf in leaf order, and ``f.input_gradient(X, G)`` is its
derivative with respect to ``X``, an ``(n, d)`` array.  Parameters that are NumPy arrays follow the points, as
in kernels.

:class:`Affine` and :class:`Network` know their derivatives in closed form, on every library.
:class:`Function` is anything the user writes; torch and JAX differentiate it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from ._struct import Struct, set_fields, static, struct
from .arrays import backend_for
from .kernels.base import Array, follow, points, xp_of


class Map(Struct):
    """Base class of maps ``f(X (n, d)) -> (n, q)``.

    Subclasses define ``__call__``, ``pullback`` and ``input_gradient``; the contract is in the docstring of
    :mod:`cola_gp.maps`.
    """

    def __call__(self, X: Array) -> Array:
        """Images ``(n, q)`` of the rows of ``X (n, d)``."""
        raise NotImplementedError

    def images(self, d: int) -> int | None:
        """The number ``q`` of images of points in ``d`` dimensions; None if only the values tell."""
        return None

    def pullback(self, X: Array, G: Array) -> tuple[Array, ...]:
        """Derivatives of ``sum(G * self(X))`` for every leaf, in leaf order."""
        raise NotImplementedError

    def input_gradient(self, X: Array, G: Array) -> Array:
        """Derivative of ``sum(G * self(X))`` with respect to ``X``, ``(n, d)``."""
        raise NotImplementedError


def real(name: str, value: Any, ndim: int) -> Array:
    """A parameter of any sign: numbers and NumPy arrays as float64, torch and JAX arrays as they are."""
    backend = backend_of(value)
    if backend is None or backend.name == "numpy":
        try:
            value = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be numbers, not {value!r}.") from None
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} must be finite.")
    if value.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} axes, not shape {tuple(value.shape)}.")
    return value


def _width(X: Array, expected: int, owner: str) -> None:
    if points(X).shape[1] != expected:
        raise ShapeError(f"{owner} takes {expected} dimensions but the points have {X.shape[1]}.")


@struct
class Affine(Map):
    """``x @ weight + offset`` with ``weight (d, q)`` and ``offset (q,)`` (default: zero).

    A vector ``weight (d,)`` stands for one image.  As the map of a kernel it is a learned linear
    projection; lengthscales are then redundant and better held fixed.
    """

    weight: Array
    offset: Array

    def __init__(self, weight: Any, offset: Any = None):
        weight = weight if hasattr(weight, "ndim") else np.asarray(weight, dtype=float)
        weight = real("weight", weight[:, None] if weight.ndim == 1 else weight, 2)
        if offset is None:
            offset = xp_of(weight).zeros_like(weight.sum(0))
        elif np.ndim(offset) == 0:
            offset = np.asarray([offset], dtype=float) if backend_of(offset) is None else offset[None]
        offset = real("offset", offset, 1)
        if offset.shape[0] != weight.shape[1]:
            raise ShapeError(
                f"weight {tuple(weight.shape)} and offset {tuple(offset.shape)} must be (d, q) and (q,)."
            )
        set_fields(self, weight=weight, offset=offset)

    def images(self, d: int) -> int:
        return int(self.weight.shape[1])

    def __call__(self, X: Array) -> Array:
        _width(X, self.weight.shape[0], "Affine")
        return X @ follow(self.weight, X) + follow(self.offset, X)

    def pullback(self, X: Array, G: Array) -> tuple[Array, ...]:
        return X.T @ G, xp_of(G).sum(G, axis=0)

    def input_gradient(self, X: Array, G: Array) -> Array:
        return G @ follow(self.weight, X).T


# Value and derivative of every activation, the derivative from argument t and value v.
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "tanh": (lambda xp, t: xp.tanh(t), lambda xp, t, v: 1.0 - v * v),
    "sin": (lambda xp, t: xp.sin(t), lambda xp, t, v: xp.cos(t)),
    "relu": (
        lambda xp, t: xp.where(t > 0, t, xp.zeros_like(t)),
        lambda xp, t, v: xp.where(t > 0, xp.ones_like(t), xp.zeros_like(t)),
    ),
    # written so that no exponential overflows
    "softplus": (
        lambda xp, t: xp.where(t > 0, t, xp.zeros_like(t)) + xp.log1p(xp.exp(-xp.abs(t))),
        lambda xp, t, v: 0.5 * (1.0 + xp.tanh(0.5 * t)),
    ),
}


@struct
class Network(Map):
    """A fully connected network: affine layers with an activation between them and none after the last.

    weights: one ``(d_i, d_{i+1})`` array per layer; offsets: one ``(d_{i+1},)`` each.  activation: "tanh",
    "sin", "softplus" or "relu".  :meth:`random` draws initial weights.  Derivatives are backpropagated in
    closed form, so networks are trained on NumPy too.
    """

    weights: tuple[Array, ...]
    offsets: tuple[Array, ...]
    activation: str = static(default="tanh")

    def __init__(self, weights: Sequence[Any], offsets: Sequence[Any], activation: str = "tanh"):
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {activation!r}.")
        weights = tuple(real(f"weights[{i}]", w, 2) for i, w in enumerate(weights))
        offsets = tuple(real(f"offsets[{i}]", b, 1) for i, b in enumerate(offsets))
        if not weights or len(weights) != len(offsets):
            raise ShapeError(
                f"Network needs one offset per weight, not {len(weights)} and {len(offsets)} of them."
            )
        for i, (w, b) in enumerate(zip(weights, offsets, strict=True)):
            fits = i == 0 or weights[i - 1].shape[1] == w.shape[0]
            if w.shape[1] != b.shape[0] or not fits:
                shapes = ", ".join(str(tuple(v.shape)) for v in weights)
                raise ShapeError(
                    f"layer {i} of Network does not fit: weights {shapes}, its offset {tuple(b.shape)}."
                )
        set_fields(self, weights=weights, offsets=offsets, activation=activation)

    @classmethod
    def random(cls, sizes: Sequence[int], *, seed: int = 0, activation: str = "tanh") -> Network:
        """Layers of the given sizes ``(d, hidden, ..., q)``, offsets zero and weights uniform as in Glorot &
        Bengio (2010), eq. 16."""
        if len(sizes) < 2 or any(int(s) != s or s < 1 for s in sizes):
            raise ValueError(f"sizes must be at least two positive integers, not {sizes!r}.")
        rng = np.random.default_rng(seed)
        weights = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            limit = math.sqrt(6.0 / (a + b))
            weights.append(rng.uniform(-limit, limit, size=(a, b)))
        return cls(weights, [np.zeros(b) for b in sizes[1:]], activation)

    def _forward(self, X: Array) -> tuple[Array, list[Array], list[Array]]:
        """The images, and per layer its input and the derivative of the activation that made it."""
        _width(X, self.weights[0].shape[0], "Network")
        xp = xp_of(X)
        value, slope = _ACTIVATIONS[self.activation]
        inputs: list[Array] = [X]
        slopes: list[Array] = []
        for i, (w, b) in enumerate(zip(self.weights, self.offsets, strict=True)):
            t = inputs[-1] @ follow(w, X) + follow(b, X)
            if i == len(self.weights) - 1:
                return t, inputs, slopes
            inputs.append(value(xp, t))
            slopes.append(slope(xp, t, inputs[-1]))
        raise AssertionError("a network has a last layer")

    def images(self, d: int) -> int:
        return int(self.weights[-1].shape[1])

    def __call__(self, X: Array) -> Array:
        return self._forward(X)[0]

    def _backward(self, X: Array, G: Array) -> tuple[list[Array], list[Array], Array]:
        _, inputs, slopes = self._forward(X)
        weights: list[Array] = []
        offsets: list[Array] = []
        for i in range(len(self.weights) - 1, -1, -1):
            weights.append(inputs[i].T @ G)
            offsets.append(xp_of(G).sum(G, axis=0))
            G = G @ follow(self.weights[i], X).T
            if i:
                G = G * slopes[i - 1]
        return weights[::-1], offsets[::-1], G

    def pullback(self, X: Array, G: Array) -> tuple[Array, ...]:
        weights, offsets, _ = self._backward(X, G)
        return (*weights, *offsets)

    def input_gradient(self, X: Array, G: Array) -> Array:
        return self._backward(X, G)[2]


@struct
class Function(Map):
    """A function of the user: ``function(X)``, or ``function(parameters, X)`` with parameters to be fitted.

    parameters: an array, or tuples, lists and dicts of arrays in any nesting, as torch's ``state_dict`` and
    the parameter trees of JAX libraries are; the function gets them in the same form.  width: the number of
    images, where it should be known without calling the function.  A function that returns a vector
    ``(n,)`` has one image.

    On torch and JAX derivatives are automatic.  On NumPy a function has none: without parameters it can be
    fitted around, with parameters their derivative raises NotImplementedError.  Cannot be saved to a file,
    because a function is code.
    """

    parameters: tuple[Array, ...]
    function: Any = static()
    form: Any = static(default=None)
    width: int | None = static(default=None)

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Any = None,
        *,
        width: int | None = None,
        form: Any = None,
    ):
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}.")
        if form is None:
            found: list[Array] = []
            form = ("none",) if parameters is None else _flatten(parameters, found)
            parameters = tuple(found)
        set_fields(self, parameters=tuple(parameters), function=function, form=form, width=width)

    @classmethod
    def of_module(cls, module: Any, *, width: int | None = None) -> Function:
        """A ``torch.nn.Module`` with its present parameters; they become leaves of the model, copied.

        Buffers and everything else stay those of the module, which has to be in the mode it is used in
        (``module.eval()`` where there is dropout).
        """
        import torch

        names = tuple(name for name, _ in module.named_parameters())
        values = tuple(value.detach().clone() for _, value in module.named_parameters())

        def call(parameters: tuple[Any, ...], X: Any) -> Any:
            return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (X,))

        return cls(call, values, width=width)

    def images(self, d: int) -> int | None:
        return self.width

    def module_parameters(self) -> Any:
        """The parameters in the form they were given in."""
        return _unflatten(self.form, iter(self.parameters))

    def _call(self, X: Array, parameters: tuple[Array, ...]) -> Array:
        if self.form == ("none",):
            out = self.function(X)
        else:
            out = self.function(_unflatten(self.form, iter(parameters)), X)
        if backend_of(out) is None or backend_for(out).name != backend_for(X).name:
            raise TypeError(
                f"the function must return a {backend_for(X).name} array like its points, not "
                f"{type(out).__name__}."
            )
        out = out[:, None] if out.ndim == 1 else out
        if out.ndim != 2 or out.shape[0] != X.shape[0]:
            raise ShapeError(
                f"the function must map points {tuple(X.shape)} to (n, q) or (n,), not {tuple(out.shape)}."
            )
        return out

    def __call__(self, X: Array) -> Array:
        points(X)
        return self._call(X, tuple(follow(p, X) for p in self.parameters))

    def pullback(self, X: Array, G: Array) -> tuple[Array, ...]:
        if not self.parameters:
            return ()
        backend = backend_for(X)
        if backend.name == "numpy":
            raise NotImplementedError(
                "the parameters of a NumPy function have no derivative; use Affine or Network, write the "
                "function in torch or JAX, or hold the parameters fixed and evaluate the likelihood only."
            )
        followed = tuple(follow(p, X) for p in self.parameters)
        return tuple(backend.vjp(lambda *p: self._call(X, p), *followed)[1](G))

    def input_gradient(self, X: Array, G: Array) -> Array:
        backend = backend_for(X)
        if backend.name == "numpy":
            raise NotImplementedError(
                "a NumPy function has no derivative with respect to its points; use Affine or Network, or "
                "write it in torch or JAX."
            )
        followed = tuple(follow(p, X) for p in self.parameters)
        return backend.vjp(lambda Z: self._call(Z, followed), X)[1](G)[0]


def _flatten(tree: Any, found: list[Array]) -> Any:
    """Append the arrays of a tree to ``found``; the hashable description of what was around them."""
    if isinstance(tree, dict):
        keys = tuple(sorted(tree, key=str))
        return ("dict", keys, tuple(_flatten(tree[key], found) for key in keys))
    if isinstance(tree, (list, tuple)):
        return (
            type(tree).__name__ if type(tree) is list else "tuple",
            tuple(_flatten(t, found) for t in tree),
        )
    if backend_of(tree) is None:
        tree = np.asarray(tree, dtype=float)
    found.append(tree)
    return ("array",)


def _unflatten(form: Any, feed: Any) -> Any:
    kind = form[0]
    if kind == "array":
        return next(feed)
    if kind == "none":
        return None
    if kind == "dict":
        return {key: _unflatten(part, feed) for key, part in zip(form[1], form[2], strict=True)}
    parts = [_unflatten(part, feed) for part in form[1]]
    return parts if kind == "list" else tuple(parts)


@struct
class Chain(Map):
    """One map after another: ``Chain(f, g)(X) = g(f(X))``."""

    maps: tuple[Map, ...]

    def __init__(self, *given: Map, maps: tuple[Map, ...] = ()):
        chosen = tuple(given) or tuple(maps)
        if not chosen or not all(isinstance(m, Map) for m in chosen):
            raise TypeError("Chain is made of maps, at least one.")
        set_fields(self, maps=chosen)

    def images(self, d: int) -> int | None:
        width: int | None = d
        for step in self.maps:
            width = None if width is None else step.images(width)
        return width

    def __call__(self, X: Array) -> Array:
        for step in self.maps:
            X = step(X)
        return X

    def _inputs(self, X: Array) -> list[Array]:
        out = [X]
        for step in self.maps[:-1]:
            out.append(step(out[-1]))
        return out

    def pullback(self, X: Array, G: Array) -> tuple[Array, ...]:
        pieces: list[tuple[Array, ...]] = []
        inputs = self._inputs(X)
        for i in range(len(self.maps) - 1, -1, -1):
            pieces.append(self.maps[i].pullback(inputs[i], G))
            if i:
                G = self.maps[i].input_gradient(inputs[i], G)
        return tuple(g for piece in reversed(pieces) for g in piece)

    def input_gradient(self, X: Array, G: Array) -> Array:
        inputs = self._inputs(X)
        for step, here in zip(reversed(self.maps), reversed(inputs), strict=True):
            G = step.input_gradient(here, G)
        return G


def as_map(value: Any) -> Map:
    """A map as it is; a plain function as a :class:`Function` without parameters."""
    if isinstance(value, Map):
        return value
    if callable(value):
        return Function(value)
    raise TypeError(f"expected a map (Affine, Network, Function) or a function, not {type(value).__name__}.")

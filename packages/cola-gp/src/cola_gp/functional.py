"""Models as pure functions of their parameters, for ``jit``, ``grad`` and ``vmap`` of JAX and ``torch.func``.

Parameters are a dictionary from the names of the leaves, such as ``kernel.kernel.log_lengthscale``, to arrays
of any real values: positive parameters by their logarithm, so no constraint is left to keep.  What is data
(``FixedNoise``) stays in the model.  The functions check shapes and dtypes but no values, so they trace; a
covariance that is not positive definite gives NaN inside of a compiled function, where nothing can be raised.

    parameters = functional.parameters(model, like=X)
    value, slope = jax.value_and_grad(functional.log_likelihood)(parameters, model, X, y)
    train = lambda y: functional.adam(lambda p: functional.loss(p, model, X, y), parameters, 200)
    fits = jax.jit(jax.vmap(train))(Y)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cola_core.algorithms import Auto
from cola_core.backends import backend_of
from cola_core.errors import BackendError, ShapeError, UnknownNameError
from cola_core.operators import register_pytrees

from ._struct import named_leaves, with_leaves
from .arrays import Array, backend_for
from .data import Data, as_inputs, as_points
from .inference import condition
from .kernels.base import follow
from .likelihood import marginal_likelihood
from .model import GP

Parameters = Mapping[str, Array]


def parameters(model: GP, like: Array | None = None) -> dict[str, Array]:
    """The trainable leaves by name; as arrays of the library and dtype of ``like``, if given."""
    register_pytrees()  # a model may be older than the import of the library that is to take it apart
    chosen = {name: value for name, value, trainable in named_leaves(model) if trainable}
    return chosen if like is None else {name: follow(value, like) for name, value in chosen.items()}


def with_parameters(model: GP, given: Parameters) -> GP:
    """``model`` with other values of some leaves.  Raises UnknownNameError or ShapeError."""
    known = {name: value for name, value, trainable in named_leaves(model) if trainable}
    for name, value in given.items():
        if name not in known:
            raise UnknownNameError(f"no parameter is called {name!r}; this model has {', '.join(known)}.")
        if tuple(value.shape) != tuple(known[name].shape):
            raise ShapeError(
                f"parameter {name} has shape {tuple(known[name].shape)}, but {tuple(value.shape)} was given."
            )
    return with_leaves(model, [given.get(name, value) for name, value, _ in named_leaves(model)])


def log_likelihood(given: Parameters, model: GP, X: Any, y: Array, alg: Any = Auto()) -> Array:
    """``log p(y | X)``, a 0-d array; ``X`` is ``(n, d)``, ``(n,)`` or a Grid, ``y`` is ``(n,)``."""
    return marginal_likelihood(with_parameters(model, given), Data(X, y), alg)


def loss(
    given: Parameters,
    model: GP,
    X: Any,
    y: Array,
    log_prior: Callable[[Parameters], Array] | None = None,
    alg: Any = Auto(),
) -> Array:
    """What to minimise: minus the log likelihood, and log prior if given, per observation."""
    value = log_likelihood(given, model, X, y, alg)
    if log_prior is not None:
        value = value + log_prior(given)
    return -value / y.shape[0]


class Prediction(NamedTuple):
    """Means and variances ``(m,)`` of the latent function."""

    mean: Array
    variance: Array


def predict(given: Parameters, model: GP, X: Any, y: Array, Z: Any, alg: Any = Auto()) -> Prediction:
    """Prediction at ``Z (m, d)`` from the data ``X (n, d)``, ``y (n,)``."""
    model = with_parameters(model, given)
    conditioned = condition(model, Data(X, y), alg)
    points = as_points(as_inputs(Z))
    return Prediction(
        model.mean(points) + conditioned.latent_mean(points), conditioned.latent_variance(points)
    )


class Fit(NamedTuple):
    """End of :func:`adam`: the best parameters, their loss, and the loss before every step ``(steps,)``."""

    parameters: dict[str, Array]
    loss: Array
    history: Array


def adam(
    objective: Callable[[dict[str, Array]], Array],
    start: Parameters,
    steps: int,
    learning_rate: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.99),
) -> Fit:
    """Minimise ``objective(parameters)`` by Adam (Kingma & Ba 2015), in JAX: one compiled loop.

    The step shrinks along a half cosine to a hundredth of ``learning_rate``.  Steps whose loss or gradient
    is not finite are not taken.  May be jitted, and mapped over stacked starts or targets.
    """
    first = next(iter(start.values()), None)
    if first is None or backend_of(first) is None or backend_for(first).name != "jax":
        raise BackendError(
            "functional.adam needs parameters that are JAX arrays: functional.parameters(model, like=X) with "
            "JAX points X; with torch use its optimizers (cola_gp.torch_module), else cola_gp.fit."
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps!r}.")
    import jax
    import jax.numpy as jnp

    value_and_grad = jax.value_and_grad(objective)
    tree_map = jax.tree_util.tree_map

    def step(state: Any, number: Any) -> Any:
        now, mean, square, best, best_loss = state
        value, slope = value_and_grad(now)
        finite = jnp.isfinite(value)
        for g in slope.values():
            finite = finite & jnp.all(jnp.isfinite(g))
        better = finite & (value < best_loss)
        best = tree_map(lambda b, x: jnp.where(better, x, b), best, now)
        best_loss = jnp.where(better, value, best_loss)
        slope = tree_map(lambda g: jnp.where(finite, g, jnp.zeros_like(g)), slope)
        mean = tree_map(lambda m, g: betas[0] * m + (1 - betas[0]) * g, mean, slope)
        square = tree_map(lambda v, g: betas[1] * v + (1 - betas[1]) * g * g, square, slope)
        decay = 0.5 * (1.0 + jnp.cos(jnp.pi * number / steps))
        rate = learning_rate * (0.01 + 0.99 * decay)

        def move(x: Any, m: Any, v: Any, b: Any) -> Any:
            direction = (m / (1 - betas[0] ** (number + 1))) / (
                jnp.sqrt(v / (1 - betas[1] ** (number + 1))) + 1e-12
            )
            # A point without a likelihood is left for the best one.
            return jnp.where(finite, (x - rate * direction).astype(x.dtype), b)

        return (tree_map(move, now, mean, square, best), mean, square, best, best_loss), value

    zeros = tree_map(jnp.zeros_like, dict(start))
    shape = jax.eval_shape(objective, dict(start))
    state = (dict(start), zeros, zeros, dict(start), jnp.full(shape.shape, jnp.inf, shape.dtype))
    (now, _, _, best, best_loss), history = jax.lax.scan(step, state, jnp.arange(steps))
    last = objective(now)
    better = jnp.isfinite(last) & (last < best_loss)
    best = tree_map(lambda b, x: jnp.where(better, x, b), best, now)
    return Fit(best, jnp.where(better, last, best_loss), history)


__all__ = [
    "Fit",
    "Prediction",
    "adam",
    "log_likelihood",
    "loss",
    "parameters",
    "predict",
    "with_parameters",
]

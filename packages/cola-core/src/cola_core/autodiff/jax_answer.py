"""Answers with a stated derivative in JAX; see ``tangents``.

The formula is a ``custom_jvp``: JAX transposes it for reverse mode, and differentiates it for higher orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..pytree import map_leaves, tree_leaves

__all__ = ["differentiable"]


def differentiable(
    run: Callable[..., tuple[tuple[Any, ...], Any]],
    tangent: Callable[..., tuple[Any, ...]],
    inputs: tuple[Any, ...],
) -> tuple[tuple[Any, ...], Any]:
    """``run(*inputs) -> (outputs, aux)`` with the derivative ``tangent(d, inputs, outputs)``; aux, a tree of
    arrays, has none. ``run`` must not refer to arrays that are differentiated other than by its arguments."""

    parts = [_take_apart(x) for x in inputs]

    @jax.custom_jvp
    def answer(flat: Any) -> Any:
        outputs, aux = run(*_inputs(parts, flat))
        return tuple(outputs), aux

    def derivative(primals: Any, tangents: Any) -> Any:
        (flat,), (moves,) = primals, tangents
        outputs, aux = answer(flat)
        moved = tuple(tangent(_Tangents(parts, flat, moves), _inputs(parts, flat), outputs))
        moved = tuple(jnp.asarray(t, y.dtype) for t, y in zip(moved, outputs, strict=True))
        return (outputs, aux), (moved, jax.tree_util.tree_map(_still, aux))

    answer.defjvp(derivative, symbolic_zeros=True)
    return answer([arrays for arrays, _ in parts])  # type: ignore[no-any-return]


def _take_apart(tree: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """The arrays of an operator, and ``put_together(arrays)``; Python numbers stay in place."""
    leaves = tree_leaves(tree)
    numbers = [x if isinstance(x, (bool, int, float, complex)) else None for x in leaves]

    def put_together(arrays: Any) -> Any:
        supply = iter(arrays)
        found = iter([next(supply) if x is None else x for x in numbers])
        return map_leaves(lambda _: next(found), tree)

    return [x for x, number in zip(leaves, numbers, strict=True) if number is None], put_together


def _inputs(parts: Any, flat: Any) -> tuple[Any, ...]:
    return tuple(put_together(arrays) for (_, put_together), arrays in zip(parts, flat, strict=True))


def _still(x: Any) -> Any:
    """The tangent of what has none."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(x.shape, jax.dtypes.float0)


def _zero(t: Any) -> bool:
    return isinstance(t, jax.custom_derivatives.SymbolicZero) or t.dtype == jax.dtypes.float0


class _Tangents:
    def __init__(self, parts: Any, flat: Any, tangents: Any) -> None:
        self.parts, self.flat, self.tangents = parts, flat, tangents

    def moves(self, i: int) -> bool:
        return not all(map(_zero, self.tangents[i]))

    def moving(self, i: int) -> list[bool]:
        return [not _zero(t) for t in self.tangents[i]]

    def __getitem__(self, i: int) -> Any:
        (t,), (x,) = self.tangents[i], self.flat[i]
        return jnp.zeros_like(x) if _zero(t) else t

    def arrays(self, i: int) -> list[Any]:
        return [
            jnp.zeros_like(x) if _zero(t) else t for t, x in zip(self.tangents[i], self.flat[i], strict=True)
        ]

    def product(self, i: int, V: Any) -> Any:
        return self._pushed(i, lambda A: A @ V)

    def adjoint(self, i: int, V: Any) -> Any:
        return self._pushed(i, lambda A: A.H @ V)

    def _pushed(self, i: int, times: Callable[[Any], Any]) -> Any:
        arrays, put_together = self.flat[i], self.parts[i][1]
        moving = [p for p, t in enumerate(self.tangents[i]) if not _zero(t)]

        def product(*found: Any) -> Any:
            merged = list(arrays)
            for p, x in zip(moving, found, strict=True):
                merged[p] = x
            return times(put_together(merged))

        if not moving:
            y = jax.eval_shape(lambda: times(put_together(arrays)))
            return jnp.zeros(y.shape, y.dtype)
        return jax.jvp(product, tuple(arrays[p] for p in moving), tuple(self.tangents[i][p] for p in moving))[
            1
        ]

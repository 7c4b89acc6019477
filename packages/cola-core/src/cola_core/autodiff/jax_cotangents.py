"""``cotangents.inspected`` in JAX, as a primitive: the identity, transposed by looking.

A ``custom_vjp`` would refuse forward mode; ``linear_call`` and ``custom_linear_solve`` would also look at the
tangents of cotangents (forward over reverse), which need not have what a cotangent has. JAX's cotangents are
the conjugates of PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

__all__ = ["inspected"]

_SAME = Primitive("cola_core_inspected")


def inspected(x: Any, look: Callable[..., Any], others: tuple[Any, ...]) -> Any:
    """See ``cotangents.inspected``."""
    return _SAME.bind(x, *others, look=look)


_SAME.def_impl(lambda x, *others, look: x)
_SAME.def_abstract_eval(lambda x, *others, look: x)
mlir.register_lowering(_SAME, mlir.lower_fun(lambda x, *others, look: x, multiple_results=False))


def _pushed(primals: Any, tangents: Any, *, look: Any) -> Any:
    return _SAME.bind(*primals, look=look), tangents[0]


def _transposed(g: Any, x: Any, *others: Any, look: Any) -> Any:
    if isinstance(g, ad.Zero):
        return (g, *[None] * len(others))
    return (jnp.conj(look(jnp.conj(g), *others)), *[None] * len(others))


def _batched(args: Any, dims: Any, *, look: Any) -> Any:
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    front = [a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(args, dims, strict=True)]
    if dims[0] is None:
        front[0] = jnp.broadcast_to(front[0], (size, *front[0].shape))
    axes = (0, *(None if d is None else 0 for d in dims[1:]))
    return _SAME.bind(*front, look=jax.vmap(look, in_axes=axes)), 0


ad.primitive_jvps[_SAME] = _pushed
ad.primitive_transposes[_SAME] = _transposed
batching.primitive_batchers[_SAME] = _batched

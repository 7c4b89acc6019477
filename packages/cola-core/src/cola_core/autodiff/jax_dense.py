"""Dense decompositions as JAX functions: forward and reverse mode, any order, ``vmap``, ``jit``."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ..backends.jax_backend import BACKEND as be
from ..errors import NotDifferentiableError
from .dense_rule import DenseRule, mended

__all__ = ["derive"]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def derive(rule: DenseRule, A: jax.Array) -> tuple[jax.Array, ...]:
    """The outputs of ``rule.compute(A)`` with the rule's derivatives."""
    return rule.compute(be, A)


@derive.defjvp
def _derive_jvp(rule: DenseRule, primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    whole = rule.whole
    if whole is not None:  # the derivative needs more than was computed: compute that at once
        out, found = _derive_jvp(whole, primals, tangents)
        return out[: rule.count], found[: rule.count]
    out = derive(rule, A)
    spoilt = mended(be, rule, A, out)
    if spoilt is not None:
        dA = dA * spoilt[..., None, None]
    found = rule.push(_TOOLS, A, out, dA)
    zeros = [_zero(x) if i in rule.constants else None for i, x in enumerate(out)]
    return out, tuple(x if z is None else z for x, z in zip(found, zeros, strict=True))


def _zero(x: jax.Array) -> Any:
    import numpy as np

    return np.zeros(x.shape, jax.dtypes.float0)


class _Tools:
    be = be
    noted = 0.0

    def divided_by_gaps(self, w: Any, X: Any, gw: Any) -> Any:
        return None

    def quotient(self, E: Any, S: Any, T: Any, C: Any) -> Any:
        # a custom_jvp would be forgotten in the linear program that JAX transposes, and E differentiated at
        # the next order; a linear solve is differentiated through its equation, in either mode, at any order
        def equation(K: Any) -> Any:
            return (0 if T is None else K @ T) - (0 if S is None else S @ K)

        divide = lambda _, C: E * C  # noqa: E731
        return jax.lax.custom_linear_solve(equation, C, divide, divide)

    def watch(self, X: Any, bad: Any) -> Any:
        # JAX finds cotangents by transposition, where nothing of ours runs, except in the transposed solve of
        # a linear system: the system is the identity's
        def cotangent(_: Any, g: Any) -> Any:
            spoilt = jnp.where(bad(jnp.conj(g)), jnp.nan, 0.0)  # JAX's cotangents are conjugates
            return g + spoilt.astype(be.real_dtype(g.dtype))[..., None, None]

        return jax.lax.custom_linear_solve(lambda x: x, X, lambda _, b: b, cotangent)

    def differentiated_again(self, *xs: Any) -> bool:
        return True  # JAX removes what is not used

    def refuse(self, G: jax.Array, bad: jax.Array, message: str) -> jax.Array:
        if be.is_concrete(G, bad):
            if bool(jnp.any(bad)):
                raise NotDifferentiableError(message)
            return G
        return G + jnp.where(bad, jnp.nan, 0.0).astype(be.real_dtype(G.dtype))[..., None, None]


_TOOLS = _Tools()

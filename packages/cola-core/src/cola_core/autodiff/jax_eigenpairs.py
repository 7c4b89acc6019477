"""Derivatives of converged eigenvalues in JAX: ``dw_i = x_i^H dA x_i`` (Hellmann-Feynman; simple ones).

First order only: a derivative of the vectors, or a second one of the values, is an error rather than a silent
zero. The iteration itself is never recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["eigenpairs"]


def eigenpairs(A: Any, run: Callable[[Any], Any]) -> Any:
    """``run(A) -> (w, X, aux)`` with that derivative."""

    @jax.custom_vjp
    def pairs(A: Any) -> Any:
        return run(A)

    def forward(A: Any) -> Any:
        A = jax.tree_util.tree_map(lambda x: x.value, A, is_leaf=lambda x: hasattr(x, "perturbed"))
        w, X, aux = pairs(A)
        return (w, X, aux), (A, X)

    def backward(saved: Any, cotangents: Any) -> Any:
        A, X = saved
        gw, gX, _ = cotangents
        zero = jax.custom_derivatives.SymbolicZero
        if not isinstance(gX, zero):
            raise NotImplementedError(
                "eigenvectors found by an iteration have no derivative here; use alg=Eigh(), or "
                "differentiate eigenvalues only"
            )
        if isinstance(gw, zero):
            gw = jnp.zeros(gw.shape, gw.dtype)

        def quotients(A: Any) -> Any:
            return jnp.real(jnp.sum(jnp.conj(X) * (A @ X), axis=-2))

        return jax.vjp(quotients, A)[1](gw)

    pairs.defvjp(forward, backward, symbolic_zeros=True)
    return pairs(A)

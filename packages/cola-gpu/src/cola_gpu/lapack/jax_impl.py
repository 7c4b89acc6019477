"""The factorisations as JAX functions: forward, reverse and higher derivatives, `vmap`, `jit`.

Each is a `custom_jvp` given the pushforward of `formulas.py`, which is linear in the perturbation, so JAX
transposes it into the pullback. The rules call the differentiable function itself, so they nest to any order.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from cola_core.backends import get_backend

from . import formulas

__all__ = ["gelqf", "potrf", "syevd"]

_bk = get_backend("jax")


@jax.custom_jvp
def gelqf(A: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`A = L Q`, the diagonal of L non-negative."""
    Qt, R = jnp.linalg.qr(jnp.swapaxes(A, -1, -2))
    L = jnp.swapaxes(R, -1, -2)
    sign = jnp.where(jnp.diagonal(L, axis1=-2, axis2=-1) < 0, -1, 1).astype(A.dtype)
    return sign[..., None] * jnp.swapaxes(Qt, -1, -2), jnp.tril(L * sign[..., None, :])


@gelqf.defjvp
def _gelqf_jvp(primals, tangents):
    Q, L = gelqf(*primals)
    return (Q, L), formulas.gelqf_pushforward(_bk, Q, L, *tangents)


@jax.custom_jvp
def potrf(A: jax.Array) -> jax.Array:
    """Lower Cholesky factor; NaN where a matrix of the batch is not positive definite."""
    return jnp.tril(jnp.linalg.cholesky(A, symmetrize_input=False))


@potrf.defjvp
def _potrf_jvp(primals, tangents):
    L = potrf(*primals)
    return L, formulas.potrf_pushforward(_bk, L, *tangents)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def syevd(A: jax.Array, gap_tol: float | None = None) -> tuple[jax.Array, jax.Array]:
    """Eigenvectors as rows with their largest entry positive, and ascending eigenvalues."""
    lam, V = jnp.linalg.eigh(A, UPLO="L", symmetrize_input=False)
    if A.shape[-1] == 0:
        return V, lam
    U = jnp.swapaxes(V, -1, -2)
    sign = jnp.where(U.max(axis=-1) >= -U.min(axis=-1), 1, -1).astype(A.dtype)
    return sign[..., None] * U, lam


@syevd.defjvp
def _syevd_jvp(gap_tol, primals, tangents):
    U, lam = syevd(*primals, gap_tol)
    (dA,) = tangents
    return (U, lam), formulas.syevd_pushforward(_bk, U, lam, dA, gap_tol)

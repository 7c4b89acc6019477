"""Derivatives of ``x = A^+ b``, whatever the rank, as long as it stays what it is.

Golub & Pereyra, SIAM J. Numer. Anal. 10 (1973) 413: with ``r = b - A x``,

    dx = A^+ (db - dA x) + A^+ A^{+H} dA^H r + (I - A^+ A) dA^H A^{+H} x.

The second term is that of a residual, the third one turns the null space; each takes another least-squares
solve, with A or with its adjoint, by the algorithm that found x. The transpose, for a cotangent g, with
``u = A^{+H} g`` and ``n = g - A^H u``: u for b, and the gradient of ``Re <-u, A x> + Re <r, A A^+ u> +
Re <A^{+H} x, A n>`` in the entries of A at fixed vectors. Where r or n is zero to the tolerance of the
solves, its term is left out of a first derivative.

Where the rank changes there is no derivative: see ``rank_change``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array, Backend
from ..pytree import tree_leaves
from .rank_change import guarded, refuse_rank_change

__all__ = ["pseudo_solved"]

Solve = Callable[[Any, Array], tuple[Array, Any]]


def pseudo_solved(
    be: Backend, A: Any, B: Array, value: Solve, again: Solve, tol: float, method: str
) -> tuple[Array, Any]:
    """``value(A, B) -> (X, aux)`` with the derivatives of ``A^+ B``.

    again(A, V) -> (A^+ V, aux): the solves of derivatives, also with A's adjoint. tol: the relative size of
    what they leave undetermined. method: what errors name.
    """
    moving = [be.differentiating(x) for x in tree_leaves(A) if hasattr(x, "shape")]

    def plus(A: Any, V: Array) -> Array:
        return pseudo_solved(be, A, V, again, again, tol, method)[0]

    def linear(A: Any, V: Array) -> Array:
        """``A^+ V`` of a tangent V."""
        return _transposable(be, A, V, again, plus) if be.name == "jax" else plus(A, V)

    def run(A: Any, B: Array) -> Any:
        X, aux = value(A, B)
        return (X,), aux

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        (A, B), (X,) = inputs, outputs
        if not d.moves(0):
            return (linear(A, d[1]),)
        R = B - A @ X
        turned = d.adjoint(0, plus(A.H, X))
        rhs = linear(A.H, d.adjoint(0, R)) - d.product(0, X) - A @ turned
        rhs = rhs + d[1] if d.moves(1) else rhs
        return (guarded(be, A, B, R, d, linear(A, rhs) + turned, again, tol, method),)

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> Any:
        (A, B), (X,), (G,) = inputs, outputs, grads
        U = plus(A.H, G)
        if not any(moving):
            return None, U
        R, N = B - A @ X, G - A.H @ U
        pairs = [(refuse_rank_change(be, A, B, R, G, N, moving, -U, tol, method), X)]
        later = be.differentiating(U, X, R)
        if later or not _negligible(be, R, B, tol):
            pairs.append((R, plus(A, U)))
        if later or not _negligible(be, N, G, tol):
            pairs.append((plus(A.H, X), N))
        return pairs, U

    (X,), aux = be.differentiable(run, tangent, A, B, cotangent=cotangent)
    return X, aux


def _negligible(be: Backend, R: Array, B: Array, tol: float) -> bool:
    """Whether ``|R| <= tol |B|`` in all columns, to what a solve leaves."""
    return bool(be.xp.all(be.frobenius(R, axis=-2) <= 1.1 * tol * be.frobenius(B, axis=-2)))


def _transposable(be: Any, A: Any, V: Array, again: Solve, plus: Callable[[Any, Array], Array]) -> Array:
    """``A^+ V`` as JAX can transpose it: a part of the solution of a square system.

    ``[I A; A^H -N] [r; x] = [v; 0]`` with N the projector on the null space of A is regular for every rank,
    and its solution is ``r = v - A x, x = A^+ v``. Its derivatives are right to any order, as those of N are
    stated (``_null_part``). It is self-adjoint, and symmetric in real and imaginary parts, so that JAX need
    not transpose N, which would lose what is stated of it.
    """
    import jax

    xp, m = be.xp, A.shape[-2]
    split = be.is_complex(V)

    def pack(R: Array, X: Array) -> Array:
        Z = xp.concat([R, X], axis=-2)
        return xp.concat([xp.real(Z), xp.imag(Z)], axis=-2) if split else Z

    def unpack(Z: Array) -> tuple[Array, Array]:
        half = Z.shape[-2] // 2
        Z = Z[..., :half, :] + 1j * Z[..., half:, :] if split else Z
        return Z[..., :m, :], Z[..., m:, :]

    def product(Z: Array) -> Array:
        R, X = unpack(Z)
        return pack(R + A @ X, A.H @ R - _null_part(be, A, X, again, plus))

    def solve(_: Any, rhs: Array) -> Array:
        F, G = unpack(rhs)
        first = again(A.H, G)[0]
        X = again(A, F - first)[0]
        # what is left of G lies in the null space
        return pack(F - A @ X, X - (G - A.H @ first))

    low = be.zeros((*V.shape[:-2], A.shape[-1], V.shape[-1]), V.dtype)
    Z = jax.lax.custom_linear_solve(product, pack(V, low), solve, solve, symmetric=True)
    return unpack(Z)[1]


def _null_part(be: Backend, A: Any, Y: Array, again: Solve, plus: Callable[[Any, Array], Array]) -> Array:
    """``N Y`` with ``N = I - A^+ A`` and ``dN = -A^+ dA N - (A^+ dA N)^H``."""

    def linear(A: Any, V: Array) -> Array:
        return _transposable(be, A, V, again, plus)

    def run(A: Any, Y: Array) -> Any:
        return (Y - again(A, A @ Y)[0],), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        (A, Y), (NY,) = inputs, outputs
        out = be.xp.zeros_like(NY)
        if d.moves(0):
            turned = d.adjoint(0, plus(A.H, Y))
            out = linear(A, A @ turned - d.product(0, NY)) - turned
        if d.moves(1):
            out = out + d[1] - linear(A, A @ d[1])
        return (out,)

    (found,), _ = be.differentiable(run, tangent, A, Y)
    return found

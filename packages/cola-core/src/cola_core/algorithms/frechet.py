"""Derivatives of f of general dense matrices, of any order, from f itself.

``f([[M, E], [0, M]])`` holds the Frechet derivative ``L(M, E)`` in its corner (Mathias 1996; Higham 2008,
eq. 3.16), for defective matrices and equal eigenvalues too, and nothing of f's iteration is recorded: an
iteration that has converged in value need not have done so in its own derivatives. The derivative of a corner
is the corner of a larger matrix; the transpose of ``L(M, .)`` is ``L(M^H, .)``, as f takes conjugate numbers
to conjugate values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array
from .dense_function import one_norm

__all__ = ["with_frechet"]


def with_frechet(be: Any, value: Callable[[Array], Array], M: Array) -> Array:
    """``value(M)`` for M (*batch, n, n) with such derivatives; the k-th costs what f of a matrix of size
    ``2^k n`` does. value: a function of matrices with ``value(M^H) = value(M)^H``."""
    if be.name == "abstract" or 0 in M.shape or not be.differentiating(M):
        return value(M)

    def run(M: Array) -> Any:
        return (value(M),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        return (_corner(be, value, inputs[0], d[0]),)

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        return (_corner(be, value, be.adjoint(inputs[0]), grads[0]),)

    return be.differentiable(run, tangent, M, cotangent=cotangent, linear={})[0][0]  # type: ignore[no-any-return]


def _corner(be: Any, value: Callable[[Array], Array], M: Array, E: Array) -> Array:
    """``L(M, E)``."""
    xp, n = be.xp, M.shape[-1]

    def run(M: Array, E: Array) -> Any:
        # of the size of M: the corner must steer neither scaling nor convergence
        size, own = one_norm(be, E), one_norm(be, M)
        known = (size > 0) & (own > 0)
        ratio = xp.where(known, own / xp.where(size > 0, size, xp.ones_like(size)), xp.ones_like(size))
        ratio = be.astype(ratio, M.dtype)[..., None, None]
        return (value(_block(be, M, ratio * E))[..., :n, n:] / ratio,), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        M, E = inputs
        moved = _block(be, d[0], d[1])
        return (_corner(be, value, _block(be, M, E), moved)[..., :n, n:],)

    def of_corner(grads: Any, inputs: Any) -> Array:
        return _corner(be, value, be.adjoint(inputs[0]), grads[0])

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> tuple[Array, Array]:
        M, E = inputs
        zero = xp.zeros_like(grads[0])
        G = xp.concat([xp.concat([zero, grads[0]], axis=-1), xp.concat([zero, zero], axis=-1)], axis=-2)
        S = _corner(be, value, be.adjoint(_block(be, M, E)), G)
        return S[..., :n, :n] + S[..., n:, n:], S[..., :n, n:]

    return be.differentiable(run, tangent, M, E, cotangent=cotangent, linear={1: of_corner})[0][0]  # type: ignore[no-any-return]


def _block(be: Any, M: Array, E: Array) -> Array:
    xp = be.xp
    return xp.concat([xp.concat([M, E], axis=-1), xp.concat([xp.zeros_like(M), M], axis=-1)], axis=-2)

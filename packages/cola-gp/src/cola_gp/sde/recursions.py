r"""Recursions over time, cut into chunks that advance together.

A recursion over n steps is laid out as ``L`` steps of ``C`` chunks, ``L C >= n``: arrays ``(..., n)``, time
last, become ``(..., L, C)``, where chunk c holds the times ``c L ... (c + 1) L - 1``.  One step of a loop
then advances every chunk, so NumPy and torch pay for about ``sqrt(n)`` steps in Python, and JAX compiles a
``lax.scan`` of that length with vectors in it.  What a chunk does to the state that enters it is known after
one pass that starts from zero; a short recursion over the chunks then finds those states, and a second pass
starts from them (two-level scan; Blelloch 1990).  Matrices are ``(s, s, C)``: the chunks are the contiguous
axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array

SERIAL = 32  # up to so many steps, one chunk is quickest
EINSUM = 6  # matrices up to this size are multiplied entry by entry, over all chunks at once

Step = Callable[[Any, tuple[Array, ...]], tuple[Any, tuple[Array, ...]]]


@dataclass(frozen=True)
class Layout:
    """``n`` times as ``steps`` rows of ``chunks``; the last ones of the last chunks are padding."""

    n: int
    steps: int
    chunks: int

    @classmethod
    def of(cls, n: int, serial: bool = False) -> Layout:
        """The layout of a recursion of n steps; ``serial``: one chunk, whatever n."""
        if serial or n <= SERIAL:
            return cls(n, n, 1)
        steps = math.ceil(math.sqrt(n))
        return cls(n, steps, -(-n // steps))

    def split(self, be: Any, x: Array, fill: Array | float = 0.0) -> Array:
        """``(..., n)`` as ``(..., steps, chunks)``, padded by ``fill``."""
        xp = be.xp
        extra = self.steps * self.chunks - self.n
        if extra:
            lead = tuple(x.shape[:-1])
            value: Array = be.zeros((), x.dtype, be.device(x)) + fill
            pad = xp.broadcast_to(value[..., None], (*lead, extra))
            x = xp.concat([x, pad], axis=-1)
        cut = xp.reshape(x, (*x.shape[:-1], self.chunks, self.steps))
        cut = xp.moveaxis(cut, -1, -2)
        return np.ascontiguousarray(cut) if be.name == "numpy" else cut

    def join(self, be: Any, x: Array) -> Array:
        """``(..., steps, chunks)`` as ``(..., n)``: the inverse of :meth:`split`."""
        xp = be.xp
        flat = xp.reshape(xp.moveaxis(x, -1, -2), (*x.shape[:-2], self.steps * self.chunks))
        return flat[..., : self.n]


def mm(be: Any, A: Array, B: Array) -> Array:
    """Products of matrices along the last axes: ``(i, k, ...) (k, j, ...) -> (i, j, ...)``."""
    xp = be.xp
    if max(A.shape[0], A.shape[1], B.shape[1]) <= EINSUM:
        if be.name == "numpy":
            return np.einsum("ik...,kj...->ij...", A, B)
        return xp.sum(A[:, :, None] * B[None], axis=1)
    # the first two axes go last for a batched product
    A, B = (xp.moveaxis(xp.moveaxis(M, 0, -1), 0, -1) for M in (A, B))
    return xp.moveaxis(xp.moveaxis(xp.matmul(A, B), -1, 0), -1, 0)


def transpose(be: Any, A: Array) -> Array:
    """The transposed matrices of ``(i, j, ...)``."""
    return be.xp.moveaxis(A, 0, 1)


def symmetric(be: Any, A: Array) -> Array:
    """The symmetric part of matrices ``(s, s, ...)``."""
    return 0.5 * (A + transpose(be, A))


def identity(be: Any, s: int, like: Array, more: tuple[int, ...] = ()) -> Array:
    """Identity matrices ``(s, s, *more)``."""
    eye = be.eye(s, like.dtype, be.device(like))
    return be.xp.broadcast_to(be.xp.reshape(eye, (s, s, *([1] * len(more)))), (s, s, *more))


def scan(be: Any, step: Step, carry: Any, xs: tuple[Array, ...], reverse: bool = False) -> tuple[Any, Any]:
    """``carry, y_l = step(carry, x_l)`` along the second last axis of all ``xs``; the y_l along that axis."""
    xp = be.xp
    if be.name == "jax":
        import jax

        moved = tuple(xp.moveaxis(x, -2, 0) for x in xs)
        carry, ys = jax.lax.scan(step, carry, moved, reverse=reverse)
        return carry, tuple(xp.moveaxis(y, 0, -2) for y in ys)
    length = xs[0].shape[-2]
    if be.name == "abstract":  # a plan knows shapes only, and one step tells them
        carry, ys = step(carry, tuple(x[..., 0, :] for x in xs))
        return carry, tuple(
            xp.broadcast_to(y[..., None, :], (*y.shape[:-1], length, y.shape[-1])) for y in ys
        )
    order = range(length - 1, -1, -1) if reverse else range(length)
    if be.name == "numpy":
        filled: tuple[Array, ...] = ()
        for i in order:
            carry, ys = step(carry, tuple(x[..., i, :] for x in xs))
            if not filled:
                filled = tuple(np.empty((*y.shape[:-1], length, y.shape[-1]), y.dtype) for y in ys)
            for out, y in zip(filled, ys, strict=True):
                out[..., i, :] = y
        return carry, filled
    # taken apart at once: the derivative of an index would be an array of the whole length for every step
    parts = list(zip(*(x.unbind(-2) for x in xs), strict=True))
    made = []
    for i in order:
        carry, ys = step(carry, parts[i])
        made.append(ys)
    made = made[::-1] if reverse else made
    return carry, tuple(xp.stack(y, axis=-2) for y in zip(*made, strict=True))


def chunk_products(be: Any, M: Array) -> Array:
    """``M_{L-1} ... M_1 M_0`` of every chunk, ``(s, s, L, C) -> (s, s, C)``, in log2 L rounds."""
    xp = be.xp
    s = M.shape[0]
    while M.shape[-2] > 1:
        if M.shape[-2] % 2:
            M = xp.concat([M, identity(be, s, M, (1, M.shape[-1]))], axis=-2)
        M = mm(be, M[..., 1::2, :], M[..., 0::2, :])
    return M[..., 0, :]


def forward(be: Any, M: Array, u: Array, products: Array | None = None) -> Array:
    """States ``x_k`` before step k of ``x_{k+1} = M_k x_k + u_k`` with ``x_0 = 0``.

    M: (s, s, L, C); u: (s, m, L, C); products: those of :func:`chunk_products`, if known.  Answer like u.
    """
    return _linear(be, M, u, products, reverse=False)


def backward(be: Any, M: Array, u: Array, products: Array | None = None) -> Array:
    """States ``x_{k+1}`` after step k of ``x_k = M_k^T x_{k+1} + u_k`` with ``x_n = 0``; else as forward."""
    return _linear(be, M, u, products, reverse=True)


def _linear(be: Any, M: Array, u: Array, products: Array | None, reverse: bool) -> Array:
    xp = be.xp
    chunks = u.shape[-1]
    zero = xp.zeros_like(u[..., 0, :])

    def act(matrix: Array, x: Array) -> Array:
        return mm(be, transpose(be, matrix) if reverse else matrix, x)

    def only(x: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        matrix, add = parts
        return act(matrix, x) + add, ()

    def keep(x: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        matrix, add = parts
        return act(matrix, x) + add, (x,)

    start = zero
    if chunks > 1:
        ends, _ = scan(be, only, zero, (M, u), reverse)
        P = chunk_products(be, M) if products is None else products
        # a recursion over the chunks: they become the scanned axis, with one chunk of them
        _, (start,) = scan(be, keep, zero[..., :1], (P[..., None], ends[..., None]), reverse)
        start = start[..., 0]
    return scan(be, keep, start, (M, u), reverse)[1][0]


def congruences(be: Any, M: Array, Q: Array, start: Array) -> Array:
    """States ``P_k (s, s, L, C)`` before step k of ``P_{k+1} = M_k P_k M_k^T + Q_k``, ``P_0 = start``."""

    def only(P: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        return keep(P, parts)[0], ()

    def keep(P: Array, parts: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
        matrix, add = parts
        after = mm(be, mm(be, matrix, P), transpose(be, matrix)) + add
        return symmetric(be, after), (P,)

    first = start[..., None]
    if M.shape[-1] > 1:
        ends, _ = scan(be, only, be.xp.zeros_like(M[..., 0, :]), (M, Q))
        _, (first,) = scan(be, keep, first, (chunk_products(be, M)[..., None], ends[..., None]))
        first = first[..., 0]
    return scan(be, keep, first, (M, Q))[1][0]

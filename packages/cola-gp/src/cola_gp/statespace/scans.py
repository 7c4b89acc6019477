"""Recursions over time on every library: one step after the other, or all at once as a tree.

``sequential`` is a loop (``jax.lax.scan`` on JAX, so that it compiles once and differentiates);
``parallel`` is the scan of an associative operation by a tree of O(log n) vectorised operations (Blelloch
1990, "Prefix sums and their applications").  It does two to three times the arithmetic, but in arrays of
many times at once: on NumPy and PyTorch, where an operation on a small matrix is all overhead, and on
accelerators it is the faster one.

On JAX a tree is unrolled by the compiler, which then sees the operation ``2 log2 n`` times, every time for
other shapes.  There the times are cut into chunks of up to ``CHUNK`` instead, of which all are advanced
together by a compiled loop; the totals of the chunks are scanned by doubling (Hillis & Steele 1986, "Data
parallel algorithms"), another loop; and the totals before every chunk are put before what is in it.  That is
about as many steps one after the other as the tree has, and the operation compiled three times.

Trees of arrays are tuples here, and None in them stands for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

CHUNK = 32  # times of a chunk

Tree = tuple[Any, ...]


def sequential(
    be: Any,
    step: Callable[[Tree, Tree], tuple[Tree, Tree]],
    start: Tree,
    inputs: Tree,
    n: int,
    reverse: bool = False,
) -> Tree:
    """``carry, out = step(carry, inputs at k)`` for k = 0 .. n-1 (or backwards); the outputs stacked by k.

    inputs: arrays with n entries on their first axis, or 1, which then serve at every time, or None.
    """
    fixed = [x is None or (x.shape[0] == 1 and n != 1) for x in inputs]
    moving = tuple(x for x, same in zip(inputs, fixed, strict=True) if not same)

    def at(xs: Tree) -> Tree:
        feed = iter(xs)
        return tuple(
            (None if x is None else x[0]) if same else next(feed)
            for x, same in zip(inputs, fixed, strict=True)
        )

    if be.name == "jax":
        import jax

        return jax.lax.scan(lambda c, xs: step(c, at(xs)), start, moving, length=n, reverse=reverse)[1]
    carry, outs = start, []
    for k in range(n - 1, -1, -1) if reverse else range(n):
        carry, out = step(carry, at(tuple(x[k] for x in moving)))
        outs.append(out)
    if reverse:
        outs.reverse()
    return tuple(None if parts[0] is None else be.xp.stack(parts) for parts in zip(*outs, strict=True))


def parallel(be: Any, combine: Callable[[Tree, Tree], Tree], elements: Tree, reverse: bool = False) -> Tree:
    """All prefixes ``e_0 * e_1 * ... * e_k`` (or, in reverse, ``e_k * ... * e_{n-1}``) of an associative
    ``*``.

    elements: arrays with n entries on their first axis.  ``combine(earlier, later)`` works on many at once.
    """
    xp = be.xp
    if reverse:
        flipped = tuple(xp.flip(x, axis=0) for x in elements)
        swept = parallel(be, lambda a, b: combine(b, a), flipped)
        return tuple(xp.flip(x, axis=0) for x in swept)
    return _chunked(combine, elements) if be.name == "jax" else _tree(xp, combine, elements)


def _chunked(combine: Callable[[Tree, Tree], Tree], e: Tree) -> Tree:
    """The scan by chunks on JAX; see the module docstring."""
    import jax
    import jax.numpy as jnp

    n = e[0].shape[0]
    if n < 3:
        return _tree(jnp, combine, e)
    length = min(CHUNK, math.isqrt(n - 1) + 1)
    chunks = -(-n // length)

    def lay(x: Any) -> Any:  # (n, ...) -> (length, chunks, ...); what is after the end is not looked at
        fill = jnp.broadcast_to(x[-1:], (length * chunks - n, *x.shape[1:]))
        return jnp.moveaxis(jnp.reshape(jnp.concat([x, fill]), (chunks, length, *x.shape[1:])), 1, 0)

    def along(before: Tree, here: Tree) -> tuple[Tree, Tree]:
        now = combine(before, here)
        return now, now

    laid = tuple(lay(x) for x in e)
    first = tuple(x[0] for x in laid)
    total, rest = jax.lax.scan(along, first, tuple(x[1:] for x in laid))

    def double(ends: Tree, step: Any) -> tuple[Tree, None]:
        # ends[c] covers the last `step` chunks up to c; the first ones are complete and stay as they are
        at = jnp.arange(chunks)
        twice = combine(tuple(x[jnp.maximum(at - step, 0)] for x in ends), ends)
        fits = at >= step
        return tuple(
            jnp.where(jnp.reshape(fits, (-1, *(1,) * (x.ndim - 1))), new, x)
            for new, x in zip(twice, ends, strict=True)
        ), None

    steps = 2 ** jnp.arange((chunks - 1).bit_length())
    ends, _ = jax.lax.scan(double, total, steps)
    inside = tuple(jnp.concat([a[None], b]) for a, b in zip(first, rest, strict=True))
    before = tuple(jnp.broadcast_to(x[:-1], (length, *x[:-1].shape)) for x in ends)
    later = combine(before, tuple(x[:, 1:] for x in inside))

    def join(x: Any) -> Any:
        return jnp.reshape(jnp.moveaxis(x, 0, 1), (length * chunks, *x.shape[2:]))[:n]

    whole = (jnp.concat([x[:, :1], y], axis=1) for x, y in zip(inside, later, strict=True))
    return tuple(join(x) for x in whole)


def _tree(xp: Any, combine: Callable[[Tree, Tree], Tree], e: Tree) -> Tree:
    n = e[0].shape[0]
    if n < 2:
        return e
    half = n // 2
    pairs = combine(tuple(x[: 2 * half : 2] for x in e), tuple(x[1 : 2 * half : 2] for x in e))
    odd = _tree(xp, combine, pairs)  # prefixes that end at 1, 3, 5, ...
    if n > 2:  # those that end at 2, 4, ...: one more element each
        rest = (n - 1) // 2
        even = combine(tuple(x[:rest] for x in odd), tuple(x[2::2] for x in e))
        even = tuple(xp.concat([x[:1], y], axis=0) for x, y in zip(e, even, strict=True))
    else:
        even = tuple(x[:1] for x in e)
    return tuple(_interleave(xp, a, b) for a, b in zip(even, odd, strict=True))


def _interleave(xp: Any, even: Any, odd: Any) -> Any:
    """``even[0], odd[0], even[1], ...``; even has as many entries as odd or one more."""
    m, rest = odd.shape[0], tuple(odd.shape[1:])
    both = xp.reshape(xp.stack([even[:m], odd], axis=1), (2 * m, *rest))
    return both if even.shape[0] == m else xp.concat([both, even[m:]], axis=0)

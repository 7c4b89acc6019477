"""Recursions over time on every library: one step after the other, or all at once as a tree.

``sequential`` is a loop (``jax.lax.scan`` on JAX, so that it compiles once and differentiates);
``parallel`` is the scan of an associative operation by a tree of O(log n) vectorised operations (Blelloch
1990, "Prefix sums and their applications"; ``jax.lax.associative_scan`` on JAX).  The tree does about twice
the arithmetic, but in arrays of many times at once: on NumPy and PyTorch, where an operation on a small
matrix is all overhead, and on accelerators it is the faster one.

Trees of arrays are tuples here, and None in them stands for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    if be.name == "jax":
        import jax

        if not reverse:
            return jax.lax.associative_scan(combine, elements)
        return jax.lax.associative_scan(lambda a, b: combine(b, a), elements, reverse=True)
    xp = be.xp
    if reverse:
        flipped = tuple(xp.flip(x, axis=0) for x in elements)
        swept = _tree(xp, lambda a, b: combine(b, a), flipped)
        return tuple(xp.flip(x, axis=0) for x in swept)
    return _tree(xp, combine, elements)


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

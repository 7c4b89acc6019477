"""Random orders for algorithms that take a matrix piece by piece: drawn on the host before the loop starts,
so that compiled loops only look them up."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["generator", "largest_eigenvalue", "shuffled_blocks"]


def generator(key: Any) -> np.random.Generator:
    """A NumPy generator for an int seed or a JAX key."""
    if key is None or isinstance(key, (int, np.integer)):
        return np.random.default_rng(0 if key is None else int(key))
    import jax

    return np.random.default_rng([int(x) for x in np.asarray(jax.random.key_data(key)).ravel()])


def shuffled_blocks(n: int, size: int, rounds: int, key: Any) -> Any:
    """Index blocks (count, size): every round has every index of ``range(n)`` once, and some twice where size
    does not divide n."""
    rng = generator(key)
    count = -(-n // size)
    out = np.empty((rounds, count * size), np.int64)
    for row in out:
        order = rng.permutation(n)
        row[:] = np.concatenate([order, order[: count * size - n]])
    return out.reshape(rounds * count, size)


def largest_eigenvalue(be: Any, product: Any, v: Any, steps: int = 8) -> Any:
    """An estimate from below of the largest eigenvalue of a positive semidefinite product, by power iteration
    from the columns of v (n, k)."""
    xp = be.xp
    size = be.norm(v)
    for _ in range(steps):
        v = product(v / be.astype(xp.where(size > 0, size, xp.ones_like(size)), v.dtype))
        size = be.norm(v)
    return xp.max(size)

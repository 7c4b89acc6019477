"""Where to put inducing points: greedily where the variance left is largest, or at random.

The greedy choice is pivoted Cholesky (Fine & Scheinberg 2001; Burt, Rasmussen & van der Wilk 2020,
section 4.2): each point is the one that those before explain least. It needs no more than O(n m) memory
and O(n m^2) time, and its residual, the trace of ``K - Q``, is known at every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from ._struct import leaves, with_leaves
from .data import as_inputs, as_points
from .kernels import Inducing, Kernel, Nystrom


def _numpy(leaf: Any) -> np.ndarray:
    backend: Any = backend_of(leaf)
    return np.asarray(backend.to_numpy(leaf))


def select_inducing(
    kernel: Kernel, X: Any, count: int, *, method: str = "greedy", tol: float = 1e-10, key: int = 0
) -> np.ndarray:
    """At most ``count`` rows of ``X (n, d)`` as inducing points for ``kernel``, a NumPy array ``(m, d)``.

    method: "greedy" (by the kernel's initial parameters; stops early when the variance left is below
    ``tol`` of the total, so duplicates are never chosen twice) or "random" (by ``key``, without
    replacement). NumPy arrays only in the kernel's parameters; points of any library.
    """
    if int(count) != count or count < 1:
        raise ValueError(f"select_inducing: count must be a positive integer, not {count!r}.")
    X = as_points(as_inputs(X))
    backend: Any = backend_of(X)
    points = np.asarray(backend.to_numpy(X))
    n = points.shape[0]
    if n == 0:
        raise ShapeError("select_inducing: there are no points to choose from.")
    count = min(int(count), n)
    if method == "random":
        return points[np.sort(np.random.default_rng(key).choice(n, count, replace=False))].copy()
    if method != "greedy":
        raise ValueError(f"select_inducing: method must be 'greedy' or 'random', not {method!r}.")
    while isinstance(kernel, (Inducing, Nystrom)):
        kernel = kernel.kernel
    kernel = with_leaves(kernel, [_numpy(leaf) for leaf in leaves(kernel)])
    left = np.array(kernel.cross_diag(points), dtype=float)
    total = left.sum()
    rows = np.zeros((count, n))
    chosen: list[int] = []
    for step in range(count):
        pivot = int(np.argmax(left))
        if not left[pivot] > 0 or left.sum() <= tol * total:
            break
        row = np.asarray(kernel(points[pivot : pivot + 1], points)[0], dtype=float)
        row = (row - rows[:step, pivot] @ rows[:step]) / np.sqrt(left[pivot])
        rows[step] = row
        left = np.maximum(left - row * row, 0.0)
        left[pivot] = 0.0
        chosen.append(pivot)
    return points[chosen or [0]].copy()

r"""Structured kernel interpolation: a kernel seen through a grid,

.. math:: q(x, x') = w(x)^T K_{grid} w(x'),

with the sparse weights ``w`` of cubic convolution (Wilson & Nickisch 2015, eq. 8; Keys 1981).  It is a
positive semi-definite kernel of its own whose error falls with the third power of the spacing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import ops
from cola_core.errors import ShapeError

from .._struct import leaves, set_fields, static, struct
from ..arrays import backend_for
from ..grids import Grid, Regular
from .base import Array, Kernel, Pullback, follow, pair, points, xp_of
from .compose import _check_kernels
from .nystrom import contains
from .simple import White

ORDERS = {"linear": 2, "cubic": 4}  # weights per dimension


@struct
class SKI(Kernel):
    """``kernel`` interpolated from the points of ``grid``, whose axes are all :class:`~cola_gp.Regular`.

    order: "cubic" or "linear".  Points must lie within the grid (ShapeError); see :meth:`around`.  Put scales
    and sums inside: ``SKI(2.0 * RBF(), grid)`` keeps the structure, ``2.0 * SKI(RBF(), grid)`` does not.
    With N grid points, n data and a kernel that is a product over the axes, likelihood and gradient cost
    O(n 16^d + N^3), whatever n.

    >>> import numpy as np, cola_gp as gp
    >>> X = np.random.default_rng(0).uniform(0, 10, (500, 1))
    >>> ski = gp.SKI.around(gp.RBF(1.0), X, 60)
    >>> bool(abs(ski(X[:5]) - gp.RBF(1.0)(X[:5])).max() < 1e-3)
    True
    """

    kernel: Kernel
    grid: Grid
    order: str = static(default="cubic")
    _data_fields = ("grid",)

    def __init__(self, kernel: Kernel, grid: Grid, order: str = "cubic"):
        _check_kernels("SKI", (kernel,))
        if contains(kernel, White):
            raise ValueError("SKI: white noise is not interpolated; use the noise of the model.")
        if order not in ORDERS:
            raise ValueError(f"SKI: order must be 'cubic' or 'linear', not {order!r}.")
        if not isinstance(grid, Grid) or not all(isinstance(axis, Regular) for axis in grid.axes):
            raise TypeError("SKI needs a Grid whose axes are all Regular (equally spaced).")
        if min(grid.sizes) < ORDERS[order]:
            raise ShapeError(f"SKI: {order} interpolation needs {ORDERS[order]} points on every axis.")
        set_fields(self, kernel=kernel, grid=grid, order=order)

    @classmethod
    def around(cls, kernel: Kernel, X: Any, sizes: int | tuple[int, ...], order: str = "cubic") -> SKI:
        """A grid of ``sizes`` points per axis around the points ``X (n, d)``, with one spacing to spare."""
        X = np.asarray(X, dtype=float)
        X = X[:, None] if X.ndim == 1 else X
        counts = (sizes,) * X.shape[1] if isinstance(sizes, int) else tuple(sizes)
        if len(counts) != X.shape[1]:
            raise ShapeError(
                f"SKI.around: sizes {counts} are for {len(counts)} dimensions, but X has {X.shape[1]}."
            )
        axes = []
        for low, high, count in zip(X.min(axis=0), X.max(axis=0), counts, strict=True):
            if count < 4:
                raise ShapeError(f"SKI.around needs at least 4 points per axis, not {count}.")
            step = (high - low) / (count - 3) if high > low else 1.0
            axes.append(Regular(low - step, step, count))
        return cls(kernel, Grid(*axes), order)

    def grid_like(self, X: Array) -> Grid:
        """The grid in the library and dtype of the points ``X``."""

        def axis(a: Regular) -> Regular:
            return Regular(follow(a.start, X), follow(a.step, X), a.count)

        return Grid(*(axis(a) for a in self.grid.axes))

    def weights(self, X: Array) -> tuple[Array, Array]:
        """Numbers of grid points and their weights, both ``(n, p)`` with p = 4^d or 2^d."""
        grid = self.grid_like(points(X))
        if X.shape[1] != grid.shape[1]:
            raise ShapeError(f"SKI's grid has {grid.shape[1]} dimensions but the points have {X.shape[1]}.")
        axes = [axis.coordinates() for axis in grid.axes]
        return ops.interpolation_weights(axes, X, self.order)  # type: ignore[no-any-return]

    def matrix(self, X: Array) -> Any:
        """``W (n, N)``: a SciPy sparse matrix for NumPy, else an array."""
        return weight_matrix(*self.weights(X), self.grid.shape[0])

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        _, X1, X2 = pair(X1, X2)
        K, back = self.kernel.evaluate(self.grid_like(X1).points())
        W1 = self.matrix(X1)
        W2 = W1 if X2 is X1 else self.matrix(X2)

        def pull(G: Array) -> tuple[Array, ...]:
            zeros = tuple(xp_of(X1).zeros_like(follow(leaf, X1)) for leaf in leaves(self.grid))
            return (*back(W1.T @ (W2.T @ G.T).T), *zeros)

        return W1 @ (W2 @ K.T).T, pull

    def diag(self, X: Array) -> Array:
        K = self.kernel(self.grid_like(X).points())
        return interpolated_diagonal(K, *self.weights(X))


def weight_matrix(index: Array, weights: Array, count: int) -> Any:
    """Rows of interpolation weights ``(n, count)``; sparse for NumPy."""
    backend = backend_for(weights)
    n, p = int(weights.shape[0]), int(weights.shape[1])
    if backend.name == "numpy":
        from scipy.sparse import csr_array

        return csr_array((weights.ravel(), index.ravel(), np.arange(0, n * p + 1, p)), shape=(n, count))
    xp = backend.xp
    numbers = xp.arange(count, device=backend.device(weights))
    columns = [
        backend.astype(index[:, j, None] == numbers[None, :], weights.dtype) * weights[:, j, None]
        for j in range(p)
    ]
    return sum(columns[1:], columns[0])


def interpolated_diagonal(K: Array, index: Array, weights: Array) -> Array:
    """``w_i^T K w_i`` for every row i of the weights, at O(n p^2)."""
    total = 0.0
    for a in range(weights.shape[1]):
        row = K[index[:, a][:, None], index]
        total = total + weights[:, a] * backend_for(K).xp.sum(row * weights, axis=1)
    return total

"""``Interpolated``: an operator on a grid seen from points between, through sparse interpolation weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import backend_of, get_backend
from ..backends.base import Array, Backend
from ..cost import Cost
from ..errors import ShapeError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator
from .base import LinearOperator
from .dense import as_matrix_entries
from .entries import at_positions
from .sparse import _scipy_product

__all__ = ["Interpolated", "interpolation_weights"]


@operator
class Interpolated(LinearOperator):
    """``W_l K W_r^H``: row i of W_l has the weights ``left_weights[i, :]`` in the columns ``left_index[i,
    :]``.

    base: K, of shape (r, c). left_index, left_weights: (*batch, m, p), p weights for each of m points;
    repeated indices add up. right_index, right_weights: (*batch, n, q); omitted, the left ones are taken,
    and the result is PSD or self-adjoint where the base is. Product: ``2 (m p + n q)`` flops and one product
    with K (structured kernel interpolation, Wilson and Nickisch 2015, eq. 8). Indices are never cast and
    take no gradient; weights do.

    >>> import numpy as np, cola_core as cola
    >>> grid, x = np.linspace(0, 1, 5), np.array([0.1, 0.5, 0.9])
    >>> K = cola.PSD(np.exp(-abs(grid[:, None] - grid)))
    >>> A = cola.ops.Interpolated(K, *cola.ops.interpolation_weights(grid, x, "linear"))
    >>> A.shape, A.isa(cola.PSD), [round(float(d), 3) for d in cola.diag(A)]
    ((3, 3), True, [0.894, 1.0, 0.894])
    """

    base: LinearOperator
    left_index: Array
    left_weights: Array
    right_index: Array | None = None
    right_weights: Array | None = None

    def _check(self) -> None:
        from .algebra import as_operator

        object.__setattr__(self, "base", as_operator(self.base))
        if (self.right_index is None) != (self.right_weights is None):
            raise ShapeError("Interpolated needs right_index and right_weights together, or neither.")
        sides = [("left", self.base.shape[-2])]
        if self.right_index is not None:
            sides.append(("right", self.base.shape[-1]))
        elif not self.base.is_square:
            raise ShapeError(f"Interpolated of the rectangular {self.base!r} needs right_index and weights.")
        for side, extent in sides:
            weights = as_matrix_entries(self.__dict__[f"{side}_weights"], f"Interpolated {side}_weights")
            be = backend_of(weights) or get_backend("numpy")
            index = be.asarray(self.__dict__[f"{side}_index"], device=be.device(weights))
            if index.ndim < 2 or tuple(index.shape[-2:]) != tuple(weights.shape[-2:]):
                raise ShapeError(
                    f"Interpolated: {side}_index of shape {tuple(index.shape)} and {side}_weights of shape "
                    f"{tuple(weights.shape)} must both be (*batch, points, weights per point)."
                )
            if not be.xp.isdtype(index.dtype, "integral"):
                raise ShapeError(f"Interpolated: {side}_index must be integers, got {index.dtype}.")
            if be.is_concrete(index) and math.prod(index.shape):
                low, high = int(be.xp.min(index)), int(be.xp.max(index))
                if low < 0 or high >= extent:
                    raise ShapeError(
                        f"Interpolated: {side}_index {low}..{high} is outside {self.base!r} ({extent})."
                    )
            object.__setattr__(self, f"{side}_weights", weights)
            object.__setattr__(self, f"{side}_index", index)
        self.backend  # noqa: B018 - raises if the parts mix libraries

    @property
    def _left(self) -> tuple[Array, Array]:
        return self.left_index, self.left_weights

    @property
    def _right(self) -> tuple[Array, Array]:
        if self.right_index is None:
            return self._left
        return self.right_index, self.right_weights

    def _shape(self) -> tuple[int, ...]:
        sides = (*self._left, *self._right)
        batch = np.broadcast_shapes(self.base.batch_shape, *(tuple(x.shape[:-2]) for x in sides))
        return (*batch, sides[0].shape[-2], sides[2].shape[-2])

    def _matmat(self, X: Array) -> Array:
        X = self._spread(*self._right, X, self.base.shape[-1])
        return self._gather(*self._left, self.base._matmat(X))

    def _rmatmat(self, X: Array) -> Array:
        X = self._spread(*self._left, X, self.base.shape[-2])
        return self._gather(*self._right, self.base._rmatmat(X))

    def _gather(self, index: Array, weights: Array, Y: Array) -> Array:
        """W Y for Y (*batch, r, k)."""
        be = self._concrete_backend()
        xp = be.xp
        if be.name == "abstract":
            return be.matmul(be.zeros((*index.shape[:-1], Y.shape[-2]), weights.dtype), Y)
        if be.name == "numpy" and weights.ndim == index.ndim == 2:
            return _scipy_product(self._csr(index, weights, Y.shape[-2]), Y)
        if index.ndim == 2:
            return xp.sum(weights[..., None] * Y[..., index, :], axis=-2)
        index, weights, Y, batch = _one_batch(be, index, weights, Y)
        count, r, k = Y.shape
        rows = index + r * xp.arange(count, device=be.device(index))[:, None, None]
        picked = xp.reshape(Y, (count * r, k))[xp.reshape(rows, (-1,))]
        out = xp.sum(weights[..., None] * xp.reshape(picked, (*index.shape, k)), axis=-2)
        return xp.reshape(out, (*batch, *out.shape[-2:]))

    def _spread(self, index: Array, weights: Array, X: Array, extent: int) -> Array:
        """W^H X for X (*batch, m, k)."""
        be = self._concrete_backend()
        xp = be.xp
        if be.name == "abstract":
            return be.matmul(be.zeros((*index.shape[:-2], extent, index.shape[-2]), weights.dtype), X)
        if be.name == "numpy" and weights.ndim == index.ndim == 2:
            return _scipy_product(self._csr(index, weights, extent).conj().T, X)
        weights = be.conj(weights)
        if index.ndim == 2:
            values = weights[..., None] * X[..., :, None, :]
            values = xp.reshape(values, (*values.shape[:-3], math.prod(index.shape), X.shape[-1]))
            return be.index_add(xp.reshape(index, (-1,)), values, extent)
        index, weights, X, batch = _one_batch(be, index, weights, X)
        count, k = X.shape[0], X.shape[-1]
        rows = index + extent * xp.arange(count, device=be.device(index))[:, None, None]
        values = xp.reshape(weights[..., None] * X[..., :, None, :], (math.prod(index.shape), k))
        out = be.index_add(xp.reshape(rows, (-1,)), values, count * extent)
        return xp.reshape(out, (*batch, extent, k))

    def _csr(self, index: Array, weights: Array, extent: int) -> Any:
        from scipy.sparse import csr_array

        name = "_csr_left" if index is self.left_index else "_csr_right"
        found = self.__dict__.get(name)
        if found is None:
            m, p = index.shape
            found = csr_array((weights.ravel(), index.ravel(), np.arange(m + 1) * p), shape=(m, extent))
            self.__dict__[name] = found
        return found

    def _adjoint(self) -> LinearOperator:
        return self._sides(self.base.H, conjugate=False, exchange=True)

    def _transpose(self) -> LinearOperator:
        return self._sides(self.base.T, conjugate=True, exchange=True)

    def _conj(self) -> LinearOperator:
        return self._sides(self.base.conj(), conjugate=True, exchange=False)

    def _sides(self, base: LinearOperator, conjugate: bool, exchange: bool) -> LinearOperator:
        be = self._concrete_backend()

        def weights(w: Array) -> Array:
            return be.conj(w) if conjugate else w

        if self.right_index is None:
            return Interpolated(base, self.left_index, weights(self.left_weights))
        left, right = (self._right, self._left) if exchange else (self._left, self._right)
        return Interpolated(base, left[0], weights(left[1]), right[0], weights(right[1]))

    def _properties(self) -> frozenset[Property]:
        return frozenset(p for p in (PSD, SelfAdjoint) if self.right_index is None and self.base.isa(p))

    def _take(self, rows: Any, cols: Any, same: bool = False) -> LinearOperator:
        """Some rows and columns: the weights of those points."""
        (li, lw), (ri, rw) = self._left, self._right
        left = (li, lw) if rows is None else (li[..., rows, :], lw[..., rows, :])
        if same and self.right_index is None:
            keep = frozenset(p for p in (PSD, SelfAdjoint) if self.isa(p))
            return Interpolated(self.base, *left, declared=keep)
        right = (ri, rw) if cols is None else (ri[..., cols, :], rw[..., cols, :])
        return Interpolated(self.base, *left, *right)

    def diagonal(self, k: int = 0) -> Array:
        """The k-th diagonal, from p q entries of the base for each of its entries (see ``has_entries``)."""
        be = self._concrete_backend()
        m, n = self.shape[-2:]
        length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
        if be.name == "abstract" or not length:
            return be.zeros((*self.batch_shape, length), self.dtype, self.device)
        row, col = max(-k, 0), max(k, 0)
        (li, lw), (ri, rw) = self._left, self._right
        li, lw = (x[..., row : row + length, :, None] for x in (li, lw))
        ri, rw = (x[..., col : col + length, None, :] for x in (ri, rw))
        K: Any = at_positions(self.base, *be.xp.broadcast_arrays(li, ri))
        return be.xp.sum(lw * K * be.conj(rw), axis=(-2, -1))

    def _matvec_cost(self) -> Cost:
        return self._columns_cost(1)

    def matmat_cost(self, k: float) -> Cost:
        """To the grid, on it, and back."""
        return self._placed(self._columns_cost(k), k)

    def _columns_cost(self, k: float) -> Cost:
        out, size = self.base.matmat_cost(k), self.itemsize
        for index, _ in (self._left, self._right):
            stored, points = math.prod(index.shape), index.shape[-2]
            moved = 2 * size * stored + size * points
            out = out + Cost(2.0 * stored * k, moved * k + 8 * stored, size * stored * k, 0, 2)
        return out

    def _short(self) -> str:
        m, n = self.shape[-2:]
        return f"{type(self).__name__}[{m}x{n}]({self.base._short()})"


def _one_batch(be: Backend, index: Array, weights: Array, X: Array) -> Any:
    """All with one batch axis in front, and the batch shape."""
    xp = be.xp
    batch = tuple(np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (index, weights, X))))
    size = math.prod(batch)
    out = []
    for x in (index, weights, X):
        x = xp.broadcast_to(x, (*batch, *x.shape[-2:]))
        out.append(xp.reshape(x, (size, *x.shape[-2:])))
    return (*out, batch)


# -- weights -------------------------------------------------------------------------------------------------
def interpolation_weights(grid: Any, x: Array, order: str | int = "cubic") -> tuple[Array, Array]:
    """Indices and weights, both (n, p), that interpolate values on a grid at the points x.

    grid: equally spaced increasing points (g,), with x of shape (n,) or (n, 1); or a sequence of D such axes
    for the product grid, with x (n, D), whose points are numbered with the last axis fastest, as in a
    Kronecker product. order: "linear" (or 1; p = 2^D) or "cubic" (or 3; p = 4^D): cubic convolution with a =
    -1/2, whose values beyond the boundary are extrapolated from three inside (Keys 1981, eqs. 15, 19, 25),
    so that quadratics are reproduced everywhere. Points outside the grid raise ShapeError. Weights are
    differentiable in x.
    """
    degree = {"linear": 1, "cubic": 3, 1: 1, 3: 3}.get(order)
    if degree is None:
        raise ShapeError(f"interpolation_weights: order must be 'linear' or 'cubic', got {order!r}.")
    axes = grid if isinstance(grid, (list, tuple)) and not np.isscalar(grid[0]) else (grid,)
    be = backend_of(x) or get_backend("numpy")
    x = be.as_value(x)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[1] != len(axes):
        raise ShapeError(
            f"interpolation_weights: points of shape {tuple(x.shape)} on a grid of {len(axes)} "
            f"{'axes' if len(axes) > 1 else 'axis'}; x must be (n, {len(axes)})."
        )
    xp = be.xp
    index: Any = None
    weights: Any = None
    for d, axis in enumerate(axes):
        axis = be.asarray(axis, dtype=x.dtype, device=be.device(x))
        i, w = _on_axis(be, axis, x[:, d], degree)
        if index is None:
            index, weights = i, w
            continue
        size = axis.shape[0]
        index = xp.reshape(index[:, :, None] * size + i[:, None, :], (x.shape[0], -1))
        weights = xp.reshape(weights[:, :, None] * w[:, None, :], (x.shape[0], -1))
    return index, weights


def _on_axis(be: Backend, axis: Array, x: Array, degree: int) -> tuple[Array, Array]:
    xp = be.xp
    size = axis.shape[0] if axis.ndim == 1 else 0
    if size < degree // 2 + 2:
        raise ShapeError(
            f"interpolation_weights: {'cubic' if degree == 3 else 'linear'} interpolation needs an axis of "
            f"at "
            f"least {degree // 2 + 2} points, got shape {tuple(axis.shape)}."
        )
    step = (axis[-1] - axis[0]) / (size - 1)
    if be.is_concrete(axis, x):
        steps = be.to_numpy(axis[1:] - axis[:-1])
        h = be.number(step)
        if not h > 0 or np.abs(steps - h).max() > 1e-3 * h:
            raise ShapeError(
                "interpolation_weights: the points of an axis must be increasing and equally spaced."
            )
        if x.shape[0]:
            low, high = be.number(xp.min(x)), be.number(xp.max(x))
            first, last = be.number(axis[0]), be.number(axis[-1])
            if not (low >= first - 1e-6 * h and high <= last + 1e-6 * h):
                raise ShapeError(
                    f"interpolation_weights: points {low:.6g}..{high:.6g} lie outside the grid "
                    f"{first:.6g}..{last:.6g}. Extend the grid."
                )
    at = (x - axis[0]) / step
    cell = xp.astype(xp.floor(at), xp.int64 if be.name != "jax" else xp.int32)
    cell = xp.clip(cell, 0, size - 2)
    s = at - be.astype(cell, x.dtype)
    if degree == 1:
        return xp.stack([cell, cell + 1], axis=-1), xp.stack([1 - s, s], axis=-1)
    # Keys' kernel with a = -1/2 at distances 1 + s, s, 1 - s, 2 - s
    w = [
        ((-0.5 * s + 1) * s - 0.5) * s,
        (1.5 * s - 2.5) * s * s + 1,
        ((-1.5 * s + 2) * s + 0.5) * s,
        (0.5 * s - 0.5) * s * s,
    ]
    # a node beyond an end is 3, -3, 1 times the nodes next to it; its weight moves there
    before, after = cell == 0, cell == size - 2
    none = xp.zeros_like(s)
    b, a = xp.where(before, w[0], none), xp.where(after, w[3], none)
    w = [
        w[0] - b + a,
        w[1] + 3 * b - 3 * a,
        w[2] - 3 * b + 3 * a,
        w[3] + b - a,
    ]
    nodes = [cell - 1, cell, cell + 1, cell + 2]
    nodes = [xp.clip(node, 0, size - 1) for node in nodes]
    return xp.stack(nodes, axis=-1), xp.stack(w, axis=-1)

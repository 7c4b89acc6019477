"""Products in blocks that are overwritten in place, with NumPy or PyTorch (any device).

A block of squared distances is one matrix product, ``|a|^2 + |b|^2 - 2 a.b`` with the squares as two more
coordinates; the function then overwrites it, and it is multiplied. A block is small enough for the cache:
that is what makes it fast, next to no pass more than the exponential itself. The expansion cancels where
points are close to each other and far from the centre: entries below a 64th of ``|a|^2 + |b|^2`` are
computed again from differences, and whole blocks where there are many (or few coordinates), so that every
squared distance has a relative error of at most about 64 (d + 4) rounding units, and typically of ten.

Memory: four blocks of ``ENTRIES`` numbers beside copies of the points and vectors.
"""

from __future__ import annotations

from typing import Any

from cola_core.backends import backend_of
from cola_core.backends.base import Backend, dtype_name

from .profiles import Profile, largest
from .scaled import Scaled, back, on_host, scaled

__all__ = ["gradients", "product"]

Array = Any
ENTRIES = 2**17  # of a block on the CPU: one MiB in double precision
ENTRIES_DEVICE = 2**24  # on an accelerator, where starting an operation costs more than its cache misses
CLOSE = 1.0 / 64.0  # of |a|^2 + |b|^2: below, the expansion has lost too many digits
FEW = 4  # coordinates up to which differences are as fast
MANY = 1.0 / 8.0  # of a block: so many close entries are not worth looking up one by one
NEAR = 16.0  # |a|^2 + |b|^2 up to which a smooth function loses nothing by the expansion's error


def product(fn: Any, x1: Array, x2: Array, V: Array, params: Any) -> Array:
    """``K V``. x2 may be x1: then half of the blocks are computed."""
    be = backend_of(x1, x2, V)
    with _quiet(be):
        points = scaled(be, fn, x1, x2, params, _working(x1))  # type: ignore[arg-type]
        W = be.astype(V, points.a.dtype)  # type: ignore[union-attr]
        blocks = _Blocks(be, fn.profile, points)  # type: ignore[arg-type]
        out = be.zeros((x1.shape[0], V.shape[1]), W.dtype, be.device(W))  # type: ignore[union-attr]
        for rows, columns in blocks.pairs(points.a is points.b):
            K = blocks.values(rows, columns)
            out[rows] += K @ W[columns]
            if points.a is points.b and rows != columns:
                out[columns] += K.T @ W[rows]
        if points.given.outputscale is not None:
            out *= points.given.outputscale
        return be.astype(out, V.dtype)  # type: ignore[union-attr]


def gradients(fn: Any, x1: Array, x2: Array, V: Array, G: Array, params: Any) -> Any:
    """Gradients of ``sum(G * (K V))`` in x1, x2 and params."""
    be: Any = backend_of(x1, x2, V)
    with _quiet(be):
        points = scaled(be, fn, x1, x2, params, _working(x1))
        V, G = be.astype(V, points.a.dtype), be.astype(G, points.a.dtype)
        blocks = _Blocks(be, fn.profile, points)
        abar, bbar = be.xp.zeros_like(points.a), be.xp.zeros_like(points.b)
        values, alphas = _Total(be, points.a), _Total(be, points.a)
        for rows, columns in blocks.pairs(False):
            weights = be.matmul(G[rows], V[columns].T)
            blocks.slopes(rows, columns, weights, abar, bbar, values, alphas if fn.alphas else None)
        return back(be, points, abar, bbar, values.sum, alphas.sum, x1, x2, params)


def _working(x: Array) -> str:
    name = dtype_name(x.dtype)
    return name if name in ("float32", "float64") else "float32"


def _quiet(be: Any) -> Any:
    """Nothing is recorded, and squares may overflow: they are brought back."""
    if be.name == "torch":
        import torch

        return torch.no_grad()
    import numpy as np

    return np.errstate(over="ignore", under="ignore", invalid="ignore")


class _Total:
    """A sum over blocks in double precision, without waiting for a device."""

    def __init__(self, be: Backend, like: Array) -> None:
        self.be = be
        self.sum: Any = 0.0
        self.wide = "float32" if be.name == "torch" and like.device.type == "mps" else "float64"

    def add(self, x: Array, y: Array) -> None:
        """The inner product of two blocks."""
        total = (x * y).sum(0) if self.be.name == "torch" else (x * y).sum(0)
        self.sum = self.sum + self.be.astype(total, self.wide).sum()


class _Blocks:
    """Blocks of the function's values, and what is kept to make them."""

    def __init__(self, be: Backend, profile: Profile, points: Scaled) -> None:
        self.be, self.profile, self.points = be, profile, points
        if be.name == "torch":
            import torch as plain
        else:
            import numpy as plain  # type: ignore[no-redef]
        self.xp: Any = plain
        a, b = points.a, points.b
        self.host = on_host(be, a)
        self.dtype, self.device = a.dtype, be.device(a)
        d = a.shape[1]
        entries = ENTRIES if self.host else ENTRIES_DEVICE
        entries *= 2 if dtype_name(a.dtype) == "float32" else 1
        side = int((entries * (1.125 if a is b else 2.0)) ** 0.5) // 8 * 8
        self.sizes = (side, side) if a is b else (max(entries // side, 1), side)
        self.buffers: dict[int, Array] = {}
        self.big = largest(dtype_name(a.dtype))
        self.a2, self.b2 = (a * a).sum(1), (b * b).sum(1)
        self.differences = d <= FEW or not self.host or not self._squares_fit()
        if not self.differences:
            # sign * u as one product: (-2 a, |a|^2, 1) . (b, 1, |b|^2)
            ones_a, ones_b = self._ones(a), self._ones(b)
            sign = profile.sign
            self.left = be.xp.concat([-2.0 * sign * a, sign * self.a2[:, None], sign * ones_a], axis=1)
            right = be.xp.concat([b, ones_b, self.b2[:, None]], axis=1)
            self.right = _rows_first(right.T)

    def _ones(self, x: Array) -> Array:
        return self.be.xp.ones_like(x[:, :1])

    def _squares_fit(self) -> bool:
        """Whether no square overflows."""
        for squares in (self.a2, self.b2):
            if squares.shape[0] and not float(squares.max()) < self.big / 8:
                return False
        return True

    def pairs(self, half: bool) -> Any:
        """Slices of rows and columns; half: those on and above the diagonal."""
        n, m = self.points.a.shape[0], self.points.b.shape[0]
        for i in range(0, n, self.sizes[0]):
            rows = slice(i, min(i + self.sizes[0], n))
            for j in range(i if half else 0, m, self.sizes[1]):
                yield rows, slice(j, min(j + self.sizes[1], m))

    def _buffer(self, which: int, shape: tuple[int, int]) -> Array:
        """One of the blocks that are used again and again."""
        flat = self.buffers.get(which)
        if flat is None:
            size = self.sizes[0] * self.sizes[1]
            flat = self.buffers[which] = self.be.xp.empty(size, dtype=self.dtype, device=self.device)
        return flat[: shape[0] * shape[1]].reshape(shape)

    def _by_differences(self, rows: slice, columns: slice, out: Array, spare: Array) -> Array:
        """u from differences."""
        xp, a, b = self.xp, self.points.a[rows], self.points.b[columns]
        if not a.shape[1]:
            out[...] = 0.0
            return out
        for k in range(a.shape[1]):
            gap = spare if k else out
            xp.subtract(a[:, k, None], b[None, :, k], out=gap)
            xp.multiply(gap, gap, out=gap)
            if k:
                out += spare
        return xp.clip(out, None, self.big, out=out) if self.be.name == "numpy" else out.clamp_(max=self.big)

    def distances(self, rows: slice, columns: slice, sign: float) -> tuple[Array, Any]:
        """``sign * u``, and the places (rows, columns) of entries that came from differences; None where
        all did."""
        xp, a, b = self.xp, self.points.a[rows], self.points.b[columns]
        shape = (a.shape[0], b.shape[0])
        u = self._buffer(0, shape)
        if not self.differences:
            xp.matmul(self.left[rows], self.right[:, columns], out=u)
            if sign != self.profile.sign:
                xp.negative(u, out=u)
            found = self._close(rows, columns, u, sign)
            if found is not None:
                i, j = found
                gap = a[i] - b[j]
                gap *= gap
                u[i, j] = gap.sum(1) * sign
                return u, found
        self._by_differences(rows, columns, u, self._buffer(1, shape))
        if sign < 0:
            xp.negative(u, out=u)
        return u, None

    def _close(self, rows: slice, columns: slice, u: Array, sign: float) -> Any:
        """Places of entries that the expansion gets wrong; None: too many."""
        xp = self.xp
        a2, top = self.a2[rows], float(self.b2[columns].max())
        none = (self._no_places(), self._no_places())
        if self.profile.smooth and float(a2.max()) + top <= NEAR:
            return none
        limit = (a2 + top) * CLOSE
        if sign > 0:
            least = u.min(axis=1) if self.be.name == "numpy" else xp.amin(u, 1)
            which = (least < limit).nonzero()
        else:
            most = u.max(axis=1) if self.be.name == "numpy" else xp.amax(u, 1)
            which = (most > -limit).nonzero()
        at = which[0] if self.be.name == "numpy" else which[:, 0]
        if not at.shape[0]:
            return none
        part, bound = u[at], limit[at][:, None]
        close = part < bound if sign > 0 else part > -bound
        places = close.nonzero()
        i, j = places if self.be.name == "numpy" else (places[:, 0], places[:, 1])
        if i.shape[0] > MANY * u.shape[0] * u.shape[1]:
            return None
        return at[i], j

    def _no_places(self) -> Array:
        return self.be.xp.zeros((0,), dtype=self.xp.int64)

    def values(self, rows: slice, columns: slice) -> Array:
        """A block of K without outputscale, in a buffer."""
        sign = self.profile.sign
        u, _ = self.distances(rows, columns, sign)
        return self.profile.overwrite(self.xp, u, self._buffer(1, tuple(u.shape)), self.points.alpha)

    def slopes(
        self,
        rows: slice,
        columns: slice,
        weights: Array,
        abar: Array,
        bbar: Array,
        values: _Total,
        alphas: _Total | None,
    ) -> None:
        """Add what one block gives to the gradients; weights is overwritten."""
        xp, a, b = self.xp, self.points.a[rows], self.points.b[columns]
        u, close = self.distances(rows, columns, 1.0)
        if alphas is not None:  # F (u / (1 + u) - log(1 + u)), of which F is known below
            logs = xp.log1p(u)
            logs -= u / (1.0 + u)
            xp.negative(logs, out=logs)
        spare, other = self._buffer(1, tuple(u.shape)), self._buffer(2, tuple(u.shape))
        F, slope = self.profile.both(xp, u, spare, other, self.points.alpha)
        values.add(weights, F)
        if alphas is not None:
            logs *= weights
            alphas.add(logs, F)
        slope *= weights
        slope *= 2.0
        if close is None:
            gap = self._buffer(3, tuple(u.shape))
            for k in range(a.shape[1]):
                xp.subtract(a[:, k, None], b[None, :, k], out=gap)
                gap *= slope
                abar[rows, k] += gap.sum(1)
                bbar[columns, k] -= gap.sum(0)
            return
        i, j = close
        if i.shape[0]:
            gap = slope[i, j][:, None] * (a[i] - b[j])
            slope[i, j] = 0.0
            _add_rows(self.be, abar[rows], i, gap)
            _add_rows(self.be, bbar[columns], j, -gap)
        abar[rows] += slope.sum(1)[:, None] * a - slope @ b
        bbar[columns] += slope.sum(0)[:, None] * b - slope.T @ a


def _rows_first(x: Array) -> Array:
    """A copy whose rows are contiguous."""
    if hasattr(x, "contiguous"):
        return x.contiguous()
    import numpy as np

    return np.ascontiguousarray(x)


def _add_rows(be: Backend, out: Array, at: Array, rows: Array) -> None:
    if be.name == "torch":
        out.index_add_(0, at, rows)
        return
    import numpy as np

    np.add.at(out, at, rows)

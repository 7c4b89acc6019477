"""``ConvolveND``: convolution of an array of any number of axes with a filter, as a matrix on the flattened
array."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from ..backends import Backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError, UnknownNameError
from ..properties import Property
from ..pytree import operator, static
from .base import LinearOperator
from .circulant import Periodic, floating_operand
from .dense import as_matrix_entries
from .fourier import convolve, fft_cost, good_length, kept, require_fft, spectrum

__all__ = ["CircularConvolution", "ConvolveND"]

MODES = ("same", "full", "valid", "circular")


@operator
class ConvolveND(LinearOperator):
    """``y[i] = sum_k filter[k] x[i + offset - k]`` of arrays x of shape ``array_shape``, flattened in C
    order.

    filter: (*batch, *shape) with as many axes after the batch as the array. mode: "same" (output of the
    array's shape, centred as in ``scipy.signal.convolve``), "full" (wherever they overlap), "valid" (where
    the filter fits inside; it must) or "circular" (indices wrap around; a filter larger than the array is
    folded). offset: where output 0 lies, for "same" ((size - 1) // 2 by default) and "circular" (0). Entries
    outside the array are zero. Product: directly, one shifted sum per filter entry, or by real FFTs of good
    lengths, whichever costs less. The transpose is the convolution with the reversed filter; "full" and
    "valid" are each other's. A circular one is diagonalised by Fourier transforms, and answers as
    ``Circulant`` does. Raises ShapeError where shapes do not fit, UnknownNameError for another mode,
    DTypeError for half precision.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.ConvolveND(np.array([1.0, 2.0, 3.0]), (4,))
    >>> A @ np.array([1.0, 0.0, 0.0, 1.0])
    array([2., 3., 1., 2.])
    >>> A.T.mode, cola.ops.ConvolveND(np.ones((2, 2)), (3, 3), "full").T.mode
    ('same', 'valid')
    """

    filter: Array
    array_shape: tuple[int, ...] = static()
    mode: str = static(default="same")
    offset: tuple[int, ...] | None = static(default=None)

    def __new__(cls, filter: Any = None, array_shape: Any = None, mode: str = "same", **more: Any) -> Any:
        # a class of its own, so that rules for circular ones are found by type
        return object.__new__(CircularConvolution if mode == "circular" and cls is ConvolveND else cls)

    def _check(self) -> None:
        f = as_matrix_entries(self.filter, "ConvolveND", ndim=1)
        if hasattr(f, "dtype"):
            require_fft(f, "ConvolveND")
        shape = self.array_shape
        grid = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(map(int, shape))
        object.__setattr__(self, "filter", f)
        object.__setattr__(self, "array_shape", grid)
        if self.mode not in MODES:
            raise UnknownNameError(f"ConvolveND(mode={self.mode!r}): choose from {', '.join(MODES)}.")
        if (self.mode == "circular") is not isinstance(self, CircularConvolution):
            raise UnknownNameError(
                f"{type(self).__name__} is circular: write ConvolveND(..., mode={self.mode!r})."
            )
        if not grid or min(grid) < 0 or f.ndim < len(grid):
            raise ShapeError(
                f"ConvolveND: a filter of shape {tuple(f.shape)} does not fit arrays of shape {grid}; "
                f"it needs "
                "as many axes, after those of the batch."
            )
        if 0 in self.filter_shape:
            raise ShapeError(f"ConvolveND: the filter of shape {tuple(f.shape)} is empty.")
        if self.mode == "valid" and any(n < k for n, k in zip(grid, self.filter_shape, strict=True)):
            raise ShapeError(
                f'ConvolveND(mode="valid"): the filter {self.filter_shape} does not fit into arrays of '
                f'shape {grid}. Use mode="full", or swap filter and array.'
            )
        if self.offset is not None:
            if self.mode not in ("same", "circular") or len(self.offset) != len(grid):
                raise ShapeError(
                    f'ConvolveND(offset={self.offset}): one number per axis, for mode "same" or "circular".'
                )
            default = self.replace(offset=None).starts
            offset = tuple(map(int, self.offset))
            object.__setattr__(self, "offset", None if offset == default else offset)

    # -- geometry (static) -----------------------------------------------------------------------------------
    @property
    def filter_shape(self) -> tuple[int, ...]:
        """The shape of the filter without its batch."""
        return tuple(self.filter.shape[self.filter.ndim - len(self.array_shape) :])

    @property
    def starts(self) -> tuple[int, ...]:
        """Per axis, where output 0 lies in the full convolution."""
        if self.offset is not None:
            return self.offset
        shift = {"same": lambda k: (k - 1) // 2, "valid": lambda k: k - 1}.get(self.mode, lambda k: 0)
        return tuple(map(shift, self.filter_shape))

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of the result before flattening."""
        grow = {"full": 1, "valid": -1}.get(self.mode, 0)
        pairs = zip(self.array_shape, self.filter_shape, strict=True)
        return tuple(max(n + grow * (k - 1), 0) if n else 0 for n, k in pairs)

    def _shape(self) -> tuple[int, ...]:
        lead = self.filter.shape[: self.filter.ndim - len(self.array_shape)]
        return (*lead, math.prod(self.out_shape), math.prod(self.array_shape))

    # -- products --------------------------------------------------------------------------------------------
    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        xp = be.xp
        X = floating_operand(be, self, X)
        *batch, _, k = X.shape
        if 0 in (*self.shape, *X.shape):
            lead = np.broadcast_shapes(self.batch_shape, tuple(batch))
            dtype = xp.result_type(self.dtype, X.dtype)
            return be.zeros((*lead, self.shape[-2], k), dtype, self.device)
        X = xp.reshape(X, (*batch, *self.array_shape, k))
        Y = self._direct(X) if self._directly() else self._by_fft(be, X)
        return xp.reshape(Y, (*Y.shape[: Y.ndim - 1 - len(self.array_shape)], self.shape[-2], k))

    def _rmatmat(self, X: Array) -> Array:
        return self._adjoint()._matmat(X)

    def _direct(self, X: Array) -> Array:
        """The sum of shifted copies of the padded array, one for each entry of the filter."""
        xp, d = self.xp, len(self.array_shape)
        sizes = (self.filter_shape, self.starts, self.array_shape, self.out_shape)
        for a, (K, s, n, out) in enumerate(zip(*sizes, strict=True)):
            X = self._padded(X, a - d - 1, K - 1 - s, out + s - n, n)
        Y = None
        for at in product(*map(range, self.filter_shape)):
            window = tuple(
                slice(K - 1 - i, K - 1 - i + out)
                for i, K, out in zip(at, self.filter_shape, self.out_shape, strict=True)
            )
            tap = self.filter[(..., *at)]
            tap = tap[(..., *[None] * (d + 1))] if tap.ndim else tap
            term = tap * X[(..., *window, slice(None))]
            Y = term if Y is None else Y + term
        return xp.asarray(Y)

    def _padded(self, X: Array, axis: int, before: int, after: int, n: int) -> Array:
        """X with zeros around (a negative number takes entries away)."""
        xp = self.xp
        keep = [slice(None)] * -axis
        keep[0] = slice(max(-before, 0), n - max(-after, 0))
        pieces = [X[(..., *keep)]]
        for size, at in ((before, 0), (after, len(pieces))):
            if size > 0:
                shape = list(X.shape)
                shape[axis] = size
                zero = self._concrete_backend().zeros(tuple(shape), X.dtype, self.device)
                pieces.insert(0 if at == 0 else len(pieces), zero)
        return xp.concat(pieces, axis=axis) if len(pieces) > 1 else pieces[0]

    def _lengths(self) -> tuple[int, ...]:
        """Lengths of transforms for which what wraps around stays out of the result."""
        sizes = zip(self.array_shape, self.filter_shape, self.starts, self.out_shape, strict=True)
        return tuple(good_length(max(n + k - 1 - s, s + out, n, k)) for n, k, s, out in sizes)

    def _by_fft(self, be: Backend, X: Array) -> Array:
        real = not self._is_complex() and not be.is_complex(X)
        dtype = X.dtype if real else be.xp.result_type(X.dtype, be.dtype("complex64"))
        lengths = self._lengths()
        S = kept(
            self,
            (dtype_name(dtype), real),
            (self.filter,),
            lambda: spectrum(be, self.filter, lengths, dtype, real),
        )
        Y = convolve(be, S, X, lengths, real)
        window = (slice(s, s + out) for s, out in zip(self.starts, self.out_shape, strict=True))
        return Y[(..., *window, slice(None))]

    def _direct_cost(self) -> Cost:
        taps, n = math.prod(self.filter_shape), math.prod(self.out_shape)
        return Cost(2.0 * taps * n, 2.5 * self.itemsize * taps * n, 3.0 * self.itemsize * n, 1, taps)

    def _fft_cost(self) -> Cost:
        n = math.prod(self._lengths())
        return fft_cost(n, not self._is_complex(), self.itemsize) * 3 + Cost(
            6.0 * n, 2.0 * self.itemsize * n, 0.0, 1, 5
        )

    def _directly(self) -> bool:
        return self._direct_cost().seconds <= self._fft_cost().seconds

    def _matvec_cost(self) -> Cost:
        return self._direct_cost() if self._directly() else self._fft_cost()

    def _column_bytes(self, one: Cost) -> float:
        return one.bytes  # of the transforms, or of the shifted copies, which every column needs

    # -- structure -------------------------------------------------------------------------------------------
    def _transpose(self) -> LinearOperator:
        d = len(self.array_shape)
        flipped = self.xp.flip(self.filter, axis=tuple(range(-d, 0)))
        mode = {"full": "valid", "valid": "full"}.get(self.mode, self.mode)
        offset = None
        if mode in ("same", "circular"):
            offset = tuple(k - 1 - s for k, s in zip(self.filter_shape, self.starts, strict=True))
        if mode in ("full", "valid") and 0 in self.shape[-2:]:
            return super()._transpose()
        return ConvolveND(flipped, self.out_shape, mode, offset=offset)

    def _conj(self) -> LinearOperator:
        return self.replace(filter=self._concrete_backend().conj(self.filter), declared=frozenset())

    def _adjoint(self) -> LinearOperator:
        out = self._transpose()
        return out._conj() if self._is_complex() else out

    def _geometry(self) -> Any:
        return self.array_shape, self.filter_shape, self.mode, self.starts

    def _times(self, c: Any) -> Any:
        if getattr(c, "shape", ()):
            c = c[(..., *[None] * len(self.array_shape))]
        return self.replace(filter=c * self.filter, declared=frozenset())

    def _plus(self, other: LinearOperator) -> Any:
        if isinstance(other, ConvolveND) and self._geometry() == other._geometry():
            return self.replace(filter=self.filter + other.filter, declared=frozenset())
        return NotImplemented

    def entries(self, rows: Any, cols: Any) -> Array:
        """The entries (*batch, *shape) at the given rows and columns (NumPy integers that broadcast)."""
        be = self._concrete_backend()
        where, inside = self._taps(rows, cols)
        d = len(self.array_shape)
        flat = be.xp.reshape(self.filter, (*self.filter.shape[: self.filter.ndim - d], -1))
        picked = flat[..., be.asarray(where, device=self.device)]
        return be.xp.where(be.asarray(inside, device=self.device), picked, be.xp.zeros_like(picked))

    def _taps(self, rows: Any, cols: Any) -> tuple[Any, Any]:
        """Which entry of the flattened filter lies at a place of the matrix, and whether any does."""
        where: Any = 0
        inside: Any = True
        scale = 1
        sizes = (self.filter_shape, self.starts, self.array_shape, self.out_shape)
        for K, s, n, out in reversed(list(zip(*sizes, strict=True))):
            tap = rows % out + s - cols % n
            inside = inside & (tap >= 0) & (tap < K)
            where = where + scale * np.clip(tap, 0, K - 1)
            rows, cols, scale = rows // out, cols // n, scale * K
        return where, inside

    def _to_dense(self) -> Array:
        m, n = self.shape[-2:]
        if 0 in self.shape:
            return self._concrete_backend().zeros(self.shape, self.dtype, self.device)
        return self.entries(np.arange(m)[:, None], np.arange(n)[None, :])


@operator
class CircularConvolution(ConvolveND, Periodic):
    """``ConvolveND`` with mode "circular", which is what to write."""

    @property
    def grid(self) -> tuple[int, ...]:  # type: ignore[override]
        """The shape of the array that is shifted."""
        return self.array_shape

    def _symbol(self) -> Array:
        """The filter on the grid: folded where it is larger, zero where smaller, entry ``offset`` first."""
        be, xp, x, d = self._concrete_backend(), self.xp, self.filter, len(self.grid)
        if 0 in self.grid:
            return be.zeros((*self.batch_shape, *self.grid), self.dtype, self.device)
        for axis, n, K, s in zip(range(-d, 0), self.grid, self.filter_shape, self.starts, strict=True):
            if K % n:
                shape = list(x.shape)
                shape[axis] = -K % n
                x = xp.concat((x, be.zeros(tuple(shape), self.dtype, self.device)), axis=axis)
            if K > n:
                at = x.ndim + axis
                x = xp.sum(xp.reshape(x, (*x.shape[:at], -1, n, *x.shape[at + 1 :])), axis=at)
            if s % n:
                x = xp.roll(x, -s, axis=axis)
        return x

    def _sources(self) -> tuple[Array, ...]:
        return (self.filter,)

    def with_symbol(self, symbol: Array, declared: frozenset[Property] = frozenset()) -> Periodic:
        if 0 in self.grid:  # a filter is never empty
            d, be = len(self.grid), self._concrete_backend()
            symbol = be.zeros((*symbol.shape[:-d], *[1] * d), symbol.dtype, self.device)
        return ConvolveND(symbol, self.grid, "circular", declared=declared)  # type: ignore[return-value]

    def _padded(self, X: Array, axis: int, before: int, after: int, n: int) -> Array:
        index = self.xp.arange(-before, n + after, device=self.device) % n
        return X[(..., index, *[slice(None)] * (-axis - 1))]

    def _by_fft(self, be: Backend, X: Array) -> Array:
        *batch, k = X.shape
        lead, n = X.shape[: X.ndim - 1 - len(self.grid)], math.prod(self.grid)
        Y = self._periodic(be.xp.reshape(X, (*lead, n, k)), adjoint=False)
        return be.xp.reshape(Y, (*Y.shape[:-2], *self.grid, k))

    def _lengths(self) -> tuple[int, ...]:
        return Periodic._lengths(self)

    def _plus(self, other: LinearOperator) -> Any:
        merged = ConvolveND._plus(self, other)
        return Periodic._plus(self, other) if merged is NotImplemented else merged

    def entries(self, rows: Any, cols: Any) -> Array:
        """As ``ConvolveND.entries``, with filters larger than the array folded."""
        folds = [range(-(-K // n) + 1) for K, n in zip(self.filter_shape, self.grid, strict=True)]
        out = None
        for fold in product(*folds):
            part = self._fold(rows, cols, fold)
            if part is not None:
                out = part if out is None else out + part
        return out

    def _fold(self, rows: Any, cols: Any, fold: tuple[int, ...]) -> Array | None:
        be, d = self._concrete_backend(), len(self.grid)
        where: Any = 0
        inside: Any = True
        scale = 1
        for K, s, n, t in reversed(list(zip(self.filter_shape, self.starts, self.grid, fold, strict=True))):
            tap = (rows % n + s - cols % n) % n + t * n
            inside = inside & (tap < K)
            where = where + scale * np.clip(tap, 0, K - 1)
            rows, cols, scale = rows // n, cols // n, scale * K
        if not np.any(inside) and any(fold):
            return None
        flat = be.xp.reshape(self.filter, (*self.filter.shape[: self.filter.ndim - d], -1))
        picked = flat[..., be.asarray(where, device=self.device)]
        return be.xp.where(be.asarray(inside, device=self.device), picked, be.xp.zeros_like(picked))

"""Toeplitz and circulant operators on vectors spread over devices: a distributed Fourier transform.

The four-step algorithm (Bailey, "FFTs in external or hierarchical memory", J. Supercomputing 4, 1990): with
n = n1 n2 and the entries as a row-major (n1, n2) array x[j1, j2], of which rows are spread,

    X[k1 + n1 k2] = sum_j2 w_n2^(j2 k2) w_n^(j2 k1) sum_j1 w_n1^(j1 k1) x[j1, j2]

an all-to-all spreads the columns instead, transforms of the columns are local, then the factors w_n^(j2 k1),
an all-to-all back, and transforms of the rows are local. Frequencies come out in the order k1, k2, in which
a convolution multiplies them; its inverse runs the same steps backwards: four all-to-alls for a product. Rows
of zeros that fill a vector up are added where whole columns are local and never travel. Of real data half of
the k1 is enough. No device holds more than its share of the transform.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from cola_core.cost import Cost
from cola_core.errors import DTypeError, ShapeError
from cola_core.ops import Circulant, LinearOperator, Toeplitz, operator, static
from cola_core.properties import SelfAdjoint

from .placing import OnDevices
from .rows import Place, exchange, fitted, over_rows
from .table import Layout, sharder

__all__ = ["SpreadToeplitz"]

Array = Any  # of JAX


class Plan(NamedTuple):
    """The shape of a transform: n1 rows that are spread, n2 columns; how many of the k1 are kept."""

    n1: int
    n2: int
    kept: int


@lru_cache(maxsize=64)
def _fast(least: int, most: int) -> tuple[int, ...]:
    """The lengths in that range that transforms like: with no prime factor but 2, 3 and 5."""
    found, five = [], 1
    while five <= most:
        three = five
        while three <= most:
            two = three
            while two <= most:
                if two >= least:
                    found.append(two)
                two *= 2
            three *= 3
        five *= 5
    return tuple(sorted(found))


@lru_cache(maxsize=256)
def plan(least: int, exact: bool, real: bool, p: int, rows: tuple[int, ...]) -> Plan | None:
    """n1 n2 of at least ``least`` (exact: equal to it; None where it has no such factors), with little
    filling up over p devices, both of like size, and rows of n2 that cut the blocks of vectors of lengths
    ``rows``."""
    up = lambda n, q: -(-n // q) * q  # noqa: E731
    middle = max(math.isqrt(least), 1)
    best: tuple[float, Plan] | None = None
    fast = _fast(1, 64 * middle)
    for n2 in fast[bisect_left(fast, middle // 16) : bisect_left(fast, 16 * middle + 1)]:
        n1 = fast[bisect_left(fast, -(-least // n2))]
        if exact and n1 * n2 != least:
            continue
        kept = n1 // 2 + 1 if real else n1
        filled = 2.0 * up(kept, p) * up(n2, p)  # the two exchanges of the transform
        moves = sum(up(-(-n // n2), p) * up(n2, p) for n in rows) * (0.5 if real else 1.0)
        cut = sum(n for n in rows if n % p == 0 and (n // p) % n2) * (2.0 if real else 4.0)
        weight = filled + moves + cut + 0.02 * abs(math.log(n2 / middle)) * filled
        if best is None or weight < best[0]:
            best = (weight, Plan(n1, n2, kept))
    return None if best is None else best[1]


def _rows(length: int, shape: Plan, p: int) -> int:
    """Rows of n2 entries on each of p devices for a vector of that length."""
    return -(-length // (shape.n2 * p))


def _twiddle(place: Place, shape: Plan, width: int, dtype: Any) -> Any:
    """``w_n^(j2 k1)`` for all k1 kept and the j2 of this device."""
    n = shape.n1 * shape.n2
    whole = jnp.int64 if n > 2**31 - 1 else jnp.int32
    k1 = jnp.arange(shape.kept, dtype=whole)[:, None]
    j2 = place.index().astype(whole) * width + jnp.arange(width, dtype=whole)[None, :]
    turns = k1 * jnp.minimum(j2, shape.n2 - 1)  # < n; columns beyond the last hold zeros
    turns = jnp.where(turns > n // 2, turns - n, turns)  # small numbers have small angles
    real = jnp.finfo(dtype).dtype
    angle = turns.astype(real) * jnp.asarray(-2 * math.pi / n, real)
    return (jnp.cos(angle) + 1j * jnp.sin(angle)).astype(dtype)


def forward(place: Place, shape: Plan, x: Any, real: bool) -> Any:
    """The transform (its k1 spread, (kept / p, n2, k)) of rows (r, n2, k) of every device."""
    p = place.pieces
    width = -(-shape.n2 // p)
    x = fitted(exchange(place, fitted(x, 1, p * width), 1, 0), 0, shape.n1)
    y = jnp.fft.rfft(x, axis=0) if real else jnp.fft.fft(x, axis=0)
    y = y * _twiddle(place, shape, width, y.dtype)[..., None]
    y = exchange(place, fitted(y, 0, -(-shape.kept // p) * p), 0, 1)[:, : shape.n2]
    return jnp.fft.fft(y, axis=1)


def backward(place: Place, shape: Plan, y: Any, rows: int, real: bool) -> Any:
    """The inverse of ``forward``: the first p * rows rows of the array."""
    p = place.pieces
    width = -(-shape.n2 // p)
    x = fitted(jnp.fft.ifft(y, axis=1), 1, p * width)
    x = exchange(place, x, 1, 0)[: shape.kept]
    x = x * jnp.conj(_twiddle(place, shape, width, x.dtype))[..., None]
    x = jnp.fft.irfft(x, n=shape.n1, axis=0) if real else jnp.fft.ifft(x, axis=0)
    return exchange(place, fitted(x, 0, p * rows), 0, 1)[:, : shape.n2]


@operator
class SpreadToeplitz(OnDevices, LinearOperator):
    """A Toeplitz (periodic: circulant) matrix for vectors whose rows are spread over axes of a mesh.

    column (m,), row (n,), or None for the conjugate of the column, as of ``Toeplitz``; row[0] is not read.
    periodic: ``column`` is that of a ``Circulant``. A product takes four all-to-alls of the transform's share
    and two for the transform of the symbol (made once where the compiler takes it out of a loop). A circulant
    whose size has no two fast factors is filled up like a Toeplitz matrix. Any sizes; real or complex, not
    half precision. Made by ``shard`` of ``Toeplitz`` and ``Circulant``; raises ShapeError for a batch.
    """

    column: Array
    row: Array | None = None
    periodic: bool = static(default=False)
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _check(self) -> None:
        object.__setattr__(self, "axes", (self.axes,) if isinstance(self.axes, str) else tuple(self.axes))
        for name in ("column", "row"):
            value = self.__dict__[name]
            if value is None or not hasattr(value, "dtype"):
                continue
            if value.ndim != 1:
                raise ShapeError(
                    f"SpreadToeplitz takes one matrix, not a batch: {name} has shape {tuple(value.shape)}."
                )
            if "16" in str(value.dtype):
                raise DTypeError(f"SpreadToeplitz: there is no Fourier transform in {value.dtype}.")
        if self.periodic and self.row is not None:
            raise ShapeError("SpreadToeplitz: a circulant has no row beside its column.")

    @property
    def place(self) -> Place:
        """The devices that vectors are spread over."""
        return Place(self.mesh, self.axes)

    def _shape(self) -> tuple[int, ...]:
        m = self.column.shape[-1]
        return (m, m if self.row is None else self.row.shape[-1])

    def _properties(self) -> frozenset[Any]:
        symmetric = self.row is None and not self.periodic and not self._is_complex()
        return frozenset({SelfAdjoint}) if symmetric else frozenset()

    def _plan(self, real: bool) -> tuple[Plan, bool]:
        """The transform, and whether it is of the circulant itself."""
        (m, n), p = self.shape, self.place.pieces
        if self.periodic:
            found = plan(n, True, real, p, (n, n))
            if found is not None:
                return found, True
        found = plan(max(m + n - 1, 1), False, real, p, (m, n))
        assert found is not None  # every length has a fast one above it
        return found, False

    def _on_devices(self, X: Array, adjoint: bool) -> Array:
        (m, n), p, place = self.shape, self.place.pieces, self.place
        precision = jnp.result_type(self.dtype, X.dtype)
        if 0 in (m, n, *X.shape):
            return jnp.zeros((*X.shape[:-2], n if adjoint else m, X.shape[-1]), precision)
        real = not jnp.issubdtype(precision, jnp.complexfloating)
        shape, exact = self._plan(real)
        rows_in, rows_out = ((m, n) if adjoint else (n, m)) if not self.periodic else (n, n)
        r, s = (_rows(length, shape, p) for length in (rows_in, rows_out))
        S = self._spectrum(shape, exact, precision, real)

        def body(x: Any, _: Any, S: Any) -> Any:
            k = x.shape[-1]
            y = forward(place, shape, jnp.reshape(x, (r, shape.n2, k)), real)
            y = (jnp.conj(S) if adjoint else S)[..., None] * y
            return jnp.reshape(backward(place, shape, y, s, real), (s * shape.n2, k))

        chunks = (r * shape.n2, s * shape.n2)
        return over_rows(
            place, body, X.astype(precision), (rows_in, rows_out), chunks, spread=S, spread_specs=place.rows
        )

    def _spectrum(self, shape: Plan, exact: bool, dtype: Any, real: bool) -> Any:
        """The transform of the symbol, (kept, n2) filled up, its rows spread.

        That of the part above the diagonal is the conjugate of the transform of its conjugate: nothing has to
        be read backwards.
        """
        c, n = self.column.astype(dtype), self.shape[-1]
        if self.row is None or self.periodic:
            low = self._transformed(shape, c[:, None], real)[..., 0]
            if exact:
                return low
            first = jnp.sum(jnp.where(jnp.arange(n) == 0, c, 0))
            if self.periodic:  # c[-j] at -j: the column without its first entry, n places further back
                return low + (low - first) * self._shift(shape, n)
            return low + jnp.conj(low - first)
        above = jnp.where(jnp.arange(n) == 0, 0, jnp.conj(self.row.astype(dtype)))
        if c.shape == above.shape:
            both = self._transformed(shape, jnp.stack((c, above), -1), real)
            low, high = both[..., 0], both[..., 1]
        else:
            low, high = (self._transformed(shape, v[:, None], real)[..., 0] for v in (c, above))
        return low + jnp.conj(high)

    def _shift(self, shape: Plan, n: int) -> Any:
        """The transform of a shift by n places backwards: ``exp(2 pi i n k / L)``, laid out as a spectrum."""
        place, p, L = self.place, self.place.pieces, shape.n1 * shape.n2
        dtype = jnp.result_type(self.dtype, jnp.complex64)
        # (k1 + n1 k2) n mod L, the sum of two turns that are exact as integers
        first = np.asarray([k * n % L for k in range(-(-shape.kept // p) * p)])
        second = np.asarray([shape.n1 * k * n % L for k in range(shape.n2)])
        a, b = (jnp.asarray(np.exp(2j * np.pi * t / L), dtype) for t in (first, second))
        return place.lay(a[:, None], place.rows) * place.lay(b[None, :], PartitionSpec())

    def _transformed(self, shape: Plan, c: Any, real: bool) -> Any:
        place, p, (n, k) = self.place, self.place.pieces, c.shape
        r, h = _rows(n, shape, p), -(-shape.kept // p)

        def body(x: Any, _: Any, __: Any) -> Any:
            y = forward(place, shape, jnp.reshape(x, (r, shape.n2, k)), real)
            return jnp.reshape(y, (h, shape.n2 * k))

        made = over_rows(place, body, c, (n, p * h), (r * shape.n2, h))
        return jnp.reshape(made, (p * h, shape.n2, k))

    def _axes(self) -> dict[str, int | None]:
        p = self.place.pieces
        return {
            name: -1 if x.shape[-1] % p == 0 else None
            for name, x in (("column", self.column), ("row", self.row))
            if x is not None
        }

    def _unspread(self) -> LinearOperator:
        if self.periodic:
            return Circulant(self.column, declared=self.declared)
        return Toeplitz(self.column, self.row, declared=self.declared)

    def _plainly(self, X: Array, adjoint: bool) -> Array:
        A = self._unspread()
        return (A.H if adjoint else A) @ X

    # -- structure -------------------------------------------------------------------------------------------
    def _with(self, column: Array, row: Array | None = None) -> SpreadToeplitz:
        return SpreadToeplitz(column, row, self.periodic, self.mesh, self.axes)

    def _conj(self) -> LinearOperator:
        return self._with(jnp.conj(self.column), None if self.row is None else jnp.conj(self.row))

    def _times(self, c: Any) -> Any:
        if getattr(c, "shape", ()):
            return NotImplemented
        symmetric = self.periodic or (self.row is None and not isinstance(c, complex))
        if self.row is None and symmetric and "complex" not in str(getattr(c, "dtype", "")):
            return self._with(c * self.column)
        return NotImplemented

    def _sent(self, columns: float) -> float:
        # two all-to-alls for a transform: of the symbol, of the vectors, and back
        p = self.place.pieces
        return float(self.itemsize * sum(self.shape) * (2 + 4 * columns) * (p - 1) / p**2)

    def _matvec_cost(self) -> Cost:
        """Two transforms, and one of the symbol."""
        n = sum(self.shape)
        steps, filled = max(n, 2).bit_length(), self.itemsize * n / self.place.pieces
        share = n / self.place.pieces
        work = 7.5 * (2 if self._is_complex() else 1)
        return Cost(work * share * steps, 4 * filled * steps, 6 * filled, 1, 12)


@sharder(Toeplitz, Circulant)
def spread(A: Any, layout: Layout) -> Any:
    """The symbol in blocks, like a vector."""
    if A.batch_shape:
        return layout.keep_all(A, "a batch of transforms is left to JAX's compiler")
    column = layout.spread(A.column, "column", axis=-1)
    if isinstance(A, Circulant):
        return SpreadToeplitz(column, None, True, layout.mesh, layout.axes, declared=A.declared)
    row = None if A.row is None else layout.spread(A.row, "row", axis=-1)
    return SpreadToeplitz(column, row, False, layout.mesh, layout.axes, declared=A.declared)

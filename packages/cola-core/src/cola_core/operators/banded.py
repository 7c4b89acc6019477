"""``Banded`` and ``Tridiagonal``: matrices known by their few diagonals, products in O(n (l + u + 1)).

Sums and products of band matrices (diagonal ones among them) are again band matrices, as long as the band
stays narrow. The k-th diagonal (k > 0 above the main one) has the entries ``A[i, i + k]``, top to bottom.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ..backends.base import Array, Backend
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, SelfAdjoint
from ..pytree import operator, static
from .axes import fits
from .base import LinearOperator
from .dense import as_matrix_entries
from .diagonal import Diagonal, Identity, ScalarMul

__all__ = ["Banded", "Tridiagonal"]

NARROW = 16  # a product of band matrices up to this many diagonals is always formed
PAIRS = 1024  # and beyond it while the pairs of diagonals to multiply are at most this many


class _Band:
    """What follows from the diagonals alone: products, transposes, sums, scaling."""

    def _diagonals(self) -> dict[int, Array]:
        """The diagonals by offset, each (*batch, length)."""
        raise NotImplementedError(f"{type(self).__name__} must define _diagonals()")

    def _matmat(self: Any, X: Array) -> Array:
        return _times_columns(self._concrete_backend(), self._diagonals(), X, self.shape[-2])

    def _rmatmat(self: Any, X: Array) -> Array:
        be = self._concrete_backend()
        return _times_columns(be, {-k: be.conj(d) for k, d in self._diagonals().items()}, X, self.shape[-1])

    def _conj(self: Any) -> LinearOperator:
        be = self._concrete_backend()
        return self._of({k: be.conj(d) for k, d in self._diagonals().items()}, self.shape[-2:])

    def _transpose(self: Any) -> LinearOperator:
        return self._of({-k: d for k, d in self._diagonals().items()}, self.shape[-2:][::-1])

    def _adjoint(self: Any) -> LinearOperator:
        be = self._concrete_backend()
        return self._of({-k: be.conj(d) for k, d in self._diagonals().items()}, self.shape[-2:][::-1])

    def _of(self: Any, diagonals: dict[int, Array], size: tuple[int, int]) -> LinearOperator:
        return from_diagonals(self._concrete_backend(), diagonals, size)

    def _to_dense(self: Any) -> Array:
        be = self._concrete_backend()
        xp = be.xp
        m, n = self.shape[-2:]
        out = be.zeros((*self.batch_shape, m * n), self.dtype, self.device)
        for k, d in self._diagonals().items():
            # entries of one diagonal are n + 1 apart in the flattened matrix
            at = max(-k, 0) * n + max(k, 0) + xp.arange(d.shape[-1], device=self.device) * (n + 1)
            values = be.astype(d, self.dtype)[..., None]
            if d.shape[-1]:
                out = out + be.index_add(at, values, m * n)[..., 0]
        return xp.reshape(out, (*self.batch_shape, m, n))

    def _times(self: Any, c: Any) -> Any:
        factor = c[..., None] if getattr(c, "shape", ()) else c
        scaled = {k: factor * d for k, d in self._diagonals().items()}
        return from_diagonals(self._concrete_backend(), scaled, self.shape[-2:])

    def _plus(self: Any, other: LinearOperator) -> Any:
        mine = self._diagonals()
        if isinstance(other, (ScalarMul, Identity)):
            c: Any = other.c if isinstance(other, ScalarMul) else 1
            c = c[..., None] if getattr(c, "shape", ()) else c
            return self._of(mine | {0: mine[0] + c}, self.shape[-2:])
        theirs = diagonals_of(other)
        if theirs is None or other.backend is not self.backend:
            return NotImplemented
        summed = {
            k: mine[k] + theirs[k] if k in mine and k in theirs else mine.get(k, theirs.get(k))
            for k in sorted(mine.keys() | theirs.keys())
        }
        return self._of(summed, self.shape[-2:])

    def _compose(self: Any, other: LinearOperator) -> Any:
        return _product(self, other)

    def _rcompose(self: Any, other: LinearOperator) -> Any:
        return _product(other, self)

    def _matvec_cost(self: Any) -> Cost:
        m, n = self.shape[-2:]
        entries = len(self._diagonals()) * min(m, n)
        return Cost(2.0 * entries, self.itemsize * (entries + m + n), self.itemsize * (m + n), 1)


@operator
class Banded(_Band, LinearOperator):
    """An m x n matrix with l diagonals below and u above the main one, in LAPACK's band storage.

    bands: (*batch, l + u + 1, n); row ``u + i - j``, column j holds ``A[i, j]``, as in
    ``scipy.linalg.solve_banded``. Entries of it that lie outside the matrix are not used. widths: (l, u).
    size: (m, n), square by default. Product: ``2 n (l + u + 1)`` flops.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.Banded(np.array([[0.0, 5.0, 6.0], [1.0, 2.0, 3.0]]), (0, 1))
    >>> A.to_dense().tolist()
    [[1.0, 5.0, 0.0], [0.0, 2.0, 6.0], [0.0, 0.0, 3.0]]
    """

    bands: Array
    widths: tuple[int, int] = static()
    size: tuple[int, int] | None = static(default=None)

    _aliases: ClassVar[dict[str, str]] = {"shape": "size"}

    def _check(self) -> None:
        bands = as_matrix_entries(self.bands, "Banded")
        l, u = map(int, self.widths)  # noqa: E741 - the literature's letter
        n = bands.shape[-1]
        m, columns = (n, n) if self.size is None else tuple(map(int, self.size))
        if l < 0 or u < 0 or bands.shape[-2] != l + u + 1 or columns != n or m < 0:
            raise ShapeError(
                f"Banded with (l, u) = {(l, u)} and shape {(m, columns)} needs bands of shape "
                f"(*batch, l + u + 1, n) = (*batch, {l + u + 1}, {columns}); got {tuple(bands.shape)}."
            )
        low, high = min(l, max(m - 1, 0)), min(u, max(n - 1, 0))
        if (low, high) != (l, u):  # diagonals that lie outside altogether
            bands = bands[..., u - high : u + low + 1, :]
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "widths", (low, high))
        object.__setattr__(self, "size", (m, n))

    def _shape(self) -> tuple[int, ...]:
        return (*self.bands.shape[:-2], *self.size)  # type: ignore[misc]

    def _diagonals(self) -> dict[int, Array]:
        (l, u), (m, n) = self.widths, self.size  # type: ignore[misc]  # noqa: E741
        return {k: self.bands[..., u - k, max(k, 0) : max(k, 0) + _length(m, n, k)] for k in range(-l, u + 1)}

    def _conj(self) -> LinearOperator:
        return Banded(self._concrete_backend().conj(self.bands), self.widths, self.size)

    def _times(self, c: Any) -> Any:
        c = c[..., None, None] if getattr(c, "shape", ()) else c
        return Banded(c * self.bands, self.widths, self.size)

    def _short(self) -> str:
        (l, u), size = self.widths, "x".join(map(str, self.shape))  # noqa: E741
        return f"{type(self).__name__}[{size}, l={l}, u={u}]"


@operator
class Tridiagonal(_Band, LinearOperator):
    """alpha below, beta on and gamma above the diagonal: (*batch, n - 1), (*batch, n), (*batch, n - 1).

    Without gamma it is the conjugate of alpha, and the matrix is self-adjoint if its entries are real.

    >>> import numpy as np, cola_core as cola
    >>> second_difference = cola.ops.Tridiagonal(np.full(2, -1.0), np.full(3, 2.0))
    >>> second_difference.to_dense().tolist()
    [[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]]
    """

    alpha: Array
    beta: Array
    gamma: Array | None = None

    def _check(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = self.__dict__[name]
            if value is not None:
                object.__setattr__(self, name, as_matrix_entries(value, f"Tridiagonal {name}", ndim=1))
        sizes = [x.shape[-1] for x in (self.alpha, self.beta, self.upper)]
        side = max(sizes[1] - 1, 0)
        if sizes != [side, sizes[1], side]:
            raise ShapeError(
                "Tridiagonal needs a lower and an upper diagonal one shorter than the main one; got lengths "
                f"{sizes[0]}, {sizes[1]}, {sizes[2]}."
            )

    @property
    def upper(self) -> Array:
        """gamma, or the conjugate of alpha."""
        return self._concrete_backend().conj(self.alpha) if self.gamma is None else self.gamma

    @property
    def widths(self) -> tuple[int, int]:
        """(l, u)."""
        one = min(1, max(self.shape[-1] - 1, 0))
        return one, one

    def _shape(self) -> tuple[int, ...]:
        n = self.beta.shape[-1]
        lead = {x.shape[:-1] for x in (self.alpha, self.beta, self.upper)}
        if len(lead) == 1:
            return (*lead.pop(), n, n)
        firsts = [self.xp.sum(x[..., :1], axis=-1) for x in (self.alpha, self.beta, self.upper)]
        return (*self.xp.broadcast_arrays(*firsts)[0].shape, n, n)

    def _diagonals(self) -> dict[int, Array]:
        if self.beta.shape[-1] < 2:
            return {0: self.beta}
        return {-1: self.alpha, 0: self.beta, 1: self.upper}

    def _properties(self) -> frozenset[Property]:
        return frozenset({SelfAdjoint}) if self.gamma is None and not self._is_complex() else frozenset()

    def _conj(self) -> LinearOperator:
        conj = self._concrete_backend().conj
        return Tridiagonal(
            conj(self.alpha), conj(self.beta), None if self.gamma is None else conj(self.gamma)
        )

    def _times(self, c: Any) -> Any:
        c = c[..., None] if getattr(c, "shape", ()) else c
        symmetric = (
            self.gamma is None
            and not self._is_complex()
            and "complex" not in str(getattr(c, "dtype", type(c)))
        )
        return Tridiagonal(c * self.alpha, c * self.beta, None if symmetric else c * self.upper)


def _times_columns(be: Backend, diagonals: dict[int, Array], X: Array, m: int) -> Array:
    """The product of the matrix of m rows with these diagonals and X (*batch, n, k)."""
    numpy = be.name == "numpy"
    out: Any = None
    for k, d in diagonals.items():
        i, j, size = max(-k, 0), max(k, 0), d.shape[-1]
        part = d[..., None] * X[..., j : j + size, :]
        if out is None:
            out = _padded(be, part, i, m - i - size)
        elif numpy and out.dtype == part.dtype and fits(part.shape[:-2], out.shape[:-2]):
            out[..., i : i + size, :] += part
        else:
            out = out + _padded(be, part, i, m - i - size)
    return out


def _length(m: int, n: int, k: int) -> int:
    """Entries of the k-th diagonal of an m x n matrix."""
    return max(min(m, n - k) if k >= 0 else min(m + k, n), 0)


def _padded(be: Backend, part: Array, before: int, after: int) -> Array:
    """``part`` with rows of zeros before and after it."""
    if not before and not after:
        return part
    *lead, _, width = part.shape
    device = be.device(part)
    pieces = [part]
    if before:
        pieces.insert(0, be.zeros((*lead, before, width), part.dtype, device))
    if after:
        pieces.append(be.zeros((*lead, after, width), part.dtype, device))
    return be.xp.concat(pieces, axis=-2)


def diagonals_of(A: LinearOperator) -> dict[int, Array] | None:
    """The diagonals of a band matrix that stores them, or None."""
    if isinstance(A, Diagonal):
        return {0: A.diag}
    return A._diagonals() if isinstance(A, _Band) else None


def from_diagonals(be: Backend, diagonals: dict[int, Array], size: tuple[int, int]) -> LinearOperator:
    """The operator with these diagonals: ``Tridiagonal`` where it is one, else ``Banded``."""
    m, n = size
    diagonals = {k: d for k, d in diagonals.items() if k == 0 or d.shape[-1]}
    if m == n and n > 1 and set(diagonals) <= {-1, 0, 1} and len(diagonals) > 1:
        absent = be.xp.zeros_like(diagonals[0][..., 1:])
        return Tridiagonal(diagonals.get(-1, absent), diagonals[0], diagonals.get(1, absent))
    return Banded(bands_of(be, diagonals, size), (-min(diagonals), max(diagonals)), (m, n))


def bands_of(be: Backend, diagonals: dict[int, Array], size: tuple[int, int]) -> Array:
    """Diagonals in LAPACK's band storage, zeros outside the matrix."""
    xp = be.xp
    n = size[1]
    parts = list(diagonals.values())
    dtype = xp.result_type(*parts)
    lead = xp.broadcast_arrays(*(xp.sum(d, axis=-1) for d in parts))[0].shape
    rows = []
    for k in range(max(diagonals), min(diagonals) - 1, -1):
        d = diagonals.get(k)
        if d is None:
            rows.append(be.zeros((*lead, 1, n), dtype, be.device(parts[0])))
            continue
        j = max(k, 0)
        column = be.astype(d, dtype)[..., :, None]
        row = _padded(be, column, j, n - j - d.shape[-1])[..., 0]
        rows.append(xp.broadcast_to(row, (*lead, n))[..., None, :])
    return xp.concat(rows, axis=-2)


def _product(A: LinearOperator, B: LinearOperator) -> Any:
    """``A @ B`` of band matrices: bandwidths add. NotImplemented where the band would become wide."""
    a, b = diagonals_of(A), diagonals_of(B)
    if a is None or b is None or A.backend is not B.backend:
        return NotImplemented
    (m, p), n = A.shape[-2:], B.shape[-1]
    width = min(max(a) + max(b) - min(a) - min(b) + 1, m + n - 1)
    if width > NARROW and (2 * width > min(m, n) or len(a) * len(b) > PAIRS):
        return NotImplemented
    be = A._concrete_backend()
    out: dict[int, Array] = {}
    for ka, x in a.items():
        for kb, y in b.items():
            k = ka + kb
            # rows i with A[i, i + ka] B[i + ka, i + k] inside all three matrices
            first = max(0, -ka, -k)
            last = min(m, p - ka, n - k)
            if last <= first:
                continue
            i, j = first - max(0, -ka), first + ka - max(0, -kb)
            size = last - first
            part = (x[..., i : i + size] * y[..., j : j + size])[..., None]
            before = first - max(0, -k)
            part = _padded(be, part, before, _length(m, n, k) - before - size)[..., 0]
            out[k] = out[k] + part if k in out else part
    if 0 not in out:
        some = next(iter(out.values()), None)
        like = a[0] * b[0] if some is None else some
        out[0] = be.zeros((*like.shape[:-1], _length(m, n, 0)), like.dtype, be.device(like))
    return from_diagonals(be, dict(sorted(out.items())), (m, n))

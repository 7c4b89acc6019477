"""Band factorisations by LAPACK on the host: gbtrf and pbtrf, matrix by matrix over a batch.

For NumPy arrays, and for concrete arrays of other libraries, which are copied to the host and back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.numpy_backend import _lapack
from ..errors import NonFiniteError, NotPositiveDefiniteError, SingularMatrixError
from .factor import warn_if_singular

__all__ = ["HostCholesky", "HostLU", "host_bands"]


def host_bands(A: Any) -> Any:
    """A's band storage as a NumPy array (*batch, l + u + 1, n) of its dtype, zeros outside the matrix."""
    from ..backends import get_backend
    from ..operators.banded import bands_of, diagonals_of

    be, numpy = A._concrete_backend(), get_backend("numpy")
    diagonals = {k: be.to_numpy(d) for k, d in diagonals_of(A).items()}  # type: ignore[union-attr]
    bands = bands_of(numpy, diagonals, A.shape[-2:])
    if not np.isfinite(bands).all():
        raise NonFiniteError(
            f"{A!r} contains NaN or infinity; a factorisation would spread it to every entry."
        )
    return bands


def _each(bands: Any, factorise: Callable[[Any], Any]) -> list[Any]:
    return [factorise(bands[i]) for i in np.ndindex(*bands.shape[:-2])]


def _over_batches(batch: tuple[int, ...], B: Any, one: Callable[[int, Any], Any]) -> Any:
    """``one(i, rhs)`` for the i-th matrix of a batch, whose shape broadcasts with that of B."""
    n, k = B.shape[-2:]
    if not batch:  # one matrix: all right-hand sides at once
        folded = np.moveaxis(B.reshape(-1, n, k), 0, 1).reshape(n, -1)
        out = one(0, folded).reshape(n, -1, k)
        return np.moveaxis(out, 1, 0).reshape(B.shape)
    common = np.broadcast_shapes(batch, B.shape[:-2])
    which = np.broadcast_to(np.arange(int(np.prod(batch))).reshape(batch), common)
    B = np.broadcast_to(B, (*common, n, k))
    out = [one(int(which[i]), B[i]) for i in np.ndindex(*common)]
    return np.asarray(out).reshape(*common, n, k) if out else np.zeros((*common, n, k), B.dtype)


def _in_dtype(factor: Any, B: Any, solve: Callable[[Any, Any], Any]) -> Any:
    """``solve(factor, rhs)`` in one dtype; complex right-hand sides of a real factor as two real ones."""
    if np.iscomplexobj(B) and not np.iscomplexobj(factor):
        k = B.shape[-1]
        both = _in_dtype(factor, np.concatenate([B.real, B.imag], axis=-1), solve)
        return both[..., :k] + 1j * both[..., k:]
    dtype = np.result_type(factor.dtype, B.dtype)
    return solve(factor.astype(dtype, copy=False), np.asfortranarray(B, dtype))


def _norm1_of_inverse(solve: Callable[[Any, int], Any], n: int, dtype: Any) -> float:
    """A lower bound, nearly always sharp, of the 1-norm of an inverse by a few solves with it (0) and its
    adjoint (2): Higham, ACM TOMS 14 (1988) 381."""
    x = np.full(n, 1 / n, dtype)
    estimate, at = 0.0, -1
    with np.errstate(all="ignore"):
        for _ in range(5):
            y = solve(x, 0)
            size = np.abs(y)
            estimate = max(estimate, float(size.sum()))
            z = solve(np.where(size > 0, y / np.where(size > 0, size, 1), 1).astype(dtype), 2)
            largest = int(np.argmax(np.abs(z)))
            if largest == at or not np.abs(z[largest]) > np.vdot(z, x).real:
                break
            at = largest
            x = np.zeros(n, dtype)
            x[at] = 1
        signs = np.where(np.arange(n) % 2, -1, 1) * (1 + np.arange(n) / max(n - 1, 1))
        return max(estimate, 2 * float(np.abs(solve(signs.astype(dtype), 0)).sum()) / (3 * n))


@dataclass(frozen=True)
class HostLU:
    """``P A = L U`` of each matrix, by gbtrf."""

    A: Any
    batch: tuple[int, ...]
    widths: tuple[int, int]
    factors: list[Any]

    @classmethod
    def of(cls, A: Any) -> HostLU:
        """Factor; a zero pivot stays and is refused by ``solve``."""
        bands, (l, u) = host_bands(A), A.widths  # noqa: E741

        def factorise(band: Any) -> Any:
            storage = np.zeros((2 * l + u + 1, band.shape[-1]), band.dtype, order="F")
            storage[l:] = band
            return _lapack("gbtrf", storage)(storage, l, u, overwrite_ab=1)

        return cls(A, A.batch_shape, (l, u), _each(bands, factorise))

    def refuse_singular(self) -> None:
        """An error if a pivot is exactly zero, a warning if the matrix is singular to working precision."""
        if any(info > 0 for *_, info in self.factors):
            raise SingularMatrixError(
                f"{self.A!r} is singular: a pivot of its LU factorisation is exactly zero. "
                "Regularise it (A + s*I), or use lstsq."
            )
        if self.batch:
            return
        (lu, pivots, _), (l, u) = self.factors[0], self.widths  # noqa: E741
        norm1 = np.abs(host_bands(self.A)).sum(axis=-2).max()
        gbtrs = _lapack("gbtrs", lu)

        def solve(x: Any, transposed: int) -> Any:
            return gbtrs(lu, l, u, x, pivots, trans=transposed)[0]

        # gbcon takes time quadratic in n
        inverse = _norm1_of_inverse(solve, lu.shape[-1], lu.dtype)
        warn_if_singular(1 / (norm1 * inverse) if np.isfinite(inverse) else 0.0, self.A, "LU")

    def solve(self, B: Any) -> Any:
        l, u = self.widths  # noqa: E741

        def one(i: int, rhs: Any) -> Any:
            lu, pivots, _ = self.factors[i]
            return _in_dtype(lu, rhs, lambda f, b: _lapack("gbtrs", f)(f, l, u, b, pivots)[0])

        return _over_batches(self.batch, B, one)

    def slogdet(self) -> tuple[Any, Any]:
        """Phase and log-modulus, with the parity of the interchanges."""
        signs, values = [], []
        for lu, pivots, _ in self.factors:
            d = lu[sum(self.widths)]
            size = np.abs(d)
            swaps = np.count_nonzero(pivots != np.arange(pivots.size)) % 2
            with np.errstate(divide="ignore", invalid="ignore"):
                phase = np.prod(np.where(size > 0, d / size, 0)) * (1 - 2 * swaps)
                values.append(np.log(size).sum())
            signs.append(phase)
        logs = np.asarray(values, np.zeros(0, self._dtype).real.dtype)
        return np.asarray(signs, self._dtype).reshape(self.batch), logs.reshape(self.batch)

    @property
    def _dtype(self) -> Any:
        return np.dtype(str(self.A.dtype).rpartition(".")[2])


@dataclass(frozen=True)
class HostCholesky:
    """``A = L L^H`` of each matrix, by pbtrf; L in lower band storage (*batch, l + 1, n)."""

    A: Any
    batch: tuple[int, ...]
    L: Any

    @classmethod
    def of(cls, A: Any) -> HostCholesky:
        bands, u = host_bands(A), A.widths[1]

        def factorise(band: Any) -> Any:
            L, info = _lapack("pbtrf", band)(np.asfortranarray(band[u:]), lower=1)
            if info > 0:
                raise NotPositiveDefiniteError(
                    f"Cholesky factorisation of {A!r} failed: the leading minor of order {info} is not "
                    "positive. The operator is not positive definite to working precision; remove the PSD "
                    "declaration to take the general path, or add a small multiple of the identity."
                )
            return L

        shape = (*bands.shape[:-2], bands.shape[-2] - u, bands.shape[-1])
        L = np.asarray(_each(bands, factorise)).reshape(shape) if bands.size else bands[..., u:, :]
        if not A.batch_shape and A.shape[-1]:
            d = L[0].real
            # (min L_ii / max L_ii)^2 bounds the reciprocal condition number from above
            warn_if_singular(float((d.min() / d.max()) ** 2), A, "Cholesky")
        return cls(A, A.batch_shape, L)

    def solve(self, B: Any) -> Any:
        flat = self.L.reshape(-1, *self.L.shape[-2:])

        def one(i: int, rhs: Any) -> Any:
            return _in_dtype(flat[i], rhs, lambda f, b: _lapack("pbtrs", f)(f, b, lower=1)[0])

        return _over_batches(self.batch, B, one)

    def slogdet(self) -> tuple[Any, Any]:
        value = 2 * np.log(self.L[..., 0, :].real).sum(axis=-1)
        return np.ones(self.batch, self.L.dtype), np.asarray(value)

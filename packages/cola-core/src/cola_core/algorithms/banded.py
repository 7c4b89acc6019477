"""Direct methods for band matrices: ``BandedLU``, ``BandedCholesky`` and ``BandedEigh``.

Numbers at hand are factored by LAPACK (``band_lapack``); under a trace, or where a derivative of the
factorisation itself is wanted, one pass over the rows does it (``band_scan``). Solves are differentiated
implicitly, by another solve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import array_library
from ..properties import PSD, SelfAdjoint, Stiefel, Unitary
from ..pytree import tree_leaves
from .band_lapack import HostCholesky, HostLU, host_bands
from .base import Algorithm, refuse_batches
from .dense_cost import batch_size
from .eigh import require_self_adjoint
from .iteration import differentiated, prepare
from .spectrum import order_by

__all__ = ["BandedCholesky", "BandedEigh", "BandedLU"]


def _is_band(A: Any) -> bool | str:
    from ..operators import Banded, Tridiagonal

    return True if isinstance(A, (Banded, Tridiagonal)) else "not a band matrix"


def _require_band(A: Any, algorithm: str, instead: str) -> None:
    """A clear error for an operator without bands, asked for by name."""
    if _is_band(A) is not True:
        raise NotImplementedError(
            f"{algorithm} works on Banded and Tridiagonal operators, not on {A!r}. Use {instead}, or write "
            "the matrix as ops.Banded(bands, widths)."
        )


def _concrete(A: Any, *more: Any) -> bool:
    be = A._concrete_backend()
    leaves = (*tree_leaves(A), *more)
    return be.is_concrete(*leaves) and not differentiated(be, A, more[0] if more else leaves[0])


def _on_host(A: Any, factor: Any, B: Array) -> Array:
    be = A._concrete_backend()
    return be.asarray(factor.solve(be.to_numpy(B)), device=A.device)


@dataclass(frozen=True)
class BandFactor:
    """LAPACK's factors where there are numbers to factor;
    without them every solve is a pass over the rows."""

    A: Any
    host: Any

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``."""
        A = self.A
        be, B, _ = prepare(A, B)
        if 0 in B.shape:
            return B
        if self.host is not None and _concrete(A, B):
            return _on_host(A, self.host, B)
        if be.name == "torch" and not be.is_concrete(B, *tree_leaves(A)):
            from .band_scan import lu_solve

            return lu_solve(be, A, B)
        return be.implicit_solve(A, _solve, B)[0]

    def slogdet(self) -> tuple[Array, Array]:
        """Sign (or phase) and logarithm of the modulus of the determinant."""
        A = self.A
        be = A._concrete_backend()
        if not A.shape[-1]:
            one = be.zeros(A.batch_shape, A.dtype, A.device) + 1
            return one, be.zeros(A.batch_shape, be.real_dtype(A.dtype), A.device)
        if self.host is not None and _concrete(A):
            sign, value = self.host.slogdet()
            return be.asarray(sign, device=A.device), be.asarray(value, device=A.device)
        from .band_scan import cholesky_logdet, lu_slogdet

        if not A.isa(PSD):
            return lu_slogdet(be, A)
        value = cholesky_logdet(be, A)
        return be.astype(0 * value + 1, A.dtype), value


def _solve(A: Any, B: Array) -> tuple[Array, None]:
    """One solve without a derivative of its own."""
    be = A._concrete_backend()
    if be.is_concrete(B, *tree_leaves(A)):
        host = HostCholesky.of(A) if A.isa(PSD) else HostLU.of(A)
        if isinstance(host, HostLU):
            host.refuse_singular()
        return _on_host(A, host, B), None
    from .band_scan import lu_solve

    return lu_solve(be, A, B), None


@dataclass(frozen=True)
class BandedLU(Algorithm):
    """``P A = L U`` of a band matrix with partial pivoting: ``2 n l (l + u)`` flops once,
    ``2 n (2 l + u)`` a column."""

    gathers: ClassVar[str] = "data"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return _is_band(A)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        _require_band(A, "BandedLU", "LU()")
        n, b, (l, u) = A.shape[-1], batch_size(A), A.widths  # noqa: E741
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        size = A.itemsize * b * n
        return Cost(
            2.0 * b * n * (l + 1) * (l + u + 1) + 2.0 * b * n * (2 * l + u + 1) * k,
            size * (2 * (2 * l + u + 1) + 2 * k),
            size * (2 * l + u + 1 + k),
            0,
            4 * b,
        )

    def factor(self, A: Any, singular_ok: bool = False) -> BandFactor:
        """Factor once for several solves and the determinant."""
        _require_band(A, "BandedLU", "LU()")
        if not A.shape[-1] or not _concrete(A):
            return BandFactor(A, None)
        host = HostLU.of(A)
        if not singular_ok:
            host.refuse_singular()
        return BandFactor(A, host)

    def solve(self, A: Any, b: Array) -> Array:
        return self.factor(A).solve(b)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        return self.factor(A, singular_ok=True).slogdet()


@dataclass(frozen=True)
class BandedCholesky(Algorithm):
    """``A = L L^H`` of a PSD band matrix, L with the same band: ``n l^2`` flops once,
    ``4 n l`` a column. Reads the lower half."""

    gathers: ClassVar[str] = "data"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        band = _is_band(A)
        return band if band is not True or A.isa(PSD) else "the operator is not declared PSD"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        _require_band(A, "BandedCholesky", "Cholesky()")
        n, b, l = A.shape[-1], batch_size(A), A.widths[0]  # noqa: E741
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        size = A.itemsize * b * n
        flops = b * n * (l + 1.0) * (l + 1 + 4 * k)
        return Cost(flops, size * (2 * (l + 1) + 2 * k), size * (l + 1 + k), 0, 3 * b)

    def factor(self, A: Any) -> BandFactor:
        """Factor once for several solves and the determinant."""
        _require_band(A, "BandedCholesky", "Cholesky()")
        made = A.shape[-1] and _concrete(A)
        return BandFactor(A, HostCholesky.of(A) if made else None)

    def solve(self, A: Any, b: Array) -> Array:
        return self.factor(A).solve(b)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        return self.factor(A).slogdet()

    def cholesky(self, A: Any) -> Any:
        from ..operators import Banded
        from .band_scan import cholesky_bands

        _require_band(A, "BandedCholesky", "Cholesky()")
        be, l = A._concrete_backend(), A.widths[0]  # noqa: E741
        if not A.shape[-1]:
            return A
        if _concrete(A):
            L = be.asarray(HostCholesky.of(A).L, device=A.device)
        else:
            L = cholesky_bands(be, A)
        return Banded(L, (l, 0))


@dataclass(frozen=True)
class BandedEigh(Algorithm):
    """Eigenvalues and eigenvectors of a self-adjoint band matrix by LAPACK (stemr, hbevd), NumPy arrays
    only. Reads the lower half."""

    gathers: ClassVar[str] = "data"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        band = _is_band(A)
        if band is not True:
            return band
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if array_library(A) != "numpy":
            return "LAPACK works on NumPy arrays only"
        if question == "eigsh" and A.batch_shape:
            return "one matrix at a time"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        _require_band(A, "BandedEigh", "Eigh()")
        n, b, l = A.shape[-1], batch_size(A), A.widths[0]  # noqa: E741
        if question == "eigvals":
            return Cost(b * 6.0 * n**2 * (l + 1), 0, A.itemsize * b * n * (l + 2), 0, 4)
        if question == "eigsh" and l <= 1 and not A._is_complex() and operands[1] in ("SA", "LA"):
            k = operands[0]
            return Cost(200.0 * n * (k + 1), 8.0 * A.itemsize * n * k, 2 * A.itemsize * n * (k + 4), 0, 4)
        return Cost(
            b * (6.0 * n**3 + 6 * n**2 * l), b * A.itemsize * n * n * 6, 3 * A.itemsize * b * n * n, 0, 4
        )

    def _one(self, bands: Any, select: str = "a", indices: Any = None) -> tuple[Any, Any]:
        from scipy.linalg import eig_banded, eigh_tridiagonal

        if bands.shape[-1] < 2:
            return bands[0].real, np.ones((bands.shape[-1],) * 2, bands.dtype)
        if bands.shape[0] == 1:
            order = np.argsort(bands[0].real, kind="stable")
            keep = order if indices is None else order[indices[0] : indices[1] + 1]
            V = np.zeros((bands.shape[-1], keep.size), bands.dtype)
            V[keep, np.arange(keep.size)] = 1
            return bands[0].real[keep], V
        if bands.shape[0] == 2 and not np.iscomplexobj(bands):
            return eigh_tridiagonal(bands[0], bands[1, :-1], select=select, select_range=indices)
        return eig_banded(bands, lower=True, select=select, select_range=indices)

    def eigh(self, A: Any) -> tuple[Array, Any]:
        from ..operators import Dense

        _require_band(A, "BandedEigh", "Eigh()")
        bands = host_bands(A)[..., A.widths[1] :, :]
        pairs = [self._one(bands[i]) for i in np.ndindex(*A.batch_shape)]
        w = np.asarray([w for w, _ in pairs]).reshape(A.shape[:-1])
        V = np.asarray([V for _, V in pairs]).reshape(A.shape)
        be = A._concrete_backend()
        return be.astype(w, be.real_dtype(A.dtype)), Dense(
            be.astype(V, A.dtype), declared=frozenset({Unitary})
        )

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        _require_band(A, "BandedEigh", "Eigh()")
        refuse_batches(A, "BandedEigh", "Eigh()")
        be, n = A._concrete_backend(), A.shape[-1]
        bands = host_bands(A)[A.widths[1] :, :]
        if which in ("SA", "LA"):
            wanted = (0, k - 1) if which == "SA" else (n - k, n - 1)
            w, V = self._one(bands, "i", wanted)
        else:
            w, V = self._one(bands)
            index = order_by(be, w, k, which)
            w, V = w[index], V[:, index]
        V = Dense(be.astype(np.ascontiguousarray(V), A.dtype), declared=frozenset({Stiefel}))
        return be.astype(w, be.real_dtype(A.dtype)), V

    def eigvals(self, A: Any) -> Array:
        """Eigenvalues only: O(n^2) times the bandwidth."""
        from scipy.linalg import eigvals_banded

        _require_band(A, "BandedEigh", "Eigh()")
        require_self_adjoint(A, "BandedEigh")
        be = A._concrete_backend()
        if not A.shape[-1]:
            return be.zeros(A.shape[:-1], be.real_dtype(A.dtype))
        bands = host_bands(A)[..., A.widths[1] :, :]
        found = [eigvals_banded(bands[i], lower=True) for i in np.ndindex(*A.batch_shape)]
        return be.astype(np.asarray(found).reshape(A.shape[:-1]), be.real_dtype(A.dtype))

    def eig(self, A: Any) -> tuple[Array, Any]:
        return self.eigh(A)

"""Dense decompositions of the libraries that differentiate: the library's own routine (``plain_...``) where
no derivative can be asked for, else the same with the derivatives stated in ``autodiff.dense_...``."""

from __future__ import annotations

from typing import Any

from .base import Array, Backend

__all__ = ["DerivedBackend"]


class DerivedBackend(Backend):
    """``plain_eigh`` and so on take matrices that are not empty."""

    def _plain(self, A: Array) -> bool:
        return 0 in A.shape or not self.differentiating(A)

    def _spectral(self, A: Array) -> Any:
        return self.xp.result_type(A.dtype, self.dtype("complex64"))

    def eigh(self, A: Array, gap: float | None = None) -> tuple[Array, Array]:
        if self._plain(A):
            if 0 in A.shape:
                return self.zeros(A.shape[:-1], self.real_dtype(A.dtype), self.device(A)), A
            return self.plain_eigh(A)  # type: ignore[attr-defined, no-any-return]
        from ..autodiff.dense_eigh import eigh_rule

        w, V, _ = self.derived(eigh_rule(gap), A)
        return w, V

    def eigvalsh(self, A: Array) -> Array:
        if self._plain(A):
            if 0 in A.shape:
                return self.zeros(A.shape[:-1], self.real_dtype(A.dtype), self.device(A))
            return self.plain_eigvalsh(A)  # type: ignore[attr-defined]
        from ..autodiff.dense_eigh import EIGHVALS

        return self.derived(EIGHVALS, A)[0]

    def eig(self, A: Array) -> tuple[Array, Array]:
        if self._plain(A):
            if 0 in A.shape:
                dtype = self._spectral(A)
                return self.zeros(A.shape[:-1], dtype, self.device(A)), self.astype(A, dtype)
            return self.plain_eig(A)  # type: ignore[attr-defined, no-any-return]
        from ..autodiff.dense_eig import EIG

        w, V, _ = self.derived(EIG, A)
        return w, V

    def eigvals(self, A: Array) -> Array:
        if self._plain(A):
            if 0 in A.shape:
                return self.zeros(A.shape[:-1], self._spectral(A), self.device(A))
            return self.plain_eigvals(A)  # type: ignore[attr-defined]
        from ..autodiff.dense_eig import EIGVALS

        return self.derived(EIGVALS, A)[0]

    def plain_svd(self, A: Array, full: bool) -> tuple[Array, Array, Array]:
        return super().svd(A, full)

    def svd(self, A: Array, full: bool = False) -> tuple[Array, Array, Array]:
        if self._plain(A):
            return self.plain_svd(A, full)
        from ..autodiff import dense_svd

        s, U, V, _ = self.derived(dense_svd.FULL if full else dense_svd.SVD, A)
        return U, s, V

    def svdvals(self, A: Array) -> Array:
        if self._plain(A):
            return self.plain_svdvals(A)  # type: ignore[attr-defined]
        from ..autodiff.dense_svd import SVDVALS

        return self.derived(SVDVALS, A)[0]

    def plain_qr(self, A: Array) -> tuple[Array, Array]:
        return super().qr(A)

    def qr(self, A: Array) -> tuple[Array, Array]:
        if self._plain(A):
            return self.plain_qr(A)
        from ..autodiff.dense_qr import QR

        Q, R = self.derived(QR, A)
        return Q, R

    def lu(self, A: Array) -> tuple[Array, Array, Array]:
        if self._plain(A):
            return self.plain_lu(A)  # type: ignore[attr-defined, no-any-return]
        from ..autodiff.dense_lu import LU

        rows, L, U = self.derived(LU, A)
        return rows, L, U

    def cholesky(self, A: Array, check: bool = True) -> Array:
        if self._plain(A):
            return self.plain_cholesky(A, check)  # type: ignore[attr-defined]
        from ..autodiff.dense_cholesky import CHOLESKY, UNCHECKED

        return self.derived(CHOLESKY if check else UNCHECKED, A)[0]

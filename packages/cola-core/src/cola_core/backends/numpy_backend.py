"""NumPy arrays; dense factorisations straight from SciPy's LAPACK
(its high-level wrappers cost more than 10x10)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import NotPositiveDefiniteError, SingularMatrixError
from .base import Array, Backend, dtype_name, refuse_graph

__all__ = ["BACKEND", "NumpyBackend"]


class NumpyBackend(Backend):
    """See ``Backend``. Randomness: ``numpy.random.Generator(PCG64)`` seeded by the key."""

    name = "numpy"

    @cached_property
    def xp(self) -> Any:  # type: ignore[override]
        import array_api_compat.numpy as xp

        return xp

    def dtype(self, dtype: Any) -> Any:
        return dtype if type(dtype).__module__ == "numpy" else np.dtype(dtype_name(dtype))

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Array:
        if hasattr(x, "detach"):  # a torch tensor that may require gradients
            refuse_graph(x, "numpy")
            x = x.detach().cpu().resolve_conj().numpy()
        return np.asarray(x, dtype=None if dtype is None else self.dtype(dtype))

    def as_value(self, x: Any) -> Array:
        x = self.asarray(x)
        return x if x.dtype.kind in "fc" else x.astype(np.float64)

    def astype(self, x: Array, dtype: Any) -> Array:
        return x.astype(self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> Any:
        return np.asarray(x)

    def is_complex(self, x: Any) -> bool:
        return np.dtype(getattr(x, "dtype", x)).kind == "c"

    def conj(self, x: Array) -> Array:
        return x.conj() if x.dtype.kind == "c" else x

    def adjoint(self, x: Array) -> Array:
        x = x.swapaxes(-1, -2)
        return x.conj() if x.dtype.kind == "c" else x

    def inner(self, x: Array, y: Array) -> Array:
        if x.ndim == 2 == y.ndim and x.shape[1] == 1:  # one pass, no temporary
            return np.atleast_1d(np.vdot(x, y)) if x.dtype == y.dtype else np.sum(x.conj() * y, axis=0)
        return np.einsum("...ij,...ij->...j", self.conj(x), y)

    def norm(self, x: Array) -> Array:
        if x.ndim == 2 and x.shape[1] == 1 and x.flags.c_contiguous and x.size:
            # nrm2 scales, so that tiny or huge entries neither underflow nor overflow
            return np.asarray([_blas("nrm2", x)(x.ravel())], dtype=x.real.dtype)
        return np.linalg.norm(x, axis=-2)

    def norm1(self, x: Array) -> Any:
        if x.ndim != 2 or not x.size or x.dtype.char not in "fdFD":
            return super().norm1(x)
        if x.flags.c_contiguous:  # rows are LAPACK's columns
            return _lapack("lange", x)("I", x.T)
        return _lapack("lange", x)("1", x)

    def axpy(self, a: Array, x: Array, y: Array) -> Array:
        if (
            y.ndim == 2
            and y.shape[1] == 1
            and x.dtype == y.dtype
            and y.flags.c_contiguous
            and x.flags.c_contiguous
        ):
            # in place, one pass instead of two and a temporary
            _blas("axpy", y)(x.ravel(), y.ravel(), a=a[0])
            return y
        return y + a[..., None, :] * x

    def xpay(self, x: Array, a: Array, y: Array) -> Array:
        if y.shape == x.shape and y.dtype == x.dtype:
            y *= a[..., None, :]
            y += x
            return y
        return x + a[..., None, :] * y

    def matmul_add(self, y: Array, x: Array, a: Array) -> Array:
        if y.dtype == x.dtype == a.dtype and _tall(y, x) and a.ndim == 2 and y.flags.writeable:
            gemm, a = _blas("gemm", y), a.T
            for rows in _pieces(x):  # rows are BLAS's columns: y^T + a^T x^T, into y itself
                gemm(1.0, a, x[rows].T, 1.0, y[rows].T, overwrite_c=1)
            return y
        return y + x @ a

    def add_matmul(self, x: Array, y: Array, a: Array) -> Array:
        if y.dtype == x.dtype == a.dtype and _tall(y, x) and a.shape == y.shape[1:] * 2 and y.flags.writeable:
            space: Any = None  # one for all pieces: it stays in the cache
            for rows in _pieces(y):
                part = y[rows]
                space = np.empty_like(part) if space is None else space[: len(part)]
                np.add(np.matmul(part, a, out=space), x[rows], out=part)
            return y
        return super().add_matmul(x, y, a)

    def gram(self, x: Array, y: Array) -> Array:
        if x.dtype != y.dtype or not _tall(x, y) or (x is y and x.dtype.kind == "f"):
            return self.adjoint(x) @ y  # x^T x takes half the work
        gemm, out = _blas("gemm", x), np.zeros((y.shape[1], x.shape[1]), x.dtype, order="F")
        for rows in _pieces(x):  # no conjugated copy of x either
            out = gemm(1.0, y[rows].T, x[rows].T, 1.0, out, trans_b=2, overwrite_c=1)
        return out.T

    def all_finite(self, x: Array) -> bool:
        if x.dtype.kind in "fc" and x.size > 64 and (x.flags.c_contiguous or x.flags.f_contiguous):
            with np.errstate(over="ignore", invalid="ignore"):
                flat = x.ravel(order="K")
                # one fast pass; only an overflow or a culprit needs the slow one
                if np.isfinite(np.vdot(flat, flat)):
                    return True
        return bool(np.isfinite(x).all())

    def index_add(self, rows: Array, values: Array, m: int) -> Array:
        out = np.zeros((*values.shape[:-2], m, values.shape[-1]), values.dtype)
        where: Any = (..., rows, slice(None))
        np.add.at(out, where, values)
        return out

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def eye(self, n: int, dtype: Any, device: Any = None) -> Array:
        return np.eye(n, dtype=self.dtype(dtype))

    def zeros(self, shape: Any, dtype: Any, device: Any = None) -> Array:
        return np.zeros(shape, dtype=self.dtype(dtype))

    def add_diagonal(self, M: Array, d: Array) -> Array:
        n = M.shape[-1]
        out = np.array(M, dtype=np.result_type(M, d), order="K")
        out[..., np.arange(n), np.arange(n)] += d
        return out

    # -- dense factorisations --------------------------------------------------------------------------------
    def cholesky(self, A: Array, check: bool = True) -> Array:
        if A.ndim == 2 and A.shape[0]:
            potrf = _lapack("potrf", A)
            # LAPACK reads columns: the lower triangle of rows is to it the upper one of the transpose
            turned = A.flags.c_contiguous
            L, info = potrf(A.T if turned else A, lower=not turned, clean=1, overwrite_a=0)
            if info and check:
                raise _not_positive_definite(info)
            L = L.T if turned else L
            return np.tril(np.full_like(L, np.nan)) if info else L
        try:
            return np.linalg.cholesky(A) if A.size else A.copy()
        except np.linalg.LinAlgError:
            if check:
                raise _not_positive_definite(None) from None
            each = [self.cholesky(a, False) for a in A.reshape(-1, *A.shape[-2:])]
            return np.stack(each).reshape(A.shape)

    def cholesky_solve(self, L: Array, B: Array) -> Array:
        if L.ndim == 2 and B.ndim == 2 and L.size and B.size:
            L, B = _common(L, B)
            potrs = _lapack("potrs", L)
            if not L.flags.f_contiguous and not self.is_complex(L):
                return potrs(L.T, B, lower=0)[0]
            return potrs(L, B, lower=1)[0]
        return super().cholesky_solve(L, B)

    def cholesky_inverse(self, L: Array) -> Array:
        if L.ndim != 2 or not L.size or self.is_complex(L):
            return super().cholesky_inverse(L)
        # one triangle in a third of the flops of two triangular solves
        turned = not L.flags.f_contiguous
        out, info = _lapack("potri", L)(L.T if turned else L, lower=not turned)
        if info:
            raise SingularMatrixError(
                f"triangular matrix of shape {L.shape} is singular: its diagonal entry {info - 1} is "
                "exactly zero"
            )
        out = out.T if turned else out
        for rows in _pieces(out):  # the lower triangle's mirror image
            i, j = rows.start, min(rows.stop, len(out))
            out[i:j, i:j] = np.tril(out[i:j, i:j]) + np.tril(out[i:j, i:j], -1).T
            out[:i, i:j] = out[i:j, :i].T
        return out

    def solve_triangular(self, L: Array, B: Array, lower: bool = True, unit: bool = False) -> Array:
        if L.ndim == 2 and B.ndim == 2 and L.size and B.size:
            L, B = _common(L, B)
            trtrs = _lapack("trtrs", L)
            if L.flags.c_contiguous and not L.flags.f_contiguous:
                # LAPACK reads columns: hand it the transpose instead of copying L
                X, info = trtrs(L.T, B, lower=not lower, trans=1, unitdiag=unit)
            else:
                X, info = trtrs(L, B, lower=lower, unitdiag=unit)
            if info > 0:
                raise SingularMatrixError(
                    f"triangular matrix of shape {L.shape} is singular: its diagonal entry {info - 1} is "
                    "exactly zero"
                )
            return X
        batch = np.broadcast_shapes(L.shape[:-2], B.shape[:-2])
        out = np.empty((*batch, L.shape[-1], B.shape[-1]), np.result_type(L, B))
        Ls, Bs = np.broadcast_to(L, batch + L.shape[-2:]), np.broadcast_to(B, batch + B.shape[-2:])
        if out.size:
            for i in np.ndindex(*batch):
                out[i] = self.solve_triangular(Ls[i], Bs[i], lower, unit)
        return out

    def lu_factor(self, A: Array) -> Any:
        if A.ndim == 2 and A.shape[0]:
            getrf = _lapack("getrf", A)
            # the transpose of a C-ordered matrix is the Fortran view LAPACK wants; solve with trans undoes it
            transposed = A.flags.c_contiguous
            lu, piv, info = getrf(A.T if transposed else A)
            if info > 0:
                raise _singular(A.shape, info)
            return lu, piv, transposed
        lus = np.empty(A.shape, A.dtype)
        pivs = np.empty(A.shape[:-1], np.intp)
        if A.size:
            for i in np.ndindex(*A.shape[:-2]):
                lus[i], pivs[i], _ = self.lu_factor(np.asfortranarray(A[i]))
        return lus, pivs, False

    def lu_solve(self, factors: Any, B: Array, adjoint: bool = False) -> Array:
        lu, piv, transposed = factors
        if lu.ndim == 2 and B.ndim == 2 and lu.size and B.size:
            lu, B = _common(lu, B)
            getrs = _lapack("getrs", lu)
            if adjoint and transposed:  # A^H = conj(A^T) and we hold LU of A^T
                return getrs(lu, piv, B.conj(), trans=0)[0].conj()
            trans = 2 if adjoint else (1 if transposed else 0)
            return getrs(lu, piv, B, trans=trans)[0]
        batch = np.broadcast_shapes(lu.shape[:-2], B.shape[:-2])
        n = lu.shape[-1]
        out = np.empty((*batch, n, B.shape[-1]), np.result_type(lu, B))
        if out.size:
            lus, pivs = np.broadcast_to(lu, (*batch, n, n)), np.broadcast_to(piv, (*batch, n))
            Bs = np.broadcast_to(B, batch + B.shape[-2:])
            for i in np.ndindex(*batch):
                out[i] = self.lu_solve((lus[i], pivs[i], transposed), Bs[i], adjoint)
        return out

    def lu_slogdet(self, factors: Any) -> tuple[Array, Array]:
        lu, piv, _ = factors
        d = np.diagonal(lu, axis1=-2, axis2=-1)
        swaps = (piv != np.arange(piv.shape[-1])).sum(-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            magnitude = np.abs(d)
            phase = np.where(magnitude == 0, 0, d / np.where(magnitude == 0, 1, magnitude))
            return (1 - 2 * (swaps % 2)).astype(d.dtype) * phase.prod(-1), np.log(magnitude).sum(-1)

    def lu_rcond(self, factors: Any, norm1: Array) -> Any:
        lu, _, transposed = factors
        if lu.ndim != 2 or not lu.size:
            return None
        gecon = _lapack("gecon", lu)
        return gecon(lu, norm1, norm="I" if transposed else "1")[0]

    def ldl_factor(self, A: Array) -> Any:
        if not A.shape[-1]:
            return A, np.zeros(0, np.int32)
        name = "hetrf" if A.dtype.kind == "c" else "sytrf"
        work = int(_lapack(name + "_lwork", A)(A.shape[-1], lower=1)[0].real)
        LD, pivots, info = _lapack(name, A)(A, lower=1, lwork=work)
        if info > 0:
            raise SingularMatrixError(
                f"matrix of shape {A.shape} is singular: a pivot of its LDL factorisation is exactly zero. "
                "Regularise it (A + s*I), or use lstsq."
            )
        return LD, pivots

    def ldl_solve(self, factors: Any, B: Array) -> Array:
        LD, pivots = factors
        if not LD.size or not B.size:
            return np.zeros(B.shape, np.result_type(LD, B))
        if B.ndim > 2:
            flat = np.moveaxis(B, -2, 0)
            X = self.ldl_solve(factors, flat.reshape(len(flat), -1))
            return np.moveaxis(X.reshape(flat.shape), 0, -2)
        LD, B = _common(LD, B)
        try:
            trs = _lapack("hetrs" if LD.dtype.kind == "c" else "sytrs", LD)
        except ValueError:  # SciPy before 1.15 does not offer it
            return _ldl_solve(LD, pivots, B)
        return trs(LD, pivots, B, lower=1)[0]

    def ldl_rcond(self, factors: Any, norm1: Array) -> Any:
        LD, pivots = factors
        name = "hecon" if LD.dtype.kind == "c" else "sycon"
        return _lapack(name, LD)(LD, pivots, norm1, lower=1)[0]

    def eigh(self, A: Array, gap: float | None = None) -> tuple[Array, Array]:
        w, V = np.linalg.eigh(A)
        return w, V

    def eig(self, A: Array) -> tuple[Array, Array]:
        w, V = np.linalg.eig(A)
        # numpy returns reals when all eigenvalues happen to be real; a dtype must not depend on values
        dtype = np.result_type(A.dtype, np.complex64)
        return w.astype(dtype), V.astype(dtype)

    def qr(self, A: Array) -> tuple[Array, Array]:
        Q, R = np.linalg.qr(A)
        return Q, R

    def svdvals(self, A: Array) -> Array:
        return np.linalg.svd(A, compute_uv=False)

    def lu(self, A: Array) -> tuple[Array, Array, Array]:
        *batch, m, n = A.shape
        k = min(m, n)
        rows = np.broadcast_to(np.arange(m), (*batch, m)).copy()
        L, U = np.zeros((*batch, m, k), A.dtype), np.zeros((*batch, k, n), A.dtype)
        L[..., np.arange(k), np.arange(k)] = 1
        for i in np.ndindex(*batch) if A.size else ():
            lu, swaps, _ = _lapack("getrf", A)(A[i])
            L[i] += np.tril(lu[:, :k], -1)
            U[i] = np.triu(lu[:k])
            order = rows[i]
            for j, p in enumerate(swaps):
                order[j], order[p] = order[p], order[j]
        return rows, L, U

    def schur(self, A: Array) -> tuple[Array, Array]:
        from scipy.linalg import schur

        T, Z = np.empty_like(A), np.empty_like(A)
        for i in np.ndindex(*A.shape[:-2]) if A.size else ():
            T[i], Z[i] = schur(A[i])
        return T, Z

    def eigvals(self, A: Array) -> Array:
        return np.linalg.eigvals(A).astype(np.result_type(A.dtype, np.complex64))

    def eigvalsh(self, A: Array) -> Array:
        return np.linalg.eigvalsh(A)

    def expm(self, A: Array) -> Array:
        from scipy.linalg import expm

        return expm(A) if A.size else A.copy()

    # -- randomness ------------------------------------------------------------------------------------------
    def normal(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        rng, dtype = np.random.default_rng(key), self.dtype(dtype)
        if dtype.kind == "c":
            pair = rng.standard_normal((2, *shape)) * np.sqrt(0.5)
            return (pair[0] + 1j * pair[1]).astype(dtype)
        return rng.standard_normal(shape).astype(dtype, copy=False)

    def rademacher(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        signs = np.random.default_rng(key).integers(0, 2, shape, dtype=np.int8)
        return (2 * signs - 1).astype(self.dtype(dtype))


PIECE = 1 << 17  # bytes of a tall matrix that are multiplied at a time, so that they stay in a core's cache
LEAST_COLUMNS = 16  # with fewer, calling for each piece costs more than the cache gives
_LAPACK: dict[tuple[str, str], Any] = {}


def _tall(x: Array, y: Array) -> bool:
    """Whether both are matrices with as many rows, none of length zero, one row after the other in memory."""
    fits = x.ndim == y.ndim == 2 and len(x) == len(y) and 0 not in x.shape and 0 not in y.shape
    return fits and x.flags.c_contiguous and y.flags.c_contiguous and x.dtype.char in "fdFD"


def _pieces(x: Array) -> Iterator[slice]:
    """Rows of a matrix that fit into the cache together."""
    n, k = x.shape
    step = n if k < LEAST_COLUMNS else max(64, PIECE // (k * x.itemsize))
    return (slice(i, i + step) for i in range(0, n, step))


def _lapack(name: str, A: Array) -> Any:
    """A LAPACK routine for the dtype of A, cached:
    scipy's own lookup costs as much as a 10x10 factorisation."""
    try:
        return _LAPACK[name, A.dtype.char]
    except KeyError:
        from scipy.linalg import get_lapack_funcs

        return _LAPACK.setdefault((name, A.dtype.char), get_lapack_funcs(name, (A,)))


def _blas(name: str, x: Array) -> Any:
    try:
        return _LAPACK[name, x.dtype.char]
    except KeyError:
        from scipy.linalg import get_blas_funcs

        return _LAPACK.setdefault((name, x.dtype.char), get_blas_funcs(name, (x,)))


def _common(a: Array, b: Array) -> tuple[Array, Array]:
    if a.dtype == b.dtype:
        return a, b
    dtype = np.result_type(a, b)
    return a.astype(dtype, copy=False), b.astype(dtype, copy=False)


def _ldl_solve(LD: Array, pivots: Array, B: Array) -> Array:
    """What LAPACK's sytrs and hetrs do with the lower factors of sytrf and hetrf: a positive pivot is a block
    of one row that changed places with that row (from one), two equal negative ones a block of two rows, of
    which the second did."""
    n, X, k = len(LD), B.copy(), 0
    while k < n:
        size = 1 if pivots[k] > 0 else 2
        end = k + size
        X[[end - 1, abs(pivots[k]) - 1]] = X[[abs(pivots[k]) - 1, end - 1]]
        X[end:] -= LD[end:, k:end] @ X[k:end]
        D = np.tril(LD[k:end, k:end], -1)
        X[k:end] = np.linalg.solve(D + D.conj().T + np.diag(LD.diagonal()[k:end].real), X[k:end])
        k = end
    while k > 0:
        end, k = k, k - (1 if pivots[k - 1] > 0 else 2)
        X[k:end] -= LD[end:, k:end].conj().T @ X[end:]
        X[[end - 1, abs(pivots[k]) - 1]] = X[[abs(pivots[k]) - 1, end - 1]]
    return X


def _not_positive_definite(order: int | None) -> NotPositiveDefiniteError:
    where = "" if order is None else f": the leading minor of order {order} is not positive"
    return NotPositiveDefiniteError(
        f"Cholesky factorisation failed{where}. The operator is not positive definite to working precision; "
        "remove the PSD declaration to take the general path, add a small multiple of the identity, or use "
        "LU()."
    )


def _singular(shape: tuple[int, ...], pivot: int) -> SingularMatrixError:
    return SingularMatrixError(
        f"matrix of shape {shape} is singular: pivot {pivot - 1} of its LU factorisation is exactly zero. "
        "Regularise it (A + s*I), or use lstsq."
    )


BACKEND = NumpyBackend()

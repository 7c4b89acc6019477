"""Sparse direct factorisation by SuperLU (through SciPy). Li, ACM TOMS 31 (2005) 302.

Entries of other libraries are copied to the host for it; under a JAX trace that is a callback. Solves are
differentiated implicitly, by another solve; the determinant in PyTorch by the inverse's entries on the
pattern (``sparse_inverse``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import array_library
from ..errors import NonFiniteError, SingularMatrixError
from ..properties import SelfAdjoint
from ..pytree import map_leaves, tree_leaves
from .base import Algorithm, refuse_batches
from .cholesky import check_finite
from .factor import warn_if_singular
from .iteration import differentiated, prepare

__all__ = ["SparseLU"]


@dataclass(frozen=True)
class SparseFactor:
    """SuperLU's factors of a sparse matrix."""

    superlu: Any
    dtype: Any

    def solve(self, B: Array) -> Array:
        """``A^{-1} B`` by sparse triangular solves."""
        import numpy as np

        if np.iscomplexobj(B) and self.dtype.kind != "c":
            return self.superlu.solve(np.ascontiguousarray(B.real)) + 1j * self.superlu.solve(
                np.ascontiguousarray(B.imag)
            )
        B = B.astype(self.dtype, copy=False)
        if B.ndim <= 2:
            return self.superlu.solve(B)
        out = np.empty_like(B)
        for i in np.ndindex(*B.shape[:-2]):
            out[i] = self.superlu.solve(np.ascontiguousarray(B[i]))
        return out

    def slogdet(self) -> tuple[Array, Array]:
        """Phase and log-modulus, with the parity of both permutations."""
        import numpy as np

        d = self.superlu.U.diagonal()
        sign = np.prod(d / np.abs(d)) * _parity(self.superlu.perm_r) * _parity(self.superlu.perm_c)
        return np.asarray(sign, self.dtype), np.log(np.abs(d)).sum()


@dataclass(frozen=True)
class HostedFactor:
    """The factors of a sparse operator of PyTorch or JAX: made on the host, None under a trace."""

    A: Any
    host: SparseFactor | None

    def solve(self, B: Array) -> Array:
        """``A^{-1} B`` with implicit derivatives."""
        A = self.A
        be, B, _ = prepare(A, B)
        if 0 in B.shape:
            return B
        if not differentiated(be, A, B) and self.host is not None and be.is_concrete(B):
            return be.asarray(self.host.solve(be.to_numpy(B)), device=A.device)
        if be.name == "torch" and not be.is_concrete(B, *tree_leaves(A)):
            from .lu import LU  # PyTorch's function transforms cannot leave for the host

            return LU().solve(A, B)
        return be.implicit_solve(A, _on_host, B)[0]

    def slogdet(self) -> Any:
        """Phase and log-modulus; NotImplemented where JAX may want a derivative, and while compiling."""
        be = self.A._concrete_backend()
        if be.name == "torch" and be.differentiating(*tree_leaves(self.A)) and not _compiling(self.A):
            from .sparse_inverse import slogdet

            return slogdet(self.A)
        if self.host is None or differentiated(be, self.A, tree_leaves(self.A)[0]):
            return NotImplemented
        sign, value = self.host.slogdet()
        dtype = be.real_dtype(self.A.dtype)
        return be.asarray(sign, device=self.A.device), be.asarray(value, dtype, self.A.device)


def _on_host(A: Any, B: Array) -> tuple[Array, None]:
    """One solve by SuperLU, whatever library the entries are of."""
    be = A._concrete_backend()
    leaves = tree_leaves(A)
    if be.is_concrete(B, *leaves):
        return be.asarray(SparseLU()._factor(A).solve(be.to_numpy(B)), device=A.device), None
    import jax
    import numpy as np

    last: list[tuple[list[Any], SparseFactor]] = []  # a loop solves with the same entries again and again

    def call(rhs: Any, *arrays: Any) -> Any:
        entries = [np.asarray(x) for x in arrays]
        kept = last[-1] if last else None
        if kept is None or not all(map(np.array_equal, kept[0], entries)):
            supply = iter(entries)
            host = _in_order(map_leaves(lambda _: next(supply), A))
            kept = [x.copy() for x in entries], SparseLU()._factor(host)
            last[:] = [kept]
        return kept[1].solve(np.asarray(rhs)).astype(rhs.dtype, copy=False)

    answer = jax.ShapeDtypeStruct(B.shape, B.dtype)
    return jax.pure_callback(call, answer, B, *leaves, vmap_method="sequential"), None


def _in_order(A: Any) -> Any:
    """Sparse operators sorted as NumPy's products want them; identities without a library."""
    from ..operators import Identity, Sparse, Sum

    if isinstance(A, Sum):
        return Sum(*map(_in_order, A.Ms), declared=A.declared)
    if isinstance(A, Sparse):
        return Sparse(A.data, A.rows, A.cols, A.size, declared=A.declared)
    return Identity(A.n, A.dtype_name, declared=A.declared) if isinstance(A, Identity) else A


@dataclass(frozen=True)
class SparseLU(Algorithm):
    """``P A Q = L U`` of a ``Sparse`` operator, real or complex, in single or double precision.

    Fill depends on the pattern; the estimate assumes a 2-d mesh. A triangular pattern is not reordered and
    does not fill: its factorisation is a copy and each solve a substitution.
    """

    gathers: ClassVar[str] = "data"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not _sparse_terms(A):
            return "not a Sparse operator, nor one plus diagonal ones"
        if question != "solve" and array_library(A) not in ("numpy", "torch"):
            return "the determinant of SuperLU is found on the host: NumPy arrays and PyTorch tensors only"
        if question != "solve" and _compiling(A):
            return "the determinant of SuperLU is found on the host, which torch.compile does not reach"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        nnz = sum(getattr(M, "nnz", n) for M in _sparse_terms(A)) if _sparse_terms(A) else n
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        fill = estimated_fill(n, nnz) * (1.0 if A.isa(SelfAdjoint) else 1.7)
        return Cost(
            0.0,
            16.0 * nnz + 12 * fill * k,
            16 * fill,
            0,
            100,
            factor=4 * fill**2 / max(n, 1),
            steps=0.25 * fill,
        )

    def factor(self, A: Any) -> Any:
        """Factor once for several solves and the determinant."""
        _refuse(A)
        be = A._concrete_backend()
        if be.name == "numpy":
            return self._factor(A)
        concrete = be.is_concrete(*tree_leaves(A))
        return HostedFactor(A, self._factor(A) if concrete and A.shape[-1] else None)

    def _factor(self, A: Any) -> SparseFactor:
        import numpy as np
        from scipy.sparse.linalg import MatrixRankWarning, splu

        csc = _assembled(A).tocsc()
        if not np.isfinite(csc.data).all():
            raise NonFiniteError(f"{A!r} contains NaN or infinity.")
        # symmetric mode and a symmetric ordering keep the fill of a symmetric pattern low
        options = (
            dict(permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options=dict(SymmetricMode=True))
            if A.isa(SelfAdjoint)
            else dict(permc_spec="COLAMD")
        )
        columns = np.repeat(np.arange(csc.shape[1]), np.diff(csc.indptr))
        if (csc.indices >= columns).all() or (csc.indices <= columns).all():
            options = dict(permc_spec="NATURAL", diag_pivot_thresh=0.0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", MatrixRankWarning)
                lu = splu(csc, **options)
        except (RuntimeError, MatrixRankWarning) as error:
            raise SingularMatrixError(
                f"{A!r} is singular: SuperLU found a zero pivot ({error}). Regularise it (A + s*I) or "
                "remove the null space."
            ) from None
        d = np.abs(lu.U.diagonal())
        # the pivots' ratio bounds the reciprocal condition number only loosely, so warn at its extreme
        warn_if_singular(float(d.min() / d.max()) if d.size and d.max() > 0 else 0.0, A, "sparse LU")
        return SparseFactor(lu, csc.dtype)

    def solve(self, A: Any, b: Array) -> Array:
        _refuse(A)
        check_finite(A, b)
        if not A.shape[-1]:
            return b
        return self.factor(A).solve(b)

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        _refuse(A)
        be = A._concrete_backend()
        zero = be.zeros((), be.real_dtype(A.dtype), A.device)
        if not A.shape[-1]:
            return be.astype(zero + 1, A.dtype), zero
        try:
            found = self.factor(A).slogdet()
        except SingularMatrixError:
            return be.astype(zero, A.dtype), zero - float("inf")
        if found is NotImplemented:
            raise NotImplementedError(
                f"SparseLU does not offer the derivative of the determinant of {A!r}: use LU(), or SLQ() for "
                "an operator declared PSD."
            )
        return found


def _refuse(A: Any) -> None:
    """A clear error for what SuperLU cannot factor."""
    refuse_batches(A, "SparseLU", "LU()")
    if not _sparse_terms(A):
        raise NotImplementedError(
            f"SparseLU factors Sparse operators and sums of such with diagonal ones, not {A!r}. Use LU()."
        )


def _compiling(A: Any) -> bool:
    if array_library(A) != "torch":
        return False
    import torch

    return torch.compiler.is_compiling()


def _parity(perm: Any) -> int:
    """Sign of a permutation, by its cycles."""
    import numpy as np

    perm = np.asarray(perm)
    seen = np.zeros(perm.size, bool)
    sign = 1
    for i in range(perm.size):
        length = 0
        while not seen[i]:
            seen[i] = True
            i = perm[i]
            length += 1
        if length and length % 2 == 0:
            sign = -sign
    return sign


def estimated_fill(n: int, nnz: int) -> float:
    """Entries of the factors, by the entries a row: a chain has 3, a mesh in the plane 5, in space 7.

    Of the order of ``n log n`` in the plane (George 1973) and ``n^(4/3)`` in space, with constants measured
    for minimum degree; a pattern without a mesh behind it may fill far more, a narrow band far less.
    """
    row = nnz / max(n, 1)
    plane, space = min(max((row - 3) / 1.7, 0.0), 1.0), min(max((row - 5) / 1.5, 0.0), 1.0)
    mesh = plane * (1 - space) * 3.0 * n * max(n, 2).bit_length() + space * 8.0 * n ** (4 / 3)
    return min(1.3 * nnz + mesh, float(n) * n)


def _sparse_terms(A: Any) -> tuple[Any, ...]:
    """The terms of a Sparse operator, or of a sum of such and diagonal ones; empty for anything else."""
    from ..operators import Diagonal, Identity, ScalarMul, Sparse, Sum

    terms = A.Ms if isinstance(A, Sum) else (A,)
    if A.batch_shape or not all(isinstance(M, (Sparse, Diagonal, Identity, ScalarMul)) for M in terms):
        return ()
    return tuple(terms) if any(isinstance(M, Sparse) for M in terms) else ()


def _assembled(A: Any) -> Any:
    """The entries as one SciPy matrix."""
    from scipy.sparse import diags_array

    from ..operators import Sparse

    total = None
    for M in _sparse_terms(A):
        if isinstance(M, Sparse):
            new = M.to_scipy()
        else:
            be = A._concrete_backend()
            ones = be.xp.ones((A.shape[-1],), dtype=A.dtype)
            new = diags_array(be.to_numpy(M._matvec(ones))).tocsr()
        total = new if total is None else total + new
    return total

"""``IncompleteLU``: ``P A Q ~ L U`` with small entries left out, by SuperLU through SciPy.

Li & Shao, ACM TOMS 37 (2011) 43 (supernodal ILUTP).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..algorithms.sparse_lu import SparseLU
from ..errors import SingularMatrixError
from ..linalg import Inverse
from ..operators import Identity, LinearOperator, Permutation, Product, Sparse
from .base import Preconditioner, on_host
from .sparse_entries import sparse_entries

__all__ = ["IncompleteLU"]


@dataclass(frozen=True)
class IncompleteLU(Preconditioner):
    """``Q U^{-1} L^{-1} P`` of an incomplete factorisation of a sparse A; for GMRES and its like.

    drop_tol: entries below this part of their column are left out. fill_factor: at most so many times the
    entries of A are kept. The adjoint and the determinant come from those of the factors. Arrays of PyTorch
    are copied to the host in each product.

    >>> import numpy as np, scipy.sparse as sp, cola_core as cola
    >>> T = sp.diags_array([-1.5, 2.1, -0.5], offsets=[-1, 0, 1], shape=(50, 50)).tocsr()
    >>> A = cola.ops.Sparse.from_scipy(T)
    >>> x, info = cola.solve(A, np.ones(50), cola.GMRES(P=cola.IncompleteLU()), return_info=True)
    >>> info.iterations <= 2
    True
    """

    drop_tol: float = 1e-4
    fill_factor: float = 10.0

    def build(self, A: LinearOperator) -> LinearOperator:
        from scipy.sparse import csc_array
        from scipy.sparse.linalg import spilu

        on_host(A, "IncompleteLU")
        n = A.shape[-1]
        if not n:
            return Identity.like(A)
        S = csc_array(sparse_entries(A, "IncompleteLU"))
        try:
            lu = spilu(S, drop_tol=self.drop_tol, fill_factor=self.fill_factor)
        except RuntimeError as error:
            raise SingularMatrixError(
                f"IncompleteLU: SuperLU found a zero pivot in {A!r} ({error}); regularise it (A + s*I)."
            ) from None
        d = lu.U.diagonal()
        if not (np.isfinite(d).all() and (d != 0).all()):
            raise SingularMatrixError(f"IncompleteLU: a pivot of {A!r} is zero or not finite.")
        be = A._concrete_backend()

        def kept(M: object) -> LinearOperator:
            coo = csc_array(M).tocoo()
            data = be.asarray(coo.data, A.dtype, A.device)
            return Inverse(Sparse(data, coo.row, coo.col, (n, n)), SparseLU())

        # SuperLU: (L U)[perm_r[i], perm_c[j]] = A[i, j]
        into = Permutation(np.argsort(lu.perm_r))
        out = Permutation(np.asarray(lu.perm_c))
        return Product(out, kept(lu.U), kept(lu.L), into)

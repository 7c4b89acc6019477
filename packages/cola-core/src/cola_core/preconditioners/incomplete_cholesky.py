"""``IncompleteCholesky``: ``A ~ L L^H`` with the entries of L outside a pattern, or small ones, left out.

Meijerink & van der Vorst, Math. Comp. 31 (1977) 148 (no fill: it exists for M-matrices); shifted retry for
other matrices: Manteuffel, Math. Comp. 34 (1980) 473; by drop tolerance: Saad 2003, sec. 10.4. A is scaled to
a unit diagonal first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..algorithms.sparse_lu import SparseLU
from ..errors import NotPositiveDefiniteError
from ..linalg import Inverse
from ..operators import Diagonal, Identity, LinearOperator, Product, Sparse
from ..properties import PSD
from .base import Preconditioner, on_host
from .no_fill import Breakdown, no_fill, with_drops
from .sparse_entries import sparse_entries

__all__ = ["IncompleteCholesky"]

RETRIES = 12


@dataclass(frozen=True)
class IncompleteCholesky(Preconditioner):
    """``(L L^H)^{-1}`` with an incomplete Cholesky factor of a sparse A.

    drop_tol: 0 (default) keeps the pattern of A, without fill; a positive number keeps what is larger than
    this part of the norm of its column of A, and is a loop over columns in Python. shift: where a pivot
    is not positive, the factorisation is made anew of ``A + a diag(A)``, a = ``shift`` and then twice as
    much; ``shift_used(A)`` tells. Arrays of PyTorch are copied to the host in each product.

    >>> import numpy as np, scipy.sparse as sp, cola_core as cola
    >>> T = sp.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(50, 50)).tocsr()
    >>> A = cola.PSD(cola.ops.Sparse.from_scipy(T))
    >>> x, info = cola.solve(A, np.ones(50), cola.CG(P=cola.IncompleteCholesky()), return_info=True)
    >>> info.iterations
    1
    """

    drop_tol: float = 0.0
    shift: float = 1e-3

    def build(self, A: LinearOperator) -> LinearOperator:
        return self._built(A)[0]

    def shift_used(self, A: LinearOperator) -> float:
        """The multiple of the diagonal that had to be added: 0 where every pivot was positive."""
        return self._built(A)[1]

    def _built(self, A: LinearOperator) -> tuple[LinearOperator, float]:
        from scipy.sparse import csr_array, diags_array

        on_host(A, "IncompleteCholesky")
        n = A.shape[-1]
        if not n:
            return Identity.like(A), 0.0
        S = sparse_entries(A, "IncompleteCholesky")
        d = S.diagonal().real
        if not (d > 0).all():
            raise NotPositiveDefiniteError(
                f"IncompleteCholesky: {A!r} has the diagonal entry {d.min():.3g}; a positive definite matrix "
                "has positive ones."
            )
        scale = 1 / np.sqrt(d)
        unit = csr_array(diags_array(scale) @ S @ diags_array(scale))
        a = 0.0
        for _ in range(RETRIES):
            moved = unit if a == 0 else csr_array(unit + a * diags_array(np.ones(n)))
            try:
                L = no_fill(moved) if self.drop_tol == 0 else with_drops(moved, float(self.drop_tol))
                break
            except Breakdown:
                a = self.shift if a == 0 else 2 * a
        else:
            raise NotPositiveDefiniteError(
                f"IncompleteCholesky: a pivot of {A!r} is not positive even with {a / 2:.3g} times the "
                "diagonal added. Is the operator positive definite? For others use IncompleteLU()."
            )
        be = A._concrete_backend()
        data = be.asarray(L.data.astype(S.dtype, copy=False), A.dtype, A.device)
        rows = np.repeat(np.arange(n), np.diff(L.indptr))
        lower = Sparse(data, rows, L.indices, (n, n))
        outer = Diagonal(be.asarray(scale, A.dtype, A.device), declared=frozenset({PSD}))
        inverse = Inverse(lower, SparseLU())
        upper = Inverse(lower.H, SparseLU())
        return Product(outer, upper, inverse, outer, declared=frozenset({PSD})), a

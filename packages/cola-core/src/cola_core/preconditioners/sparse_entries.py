"""The entries of an operator as one SciPy matrix, for preconditioners that read a pattern."""

from __future__ import annotations

from typing import Any

from ..errors import NonFiniteError
from ..operators import (
    Banded,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    NoDispatch,
    Product,
    ScalarMul,
    Sparse,
    Sum,
    Tridiagonal,
    split_scalar,
)

__all__ = ["sparse_entries"]


def sparse_entries(A: LinearOperator, who: str) -> Any:
    """A ``scipy.sparse.csr_array`` of Sparse, banded, diagonal and dense operators, and of their sums,
    multiples and Kronecker products and sums; entries of other libraries are copied to the host."""
    import numpy as np
    from scipy.sparse import csr_array

    found = _entries(A, A)
    if found is None:
        raise NotImplementedError(
            f"{who} reads the entries of a sparse matrix, and {A!r} is known by its products. Assemble it "
            "(ops.Sparse.from_scipy(S)), or take a preconditioner of products only: Jacobi(), Nystrom()."
        )
    out = csr_array(found)
    out.sum_duplicates()
    if not np.isfinite(out.data).all():
        raise NonFiniteError(f"{who}: {A!r} contains NaN or infinity.")
    return out


def _entries(A: Any, like: LinearOperator) -> Any:
    import numpy as np
    import scipy.sparse as sp

    be = like._concrete_backend()
    dtype = be.to_numpy(be.zeros((1,), like.dtype)).dtype
    if isinstance(A, NoDispatch):
        return _entries(A.A, like)
    if isinstance(A, Sparse):
        return A.to_scipy()
    if isinstance(A, Identity):
        return sp.eye_array(A.n, dtype=dtype, format="csr")
    if isinstance(A, ScalarMul):
        c = A.c if isinstance(A.c, (int, float, complex)) else be.to_numpy(A.c)
        return c * sp.eye_array(A.n, dtype=dtype, format="csr")
    if isinstance(A, Diagonal):
        return sp.diags_array(be.to_numpy(A.diag)).tocsr()
    if isinstance(A, (Banded, Tridiagonal)):
        m, n = A.shape
        bands = {k: be.to_numpy(d) for k, d in A._diagonals().items() if -m < k < n}
        return sp.diags_array(list(bands.values()), offsets=list(bands), shape=(m, n)).tocsr()
    if isinstance(A, Dense):
        return sp.csr_array(be.to_numpy(A.array))
    if isinstance(A, Product):
        scalar, rest = split_scalar(A)
        part = None if scalar is None else _entries(rest, like)
        if part is None or scalar is None:
            return None
        return (scalar.c if isinstance(scalar.c, (int, float, complex)) else be.to_numpy(scalar.c)) * part
    if not isinstance(A, (Sum, Kronecker, KronSum)):
        return None
    parts = [_entries(M, like) for M in A.Ms]
    if any(p is None for p in parts):
        return None
    out = parts[0]
    for p in parts[1:]:
        if isinstance(A, Sum):
            out = out + p
        elif isinstance(A, Kronecker):
            out = sp.kron(out, p)
        else:
            left, right = (sp.eye_array(x.shape[0], dtype=np.float32) for x in (out, p))
            out = sp.kron(out, right) + sp.kron(left, p)
    return out

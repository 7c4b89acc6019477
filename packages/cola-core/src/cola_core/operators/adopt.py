"""``parts(A)``: the parts of a composition with identities,
numbers and permutations placed where the others live.

Written by themselves such parts have no array library, precision or device and adopt their partner's in
products. Asked for numbers (a diagonal, eigenvalues) on their own they could only answer in NumPy's double
precision, and a float32 composition on a GPU would come back as float64 on the host; so rules ask the placed
parts.
"""

from __future__ import annotations

from typing import Any

from ..backends import backend_of_type
from ..backends.base import dtype_name
from .base import LinearOperator
from .diagonal import Identity, ScalarMul
from .permutation import Permutation
from .transforms import OrthonormalTransform
from .zero import Zero

__all__ = ["adopted", "parts"]


def parts(A: Any) -> tuple[LinearOperator, ...]:
    """``A.Ms``, each with A's library, dtype and device where it has none of its own."""
    return tuple(adopted(M, A) for M in A.Ms)


def adopted(M: LinearOperator, A: LinearOperator) -> LinearOperator:
    """``M`` as a part of ``A``; operators that know their dtype are returned as they are."""
    if (M._dtype() is not None and M.backend is not None) or A._dtype() is None:
        return M
    if isinstance(M, Identity):
        if M.dtype_name is not None and M.library is not None:
            return M
        library = None if A.backend is None else A.backend.name
        dtype = A.dtype if M.dtype_name is None else M.dtype_name
        return Identity(M.n, dtype, backend=library, device=A.device, declared=M.declared)
    if isinstance(M, Zero):
        dtype = A.dtype if M.dtype_name is None else M.dtype_name
        library = A.backend.name if M.library is None and A.backend is not None else M.library
        return M.replace(dtype_name=dtype_name(dtype), library=library, place=A.device)
    if isinstance(M, ScalarMul):
        if backend_of_type(type(M.c)) is not None or A.backend is None:
            return M
        be = A._concrete_backend()
        value = be.asarray(M.c, dtype=A.dtype, device=A.device)
        return ScalarMul(value, M.n, declared=M.declared)  # what is known of the number stays known
    if isinstance(M, OrthonormalTransform):
        be = A._concrete_backend()
        real = dtype_name(be.real_dtype(A.dtype)) if M.dtype_name is None else M.dtype_name
        library = None if A.backend is None else A.backend.name
        return M.replace(dtype_name=real, library=M.library or library, place=A.device)
    if isinstance(M, Permutation):
        return M.replace(entries=dtype_name(A.dtype))
    if "Ms" in M.__dict__:
        return M.replace(Ms=tuple(adopted(P, A) for P in M.__dict__["Ms"]), declared=M.properties)
    if isinstance(M.__dict__.get("A"), LinearOperator):
        return M.replace(A=adopted(M.__dict__["A"], A), declared=M.properties)
    return M

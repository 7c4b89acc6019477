"""Operators of the ``linear_operator`` package (GPyTorch), structure for structure where both have it.

That package assumes positive definite operators in its solves without saying so; here nothing is assumed.
What a class of theirs means by construction (a root ``R R^T``, an added diagonal) is kept; declare ``PSD(A)``
for what you know beyond it. Its transposes do not conjugate, and neither do the roots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array, dtype_name
from ..errors import BackendError
from ..operators import (
    Concatenated,
    Dense,
    Diagonal,
    HadamardProduct,
    Identity,
    Interpolated,
    Kronecker,
    LinearOperator,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sum,
    Toeplitz,
    Triangular,
    Zero,
    block_diag,
    kron,
    operator,
    parts,
    static,
)

__all__ = ["TorchLinearOperator", "read", "write"]


@operator
class TorchLinearOperator(LinearOperator):
    """An operator of theirs without a counterpart here: its tensors, and how to put it together again.

    The tensors are children, so that gradients reach them.
    """

    leaves: tuple[Array, ...]
    structure: Any = static()
    size: tuple[int, ...] = static()

    def _shape(self) -> tuple[int, ...]:
        return self.size

    def restored(self) -> Any:
        """The operator of theirs."""
        return self.structure(*self.leaves)

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if backend not in (None, "torch", "abstract"):
            raise BackendError(f"{self!r} belongs to PyTorch and cannot be moved to {backend}.")
        return self

    def _through(self, X: Array, transposed: bool) -> Array:
        be = self._concrete_backend()
        m, n = self.size[-2:]
        if be.name == "abstract":
            return be.zeros((*X.shape[:-2], n if transposed else m, X.shape[-1]), self.dtype)
        if be.is_complex(X) and not self._is_complex():  # their products are real: one for each part
            real, imaginary = (self._through(part, transposed) for part in (X.real, X.imag))
            return real + 1j * imaginary
        op = self.restored()
        return (op.mT if transposed else op) @ be.astype(X, self.dtype).contiguous()

    def _matmat(self, X: Array) -> Array:
        return self._through(X, transposed=False)

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.conj(self._through(be.conj(X), transposed=True))


def read(op: Any) -> LinearOperator:
    """An operator of theirs as one of ours."""
    for cls in type(op).__mro__:
        reader = _READERS.get(cls.__name__)
        if reader is not None and cls.__module__.startswith(("linear_operator.", "cola_core.")):
            found = reader(op)
            if found is not None:
                return found
    return TorchLinearOperator(op.representation(), op.representation_tree(), tuple(op.shape))


def _part(x: Any) -> LinearOperator:
    import torch

    return Dense(x) if isinstance(x, torch.Tensor) else read(x)


def _parts(op: Any) -> list[LinearOperator]:
    return [_part(x) for x in op.linear_ops]


def _root(op: Any) -> LinearOperator | None:
    root = _part(op.root)
    if "complex" in dtype_name(root.dtype):
        return None
    return LowRank(root.array) if isinstance(root, Dense) else root @ root.H


def _triangular(op: Any) -> LinearOperator:
    return Triangular(op._tensor.to_dense(), not op.upper)


def _toeplitz(op: Any) -> LinearOperator | None:
    return Toeplitz(op.column) if not op.batch_shape else None


def _block_diagonal(op: Any) -> LinearOperator | None:
    base = op.base_linear_op
    if op.batch_shape or len(base.batch_shape) != 1:
        return None
    dense = base.to_dense()
    return block_diag(*(Dense(dense[i]) for i in range(dense.shape[0])))


def _scaled(op: Any) -> LinearOperator:
    return op._constant * read(op.base_linear_op)


def _identity(op: Any) -> LinearOperator | None:
    if op.batch_shape:
        return None
    return Identity(op.diag_shape, dtype_name(op.dtype), backend="torch", device=op.device)


def _zero(op: Any) -> LinearOperator | None:
    if op.batch_shape:
        return None
    return Zero(tuple(op.shape), dtype=op.dtype, backend="torch", device=op.device)


def _hadamard(op: Any) -> LinearOperator:
    """Their constructor has replaced both factors by roots, of which the product is then made."""
    return HadamardProduct(read(op.left_linear_op), read(op.right_linear_op))


def _concatenated(op: Any) -> LinearOperator | None:
    if op.cat_dim not in (-1, -2) or len({M.device for M in op.linear_ops}) > 1:
        return None
    return Concatenated(*_parts(op), axis=op.cat_dim)


def _interpolated(op: Any) -> LinearOperator | None:
    import torch

    left = op.left_interp_indices, op.left_interp_values
    right = op.right_interp_indices, op.right_interp_values
    if any(x.is_complex() for x in (left[1], right[1])):  # their right weights are not conjugated
        return None
    same = all(
        x is y or (not y.requires_grad and torch.equal(x, y)) for x, y in zip(left, right, strict=True)
    )
    return Interpolated(read(op.base_linear_op), *left, *(() if same else right))


def _masked(op: Any) -> LinearOperator:
    rows = op.row_mask.nonzero()[:, 0]
    cols = rows if op.row_eq_col_mask else op.col_mask.nonzero()[:, 0]
    return read(op.base)[rows, cols]


def _sum(op: Any) -> LinearOperator:
    parts = _parts(op)
    out = parts[0]
    for part in parts[1:]:
        out = out + part
    return out


_READERS: dict[str, Callable[[Any], LinearOperator | None]] = {
    "ColaLinearOperator": lambda op: op.ours(),
    "DenseLinearOperator": lambda op: Dense(op.tensor),
    "IdentityLinearOperator": _identity,
    "DiagLinearOperator": lambda op: Diagonal(op._diagonal()),
    "TriangularLinearOperator": _triangular,
    "CatLinearOperator": _concatenated,
    "InterpolatedLinearOperator": _interpolated,
    "MaskedLinearOperator": _masked,
    "MulLinearOperator": _hadamard,
    "KroneckerProductLinearOperator": lambda op: kron(*_parts(op)),
    "SumLinearOperator": _sum,
    "MatmulLinearOperator": lambda op: read(op.left_linear_op) @ read(op.right_linear_op),
    "ConstantMulLinearOperator": _scaled,
    "RootLinearOperator": _root,
    "BlockDiagLinearOperator": _block_diagonal,
    "ToeplitzLinearOperator": _toeplitz,
    "ZeroLinearOperator": _zero,
    "PermutationLinearOperator": lambda op: Permutation(op.perm, op.dtype) if not op.batch_shape else None,
}


def write(A: LinearOperator) -> Any:
    """One of ours as one of theirs. Operators of PyTorch tensors only."""
    import torch
    from linear_operator import operators as theirs

    if A.backend is None:
        raise BackendError(
            f"{A!r} holds no tensors, and theirs need some: make it of tensors (ops.Diagonal(torch.ones(n)))."
        )
    if A.backend.name != "torch":
        raise BackendError(f"{A!r} holds {A.backend.name} arrays: to_linear_operator(A.to(backend='torch')).")
    if isinstance(A, TorchLinearOperator):
        return A.restored()
    if isinstance(A, Dense):
        return theirs.DenseLinearOperator(A.array)
    if isinstance(A, Diagonal):
        return theirs.DiagLinearOperator(A.diag)
    if isinstance(A, ScalarMul) and not A.batch_shape:
        return theirs.ConstantDiagLinearOperator(A.c.reshape(1), A.n)
    if isinstance(A, Identity):
        return theirs.IdentityLinearOperator(A.n, dtype=A.dtype, device=A.device)
    if isinstance(A, Triangular) and not A.unit:
        return theirs.TriangularLinearOperator(A._to_dense(), upper=not A.lower)
    if isinstance(A, LowRank) and A.V is None and not A._is_complex():
        return theirs.LowRankRootLinearOperator(A.U)
    if isinstance(A, (Kronecker, Sum)):
        Ms = parts(A)  # numbers and identities bound to the others' dtype and device
        if all(M.backend is not None for M in Ms):
            if isinstance(A, Sum):
                return theirs.SumLinearOperator(*map(write, Ms))
            return theirs.KroneckerProductLinearOperator(*map(write, Ms))
    if isinstance(A, Product) and len(A.Ms) == 2 and isinstance(A.Ms[0], ScalarMul) and not A.batch_shape:
        c = A.Ms[0].c
        c = c if isinstance(c, torch.Tensor) else torch.as_tensor(c, dtype=A.dtype, device=A.device)
        return theirs.ConstantMulLinearOperator(write(A.Ms[1]), c)
    return _wrapper()(*_tensors(A), original=_Structure(A))


def _tensors(A: LinearOperator) -> tuple[Any, ...]:
    from ..pytree import tree_leaves

    return tuple(x for x in tree_leaves(A) if hasattr(x, "dtype"))


class _Structure:
    """Our operator without its tensors, which theirs keeps and hands back."""

    def __init__(self, A: LinearOperator) -> None:
        from ..pytree import map_leaves

        self.shape, self.dtype, self.device = A.shape, A.dtype, A.device
        self.skeleton = map_leaves(lambda x: _HOLE if hasattr(x, "dtype") else x, A)

    def __call__(self, *tensors: Any) -> LinearOperator:
        from ..pytree import map_leaves

        supply = iter(tensors)
        return map_leaves(lambda x: next(supply) if x is _HOLE else x, self.skeleton)


_HOLE = object()
_WRAPPER: list[Any] = []


def _wrapper() -> Any:
    """The class of theirs that multiplies through an operator of ours; made when the package is imported."""
    if _WRAPPER:
        return _WRAPPER[0]
    import torch
    from linear_operator import LinearOperator as Theirs

    class ColaLinearOperator(Theirs):
        def __init__(self, *tensors: Any, original: Any) -> None:
            super().__init__(*tensors, original=original)
            self._tensors, self._original = tensors, original

        def ours(self) -> LinearOperator:
            return self._original(*self._tensors)

        def _size(self) -> Any:
            return torch.Size(self._original.shape)

        @property
        def dtype(self) -> Any:
            return self._original.dtype

        @property
        def device(self) -> Any:
            return self._original.device

        def _matmul(self, rhs: Any) -> Any:
            return self.ours() @ rhs

        def _t_matmul(self, rhs: Any) -> Any:
            return self.ours().T @ rhs

        def _transpose_nonbatch(self) -> Any:
            A = self.ours().T
            return ColaLinearOperator(*_tensors(A), original=_Structure(A))

    _WRAPPER.append(ColaLinearOperator)
    return ColaLinearOperator

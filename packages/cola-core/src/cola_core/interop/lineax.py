"""lineax operators: structure and tags in and out; anything else through its ``mv``.

lineax maps trees of vectors to trees of vectors; here they are flattened (``jax.flatten_util.ravel_pytree``),
real trees only into real vectors. Its ``T`` is the transpose without conjugation, and its "symmetric" says
``A == A.T``: that is ``SelfAdjoint`` for real operators and says nothing about complex ones.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, dtype_name
from ..errors import BackendError, DTypeError, ShapeError
from ..operators import Dense, Diagonal, Identity, LinearOperator, Triangular, operator, static
from ..properties import PSD, Property, SelfAdjoint

__all__ = ["Lineax", "read", "write"]


@operator
class Lineax(LinearOperator):
    """A lineax operator without a counterpart here: its arrays, and how to put it together again.

    The arrays are children, so that ``jax.jit`` and ``jax.grad`` see them.
    """

    leaves: tuple[Array, ...]
    structure: Any = static()
    size: tuple[int, int] = static()
    entries: str = static()

    def _shape(self) -> tuple[int, ...]:
        return self.size

    def _dtype(self) -> Any:
        return self.entries

    @property
    def backend(self) -> Any:  # type: ignore[override]
        from ..backends import backend_of_type, get_backend

        for leaf in self.leaves:  # placeholders while planning
            be = backend_of_type(type(leaf))
            if be is not None and be.name == "abstract":
                return be
        return get_backend("jax")

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if backend not in (None, "jax", "abstract"):
            raise BackendError(f"{self!r} is a lineax operator and cannot be moved to {backend}.")
        if dtype is not None and dtype_name(dtype) != self.entries:
            raise DTypeError(f"{self!r} belongs to lineax: change the dtype there, before as_operator.")
        return self

    def restored(self) -> Any:
        """The lineax operator."""
        import jax

        treedef, fixed = self.structure
        arrays = iter(self.leaves)
        return jax.tree_util.tree_unflatten(treedef, [next(arrays) if x is None else x for x in fixed])

    def _through(self, op: Any, X: Array, rows: int) -> Array:
        import jax

        be = self.backend
        if be.name == "abstract":
            return be.zeros((*X.shape[:-2], rows, X.shape[-1]), self.dtype)
        if be.is_complex(X) and "complex" not in self.entries:  # a real operator: one product for each part
            return self._through(op, X.real, rows) + 1j * self._through(op, X.imag, rows)
        unravel = jax.flatten_util.ravel_pytree(_zeros(op.in_structure()))[1]

        def one(x: Any) -> Any:
            return jax.flatten_util.ravel_pytree(op.mv(unravel(x.astype(self.entries))))[0]

        product = jax.vmap(one, in_axes=-1, out_axes=-1)
        for _ in X.shape[:-2]:
            product = jax.vmap(product)
        return product(X)

    def _matmat(self, X: Array) -> Array:
        return self._through(self.restored(), X, self.size[0])

    def _rmatmat(self, X: Array) -> Array:
        be = self.backend
        if be.name == "abstract":
            return be.zeros((*X.shape[:-2], self.size[1], X.shape[-1]), self.dtype)
        return be.conj(self._through(self.restored().transpose(), be.conj(X), self.size[1]))


def _zeros(structure: Any) -> Any:
    import jax

    return jax.tree_util.tree_map(lambda s: jax.numpy.zeros(s.shape, s.dtype), structure)


def read(op: Any) -> LinearOperator:
    """A lineax operator as one of ours, with the properties its tags claim."""
    import lineax

    A = _read(op)
    complex_entries = A._is_complex()
    known: set[Property] = set()
    if A.is_square:
        if lineax.is_positive_semidefinite(op):
            known.add(PSD)
        elif lineax.is_symmetric(op) and not complex_entries:
            known.add(SelfAdjoint)
    new = frozenset(known) - A.properties
    return A.replace(declared=A.declared | new) if new else A


def _read(op: Any) -> LinearOperator:
    import jax
    import lineax

    kind = type(op).__name__
    if kind == "TaggedLinearOperator":
        return read(op.operator)
    if kind == "MatrixLinearOperator":
        if lineax.is_diagonal(op):
            return Diagonal(lineax.diagonal(op))
        for question, lower in ((lineax.is_lower_triangular, True), (lineax.is_upper_triangular, False)):
            if question(op) and op.matrix.shape[-1] == op.matrix.shape[-2]:
                return Triangular(op.matrix, lower, bool(lineax.has_unit_diagonal(op)))
        return Dense(op.matrix)
    if kind == "DiagonalLinearOperator":
        return Diagonal(jax.flatten_util.ravel_pytree(op.diagonal)[0])
    if kind == "TridiagonalLinearOperator":
        from .. import ops

        if hasattr(ops, "Tridiagonal"):
            return ops.Tridiagonal(op.lower_diagonal, op.diagonal, op.upper_diagonal)
    if kind == "IdentityLinearOperator" and op.in_size() == op.out_size():
        return Identity(op.in_size(), _dtype(op), backend="jax")
    if kind == "AddLinearOperator":
        return read(op.operator1) + read(op.operator2)
    if kind == "ComposedLinearOperator":
        return read(op.operator1) @ read(op.operator2)
    if kind == "MulLinearOperator":
        return op.scalar * read(op.operator)
    if kind == "DivLinearOperator":
        return read(op.operator) / op.scalar
    if kind == "NegLinearOperator":
        return -read(op.operator)
    leaves, treedef = jax.tree_util.tree_flatten(op)
    arrays = tuple(x for x in leaves if isinstance(x, jax.Array))
    fixed = tuple(None if isinstance(x, jax.Array) else x for x in leaves)  # functions, jaxprs
    return Lineax(arrays, (treedef, fixed), (op.out_size(), op.in_size()), _dtype(op))


def _dtype(op: Any) -> str:
    import jax

    parts = jax.tree_util.tree_leaves((op.in_structure(), op.out_structure()))
    return str(jax.numpy.result_type(*(p.dtype for p in parts)))


def write(A: LinearOperator) -> Any:
    """One of ours as a lineax operator on vectors, with tags. Operators of JAX arrays only."""
    import jax
    import lineax

    if A.batch_shape:
        raise ShapeError(f"lineax has no batches (use jax.vmap); {A!r} has batch shape {A.batch_shape}.")
    if A.backend is not None and A.backend.name != "jax":
        raise BackendError(
            f"{A!r} holds {A.backend.name} arrays; lineax needs JAX: to_lineax(A.to(backend='jax'))."
        )
    if isinstance(A, Lineax):
        return A.restored()
    if isinstance(A, Dense):
        return lineax.MatrixLinearOperator(A.array, _tags(A))
    if isinstance(A, Diagonal):
        return lineax.DiagonalLinearOperator(A.diag)
    vector = jax.ShapeDtypeStruct((A.shape[-1],), A.dtype)
    if isinstance(A, Identity):
        return lineax.IdentityLinearOperator(vector)
    return lineax.FunctionLinearOperator(A._matvec, vector, _tags(A))


def _tags(A: LinearOperator) -> tuple[Any, ...]:
    import lineax

    tags = [lineax.positive_semidefinite_tag] if A.isa(PSD) else []
    if A.isa(SelfAdjoint) and not A._is_complex():
        tags.append(lineax.symmetric_tag)
    if isinstance(A, Triangular):
        tags.append(lineax.lower_triangular_tag if A.lower else lineax.upper_triangular_tag)
        if A.unit:
            tags.append(lineax.unit_diagonal_tag)
    return tuple(tags)

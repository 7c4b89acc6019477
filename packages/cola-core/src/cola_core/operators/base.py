"""``LinearOperator``: a matrix known by what it does to vectors.

A subclass gives ``_shape`` and ``_matmat`` and as much structure as it has; the rest is derived. Shapes are
``(*batch, m, n)``; right-hand sides follow ``numpy.matmul``: one axis is a vector, two or more are (stacks
of) matrices, and batches broadcast. Public methods validate, underscore methods compute. Operators never
import the questions asked of them (``cola_core.linalg``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

from ..backends import Backend, backend_of_type, get_backend
from ..backends.base import Array, dtype_name
from ..backends.exchange import exchange
from ..cost import Cost
from ..errors import BackendError, DeviceError, DTypeError, MemoryBudgetError, ShapeError
from ..interop import library_of
from ..properties import Property, SelfAdjoint, closure
from ..pytree import cached, map_leaves, pending, register_pytrees, tree_leaves, unflatten
from .communication import leaf_product
from .protocols import TorchFunction, array_function, array_ufunc, torch_function

__all__ = ["LinearOperator"]

_OF_TENSORS = frozenset({"requires_grad", "requires_grad_", "grad", "backward"})
MAX_DENSE_BYTES = 2**33  # to_dense() refuses above this unless told otherwise


@dataclass(frozen=True, eq=False, repr=False)
class LinearOperator:
    """An ``m x n`` matrix (or a batch of them) as an immutable pytree.

    declared: properties claimed by the user on top of what the structure implies
    (see ``cola_core.properties``).
    """

    declared: frozenset[Property] = field(default=frozenset(), kw_only=True, metadata={"static": True})

    _child_fields: ClassVar[tuple[str, ...]] = ()
    _static_fields: ClassVar[tuple[str, ...]] = ("declared",)
    __array_priority__ = 1000

    def __init__(
        self,
        dtype: Any = None,
        shape: tuple[int, int] | None = None,
        matmat: Any = None,
        *,
        annotations: Any = (),
        backend: str | None = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        """``LinearOperator(dtype, shape, matmat)`` is a ``FunctionOperator``: the matrix that the function
        ``matmat`` of arrays (n, k) multiplies with. Subclasses are dataclasses of their own."""
        if type(self) is not LinearOperator:
            if dtype is not None or shape is not None or matmat is not None:
                raise TypeError(f"{type(self).__name__} has no fields; it takes declared= only.")
            object.__setattr__(self, "declared", declared)
            self.__post_init__()
            return
        if dtype is None or shape is None or matmat is None:
            raise TypeError(
                "LinearOperator(dtype, shape, matmat) needs all three; for an operator with data of its own "
                "make a subclass with @cola_core.ops.operator."
            )
        from .function import FunctionOperator

        if backend is None:
            owner = getattr(dtype, "__module__", None) or type(dtype).__module__
            backend = next((b for b in ("torch", "jax") if str(owner).partition(".")[0] == b), "numpy")
        object.__setattr__(self, "__class__", FunctionOperator)
        made: Any = self
        FunctionOperator.__init__(
            made,
            None,
            shape,
            dtype,
            matmat=matmat,
            backend=backend,
            declared=declared | frozenset(annotations),
        )

    def __post_init__(self) -> None:
        self._check()
        if pending():
            register_pytrees()

    # -- what a subclass provides ----------------------------------------------------------------------------
    def _shape(self) -> tuple[int, ...]:
        raise NotImplementedError(f"{type(self).__name__} must define _shape()")

    def _matmat(self, X: Array) -> Array:
        """``A @ X`` for X of shape (*batch', n, k)."""
        raise NotImplementedError(f"{type(self).__name__} must define _matmat(X)")

    def _rmatmat(self, X: Array) -> Array:
        """``A.H @ X`` for X of shape (*batch', m, k)."""
        if SelfAdjoint in self.properties:
            return self._matmat(X)
        if type(self)._adjoint is not LinearOperator._adjoint:
            return self._adjoint()._matmat(X)
        raise NotImplementedError(
            f"{type(self).__name__} has no adjoint product: define _rmatmat(X) or _adjoint(), or declare "
            "SelfAdjoint(A) if it is."
        )

    def _check(self) -> None:
        """Validate and normalise the fields at construction."""

    def _dtype(self) -> Any:
        """The dtype as a backend dtype, or None for operators that adopt their
        partner's (Identity, scalars)."""
        found: Any = None
        for child in self._parts():
            dtype = child._dtype() if isinstance(child, LinearOperator) else getattr(child, "dtype", None)
            if dtype is None or not _is_inexact(dtype):
                continue
            found = dtype if found is None else _promote(found, dtype, self)
        return found

    def _adopts_precision(self) -> bool:
        """Whether all that is complex here are Python numbers and the like, without a precision of their own.
        Index leaves have none either; entries have."""
        parts = [p for p in self._parts() if isinstance(p, LinearOperator) and p._dtype() is not None]
        if not parts or any(
            _is_inexact(p.dtype)
            for p in self._parts()
            if hasattr(p, "dtype") and not isinstance(p, LinearOperator)
        ):
            return False
        return all(p._adopts_precision() for p in parts)

    def _properties(self) -> frozenset[Property]:
        """Properties implied by structure (of the class and of the parts' properties)."""
        return frozenset()

    def _adjoint(self) -> LinearOperator:
        from .transpose import Adjoint

        return Adjoint(self)

    def _transpose(self) -> LinearOperator:
        from .transpose import Transpose

        return Transpose(self) if self._is_complex() else self.H

    def _conj(self) -> LinearOperator:
        return self._transpose()._adjoint() if self._is_complex() else self

    def _matvec(self, x: Array) -> Array:
        return self._matmat(x[:, None])[..., 0]

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        n = self.shape[-1]
        out = self._matmat(be.eye(n, self.dtype, self.device))
        want = self.shape
        return out if tuple(out.shape) == want else be.xp.broadcast_to(out, want)

    def _dense_like(self, whole: LinearOperator) -> Array:
        """The matrix as a part of ``whole``:
        parts without arrays (identities, numbers) adopt its library and dtype."""
        if self.backend is not None and self._dtype() is not None:
            return self._to_dense()
        be = whole._concrete_backend()
        return self._matmat(be.eye(self.shape[-1], whole.dtype, whole.device))

    def _matvec_cost(self) -> Cost:
        """Cost of one product with one vector;
        a user function is assumed to cost as much as a dense product."""
        m, n = self.shape[-2:]
        return Cost(2.0 * m * n, self.itemsize * (m * n + m + n), self.itemsize * (m + n), 1)

    def _sent(self, columns: float) -> float:
        """Bytes that a device receives from the others in a product with so many vectors, where the arrays
        are spread over devices (``operators.communication``): what the parts receive; of a leaf, all of the
        vectors."""
        parts = [p for p in self._parts() if isinstance(p, LinearOperator)]
        return sum(p._sent(columns) for p in parts) if parts else leaf_product(self, columns)

    def _dense_cost(self) -> Cost:
        """Cost of the entries: those of a structured operator are written once, others take n products."""
        size = float(self.itemsize) * math.prod(self.shape)
        if type(self)._to_dense is not LinearOperator._to_dense:
            return Cost(0.0, 2 * size, size, 0, 6)
        made = self.matmat_cost(self.shape[-1])
        return Cost(made.flops, made.bytes + 2 * size, size, made.matvecs, made.calls)

    def _compose(self, other: LinearOperator) -> Any:
        """Normal form of ``self @ other``, or NotImplemented."""
        return NotImplemented

    def _rcompose(self, other: LinearOperator) -> Any:
        """Normal form of ``other @ self``, or NotImplemented."""
        return NotImplemented

    def _plus(self, other: LinearOperator) -> Any:
        """Normal form of ``self + other``, or NotImplemented."""
        return NotImplemented

    def _rminus(self, other: LinearOperator) -> Any:
        """Normal form of ``other - self``, or NotImplemented."""
        return NotImplemented

    def _declared_down(self, prop: Property) -> LinearOperator:
        """The operator with what follows for its parts when ``prop`` is declared of the whole."""
        return self

    def _take(self, rows: Any, cols: Any, same: bool = False) -> Any:
        """Some rows and columns (index arrays, or None for all; same: one selection), or NotImplemented."""
        return NotImplemented

    def _times(self, c: Any) -> Any:
        """Normal form of ``c * self`` for a number or an array of batch shape, or NotImplemented.

        Without declared properties: the caller carries over those that survive.
        """
        return NotImplemented

    # -- facts -----------------------------------------------------------------------------------------------
    def _parts(self) -> tuple[Any, ...]:
        out: list[Any] = []
        for name in self._child_fields:
            value = self.__dict__[name]
            out.extend(value) if isinstance(value, tuple) else out.append(value)
        return tuple(out)

    @cached
    def shape(self) -> tuple[int, ...]:
        return tuple(map(int, self._shape()))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return self.shape[:-2]

    @cached
    def backend(self) -> Backend | None:
        """The array library of the leaves; None for operators without arrays, which adopt their partner's."""
        found: Backend | None = None
        for child in self._parts():
            be = child.backend if isinstance(child, LinearOperator) else backend_of_type(type(child))
            if be is None or be is found:
                continue
            if found is not None:
                raise BackendError(
                    f"{type(self).__name__} mixes {found.name} and {be.name} arrays. "
                    "Convert one part with .to(backend=...)."
                )
            found = be
        return found

    def _concrete_backend(self) -> Backend:
        return self.backend or get_backend("numpy")

    @property
    def xp(self) -> Any:
        """The array-API namespace of the leaves (NumPy's for operators without arrays)."""
        return self._concrete_backend().xp

    @cached
    def dtype(self) -> Any:
        dtype = self._dtype()
        be = self._concrete_backend()
        if dtype is not None and dtype_name(dtype) == "complex64" and self._adopts_precision():
            # only what adopts a partner's precision, and here there is no partner
            dtype = "complex128"
        return be.dtype(be.default_float if dtype is None else dtype)

    @cached
    def device(self) -> Any:
        for child in self._parts():
            if isinstance(child, LinearOperator):
                found = child.device
            else:
                be = backend_of_type(type(child))
                found = be.device(child) if be is not None else None
            if found is not None:
                return found
        return None

    @cached
    def itemsize(self) -> int:
        return {"float16": 2, "bfloat16": 2, "float32": 4, "complex64": 8, "complex128": 16}.get(
            dtype_name(self.dtype), 8
        )

    def _is_complex(self) -> bool:
        return "complex" in dtype_name(self.dtype)

    @cached
    def properties(self) -> frozenset[Property]:
        """Declared properties, those implied by structure, and all that follows from them."""
        return closure(self.declared | self._properties())

    @property
    def annotations(self) -> frozenset[Property]:
        """``properties``, under the name of the CoLA package."""
        return self.properties

    @property
    def xnp(self) -> Any:
        raise AttributeError(
            "A.xnp of cola-ml is not part of cola_core: A.xp is the array-API namespace of the leaves, "
            "A.backend what the standard lacks."
        )

    def flatten(self) -> tuple[list[Any], Any]:
        """The arrays of the operator, and a function that makes the operator from such a list again."""
        leaves = tree_leaves(self)

        def rebuilt(arrays: Any) -> Any:
            arrays = iter(arrays)
            return map_leaves(lambda _: next(arrays), self)

        return leaves, rebuilt

    def isa(self, prop: Property) -> bool:
        """Whether the property is declared or implied by structure."""
        return prop in self.properties

    @property
    def is_square(self) -> bool:
        return self.shape[-1] == self.shape[-2]

    @property
    def matvec_cost(self) -> Cost:
        """Estimated cost of ``A @ v`` for one vector (one for each matrix of a batch)."""
        return self._placed(self._over_batch(self._matvec_cost()), 1)

    def _placed(self, cost: Cost, columns: float) -> Cost:
        """The cost with what is sent between devices."""
        if cost.moved or not self._sends():
            return cost
        return replace(cost, moved=self._sent(columns))

    def _sends(self) -> bool:
        """Whether a product sends anything between devices; kept, as every estimate asks."""
        known = self.__dict__.get("_sending")
        if known is None:
            host = self.backend is None or self.backend.name == "numpy"
            self.__dict__["_sending"] = known = not host and self._sent(1) > 0
            if not known and not host:  # an operator may state it with its cost only
                self.__dict__["_sending"] = known = self._matvec_cost().moved > 0
        return known

    def _over_batch(self, one: Cost) -> Cost:
        """The cost of a leaf for its whole batch; the parts of a composition count theirs."""
        batch = math.prod(self.shape[:-2])
        if batch == 1:
            return one
        for name in self._child_fields:
            part = self.__dict__[name]
            if isinstance(part, LinearOperator) or isinstance(part, tuple):
                return one
        return Cost(one.flops * batch, one.bytes * batch, one.memory * batch, one.matvecs, one.calls)

    def matmat_cost(self, k: float) -> Cost:
        """Estimated cost of ``A @ X`` for k columns at once: the operator's own data are read only once."""
        one = self._matvec_cost()
        more = (k - 1) * self._column_bytes(one)
        made = Cost(one.flops * k, one.bytes + more, one.memory * k, k, one.calls)
        return self._placed(self._over_batch(made), k)

    def _column_bytes(self, one: Cost) -> float:
        """Bytes moved for each column but the first, whose product costs ``one``: a column in and a column
        out, unless the product makes more passes over them."""
        return self.itemsize * (self.shape[-1] + self.shape[-2])

    @property
    def dense_cost(self) -> Cost:
        """Estimated cost of ``to_dense()``; nothing where the entries are at hand."""
        return self._dense_cost()

    # -- products --------------------------------------------------------------------------------------------
    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, LinearOperator):
            from .algebra import matmul

            return matmul(self, other)
        return self._apply(other)

    def _apply(self, X: Any) -> Array:
        be = backend_of_type(type(X))
        mine = self.backend
        if be is not mine or be is None:
            if be is None and library_of(X) is not None:
                from .algebra import as_operator, matmul

                return matmul(self, as_operator(X))
            self._reject_operand(X, be)
        if be is not None and be.opens and (opened := be.door(self, X)) is not None:
            with opened:
                return self._apply(X)
        shape = X.shape
        n = self.shape[-1]
        if len(shape) == 1:
            if shape[0] != n:
                self._reject_shape(X)
            if self.device is not None:
                self._check_device(X)
            return self._matvec(X)
        if len(shape) == 0 or shape[-2] != n:
            self._reject_shape(X)
        if self.device is not None:
            self._check_device(X)
        return self._matmat(X)

    def _reject_operand(self, X: Any, be: Backend | None) -> None:
        if be is None:
            raise BackendError(
                f"{self!r} @ {type(X).__name__}: the right side must be an array of "
                f"{self.backend.name if self.backend else 'a known library'}; "
                "convert it (numpy.asarray, torch.as_tensor, jax.numpy.asarray)."
            )
        if self.backend is not None:
            raise BackendError(
                f"{self!r} holds {self.backend.name} arrays, the right side {tuple(X.shape)} is {be.name}. "
                f"Convert the operator with A.to(backend={be.name!r}) or the array to {self.backend.name}."
            )

    def _reject_shape(self, X: Any) -> None:
        m, n = self.shape[-2:]
        if len(X.shape) == 0:
            raise ShapeError(f"{self!r} @ scalar: use * to scale an operator.")
        axis = "last axis" if len(X.shape) == 1 else "second to last axis"
        raise ShapeError(
            f"{self!r} of shape {self.shape} cannot multiply an array of shape {tuple(X.shape)}: "
            f"its {axis} must be {n}. Did you mean A.H @ x ({m} rows) or x.T?"
        )

    def _check_device(self, X: Any) -> None:
        be = backend_of_type(type(X))
        theirs = be.device(X) if be is not None else None
        if theirs is not None and self.device != theirs and be is not None and be.name == "torch":
            raise DeviceError(
                f"{self!r} lives on {self.device}, the right side on {theirs}. Move one with .to(device=...)."
            )

    def __rmatmul__(self, other: Any) -> Any:
        be = backend_of_type(type(other))
        if be is None:
            if library_of(other) is not None:
                from .algebra import as_operator, matmul

                return matmul(as_operator(other), self)
            self._reject_operand(other, be)
        if self.backend is not None and be is not self.backend:
            self._reject_operand(other, be)
        if be is not None and be.opens and (opened := be.door(self, other)) is not None:
            with opened:
                return self.__rmatmul__(other)
        n = self.shape[-2]
        if len(other.shape) == 0 or other.shape[-1] != n:
            raise ShapeError(
                f"an array of shape {tuple(other.shape)} cannot multiply {self!r} of shape {self.shape} "
                f"from the left: its last axis must be {n}."
            )
        if len(other.shape) == 1:
            return be.conj(self._rmatmat(be.conj(other)[:, None])[..., 0])  # type: ignore[union-attr]
        return be.adjoint(self._rmatmat(be.adjoint(other)))  # type: ignore[union-attr]

    def apply(self, X: Any, *, return_info: bool = False, on_failure: str = "warn") -> Any:
        """``A @ X``; with return_info also the ``Info`` of what had to be computed for it (the solve behind
        ``inv(A)``, the iteration behind ``exp(A)``). on_failure: what a missed tolerance in there does,
        "warn", "raise" or "ignore"."""
        from ..dispatch.question import reporting

        return reporting("product", self, lambda: self._apply(X), return_info, on_failure, stacklevel=4)

    # SciPy's names, so that its solvers take an operator of NumPy arrays as it is (aslinearoperator)
    def matvec(self, x: Array) -> Array:
        """``A @ x``."""
        return self @ x

    def matmat(self, X: Array) -> Array:
        """``A @ X``."""
        return self @ X

    def rmatvec(self, x: Array) -> Array:
        """``A.H @ x``."""
        return self.H @ x

    def rmatmat(self, X: Array) -> Array:
        """``A.H @ X``."""
        return self.H @ X

    # -- arithmetic ------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Any:
        from .algebra import add, coerce

        other = coerce(other, self)
        return other if other is NotImplemented else add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        from .algebra import add, coerce, scale

        other = coerce(other, self)
        return other if other is NotImplemented else add(self, scale(-1, other))

    def __rsub__(self, other: Any) -> Any:
        from .algebra import add, coerce, scale

        other = coerce(other, self)
        return other if other is NotImplemented else add(other, scale(-1, self))

    def __mul__(self, c: Any) -> Any:
        from .algebra import is_scalar, scale

        if isinstance(c, LinearOperator):
            raise TypeError(
                f"{self!r} * {c!r}: use @ for the product of operators; * only scales by a number."
            )
        if not is_scalar(c, self):
            self._reject_factor(c, "*")
            return NotImplemented
        return scale(c, self)

    def _reject_factor(self, c: Any, sign: str) -> None:
        if backend_of_type(type(c)) is not None:
            raise TypeError(
                f"{self!r} {sign} an array of shape {tuple(c.shape)}: an operator is scaled by a number "
                "(or one per matrix of its batch). Use @ for the matrix product."
            )

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> Any:
        from .algebra import is_scalar, scale

        if not is_scalar(c, self):
            self._reject_factor(c, "/")
            return NotImplemented
        # a Python zero raises ZeroDivisionError here, at the place of the mistake
        return scale(1 / c, self)

    def __rtruediv__(self, c: Any) -> Any:
        raise TypeError(f"number / {self!r}: write c * cola_core.inv(A); an operator is not a scalar.")

    def __neg__(self) -> LinearOperator:
        from .algebra import scale

        return scale(-1, self)

    def __pos__(self) -> LinearOperator:
        return self

    def __pow__(self, k: int) -> Any:
        from .algebra import power

        return power(self, k)

    # -- transposes ------------------------------------------------------------------------------------------
    @property
    def H(self) -> LinearOperator:
        """Conjugate transpose, pushed to the leaves where they have structure."""
        if SelfAdjoint in self.properties:
            return self
        made = self.__dict__.get("_H")
        return self._keep("_H", self._linked(self._adjoint())) if made is None else made

    @property
    def T(self) -> LinearOperator:
        """Transpose (without conjugation)."""
        if SelfAdjoint in self.properties:
            return self.conj()
        if not self._is_complex():
            return self.H
        made = self.__dict__.get("_T")
        return self._keep("_T", self._carry(self._transpose())) if made is None else made

    def _keep(self, name: str, made: LinearOperator) -> LinearOperator:
        """Keep what was made of this operator, unless it belongs to a trace or to a
        derivative graph that may end."""
        be = self.backend
        if be is None or be.name == "numpy":
            self.__dict__[name] = made
        else:
            leaves = tree_leaves((self, made))
            # also of leaves that want gradients while none are recorded: later some may be
            wanted = be.differentiating(*leaves) or any(getattr(x, "requires_grad", False) for x in leaves)
            if be.is_concrete(*leaves) and not wanted:
                self.__dict__[name] = made
        return made

    def conj(self) -> LinearOperator:
        """Entrywise complex conjugate."""
        return self._carry(self._conj()) if self._is_complex() else self

    @property
    def real(self) -> LinearOperator:
        """The matrix of the real parts of the entries; PSD and self-adjoint operators keep that."""
        if not self._is_complex():
            return self
        from ..properties import PSD

        made = self._part(imaginary=False)
        keep = frozenset(p for p in (PSD, SelfAdjoint) if self.isa(p)) - made.properties
        return made.replace(declared=made.declared | keep) if keep else made  # type: ignore[no-any-return]

    @property
    def imag(self) -> LinearOperator:
        """The matrix of the imaginary parts of the entries; ``Zero`` for real operators."""
        if self._is_complex():
            return self._part(imaginary=True)
        from .zero import Zero

        dtype = None if self._dtype() is None else self.dtype
        library = None if self.backend is None else self.backend.name
        m, n = self.shape[-2:]
        return Zero(m, n, dtype, backend=library, device=self.device, batch=self.batch_shape)

    def _part(self, imaginary: bool) -> LinearOperator:
        """The real or imaginary part of a complex operator."""
        from .realpart import RealPart

        return RealPart(self, imaginary)

    def sum(self, axis: int | None = None) -> Array:
        """The sum of all entries, or over the rows (axis -2) or columns (axis -1), by one product.

        >>> import numpy as np, cola_core as cola
        >>> cola.ops.Diagonal(np.arange(3.0)).sum(axis=0).tolist()
        [0.0, 1.0, 2.0]
        """
        be = self._concrete_backend()
        at = axis if axis is None or axis < 0 else axis - self.ndim
        if at not in (None, -1, -2):
            raise ShapeError(
                f"{self!r}.sum(axis={axis}): the axes of the matrix are -2 (rows) and -1 (columns)."
            )
        m, n = self.shape[-2:]
        if at == -2:
            return be.xp.ones((m,), dtype=self.dtype, device=self.device) @ self
        rows = self @ be.xp.ones((n,), dtype=self.dtype, device=self.device)
        return rows if at == -1 else be.xp.sum(rows, axis=-1)

    def _linked(self, adjoint: LinearOperator) -> LinearOperator:
        """Remember whose adjoint this is, so that ``B.H @ B`` is recognised as PSD when it is written."""
        adjoint = self._carry(adjoint)
        # weak: this operator keeps its adjoint, and two that keep each other would hold their arrays until
        # the garbage collector comes by, which knows nothing of a full device
        adjoint.__dict__.setdefault("_adjoint_of", ref(self))
        return adjoint

    def _adjoint_pair(self, other: LinearOperator) -> bool:
        """Whether one of the two was made as the other's ``.H``."""
        of, back = self.__dict__.get("_adjoint_of"), other.__dict__.get("_adjoint_of")
        return (of is not None and of() is other) or (back is not None and back() is self)

    def _carry(self, other: LinearOperator) -> LinearOperator:
        """Declared properties that survive (conjugate) transposition."""
        from ..properties import PSD, Unitary

        keep = frozenset(p for p in self.declared if p in (PSD, SelfAdjoint, Unitary)) - other.declared
        if not keep:
            return other
        return other.replace(declared=other.declared | keep)

    # -- indexing --------------------------------------------------------------------------------------------
    def __getitem__(self, index: Any) -> Any:
        from .sliced import getitem

        return getitem(self, index)

    def __len__(self) -> int:
        return self.shape[-2]

    def __iter__(self) -> Any:
        raise TypeError(f"{self!r} is not iterable; use A.to_dense() or A[i].")

    # -- conversion ------------------------------------------------------------------------------------------
    def to_dense(self, max_bytes: int | None = None) -> Array:
        """The matrix as an array. Refuses above ``max_bytes`` (default 8 GiB) with the size it would need."""
        size = self.itemsize
        for s in self.shape:
            size *= s
        limit = MAX_DENSE_BYTES if max_bytes is None else max_bytes
        if size > limit:
            raise MemoryBudgetError(
                f"{self!r} as a dense matrix needs {size / 2**30:.1f} GiB, above the limit of "
                f"{limit / 2**30:.1f} GiB. Use products with it, or raise the limit: to_dense(max_bytes=...)."
            )
        be = self.backend
        if be is not None and be.opens and (opened := be.door(self)) is not None:
            with opened:
                return self._to_dense()
        return self._to_dense()

    def to(self, device: Any = None, dtype: Any = None, backend: str | None = None) -> LinearOperator:
        """Move to a device, precision or array library. Index leaves (integers, booleans) keep their dtype.

        Between libraries memory is shared where both allow it (``backends.exchange``), so do not write into
        the arrays of either operator afterwards. A device brings back what was spread over several of them.
        """
        if device is not None and not hasattr(device, "device_set"):  # a sharding of JAX is a layout, too
            together = self._in_one_place()
            if together is not self:
                return together.to(device, dtype, backend)
        target = None if backend is None else get_backend(backend)

        def convert(x: Any) -> Any:
            be = backend_of_type(type(x))
            if be is None:
                return x  # a Python number: adopts its partner's dtype
            out = target or be
            if target is not None and target is not be:
                x = exchange(x, be.name, target.name)
            if device is not None:
                x = out.asarray(x, device=device)
            if dtype is not None and _is_inexact(x.dtype):
                want = dtype_name(dtype)
                if out.is_complex(x) and "complex" not in want:
                    want = {"float32": "complex64", "float64": "complex128"}.get(want, want)
                x = out.astype(x, want)
            return x

        out = map_leaves(convert, self)
        return out._restatic(dtype=dtype, backend=backend)

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        """Adapt static fields (a dtype name, a backend name) after ``to``; default: those of the parts."""
        changes: dict[str, Any] = {}
        for name in self._child_fields:
            value = self.__dict__[name]
            if isinstance(value, LinearOperator):
                changes[name] = value._restatic(dtype, backend)
            elif isinstance(value, tuple) and any(isinstance(v, LinearOperator) for v in value):
                changes[name] = tuple(v._restatic(dtype, backend) for v in value)
        return self.replace(**changes) if changes else self

    def _in_one_place(self) -> LinearOperator:
        """The same operator of classes that know of no devices, for ``to(device=...)`` and for files. Classes
        that are spread over devices say what they were made of; default: the parts do."""
        return self._changed(lambda A: A._in_one_place())  # type: ignore[no-any-return]

    def _changed(self, change: Any) -> Any:
        """This operator with its parts changed by a function of operators."""
        changes: dict[str, Any] = {}
        for name in self._child_fields:
            value = self.__dict__.get(name)  # a class may make its own way to its fields
            if isinstance(value, LinearOperator):
                made: Any = change(value)
            elif isinstance(value, tuple):
                made = tuple(change(v) if isinstance(v, LinearOperator) else v for v in value)
                made = value if all(a is b for a, b in zip(made, value, strict=True)) else made
            else:
                continue
            if made is not value:
                changes[name] = made
        return self.replace(**changes) if changes else self

    def _with_layout(self) -> LinearOperator:
        """This operator, traced, with the layout of its arrays over devices stated, which their derivatives
        get, too. Classes that are spread know it; default: the parts do."""
        return self._changed(lambda A: A._with_layout())  # type: ignore[no-any-return]

    def _rows_laid(self, X: Array) -> Array:
        """X, traced, of as many rows as this operator, with its layout over devices stated; see above."""
        for name in self._child_fields:
            value = self.__dict__.get(name)  # a class may make its own way to its fields
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, LinearOperator):
                    made = part._rows_laid(X)
                    if made is not X:
                        return made
        return X

    def replace(self, **changes: Any) -> Any:
        """A copy with some fields changed (not re-validated)."""
        d = self.__dict__
        unknown = changes.keys() - set(self._child_fields) - set(self._static_fields)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        children = tuple(changes.get(f, d[f]) for f in self._child_fields)
        metadata = tuple(changes.get(f, d[f]) for f in self._static_fields)
        return unflatten(type(self), metadata, children)

    # -- functions of other libraries (see protocols.py) -----------------------------------------------------
    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            f"{self!r} does not become an array by itself: call A.to_dense(). Beside a matrix or an operator "
            "of another library, convert that one: cola_core.as_operator(S) @ A."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return array_ufunc(self, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(self, func, args)

    __torch_function__ = TorchFunction(torch_function)

    def __bool__(self) -> bool:
        raise TypeError(f"the truth value of {self!r} is not defined.")

    def __getstate__(self) -> dict[str, Any]:
        # caches (shape, adjoint, factorisations) are not part of the value
        state = {f: self.__dict__[f] for f in (*self._child_fields, *self._static_fields)}
        if type(state.get("place")).__module__.startswith("jax"):
            state["place"] = (
                None  # JAX's devices belong to a process; its arrays, too, come back on the default
            )
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        from copy import deepcopy

        return unflatten(
            type(self),
            tuple(self.__dict__[f] for f in self._static_fields),
            tuple(deepcopy(self.__dict__[f], memo) for f in self._child_fields),
        )

    def describe(self) -> Any:
        """The composition as a tree of shapes, dtypes, properties, memory and work. See ``description``."""
        from ..description import describe

        return describe(self)

    def spy(self, ax: Any = None, max_size: int = 512, **style: Any) -> Any:
        """Draw the structure with Matplotlib; returns the axes. See ``picture``."""
        from ..picture import spy

        return spy(self, ax=ax, max_size=max_size, **style)

    if not TYPE_CHECKING:  # for type checkers an operator has the attributes that are written down

        def __getattr__(self, name: str) -> Any:
            """Names of a tensor's derivatives, which an operator has not, say where they are."""
            if name in _OF_TENSORS:
                library = self.__dict__.get("backend") or type(self).backend.__get__(self, type(self))
                where = (
                    f"its arrays are those of {library.name}: differentiate a number made of them "
                    "(torch.autograd.grad, jax.grad) with the operator as an argument"
                    if library is not None and library.name != "numpy"
                    else "NumPy arrays carry no derivatives: use PyTorch or JAX, A.to(backend='torch') or "
                    "A.to(backend='jax')"
                )
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}; {where}.")
            if hasattr(type(self), name):
                return object.__getattribute__(self, name)  # a property that failed says why
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- looks -----------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        try:
            return self._short()
        except Exception:  # noqa: BLE001 - repr of a placeholder tree built by a framework must not raise
            return f"<{type(self).__name__}>"

    def _short(self) -> str:
        parts = [p for p in self._parts() if isinstance(p, LinearOperator)]
        size = "x".join(map(str, self.shape))
        if parts:
            return f"{type(self).__name__}({', '.join(p._short() for p in parts)})"
        return f"{type(self).__name__}[{size}]"


def _is_inexact(dtype: Any) -> bool:
    name = dtype_name(dtype)
    return "float" in name or "complex" in name


def _promote(a: Any, b: Any, A: Any) -> Any:
    import numpy as np

    x, y = dtype_name(a), dtype_name(b)
    if x == y:
        return a
    if "bfloat16" in (x, y):
        return x if y == "bfloat16" else y
    try:
        return np.promote_types(x, y)
    except TypeError:
        raise DTypeError(f"{type(A).__name__} cannot combine dtypes {x} and {y}") from None

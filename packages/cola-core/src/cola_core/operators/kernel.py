"""``Kernel``: the matrix of a function of pairs of points, evaluated block by block and never stored.

Memory of a product is that of the points, of the vectors and of one block of at most ``block_size1`` by
``block_size2`` entries, also under differentiation (blocks are evaluated again for the derivative; the
transformations of ``torch.func`` keep them). Every product evaluates the function anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..backends import backend_of, get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property
from ..pytree import operator, static
from .base import LinearOperator
from .communication import all_gather, devices_of
from .dense import as_matrix_entries
from .derivative import put_together, take_apart
from .pair_function import PairFunction, fused, path_of, refuse_arrays

__all__ = ["Kernel"]

BLOCK_ENTRIES = 2**21  # 16 MiB in double precision
POINTS = 32  # points of which all pairs are evaluated for a diagonal where the library cannot vectorise


@operator
class Kernel(LinearOperator):
    """``A[i, j] = fn(x1[i], x2[j])`` for points x1 (*batch, n, d) and x2 (*batch, m, d), n x m.

    fn: takes two blocks of points, (p, d) and (q, d), and returns the (p, q) matrix of their pairs; with
    ``params`` (an array or a tree of arrays) it is called as ``fn(a, b, params)``, and gradients flow into
    them as into the points. It is part of the structure and must not close over arrays that need gradients.
    x2: None means x1; nothing is assumed of the matrix then: declare ``SelfAdjoint(A)`` or ``PSD(A)`` where
    fn is symmetric or positive definite. block_size1, block_size2: how many rows and columns are evaluated
    at a time; chosen to bound memory where not given. Slices, rows, columns, entries and diagonals are
    evaluated from the points they need. One product costs about ``(3 d + 22) n m`` flops. A ``PairFunction``
    is a function that multiplies faster than by blocks of its values.

    >>> import numpy as np, cola_core as cola
    >>> K = cola.ops.Kernel(np.ones((5, 2)), np.zeros((3, 2)), lambda a, b: 1 + a @ b.T)
    >>> K.shape, float(K[4, 2])
    ((5, 3), 1.0)
    """

    x1: Array
    x2: Array | None = None
    fn: Callable[..., Array] = static(default=None)
    block_size1: int | None = static(default=None)
    block_size2: int | None = static(default=None)
    params: tuple[Array, ...] = ()
    tree: Any = static(default=None)
    entries: str = static(default="float64")
    swapped: bool = static(default=False)
    conjugated: bool = static(default=False)
    plain: bool = static(default=False)

    def __init__(
        self,
        x1: Array,
        x2: Array | None = None,
        fn: Callable[..., Array] | None = None,
        block_size1: int | None = None,
        block_size2: int | None = None,
        *,
        params: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if not callable(fn):
            raise TypeError(f"Kernel(x1, x2, fn): fn must be a function, got {type(fn).__name__}.")
        x1 = as_matrix_entries(x1, "Kernel x1")
        if x2 is not None:
            x2 = as_matrix_entries(x2, "Kernel x2")
            if x1.shape[-1] != x2.shape[-1]:
                raise ShapeError(
                    f"Kernel needs points of one dimension: x1 has shape {tuple(x1.shape)}, x2 "
                    f"{tuple(x2.shape)}."
                )
        for name, size in (("block_size1", block_size1), ("block_size2", block_size2)):
            if size is not None and int(size) < 1:
                raise ShapeError(f"Kernel: {name} must be at least 1, got {size}.")
        leaves, tree = ((), None) if params is None else take_apart(params)
        leaves = tuple(_beside(x1, leaf) for leaf in leaves)
        if isinstance(fn, PairFunction):
            refuse_arrays(fn)
        values = dict(x1=x1, x2=x2, fn=fn, params=leaves, tree=tree, declared=declared)
        values |= dict(block_size1=block_size1, block_size2=block_size2, swapped=False, conjugated=False)
        values |= dict(plain=False)
        for key, value in values.items():
            object.__setattr__(self, key, value)
        self._look()
        self.__post_init__()

    def _look(self) -> None:
        """Find out the dtype of fn's values, from one pair of points."""
        be = backend_of(self.x1, self.x2, *self.params) or get_backend("numpy")
        if be.name == "jax":  # only shapes matter, and a point of points that are spread is not to be had
            a, b = (
                be.zeros((min(x.shape[-2], 1), x.shape[-1]), x.dtype, be.device(x))
                for x in (self.x1, self._second)
            )
        else:
            a, b = (x[(0,) * (x.ndim - 2)][:1] for x in (self.x1, self._second))
        shape = (a.shape[0], b.shape[0])
        out = be.result_like(lambda a, b, *params: self._call(a, b, params), a, b, *self.params)
        self._fits(out, shape)
        object.__setattr__(self, "entries", dtype_name(be.xp.result_type(out.dtype, self.x1.dtype)))

    @property
    def _second(self) -> Array:
        return self.x1 if self.x2 is None else self.x2

    @property
    def _rows(self) -> Array:
        return self._second if self.swapped else self.x1

    @property
    def _columns(self) -> Array:
        return self.x1 if self.swapped else self._second

    def _shape(self) -> tuple[int, ...]:
        batch = self.x1.shape[:-2]
        if self.x2 is not None and self.x2.shape[:-2] != batch:
            batch = self.xp.broadcast_arrays(self.x1[..., :1, :1], self.x2[..., :1, :1])[0].shape[:-2]
        return (*batch, self._rows.shape[-2], self._columns.shape[-2])

    def _dtype(self) -> Any:
        return self.entries

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if dtype is None:
            return self
        want = dtype_name(dtype)
        if "complex" in self.entries and "complex" not in want:
            want = {"float32": "complex64", "float64": "complex128"}.get(want, want)
        return self.replace(entries=want)

    # -- evaluation ------------------------------------------------------------------------------------------
    def _call(self, a: Array, b: Array, params: tuple[Array, ...]) -> Array:
        return self.fn(a, b, put_together(params, self.tree)) if params else self.fn(a, b)

    def _parameters(self) -> Any:
        """What the function is given besides points."""
        return put_together(self.params, self.tree) if self.params else None

    def _fits(self, out: Any, shape: tuple[int, int]) -> None:
        if tuple(getattr(out, "shape", ())) != shape:
            raise ShapeError(
                f"the function of Kernel returned shape {tuple(getattr(out, 'shape', ()))} for {shape[0]} "
                f"and "
                f"{shape[1]} points; it must return the {shape} matrix of all pairs."
            )

    def _pairs(self, a: Array, b: Array) -> Array:
        """The block of rows a and columns b, for unbatched points."""
        out = self._call(b, a, self.params) if self.swapped else self._call(a, b, self.params)
        self._fits(out, (b.shape[0], a.shape[0]) if self.swapped else (a.shape[0], b.shape[0]))
        be = self._concrete_backend()
        if out.dtype != self.dtype:
            out = be.astype(out, self.dtype)
        if self.swapped:
            out = out.mT if hasattr(out, "mT") else out.swapaxes(-1, -2)
        return be.conj(out) if self.conjugated else out

    def _block(self, a: Array, b: Array) -> Array:
        """The same for batches of points, one after the other (all at once on JAX)."""
        if a.ndim == 2 and b.ndim == 2:
            return self._pairs(a, b)
        be = self._concrete_backend()
        xp = be.xp
        batch = xp.broadcast_arrays(a[..., :1, :1], b[..., :1, :1])[0].shape[:-2]
        a = xp.reshape(xp.broadcast_to(a, (*batch, *a.shape[-2:])), (math.prod(batch), *a.shape[-2:]))
        b = xp.reshape(xp.broadcast_to(b, (*batch, *b.shape[-2:])), (math.prod(batch), *b.shape[-2:]))
        if be.name == "jax":
            out = be.vmap(self._pairs)(a, b)
        elif a.shape[0]:
            out = xp.stack([self._pairs(a[i], b[i]) for i in range(a.shape[0])])
        else:
            out = be.zeros((0, a.shape[-2], b.shape[-2]), self.dtype, self.device)
        return xp.reshape(out, (*batch, *out.shape[-2:]))

    def _sizes(self) -> tuple[int, int]:
        """Rows and columns of a block."""
        m, n = self.shape[-2:]
        rows, columns = self.block_size1, self.block_size2
        if self.swapped:
            rows, columns = columns, rows
        entries = BLOCK_ENTRIES
        if isinstance(self.fn, PairFunction):
            entries = max(int(entries / self.fn.footprint(self.x1.shape[-1])), 1)
        budget = max(entries // max(math.prod(self.batch_shape), 1), 1)
        if columns is None:
            columns = min(max(n, 1), max(budget // min(rows or 512, max(m, 1)), 1))
        if rows is None:
            rows = min(max(m, 1), max(budget // columns, 1))
        return int(rows), int(columns)

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        m, n = self.shape[-2:]
        if be.name == "abstract":
            lead = be.matmul(be.zeros((*self.batch_shape, m, n), self.dtype), X)
            return lead
        if isinstance(self.fn, PairFunction) and not self.plain:
            found = fused(self, X)
            if found is not None:
                return found

        def product(rows: Any, columns: Any) -> Array:
            return be.matmul(self._block(rows[0], columns[0]), columns[1])

        return be.blockwise(product, (self._rows,), (self._columns, X), self._sizes())

    def _rmatmat(self, X: Array) -> Array:
        return self._flipped(conjugated=self._is_complex())._matmat(X)

    def _flipped(self, conjugated: bool) -> Kernel:
        """The transpose, conjugated or not."""
        other: Kernel = self.replace(
            swapped=not self.swapped, conjugated=self.conjugated != conjugated, declared=frozenset()
        )
        return other

    def _adjoint(self) -> LinearOperator:
        return self._flipped(conjugated=self._is_complex())

    def _transpose(self) -> LinearOperator:
        return self._flipped(conjugated=False)

    def _conj(self) -> LinearOperator:
        other: Kernel = self.replace(conjugated=not self.conjugated, declared=frozenset())
        return other

    def _to_dense(self) -> Array:
        if self._concrete_backend().name == "abstract":
            return self._concrete_backend().zeros(self.shape, self.dtype)
        return self._block(self._rows, self._columns)

    def _products(self) -> str | None:
        """How products are made, for ``describe`` and plans; None where only blocks are known."""
        if not isinstance(self.fn, PairFunction):
            return None
        if self._concrete_backend().name == "abstract":  # of a plan, which knows of the operator it is for
            return self.__dict__.get("_planned")
        return path_of(self) or "blocks"

    def _short(self) -> str:
        how = self._products()
        return super()._short() if how is None else f"{super()._short()[:-1]}, products={how}]"

    # -- parts -----------------------------------------------------------------------------------------------
    def _take(self, rows: Any, cols: Any, same: bool = False) -> LinearOperator:
        """Some rows and columns, as a kernel of the points they need."""
        a = self._rows if rows is None else self._rows[..., rows, :]
        b = self._columns if cols is None else self._columns[..., cols, :]
        from ..properties import PSD, SelfAdjoint

        keep = frozenset(p for p in (PSD, SelfAdjoint) if same and self.isa(p))
        alone = same and self.x2 is None
        first, second = (b, a) if self.swapped else (a, b)
        part: Kernel = self.replace(x1=first, x2=None if alone else second, declared=keep)
        return part

    def diagonal(self, k: int = 0) -> Array:
        """The k-th diagonal (*batch, length), from the pairs of points on it."""
        be = self._concrete_backend()
        m, n = self.shape[-2:]
        length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
        if be.name == "abstract" or not length or 0 in self.shape:
            return be.zeros((*self.batch_shape, length), self.dtype, self.device)
        row, col = max(-k, 0), max(k, 0)
        a = self._rows[..., row : row + length, :]
        b = self._columns[..., col : col + length, :]
        if be.name == "jax":
            one = be.vmap(lambda p, q: self._pairs(p[None], q[None])[0, 0])
            for _ in self.batch_shape:
                one = be.vmap(one)
            if self.batch_shape:
                a = be.xp.broadcast_to(a, (*self.batch_shape, *a.shape[-2:]))
                b = be.xp.broadcast_to(b, (*self.batch_shape, *b.shape[-2:]))
            return one(a, b)
        pieces = [
            be.xp.linalg.diagonal(self._block(a[..., i : i + POINTS, :], b[..., i : i + POINTS, :]))
            for i in range(0, length, POINTS)
        ]
        return pieces[0] if len(pieces) == 1 else be.xp.concat(pieces, axis=-1)

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        d = self.x1.shape[-1]
        rows, columns = self._sizes()
        blocks = -(-max(m, 1) // rows) * -(-max(n, 1) // columns)
        # three flops per coordinate for a distance, twenty for an exponential, two for the product
        entry = self.fn.flops(d) if isinstance(self.fn, PairFunction) else 3.0 * d + 20.0
        return Cost(
            (entry + 2.0) * m * n,
            self.itemsize * (2.0 * m * n + (m + n) * (d + 1)),
            float(self.itemsize * min(rows, m) * min(columns, n)),
            1,
            10.0 * blocks,
        )

    def _sent(self, columns: float) -> float:
        # the points and the vectors that belong to the columns
        p = devices_of((self.x1, self.x2))
        return self.itemsize * all_gather(self.shape[-1] * (self.x1.shape[-1] + columns), p)

    def _dense_cost(self) -> Cost:
        one = self._matvec_cost()
        size = float(self.itemsize) * self.shape[-2] * self.shape[-1]
        return Cost(one.flops, one.bytes + 2 * size, size, 0, one.calls)

    def matmat_cost(self, k: float) -> Cost:
        """k columns at once evaluate the function once."""
        one = self._matvec_cost()
        m, n = self.shape[-2:]
        made = Cost(
            one.flops + 2.0 * m * n * (k - 1),
            one.bytes + (k - 1) * self.itemsize * (m + n),
            one.memory + self.itemsize * (m + n) * k,
            k,
            one.calls,
        )
        return self._placed(made, k)


def _beside(x: Array, leaf: Array) -> Array:
    """A parameter beside the points: a number is one of their library and precision."""
    be = backend_of(x)
    if be is None or leaf.ndim or backend_of(leaf) is be:
        return leaf
    if backend_of(leaf) is not get_backend("numpy"):
        return leaf  # refused by name when the operator is made
    if get_backend("numpy").is_complex(leaf) and not be.is_complex(x):
        return be.asarray(leaf, device=be.device(x))
    return be.asarray(leaf, dtype=x.dtype, device=be.device(x))

"""Arrays that have a shape and a dtype but no values: what planning runs on.

Rules are ordinary code over ``backend.xp``; run on these placeholders they rearrange as usual and compute
nothing. Reading a value (``float``, ``if``) raises ``AbstractValueError``; a rule that must look at values
therefore checks ``backend.is_concrete`` first, exactly as it must under ``jax.jit``.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import AbstractValueError, ShapeError
from .base import Backend, dtype_name

__all__ = ["BACKEND", "AbstractArray", "AbstractBackend"]


class AbstractArray:
    """A shape and a dtype. shards: how many parts the array it stands for is cut into over devices, pieces:
    how many along each axis (none: it is whole)."""

    __array_ufunc__ = None
    shards = 1
    pieces: tuple[int, ...] = ()

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape = tuple(int(s) for s in shape)
        name = dtype_name(dtype)
        self.dtype = np.dtype("float16" if name == "bfloat16" else name)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def mT(self) -> AbstractArray:
        out = AbstractArray((*self.shape[:-2], self.shape[-1], self.shape[-2]), self.dtype)
        if self.pieces:
            out.shards, out.pieces = self.shards, (*self.pieces[:-2], self.pieces[-1], self.pieces[-2])
        return out

    @property
    def T(self) -> AbstractArray:
        return AbstractArray(self.shape[::-1], self.dtype)

    @property
    def real(self) -> AbstractArray:
        return AbstractArray(self.shape, _real(self.dtype))

    imag = real

    def __array_namespace__(self, api_version: Any = None) -> Any:
        return XP

    def __getitem__(self, index: Any) -> AbstractArray:
        index = index if isinstance(index, tuple) else (index,)
        resolved = tuple(np.zeros(i.shape, np.intp) if isinstance(i, AbstractArray) else i for i in index)
        view = np.broadcast_to(np.zeros((), np.bool_), self.shape)
        try:
            return AbstractArray(view[resolved].shape, self.dtype)
        except IndexError as error:
            raise ShapeError(f"{error} (while planning)") from None

    def __setitem__(self, index: Any, value: Any) -> None:
        pass

    def _binary(self, other: Any, dtype: Any = None) -> AbstractArray:
        return _elementwise(self, other, dtype=dtype)

    def __matmul__(self, other: Any) -> Any:
        return _matmul(self, other) if isinstance(other, AbstractArray) else NotImplemented

    def __abs__(self) -> AbstractArray:
        return self.real

    def __neg__(self) -> AbstractArray:
        return self

    __invert__ = __pos__ = __neg__

    def __len__(self) -> int:
        return self.shape[0]

    def _value(self, *_: Any) -> Any:
        raise AbstractValueError(
            "only shapes and dtypes exist while planning; check backend.is_concrete(x) first"
        )

    __bool__ = __float__ = __int__ = __complex__ = __index__ = __iter__ = item = tolist = _value  # type: ignore[assignment]

    def reshape(self, *shape: Any) -> AbstractArray:
        return _reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape)

    def astype(self, dtype: Any, copy: bool = True) -> AbstractArray:
        return AbstractArray(self.shape, dtype)

    def __repr__(self) -> str:
        return f"AbstractArray({self.shape}, {self.dtype})"


for _name in "add radd sub rsub mul rmul truediv rtruediv pow rpow mod floordiv".split():
    setattr(AbstractArray, f"__{_name}__", AbstractArray._binary)
for _name in "eq ne lt le gt ge and or xor".split():
    setattr(AbstractArray, f"__{_name}__", lambda self, other: self._binary(other, np.bool_))
AbstractArray.__hash__ = object.__hash__  # type: ignore[method-assign]


def _real(dtype: Any) -> Any:
    return {"complex64": np.float32, "complex128": np.float64}.get(np.dtype(dtype).name, dtype)


def _elementwise(*xs: Any, dtype: Any = None) -> AbstractArray:
    shapes = [x.shape for x in xs if isinstance(x, AbstractArray)]
    if dtype is None:
        dtypes = [x.dtype if isinstance(x, AbstractArray) else x for x in xs if x is not None]
        dtype = np.result_type(*dtypes)
    return AbstractArray(np.broadcast_shapes(*shapes), dtype)


def _matmul(a: Any, b: Any) -> AbstractArray:
    (x, y), dtype = (a.shape, b.shape), np.result_type(a.dtype, b.dtype)
    inner = (x[-1], y[0] if len(y) == 1 else y[-2])
    if inner[0] != inner[1]:
        raise ShapeError(f"cannot multiply shapes {x} and {y} (while planning)")
    if len(x) == 1 and len(y) == 1:
        return AbstractArray((), dtype)
    if len(y) == 1:
        return AbstractArray(x[:-1], dtype)
    if len(x) == 1:
        return AbstractArray((*y[:-2], y[-1]), dtype)
    return AbstractArray((*np.broadcast_shapes(x[:-2], y[:-2]), x[-2], y[-1]), dtype)


def _reshape(x: Any, shape: Any, copy: Any = None) -> AbstractArray:
    shape = tuple(shape)
    if -1 in shape:
        known = math.prod(s for s in shape if s != -1)
        shape = tuple(x.size // known if s == -1 and known else (0 if s == -1 else s) for s in shape)
    if math.prod(shape) != x.size:
        raise ShapeError(f"cannot reshape {x.shape} to {shape} (while planning)")
    return AbstractArray(shape, x.dtype)


def _reduce(dtype: Any = None, to_real: bool = False) -> Any:
    def reduction(x: Any, *, axis: Any = None, keepdims: bool = False, **_: Any) -> AbstractArray:
        if axis is None:
            shape: tuple[int, ...] = (1,) * x.ndim if keepdims else ()
        else:
            axes = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
            shape = tuple(1 if i in axes else s for i, s in enumerate(x.shape) if keepdims or i not in axes)
        return AbstractArray(shape, dtype or (_real(x.dtype) if to_real else x.dtype))

    return reduction


def _concat(xs: Any, *, axis: int = 0) -> AbstractArray:
    first = list(xs[0].shape)
    first[axis] = sum(x.shape[axis] for x in xs)
    return AbstractArray(first, np.result_type(*(x.dtype for x in xs)))


def _stack(xs: Any, *, axis: int = 0) -> AbstractArray:
    shape = list(xs[0].shape)
    shape.insert(axis if axis >= 0 else axis + len(shape) + 1, len(xs))
    return AbstractArray(shape, np.result_type(*(x.dtype for x in xs)))


def _moveaxis(x: Any, source: Any, destination: Any) -> AbstractArray:
    view = np.broadcast_to(np.zeros((), np.bool_), x.shape)
    return AbstractArray(np.moveaxis(view, source, destination).shape, x.dtype)


def _svd(x: Any, full_matrices: bool = True) -> Any:
    *batch, m, n = x.shape
    k = min(m, n)
    U = (m, m) if full_matrices else (m, k)
    V = (n, n) if full_matrices else (k, n)
    return (
        AbstractArray((*batch, *U), x.dtype),
        AbstractArray((*batch, k), _real(x.dtype)),
        AbstractArray((*batch, *V), x.dtype),
    )


def _isdtype(dtype: Any, kind: Any) -> bool:
    import array_api_compat.numpy as xnp

    return xnp.isdtype(np.dtype(dtype), kind)


def _same(x: Any, *_: Any, **__: Any) -> AbstractArray:
    return AbstractArray(x.shape, x.dtype)


def _make(shape: Any, *_: Any, dtype: Any = None, **__: Any) -> AbstractArray:
    return AbstractArray(shape if isinstance(shape, tuple) else (shape,), dtype or np.float64)


def _transform(kind: str) -> Any:
    """Shape and dtype of a one-dimensional Fourier transform:
    ``kind`` is "same", "half" (rfft) or "real" (irfft)."""

    def transform(x: Any, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> AbstractArray:
        shape = list(x.shape)
        length = n if n is not None else (2 * (shape[axis] - 1) if kind == "real" else shape[axis])
        shape[axis] = length // 2 + 1 if kind == "half" else length
        dtype = np.result_type(x.dtype, np.complex64)
        return AbstractArray(shape, _real(dtype) if kind == "real" else dtype)

    return transform


XP = SimpleNamespace(
    fft=SimpleNamespace(
        fft=_transform("same"), ifft=_transform("same"), rfft=_transform("half"), irfft=_transform("real")
    ),
    reshape=_reshape,
    matmul=_matmul,
    moveaxis=_moveaxis,
    permute_dims=lambda x, axes: AbstractArray([x.shape[a] for a in axes], x.dtype),
    matrix_transpose=lambda x: x.mT,
    concat=_concat,
    stack=_stack,
    broadcast_to=lambda x, shape: AbstractArray(shape, x.dtype),
    broadcast_arrays=lambda *xs: [
        AbstractArray(np.broadcast_shapes(*(x.shape for x in xs)), x.dtype) for x in xs
    ],
    where=lambda c, a, b: AbstractArray(
        np.broadcast_shapes(*(getattr(x, "shape", ()) for x in (c, a, b))),
        np.result_type(*(getattr(x, "dtype", x) for x in (a, b))),
    ),
    expand_dims=lambda x, *, axis=0: _moveaxis(AbstractArray((1, *x.shape), x.dtype), 0, axis),
    squeeze=lambda x, axis: AbstractArray([s for i, s in enumerate(x.shape) if i != axis % x.ndim], x.dtype),
    take_along_axis=lambda x, i, *, axis=-1: AbstractArray(
        [i.shape[a] if a == axis % x.ndim else s for a, s in enumerate(x.shape)], x.dtype
    ),
    take=lambda x, i, *, axis=0: AbstractArray((*x.shape[:axis], *i.shape, *x.shape[axis + 1 :]), x.dtype),
    astype=lambda x, dtype, copy=True: AbstractArray(x.shape, dtype),
    sum=_reduce(),
    prod=_reduce(),
    mean=_reduce(),
    max=_reduce(),
    min=_reduce(),
    all=_reduce(np.bool_),
    any=_reduce(np.bool_),
    argmax=_reduce(np.int64),
    argmin=_reduce(np.int64),
    isdtype=_isdtype,
    result_type=lambda *xs: np.result_type(*(getattr(x, "dtype", x) for x in xs)),
    finfo=np.finfo,
    asarray=lambda x, dtype=None, **_: (
        x if isinstance(x, AbstractArray) else AbstractArray(np.shape(x), dtype or np.asarray(x).dtype)
    ),
    zeros=_make,
    ones=_make,
    empty=_make,
    eye=lambda n, m=None, dtype=None, **_: AbstractArray((n, m or n), dtype or np.float64),
    arange=lambda *a, dtype=None, **_: AbstractArray((len(range(*a)),), dtype or np.int64),
    searchsorted=lambda x, v, **_: AbstractArray(v.shape, np.int64),
    argsort=lambda x, **_: AbstractArray(x.shape, np.int64),
    isfinite=lambda x: AbstractArray(x.shape, np.bool_),
    isnan=lambda x: AbstractArray(x.shape, np.bool_),
    maximum=_elementwise,
    minimum=_elementwise,
    multiply=_elementwise,
    divide=_elementwise,
    add=_elementwise,
    pow=_elementwise,
    abs=lambda x: x.real,
    real=lambda x: x.real,
    imag=lambda x: x.real,
    angle=lambda x: x.real,
    **{
        f: _same
        for f in (
            "conj exp log log1p expm1 sqrt sin cos tan tanh sinh cosh sign floor ceil round square sort flip "
            "roll tril triu zeros_like ones_like cumsum reciprocal negative clip"
        ).split()
    },
    linalg=SimpleNamespace(
        vector_norm=_reduce(to_real=True),
        eigh=lambda x: (AbstractArray(x.shape[:-1], _real(x.dtype)), x),
        eigvalsh=lambda x: AbstractArray(x.shape[:-1], _real(x.dtype)),
        qr=lambda x: (
            AbstractArray((*x.shape[:-1], min(x.shape[-2:])), x.dtype),
            AbstractArray((*x.shape[:-2], min(x.shape[-2:]), x.shape[-1]), x.dtype),
        ),
        svd=_svd,
        diagonal=lambda x, *, offset=0: AbstractArray(
            (*x.shape[:-2], _diagonal_length(x.shape, offset)), x.dtype
        ),
        trace=lambda x: AbstractArray(x.shape[:-2], x.dtype),
        matrix_transpose=lambda x: x.mT,
        slogdet=lambda x: (AbstractArray(x.shape[:-2], x.dtype), AbstractArray(x.shape[:-2], _real(x.dtype))),
    ),
    **{t: np.dtype(t) for t in "float16 float32 float64 complex64 complex128 int32 int64 int8".split()},
    bool=np.dtype(bool),
    pi=math.pi,
    inf=math.inf,
    nan=math.nan,
)


def _diagonal_length(shape: Any, k: int) -> int:
    m, n = shape[-2:]
    return max(min(m, n - k) if k >= 0 else min(m + k, n), 0)


class AbstractBackend(Backend):
    """Shapes and dtypes in, shapes and dtypes out."""

    name = "abstract"
    xp = XP

    def dtype(self, dtype: Any) -> Any:
        name = dtype_name(dtype)
        return np.dtype("float16" if name == "bfloat16" else name)

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Any:
        if isinstance(x, AbstractArray):
            return x if dtype is None else AbstractArray(x.shape, dtype)
        return AbstractArray(np.shape(x), dtype or np.asarray(x).dtype)

    def to_numpy(self, x: Any) -> Any:
        return x._value()

    def is_concrete(self, *xs: Any) -> bool:
        return not any(isinstance(x, AbstractArray) for x in xs)

    def is_complex(self, x: Any) -> bool:
        return np.dtype(getattr(x, "dtype", x)).kind == "c"

    def eye(self, n: int, dtype: Any, device: Any = None) -> Any:
        return AbstractArray((n, n), dtype)

    def index_add(self, rows: Any, values: Any, m: int) -> Any:
        return AbstractArray((*values.shape[:-2], m, values.shape[-1]), values.dtype)

    def cholesky(self, A: Any, check: bool = True) -> Any:
        return A

    def solve_triangular(self, L: Any, B: Any, lower: bool = True, unit: bool = False) -> Any:
        return _matmul(L, B)

    def lu_factor(self, A: Any) -> Any:
        return A, None

    def lu_solve(self, factors: Any, B: Any, adjoint: bool = False) -> Any:
        return _matmul(factors[0], B)

    def lu_slogdet(self, factors: Any) -> Any:
        return XP.linalg.slogdet(factors[0])

    def eig(self, A: Any) -> Any:
        dtype = np.result_type(A.dtype, np.complex64)
        return AbstractArray(A.shape[:-1], dtype), AbstractArray(A.shape, dtype)

    def svdvals(self, A: Any) -> Any:
        return AbstractArray((*A.shape[:-2], min(A.shape[-2:])), _real(A.dtype))

    def lu(self, A: Any) -> Any:
        *batch, m, n = A.shape
        k = min(m, n)
        return (
            AbstractArray((*batch, m), np.int64),
            AbstractArray((*batch, m, k), A.dtype),
            AbstractArray((*batch, k, n), A.dtype),
        )

    def schur(self, A: Any) -> Any:
        return A, A

    def expm(self, A: Any) -> Any:
        return A

    def normal(self, key: Any, shape: Any, dtype: Any, device: Any = None) -> Any:
        return AbstractArray(shape, dtype)

    rademacher = normal


BACKEND = AbstractBackend()

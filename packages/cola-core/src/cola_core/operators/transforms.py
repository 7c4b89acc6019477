"""The fast orthonormal transforms as operators: ``FFT``, ``Hartley``, ``DCT``, ``DST``, ``WalshHadamard``.

They store nothing but their size; without dtype, backend and device they adopt their partner's, as
``Identity`` does. All are unitary, so inverses are adjoints and products with their own adjoints vanish.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backends import Backend, backend_of_type, get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..properties import Property, SelfAdjoint, Unitary
from ..pytree import operator, static
from . import cosine
from .base import LinearOperator
from .diagonal import Identity
from .fourier import fft_cost, require_fft

__all__ = ["DCT", "DST", "FFT", "Hartley", "OrthonormalTransform", "WalshHadamard"]


class OrthonormalTransform(LinearOperator):
    """What the transforms share: a static size, an optional place, and entries known in closed form."""

    n: Any
    dtype_name: str | None
    library: str | None
    place: Any

    def _place(self, dtype: Any, backend: str | None, device: Any, declared: frozenset[Property]) -> None:
        object.__setattr__(self, "dtype_name", None if dtype is None else dtype_name(dtype))
        object.__setattr__(self, "library", backend)
        object.__setattr__(self, "place", device)
        object.__setattr__(self, "declared", declared)
        self.__post_init__()

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.n

    @property
    def backend(self) -> Backend | None:  # type: ignore[override]
        return None if self.library is None else get_backend(self.library)

    @property
    def device(self) -> Any:  # type: ignore[override]
        return self.place

    def _shape(self) -> tuple[int, ...]:
        return (self.size, self.size)

    def _dtype(self) -> Any:
        return self.dtype_name

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        changes: dict[str, Any] = {} if dtype is None else {"dtype_name": dtype_name(dtype)}
        if backend is not None and self.library is not None:
            changes |= {"library": backend, "place": None}
        return self.replace(**changes)

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary})

    def _conj(self) -> LinearOperator:
        return self

    def _operand(self, X: Array) -> tuple[Backend, Array]:
        """The library of X, and X in a floating dtype."""
        be: Any = backend_of_type(type(X))
        if not be.xp.isdtype(X.dtype, ("real floating", "complex floating")):
            X = be.astype(X, be.default_float if self.dtype_name is None else self.dtype)
        elif self.dtype_name is not None and dtype_name(X.dtype) != self.dtype_name:
            X = be.astype(X, be.xp.result_type(X.dtype, be.dtype(self.dtype_name)))
        require_fft(X, type(self).__name__)
        return be, X

    def _compose(self, other: LinearOperator) -> Any:
        """A transform next to its inverse vanishes."""
        if type(other) is type(self) and other.size == self.size:  # type: ignore[attr-defined]
            if self._kind() == other._adjoint()._kind():  # type: ignore[attr-defined]
                mine = self if self.library is not None or self.dtype_name is not None else other
                return Identity.like(mine) if mine._dtype() is not None else Identity(self.size)
        return NotImplemented

    def _kind(self) -> Any:
        """What tells apart transforms of one class and size."""
        return None

    def entries(self, i: Any, j: Any) -> Any:
        """The entries at rows i and columns j (NumPy integers), in NumPy's double precision."""
        raise NotImplementedError(f"{type(self).__name__} must define entries(i, j)")

    def entry_array(self, i: Any, j: Any) -> Array:
        """``entries`` in this operator's library, dtype and device."""
        be = self._concrete_backend()
        return be.asarray(self.entries(i, j), dtype=self.dtype, device=self.device)

    def _to_dense(self) -> Array:
        i = np.arange(self.size)
        return self.entry_array(i[:, None], i[None, :])

    def determinant(self) -> complex:
        """A number of modulus one, in closed form."""
        raise NotImplementedError(f"{type(self).__name__} must define determinant()")

    def _matvec_cost(self) -> Cost:
        one = fft_cost(self.size, not self._is_complex(), self.itemsize)
        return one + Cost(4.0 * self.size, 4.0 * self.itemsize * self.size, 0.0, 1, 2)

    def _column_bytes(self, one: Cost) -> float:
        return one.bytes  # of the transforms, which every column needs


def _complex_name(name: str | None) -> str | None:
    return {"float32": "complex64", "float64": "complex128"}.get(str(name), name)


@operator
class FFT(OrthonormalTransform):
    """The unitary discrete Fourier transform: entries ``exp(-2 pi i j k / n) / sqrt(n)``.

    Complex and symmetric; ``FFT(n).H`` is the inverse transform (``inverse=True``). Product O(n log n) for
    every n. The dtype adopts its partner's precision unless one is given. Raises DTypeError for a real
    dtype.

    >>> import numpy as np, cola_core as cola
    >>> x = np.array([1.0, 2.0, 4.0])
    >>> F = cola.ops.FFT(3)
    >>> bool(np.allclose(F @ x, np.fft.fft(x, norm="ortho"))), bool(np.allclose(F.H @ (F @ x), x))
    (True, True)
    """

    n: int = static()
    inverse: bool = static(default=False)
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    def __init__(
        self,
        n: int,
        dtype: Any = None,
        *,
        inverse: bool = False,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        object.__setattr__(self, "n", _whole(n, "FFT"))
        object.__setattr__(self, "inverse", bool(inverse))
        self._place(dtype, backend, device, declared)

    def _check(self) -> None:
        # a real dtype says in which precision
        object.__setattr__(self, "dtype_name", _complex_name(self.dtype_name))

    @classmethod
    def like(cls, A: LinearOperator, n: int | None = None, inverse: bool = False) -> FFT:
        """The transform of A's size (or n) in A's precision, library and on its device."""
        double = dtype_name(A.dtype) in ("float64", "complex128")
        return cls(
            A.shape[-1] if n is None else n,
            "complex128" if double else "complex64",
            inverse=inverse,
            backend=None if A.backend is None else A.backend.name,
            device=A.device,
        )

    def _dtype(self) -> Any:
        # a part of a real composition adopts its precision
        return _complex_name(self.dtype_name) or "complex64"

    def _adopts_precision(self) -> bool:
        return self.dtype_name is None

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if dtype is not None:
            name = dtype_name(dtype)
            dtype = {"float32": "complex64", "float64": "complex128"}.get(name, name)
        return super()._restatic(dtype, backend)

    def _matmat(self, X: Array) -> Array:
        return self._transform(X, self.inverse)

    def _rmatmat(self, X: Array) -> Array:
        return self._transform(X, not self.inverse)

    def _transform(self, X: Array, inverse: bool) -> Array:
        be, X = self._operand(X)
        if 0 in X.shape:  # libraries refuse to transform nothing
            return X + 0j
        if be.name == "numpy":
            import scipy.fft

            return (scipy.fft.ifft if inverse else scipy.fft.fft)(X, axis=-2, norm="ortho")
        return (be.xp.fft.ifft if inverse else be.xp.fft.fft)(X, axis=-2, norm="ortho")

    def _adjoint(self) -> LinearOperator:
        return self.replace(inverse=not self.inverse, declared=frozenset())

    _conj = _adjoint

    def _transpose(self) -> LinearOperator:
        return self

    def _kind(self) -> Any:
        return self.inverse

    def entries(self, i: Any, j: Any) -> Any:
        angle = 2 * np.pi * ((i * j) % max(self.n, 1)) / max(self.n, 1)
        return (np.cos(angle) + (1j if self.inverse else -1j) * np.sin(angle)) / math.sqrt(max(self.n, 1))

    def determinant(self) -> complex:
        """From the multiplicities of the eigenvalues 1, -1, -i, i.

        McClellan & Parks, IEEE Trans. Audio Electroacoust. 20 (1972) 66.
        """
        m, r = divmod(self.n, 4)
        minus, down, up = m + (r >= 2), m + (r >= 3), m - (r == 0)
        power = (2 * minus + 3 * down + up) % 4 if self.n else 0
        if self.inverse:
            power = -power % 4
        return (1, 1j, -1, -1j)[power]


@operator
class Hartley(OrthonormalTransform):
    """The discrete Hartley transform: entries ``cas(2 pi j k / n) / sqrt(n)`` with cas = cos + sin.

    Real, symmetric and its own inverse: an eigenbasis of every real symmetric circulant (Bini & Favati,
    Linear Algebra Appl. 183 (1993) 33). n may be a tuple: the transform over all axes of an array of that
    shape, with the angles added up, and of size prod(n).
    """

    n: Any = static()
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    def __init__(
        self,
        n: Any,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        whole = tuple(_whole(m, "Hartley") for m in n) if isinstance(n, tuple) else (_whole(n, "Hartley"),)
        object.__setattr__(self, "n", whole[0] if len(whole) == 1 else whole)
        self._place(dtype, backend, device, declared)

    @classmethod
    def like(cls, A: LinearOperator, n: Any = None) -> Hartley:
        """The transform of A's size (or n) in A's dtype, library and on its device."""
        return cls(
            A.shape[-1] if n is None else n,
            A.dtype,
            backend=None if A.backend is None else A.backend.name,
            device=A.device,
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """The shape of the transformed array."""
        return self.n if isinstance(self.n, tuple) else (self.n,)

    @property
    def size(self) -> int:
        return math.prod(self.grid)

    def _kind(self) -> Any:
        return self.n

    def _matmat(self, X: Array) -> Array:
        be, X = self._operand(X)
        if 0 in X.shape:
            return X
        if be.is_complex(X):
            return self._matmat(be.xp.real(X)) + 1j * self._matmat(be.xp.imag(X))
        *batch, n, k = X.shape
        grid = self.grid
        from .fourier import fft

        Y = fft(be, be.xp.reshape(X, (*batch, *grid, k)), grid, -2)
        Y = (be.xp.real(Y) - be.xp.imag(Y)) / math.sqrt(n)
        return be.xp.reshape(Y, (*batch, n, k))

    _rmatmat = _matmat

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary, SelfAdjoint})

    def entries(self, i: Any, j: Any) -> Any:
        angle: Any = 0.0
        for m in reversed(self.grid):
            angle = angle + 2 * np.pi * (((i % m) * (j % m)) % m) / m
            i, j = i // m, j // m
        return (np.cos(angle) + np.sin(angle)) / math.sqrt(max(self.size, 1))

    def determinant(self) -> complex:
        """An involution: the trace, a Gauss sum, tells how many eigenvalues are -1."""
        real, imag = 1, 0  # trace of the Fourier transform of each axis, as a Gaussian integer
        for m in self.grid:
            a, b = ((1, -1), (1, 0), (0, 0), (0, -1))[m % 4]
            real, imag = real * a - imag * b, real * b + imag * a
        return -1 if self.size and ((self.size - (real - imag)) // 2) % 2 else 1


class _Cosine(OrthonormalTransform):
    """What DCT and DST share: types 1 to 4, of which 2 and 3 are adjoints of each other."""

    type: int

    def _settle(self, n: int, type: int) -> None:
        if type not in (1, 2, 3, 4):
            raise ShapeError(f"{self.__class__.__name__}({n}, type={type!r}): there are types 1, 2, 3 and 4.")
        object.__setattr__(self, "n", _whole(n, self.__class__.__name__))
        object.__setattr__(self, "type", int(type))

    def _kind(self) -> Any:
        return self.type

    def _adjoint(self) -> LinearOperator:
        return self if self.type in (1, 4) else self.replace(type=5 - self.type, declared=frozenset())

    _transpose = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary, SelfAdjoint} if self.type in (1, 4) else {Unitary})

    def _matmat(self, X: Array) -> Array:
        return self._apply_type(X, self.type)

    def _rmatmat(self, X: Array) -> Array:
        return self._apply_type(X, self.type if self.type in (1, 4) else 5 - self.type)

    def _apply_type(self, X: Array, type: int) -> Array:
        be, X = self._operand(X)
        name = self.__class__.__name__.lower()
        if 0 in X.shape or be.name == "abstract":
            return X
        if name == "dct" and type == 1 and self.n == 1:
            return X  # the matrix (1), which libraries refuse
        if be.name == "numpy":
            import scipy.fft

            return getattr(scipy.fft, name)(X, type=type, axis=-2, norm="ortho")
        if be.is_complex(X):
            real, imag = self._apply_type(be.xp.real(X), type), self._apply_type(be.xp.imag(X), type)
            return real + 1j * imag
        return getattr(cosine, f"{name}{type}")(be, X)

    def determinant(self) -> complex:
        """Polynomials of growing degree at decreasing nodes (a Vandermonde determinant):
        ``(-1)^(n(n-1)/2)``."""
        return -1 if self.n * (self.n - 1) // 2 % 2 else 1


@operator
class DCT(_Cosine):
    """The orthonormal discrete cosine transform of type 1 to 4 (2 by default), as
    ``scipy.fft.dct(norm="ortho")``.

    Real and orthogonal; ``DCT(n, 2).H`` is ``DCT(n, 3)``; types 1 and 4 are symmetric. Product O(n log n).
    Source: Rao & Yip, Discrete Cosine Transform (1990), sec. 2.2.

    >>> import cola_core as cola
    >>> cola.ops.DCT(4).H.type, cola.ops.DCT(4, type=4).isa(cola.SelfAdjoint)
    (3, True)
    """

    n: int = static()
    type: int = static(default=2)
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    def __init__(
        self,
        n: int,
        type: int = 2,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        self._settle(n, type)
        self._place(dtype, backend, device, declared)

    def entries(self, i: Any, j: Any) -> Any:
        n, type = self.n, self.type
        if type == 3:
            i, j = j, i
        if type == 1:
            if n == 1:
                return np.ones(np.broadcast_shapes(np.shape(i), np.shape(j)))
            ends = np.where((i == 0) | (i == n - 1), 0.5, 1) * np.where((j == 0) | (j == n - 1), 0.5, 1)
            return np.sqrt(2 * ends / (n - 1)) * np.cos(np.pi * ((i * j) % (2 * n - 2)) / (n - 1))
        if type == 4:
            return math.sqrt(2 / max(n, 1)) * np.cos(
                np.pi * (((2 * i + 1) * (2 * j + 1)) % (8 * n)) / (4 * n)
            )
        first = np.where(i == 0, 0.5, 1.0)
        return np.sqrt(2 * first / max(n, 1)) * np.cos(np.pi * ((i * (2 * j + 1)) % (4 * n)) / (2 * n))


@operator
class DST(_Cosine):
    """The orthonormal discrete sine transform of type 1 to 4 (2 by default), as
    ``scipy.fft.dst(norm="ortho")``.

    Real and orthogonal; ``DST(n, 2).H`` is ``DST(n, 3)``; types 1 and 4 are symmetric. Type 1 diagonalises
    the second difference with zero boundary values. Product O(n log n).
    """

    n: int = static()
    type: int = static(default=2)
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    def __init__(
        self,
        n: int,
        type: int = 2,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        self._settle(n, type)
        self._place(dtype, backend, device, declared)

    def entries(self, i: Any, j: Any) -> Any:
        n, type = self.n, self.type
        if type == 3:
            i, j = j, i
        if type == 1:
            period = 2 * (n + 1)
            return math.sqrt(2 / (n + 1)) * np.sin(np.pi * (((i + 1) * (j + 1)) % period) / (n + 1))
        if type == 4:
            return math.sqrt(2 / max(n, 1)) * np.sin(
                np.pi * (((2 * i + 1) * (2 * j + 1)) % (8 * n)) / (4 * n)
            )
        last = np.where(i == n - 1, 0.5, 1.0)
        return np.sqrt(2 * last / max(n, 1)) * np.sin(np.pi * (((i + 1) * (2 * j + 1)) % (4 * n)) / (2 * n))


@operator
class WalshHadamard(OrthonormalTransform):
    """The orthonormal Walsh-Hadamard transform of size ``n = 2^k`` in natural (Hadamard) order.

    Entries ``(-1)^popcount(i & j) / sqrt(n)``: the k-th Kronecker power of ``[[1, 1], [1, -1]] / sqrt(2)``.
    Symmetric and its own inverse; n log2(n) additions a product. Raises ShapeError for other n.
    """

    n: int = static()
    dtype_name: str | None = static(default=None)
    library: str | None = static(default=None)
    place: Any = static(default=None)

    def __init__(
        self,
        n: int,
        dtype: Any = None,
        *,
        backend: str | None = None,
        device: Any = None,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        n = _whole(n, "WalshHadamard")
        if n & (n - 1) or n == 0:
            raise ShapeError(f"WalshHadamard({n}): the size must be a power of two.")
        object.__setattr__(self, "n", n)
        self._place(dtype, backend, device, declared)

    def _matmat(self, X: Array) -> Array:
        be, X = self._operand(X)
        xp = be.xp
        *batch, n, k = X.shape
        if 0 in X.shape:
            return X
        shape, h = (*batch, n, k), 1
        while h < n:
            X = xp.reshape(X, (*batch, n // (2 * h), 2, h * k))
            a, b = X[..., 0, :], X[..., 1, :]
            X = xp.stack((a + b, a - b), axis=-2)
            h *= 2
        return xp.reshape(X, shape) * (1 / math.sqrt(n))

    _rmatmat = _matmat

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({Unitary, SelfAdjoint})

    def entries(self, i: Any, j: Any) -> Any:
        bits = np.asarray(i & j)
        for shift in (32, 16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        return (1 - 2 * (bits & 1)) / math.sqrt(self.n)

    def determinant(self) -> complex:
        return -1 if self.n == 2 else 1

    def _matvec_cost(self) -> Cost:
        n = self.n
        steps = max(n.bit_length() - 1, 1)
        return Cost(n * steps, 4.0 * self.itemsize * n * steps, 3.0 * self.itemsize * n, 1, 3 * steps)


def _whole(n: Any, name: str) -> int:
    if isinstance(n, tuple) and len(n) == 2 and n[0] == n[1]:  # the shape of the matrix
        n = n[0]
    try:
        whole = int(n)
    except (TypeError, ValueError):
        raise ShapeError(f"{name}({n!r}): the size must be a whole number.") from None
    if whole != n or whole < 0:
        raise ShapeError(f"{name}({n!r}): the size must be a whole number of at least 0.")
    return whole

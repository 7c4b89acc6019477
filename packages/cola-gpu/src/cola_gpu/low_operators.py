"""Operators whose products are in a low precision and whose vectors are in single precision.

A vector is rounded only where it meets a stored matrix, and before that scaled to a largest entry of one,
column by column; sums of products are accumulated in float32 where the library does that. So there is no
overflow between the factors of a composed operator, and the error of a product is a few units roundoff of
the low precision, whatever the length of the vector (Blanchard, Higham, Lopez, Mary, Pranesh, SIAM J. Sci.
Comput. 42 (2020) C124).

tfloat32 has the range of float32 and 10 bits of mantissa. Both operands are rounded to it here, to nearest,
so that the numbers are the same on every device; whether the product then runs on tensor cores only decides
its speed. No setting of a library that other threads would see is touched: JAX has a scoped one, and on CUDA
tensors of PyTorch it is a kernel of ours (`tf32`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cola_core.backends import Backend, dtype_name
from cola_core.cost import Cost
from cola_core.operators import LinearOperator, operator, static

__all__ = ["Rounded", "RoundedVectors", "cast", "full_precision", "precision_of", "round_bits", "round_tf32"]

Array = Any

_REAL = {"complex64": "float32", "complex128": "float64"}
_COMPLEX = {"float32": "complex64", "float64": "complex128", "tfloat32": "complex64"}
_BITS = {"bfloat16": 8, "float16": 11, "tfloat32": 11, "float32": 24}  # significant, the leading one included


def precision_of(dtype: Any) -> str:
    """The name of the real dtype of the same precision: `"float32"` for the float32 or complex64 of any
    library."""
    name = dtype_name(dtype)
    return _REAL.get(name, name)


def cast(x: Array, precision: str, backend: Backend) -> Array:
    """x, real or complex, in the given precision (tfloat32: the float32 that holds it, not rounded)."""
    if precision == "tfloat32":
        precision = "float32"
    return backend.astype(x, _COMPLEX[precision] if backend.is_complex(x) else precision)


def round_bits(x: Array, precision: str, backend: Backend) -> Array:
    """float32 or complex64 x with every part rounded to the significant bits of the precision, to nearest.

    float16 has its own range, too. The others are made by Dekker's splitting, where |x| above 1e33 becomes
    NaN, which shows up as a failed product.
    """
    bits = _BITS[precision]
    if bits == 24:
        return x
    if precision == "float16":
        if backend.is_complex(x):
            xp = backend.xp
            return round_bits(xp.real(x), precision, backend) + 1j * round_bits(
                xp.imag(x), precision, backend
            )
        return backend.astype(backend.astype(x, precision), "float32")
    if backend.name == "jax":
        from jax.lax import complex as make
        from jax.lax import reduce_precision

        if backend.is_complex(x):
            return make(*(reduce_precision(p, 8, bits - 1) for p in (x.real, x.imag)))
        return reduce_precision(x, 8, bits - 1)
    big = x * (2.0 ** (24 - bits) + 1.0)
    return big - (big - x)


def round_tf32(x: Array, backend: Backend) -> Array:
    """float32 or complex64 x with every part rounded to 10 bits of mantissa."""
    return round_bits(x, "tfloat32", backend)


def full_precision(be: Backend) -> AbstractContextManager[Any]:
    """A scope in which products of float32 matrices are in float32 (JAX, whose default on a GPU is tfloat32
    where there is such a thing, and bfloat16 on a TPU)."""
    if be.name == "jax":
        import jax

        return jax.default_matmul_precision("highest")  # type: ignore[no-any-return]
    return nullcontext()


def _unit_columns(be: Backend, X: Array) -> tuple[Array, Array]:
    """X with columns of largest entry one, and what they were."""
    xp = be.xp
    size = xp.max(xp.abs(X), axis=-2, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    return X / size, size


@operator
class Rounded(LinearOperator):
    """`scale * matrix`, for products with vectors in single precision.

    matrix: Dense in the low precision (tfloat32: in float32, rounded), or Sparse in float32 with rounded
    entries. scale: a number. precision: what vectors are rounded to.
    """

    matrix: LinearOperator
    scale: Any = 1.0
    precision: str = static(default="float16")

    def _shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    def _dtype(self) -> Any:
        be = self._concrete_backend()
        return be.dtype("complex64" if be.is_complex(self.matrix) else "float32")

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        X, size = _unit_columns(be, X)
        X = round_tf32(X, be) if self.precision == "tfloat32" else be.astype(X, self.precision)
        array = getattr(self.matrix, "array", None)
        if array is None:
            Y = self.matrix @ cast(X, "float32", be)
        elif self.precision == "tfloat32":
            Y = _product_tf32(be, array, X)
        else:
            Y = _product_half(be, array, X)
        return (size * self.scale) * cast(Y, "float32", be)

    def _matvec_cost(self) -> Cost:
        return self.matrix.matvec_cost


@operator
class RoundedVectors(LinearOperator):
    """A function of vectors in a low precision, for vectors in single precision."""

    inner: LinearOperator
    precision: str = static()

    def _shape(self) -> tuple[int, ...]:
        return self.inner.shape

    def _dtype(self) -> Any:
        return self._concrete_backend().dtype("float32")

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        X, size = _unit_columns(be, X)
        X = round_tf32(X, be) if self.precision == "tfloat32" else be.astype(X, self.precision)
        return size * cast(self.inner @ X, "float32", be)

    def _matvec_cost(self) -> Cost:
        return self.inner.matvec_cost


def _product_half(be: Backend, M: Array, X: Array) -> Array:
    """`M X` of half matrices, accumulated (and, but for PyTorch on a CPU, kept) in float32."""
    if be.name == "jax":
        return be.xp.matmul(M, X, preferred_element_type="float32")
    if be.name == "torch" and M.is_cuda and M.ndim == X.ndim == 2:
        import torch

        try:
            return torch.mm(M, X, out_dtype=torch.float32)
        except (RuntimeError, TypeError):  # not every GPU library has it
            return be.matmul(M, X)
    return be.matmul(M, X)


def _product_tf32(be: Backend, M: Array, X: Array) -> Array:
    """`M X` of float32 matrices whose entries are rounded to tfloat32 already, accumulated in float32."""
    if be.name == "jax":
        import jax

        with jax.default_matmul_precision("tensorfloat32"):  # of this thread
            return be.matmul(M, X)
    if be.name == "torch" and M.is_cuda and M.ndim == X.ndim == 2 and not be.is_complex(M):
        from .tf32 import available, matmul

        if available():
            return matmul(M, X)
    return be.matmul(M, X)

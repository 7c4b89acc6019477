"""Orthonormal DCT, DST (types 1 to 4) and Hartley transforms along the second-to-last axis, on any array backend.

NumPy arrays go through `scipy.fft` (imported at the first transform, never before). Other backends use one formula for
all eight trigonometric transforms, with the array library's own complex FFT: each entry is the real or imaginary part of
``exp(-2 pi i (j+p)(k+q) / M)``, which splits into a twiddle before, an FFT of length M and a twiddle after. The FFT
has length 2n (2n-2 for DCT-I, 2n+2 for DST-I): about four times the arithmetic of SciPy's real transforms, still
O(n log n), differentiable and traceable.

Names are ``dct1`` ... ``dct4``, ``dst1`` ... ``dst4`` and ``dht``. All matrices are real orthogonal; types 1 and 4 and the Hartley
transform are their own inverses, types 2 and 3 are each other's.
Source: Strang 1999; Bracewell 1983; conventions as in `scipy.fft` with ``norm="ortho", orthogonalize=True``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NAMES = ("dct1", "dct2", "dct3", "dct4", "dst1", "dst2", "dst3", "dst4", "dht")
INVERSE = {"dct2": "dct3", "dct3": "dct2", "dst2": "dst3", "dst3": "dst2"}


def inverse_name(name: str) -> str:
    """Name of the inverse (equivalently transposed) transform."""
    return INVERSE.get(name, name)


def transform(name: str, X: Any, xp: Any) -> Any:
    """Apply the transform to the columns of X (..., n, k); result has the shape and dtype of X."""
    if isinstance(X, np.ndarray):
        return _numpy(name, X)
    return _hartley(X, xp) if name == "dht" else _twiddled(name, X, xp)


def matrix(name: str, n: int) -> np.ndarray:
    """The transform as an explicit (n, n) float64 matrix, from its trigonometric definition in O(n^2)."""
    j = np.arange(n)
    if name == "dht":
        angle = 2 * np.pi / n * (np.outer(j, j) % n)
        return (np.cos(angle) + np.sin(angle)) / math.sqrt(n)
    length, p, q, rows, columns = _constants(name, n)
    # p and q are halves: reduce the integer 4 (j+p)(k+q) modulo 4M so that large angles lose no digits
    quarter = np.outer((2 * (j + q)).astype(np.int64), (2 * (j + p)).astype(np.int64)) % (4 * length)
    angle = 2 * np.pi / (4 * length) * quarter
    return rows[:, None] * (np.cos(angle) if name.startswith("dct") else np.sin(angle)) * columns


def _numpy(name: str, X: np.ndarray) -> np.ndarray:
    from scipy import fft

    if name == "dht":
        if np.iscomplexobj(X):
            return _hartley_complex(X)
        return _hartley_real(X, fft)
    if X.shape[-2] == 1:
        return X.copy()  # every orthonormal 1 x 1 transform here is [1]; SciPy refuses DCT-I of one point
    kind, run = int(name[3]), fft.dct if name.startswith("dct") else fft.dst
    if X.strides[-2] < X.strides[-1]:
        # columns are contiguous (as in a rotated Kronecker operand): keep that layout, so that the caller's next
        # reshape stays a view
        return run(X.swapaxes(-1, -2), type=kind, axis=-1, norm="ortho", orthogonalize=True).swapaxes(-1, -2)
    return run(X, type=kind, axis=-2, norm="ortho", orthogonalize=True)


def _hartley_real(X: np.ndarray, fft: Any) -> np.ndarray:
    n = X.shape[-2]
    F = fft.rfft(X, axis=-2, norm="ortho")
    out = np.empty(X.shape, dtype=F.real.dtype)
    half = n // 2 + 1
    np.subtract(F.real, F.imag, out=out[..., :half, :])
    tail = F[..., n - half : 0 : -1, :]  # frequencies n-k mirror k with the sine negated
    np.add(tail.real, tail.imag, out=out[..., half:, :])
    return out


def _hartley_complex(X: np.ndarray) -> np.ndarray:
    from scipy import fft

    return (_hartley_real(X.real, fft) + 1j * _hartley_real(X.imag, fft)).astype(X.dtype, copy=False)


def _hartley(X: Any, xp: Any) -> Any:
    n = X.shape[-2]
    if xp.isdtype(X.dtype, "complex floating"):
        return _hartley(xp.real(X), xp) + 1j * _hartley(xp.imag(X), xp)
    F = xp.fft.fft(X, axis=-2) if X.shape[-2] > 1 else X + 0j
    return xp.astype((xp.real(F) - xp.imag(F)) * (1 / math.sqrt(n)), X.dtype)


def _constants(name: str, n: int) -> tuple[int, float, float, np.ndarray, np.ndarray]:
    """FFT length M, shifts p (input) and q (output), and the output and input scalings of the orthonormal transform."""
    cosine, kind = name.startswith("dct"), int(name[3])
    ones = np.ones(n)
    edge = ones.copy()
    if cosine:
        edge[0] = math.sqrt(0.5)
    elif n:
        edge[-1] = math.sqrt(0.5)
    if kind == 1:
        if cosine:
            edge[-1] = math.sqrt(0.5)
            return 2 * (n - 1), 0.0, 0.0, edge * math.sqrt(2 / (n - 1)), edge
        return 2 * (n + 1), 1.0, 1.0, ones * math.sqrt(2 / (n + 1)), ones
    scale = math.sqrt(2 / n)
    other = 0.0 if cosine else 1.0
    if kind == 2:
        return 2 * n, 0.5, other, edge * scale, ones
    if kind == 3:
        return 2 * n, other, 0.5, ones * scale, edge
    return 2 * n, 0.5, 0.5, ones * scale, ones


def _twiddled(name: str, X: Any, xp: Any) -> Any:
    n = X.shape[-2]
    if n == 1:
        return X * 1
    if xp.isdtype(X.dtype, "complex floating"):  # real matrices act on both parts
        return _twiddled(name, xp.real(X), xp) + 1j * _twiddled(name, xp.imag(X), xp)
    length, p, q, rows, columns = _constants(name, n)
    j = np.arange(n)
    pre = columns * np.exp(-2j * np.pi / length * (j * q))
    post = rows * np.exp(-2j * np.pi / length * (p * (j + q)))
    wide = xp.result_type(X.dtype, xp.complex64)
    like = {"device": X.device} if hasattr(X, "device") and not callable(X.device) and _eager(X) else {}
    pre, post = (xp.asarray(t, dtype=wide, **like)[:, None] for t in (pre, post))
    F = xp.fft.fft(xp.astype(X, wide) * pre, n=length, axis=-2)[..., :n, :] * post
    return xp.astype(xp.real(F) if name.startswith("dct") else -xp.imag(F), X.dtype)


def _eager(X: Any) -> bool:
    return not type(X).__module__.startswith("jax")  # JAX constants follow the computation's device by themselves

"""Orthonormal DCT, DST (types 1 to 4) and Hartley transforms along the second-to-last axis, on any backend.

NumPy arrays go through `scipy.fft` (imported at the first transform, never before). Elsewhere types 1 to 3
and Hartley are one *real* FFT of the array library (of length n, about 2n for type 1) with twiddle factors;
type 4 is one complex FFT of length 2n. All are O(n log n), differentiable and traceable.

Names are ``dct1`` ... ``dct4``, ``dst1`` ... ``dst4`` and ``dht``. All matrices are real orthogonal; types 1
and 4 and the Hartley transform are their own inverses, types 2 and 3 are each other's.
Sources: Makhoul, A fast cosine transform in one and two dimensions, IEEE TASSP 28 (1980) (types 2 and 3);
Strang 1999; Bracewell 1983. Conventions as in `scipy.fft` with ``norm="ortho", orthogonalize=True``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .fuse import fused

NAMES = ("dct1", "dct2", "dct3", "dct4", "dst1", "dst2", "dst3", "dst4", "dht")
INVERSE = {"dct2": "dct3", "dct3": "dct2", "dst2": "dst3", "dst3": "dst2"}


def inverse_name(name: str) -> str:
    """Name of the inverse (equivalently transposed) transform."""
    return INVERSE.get(name, name)


def transform(name: str, X: Any, xp: Any) -> Any:
    """Apply the transform to the columns of X (..., n, k); result has the shape and dtype of X."""
    if isinstance(X, np.ndarray):
        return _numpy(name, X)
    if X.shape[-2] == 1 or 0 in X.shape:
        return X * 1  # every orthonormal 1 x 1 transform is [1]; FFT libraries refuse empty arrays
    return fused(_any_dtype, X, xp, name)


def _any_dtype(X: Any, xp: Any, name: str) -> Any:
    if xp.isdtype(X.dtype, "complex floating"):  # real matrices act on both parts
        return _portable(name, xp.real(X), xp) + 1j * _portable(name, xp.imag(X), xp)
    return _portable(name, X, xp)


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
        # columns are contiguous (as in a rotated Kronecker operand): keep that layout, so the caller's next
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


def _constants(name: str, n: int) -> tuple[int, float, float, np.ndarray, np.ndarray]:
    """Denominator M, shifts p (input) and q (output), output and input scalings.

    The entries are cosines or sines of ``2 pi (j + p)(k + q) / M``.
    """
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


def _portable(name: str, X: Any, xp: Any) -> Any:
    """The transform of a real array by the array library's own FFT."""
    if name == "dht":
        return _hartley(X, xp)
    if name == "dct2":
        return _dct2(X, xp)
    if name == "dct3":
        return _dct3(X, xp)
    if name == "dst2":  # a sine series is the cosine series of the alternating sequence, read backwards
        return xp.flip(_dct2(_alternate(X, xp), xp), axis=-2)
    if name == "dst3":
        return _alternate(_dct3(xp.flip(X, axis=-2), xp), xp)
    return _type1(name, X, xp) if name[3] == "1" else _type4(name, X, xp)


def _constant(values: np.ndarray, X: Any, xp: Any, wide: bool = False) -> Any:
    """A NumPy vector as a column in X's library, device and precision (complex if ``wide``)."""
    dtype = xp.result_type(X.dtype, xp.complex64) if wide else X.dtype
    if type(X).__module__.startswith("torch"):
        return xp.asarray(values[:, None], dtype=dtype, device=X.device)
    return xp.asarray(values[:, None], dtype=dtype)  # elsewhere constants follow the computation's device


def _index(values: np.ndarray, X: Any, xp: Any) -> Any:
    if type(X).__module__.startswith("torch"):
        return xp.asarray(values, device=X.device)
    return xp.asarray(values)


def _alternate(X: Any, xp: Any) -> Any:
    return _constant((-1.0) ** np.arange(X.shape[-2]), X, xp) * X


def _hartley(X: Any, xp: Any) -> Any:
    n = X.shape[-2]
    F = xp.fft.rfft(X, axis=-2, norm="ortho")
    re, im = xp.real(F), xp.imag(F)
    mirrored = slice(1, n - n // 2)  # frequency n-k mirrors k with the sine negated
    return xp.concat([re - im, xp.flip(re[..., mirrored, :] + im[..., mirrored, :], axis=-2)], axis=-2)


def _twiddle(n: int) -> np.ndarray:
    """``exp(-i pi k / 2n)`` times the orthonormal weights sqrt(2) (1 for k = 0), k = 0 .. n//2."""
    w = math.sqrt(2) * np.exp(-0.5j * np.pi / n * np.arange(n // 2 + 1))
    w[0] = 1
    return w


def _dct2(X: Any, xp: Any) -> Any:
    n = X.shape[-2]
    # even entries, odd ones backwards
    folded = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
    F = xp.fft.rfft(xp.take(X, _index(folded, X, xp), axis=-2), axis=-2, norm="ortho")
    Z = F * _constant(_twiddle(n), X, xp, wide=True)
    return xp.concat([xp.real(Z), xp.flip(-xp.imag(Z)[..., 1 : n - n // 2, :], axis=-2)], axis=-2)


def _dct3(X: Any, xp: Any) -> Any:
    n = X.shape[-2]
    half = n // 2 + 1
    backwards = xp.flip(X[..., n - half + 1 :, :], axis=-2)
    Z = X[..., :half, :] - 1j * xp.concat([0 * X[..., :1, :], backwards], axis=-2)
    F = Z * _constant(1 / _twiddle(n), X, xp, wide=True)
    folded = np.concatenate([np.arange(0, n, 2), np.arange(1, n, 2)[::-1]])
    v = xp.fft.irfft(F, n=n, axis=-2, norm="ortho")
    return xp.take(v, _index(np.argsort(folded), X, xp), axis=-2)


def _type1(name: str, X: Any, xp: Any) -> Any:
    """Real FFT of the even (cosine) or odd (sine) extension."""
    n = X.shape[-2]
    if name == "dst1":
        zero = 0 * X[..., :1, :]
        F = xp.fft.rfft(xp.concat([zero, X, zero, -xp.flip(X, axis=-2)], axis=-2), axis=-2)
        return xp.imag(F)[..., 1 : n + 1, :] * (-0.5 * math.sqrt(2 / (n + 1)))
    ends = np.ones(n)
    ends[[0, -1]] = math.sqrt(2)
    U = _constant(ends, X, xp) * X
    F = xp.fft.rfft(xp.concat([U, xp.flip(U[..., 1:-1, :], axis=-2)], axis=-2), axis=-2)
    return xp.real(F) * _constant(math.sqrt(0.5 / (n - 1)) / ends, X, xp)


def _type4(name: str, X: Any, xp: Any) -> Any:
    """``exp(-2 pi i (j + 1/2)(k + 1/2) / 2n)`` as a twiddle, a zero-padded FFT and another twiddle."""
    n = X.shape[-2]
    length, p, q, _, _ = _constants(name, n)
    j = np.arange(n)
    pre = np.exp(-2j * np.pi / length * (j * q))
    post = math.sqrt(2 / n) * np.exp(-2j * np.pi / length * (p * (j + q)))
    F = xp.fft.fft(X * _constant(pre, X, xp, wide=True), n=length, axis=-2)[..., :n, :]
    F = F * _constant(post, X, xp, wide=True)
    return xp.real(F) if name == "dct4" else -xp.imag(F)

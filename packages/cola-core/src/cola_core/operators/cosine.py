"""Orthonormal cosine and sine transforms of real columns (*batch, n, k) by way of Fourier transforms.

For the libraries that have none of their own; SciPy answers for NumPy. Sources: Makhoul, IEEE Trans. ASSP 28
(1980) 27 (types 2 and 3 by one real transform of length n); Rao & Yip (1990), ch. 2 (symmetric extensions for
type 1, shifted angles for type 4, sines as cosines of alternating columns).
"""

from __future__ import annotations

import math

from ..backends.base import Array, Backend
from .fourier import fft, ifft

__all__ = ["dct1", "dct2", "dct3", "dct4", "dst1", "dst2", "dst3", "dst4"]


def _count(be: Backend, X: Array, n: int) -> Array:
    """The numbers 0, ..., n - 1 as a column in the precision of X."""
    return be.astype(be.xp.arange(n, device=be.device(X)), X.dtype)[:, None]


def _turn(be: Backend, angle: Array) -> Array:
    return be.xp.cos(angle) + 1j * be.xp.sin(angle)


def _but_first(be: Backend, k: Array, first: float, others: float) -> Array:
    return be.xp.where(k == 0, first + 0 * k, others + 0 * k)


def dct1(be: Backend, X: Array) -> Array:
    """One real transform of the even extension, of length 2 (n - 1)."""
    xp, n = be.xp, X.shape[-2]
    k = _count(be, X, n)
    end = (k == 0) | (k == n - 1)
    one = xp.ones_like(k)
    U = X * xp.where(end, math.sqrt(2) * one, one)
    even = xp.concat((U, xp.flip(U[..., 1:-1, :], axis=-2)), axis=-2)
    Y = xp.real(fft(be, even, (2 * n - 2,), -2, real=True))
    return Y * (math.sqrt(0.5 / (n - 1)) * xp.where(end, math.sqrt(0.5) * one, one))


def dst1(be: Backend, X: Array) -> Array:
    """One real transform of the odd extension, of length 2 (n + 1)."""
    xp, n = be.xp, X.shape[-2]
    zero = xp.zeros_like(X[..., :1, :])
    odd = xp.concat((zero, X, zero, -xp.flip(X, axis=-2)), axis=-2)
    Y = xp.imag(fft(be, odd, (2 * n + 2,), -2, real=True))[..., 1 : n + 1, :]
    return -math.sqrt(0.5 / (n + 1)) * Y


def dct2(be: Backend, X: Array) -> Array:
    """One real transform of the even-numbered rows followed by the odd-numbered ones backwards."""
    xp, n = be.xp, X.shape[-2]
    V = xp.concat((X[..., ::2, :], xp.flip(X[..., 1::2, :], axis=-2)), axis=-2)
    half = n // 2 + 1
    k = _count(be, X, half)
    turn = _turn(be, -0.5 * math.pi / n * k) * _but_first(be, k, math.sqrt(1 / n), math.sqrt(2 / n))
    W = fft(be, V, (n,), -2, real=True) * turn
    # y_k is the real part, y_{n-k} the imaginary one with its sign changed
    back = xp.flip(xp.imag(W[..., 1 : n - half + 1, :]), axis=-2)
    return xp.concat((xp.real(W), -back), axis=-2)


def dct3(be: Backend, X: Array) -> Array:
    """The steps of ``dct2`` undone."""
    xp, n = be.xp, X.shape[-2]
    half, first = n // 2 + 1, (n + 1) // 2
    k = _count(be, X, half)
    turn = _turn(be, 0.5 * math.pi / n * k) * _but_first(be, k, math.sqrt(n), math.sqrt(n / 2))
    zero = xp.zeros_like(X[..., :1, :])
    mirrored = xp.flip(X[..., n - half + 1 :, :], axis=-2)  # y_{n-k} for k = 1, ..., half - 1
    Y = X[..., :half, :] - 1j * xp.concat((zero, mirrored), axis=-2)
    V = ifft(be, Y * turn, (n,), -2, real=True)
    odd = xp.flip(V[..., first:, :], axis=-2)
    if n % 2:
        odd = xp.concat((odd, zero), axis=-2)
    both = xp.stack((V[..., :first, :], odd), axis=-2)
    return xp.reshape(both, (*X.shape[:-2], 2 * first, X.shape[-1]))[..., :n, :]


def dct4(be: Backend, X: Array) -> Array:
    """The real part of a transform of length 2n with shifted angles."""
    return be.xp.real(_shifted(be, X))


def dst4(be: Backend, X: Array) -> Array:
    """The imaginary part of a transform of length 2n with shifted angles."""
    return -be.xp.imag(_shifted(be, X))


def _shifted(be: Backend, X: Array) -> Array:
    """``sqrt(2/n) sum_j x_j exp(-i pi (2j+1)(2k+1) / 4n)``:
    a transform of length 2n between two rotations."""
    n = X.shape[-2]
    j = _count(be, X, n)
    Y = fft(be, X * _turn(be, -0.5 * math.pi / n * j), (2 * n,), -2)[..., :n, :]
    return Y * (math.sqrt(2 / n) * _turn(be, -0.25 * math.pi / n * (2 * j + 1)))


def _alternating(be: Backend, X: Array) -> Array:
    return X * (1 - 2 * (_count(be, X, X.shape[-2]) % 2))


def dst2(be: Backend, X: Array) -> Array:
    """``dct2`` of alternating signs, backwards."""
    return be.xp.flip(dct2(be, _alternating(be, X)), axis=-2)


def dst3(be: Backend, X: Array) -> Array:
    """The steps of ``dst2`` undone."""
    return _alternating(be, dct3(be, be.xp.flip(X, axis=-2)))

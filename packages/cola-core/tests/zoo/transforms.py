"""Fast transforms, circulant, Toeplitz and Hankel matrices, and convolutions."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
import scipy.signal as ss

import cola_core as cola
from cola_core import ops
from cola_core.backends import backend_of

from .common import draw


def transform(rng, c):
    n = 6

    def build(f):
        like = f(np.zeros(1))
        more = dict(dtype=like.dtype, backend=backend_of(like).name)
        return ops.FFT(n, **more) if c else ops.DCT(n, **more)

    eye = np.eye(n)
    import scipy.fft

    return build, np.fft.fft(eye, norm="ortho") if c else scipy.fft.dct(eye, axis=0, norm="ortho")


def circulant(rng, c):
    col = draw(rng, 7, cplx=c) / 4
    col[0] = 3
    return lambda f: ops.Circulant(f(col)), sl.circulant(col)


def circulant_psd(rng, c):
    col = draw(rng, 8, cplx=c)
    col = (col + np.conj(np.roll(col[::-1], 1))) / 8
    col[0] = 3
    return lambda f: cola.PSD(ops.Circulant(f(col))), sl.circulant(col)


def circulant_kron_shift(rng, c):
    a, b = np.array([4.0, 1, 0, 1]), np.array([2.0, -0.5, -0.5])
    A, B = sl.circulant(a), sl.circulant(b)
    S = cola.SelfAdjoint
    return (
        lambda f: cola.kron(S(ops.Circulant(f(a))), S(ops.Circulant(f(b)))) + 0.5 * ops.Identity(12),
        np.kron(A, B) + 0.5 * np.eye(12),
    )


def toeplitz(rng, c):
    col, row = draw(rng, 6, cplx=c) / 4, draw(rng, 6, cplx=c) / 4
    col[0] = 2
    return lambda f: ops.Toeplitz(f(col), f(row)), sl.toeplitz(col, row)


def toeplitz_tall(rng, c):
    col, row = draw(rng, 6, cplx=c), draw(rng, 4, cplx=c)
    return lambda f: ops.Toeplitz(f(col), f(row)), sl.toeplitz(col, row)


def toeplitz_psd(rng, c):
    col = draw(rng, 7, cplx=c) / 8
    col[0] = 2
    return lambda f: cola.PSD(ops.Toeplitz(f(col))), sl.toeplitz(col)


def hankel(rng, c):
    col, row = draw(rng, 5, cplx=c) / 4, draw(rng, 5, cplx=c) / 4
    col[-1] = row[0] = 2
    return lambda f: ops.Hankel(f(col), f(row)), sl.hankel(col, row)


def convolution(rng, c):
    k = draw(rng, 3, 2, cplx=c) / 8
    k[1, 0] = 2
    D = np.stack([ss.convolve(e.reshape(3, 3), k, "same").ravel() for e in np.eye(9)], axis=1)
    return lambda f: ops.ConvolveND(f(k), (3, 3)), D


def convolution_circular(rng, c):
    k = draw(rng, 2, 2, cplx=c) / 8
    k[0, 0] = 2
    shifts = [(i, j) for i in range(2) for j in range(2)]
    D = np.stack(
        [sum(k[s] * np.roll(e.reshape(2, 3), s, (0, 1)) for s in shifts).ravel() for e in np.eye(6)], axis=1
    )
    return lambda f: ops.ConvolveND(f(k), (2, 3), "circular"), D


ENTRIES = (
    transform, circulant, circulant_psd, circulant_kron_shift, toeplitz, toeplitz_tall, toeplitz_psd, hankel,
    convolution, convolution_circular,
)  # fmt: skip

SINGULAR: set[str] = set()

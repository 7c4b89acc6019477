"""One operator of every class at a size of choice, with its dense matrix.

``SAMPLES[name](n, rng)`` returns (operator, dense), square of size n and real, so that sums and products of
any two have an easy reference.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
import scipy.linalg as sl

import cola_core as cola
from cola_core import ops


def _well(rng, n):
    return rng.normal(size=(n, n)) + 2 * n**0.5 * np.eye(n)


def _spd(rng, n):
    a = rng.normal(size=(n, n))
    return a @ a.T + np.eye(n)


def dense(n, rng):
    a = _well(rng, n)
    return ops.Dense(a), a


def psd(n, rng):
    a = _spd(rng, n)
    return cola.PSD(ops.Dense(a)), a


def sym(n, rng):
    a = rng.normal(size=(n, n))
    return cola.SelfAdjoint(ops.Dense(a + a.T)), a + a.T


def triangular(n, rng):
    a = _well(rng, n)
    return ops.Triangular(a, lower=False), np.triu(a)


def diagonal(n, rng):
    d = rng.normal(size=n) + 3
    return ops.Diagonal(d), np.diag(d)


def scalar(n, rng):
    c = float(rng.normal() + 2)
    return ops.ScalarMul(c, n), c * np.eye(n)


def identity(n, rng):
    return ops.Identity(n), np.eye(n)


def zero(n, rng):
    return ops.Zero(n), np.zeros((n, n))


def _diagonals(n, rng, offsets):
    a = sum(np.diag(rng.normal(size=n - abs(k)), k) for k in offsets if abs(k) < n)
    return a + 3 * np.eye(n)


def tridiagonal(n, rng):
    a = _diagonals(n, rng, (-1, 0, 1))
    return ops.Tridiagonal(np.diag(a, -1), np.diag(a), np.diag(a, 1)), a


def banded(n, rng):
    a = _diagonals(n, rng, (-2, -1, 0, 1))
    bands = np.stack(
        [np.concatenate([np.zeros(1), np.diag(a, 1)])]
        + [np.concatenate([np.diag(a, -k), np.zeros(n)])[:n] for k in range(3)]
    )
    return ops.Banded(bands, (2, 1)), a


def householder(n, rng):
    v = rng.normal(size=n)
    return ops.Householder(v), np.eye(n) - 2 * np.outer(v, v) / (v @ v)


def householderproduct(n, rng):
    V, tau = np.tril(rng.normal(size=(n, min(n, 2))), -1) + np.eye(n)[:, :2], rng.normal(size=min(n, 2))
    a = np.eye(n)
    for v, t in zip(V.T, tau, strict=True):
        a = a @ (np.eye(n) - t * np.outer(v, v))
    return ops.HouseholderProduct(V, tau), a


def permutation(n, rng):
    p = rng.permutation(n)
    return ops.Permutation(p), np.eye(n)[p]


def sparse(n, rng):
    a = _well(rng, n) * (rng.random((n, n)) < 0.6) + np.eye(n)
    i, j = np.nonzero(a)
    return ops.Sparse(a[i, j], i, j, (n, n)), a


def lowrank(n, rng):
    U, V = rng.normal(size=(n, 1)), rng.normal(size=(n, 1))
    return ops.LowRank(U, V), U @ V.T


def lowrank_psd(n, rng):
    U = rng.normal(size=(n, 1))
    return ops.LowRank(U), U @ U.T


def sum_(n, rng):
    a, b = _well(rng, n), rng.normal(size=(n, n))
    return ops.Sum(ops.Dense(a), ops.Dense(b)), a + b


def product(n, rng):
    a, b = _well(rng, n), _well(rng, n)
    return ops.Product(ops.Dense(a), ops.Dense(b)), a @ b


def _factors(n):
    return (2, n // 2) if n % 2 == 0 else (1, n)


def kronecker(n, rng):
    p, q = _factors(n)
    a, b = _well(rng, p), _well(rng, q)
    return ops.Kronecker(ops.Dense(a), ops.Dense(b)), np.kron(a, b)


def kronsum(n, rng):
    p, q = _factors(n)
    a, b = _spd(rng, p), _spd(rng, q)
    return (
        ops.KronSum(cola.PSD(ops.Dense(a)), cola.PSD(ops.Dense(b))),
        np.kron(a, np.eye(q)) + np.kron(np.eye(p), b),
    )


def blockdiag(n, rng):
    a, b = _well(rng, 1), _well(rng, n - 1)
    return ops.BlockDiag(ops.Dense(a), ops.Dense(b)), sl.block_diag(a, b)


def transpose(n, rng):
    a = _well(rng, n)
    return ops.Transpose(ops.Dense(a)), a.T


def adjoint(n, rng):
    a = _well(rng, n)
    return ops.Adjoint(ops.Dense(a)), a.T


def sliced(n, rng):
    a = _well(rng, n + 2)
    return ops.Sliced(ops.Dense(a), np.arange(n), np.arange(n)), a[:n, :n]


def nodispatch(n, rng):
    a = _well(rng, n)
    return cola.no_dispatch(ops.Dense(a)), a


def functionoperator(n, rng):
    a = _well(rng, n)
    return ops.FunctionOperator(lambda x: a @ x, (n, n), "float64", rmatvec=lambda y: a.T @ y), a


def inverse(n, rng):
    a = _well(rng, n)
    return cola.linalg.Inverse(ops.Dense(a)), np.linalg.inv(a)


def block(n, rng):
    a, b, c, d = (
        _well(rng, n - 1),
        rng.normal(size=(n - 1, 1)),
        rng.normal(size=(1, n - 1)),
        _well(rng, 1) + 3,
    )
    return ops.Block([[a, b], [c, d]]), np.block([[a, b], [c, d]])


def concatenated(n, rng):
    a, b = rng.normal(size=(1, n)) + 2, _well(rng, n)[1:]
    return ops.Concatenated(a, b), np.concatenate([a, b])


def khatrirao(n, rng):
    a, b = rng.normal(size=(1, n)) + 3, _well(rng, n)
    return ops.KhatriRao(a, b), a * b


def hadamardproduct(n, rng):
    a, b = _well(rng, n), _well(rng, n)
    return ops.HadamardProduct(a, b), a * b


def projection(n, rng):
    a = rng.normal(size=(n, 1))
    return ops.Projection.onto(a), a @ a.T / (a.T @ a)


def circulant(n, rng):
    c = rng.normal(size=n) + 3 * (np.arange(n) == 0)
    return ops.Circulant(c), sl.circulant(c)


def toeplitz(n, rng):
    c, r = rng.normal(size=n) + 3 * (np.arange(n) == 0), rng.normal(size=n)
    return ops.Toeplitz(c, r), sl.toeplitz(c, r)


def hankel(n, rng):
    c, r = rng.normal(size=n) + 3 * (np.arange(n) == n - 1), rng.normal(size=n)
    return ops.Hankel(c, r), sl.hankel(c, np.append(c[-1], r[1:]))


def convolvend(n, rng):
    f = np.array([rng.normal(), 4.0, rng.normal()])
    return ops.ConvolveND(f, n), np.diag([4.0] * n) + np.diag([f[0]] * (n - 1), 1) + np.diag(
        [f[2]] * (n - 1), -1
    )


def circularconvolution(n, rng):
    f = np.array([4.0, rng.normal()])[:n]
    return ops.ConvolveND(f, n, "circular"), sl.circulant(np.append(f, np.zeros(n - len(f))))


def fft(n, rng):
    c = rng.normal(size=n) + 3 * (np.arange(n) == 0)
    F = ops.FFT(n)
    return F.H @ ops.Diagonal(np.fft.fft(c)) @ F, sl.circulant(c)


def dct(n, rng):
    return ops.DCT(n), scipy.fft.dct(np.eye(n), axis=0, norm="ortho")


def othertransforms(n, rng):
    F = np.fft.fft(np.eye(n), norm="ortho")
    S = scipy.fft.dst(np.eye(n), axis=0, norm="ortho")
    A, a = ops.Hartley(n) + 2 * ops.DST(n), F.real - F.imag + 2 * S
    if n & (n - 1):  # Walsh-Hadamard matrices have sizes that are powers of two
        return A, a
    return A + 3 * ops.WalshHadamard(n), a + 3 * sl.hadamard(n) / n**0.5


def realpart(n, rng):
    a = _well(rng, n) + 1j * rng.normal(size=(n, n))
    return ops.RealPart(ops.Dense(a)), a.real


def kernel(n, rng):
    x = np.sort(rng.normal(size=(n, 1)), axis=0) + np.arange(n)[:, None]
    return ops.Kernel(x, x, lambda s, t: np.exp(-((s - t.T) ** 2))), np.exp(-((x - x.T) ** 2))


def interpolated(n, rng):
    a, where = _well(rng, n + 1), np.stack([np.arange(n), np.arange(1, n + 1)], axis=1)
    w = np.stack([np.full(n, 0.75), np.full(n, 0.25)], axis=1)
    W = np.zeros((n, n + 1))
    np.put_along_axis(W, where, w, axis=1)
    return ops.Interpolated(ops.Dense(a), where, w), W @ a @ W.T


SAMPLES = {
    f.__name__.rstrip("_"): f
    for f in (
        dense, psd, sym, triangular, diagonal, scalar, identity, zero, permutation, sparse, lowrank,
        lowrank_psd, tridiagonal, banded, householder, householderproduct,
        sum_, product, kronecker, kronsum, blockdiag, transpose, adjoint, sliced, nodispatch,
        functionoperator, inverse, block, concatenated, khatrirao, hadamardproduct, projection,
        circulant, toeplitz, hankel, convolvend, circularconvolution, fft, dct, othertransforms,
        realpart, kernel, interpolated,
    )
}  # fmt: skip

FUSSY = {"blockdiag", "circularconvolution", "othertransforms"}  # not for every size; all are for 4

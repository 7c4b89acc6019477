"""Structured operators of about a thousand rows made of small arrays, to see that no rule makes a large one.

``LARGE[name](rng)`` returns ``build(asarray)``; nothing that an operator stores has more than a few thousand
entries.
"""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core import ops
from cola_core.backends import backend_of
from cola_core.linalg.exponential import ExponentialAction

P, Q = 32, 32
N = P * Q


def _well(rng, n):
    return rng.normal(size=(n, n)) + 2 * n**0.5 * np.eye(n)


def _spd(rng, n):
    a = rng.normal(size=(n, n)) / n**0.5
    return a @ a.T + np.eye(n)


def _psd(f, a):
    return cola.PSD(ops.Dense(f(a)))


def kron(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: cola.kron(f(a), f(b))


def kron_psd(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: cola.kron(_psd(f, a), _psd(f, b))


def kron_scaled(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: 2 * cola.kron(_psd(f, a), _psd(f, b))


def kron_shift(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: cola.kron(_psd(f, a), _psd(f, b)) + 0.5 * ops.Identity(N)


def kron_triangular(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: cola.kron(ops.Triangular(f(a)), ops.Triangular(f(b), lower=False))


def kronsum(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: cola.kronsum(_psd(f, a), _psd(f, b))


def kronsum_general(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: cola.kronsum(f(a), f(b))


def blockdiag(rng):
    a, b = _well(rng, 16), _well(rng, 32)
    return lambda f: cola.block_diag(f(a), f(b), multiplicities=[32, 16])


def blockdiag_psd(rng):
    a, b = _spd(rng, 16), _spd(rng, 32)
    return lambda f: cola.block_diag(_psd(f, a), _psd(f, b), multiplicities=[32, 16])


def diagonal(rng):
    d = rng.uniform(1, 2, size=N)
    return lambda f: ops.Diagonal(f(d))


def diagonal_psd(rng):
    d = rng.uniform(1, 2, size=N)
    return lambda f: cola.PSD(ops.Diagonal(f(d)))


def scalar(rng):
    return lambda f: ops.ScalarMul(f(np.asarray(1.5)), N)


def scalar_psd(rng):
    return lambda f: cola.PSD(ops.ScalarMul(f(np.asarray(1.5)), N))


def permuted(rng):
    p, d = rng.permutation(N), rng.uniform(1, 2, size=N)

    def build(f):
        one = ops.Diagonal(f(d))
        return ops.Permutation(one.backend.asarray(p), "float64") @ one

    return build


def permutation(rng):
    p = rng.permutation(N)

    def build(f):
        from cola_core.backends import backend_of

        return ops.Permutation(backend_of(f(np.zeros(1))).asarray(p), "float64")

    return build


def product(rng):
    a, b, d = _well(rng, P), _well(rng, Q), rng.uniform(1, 2, size=N)
    return lambda f: cola.kron(f(a), f(b)) @ ops.Diagonal(f(d))


def transposed(rng):
    a, b = _well(rng, P) + 1j * np.eye(P), _well(rng, Q)
    return lambda f: ops.Transpose(cola.kron(f(a), f(b + 0j)))


def adjoint(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: ops.Adjoint(cola.kron(f(a), f(b)))


def inverse(rng):
    U, d = rng.normal(size=(N, 2)) / N**0.5, rng.uniform(1, 2, size=N)
    return lambda f: cola.inv(ops.LowRank(f(U)) + cola.PSD(ops.Diagonal(f(d))))


def lowrank(rng):
    U, V = rng.normal(size=(N, 2)), rng.normal(size=(N, 2))
    return lambda f: ops.LowRank(f(U), f(V))


def lowrank_psd(rng):
    U = rng.normal(size=(N, 2))
    return lambda f: ops.LowRank(f(U))


def diagonal_plus_lowrank(rng):
    U, d = rng.normal(size=(N, 2)) / N**0.5, rng.uniform(1, 2, size=N)
    return lambda f: ops.LowRank(f(U)) + cola.PSD(ops.Diagonal(f(d)))


def kron_shift_lowrank(rng):
    a, b, U = _spd(rng, P), _spd(rng, Q), rng.normal(size=(N, 2)) / N**0.5
    return lambda f: cola.kron(_psd(f, a), _psd(f, b)) + 0.5 * ops.Identity(N) + ops.LowRank(f(U))


def kronsum_shift(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: cola.kronsum(_psd(f, a), _psd(f, b)) + 0.5 * ops.Identity(N)


def sum_of_two(rng):
    a, b, d = _well(rng, P), _well(rng, Q), rng.uniform(1, 2, size=N)
    return lambda f: cola.kron(f(a), f(b)) + ops.Diagonal(f(d))


def sparse(rng):
    i = np.arange(N)
    rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
    data = np.concatenate([rng.uniform(4, 5, N), rng.uniform(-1, 1, 2 * N - 2)])
    return lambda f: ops.Sparse(f(data), rows, cols, (N, N))


def identity(rng):
    def build(f):
        one = f(np.zeros(1))
        return cola.I_like(ops.Diagonal(one)).replace(n=N)

    return build


def unitary(rng):
    q, r = np.linalg.qr(rng.normal(size=(P, P)))[0], np.linalg.qr(rng.normal(size=(Q, Q)))[0]
    return lambda f: cola.Unitary(cola.no_dispatch(cola.kron(f(q), f(r))))


def adjoint_selfadjoint(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: ops.Adjoint(cola.SelfAdjoint(cola.kron(_psd(f, a), _psd(f, b))))


def product_thin(rng):
    U, V = rng.normal(size=(N, 3)), rng.normal(size=(3, N))
    return lambda f: ops.Product(ops.Dense(f(U)), ops.Dense(f(V)))


def block_schur(rng):
    d, b, c = rng.uniform(1, 2, size=N), rng.normal(size=(N, 3)) / N**0.5, _spd(rng, 3)
    return lambda f: ops.Block([[ops.Diagonal(f(d)), f(b)], [f(b.T), f(c)]])


def block_saddle(rng):
    d, b = rng.uniform(1, 2, size=N), rng.normal(size=(3, N)) / N**0.5

    def build(f):
        B = ops.Dense(f(b))
        return ops.Block([[cola.PSD(ops.Diagonal(f(d))), B.H], [B, None]])

    return build


def block_diagonals(rng):
    d, e = rng.uniform(1, 2, size=N // 2), rng.uniform(-1, 1, size=N // 2)
    return lambda f: ops.Block(
        [[ops.Diagonal(f(d)), ops.Diagonal(f(e))], [ops.Diagonal(f(e)), ops.ScalarMul(3.0, N // 2)]]
    )


def block_triangular(rng):
    a, b, c, d = _well(rng, 63), _well(rng, 16), rng.normal(size=(16, 1008)), _well(rng, 16)
    return lambda f: ops.Block([[cola.kron(f(a), f(b)), None], [f(c), f(d)]])


def block_tridiagonal(rng):
    a, b, k = _well(rng, 32) + 32 * np.eye(32), rng.normal(size=(32, 32)), N // 32

    def build(f):
        A, B, C = ops.Dense(f(a)), ops.Dense(f(b)), ops.Dense(f(b.T))
        near = {0: A, 1: B, -1: C}
        return ops.Block([[near.get(j - i) for j in range(k)] for i in range(k)])

    return build


def projection_shift(rng):
    q = np.linalg.qr(rng.normal(size=(N, 3)))[0]
    return lambda f: 2 * ops.Projection(cola.Stiefel(f(q)), complement=True) + ops.Identity(N)


def elementwise(rng):
    U, a, b = rng.normal(size=(N, 2)), _spd(rng, P), _spd(rng, Q)
    return lambda f: ops.HadamardProduct(cola.kron(_psd(f, a), _psd(f, b)), ops.LowRank(f(U)))


def product_lowrank(rng):
    U, a, b = rng.normal(size=(N, 2)), _spd(rng, P), _spd(rng, Q)
    return lambda f: ops.LowRank(f(U)) @ cola.kron(f(a), f(b))


def circulant(rng):
    c = rng.normal(size=N) / N + 3 * (np.arange(N) == 0)
    return lambda f: ops.Circulant(f(c))


def circulant_psd(rng):
    c = 3.0 * (np.arange(N) == 0) + 0.5 / (1 + np.minimum(np.arange(N), N - np.arange(N))) ** 2
    return lambda f: cola.PSD(ops.Circulant(f(c)))


def convolution_circular(rng):
    k = np.array([[4.0, 0.5], [0.3, 0.1]])
    return lambda f: ops.ConvolveND(f(k), (P, Q), "circular")


def convolution(rng):
    k = rng.normal(size=(3, 2))
    return lambda f: ops.ConvolveND(f(k), (P, Q))


def toeplitz(rng):
    c, r = rng.normal(size=N) / N + 3 * (np.arange(N) == 0), rng.normal(size=N) / N
    return lambda f: ops.Toeplitz(f(c), f(r))


def hankel(rng):
    c, r = rng.normal(size=N) / N + 3 * (np.arange(N) == N - 1), rng.normal(size=N) / N
    return lambda f: ops.Hankel(f(c), f(r))


def transforms(rng):
    return lambda f: cola.kron(ops.DCT(P, backend=_name(f)), ops.WalshHadamard(Q, backend=_name(f)))


def shared_bases(rng):
    a, b = _spd(rng, P), _spd(rng, Q)

    def build(f):
        A, B = _psd(f, a), _psd(f, b)
        return ops.Sum(cola.kron(A, B), cola.kronsum(A, B))

    return build


def shared_bases_general(rng):
    a, b = _well(rng, P), _well(rng, Q)

    def build(f):
        A, B = ops.Dense(f(a)), ops.Dense(f(b))
        return ops.Sum(cola.kron(A, B), cola.kronsum(A, B))

    return build


def pencil(rng):
    a, b, c, d = (_spd(rng, n) for n in (P, Q, P, Q))
    return lambda f: cola.kron(_psd(f, a), _psd(f, b)) + cola.kron(_psd(f, c), _psd(f, d))


def kron_shift_general(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: cola.kron(f(a), f(b)) + 0.5 * ops.Identity(N)


def kron_with_unitary(rng):
    q, b = np.linalg.qr(rng.normal(size=(P, P)))[0], _well(rng, Q)
    return lambda f: ops.Kronecker(cola.Unitary(ops.Dense(f(q))), ops.Dense(f(b)))


def kron_inverse(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: cola.linalg.Inverse(cola.kron(f(a), f(b)))


def kron_psd_inverse(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: cola.PSD(cola.linalg.Inverse(cola.kron(_psd(f, a), _psd(f, b)) + 0.5 * ops.Identity(N)))


def kron_psd_transposed(rng):
    a, b = _spd(rng, P), _spd(rng, Q)
    return lambda f: ops.Transpose(cola.kron(_psd(f, a), _psd(f, b)))


def kron_psd_sliced(rng):
    a, b, keep = _spd(rng, P + 1), _spd(rng, Q), np.arange(N)
    return lambda f: cola.kron(_psd(f, a), _psd(f, b))[keep, keep]


def block_inverse(rng):
    d, b, c = rng.uniform(1, 2, size=N - 16), rng.normal(size=(16, N - 16)), _well(rng, 16)
    return lambda f: cola.linalg.Inverse(ops.Block([[ops.Diagonal(f(d)), None], [f(b), f(c)]]))


def block_permutation(rng):
    d, e = rng.uniform(1, 2, size=N // 2), rng.uniform(1, 2, size=N // 2)
    return lambda f: ops.Block([[None, ops.Diagonal(f(d))], [ops.Diagonal(f(e)), None]])


def block_uneven(rng):
    d, U, V = rng.uniform(1, 2, size=N), rng.normal(size=(500, 2)), rng.normal(size=(524, 2))
    return lambda f: ops.Block(
        [[ops.LowRank(f(U), f(V)), ops.Diagonal(f(d[:500]))], [ops.Diagonal(f(d[500:])), None]]
    )


def blockdiag_scaled(rng):
    a, b = _well(rng, 16), _well(rng, 32)
    return lambda f: 2 * cola.block_diag(f(a), f(b), multiplicities=[32, 16])


def blockdiag_shifted(rng):
    a, b = _well(rng, 16), _well(rng, 32)
    return lambda f: ops.Sum(
        cola.block_diag(f(a), f(b), multiplicities=[32, 16]), ops.ScalarMul(f(np.asarray(0.5)), N)
    )


def similar(rng):
    a, b = _well(rng, P), _well(rng, Q)

    def build(f):
        U = ops.DCT(N, backend=_name(f))
        return U @ cola.kron(f(a), f(b)) @ U.H

    return build


def similar_psd(rng):
    a, b = _spd(rng, P), _spd(rng, Q)

    def build(f):
        U = ops.DCT(N, backend=_name(f))
        return U @ cola.kron(_psd(f, a), _psd(f, b)) @ U.H

    return build


def gram(rng):
    v, a, b = rng.normal(size=N), _well(rng, P), _well(rng, Q)

    def build(f):
        B = ops.Product(ops.Householder(f(v)), cola.kron(f(a), f(b)))
        return ops.Product(B.H, B)

    return build


def householder(rng):
    v = rng.normal(size=N)
    return lambda f: ops.Householder(f(v))


def householder_product(rng):
    V, tau = np.tril(rng.normal(size=(N, 3)), -1) + np.eye(N, 3), rng.uniform(0.1, 0.2, size=3)
    return lambda f: ops.HouseholderProduct(f(V), f(tau))


def zero(rng):
    return lambda f: ops.Zero(N, N, "float64", backend=_name(f))


def tridiagonal(rng):
    d, e = rng.uniform(4, 5, size=N), rng.uniform(-1, 1, size=N - 1)
    return lambda f: cola.PSD(ops.Tridiagonal(f(e), f(d), f(e)))


def banded(rng):
    d, e = rng.uniform(4, 5, size=N), rng.uniform(-1, 1, size=N)
    return lambda f: cola.PSD(ops.Banded(f(np.stack([e, d, np.roll(e, -1)])), (1, 1)))


def concatenated(rng):
    a, b = rng.normal(size=(16, 32)), _well(rng, 32)
    return lambda f: ops.Concatenated(cola.kron(f(a), f(b)), cola.kron(f(a[::-1].copy()), f(b)))


def khatri_rao(rng):
    a, b = rng.normal(size=(P, N)), rng.normal(size=(Q, N))
    return lambda f: ops.KhatriRao(f(a), f(b))


def kernel(rng):
    x = rng.normal(size=(N, 2))

    def build(f):
        be = backend_of(f(np.zeros(1)))
        return ops.Kernel(
            f(x), None, lambda s, t: be.xp.exp(-(be.matmul(s, be.xp.matrix_transpose(t)) ** 2)), 128, 128
        )

    return build


def interpolated(rng):
    a, w = _well(rng, P), rng.uniform(size=(N, 2))
    where = np.stack([np.arange(N) % P, (np.arange(N) + 1) % P], axis=1)

    def build(f):
        base = ops.Dense(f(a))
        return ops.Interpolated(base, base.backend.asarray(where), f(w))

    return build


def real_part(rng):
    a, b = _well(rng, P), _well(rng, Q)
    return lambda f: ops.RealPart(cola.kron(f(a + 1j * a.T), f(b + 1j)))


def sparse_lowrank(rng):
    U, V = rng.normal(size=(N, 2)), rng.normal(size=(N, 2))
    tridiagonal = sparse(rng)
    return lambda f: ops.Product(tridiagonal(f), ops.LowRank(f(U), f(V)))


def lowrank_shift(rng):
    U, V = rng.normal(size=(N, 2)) / N**0.5, rng.normal(size=(N, 2)) / N**0.5
    return lambda f: ops.LowRank(f(U), f(V)) + 2 * ops.Identity(N)


def projection(rng):
    q = np.linalg.qr(rng.normal(size=(N, 3)))[0]
    return lambda f: ops.Projection(cola.Stiefel(f(q)))


def projection_regular(rng):
    return lambda f: ops.Projection(cola.Stiefel(f(np.zeros((N, 0)))), complement=True)


def exponential(rng):
    a, b, d = _well(rng, P), _well(rng, Q), rng.uniform(size=N)
    return lambda f: ExponentialAction(cola.kron(f(a / P), f(b / Q)) + ops.Diagonal(f(d)))


def _name(f):
    return backend_of(f(np.zeros(1))).name


LARGE = {
    f.__name__: f
    for f in (
        kron, kron_psd, kron_scaled, kron_shift, kron_triangular, kronsum, kronsum_general,
        blockdiag, blockdiag_psd, diagonal, diagonal_psd, scalar, scalar_psd, permuted, permutation,
        product, transposed, adjoint, inverse, lowrank, lowrank_psd, diagonal_plus_lowrank,
        kron_shift_lowrank, kronsum_shift, sum_of_two, sparse, identity, unitary,
        adjoint_selfadjoint, product_thin, block_schur, block_saddle, block_diagonals,
        block_triangular, block_tridiagonal, projection_shift, elementwise, product_lowrank,
        circulant, circulant_psd, convolution, convolution_circular, toeplitz, hankel, transforms,
        shared_bases, shared_bases_general, pencil, kron_shift_general, kron_with_unitary,
        kron_inverse, kron_psd_inverse, kron_psd_transposed, kron_psd_sliced, block_inverse,
        block_permutation, block_uneven, blockdiag_scaled, blockdiag_shifted, similar, similar_psd,
        gram, householder, householder_product, zero, tridiagonal, banded, concatenated, khatri_rao,
        kernel, interpolated, real_part, sparse_lowrank, lowrank_shift, projection,
        projection_regular, exponential,
    )
}  # fmt: skip

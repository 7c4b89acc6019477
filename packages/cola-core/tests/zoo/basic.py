"""Dense, diagonal, sparse and composed operators."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sl
import scipy.sparse as sp

import cola_core as cola
from cola_core import ops
from cola_core.backends import backend_of

from .common import draw, spd, sym, well


def dense(rng, c):
    a = well(rng, 5, c)
    return lambda f: ops.Dense(f(a)), a


def dense_psd(rng, c):
    a = spd(rng, 5, c)
    return lambda f: cola.PSD(ops.Dense(f(a))), a


def dense_sym(rng, c):
    a = sym(rng, 5, c)
    return lambda f: cola.SelfAdjoint(ops.Dense(f(a))), a


def lower(rng, c):
    a = well(rng, 5, c)
    return lambda f: ops.Triangular(f(a)), np.tril(a)


def upper_unit(rng, c):
    a = draw(rng, 4, 4, cplx=c)
    return lambda f: ops.Triangular(f(a), lower=False, unit=True), np.triu(a, 1) + np.eye(4)


def diagonal(rng, c):
    d = draw(rng, 6, cplx=c) + 3
    return lambda f: ops.Diagonal(f(d)), np.diag(d)


def scalar(rng, c):
    v = np.asarray(-2.5 + (1j if c else 0))
    return lambda f: ops.ScalarMul(f(v), 4), v * np.eye(4)


def scalar_python(rng, c):
    return lambda f: ops.ScalarMul(1.5, 4) @ ops.Dense(f(np.eye(4) + 0j if c else np.eye(4))), 1.5 * np.eye(4)


def sparse(rng, c):
    M = sp.random(7, 7, 0.4, random_state=rng).toarray() * (1 + (0.5j if c else 0)) + 3 * np.eye(7)
    coo = sp.coo_array(M)
    order = rng.permutation(coo.nnz)  # any order is accepted
    return lambda f: ops.Sparse(f(coo.data[order]), coo.row[order], coo.col[order], (7, 7)), M


def lowrank(rng, c):
    U, V = draw(rng, 6, 2, cplx=c), draw(rng, 6, 2, cplx=c)
    return lambda f: ops.LowRank(f(U), f(V)), U @ V.conj().T


def permutation(rng, c):
    p = rng.permutation(6)

    def build(f):
        one = f(np.eye(6) * (1 + (0j if c else 0)))
        return ops.Permutation(backend_of(one).asarray(p)) @ ops.Dense(one)

    return build, np.eye(6)[p]


def product(rng, c):
    a, b = well(rng, 4, c), well(rng, 4, c)
    return lambda f: ops.Dense(f(a)) @ ops.Dense(f(b)), a @ b


def product_tall(rng, c):
    a, b = draw(rng, 6, 2, cplx=c), draw(rng, 2, 6, cplx=c)
    return lambda f: ops.Dense(f(a)) @ ops.Dense(f(b)), a @ b


def gram(rng, c):
    b = draw(rng, 7, 4, cplx=c)

    def build(f):
        B = ops.Dense(f(b))
        return B.H @ B

    return build, b.conj().T @ b


def scaled(rng, c):
    a = spd(rng, 4, c)
    return lambda f: -3 * cola.PSD(ops.Dense(f(a))), -3 * a


def sum_(rng, c):
    a, b = well(rng, 4, c), draw(rng, 4, 4, cplx=c)
    return lambda f: ops.Dense(f(a)) + ops.Triangular(f(b)), a + np.tril(b)


def kron(rng, c):
    a, b, d = well(rng, 2, c), well(rng, 3, c), well(rng, 2, c)
    return lambda f: cola.kron(f(a), f(b), f(d)), np.kron(np.kron(a, b), d)


def kron_psd(rng, c):
    a, b = spd(rng, 2, c), spd(rng, 3, c)
    return lambda f: cola.kron(cola.PSD(f(a)), cola.PSD(f(b))), np.kron(a, b)


def kron_rect(rng, c):
    a, b = draw(rng, 2, 3, cplx=c), draw(rng, 3, 2, cplx=c)
    return lambda f: cola.kron(f(a), f(b)), np.kron(a, b)


def kron_shift(rng, c):
    a, b, d = spd(rng, 2, c), spd(rng, 3, c), sym(rng, 2, c)
    S = cola.SelfAdjoint
    return (
        lambda f: 2 * cola.kron(cola.PSD(f(a)), cola.PSD(f(b)), S(f(d))) + 0.5 * ops.Identity(12),
        2 * np.kron(np.kron(a, b), d) + 0.5 * np.eye(12),
    )


def kronsum(rng, c):
    a, b = spd(rng, 3, c), spd(rng, 2, c)
    return (
        lambda f: cola.kronsum(cola.PSD(f(a)), cola.PSD(f(b))),
        np.kron(a, np.eye(2)) + np.kron(np.eye(3), b),
    )


def kronsum_general(rng, c):
    a, b, d = well(rng, 2, c), well(rng, 3, c), well(rng, 2, c)
    ks = np.kron(np.kron(a, np.eye(3)) + np.kron(np.eye(2), b), np.eye(2)) + np.kron(np.eye(6), d)
    return lambda f: cola.kronsum(f(a), f(b), f(d)), ks


def blockdiag(rng, c):
    a, b = well(rng, 2, c), well(rng, 3, c)
    return lambda f: cola.block_diag(f(a), f(b), multiplicities=[3, 1]), sl.block_diag(a, a, a, b)


def blockdiag_psd_shift(rng, c):
    a, b = spd(rng, 2, c), spd(rng, 3, c)
    return (
        lambda f: cola.block_diag(cola.PSD(f(a)), cola.PSD(f(b))) + ops.Identity(5),
        sl.block_diag(a, b) + np.eye(5),
    )


def diag_plus_lowrank(rng, c):
    d, U = np.abs(rng.normal(size=9)) + 1, draw(rng, 9, 2, cplx=c)
    cd = d + 0j if c else d
    return lambda f: ops.LowRank(f(U)) + cola.PSD(ops.Diagonal(f(cd))), U @ U.conj().T + np.diag(d)


def general_plus_lowrank(rng, c):
    a, U, V = well(rng, 8, c), draw(rng, 8, 2, cplx=c), draw(rng, 8, 2, cplx=c)
    return lambda f: ops.Dense(f(a)) - 2 * ops.LowRank(f(U), f(V)), a - 2 * U @ V.conj().T


def kron_shift_lowrank(rng, c):
    a, b, U = spd(rng, 2, c), spd(rng, 4, c), draw(rng, 8, 1, cplx=c)
    return (
        lambda f: cola.kron(cola.PSD(f(a)), cola.PSD(f(b))) + 0.1 * ops.Identity(8) + ops.LowRank(f(U)),
        np.kron(a, b) + 0.1 * np.eye(8) + U @ U.conj().T,
    )


def sliced(rng, c):
    a = spd(rng, 7, c)
    rows = np.array([5, 0, 3, 2])
    return lambda f: ops.Dense(f(a))[rows, [1, 2, 6, 0]], a[np.ix_(rows, [1, 2, 6, 0])]


def sliced_principal(rng, c):
    a, b = spd(rng, 3, c), spd(rng, 2, c)
    return lambda f: cola.kron(cola.PSD(f(a)), cola.PSD(f(b)))[1:5, 1:5], np.kron(a, b)[1:5, 1:5]


def opaque(rng, c):
    a = spd(rng, 5, c)
    return lambda f: cola.no_dispatch(cola.PSD(ops.Dense(f(a)))), a


def nested(rng, c):
    a, b, d = well(rng, 2, c), spd(rng, 2, c), draw(rng, 4, cplx=c) + 3
    return (
        lambda f: cola.block_diag(
            cola.kron(f(a), cola.PSD(f(b))) @ ops.Diagonal(f(d)), 2 * ops.Dense(f(a)).H
        ),
        sl.block_diag(np.kron(a, b) @ np.diag(d), 2 * a.conj().T),
    )


def single(rng, c):
    a = np.array([[2.0 + (1j if c else 0)]])
    return lambda f: ops.Dense(f(a)), a


ENTRIES = (
    dense, dense_psd, dense_sym, lower, upper_unit, diagonal, scalar, scalar_python, sparse, lowrank,
    permutation, product, product_tall, gram, scaled, sum_, kron, kron_psd, kron_rect, kron_shift,
    kronsum, kronsum_general, blockdiag, blockdiag_psd_shift, diag_plus_lowrank, general_plus_lowrank,
    kron_shift_lowrank, sliced, sliced_principal, opaque, nested, single,
)  # fmt: skip

SINGULAR = {"lowrank", "product_tall", "kron_rect"}  # square, rank-deficient

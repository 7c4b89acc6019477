"""Block grids, concatenations, columnwise and elementwise products, projections."""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core import ops

from .common import draw, spd, well


def block_schur(rng, c):
    a, b, d = well(rng, 4, c), draw(rng, 4, 2, cplx=c), draw(rng, 2, 4, cplx=c)
    e = well(rng, 2, c) + 3 * np.eye(2)
    return lambda f: ops.Block([[f(a), f(b)], [f(d), f(e)]]), np.block([[a, b], [d, e]])


def block_saddle(rng, c):
    a, b = spd(rng, 4, c), draw(rng, 2, 4, cplx=c)

    def build(f):
        B = ops.Dense(f(b))
        return ops.Block([[cola.PSD(f(a)), B.H], [B, None]])

    return build, np.block([[a, b.conj().T], [b, np.zeros((2, 2))]])


def block_tridiagonal(rng, c):
    a, b, d = well(rng, 2, c) + 4 * np.eye(2), draw(rng, 2, 3, cplx=c), draw(rng, 3, 2, cplx=c)
    e, o = well(rng, 3, c) + 4 * np.eye(3), np.zeros((2, 2))
    return (
        lambda f: ops.Block([[f(a), f(b), None], [f(d), f(e), f(d)], [None, f(b), f(a)]]),
        np.block([[a, b, o], [d, e, d], [o, b, a]]),
    )


def block_triangular(rng, c):
    a, b, d, e = (
        well(rng, 2, c),
        draw(rng, 3, 2, cplx=c),
        well(rng, 3, c) + 2 * np.eye(3),
        draw(rng, 1, cplx=c) + 9,
    )
    return (
        lambda f: ops.Block([[f(a), None, None], [f(b), f(d), None], [f(b[:1]), None, ops.Diagonal(f(e))]]),
        np.block([[a, np.zeros((2, 4))], [b, d, np.zeros((3, 1))], [b[:1], np.zeros((1, 3)), e[:, None]]]),
    )


def block_permuted(rng, c):
    a, b, d = well(rng, 2, c), well(rng, 3, c), draw(rng, 2, 3, cplx=c)
    return lambda f: ops.Block([[f(d), f(a)], [f(b), None]]), np.block([[d, a], [b, np.zeros((3, 2))]])


def block_wide(rng, c):
    a, b = draw(rng, 2, 3, cplx=c), draw(rng, 1, 4, cplx=c)
    return lambda f: ops.Block([[f(a), None], [None, f(b)], [f(b[:, :3]), f(b)]]), np.block(
        [[a, np.zeros((2, 4))], [np.zeros((1, 3)), b], [b[:, :3], b]]
    )


def concatenated(rng, c):
    a, b = draw(rng, 2, 5, cplx=c), draw(rng, 3, 5, cplx=c) + 3 * np.eye(3, 5, 2)
    return lambda f: ops.Concatenated(f(a), f(b)) + ops.Identity(5), np.vstack([a, b]) + np.eye(5)


def khatri_rao(rng, c):
    a, b = draw(rng, 2, 6, cplx=c), draw(rng, 3, 6, cplx=c)
    want = np.stack([np.kron(a[:, i], b[:, i]) for i in range(6)], 1)
    return lambda f: ops.KhatriRao(f(a), f(b)), want


def hadamard(rng, c):
    a, u = spd(rng, 6, c), draw(rng, 6, 2, cplx=c)
    return lambda f: cola.hadamard(cola.PSD(f(a)), ops.LowRank(f(u))), a * (u @ u.conj().T)


def hadamard_general(rng, c):
    a, b, d = well(rng, 2, c), well(rng, 3, c), draw(rng, 6, 6, cplx=c) + 4
    return lambda f: cola.hadamard(cola.kron(f(a), f(b)), f(d)) + 5 * ops.Identity(6), np.kron(
        a, b
    ) * d + 5 * np.eye(6)


def projection_shift(rng, c):
    q = np.linalg.qr(draw(rng, 6, 2, cplx=c))[0]
    return (
        lambda f: 2 * ops.Projection(cola.Stiefel(f(q)), complement=True) + ops.Identity(6),
        3 * np.eye(6) - 2 * q @ q.conj().T,
    )


def projection_oblique(rng, c):
    u = draw(rng, 5, 2, cplx=c)
    v = u + 0.3 * draw(rng, 5, 2, cplx=c)
    return lambda f: ops.Projection.oblique(f(u), f(v)), u @ np.linalg.solve(v.conj().T @ u, v.conj().T)


ENTRIES = (
    block_schur, block_saddle, block_tridiagonal, block_triangular, block_permuted, block_wide, concatenated,
    khatri_rao, hadamard, hadamard_general, projection_shift, projection_oblique,
)  # fmt: skip

SINGULAR = {"projection_oblique"}

"""Compositions answered through eigenvalues, Schur forms and shared bases."""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core import ops

from .common import draw, spd, well


def similarity(rng, c):
    u = np.linalg.qr(draw(rng, 4, 4, cplx=c))[0]
    a = well(rng, 4, c)

    def build(f):
        U = cola.Unitary(ops.Dense(f(u)))
        return U @ ops.Triangular(f(a), lower=False) @ U.H

    return build, u @ np.triu(a) @ u.conj().T


def kron_shift_general(rng, c):
    a, b = well(rng, 2, c), well(rng, 3, c)
    return lambda f: 2 * cola.kron(f(a), f(b)) + 0.5 * ops.Identity(6), 2 * np.kron(a, b) + 0.5 * np.eye(6)


def kronsum_mixed(rng, c):
    a, b = spd(rng, 2, c), well(rng, 4, c)
    ks = np.kron(a, np.eye(4)) + np.kron(np.eye(2), np.triu(b))
    return lambda f: cola.kronsum(cola.PSD(f(a)), ops.Triangular(f(b), lower=False)), ks


ENTRIES = (similarity, kron_shift_general, kronsum_mixed)

SINGULAR: set[str] = set()

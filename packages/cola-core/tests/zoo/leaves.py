"""Leaves with structure of their own."""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core import ops

from .common import draw


def zero(rng, c):
    one = np.eye(4) + (0j if c else 0)
    return lambda f: ops.Zero.like(ops.Dense(f(one))), 0 * one


def tridiagonal(rng, c):
    a, b, g = draw(rng, 5, cplx=c), draw(rng, 6, cplx=c), draw(rng, 5, cplx=c)
    return lambda f: ops.Tridiagonal(f(a), f(b), f(g)), np.diag(a, -1) + np.diag(b) + np.diag(g, 1)


def banded_psd(rng, c):
    d = [draw(rng, 7 - k, cplx=c) for k in range(3)]
    d[0] = 6 + np.abs(d[0])
    bands = np.stack(
        [np.concatenate([np.zeros(k), d[k].conj()]) for k in (2, 1, 0)]
        + [np.concatenate([d[k], np.zeros(k)]) for k in (1, 2)]
    )
    M = np.diag(d[0]) + sum(np.diag(d[k], -k) + np.diag(d[k].conj(), k) for k in (1, 2))
    return lambda f: cola.PSD(ops.Banded(f(bands), (2, 2))), M


def banded_wide(rng, c):
    bands = draw(rng, 3, 6, cplx=c)
    M = np.zeros((4, 6), bands.dtype)
    for i in range(4):
        for j in range(6):
            if -1 <= j - i <= 1:
                M[i, j] = bands[1 + i - j, j]
    return lambda f: ops.Banded(f(bands), (1, 1), (4, 6)), M


def householder(rng, c):
    v = draw(rng, 5, cplx=c)
    return lambda f: ops.Householder(f(v)), np.eye(5) - 2 * np.outer(v, v.conj()) / np.vdot(v, v)


def householder_product(rng, c):
    V, tau = draw(rng, 5, 3, cplx=c), draw(rng, 3, cplx=c)
    M = np.eye(5)
    for i in range(3):
        v = np.concatenate([np.zeros(i), np.ones(1), V[i + 1 :, i]])
        M = M @ (np.eye(5) - tau[i] * np.outer(v, v.conj()))
    return lambda f: ops.HouseholderProduct(f(V), f(tau)), M


ENTRIES = (householder, householder_product, zero, tridiagonal, banded_psd, banded_wide)
SINGULAR = ("zero",)

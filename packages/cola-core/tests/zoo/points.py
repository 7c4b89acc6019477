"""Operators made from data points."""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core import ops

from .common import spd


def rational(a, b):
    return 1 / (1 + (a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * a @ b.T)


def kernel(rng, c):
    x = 2 * rng.normal(size=(5, 2))
    return lambda f: cola.PSD(ops.Kernel(f(x), None, rational, 3, 2)), rational(x, x)


def interpolated(rng, c):
    A, B, w = spd(rng, 2, c), spd(rng, 3, c), rng.normal(size=(4, 2)) + [1, 3]
    index = np.array([[0, 1], [1, 2], [5, 3], [2, 4]])
    W = np.zeros((4, 6))
    for i, j in np.ndindex(4, 2):
        W[i, index[i, j]] += w[i, j]

    def build(f):
        K = cola.kron(cola.PSD(ops.Dense(f(A))), cola.PSD(ops.Dense(f(B))))
        return ops.Interpolated(K, index, f(w))

    return build, W @ np.kron(A, B) @ W.T


ENTRIES = (kernel, interpolated)
SINGULAR = ()

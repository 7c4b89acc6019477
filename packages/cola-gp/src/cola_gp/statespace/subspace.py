"""A first guess of a linear dynamical system from its observations, by a subspace method.

Windows of some consecutive observations lie, but for noise, in the column space of the observability
matrix; their principal components are a state, up to a change of basis, and regressions give the rest (van
Overschee & De Moor 1996, chapter 3, in its simplest form).  Good enough to start EM from, not to stop at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .model import LinearGaussian

# Variances of the guess relative to those of the data: EM and L-BFGS cannot leave zero.
FLOOR = 1e-3
KNOWN = 1e-6


def subspace_model(series: Sequence[np.ndarray], states: int) -> LinearGaussian:
    """A model with ``states`` states of series ``(n_i, p)`` of zero mean and about unit variance, NaN for
    missing.
    """
    p = series[0].shape[1]
    lags = max(2, -(-states // p) + 1)
    filled = [_interpolated(y) for y in series]
    long = [y for y in filled if len(y) > lags]
    rows = sum(len(y) - lags + 1 for y in long)
    if rows < 2 * states + 2:
        return _plain(p, states, len(series))
    windows = [np.lib.stride_tricks.sliding_window_view(y, lags, axis=0).reshape(-1, p * lags) for y in long]
    _, sizes, basis = np.linalg.svd(np.concatenate(windows), full_matrices=False)
    if len(sizes) < states or sizes[states - 1] <= 1e-8 * sizes[0] or sizes[0] == 0:
        return _plain(p, states, len(series))
    scale = np.sqrt(rows) / sizes[:states]
    x = [w @ basis[:states].T * scale for w in windows]
    before, after = np.concatenate([a[:-1] for a in x]), np.concatenate([a[1:] for a in x])
    A = np.linalg.lstsq(before, after, rcond=None)[0].T
    radius = np.max(np.abs(np.linalg.eigvals(A)))
    A = A if radius <= 1.0 else A / radius
    here, seen = np.concatenate(x), np.concatenate([y[: len(a)] for y, a in zip(long, x, strict=True)])
    H = np.linalg.lstsq(here, seen, rcond=None)[0].T
    first = np.array([a[0] for a in x])
    # one series says nothing of the spread of first states: its own is then as good as known
    P0 = np.eye(states) if len(x) > 1 else KNOWN * np.eye(states)
    return LinearGaussian(
        A, _spread(after - before @ A.T), H, _spread(seen - here @ H.T), np.mean(first, axis=0), P0
    )


def _spread(rest: np.ndarray) -> np.ndarray:
    C = np.atleast_2d(rest.T @ rest / max(1, len(rest)))
    return (C + C.T) / 2 + FLOOR * np.eye(len(C))


def _plain(p: int, states: int, count: int) -> LinearGaussian:
    """With too few data to look at: slowly decaying states, each seen by one of the observed values."""
    H = np.zeros((p, states))
    H[np.arange(max(p, states)) % p, np.arange(max(p, states)) % states] = 1.0
    eye = np.eye(states)
    return LinearGaussian(
        0.9 * eye, 0.2 * eye, H, 0.5 * np.eye(p), np.zeros(states), eye if count > 1 else KNOWN * eye
    )


def _interpolated(y: np.ndarray) -> np.ndarray:
    """Missing values filled in linearly, column by column; zero, the mean, where a column has none."""
    y = y.copy()
    times = np.arange(len(y))
    for column in y.T:
        seen = ~np.isnan(column)
        column[~seen] = np.interp(times[~seen], times[seen], column[seen]) if seen.any() else 0.0
    return y

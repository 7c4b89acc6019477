"""Over which distance targets decorrelate: an empirical variogram (Matheron 1963), for initial values.

``g(r)``, the mean of ``(y - y')^2 / 2`` over pairs at distance ``r``, is the variance of the noise at zero
and that of the targets far away.  Pairs are those of a few hundred anchors with their nearest neighbours in
all of the data, found by a k-d tree, and with random other points; distances are in units of the range of
every dimension.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

ANCHORS, NEIGHBOURS, OTHERS, BINS = 400, 16, 1000, 24


class Variogram(NamedTuple):
    """noise: ``g`` at nearest neighbours.  radius: where half of the rest is reached; None if nowhere, as for
    white noise, or before the nearest neighbours."""

    noise: float
    radius: float | None


def variogram(X: np.ndarray, y: np.ndarray) -> Variogram | None:
    """The variogram of ``y (n,)`` at the rows of ``X (n, d)``, None for fewer than eight points.

    Cost: O(n log n).  Finite numbers of any size.
    """
    from scipy.spatial import cKDTree

    n = len(y)
    spread = np.ptp(X, axis=0)
    size = float(np.max(np.abs(y - np.mean(y)), initial=0.0))
    if n < 8 or not np.any(spread > 0) or not 0.0 < size < math.inf:
        return None
    Z = (X - X.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    r = (y - np.mean(y)) / size
    rng = np.random.default_rng(0)
    anchors = np.sort(rng.choice(n, min(n, ANCHORS), replace=False))
    near, index = cKDTree(Z).query(Z[anchors], k=min(n, NEIGHBOURS + 1))
    others = np.sort(rng.choice(n, min(n, OTHERS), replace=False))
    far = np.sqrt(np.sum((Z[anchors][:, None, :] - Z[others][None, :, :]) ** 2, axis=2))
    itself = index == anchors[:, None]
    half = 0.5 * (r[anchors][:, None] - r[index]) ** 2
    # The point itself is not its neighbour; among more duplicates than are asked for it may not be found.
    first = np.argmin(np.where(itself, np.inf, near), axis=1)
    noise = float(np.mean(half[np.arange(len(anchors)), first]))
    distance = np.concatenate([near[~itself], np.ravel(far)])
    value = np.concatenate([half[~itself], np.ravel(0.5 * (r[anchors][:, None] - r[others][None, :]) ** 2)])
    apart = distance > 0
    distance, value = distance[apart], value[apart]
    sill = float(np.var(r))
    found = Variogram(noise * size * size, None)
    if distance.size == 0 or noise > 0.8 * sill:
        return found
    edges = np.geomspace(distance.min(), distance.max() * (1 + 1e-9), BINS + 1)
    place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, BINS - 1)
    count = np.bincount(place, minlength=BINS)
    full = count >= 10
    means = np.bincount(place, value, BINS)[full] / count[full]
    radii = np.bincount(place, distance, BINS)[full] / count[full]
    above = np.flatnonzero(means >= noise + 0.5 * (sill - noise))
    return found if above.size == 0 else found._replace(radius=float(radii[above[0]]))


__all__ = ["Variogram", "variogram"]

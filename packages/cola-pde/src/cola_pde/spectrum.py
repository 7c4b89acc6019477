"""Closed-form spectra of the second difference, one row per boundary combination.

The one-dimensional operator is ``-d2/dx2`` on ``n`` unknowns with unit spacing, symmetrised (see
`unit_weights`), so every matrix here is real symmetric positive semidefinite with an orthonormal
trigonometric eigenbasis.

=============  ===========================  =====================  ==========================
centring, bc   eigenvalue k = 0..n-1        eigenbasis V           unknowns of an axis with c cells
=============  ===========================  =====================  ==========================
cell DD        4 sin^2((k+1) pi / 2n)       DST-II transposed      c
cell NN        4 sin^2(k pi / 2n)           DCT-II transposed      c
cell DN, ND    4 sin^2((k+1/2) pi / 2n)     DST-IV, DCT-IV         c
vertex DD      4 sin^2((k+1) pi / 2(n+1))   DST-I                  c - 1
vertex NN      4 sin^2(k pi / 2(n-1))       DCT-I                  c + 1
vertex DN, ND  4 sin^2((k+1/2) pi / 2n)     DST-III, DCT-III (^T)  c
periodic       4 sin^2(k pi / n)            Hartley (real FFT)     c
=============  ===========================  =====================  ==========================

Source: G. Strang, "The discrete cosine transform", SIAM Review 41 (1999) 135-147; the periodic basis is
Hartley's (Bracewell 1983): real, symmetric and orthogonal, it diagonalises every real symmetric circulant,
so real problems stay real.
"""

from __future__ import annotations

import numpy as np

CENTRINGS = ("cell", "vertex")
KINDS = ("DD", "NN", "DN", "ND", "P")

# (centring, kind) -> the transform whose matrix is V^H
_FORWARD = {
    "cell": {"DD": "dst2", "NN": "dct2", "DN": "dst4", "ND": "dct4", "P": "dht"},
    "vertex": {"DD": "dst1", "NN": "dct1", "DN": "dst3", "ND": "dct3", "P": "dht"},
}


def smallest_size(centring: str, kind: str) -> int:
    """Fewest unknowns for which the combination is defined (two end points for vertex-centred Neumann)."""
    return 2 if (centring, kind) == ("vertex", "NN") else 1


def unknowns(cells: int, centring: str, kind: str) -> int:
    """Unknowns on an axis of ``cells`` cells: Dirichlet vertices are known, Neumann ones are not."""
    if centring == "cell" or kind == "P":
        return cells
    return cells + 1 - kind.count("D")


def forward_transform(centring: str, kind: str) -> str:
    """Name of the orthonormal transform that maps grid values to eigen-coefficients (the matrix V^H)."""
    return _FORWARD[centring][kind]


def unit_eigenvalues(n: int, centring: str, kind: str) -> np.ndarray:
    """Eigenvalues (n,) float64 of the unit-spacing operator, in the transform's order.

    Ascending except for ``kind="P"``, whose pairs k, n-k are equal. The squared sine keeps full relative
    accuracy at the small end (``2 - 2 cos`` would not).
    """
    k = np.arange(n, dtype=np.float64)
    if kind == "P":
        angle = np.minimum(k, n - k) / n  # the mirror image makes the pairs equal to the last bit
    elif kind in ("DN", "ND"):
        angle = (k + 0.5) / (2 * n)
    elif kind == "DD":
        angle = (k + 1) / (2 * (n if centring == "cell" else n + 1))
    else:
        angle = k / (2 * (n if centring == "cell" else n - 1))
    return 4 * np.sin(np.pi * angle) ** 2


def unit_diagonal(n: int, centring: str, kind: str) -> np.ndarray:
    """Diagonal (n,) float64 of the unit-spacing operator."""
    d = np.full(n, 2.0)
    if kind == "P":
        if n == 1:
            d[0] = 0.0  # a single periodic point is its own neighbour on both sides
    elif centring == "cell":
        d[0] += 1.0 if kind[0] == "D" else -1.0
        d[-1] += 1.0 if kind[1] == "D" else -1.0
    return d


def end_weights(centring: str, kind: str) -> tuple[float, float]:
    """Quadrature weights (in units of h) of the first and last unknown.

    All interior weights are 1. A vertex on a Neumann boundary owns half a cell: there the difference matrix
    ``A`` itself is not symmetric, but ``S = W^(1/2) A W^(-1/2)`` is, and ``S`` is what the operators of this
    package hold.
    """
    if centring == "cell" or kind == "P":
        return 1.0, 1.0
    return (0.5 if kind[0] == "N" else 1.0), (0.5 if kind[1] == "N" else 1.0)


def continuous_eigenvalues(k: int, length: float, kind: str) -> np.ndarray:
    """The k smallest eigenvalues of ``-u''`` on an interval, ascending, with multiplicity."""
    i = np.arange(k, dtype=np.float64)
    wave = {"DD": i + 1, "NN": i, "DN": i + 0.5, "ND": i + 0.5, "P": 2 * np.ceil(i / 2)}[kind]
    return (wave * np.pi / length) ** 2

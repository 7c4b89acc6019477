"""exp(A) of one small dense matrix, without importing SciPy's linear algebra for it.

Scaling and squaring with a Taylor polynomial of degree 18: for norm(A) <= 1/2 the truncation error is below
1e-22, so the result is accurate to rounding for the small, moderate-norm matrices that generate group
elements.
"""

from __future__ import annotations

import numpy as np


def expm(a: np.ndarray) -> np.ndarray:
    norm = float(np.abs(a).sum(axis=0).max()) if a.size else 0.0
    squarings = max(0, int(np.ceil(np.log2(norm / 0.5)))) if norm > 0.5 else 0
    x = a / 2.0**squarings
    out = term = np.eye(a.shape[0], dtype=a.dtype)
    for k in range(1, 19):
        term = term @ x / k
        out = out + term
    for _ in range(squarings):
        out = out @ out
    return out

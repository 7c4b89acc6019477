"""Data for the examples: what scikit-learn and statsmodels bring along, or generated where they are
missing."""

from __future__ import annotations

import numpy as np

__all__ = ["diabetes", "iris", "nile"]


def _standard(X: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)) / X.std(axis=0)


def diabetes() -> tuple[str, np.ndarray, np.ndarray]:
    """A name, ten standardised measurements of 442 patients, and how far their diabetes went a year later."""
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((442, 10))
        y = X @ rng.standard_normal(10) / 4 + np.sin(X[:, 0]) + 0.7 * rng.standard_normal(442)
        return "generated regression data", _standard(X), _standard(y)
    X, y = load_diabetes(return_X_y=True)
    return "diabetes", _standard(X), _standard(y)


def iris() -> tuple[str, np.ndarray]:
    """A name, and four measurements of 150 flowers."""
    try:
        from sklearn.datasets import load_iris
    except ImportError:
        rng = np.random.default_rng(1)
        return "generated measurements", rng.standard_normal((150, 4)) @ rng.standard_normal((4, 4)) + 3.0
    return "iris", load_iris(return_X_y=True)[0]


def nile() -> tuple[str, np.ndarray]:
    """A name, and a hundred yearly volumes of the Nile at Aswan (1e8 cubic metres, 1871 to 1970)."""
    try:
        from statsmodels.datasets import nile as record
    except ImportError:
        rng = np.random.default_rng(2)
        level = 1000 + np.cumsum(38 * rng.standard_normal(100))
        return "generated random walk", level + 123 * rng.standard_normal(100)
    return "Nile", np.asarray(record.load_pandas().data["volume"], dtype=float)

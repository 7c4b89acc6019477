"""Estimators with the interface of scikit-learn, which stand without it too.

Importing this package loads none of them: each is loaded when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "BayesianLinearRegressor": ".linear",
    "GPClassifier": ".classifier",
    "GPRegressor": "..regressor",
    "LinearDynamicalSystem": ".dynamical",
    "PCA": ".components",
    "Whitening": ".components",
}

__all__ = [  # noqa: F822 - by __getattr__
    "PCA",
    "BayesianLinearRegressor",
    "GPClassifier",
    "GPRegressor",
    "LinearDynamicalSystem",
    "Whitening",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

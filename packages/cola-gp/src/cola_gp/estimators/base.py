"""What every estimator stands on: scikit-learn's base classes, or a few lines in their place.

With scikit-learn installed an estimator derives from its ``BaseEstimator`` and mixins and passes
``check_estimator``.  Without it the same class has the same ``fit``, ``predict``, ``score``, ``get_params``
and ``set_params``, and the same refusals of bad input.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data

    HAS_SKLEARN = True
except ImportError:
    HAS_SKLEARN = False

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """The estimator was used before ``fit``."""

    def _weights(like: np.ndarray, sample_weight: Any) -> np.ndarray:
        return np.ones(len(like)) if sample_weight is None else np.asarray(sample_weight, dtype=float)

    class RegressorMixin:  # type: ignore[no-redef]
        """The coefficient of determination as the score."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Coefficient of determination R^2 of the predictive mean."""
            y = np.asarray(y, dtype=float)
            weight = _weights(y, sample_weight)
            unexplained = np.sum(weight * (y - self.predict(X)) ** 2)  # type: ignore[attr-defined]
            total = np.sum(weight * (y - np.average(y, weights=weight)) ** 2)
            if total == 0:
                return 1.0 if unexplained == 0 else 0.0
            return float(1.0 - unexplained / total)

    class ClassifierMixin:  # type: ignore[no-redef]
        """The accuracy as the score."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Share of the points whose most probable class is right."""
            y = np.asarray(y)
            right = self.predict(X) == y  # type: ignore[attr-defined]
            return float(np.average(right, weights=_weights(y, sample_weight)))

    class TransformerMixin:  # type: ignore[no-redef]
        """``fit`` and ``transform`` in one call."""

        def fit_transform(self, X: Any, y: Any = None, **options: Any) -> Any:
            """Fit to ``X`` and return what ``transform`` makes of it."""
            return self.fit(X, y, **options).transform(X)  # type: ignore[attr-defined]

    class BaseEstimator:  # type: ignore[no-redef]
        """Parameters are the arguments of ``__init__``."""

        @classmethod
        def _names(cls) -> list[str]:
            parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
            # A class without a constructor of its own has object's, which takes anything by no name.
            return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """The constructor's arguments by name."""
            return {name: getattr(self, name) for name in self._names()}

        def set_params(self, **params: Any) -> Any:
            """Change constructor arguments; raises ValueError for an unknown name."""
            for name, value in params.items():
                if name not in self._names():
                    raise ValueError(
                        f"{type(self).__name__} has no parameter {name!r}; it has {self._names()}."
                    )
                setattr(self, name, value)
            return self

        def __repr__(self) -> str:
            shown = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items())
            return f"{type(self).__name__}({shown})"

    def check_is_fitted(estimator: Any) -> None:  # type: ignore[misc]
        # n_features_in_ is known before a fit has succeeded
        if not any(name.endswith("_") and name != "n_features_in_" for name in vars(estimator)):
            raise NotFittedError(f"this {type(estimator).__name__} is not fitted yet; call fit first.")

    def check_classification_targets(y: Any) -> None:
        if np.asarray(y).dtype.kind == "f" and np.any(np.asarray(y) != np.floor(y)):
            raise ValueError("Unknown label type: class labels must not be fractions.")

    def validate_data(  # type: ignore[misc]
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        reset: bool = True,
        y_numeric: bool = False,
        ensure_min_samples: int = 1,
        ensure_all_finite: Any = True,
        **_: Any,
    ) -> Any:
        X = np.asarray(X, dtype=float)
        if X.ndim != 2:
            raise ValueError(f"X must be an (n, d) array, not one of shape {X.shape}; use X.reshape(-1, 1).")
        if X.shape[0] < ensure_min_samples or X.shape[1] == 0:
            raise ValueError(
                f"X has shape {X.shape}; at least {ensure_min_samples} rows and 1 column needed."
            )
        if np.any(np.isinf(X)) or (ensure_all_finite is True and np.any(np.isnan(X))):
            raise ValueError("X contains NaN or infinity.")
        if reset:
            estimator.n_features_in_ = X.shape[1]
        elif X.shape[1] != estimator.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features, but {estimator.n_features_in_} were seen in fit.")
        if y is None:
            return X
        y = np.asarray(y, dtype=float if y_numeric else None)
        if y.shape != X.shape[:1]:
            raise ValueError(f"X has {X.shape[0]} rows but y has shape {y.shape}.")
        if y.dtype.kind == "f" and not np.all(np.isfinite(y)):
            raise ValueError("y contains NaN or infinity.")
        return X, y


def seed_of(random_state: Any) -> int:
    """The integer seed of scikit-learn's ``random_state``: None, an integer or a legacy RandomState."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))


__all__ = [
    "HAS_SKLEARN",
    "BaseEstimator",
    "ClassifierMixin",
    "NotFittedError",
    "RegressorMixin",
    "TransformerMixin",
    "check_classification_targets",
    "check_is_fitted",
    "seed_of",
    "validate_data",
]

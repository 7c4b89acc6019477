"""What every estimator stands on: scikit-learn's base classes, or a few lines in their place.

With scikit-learn installed an estimator derives from its ``BaseEstimator`` and mixins and passes
``check_estimator``.  Without it the same class has the same ``fit``, ``predict``, ``score``, ``get_params``
and ``set_params``, and the same refusals of bad input.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ..checks import plain
from ..grids import GRIDS

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
    from sklearn.utils.validation import validate_data as _validate

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
        # what came in is known before a fit has succeeded
        if not any(name.endswith("_") and not name.endswith("_in_") for name in vars(estimator)):
            raise NotFittedError(f"this {type(estimator).__name__} is not fitted yet; call fit first.")

    def check_classification_targets(y: Any) -> None:
        if np.asarray(y).dtype.kind == "f" and np.any(np.asarray(y) != np.floor(y)):
            raise ValueError("Unknown label type: class labels must not be fractions.")

    def _validate(  # type: ignore[misc]
        estimator: Any,
        X: Any,
        y: Any = "no_validation",
        *,
        reset: bool = True,
        y_numeric: bool = False,
        ensure_min_samples: int = 1,
        ensure_all_finite: Any = True,
        **_: Any,
    ) -> Any:
        names = frame_names(X)
        X = real_numbers(X, "X")
        if X.ndim != 2:
            raise ValueError(f"X must be an (n, d) array, not one of shape {X.shape}; use X.reshape(-1, 1).")
        if X.shape[0] < ensure_min_samples or X.shape[1] == 0:
            raise ValueError(
                f"X has shape {X.shape}; at least {ensure_min_samples} rows and 1 column needed."
            )
        if np.any(np.isinf(X)) or (ensure_all_finite is True and np.any(np.isnan(X))):
            bad = np.argwhere(~np.isfinite(X))
            raise ValueError(
                f"X contains NaN or infinity: {len(bad)} of {X.size} entries, first in row {bad[0, 0]}, "
                f"column {bad[0, 1]}; remove those rows or impute what is missing."
            )
        if reset:
            estimator.n_features_in_ = X.shape[1]
        elif X.shape[1] != estimator.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features, but {estimator.n_features_in_} were seen in fit.")
        check_names(estimator, names, reset)
        if isinstance(y, str) and y == "no_validation":
            return X
        y = one_column(estimator, y)
        y = real_numbers(y, "y") if y_numeric else y
        if y.shape != X.shape[:1]:
            raise ValueError(f"X has {X.shape[0]} rows but y has shape {y.shape}.")
        if y.dtype.kind == "f" and not np.all(np.isfinite(y)):
            raise ValueError("y contains NaN or infinity.")
        return X, y


def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """scikit-learn's check of inputs ``X (n, d)`` and targets ``y (n,)``, or what stands in for it.

    Raises NonFiniteError, a ValueError, for masked entries, which scikit-learn takes for data, and
    DTypeError, a TypeError, for dates; TypeError for a Grid.
    """
    if isinstance(X, GRIDS):
        raise TypeError(
            f"{type(estimator).__name__} takes an (n, d) array, not a {type(X).__name__}: give X.points(), "
            "or use cola_gp.Predictor.fit(grid, y), which keeps the structure of the grid."
        )
    return _validate(estimator, plain("X", X), plain("y", y), **options)


def real_numbers(value: Any, name: str) -> np.ndarray:
    """An array of real numbers; raises ValueError for others, and where complex ones would lose their
    imaginary part."""
    value = plain(name, value)
    if hasattr(value, "tocsr"):
        raise ValueError(f"{name} is sparse; sparse input is not supported, pass {name}.toarray().")
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}.")
    try:
        return np.asarray(array, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, not {array.dtype} entries: {error}.") from None


def one_column(estimator: Any, y: Any) -> np.ndarray:
    """Targets as a vector; a single column is taken as one, with scikit-learn's warning if it is there."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    y = plain("y", y)
    if HAS_SKLEARN:
        return column_or_1d(y, warn=True)  # type: ignore[no-any-return]
    y = np.asarray(y)
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def frame_names(X: Any) -> np.ndarray | None:
    """The names of a data frame's columns, if they are texts; else None."""
    columns = getattr(X, "columns", None)
    if columns is None or not hasattr(columns, "__len__") or not all(isinstance(c, str) for c in columns):
        return None
    return np.asarray(list(columns), dtype=object)


def check_names(estimator: Any, names: np.ndarray | None, reset: bool) -> None:
    """Keep the names seen in ``fit`` as ``feature_names_in_``; raise ValueError if others come later."""
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        if names is not None:
            estimator.feature_names_in_ = names
        return
    seen = getattr(estimator, "feature_names_in_", None)
    if seen is not None and names is not None and list(seen) != list(names):
        raise ValueError(
            f"the columns are {', '.join(names)}, but {type(estimator).__name__} was fitted to "
            f"{', '.join(seen)}, in this order."
        )


def seed_of(random_state: Any) -> int:
    """The integer seed of a ``random_state``: None, an integer, a Generator or a legacy RandomState."""
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, (int, np.integer)):
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    raise TypeError(
        f"random_state must be None, a whole number or a generator of NumPy, not {random_state!r}."
    )


__all__ = [
    "HAS_SKLEARN",
    "BaseEstimator",
    "ClassifierMixin",
    "NotFittedError",
    "RegressorMixin",
    "TransformerMixin",
    "check_classification_targets",
    "check_is_fitted",
    "check_names",
    "frame_names",
    "one_column",
    "real_numbers",
    "seed_of",
    "validate_data",
]

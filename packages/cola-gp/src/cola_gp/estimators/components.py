"""``PCA`` and ``Whitening``: the functions of :mod:`cola_gp.components` as estimators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..components import principal_components, whiten
from .base import BaseEstimator, TransformerMixin, check_is_fitted, validate_data
from .saving import Saved

EPS = float(np.finfo(float).eps)


class PCA(Saved, TransformerMixin, BaseEstimator):
    """Principal components by the singular values of the centred data.

    n_components: how many to keep; a fraction below one: as many as hold that share of the variance; None:
    all.  whiten: coordinates of variance one; directions of no variance stay zero.

    After ``fit``: ``components_ (k, d)`` with the largest entry of every row positive,
    ``explained_variance_``, ``explained_variance_ratio_``, ``singular_values_``, ``mean_``,
    ``n_components_``, and ``noise_variance_``, the mean variance of the directions left out, as in Tipping &
    Bishop (1999).
    """

    def __init__(self, n_components: int | float | None = None, *, whiten: bool = False):
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Fit to ``X (n, d)``; ``y`` is ignored."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        n, d = X.shape
        # A common unit keeps the squares of extreme values finite.
        unit = np.max(np.abs(X)) or np.float64(1.0)
        everything = principal_components(X / unit)
        variance = everything.variance * unit**2
        k = self._count(everything.variance / (everything.total or 1.0), min(n, d))
        self.mean_ = everything.mean * unit
        self.n_components_ = k
        self.n_samples_ = n
        self.components_ = everything.directions[:k]
        self.explained_variance_ = variance[:k]
        self.explained_variance_ratio_ = everything.variance[:k] / (everything.total or 1.0)
        self.singular_values_ = np.sqrt(everything.variance[:k] * (n - 1)) * unit
        self.noise_variance_ = float(np.sum(variance[k:]) / (d - k)) if k < d else 0.0
        return self

    def _count(self, share: np.ndarray, most: int) -> int:
        wanted = self.n_components
        if wanted is None:
            return most
        if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):
            if not 1 <= wanted <= most:
                raise ValueError(f"n_components = {wanted} must lie between 1 and {most}.")
            return int(wanted)
        if isinstance(wanted, float) and 0.0 < wanted < 1.0:
            return min(most, int(np.searchsorted(np.cumsum(share), wanted - 4 * EPS)) + 1)
        raise ValueError(f"n_components must be an integer, a fraction below one, or None, not {wanted!r}.")

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``pca0, pca1, ...``"""
        check_is_fitted(self)
        return np.asarray([f"pca{i}" for i in range(self.n_components_)], dtype=object)

    def _unit(self) -> np.ndarray:
        """Standard deviations of the coordinates; one where there is no variance to divide by."""
        deviation = self.singular_values_ / math.sqrt(self.n_samples_ - 1)
        floor = EPS * max(self.n_samples_, self.n_features_in_) * np.max(deviation, initial=0.0)
        return np.where(deviation > floor, deviation, 1.0)

    def transform(self, X: Any) -> np.ndarray:
        """Coordinates ``(m, k)`` of the rows of ``X (m, d)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        coordinates = (X - self.mean_) @ self.components_.T
        return coordinates / self._unit() if self.whiten else coordinates

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows ``(m, d)`` with the coordinates ``X (m, k)``."""
        check_is_fitted(self)
        coordinates = np.asarray(X, dtype=float)
        if coordinates.ndim != 2 or coordinates.shape[1] != self.n_components_:
            raise ValueError(f"X must have shape (m, {self.n_components_}), not {coordinates.shape}.")
        if self.whiten:
            coordinates = coordinates * self._unit()
        return coordinates @ self.components_ + self.mean_

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of every row under the probabilistic model ``N(mean, W W^T + noise)``.

        Raises ValueError where the model has no density: when the directions left out have no variance, or
        none was left out and the kept ones have none.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        k, d = self.components_.shape
        least = self.noise_variance_ if k < d else float(np.min(self.explained_variance_))
        if not least > EPS**2 * float(np.max(self.explained_variance_, initial=0.0)):
            raise ValueError("the data have no variance in some direction, so there is no density.")
        along = (X - self.mean_) @ self.components_.T
        squares = np.sum(along**2 / self.explained_variance_, axis=1)
        log_det = float(np.sum(np.log(self.explained_variance_)))
        if k < d:
            beyond = (X - self.mean_) - along @ self.components_
            squares = squares + np.sum(beyond**2, axis=1) / self.noise_variance_
            log_det += (d - k) * math.log(self.noise_variance_)
        return -0.5 * (squares + log_det + d * math.log(2 * math.pi))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`score_samples`."""
        return float(np.mean(self.score_samples(X)))


class Whitening(Saved, TransformerMixin, BaseEstimator):
    """Coordinates of mean zero, variance one and no correlation, by LQ of the centred data.

    The map is triangular: coordinate i depends on the columns up to the i-th only (Gram-Schmidt).  A column
    that those before it determine to working precision has no coordinate of its own and is left out.

    After ``fit``: ``mean_ (d,)``; ``kept_``, the numbers of the columns with a coordinate; and
    ``factor_ (d, r)``, so that the covariance is ``factor_ @ factor_.T``.
    """

    def fit(self, X: Any, y: Any = None) -> Whitening:
        """Fit to ``X (n, d)``; ``y`` is ignored."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self._unit = float(np.max(np.abs(X))) or 1.0  # keeps squares of extreme values finite
        scaled = X / self._unit
        mean = scaled.mean(axis=0)
        self.kept_ = _independent(scaled - mean, EPS * len(X) * np.max(np.abs(scaled), axis=0))
        self.mean_ = mean * self._unit
        self.factor_ = np.zeros((X.shape[1], len(self.kept_)))
        if len(self.kept_):
            self._whitener = whiten(scaled[:, self.kept_])
            white = self._whitener.transform(scaled[:, self.kept_])
            self.factor_ = (scaled - mean).T @ white / (len(X) - 1) * self._unit
        return self

    @property
    def _n_features_out(self) -> int:
        return len(self.kept_)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """``white0, white1, ...``"""
        check_is_fitted(self)
        return np.asarray([f"white{i}" for i in range(len(self.kept_))], dtype=object)

    def transform(self, X: Any) -> np.ndarray:
        """White rows ``(m, r)``."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        if not len(self.kept_):
            return np.zeros((len(X), 0))
        return self._whitener.transform(X[:, self.kept_] / self._unit)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows ``(m, d)`` with the white coordinates ``X (m, r)``."""
        check_is_fitted(self)
        coordinates = np.asarray(X, dtype=float)
        if coordinates.ndim != 2 or coordinates.shape[1] != len(self.kept_):
            raise ValueError(f"X must have shape (m, {len(self.kept_)}), not {coordinates.shape}.")
        return coordinates @ self.factor_.T + self.mean_


def _independent(rows: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Numbers of the columns that those before them do not determine, by Gram-Schmidt done twice."""
    n, d = rows.shape
    basis = np.zeros((n, 0))
    kept = []
    for j in range(d):
        column = rows[:, j]
        beyond = column - basis @ (basis.T @ column)
        beyond = beyond - basis @ (basis.T @ beyond)
        size = float(np.linalg.norm(beyond))
        # Below the rounding of the column itself, or of the values it was centred from.
        if size > 8 * EPS * max(n, d) * float(np.linalg.norm(column)) and size > floor[j]:
            basis = np.column_stack([basis, beyond / size])
            kept.append(j)
    return np.asarray(kept, dtype=int)


__all__ = ["PCA", "Whitening"]

"""A fitted model in the units of the user's data: scaling, fitting, prediction, saving."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from cola_core.errors import FileFormatError, UnreliableResultWarning

from . import storage
from .data import Data, Grid, GridSubset, Scaling, as_inputs, as_points
from .fitting import FitResult, fit
from .kernels import RBF, Constant
from .likelihoods import StudentTLikelihood
from .missing import check_policy, drop_missing
from .model import GP
from .posterior import LeaveOneOut, Posterior


def default_model(d: int, n: int = 0) -> GP:
    """Initial model for scaled data in ``d`` dimensions: ``Constant(1) * RBF(sqrt(d)) per dimension``,
    noise 0.1.

    With more dimensions than observations one shared lengthscale is used: separate ones cannot be told apart.
    """
    lengthscale = np.full(d, np.sqrt(d)) if n == 0 or d < n else np.sqrt(d)
    return GP(Constant(1.0) * RBF(lengthscale), noise=0.1)


def _float64(X: Any) -> Any:
    """Checked inputs in double precision."""
    if isinstance(X, (Grid, GridSubset)):
        return X.as_float64()
    return np.asarray(X, dtype=float)


def _location_scale(model: GP) -> bool:
    """Whether targets may be shifted and scaled: not if they are counts or classes."""
    return model.noise.gaussian or isinstance(model.noise, StudentTLikelihood)


class Predictor:
    """A :class:`~cola_gp.posterior.Posterior` behind a change of units; NumPy only.

    Attributes: model and data (scaled), scaling, posterior, result (the FitResult, or None after loading),
    dropped (how many rows were left out because of missing values), alg (how inference is done).
    """

    def __init__(
        self,
        model: GP,
        data: Data,
        scaling: Scaling,
        result: FitResult | None = None,
        dropped: int = 0,
        alg: Any = "auto",
    ):
        self.model, self.data, self.scaling, self.result = model, data, scaling, result
        self.dropped, self.alg = dropped, alg
        self.posterior = Posterior(model, data, alg)

    def __repr__(self) -> str:
        scaled = np.any(self.scaling.x_scale != 1) or self.scaling.y_scale != 1
        return f"Predictor({self.posterior!r}{', of scaled columns' if scaled else ''})"

    @classmethod
    def fit(
        cls,
        X: Any,
        y: Any,
        model: GP | None = None,
        *,
        scale: bool = True,
        optimize: bool = True,
        missing: str = "raise",
        alg: Any = "auto",
        **options: Any,
    ) -> Predictor:
        """Scale the data, fit ``model`` (default: :func:`default_model`) and condition it.

        Targets are scaled only under likelihoods for which units have a meaning: counts and classes stay.

        missing: "raise" refuses NaN, "drop" leaves out rows that hold one and counts them in ``dropped``.
        alg: how to do inference, see :func:`~cola_gp.inference.condition`.  ``options`` go to
        :func:`~cola_gp.fitting.fit`, where ``initial`` is "data" if no model is given; parameters then refer
        to scaled data if ``scale``.
        """
        check_policy(missing)
        dropped = 0
        if missing == "drop":
            complete = drop_missing(X, y)
            X, y, dropped = complete.X, complete.y, complete.dropped
        checked = Data(X, y)
        inputs, targets = _float64(checked.X), np.asarray(checked.y, dtype=float)
        d = inputs.shape[1]
        kept = frozenset() if model is None else model.label_dims(d)
        scaling = Scaling.of(as_points(inputs), targets, kept) if scale else Scaling.none(d)
        if model is not None and not _location_scale(model):
            scaling = scaling.replace(y_shift=np.zeros(()), y_scale=np.ones(()))
        data = Data(scaling.inputs(inputs), scaling.targets(targets))
        if model is None:
            model = default_model(d, data.n)
            options = {"initial": "data"} | options
        options = options if optimize else {"max_iters": 0}
        result = fit(model, data, alg=alg, **options)
        if optimize and result.at_bounds and _location_scale(model) and np.ptp(data.y) == 0:
            warnings.warn(
                f"all targets ({data.n}) are {targets[0]:g}: they do not say how much the function varies, "
                f"so {', '.join(result.at_bounds)} ended at a bound and standard deviations mean little. "
                "Give bounds or priors for these, or believe the given kernel and noise (optimize=False).",
                UnreliableResultWarning,
                stacklevel=3,
            )
        return cls(result.model, data, scaling, result, dropped, alg)

    def _inputs(self, X: Any) -> Any:
        return self.scaling.inputs(_float64(as_inputs(X)))

    def mean(self, X: Any) -> np.ndarray:
        """Predictive mean ``(m,)``."""
        return self.scaling.mean(self.posterior.mean(self._inputs(X)))

    def variance(self, X: Any, include_noise: bool = False) -> np.ndarray:
        """Predictive variance ``(m,)``."""
        return self.scaling.variance(self.posterior.variance(self._inputs(X), include_noise))

    def deviation(self, X: Any, include_noise: bool = False) -> np.ndarray:
        """Predictive standard deviation ``(m,)``, also in units whose squares no number can hold."""
        return self.scaling.deviation(self.posterior.variance(self._inputs(X), include_noise))

    def response(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Predictive mean and variance of observations ``(m,)``, under any likelihood; for a
        ``BernoulliLikelihood`` the mean is the probability of a one."""
        mean, variance = self.posterior.response(self._inputs(X))
        return self.scaling.mean(mean), self.scaling.variance(variance)

    def covariance(self, X: Any, include_noise: bool = False) -> np.ndarray:
        """Joint predictive covariance ``(m, m)``."""
        return self.scaling.variance(self.posterior.covariance(self._inputs(X), include_noise))

    def sample(self, X: Any, count: int = 1, *, key: int = 0, include_noise: bool = False) -> np.ndarray:
        """Joint draws ``(count, m)``."""
        return self.scaling.mean(
            self.posterior.sample(self._inputs(X), count, key=key, include_noise=include_noise)
        )

    def log_predictive_density(self, X: Any, y: Any) -> np.ndarray:
        """Log density of held-out observations, one value per point, in the units of the data."""
        targets = self.scaling.targets(np.asarray(y, dtype=float))
        return self.posterior.log_predictive_density(self._inputs(X), targets) - np.log(self.scaling.y_scale)

    def leave_one_out(self) -> LeaveOneOut:
        """Leave-one-out predictions of the training targets, in the units of the data."""
        loo = self.posterior.leave_one_out()
        return LeaveOneOut(
            self.scaling.mean(loo.mean),
            self.scaling.variance(loo.variance),
            loo.log_density - np.log(self.scaling.y_scale),
        )

    def save(self, path: str | os.PathLike[str], meta: dict[str, Any] | None = None) -> None:
        """Write model, data, scaling and ``alg``, if it is a name, to one file."""
        parts: dict[str, Any] = {"model": self.model, "data": self.data, "scaling": self.scaling}
        if isinstance(self.alg, str):
            parts["alg"] = self.alg
        storage.save(path, parts, meta)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> tuple[Predictor, dict[str, Any]]:
        """Read a file written by :meth:`save`: the predictor and the metadata."""
        parts, meta = storage.load(path)
        kinds = {"model": GP, "data": Data, "scaling": Scaling}
        for name, kind in kinds.items():
            if not isinstance(parts.get(name), kind):
                held = f"a {meta['estimator']}" if meta.get("estimator") else f"no {name}"
                raise FileFormatError(
                    f"{os.fspath(path)} holds {held}, not a Gaussian process regression model."
                )
        with storage.assembling(path):
            return cls(parts["model"], parts["data"], parts["scaling"], alg=parts.get("alg", "auto")), meta

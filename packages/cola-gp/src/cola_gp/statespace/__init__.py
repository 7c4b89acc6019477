"""Linear Gaussian state-space models: Kalman filter, smoother and likelihood on NumPy, PyTorch and JAX.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> model = ss.LinearGaussian(
    ...     A=[[1.0, 1.0], [0.0, 1.0]], Q=np.diag([0.0, 0.01]), H=[[1.0, 0.0]], R=[[0.5]],
    ...     m0=[0.0, 0.0], P0=np.eye(2),
    ... )
    >>> y = np.array([0.9, 2.1, np.nan, 4.0])
    >>> ss.kalman_smoother(model, y).mean.shape
    (4, 2)
    >>> round(float(ss.log_likelihood(model, y)), 3)
    -4.876

The functions are pure; models and answers are pytrees.  :class:`LinearGaussian` states the conventions.
"""

from __future__ import annotations

from .em import LearnResult, em, em_step
from .filtering import Filtered, kalman_filter, log_likelihood
from .forecasting import Forecast, forecast, observed
from .gradient_fit import gradient_fit
from .model import LinearGaussian
from .sampling import sample, sample_posterior
from .score import value_and_gradient
from .smoothing import Smoothed, kalman_smoother

__all__ = [
    "Filtered",
    "Forecast",
    "LearnResult",
    "LinearGaussian",
    "Smoothed",
    "em",
    "em_step",
    "forecast",
    "gradient_fit",
    "kalman_filter",
    "kalman_smoother",
    "log_likelihood",
    "observed",
    "sample",
    "sample_posterior",
    "value_and_gradient",
]

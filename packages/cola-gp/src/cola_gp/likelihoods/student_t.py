r"""Heavy-tailed noise: ``y = f + scale * t`` with ``t`` of Student's distribution with ``df`` degrees of
freedom.

Its logarithm is not concave: an observation further than ``scale * sqrt(df)`` from the function has a
negative weight, which is how it is taken for an outlier (Vanhatalo et al. 2009).  Laplace's evidence then has
poles: as parameters move, a mode merges with a saddle, the determinant of the Hessian goes to zero and the
evidence to infinity, which is where an optimiser would go.  With the expected (Fisher) information in the
place of the Hessian there are none (Hartmann & Vanhatalo 2019); the mode is the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.errors import ShapeError

from .._struct import set_fields, static, struct
from ..arrays import backend_for
from ..kernels.base import Array, follow, positive
from .base import Curve, Likelihood, ParameterCurve
from .special import nodes, special

CURVATURES = ("fisher", "hessian")


@struct
class StudentTLikelihood(Likelihood):
    """``scale`` is that of the central part of the noise, ``df`` how heavy its tails are (1: Cauchy; large:
    Gaussian).  ``curvature`` is "fisher" or "hessian": the weight of the Gaussian around the mode (see the
    module docstring).
    """

    log_scale: Array
    log_df: Array
    curvature: str = static(default="fisher")
    log_concave = False

    def __init__(
        self,
        scale: Any = 0.1,
        df: Any = 4.0,
        curvature: str = "fisher",
        *,
        log_scale: Any = None,
        log_df: Any = None,
    ):
        if curvature not in CURVATURES:
            raise ValueError(f"curvature must be one of {CURVATURES}, not {curvature!r}.")
        stored = positive("scale", scale, log_scale), positive("df", df, log_df)
        if any(part.ndim for part in stored):
            raise ShapeError("StudentTLikelihood has one scale and one df.")
        set_fields(self, log_scale=stored[0], log_df=stored[1], curvature=curvature)

    def _parameters(self, like: Array) -> tuple[Array, Array, Array]:
        """df, and df times the squared scale, twice: of the library and dtype of ``like``."""
        xp = backend_for(like).xp
        df, scale = (xp.exp(follow(p, like)) for p in (self.log_df, self.log_scale))
        return df, df * scale * scale, scale

    def log_density(self, y: Array, f: Array) -> Array:
        xp = backend_for(f).xp
        df, s, scale = self._parameters(f)
        r = y - f
        norm = special("gammaln", 0.5 * df + 0.5) - special("gammaln", 0.5 * df)
        norm = norm - 0.5 * xp.log(df * math.pi) - xp.log(scale)
        return norm - 0.5 * (df + 1.0) * xp.log1p(r * r / s)

    def curve(self, y: Array, f: Array) -> Curve:
        df, s, _ = self._parameters(f)
        r = y - f
        q = r * r + s
        return Curve(
            (df + 1.0) * r / q,
            (df + 1.0) * ((s - r * r) / q) / q,
            2.0 * (df + 1.0) * (r / q) * ((r * r - 3.0 * s) / q) / q,
        )

    def evidence_curve(self, y: Array, f: Array) -> tuple[Array, Array]:
        if self.curvature == "hessian":
            return super().evidence_curve(y, f)
        df, _, scale = self._parameters(f)
        flat = backend_for(f).xp.zeros_like(f)
        return flat + (df + 1.0) / (df + 3.0) / (scale * scale), flat

    def bound_weight(self, y: Array, f: Array) -> Array:
        # of the scale mixture of Gaussians: iteratively reweighted least squares
        df, s, _ = self._parameters(f)
        return (df + 1.0) / ((y - f) ** 2 + s)

    def parameter_curves(self, y: Array, f: Array) -> tuple[ParameterCurve, ...]:
        xp = backend_for(f).xp
        df, s, _ = self._parameters(f)
        r = y - f
        q = r * r + s
        slope, weight, _ = self.curve(y, f)
        # s is proportional to scale^2 and to df
        by_s = ParameterCurve(
            0.5 * (df + 1.0) * r * r / q,
            -slope * s / q,
            (df + 1.0) * s * ((3.0 * r * r - s) / q) / q / q,
        )
        outer = df / (df + 1.0)
        norm = 0.5 * df * (special("digamma", 0.5 * df + 0.5) - special("digamma", 0.5 * df)) - 0.5
        by_df = ParameterCurve(
            norm - 0.5 * df * xp.log1p(r * r / s) + by_s.density,
            outer * slope + by_s.slope,
            outer * weight + by_s.weight,
        )
        if self.curvature == "fisher":
            # (df + 1) / (df + 3) / scale^2
            expected, _ = self.evidence_curve(y, f)
            by_s = by_s._replace(weight=-expected)
            by_df = by_df._replace(weight=2.0 * expected * df / ((df + 1.0) * (df + 3.0)))
        return ParameterCurve(2.0 * by_s.density - 1.0, 2.0 * by_s.slope, 2.0 * by_s.weight), by_df

    def guess(self, y: Array) -> Array:
        return y

    def response(self, mean: Array, variance: Array) -> tuple[Array, Array]:
        """The mean does not exist for ``df <= 1`` (NaN) and the variance not for ``df <= 2`` (infinite)."""
        xp = backend_for(mean).xp
        df, s, _ = self._parameters(mean)
        heavy = df <= 2.0
        noise = xp.where(heavy, xp.ones_like(df) * math.inf, s / xp.where(heavy, xp.ones_like(df), df - 2.0))
        return xp.where(df <= 1.0, mean * math.nan, mean), variance + noise

    def log_predictive_density(self, y: Array, mean: Array, variance: Array) -> Array:
        """A scale mixture of Gaussians: ``scale^2 / w`` with ``w`` of a Gamma distribution."""
        backend = backend_for(mean)
        xp = backend.xp
        df, _, scale = self._parameters(mean)
        log_w, weights = _gamma_nodes(backend.number(df))
        w, weights = nodes(np.exp(log_w), mean), nodes(weights, mean)
        total = variance[:, None] + scale * scale / w[None, :]
        error = (y - mean)[:, None]
        values = -0.5 * (error * error / total + xp.log(2 * math.pi * total)) + xp.log(weights)[None, :]
        top = xp.max(values, axis=1)
        return top + xp.log(xp.sum(xp.exp(values - top[:, None]), axis=1))


def _gamma_nodes(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Trapezoidal rule in ``log w`` for ``w ~ Gamma(df / 2, rate df / 2)``: nodes and normalised weights."""
    ends = []
    for sign in (-1.0, 1.0):
        inside, outside = 0.0, sign
        while 0.5 * df * (outside - math.exp(min(outside, 700.0)) + 1.0) > -42.0:
            inside, outside = outside, 2.0 * outside
        for _ in range(50):
            middle = 0.5 * (inside + outside)
            low = 0.5 * df * (middle - math.exp(min(middle, 700.0)) + 1.0) < -42.0
            inside, outside = (inside, middle) if low else (middle, outside)
        ends.append(outside)
    log_w = np.linspace(ends[0], ends[1], 401)
    log_weight = 0.5 * df * (log_w - np.exp(log_w) + 1.0)
    weights = np.exp(log_weight)
    # a weight of zero would have no logarithm
    return log_w, np.maximum(weights, 1e-35) / weights.sum()

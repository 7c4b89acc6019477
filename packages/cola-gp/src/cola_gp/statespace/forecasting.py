"""What a model says of observations: smoothed ones, missing ones, and those to come."""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.errors import ShapeError

from ..arrays import Array, backend_for
from ..kernels.base import follow
from . import linear as la
from .filtering import kalman_filter
from .linear import mv
from .model import LinearGaussian, observations


class Forecast(NamedTuple):
    """Distributions of what is observed at some times: mean ``(*batch, n, p)``, covariance ``(*batch, n, p,
    p)``.
    """

    mean: Array
    covariance: Array


def observed(
    model: LinearGaussian, mean: Array, covariance: Array, *, include_noise: bool = True
) -> Forecast:
    """Moments of ``H x`` (and, with ``include_noise``, of the noise) for states of these moments at n
    times.
    """
    H, R = follow(model.H, mean), follow(model.R, mean)
    P = la.symmetric(H @ covariance @ H.mT)
    return Forecast(mv(H, mean), P + R if include_noise else P)


def forecast(
    model: LinearGaussian,
    y: Any,
    steps: int,
    mask: Any = None,
    *,
    include_noise: bool = True,
    form: str = "auto",
    method: str = "auto",
) -> Forecast:
    """The next ``steps`` observations after ``y (*batch, n, p)``, each by its own mean and covariance.

    A model that changes with time must have its matrices for all ``n + steps`` times.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[1.0]], H=[[1.0]], R=[[1e-9]], m0=[0.0], P0=[[1.0]])
    >>> ahead = ss.forecast(walk, np.array([0.5, 2.0]), 3)
    >>> ahead.mean[:, 0].round(3).tolist(), ahead.covariance[:, 0, 0].round(3).tolist()
    ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0])
    """
    if steps < 1:
        raise ShapeError(f"steps must be at least 1, not {steps}.")
    y, w = observations(y, mask, model.observed)
    be = backend_for(y)
    xp, n = be.xp, int(y.shape[-2])
    new = xp.zeros((*y.shape[:-2], steps, y.shape[-1]), dtype=y.dtype, device=be.device(y))
    seen = xp.concat([xp.ones_like(y) if w is None else w, new], axis=-2) > 0
    answer = kalman_filter(model, xp.concat([y, new], axis=-2), seen, form=form, method=method)
    tail = model.replace(
        **{
            name: x[..., n:, :, :]
            for name in "HR"
            if (x := getattr(model, name)).ndim > 2 and x.shape[-3] > 1
        }
    )
    return observed(
        tail, answer.mean[..., n:, :], answer.covariance[..., n:, :, :], include_noise=include_noise
    )

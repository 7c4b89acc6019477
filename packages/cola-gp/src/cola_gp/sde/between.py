"""Test times among the times of observations: what hangs a prediction between its neighbours."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, backend_for
from .forms import form_of
from .operator import StateSpaceCovariance
from .smoothing import Bridge, joint_covariance


def bridge(kernel: Any, times: Array, t: Array) -> Bridge:
    """How test times ``t (m,)`` lie between the ascending ``times (n,)``."""
    xp = backend_for(times).xp
    n = times.shape[0]
    form = form_of(kernel)
    left = xp.searchsorted(times, t, side="right") - 1
    last = times[xp.where(left < 0, 0 * left, left)]
    following = times[xp.where(left + 1 >= n, left, left + 1)]
    zero = xp.zeros_like(t)
    gap, rest = xp.where(left < 0, zero, t - last), xp.where(left + 1 >= n, zero, following - t)
    into, onward = form.steps(t, gap)[0], form.steps(t, rest)[0]
    H = xp.broadcast_to(into.H, (into.H.shape[0], t.shape[0]))
    return Bridge(left, into.A, into.Q, onward.A, H)


def together(kernel: Any, times: Array, t: Array) -> StateSpaceCovariance:
    """The covariance of the process at ``times (n,)`` and then at ``t (m,)``, in any order; without white."""
    xp = backend_for(times).xp
    every = xp.concat([times, t])
    order = xp.argsort(every)
    ordered = every[order]
    gaps = xp.concat([0 * ordered[:1], ordered[1:] - ordered[:-1]])
    steps = form_of(kernel).steps(ordered, gaps)[0]
    return StateSpaceCovariance(steps.A, steps.Q, steps.P, steps.H, order)


def covariance_at(kernel: Any, times: Array, t: Array, noise: Array, scale: Array | None = None) -> Array:
    """Covariance ``(m, m)`` of the process at ``t`` given observations at ``times (n,)``.

    noise: their variances ``(n,)``; scale: what the process was multiplied by in them, ``(n,)``.  O((n + m)
    s^3 + m^2 s^2).
    """
    xp = backend_for(times).xp
    n = times.shape[0]
    both = together(kernel, times, t)
    ones = xp.ones_like(t)
    seen = both.in_time(xp.concat([xp.ones_like(times), 0 * ones]))
    steps = both.steps
    if scale is not None:
        steps = steps._replace(H=steps.H * both.in_time(xp.concat([scale, ones])))
    # places of the test times among all, ascending, and back
    rank = xp.argsort(both.order)[n:]
    by_time = xp.argsort(rank)
    found = joint_covariance(steps, both.in_time(xp.concat([noise, ones])), seen, rank[by_time])
    back = xp.argsort(by_time)
    return found[back][:, back]

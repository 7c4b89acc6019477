r"""Kernels in time with a state of finite size: likelihood, gradient and prediction in O(n), by the Kalman
filter and smoother.

The prior becomes a :class:`~cola_gp.sde.operator.StateSpaceCovariance`, of which the core's questions (solve,
slogdet, inv_quad_logdet, diag, trace, sample) are answered here too.  Inputs are one number each, in any
order, with repetitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from cola_core.algorithms import Auto
from cola_core.cost import Cost
from cola_core.linalg import diag, inv_quad_logdet, sample, slogdet, solve, trace
from cola_core.plugins import RuleBook

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import as_points
from ..kernels.base import Array
from ..sde.between import bridge, covariance_at
from ..sde.forms import NoForm, form_of
from ..sde.operator import StateSpaceCovariance, recursion_cost
from ..sde.smoothing import Smoothed
from .base import LOG_2PI, Conditioned
from .questions import CONDITION, REPRESENT, Inference, Problem, Representation

RULES = RuleBook()


# -- the form --------------------------------------------------------------------------------------------
def _in_time(K: Any, problem: Any, *, alg: Any) -> bool | str:
    if K.X2 is not None:
        return "the two point sets differ, so the matrix is not symmetric"
    d = K.X1.shape[1]
    if d != 1:
        return f"the inputs have {d} dimensions, not time alone"
    try:
        size = form_of(K.kernel).size
    except NoForm as reason:
        return str(reason)
    return True if size else "the kernel is white noise alone"


def _cost(K: Any, problem: Any, *, alg: Any) -> Cost:
    return recursion_cost(K.shape[0], form_of(K.kernel).size, K.itemsize)


@RULES.rule(
    REPRESENT,
    (CovarianceOperator,),
    id="represent/state-space",
    source="Hartikainen & Sarkka 2010; Solin & Sarkka 2014",
    when=_in_time,
    cost=_cost,
)
def represent_state_space(K: Any, problem: Any, *, alg: Any) -> Representation:
    """A kernel in time as a state-space model.

    Cotangent: a pair of :class:`~cola_gp.sde.filtering.Cotangent` and the derivative ``(n,)`` in ``white``,
    by row.
    """
    t = as_points(K.X1)[:, 0]
    backend = backend_for(t)
    xp = backend.xp
    order = _order(backend, t)
    times = t if order is None else t[order]
    gaps = xp.concat([0 * times[:1], times[1:] - times[:-1]])
    form = form_of(K.kernel)
    steps, white, back = form.steps(times, gaps)
    A = StateSpaceCovariance(steps.A, steps.Q, steps.P, steps.H, order)
    if _has_white(K.kernel):
        A = A.replace(white=A.in_rows(white))

    def pull(cotangent: Any) -> tuple[Array, ...]:
        model, by_row = cotangent
        return back(model, A.in_time(by_row))  # type: ignore[no-any-return]

    return Representation(A, pull)


def _order(backend: Any, t: Array) -> Array | None:
    """The order that sorts the times; None where they are known to be sorted."""
    if backend.name != "abstract" and backend.is_concrete(t) and bool(backend.xp.all(t[1:] >= t[:-1])):
        return None
    return backend.xp.argsort(t)


def _has_white(kernel: Any) -> bool:
    from .._struct import Struct
    from ..kernels import White

    if isinstance(kernel, White):
        return True
    parts = kernel if isinstance(kernel, tuple) else None
    if parts is None and isinstance(kernel, Struct):
        parts = tuple(getattr(kernel, name) for name in kernel._child_fields)
    return any(_has_white(part) for part in parts or ())


# -- the core's questions --------------------------------------------------------------------------------
def _exact(A: Any, *operands: Any, alg: Any) -> bool | str:
    return True if isinstance(alg, Auto) else f"{type(alg).__name__} was asked for"


@RULES.rule(
    solve,
    (StateSpaceCovariance,),
    id="solve/state-space",
    source="Kalman filter and disturbance smoother; Durbin & Koopman 2012, 4.5",
    when=_exact,
    complexity="O(n s^3 + n s^2 k)",
)
def solve_state_space(A: Any, b: Array, *, alg: Any) -> Array:
    factor = A.factorise()
    xp = A.xp
    n, lead = A.shape[0], tuple(b.shape[:-2])
    columns = A.in_time(xp.reshape(xp.moveaxis(b, -2, 0), (n, -1)))
    out = A.in_rows(factor.solve(columns))
    return xp.moveaxis(xp.reshape(out, (n, *lead, b.shape[-1])), 0, -2)


@RULES.rule(
    slogdet,
    (StateSpaceCovariance,),
    id="slogdet/state-space",
    source="product of the innovation variances",
    when=_exact,
    complexity="O(n s^3)",
)
def slogdet_state_space(A: Any, *, alg: Any) -> tuple[Array, Array]:
    value = A.factorise().log_det()
    return A.xp.ones_like(value), value


@RULES.rule(
    inv_quad_logdet,
    (StateSpaceCovariance,),
    id="inv_quad_logdet/state-space",
    source="prediction error decomposition; Schweppe 1965",
    when=_exact,
    complexity="O(n s^3 + n s^2 k)",
)
def inv_quad_logdet_state_space(A: Any, B: Array, *, alg: Any) -> Any:
    factor = A.factorise()
    whitened = factor.innovations(A.in_time(B))
    value = factor.log_det()
    return A.xp.sum(whitened * whitened, axis=0), A.xp.ones_like(value), value


def _main_diagonal(A: Any, k: int, *, alg: Any) -> bool | str:
    return True if k == 0 else f"only the main diagonal is known without forming the matrix, not k={k}"


@RULES.rule(diag, (StateSpaceCovariance,), id="diag/state-space", source="h^T P h", when=_main_diagonal)
def diag_state_space(A: Any, k: int, *, alg: Any) -> Array:
    return A.diagonal()


@RULES.rule(trace, (StateSpaceCovariance,), id="trace/state-space", source="sum of h^T P h")
def trace_state_space(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(A.diagonal())


@RULES.rule(
    sample,
    (StateSpaceCovariance,),
    id="sample/state-space",
    source="the state-space model run forwards",
    complexity="O(n s^3 + n s^2 k)",
)
def sample_state_space(A: Any, key: Any, shape: tuple[int, ...], *, alg: Any) -> Array:
    count = 1
    for size in shape:
        count *= size
    return A.xp.reshape(A.draw(key, count), (*shape, A.shape[0]))


# -- conditioning ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class StateSpaceInference(Inference):
    """The Kalman filter and smoother, in chunks of time: O(n s^3) for a state of size s, memory O(n s^2).

    For kernels of one input that have a finite state, with any independent noise; times in any order.
    """

    prior: ClassVar[type] = StateSpaceCovariance
    represents: ClassVar[str] = "gp:represent/state-space"

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        if isinstance(prior._plus(noise), StateSpaceCovariance):
            return ""
        return f"the noise is a {type(noise).__name__}, not a positive diagonal"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        return recursion_cost(A.shape[0], A.states, A.itemsize)

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        return StateSpaceConditioned(prior, noise, problem)


RULES.algorithm(CONDITION, StateSpaceInference, name="state-space")


class StateSpaceConditioned(Conditioned):
    """Inference by recursions over time.  Nothing of size n x n or n x m is formed."""

    method = "state space (Kalman)"

    def __init__(self, prior: Any, noise: Any, problem: Problem):
        self._observe(problem)
        self.operator = K = prior + noise
        factor = K.factorise()
        self.smoothed = Smoothed(factor, K.in_time(self.residual))
        self.alpha = K.in_rows(self.smoothed.alpha)
        self.log_det = factor.log_det()
        self.rcond = self._reciprocal_condition(factor)
        self.times = K.in_time(self.points[:, 0])

    def _reciprocal_condition(self, factor: Any) -> float:
        """The smallest innovation against the largest variance; less where chunks had to be given up."""
        be = self.backend
        if not be.is_concrete(factor.S):
            return 1.0
        observed = factor.weight > 0  # not the padding, whose variances are one
        smallest = float(be.xp.min(be.xp.where(observed, factor.S, be.xp.full_like(factor.S, math.inf))))
        ratio = smallest / float(be.xp.max(self.operator.diagonal()))
        return ratio if factor.layout.chunks > 1 or self.data.n <= 32 else ratio / self.data.n

    def log_marginal_likelihood(self) -> Array:
        return -0.5 * (self.smoothed.quadratic + self.log_det + self.data.n * LOG_2PI)

    def _covariance_gradient(self) -> tuple[tuple[Array, ...], Array]:
        model, noise = self.smoothed.gradient()
        noise = self.operator.in_rows(noise)
        return self._pull((model, noise)), noise

    def solve(self, B: Array) -> Array:
        K = self.operator
        return K.in_rows(self.smoothed.factor.solve(K.in_time(B)))  # type: ignore[no-any-return]

    def inverse_diagonal(self) -> Array:
        return self.operator.in_rows(self.smoothed.inverse_diagonal())

    # -- test points ------------------------------------------------------------------------------------
    def _at(self, X: Array) -> tuple[Array, Array]:
        found = bridge(self.model.kernel, self.times, X[:, 0])
        return self.smoothed.at(found, self.operator.initial)

    def latent_mean(self, X: Array) -> Array:
        return self._at(X)[0]

    def latent_variance(self, X: Array) -> Array:
        return self._at(X)[1]

    def explained_variance(self, X: Array) -> Array:
        return self.model.kernel.cross_diag(X) - self.latent_variance(X)

    def latent_covariance(self, X: Array) -> Array:
        return covariance_at(self.model.kernel, self.times, X[:, 0], self.operator.noise())

    def explained_covariance(self, X: Array) -> Array:
        return self.model.kernel(X, X) - self.latent_covariance(X)


__all__ = ["StateSpaceConditioned", "StateSpaceInference"]

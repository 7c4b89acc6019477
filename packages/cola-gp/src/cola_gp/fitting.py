"""Fit a model's parameters by maximising the log marginal likelihood (or posterior), with L-BFGS-B or Adam.

A fit never loses its best point: whatever happens, the result holds the best parameters seen, whether the
optimiser converged, and why it stopped.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cola_core.algorithms import Auto
from cola_core.errors import ConvergenceWarning, NonFiniteError, NotPositiveDefiniteError

from .arrays import backend_for
from .data import Data
from .inference import condition
from .initial import RANGE, DataScale, initialise, range_advice
from .model import GP, check_problem
from .optimizers import OPTIMIZERS, Optimum, adam, lbfgs, projected_norm
from .parameters import ParameterSpace
from .priors import Prior

# A gradient of the log likelihood, per unit of log parameter, too small to matter to anyone.
NEGLIGIBLE = 0.1
# A residual of an approximate posterior beyond which its evidence is not to be trusted.
LOST = 1e-2


@dataclass(frozen=True)
class Run:
    """One start of the optimiser: the log likelihood it reached, and why it stopped."""

    log_likelihood: float
    converged: bool
    reason: str
    iterations: int
    evaluations: int


@dataclass(frozen=True)
class FitResult:
    """What a fit found and how far to trust it.

    model: with the best parameters seen, even when the fit failed.
    log_likelihood: log marginal likelihood there (plus log priors in ``log_posterior``).
    converged, reason: of the start that found the best parameters.
    iterations, evaluations: totals over all starts; failures: evaluations with no finite likelihood.
    gradient_norm: largest projected derivative of the log posterior divided by the number of observations;
    NaN if parameters were only evaluated.
    at_bounds: names of parameters that ended on a bound, where the optimum may lie beyond it.
    jitter: what had to be added to the diagonal at the best parameters; zero in the normal case.
    likelihood_error: standard error of ``log_likelihood``; zero where inference is not stochastic.
    """

    model: GP
    log_likelihood: float
    log_posterior: float
    converged: bool
    reason: str
    iterations: int
    evaluations: int
    failures: int
    gradient_norm: float
    parameters: dict[str, float]
    at_bounds: tuple[str, ...]
    jitter: float
    method: str
    seconds: float
    likelihood_error: float = 0.0
    runs: tuple[Run, ...] = field(default=(), repr=False)

    def summary(self) -> str:
        """A few lines for people."""
        state = "converged" if self.converged else "NOT converged"
        lines = [
            f"{state}: {self.reason}",
            f"log marginal likelihood {self.log_likelihood:.6g}"
            + (f" +- {self.likelihood_error:.2g}" if self.likelihood_error else "")
            + f" by {self.method}, "
            f"{self.iterations} iterations, {self.evaluations} evaluations, {self.seconds:.2f} s"
            + (
                ""
                if math.isnan(self.gradient_norm)
                else f", gradient {self.gradient_norm:.1e} per observation"
            ),
        ]
        if self.jitter:
            lines.append(f"jitter {self.jitter:.3g} was added to the diagonal")
        if self.at_bounds:
            lines.append("at their bounds: " + ", ".join(self.at_bounds))
        return "\n".join(lines + _listed(self.parameters))


def _listed(parameters: Mapping[str, float], most: int = 12) -> list[str]:
    """One line per parameter; one for the whole array where it has more than ``most`` entries."""
    groups: dict[str, list[float]] = {}
    for name, value in parameters.items():
        groups.setdefault(name.partition("[")[0], []).append(value)
    lines: list[str] = []
    told: set[str] = set()
    for name, value in parameters.items():
        group = name.partition("[")[0]
        values = groups[group]
        if len(values) <= most:
            lines.append(f"  {name} = {value:.6g}")
        elif group not in told:
            lines.append(f"  {group}: {len(values)} values from {min(values):.6g} to {max(values):.6g}")
            told.add(group)
    return lines


class _Best(NamedTuple):
    """The best point seen and what was found there; ``error`` is the standard error of the likelihood.

    rough: whether derivatives have errors that can be asked for; doubt: what is to be said if it is the
    answer.
    """

    theta: np.ndarray
    slope: np.ndarray
    likelihood: float
    jitter: float
    error: float
    rough: bool
    doubt: str


def _lost(info: Any) -> str:
    """Why the evidence of an approximate posterior means nothing here, or nothing.

    Laplace's needs the mode and expectation propagation moments that agree.  The error is of second order in
    what is left of the residual; by more than that the value may be wrong by any amount and look good.
    """
    if getattr(info, "method", None) not in ("Laplace", "EP") or info.converged is not False:
        return ""
    if info.residual <= LOST:
        return ""
    return f"{info.method} found no posterior: {info.reason}, residual {info.residual:.1e}"


class _Objective:
    """Minus the log posterior per observation; remembers the best point and counts failures."""

    def __init__(self, space: ParameterSpace, data: Data, alg: Any):
        self.space, self.data, self.alg = space, data, alg
        self.method = "none"
        self.slopes = True  # False: values only, where no step will be made
        self.evaluations = self.failures = 0
        self.best_value = math.inf
        self.best: _Best | None = None
        self.worst = 0.0
        self.last_failure = self._advice = ""

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        theta = np.array(theta)
        try:
            # Extreme trial points overflow on the way to a likelihood that is then rejected below.
            with np.errstate(all="ignore"):
                model = self.space.build(theta)
                # of all points tried, only what the answer rests on is worth a warning
                conditioned = condition(model, self.data, self.alg, on_failure="ignore")
                lost = _lost(conditioned.info)
                if lost:
                    return self._failed(lost)
                likelihood = float(conditioned.log_marginal_likelihood())
                gradient = np.zeros(len(self.space))
                if self.slopes:
                    gradient = self.space.gradient(conditioned.gradient())
                jitter = conditioned.jitter
                doubt = float(getattr(conditioned.info, "standard_error", None) or 0.0)
                rough = self.slopes and doubt > 0 and hasattr(type(conditioned), "gradient_error")
                prior, prior_gradient = self.space.log_prior(theta)
                self.method = conditioned.method
        except (NotPositiveDefiniteError, NonFiniteError, np.linalg.LinAlgError, ArithmeticError) as error:
            return self._failed(str(error))
        if not (math.isfinite(likelihood + prior) and np.all(np.isfinite(gradient + prior_gradient))):
            return self._failed("the likelihood or its gradient is not finite")
        value = -(likelihood + prior) / self.data.n
        slope = -(gradient + prior_gradient) / self.data.n
        self.worst = max(self.worst, value)
        if value < self.best_value:
            self.best_value = value
            self.best = _Best(theta, slope, likelihood, jitter, doubt, rough, conditioned.doubt)
        return value, slope

    def slope_error(self) -> float:
        """The largest standard error of the derivatives at the best point, zero where they are exact.

        One evaluation more: to tell the errors costs too much to be done at every point that is tried.
        """
        if self.best is None or not self.best.rough:
            return 0.0
        model = self.space.build(self.best.theta)
        rough: Any = condition(model, self.data, self.alg, on_failure="ignore")  # which tells its errors
        kernel, noise = rough.gradient_error
        largest = [float(backend_for(e).xp.max(e)) for e in (*kernel, noise) if math.prod(e.shape)]
        return max(largest, default=0.0)

    def _failed(self, why: str) -> tuple[float, np.ndarray]:
        # A finite wall, higher than anything seen: the line search steps back; an infinity would stop it.
        self.failures += 1
        if not self.last_failure:
            self._advice = range_advice(self.data)
        self.last_failure = f"{why}; {self._advice}" if self._advice else why
        return 10.0 * abs(self.worst) + 1e3, np.zeros(len(self.space))


class _Stopped(Exception):
    """Raised between iterations; the best point so far is the answer.

    settled: because there is no more to be had, and not by the callback or the clock.
    """

    def __init__(self, why: str, settled: bool = False):
        super().__init__(why)
        self.settled = settled


class _Watch:
    """What happens after every iteration of one start: the callback, the clock, and the end of a search
    whose progress is below the error of a stochastic likelihood.

    settles: whether three iterations without progress mean that there is none to be made.
    """

    def __init__(
        self,
        objective: _Objective,
        callback: Callable[[int, float], Any] | None,
        deadline: float,
        settles: bool,
    ):
        self.objective, self.callback, self.deadline, self.settles = objective, callback, deadline, settles
        self.trail: list[float] = []

    def __call__(self) -> None:
        objective = self.objective
        self.trail.append(objective.best_value)
        if self.callback is not None and self.callback(objective.evaluations, -objective.best_value):
            raise _Stopped("the callback stopped it")
        if time.perf_counter() > self.deadline:
            raise _Stopped("the time limit was reached")
        error = 0.0 if objective.best is None else objective.best.error
        if self.settles and error and len(self.trail) > 3:
            if self.trail[-4] - self.trail[-1] < 0.1 * error / objective.data.n:
                raise _Stopped(f"the likelihood changes by less than its standard error {error:.2g}", True)


def fit(
    model: GP,
    data: Data,
    *,
    optimizer: str = "l-bfgs",
    initial: str = "given",
    restarts: int = 0,
    seed: int = 0,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    fixed: Iterable[str] = (),
    priors: Mapping[str, Prior] | str | None = None,
    max_iters: int = 200,
    max_seconds: float | None = None,
    tol: float = 1e-6,
    learning_rate: float = 0.1,
    spread: float = 1.5,
    callback: Callable[[int, float], Any] | None = None,
    alg: Any = Auto(),
) -> FitResult:
    """Maximise the log marginal likelihood of ``data`` over the parameters of ``model``.

    optimizer: "l-bfgs", or "adam", which takes more evaluations but bears likelihoods that are rough or
    noisy. initial: "given", the values that the model holds, or "data", those of
    :func:`~cola_gp.initial.initialise` for parameters that are not fixed. restarts: further starts, from
    the initial parameters times ``exp(spread * normal)`` by ``seed``. bounds: ``{pattern: (low, high)}`` in
    natural units; fixed: patterns of parameters to keep; priors likewise (patterns: see
    :mod:`cola_gp.parameters`), or "weak", which are for scaled inputs
    (:func:`~cola_gp.priors.weak_lengthscales`). Default bounds are relative to the scale of the data.
    max_iters: per start; max_seconds: for all. tol: on the largest projected derivative per observation.
    learning_rate: Adam's first step. callback: called with the number of evaluations and the best value per
    observation after every iteration; a true answer stops the fit. alg: how to do inference, see
    :func:`~cola_gp.inference.condition`.

    Cost: one factorisation per evaluation.  Sensible initial values matter more than restarts; scale the data
    first (:class:`~cola_gp.data.Scaling`), as :class:`~cola_gp.GPRegressor` does, or use ``initial="data"``.
    """
    check_problem(model, data)
    for name, count in (("restarts", restarts), ("max_iters", max_iters)):
        if not isinstance(count, (int, np.integer)):
            raise TypeError(f"{name} must be a whole number, not {count!r}.")
    if restarts < 0 or max_iters < 0:
        raise ValueError("restarts and max_iters must not be negative.")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {optimizer!r}.")
    if initial not in ("given", "data"):
        raise ValueError(f"initial must be 'given' or 'data', not {initial!r}.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate must be positive, not {learning_rate!r}.")
    started = time.perf_counter()
    eps = float(backend_for(data.y).xp.finfo(data.y.dtype).eps)
    scale = DataScale(model, data, noise_floor=max(RANGE[0], 100 * eps))
    space = ParameterSpace(model, bounds, fixed, priors, limits_of=scale.bounds)
    objective = _Objective(space, data, alg)
    lower, upper = space.limits()
    first = space.initial() if initial == "given" else space.read(initialise(model, data))
    rng = np.random.default_rng(seed)
    starts = [first] + [
        np.clip(first + spread * rng.standard_normal(len(space)), lower, upper) for _ in range(restarts)
    ]
    runs: list[Run] = []
    iterations = winner = 0
    if len(space) == 0 or max_iters == 0:
        objective.slopes = False
        value, _ = objective(first)
        run = Run(-value * data.n, len(space) == 0, _why_idle(space), 0, 1)
        return _result(space, objective, [run], 0, 0, first, data, time.perf_counter() - started)
    # Derivatives are no more accurate than the arithmetic: their noise is not worth chasing.
    tol = max(tol, 100 * eps)
    if optimizer == "adam":  # its last digits cost most, and are worth nothing
        tol = max(tol, 0.1 * NEGLIGIBLE / data.n)
    minimise = lbfgs if optimizer == "l-bfgs" else partial(adam, learning_rate=learning_rate)
    stopped = False
    deadline = math.inf if max_seconds is None else started + max_seconds
    for number, start in enumerate(starts):
        before_value, before_evaluations = objective.best_value, objective.evaluations
        before_failures = objective.failures
        watch = _Watch(objective, callback, deadline, settles=optimizer == "l-bfgs")
        try:
            answer = minimise(objective, start, lower, upper, max_iters=max_iters, tol=tol, report=watch)
        except _Stopped as stop:
            stopped = not stop.settled
            answer = _interrupted(objective, start, len(watch.trail), stop)
        iterations += answer.iterations
        runs.append(
            _judge(
                answer,
                projected_norm(answer.x, answer.gradient, lower, upper),
                tol,
                data.n,
                objective.evaluations - before_evaluations,
                objective.failures - before_failures,
                objective.last_failure,
                objective.slope_error,
            )
        )
        if objective.best_value < before_value:
            winner = number
        if stopped:
            break
    return _result(space, objective, runs, winner, iterations, first, data, time.perf_counter() - started)


def _interrupted(objective: _Objective, start: np.ndarray, steps: int, stop: _Stopped) -> Optimum:
    """The best point so far, as the answer of a minimiser that was not allowed to end."""
    best = objective.best
    if best is None:
        return Optimum(start, math.inf, np.full(len(start), math.inf), steps, str(stop), True)
    return Optimum(best.theta, objective.best_value, best.slope, steps, str(stop), not stop.settled)


def _judge(
    answer: Optimum,
    projected: float,
    tol: float,
    n: int,
    tried: int,
    failed: int,
    last_failure: str,
    slope_error: Callable[[], float],
) -> Run:
    """Whether a minimiser's answer is an optimum, and why not."""
    # That the value stopped changing is not convergence by itself: the gradient must be small per
    # observation, or in total so small that changing a parameter by a factor of e would hardly matter, or
    # not to be told from zero, where it is an estimate.
    small = projected <= 10 * tol or projected * n <= NEGLIGIBLE
    small = small or (math.isfinite(projected) and projected * n <= 3 * slope_error())
    hopeless = failed == tried
    reason = answer.reason
    if hopeless:
        reason = f"no finite likelihood at any point tried ({last_failure})"
    elif not small:
        reason += f"; the gradient is still {projected:.1e} per observation"
    converged = not answer.exhausted and small and not hopeless
    return Run(-answer.value * n, converged, reason, answer.iterations, tried)


def _why_idle(space: ParameterSpace) -> str:
    return (
        "the model has no free parameters"
        if len(space) == 0
        else "max_iters is 0: parameters were only evaluated"
    )


def _result(
    space: ParameterSpace,
    objective: _Objective,
    runs: list[Run],
    winner: int,
    iterations: int,
    first: np.ndarray,
    data: Data,
    seconds: float,
) -> FitResult:
    lower, upper = space.limits()
    if objective.best is None:
        theta, slope, likelihood, jitter = first, np.full(len(space), np.nan), -math.inf, 0.0
        error = 0.0
        posterior = -math.inf
        norm = math.inf
    else:
        theta, slope, likelihood, jitter, error, _, doubt = objective.best
        if doubt:
            warnings.warn(f"fitted model: {doubt}", ConvergenceWarning, stacklevel=3)
        posterior = -objective.best_value * data.n
        norm = projected_norm(theta, slope, lower, upper) if objective.slopes else math.nan
    model = space.build(theta)
    edge = 1e-6
    at_bounds = tuple(
        name
        for name, t, low, high in zip(space.names, theta, lower, upper, strict=True)
        if t <= low + edge or t >= high - edge
    )
    run = runs[winner]
    return FitResult(
        model=model,
        log_likelihood=likelihood,
        log_posterior=posterior,
        converged=run.converged,
        reason=run.reason,
        iterations=iterations,
        evaluations=objective.evaluations,
        failures=objective.failures,
        gradient_norm=norm,
        parameters=space.natural(theta),
        at_bounds=at_bounds,
        jitter=jitter,
        method=objective.method,
        seconds=seconds,
        likelihood_error=error,
        runs=tuple(runs),
    )

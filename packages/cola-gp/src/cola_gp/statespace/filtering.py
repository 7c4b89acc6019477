r"""Kalman filter and likelihood of a :class:`~cola_gp.statespace.LinearGaussian` model.

``kalman_filter`` has two forms of the covariance and two orders in time:

* ``form="covariance"`` updates P in Joseph's form ``(I - K H) P (I - K H)^T + K R K^T``, a sum of positive
  semidefinite terms; ``form="sqrt"`` propagates a triangular factor of P by LQ factorisations (Kailath,
  Sayed & Hassibi 2000, section 12.3), so that P is positive semidefinite by construction and the condition
  number that rounding sees is the square root.  The covariance form loses ``eps P0 / R`` relative to the
  variances: ``"auto"`` takes square roots in precisions below float64 and, where values can be seen (not
  inside of ``jit``), beside a prior so vague that more than 1e-6 would be lost.
* ``method="sequential"`` goes through time; ``"parallel"`` scans by a tree
  (:mod:`~cola_gp.statespace.parallel`).  ``"auto"`` goes through time on JAX on a CPU, where one compiled
  loop is the fastest, for short series and for more than a dozen states; else it takes the tree.

Most accurate where everything is nearly singular is the sequential square-root form.

The log-likelihood is computed afterwards from all predictions at once, ``-(v^T S^{-1} v + log det 2 pi S) /
2`` summed over times, with ``S = H P^- H^T + R``: a sum of positive semidefinite terms too, accurate in
float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cola_core.errors import NotPositiveDefiniteError, UnknownNameError

from ..arrays import Array
from . import linear as la
from .linear import mv
from .model import LinearGaussian, Problem, prepare
from .scans import sequential

FORMS = ("auto", "covariance", "sqrt")
METHODS = ("auto", "sequential", "parallel")
WIDE = 12  # states from which the arithmetic outweighs the calls (the same)
LOST = 1e-6  # relative error of variances beyond which square roots are taken
SHORT = 24  # steps up to which a loop costs no more than the tree (measured, NumPy and PyTorch on a CPU)


class Filtered(NamedTuple):
    """Distributions of the states given the observations so far.

    mean ``(*batch, n, s)``, covariance ``(*batch, n, s, s)``: of ``x_k`` given ``y_0 .. y_k``.
    predicted_mean, predicted_covariance: of ``x_k`` given ``y_0 .. y_{k-1}``, same shapes.
    log_likelihood ``(*batch,)``: log density of all (non-missing) observations.
    factor: lower triangular factor of ``covariance``, of the square-root form only, else None.
    """

    mean: Array
    covariance: Array
    predicted_mean: Array
    predicted_covariance: Array
    log_likelihood: Array
    factor: Array | None = None


def kalman_filter(
    model: LinearGaussian, y: Any, mask: Any = None, *, form: str = "auto", method: str = "auto"
) -> Filtered:
    """Filter observations ``y (*batch, n, p)`` (or ``(n,)`` of one value at a time); see :class:`Filtered`.

    NaN entries of y, and entries where ``mask`` (bool, shape of y) is False, are missing.
    Cost: O(n s^3) operations and O(n s^2) memory.  Raises ShapeError, DTypeError, BackendError,
    NonFiniteError for bad input and NotPositiveDefiniteError where the covariance of an innovation is not
    positive definite.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[0.0]], H=[[1.0]], R=[[1.0]], m0=[0.0], P0=[[1.0]])
    >>> ss.kalman_filter(walk, np.array([1.0, 1.0])).mean[:, 0].round(4).tolist()  # 1/2, then 2/3
    [0.5, 0.6667]
    """
    return compiled(_filtered, prepare(model, y, mask), form, method)  # type: ignore[no-any-return]


def log_likelihood(
    model: LinearGaussian, y: Any, mask: Any = None, *, form: str = "auto", method: str = "auto"
) -> Array:
    """Log density of the observations, ``(*batch,)``; arguments as for :func:`kalman_filter`.

    torch and JAX differentiate it, in both modes and twice, by the closed form that
    :func:`~cola_gp.statespace.value_and_gradient` gives on every library.
    """
    return compiled(_log_likelihood, prepare(model, y, mask), form, method)


def compiled(fn: Any, problem: Problem, form: str, method: str) -> Any:
    """``fn(problem.arrays, form, method)``, compiled on JAX (once for every shape); NaN is an error, not an
    answer.

    The answer is the likelihood or has it as its field ``log_likelihood``.
    """
    asked = method
    form, method = chosen(problem, form, method)
    be = problem.backend
    try:
        # what goes wrong shows in the value, which is looked at below
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            answer = be.jit(fn, static=("form", "method"))(problem.arrays, form=form, method=method)
        value = getattr(answer, "log_likelihood", answer)
        if not be.is_concrete(value) or be.all_finite(value):
            return answer
        why = "the likelihood is not a number"
    except (np.linalg.LinAlgError, RuntimeError) as error:  # the latter is PyTorch's of a singular matrix
        if isinstance(error, RuntimeError) and "singular" not in str(error):
            raise
        why = str(error)
    if asked == "auto" and method == "parallel":  # the tree asks more of R and Q than the steps do
        return compiled(fn, problem, form, "sequential")
    raise _degenerate(why, None)


def _filtered(arrays: tuple[Any, ...], *, form: str, method: str) -> Filtered:
    problem = Problem.of(arrays)
    m, P, pm, pP, L = run_filter(problem, form, method)
    back = lambda x, k: problem.xp.moveaxis(x, 0, k)  # noqa: E731
    value = likelihood(problem, pm, pP)
    return Filtered(
        back(m, -2), back(P, -3), back(pm, -2), back(pP, -3), value, None if L is None else back(L, -3)
    )


def _log_likelihood(arrays: tuple[Any, ...], *, form: str, method: str) -> Array:
    from .score import differentiable_likelihood

    problem = Problem.of(arrays)
    if problem.backend.name == "numpy":
        return likelihood(problem, *run_filter(problem, form, method)[2:4])
    return differentiable_likelihood(problem, form, method)


def run_filter(problem: Problem, form: str, method: str) -> tuple[Array, Array, Array, Array, Array | None]:
    """Filtered and predicted moments with the time axis first: ``m, P, m^-, P^-`` and the factor of P or
    None.
    """
    if method == "parallel":
        from .parallel import filter_tree

        return filter_tree(problem, form)
    if form == "sqrt":
        from .square_root import filter_steps

        return filter_steps(problem)
    return (*_filter_steps(problem), None)


def chosen(problem: Problem, form: str, method: str) -> tuple[str, str]:
    """The form and the method that ``"auto"`` stands for; UnknownNameError for an unknown one."""
    for what, value, known in (("form", form, FORMS), ("method", method, METHODS)):
        if value not in known:
            raise UnknownNameError(f"unknown {what} {value!r}; there are {', '.join(known)}.")
    be = problem.backend
    if form == "auto":
        eps = float(be.xp.finfo(problem.y.dtype).eps)
        form = "covariance" if eps < 1e-12 and eps * _vagueness(problem) < LOST else "sqrt"
    if method == "auto":
        steps = problem.n <= SHORT or problem.m0.shape[-1] > WIDE
        method = "sequential" if steps or (be.name == "jax" and _on_cpu(problem.y)) else "parallel"
    return form, method


def _vagueness(problem: Problem) -> float:
    """Largest prior variance of an observation over the smallest noise, where values can be seen, else 0."""
    be, xp = problem.backend, problem.xp
    if not be.is_concrete(problem.H, problem.R, problem.P0):
        return 0.0
    H, R, P0 = (_plain(x) for x in (problem.H, problem.R, problem.P0))
    prior = be.diagonal(P0)
    seen = xp.max(H**2 @ prior[..., None], axis=(-1, -2))
    noise = be.number(xp.min(be.diagonal(R)))
    return be.number(xp.max(seen)) / noise if noise > 0 else math.inf


def _on_cpu(y: Array) -> bool:
    import jax

    devices = getattr(y, "devices", None)
    if devices is None or isinstance(y, jax.core.Tracer):
        return jax.default_backend() == "cpu"
    return all(d.platform == "cpu" for d in devices())


def measurement(be: Any, H: Array, R: Array, w: Array | None) -> tuple[Array, Array]:
    """H and R without the missing components, in whose place stands noise of unit variance that says
    nothing.
    """
    if w is None:
        return H, R
    gone = 1.0 - w
    return H * w[..., None], R * la.outer(w, w) + gone[..., None] * la.eye(be, int(w.shape[-1]), w)


def update(be: Any, m: Array, P: Array, y: Array, H: Array, R: Array) -> tuple[Array, Array]:
    """Condition ``N(m, P)`` on ``y = H x + N(0, R)`` (Joseph's form)."""
    HP = H @ P
    K = la.solve(be, la.symmetric(HP @ H.mT + R), HP).mT
    rest = la.eye(be, int(P.shape[-1]), P) - K @ H
    return m + mv(K, y - mv(H, m)), la.symmetric(rest @ P @ rest.mT + K @ R @ K.mT)


def predict(m: Array, P: Array, A: Array, Q: Array) -> tuple[Array, Array]:
    """Moments of ``A x + N(0, Q)``."""
    return mv(A, m), la.symmetric(A @ P @ A.mT + Q)


def _filter_steps(problem: Problem) -> tuple[Array, Array, Array, Array]:
    be = problem.backend

    def step(carry: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        pm, pP = carry
        A, Q, H, R, y, w = inputs
        H, R = measurement(be, H, R, w)
        m, P = update(be, pm, pP, y, H, R)
        return predict(m, P, A, Q), (m, P, pm, pP)

    inputs = (problem.A, problem.Q, problem.H, problem.R, problem.y, problem.mask)
    m, P, pm, pP = sequential(be, step, (problem.m0, problem.P0), inputs, problem.n)
    return m, P, pm, pP


def innovations(problem: Problem, pm: Array, pP: Array) -> tuple[Array, Array, Array]:
    """Innovations ``v (n, *batch, p)``, their covariances ``S (n, *batch, p, p)`` and the H used."""
    H, R = measurement(problem.backend, problem.H, problem.R, problem.mask)
    return problem.y - mv(H, pm), la.symmetric(H @ pP @ H.mT + R), H


def likelihood(problem: Problem, pm: Array, pP: Array) -> Array:
    """The log-likelihood ``(*batch,)`` from the predictions (time axis first)."""
    be, xp = problem.backend, problem.xp
    v, S, _ = innovations(problem, pm, pP)
    p = int(v.shape[-1])
    if p == 1:
        variance = S[..., 0, 0]
        if be.is_concrete(variance) and not bool(xp.all(variance > 0)):
            raise _degenerate("smallest variance", float(be.to_numpy(_plain(xp.min(variance)))))
        total = v[..., 0] ** 2 / variance + xp.log(variance)
    else:
        try:
            L = be.cholesky(S)
        except (NotPositiveDefiniteError, np.linalg.LinAlgError) as error:
            raise _degenerate(str(error), None) from None
        z = mv_solve(be, L, v)
        total = xp.sum(z**2, axis=-1) + 2.0 * xp.sum(xp.log(be.diagonal(L)), axis=-1)
    seen = p if problem.mask is None else xp.sum(problem.mask, axis=-1)
    return -0.5 * xp.sum(total + math.log(2 * math.pi) * seen, axis=0)


def mv_solve(be: Any, M: Array, v: Array) -> Array:
    """``M^{-1} v`` over leading axes."""
    return la.solve(be, M, v[..., None])[..., 0]


def _plain(x: Array) -> Array:
    return x.detach() if hasattr(x, "detach") else x


def _degenerate(what: str, value: float | None) -> NotPositiveDefiniteError:
    shown = what if value is None else f"{what} {value:.3g}"
    return NotPositiveDefiniteError(
        f"the covariance of an innovation, H P H^T + R, is not positive definite ({shown}): an observation "
        "is already determined by the model and the earlier ones. Give R a positive variance."
    )

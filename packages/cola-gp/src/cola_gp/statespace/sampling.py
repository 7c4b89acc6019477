"""Draws of states and observations: from the model, and of the states given observations."""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from ..arrays import Array
from . import linear as la
from .filtering import compiled, likelihood, run_filter
from .linear import mv
from .model import LinearGaussian, Problem, prepare
from .scans import Tree, sequential
from .smoothing import backward_elements


def sample(model: LinearGaussian, n: int, *, key: Any, count: int = 1) -> tuple[Array, Array]:
    """Joint draws of states ``(count, *batch, n, s)`` and observations ``(count, *batch, n, p)``.

    key: an integer seed (a JAX key too on JAX); the library and dtype are the parameters'.
    """
    be = backend_of(*(getattr(model, k) for k in ("A", "Q", "H", "R", "m0", "P0")))
    if be is None or n < 1 or count < 0:
        raise ShapeError(f"a draw needs n >= 1 times and count >= 0, not n={n}, count={count}.")
    like = be.xp.zeros((n, model.observed), dtype=model.A.dtype, device=be.device(model.A))
    problem = prepare(model, like)
    xp, s, p = be.xp, model.states, model.observed
    both = be.normal(key, (n, count, *problem.batch, s + p), like.dtype, be.device(like))
    noise, error = both[..., :s], both[..., s:]
    first = problem.m0 + mv(la.factor(be, problem.P0), noise[0])
    U = la.factor(be, problem.Q)

    def step(carry: Tree, inputs: Tree) -> tuple[Tree, Tree]:
        A, L, z = inputs
        return (mv(A, carry[0]) + mv(L, z),), carry

    # noise[k + 1] drives the step from k; the last state leads nowhere
    drive = xp.concat([noise[1:], noise[:1]], axis=0)
    (x,) = sequential(be, step, (first,), (problem.A, U, drive), n)
    at = lambda M: M[:, None]  # noqa: E731 - room for the draws
    y = mv(at(problem.H), x) + mv(at(la.factor(be, problem.R)), error)
    return xp.moveaxis(x, 0, -2), xp.moveaxis(y, 0, -2)


def sample_posterior(
    model: LinearGaussian,
    y: Any,
    mask: Any = None,
    *,
    key: Any,
    count: int = 1,
    form: str = "auto",
    method: str = "auto",
) -> Array:
    """Joint draws of all states given the observations, ``(count, *batch, n, s)``.

    Backward sampling (Carter & Kohn 1994): the last state, then every state given the next one and the
    observations up to it.  Arguments as for :func:`~cola_gp.statespace.kalman_smoother`.
    """
    if count < 0:
        raise ShapeError(f"count must not be negative, not {count}.")
    problem = prepare(model, y, mask)
    be, xp, n = problem.backend, problem.xp, problem.n
    G, g, D = compiled(_backward, problem, form, method).maps
    z = be.normal(key, (n, count, *problem.batch, model.states), g.dtype, be.device(g))
    shift = g[:, None] + mv(D[:, None], z)

    def step(carry: Tree, inputs: Tree) -> tuple[Tree, Tree]:
        F, c = inputs
        x = mv(F, carry[0]) + c
        return (x,), (x,)

    (x,) = sequential(be, step, (xp.zeros_like(shift[0]),), (G, shift), n, reverse=True)
    return xp.moveaxis(x, 0, -2)


class _Backward(NamedTuple):
    maps: Tree
    log_likelihood: Array


def _backward(arrays: tuple[Any, ...], *, form: str, method: str) -> _Backward:
    """Every state given the next one: the maps and the factors of their noise."""
    problem = Problem.of(arrays)
    m, P, pm, pP, L = run_filter(problem, form, method)
    G, g, D = backward_elements(problem, m, P, pm, pP, L)
    return _Backward((G, g, la.factor(problem.backend, D) if L is None else D), likelihood(problem, pm, pP))

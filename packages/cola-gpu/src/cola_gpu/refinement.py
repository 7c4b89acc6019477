"""Conjugate gradients with products in a low precision, held honest by residuals in the working precision.

The loop, for `A x = b` with A positive definite and every column of b on its own:

1. compute the residual `r = b - A x` in the working precision and scale it to norm one; 2. run CG on `A_low d
= r / |r|` until its recursive residual has fallen by `reduction` (or `CYCLE` steps are done); 3. update `x <-
x + |r| d` in the working precision and go to 1.

CG is not restarted at step 1: the search direction is carried over, so that the Krylov space built so far is
kept ("reliable updates": Clark, Babich, Barros, Brower, Rebbi, Comput. Phys. Commun. 181 (2010) 1517;
residual replacement: van der Vorst and Ye, SIAM J. Sci. Comput. 22 (2000) 835). The fixed point is that of
iterative refinement (Carson and Higham, SIAM J. Sci. Comput. 40 (2018) A817): if the low-precision correction
contracts, which needs about `cond(A) * unit roundoff of the products < 1`, the residual reaches the level of
the working precision.

It is honest by construction. A correction that does not reduce the true residual is taken back. Two
corrections that contract by less than half, although the recursion claims more, mean the low precision is
exhausted; a direction of non-positive curvature, or a product that is not finite, means it has failed. In
either case the remaining columns start again from their best x with products in the next precision: single,
then the working one. What is still unfinished after that is reported, column by column, never returned as
converged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from cola_core import reasons
from cola_core.algorithms import loop_form
from cola_core.backends import Backend, backend_of
from cola_core.dispatch import device_kind

from .precision import UNIT_ROUNDOFF, cast, precision_of

__all__ = [
    "REASONS",
    "Outcome",
    "Phase",
    "core_codes",
    "host_number",
    "look_every",
    "reason_of",
    "pick",
    "refine",
    "select",
]

Array = Any

RUNNING, CONVERGED, STALLED, CURVATURE, OVERFLOW, NONFINITE, BUDGET, RANGE = range(8)
REASONS = {
    RUNNING: "iteration limit reached",
    CONVERGED: "converged",
    STALLED: "stalled: refinement no longer reduces the residual",
    CURVATURE: "a direction of non-positive curvature was met: the operator is not positive definite",
    OVERFLOW: "overflow: a product with the operator was not finite",
    NONFINITE: "non-finite: the operator or the right-hand side has NaN or infinite entries",
    BUDGET: "iteration limit reached",
    RANGE: "the solution leaves the range of its dtype: scale the right-hand side, or use a higher precision",
}

CORE = {  # the same in the numbers of the core
    RUNNING: reasons.RUNNING,
    CONVERGED: reasons.CONVERGED,
    STALLED: reasons.STAGNATED,
    CURVATURE: reasons.INDEFINITE,
    OVERFLOW: reasons.NONFINITE,
    NONFINITE: reasons.NONFINITE,
    BUDGET: reasons.RUNNING,
    RANGE: reasons.NONFINITE,
}

LOOK = 8
CYCLE = 200
"""Steps after which the true residual is looked at even if the recursion has not fallen by `reduction`."""


@dataclass(frozen=True)
class Phase:
    """One precision.

    A_low, scale: the operator of the products; A is about `scale * A_low`. P: a preconditioner for vectors
    of this phase, or None. precision: of the products. vectors: precision of the vectors between them. limit:
    the step count to stop at. restart: of GMRES, the steps between restarts; 0 means conjugate gradients.
    """

    A_low: Any
    scale: float
    P: Any
    precision: str
    vectors: str
    limit: int
    restart: int = 0

    @property
    def reduction(self) -> float:
        """How far the recursive residual may fall before it is replaced: below that the low precision would
        be solving for its own rounding. GMRES loses its space there, and goes further."""
        u = UNIT_ROUNDOFF[self.precision]
        return float(3.0 * u ** (2 / 3 if self.restart else 1 / 2))


class Outcome(NamedTuple):
    """How it went: relative residuals and codes (*batch, k) per column, counts of steps, refinements and
    promotions."""

    residuals: Array
    status: Array
    steps: Any
    refinements: Any
    promotions: Any


def refine(
    bk: Backend,
    A: Any,
    b: Array,
    x: Array,
    phases: list[Callable[[], Phase]],
    tol: float,
    guessed: bool = False,
) -> tuple[Array, Outcome]:
    """Solve `A x = b` for b, x (*batch, n, k) through the phases in turn; `tol` bounds `|b - A x| / |b|` per
    column. guessed: x is more than zeros; columns whose residual is not finite start from zero instead.

    phases: functions that make them, called when their turn comes. Cost per step: one product of the phase
    and about ten vector operations (GMRES: those with its basis); per refinement one product with A. A column
    whose residual is not finite from the start is returned as NaN.
    """
    xp = bk.xp
    size = xp.max(xp.abs(b), axis=-2)  # |b|^2 must neither overflow nor vanish
    zero = size == 0
    size = xp.where(zero | ~xp.isfinite(size), xp.ones_like(size), size)
    size = xp.exp2(xp.floor(xp.log2(size)))  # exact, so that the residual is that of the x that is returned
    b = b / size[..., None, :]
    x = xp.where(zero[..., None, :], xp.zeros_like(x), x / size[..., None, :])
    norm_b = bk.norm(b)
    r = b - A @ x
    rnorm = bk.norm(r)
    if guessed:
        x, r, rnorm = _without_wild_guesses(bk, A, b, x, r, rnorm)
    target = tol * norm_b
    status = select(xp, [(~xp.isfinite(rnorm), NONFINITE), (rnorm <= target, CONVERGED)], rnorm)
    none = bk.astype(xp.sum(xp.zeros_like(status)), "int32")
    state = (x, r, rnorm, status, none, none)
    promotions: Any = 0

    def attempt(number: int, state: tuple) -> tuple:
        phase = phases[number]()
        *others, status, steps, refinements = state
        open_ = (status != CONVERGED) & (status != NONFINITE)
        status = xp.where(open_, xp.full_like(status, RUNNING), status)
        whole, low, run = A, phase.A_low, _run
        if bk.name == "jax":
            whole, low, run = loop_form(A), loop_form(low), _compiled()
        return run(
            whole,
            b,
            (low, phase.scale, phase.P),
            (*others, status, steps, refinements),
            target,
            settings=(phase.precision, phase.vectors, phase.limit, phase.restart),
            last=number + 1 == len(phases),
        )

    for number in range(len(phases)):
        unfinished = xp.any((state[3] != CONVERGED) & (state[3] != NONFINITE))
        if bk.is_concrete(unfinished):
            if not bool(unfinished):
                break
            state, promotions = attempt(number, state), number
        elif number and bk.name == "jax":
            # a loop that is run at most once: a precision that is not needed is not prepared either

            def once(whole: tuple, number: int = number) -> tuple:
                return (whole[0] & False, *attempt(number, whole[1:]))

            state = bk.while_loop(lambda whole: whole[0], once, (unfinished, *state))[1:]
            promotions = promotions + bk.astype(unfinished, "int32")
        else:
            state = attempt(number, state)
    x, _, rnorm, status, steps, refinements = state
    lost = (status == NONFINITE)[..., None, :]
    x, rnorm, status = _returned(bk, A, b, x, rnorm, status, size, target)
    residuals = rnorm / xp.where(zero, xp.ones_like(norm_b), norm_b)
    x = xp.where(lost, xp.full_like(x, xp.nan), x)
    return x, Outcome(residuals, status, steps, refinements, none + promotions)


def _without_wild_guesses(
    bk: Backend, A: Any, b: Array, x: Array, r: Array, rnorm: Array
) -> tuple[Array, Array, Array]:
    """x, r, |r| with zeros for the guesses of columns whose residual is not finite."""
    xp = bk.xp
    wild = ~xp.isfinite(rnorm)
    if bk.is_concrete(wild) and not bool(xp.any(wild)):
        return x, r, rnorm
    x = xp.where(wild[..., None, :], xp.zeros_like(x), x)
    r = b - A @ x
    return x, r, bk.norm(r)


def _returned(
    bk: Backend, A: Any, b: Array, x: Array, rnorm: Array, status: Array, size: Array, target: Array
) -> tuple[Array, Array, Array]:
    """`size * x` and its residual and status: those of x, but where the numbers that are returned leave the
    range of the dtype. What overflows is infinite and no solution, what underflows has another residual."""
    xp = bk.xp
    out = x * size[..., None, :]
    kept = xp.all(out / size[..., None, :] == x, axis=-2)
    fine = xp.all(xp.isfinite(out), axis=-2)
    usual = kept | (status == NONFINITE)
    if bk.is_concrete(usual) and bool(xp.all(usual)):
        return out, rnorm, status
    back = xp.where(fine[..., None, :], out / size[..., None, :], xp.zeros_like(x))
    anew = xp.where(fine, bk.norm(b - A @ back), xp.full_like(rnorm, xp.inf))
    left = xp.where(status == CONVERGED, xp.full_like(status, RANGE), status)
    judged = xp.where(anew <= target, xp.full_like(status, CONVERGED), left)
    return out, xp.where(usual, rnorm, anew), xp.where(usual, status, judged)


def core_codes(bk: Backend, status: Array) -> Array:
    """Codes of this module as the core's `Info.codes`."""
    out = status
    for own, core in CORE.items():
        out = bk.xp.where(status == own, bk.xp.full_like(status, core), out)
    return bk.astype(out, "int32")


def reason_of(bk: Backend, status: Array) -> str:
    """In words, that of the column with most to tell; of a traced program the core says it later."""
    if not bk.is_concrete(status):
        return reasons.TRACED
    failed = status[status != CONVERGED]
    return REASONS[int(bk.xp.max(failed)) if 0 not in failed.shape else CONVERGED]


@cache
def _compiled() -> Callable[..., tuple]:
    """`_run` for JAX: compiled once per structure, shapes and settings instead of once per call."""
    import jax

    return jax.jit(_run, static_argnames=("settings", "last"))


def _run(A: Any, b: Array, low: tuple, start: tuple, target: Array, *, settings: tuple, last: bool) -> tuple:
    """Refine in one precision, `Phase(*low, *settings)`, until every column has left RUNNING."""
    bk = backend_of(b)
    assert bk is not None
    phase = Phase(*low, *settings)
    if phase.restart:
        from .gmres_inner import refined

        return refined(bk, A, b, phase, start, target)
    xp = bk.xp
    x, r, rnorm, status, steps, refinements = start
    working = precision_of(x.dtype)
    p = cast(xp.zeros_like(r), phase.vectors, bk)
    rho = cast(xp.ones_like(rnorm), phase.vectors, bk)
    keep, strikes = xp.zeros_like(rnorm) > 0, xp.zeros_like(status)

    def unfinished(state: tuple) -> Any:
        return xp.any(state[3] == RUNNING)

    def cycle(state: tuple) -> tuple:
        x, r, rnorm, status, steps, refinements, p, rho, keep, strikes = state
        running = status == RUNNING
        unit = xp.where(running, rnorm, xp.ones_like(rnorm))
        low = cast(r / unit[..., None, :], phase.vectors, bk)
        goal = cast(xp.clip(0.8 * target / unit, phase.reduction, 0.5), phase.vectors, bk)
        d, claimed, failed, finite, p, rho, done = _cg(
            bk, phase, low, goal, running, p, rho, keep, phase.limit - steps
        )
        d = cast(d, working, bk) * (unit / phase.scale)[..., None, :]
        x_new = pick(bk, running, x + d, x)
        r_new = b - A @ x_new
        n_new = bk.norm(r_new)
        ratio = n_new / unit
        faithful = (ratio <= 2.0 * cast(claimed, working, bk)) & ~failed
        good = faithful | (ratio <= 0.5)
        # CG's residual may rise while its error falls: a rise that the recursion foresaw is no failure
        accept = running & xp.isfinite(n_new) & (faithful | (ratio < 1.0))
        strikes = xp.where(good, xp.zeros_like(strikes), strikes + 1)
        x, r = pick(bk, accept, x_new, x), pick(bk, accept, r_new, r)
        rnorm = xp.where(accept, n_new, rnorm)
        steps, refinements = steps + done, refinements + 1
        verdict = select(
            xp,
            [
                (rnorm <= target, CONVERGED),
                (~finite, OVERFLOW),
                (failed if last else failed & (ratio > 0.5), CURVATURE),
                (~accept | (strikes > 1), STALLED),
                (steps >= phase.limit + xp.zeros_like(rnorm), BUDGET),
            ],
            rnorm,
        )
        status = xp.where(running, verdict, status)
        # the next residual will be scaled to one again: carry the direction and its (r, M r) into those units
        shrink = cast(unit / xp.where(rnorm > 0, rnorm, xp.ones_like(rnorm)), phase.vectors, bk)
        keep = good & accept
        return (
            x,
            r,
            rnorm,
            status,
            steps,
            refinements,
            p * shrink[..., None, :],
            rho * shrink**2,
            keep,
            strikes,
        )

    state = (x, r, rnorm, status, steps, refinements, p, rho, keep, strikes)
    return bk.while_loop(unfinished, cycle, state)[:6]


def _cg(
    bk: Backend,
    phase: Phase,
    r: Array,
    goal: Array,
    running: Array,
    p: Array,
    rho: Array,
    keep: Array,
    budget: Any,
) -> tuple:
    """CG steps on residuals r of norm one; columns stop on their own.

    p, rho: last direction and its `(r, M r)`, to be continued in the columns of `keep`. Returns the
    correction, its claimed residual norm, per column whether curvature failed and whether products were
    finite, the last direction and its `(r, M r)`, and the number of steps.
    """
    xp = bk.xp
    budget, stride = host_number(bk, budget), look_every(bk, r)
    # one column: when it stops, so does the loop
    alone = r.shape[-1] == 1 and len(r.shape) == 2 and stride == 1
    z, new, norm = _precondition(bk, phase, r)
    p = xp.where(keep[..., None, :], p, xp.zeros_like(p))
    rho = xp.where(keep, rho, xp.ones_like(rho))
    no = running & ~running
    start = (xp.zeros_like(r), r, z, p, new, rho, norm, keep, running, no, no, budget - budget)

    def more(state: tuple) -> Any:
        left = (state[11] < CYCLE) & (state[11] < budget)
        # steps beyond the end change nothing, so that not every one has to wait for the device
        return left if stride > 1 and state[11] % stride else left & xp.any(state[8])

    def step(state: tuple) -> tuple:
        d, r, z, p, new, rho, norm, old, active, failed, infinite, done = state
        beta = xp.where(old, new / rho, xp.zeros_like(new))
        # a stopped column keeps its direction, to be continued from the true residual
        p = bk.xpay(z, beta, p) if alone else xp.where(active[..., None, :], z + beta[..., None, :] * p, p)
        rho = xp.where(active, new, rho)
        q = bk.astype(phase.A_low @ p, p.dtype)
        curvature = _real(bk, bk.inner(p, q))
        finite = xp.isfinite(curvature)
        failed = failed | (active & finite & (((curvature <= 0) & (rho > 0)) | (rho < 0)))
        infinite = infinite | (active & ~finite)
        active = active & finite & (curvature > 0)
        alpha = rho / xp.where(active, curvature, xp.ones_like(curvature))
        alpha = xp.where(active, alpha, xp.zeros_like(rho))
        d = bk.axpy(alpha, p, d)
        r = bk.axpy(-alpha, q, r)  # 0 * inf may leave NaN here, but only in a column that has just stopped
        z, new, latest = _precondition(bk, phase, r)
        norm = xp.where(active, latest, norm)
        going = active & (norm > goal)
        return d, r, z, p, new, rho, norm, old | active, going, failed, infinite, done + 1

    d, _, _, p, _, rho, norm, _, _, failed, infinite, done = bk.while_loop(more, step, start)
    return d, norm, failed, ~infinite, p, rho, done


def host_number(bk: Backend, x: Any) -> Any:
    """A count as a Python number where it can be looked at: comparing it asks no device."""
    return x if bk.name == "jax" or not bk.is_concrete(x) else int(x)


def look_every(bk: Backend, r: Array) -> int:
    """After how many steps a loop on the host looks whether it has ended: LOOK on an accelerator, where each
    look waits for the device; loops of JAX run there by themselves."""
    return 1 if bk.name != "torch" or not bk.is_concrete(r) or device_kind(r) == "cpu" else LOOK


def _precondition(bk: Backend, phase: Phase, r: Array) -> tuple[Array, Array, Array]:
    """`z = M r`, `(r, z)` and `|r|`."""
    if phase.P is None:
        square = _real(bk, bk.inner(r, r))
        return r, square, bk.xp.sqrt(square)
    z = bk.astype(phase.P @ r, r.dtype)
    return z, _real(bk, bk.inner(r, z)), bk.norm(r)


def _real(bk: Backend, x: Array) -> Array:
    return bk.xp.real(x) if bk.is_complex(x) else x


def pick(bk: Backend, columns: Array, new: Array, old: Array) -> Array:
    """The new vectors in some columns; without a pass over them all where it is all columns."""
    if bk.is_concrete(columns) and bool(bk.xp.all(columns)):
        return new
    return bk.xp.where(columns[..., None, :], new, old)


def select(xp: Any, cases: list[tuple[Array, int]], like: Array) -> Array:
    """The code of the first case that holds, per column; RUNNING if none does."""
    out = xp.zeros_like(like)
    for condition, code in reversed(cases):
        out = xp.where(condition, xp.full_like(out, code), out)
    return out  # kept in the float dtype of `like`: small integers are exact there

"""Iterative refinement whose corrections come from GMRES in a lower precision.

As `refinement`, for any square operator: the correction d of `A_low d = r / |r|` is found by one cycle of
flexible GMRES (Saad, SIAM J. Sci. Comput. 14 (1993) 461; with a preconditioner M what M gave is kept, so that
M may be as inexact as it likes), the residual is computed in the working precision. Without a preconditioner
this is restarted GMRES with reliable restarts; with low-precision LU factors it is GMRES-IR (Carson and
Higham, SIAM J. Sci. Comput. 39 (2017) A2834), here preconditioned from the right, where the residual that
GMRES minimises is that of the system.

The Hessenberg matrix H of a cycle has one more row than columns, so there is a u with `u^T H = 0`, `u_0 = 1`;
the residual norm of the least-squares problem `min |e_0 - H y|` is `1 / |u|`, and u grows by one entry per
step. The problem itself is solved once, by QR, at the end.
"""

from __future__ import annotations

from typing import Any

from cola_core.backends import Backend

from .precision import UNIT_ROUNDOFF, cast, precision_of
from .refinement import (
    BUDGET,
    CONVERGED,
    OVERFLOW,
    RUNNING,
    STALLED,
    Phase,
    host_number,
    look_every,
    pick,
    select,
)

__all__ = ["refined"]

Array = Any

SLOW = 0.99  # a cycle that leaves more of the residual than this counts as none


def refined(bk: Backend, A: Any, b: Array, phase: Phase, start: tuple, target: Array) -> tuple:
    """Refine in one precision until every column has left RUNNING: x, r, |r|, status, steps, refinements."""
    xp = bk.xp
    working = precision_of(start[0].dtype)
    strikes = xp.zeros_like(start[3])

    def unfinished(state: tuple) -> Any:
        return xp.any(state[3] == RUNNING)

    def cycle(state: tuple) -> tuple:
        x, r, rnorm, status, steps, refinements, strikes = state
        running = status == RUNNING
        unit = xp.where(running & (rnorm > 0), rnorm, xp.ones_like(rnorm))
        low = cast(r / unit[..., None, :], phase.vectors, bk)
        goal = cast(xp.clip(0.8 * target / unit, phase.reduction, 0.5), phase.vectors, bk)
        d, claimed, finite, done = _correction(bk, phase, low, goal, running, phase.limit - steps)
        d = cast(d, working, bk) * (unit / phase.scale)[..., None, :]
        x_new = pick(bk, running, x + d, x)
        r_new = b - A @ x_new
        n_new = bk.norm(r_new)
        ratio = n_new / unit
        faithful = (ratio <= 2.0 * cast(claimed, working, bk)) & (ratio <= SLOW)
        accept = running & xp.isfinite(n_new) & (ratio < 1.0)
        strikes = xp.where(faithful | (ratio <= 0.5), xp.zeros_like(strikes), strikes + 1)
        x, r = pick(bk, accept, x_new, x), pick(bk, accept, r_new, r)
        rnorm = xp.where(accept, n_new, rnorm)
        steps, refinements = steps + done, refinements + 1
        verdict = select(
            xp,
            [
                (rnorm <= target, CONVERGED),
                (~finite & ~accept, OVERFLOW),
                (steps >= phase.limit + xp.zeros_like(rnorm), BUDGET),
                (~accept | (strikes > 1), STALLED),
            ],
            rnorm,
        )
        return x, r, rnorm, xp.where(running, verdict, status), steps, refinements, strikes

    return bk.while_loop(unfinished, cycle, (*start, strikes))[:6]


def _correction(
    bk: Backend, phase: Phase, r: Array, goal: Array, running: Array, budget: Any
) -> tuple[Array, Array, Array, Any]:
    """At most `phase.restart` steps from residuals r (*batch, n, k) of norm one; columns stop on their own.

    Returns the correction, its claimed residual norm, per column whether products were finite, and the number
    of steps.
    """
    xp = bk.xp
    *batch, n, k = r.shape
    m, device = phase.restart, bk.device(r)
    budget, stride = host_number(bk, budget), look_every(bk, r)
    eps = 2.0 * UNIT_ROUNDOFF[phase.vectors]
    fixed = bk.name == "jax" or not bk.is_concrete(
        r, running
    )  # the size of the basis cannot follow the steps
    rows = xp.matrix_transpose  # (*batch, n, k) and (*batch, k, n)
    V = bk.put(bk.zeros((*batch, k, m + 1, n), r.dtype, device), (..., 0, slice(None)), rows(r))
    Z = bk.zeros((*batch, k, m if phase.P is not None else 0, n), r.dtype, device)
    # a step that a column does not make is a column of H that leaves its least-squares problem alone
    below = bk.eye(m + 1, r.dtype, device)[:, :m]
    below = xp.concat([xp.zeros_like(below[:1]), below[:m]], axis=0)
    H = below + bk.zeros((*batch, k, m + 1, m), r.dtype, device)
    u = bk.put(bk.zeros((*batch, k, m + 1), r.dtype, device), (..., 0), xp.ones_like(r[..., 0, :]))
    no = running & ~running

    def more(state: tuple) -> Any:
        left = (state[0] < m) & (state[0] < budget)
        return left if stride > 1 and state[0] % stride else left & xp.any(state[5])

    def step(state: tuple) -> tuple:
        j, V, Z, H, u, active, rest, infinite = state
        v = rows(V[..., j, :])
        z = v if phase.P is None else bk.astype(phase.P @ v, v.dtype)
        if phase.P is not None:
            Z = bk.put(Z, (..., j, slice(None)), rows(z))
        q = rows(bk.astype(phase.A_low @ z, v.dtype))
        size = bk.norm(xp.matrix_transpose(q))
        known = V if fixed else V[..., : j + 1, :]
        h = xp.matmul(bk.conj(known), q[..., None])
        q = q - xp.matmul(xp.matrix_transpose(known), h)[..., 0]
        again = xp.matmul(bk.conj(known), q[..., None])
        q = q - xp.matmul(xp.matrix_transpose(known), again)[..., 0]
        h = (h + again)[..., 0]
        norm = bk.norm(xp.matrix_transpose(q))
        finite = xp.isfinite(norm) & xp.isfinite(size)
        infinite = infinite | (active & ~finite)
        active = active & finite
        ended = norm <= eps * size  # the space is invariant: nothing is left but rounding
        safe = xp.where(ended | ~active, xp.ones_like(norm), norm)
        q = xp.where((active & ~ended)[..., None], q / bk.astype(safe, q.dtype)[..., None], xp.zeros_like(q))
        V = bk.put(V, (..., j + 1, slice(None)), q)
        left = bk.astype(xp.where(ended, xp.zeros_like(norm), norm), h.dtype)
        if fixed:
            column = bk.put(h, (..., j + 1), left)
            dot = xp.sum(u * h, axis=-1)
        else:
            none = bk.zeros((*batch, k, m - 1 - j), h.dtype, device)
            column = xp.concat([h, left[..., None], none], axis=-1)
            dot = xp.sum(u[..., : j + 1] * h, axis=-1)
        H = bk.put(H, (..., slice(None), j), xp.where(active[..., None], column, H[..., :, j]))
        # where the space ends the residual vanishes, unless H is singular too, and then its sum is rounding
        last = xp.maximum(norm, 1e-3 * eps * size)
        last = xp.where(active & (last > 0), last, xp.ones_like(last))
        new = xp.where(active, -dot / bk.astype(last, dot.dtype), xp.zeros_like(dot))
        u = bk.put(u, (..., j + 1), new)
        rest = xp.where(active, 1.0 / bk.norm(u[..., None])[..., 0], rest)
        return j + 1, V, Z, H, u, active & ~ended & (rest > goal), rest, infinite

    zero = budget - budget
    state = (zero, V, Z, H, u, running, xp.ones_like(goal), no)
    j, V, Z, H, _, _, rest, infinite = bk.while_loop(more, step, state if fixed else (0, *state[1:]))
    size = m if fixed else int(j)
    if not size:
        return xp.zeros_like(r), rest, ~infinite, zero
    y = _least_squares(bk, H[..., : size + 1, :size])
    basis = V if phase.P is None else Z
    d = rows(xp.matmul(xp.matrix_transpose(basis[..., :size, :]), y[..., None])[..., 0])
    fine = xp.all(xp.isfinite(d), axis=-2)
    return xp.where(fine[..., None, :], d, xp.zeros_like(d)), rest, ~infinite & fine, zero + j


def _least_squares(bk: Backend, H: Array) -> Array:
    """The y of `min |e_0 - H y|`; directions that H annihilates, to rounding, are left out."""
    xp = bk.xp
    Q, R = bk.qr(H)
    g = bk.conj(Q[..., 0, :])
    diagonal = xp.abs(xp.linalg.diagonal(R))
    eps = float(xp.finfo(diagonal.dtype).eps)
    out = ~(diagonal > eps * xp.max(diagonal, axis=-1, keepdims=True))
    R = R + bk.matrix_diag(bk.astype(out, R.dtype) - bk.astype(out, R.dtype) * xp.linalg.diagonal(R))
    g = xp.where(out, xp.zeros_like(g), g)
    return bk.solve_triangular(R, g[..., None], lower=False)[..., 0]

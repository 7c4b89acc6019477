"""MINRES for many shifts at once: ``(A + t_q I) x_q = b`` from one Lanczos recurrence for self-adjoint A.

The Krylov spaces of ``A + t I`` and A are the same, so one product a step serves all shifts, complex ones
too; each has its own plane rotations and two direction vectors (Paige & Saunders 1975; Pleiss, Jankowiak,
Eriksson, Damle & Gardner 2020). Only sums ``y_p = sum_q W[p, q] x_q`` are kept, not the x_q. Nothing is
reorthogonalised: the memory does not grow, and neither does it end exactly in finite precision.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import Array, Backend
from ..reasons import BREAKDOWN, CONVERGED, NONFINITE, RUNNING
from .progress import observe

__all__ = ["shifted_minres"]


def shifted_minres(
    A: Any,
    B: Array,
    shifts: Array,
    weights: Array,
    sizes: Array,
    constant: Array,
    tol: Any,
    limit: Any,
    *,
    steps: int,
    judge: int = 0,
    real_part: bool = False,
    watch: Any = None,
) -> tuple[Array, Array, Any, Array, Array, Array]:
    """Sums of solutions ``(P, n, k)``, a bound of their error ``(k,)``, steps, codes, and T's diagonals.

    B: (n, k). shifts: (Q,); weights: (P, Q); sizes: (Q,), what a unit of the residual of shift q adds to the
    error of the answer. A column is done when that bound is ``tol`` times the norm of the answer,
    ``y_judge + constant b`` (or the real part of it). steps: length of the arrays that hold the coefficients
    of the recurrence, (steps, k) each, at least ``limit``; NaN behind the end of a column.
    """
    be: Any = A._concrete_backend()
    xp = be.xp
    real = be.real_dtype(B.dtype)
    wide = xp.result_type(B.dtype, shifts.dtype, weights.dtype)
    n, k = B.shape
    count, sums = shifts.shape[0], weights.shape[0]
    norm = be.norm(B)
    safe = xp.where(norm > 0, norm, xp.ones_like(norm))
    v = B / be.astype(safe, B.dtype)
    device = be.device(B)
    eps = float(xp.finfo(real).eps)
    t = be.astype(shifts, wide)[:, None] + be.zeros((1, k), wide, device)
    phi = be.astype(norm, wide)[None, :] + be.zeros((count, k), wide, device)
    flat = be.zeros((count, k), wide, device)
    real_one = xp.real(flat) + 1 if be.is_complex(flat) else flat + 1
    directions = be.zeros((count, n, k), wide, device)
    Y = be.zeros((sums, n, k), wide, device)
    alphas = be.zeros((steps, k), real, device)
    betas = be.zeros((steps, k), real, device)
    zero = be.zeros((k,), real, device)
    code = xp.where(norm > 0, RUNNING, CONVERGED)
    W = be.astype(weights, wide)

    def running(state: Any) -> Any:
        return (state[0] < limit) & xp.any(state[-1] == RUNNING)

    def body(state: Any) -> Any:
        j, v, old, beta, scale, c1, s1, c2, s2, phi, d1, d2, Y, alphas, betas, _, code = state
        w = A._matmat(v)
        scale = xp.maximum(scale, be.norm(w))
        w = w - be.astype(beta, B.dtype) * old
        a = be.inner(v, w)
        a = xp.real(a) if be.is_complex(a) else a
        w = w - be.astype(a, B.dtype) * v
        b = be.norm(w)
        finite = xp.isfinite(b) & xp.isfinite(a)
        b = xp.where(b > 10 * eps * n**0.5 * scale, b, xp.zeros_like(b))
        # the new column of T + t I under the last two rotations, and the rotation that ends it
        far = s2 * be.astype(beta, wide)
        near = c2 * be.astype(beta, wide)
        diagonal = be.astype(a, wide) + t
        above = c1 * near + s1 * diagonal
        pivot = c1 * diagonal - be.conj(s1) * near
        length = xp.abs(pivot)
        radius = xp.sqrt(length**2 + b**2)
        sound = radius > 0
        radius_safe = xp.where(sound, radius, xp.ones_like(radius))
        unit = be.astype(xp.where(length > 0, length, xp.ones_like(length)), wide)
        phase = xp.where(length > 0, pivot / unit, be.astype(xp.ones_like(length), wide))
        c = be.astype(xp.where(sound, length / radius_safe, xp.zeros_like(length)), wide)
        s = phase * be.astype(b / radius_safe, wide)
        r = phase * be.astype(radius_safe, wide)
        d = (be.astype(v, wide)[None] - above[:, None, :] * d1 - far[:, None, :] * d2) / r[:, None, :]
        ended = code != RUNNING
        live = ~ended & finite
        step = xp.where(live & sound, c * phi, xp.zeros_like(phi))
        Y = Y + xp.stack([xp.sum((W[p][:, None] * step)[:, None, :] * d, axis=0) for p in range(sums)])
        phi = xp.where(live, -be.conj(s) * phi, phi)
        error = xp.sum(sizes[:, None] * xp.abs(phi), axis=0)
        answer = Y[judge] + be.astype(constant, wide) * be.astype(B, wide)
        answer = be.norm(xp.real(answer) if real_part and be.is_complex(answer) else answer)
        code = xp.where((code == RUNNING) & ~finite, NONFINITE, code)
        code = xp.where((code == RUNNING) & ~xp.all(sound, axis=0), BREAKDOWN, code)
        code = xp.where((code == RUNNING) & ((error <= tol * answer) | (b == 0)), CONVERGED, code)
        code = observe(be, watch, j + 1, xp.max(error), code)
        went_on = ~ended
        alphas = be.put(alphas, j, xp.where(went_on, a, xp.full_like(a, float("nan"))))
        betas = be.put(betas, j, b)
        following = w / be.astype(xp.where(b > 0, b, xp.ones_like(b)), B.dtype)
        return j + 1, following, v, b, scale, c, s, c1, s1, phi, d, d1, Y, alphas, betas, error, code

    ones = be.astype(real_one, wide)
    state: Any = (0, v, xp.zeros_like(v), zero, zero, ones, flat, ones, flat, phi)
    state = (*state, directions, directions, Y, alphas, betas, zero, code)
    state = be.while_loop(running, body, state)
    return state[12], state[15], state[0], state[16], state[13], state[14]


def ritz_range(be: Backend, alphas: Array, betas: Array, steps: int) -> tuple[float, float] | None:
    """The smallest and largest Ritz value over all columns, on the host."""
    import numpy as np
    from scipy.linalg import eigvalsh_tridiagonal

    a, b = (be.to_numpy(x).astype(np.float64)[:steps] for x in (alphas, betas))
    found = []
    for column in range(a.shape[1]):
        m = int(np.isfinite(a[:, column]).sum())
        ended = np.nonzero(b[:m, column] == 0)[0]
        m = int(ended[0]) + 1 if ended.size else m
        if m:
            found.append(eigvalsh_tridiagonal(a[:m, column], b[: m - 1, column]) if m > 1 else a[:1, column])
    if not found:
        return None
    whole = np.concatenate(found)
    return float(whole.min()), float(whole.max())

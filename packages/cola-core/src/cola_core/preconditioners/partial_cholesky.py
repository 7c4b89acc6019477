"""The partial Cholesky factorisation of a positive semidefinite matrix from its diagonal and k columns,
for any choice of pivots: greedy (``PivotedCholesky``) or random (``RPCholesky``).

After each step the diagonal of what is left is known exactly, and with it the error in the trace norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.base import Array
from ..errors import NotPositiveDefiniteError
from ..operators import LinearOperator, LowRank
from ..operators.selection import some_columns
from .base import finite

__all__ = ["PartialCholesky", "partial_cholesky"]


@dataclass(frozen=True)
class PartialCholesky:
    """``K ~ F F^H``.

    factor: F (n, k). pivots: the k columns taken, in order. residual: the diagonal of ``K - F F^H``, which is
    positive semidefinite. trace_error: its sum, the trace norm of the error.
    """

    factor: Array
    pivots: Array
    residual: Array
    trace_error: Array

    @property
    def operator(self) -> LinearOperator:
        """``F F^H`` as an operator."""
        return LowRank(self.factor)


def partial_cholesky(
    K: LinearOperator,
    rank: int,
    tol: float | None,
    enough: Array | None,
    uniforms: Array | None,
    method: str,
    block: int = 1,
    key: Any = 0,
) -> PartialCholesky:
    """At most ``rank`` steps, fewer where the trace of the rest falls to ``tol`` times that of K, or to the
    smallest number of ``enough``; pivots are the largest entries of the rest's diagonal, or drawn in
    proportion to them with the given uniform numbers (rank,). block: how many pivots are proposed at a time,
    with random numbers of their own (key); not on JAX.

    Under a JAX trace all steps are made, those after the last needed one with columns of zeros.
    """
    from ..algorithms import Exact
    from ..linalg import diag

    be = K._concrete_backend()
    xp = be.xp
    d = diag(K, alg=Exact())
    finite(K, d, "the diagonal")
    d = be.constant(xp.real(d) if be.is_complex(d) else d)
    concrete = be.is_concrete(d)
    top = xp.max(d) if d.shape[0] else None
    if top is not None and concrete and bool(xp.min(d) < 0):
        raise NotPositiveDefiniteError(
            f"{method}: {K!r} has the diagonal entry {be.number(xp.min(d)):.3g}; a positive semidefinite "
            "matrix has none below zero."
        )
    if enough is not None:
        stop = xp.min(enough) if enough.shape else enough
    else:
        stop = (float(xp.finfo(d.dtype).eps) if tol is None else float(tol)) * xp.sum(d)
    if be.name == "jax":
        F, pivots, d, low, last = be.jit(_steps, static=("rank",))(K, d + 0, uniforms, stop, rank=rank)
    elif block > 1 and uniforms is not None:
        F, pivots, d, low, last = _block_steps(K, d + 0, stop, rank, block, key)
    else:
        F, pivots, d, low, last = _steps(K, d + 0, uniforms, stop, rank=rank)
    if concrete and top is not None:
        finite(K, F, f"a column met by {method}")
        slack = (1000 if block > 1 else 100) * max(rank, 1) * float(xp.finfo(d.dtype).eps)
        if be.number(low) < -slack * be.number(top):
            raise NotPositiveDefiniteError(
                f"{method}: {K!r} is not positive semidefinite: after some steps a diagonal entry of the "
                f"rest is {be.number(low):.3g}. Remove the PSD declaration, or add some of the identity."
            )
        F, pivots = F[:, : int(last)], pivots[: int(last)]
    return PartialCholesky(F, pivots, d, xp.sum(d))


def _steps(K: Any, d: Array, uniforms: Array | None, stop: Any, *, rank: int) -> Any:
    """Factor, pivots, diagonal of the rest, its lowest entry before rounding was cut off, and steps made."""
    be = K._concrete_backend()
    xp = be.xp
    n = d.shape[0]
    eps = float(xp.finfo(d.dtype).eps)
    G = be.zeros((rank, n), K.dtype, K.device)
    pivots = xp.zeros((rank,), dtype=xp.int64 if be.name != "jax" else xp.arange(1).dtype, device=K.device)
    first = d

    def step(state: Any) -> Any:
        i, G, pivots, d, low = state
        if uniforms is None:
            p = xp.argmax(d)
        else:
            mass = xp.cumulative_sum(d) if hasattr(xp, "cumulative_sum") else xp.cumsum(d, axis=0)
            p = xp.searchsorted(mass, (uniforms[i] * mass[-1])[None], side="right")[0]
            p = xp.minimum(p, xp.asarray(n - 1, dtype=p.dtype, device=K.device))
        column = some_columns(K, xp.reshape(p, (1,)))[:, 0]
        known = G if be.name == "jax" else G[:i]
        c = (
            column - xp.sum(be.conj(known[:, p])[:, None] * known, axis=0)
            if be.name == "jax"
            else (column - be.matmul(be.conj(known[:, p])[None, :], known)[0])
        )
        value = xp.real(c[p]) if be.is_complex(c) else c[p]
        # what is left at the pivot is rounding error of what was there: no direction is left in it
        good = (value > 10 * eps * first[p]) | ~xp.isfinite(value)
        g = c / be.astype(xp.sqrt(xp.where(good, value, xp.ones_like(value))), c.dtype)
        g = xp.where(good, g, xp.zeros_like(g))
        d = d - xp.abs(g) ** 2
        low = xp.minimum(low, xp.where(good, xp.min(d), low))
        low = xp.minimum(low, xp.where(good, low, value))
        d = xp.maximum(d, xp.zeros_like(d))
        d = be.put(d, p, 0)
        return i + 1, be.put(G, i, g), be.put(pivots, i, p), d, low

    state: Any = (0, G, pivots, d, xp.zeros_like(d[0]) if n else be.zeros((), d.dtype, K.device))
    if be.name == "jax":
        state = be.while_loop(lambda s: (s[0] < rank) & (xp.sum(s[3]) > stop), step, state)
    else:
        while state[0] < rank and bool(xp.sum(state[3]) > stop):
            state = step(state)
    i, G, pivots, d, low = state
    return G.mT, pivots, d, low, i


def _block_steps(K: Any, d: Array, stop: Any, rank: int, block: int, key: Any) -> Any:
    """As ``_steps`` with random pivots, some of which are proposed together: Epperly, Tropp & Webber, arXiv
    2410.03969, algorithm 2.2. A proposal is kept with the probability that its entry of the diagonal has left
    after those before it, so that pivots have the distribution of one step at a time, and all else is
    products of matrices."""
    be = K._concrete_backend()
    xp = be.xp
    n = d.shape[0]
    eps = float(xp.finfo(d.dtype).eps)
    rng = np.random.default_rng(key)
    F = be.zeros((n, rank), K.dtype, K.device)
    chosen: list[int] = []
    first, low = np.asarray(be.to_numpy(d)), xp.zeros_like(d[0]) if n else 0.0
    i = fruitless = 0
    while i < rank and fruitless < 10 and bool(xp.sum(d) > stop):
        left = np.asarray(be.to_numpy(d), dtype=float)
        total = left.sum()
        if not (np.isfinite(total) and total > 0):
            break
        proposed = rng.choice(n, size=block, p=left / total)
        levels = rng.random(block)
        at = be.asarray(proposed, device=K.device)
        S = some_columns(K, at)[at, :] - be.matmul(F[at, :i], be.adjoint(F[at, :i]))
        kept, L = _accepted(np.array(be.to_numpy(S)), left[proposed], first[proposed], levels, eps)
        kept, L = kept[: rank - i], L[: rank - i, : rank - i]
        if not kept:
            # what is left is rounding error of what was there: no direction is left in these
            fruitless += 1
            worn = [p for p in proposed if left[p] <= 100 * eps * first[p]]
            if worn:
                d = be.put(d, be.asarray(np.array(worn), device=K.device), 0)
            continue
        fruitless = 0
        pivots = proposed[kept]
        at = be.asarray(pivots, device=K.device)
        C = some_columns(K, at) - be.matmul(F[:, :i], be.adjoint(F[at, :i]))
        new = be.adjoint(be.solve_triangular(be.asarray(L, dtype=K.dtype, device=K.device), be.adjoint(C)))
        F = be.put(F, (slice(None), slice(i, i + len(kept))), new)
        d = d - xp.sum(xp.abs(new) ** 2, axis=1)
        low = xp.minimum(low, xp.min(d))
        d = be.put(xp.maximum(d, xp.zeros_like(d)), at, 0)
        chosen.extend(int(p) for p in pivots)
        i += len(kept)
    full = np.zeros(rank, dtype=np.int64)
    full[:i] = chosen
    return F, be.asarray(full, device=K.device), d, low, i


def _accepted(S: Any, d: Any, first: Any, levels: Any, eps: float) -> tuple[list[int], Any]:
    """Which proposals are kept, and the Cholesky factor of their block of S."""
    G = np.zeros_like(S)  # columns of the factor of the kept ones, over all proposals
    kept: list[int] = []
    for j in range(len(S)):
        c = S[:, j] - G[:, : len(kept)] @ G[j, : len(kept)].conj()
        value = float(c[j].real)
        if value > levels[j] * d[j] and value > 10 * eps * first[j]:
            G[:, len(kept)] = c / value**0.5
            kept.append(j)
    return kept, np.tril(G[kept][:, : len(kept)])

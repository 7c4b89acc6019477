"""``-div(a grad u) = f`` on a grid: one solve with a Kronecker sum.

The solve is the core's question ``solve(S, r)``; that S is a Kronecker sum of operators with known
eigenbases is found by dispatch, so constant coefficients cost transforms, O(N log N), and separable ones
dense 1-D eigenbases.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from cola_core.backends import backend_of
from cola_core.info import Info
from cola_core.linalg import Auto, apply_unary, solve

from .discretise import neg_laplacian, total_weight
from .errors import IncompatibleError
from .grid import Grid
from .solution import Solution
from .space import Space, scale_ends

__all__ = ["poisson"]


def poisson(
    grid: Grid,
    f: Any,
    bc: Any = "D",
    *,
    coefficients: Sequence[Any] | None = None,
    alg: Any = None,
    dtype: Any = None,
    backend: Any = None,
    check: bool = True,
    imbalance: float | None = None,
) -> Solution:
    """Solve ``-div(a grad u) = f`` with boundary conditions ``bc``; second order accurate.

    f: number, array of the unknowns' shape (any backend, which then does the work) or callable of the
    coordinates.
    bc: see `cola_pde.boundary.normalise`. coefficients: see `neg_laplacian`. alg: algorithm for the core's
    solve.
    check: recompute the residual (one product). Without any Dirichlet side the solution is the one of
    weighted mean zero, and
    source and boundary flux must balance: a relative mean above ``imbalance`` (default: what discretisation
    explains, 10 h^2 / L^2 but at most 0.05) is an IncompatibleError; below it, it is removed and reported.
    Cost: O(N log N) for constant coefficients. Raises GridError, BoundaryError, IncompatibleError.
    """
    start = time.perf_counter()
    space = Space(grid, bc)
    f = space.evaluate(f, dtype=dtype, backend=backend)
    be: Any = backend_of(f)
    pair = neg_laplacian(
        space, coefficients=coefficients, dtype=be.real_dtype(f.dtype), backend=be, device=be.device(f)
    )
    r = f if pair.b is None else f - pair.b
    r = scale_ends(r, space, 1, be, overwrite=pair.b is not None)
    removed = 0.0
    if space.singular:
        r, removed = _balance(r, space, be, imbalance)
    rhs = be.xp.reshape(r, (-1,))
    if space.singular:
        v, method = _pseudo_solve(pair.separable, rhs, be), "eigenbasis pseudo-inverse"
    else:
        v, method = solve(pair.S, rhs, Auto() if alg is None else alg), ""
    info = _info(pair.S, v, rhs, be, method) if check else Info(method=method)
    u = scale_ends(be.xp.reshape(v, space.shape), space, -1, be, overwrite=True)
    return Solution(u, space, pair, info.replace(seconds=time.perf_counter() - start), removed)


def _balance(r: Any, space: Space, be: Any, allowed: float | None) -> tuple[Any, float]:
    """Remove from r its part along the null vector sqrt(w); refuse what discretisation cannot explain."""
    xp = be.xp
    null = scale_ends(xp.ones_like(r), space, 1, be, overwrite=True) if space.weighted else None
    mean = xp.sum(r if null is None else null * r) / total_weight(space)
    r = r - mean if null is None else r - mean * null
    if not be.is_concrete(r):
        return r, 0.0
    size = float(xp.sum(xp.abs(r))) / space.size
    defect = abs(complex(mean))
    relative = defect / (defect + size) if defect + size > 0 else 0.0
    if allowed is None:
        allowed = min(0.05, 10 * max(1 / a.cells**2 for a in space.grid.axes))
    if relative > allowed:
        raise IncompatibleError(
            "no solution: without a Dirichlet side source plus boundary flux must have mean zero, but "
            f"its mean is {defect:.3g} ({relative:.2%} of the data, allowed {allowed:.2%}). Subtract it, "
            "adjust the Neumann data, or pass imbalance=1 to project."
        )
    return r, relative


def _pseudo_solve(S: Any, rhs: Any, be: Any) -> Any:
    """Minimum-norm solution through the eigenbasis, zero along the null space.

    Constants are the only null vector of a connected grid, so exactly the smallest eigenvalue is skipped: a
    tolerance would also drop small regular eigenvalues in single precision.
    """
    xp = be.xp

    def pseudo_inverse(w: Any) -> Any:
        regular = w > xp.min(w)
        return xp.where(regular, 1 / xp.where(regular, w, xp.ones_like(w)), xp.zeros_like(w))

    return apply_unary(pseudo_inverse, S) @ rhs


def _info(S: Any, v: Any, rhs: Any, be: Any, method: str) -> Info:
    xp = be.xp
    size = xp.linalg.vector_norm(rhs)
    defect = xp.linalg.vector_norm(rhs - S @ v)
    residual = xp.where(size > 0, defect / xp.where(size > 0, size, xp.ones_like(size)), defect)
    tolerance = 1e3 * float(xp.finfo(v.dtype).eps) * max(S.shape[-1], 1) ** 0.5
    return Info(
        method=method, residual=residual, tolerance=tolerance, converged=residual <= tolerance, matvecs=1
    )

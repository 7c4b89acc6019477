"""The heat equation ``u_t = div(a grad u) + f`` with data constant in time, advanced exactly in time.

With the discrete operator (A, b): ``u' = -A u + (f - b)``, so ``u(t) = exp(-t A) u0 + t phi_1(-t A) (f -
b)``, ``phi_1(z) = (exp(z) - 1) / z``. Only the grid makes an error: there is no time step. Source: Hochbruck
and Ostermann, Exponential integrators, Acta Numerica 19 (2010), section 2.1.
"""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from typing import Any

from cola_core.backends import backend_of
from cola_core.errors import ShapeError
from cola_core.info import Info
from cola_core.linalg import apply_unary, exp

from .discretise import neg_laplacian
from .grid import Grid
from .solution import Solution
from .space import Space, scale_ends

__all__ = ["heat"]


def heat(
    grid: Grid,
    u0: Any,
    time: float,
    bc: Any = "D",
    *,
    source: Any = 0.0,
    coefficients: Sequence[Any] | None = None,
    dtype: Any = None,
    backend: Any = None,
) -> Solution:
    """The solution at ``time`` >= 0 from the initial state ``u0`` (number, array or callable).

    bc, source, coefficients: as in `poisson`, constant in time. Cost O(N log N) for constant coefficients,
    whatever the time. Raises GridError, BoundaryError, ShapeError for a negative or non-finite time.
    """
    start = clock.perf_counter()
    if not isinstance(time, (int, float)) or not 0 <= time < float("inf"):
        raise ShapeError(f"time must be a finite number >= 0, got {time!r}")
    space = Space(grid, bc)
    u = space.evaluate(u0, "initial state", dtype=dtype, backend=backend)
    be: Any = backend_of(u)
    xp = be.xp
    pair = neg_laplacian(
        space, coefficients=coefficients, dtype=be.real_dtype(u.dtype), backend=be, device=be.device(u)
    )
    v = xp.reshape(scale_ends(u, space, 1, be), (-1,))
    v = exp(-float(time) * pair.separable) @ v
    forcing = None
    if not (isinstance(source, (int, float)) and source == 0):
        forcing = space.evaluate(source, dtype=u.dtype, backend=be)
    if pair.b is not None:
        forcing = -pair.b if forcing is None else forcing - pair.b
    if forcing is not None:
        forcing = xp.reshape(scale_ends(forcing, space, 1, be), (-1,))
        v = v + time * (apply_unary(lambda w: _phi1(-time * w, xp), pair.separable) @ forcing)
    out = scale_ends(xp.reshape(v, space.shape), space, -1, be, overwrite=True)
    info = Info(method="exponential", seconds=clock.perf_counter() - start)
    return Solution(out, space, pair, info)


def _phi1(z: Any, xp: Any) -> Any:
    """(exp(z) - 1) / z, 1 at 0, without cancellation."""
    zero = z == 0
    safe = xp.where(zero, xp.ones_like(z), z)
    return xp.where(zero, xp.ones_like(z), xp.expm1(safe) / safe)

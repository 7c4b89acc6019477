"""From a grid with boundary conditions to the discrete Laplacian, as an affine pair (A, b).

``-div(a grad u)`` is approximated by ``A u + b``: A acts on the unknowns, b carries the boundary data.
Second order on all conditions; ghost values implement them:

========  ===============================  ===========================
          cell-centred                     vertex-centred
========  ===============================  ===========================
u = g     (u_ghost + u_0) / 2 = g          the vertex is known
du/dn=g   (u_ghost - u_0) / h = g          (u_ghost - u_1) / 2h = g
========  ===============================  ===========================

``A = W^(-1/2) S W^(1/2)`` with S symmetric positive semidefinite, a Kronecker sum of `Laplacian1D` /
`Diffusion1D`; W is the identity except for vertex-centred Neumann sides. Source: LeVeque, Finite Difference
Methods (SIAM 2007), ch. 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core import ops as core_ops
from cola_core.backends import backend_of, get_backend
from cola_core.operators import LinearOperator

from .errors import GridError
from .ops import Diffusion1D, Laplacian1D
from .space import Side, Space, scale_ends
from .spectrum import end_weights

__all__ = ["Affine", "neg_laplacian"]


@dataclass(frozen=True)
class Affine:
    """``u -> A u + b`` on the unknowns of a space, approximating ``-div(a grad u)``.

    S: the symmetric operator (Kronecker sum of one factor per axis). b: array of the space's shape, or None
    for zero.
    """

    space: Space
    S: LinearOperator
    b: Any

    @property
    def A(self) -> LinearOperator:
        """The difference operator itself; equal to S unless vertices on Neumann sides weigh one half."""
        if not self.space.weighted:
            return self.S
        left, right = (self._root_weights(power) for power in (-1, 1))
        return left @ self.S @ right

    @property
    def separable(self) -> LinearOperator:
        """S as a Kronecker sum also on one axis: functions of it then always go through exact eigenbases.

        (A lone variable-coefficient factor could be answered by Lanczos, which does not suit every function.)
        """
        return self.S if isinstance(self.S, core_ops.KronSum) else core_ops.KronSum(self.S)

    def _root_weights(self, power: int) -> LinearOperator:
        be, factors = self.S._concrete_backend(), []
        for axis in range(self.space.ndim):
            root = np.ones(self.space.shape[axis])
            first, last = self.space.root_weights(axis)
            root[0] *= first**power
            root[-1] *= last**power
            factors.append(core_ops.Diagonal(be.asarray(root, dtype=self.S.dtype, device=self.S.device)))
        return factors[0] if len(factors) == 1 else core_ops.Kronecker(*factors)

    def __call__(self, u: Any) -> Any:
        """``A u + b`` for u of the space's shape."""
        be = backend_of(u) or get_backend("numpy")
        v = be.xp.reshape(scale_ends(u, self.space, 1, be), (-1,))
        out = be.xp.reshape(self.S @ v, self.space.shape)
        out = scale_ends(out, self.space, -1, be, overwrite=True)
        return out if self.b is None else out + self.b


def neg_laplacian(
    space: Space,
    *,
    coefficients: Sequence[Any] | None = None,
    dtype: Any = None,
    backend: Any = None,
    device: Any = None,
) -> Affine:
    """The discrete ``-sum_i d/dx_i (a_i d/dx_i)`` of a space with its boundary data, O(N) work for b.

    coefficients: one entry per axis, each a positive number (constant), a callable ``a(x_i)`` or an array of
    its values at the faces of the axis (cells + 1 of them, cells if periodic; for vertex-centred axes the
    midpoints of the cells). dtype defaults to the backend's float; backend is a name or None for NumPy.
    Raises GridError, BoundaryError.
    """
    be = get_backend(backend or "numpy") if not hasattr(backend, "xp") else backend
    dtype = be.dtype(be.default_float if dtype is None else dtype)
    coefficients = [1.0] * space.ndim if coefficients is None else list(coefficients)
    if len(coefficients) != space.ndim:
        raise GridError(f"got {len(coefficients)} coefficients for {space.ndim} axes; give one per axis")
    faces = [_faces(space, axis, a) for axis, a in enumerate(coefficients)]
    factors = [_factor(space, axis, a, be, dtype, device) for axis, a in enumerate(faces)]
    S = factors[0] if len(factors) == 1 else core_ops.KronSum(*factors)
    return Affine(space, S, _data(space, faces, be, dtype, device))


def _faces(space: Space, axis: int, a: Any) -> Any:
    """A coefficient as a float (constant) or a checked float64 array at the faces of one axis."""
    line, kind = space.grid.axes[axis], space.kinds[axis]
    if callable(a):
        index = np.arange(line.cells + 1.0) if line.centring == "cell" else np.arange(line.cells) + 0.5
        if kind == "P":
            index = index[: line.cells]
        x = line.lower + line.spacing * index
        a = np.broadcast_to(np.asarray(a(x), dtype=np.float64), x.shape)
    host = np.asarray(a, dtype=np.float64)
    count = line.cells + (line.centring == "cell" and kind != "P")
    if host.ndim and host.shape != (count,):
        raise GridError(
            f"coefficient of axis {axis} has shape {host.shape}, but its {line.centring}-centred faces "
            f"number {count}"
        )
    if not np.all(np.isfinite(host)) or np.any(host <= 0):
        raise GridError(f"coefficient of axis {axis} must be finite and positive")
    return host if host.ndim else float(host)


def _factor(space: Space, axis: int, a: Any, be: Any, dtype: Any, device: Any) -> LinearOperator:
    line, kind = space.grid.axes[axis], space.kinds[axis]
    h2 = line.spacing**2
    if isinstance(a, float):
        return Laplacian1D(
            be.asarray(a / h2, dtype=dtype, device=device), space.shape[axis], kind, line.centring
        )
    a = a / h2
    ends = np.zeros(2)
    if kind == "P":
        # faces are 0..c-1; cell i lies between faces i and i+1, vertex i between midpoints i-1 and i
        links = np.roll(a, -1) if line.centring == "cell" else a
    else:
        inner = a[1:-1] if line.centring == "cell" else a
        if line.centring == "cell":
            ends = np.array([2 * a[0] * (kind[0] == "D"), 2 * a[-1] * (kind[1] == "D")])
            links = inner
        else:
            ends = np.array([a[0] * (kind[0] == "D"), a[-1] * (kind[1] == "D")])
            links = a[int(kind[0] == "D") : len(a) - int(kind[1] == "D")]
    convert = lambda x: be.asarray(np.ascontiguousarray(x), dtype=dtype, device=device)  # noqa: E731
    return Diffusion1D(convert(links), convert(ends), kind, line.centring)


def _data(space: Space, faces: list[Any], be: Any, dtype: Any, device: Any) -> Any:
    """b: what the boundary data add to the unknowns next to each side; None if all data are zero."""
    b = None
    for side in space.sides():
        values = space.side_values(side, be, dtype, device)
        if values is None:
            continue
        if b is None:
            b = be.zeros(space.shape, dtype, device)
        b = _add_slab(b, -_weight(space, side, faces[side.axis]) * values, side, be)
    return b


def _weight(space: Space, side: Side, a: Any) -> float:
    """Minus the derivative of the adjacent equation by the side's datum."""
    line, letter = space.grid.axes[side.axis], side.condition.letter
    h, cell = line.spacing, line.centring == "cell"
    if isinstance(a, float):
        at_side = at_link = a
    else:
        ends = a if side.end == 0 else a[::-1]
        at_link = float(ends[0])
        # vertex-centred faces are half a cell inside: extend to the boundary linearly
        at_side = at_link if cell or len(ends) == 1 else max(float(1.5 * ends[0] - 0.5 * ends[1]), 0.0)
    weights = end_weights(line.centring, space.kinds[side.axis])
    # a lone unknown between a known vertex and a Neumann one is next to both sides
    own = weights[0] * weights[1] if space.shape[side.axis] == 1 else weights[side.end]
    if letter == "D":
        return (2.0 if cell else 1.0) * at_link / (h**2 * own)
    return at_side / (h * own)


def _add_slab(b: Any, slab: Any, side: Side, be: Any) -> Any:
    index = [slice(None)] * b.ndim
    n = b.shape[side.axis]
    index[side.axis] = slice(0, 1) if side.end == 0 else slice(n - 1, n)
    if be.name == "numpy":
        b[tuple(index)] += slab
        return b
    if n == 1:
        return b + slab
    shape = tuple(n - 1 if i == side.axis else s for i, s in enumerate(b.shape))
    rest = be.zeros(shape, b.dtype, be.device(b))
    return b + be.xp.concat([slab, rest] if side.end == 0 else [rest, slab], axis=side.axis)


def total_weight(space: Space) -> float:
    """Sum of all quadrature weights (in units of the cell volume)."""
    return math.prod(
        n + sum(r * r - 1 for r in space.root_weights(axis)) for axis, n in enumerate(space.shape)
    )

"""The operators of this package: trigonometric transforms and one-dimensional second derivatives.

`Laplacian1D` and `Diffusion1D` stand for the *negative* second derivative, so they are positive
semidefinite, and they are the symmetrised matrices of `cola_pde.spectrum` (``S = W^(1/2) A W^(-1/2)``; W
differs from I only at vertex-centred Neumann ends). Grid problems are Kronecker sums of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.backends import backend_of, backend_of_type, get_backend
from cola_core.cost import Cost
from cola_core.errors import ShapeError, UnknownNameError
from cola_core.operators import LinearOperator, operator, static
from cola_core.properties import PSD, Property, SelfAdjoint, Unitary

from . import transforms
from .errors import BoundaryError, GridError
from .spectrum import (
    CENTRINGS,
    KINDS,
    end_weights,
    forward_transform,
    smallest_size,
    unit_diagonal,
    unit_eigenvalues,
)
from .stencil import second_difference

__all__ = ["Diffusion1D", "Laplacian1D", "Transform"]

Array = Any


@operator
class Transform(LinearOperator):
    """Orthonormal DCT or DST (types 1 to 4) or Hartley transform, (n, n), real and unitary, O(n log n).

    like: any array whose library, dtype and device the operator takes (its values are ignored); None adopts
    those of whatever it is applied to. name: one of `cola_pde.transforms.NAMES`.
    """

    like: Any = None
    name: str = static(default="dct2")
    n: int = static(default=1)

    def _check(self) -> None:
        if self.name not in transforms.NAMES:
            raise UnknownNameError(
                f"unknown transform {self.name!r}; known are {', '.join(transforms.NAMES)}"
            )
        _check_size(self.n, 2 if self.name == "dct1" else 1, f"Transform {self.name}")

    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    def _matmat(self, X: Array) -> Array:
        be = backend_of(X) or get_backend("numpy")
        X = be.as_value(X)
        if be.name == "abstract":
            return X  # planning: a transform changes values only
        return transforms.transform(self.name, X, be.xp)

    def _adjoint(self) -> LinearOperator:
        return self.replace(name=transforms.inverse_name(self.name), declared=frozenset())

    _transpose = _adjoint

    def _conj(self) -> LinearOperator:
        return self

    def _properties(self) -> frozenset[Property]:
        symmetric = transforms.inverse_name(self.name) == self.name
        return frozenset({Unitary, SelfAdjoint} if symmetric else {Unitary})

    def _matvec_cost(self) -> Cost:
        n = self.n
        return Cost(5.0 * n * max(1.0, math.log2(n)), 4 * self.itemsize * n, 2 * self.itemsize * n, 1)


@operator
class Laplacian1D(LinearOperator):
    """``scale * (-d2/dx2)`` on n unknowns at unit spacing, symmetrised; positive semidefinite, product O(n).

    scale: positive number or array (*batch): coefficient / h**2. kind: "DD", "DN", "ND", "NN" or "P".
    centring: "cell" or "vertex". Its eigenvalues and transform are in closed form, see `cola_pde.spectrum`.
    Raises GridError, BoundaryError.
    """

    scale: Array
    n: int = static()
    kind: str = static(default="DD")
    centring: str = static(default="cell")

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise BoundaryError(f"unknown boundary kind {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.centring not in CENTRINGS:
            raise GridError(f"unknown centring {self.centring!r}; choose one of {', '.join(CENTRINGS)}")
        _check_size(
            self.n,
            smallest_size(self.centring, self.kind),
            f"{self.centring}-centred {self.kind} Laplacian1D",
        )
        be = backend_of(self.scale) or get_backend("numpy")
        object.__setattr__(self, "scale", be.as_value(self.scale))
        _check_positive(self.scale, be, "scale of Laplacian1D")

    def _shape(self) -> tuple[int, ...]:
        return (*self.scale.shape, self.n, self.n)

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        out = second_difference(be.as_value(X), self.centring, self.kind, be.xp)
        scale = self.scale[..., None, None] if self.scale.ndim else self.scale
        if isinstance(out, np.ndarray) and not self.scale.ndim and np.result_type(out, scale) == out.dtype:
            out *= scale  # second_difference returned a fresh array
            return out
        return scale * out

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _conj = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD})

    def _matvec_cost(self) -> Cost:
        return Cost(4.0 * self.n, 4 * self.itemsize * self.n, 2 * self.itemsize * self.n, 1)

    @property
    def singular(self) -> bool:
        """Whether constants are in the null space: a structural fact."""
        return "D" not in self.kind

    def _unit(self, values: np.ndarray) -> Array:
        """scale * (a float64 vector computed in NumPy), in this operator's library and dtype."""
        be = self._concrete_backend()
        return self.scale[..., None] * be.asarray(values, dtype=self.dtype, device=self.device)

    def eigenvalues(self) -> Array:
        """All eigenvalues (*batch, n) in closed form, in the order of the transform."""
        return self._unit(unit_eigenvalues(self.n, self.centring, self.kind))

    def diagonal(self) -> Array:
        """The diagonal (*batch, n) in closed form."""
        return self._unit(unit_diagonal(self.n, self.centring, self.kind))

    def eigenvectors(self) -> Transform:
        """The orthonormal eigenbasis V (columns in the order of `eigenvalues`) as a transform operator."""
        forward = forward_transform(self.centring, self.kind)
        return Transform(self.scale, transforms.inverse_name(forward), self.n)


@operator
class Diffusion1D(LinearOperator):
    """``-d/dx (a(x) d/dx)`` symmetrised: tridiagonal (with two corners if periodic), given by its links.

    links: (n-1,) coupling a/h**2 >= 0 between neighbours, (n,) if ``kind="P"`` (the last one closes the
    ring).
    ends: (2,) extra diagonal weight of the first and last unknown (towards a known Dirichlet value; 0 for
    Neumann).
    kind, centring: as in `Laplacian1D`; they fix the weights W. Positive semidefinite because links and ends
    are >= 0.
    library: name of the array library, set at construction, so that plans (made without arrays) know it.
    """

    links: Array
    ends: Array
    kind: str = static(default="DD")
    centring: str = static(default="cell")
    library: str = static(default="", kw_only=True)

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise BoundaryError(f"unknown boundary kind {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.centring not in CENTRINGS:
            raise GridError(f"unknown centring {self.centring!r}; choose one of {', '.join(CENTRINGS)}")
        be = backend_of(self.links, self.ends) or get_backend("numpy")
        for name in ("links", "ends"):
            values = be.as_value(getattr(self, name))
            object.__setattr__(self, name, values)
            if values.ndim != 1:
                raise ShapeError(f"{name} of Diffusion1D must be a vector, got shape {tuple(values.shape)}")
            _check_positive(values, be, f"{name} of Diffusion1D", strictly=False)
        if tuple(self.ends.shape) != (2,):
            raise ShapeError(f"ends of Diffusion1D must have shape (2,), got {tuple(self.ends.shape)}")
        object.__setattr__(self, "library", be.name)
        size = self.links.shape[0] + (self.kind != "P")
        _check_size(
            size, smallest_size(self.centring, self.kind), f"{self.centring}-centred {self.kind} Diffusion1D"
        )

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        # planning replaces arrays by placeholders; which library they come from stays a fact
        return self if backend in (None, "abstract") else self.replace(library=backend)

    @property
    def n(self) -> int:
        return self.links.shape[0] + (self.kind != "P")

    def _shape(self) -> tuple[int, ...]:
        return (self.n, self.n)

    def bands(self) -> tuple[Array, Array, Array]:
        """Diagonal (n,), off-diagonal (n-1,) and corner (), which is 0 unless periodic with n > 2."""
        be, n = self._concrete_backend(), self.n
        xp, dtype, device = be.xp, self.links.dtype, self.device
        weights = np.ones(n)
        first, last = end_weights(self.centring, self.kind)
        weights[0] *= first
        weights[-1] *= last
        inverse = be.asarray(1 / weights, dtype=dtype, device=device)
        between = be.asarray(1 / np.sqrt(weights[1:] * weights[:-1]), dtype=dtype, device=device)
        zero = be.zeros((1,), dtype, device)
        if self.kind == "P":
            inner, wrap = self.links[:-1], self.links[-1:]
            if n == 1:  # the only point is its own neighbour
                wrap = zero
        else:
            inner, wrap = self.links, zero
        ends = self.ends[:1] + self.ends[1:] if n == 1 else None
        diagonal = xp.concat([zero, inner]) + xp.concat([inner, zero])
        if n == 1:
            diagonal = diagonal + ends
        else:
            padding = xp.concat([zero] * (n - 2)) if n > 2 else zero[:0]
            diagonal = diagonal + xp.concat([self.ends[:1] + wrap, padding, self.ends[1:] + wrap])
        off = -inner
        if n == 2:  # both links of a two-point ring join the same pair
            return diagonal * inverse, (off - wrap) * between, 0 * wrap[0]
        return diagonal * inverse, off * between, -wrap[0]

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        X = be.as_value(X)
        d, e, corner = self.bands()
        zero = 0 * X[..., :1, :]
        out = d[:, None] * X
        out = out + be.xp.concat([e[:, None] * X[..., 1:, :], zero], axis=-2)
        out = out + be.xp.concat([zero, e[:, None] * X[..., :-1, :]], axis=-2)
        if self.kind == "P" and self.n > 2:
            out = out + be.xp.concat(
                [corner * X[..., -1:, :], 0 * X[..., 1:-1, :], corner * X[..., :1, :]], axis=-2
            )
        return out

    def _adjoint(self) -> LinearOperator:
        return self

    _transpose = _conj = _adjoint

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD})

    def _matvec_cost(self) -> Cost:
        return Cost(8.0 * self.n, 6 * self.itemsize * self.n, 3 * self.itemsize * self.n, 1)


def _check_size(n: Any, least: int, what: str) -> None:
    if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < least:
        raise ShapeError(f"{what} needs a whole number of unknowns, at least {least}; got {n!r}")


def _check_positive(values: Any, be: Any, what: str, strictly: bool = True) -> None:
    """Validate where values can be read; under tracing the class's contract stands."""
    if backend_of_type(type(values)) is None or not be.is_concrete(values) or be.is_complex(values):
        if be.is_complex(values):
            raise GridError(f"{what} must be real, got dtype {values.dtype}")
        return
    host = np.asarray(be.to_numpy(values))
    if not np.all(np.isfinite(host)) or np.any(host <= 0 if strictly else host < 0):
        raise GridError(f"{what} must be finite and {'positive' if strictly else 'at least 0'}")

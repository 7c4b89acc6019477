"""Equivariant bases: every vector (or linear map) that the group leaves unchanged, with a certificate.

`equivariant_basis(rep)` splits the space into tensor words, solves each different word once (`solvers`), and
puts the answers together as one structured operator Q (N x r): an `OrbitBasis` when only permutations act,
otherwise a row permutation of a block diagonal of Kronecker products of small orthonormal matrices. The
dimension is compared with an exact count wherever one exists, and Q is checked on the generators given by the
user, through operators the solvers do not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core import ops
from cola_core.properties import Stiefel

from .errors import BasisError, RepError
from .groups import Group, MatrixGroup, PermutationGroup
from .ops import EquivariantProjector, OrbitBasis, OrbitProjector
from .reps import Hom, Rep, Tensor, Word, canonical
from .solvers import Invariants, invariants
from .solvers.choose import MAX_BYTES, within

RESIDUAL_TOLERANCE = 1e-9
"""A basis whose residual is larger is refused."""


@dataclass(frozen=True)
class WordReport:
    """What was found for one tensor word: its rep, how many copies of it, invariants in each, and by which
    method.
    """

    word: Rep
    copies: int
    dimension: int
    method: str
    exact: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Basis:
    """Orthonormal basis of the invariants of a representation.

    rep, dimension; Q: operator (N, dimension), Stiefel; method; residual: largest violation of an equation
    drho(A) x = 0 or rho(h) x = x by unit basis vectors, for normalised generators; exact: independent integer
    count, or None; certified: in words, on what grounds the dimension is right; words: one report for each
    different block.
    """

    rep: Rep
    dimension: int
    Q: Any
    method: str
    residual: float
    exact: int | None
    certified: str
    words: tuple[WordReport, ...]

    @property
    def size(self) -> int:
        return self.rep.size

    def projector(self) -> Any:
        """The orthogonal projector Q Q^H, an operator (N, N)."""
        if isinstance(self.Q, OrbitBasis):
            return OrbitProjector(self.Q.labels, self.Q.weights)
        return EquivariantProjector(self.Q, self.dimension)

    def maps(self) -> np.ndarray:
        """For rep = A >> B: the basis as dense matrices, shape (dimension, size of B, size of A). Small sizes
        only.
        """
        if not isinstance(self.rep, Hom):
            raise RepError(f"{self.rep!r} is not a space of linear maps; build one as source >> target")
        rows, cols = self.rep.map_shape
        return np.ascontiguousarray(np.moveaxis(np.asarray(self.Q.to_dense()).reshape(rows, cols, -1), -1, 0))

    def __str__(self) -> str:
        return (
            f"{self.dimension} equivariant of {self.size}: {self.rep!r}; {self.method}; "
            f"residual {self.residual:.1e}; {self.certified}"
        )

    def __repr__(self) -> str:
        return f"<Basis {self}>"

    def describe(self) -> str:
        """A few lines for people: the numbers, their grounds, and each kind of block."""
        lines = [
            f"representation   {self.rep!r}",
            f"size             {self.size}",
            f"dimension        {self.dimension}",
            f"method           {self.method}",
            f"residual         {self.residual:.2e}",
            f"certified        {self.certified}",
        ]
        if len(self.words) > 1:
            lines.append(
                "blocks           "
                + "\n                 ".join(
                    f"{w.copies} x {w.word!r}: {w.dimension} each, {w.method}" for w in self.words
                )
            )
        return "\n".join(lines)


def equivariant_basis(rep: Rep, group: Group | None = None, *, max_bytes: int = MAX_BYTES) -> Basis:
    """All vectors x of `rep` with rho(g) x = x for every group element g, as an orthonormal basis.

    rep: a representation, concrete or made so by `group`; write source >> target for equivariant linear maps.
    float64 (complex128 for complex groups), NumPy. Raises RepError without a group, BasisError if a limit is
    exceeded or the result fails its certification. Cost: see `solvers`; equal words are solved once.
    """
    if not isinstance(rep, Rep):
        raise RepError(
            "equivariant_basis takes a representation, for example (T(2) >> V)(SO(3)); "
            f"got {type(rep).__name__}"
        )
    if group is not None:
        rep = rep(group)
    groups = rep._known()
    n = rep.size
    within(48 * n, max_bytes, f"{rep!r}")

    merged: dict[Word, list[np.ndarray]] = {}
    for word, index in rep.blocks.items():
        target, order = canonical(word, groups)
        axes = [letter.size for letter in word]
        index = index.reshape(len(index), *axes).transpose(0, *[1 + i for i in order]).reshape(len(index), -1)
        merged.setdefault(target, []).append(index)

    parts: list[tuple[np.ndarray, list[Invariants]]] = []
    reports: list[WordReport] = []
    worst = 0.0
    for word, indices in merged.items():
        index = np.concatenate(indices)
        found = [invariants(g, *_letters(word, g), max_bytes) for g in groups if any(w.of == g for w in word)]
        dimension = int(np.prod([f.dimension for f in found], dtype=object)) if found else 1
        exact: int | None = 1
        for f in found:
            exact = None if exact is None or f.exact is None else exact * f.exact[0]
            worst = max(worst, f.residual)
        method = " x ".join(dict.fromkeys(f.method for f in found)) or "scalar"
        parts.append((index, found))
        reports.append(WordReport(Tensor.of(*word), len(index), dimension, method, exact))

    dimension = sum(r.copies * r.dimension for r in reports)
    Q = _assemble(n, parts, reports)
    residual = max(worst, generator_residual(rep, Q))
    exact_total: int | None = 0
    for r in reports:
        exact_total = None if exact_total is None or r.exact is None else exact_total + r.copies * r.exact
    if not residual <= RESIDUAL_TOLERANCE:
        raise BasisError(
            f"the basis of {rep!r} leaves a residual of {residual:.1e}, above {RESIDUAL_TOLERANCE:g}; "
            "it is not returned. Generators known to fewer digits than float64 are the usual cause."
        )
    grounds = list(dict.fromkeys(f.exact[1] for _, found in parts for f in found if f.exact is not None))
    if exact_total is not None:
        certified = f"dimension equals the exact count ({', '.join(grounds) or 'scalar'})"
    elif all(f.labels is not None for _, found in parts for f in found):
        certified = "exact by construction (orbits)"
    else:
        certified = "by residual and spectral gap; no exact count for this group"
    method = ", ".join(dict.fromkeys(r.method for r in reports))
    return Basis(rep, dimension, Q, method, residual, exact_total, certified, tuple(reports))


def equivariant_projector(rep: Rep, group: Group | None = None, *, max_bytes: int = MAX_BYTES) -> Any:
    """The orthogonal projector (N, N) onto the invariants, as an operator; see `equivariant_basis`."""
    return equivariant_basis(rep, group, max_bytes=max_bytes).projector()


def _letters(word: Word, group: Group) -> tuple[int, int]:
    own = [w for w in word if w.of == group]
    return sum(not w.dual for w in own), sum(w.dual for w in own)


def _assemble(n: int, parts: list[tuple[np.ndarray, list[Invariants]]], reports: list[WordReport]) -> Any:
    if all(f.labels is not None for _, found in parts for f in found):
        return _orbit_basis(n, parts, reports)
    blocks = []
    for (index, found), report in zip(parts, reports, strict=True):
        factors = [_factor(f) for f in found]
        if not report.dimension:
            blocks.append(Stiefel(ops.Dense(np.zeros((index.shape[1], 0)))))
        else:
            blocks.append(
                ops.Kronecker(*factors) if len(factors) > 1 else factors[0] if factors else ops.Identity(1)
            )
    copies = tuple(r.copies for r in reports)
    Q = blocks[0] if copies == (1,) else ops.BlockDiag(*blocks, multiplicities=copies)
    order = np.concatenate([index.reshape(-1) for index, _ in parts])
    if (order != np.arange(n)).any():
        # Row order[i] of the result is row i of the block diagonal, so perm is the inverse of order.
        Q = ops.Permutation(np.argsort(order)) @ Q
    return Stiefel(Q)


def _factor(found: Invariants) -> Any:
    if found.labels is not None:
        return _orbits(found.labels, found.dimension)
    return Stiefel(ops.Dense(found.matrix))


def _orbits(labels: np.ndarray, count: int) -> OrbitBasis:
    return OrbitBasis(labels, 1.0 / np.sqrt(np.bincount(labels, minlength=count)))


def _orbit_basis(
    n: int, parts: list[tuple[np.ndarray, list[Invariants]]], reports: list[WordReport]
) -> OrbitBasis:
    labels, offset = np.empty(n, np.int64), 0
    for (index, found), report in zip(parts, reports, strict=True):
        word = np.zeros(1, np.int64)
        for f in found:
            assert f.labels is not None
            word = (word[:, None] * f.dimension + f.labels).reshape(-1)
        labels[index] = offset + report.dimension * np.arange(len(index))[:, None] + word
        offset += report.dimension * len(index)
    return _orbits(labels, offset)


# --- checks that do not depend on how the basis was found ---


def generator_residual(rep: Rep, Q: Any, key: int = 0) -> float:
    """Largest violation of the equations of the group's own generators, normalised, by unit vectors in the
    range of Q.

    All columns if there are at most 8, otherwise 8 random combinations of them.
    """
    x = _probes(Q, key, 8)
    worst = 0.0
    if not x.shape[1]:
        return worst
    for g in rep._known():
        if isinstance(g, PermutationGroup):
            for h in g.generators:
                worst = max(worst, _norm(rep._rho({g: h}) @ x - x))
        elif isinstance(g, MatrixGroup):
            for a in g.lie:
                size = np.linalg.norm(a)
                if size > 0:
                    worst = max(worst, _norm(rep._drho({g: a / size}) @ x))
            for h in g.discrete:
                moved = np.asarray(rep._rho({g: h}) @ x)
                worst = max(worst, _norm(moved - x))
    return worst


def equivariance_error(W: Any, rep: Rep, group: Group | None = None, samples: int = 5, key: int = 0) -> float:
    """Largest |rho(g) x - x| / max(|x|, |rho(g) x|) over random group elements g, x made of the columns of W.

    W: a `Basis`, an operator or array (N, r), a vector (N,), or for rep = source >> target a matrix (target,
    source) or a stack of them (r, target, source). Rounding level for an equivariant W; about 1 for an
    arbitrary one.
    """
    if group is not None:
        rep = rep(group)
    if isinstance(samples, bool) or samples < 1:
        raise ValueError(f"equivariance_error needs at least one sample, got {samples!r}")
    x = _columns(W, rep, key)
    if not np.isfinite(x).all():
        raise BasisError("equivariance_error: the given weights contain NaN or infinite entries")
    if not x.size or not np.any(x):
        return 0.0
    rng = np.random.default_rng(key)
    worst = 0.0
    for _ in range(samples):
        moved = np.asarray(rep._rho(sample_assignment(rep, rng)) @ x)
        worst = max(worst, float(np.linalg.norm(moved - x) / max(np.linalg.norm(x), np.linalg.norm(moved))))
    return worst


def sample_assignment(rep: Rep, rng: np.random.Generator) -> Mapping[Group, Any]:
    """A random element of each group in the representation."""
    return {g: g.sample(rng) for g in rep._known()}


def _columns(W: Any, rep: Rep, key: int) -> np.ndarray:
    n = rep.size
    if isinstance(W, Basis):
        return _probes(W.Q, key, 16)
    shape = tuple(W.shape)
    if hasattr(W, "_matmat"):
        if len(shape) == 2 and shape[0] == n:
            return _probes(W, key, 16)
        W = W.to_dense()
    w = np.asarray(W)
    if isinstance(rep, Hom) and w.ndim in (2, 3) and w.shape[-2:] == rep.map_shape:
        return w.reshape(-1, n).T
    if w.ndim in (1, 2) and w.shape[0] == n:
        return w.reshape(n, -1)
    raise RepError(
        f"weights of shape {shape} do not fit {rep!r}: expected ({n},), ({n}, r) "
        f"or matrices of the map's shape"
    )


def _probes(Q: Any, key: int, most: int) -> np.ndarray:
    r = Q.shape[-1]
    if r == 0:
        return np.zeros((Q.shape[-2], 0))
    if r <= most:
        return np.asarray(Q @ np.eye(r))
    c = np.random.default_rng(key).standard_normal((r, most))
    return np.asarray(Q @ (c / np.linalg.norm(c, axis=0)))


def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x), axis=0).max())


__all__ = [
    "Basis",
    "WordReport",
    "equivariance_error",
    "equivariant_basis",
    "equivariant_projector",
    "generator_residual",
]

"""Facts about a group that follow from its generators, computed once and independent of how they were scaled.

* `lie_basis(G)`: Frobenius-orthonormal basis, shape (m, d, d), of the real Lie algebra the generators span
  under commutators. Every generator is first normalised, so factors of 1e6, order and repetitions do not
  matter.
* `adjoint_closed(G)`: whether A in the algebra implies A^H in it. Then sum_i drho(A_i)^H drho(A_i) is the
  Casimir of the compact form, with few distinct eigenvalues. True of SO, Sp, SL, GL, SU, U and the Lorentz
  family.
* `finite_elements(G, limit)`: all matrices of a finite group, or None if there are more than `limit`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .groups import MatrixGroup, PermutationGroup

TOLERANCE = 1e-6
"""Relative size below which a new direction counts as rounding of the given generators."""


def _flat(a: np.ndarray) -> np.ndarray:
    """(m, d, d) real or complex -> (m, d*d or 2*d*d) real rows, an isometry for Re tr(A^H B)."""
    rows = a.reshape(len(a), a.shape[1] * a.shape[2])
    return np.concatenate([rows.real, rows.imag], axis=1) if np.iscomplexobj(a) else rows


def _unflat(rows: np.ndarray, d: int, is_complex: bool) -> np.ndarray:
    if is_complex:
        half = rows.shape[1] // 2
        rows = rows[:, :half] + 1j * rows[:, half:]
    return rows.reshape(-1, d, d)


def _extend(basis: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows spanning basis and the (O(1)-sized) rows; directions below TOLERANCE are dropped."""
    for _ in range(2):  # twice is enough: projecting again removes what cancellation left
        rows = rows - (rows @ basis.T) @ basis
    if not len(rows) or np.abs(rows).max() <= TOLERANCE:
        return basis
    gram = rows @ rows.T
    if not len(basis) and np.abs(gram - np.eye(len(rows))).max() <= 1e-15:
        return rows  # already orthonormal, as the generators of SO(n) are; keeps them sparse, and is fast
    _, s, vt = np.linalg.svd(rows, full_matrices=False)
    return np.concatenate([basis, vt[s > TOLERANCE]])


@lru_cache(maxsize=64)
def lie_basis(group: MatrixGroup) -> np.ndarray:
    d, cplx = group.d, group.is_complex
    norms = np.linalg.norm(group.lie.reshape(-1, d * d), axis=1)
    rows = _flat(group.lie[norms > 0] / norms[norms > 0, None, None])
    basis = _extend(np.zeros((0, rows.shape[1])), rows)
    rng = np.random.default_rng(0)
    while len(basis):
        # The span is closed under brackets iff [X, B_j] stays in it for one generic X (probability 1).
        mats = _unflat(basis, d, cplx)
        x = np.tensordot(rng.standard_normal(len(mats)) / np.sqrt(len(mats)), mats, 1)
        bigger = _extend(basis, _flat(x @ mats - mats @ x))
        if len(bigger) == len(basis):
            break
        basis = bigger
    out = _unflat(basis, d, cplx)
    out.setflags(write=False)
    return out


@lru_cache(maxsize=64)
def adjoint_closed(group: MatrixGroup) -> bool:
    basis = lie_basis(group)
    if not len(basis):
        return True
    rows, adj = _flat(basis), _flat(basis.conj().transpose(0, 2, 1))
    return bool(np.abs(adj - (adj @ rows.T) @ rows).max() <= 1e-12)


@lru_cache(maxsize=64)
def finite_elements(group: MatrixGroup | PermutationGroup, limit: int) -> np.ndarray | None:
    """All elements, (order, d, d) matrices or (order, d) index arrays; None beyond `limit` or with a Lie
    algebra.
    """
    if isinstance(group, PermutationGroup):
        gens, identity = group.generators, np.arange(group.d)[None]

        def times(h: np.ndarray, new: np.ndarray) -> np.ndarray:
            return h[new]

        def keys(a: np.ndarray) -> list[bytes]:
            return [r.tobytes() for r in np.ascontiguousarray(a)]
    else:
        if len(group.lie):
            return None
        gens, identity = group.discrete, np.eye(group.d, dtype=group.discrete.dtype)[None]

        def times(h: np.ndarray, new: np.ndarray) -> np.ndarray:
            return h @ new

        # Rounded entries shifted by an irrational amount: a value on a rounding boundary would get two keys.
        def keys(a: np.ndarray) -> list[bytes]:
            flat = np.ascontiguousarray(_flat(a))
            return [r.tobytes() for r in np.floor(flat * 1e5 + 0.41421356).astype(np.int64)]

    seen = set(keys(identity))
    found, new = [identity], identity
    while len(new):
        fresh = []
        for h in gens:
            products = times(h, new)
            if products.dtype.kind in "fc" and (
                not np.isfinite(products).all() or np.abs(products).max() > 1e6
            ):
                return None
            for k, m in zip(keys(products), products, strict=True):
                if k not in seen:
                    seen.add(k)
                    fresh.append(m)
                    if len(seen) > limit:
                        return None
        new = np.stack(fresh) if fresh else identity[:0]
        found.append(new)
    return np.concatenate(found)

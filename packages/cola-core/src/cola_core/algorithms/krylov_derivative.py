"""Products with f(A), and gradients of them, from Krylov spaces: what ``function_derivative`` asks for.

With orthonormal bases U of ``K(A^H, g)`` and V of ``K(A, b)``, the gradient of ``Re <g, f(A) b>`` is about
``U X V^H`` in A's entries, X the corner of ``f([[H_U, |g| |b| e_1 e_1^T], [0, H_V^H]])`` (Kandolf, Koskela,
Relton & Schweitzer, SIMAX 42 (2021), alg. 2). It is exact where the spaces are invariant: an early breakdown
is the good case. Both spaces grow until X has settled to the tolerance of the answer.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..backends.base import Array
from ..errors import ConvergenceWarning, NonFiniteError, PropertyError
from .directional_block import DirectionalBlock
from .divided_differences import divided
from .function_derivative import FunctionTimes
from .krylov_function import _step, krylov_function
from .small_function import check_ritz_values, on_host, small_function

__all__ = ["krylov_derivative"]


def krylov_derivative(hermitian: bool, tol: float, limit: int) -> FunctionTimes:
    """For an algorithm with this tolerance and at most so many steps (a nest of blocks: so many times as many
    as it is larger, since as many as A's size must be enough). A missed tolerance is a warning."""

    def budget(A: Any) -> int:
        within = A.inner.shape[-1] if isinstance(A, DirectionalBlock) else A.shape[-1]
        return limit * (A.shape[-1] // max(within, 1))

    def times(A: Any, f: Any, X: Array, adjoint: bool) -> Array:
        be = A._concrete_backend()
        own = hermitian and not isinstance(A, DirectionalBlock)
        if adjoint and not own:
            A = A.H
        if be.is_concrete(X) and be.is_concrete(*_leaves(A)):
            block = isinstance(A, DirectionalBlock)
            Y, info = krylov_function(A, f, X, own, tol, budget(A), A.shape[-1])
            if not info.converged:
                _warn(f, A.inner if block else A, tol, int(info.iterations), float(info.error_estimate))
            return Y
        from .krylov_traced import GENERAL_STEPS, STEPS, krylov_function_traced

        m = min(A.shape[-1], budget(A), STEPS if own else GENERAL_STEPS)
        return krylov_function_traced(A, f, X, own, tol, m)[0]

    def pairs(A: Any, f: Any, G: Array, X: Array) -> list[tuple[Array, Array]]:
        be = A._concrete_backend()
        own = hermitian and not isinstance(A, DirectionalBlock)
        if be.is_concrete(G, X) and be.is_concrete(*_leaves(A)):
            return [_pairs(be, A, f, G, X, own, tol, budget(A))]
        from .krylov_traced import GENERAL_STEPS, STEPS, traced_pairs

        return [traced_pairs(A, f, G, X, own, min(A.shape[-1], budget(A), STEPS if own else GENERAL_STEPS))]

    return FunctionTimes(times, pairs)


def _warn(f: Any, A: Any, tol: float, m: int, error: float) -> None:
    warnings.warn(
        f"the derivative of {f.name} of {A!r} by a Krylov space has not settled to {tol:.1g} in {m} "
        f"steps; its relative error is about {error:.1g}.",
        ConvergenceWarning,
        stacklevel=3,
    )


def _leaves(A: Any) -> Any:
    from ..pytree import tree_leaves

    return tree_leaves(A)


class _Turned:
    """A^H by its products."""

    def __init__(self, A: Any) -> None:
        self.dtype, self._matmat = A.dtype, A._rmatmat


class _Space:
    """One Krylov space a column, all made at once; what is small on the host in double precision."""

    def __init__(self, be: Any, A: Any, start: Array, hermitian: bool) -> None:
        self.be, self.A, self.hermitian = be, A, hermitian
        xp = be.xp
        norms = be.norm(start)
        self.norms = be.to_numpy(norms).astype(np.float64)
        safe = xp.where(norms > 0, norms, xp.ones_like(norms))
        self.Q = (start / be.astype(safe, start.dtype)).mT[:, None]
        k = start.shape[-1]
        self.scale = be.zeros((k,), be.real_dtype(A.dtype), be.device(start))
        self.small = np.complex128 if be.is_complex(start) else np.float64
        self.H = np.zeros((k, 0, 0), self.small)
        self.last = np.ones(k)
        # how many vectors of each column count
        self.sizes = np.zeros(k, int)
        self.ended = self.norms == 0

    def extend(self, m: int) -> None:
        be = self.be
        k, rows, n = self.Q.shape
        first = self.H.shape[-1]
        more = be.zeros((k, m + 1 - rows, n), self.Q.dtype, be.device(self.Q))
        self.Q = be.xp.concat([self.Q, more], axis=1)
        H = np.zeros((k, m, m), self.small)
        H[:, :first, :first] = self.H
        if first and first < m:
            H[:, first, first - 1] = self.last
        for j in range(first, m):
            self.Q, self.scale, c, left = _step(be, self.A, self.Q, self.scale, j, self.hermitian)
            c, left = be.to_numpy(c), be.to_numpy(left)
            H[:, : j + 1, j] = c[:, : j + 1]
            if self.hermitian and j:
                H[:, j - 1, j] = H[:, j, j - 1]
            if j + 1 < m:
                H[:, j + 1, j] = left
            self.last = left.astype(np.float64)
            self.sizes = np.where(self.ended, self.sizes, j + 1)
            self.ended = self.ended | (left == 0)
        if not np.isfinite(H).all():
            raise NonFiniteError(f"a product with {self.A!r} gave NaN or infinity in a derivative.")
        self.H = H


def _pairs(
    be: Any, A: Any, f: Any, G: Array, X: Array, hermitian: bool, tol: float, limit: int
) -> tuple[Array, Array]:
    """Grow both spaces until the corner of each column has settled."""
    from ..linalg.lazy_function import reflected

    n, k = X.shape
    left = _Space(be, A if hermitian else _Turned(A), G, hermitian)
    right = _Space(be, A, X, hermitian)
    host = on_host(be, A, f if hermitian or f.kind else reflected(f))
    eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
    limit = min(limit, n)
    m = min(8, limit)
    corners: list[Any] = [np.zeros((0, 0))] * k
    changes = [float("inf")] * k
    settled = [bool(left.norms[s] == 0 or right.norms[s] == 0) for s in range(k)]
    while True:
        left.extend(m)
        right.extend(m)
        for s in range(k):
            if settled[s]:
                continue
            p, q = left.sizes[s], right.sizes[s]
            found = _corner(A, host, left.H[s, :p, :p], right.H[s, :q, :q], hermitian, eps)
            old = np.zeros_like(found)
            before = corners[s][:p, :q]
            old[: before.shape[0], : before.shape[1]] = before
            size, change = float(np.linalg.norm(found)), float(np.linalg.norm(found - old))
            rate = min((change / changes[s]) if 0 < changes[s] < float("inf") else 1.0, 0.95)
            ended = bool(left.ended[s] and right.ended[s]) or m >= n
            settled[s] = ended or (
                bool(np.isfinite(size)) and changes[s] < float("inf") and change / (1 - rate) <= tol * size
            )
            corners[s], changes[s] = found, change
        if all(settled) or m >= limit:
            break
        m = min(max(m + 4, (3 * m) // 2), limit)
    if not all(settled):
        left_over = max(
            c / max(float(np.linalg.norm(x)), 1e-300) for c, x in zip(changes, corners, strict=True) if x.size
        )
        _warn(f, A, tol, m, left_over)
    Us, Vs = [], []
    for s in range(k):
        p, q = corners[s].shape
        if left.norms[s] == 0 or right.norms[s] == 0 or not p or not q:
            continue
        if not np.isfinite(corners[s]).all():
            raise PropertyError(
                f"{f.name} of {A!r} has no finite derivative here: {f.name} itself has none at one of the "
                "eigenvalues (a root at zero, for example). Add a multiple of the identity."
            )
        C = be.asarray(corners[s] * (left.norms[s] * right.norms[s]), dtype=X.dtype, device=be.device(X))
        Us.append(be.matmul(left.Q[s, :p].mT, C))
        Vs.append(right.Q[s, :q].mT)
    if not Us:
        return 0 * X, 0 * X
    return be.xp.concat(Us, axis=-1), be.xp.concat(Vs, axis=-1)


def _corner(A: Any, f: Any, Hg: Any, Hb: Any, hermitian: bool, eps: float) -> Any:
    """X for unit vectors; Hg of A^H and Hb of A."""
    from ..backends import get_backend

    if hermitian:
        parts = []
        for H in (Hg, Hb):
            theta, S = np.linalg.eigh(H)
            weight = np.abs(S[0]) ** 2
            theta = check_ritz_values(A, f, theta, weight, eps)
            met = weight > (10 * eps) ** 2
            parts.append((np.where(met, theta, theta[np.argmax(weight)]), S, np.where(met, S[0], 0)))
        (a, S, s), (b, R, r) = parts
        be = get_backend("numpy")
        with np.errstate(all="ignore"):
            F = divided(be, f, [a[:, None], b[None, :]])
        return S @ (np.conj(F) * s.conj()[:, None] * r[None, :]) @ R.conj().T
    if not f.kind and not isinstance(A, DirectionalBlock):
        # the spectra approach each other: eigenvectors of the whole would be useless, those of either are not
        a, S = np.linalg.eig(Hg)
        b, R = np.linalg.eig(Hb.conj().T)
        be = get_backend("numpy")
        left, right = np.linalg.inv(S)[:, 0], R[0]
        with np.errstate(all="ignore"):
            F = divided(be, f, [a.astype(complex)[:, None], b.astype(complex)[None, :]])
        found = S @ (F * left[:, None] * right[None, :]) @ np.linalg.inv(R)
        return found if np.iscomplexobj(Hg) or np.iscomplexobj(Hb) else found.real
    p, q = Hg.shape[0], Hb.shape[0]
    whole = np.zeros((p + q, p + q), np.result_type(Hg, Hb))
    whole[:p, :p], whole[p:, p:] = Hg, Hb.conj().T
    whole[0, p] = 1
    return small_function(A, f, whole)[:p, p:]

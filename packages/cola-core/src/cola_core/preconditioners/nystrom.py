"""``Nystrom``: randomised Nystrom approximation of K for ``A = K + mu I``, by products with K only.

Frangella, Tropp & Udell, SIAM J. Matrix Anal. Appl. 44 (2023) 718, algorithm 2.1 and equation 5.3; the rank
is doubled until the smallest eigenvalue found is comparable with mu (section 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..errors import NotPositiveDefiniteError, SingularMatrixError
from ..operators import LinearOperator
from .base import Preconditioner, finite
from .low_rank_diagonal import spiked
from .shifted import split_diagonal

__all__ = ["Nystrom", "nystrom_eigenpairs"]

FIRST_RANK, LARGEST_RANK, ENOUGH = 20, 500, 10.0


@dataclass(frozen=True)
class Nystrom(Preconditioner):
    """``U (W + mu)^{-1} U^H + (w_k + mu)^{-1} (I - U U^H)``, ``U W U^H`` a randomised approximation of K.

    rank: products with K; default: doubled from 20 until the smallest eigenvalue found is at most ``10 mu``,
    or ``max_rank`` (500) is reached. shift: mu; default: the mean of the diagonal terms of A, zero if it has
    none. Where A is not written as a sum, a given shift is taken to be contained in it. key: seed. Brings
    the condition number to a small constant once the rank is a few times the number of eigenvalues above mu;
    gains nothing on flat spectra.

    >>> import numpy as np, cola_core as cola
    >>> x = np.linspace(0, 1, 100)
    >>> K = cola.ops.Dense(np.exp(-10 * (x[:, None] - x) ** 2))
    >>> A = cola.PSD(K + 1e-4 * cola.ops.Identity(100))
    >>> x, info = cola.solve(A, np.ones(100), cola.CG(P=cola.Nystrom()), return_info=True)
    >>> info.iterations < 15
    True
    """

    rank: int | None = None
    shift: Any = None
    key: Any = 0
    max_rank: int | None = None

    def build(self, A: LinearOperator) -> LinearOperator:
        be = A._concrete_backend()
        xp, n = be.xp, A.shape[-1]
        real = be.real_dtype(A.dtype)
        K, d = split_diagonal(A)
        zero = be.zeros((), real, A.device)
        mu = zero if d is None else (xp.mean(d) if d.shape else d)
        inside = zero
        if self.shift is not None:
            mu = be.asarray(self.shift, real, A.device) + zero
            inside = mu if d is None else zero
        finite(A, mu, "the shift")
        if be.is_concrete(mu) and bool(mu < 0):
            raise NotPositiveDefiniteError(f"Nystrom: the shift of {A!r} is {be.number(mu):.3g}, below zero.")
        if not n:
            return spiked(A, be.zeros((0, 0), A.dtype, A.device), be.zeros((0,), real), zero + 1)
        w, U = self._eigenpairs(A, K, mu, inside)
        last = w[-1]
        smallest = float(xp.finfo(real).eps) * n * w[0]
        rest = xp.maximum(last + mu, smallest)
        if be.is_concrete(rest) and not bool(rest > 0):
            raise SingularMatrixError(f"Nystrom: {A!r} is zero, and has no shift.")
        return spiked(A, U, 1 / xp.maximum(w + mu, smallest), 1 / rest)

    def _eigenpairs(self, A: LinearOperator, K: LinearOperator, mu: Array, inside: Array) -> Any:
        n = A.shape[-1]
        be = A._concrete_backend()
        most = min(n, LARGEST_RANK if self.max_rank is None else int(self.max_rank))
        adaptive = self.rank is None and be.is_concrete(mu) and bool(mu > 0)
        rank = min(n, FIRST_RANK if adaptive else 50 if self.rank is None else int(self.rank), most)
        rank = max(rank, 1)
        while True:
            w, U = nystrom_eigenpairs(K, rank, self.key, inside)
            if not adaptive or rank >= most or not be.is_concrete(w) or bool(w[-1] <= ENOUGH * mu):
                return w, U
            rank = min(2 * rank, most)


def nystrom_eigenpairs(K: LinearOperator, rank: int, key: Any, inside: Any = 0.0) -> tuple[Array, Array]:
    """The ``rank`` eigenvalues (descending) and orthonormal eigenvectors of a Nystrom approximation of
    ``K - inside I``."""
    be = K._concrete_backend()
    xp, n = be.xp, K.shape[-1]
    Omega, _ = be.qr(be.normal(key, (n, rank), K.dtype, K.device))
    Y = K @ Omega
    Y = be.constant(finite(K, Y, "a product"))
    Y = Y - be.astype(be.asarray(inside, device=K.device), Y.dtype) * Omega
    eps = float(xp.finfo(be.real_dtype(K.dtype)).eps)
    nu = eps * n**0.5 * be.frobenius(Y, axis=(-2, -1))
    Y = Y + be.astype(nu, Y.dtype) * Omega
    M = be.matmul(be.adjoint(Omega), Y)
    m, W = be.eigh((M + be.adjoint(M)) / 2)
    if be.is_concrete(m) and be.number(m[0]) < -10 * rank**0.5 * be.number(nu):
        raise NotPositiveDefiniteError(
            f"Nystrom: {K!r} is not positive semidefinite: its compression has the eigenvalue "
            f"{be.number(m[0]):.3g}. Remove the PSD declaration, or give a smaller shift."
        )
    # directions in which nothing but the stabilising shift is left carry no weight
    kept = m > nu / 2
    inverse = xp.where(kept, 1 / xp.sqrt(xp.where(kept, m, xp.ones_like(m))), xp.zeros_like(m))
    B = be.matmul(Y, W * be.astype(inverse, W.dtype))
    U, s, _ = be.svd(B)
    return xp.maximum(s * s - nu, xp.zeros_like(s)), U

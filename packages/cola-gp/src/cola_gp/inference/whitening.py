r"""A covariance ``A = K + D`` seen from a preconditioner: ``B = R S A S R`` with ``S = D^{-1/2}``.

``P = F F^T + D`` with F from columns of K chosen at random (``RPCholesky``).  With ``S F = U s V^T`` the
symmetric root ``R = I + U (1/sqrt(1 + s^2) - 1) U^T`` makes ``R S P S R = I``, so that B is the identity but
for what F has missed, and

* ``log|A| = log|D| + sum log(1 + s^2) + tr log B``;
* ``A^{-1} = S R B^{-1} R S``,  ``P^{-1} = S R R S = D^{-1} - V V^T`` with ``V = S U s / sqrt(1 + s^2)``.

The first identities are those of Gardner, Pleiss, Bindel, Weinberger & Wilson (NeurIPS 2018).  Factors are
computed in double precision where the library has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cola_core import PSD, ops
from cola_core.preconditioners import RPCholesky

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..kernels.base import Array


@dataclass(frozen=True)
class Whitening:
    """See the module docstring.  d ``(n,)``: the diagonal of D; U ``(n, k)``; square ``(k,)``: ``s^2``;
    trace_error: of ``K - F F^T``, in the trace norm."""

    d: Array
    U: Array
    square: Array
    trace_error: Array

    @classmethod
    def of(cls, kernel: Any, X: Array, d: Array, rank: int, key: Any) -> Whitening:
        """From at most ``rank`` columns of ``k(X)``, fewer where the rest is small beside the noise ``d``."""
        backend = backend_for(X)
        xp = backend.xp
        # the kernel as a function of two points: white noise is part of d
        eps = float(xp.finfo(X.dtype).eps)
        # a rest of a hundredth of the noise does no harm, and below rounding there is nothing to find
        rounding = 100 * eps * xp.sum(kernel.cross_diag(X))
        enough = xp.maximum(1e-2 * xp.min(d), rounding)
        found = RPCholesky(rank=rank, key=key).approximate(PSD(CovarianceOperator(kernel, X, X)), enough)
        G = found.factor / xp.sqrt(d)[:, None]
        square, W = backend.eigh(G.T @ G)
        kept = (
            square > eps * xp.maximum(square[-1], xp.ones_like(square[-1])) if square.shape[0] else square > 0
        )
        inverse = xp.where(kept, 1.0 / xp.sqrt(xp.where(kept, square, xp.ones_like(square))), 0.0 * square)
        U = G @ (W * inverse)
        return cls(d, U, xp.where(kept, square, xp.zeros_like(square)), found.trace_error)

    @property
    def scale(self) -> Array:
        """The diagonal ``(n,)`` of S."""
        return 1.0 / backend_for(self.d).xp.sqrt(self.d)

    @property
    def root(self) -> Any:
        """``R`` as an operator."""
        xp = backend_for(self.d).xp
        gain = 1.0 / xp.sqrt(1.0 + self.square) - 1.0
        one = xp.ones_like(self.d[0])
        return ops.ScalarMul(one, self.d.shape[0]) + ops.LowRank(self.U * gain, self.U)

    @property
    def half(self) -> Any:
        """``S R``, whose square ``S R R S`` is ``P^{-1}``, as an operator."""
        return ops.Diagonal(self.scale) @ self.root

    def whitened(self, A: Any) -> Any:
        """``B = R S A S R`` as an operator."""
        S, R = ops.Diagonal(self.scale), self.root
        return PSD(ops.Product(R, S, A, S, R))

    @property
    def log_det(self) -> Array:
        """``log|P|``."""
        xp = backend_for(self.d).xp
        return xp.sum(xp.log(self.d)) + xp.sum(xp.log1p(self.square))

    @property
    def low_rank(self) -> Array:
        """``V (n, k)`` with ``P^{-1} = D^{-1} - V V^T``."""
        xp = backend_for(self.d).xp
        return self.scale[:, None] * (self.U * xp.sqrt(self.square / (1.0 + self.square)))

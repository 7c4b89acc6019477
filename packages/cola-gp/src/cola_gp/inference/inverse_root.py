r"""Quadratic forms ``g^T B^{-1} g`` for thousands of g from one Krylov space, with a measured error.

B is a covariance in the coordinates of its preconditioner: the identity but for what that has missed, and
never below it.  A Krylov space of Lanczos runs that were made anyway, ``W`` with orthonormal columns, holds
the largest eigenvalues of B; with Ritz pairs ``(t, q)``

    g^T B^{-1} g  =  |g|^2 - sum (1 - 1/t) (q^T g)^2 - rest,    0 <= rest <= |g - W W^T g|^2.

The rest is taken as ``c |g - W W^T g|^2``, where c and its deviation come from a few g for which the system
is solved.  (The cached inverse root of Pleiss, Gardner, Weinberger & Wilson, ICML 2018, beside a
preconditioner.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cola_core.algorithms import Tridiagonal, lanczos_tridiagonal

from ..arrays import backend_for
from ..kernels.base import Array

CHECKS = 12  # vectors for which the system is solved; one costs little beside the kernel they share


def solved_forms(B: Any, G: Array, tol: float, steps: int) -> tuple[Array, Array]:
    """``g^T B^{-1} g`` by solving, for every column of ``G (n, m)``, and the relative residuals."""
    backend = backend_for(G)
    T = lanczos_tridiagonal(B, G, min(steps, G.shape[0]), tol=tol)
    return T.quadrature(backend, lambda t: 1.0 / t), T.residuals(backend)


@dataclass(frozen=True)
class InverseRoot:
    """See the module docstring.  vectors ``(n, q)``: Ritz vectors; gains ``(q,)``: ``1 - 1/t``."""

    B: Any
    vectors: Array
    gains: Array

    @classmethod
    def of(cls, B: Any, T: Tridiagonal) -> InverseRoot:
        """From the bases of a run; O(n q^2) for the q vectors of all columns together, no products."""
        backend = backend_for(T.basis)
        xp = backend.xp
        m, n, s = T.basis.shape
        steps = max(1, m - 1)
        # B W = Q T without the last column, whose image leaves the space
        W = [T.basis[:steps, :, j].T for j in range(s)]
        Y = []
        for j in range(s):
            columns = T.basis[:, :, j].T
            image = columns[:, :steps] * T.alpha[:steps, j]
            if steps < m:
                image = image + columns[:, 1 : steps + 1] * T.beta[:steps, j]
            if steps > 1:
                shifted = columns[:, : steps - 1] * T.beta[: steps - 1, j]
                image = image + xp.concat([xp.zeros_like(image[:, :1]), shifted], axis=1)
            Y.append(image)
        W, Y = xp.concat(W, axis=1), xp.concat(Y, axis=1)
        weights, E = backend.eigh(W.T @ W)
        eps = float(xp.finfo(weights.dtype).eps)
        kept = weights > eps**0.5 * weights[-1]
        scale = xp.where(kept, 1.0 / xp.sqrt(xp.where(kept, weights, xp.ones_like(weights))), 0.0 * weights)
        W, Y = W @ (E * scale), Y @ (E * scale)
        H = W.T @ Y
        theta, S = backend.eigh(0.5 * (H + H.T))
        theta = xp.clip(theta, 1.0, None)  # B is never below the identity
        gains = 1.0 - 1.0 / theta
        return cls(B, W @ S, gains)

    def split(self, G: Array) -> tuple[Array, Array]:
        """``|g|^2 - sum gain (q^T g)^2`` and ``|g - W W^T g|^2`` for every column of ``G (n, m)``."""
        inside = (self.vectors.T @ G) ** 2
        xp = backend_for(G).xp
        whole = xp.sum(G * G, axis=0)
        return whole - self.gains @ inside, xp.clip(whole - xp.sum(inside, axis=0), 0.0, None)

    def share(self, G: Array, true: Array) -> float:
        """``c`` from columns whose forms are known."""
        xp = backend_for(G).xp
        near, outside = self.split(G)
        c = float(xp.sum((near - true) * outside) / xp.clip(xp.sum(outside * outside), 1e-300, None))
        return min(max(c, 0.0), 1.0)

    def calibrate(self, G: Array, tol: float, steps: int) -> tuple[float, float]:
        """``c`` from a few columns, and the root mean square of what it leaves unexplained.

        A relative residual t leaves an error of at most ``t^2 |g|^2``, since B is never below the identity;
        it is part of what is returned.
        """
        xp = backend_for(G).xp
        true, left = solved_forms(self.B, G, tol, steps)
        c = self.share(G, true)
        near, outside = self.split(G)
        missed = near - c * outside - true
        doubt = float(xp.max(left)) ** 2 * float(xp.max(xp.sum(G * G, axis=0)))
        return c, float(xp.sqrt(xp.mean(missed**2))) + doubt

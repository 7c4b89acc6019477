"""Least squares and Bayesian linear regression by LQ of the design: `X^T X` is never formed.

    python examples/lapack_use_cases/least_squares.py

Features are rows here: `Phi` is (d, n), a column per observation. The posterior of the weights of
`y ~ N(Phi^T w, I/beta)`, `w ~ N(0, I/alpha)` is that of least squares with the augmented design
`[sqrt(beta) Phi, sqrt(alpha) I] = L Q`: its precision is `L L^T`, its mean `L^-T Q [sqrt(beta) y; 0]`
(section 2.2 of arXiv:1710.08717; Bishop 2006, 3.5). The condition number of the design, not its square,
decides the accuracy; `precision_table.py` shows what this means in float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from data import diabetes
from frameworks import best_backend, fit, library

from cola_gpu.lapack import gelqf, sumlogdiag, trsm

__all__ = ["Posterior", "evidence", "least_squares", "posterior"]

Array = Any


class Posterior(NamedTuple):
    """Gaussian posterior of the weights: its mean (d,), and the lower triangular L (d, d) of its precision
    `L L^T`."""

    mean: Array
    precision_factor: Array

    def variance(self, Phi: Array) -> Array:
        """Of the function at the columns of Phi (d, m), without noise: (m,)."""
        return library(Phi).xp.sum(trsm(self.precision_factor, Phi) ** 2, axis=0)


def least_squares(Phi: Array, y: Array, *, check: bool = True) -> Array:
    """`argmin_w |Phi^T w - y|` for Phi (d, n) of full row rank and y (n,): (d,). Cost: 4 d^2 n flops.

    `check`: a rank that is deficient to rounding is an error.
    """
    Q, L = gelqf(Phi, check=check)
    return trsm(L, Q @ y[:, None], transpose=True)[:, 0]


def _augmented(Phi: Array, y: Array, theta: Array) -> tuple[Array, Array]:
    """`[sqrt(beta) Phi, sqrt(alpha) I]` and `[sqrt(beta) y; 0]` as a column; theta = log (alpha, beta)."""
    bk = library(Phi, y, theta)
    d, device = Phi.shape[0], bk.device(Phi)
    root = bk.xp.exp(0.5 * theta)
    design = bk.xp.concat([root[1] * Phi, root[0] * bk.eye(d, Phi.dtype, device)], axis=1)
    target = bk.xp.concat([root[1] * y, bk.zeros((d,), y.dtype, device)], axis=0)
    return design, target[:, None]


def posterior(Phi: Array, y: Array, theta: Array, *, check: bool = True) -> Posterior:
    """Of the weights given Phi (d, n), y (n,) and theta = log (alpha, beta), the precisions of weights and
    noise.

    `check`: a prior too weak for the precision is an error.
    """
    design, target = _augmented(Phi, y, theta)
    Q, L = gelqf(design, check=check)
    return Posterior(trsm(L, Q @ target, transpose=True)[:, 0], L)


def evidence(Phi: Array, y: Array, theta: Array, *, check: bool = True) -> Array:
    """`log p(y | alpha, beta)` = `log N(y | 0, I/beta + Phi^T Phi / alpha)`.

    `|r|^2 / 2` with the residual r of the augmented problem, not `|y|^2 - |Q y|^2`, which cancels. `check` as
    in `posterior`.
    """
    d, n = Phi.shape
    design, target = _augmented(Phi, y, theta)
    Q, L = gelqf(design, check=check)
    residual = target - Q.mT @ (Q @ target)
    gain = 0.5 * (d * theta[0] + n * theta[1]) - 0.5 * n * math.log(2 * math.pi)
    return gain - sumlogdiag(L) - 0.5 * library(Phi, y, theta).xp.sum(residual**2)


def main() -> int:
    bk = best_backend()
    name, X, y = diabetes()
    train = np.arange(len(y)) % 3 > 0
    known = bk.asarray(np.ascontiguousarray(X[train].T)), bk.asarray(y[train])
    theta = bk.asarray(fit(lambda t: -evidence(*known, t), bk.asarray(np.zeros(2))))
    weights = bk.to_numpy(posterior(*known, theta).mean)
    plain = bk.to_numpy(least_squares(*known))
    print(f"{name} ({bk.name}): {train.sum()} rows, {X.shape[1]} features")
    alpha, beta = np.exp(bk.to_numpy(theta))
    print(f"  log evidence {float(evidence(*known, theta)):.2f} at alpha {alpha:.3f}, beta {beta:.3f}")
    for what, w in (("posterior mean", weights), ("least squares", plain)):
        error = np.sqrt(np.mean((X[~train] @ w - y[~train]) ** 2))
        print(f"  error of the {what:14s} {error:.4f} standard deviations of y, |w| {np.linalg.norm(w):.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

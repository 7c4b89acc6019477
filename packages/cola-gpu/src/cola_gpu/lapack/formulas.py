"""Derivatives of the dense factorisations, written once for NumPy, PyTorch and JAX.

Every function here takes a backend `bk` (its array namespace `bk.xp` and `bk.solve_triangular`) and arrays of
that backend, uses differentiable array operations only, and batches over leading axes. A *pushforward* maps a
perturbation of the input to one of the outputs; a *pullback* is its adjoint: it maps output cotangents
(written `Xbar`) to the cotangent of the input. Of LQ, JAX is given the pushforward and
transposes it, PyTorch both; NumPy users call the pullbacks. Because they are made of differentiable
operations, differentiating them again gives second derivatives.

Notation: `tril` keeps the lower triangle; `copyltu(X)` mirrors the lower triangle of X into the upper one;
`phi(X) = tril(X) - diag(X)/2`; `<X, Y> = tr(X^T Y)`.

The values of `potrf` and `syevd`, and their derivatives in PyTorch and JAX, are the core's
(`Backend.cholesky`, `Backend.eigh`); their pullbacks here are the explicit adjoints for everybody.

Source: Seeger, Hetzel, Dai, Meissner, Lawrence, "Auto-Differentiating Linear Algebra", arXiv:1710.08717 (the
LQ pullback, and the names); Murray, arXiv:1602.07527 (Cholesky); Giles, "Collected matrix derivative
results", 2008 (symmetric eigenproblem). The derivations are repeated below because the formulas are short and
the signs are not obvious.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "copyltu",
    "eigengap_quotients",
    "gelqf_pullback",
    "gelqf_pushforward",
    "potrf_pullback",
    "potri_pullback",
    "syevd_pullback",
    "syevd_skipped",
    "syevd_uneven",
    "transpose",
    "trmm_pullback",
    "trsm_pullback",
]

Array = Any


def transpose(X: Array) -> Array:
    """Swap the last two axes."""
    return X.mT  # not xp.matrix_transpose: torch has no batching rule for its swapaxes


def copyltu(bk: Any, X: Array) -> Array:
    """The symmetric matrix with the lower triangle of X: `[copyltu(X)]_ij = X[max(i, j), min(i, j)]`."""
    xp = bk.xp
    return xp.tril(X) + transpose(xp.tril(X, k=-1))


def _sym(bk: Any, X: Array) -> Array:
    return 0.5 * (X + transpose(X))


def _solve_lower_t(bk: Any, L: Array, B: Array) -> Array:
    """`L^{-T} B` for a lower triangular L."""
    return bk.solve_triangular(transpose(L), B, lower=False)


# --- LQ ----------------------------------------


def gelqf_pushforward(bk: Any, Q: Array, L: Array, dA: Array) -> tuple[Array, Array]:
    """Perturbations `(dQ, dL)` of `A = L Q` for a perturbation dA, shapes (*, m, n) and (*, m, m), m <= n.

    From `dA = dL Q + L dQ` put `W = L^{-1} dA` and `C = W Q^T = L^{-1} dL + dQ Q^T`. The first term, S, is
    lower triangular; the second is antisymmetric because `Q Q^T = I`. Hence `C + C^T = S + S^T`, so `S =
    tril(C) + tril(C^T, -1)`, and `dL = L S`, `dQ = W - S Q`. Cost: one triangular solve and three products,
    O(m^2 n).
    """
    xp = bk.xp
    W = bk.solve_triangular(L, dA, lower=True)
    C = xp.matmul(W, transpose(Q))
    S = xp.tril(C) + xp.tril(transpose(C), k=-1)
    return W - xp.matmul(S, Q), xp.tril(xp.matmul(L, S))


def gelqf_pullback(bk: Any, Q: Array, L: Array, Qbar: Array, Lbar: Array) -> Array:
    """`Abar = L^{-T} (Qbar + copyltu(M) Q)` with `M = L^T Lbar - Qbar Q^T`.

    The pushforward's `<Lbar, L S> + <Qbar, W - S Q>` is `<M, S> + <Qbar, W>`, and with S from C above `<M, S>
    = <copyltu(M), C> = <copyltu(M) Q, W>`; finally `W = L^{-1} dA`. Only the lower triangle of Lbar enters.
    """
    xp = bk.xp
    M = xp.matmul(transpose(L), xp.tril(Lbar)) - xp.matmul(Qbar, transpose(Q))
    return _solve_lower_t(bk, L, Qbar + xp.matmul(copyltu(bk, M), Q))


# --- Cholesky ----------------------------------------


def potrf_pullback(bk: Any, L: Array, Lbar: Array) -> Array:
    """`Abar = 1/2 L^{-T} copyltu(L^T Lbar) L^{-1}`, symmetric.

    From `dA = dL L^T + L dL^T`: `X = L^{-1} dA L^{-T} = S + S^T` with `S = L^{-1} dL` lower triangular, so
    `S = phi(X)` and `dL = L phi(X)`. Hence `<Lbar, L phi(X)> = <phi(L^T Lbar), X> = <copyltu(L^T Lbar) / 2,
    X>` because X is symmetric. Only the lower triangle of Lbar enters, whatever stands in the other one.
    Cost: one product and two triangular solves, about the forward's own.
    """
    M = copyltu(bk, bk.xp.matmul(transpose(L), bk.xp.tril(Lbar)))
    Y = _solve_lower_t(bk, L, M)  # L^{-T} M
    # (L^{-T} (L^{-T} M)^T)^T, symmetric up to rounding
    return 0.5 * _sym(bk, _solve_lower_t(bk, L, transpose(Y)))


def potri_pullback(bk: Any, L: Array, X: Array, Xbar: Array) -> Array:
    """`Lbar = -tril(X (Xbar + Xbar^T) L^{-T})` for `X = (L L^T)^{-1}`.

    `dX = -X (dL L^T + L dL^T) X`, so `<Xbar, dX> = -<X (Xbar + Xbar^T) X L, dL>`, and `X L = L^{-T}`.
    """
    S = Xbar + transpose(Xbar)
    # S L^{-T} = (L^{-1} S)^T
    return -bk.xp.tril(bk.xp.matmul(X, transpose(bk.solve_triangular(bk.xp.tril(L), S, lower=True))))


# --- triangular product and solve ----------------------------------------


def trmm_pullback(
    bk: Any, A: Array, B: Array, Ybar: Array, *, transposed: bool, lower: bool, alpha: float
) -> tuple[Array, Array]:
    """Cotangents `(Abar, Bbar)` of `Y = alpha op(A) B`, A triangular: `op(A)bar = alpha Ybar B^T`, of which
    the stored triangle is kept, and `Bbar = alpha op(A)^T Ybar`."""
    xp = bk.xp
    T = xp.tril(A) if lower else xp.triu(A)
    Bbar = alpha * xp.matmul(T if transposed else transpose(T), Ybar)
    Abar = alpha * (xp.matmul(B, transpose(Ybar)) if transposed else xp.matmul(Ybar, transpose(B)))
    return (xp.tril(Abar) if lower else xp.triu(Abar)), Bbar


def trsm_pullback(
    bk: Any, A: Array, X: Array, Xbar: Array, *, transposed: bool, lower: bool, alpha: float
) -> tuple[Array, Array]:
    """Cotangents `(Abar, Bbar)` of `X = alpha op(A)^{-1} B`, A triangular.

    `op(A) dX = alpha dB - op(dA) X`, so with `G = op(A)^{-T} Xbar`: `Bbar = alpha G` and `op(A)bar = -G X^T`,
    of which only the stored triangle is kept.
    """
    xp = bk.xp
    op_a = A if transposed else transpose(A)  # this is op(A)^T
    G = bk.solve_triangular(op_a, Xbar, lower=lower if transposed else not lower)
    Abar = -xp.matmul(X, transpose(G)) if transposed else -xp.matmul(G, transpose(X))
    return (xp.tril(Abar) if lower else xp.triu(Abar)), alpha * G


# --- symmetric eigenproblem ----------------------------------------


def eigengap_quotients(bk: Any, lam: Array, gap_tol: float | None = None) -> Array:
    """`E_ij = 1 / (lam_i - lam_j)`, and exactly 0 on the diagonal and for tied pairs; shape (*, n, n).

    Which pairs are tied: `Backend.tied`, the rule of all derivatives of eigenvectors here. Below that gap the
    computed eigenvectors of a pair are an arbitrary rotation of each other.
    """
    xp = bk.xp
    diff = lam[..., :, None] - lam[..., None, :]
    tied = bk.tied(lam, gap_tol)
    # two `where`: the quotient must be finite on the discarded side too, or its derivative is NaN
    return xp.where(tied, xp.zeros_like(diff), 1.0 / xp.where(tied, xp.ones_like(diff), diff))


def syevd_pullback(
    bk: Any, U: Array, lam: Array, Ubar: Array, lambar: Array, gap_tol: float | None = None
) -> Array:
    """`Abar = U^T (Y + diag(lambar)) U`, `Y_ij = (X_ij - X_ji) / (2 (lam_i - lam_j))`, `X = Ubar U^T`;
    symmetric.

    Tied pairs get `Y_ij = 0`. That is exact for a loss that depends on a group of tied eigenvectors only
    through their span (for such a loss `X_ij = X_ji`); for any other loss the derivative does not exist
    there, see `syevd_skipped`.
    """
    xp = bk.xp
    X = xp.matmul(Ubar, transpose(U))
    Y = 0.5 * eigengap_quotients(bk, lam, gap_tol) * (X - transpose(X))
    inner = Y + bk.matrix_diag(lambar)
    return _sym(bk, xp.matmul(xp.matmul(transpose(U), inner), U))


def syevd_skipped(bk: Any, U: Array, lam: Array, Ubar: Array, gap_tol: float | None = None) -> Array:
    """Largest `|X_ij - X_ji|`, `X = Ubar U^T`, over the tied pairs that the pullback leaves out; shape (*,).

    About rounding level: the loss does not see the arbitrary basis of the tied eigenvectors and the pullback
    is exact. Anything else: the loss depends on that basis and has no derivative at this matrix.
    """
    xp = bk.xp
    X = xp.matmul(Ubar, transpose(U))
    kept = eigengap_quotients(bk, lam, gap_tol) != 0
    numerators = xp.abs(X - transpose(X))
    return xp.max(xp.max(xp.where(kept, xp.zeros_like(numerators), numerators), axis=-1), axis=-1)


def syevd_uneven(bk: Any, lam: Array, lambar: Array, gap_tol: float | None = None) -> Array:
    """Whether the cotangents of tied eigenvalues differ by more than rounding may, (*,): a function of each
    eigenvalue with the vectors of a group, `U^T f(lam) U`, whose derivative the cotangents do not tell."""
    xp = bk.xp
    size = xp.max(xp.abs(lambar), axis=-1)[..., None, None]
    apart = xp.abs(lambar[..., :, None] - lambar[..., None, :]) > float(xp.finfo(lam.dtype).eps) ** 0.5 * size
    return xp.any(xp.any(apart & bk.tied(lam, gap_tol), axis=-1), axis=-1)

r"""Nystrom's approximation of a kernel from inducing points ``Z (m, d)``:

.. math:: q(x, x') = k(x, Z) (k(Z, Z) + \delta I)^{-1} k(Z, x')

(Williams & Seeger 2001), of rank m. As a prior of its own this is the "subset of regressors"
(Quinonero-Candela & Rasmussen 2005, section 4): likelihood and predictions cost O(n m^2), but far from Z
it is certain of the mean. :class:`~cola_gp.kernels.Inducing` keeps the variance of the exact kernel there
and is what to fit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import NonFiniteError, NotPositiveDefiniteError, ShapeError

from .._struct import Struct, set_fields, static, struct
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, follow, points, xp_of
from .compose import _check_kernels
from .derivatives import evaluate_with_points, point_gradient
from .simple import White


def default_nugget(X: Array) -> float:
    """Relative nugget of the inducing points: 1e-8, or a hundred roundings of a shorter dtype."""
    return max(1e-8, 100.0 * float(xp_of(X).finfo(X.dtype).eps))


def contains(tree: Any, kind: type) -> bool:
    """Whether a struct of class ``kind`` occurs in a tree."""
    if isinstance(tree, kind):
        return True
    if isinstance(tree, tuple):
        return any(contains(item, kind) for item in tree)
    return isinstance(tree, Struct) and any(contains(getattr(tree, f), kind) for f in tree._child_fields)


def checked_inducing(owner: str, kernel: Any, inducing: Any) -> Array:
    """The inducing points as an ``(m, d)`` array, after the checks of a constructor."""
    _check_kernels(owner, (kernel,))
    if contains(kernel, White):
        raise ValueError(
            f"{owner}: white noise does not pass through inducing points; leave White out of the kernel and "
            "use the noise of the model."
        )
    if backend_of(inducing) is None:
        inducing = np.asarray(inducing, dtype=float)
    if inducing.ndim == 1:
        inducing = inducing[:, None]
    if inducing.ndim != 2 or inducing.shape[0] == 0:
        raise ShapeError(f"{owner} needs inducing points of shape (m, d), not {tuple(inducing.shape)}.")
    backend = backend_for(inducing)
    if backend.is_concrete(inducing) and not backend.all_finite(inducing):
        raise NonFiniteError(f"{owner}: inducing points must be finite.")
    return inducing


class NystromFactor:
    """``U = k(X, Z) L^{-T}`` with ``L L^T = k(Z, Z) + nugget``, and its pullbacks.

    The nugget is part of the approximation: it is the variance of noise on the inducing values, so the
    approximation only gets smaller by it, and bounds stay bounds.  Raises NotPositiveDefiniteError.
    """

    def __init__(self, kernel: Kernel, Z: Array, nugget: float | None, fixed: bool):
        self.kernel, self.Z, self.fixed = kernel, Z, fixed
        self.backend = backend = backend_for(Z)
        xp = backend.xp
        K, self._pull_zz = kernel.evaluate(Z, Z)
        self.relative = default_nugget(Z) if nugget is None else nugget
        self.m = int(Z.shape[0])
        scale = xp.sum(xp.linalg.diagonal(K)) / self.m
        self.nugget = self.relative * scale
        eye = backend.eye(self.m, K.dtype, backend.device(K))
        try:
            self.L = backend.cholesky(K + self.nugget * eye)
        except NotPositiveDefiniteError as error:
            raise NotPositiveDefiniteError(
                f"the {self.m}x{self.m} covariance of the inducing points is not positive definite with the "
                f"relative nugget {self.relative:.1g}; use fewer points, or a larger nugget."
            ) from error

    def features(self, X: Array) -> Array:
        """``U (n, m)``."""
        return self.backend.solve_triangular(self.L, self.kernel(X, self.Z).T).T

    def evaluate(self, X: Array) -> tuple[Array, Any]:
        """``U`` and its pullback: derivatives of ``sum(G * U)`` for the kernel's leaves and for Z."""
        backend, L = self.backend, self.L
        xp = backend.xp
        back: Any
        if self.fixed:
            K, back = self.kernel.evaluate(X, self.Z)
        else:
            K, back = evaluate_with_points(self.kernel, X, self.Z)
        U = backend.solve_triangular(L, K.T).T

        def pull(G: Array) -> tuple[Array, ...]:
            eye = backend.eye(self.m, L.dtype, backend.device(L))
            B = G @ backend.solve_triangular(L, eye)  # cotangent of k(X, Z), by the faster product
            # cotangent of L is -tril(B^T U); then the reverse of Cholesky (Murray 2016, eq. 10)
            P = L.T @ (-xp.tril(B.T @ U))
            P = xp.tril(P) - 0.5 * backend.matrix_diag(xp.linalg.diagonal(P))
            half = backend.solve_triangular(L.T, P + P.T, lower=False)
            A = 0.5 * backend.solve_triangular(L.T, half.T, lower=False)
            A = 0.5 * (A + A.T)
            # the nugget is relative to the mean of the diagonal of k(Z, Z)
            extra = xp.sum(xp.linalg.diagonal(A)) * (self.relative / self.m)
            A = A + extra * eye
            by_points = xp.zeros_like(self.Z)
            if self.fixed:
                crossed = back(B)
            else:
                crossed, by_points = back(B)
                by_points = by_points + 2.0 * point_gradient(self.kernel, self.Z, self.Z, A)
            return (*(a + b for a, b in zip(crossed, self._pull_zz(A), strict=True)), by_points)

        return U, pull


class OnPoints(Kernel):
    """Base of kernels made from a kernel and inducing points, of which ``fixed`` ones are not fitted."""

    kernel: Kernel
    inducing: Array
    fixed: bool
    nugget: float | None

    @property
    def _data_fields(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("inducing",) if self.fixed else ()

    def factor(self, X: Array) -> NystromFactor:
        """The factorised covariance of the inducing points, in the library and dtype of ``X (n, d)``."""
        points(X)
        Z = follow(self.inducing, X)
        if Z.shape[1] != X.shape[1]:
            raise ShapeError(
                f"{type(self).__name__} has inducing points of shape {tuple(Z.shape)} but the points have "
                f"shape {tuple(X.shape)}; their dimensions must agree."
            )
        return NystromFactor(self.kernel, Z, self.nugget, self.fixed)


def checked_nugget(owner: str, nugget: float | None) -> float | None:
    """A relative nugget: None, or a number that is not negative."""
    if nugget is None:
        return None
    if not (isinstance(nugget, (int, float)) and math.isfinite(nugget) and nugget >= 0):
        raise ValueError(f"{owner}: nugget must be a number >= 0 relative to the variance, not {nugget!r}.")
    return float(nugget)


@struct
class Nystrom(OnPoints):
    """Rank-m approximation of ``kernel`` from inducing points ``(m, d)``; see the module docstring.

    fixed: leave the points where they are in a fit, where their derivative is reported as zero (the
    default: as a model, this kernel overfits when its points move). nugget: relative to the variance;
    default 1e-8, or a hundred roundings of a shorter dtype.
    """

    kernel: Kernel
    inducing: Array
    fixed: bool = static(default=True)
    nugget: float | None = static(default=None)

    def __init__(self, kernel: Kernel, inducing: Any, fixed: bool = True, nugget: float | None = None):
        set_fields(
            self,
            kernel=kernel,
            inducing=checked_inducing("Nystrom", kernel, inducing),
            fixed=bool(fixed),
            nugget=checked_nugget("Nystrom", nugget),
        )

    def feature_count(self, d: int) -> int:
        return int(self.inducing.shape[0])

    def features(self, X: Array) -> tuple[Array, Pullback]:
        return self.factor(X).evaluate(X)

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        factor = self.factor(X1)
        U1, pull1 = factor.evaluate(X1)
        if X2 is None:
            return U1 @ U1.T, lambda W: pull1((W + W.T) @ U1)
        U2, pull2 = factor.evaluate(points(X2))

        def pull(W: Array) -> tuple[Array, ...]:
            left, right = pull1(W @ U2), pull2(W.T @ U1)
            return tuple(a + b for a, b in zip(left, right, strict=True))

        return U1 @ U2.T, pull

    def diag(self, X: Array) -> Array:
        U = self.factor(X).features(X)
        return xp_of(X).sum(U * U, axis=1)

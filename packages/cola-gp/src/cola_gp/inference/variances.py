r"""Latent variances at test points from products with the covariance: which way, and how far off it is.

``k(x, x) - k_x^T A^{-1} k_x`` is known exactly only by solving a system for every test point.  Two ways are
cheaper: the cached inverse root of the Lanczos run (:mod:`~cola_gp.inference.inverse_root`), near exact where
the run has found all there is, and of no use where much is left; and conditioning on parts of the targets
(:mod:`~cola_gp.inference.nearest`), an upper bound everywhere.  For a few of the test points systems are
solved, which measures the error of any of them, and the first way in the order of cost that is good enough is
taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cola_core.algorithms import Tridiagonal
from cola_core.errors import ConvergenceWarning
from cola_core.info import Info

from ..arrays import backend_for
from ..kernels.base import Array
from .base import blocks
from .inverse_root import CHECKS, InverseRoot, solved_forms
from .nearest import Nearest
from .whitening import Whitening

SOLVED = "a system for every test point"
ROOT = "a cached inverse root"
WAYS = ("auto", "solve", "root", "bound")
EXACT = 64  # test points for whose variances systems are solved
AFFORDABLE = 2.5e12  # flops for which they are solved for more, where nothing cheaper is good enough
SCREENED = 256  # test points at which the root is held against a bound
NEIGHBOURS = (128, 256, 512)
DIRECTIONS = 300  # products with the covariance that are made for sharper bounds: some ten steps of the run


@dataclass(frozen=True)
class Way:
    """A way to variances.  words: what it is; variance: from ``X (m, d)`` to ``(m,)``; error: root mean
    square of what it was off by at the test points of which the exact variances were known; excess: by how
    much it was too large there, relative to their mean."""

    words: str
    variance: Callable[[Array], Array]
    error: float
    excess: float


class Variances:
    """Variances of the latent function given products with ``A = K + D``.

    white, B: the preconditioner and A in its coordinates; run: of Lanczos, for the cached root; alg: an
    ``IterativeInference``.  Arrays have the library and dtype of ``points (n, d)``.
    """

    def __init__(
        self,
        kernel: Any,
        points: Array,
        A: Any,
        B: Any,
        white: Whitening,
        run: Tridiagonal,
        alg: Any,
    ):
        self.kernel, self.points, self.A, self.B = kernel, points, A, B
        self.white, self.run, self.alg = white, run, alg
        self.steps = run.alpha.shape[0]
        self.backend: Any = backend_for(points)
        self._way: Way | None = None

    def at(self, X: Array) -> tuple[Array, Info]:
        """Variances ``(m,)`` at ``X (m, d)``, not clipped at zero, and how they were found, with an absolute
        ``error_estimate``."""
        m, asked = X.shape[0], self.alg.variance
        concrete = self.backend.is_concrete(X, self.points)
        if asked == "solve" or (asked == "auto" and m <= EXACT) or m == 0 or not concrete:
            return self._solved(X)
        fresh = self._way is None
        way = self._way or self._choose(X)
        found = self._by(way, X)
        if not fresh and not self._enough(way.error, found):
            # measured at other points, where variances may be larger
            way = self._choose(X)
            found = self._by(way, X)
        enough = self._enough(way.error, found)
        if not enough and asked == "auto" and self.steps * float(self.points.shape[0]) ** 2 * m <= AFFORDABLE:
            return self._solved(X)
        return found, self._told(way, found, enough)

    def _told(self, way: Way, found: Array, enough: bool) -> Info:
        size = self.backend.number(self.backend.xp.mean(found))
        reason = "converged" if enough else f"an error of {way.error:.2g} beside a mean of {size:.3g}"
        info = Info(way.words, enough, reason, error_estimate=way.error)
        if enough:
            return info
        large = f", {100 * way.excess:.2g} % too large on average" if way.excess > 0 else ""
        remedy = "max_iters of IterativeInference, or the noise where it is as small as rounding"
        if way.words != SOLVED:
            remedy = (
                "the rank of IterativeInference, or solve for every test point: variance='solve', or at "
                f"most {EXACT} of them at a time"
            )
        warnings.warn(
            f"prediction: variances miss those of exact solves by about {way.error:.2g}{large}, their mean "
            f"is {size:.3g} (from {way.words}). Raise {remedy}.",
            ConvergenceWarning,
            stacklevel=5,
        )
        return info

    def _enough(self, error: float, variances: Array) -> bool:
        return error <= self._allowed(variances)

    def _allowed(self, variances: Array) -> float:
        """A part of the mean of the variances, or of the noise of what is predicted."""
        xp, number = self.backend.xp, self.backend.number
        size = number(xp.mean(variances)) + 0.1 * number(xp.mean(self.white.d))
        return float(self.alg.variance_tol * size)

    def _by(self, way: Way, X: Array) -> Array:
        parts = blocks(X.shape[0], self.points.shape[0])
        return self.backend.xp.concat([way.variance(X[part]) for part in parts])

    # -- the choice -------------------------------------------------------------------------------------
    def _choose(self, X: Array) -> Way:
        """The first way that is good enough at some of the points ``X``, else the best."""
        xp, number, alg = self.backend.xp, self.backend.number, self.alg
        some = X[:: -(-X.shape[0] // CHECKS)]
        G = self._whitened_cross(some)
        size = number(xp.max(xp.sum(G * G, axis=0)))
        # a relative residual t leaves at most t^2 |g|^2: a small part of what is allowed beside the noise
        least = 0.005 * min(alg.variance_tol, 0.1) * number(xp.mean(self.white.d))
        tol = max(alg.solve_tol, min(0.1, (least / size) ** 0.5 if size > 0 else 0.1))
        prior = self.kernel.cross_diag(some)
        forms, left = solved_forms(self.B, G, tol, alg.max_iters)
        exact, doubt = prior - forms, max(tol, number(xp.max(left))) ** 2 * size
        doubt = doubt + number(xp.max(self._rounding(some, G)))
        allowed, mean = self._allowed(exact), number(xp.mean(exact))
        tried: list[Way] = []
        for words, variance, part in self._ways(G, exact, prior):
            off = variance(some) - exact
            error = number(xp.sqrt(xp.mean(off * off))) + doubt
            if words == ROOT:
                error = max(error, self._above(variance, X))
            excess = number(xp.mean(off)) / mean if mean > 0 else 0.0
            tried.append(Way(words, variance, error, excess))
            if error <= part * allowed:
                break
        best = self._way = min(tried, key=lambda way: way.error)
        if best.words != ROOT:
            self.__dict__.pop("root", None)
        return best

    def _ways(
        self, G: Array, exact: Array, prior: Array
    ) -> Iterator[tuple[str, Callable[[Array], Array], float]]:
        """Names, functions, and which part of the error that is allowed is wanted to look no further."""
        asked, n = self.alg.variance, self.points.shape[0]
        near = self._nearest()
        if asked != "root":
            # needs nothing that is cached; but the root may be far better than asked for, at the same cost
            yield near.words, near.variance, 0.2 if asked == "auto" else 1.0
        if asked != "bound":
            yield ROOT, self._by_root(G, exact, prior), 1.0
        if asked == "root":
            return
        sharper = near.among(NEIGHBOURS[1])
        yield sharper.words, sharper.variance, 1.0
        most = min(self.white.U.shape[1], n // 4)
        for count in (min(DIRECTIONS, most), most):
            if count > DIRECTIONS and count * float(n) ** 2 > AFFORDABLE:
                return
            near = near.with_directions(self.A, self.white, count)
            for neighbours in NEIGHBOURS[1:]:
                sharper = near.among(neighbours)
                yield sharper.words, sharper.variance, 1.0
            if count == most:
                return

    def _nearest(self) -> Nearest:
        n = self.points.shape[0]
        return Nearest(self.kernel, self.points, self.white.d, min(NEIGHBOURS[0], n))

    def _above(self, variance: Callable[[Array], Array], X: Array) -> float:
        """By how much variances are above an upper bound: what the root misses is often all at few points,
        which those that are solved for need not meet."""
        xp = self.backend.xp
        some = X[:: -(-X.shape[0] // SCREENED)]
        above = xp.clip(variance(some) - self._nearest().variance(some), 0.0, None)
        return float(self.backend.number(xp.sqrt(xp.mean(above * above))))

    def _by_root(self, G: Array, exact: Array, prior: Array) -> Callable[[Array], Array]:
        """By the root, and by a share of its remainder that a few test points have told."""
        root, kernel = self.root, self.kernel
        share = root.share(G, prior - exact)

        def variance(X: Array) -> Array:
            near, outside = root.split(self._whitened_cross(X))
            return kernel.cross_diag(X) - near + share * outside

        return variance

    @cached_property
    def root(self) -> InverseRoot:
        """The cached inverse root of the run."""
        return InverseRoot.of(self.B, self.run)

    # -- exact ------------------------------------------------------------------------------------------
    def _whitened_cross(self, X: Array) -> Array:
        return self.white.half.T @ self.kernel(self.points, X)

    def _rounding(self, X: Array, G: Array) -> Array:
        """What rounding may leave in the forms of ``G (n, b)``, the whitened cross covariances at ``X``.

        Where the noise is very small it is far more than what a solve that ends early leaves: what is divided
        by the root of the noise in G has its errors.  The factor was measured.
        """
        xp = self.backend.xp
        cross = self.kernel(self.points, X)
        size = xp.sum(cross * cross, axis=0) * xp.sum(G * G, axis=0) / xp.min(self.white.d)
        return 16.0 * float(xp.finfo(G.dtype).eps) * xp.sqrt(size)

    def _solved(self, X: Array) -> tuple[Array, Info]:
        alg, number, xp = self.alg, self.backend.number, self.backend.xp
        found, errors = [], []
        for i in range(0, max(X.shape[0], 1), EXACT):
            x = X[i : i + EXACT]
            G = self._whitened_cross(x)
            forms, left = solved_forms(self.B, G, alg.solve_tol, alg.max_iters)
            found.append(self.kernel.cross_diag(x) - forms)
            errors.append(left**2 * xp.sum(G * G, axis=0) + self._rounding(x, G))
        out = xp.concat(found)
        if not self.backend.is_concrete(out) or 0 in out.shape:
            return out, Info(SOLVED, tolerance=alg.solve_tol)
        error = number(xp.max(xp.concat(errors)))
        return out, self._told(Way(SOLVED, self._solved, error, 0.0), out, self._enough(error, out))

r"""Upper bounds of latent variances: conditioning on the nearest observations and on a few directions of all.

The best linear prediction of ``f(x)`` from any functionals of the targets has a variance that is never below
the one from all targets.  Here these are, for every test point,

* ``q`` directions ``s = L^T y``, the same for all test points: the main ones of the preconditioner, ``L = S
  U``, which carry what is smooth.  With ``A = K + D`` and L scaled so that ``L^T A L = I``, products ``M = A
  L`` made once give all that conditioning on them takes;
* the ``m`` observations that by themselves explain most of ``f(x)``, ``k(x, x_i)^2 / A_ii``, which carry
  what is local.  What is left of their covariance after s is ``A_NN - M_N M_N^T``, factorised anew for
  every test point.

Either alone is tight in one regime and useless in the other (short and long lengthscales); together they
overlap.  (Nearest neighbours: Vecchia, JRSS B 50 (1988) 297; low rank plus local: Sang & Huang, JRSS B 74
(2012) 111; both there as approximations of the likelihood.)

Cost of a test point: ``n (d + 2 q)`` for its covariances and ``2 m^2 q + m^3 / 3`` flops for its system; of
the directions, once, ``q`` products with A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core.errors import NotPositiveDefiniteError

from ..arrays import backend_for
from ..kernels.base import Array
from .base import CHUNK_BYTES
from .whitening import Whitening


@dataclass(frozen=True)
class Nearest:
    """See the module docstring.

    points ``(n, d)``, noise ``(n,)``: the diagonal beside ``kernel``; directions ``L (n, q)`` and their
    images ``M (n, q)``, or None; neighbours: ``m``.
    """

    kernel: Any
    points: Array
    noise: Array
    neighbours: int
    directions: Array | None = None
    images: Array | None = None

    def with_directions(self, A: Any, white: Whitening, count: int) -> Nearest:
        """The same with at most ``count`` directions of the preconditioner; ``count`` products with ``A``."""
        backend = backend_for(self.points)
        xp = backend.xp
        count = min(count, white.U.shape[1])
        if count == 0:
            return self
        L = white.scale[:, None] * white.U[:, white.U.shape[1] - count :]  # by growing part of the spectrum
        M = A @ L
        H = L.T @ M
        values, vectors = backend.eigh(0.5 * (H + H.T))
        eps = float(xp.finfo(values.dtype).eps)
        kept = values > 1e3 * eps * values[-1]
        scale = xp.where(kept, 1.0 / xp.sqrt(xp.where(kept, values, xp.ones_like(values))), 0.0 * values)
        turn = vectors * scale
        return Nearest(self.kernel, self.points, self.noise, self.neighbours, L @ turn, M @ turn)

    def among(self, neighbours: int) -> Nearest:
        """The same with another number of neighbours."""
        n = self.points.shape[0]
        return Nearest(self.kernel, self.points, self.noise, min(neighbours, n), self.directions, self.images)

    @property
    def words(self) -> str:
        """What the targets were reduced to."""
        q = 0 if self.directions is None else self.directions.shape[1]
        return f"the {self.neighbours} nearest observations" + (f" and {q} directions" if q else "")

    def variance(self, X: Array) -> Array:
        """Upper bounds ``(b,)`` of the latent variances at ``X (b, d)``, up to rounding; in blocks."""
        xp = backend_for(X).xp
        n, m = self.points.shape[0], self.neighbours
        q = 0 if self.directions is None else self.directions.shape[1]
        size = max(1, CHUNK_BYTES // (8 * max(n, 3 * m * m, m * q)))
        parts = [self._block(X[i : i + size]) for i in range(0, X.shape[0], size)]
        return xp.concat(parts) if parts else self.kernel.cross_diag(X)

    def _block(self, X: Array) -> Array:
        backend = backend_for(X)
        xp = backend.xp
        cross = self.kernel(X, self.points)
        index = self._nearest(cross)
        prior = self.kernel.cross_diag(X)
        rows = index + cross.shape[1] * xp.arange(X.shape[0], device=backend.device(X))[:, None]
        b = xp.reshape(cross, (-1,))[rows]  # (b, m)
        R = self._covariances(index)
        noise = self.noise[index]
        if self.directions is not None and self.images is not None:
            c = cross @ self.directions
            M = self.images[index]  # (b, m, q)
            R = R - M @ xp.permute_dims(M, (0, 2, 1))
            b = b - (M @ c[:, :, None])[:, :, 0]
            prior = prior - xp.vecdot(c, c)
        whitened = self._whitened(R, noise, b)
        return prior - xp.vecdot(whitened, whitened)

    def _nearest(self, cross: Array) -> Array:
        """Numbers ``(b, m)`` of the observations that explain most, of covariances ``(b, n)``."""
        backend = backend_for(cross)
        known = backend.to_numpy(backend.constant(self._own))
        share = backend.to_numpy(backend.constant(cross)) ** 2 / known
        n, m = share.shape[1], self.neighbours
        if m >= n:
            chosen = np.broadcast_to(np.arange(n), share.shape)
        else:
            chosen = np.argpartition(share, n - m, axis=1)[:, n - m :]
        return backend.asarray(np.ascontiguousarray(chosen), device=backend.device(cross))

    @property
    def _own(self) -> Array:
        return self.kernel.cross_diag(self.points) + self.noise

    def _covariances(self, index: Array) -> Array:
        """``(b, m, m)``: of the latent function between the neighbours of every test point."""
        backend = backend_for(self.points)
        chosen = self.points[index]
        if backend.name == "jax":
            return backend.vmap(lambda P: self.kernel(P, P))(chosen)
        return backend.xp.stack([self.kernel(P, P) for P in chosen])

    def _whitened(self, R: Array, noise: Array, b: Array) -> Array:
        """``C^{-1} b`` with ``C C^T = R + noise`` for every test point.

        What rounding asks for on the diagonal explains less and keeps the result a bound.
        """
        backend = backend_for(R)
        xp = backend.xp
        eps = float(xp.finfo(R.dtype).eps)
        size = xp.mean(xp.linalg.diagonal(R) + noise, axis=1)[:, None]
        jitter = 100.0 * eps
        while True:
            try:
                C = backend.cholesky(R + backend.matrix_diag(noise + jitter * size))
                return backend.solve_triangular(C, b[:, :, None])[:, :, 0]
            except NotPositiveDefiniteError:
                # A bound for any of it, so only entries that are not finite end here.
                jitter *= 100.0
                if jitter > 1.0:
                    raise

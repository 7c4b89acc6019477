r"""Polynomial kernel ``(c + sum_d v_d x_d x'_d)^p``: Bayesian regression on all monomials up to degree
``p``.

Its features are the monomials of degree ``p`` in ``(sqrt(c), sqrt(v_1) x_1, ..., sqrt(v_d) x_d)``, weighted
by the roots of the multinomial coefficients (Rasmussen & Williams 2006, section 4.2.2, eq. 4.23); there
are ``binomial(d + p, p)``.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from .._struct import set_fields, static, struct
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, follow, full, pair, per_dimension, points, positive, xp_of


def _power(x: Array, p: int) -> Array:
    """``x**p`` by repeated squaring: libraries compute integer powers of floats through logarithms."""
    out = None
    while p:
        if p & 1:
            out = x if out is None else out * x
        p >>= 1
        x = x * x if p else x
    return out


@struct
class Polynomial(Kernel):
    """``(offset + sum_d variance_d x_d x'_d)^degree``.

    degree: a positive integer.  variance: one number or one per dimension.  offset: without it only
    monomials of degree ``degree`` itself would be there.  Raises ValueError for other degrees.
    """

    log_variance: Array
    log_offset: Array
    degree: int = static(default=2)

    def __init__(
        self,
        degree: int = 2,
        variance: Any = 1.0,
        offset: Any = 1.0,
        *,
        log_variance: Any = None,
        log_offset: Any = None,
    ):
        if isinstance(degree, bool) or int(degree) != degree or degree < 1:
            raise ValueError(f"degree must be a positive integer, not {degree!r}.")
        set_fields(
            self,
            log_variance=positive("variance", variance, log_variance),
            log_offset=positive("offset", offset, log_offset, max_ndim=0),
            degree=int(degree),
        )

    def _parameters(self, X: Array) -> tuple[Array, Array, bool]:
        xp = xp_of(X)
        variance = xp.exp(follow(self.log_variance, X))
        return variance, xp.exp(follow(self.log_offset, X)), per_dimension("variance", variance, X.shape[1])

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        variance, offset, ard = self._parameters(X1)
        base = (X1 * variance) @ X2.T + offset

        def pull(W: Array) -> tuple[Array, ...]:
            M = W if self.degree == 1 else W * (self.degree * _power(base, self.degree - 1))
            each = variance * xp.sum(X1 * (M @ X2), axis=0)
            return each if ard else xp.sum(each), offset * xp.sum(M)

        return _power(base, self.degree), pull

    def diag(self, X: Array) -> Array:
        variance, offset, _ = self._parameters(points(X))
        return _power(xp_of(X).sum(X * X * variance, axis=1) + offset, self.degree)

    def feature_count(self, d: int) -> int:
        return math.comb(d + self.degree, self.degree)

    def features(self, X: Array) -> tuple[Array, Pullback]:
        xp, backend = xp_of(points(X)), backend_for(X)
        n, d = X.shape
        log_variance = follow(self.log_variance, X)
        ard = per_dimension("variance", log_variance, d)
        root = xp.exp(0.5 * follow(self.log_offset, X))
        Z = xp.concat([full(X, root)[:, None], X * xp.exp(0.5 * log_variance)], axis=1)
        # One row of column numbers per monomial: column 0 is the offset, column j dimension j - 1.
        chosen = np.array(list(combinations_with_replacement(range(d + 1), self.degree)), dtype=int)
        exponents = np.stack([np.sum(chosen == j, axis=1) for j in range(d + 1)])
        ways = [
            math.factorial(self.degree) / math.prod(math.factorial(e) for e in column)
            for column in exponents.T
        ]
        device = backend.device(X)
        U = backend.asarray(np.sqrt(ways), dtype=X.dtype, device=device)[None, :]
        for k in range(self.degree):
            U = U * Z[:, backend.asarray(chosen[:, k], device=device)]
        powers = backend.asarray(exponents, dtype=X.dtype, device=device)

        def pull(G: Array) -> tuple[Array, ...]:
            each = 0.5 * (powers @ xp.sum(G * U, axis=0))
            return each[1:] if ard else xp.sum(each[1:]), each[0]

        return U, pull

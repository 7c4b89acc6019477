r"""Features of a whole kernel, exact where its rank is finite and random elsewhere: ``k(x, x') ~ phi(x)^T
phi(x')``.

The kernel is multiplied out into a sum of products of elementary kernels. In every product the stationary
factors have a spectral density each; a frequency of the product is the sum of one of each, and its sines
and cosines are multiplied by the exact features of the factors of finite rank. White noise has no part in
a function and is left out.

Frequencies come from shifted Sobol points: normal for RBF, Student's t for Matern, normal over a
Gamma-distributed scale for the rational quadratic (a mixture of RBF kernels, Rasmussen & Williams 2006,
eq. 4.20), multiples of the fundamental with weights ``exp(-1/l^2) I_k(1/l^2)`` for the periodic kernel,
and the mixture itself for SpectralMixture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from ..arrays import backend_for
from .base import Array, Kernel, follow, points, xp_of
from .compose import ActiveDims, Product, Scale, Sum
from .deep import Deep
from .inducing import Inducing
from .random_fourier import FREEDOM, shifted, uniforms, unit_frequencies
from .simple import Ones, White
from .spectral import SpectralMixture
from .stationary import RBF, Matern12, Matern32, Matern52, Periodic, RationalQuadratic

View = Callable[[Array], Array]
MAX_TERMS = 64  # products in a kernel that has been multiplied out


@singledispatch
def spectral_draw(kernel: Kernel, u: np.ndarray, d: int) -> np.ndarray:
    """Frequencies ``(r, d)`` in radians per unit from the spectral density of a stationary kernel, by uniform
    numbers ``u (r, d + 1)``.  Registered per class; NotImplementedError for others."""
    raise NotImplementedError(
        f"{type(kernel).__name__} has neither finite features nor a spectral density here, so functions "
        "cannot be drawn from it; draw at given points (method='covariance'), or register "
        "cola_gp.kernels.prior_features.spectral_draw for it."
    )


def _values(log: Any, d: int) -> np.ndarray:
    """A positive parameter as NumPy numbers, one per dimension."""
    return np.broadcast_to(np.exp(np.asarray(backend_for(log).to_numpy(log), dtype=float)), (d,))


@spectral_draw.register(RBF)
@spectral_draw.register(Matern12)
@spectral_draw.register(Matern32)
@spectral_draw.register(Matern52)
def _(kernel: Any, u: np.ndarray, d: int) -> np.ndarray:
    return unit_frequencies(FREEDOM[type(kernel)], u, d) / _values(kernel.log_lengthscale, d)


@spectral_draw.register
def _(kernel: RationalQuadratic, u: np.ndarray, d: int) -> np.ndarray:
    from scipy.special import gammaincinv

    alpha = float(_values(kernel.log_alpha, 1)[0])
    rate = gammaincinv(alpha, u[:, d : d + 1]) / alpha
    return unit_frequencies(math.inf, u, d) * np.sqrt(rate) / _values(kernel.log_lengthscale, d)


@spectral_draw.register
def _(kernel: Periodic, u: np.ndarray, d: int) -> np.ndarray:
    from scipy.special import ive

    out = np.zeros((u.shape[0], d))
    scale, period = _values(kernel.log_lengthscale, d), _values(kernel.log_period, d)
    for j in range(d):
        z = 1.0 / scale[j] ** 2
        order = np.arange(math.ceil(10.0 * math.sqrt(z) + 10.0) + 1)
        both = np.concatenate([-order[:0:-1], order])
        weight = ive(np.abs(both), z)  # exp(-z) I_k(z), which sums to one over all integers k
        chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), u[:, j])
        out[:, j] = both[np.minimum(chosen, both.size - 1)] * (2.0 * math.pi / period[j])
    return out


@spectral_draw.register
def _(kernel: SpectralMixture, u: np.ndarray, d: int) -> np.ndarray:
    numpy = [np.exp(np.asarray(backend_for(p).to_numpy(p), dtype=float)) for p in kernel_parameters(kernel)]
    weight, frequency, bandwidth = numpy
    edges = np.cumsum(weight) / weight.sum()
    part = np.minimum(np.searchsorted(edges, u[:, d]), weight.size - 1)
    # the position inside of its component's interval decides nothing else, so signs can come from it
    start = np.concatenate([[0.0], edges[:-1]])
    inside = (u[:, d] - start[part]) / (edges - start)[part]
    signs = np.stack([np.where(np.floor(inside * 2 ** (j + 1)) % 2, 1.0, -1.0) for j in range(d)], axis=1)
    normal = unit_frequencies(math.inf, u, d)
    return 2.0 * math.pi * (signs * frequency[part] + bandwidth[part] * normal)


def kernel_parameters(kernel: SpectralMixture) -> tuple[Array, Array, Array]:
    """Logarithms of weights, frequencies and bandwidths."""
    return kernel.log_weight, kernel.log_frequency, kernel.log_bandwidth


@dataclass
class Term:
    """A product of elementary kernels, each seen through a view of the points."""

    variances: list[Array] = field(default_factory=list)
    factors: list[tuple[Kernel, View]] = field(default_factory=list)

    def times(self, other: Term) -> Term:
        """The product of two products."""
        return Term(self.variances + other.variances, self.factors + other.factors)


def _whole(X: Array) -> Array:
    return X


def multiply_out(kernel: Kernel, view: View = _whole) -> list[Term]:
    """The kernel as a sum of products; parts with white noise, which is no function, are left out."""
    if isinstance(kernel, Sum):
        return [term for part in kernel.terms for term in multiply_out(part, view)]
    if isinstance(kernel, Product):
        out = [Term()]
        for part in kernel.factors:
            out = [a.times(b) for a in out for b in multiply_out(part, view)]
            if len(out) > MAX_TERMS:
                raise NotImplementedError(
                    f"the kernel has more than {MAX_TERMS} products when multiplied out; draw at given "
                    "points instead (method='covariance')."
                )
        return out
    if isinstance(kernel, Scale):
        return [Term([kernel.log_variance]).times(t) for t in multiply_out(kernel.kernel, view)]
    if isinstance(kernel, Inducing):  # the prior is that of the exact kernel
        return multiply_out(kernel.kernel, view)
    if isinstance(kernel, ActiveDims):
        return multiply_out(kernel.kernel, lambda X: kernel._select(view(X)))
    if isinstance(kernel, Deep):
        return multiply_out(kernel.kernel, lambda X: kernel.map(view(X)))
    if isinstance(kernel, White):
        return []
    return [Term()] if isinstance(kernel, Ones) else [Term([], [(kernel, view)])]


class PriorFeatures:
    """``phi(X) (m, F)`` for a kernel and points like ``like (n, d)``; see the module docstring.

    count: frequencies for every product with stationary factors; key: an integer. sets: how many
    independent sets of frequencies there are, which :meth:`__call__` chooses from. exact: whether there
    are no frequencies at all, and then one set is enough. Raises NotImplementedError where a factor has
    neither features nor a spectral density.
    """

    def __init__(self, kernel: Kernel, like: Array, count: int, key: int, sets: int = 1):
        points(like)
        self.kernel = kernel
        self.exact = True
        self.sets = 1
        self._parts: list[Any] = []
        d = int(like.shape[1])
        if kernel.feature_count(d) is not None:
            self._parts.append((None, [], [(kernel, _whole)]))
            return
        rng = np.random.default_rng(key)
        for number, term in enumerate(multiply_out(kernel)):
            finite: list[tuple[Kernel, View]] = []
            endless: list[tuple[Kernel, View]] = []
            for leaf, view in term.factors:
                seen = view(like[:1])
                known = leaf.feature_count(int(seen.shape[1])) is not None
                (finite if known else endless).append((leaf, view))
            waves = None
            if endless:
                self.exact, self.sets = False, sets
                widths = [int(view(like[:1]).shape[1]) for _, view in endless]
                base = uniforms(count, sum(w + 1 for w in widths), key + number)
                ends = np.cumsum([w + 1 for w in widths])
                waves = []
                for _ in range(sets):
                    # a random shift makes another unbiased set of the same evenness
                    u = shifted(base, rng)
                    waves.append(
                        [
                            (spectral_draw(leaf, u[:, end - w - 1 : end], w), leaf, view)
                            for (leaf, view), w, end in zip(endless, widths, ends, strict=True)
                        ]
                    )
            self._parts.append((waves, term.variances, finite))

    def _waves(self, waves: Any, X: Array) -> tuple[Array, Array]:
        """Phases ``(m, r)``, and the factor ``(m,)`` of their sines and cosines."""
        backend = backend_for(X)
        parts, levels = [], []
        for omega, leaf, view in waves:
            seen = view(X)
            parts.append(seen @ backend.asarray(omega.T, dtype=X.dtype, device=backend.device(X)))
            levels.append(leaf.cross_diag(seen))
        level = math.prod(levels[1:], start=levels[0])
        phase = sum(parts[1:], parts[0])
        return phase, backend.xp.sqrt(level / phase.shape[1])

    def _finite(self, variances: list[Array], finite: list[tuple[Kernel, View]], X: Array) -> Array:
        """Features ``(m, f)`` of the factors of finite rank, times the roots of the variances."""
        xp = xp_of(X)
        U = xp.ones_like(X[:, :1])
        for leaf, view in finite:
            known = leaf.features(view(X))
            assert known is not None  # its feature_count is a number
            V = known[0]
            U = xp.reshape(U[:, :, None] * V[:, None, :], (X.shape[0], U.shape[1] * V.shape[1]))
        for log_variance in variances:
            U = U * xp.exp(0.5 * follow(log_variance, X))
        return U

    def __call__(self, X: Array, number: int = 0) -> Array:
        """``(m, F)``, by set ``number`` of the frequencies."""
        xp = xp_of(points(X))
        blocks = []
        for waves, variances, finite in self._parts:
            U = self._finite(variances, finite, X)
            if waves is not None:
                phase, level = self._waves(waves[number], X)
                both = level[:, None] * xp.concat([xp.cos(phase), xp.sin(phase)], axis=1)
                U = xp.reshape(both[:, :, None] * U[:, None, :], (X.shape[0], both.shape[1] * U.shape[1]))
            blocks.append(U)
        if not blocks:  # a kernel of white noise alone: the function is zero
            return xp.zeros_like(X[:, :1])
        return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=1)

    def times(self, X: Array, W: Array, number: int = 0) -> Array:
        """``self(X, number) @ W`` for ``W (F, k)``, without the features in memory where W is one column."""
        if W.shape[1] != 1:
            return self(X, number) @ W
        xp = xp_of(points(X))
        total, start = xp.zeros_like(X[:, :1]), 0
        for waves, variances, finite in self._parts:
            U = self._finite(variances, finite, X)
            if waves is None:
                stop = start + U.shape[1]
                total = total + U @ W[start:stop]
            else:
                phase, level = self._waves(waves[number], X)
                r, f = phase.shape[1], U.shape[1]
                stop = start + 2 * r * f
                rows = xp.reshape(W[start:stop], (2, r, f))
                # a cos(p) + b sin(p) = |(a, b)| cos(p - angle(a, b)): one cosine, half of the time
                size, angle = xp.sqrt(rows[0] ** 2 + rows[1] ** 2), xp.atan2(rows[1], rows[0])
                for j in range(f):
                    wave = xp.cos(phase - angle[:, j]) @ size[:, j]
                    total = total + (level * U[:, j] * wave)[:, None]
            start = stop
        return total


__all__ = ["PriorFeatures", "multiply_out", "spectral_draw"]

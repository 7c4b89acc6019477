"""Deep kernels: a kernel of mapped inputs.

Source: Wilson, Hu, Salakhutdinov & Xing 2016, Deep kernel learning, eq. 5.  The derivatives by the map's
parameters go through those by the mapped points, so inference stays in closed form whatever the map.
"""

from __future__ import annotations

from typing import Any

from .._struct import set_fields, struct
from .base import Array, Kernel, Pullback, follow, pair, points, xp_of
from .compose import Scale, Sum, _check_kernels
from .derivatives import point_gradient
from .simple import Constant, Linear, Ones
from .symmetric import by_points, symmetric


@struct
class Deep(Kernel):
    """``kernel(map(x), map(x'))``, where the parameters of the map are fitted with those of the kernel.

    map: a :class:`~cola_gp.maps.Map`, such as an :class:`~cola_gp.maps.Affine` projection, a
    :class:`~cola_gp.maps.Network` (closed-form derivatives on every library) or a
    :class:`~cola_gp.maps.Function` with parameters in torch or JAX; or a plain function of the points.

    A linear kernel of a map with a known number of images has finite rank: it is Bayesian linear
    regression on learned features.  A map that can scale its images makes lengthscales redundant; hold one
    of the two fixed.

    >>> import numpy as np, cola_gp as gp
    >>> X = np.linspace(-2, 2, 60)[:, None]
    >>> data = gp.Data(X, np.sign(X[:, 0]))  # a jump, for which no stationary kernel is made
    >>> deep = gp.GP(1.0 * gp.Deep(gp.RBF(), gp.Network.random((1, 8, 2))), noise=0.01)
    >>> plain = gp.GP(1.0 * gp.RBF(), noise=0.01)
    >>> fits = [gp.fit(model, data, max_iters=60) for model in (deep, plain)]
    >>> fits[0].log_likelihood > fits[1].log_likelihood
    True
    """

    kernel: Kernel
    map: Any

    def __init__(self, kernel: Kernel, map: Any):
        from ..maps import as_map

        _check_kernels("Deep", (kernel,))
        set_fields(self, kernel=kernel, map=as_map(map))

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        if X2 is None:
            return self._symmetric(points(X1))
        _, X1, X2 = pair(X1, X2)
        Z1, Z2 = self.map(X1), self.map(X2)
        value, back = self.kernel.evaluate(Z1, Z2)

        def pull(W: Array) -> tuple[Array, ...]:
            first = self.map.pullback(X1, point_gradient(self.kernel, Z1, Z2, W))
            second = self.map.pullback(X2, point_gradient(self.kernel, Z2, Z1, W.T))
            return (*back(W), *(a + b for a, b in zip(first, second, strict=True)))

        return value, pull

    def _symmetric(self, X: Array) -> tuple[Array, Pullback]:
        # The points are mapped once, and the kernel of the images is evaluated in blocks.
        Z = self.map(X)
        value, back = symmetric(self.kernel, Z, mirrored=False)

        def pull(W: Array) -> tuple[Array, ...]:
            mapped = self.map.pullback(X, by_points(self.kernel, Z, W))
            return (*back(W), *mapped)

        return value, pull

    @property
    def blockwise(self) -> bool:
        return False

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset()  # the kernel sees images, and what a map does with its columns is its own affair

    def diag(self, X: Array) -> Array:
        return self.kernel.diag(self.map(points(X)))

    def cross_diag(self, X: Array) -> Array:
        return self.kernel.cross_diag(self.map(points(X)))

    def feature_count(self, d: int) -> int | None:
        width = self.map.images(d)
        return self.kernel.feature_count(width) if width is not None and _linear(self.kernel) else None

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        if not _linear(self.kernel):
            return None
        Z = self.map(points(X))
        part = self.kernel.features(Z)
        if part is None:
            return None
        U, back = part
        return U, lambda G: (*back(G), *self.map.pullback(X, _features_by_points(self.kernel, Z, G)))


@point_gradient.register
def _(kernel: Deep, X1: Array, X2: Array, W: Array) -> Array:
    inner = point_gradient(kernel.kernel, kernel.map(X1), kernel.map(X2), W)
    return kernel.map.input_gradient(X1, inner)


def _linear(kernel: Kernel) -> bool:
    """Whether the features are affine in the points, so that their derivative is known."""
    if isinstance(kernel, Sum):
        return all(_linear(term) for term in kernel.terms)
    if isinstance(kernel, Scale):
        return _linear(kernel.kernel)
    return isinstance(kernel, (Linear, Constant, Ones))


def _features_by_points(kernel: Kernel, Z: Array, G: Array) -> Array:
    """Derivative of ``sum(G * kernel.features(Z))`` with respect to ``Z``."""
    xp = xp_of(Z)
    if isinstance(kernel, Linear):
        return G * xp.exp(0.5 * follow(kernel.log_variance, Z))
    if isinstance(kernel, Scale):
        root = xp.exp(0.5 * follow(kernel.log_variance, Z))
        return root * _features_by_points(kernel.kernel, Z, G)
    total = xp.zeros_like(Z)
    if isinstance(kernel, Sum):
        start = 0
        for term in kernel.terms:
            stop = start + term.feature_count(Z.shape[1])  # type: ignore[operator]
            total = total + _features_by_points(term, Z, G[:, start:stop])
            start = stop
    return total

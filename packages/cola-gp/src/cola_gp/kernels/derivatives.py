"""Derivatives that inducing points need beyond those of the parameters: by the points, and of the diagonal.

* :func:`point_gradient`: of ``sum(W * k(X1, X2))`` with respect to ``X1``, an ``(n, d)`` array.
* :func:`diagonal_gradient`: of ``sum(v * diag)`` with respect to the kernel's leaves, where ``diag[i] =
  k(x_i, x_i)`` without white noise (:meth:`~cola_gp.kernels.Kernel.cross_diag`).

Both are closed form for the kernels of this package. For a kernel of somebody else, torch and JAX
differentiate its evaluation; on NumPy :func:`point_gradient` raises NotImplementedError, unless the
kernel registers its own with ``point_gradient.register``.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

from .._struct import leaves
from ..arrays import backend_for
from .base import Array, Kernel, differences, follow, pair, per_dimension, xp_of
from .compose import ActiveDims, Product, Scale, Sum
from .coregion import Coregion
from .distances import squared_distances
from .polynomial import Polynomial
from .simple import Constant, Linear, Ones, White
from .spectral import Cosine, SpectralMixture
from .stationary import Periodic, RationalQuadratic, Stationary

DIAGONAL_BLOCK = 32  # points per block of the general diagonal gradient


@singledispatch
def point_gradient(kernel: Kernel, X1: Array, X2: Array, W: Array) -> Array:
    """Derivative of ``sum(W * k(X1, X2))`` with respect to ``X1 (n, d)``; W is ``(n, m)``."""
    backend = backend_for(X1)
    if backend.name == "numpy":
        raise NotImplementedError(
            f"{type(kernel).__name__} does not know its derivative by the points on NumPy; keep the inducing "
            "points fixed, use torch or JAX, or register one with cola_gp.kernels.point_gradient.register."
        )
    _, pull = backend.vjp(lambda X: kernel(X, X2), X1)
    return _only(pull(W))


def _only(out: Any) -> Array:
    return out[0] if isinstance(out, (tuple, list)) else out


@point_gradient.register
def _(kernel: Stationary, X1: Array, X2: Array, W: Array) -> Array:
    # k = f(s), g = -2 f'(s):  dk/dx_j = -g (x_j - x'_j) / l_j^2
    xp, X1, X2 = pair(X1, X2)
    scale = xp.exp(follow(kernel.log_lengthscale, X1))
    per_dimension("lengthscale", scale, X1.shape[1])
    smooth = kernel._smooth
    if getattr(getattr(W, "flags", None), "f_contiguous", False):
        # a transposed weight: the other order of the points runs through memory as it lies
        M = (W.T * _slope(kernel, xp, squared_distances(X2, X1, scale, smooth)[0])).T
    else:
        M = W * _slope(kernel, xp, squared_distances(X1, X2, scale, smooth)[0])
    return _drift(xp, M, X1, X2, scale)


def _drift(xp: Any, M: Array, X1: Array, X2: Array, scale: Array) -> Array:
    """``sum_j M_ij (x2_j - x1_i) / scale^2``, ``(n, d)``."""
    if X2.shape[0] and float(xp.finfo(X1.dtype).eps) < 1e-12:
        # one product of matrices, about a common centre: double precision has the digits to spare
        centre = xp.mean(X2, axis=0)
        Z1, Z2 = (X1 - centre) / scale, (X2 - centre) / scale
        return (M @ Z2 - xp.sum(M, axis=1)[:, None] * Z1) / scale
    columns = [-xp.sum(M * differences(X1, X2, j), axis=1) for j in range(X1.shape[1])]
    return xp.stack(columns, axis=1) / scale / scale


def _slope(kernel: Any, xp: Any, s: Array) -> Array:
    if isinstance(kernel, RationalQuadratic):
        alpha = xp.exp(follow(kernel.log_alpha, s))
        return xp.exp(-(alpha + 1.0) * xp.log1p(s / (2.0 * alpha)))
    return kernel._profile(xp, s)[1]()


@point_gradient.register
def _(kernel: Periodic, X1: Array, X2: Array, W: Array) -> Array:
    xp, X1, X2 = pair(X1, X2)
    d = X1.shape[1]
    scale, period = xp.exp(follow(kernel.log_lengthscale, X1)), xp.exp(follow(kernel.log_period, X1))
    ones = xp.ones_like(X1[0])
    scale, period = scale * ones, period * ones
    V = W * kernel(X1, X2)
    columns = []
    for j in range(d):
        t = 2.0 * math.pi * differences(X1, X2, j) / period[j]
        columns.append(-2.0 * math.pi * xp.sum(V * xp.sin(t), axis=1) / (period[j] * scale[j] ** 2))
    return xp.stack(columns, axis=1)


@point_gradient.register
def _(kernel: Linear, X1: Array, X2: Array, W: Array) -> Array:
    xp, X1, X2 = pair(X1, X2)
    return (W @ X2) * xp.exp(follow(kernel.log_variance, X1))


@point_gradient.register
def _(kernel: Polynomial, X1: Array, X2: Array, W: Array) -> Array:
    xp, X1, X2 = pair(X1, X2)
    variance = xp.exp(follow(kernel.log_variance, X1))
    if kernel.degree > 1:
        base = (X1 * variance) @ X2.T + xp.exp(follow(kernel.log_offset, X1))
        W = W * (kernel.degree * base ** (kernel.degree - 1))
    return (W @ X2) * variance


@point_gradient.register
def _(kernel: Cosine, X1: Array, X2: Array, W: Array) -> Array:
    xp, X1, X2 = pair(X1, X2)
    turns = 2.0 * math.pi / (xp.exp(follow(kernel.log_period, X1)) * xp.ones_like(X1[0]))
    return _by_phases(xp, W, X1, X2, turns)


def _by_phases(xp: Any, W: Array, X1: Array, X2: Array, turns: Array) -> Array:
    """For ``prod_j cos(turns_j (x_j - x'_j))``."""
    d = X1.shape[1]
    phases = [differences(X1, X2, j) * turns[j] for j in range(d)]
    columns = []
    for j in range(d):
        weight = -W * xp.sin(phases[j])
        for i in range(d):
            if i != j:
                weight = weight * xp.cos(phases[i])
        columns.append(turns[j] * xp.sum(weight, axis=1))
    return xp.stack(columns, axis=1)


@point_gradient.register
def _(kernel: SpectralMixture, X1: Array, X2: Array, W: Array) -> Array:
    xp, X1, X2 = pair(X1, X2)
    weight, frequency, bandwidth = (
        xp.exp(follow(p, X1)) for p in (kernel.log_weight, kernel.log_frequency, kernel.log_bandwidth)
    )
    d = X1.shape[1]
    total = xp.zeros_like(X1)
    for q in range(weight.shape[0]):
        rates = 2.0 * math.pi * bandwidth[q]
        lags = [differences(X1, X2, j) for j in range(d)]
        squares = sum((lags[j] * rates[j]) ** 2 for j in range(d))
        V = weight[q] * W * xp.exp(-0.5 * squares)
        turns = 2.0 * math.pi * frequency[q]
        by_phase = _by_phases(xp, V, X1, X2, turns)
        for j in range(d):
            V = V * xp.cos(lags[j] * turns[j])
        by_decay = [-(rates[j] ** 2) * xp.sum(V * lags[j], axis=1) for j in range(d)]
        total = total + by_phase + xp.stack(by_decay, axis=1)
    return total


# A task number is not a quantity to be moved, so its derivative is zero and inducing points keep their tasks.
@point_gradient.register(Coregion)
@point_gradient.register(Constant)
@point_gradient.register(Ones)
@point_gradient.register(White)
def _(kernel: Kernel, X1: Array, X2: Array, W: Array) -> Array:
    return xp_of(X1).zeros_like(X1)


@point_gradient.register
def _(kernel: Sum, X1: Array, X2: Array, W: Array) -> Array:
    return sum(point_gradient(term, X1, X2, W) for term in kernel.terms)


@point_gradient.register
def _(kernel: Product, X1: Array, X2: Array, W: Array) -> Array:
    values = [factor(X1, X2) for factor in kernel.factors]
    total = xp_of(X1).zeros_like(X1)
    for i, factor in enumerate(kernel.factors):
        weight = W
        for j, value in enumerate(values):
            if j != i:
                weight = weight * value
        total = total + point_gradient(factor, X1, X2, weight)
    return total


@point_gradient.register
def _(kernel: Scale, X1: Array, X2: Array, W: Array) -> Array:
    return point_gradient(kernel.kernel, X1, X2, kernel._variance(X1) * W)


@point_gradient.register
def _(kernel: ActiveDims, X1: Array, X2: Array, W: Array) -> Array:
    xp = xp_of(X1)
    inner = point_gradient(kernel.kernel, kernel._select(X1), kernel._select(X2), W)
    place = {dim: inner[:, i] for i, dim in enumerate(kernel.dims)}
    zero = xp.zeros_like(X1[:, 0])
    return xp.stack([place.get(j, zero) for j in range(X1.shape[1])], axis=1)


@singledispatch
def evaluate_with_points(kernel: Kernel, X1: Array, X2: Array) -> tuple[Array, Any]:
    """``k(X1, X2)``, and a function that maps weights W to the derivatives of ``sum(W * k(X1, X2))`` for
    the leaves (a tuple) and by ``X2``. Kernels of distances share what the two have in common."""
    value, pull = kernel.evaluate(X1, X2)
    return value, lambda W: (pull(W), point_gradient(kernel, X2, X1, W.T))


@evaluate_with_points.register
def _(kernel: Stationary, X1: Array, X2: Array) -> tuple[Array, Any]:
    xp, X1, X2 = pair(X1, X2)
    scale = xp.exp(follow(kernel.log_lengthscale, X1))
    ard = per_dimension("lengthscale", scale, X1.shape[1])
    s, moments = squared_distances(X1, X2, scale, kernel._smooth)
    value, slope = kernel._profile(xp, s)

    def both(W: Array) -> tuple[tuple[Array, ...], Array]:
        M = W * slope()
        return (xp.stack(moments(M)) if ard else xp.sum(M * s),), _drift(xp, M.T, X2, X1, scale)

    return value, both


@evaluate_with_points.register
def _(kernel: RationalQuadratic, X1: Array, X2: Array) -> tuple[Array, Any]:
    value, pull = kernel.evaluate(X1, X2)  # its evaluation has no profile
    return value, lambda W: (pull(W), point_gradient(kernel, X2, X1, W.T))


@evaluate_with_points.register
def _(kernel: Scale, X1: Array, X2: Array) -> tuple[Array, Any]:
    variance = kernel._variance(X1)
    inner, back = evaluate_with_points(kernel.kernel, X1, X2)

    def both(W: Array) -> tuple[tuple[Array, ...], Array]:
        own, by_points = back(W)
        scaled = tuple(variance * g for g in own)
        return (*scaled, variance * xp_of(X1).sum(W * inner)), variance * by_points

    return variance * inner, both


@evaluate_with_points.register
def _(kernel: Sum, X1: Array, X2: Array) -> tuple[Array, Any]:
    parts = [evaluate_with_points(term, X1, X2) for term in kernel.terms]

    def both(W: Array) -> tuple[tuple[Array, ...], Array]:
        found = [back(W) for _, back in parts]
        return tuple(g for own, _ in found for g in own), sum(by_points for _, by_points in found)

    return sum(value for value, _ in parts), both


@evaluate_with_points.register
def _(kernel: Product, X1: Array, X2: Array) -> tuple[Array, Any]:
    parts = [evaluate_with_points(factor, X1, X2) for factor in kernel.factors]
    total = math.prod([value for value, _ in parts[1:]], start=parts[0][0])

    def both(W: Array) -> tuple[tuple[Array, ...], Array]:
        found = []
        for i, (_, back) in enumerate(parts):
            others = [value for j, (value, _) in enumerate(parts) if j != i]
            found.append(back(math.prod(others, start=W)))
        return tuple(g for own, _ in found for g in own), sum(by_points for _, by_points in found)

    return total, both


@singledispatch
def diagonal_gradient(kernel: Kernel, X: Array, v: Array) -> tuple[Array, ...]:
    """Derivatives of ``sum(v * k(x_i, x_i))`` for the rows of ``X (n, d)``, one array per leaf."""
    backend = backend_for(X)
    if kernel.stationary and X.shape[0] > 1:  # the same at every point
        return kernel.evaluate(X[:1], X[:1])[1](backend.xp.reshape(backend.xp.sum(v), (1, 1)))
    # Small square blocks with the weights on their diagonals: exact for any kernel, O(n) memory and time.
    total: list[Array] | None = None
    for start in range(0, X.shape[0], DIAGONAL_BLOCK):
        part = X[start : start + DIAGONAL_BLOCK]
        pieces = kernel.evaluate(part, part)[1](backend.matrix_diag(v[start : start + DIAGONAL_BLOCK]))
        total = list(pieces) if total is None else [a + b for a, b in zip(total, pieces, strict=True)]
    if total is None:
        return tuple(backend.xp.zeros_like(follow(leaf, X)) for leaf in leaves(kernel))
    return tuple(total)


@diagonal_gradient.register(Stationary)
@diagonal_gradient.register(Periodic)
@diagonal_gradient.register(Ones)
@diagonal_gradient.register(White)
def _(kernel: Kernel, X: Array, v: Array) -> tuple[Array, ...]:
    # one (or, for white noise between points, zero) whatever the parameters
    return tuple(xp_of(X).zeros_like(follow(leaf, X)) for leaf in leaves(kernel))


@diagonal_gradient.register
def _(kernel: Constant, X: Array, v: Array) -> tuple[Array, ...]:
    xp = xp_of(X)
    return (xp.sum(v) * xp.exp(follow(kernel.log_variance, X)),)


@diagonal_gradient.register
def _(kernel: Linear, X: Array, v: Array) -> tuple[Array, ...]:
    xp = xp_of(X)
    variance = xp.exp(follow(kernel.log_variance, X))
    each = variance * xp.sum(v[:, None] * X * X, axis=0)
    return (each if per_dimension("variance", variance, X.shape[1]) else xp.sum(each),)


@diagonal_gradient.register
def _(kernel: Sum, X: Array, v: Array) -> tuple[Array, ...]:
    return tuple(g for term in kernel.terms for g in diagonal_gradient(term, X, v))


@diagonal_gradient.register
def _(kernel: Product, X: Array, v: Array) -> tuple[Array, ...]:
    values = [factor.cross_diag(X) for factor in kernel.factors]
    out: list[Array] = []
    for i, factor in enumerate(kernel.factors):
        weight = v
        for j, value in enumerate(values):
            if j != i:
                weight = weight * value
        out.extend(diagonal_gradient(factor, X, weight))
    return tuple(out)


@diagonal_gradient.register
def _(kernel: Scale, X: Array, v: Array) -> tuple[Array, ...]:
    variance = kernel._variance(X)
    inner = diagonal_gradient(kernel.kernel, X, variance * v)
    return (*inner, xp_of(X).sum(v * variance * kernel.kernel.cross_diag(X)))


@diagonal_gradient.register
def _(kernel: ActiveDims, X: Array, v: Array) -> tuple[Array, ...]:
    return diagonal_gradient(kernel.kernel, kernel._select(X), v)

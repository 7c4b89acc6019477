r"""The five functions of the distance, as functions F of ``u = kappa r^2``, r the distance in lengthscales.

Rasmussen & Williams (2006), chapter 4.2, equations 4.9, 4.14 to 4.17 and 4.19, with t = sqrt(u):

    RBF                 exp(-u)                      kappa = 1/2
    Matern 1/2          exp(-t)                      kappa = 1
    Matern 3/2          (1 + t) exp(-t)              kappa = 3
    Matern 5/2          (1 + t + u / 3) exp(-t)      kappa = 5
    rational quadratic  (1 + u)^-alpha               kappa = 1 / (2 alpha)

``value`` is made of operations that PyTorch and JAX differentiate, to every order that exists: a Matern
function has the next rougher one as derivative in u, which is stated, since the root of u would lose it
where points coincide. There Matern 1/2 has no derivative, and zero is taken. ``overwrite`` and ``both`` are
the same numbers made in buffers, with NumPy or PyTorch (``xp`` is the plain module).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from cola_core.backends import Backend

__all__ = ["PROFILES", "Profile"]

Array = Any


class Profile:
    """One function. ``sign``: of the u that ``overwrite`` expects. ``smooth``: whether F is smooth at
    zero."""

    name: ClassVar[str]
    code: ClassVar[int]
    sign: ClassVar[float] = 1.0
    smooth: ClassVar[bool] = False
    flops: ClassVar[float] = 20.0

    def kappa(self, alpha: Any) -> Any:
        raise NotImplementedError

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        """F(u), to be differentiated."""
        raise NotImplementedError

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        """F(u) from ``sign * u`` in the place of u or of spare."""
        raise NotImplementedError

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        """F(u) and F'(u), from u, in the three buffers."""
        raise NotImplementedError


class _RBF(Profile):
    name, code, sign, smooth = "RBF", 0, -1.0, True

    def kappa(self, alpha: Any) -> Any:
        return 0.5

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        return be.xp.exp(-u)

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        return xp.exp(u, out=u)

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        xp.negative(u, out=u)
        xp.exp(u, out=u)
        return u, xp.negative(u, out=spare)


class _Matern12(Profile):
    name, code = "Matern12", 1

    def kappa(self, alpha: Any) -> Any:
        return 1.0

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        return exponential(be, u)

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        xp.sqrt(u, out=u)
        xp.negative(u, out=u)
        return xp.exp(u, out=u)

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        xp.sqrt(u, out=u)
        xp.negative(u, out=spare)
        xp.exp(spare, out=spare)
        xp.multiply(u, -2.0, out=u)
        tie = u == 0
        xp.divide(spare, _filled(xp, u, tie, 1.0), out=other)
        return spare, _filled(xp, other, tie, 0.0)


class _Matern32(Profile):
    name, code = "Matern32", 2

    def kappa(self, alpha: Any) -> Any:
        return 3.0

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        return once_smoother(be, u)

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        xp.sqrt(u, out=u)
        xp.negative(u, out=spare)
        xp.exp(spare, out=spare)
        u += 1.0
        return xp.multiply(u, spare, out=u)

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        xp.sqrt(u, out=u)
        xp.negative(u, out=spare)
        xp.exp(spare, out=spare)
        u += 1.0
        return xp.multiply(u, spare, out=u), xp.multiply(spare, -0.5, out=spare)


class _Matern52(Profile):
    name, code = "Matern52", 3

    def kappa(self, alpha: Any) -> Any:
        return 5.0

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        return twice_smoother(be, u)

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        xp.sqrt(u, out=spare)
        xp.multiply(u, 1.0 / 3.0, out=u)
        u += 1.0
        u += spare
        xp.negative(spare, out=spare)
        xp.exp(spare, out=spare)
        return xp.multiply(u, spare, out=u)

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        xp.sqrt(u, out=spare)
        xp.multiply(u, 1.0 / 3.0, out=u)
        xp.negative(spare, out=other)
        xp.exp(other, out=other)
        spare += 1.0
        u += spare
        xp.multiply(u, other, out=u)
        xp.multiply(spare, other, out=spare)
        return u, xp.multiply(spare, -1.0 / 6.0, out=spare)


class _RationalQuadratic(Profile):
    name, code, smooth, flops = "RationalQuadratic", 4, True, 40.0

    def kappa(self, alpha: Any) -> Any:
        return 0.5 / alpha

    def value(self, be: Backend, u: Array, alpha: Any) -> Array:
        return be.xp.exp(-alpha * be.xp.log1p(u))

    def overwrite(self, xp: Any, u: Array, spare: Array, alpha: Any) -> Array:
        xp.log1p(u, out=u)
        xp.multiply(u, -alpha, out=u)
        return xp.exp(u, out=u)

    def both(self, xp: Any, u: Array, spare: Array, other: Array, alpha: Any) -> tuple[Array, Array]:
        xp.log1p(u, out=spare)
        xp.multiply(spare, -alpha, out=spare)
        xp.exp(spare, out=spare)
        xp.add(u, 1.0, out=other)
        xp.divide(spare, other, out=other)
        return spare, xp.multiply(other, -alpha, out=other)


def _filled(xp: Any, x: Array, where: Array, value: float) -> Array:
    x[where] = value
    return x


def exponential(be: Backend, u: Array) -> Array:
    """exp(-sqrt(u))."""
    xp = be.xp

    def run(u: Array) -> Any:
        return (_at_ties(be, u, lambda t: xp.exp(-t), xp.ones_like),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        # the root is outside of the stated part: its derivatives are the library's, away from zero
        tie = inputs[0] <= 0
        root = xp.sqrt(xp.where(tie, xp.ones_like(inputs[0]), inputs[0]))
        slope = xp.where(tie, xp.zeros_like(inputs[0]), -0.5 * outputs[0] / root)
        return (slope * d[0],)

    return be.differentiable(run, tangent, u)[0][0]


def once_smoother(be: Backend, u: Array) -> Array:
    """(1 + t) exp(-t), t = sqrt(u), whose derivative in u is -exp(-t) / 2."""
    xp = be.xp

    def run(u: Array) -> Any:
        return (_at_ties(be, u, lambda t: (1.0 + t) * xp.exp(-t), lambda u: 1.0 - 0.5 * u),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        return (-0.5 * exponential(be, inputs[0]) * d[0],)

    return be.differentiable(run, tangent, u)[0][0]


def twice_smoother(be: Backend, u: Array) -> Array:
    """(1 + t + u / 3) exp(-t), t = sqrt(u), whose derivative in u is -(1 + t) exp(-t) / 6."""
    xp = be.xp

    def run(u: Array) -> Any:
        series = lambda u: 1.0 - u / 6.0 + u * u / 24.0  # noqa: E731
        return (_at_ties(be, u, lambda t: (1.0 + t + t * t / 3.0) * xp.exp(-t), series),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        return (-once_smoother(be, inputs[0]) / 6.0 * d[0],)

    return be.differentiable(run, tangent, u)[0][0]


def _at_ties(
    be: Backend, u: Array, of_root: Callable[[Array], Array], series: Callable[[Array], Array]
) -> Array:
    """A function of sqrt(u). JAX forgets a stated derivative where it differentiates the backward pass of a
    scan (seen in 0.10), and differentiates this: u = 0 then has the terms of the series that exist."""
    if be.name != "jax":
        return of_root(be.xp.sqrt(u))
    tie = u <= 0
    return be.xp.where(tie, series(u), of_root(be.xp.sqrt(be.xp.where(tie, be.xp.ones_like(u), u))))


def largest(dtype_name: str) -> float:
    """A u beyond which every F but the rational quadratic is zero, and t F(t) is too; squares that
    overflow are brought back to it."""
    return {"float16": 1e4, "bfloat16": 1e30, "float32": 1e30}.get(dtype_name, 1e300)


PROFILES: dict[str, Profile] = {
    p.name: p for p in (_RBF(), _Matern12(), _Matern32(), _Matern52(), _RationalQuadratic())
}

"""``Inducing``: a kernel whose inference goes through inducing points instead of all pairs of observations.

As a function this is the exact kernel; the approximation is in the inference
(:mod:`cola_gp.inference.inducing`): O(n m^2) for n observations and m inducing points.
"""

from __future__ import annotations

from typing import Any, ClassVar

from .._struct import set_fields, static, struct
from .base import Array, Kernel, Pullback, follow, xp_of
from .derivatives import diagonal_gradient, point_gradient
from .nystrom import OnPoints, checked_inducing, checked_nugget

METHODS = ("vfe", "fitc")


@struct
class Inducing(OnPoints):
    """``kernel`` seen through inducing points ``(m, d)``; the outermost kernel of a model.

    method: "vfe", Titsias' (2009) variational free energy (SGPR), whose likelihood is a lower bound of
    the exact one; or "fitc", the fully independent training conditional of Snelson & Ghahramani (2006).
    fixed: leave the points where they are in a fit, where their derivative is then reported as zero; else
    they are parameters. nugget: relative to the variance; default 1e-8, or a hundred roundings of a
    shorter dtype.

    >>> import numpy as np, cola_gp as gp
    >>> X = np.linspace(0, 6, 200)[:, None]
    >>> data = gp.Data(X, np.sin(X[:, 0]))
    >>> model = gp.GP(gp.Inducing(1.0 * gp.RBF(1.0), X[::20]), noise=0.01)
    >>> exact = gp.GP(1.0 * gp.RBF(1.0), noise=0.01)
    >>> bool(gp.marginal_likelihood(model, data) <= gp.marginal_likelihood(exact, data))
    True
    """

    kernel: Kernel
    inducing: Array
    method: str = static(default="vfe")
    fixed: bool = static(default=False)
    nugget: float | None = static(default=None)
    outermost: ClassVar[bool] = True

    def __init__(
        self,
        kernel: Kernel,
        inducing: Any,
        method: str = "vfe",
        fixed: bool = False,
        nugget: float | None = None,
    ):
        if method not in METHODS:
            raise ValueError(f"Inducing: method must be one of {', '.join(METHODS)}, not {method!r}.")
        set_fields(
            self,
            kernel=kernel,
            inducing=checked_inducing("Inducing", kernel, inducing),
            method=method,
            fixed=bool(fixed),
            nugget=checked_nugget("Inducing", nugget),
        )

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        value, pull = self.kernel.evaluate(X1, X2)
        # The exact kernel does not depend on the inducing points.
        return value, lambda W: (*pull(W), xp_of(X1).zeros_like(follow(self.inducing, X1)))

    def diag(self, X: Array) -> Array:
        return self.kernel.diag(X)

    def cross_diag(self, X: Array) -> Array:
        return self.kernel.cross_diag(X)


@point_gradient.register
def _(kernel: Inducing, X1: Array, X2: Array, W: Array) -> Array:
    return point_gradient(kernel.kernel, X1, X2, W)


@diagonal_gradient.register
def _(kernel: Inducing, X: Array, v: Array) -> tuple[Array, ...]:
    return (*diagonal_gradient(kernel.kernel, X, v), xp_of(X).zeros_like(follow(kernel.inducing, X)))

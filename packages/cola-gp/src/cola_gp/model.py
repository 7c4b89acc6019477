"""A Gaussian process model: a kernel, a mean and a noise, which together make a covariance operator."""

from __future__ import annotations

from typing import Any

from ._struct import Struct, set_fields, struct
from .kernels import Kernel
from .means import Mean, ZeroMean
from .noise import GaussianNoise, Noise


@struct
class GP(Struct):
    """``y = f(X) + noise`` with ``f ~ GP(mean, kernel)``.

    ``noise`` may be a number: the initial variance of a :class:`~cola_gp.noise.GaussianNoise`.
    """

    kernel: Kernel
    mean: Mean
    noise: Noise

    def __init__(self, kernel: Kernel, mean: Mean | None = None, noise: Noise | float = 1e-2):
        if not isinstance(kernel, Kernel):
            raise TypeError(f"kernel must be a Kernel, not {type(kernel).__name__}.")
        mean = ZeroMean() if mean is None else mean
        if not isinstance(mean, Mean):
            raise TypeError(f"mean must be a Mean, not {type(mean).__name__}.")
        if not isinstance(noise, Noise):
            noise = GaussianNoise(noise)
        set_fields(self, kernel=kernel, mean=mean, noise=noise)

    def label_dims(self, d: int) -> frozenset[int]:
        """Which of ``d`` input dimensions hold labels, such as task numbers, that no scaling may touch."""
        parts = (self.kernel, self.mean, self.noise)
        return frozenset().union(*(part.label_dims(d) for part in parts))  # type: ignore[attr-defined]

    def prior(self, X: Any) -> Any:
        """Covariance operator of the latent function at ``X``; its class is the structure found."""
        from .covariance import CovarianceOperator
        from .data import as_inputs
        from .inference import represent

        return represent(CovarianceOperator(self.kernel, as_inputs(X))).operator

    def covariance(self, X: Any) -> Any:
        """Covariance operator of the observations at ``X``: prior plus noise."""
        from .covariance import CovarianceOperator
        from .data import as_inputs, as_points
        from .inference import Problem, represent

        X = as_inputs(X)
        if not self.noise.gaussian:
            raise TypeError(
                f"observations under {type(self.noise).__name__} are not jointly Gaussian and have no "
                "covariance operator here; ask prior(X) for that of the function."
            )
        prior = represent(CovarianceOperator(self.kernel, X), Problem(self, None)).operator
        return prior + self.noise.operator(as_points(X)[:, 0], X)


def check_problem(model: Any, data: Any) -> None:
    """Raise TypeError, naming what was given, unless these are a GP and its Data, in this order."""
    from .data import Data

    if not isinstance(model, GP):
        raise TypeError(f"model must be a GP(kernel, mean, noise), not {type(model).__name__}.")
    if not isinstance(data, Data):
        raise TypeError(f"data must be a Data(X, y), not {type(data).__name__}.")

"""How far an approximate model is from the exact one: inducing points, Nystrom and random Fourier features.

For inducing points the exact log marginal likelihood lies between two numbers that cost O(n m^2):
Titsias' (2009) lower bound and his upper one (2014; Burt, Rasmussen & van der Wilk 2020, lemma 2). Their
difference bounds the Kullback-Leibler divergence of the approximate posterior from the exact one, too.
Where n allows the exact value is computed as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ._struct import Struct, rebuild
from .arrays import backend_for
from .data import Data, as_points
from .inference import condition
from .inference.inducing import InducingConditioned
from .kernels import Inducing, Kernel, Nystrom, RandomFourier
from .kernels.nystrom import contains, default_nugget
from .model import GP

APPROXIMATE = (Inducing, Nystrom, RandomFourier)
PAIRS = 4096  # sampled entries of the covariance


@dataclass(frozen=True)
class ApproximationReport:
    """What :func:`approximation_report` found.

    method: how inference is done; n, rank: observations and columns of the approximation. log_likelihood:
    of the approximate model (for "vfe" a lower bound). lower, upper: bounds of the exact log marginal
    likelihood, None where none are known. exact: the exact one, None where n is above the limit.
    residual_trace: ``tr(K - Q)``; relative_residual: divided by ``tr K``; max_residual: the largest
    variance left at an observation. entry_error, worst_entry: root mean square and largest error of
    sampled entries of the covariance, divided by the mean variance. nugget: relative, of the inducing
    points.
    """

    method: str
    n: int
    rank: int
    log_likelihood: float
    lower: float | None
    upper: float | None
    exact: float | None
    residual_trace: float
    relative_residual: float
    max_residual: float
    entry_error: float
    worst_entry: float
    nugget: float | None

    @property
    def gap(self) -> float | None:
        """The exact log marginal likelihood minus that of the approximation: the difference itself where
        the exact value is known, else its bound, None where neither is known. For "vfe" this is (or
        bounds) the Kullback-Leibler divergence of the approximate posterior from the exact one, and never
        negative."""
        if self.exact is not None:
            return self.exact - self.log_likelihood
        return None if self.upper is None or self.lower is None else self.upper - self.lower

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.method}: rank {self.rank} for {self.n} observations",
            f"variance not explained: {self.relative_residual:.3g} of the trace, at most "
            f"{self.max_residual:.3g} at an observation",
            f"entries of the covariance: error {self.entry_error:.2g} (root mean square), "
            f"{self.worst_entry:.2g} (largest sampled), relative to the variance",
            f"log likelihood {self.log_likelihood:.8g}",
        ]
        if self.lower is not None and self.upper is not None:
            lines.append(f"exact log likelihood between {self.lower:.8g} and {self.upper:.8g}")
        if self.exact is not None:
            lines.append(f"exact log likelihood {self.exact:.8g}: {self.gap:.3g} above the approximation")
        if self.nugget is not None:
            lines.append(f"nugget of the inducing points {self.nugget:.1g}, relative to the variance")
        return "\n".join(lines)


def exact_kernel(kernel: Kernel) -> Kernel:
    """The kernel with its approximate parts replaced by what they approximate."""

    def strip(node: Any) -> Any:
        if isinstance(node, APPROXIMATE):
            return strip(node.kernel)
        if isinstance(node, tuple):
            return tuple(strip(item) for item in node)
        if isinstance(node, Struct):
            return rebuild(node, tuple(strip(getattr(node, name)) for name in node._child_fields))
        return node

    return strip(kernel)  # type: ignore[no-any-return]


def approximation_report(
    model: GP, data: Data, *, exact_limit: int = 2000, key: int = 0
) -> ApproximationReport:
    """How well the approximate kernels in ``model`` do on ``data``.

    exact_limit: up to this many observations the exact likelihood is computed.
    key: of the sampled entries. Raises ValueError if nothing in the model is an approximation.
    """
    kernel = model.kernel
    if not any(contains(kernel, kind) for kind in APPROXIMATE):
        raise ValueError(
            "approximation_report: the kernel has no Inducing, Nystrom or RandomFourier part, so there is "
            "nothing to report."
        )
    X = as_points(data.X)
    exact = exact_kernel(kernel)
    found = condition(model, data)
    value = float(found.log_marginal_likelihood())
    lower = upper = nugget = None
    first, second = _pairs(data.n, key)
    diagonal = _numpy(exact.cross_diag(X))
    if isinstance(found, InducingConditioned):
        left = _numpy(found.unexplained)
        rank = int(found.U.shape[1])
        upper = float(found.upper_bound())
        lower = float(found.lower_bound())
        nugget = found.nugget
        U = _numpy(found.U)
        entries = np.sum(U[first] * U[second], axis=1)
    else:
        left = diagonal - _numpy(kernel.cross_diag(X))
        count = kernel.feature_count(int(X.shape[1]))
        rank = data.n if count is None else count
        entries = _entries(kernel, X, first, second)
        if contains(kernel, Nystrom):
            nugget = default_nugget(X)
    wanted = _entries(exact, X, first, second)
    scale = max(float(diagonal.mean()), float(np.finfo(float).tiny))
    errors = np.abs(entries - wanted) / scale
    answer = None
    if data.n <= exact_limit:
        dense = GP(exact, model.mean, model.noise)
        answer = float(condition(dense, data).log_marginal_likelihood())
    return ApproximationReport(
        method=found.method,
        n=data.n,
        rank=rank,
        log_likelihood=value,
        lower=lower,
        upper=upper,
        exact=answer,
        residual_trace=float(left.sum()),
        relative_residual=float(left.sum()) / max(float(diagonal.sum()), float(np.finfo(float).tiny)),
        max_residual=float(np.abs(left).max()),
        entry_error=float(np.sqrt(np.mean(errors**2))),
        worst_entry=float(errors.max()),
        nugget=nugget,
    )


def _numpy(x: Any) -> np.ndarray:
    return np.asarray(backend_for(x).to_numpy(x), dtype=float)


def _pairs(n: int, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of sampled entries, in squares of 64 so that kernels evaluate whole blocks."""
    rng = np.random.default_rng(key)
    side = min(n, int(np.sqrt(PAIRS)))
    rows, columns = (rng.choice(n, side, replace=False) for _ in range(2))
    return np.repeat(rows, side), np.tile(columns, side)


def _entries(kernel: Kernel, X: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    side = int(np.sqrt(first.size))
    rows, columns = first[::side], second[:side]
    backend = backend_for(X)
    device = backend.device(X)
    pick = [backend.asarray(i, device=device) for i in (rows, columns)]
    return _numpy(kernel(X[pick[0]], X[pick[1]])).reshape(-1)

"""The same Gaussian process models in GPyTorch, with the same parameters; imported where it is installed.

Parameters of ours are logarithms and GPyTorch's go through softplus, so gradients are compared with respect
to the logarithms of the natural parameters: ``d/dlog p = p * d/dp``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import gpytorch
import numpy as np
import torch

__all__ = [
    "cholesky",
    "exact_gp",
    "fit",
    "grid_gp",
    "grid_value_and_gradient",
    "iterative",
    "predict",
    "stored_factors",
    "value_and_gradient",
]


class ExactGP(gpytorch.models.ExactGP):  # type: ignore[misc]
    """Zero mean and a given kernel."""

    def __init__(self, X: Any, y: Any, likelihood: Any, kernel: Any):
        super().__init__(X, y, likelihood)
        self.mean_module = gpytorch.means.ZeroMean()
        self.covar_module = kernel

    def forward(self, X: Any) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(X), self.covar_module(X))


def exact_gp(
    X: np.ndarray,
    y: np.ndarray,
    lengthscale: Any,
    variance: float,
    noise: float,
    matern: float | None = None,
) -> tuple[Any, Any]:
    """A scaled RBF (or Matern of order ``matern``) with one lengthscale per dimension; model, likelihood."""
    d = X.shape[1]
    base = (
        gpytorch.kernels.RBFKernel(ard_num_dims=d)
        if matern is None
        else gpytorch.kernels.MaternKernel(nu=matern, ard_num_dims=d)
    )
    kernel = gpytorch.kernels.ScaleKernel(base)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-8)
    )
    model = ExactGP(torch.from_numpy(X), torch.from_numpy(y), likelihood, kernel).double()
    likelihood.double()
    kernel.base_kernel.lengthscale = torch.as_tensor(np.broadcast_to(lengthscale, (1, d)).copy())
    kernel.outputscale = torch.tensor(float(variance), dtype=torch.float64)
    likelihood.noise = torch.tensor([float(noise)], dtype=torch.float64)
    return model, likelihood


def grid_gp(
    axis: np.ndarray, y: np.ndarray, lengthscale: Any, variance: float, noise: float
) -> tuple[Any, Any]:
    """RBF on all pairs of the coordinates ``axis``; the variance is shared between the two factors, because
    a scaling around the grid kernel loses its structure (and takes seconds)."""
    places = torch.stack([torch.from_numpy(axis)] * 2, dim=-1)
    base = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=2))
    kernel = gpytorch.kernels.GridKernel(base, grid=places)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-8)
    )
    X = gpytorch.utils.grid.create_data_from_grid(places)
    # GPyTorch numbers the points with the first coordinate fastest
    order = np.lexsort((X[:, 0].numpy(), X[:, 1].numpy()))
    assert np.array_equal(order, np.arange(len(y))), "the order of points on a grid has changed"
    y = y.reshape(len(axis), len(axis)).T.ravel()
    model = ExactGP(X, torch.from_numpy(y.copy()), likelihood, kernel).double()
    likelihood.double()
    base.base_kernel.lengthscale = torch.as_tensor(np.array(lengthscale)[None, :])
    base.outputscale = torch.tensor(float(variance) ** 0.5, dtype=torch.float64)
    likelihood.noise = torch.tensor([float(noise)], dtype=torch.float64)
    return model, likelihood


def grid_value_and_gradient(model: Any, likelihood: Any) -> tuple[float, np.ndarray]:
    """As :func:`value_and_gradient`, for :func:`grid_gp`."""
    model.train()
    likelihood.train()
    model.zero_grad()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    value = objective(model(*model.train_inputs), model.train_targets) * model.train_targets.shape[0]
    value.backward()
    scaled = model.covar_module.base_kernel
    raw = [
        (scaled.base_kernel.raw_lengthscale, scaled.base_kernel.lengthscale, 1.0),
        (scaled.raw_outputscale, scaled.outputscale, 0.5),
        (likelihood.noise_covar.raw_noise, likelihood.noise, 1.0),
    ]
    parts = []
    for parameter, natural, power in raw:
        slope = torch.sigmoid(parameter)  # the derivative of softplus
        parts.append(np.ravel((power * parameter.grad / slope * natural).detach().numpy()))
    return float(value), np.concatenate(parts)


@contextlib.contextmanager
def stored_factors() -> Iterator[None]:
    """The factors of a grid kernel as stored matrices instead of Toeplitz ones."""
    with gpytorch.settings.use_toeplitz(False):
        yield


@contextlib.contextmanager
def cholesky() -> Iterator[None]:
    """Factorise whatever the size."""
    with (
        gpytorch.settings.fast_computations(False, False, False),
        gpytorch.settings.max_cholesky_size(10**6),
        gpytorch.settings.fast_pred_var(False),
    ):
        yield


@contextlib.contextmanager
def iterative(tol: float = 1.0, probes: int = 10, rank: int = 15, steps: int = 20) -> Iterator[None]:
    """Conjugate gradients and stochastic Lanczos quadrature; the defaults are GPyTorch's own, but that its
    pivoted Cholesky preconditioner has the rank it was asked for."""
    with (
        gpytorch.settings.max_cholesky_size(0),
        gpytorch.settings.fast_computations(True, True, True),
        gpytorch.settings.preconditioner_tolerance(1e-10),
        gpytorch.settings.cg_tolerance(tol),
        gpytorch.settings.num_trace_samples(probes),
        gpytorch.settings.max_preconditioner_size(rank),
        gpytorch.settings.max_lanczos_quadrature_iterations(steps),
    ):
        yield


def value_and_gradient(model: Any, likelihood: Any) -> tuple[float, np.ndarray]:
    """The log marginal likelihood, and its derivatives by log lengthscales, log variance, log noise."""
    model.train()
    likelihood.train()
    model.zero_grad()
    n = model.train_targets.shape[0]
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    value = objective(model(*model.train_inputs), model.train_targets) * n
    value.backward()
    kernel = model.covar_module
    raw = [
        (kernel.base_kernel.raw_lengthscale, kernel.base_kernel.lengthscale),
        (kernel.raw_outputscale, kernel.outputscale),
        (likelihood.noise_covar.raw_noise, likelihood.noise),
    ]
    parts = []
    for parameter, natural in raw:
        slope = torch.sigmoid(parameter)  # the derivative of softplus
        parts.append(np.ravel((parameter.grad / slope * natural).detach().numpy()))
    return float(value), np.concatenate(parts)


def fit(model: Any, likelihood: Any, steps: int, rate: float) -> None:
    """Steps of Adam on minus the log marginal likelihood per observation."""
    model.train()
    likelihood.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = -objective(model(*model.train_inputs), model.train_targets)
        loss.backward()
        optimizer.step()


def predict(model: Any, likelihood: Any, Z: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of observations at Z."""
    model.eval()
    likelihood.eval()
    with torch.no_grad():
        found = likelihood(model(Z))
        return found.mean.numpy(), found.variance.numpy()

"""Gaussian processes whose inference follows from the structure of their covariance.

A model is a covariance operator of ``cola_core``; the same :func:`marginal_likelihood` is a Cholesky
factorisation for scattered points, a Kronecker product for a grid, Levinson's recursion for equally spaced
points, Woodbury's identity for a kernel of finite rank, a Kalman filter for a Matern kernel in time and
preconditioned Lanczos iterations for a covariance too large to store.  :func:`explain` says which and why.

    >>> import numpy as np, cola_gp as gp
    >>> X = np.linspace(0, 5, 30)[:, None]
    >>> data = gp.Data(X, np.sin(X[:, 0]))
    >>> result = gp.fit(gp.GP(1.0 * gp.RBF(1.0)), data)
    >>> posterior = gp.Posterior(result.model, data)
    >>> bool(abs(posterior.mean(np.array([[2.5]])) - np.sin(2.5)) < 1e-2)
    True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import estimators, statespace
from .approximation import ApproximationReport, approximation_report
from .calibration import Calibration, calibration_report
from .covariance import CovarianceOperator
from .data import Data, Grid, GridSubset, Regular, Scaling
from .fitting import FitResult, Run, fit
from .gridding import find_grid
from .inducing_points import select_inducing
from .inference import (
    DenseInference,
    EPInference,
    GridIterativeInference,
    InducingInference,
    Inference,
    InterpolatedInference,
    IterativeInference,
    KroneckerInference,
    LaplaceInference,
    LowRankInference,
    ObservedInference,
    StateSpaceInference,
    ToeplitzInference,
    condition,
    explain,
    represent,
)
from .initial import initialise
from .kernels import (
    RBF,
    SKI,
    ActiveDims,
    Constant,
    Coregion,
    Cosine,
    Deep,
    Inducing,
    Kernel,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Nystrom,
    Ones,
    Periodic,
    Polynomial,
    Product,
    RandomFourier,
    RationalQuadratic,
    Scale,
    SpectralMixture,
    Sum,
    White,
)
from .likelihood import marginal_likelihood, value_and_gradient
from .likelihoods import BernoulliLikelihood, Likelihood, PoissonLikelihood, StudentTLikelihood
from .linear_model import LinearPosterior, linear_evidence, linear_posterior
from .maps import Affine, Chain, Function, Map, Network
from .means import ConstantMean, LinearMean, MapMean, Mean, SumMean, TaskMean, ZeroMean
from .missing import drop_missing
from .model import GP
from .noise import FixedNoise, GaussianNoise, HeteroscedasticNoise, Noise, TaskNoise
from .pathwise import Paths, sample_prior
from .posterior import LeaveOneOut, Posterior
from .predictor import Predictor
from .priors import Gamma, HalfCauchy, HalfNormal, InverseGamma, LogNormal, Normal, Prior, StudentT
from .sde import StateSpaceCovariance

if TYPE_CHECKING:
    from .estimators.classifier import GPClassifier
    from .estimators.components import PCA, Whitening
    from .estimators.dynamical import LinearDynamicalSystem
    from .estimators.linear import BayesianLinearRegressor
    from .regressor import GPRegressor

__version__ = "0.1.0"

__all__ = [
    "GP",
    "PCA",
    "RBF",
    "SKI",
    "ActiveDims",
    "Affine",
    "ApproximationReport",
    "BayesianLinearRegressor",
    "BernoulliLikelihood",
    "Calibration",
    "Chain",
    "Constant",
    "ConstantMean",
    "Coregion",
    "Cosine",
    "CovarianceOperator",
    "Data",
    "Deep",
    "DenseInference",
    "EPInference",
    "FitResult",
    "FixedNoise",
    "Function",
    "GPClassifier",
    "GPRegressor",
    "Gamma",
    "GaussianNoise",
    "Grid",
    "GridIterativeInference",
    "GridSubset",
    "HalfCauchy",
    "HalfNormal",
    "HeteroscedasticNoise",
    "Inducing",
    "InducingInference",
    "Inference",
    "InterpolatedInference",
    "InverseGamma",
    "IterativeInference",
    "Kernel",
    "KroneckerInference",
    "LaplaceInference",
    "LeaveOneOut",
    "Likelihood",
    "Linear",
    "LinearDynamicalSystem",
    "LinearMean",
    "LinearPosterior",
    "LogNormal",
    "LowRankInference",
    "Map",
    "MapMean",
    "Matern12",
    "Matern32",
    "Matern52",
    "Mean",
    "Network",
    "Noise",
    "Normal",
    "Nystrom",
    "ObservedInference",
    "Ones",
    "Paths",
    "Periodic",
    "PoissonLikelihood",
    "Polynomial",
    "Posterior",
    "Predictor",
    "Prior",
    "Product",
    "RandomFourier",
    "RationalQuadratic",
    "Regular",
    "Run",
    "Scale",
    "Scaling",
    "SpectralMixture",
    "StateSpaceCovariance",
    "StateSpaceInference",
    "StudentT",
    "StudentTLikelihood",
    "Sum",
    "SumMean",
    "TaskMean",
    "TaskNoise",
    "ToeplitzInference",
    "White",
    "Whitening",
    "ZeroMean",
    "approximation_report",
    "calibration_report",
    "condition",
    "drop_missing",
    "explain",
    "find_grid",
    "fit",
    "initialise",
    "linear_evidence",
    "linear_posterior",
    "marginal_likelihood",
    "represent",
    "sample_prior",
    "select_inducing",
    "statespace",
    "value_and_gradient",
]


# Modules for one library each, which is imported with them.
_LATER = ("functional", "torch_module")


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import, so only those who use an estimator pay for it.
    if name in estimators.__all__:
        return getattr(estimators, name)
    if name in _LATER:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

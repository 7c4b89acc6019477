"""Inference, chosen by rules on the covariance operator and not by the class of the model.

:mod:`~cola_gp.inference.questions` holds the two questions; every other module is one structure: the rule
that brings a covariance into it, the algorithm that conditions on it, and the answers.
"""

from __future__ import annotations

from typing import Any

from cola_core.algorithms import Auto
from cola_core.dispatch import Plan
from cola_core.dispatch import explain as explain_question

from ..arrays import backend_for
from ..covariance import CovarianceOperator
from ..data import Data, as_points
from .base import Conditioned
from .dense import DenseInference
from .ep import EPInference
from .grid import KroneckerInference
from .grid_iterative import GridIterativeInference
from .inducing import InducingCovariance, InducingInference
from .interpolated import InterpolatedInference
from .laplace import LaplaceInference
from .lazy import IterativeInference
from .lowrank import LowRankInference
from .observed import ObservedInference
from .questions import CONDITION, Inference, Problem, Representation, as_inference, condition, represent
from .state_space import StateSpaceInference
from .toeplitz import ToeplitzInference


def explain(model: Any, data: Any, alg: Any = Auto()) -> Plan:
    """The plan of conditioning ``model`` on ``data`` (a Data, or inputs alone), before anything is computed.

    Per node: the operator, the rule or algorithm with its place in the source, its estimated cost, and every
    candidate that was not taken with its reason.
    """
    if not isinstance(data, Data):
        column = as_points(Data.inputs(data))[:, 0]
        data = Data(data, backend_for(column).xp.zeros_like(column))
    K = CovarianceOperator(model.kernel, data.X)
    noise = model.noise.operator(data.y, data.X)
    return explain_question(CONDITION, K, noise, Problem(model, data), alg=as_inference(alg), candidates=True)


__all__ = [
    "Conditioned",
    "DenseInference",
    "EPInference",
    "InducingCovariance",
    "InducingInference",
    "GridIterativeInference",
    "Inference",
    "InterpolatedInference",
    "IterativeInference",
    "LaplaceInference",
    "KroneckerInference",
    "LowRankInference",
    "ObservedInference",
    "Problem",
    "Representation",
    "ToeplitzInference",
    "StateSpaceInference",
    "condition",
    "explain",
    "represent",
]

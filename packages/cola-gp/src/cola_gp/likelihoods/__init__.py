"""Likelihoods that are not Gaussian: what stands in the place of a model's noise.

``GP(kernel, noise=BernoulliLikelihood())`` is a classifier, with ``PoissonLikelihood()`` a model of counts,
with ``StudentTLikelihood()`` a regression that outliers do not move.  Inference is by Laplace's approximation
(:mod:`cola_gp.inference.laplace`), on whatever structure the covariance has.
"""

from __future__ import annotations

from .base import Likelihood
from .bernoulli import BernoulliLikelihood
from .poisson import PoissonLikelihood
from .student_t import StudentTLikelihood

__all__ = ["BernoulliLikelihood", "Likelihood", "PoissonLikelihood", "StudentTLikelihood"]

"""Kernels in time as stochastic differential equations: inference in O(n), on every array library.

``form_of(kernel)`` writes a one-dimensional kernel as the covariance of a linear state-space model,
:class:`StateSpaceCovariance` is that covariance as an operator, and :mod:`cola_gp.inference.state_space` the
rules by which models find it.
"""

from __future__ import annotations

from . import composed, matern, periodic  # noqa: F401  (the forms of kernels are registered there)
from .filtering import Cotangent, Factor, Steps, factorise
from .forms import Form, NoForm, form_of
from .operator import StateSpaceCovariance
from .periodic import harmonics_needed
from .smoothing import Bridge, Smoothed, joint_covariance

__all__ = [
    "Bridge",
    "Cotangent",
    "Factor",
    "Form",
    "NoForm",
    "Smoothed",
    "StateSpaceCovariance",
    "Steps",
    "factorise",
    "form_of",
    "harmonics_needed",
    "joint_covariance",
]

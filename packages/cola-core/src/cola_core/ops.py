"""The operators, under the name the CoLA paper and package use: ``from cola_core import ops``."""

from .operators import *  # noqa: F403
from .operators import __all__ as __all__

"""The operators, under the name the CoLA paper and package use: ``from cola_core import ops``."""

from .backends.base import Array as Array
from .functions import I_like as I_like
from .operators import *  # noqa: F403
from .operators import __all__ as __all__

"""Errors of this package. All derive from `cola_core.errors.ColaError` and from the built-in a user would
catch.
"""

from __future__ import annotations

from cola_core.errors import ColaError


class GroupError(ColaError, ValueError):
    """Generators or group elements that do not describe a group, or elements of another group."""


class RepError(ColaError, ValueError):
    """A representation was combined or used in a way that has no meaning."""


class ParseError(ColaError, ValueError):
    """A group or representation written as text could not be read."""


class BasisError(ColaError, ArithmeticError):
    """A basis could not be computed within its limits, or what was computed failed its own certification."""

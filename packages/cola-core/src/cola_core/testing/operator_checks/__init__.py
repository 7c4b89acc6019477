"""Checks of operators, one file per concern; importing this registers them."""

from __future__ import annotations

from . import (  # noqa: F401
    adjoints,
    algebra,
    bad_input,
    derivatives,
    products,
    properties,
    questions,
    structure,
    transforms,
)

"""Checks of algorithms, one file per concern; importing this registers them."""

from __future__ import annotations

from . import accuracy, derivatives, honesty, input, settings, transforms  # noqa: F401

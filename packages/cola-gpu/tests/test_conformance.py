"""The package passes the kit that ships with the core."""

from __future__ import annotations

from cola_core.testing import parametrize_with_checks
from cola_gpu.conformance import cases


@parametrize_with_checks(cases())
def test_conformance(check):
    check()

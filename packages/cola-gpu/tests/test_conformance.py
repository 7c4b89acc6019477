"""The package passes the kit that ships with the core."""

from __future__ import annotations

from cola_core.testing import Case, parametrize_with_checks
from cola_gpu.conformance import cases


@parametrize_with_checks([Case("gpu", kind="plugin"), *cases()])
def test_conformance(check):
    check()

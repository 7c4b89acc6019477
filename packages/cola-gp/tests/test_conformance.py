"""The conformance kit of the core, on every case of this package."""

from cola_core.testing import Case, parametrize_with_checks
from cola_gp.conformance import cases


@parametrize_with_checks([Case("gp", kind="plugin"), *cases()])
def test_conformance(check):
    check()

"""The conformance kit of the core, on every case of this package."""

from cola_core.testing import parametrize_with_checks
from cola_gp.conformance import cases


@parametrize_with_checks(cases())
def test_conformance(check):
    check()

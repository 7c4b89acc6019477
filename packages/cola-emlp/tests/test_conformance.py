"""The package's own conformance cases, through the core's kit."""

from cola_core.testing import parametrize_with_checks
from cola_emlp.conformance import cases


@parametrize_with_checks(cases())
def test_conformance(check):
    check()

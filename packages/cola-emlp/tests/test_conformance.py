"""The package's own conformance cases, through the core's kit."""

from cola_core.testing import Case, parametrize_with_checks
from cola_emlp.conformance import cases


@parametrize_with_checks([Case("emlp", kind="plugin"), *cases()])
def test_conformance(check):
    check()

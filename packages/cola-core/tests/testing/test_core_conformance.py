"""The core passes its own conformance kit."""

from cola_core.testing import parametrize_with_checks
from cola_core.testing.core_cases import cases


@parametrize_with_checks(cases())
def test_conformance(check):
    check()

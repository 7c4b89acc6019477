"""Everything the core's conformance kit has to say about this plugin."""

from cola_circulant.conformance import cases
from cola_core.testing import check_plugin, parametrize_with_checks


@parametrize_with_checks(cases())
def test_conformance(check):
    check()


def test_as_a_plugin():
    failed = [str(result) for result in check_plugin("circulant", backends=["numpy"]) if not result.ok]
    assert failed == []

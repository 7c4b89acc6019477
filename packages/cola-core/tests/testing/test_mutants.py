"""The kit on itself: every check has a mutant, and rejects it."""

import pytest

from cola_core.testing import Case, all_checks, check_case
from cola_core.testing.errors import MissingBackend
from cola_core.testing.mutants import MUTANTS, rejects
from cola_core.testing.mutants.plugins import write_plugin


@pytest.mark.parametrize("check", all_checks().values(), ids=lambda c: c.id)
def test_every_check_rejects_its_mutant(check, tmp_path):
    assert check.id in MUTANTS, f"check {check.id} has no mutant"
    try:
        message = rejects(check, MUTANTS[check.id](tmp_path))
    except MissingBackend as error:
        pytest.skip(str(error))
    assert message is not None, f"{check.id} does not reject its mutant"
    assert message.strip()


def test_no_mutant_without_a_check():
    assert set(MUTANTS) == set(all_checks())


def test_the_plugin_without_a_fault_passes_every_plugin_check(tmp_path):
    write_plugin(tmp_path, {})
    results = check_case(Case("mutant", kind="plugin", subject=str(tmp_path)))
    assert [str(r) for r in results if r.status != "passed"] == []

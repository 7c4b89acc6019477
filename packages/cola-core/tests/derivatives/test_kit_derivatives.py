"""The kit's checks of derivatives reject what is wrong in one way, on each framework and for that reason."""

import re

import pytest

from cola_core.testing import all_checks, only
from cola_core.testing.mutants import MUTANTS, rejects
from cola_core.testing.run import installed

REASONS = {
    "operator.grad": "the gradient of A @ x: got",
    "operator.grad-forward": "forward mode of A @ x: got",
    "operator.grad-adjoint": r"the gradient of A.H @ y: got .*array 0: 0 for",
    "operator.grad-second": "reverse over reverse of A @ x: got",
    "algorithm.grad": "the gradient of solve: got .*array 0: 0 for",
    "algorithm.grad-forward": "forward mode of solve: got",
    "algorithm.grad-second": "reverse over reverse of solve: got",
    "rule.grad": "the gradient of mutant:trace/diagonal .trace.(: got| fails)",
    "rule.grad-second": r"reverse over reverse of mutant:slogdet/diagonal \(slogdet\): got",
}


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("check", REASONS)
def test_a_wrong_derivative_is_rejected_for_what_is_wrong(check, library, tmp_path):
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    mutant = MUTANTS[check](tmp_path)
    case = mutant.case
    here = only(library, reason="one at a time")
    mutant = type(mutant)(case.replace(capabilities=_with(case.capabilities, here)), mutant.around)
    message = rejects(all_checks()[check], mutant)
    assert message is not None and re.search(REASONS[check], message), message


def _with(capabilities, backends):
    from dataclasses import replace

    return replace(capabilities, backends=backends)


def test_every_check_of_derivatives_has_a_reason_here():
    assert set(REASONS) == {name for name in all_checks() if ".grad" in name}

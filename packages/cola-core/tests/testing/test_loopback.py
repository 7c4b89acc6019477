"""The core's rules, brought in by a plugin for subclasses of the core's operators, pass the same checks."""

import loopback
import pytest

from cola_core.algorithms import Auto
from cola_core.dispatch import REGISTRY, explain
from cola_core.linalg import SOLVE, solve
from cola_core.plugins import MANAGER, Registrar
from cola_core.testing import parametrize_with_checks


@pytest.fixture(autouse=True, scope="module")
def plugin():
    """Register through the public registrar; take it out again afterwards."""
    MANAGER.load("core", "always", explicit=True)
    saved = REGISTRY.rules, REGISTRY.algorithms, REGISTRY._tiers
    registrar = Registrar("loopback", "0")
    loopback.register(registrar)
    registrar.commit()
    yield
    REGISTRY.rules, REGISTRY.algorithms, REGISTRY._tiers = saved


@parametrize_with_checks(loopback.cases(), dtypes=("float64", "complex128"))
def test_conformance(check):
    check()


@pytest.mark.parametrize("case", loopback.cases(), ids=lambda c: c.name)
def test_rules_of_the_plugin_answer(case):
    """Not the core's rules for the base class: the subclass's own are more specific."""
    from cola_core.backends import get_backend

    A = case.build(get_backend("numpy"), "float64")
    tiers = REGISTRY.tiers(SOLVE.name, (type(A), Auto))
    own = [r for tier in tiers for r in tier if r.types[0] is type(A)]
    assert all(r.provenance.plugin == "loopback" for r in own)
    assert case.name in ("loop-dense", "loop-lowrank") or own


def test_the_plan_names_the_plugin():
    import numpy as np

    A = loopback.LoopDiagonal(np.arange(1.0, 4.0))
    plan = explain(solve, A, np.ones(3))
    assert plan.root.by.startswith("loopback:") and plan.root.plugin == "loopback"


def test_registering_twice_changes_nothing():
    before = sum(map(len, REGISTRY.rules.values()))
    registrar = Registrar("loopback", "0")
    loopback.register(registrar)
    registrar.commit()
    assert sum(map(len, REGISTRY.rules.values())) == before

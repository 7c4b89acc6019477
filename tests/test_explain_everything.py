"""``explain`` on every question of every installed plugin: planned without values, candidates, and analysed.

The questions, operands and operators are those of the conformance kit, so that what a plugin adds is walked
over too. Every rule and algorithm of a question is the answer, refused with its reason and place, or counted
as a rule for other operators.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core.algorithms import Auto
from cola_core.backends import get_backend
from cola_core.dispatch import REGISTRY
from cola_core.dispatch.question import QUESTIONS
from cola_core.plugins.manager import MANAGER
from cola_core.testing import data
from cola_core.testing.operator_checks.common import make
from cola_core.testing.plugin_checks import plugin_cases
from cola_core.testing.probes import PROBES

PLUGINS = ("gpu", "gp", "pde", "emlp", "circulant")
INSTALLED = {e.name for e in importlib.metadata.entry_points(group="cola_core.plugins")}
PLACE = re.compile(r".+\.py:\d+")
NUMPY = get_backend("numpy")


# questions whose answers are tried on a vector
TESTED = {"solve", "eigh", "eigsh", "eig", "eigs", "geigh", "geigsh", "geig", "geigs", "svd", "svds"}
TESTED |= {"cholesky", "root", "lu", "qr", "lq", "schur"}


def operators():
    """One that is definite, one that is general, one with rules of its own, one that only multiplies."""
    S = np.asarray(data.psd(0, 6), dtype=float)
    G = S + np.triu(np.ones((6, 6)))
    K = np.kron(S[:3, :3], S[:2, :2])
    return {
        "definite": (cola.PSD(cola.ops.Dense(S)), S),
        "general": (cola.ops.Dense(G), G),
        "kronecker": (cola.PSD(cola.kron(cola.PSD(S[:3, :3]), cola.PSD(S[:2, :2]))), K),
        "products": (cola.PSD(cola.no_dispatch(cola.ops.Dense(S))), S),
    }


OPERATORS = operators()


def explained(asked, arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cola.errors.UnreliableResultWarning)
        return cola.explain(asked, *arguments, candidates=True, **options)


def complete(plan, question):
    """Nobody is forgotten, everybody has a reason and a place, and all three forms say so."""
    node = next(n for n in plan.nodes() if n.question == question)
    assert node.by and PLACE.fullmatch(node.where) and node.plugin and node.version, node
    for n in plan.nodes():
        for r in n.refusals:
            assert r.reason.strip() and PLACE.fullmatch(r.where), r
    told = {r.name for r in node.refusals} | {node.by}
    known = {e.id for e in REGISTRY.algorithms.get(question, [])}
    assert known <= told, known - told
    rules = {rule.id for rule in REGISTRY.rules.get(question, [])}
    assert len(rules - told) == node.unmatched, (rules - told, node.unmatched)
    text, page, found = str(plan), plan.to_html(), json.loads(plan.to_json(), parse_constant=pytest.fail)
    assert page.startswith("<!DOCTYPE html>") and "http" not in page
    assert found["by"] == plan.root.by and found["where"] == plan.root.where
    assert {r["name"] for r in found["rejected"]} == {r.name for r in plan.root.refusals}
    assert all(r["reason"] and r["where"] for r in found["rejected"])
    assert found["estimated_seconds"] >= 0 and found["memory"] >= 0
    for r in node.refusals:
        place = r.where.rpartition("/")[2]
        assert f"not {r.name}: {r.reason}" in text and r.name in page and place in page, r
    return node


def looked_at(*_):
    raise AssertionError("values were computed")


@pytest.mark.parametrize(
    ("name", "operator"), [(n, o) for n in PROBES for o, made in OPERATORS.items() if PROBES[n].suits(*made)]
)
def test_every_question_of_the_core(name, operator, monkeypatch):
    probe, (A, M) = PROBES[name], OPERATORS[operator]
    asked, arguments = probe.public(A, probe.operands(A, M, NUMPY, "float64", 0))
    question = probe.question.name
    with monkeypatch.context() as patched:
        for operation in ("cholesky", "eigh", "eig", "svd", "qr", "solve", "inv", "lu", "matmul"):
            patched.setattr(type(NUMPY), operation, looked_at, raising=False)
        plan = explained(asked, arguments)
    complete(plan, question)
    assert all(n.seconds is n.peak is n.products is n.residual is None for n in plan.nodes())
    assert "measured" not in str(plan)

    ran = explained(asked, arguments, analyze=True)
    assert ran.root.by == plan.root.by
    node, found = complete(ran, question), json.loads(ran.to_json())
    assert found["measured_seconds"] > 0 and found["measured_memory"] >= 0
    if node.kind == "iterative":
        assert node.products > 0
    if question in TESTED:
        assert node.residual < 1e-6 and "residual" in str(ran)
    assert "; measured " in str(ran) and "measured" in ran.to_html()


def test_the_kit_asks_every_question():
    ours = {
        name
        for name, q in QUESTIONS.items()
        if q.home == "cola_core" and (REGISTRY.rules.get(name) or REGISTRY.algorithms.get(name))
    }
    assert ours <= {p.question.name for p in PROBES.values()}


def suits(probe, A, M):
    """Where a probe makes sense; rules that say that an operator is singular are planned all the same."""
    known = probe.suits(A, M.astype(np.result_type(M, np.float64)))
    return known or (A.is_square and probe.name in ("solve", "slogdet"))


@pytest.mark.parametrize(
    "plugin",
    [
        pytest.param(n, marks=pytest.mark.skipif(n not in INSTALLED, reason=f"plugin {n} is not installed"))
        for n in PLUGINS
    ],
)
def test_what_a_plugin_adds(plugin):
    """Every rule of a plugin answers somewhere on its operators, every algorithm of it is listed.

    That is for the core's questions; those that a plugin asks itself are for its own tests.
    """
    MANAGER.load(plugin, "always", explicit=True)
    cases = [
        c
        for c in plugin_cases(plugin)
        if c.kind in ("operator", "rule") and "numpy" in c.capabilities.backends.names
    ]
    known = {p.question.name for p in PROBES.values()}
    rules = {r for q in known for r in REGISTRY.rules.get(q, ()) if r.provenance.plugin == plugin}
    entries = {e for q in known for e in REGISTRY.algorithms.get(q, ()) if e.provenance.plugin == plugin}
    asked_about = {r.question for r in rules} | {e.question for e in entries}
    seen = set()
    for case in cases:
        dtype = case.capabilities.all_dtypes[0]
        A, M = make(case, NUMPY, dtype, case.seed)
        for probe in PROBES.values():
            question = probe.question.name
            if question not in asked_about or not suits(probe, A, M):
                continue
            operands = probe.operands(A, M, NUMPY, dtype, case.seed)
            if not any(r.question == question and r.matches((type(A), Auto)) for r in rules):
                continue
            asked, arguments = probe.public(A, operands)
            plan = explained(asked, arguments)
            complete(plan, question)
            seen |= {r.name for r in plan.root.refusals} | {n.by for n in plan.nodes()}
            if plan.root.by.startswith(plugin + ":") and probe.suits(A, M):
                ran = explained(asked, arguments, analyze=True)
                complete(ran, question)
                assert ran.root.by == plan.root.by and ran.root.seconds > 0
    for entry in entries - {e for e in entries if e.id in seen}:
        A, M = OPERATORS["definite"]
        probe = next(p for p in PROBES.values() if p.question.name == entry.question and p.suits(A, M))
        asked, arguments = probe.public(A, probe.operands(A, M, NUMPY, "float64", 0))
        plan = explained(asked, arguments)
        complete(plan, entry.question)
        assert entry.id in {plan.root.by} | {r.name for r in plan.root.refusals}
        seen.add(entry.id)
    assert {r.id for r in rules} <= seen and {e.id for e in entries} <= seen


COMMANDS = [
    "solve",
    "lstsq",
    "logdet",
    "trace",
    "diag",
    "norm",
    "cond",
    "rank",
    "eigs",
    "eigh",
    "svd",
    "exp",
    "sqrt",
]


@pytest.mark.parametrize("question", COMMANDS)
def test_on_the_command_line(question, tmp_path, capsys):
    from cola_core.cli import main

    np.save(tmp_path / "a.npy", OPERATORS["definite"][1])
    page = tmp_path / "plan.html"
    command = ["explain", question, str(tmp_path / "a.npy"), "--psd", "--candidates", "--analyze", "-k", "1"]
    assert main([*command, "--html", str(page)]) == 0
    out, err = capsys.readouterr()
    assert "; measured " in out and "not core:" in out and str(page) in err
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and "measured" in text and ".py:" in text
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured_seconds"] > 0 and found["rejected"]

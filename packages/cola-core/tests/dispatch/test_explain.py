"""Plans: what they predict, what they measure, who was refused and at what cost, as text, JSON and HTML."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.sparse as sp

import cola_core as cola
from cola_core.dispatch import REGISTRY, Question
from cola_core.dispatch.plan import Plan, PlanNode, Refusal


@pytest.fixture
def psd(rng):
    M = rng.standard_normal((40, 40))
    return cola.PSD(cola.ops.Dense(M @ M.T + 40 * np.eye(40)))


@pytest.fixture
def laplacian():
    m = 12
    T = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    M = sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T)
    return cola.PSD(cola.ops.Sparse.from_scipy(sp.csr_array(M)))


QUESTIONS = {
    "solve": lambda A: (cola.solve, A, np.ones(A.shape[-1])),
    "inv": lambda A: (cola.inv, A),
    "slogdet": lambda A: (cola.slogdet, A),
    "logdet": lambda A: (cola.logdet, A),
    "trace": lambda A: (cola.trace, A),
    "diag": lambda A: (cola.diag, A),
    "eigh": lambda A: (cola.eigh, A),
    "eigsh": lambda A: (cola.eigh, A, 3, "LA"),
    "eigsh smallest": lambda A: (cola.eigh, A, 3, "SM"),
    "eigsh by name": lambda A: ("eigsh", A, 3, "LA"),
    "eigs": lambda A: (cola.eig, A, 3, "LM"),
    "eigvalsh": lambda A: (cola.eigvalsh, A),
    "svd": lambda A: (cola.svd, A),
    "svds": lambda A: (cola.svd, A, 3),
    "svds by name": lambda A: ("svds", A, 3),
    "svdvals": lambda A: (cola.svdvals, A),
    "cholesky": lambda A: (cola.cholesky, A),
    "qr": lambda A: (cola.qr, A),
    "lu": lambda A: (cola.lu, A),
    "schur": lambda A: (cola.schur, A),
    "lstsq": lambda A: (cola.lstsq, A, np.ones(A.shape[-2])),
    "norm": lambda A: (cola.norm, A),
    "exp": lambda A: (cola.exp, A),
    "sqrt": lambda A: (cola.sqrt, A),
}


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("operator", ["psd", "laplacian", "kron"])
def test_plan_and_run_agree(name, operator, request, psd, laplacian):
    A = {"psd": psd, "laplacian": laplacian, "kron": cola.kron(psd, psd[:3, :3])}[operator]
    if operator == "kron":
        A = cola.PSD(A)
    asked = QUESTIONS[name](0.01 * A if name == "exp" else A)
    planned = cola.explain(*asked, candidates=True)
    ran = cola.explain(*asked, candidates=True, analyze=True)

    def answered(node):
        # what an algorithm asks in turn is its own business
        inner = node.children if node.kind.startswith("rule") else []
        return (node.question, node.by, node.shape, [answered(c) for c in inner])

    def refused(plan):
        return [(r.name, r.reason) for r in plan.root.refusals]

    assert answered(planned.root) == answered(ran.root), f"{planned}\n\n{ran}"
    assert refused(planned) == refused(ran)
    assert all(n.seconds is None and n.peak is None and n.residual is None for n in planned.nodes())
    assert ran.root.seconds > 0 and ran.root.peak >= 0
    for plan in (planned, ran):
        text, page = str(plan), plan.to_html()
        assert plan.root.by in text and plan.root.by in page
        assert json.loads(plan.to_json())["by"] == plan.root.by
    assert ("measured" in str(ran)) and ("measured" not in str(planned))


def test_nothing_is_computed_when_planning():
    def never(X):
        raise AssertionError("a product was made")

    A = cola.PSD(cola.ops.FunctionOperator(never, (500, 500), rmatvec=never, vectorized=True))
    for asked in (
        (cola.solve, A, np.ones(500)),
        (cola.slogdet, A),
        (cola.eigh, A, 4, "LA"),
        (cola.svd, A, 4),
        (cola.trace, A),
        (cola.diag, A),
        (cola.exp, A),
    ):
        plan = cola.explain(*asked, candidates=True)
        assert plan.root.by and plan.root.estimate > 0


def test_every_candidate_has_a_reason_and_a_place(psd):
    plan = cola.explain(cola.solve, psd, np.ones(40), candidates=True)
    named = {r.name.rpartition("/")[2] for r in plan.root.refusals} | {plan.root.by.rpartition("/")[2]}
    assert {e.name for e in REGISTRY.algorithms["solve"]} <= named
    for r in plan.root.refusals:
        assert r.reason and re.fullmatch(r".+\.py:\d+", r.where), r
    lost = {r.name: r for r in plan.root.refusals}["core:solve/lu"]
    assert lost.seconds > plan.root.estimate and lost.cost.memory > 0 and "costs more" in lost.reason
    shown = str(plan)
    assert "rules of solve for other operators" in shown and plan.root.unmatched > 10
    assert "not core:solve/lu" in shown and "not core" not in str(cola.explain(cola.solve, psd, np.ones(40)))


def test_a_rule_answers_and_the_rest_is_priced(psd):
    A = cola.kron(psd, psd)
    plan = cola.explain(cola.solve, A, np.ones(1600), candidates=True)
    refusals = {r.name: r for r in plan.root.refusals}
    assert plan.root.by == "core:solve/kronecker"
    assert "rule core:solve/kronecker answers" in refusals["core:solve/cholesky"].reason
    assert refusals["core:solve/cholesky"].seconds > 10 * plan.root.estimate
    assert all(n.thorough for n in plan.nodes())


def test_an_explicit_algorithm_shows_what_the_others_cost(psd):
    plan = cola.explain(cola.solve, psd, np.ones(40), alg=cola.CG(), candidates=True)
    refusals = {r.name: r for r in plan.root.refusals}
    assert (
        plan.root.by == "core:solve/cg" and "CG(...) was asked for" in refusals["core:solve/cholesky"].reason
    )
    assert refusals["core:solve/cholesky"].seconds > 0 and "core:solve/cg" not in refusals


def test_measurements(laplacian):
    b = np.ones(144)
    plan = cola.explain(cola.solve, laplacian, b, alg=cola.CG(tol=1e-9), analyze=True)
    root = plan.root
    assert root.products >= 5 and root.residual < 1e-8 and root.accuracy == 1e-9
    assert 6 * b.nbytes < root.peak < 1e6
    assert root.total.matvecs > 0 and "products" in str(plan)
    dense = cola.ops.Dense(np.eye(300) + 0.01)
    root = cola.explain(cola.solve, dense, np.ones(300), analyze=True).root
    assert root.peak >= 300 * 300 * 8 and root.residual < 1e-12
    assert root.total.memory / 4 < root.peak < 4 * root.total.memory
    root = cola.explain(cola.eigh, laplacian, 3, "LA", analyze=True).root
    assert root.residual < 1e-7
    for asked in ((cola.svd, dense), (cola.qr, dense), (cola.lu, dense), (cola.cholesky, cola.PSD(dense))):
        assert cola.explain(*asked, analyze=True).root.residual < 1e-12


def test_memory_is_attributed_to_the_node_that_holds_it(psd):
    A = cola.block_diag(cola.ops.Dense(np.eye(200) + 0.001), cola.ops.Dense(np.eye(20) + 0.001))
    root = cola.explain(cola.solve, A, np.ones(220), analyze=True).root
    large, small = (next(c for c in root.children if c.shape[-1] == n) for n in (200, 20))
    assert large.peak >= 200 * 200 * 8 > 10 * small.peak
    assert root.peak >= large.peak
    assert root.seconds >= large.seconds


def test_memory_of_one_who_traces_already(psd):
    import tracemalloc

    tracemalloc.start()
    try:
        root = cola.explain(cola.solve, psd, np.ones(40), analyze=True).root
        assert tracemalloc.is_tracing() and root.peak >= 40 * 40 * 8
    finally:
        tracemalloc.stop()


def test_a_miss_is_noted(laplacian):
    plan = cola.explain(cola.solve, laplacian, np.ones(144), alg=cola.CG(max_iters=2), analyze=True)
    assert "did not converge" in plan.root.note and "did not converge" in str(plan)


def test_json_is_strict_and_complete(laplacian):
    plan = cola.explain(cola.solve, laplacian, np.ones(144), analyze=True, candidates=True)
    found = json.loads(plan.to_json(), parse_constant=lambda name: pytest.fail(name))
    for key in (
        *("estimated_seconds", "measured_seconds", "memory", "measured_memory", "flops", "bytes"),
        *("matvecs", "measured_matvecs", "residual", "accuracy", "rejected", "children", "where"),
    ):
        assert key in found
    assert any("estimated_seconds" in r for r in found["rejected"])
    plan.root.residual = float("nan")
    assert json.loads(plan.to_json())["residual"] is None


class _Balanced(HTMLParser):
    VOID = ("meta", "br")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_self_contained_and_escaped():
    evil = '<script>alert("x")</script>&amp;'
    child = PlanNode(
        evil, evil, (2, 2), by=evil, settings=evil, plugin=evil, note=evil, where=evil, source=evil
    )
    child.refusals = [Refusal(evil, evil, evil)]
    root = PlanNode("solve", evil, (2, 2), by="core:solve/x", kind="rule, exact", children=[child])
    plan = Plan(root, candidates=True)
    for text in (plan.to_html(), plan._repr_html_()):
        assert "<script" not in text and "&lt;script&gt;" in text
        assert not re.search(r"(src|href)\s*=|url\(|@import", text)
        reader = _Balanced()
        reader.feed(text)
        assert not reader.open
        assert not any(name.startswith("on") for name, _ in reader.attributes)
    assert plan.to_html().startswith("<!DOCTYPE html>") and "<html" not in plan._repr_html_()


def test_a_question_of_somebody_else(psd):
    """A question without a public function is asked directly."""
    from cola_core.dispatch.question import QUESTIONS as known

    asked = Question("test_excess", abstract=lambda A: A, doc="A - I")
    try:
        with pytest.raises(cola.errors.NoRuleError, match="test_excess"):
            cola.explain("test_excess", psd)

        class Excess(cola.algorithms.Algorithm):
            def cost(self, question, A, *operands):
                return A.matvec_cost

            def test_excess(self, A):
                return A - cola.ops.Identity(A.shape[-1])

        for analyze in (False, True):
            plan = cola.explain(asked, psd, alg=Excess(), analyze=analyze)
            assert plan.root.by.endswith("Excess") and plan.root.where
    finally:
        known.pop("test_excess")


def test_repeated_blocks_take_one_line():
    blocks = [cola.ops.Dense(np.eye(5) * (i + 2)) for i in range(4)]
    plan = cola.explain(cola.slogdet, cola.kron(*blocks), analyze=True)
    assert plan.root.children[0].repeated == 4
    assert plan.root.estimate >= 4 * plan.root.children[0].estimate


def test_in_the_command_line(tmp_path, capsys, laplacian):
    from cola_core.cli import main
    from cola_core.io import write_matrix_market

    write_matrix_market(tmp_path / "a.mtx", laplacian)
    page = tmp_path / "plan.html"
    options = ["--psd", "--candidates", "--analyze"]
    assert main(["explain", "solve", str(tmp_path / "a.mtx"), *options, "--html", str(page)]) == 0
    out, err = capsys.readouterr()
    assert "measured" in out and "not core:solve/cg" in out and str(page) in err
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert main(["explain", "eigs", str(tmp_path / "a.mtx"), *options, "--json", "-k", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured_seconds"] > 0 and found["rejected"] and found["residual"] < 1e-6
    assert main(["explain", "solve", str(tmp_path / "a.mtx"), "--html", str(tmp_path / "no" / "x.html")]) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries(library):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    A = cola.PSD(cola.ops.Dense(be.asarray(np.eye(6) * 2 + 0.1)))
    plan = cola.explain(cola.solve, A, be.asarray(np.ones(6)), analyze=True, candidates=True)
    assert plan.root.seconds > 0 and plan.root.peak is None and plan.root.residual < 1e-5


def test_rules_of_a_plugins_own_question(psd):
    """They may be about the core's operators; prospective costs rank them and are not added up."""
    from cola_core.cost import Cost
    from cola_core.dispatch import ask
    from cola_core.dispatch.question import QUESTIONS as known
    from cola_core.errors import RegistrationError
    from cola_core.plugins import Registrar

    home = __name__.partition(".")[0]
    state = REGISTRY.state()

    def stage(asked):
        registrar = Registrar("someone")
        for name, flops in (("dear", 1e9), ("cheap", 1e3)):
            registrar.rule(
                asked,
                (cola.ops.Dense,),
                id=f"test_form/{name}",
                when=lambda A, *, alg: True,
                cost=lambda A, *, alg, flops=flops: Cost(flops),
            )(lambda A, *, alg, name=name: name)
        registrar.commit()

    try:
        with pytest.raises(RegistrationError, match="replaces='rule id' or precedence=1"):
            stage(Question("test_form", abstract=lambda A: A))
        asked = Question("test_form", abstract=lambda A: A, home=home, prospective=True)
        stage(asked)
        assert ask(asked, (psd,), cola.Auto()) == "cheap"
        plan = cola.explain(asked, psd, candidates=True)
        assert plan.root.by == "someone:test_form/cheap" and plan.root.estimate == 0
        assert "costs more" in dict((n, r) for n, r, _ in plan.root.rejected)["someone:test_form/dear"]
    finally:
        known.pop("test_form", None)
        REGISTRY.restore(state)

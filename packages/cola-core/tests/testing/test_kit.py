"""The kit's own machinery: cases, capabilities, expected failures, selection, front ends."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest

from cola_core import ops
from cola_core.testing import (
    Capabilities,
    Case,
    ConformanceError,
    all_checks,
    check_case,
    closed,
    data,
    jobs,
    only,
)
from cola_core.testing.cli import run_check_plugin
from cola_core.testing.compare import close, raises
from cola_core.testing.core_cases import cases as core_cases
from cola_core.testing.mutants.operators import mutant_class
from cola_core.testing.registry import GROUPS, check
from cola_core.testing.run import all_jobs

NUMPY = Capabilities(backends=only("numpy", reason="enough for this test"))


def matrix(dtype, seed):
    return data.general(seed, 4, dtype)


def dense_case(name="dense", make=ops.Dense, capabilities=NUMPY, **more):
    return Case(
        name,
        factory=lambda backend, dtype, seed: make(backend.asarray(matrix(dtype, seed))),
        reference=matrix,
        capabilities=capabilities,
        **more,
    )


# -- cases and capabilities ----------------------------------------------------------------------------------
def test_a_closed_capability_needs_a_reason():
    for reason in ("", "   "):
        with pytest.raises(ValueError, match="reason"):
            closed(reason)
    with pytest.raises(ValueError, match="reason"):
        only("numpy", reason="")
    with pytest.raises(TypeError, match="closed"):
        Capabilities(grad=False)
    with pytest.raises(TypeError, match="only"):
        Capabilities(backends=("numpy",))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (dict(name="x"), "factory"),
        (dict(name="x", factory=print), "reference"),
        (dict(name="x", kind="thing"), "kind"),
        (dict(name="x", kind="algorithm", factory=print), "questions"),
        (dict(name="x", kind="algorithm", factory=print, questions=("solve",), problem="odd"), "problem"),
        (dict(name="x", kind="rule", factory=print, reference=print), "rule"),
        (dict(name="x", kind="domain"), "module"),
        (dict(name="x", factory=print, reference=print, expected_failures={"operator.grad": ""}), "reason"),
    ],
)
def test_incomplete_cases_say_what_is_missing(fields, text):
    with pytest.raises(ValueError, match=text):
        Case(**fields)


def test_a_case_is_immutable_and_gives_its_reference_in_its_dtype():
    case = dense_case()
    with pytest.raises(AttributeError):
        case.name = "other"
    assert case.dense("float32").dtype == np.float32


def test_closing_complex_drops_complex_dtypes():
    real = Capabilities(complex=closed("a real kernel"))
    assert "complex128" not in real.all_dtypes and "float32" in real.all_dtypes


# -- checks --------------------------------------------------------------------------------------------------
def test_every_check_has_a_group_a_version_and_a_summary():
    for name, found in all_checks().items():
        assert name == found.id and found.group in GROUPS and found.since >= 1
        assert found.summary.endswith((".", "answer", "rules.")) or found.summary, name
        assert found.kind in ("operator", "algorithm", "rule", "plugin", "domain")


def test_a_check_cannot_be_registered_twice_or_in_an_unknown_group():
    with pytest.raises(ValueError, match="taken"):
        check("operator.matvec", "operator")(lambda case, backend, dtype, seed: None)
    with pytest.raises(ValueError, match="group"):
        check("operator.new", "operator", "optional")
    with pytest.raises(ValueError, match="capability"):
        check("operator.new", "operator", "capability")


# -- running -------------------------------------------------------------------------------------------------
def test_a_good_case_passes_and_a_wrong_one_fails_with_numbers():
    assert all(r.status == "passed" for r in check_case(dense_case()))
    results = check_case(dense_case(make=lambda M: ops.Dense(1.01 * M)))
    wrong = {r.check: r for r in results if r.status == "failed"}
    assert "operator.matvec" in wrong and "off by" in wrong["operator.matvec"].message
    assert not wrong["operator.matvec"].ok


def test_closed_capabilities_are_reported_with_their_reason():
    caps = Capabilities(backends=NUMPY.backends, pickle=closed("holds a socket"))
    (result,) = (r for r in check_case(dense_case(capabilities=caps)) if r.check == "operator.pickle")
    assert (result.status, result.message) == ("closed", "holds a socket")


def test_expected_failures_are_strict():
    wrong = mutant_class("operator.cost")
    named = dense_case(make=wrong, expected_failures={"operator.cost": "known"})
    assert {r.status for r in check_case(named) if r.check == "operator.cost"} == {"expected"}
    good = dense_case(expected_failures={"operator.cost": "no longer true"})
    (result,) = (r for r in check_case(good) if r.check == "operator.cost")
    assert result.status == "failed" and "expected_failures" in result.message


def test_expected_failures_can_be_narrowed_to_a_backend_and_dtype():
    def make(backend, dtype, seed):
        return ops.Dense((1.01 if dtype == "float32" else 1.0) * backend.asarray(matrix(dtype, seed)))

    case = Case(
        "narrow",
        factory=make,
        reference=matrix,
        capabilities=NUMPY,
        expected_failures={"operator.matvec@numpy-float32": "one per cent off in single"},
    )
    found = {r.dtype: r.status for r in check_case(case) if r.check == "operator.matvec"}
    assert found == {"float64": "passed", "float32": "expected", "complex128": "passed"}


def test_a_missing_backend_is_one_skip_that_names_it(monkeypatch):
    import cola_core.testing.run as run

    monkeypatch.setattr(run, "installed", lambda name: name == "numpy")
    results = check_case(dense_case(capabilities=Capabilities()))
    skipped = [r for r in results if r.status == "skipped"]
    assert sorted(r.backend for r in skipped) == ["jax", "torch"]
    assert all(r.backend in r.message for r in skipped)
    assert any(r.status == "passed" for r in results)


def test_job_ids_are_unique_and_readable():
    ids = [j.id for j in all_jobs([dense_case("a"), dense_case("b")])]
    assert len(ids) == len(set(ids)) and "a-operator.matvec-numpy-float64" in ids
    with pytest.raises(ValueError, match="two operator cases"):
        all_jobs([dense_case("a"), dense_case("a")])


def test_jobs_can_be_restricted():
    found = jobs(dense_case(capabilities=Capabilities()), backends=["numpy"], dtypes=["float32"])
    assert {(j.backend, j.dtype) for j in found if not j.closed} == {("numpy", "float32")}


def test_every_core_operator_and_algorithm_has_a_case():
    from cola_core import algorithms
    from cola_core.backends import get_backend
    from cola_core.operators import LinearOperator

    found, be = set(), get_backend("numpy")
    algs = set()
    for case in core_cases():
        if case.kind == "operator":
            stack = [case.build(be, "float64")]
            while stack:
                A = stack.pop()
                found.add(type(A).__name__)
                stack += [p for p in A._parts() if isinstance(p, LinearOperator)]
        elif case.kind == "algorithm":
            algs.add(type(case.build(be, "float64")).__name__)
    wanted = {
        n
        for n in ops.__all__
        if isinstance(getattr(ops, n), type) and issubclass(getattr(ops, n), LinearOperator)
    }
    assert wanted - {"LinearOperator"} <= found
    classes = ((n, getattr(algorithms, n)) for n in algorithms.__all__)
    named = {n for n, c in classes if isinstance(c, type) and issubclass(c, algorithms.Algorithm)}
    assert named - {"Algorithm", "Auto", "DenseSVD", "Hutch", "Iterative", "KrylovSolver"} <= algs


# -- comparing -----------------------------------------------------------------------------------------------
def test_close_says_where_and_by_how_much():
    close(np.array([1.0, np.inf, np.nan]), np.array([1.0, np.inf, np.nan]), "x", 0.0)
    with pytest.raises(ConformanceError, match=r"at \(1,\)"):
        close(np.array([1.0, 2.0]), np.array([1.0, 2.5]), "x", 1e-3)
    with pytest.raises(ConformanceError, match="shape"):
        close(np.zeros(2), np.zeros(3), "x", 1.0)
    with pytest.raises(ConformanceError):
        close(np.array([np.nan]), np.array([1.0]), "x", 1e9)


def test_raises_wants_the_right_error():
    raises(KeyError, "a look-up", lambda: {}["x"])
    with pytest.raises(ConformanceError, match="nothing"):
        raises(KeyError, "a look-up", lambda: None)
    with pytest.raises(ConformanceError, match="TypeError"):
        raises(KeyError, "a look-up", lambda: len(3))


# -- front ends ----------------------------------------------------------------------------------------------
def run_python(code, *args):
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_kit_needs_neither_pytest_nor_backends_to_be_imported():
    code = (
        "import sys; from cola_core.testing import Case, all_checks; all_checks();"
        "print([m for m in ('pytest', 'hypothesis', 'torch', 'jax') if m in sys.modules])"
    )
    assert run_python(code) == "[]"


def test_the_pytest_entry_point_imports_nothing():
    code = (
        "import sys; before = set(sys.modules); import _cola_core_pytest;"
        "print(sorted(set(sys.modules) - before))"
    )
    assert run_python(code) == "['_cola_core_pytest']"


SUITE = """
from cola_core.testing import Capabilities, Case, data, only, parametrize_with_checks
from cola_core import ops
import cola_core.testing.run as run
present = run.installed
run.installed = lambda name: name == "numpy"
case = Case("dense", factory=lambda b, t, s: ops.Dense(b.asarray(data.general(s, 3, t))),
            reference=lambda t, s: data.general(s, 3, t),
            capabilities=Capabilities(backends=only("numpy", "torch", reason="two")))
@parametrize_with_checks([case], dtypes=["float64"])
def test_it(check):
    check()
run.installed = present
"""


@pytest.mark.parametrize(("option", "code"), [((), 0), (("--cola-require-backend", "torch"), 1)])
def test_a_required_backend_turns_the_skip_into_a_failure(tmp_path, option, code):
    (tmp_path / "test_suite.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(tmp_path), *option],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == code, done.stdout
    assert "torch is not installed" in done.stdout


def test_the_command_line_side_answers_0_1_or_2(monkeypatch):
    import cola_core.testing.cli as cli

    out = io.StringIO()
    assert run_check_plugin("no-such-plugin", out=out) == 2
    assert "no plugin 'no-such-plugin'" in out.getvalue()
    assert run_check_plugin("core", ["no-such-library"], out=io.StringIO()) == 2
    good = check_case(dense_case())
    monkeypatch.setattr(cli, "check_plugin", lambda name, backends: good)
    out = io.StringIO()
    assert run_check_plugin("core", json=True, out=out) == 0
    assert json.loads(out.getvalue())["ok"] is True
    bad = check_case(dense_case(make=lambda M: ops.Dense(2 * M)))
    monkeypatch.setattr(cli, "check_plugin", lambda name, backends: bad)
    out = io.StringIO()
    assert run_check_plugin("core", out=out) == 1
    assert "operator.matvec" in out.getvalue()


def test_a_share_of_the_checks_is_spread_over_the_cases():
    from _cola_core_pytest import _not_its_turn, _share

    assert _share("jax") == ("jax", 3) and _share("jax:12") == ("jax", 12)

    class Job:
        def __init__(self, case, check, backend="jax"):
            self.case = type("Case", (), {"name": f"case-{case}"})
            self.check, self.backend = type("Check", (), {"id": check}), backend

    def kept(check, shared, backend="jax"):
        return [i for i in range(1000) if not _not_its_turn(Job(i, check, backend), shared)]

    assert len(kept("question.solve", {"jax": 3})) < 500 and len(kept("operator.jit", {"jax": 3})) == 1000
    few = kept("question.solve", {"jax": 12})
    assert 20 < len(few) < 200 and few != kept("question.eig", {"jax": 12})
    assert 100 < len(kept("operator.jit", {"jax": 12})) < 500
    assert len(kept("question.solve", {"jax": 12}, "numpy")) == 1000

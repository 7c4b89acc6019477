"""Groups and representations as text, and the command that reads them."""

import argparse
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_core.errors import ColaError
from cola_emlp import GL, O13, SO, O, ParseError, S, Scalar, SO13p, T, V, Z
from cola_emlp.cli import basis_report, register
from cola_emlp.parse import parse_group, parse_rep


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("SO(3)", SO(3)),
        (" S ( 5 ) ", S(5)),
        ("SO13p", SO13p()),
        ("SO13p()", SO13p()),
        ("O(1,3)", O13()),
        ("S(5)*O(3)", S(5) * O(3)),
        ("Z(2) * SO(3)*GL(2)", Z(2) * SO(3) * GL(2)),
    ],
)
def test_groups(text, group):
    assert parse_group(text) == group


@pytest.mark.parametrize(
    ("text", "rep"),
    [
        ("V", V),
        ("T(2)->T(2)", T(2) >> T(2)),
        ("T(2) >> V", T(2) >> V),
        ("T(1,1)", T(1, 1)),
        ("T(0)", Scalar),
        ("3V + Scalar", 3 * V + Scalar),
        ("3*V^2", 3 * T(2)),
        ("V*3", 3 * V),
        ("2V*V", 2 * V * V),
        ("V**2*V.T", T(2, 1)),
        ("(V+Scalar)*V", (V + Scalar) * V),
        ("2(V + T(2)) -> 3", (2 * (V + T(2))) >> (3 * Scalar)),
        ("V -> (V -> V)", V >> (V >> V)),
    ],
)
def test_representations(text, rep):
    assert parse_rep(text) == rep


@pytest.mark.parametrize(
    "text",
    ["", "SO", "SO()", "SO(", "SO(3", "SO(3))", "SO(3,3,3)",
     "S(3,4)", "SO(x)", "FOO(3)", "SO(3)*", "SO13p(4)", "SO(-3)",
     "SO(999999999999)", "SO(3)\x00", "__import__('os')", "SO(0)", "O(3)*O(3)", "SO(1,999)", "é(3)", "S(²)"],
)  # fmt: skip
def test_bad_groups(text):
    with pytest.raises(ColaError):
        parse_group(text)


@pytest.mark.parametrize(
    "text",
    ["", "->", "V->", "V V", "W", "T", "T()", "T(1,2,3)", "T(99)", "V^", "V^99", "((V^64)^64)",
     "0V", "0*V", "2^2", "3.T",
     "V -> V -> V", "(" * 60 + "V" + ")" * 60, "V;V", "T(2)" * 500, "V.t", "V-V", "9999999999V"],
)  # fmt: skip
def test_bad_representations(text):
    with pytest.raises(ParseError, match="representation"):
        parse_rep(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="VTScalrSO()*+->^.0123456789, ", max_size=30))
def test_any_text_is_read_or_refused(text):
    for parse in (parse_group, parse_rep):
        try:
            parse(text)
        except ColaError as e:
            assert "\n" not in str(e)


def command(*args):
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    parsed = parser.parse_args(["emlp", "basis", *args])
    return parsed.run(parsed)


def test_command_prints_the_certificate(capsys):
    assert command("SO(3)", "T(2)->T(2)") == 0
    out = capsys.readouterr().out
    facts = dict(line.split(None, 1) for line in out.splitlines())
    assert facts["dimension"] == facts["exact_dimension"] == "3" and facts["size"] == "81"
    assert facts["method"] == "Casimir polynomial" and "exact count" in facts["certified"]
    assert float(facts["residual"]) < 1e-12 and float(facts["equivariance_error"]) < 1e-12


def test_command_prints_json(capsys):
    assert command("S(5)", "T(2)->T(2)", "--json", "--samples", "2") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["dimension"] == 15 and facts["method"] == "orbits" and facts["equivariance_error"] == 0
    assert facts["representation"] == "T(2) >> T(2)" and facts["samples"] == 2


def test_sums_list_their_blocks(capsys):
    command("SO(3)", "V+T(2)->V")
    out = capsys.readouterr().out
    assert "block" in out and "1 x V(SO(3))**3: 1 each" in out


@pytest.mark.parametrize(
    "args", [("SO(3", "V"), ("SO(3)", "W"), ("SO(3)", "T(40)"), ("SO(3)", "V", "--samples", "0"),
             ("SO(3)", "V", "--seed", "-1")]
)  # fmt: skip
def test_bad_commands_raise_one_line(args):
    with pytest.raises(ColaError) as e:
        command(*args)
    assert "\n" not in str(e.value)


def test_report_is_plain_data():
    assert json.loads(json.dumps(basis_report("Sp(1)", "T(4)")))["dimension"] == 2

"""The commands: what they print, what they write, how they fail."""

import argparse
import json

import numpy as np
import pytest

from cola_core.errors import ColaError
from cola_pde import Grid, exact_eigenvalues
from cola_pde.cli import register


def run(*words):
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["pde", *words])
    return args.run(args)


def as_json(capsys, *words):
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_poisson_prints_plan_residual_time_and_order(capsys):
    assert run("poisson", "--n", "32", "--order", "3") == 0
    out = capsys.readouterr().out
    for word in ("plan:", "laplacian1d", "residual:", "seconds:", "max_error:", "order_table:"):
        assert word in out
    found = as_json(capsys, "poisson", "--n", "32", "--order", "3", "--bc", "DN,P", "--centring", "vertex")
    assert found["unknowns"] == [32, 32] and found["residual"] < 1e-11
    assert 1.9 < found["order"] < 2.1


def test_poisson_without_dirichlet_side(capsys):
    found = as_json(capsys, "poisson", "--n", "16", "--bc", "P")
    assert found["imbalance"] < 1e-3 and found["residual"] < 1e-11 and found["max_error"] < 0.05


def test_poisson_writes_all_or_nothing(tmp_path, capsys):
    target = tmp_path / "u.npz"
    found = as_json(capsys, "poisson", "--n", "8", "--dim", "1", "--source", "1", "--out", str(target))
    assert found["out"] == str(target)
    with np.load(target) as file:
        assert file["u"].shape == (8,) and file["x0"].shape == (8,)
    assert [p.name for p in tmp_path.iterdir()] == ["u.npz"]


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ColaError, match="No space left"):
        run("poisson", "--n", "8", "--out", str(tmp_path / "u.npz"))
    assert list(tmp_path.iterdir()) == []


def test_eigen_against_the_exact_spectrum(capsys):
    found = as_json(capsys, "eigen", "--n", "64", "-k", "6")
    np.testing.assert_allclose(found["exact"], exact_eigenvalues(Grid.box((4, 4)), 6))
    np.testing.assert_allclose(found["eigenvalues"], found["exact"], rtol=1e-2)
    assert found["multiplicities"] == [1, 2, 1, 2]
    assert run("eigen", "--n", "8") == 0
    assert "rel. error" in capsys.readouterr().out


def test_heat_obeys_the_maximum_principle(capsys, tmp_path):
    found = as_json(
        capsys, "heat", "--n", "16", "--bc", "N", "--time", "0.1", "--out", str(tmp_path / "u.npz")
    )
    assert found["min_after"] > 0 and found["max_after"] < found["max_before"]
    assert (tmp_path / "u.npz").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("poisson", "--n", "0"),
        ("poisson", "--n", "1000000"),
        ("poisson", "--dim", "0"),
        ("poisson", "--bc", "DX"),
        ("poisson", "--bc", "D,D,D"),
        ("poisson", "--length", "-1"),
        ("poisson", "--backend", "fortran"),
        ("poisson", "--out", "u.txt"),
        ("poisson", "--out", "no/such/folder/u.npz"),
        ("poisson", "--bc", "N", "--source", "1"),
        ("poisson", "--n", "4", "--order", "5"),
        ("eigen", "-k", "0"),
        ("heat", "--time", "-1"),
    ],
)
def test_bad_input_is_one_line(words):
    with pytest.raises(ColaError) as caught:
        run(*words)
    assert str(caught.value) and "\n" not in str(caught.value)

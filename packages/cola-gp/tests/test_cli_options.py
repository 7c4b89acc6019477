"""The command line: Parquet, missing values, structures, progress, intervals and calibration."""

import argparse
import csv
import json

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ColaError, FileFormatError, NoRuleError, ShapeError, UnknownNameError
from cola_gp import cli
from cola_gp.tables import read_table, write_table


def invoke(*argv):
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["gp", *map(str, argv)])
    return args.func(args)


def write_csv(path, header, *columns):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *zip(*columns, strict=True)])
    return path


@pytest.fixture
def waves(rng):
    t = np.sort(rng.uniform(0, 12, 60))
    return t, 5 + np.sin(2 * np.pi * t / 1.5) + 0.05 * rng.normal(size=60)


def test_parquet_in_and_out(tmp_path, waves, capsys):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    t, y = waves
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"t": t, "name": ["x"] * 60, "y": y}), path)
    assert invoke("fit", path, "--target", "y", "--kernel", "periodic") == 0
    assert "60 rows, features t" in capsys.readouterr().out
    out = tmp_path / "p.parquet"
    assert invoke("predict", tmp_path / "d.npz", path, "--out", out) == 0
    table = pq.read_table(out)
    assert table.column_names == ["t", "y_mean", "y_std"]
    np.testing.assert_array_equal(table["t"].to_numpy(), t)
    assert np.sqrt(np.mean((table["y_mean"].to_numpy() - y) ** 2)) < 0.1
    with pytest.raises(FileFormatError, match="'x' is not a number"):
        invoke("fit", path, "--target", "y", "--features", "name")
    broken = tmp_path / "broken.parquet"
    broken.write_text("no")
    with pytest.raises(FileFormatError, match="cannot be read as Parquet"):
        read_table(broken)
    pq.write_table(pa.table({"t": pa.array([], pa.float64())}), broken)
    with pytest.raises(FileFormatError, match="at least one row"):
        read_table(broken)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    with pytest.raises(ColaError, match=r"need pyarrow: pip install 'cola-gp\[parquet\]'"):
        read_table(tmp_path / "d.parquet")
    with pytest.raises(ColaError, match="need pyarrow"):
        write_table(tmp_path / "e.parquet", ["a"], np.ones((1, 1)))


def test_missing_values(tmp_path, waves, capsys):
    t, y = waves
    cells = [f"{v!r}" for v in y.tolist()]
    cells[3], cells[7] = "", "NA"
    times = [f"{v!r}" for v in t.tolist()]
    times[11] = "NaN"
    path = write_csv(tmp_path / "d.csv", ["t", "y"], times, cells)
    with pytest.raises(FileFormatError, match="column 'y', data row 4: '' is not a number; the"):
        invoke("fit", path, "--target", "y", "--features", "t")
    assert invoke("fit", path, "--target", "y", "--missing", "drop", "--max-iters", 3) == 0
    assert "57 rows (3 with missing values left out), features t" in capsys.readouterr().out
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet as pq

    values = [None if i in (2, 5) else v for i, v in enumerate(y.tolist())]
    pq.write_table(pa.table({"t": t, "y": values}), tmp_path / "e.parquet")
    invoke("fit", tmp_path / "e.parquet", "--target", "y", "--missing", "drop", "--json", "--max-iters", 3)
    report = json.loads(capsys.readouterr().out)
    assert (report["n"], report["dropped"]) == (58, 2)


def test_initial_values_follow_the_expression(tmp_path, waves, capsys):
    """Without numbers the period is looked for in the data; a number is where the search begins."""
    t, y = waves
    path = write_csv(tmp_path / "d.csv", ["t", "y"], t, y)

    def fitted(*options):
        invoke("fit", path, "--target", "y", "--no-scale", "--mean", "constant", "--json", *options)
        return json.loads(capsys.readouterr().out)

    bare = fitted("--kernel", "periodic")
    assert bare["parameters"]["kernel.kernel.period"] == pytest.approx(1.5, rel=0.01)
    held = fitted("--kernel", "periodic(period=4)", "--fix", "*.period")
    assert "kernel.kernel.period" not in held["parameters"]
    assert bare["log_likelihood"] > held["log_likelihood"] + 20
    bounded = fitted("--kernel", "rbf", "--bound", "*.lengthscale=3:4", "--bound", "noise.variance=0.1:2")
    assert 3 <= bounded["parameters"]["kernel.kernel.lengthscale"] <= 4
    assert bounded["parameters"]["noise.variance"] >= 0.1
    assert fitted("--max-iters", 0)["gradient_norm"] is None
    adam = fitted("--kernel", "periodic", "--optimizer", "adam", "--max-iters", 40)
    assert adam["iterations"] <= 40
    with pytest.raises(UnknownNameError, match="no parameter matches 'kernel.speed'"):
        fitted("--fix", "kernel.speed")


def test_structures(tmp_path, rng, capsys):
    grid = gp.Grid(np.linspace(0, 1, 8), np.linspace(0, 2, 7))
    P = grid.points()[rng.permutation(56)]
    y = np.sin(4 * P[:, 0]) * np.cos(P[:, 1]) + 0.01 * rng.normal(size=56)
    path = write_csv(tmp_path / "d.csv", ["a", "b", "y"], P[:, 0], P[:, 1], y)

    def fitted(*options):
        invoke("fit", path, "--target", "y", "--json", *options)
        return json.loads(capsys.readouterr().out)

    dense, on_grid = fitted(), fitted("--grid")
    assert dense["method"] == "dense Cholesky" and "Kronecker" in on_grid["method"]
    assert on_grid["log_likelihood"] == pytest.approx(dense["log_likelihood"], abs=1e-3)
    invoke("predict", tmp_path / "d.npz", path, "--out", tmp_path / "p.csv")
    predicted = read_table(tmp_path / "p.csv").matrix(["y_mean"])[:, 0]
    assert np.sqrt(np.mean((predicted - y) ** 2)) < 0.05
    capsys.readouterr()
    assert "dense" in fitted("--inference", "dense", "--max-iters", 2)["method"]
    assert gp.Predictor.load(tmp_path / "d.npz")[0].alg == "dense"
    few = fitted("--inducing", 20, "--max-iters", 5)
    assert "inducing" in few["method"] and len(few["parameters"]) >= 3
    capsys.readouterr()
    invoke("fit", path, "--target", "y", "--explain", "--max-iters", 1)
    assert "condition" in capsys.readouterr().out
    invoke("fit", path, "--target", "y", "--inference", "iterative", "--max-iters", 2)
    assert "leave-one-out: not computed for iterative inference" in capsys.readouterr().out
    for options, kind, message in [
        (("--grid", "--inducing", 3), ColaError, "exclude each other"),
        (("--inducing", 0), ColaError, "at least 1"),
        (("--inference", "magic"), UnknownNameError, "no algorithm for condition called 'magic'"),
        (("--inference", "kronecker"), NoRuleError, "KroneckerInference does not apply"),
    ]:
        with pytest.raises(kind, match=message):
            fitted(*options)
    scattered = write_csv(tmp_path / "s.csv", ["a", "b", "y"], rng.normal(size=9), rng.normal(size=9), y[:9])
    with pytest.raises(ShapeError, match="no grid: their coordinates span 9 x 9 = 81 points"):
        invoke("fit", scattered, "--target", "y", "--grid")


def test_find_grid(rng):
    grid = gp.Grid(np.array([0.0, 0.5, 2.0]), np.linspace(-1, 1, 4))
    P = grid.points()
    order = rng.permutation(12)
    found = gp.find_grid(P[order])
    np.testing.assert_array_equal(P[order][found.order], found.inputs.points())
    assert [type(a).__name__ for a in found.inputs.axes] == ["ndarray", "Regular"]
    part = gp.find_grid(P[order[:9]])
    assert isinstance(part.inputs, gp.GridSubset)
    np.testing.assert_array_equal(P[order[:9]][part.order], part.inputs.points())
    assert gp.find_grid(np.zeros((1, 1))).inputs.sizes == (1,)
    with pytest.raises(ShapeError, match="some rows are repeated"):
        gp.find_grid(P[[*range(12), 3]])
    with pytest.raises(ShapeError, match="n and d at least one"):
        gp.find_grid(np.zeros((0, 2)))


def test_progress_bar(tmp_path, waves, capsys):
    path = write_csv(tmp_path / "d.csv", ["t", "y"], *waves)
    invoke("fit", path, "--target", "y", "--progress", "--max-iters", 4)
    shown = capsys.readouterr().err
    assert "fit:" in shown and "log likelihood" in shown and "/4" in shown
    invoke("fit", path, "--target", "y", "--max-iters", 2)
    assert capsys.readouterr().err == ""
    invoke("fit", path, "--target", "y", "--max-seconds", 0, "--json")
    assert "time limit" in json.loads(capsys.readouterr().out)["reason"]


def test_intervals_and_calibration(tmp_path, waves, rng, capsys):
    t, y = waves
    path = write_csv(tmp_path / "d.csv", ["t", "y"], t[::2], y[::2])
    test = write_csv(tmp_path / "test.csv", ["t", "y"], t[1::2], y[1::2])
    model = tmp_path / "d.npz"
    invoke("fit", path, "--target", "y", "--kernel", "periodic")
    assert "leave-one-out: RMSE" in capsys.readouterr().out
    invoke("predict", model, test, "--interval", 0.9, "--out", tmp_path / "p.csv")
    table = read_table(tmp_path / "p.csv")
    lower, mean, upper, sd = table.matrix(["y_lower", "y_mean", "y_upper", "y_std"]).T
    np.testing.assert_allclose(upper - mean, 1.6448536 * sd, rtol=1e-6)
    np.testing.assert_allclose(mean - lower, upper - mean, rtol=1e-9)
    capsys.readouterr()
    assert invoke("report", model, test) == 0
    assert "held out" in capsys.readouterr().out
    invoke("report", model, test, "--json")
    held_out = json.loads(capsys.readouterr().out)
    assert held_out["n"] == 30 and held_out["rmse"] < 0.15
    invoke("report", model)
    assert "leave-one-out" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        invoke("predict", model, test, "--interval", 1.5)
    with pytest.raises(SystemExit):
        invoke("fit", path, "--target", "y", "--bound", "a=b")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert invoke("plot", model, "--kind", "calibration", "--out", tmp_path / "c.svg") == 0
    assert "probability integral transform" in (tmp_path / "c.svg").read_text()

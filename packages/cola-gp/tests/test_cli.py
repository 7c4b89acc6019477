"""The command line: fit, predict, sample and plot a table; one clear error for each kind of bad input."""

import argparse
import csv
import json

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ColaError, FileFormatError, UnknownNameError
from cola_gp import cli
from cola_gp.expressions import parse_kernel


def invoke(*argv):
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["gp", *map(str, argv)])
    return args.func(args)


@pytest.fixture
def table(tmp_path, rng):
    path = tmp_path / "data.csv"
    x = np.sort(rng.uniform(0, 6, 40))
    rows = [["t", "label", "y"], *([a, "abc", b] for a, b in zip(x, 5 + np.sin(x), strict=True))]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_fit_predict_sample_plot(table, tmp_path, capsys):
    model = tmp_path / "model.npz"
    assert invoke("fit", table, "--target", "y", "--kernel", "matern52", "--out", model) == 0
    out = capsys.readouterr().out
    assert "features t, target y" in out and "converged" in out and f"wrote {model}" in out
    predictor, meta = gp.Predictor.load(model)
    unit = predictor.scaling.x_scale[0]
    assert f"parameters are in units of standard deviations: t {unit:.4g}, y " in out
    assert meta["features"] == ["t"]

    new = tmp_path / "new.csv"
    new.write_text("other,t\n1,2.5\n1,20\n")
    predicted = tmp_path / "predicted.csv"
    assert invoke("predict", model, new, "--out", predicted) == 0
    header, first, second = list(csv.reader(predicted.open()))
    assert header == ["t", "y_mean", "y_std"]
    assert float(first[1]) == pytest.approx(5 + np.sin(2.5), abs=0.05)
    assert float(second[2]) > 3 * float(first[2])
    capsys.readouterr()
    assert invoke("predict", model, new, "--latent") == 0
    assert capsys.readouterr().out.startswith("t,y_mean,y_std\n2.5,")

    assert invoke("sample", model, new, "--count", 3, "--seed", 1, "--out", tmp_path / "s.csv") == 0
    rows = list(csv.reader((tmp_path / "s.csv").open()))
    assert rows[0] == ["t", "y_0", "y_1", "y_2"] and len(rows) == 3
    for options, noise in (((), False), (("--observations",), True)):
        invoke("sample", model, new, "--count", 400, "--out", tmp_path / "s.csv", *options)
        draws = np.loadtxt(tmp_path / "s.csv", delimiter=",", skiprows=1)[:, 1:]
        spread = predictor.deviation(np.array([[2.5], [20.0]]), include_noise=noise)
        np.testing.assert_allclose(draws.std(axis=1), spread, rtol=0.15)

    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert invoke("plot", model) == 0
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_fit_as_json_and_default_name(table, tmp_path, capsys):
    assert invoke("fit", table, "--target", "y", "--json", "--max-iters", 5) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == str(tmp_path / "data.npz") and report["n"] == 40
    assert "kernel.kernel.lengthscale" in report["parameters"]
    units = {
        k: np.std(v) for k, v in zip("ty", np.genfromtxt(table, delimiter=",")[1:, [0, 2]].T, strict=True)
    }
    assert report["units"] == pytest.approx(units)
    invoke("fit", table, "--target", "y", "--json", "--max-iters", 1, "--no-scale")
    assert json.loads(capsys.readouterr().out)["units"] == {"t": 1.0, "y": 1.0}


def test_plot_of_several_features(tmp_path, rng):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = tmp_path / "d.csv"
    table = np.column_stack([rng.normal(size=(20, 2)), rng.normal(size=20)])
    np.savetxt(path, table, delimiter=";", header="a;b;y", comments="")
    assert invoke("fit", path, "--target", "y", "--delimiter", ";", "--max-iters", 5) == 0
    assert invoke("plot", tmp_path / "d.npz", "--out", tmp_path / "fig.svg") == 0
    assert "<svg" in (tmp_path / "fig.svg").read_text()
    with pytest.raises(FileFormatError, match="cannot write"):
        invoke("plot", tmp_path / "d.npz", "--out", tmp_path / "fig.nonsense")


def test_clear_errors(table, tmp_path):
    def content(text):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        return path

    cases = [
        (("fit", tmp_path / "none.csv", "--target", "y"), FileFormatError, "no such file"),
        (("fit", table, "--target", "z"), UnknownNameError, "no column 'z'; it has t, label, y"),
        (("fit", table, "--target", "y", "--features", "t,q"), UnknownNameError, "no column 'q'"),
        (("fit", table, "--target", "y", "--features", "label"), FileFormatError, "'abc' is not a number"),
        (("fit", table, "--target", "y", "--features", "y"), UnknownNameError, "cannot be a feature"),
        (
            ("fit", table, "--target", "y", "--kernel", "rbff"),
            UnknownNameError,
            "unknown kernel 'rbff'; known are",
        ),
        (("fit", table, "--target", "y", "--kernel", "rbf +"), ColaError, "not a kernel expression"),
        (("fit", table, "--target", "y", "--noise", "-1"), ColaError, "noise variance must be positive"),
        (("fit", table, "--target", "y", "--restarts", "-1"), ColaError, "must not be negative"),
        (
            ("fit", table, "--target", "y", "--out", tmp_path / "no" / "m.npz"),
            FileFormatError,
            "does not exist",
        ),
        (
            ("fit", content("a,y\n1\n"), "--target", "y"),
            FileFormatError,
            "line 2: 1 cells, but the header has 2",
        ),
        (("predict", table, table), FileFormatError, "not a cola-gp model file"),
    ]
    for argv, kind, message in cases:
        with pytest.raises(kind, match=message):
            invoke(*argv)
    for text, message in [
        ("a,y\n", "at least one row"),
        ("a,a\n1,2\n", "repeated column names"),
        ("a,y\n1,2\nx,3\n", "no numeric column besides"),
        ("a,y\n1,2\n2,nan\n", "the value is missing .--missing drop"),
        ("a,y\n1,2\n2,inf\n", "column 'y', data row 2: 'inf' is not a finite number"),
    ]:
        with pytest.raises(ColaError, match=message):
            invoke("fit", content(text), "--target", "y")
    assert not list(tmp_path.glob("*.npz"))


def test_predict_needs_the_features(table, tmp_path):
    invoke("fit", table, "--target", "y", "--max-iters", 1)
    new = tmp_path / "new.csv"
    new.write_text("q\n1\n")
    with pytest.raises(UnknownNameError, match="no column 't'"):
        invoke("predict", tmp_path / "data.npz", new)
    new.write_text('t\n1\n""\n')
    with pytest.raises(
        FileFormatError, match="data row 2: '' is not a number; the value is missing; fill it in"
    ):
        invoke("predict", tmp_path / "data.npz", new)
    with pytest.raises(ColaError, match="at least 1"):
        invoke("sample", tmp_path / "data.npz", table, "--count", 0)


def test_kernel_expressions():
    kernel = parse_kernel("rbf + 2 * periodic(period=3) * rbf(lengthscale=90) + linear + white(variance=0.1)")
    assert [type(term).__name__ for term in kernel.terms] == ["Scale", "Product", "Linear", "White"]
    np.testing.assert_allclose(np.exp(kernel.terms[1].factors[0].kernel.log_period), 3.0)
    assert isinstance(parse_kernel("matern32"), gp.Scale)
    assert parse_kernel("rbf", 3).kernel.log_lengthscale.shape == (3,)
    active = parse_kernel("rbf(dims=(0, 2)) * matern12(dims=1)", 3)
    assert active.kernel.factors[0].dims == (0, 2)
    for text, kind, message in [
        ("__import__('os')", ValueError, "only kernel names"),
        ("rbf(lengthscale=[x])", ValueError, "must be numbers"),
        ("rbf(width=1)", UnknownNameError, "no parameter 'width'; it has lengthscale, dims"),
        ("3 + 4", ValueError, "cannot be added|not a kernel|not be added"),
        ("3 * 4", ValueError, "is a number"),
        ("rbf + 3", ValueError, "use constant"),
        ("rbf ** 2", ValueError, "only kernel names"),
        ("rbf(lengthscale=-1)", ValueError, "must be positive"),
    ]:
        with pytest.raises(kind, match=message):
            parse_kernel(text)

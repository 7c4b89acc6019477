"""What users meet at the edges: tables as other programs write them, extreme units, frames, damaged files."""

import argparse
import io
import json
import warnings
import zipfile

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import ColaError, FileFormatError, UnknownNameError
from cola_gp import cli, storage
from cola_gp.estimators import base
from cola_gp.tables import check_table_target, read_table


def invoke(*argv):
    parser = argparse.ArgumentParser()
    cli.register(parser.add_subparsers())
    args = parser.parse_args(["gp", *map(str, argv)])
    return args.func(args)


def read(tmp_path, text, **options):
    path = tmp_path / "t.csv"
    path.write_text(text, newline="")
    return read_table(path, **options)


def test_columns_that_only_number_the_rows_are_left_out(tmp_path):
    table = read(tmp_path, ",a,y,\n0,1.5,2,\n1,2.5,3,\n")  # as DataFrame.to_csv writes, and a trailing comma
    assert table.names == ["a", "y"] and table.rows == 2
    np.testing.assert_array_equal(table.matrix(["y", "a"]), [[2, 1.5], [3, 2.5]])


def test_the_nameless_index_of_a_frame_is_no_feature(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "t.parquet"
    pandas.DataFrame({"a": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 4.0]}, index=[7, 3, 9]).to_parquet(path)
    assert read_table(path).names == ["a", "y"]
    pandas.DataFrame({"y": [0.0, 1.0]}, index=pandas.Index([2.0, 4.0], name="t")).to_parquet(path)
    assert set(read_table(path).names) == {"t", "y"}  # an index with a name is data
    pandas.DataFrame(index=[5, 3]).to_parquet(path)
    with pytest.raises(FileFormatError, match="no column has a name"):
        read_table(path)
    pandas.DataFrame({"a": [1.0], "l": [[1.0, 2.0]]}).to_parquet(path)
    with pytest.raises(FileFormatError, match="is not a number"):
        read_table(path).matrix(["l"])


def test_cells_as_other_programs_write_them(tmp_path):
    table = read(tmp_path, "a,b,c\n#N/A,True,1_0\n<NA>,FALSE,2\nNaT,true,3\n-nan,false,4\n")
    assert np.isnan(table.matrix(["a"], missing=True)).all()
    np.testing.assert_array_equal(table.matrix(["b"])[:, 0], [1, 0, 1, 0])
    assert table.numeric_columns() == (
        ["b"],
        {"a": "every value is missing", "c": "data row 1: '1_0' is not a number"},
    )
    with pytest.raises(FileFormatError, match="'1_0' is not a number"):
        table.matrix(["c"])
    with pytest.raises(FileFormatError, match="'#N/A' is not a number; the value is missing"):
        table.matrix(["a"])


def test_no_column_disappears_silently(tmp_path, capsys):
    """One missing or infinite cell used to make a column text, which was left out without a word."""
    data = tmp_path / "d.csv"

    def fit(cell, *options):
        rows = "".join(f"{i},{i % 3},n{i},{i * i}\n" for i in range(5))
        data.write_text(f"a,b,name,y\n{cell},1,n,2\n" + rows)
        return invoke("fit", data, "--target", "y", "--max-iters", 1, *options)

    with pytest.raises(FileFormatError, match="column 'a', data row 1: '' is not a number.*--missing drop"):
        fit("")
    with pytest.raises(FileFormatError, match="column 'a', data row 1: 'inf' is not a finite number"):
        fit("inf")
    assert fit("", "--missing", "drop") == 0
    said = (
        "5 rows (1 with missing values left out), features a, b, target y\nleft out: name (data row 1: 'n' is"
    )
    assert said in capsys.readouterr().out
    assert fit("1,5".join('""'), "--json") == 0  # a decimal comma
    report = json.loads(capsys.readouterr().out)
    assert report["features"] == ["b"]
    assert report["left_out"]["a"] == "data row 1: '1,5' is not a number"


def test_rows_of_empty_cells_are_rows(tmp_path):
    """They were taken for blank lines, and the predictions of the rows behind them stood one row too high."""
    table = read(tmp_path, "\n,\na,y\n1,2\n,\n\n  \n3,4\n,\n,\n")
    assert table.rows == 3 and np.isnan(table.matrix(["a"], missing=True)[1, 0])
    with pytest.raises(FileFormatError, match="data row 2: '' is not a number; the value is missing"):
        table.matrix(["y"])
    assert read(tmp_path, 't\n1\n\n2\n""\n').rows == 3  # one column: an empty line is none
    with pytest.raises(FileFormatError, match="needs a header line"):
        read(tmp_path, ",\n\n")


def test_delimiters_and_names(tmp_path):
    assert read(tmp_path, "a\ty\n1\t2\n", delimiter=r"\t").names == ["a", "y"]
    with pytest.raises(FileFormatError, match="one character"):
        read(tmp_path, "a;y\n1;2\n", delimiter=";;")
    for mark, option in ((";", "';'"), ("\t", r"'\\t'")):
        with pytest.raises(UnknownNameError, match=f"no column 'y'.*--delimiter {option}"):
            read(tmp_path, f"a{mark}y\n1{mark}2\n").matrix(["y"])
    with pytest.raises(UnknownNameError, match=r"it has a, y.$"):
        read(tmp_path, "a,y\n1,2\n").matrix(["x"])
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "t.csv").write_text("é,y\n1,2\n", encoding=encoding)
        with pytest.raises(FileFormatError, match="not encoded as UTF-8; save it again"):
            read_table(tmp_path / "t.csv")
    with pytest.raises(FileFormatError, match="is a folder"):
        read_table(tmp_path)
    for name in ("t.csv", "t.txt", "t"):
        check_table_target(tmp_path / name)
    with pytest.raises(FileFormatError, match="suffix"):
        check_table_target(tmp_path / "t.xlsx")


def test_command_line_with_odd_names(tmp_path, rng, capsys):
    data, model = tmp_path / "d.csv", tmp_path / "m.npz"
    rows = "".join(f"{a},{b},{a - b}\n" for a, b in rng.normal(size=(8, 2)))
    data.write_text('"a, x","b ""q""",y\n' + rows)
    quick = ("--target", "y", "--max-iters", 2, "--out", model)
    assert invoke("fit", data, "--features", '"a, x","b ""q"""', *quick) == 0
    capsys.readouterr()
    assert invoke("predict", model, data) == 0  # what is printed can be read again
    (tmp_path / "p.csv").write_text(capsys.readouterr().out)
    assert read_table(tmp_path / "p.csv").names == ["a, x", 'b "q"', "y_mean", "y_std"]
    with pytest.raises(UnknownNameError, match="twice"):
        invoke("fit", data, "--features", '"a, x","a, x"', *quick)
    with pytest.raises(FileFormatError, match="suffix"):
        invoke("predict", model, data, "--out", tmp_path / "p.xlsx")
    with pytest.raises(FileFormatError, match="folder"):
        invoke("fit", tmp_path, "--target", "y")
    with pytest.raises(SystemExit):
        invoke("sample", model, data, "--seed", -1)
    assert "'-1' is not a whole number" in capsys.readouterr().err


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e150, 1e300])
def test_deviations_in_extreme_units(unit, rng):
    X = rng.normal(size=(12, 1))
    y = X[:, 0] + 0.1 * rng.normal(size=12)
    for model in (gp.GPRegressor(max_iters=5), gp.BayesianLinearRegressor()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = model.fit(X, y).predict(X, return_std=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=RuntimeWarning)
            warnings.filterwarnings("ignore", message=".*did not converge")
            mean, std = model.fit(X, unit * y).predict(X, return_std=True)
        np.testing.assert_allclose(mean / unit, expected[0], rtol=1e-6)
        np.testing.assert_allclose(std / unit, expected[1], rtol=1e-6)


def test_random_states():
    for state in (np.random.default_rng(3), np.random.RandomState(3), 3, None):
        assert base.seed_of(state) >= 0
    assert base.seed_of(np.random.default_rng(3)) == base.seed_of(np.random.default_rng(3))
    with pytest.raises(TypeError, match="random_state must be None, a whole number .*, not 'a'"):
        base.seed_of("a")


def test_targets_where_rows_may_be_dropped(rng):
    X = rng.normal(size=(6, 1))
    model = gp.GPRegressor(missing="drop", max_iters=1)
    with pytest.raises(ValueError, match="requires y to be passed"):
        model.fit(X, None)
    with pytest.raises(ValueError, match="y must hold numbers, not <U1 entries: could not convert"):
        model.fit(X, list("abcdef"))
    with pytest.raises(ValueError, match="(?i)complex"):
        model.fit(X, X[:, 0] + 1j)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.fit(X, X).predict(X).shape == (6,)


def test_a_classifier_takes_expressions_and_remembers_names(rng, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    X = pandas.DataFrame(rng.normal(size=(12, 2)), columns=["a", "b"])
    model = gp.GPClassifier("matern52", "constant", approximation="laplace", link="logit", optimize=False)
    model.fit(X, X["a"] > 0).save(tmp_path / "c.npz")
    again = gp.GPClassifier.load(tmp_path / "c.npz")
    assert again.link == "logit" and list(again.feature_names_in_) == ["a", "b"]
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X))
    with pytest.raises(FileFormatError, match="holds a GPClassifier"):
        gp.GPRegressor.load(tmp_path / "c.npz")


def test_series_in_frames(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    t = np.arange(12.0)
    X = pandas.DataFrame({"u": np.sin(t), "v": np.cos(t)})
    system = gp.LinearDynamicalSystem(1, optimizer=None).fit(X)
    system.save(tmp_path / "s.npz")
    for one in (system, gp.LinearDynamicalSystem.load(tmp_path / "s.npz")):
        with pytest.raises(ValueError, match="u, v, in this order"):
            one.predict(X[["v", "u"]])
        assert one.predict(X.to_numpy()).shape == (12, 2)
    with pytest.raises(ValueError, match="could not convert"):
        system.fit(X.assign(u="x"))


def test_series_that_are_refused():
    make = gp.LinearDynamicalSystem
    with pytest.raises(ValueError, match="Complex data not supported"):
        make(1).fit(np.arange(5.0) + 1j)
    with pytest.raises(ValueError, match="whole number"):
        make("2").fit(np.arange(5.0))
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(ValueError, match="sparse"):
        make(1).fit(sparse.csr_array(np.eye(3)))


def _packed(header, arrays):
    file = io.BytesIO()
    text = header if isinstance(header, str) else json.dumps(header)
    np.savez(file, header=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    return file.getvalue()


def test_damaged_files_are_one_kind_of_error(rng, tmp_path):
    path = tmp_path / "m.npz"
    gp.GPRegressor(optimize=False).fit(rng.normal(size=(8, 2)), rng.normal(size=8)).save(path)
    whole = path.read_bytes()
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(bytes(arrays.pop("header")).decode())
    parts = header["parts"]
    leaf = parts["model"]["children"]["kernel"]["children"]["factors"][0]["children"]["log_variance"]["array"]
    huge = io.BytesIO(whole)
    with zipfile.ZipFile(huge, "a") as archive, archive.open("huge.npy", "w") as entry:
        shape = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
        np.lib.format.write_array_header_1_0(entry, shape)
    damaged = {
        "deep": _packed("[" * 100_000, arrays),
        "huge": huge.getvalue(),
        "meta": _packed({**header, "meta": [1]}, arrays),
        "names": _packed({**header, "meta": {"features": ["a", 1]}}, arrays),
        "alg": _packed({**header, "parts": {**parts, "alg": {"list": []}}}, arrays),
        "shape": _packed(header, {**arrays, leaf: np.zeros(3)}),
        "number": _packed(header, {**arrays, leaf: np.array(np.nan)}),
        "cut": whole[: len(whole) // 2],
    }
    spots = [*range(8, 12), *rng.integers(len(whole), size=60)]
    for spot in spots:
        damaged[f"byte {spot}"] = whole[:spot] + bytes([whole[spot] ^ 0xFF]) + whole[spot + 1 :]
    for name, content in damaged.items():
        path.write_bytes(content)
        try:
            gp.GPRegressor.load(path)
        except FileFormatError as error:
            assert "\n" not in str(error), name
        else:
            assert name.startswith("byte"), name  # a byte that says nothing, such as a time stamp
    with pytest.raises(FileFormatError, match="is not a usable cola-gp model: boo"):
        with storage.assembling(path):
            raise ColaError("boo\nhoo")


def test_evidence_without_a_posterior_is_not_maximised():
    # Exact data under heavy tails: towards no noise the mode is lost, and its "evidence" grew to 5e16.
    a, b = (axis.ravel() for axis in np.meshgrid(np.arange(6.0), np.arange(5.0)))
    X, y = np.stack([a, b], axis=1), np.sin(a)
    start = gp.GP(1.0 * gp.RBF([1.0, 1.0]), noise=gp.StudentTLikelihood(0.3, 5.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = gp.Predictor.fit(X, y, start, max_iters=10).result
    assert found.log_likelihood < 30 * 25  # noise of 1e-8 is worth some 18 per observation, and no more
    assert gp.condition(found.model, gp.Data(*_scaled(X, y))).info.residual < 1e-2


def _scaled(X, y):
    scaling = gp.Scaling.of(X, y)
    return scaling.inputs(X), scaling.targets(y)


def test_reports_that_cannot_be_made_are_refused_in_a_line(tmp_path, rng, capsys):
    data, model = tmp_path / "d.csv", tmp_path / "m.npz"
    data.write_text("a,y\n" + "".join(f"{v},{round(v * v)}\n" for v in rng.normal(size=9)))
    quick = ("--target", "y", "--max-iters", 2, "--out", model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert invoke("fit", data, "--noise", "poisson", *quick) == 0
        assert "leave-one-out: not available" in capsys.readouterr().out
        with pytest.raises(ColaError, match="not Gaussian"):
            invoke("report", model)
    with pytest.raises(ColaError, match="scaled data"):
        invoke("fit", data, "--no-scale", "--priors", "weak", *quick)
    data.write_text("a,y\n1,2\n2,2\n")
    assert invoke("fit", data, "--no-scale", *quick) == 0
    assert invoke("report", model) == 0
    assert "nan" not in capsys.readouterr().out


def test_a_model_of_the_command_line_knows_its_columns(tmp_path, rng):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    X = pandas.DataFrame(rng.normal(size=(9, 2)), columns=["a", "b"])
    X.assign(y=X["a"]).to_csv(tmp_path / "d.csv")
    assert invoke("fit", tmp_path / "d.csv", "--target", "y", "--max-iters", 2) == 0
    model = gp.GPRegressor.load(tmp_path / "d.npz")
    assert model.predict(X).shape == (9,)
    with pytest.raises(ValueError, match="same order"):
        model.predict(X[["b", "a"]])

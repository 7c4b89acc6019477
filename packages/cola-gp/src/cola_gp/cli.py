"""``cola-core gp``: Gaussian processes from CSV and Parquet files on the command line.

This module holds the arguments; what the commands do is in :mod:`cola_gp.commands`, which is imported when
one is run.
"""

from __future__ import annotations

import argparse
from typing import Any


def register(subparsers: Any) -> None:
    """Add the ``gp`` command to the core's command line."""
    text = "Gaussian process regression from CSV and Parquet files"
    parser = subparsers.add_parser("gp", help=text, description=text)
    build(parser)


def _run(name: str) -> Any:
    def run(args: argparse.Namespace) -> int:
        from . import commands

        return int(getattr(commands, name)(args))

    return run


def _bound(text: str) -> tuple[str, tuple[float, float]]:
    name, _, limits = text.rpartition("=")
    low, _, high = limits.partition(":")
    try:
        return name.strip(), (float(low), float(high))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=LOW:HIGH") from None


def _level(text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = 0.0
    if not 0 < level < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability between 0 and 1")
    return level


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if seed < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, zero or more")
    return seed


def build(parser: argparse.ArgumentParser) -> None:
    """Fill a parser with the commands."""
    commands = parser.add_subparsers(dest="gp_command", required=True, metavar="COMMAND")
    _fit(commands)

    predict = commands.add_parser("predict", help="predict the rows of a table with a saved model")
    _model_and_data(predict)
    predict.add_argument("--out", help="file to write, .csv or .parquet (default: CSV to standard output)")
    predict.add_argument(
        "--latent", action="store_true", help="uncertainty of the function, not of observations"
    )
    predict.add_argument(
        "--interval", type=_level, metavar="P", help="add the bounds of the central interval of probability P"
    )
    predict.set_defaults(func=_run("run_predict"))

    sample = commands.add_parser("sample", help="draw functions, or observations, at the rows of a table")
    _model_and_data(sample)
    sample.add_argument(
        "--observations", action="store_true", help="with their noise (default: the function without noise)"
    )
    sample.add_argument("--count", type=int, default=5, help="how many (default: 5)")
    sample.add_argument("--seed", type=_seed, default=0, help="of the random numbers (default: 0)")
    sample.add_argument("--out", help="file to write, .csv or .parquet (default: CSV to standard output)")
    sample.set_defaults(func=_run("run_sample"))

    report = commands.add_parser("report", help="whether the stated uncertainties hold: coverage and scores")
    report.add_argument("model", help="file written by fit")
    report.add_argument("data", nargs="?", help="held-out table (default: leave-one-out)")
    report.add_argument("--delimiter", default=",", help="of CSV files; \\t for tabs")
    report.add_argument("--json", action="store_true", help="print the result as JSON")
    report.set_defaults(func=_run("run_report"))

    plot = commands.add_parser("plot", help="plot a saved model")
    plot.add_argument("model", help="file written by fit")
    plot.add_argument(
        "--kind", choices=("fit", "calibration"), default="fit", help="what to show (default: fit)"
    )
    plot.add_argument("--out", help="figure to write; its suffix chooses the format (default: MODEL.png)")
    plot.set_defaults(func=_run("run_plot"))


def _model_and_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="file written by fit")
    parser.add_argument("data", help="CSV or Parquet file with the model's feature columns")
    parser.add_argument("--delimiter", default=",", help="of CSV files; \\t for tabs")


def _fit(commands: Any) -> None:
    fit = commands.add_parser("fit", help="fit a model to a table and save it")
    fit.add_argument("data", help="CSV file with a header line, or Parquet file")
    fit.add_argument("--target", required=True, help="column to predict")
    fit.add_argument(
        "--features",
        help="input columns, separated by commas; quote a name with a comma in it (default: all other "
        "numeric columns)",
    )
    fit.add_argument("--delimiter", default=",", help="of CSV files; \\t for tabs")
    fit.add_argument(
        "--missing",
        choices=("raise", "drop"),
        default="raise",
        help="rows with missing values: refuse them (default) or leave them out",
    )
    fit.add_argument("--out", help="file to write (default: DATA with the suffix .npz)")
    fit.add_argument("--json", action="store_true", help="print the result as JSON")

    model = fit.add_argument_group("the model")
    model.add_argument(
        "--kernel", default="rbf", help="e.g. 'rbf', 'matern52 + linear', 'rbf * periodic(period=1)'"
    )
    model.add_argument("--mean", default="zero", help="prior mean: 'zero', 'constant', 'linear', ...")
    model.add_argument(
        "--noise",
        default="0.1",
        help="initial noise variance of scaled targets, or 'linear' (it changes with the inputs), "
        "'tasks(count=3, dims=2)', 'student', 'bernoulli', 'poisson', ...",
    )
    model.add_argument("--no-scale", action="store_true", help="use the columns as they are")
    model.add_argument(
        "--inference",
        default="auto",
        metavar="NAME",
        help="dense, iterative, kronecker, low-rank, ... (default: auto, by structure and cost)",
    )
    model.add_argument("--grid", action="store_true", help="the rows are the points of a grid, in any order")
    model.add_argument(
        "--inducing", type=int, metavar="M", help="approximate by M inducing points, for many rows"
    )
    model.add_argument("--explain", action="store_true", help="print how inference is done, and why")

    search = fit.add_argument_group("the search for its parameters")
    search.add_argument("--optimizer", choices=("l-bfgs", "adam"), default="l-bfgs")
    search.add_argument(
        "--initial",
        choices=("auto", "given", "data"),
        default="auto",
        help="initial values: those of the kernel, or from the data (default: from the data if the kernel "
        "is written without numbers)",
    )
    search.add_argument(
        "--priors",
        choices=("weak", "none"),
        help="weak: keep the lengthscales of many columns from being overfitted (default with scaled data; "
        "none with --no-scale)",
    )
    search.add_argument("--restarts", type=int, default=0, help="further random starts")
    search.add_argument("--seed", type=_seed, default=0, help="seed of the random starts")
    search.add_argument("--max-iters", type=int, default=200, help="iterations per start")
    search.add_argument("--max-seconds", type=float, help="time for all starts; the best parameters are kept")
    search.add_argument(
        "--bound",
        type=_bound,
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="limits of a parameter, e.g. '*.lengthscale=0.1:10'; may be repeated",
    )
    search.add_argument(
        "--fix", action="append", default=[], metavar="NAME", help="keep a parameter; may be repeated"
    )
    search.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="progress bar on standard error (default: if that is a terminal)",
    )
    fit.set_defaults(func=_run("run_fit"))


__all__ = ["build", "register"]

"""``cola-core gp``: fit, predict, sample and plot Gaussian processes from CSV files.

Commands raise the core's typed errors; the program prints them as one line.  Output files appear complete
or not at all.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cola_core.errors import ColaError, FileFormatError, UnknownNameError
from cola_core.io import atomic_path, check_target


def register(subparsers: Any) -> None:
    """Add the ``gp`` command to the core's command line."""
    text = "Gaussian process regression from CSV files"
    parser = subparsers.add_parser("gp", help=text, description=text)
    build(parser)


def build(parser: argparse.ArgumentParser) -> None:
    """Fill a parser with the commands."""
    commands = parser.add_subparsers(dest="gp_command", required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="fit a model to a table and save it")
    fit.add_argument("data", help="CSV file with a header line")
    fit.add_argument("--target", required=True, help="column to predict")
    fit.add_argument(
        "--features", help="input columns, separated by commas (default: all other numeric columns)"
    )
    fit.add_argument(
        "--kernel", default="rbf", help="e.g. 'rbf', 'matern52 + linear', 'rbf * periodic(period=1)'"
    )
    fit.add_argument("--noise", type=float, default=0.1, help="initial noise variance of scaled targets")
    fit.add_argument("--out", help="file to write (default: DATA with the suffix .npz)")
    fit.add_argument("--restarts", type=int, default=0, help="further random starts")
    fit.add_argument("--seed", type=int, default=0, help="seed of the random starts")
    fit.add_argument("--max-iters", type=int, default=200, help="iterations per start")
    fit.add_argument("--no-scale", action="store_true", help="use the columns as they are")
    fit.add_argument("--delimiter", default=",")
    fit.add_argument("--json", action="store_true", help="print the result as JSON")
    fit.set_defaults(func=run_fit)

    predict = commands.add_parser("predict", help="predict the rows of a table with a saved model")
    predict.add_argument("model", help="file written by fit")
    predict.add_argument("data", help="CSV file with the model's feature columns")
    predict.add_argument("--out", help="CSV file to write (default: standard output)")
    predict.add_argument(
        "--latent", action="store_true", help="uncertainty of the function, not of observations"
    )
    predict.add_argument("--delimiter", default=",")
    predict.set_defaults(func=run_predict)

    sample = commands.add_parser("sample", help="draw joint samples at the rows of a table")
    sample.add_argument("model", help="file written by fit")
    sample.add_argument("data", help="CSV file with the model's feature columns")
    sample.add_argument("--count", type=int, default=5)
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument("--out", help="CSV file to write (default: standard output)")
    sample.add_argument("--delimiter", default=",")
    sample.set_defaults(func=run_sample)

    plot = commands.add_parser("plot", help="plot a saved model")
    plot.add_argument("model", help="file written by fit")
    plot.add_argument("--out", help="figure to write; its suffix chooses the format (default: MODEL.png)")
    plot.set_defaults(func=run_plot)


def run_fit(args: argparse.Namespace) -> int:
    """Fit and save; exit status 0 also when the optimiser did not converge, which the output says."""
    from .expressions import parse_kernel
    from .model import GP
    from .predictor import Predictor
    from .tables import columns, numeric_columns, read_table

    # A hopeless output is refused before the fit and not after it.
    out = check_target(args.out or Path(args.data).with_suffix(".npz"), (".npz",))
    header, rows = read_table(args.data, args.delimiter)
    if args.features:
        features = [name.strip() for name in args.features.split(",")]
    else:
        features = [name for name in numeric_columns(header, rows) if name != args.target]
    if args.target in features:
        raise UnknownNameError(f"{args.target!r} is the target and cannot be a feature as well.")
    y = columns(args.data, header, rows, [args.target])[:, 0]
    if not features:
        raise UnknownNameError(
            f"{args.data} has no numeric column besides {args.target!r}; name some by --features."
        )
    X = columns(args.data, header, rows, features)
    try:
        model = GP(parse_kernel(args.kernel, X.shape[1]), noise=args.noise)
        shown = 0

        def progress(evaluations: int, value: float) -> None:
            nonlocal shown
            shown += 1
            print(f"\riteration {shown}: {value * len(y):.6g}", end="", file=sys.stderr, flush=True)

        predictor = Predictor.fit(
            X,
            y,
            model,
            scale=not args.no_scale,
            restarts=args.restarts,
            seed=args.seed,
            max_iters=args.max_iters,
            callback=progress if sys.stderr.isatty() else None,
        )
        if shown:
            print(file=sys.stderr)
    except ValueError as error:
        if isinstance(error, ColaError):
            raise
        raise _usage(error) from None
    result = predictor.result
    predictor.save(out, {"features": features, "target": args.target, "kernel": args.kernel})
    if args.json:
        report = {
            "model": str(out),
            "converged": result.converged,
            "reason": result.reason,
            "log_likelihood": result.log_likelihood,
            "iterations": result.iterations,
            "gradient_norm": result.gradient_norm,
            "parameters": result.parameters,
            "jitter": result.jitter,
            "method": result.method,
            "n": len(y),
        }
        print(json.dumps(report, indent=2))
    else:
        loo = predictor.leave_one_out()
        print(f"{len(y)} rows, features {', '.join(features)}, target {args.target}")
        print(result.summary())
        print(
            f"leave-one-out: RMSE {np.sqrt(np.mean((loo.mean - y) ** 2)):.4g}, "
            f"mean log density {np.mean(loo.log_density):.4g}"
        )
        print(f"wrote {out}")
    return 0


def _usage(error: Exception) -> ColaError:
    """A value a user typed wrongly, as an error the program prints in one line."""
    return UnknownNameError(str(error)) if isinstance(error, LookupError) else ColaError(str(error))


def _load(args: argparse.Namespace) -> tuple[Any, list[str], str]:
    from .predictor import Predictor

    predictor, meta = Predictor.load(args.model)
    d = predictor.data.X.shape[1]
    features = list(meta.get("features") or [f"x{i}" for i in range(d)])
    if len(features) != d:
        raise FileFormatError(f"{args.model} names {len(features)} features but was trained on {d}.")
    return predictor, features, str(meta.get("target", "y"))


def _inputs(args: argparse.Namespace, features: list[str]) -> np.ndarray:
    from .tables import columns, read_table

    header, rows = read_table(args.data, args.delimiter)
    return columns(args.data, header, rows, features)


def _emit(out: str | None, header: list[str], table: np.ndarray) -> None:
    from .tables import write_table

    if out is None:
        print(",".join(header))
        for row in table:
            print(",".join(repr(float(v)) for v in row))
        return
    write_table(out, header, table)
    print(f"wrote {out}")


def run_predict(args: argparse.Namespace) -> int:
    """Features, mean and standard deviation for every row."""
    predictor, features, target = _load(args)
    X = _inputs(args, features)
    mean, variance = predictor.mean(X), predictor.variance(X, include_noise=not args.latent)
    table = np.column_stack([X, mean, np.sqrt(variance)])
    _emit(args.out, [*features, f"{target}_mean", f"{target}_std"], table)
    return 0


def run_sample(args: argparse.Namespace) -> int:
    """Features and one column per joint draw of the latent function."""
    if args.count < 1:
        raise ColaError("--count must be at least 1.")
    predictor, features, target = _load(args)
    X = _inputs(args, features)
    draws = predictor.sample(X, args.count, key=args.seed)
    names = [f"{target}_{i}" for i in range(args.count)]
    _emit(args.out, [*features, *names], np.column_stack([X, draws.T]))
    return 0


def run_plot(args: argparse.Namespace) -> int:
    """Write a figure of the model."""
    from .plots import plot_predictor

    predictor, features, target = _load(args)
    out = Path(args.out) if args.out else Path(args.model).with_suffix(".png")
    figure = plot_predictor(predictor, (features, target))
    try:
        with atomic_path(out) as temporary:
            figure.savefig(temporary, dpi=150)
    except FileFormatError:
        raise
    except ValueError as error:  # matplotlib does not know the suffix
        raise FileFormatError(f"cannot write {out}: {error}") from None
    print(f"wrote {out}")
    return 0

"""What the commands of ``cola-core gp`` do.

They raise the core's typed errors, which the program prints as one line.  Output files appear complete or not
at all, and an output that cannot be written is refused before the work and not after it.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cola_core.errors import ColaError, FileFormatError, UnknownNameError
from cola_core.io import atomic_path, check_target

from .calibration import Calibration, calibration_report
from .expressions import has_values, parse_kernel, parse_mean, parse_noise
from .gridding import find_grid
from .inducing_points import select_inducing
from .inference import explain
from .kernels import Inducing
from .missing import drop_missing
from .model import GP
from .predictor import Predictor
from .tables import Table, check_table_target, read_table, write_csv, write_table


def run_fit(args: argparse.Namespace) -> int:
    """Fit and save; exit status 0 also when the optimiser did not converge, which the output says."""
    out = check_target(args.out or _beside(args.data, ".npz"), (".npz",))
    table = read_table(args.data, args.delimiter)
    features, others = _features(args, table)
    missing = args.missing == "drop"
    remedy = " (--missing drop leaves such rows out; --features says which columns count)"
    y = table.matrix([args.target], missing, remedy)[:, 0]
    X = table.matrix(features, missing, remedy)
    if args.missing == "drop":
        complete = drop_missing(X, y)
        X, y = complete.X, complete.y
    dropped = table.rows - len(y)
    try:
        predictor = _fitted(args, X, y)
    except ValueError as error:
        if isinstance(error, ColaError):
            raise
        raise _usage(error) from None
    meta = {"features": features, "target": args.target, "kernel": args.kernel}
    predictor.save(out, meta)
    result = predictor.result
    assert result is not None
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
            "dropped": dropped,
            "features": features,
            "left_out": others,
            "units": _units(predictor, features, args.target),
        }
        print(_json(report))
        return 0
    left_out = f" ({dropped} with missing values left out)" if dropped else ""
    print(f"{len(y)} rows{left_out}, features {', '.join(features)}, target {args.target}")
    for name, why in others.items():
        print(f"left out: {name} ({why})")
    if args.explain:
        print(explain(predictor.model, predictor.data, predictor.alg))
    print(result.summary())
    if not args.no_scale:
        units = _units(predictor, features, args.target)
        shown = ", ".join(f"{name} {unit:.4g}" for name, unit in units.items())
        print(f"parameters are in units of standard deviations: {shown}")
    print(f"leave-one-out: {_left_out(predictor, result.likelihood_error > 0)}")
    print(f"wrote {out}")
    return 0


def _beside(path: str, suffix: str) -> Path:
    """The same name with another suffix; unlike ``with_suffix`` also of a path without a name."""
    return Path(path).parent / (Path(path).stem + suffix)


def _units(predictor: Predictor, features: list[str], target: str) -> dict[str, float]:
    """What one unit of each column is in which the parameters are given."""
    scaling = predictor.scaling
    return dict(zip([*features, target], [*scaling.x_scale.tolist(), float(scaling.y_scale)], strict=True))


def _left_out(predictor: Predictor, stochastic: bool) -> str:
    """Leave-one-out errors in a line, or why there are none."""
    if stochastic:
        # One solve for every row: the time of the fit again, and often more.
        return "not computed for iterative inference; `cola-core gp report MODEL` does, or with held-out rows"
    try:
        loo = calibration_report(predictor)
    except (ColaError, NotImplementedError, ValueError) as error:
        return f"not available ({error})"
    return f"RMSE {loo.rmse:.4g}, mean log density {-loo.nlpd:.4g}; {loo.verdict()}"


def _json(report: dict[str, Any]) -> str:
    """JSON has no NaN and no infinity: null stands for numbers that there are not."""
    plain = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in report.items()}
    return json.dumps(plain, indent=2, allow_nan=False)


def _features(args: argparse.Namespace, table: Table) -> tuple[list[str], dict[str, str]]:
    """The input columns, and those that are no numbers with the reason, where no columns were named."""
    others: dict[str, str] = {}
    if args.features:
        # As a line of CSV, so that a name with a comma can be quoted.
        (names,) = csv.reader([args.features], skipinitialspace=True)
        features = [name.strip() for name in names]
        twice = {name for name in features if features.count(name) > 1}
        if twice:
            raise UnknownNameError(f"--features names {', '.join(sorted(twice))} twice.")
    else:
        features, others = table.numeric_columns()
        features = [name for name in features if name != args.target]
        others.pop(args.target, None)
    if args.target in features:
        raise UnknownNameError(f"{args.target!r} is the target and cannot be a feature as well.")
    if args.target not in table.names:
        table.matrix([args.target])  # raises, and names the columns there are
    if not features:
        why = "".join(f"; {name}, {reason}" for name, reason in others.items())
        raise UnknownNameError(
            f"{args.data} has no numeric column besides {args.target!r}{why}. Names and dates have to be "
            "made numbers first."
        )
    return features, others


def _fitted(args: argparse.Namespace, X: np.ndarray, y: np.ndarray) -> Predictor:
    d = X.shape[1]
    kernel = parse_kernel(args.kernel, d)
    initial = args.initial
    if initial == "auto":
        initial = "given" if has_values(args.kernel) else "data"
    inputs: Any = X
    if args.grid:
        inputs, order = find_grid(X)
        y = y[order]
    if args.inducing is not None:
        if args.grid:
            raise ColaError("--grid and --inducing exclude each other: a grid needs no approximation.")
        if args.inducing < 1:
            raise ColaError("--inducing must be at least 1.")
        scale = np.ones(X.shape[1]) if args.no_scale else np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
        shift = np.zeros(X.shape[1]) if args.no_scale else X.mean(axis=0)
        labels = sorted(kernel.label_dims(d))
        scale[labels], shift[labels] = 1.0, 0.0
        kernel = Inducing(kernel, select_inducing(kernel, (X - shift) / scale, args.inducing))
    model = GP(kernel, parse_mean(args.mean, d), noise=parse_noise(args.noise, d))
    if args.priors == "weak" and args.no_scale:
        raise ColaError("--priors weak are for scaled data; leave --no-scale out, or give --priors none.")
    priors = None if args.priors == "none" or args.no_scale else "weak"
    total = args.max_iters * (1 + max(0, args.restarts))
    with _Bar(sys.stderr.isatty() if args.progress is None else args.progress, total, len(y)) as bar:
        return Predictor.fit(
            inputs,
            y,
            model,
            scale=not args.no_scale,
            alg=args.inference,
            optimizer=args.optimizer,
            initial=initial,
            restarts=args.restarts,
            priors=priors,
            seed=args.seed,
            max_iters=args.max_iters,
            max_seconds=args.max_seconds,
            bounds=dict(args.bound),
            fixed=args.fix,
            callback=bar,
        )


class _Bar:
    """A progress bar over the iterations that shows the log likelihood; the total is an upper bound."""

    def __init__(self, show: bool, total: int, n: int):
        self.n = n
        self.bar: Any = None
        if show:
            from tqdm import tqdm

            self.bar = tqdm(total=total, desc="fit", unit="iteration", file=sys.stderr)

    def __enter__(self) -> Any:
        return self if self.bar is not None else None

    def __call__(self, evaluations: int, value: float) -> None:
        self.bar.set_postfix_str(
            f"log likelihood {value * self.n:.6g}, {evaluations} evaluations", refresh=False
        )
        self.bar.update()

    def __exit__(self, *exc: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def _usage(error: Exception) -> ColaError:
    """A value a user typed wrongly, as an error the program prints in one line."""
    return UnknownNameError(str(error)) if isinstance(error, LookupError) else ColaError(str(error))


def _load(args: argparse.Namespace) -> tuple[Predictor, list[str], str]:
    predictor, meta = Predictor.load(args.model)
    d = predictor.data.X.shape[1]
    features = meta.get("features") or [f"x{i}" for i in range(d)]
    if not (isinstance(features, list) and all(isinstance(name, str) for name in features)):
        raise FileFormatError(f"{args.model} is not a usable cola-gp model: the features have no names.")
    if len(features) != d:
        raise FileFormatError(f"{args.model} names {len(features)} features but was trained on {d}.")
    return predictor, features, str(meta.get("target", "y"))


def _check_out(args: argparse.Namespace) -> None:
    if args.out is not None:
        check_table_target(args.out)


def _emit(out: str | None, header: list[str], table: np.ndarray) -> None:
    if out is None:
        write_csv(sys.stdout, header, table)
        return
    write_table(out, header, table)
    print(f"wrote {out}")


def run_predict(args: argparse.Namespace) -> int:
    """Features, mean and standard deviation for every row, and the bounds of an interval if asked for."""
    _check_out(args)
    predictor, features, target = _load(args)
    X = read_table(args.data, args.delimiter).matrix(features)
    if args.latent or predictor.model.noise.gaussian:
        mean, sd = predictor.mean(X), predictor.deviation(X, include_noise=not args.latent)
    else:
        mean, variance = predictor.response(X)
        sd = np.sqrt(variance)
    if args.interval is not None and not (args.latent or predictor.model.noise.gaussian):
        likelihood = type(predictor.model.noise).__name__
        raise ColaError(
            f"--interval is for Gaussian predictions, and {likelihood} has none; use --latent for intervals "
            "of the function."
        )
    header, columns = [*features, f"{target}_mean", f"{target}_std"], [X, mean, sd]
    if args.interval is not None:
        from scipy.special import ndtri

        half = float(ndtri(0.5 + 0.5 * args.interval)) * sd
        header += [f"{target}_lower", f"{target}_upper"]
        columns += [mean - half, mean + half]
    _emit(args.out, header, np.column_stack(columns))
    return 0


def run_sample(args: argparse.Namespace) -> int:
    """Features and one column per joint draw of the latent function, or of observations."""
    if args.count < 1:
        raise ColaError("--count must be at least 1.")
    _check_out(args)
    predictor, features, target = _load(args)
    if args.observations and not predictor.model.noise.gaussian:
        likelihood = type(predictor.model.noise).__name__
        raise ColaError(
            f"--observations is for Gaussian noise, not {likelihood}; leave it out to draw the function."
        )
    X = read_table(args.data, args.delimiter).matrix(features)
    draws = predictor.sample(X, args.count, key=args.seed, include_noise=args.observations)
    names = [f"{target}_{i}" for i in range(args.count)]
    _emit(args.out, [*features, *names], np.column_stack([X, draws.T]))
    return 0


def _calibration(predictor: Predictor, *held_out: np.ndarray) -> Calibration:
    try:
        return calibration_report(predictor, *held_out)
    except (NotImplementedError, ValueError) as error:
        if isinstance(error, ColaError):
            raise
        raise ColaError(str(error)) from None


def run_report(args: argparse.Namespace) -> int:
    """Calibration on held-out rows, or by leave-one-out."""
    predictor, features, target = _load(args)
    held_out = []
    if args.data is not None:
        table = read_table(args.data, args.delimiter)
        held_out = [table.matrix(features), table.matrix([target])[:, 0]]
    report = _calibration(predictor, *held_out)
    if args.json:
        print(_json(report.as_dict()))
    else:
        print("leave-one-out" if args.data is None else f"held out: {args.data}")
        print(report.summary())
    return 0


def run_plot(args: argparse.Namespace) -> int:
    """Write a figure of the model."""
    from .plots import plot_calibration, plot_predictor

    predictor, features, target = _load(args)
    out = Path(args.out) if args.out else _beside(args.model, ".png")
    if args.kind == "calibration":
        figure = plot_calibration(_calibration(predictor))
    else:
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

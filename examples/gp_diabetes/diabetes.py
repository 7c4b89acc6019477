"""Diabetes progression: Bayesian linear regression, relevance determination, Gaussian processes.

    python examples/gp_diabetes/diabetes.py --out report/

The 442 patients with ten measurements that ship with scikit-learn (Efron et al. 2004).  Five models predict
the progression after one year, each fitted by its evidence alone:

* Bayesian linear regression with one prior precision for all weights, and with one per weight;
* a Gaussian process with an RBF kernel, with one lengthscale per measurement (automatic relevance
  determination), and that plus a linear kernel;
* the same with Student's noise, which outliers do not move.

Cross-validation measures the error of the mean, the log density of what was observed, and how many
observations lie in their 95 % intervals.  Writes ``diabetes.png`` and ``diabetes.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cola_gp as gp

Predictions = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean, 95 % half width, log density of the truth


def load() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Measurements (scaled by their publishers), progression, and the names of the measurements."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return data.data, data.target, list(data.feature_names)


def linear(ard: bool) -> Callable[..., Predictions]:
    """Bayesian linear regression."""

    def predict(X: np.ndarray, y: np.ndarray, Z: np.ndarray, truth: np.ndarray) -> Predictions:
        model = gp.BayesianLinearRegressor(ard=ard).fit(X, y)
        mean, std = model.predict(Z, return_std=True, include_noise=True)
        density = -0.5 * ((truth - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(2 * math.pi)
        return mean, 1.96 * std, density

    return predict


def process(
    kernel: Callable[[int], Any], noise: Callable[[], Any], max_iters: int
) -> Callable[..., Predictions]:
    """Gaussian process regression behind a scaling of the data."""

    def predict(X: np.ndarray, y: np.ndarray, Z: np.ndarray, truth: np.ndarray) -> Predictions:
        model = gp.GP(kernel(X.shape[1]), gp.ConstantMean(), noise())
        found = gp.Predictor.fit(X, y, model, max_iters=max_iters, tol=1e-4)
        _, variance = found.posterior.response(found.scaling.inputs(Z))
        half = 1.96 * np.sqrt(found.scaling.variance(variance))
        return found.mean(Z), half, found.log_predictive_density(Z, truth)

    return predict


def rbf(d: int) -> Any:
    return gp.Constant(1.0) * gp.RBF(np.full(d, math.sqrt(d)))


def rbf_and_linear(d: int) -> Any:
    return gp.Constant(0.3) * gp.RBF(np.full(d, math.sqrt(d))) + gp.Linear(np.full(d, 0.1))


def models(max_iters: int) -> dict[str, Callable[..., Predictions]]:
    return {
        "linear": linear(ard=False),
        "linear, ARD": linear(ard=True),
        "RBF, ARD": process(rbf, lambda: 0.5, max_iters),
        "RBF + linear, ARD": process(rbf_and_linear, lambda: 0.5, max_iters),
        "RBF, ARD, Student-t": process(rbf, lambda: gp.StudentTLikelihood(0.7, 10.0), max_iters),
    }


def cross_validate(
    predict: Callable[..., Predictions], X: np.ndarray, y: np.ndarray, folds: int
) -> dict[str, Any]:
    """Every observation predicted from the folds that it is not in."""
    fold = np.random.default_rng(0).permutation(len(y)) % folds
    mean, half, density = np.empty(len(y)), np.empty(len(y)), np.empty(len(y))
    for k in range(folds):
        test = fold == k
        mean[test], half[test], density[test] = predict(X[~test], y[~test], X[test], y[test])
    return {
        "mean": mean,
        "half": half,
        "rmse": float(np.sqrt(np.mean((mean - y) ** 2))),
        "log_density": float(density.mean()),
        "coverage_95": float(np.mean(np.abs(mean - y) <= half)),
    }


def weights(X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Weights per standard deviation of their measurement, with their errors and the evidence."""
    out: dict[str, Any] = {}
    for name, ard in (("common", False), ("ard", True)):
        model = gp.BayesianLinearRegressor(ard=ard).fit(X, y)
        spread = X.std(axis=0)
        out[name] = {
            "weights": (model.coef_ * spread).tolist(),
            "errors": (np.sqrt(np.diag(model.covariance_)) * spread).tolist(),
            "determined": model.effective_parameters_,
            "log_evidence": model.log_evidence_,
        }
    return out


def relevances(X: np.ndarray, y: np.ndarray, max_iters: int) -> list[float]:
    """Inverse lengthscales of the RBF kernel, in scaled units: zero is no influence."""
    found = gp.Predictor.fit(X, y, gp.GP(rbf(X.shape[1]), noise=0.5), max_iters=max_iters, tol=1e-4)
    return np.exp(-found.model.kernel.factors[1].log_lengthscale).tolist()


def draw(path: Path, names: list[str], y: np.ndarray, best: dict[str, Any], numbers: dict[str, Any]) -> None:
    """Weights with their errors, relevances, and predictions against observations."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    places = np.arange(len(names))
    for shift, key, label in ((-0.15, "common", "one precision"), (0.15, "ard", "one per weight")):
        part = numbers["weights"][key]
        errors = 2 * np.array(part["errors"])
        left.errorbar(places + shift, part["weights"], yerr=errors, fmt="o", ms=4, capsize=2, label=label)
    left.axhline(0.0, color="0.7", lw=0.8)
    left.set(xticks=places, ylabel="effect of one standard deviation, 2 sd", title="linear regression")
    left.set_xticklabels(names)
    left.legend(frameon=False)
    middle.bar(places, numbers["relevances"], color="C2")
    middle.set(xticks=places, ylabel="1 / lengthscale", title="RBF kernel: relevance of the measurements")
    middle.set_xticklabels(names)
    right.errorbar(y, best["mean"], yerr=best["half"], fmt=".", ms=4, lw=0.3, color="C0")
    right.plot([y.min(), y.max()], [y.min(), y.max()], color="0.4", lw=1)
    right.set(
        xlabel="progression observed", ylabel="predicted, 95 %", title=f"cross-validated: {numbers['best']}"
    )
    figure.savefig(path, dpi=130)


def run(
    outdir: str | Path, folds: int = 5, max_iters: int = 60, patients: int | None = None
) -> dict[str, Any]:
    """Compare the models on the first ``patients`` (default: all); write the figure and the numbers to
    ``outdir`` and return the numbers."""
    started = time.perf_counter()
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    X, y, names = load()
    X, y = X[:patients], y[:patients]
    scores = {name: cross_validate(predict, X, y, folds) for name, predict in models(max_iters).items()}
    best = max(scores, key=lambda name: scores[name]["log_density"])
    numbers = {
        "patients": len(y),
        "folds": folds,
        "scores": {n: {k: s[k] for k in ("rmse", "log_density", "coverage_95")} for n, s in scores.items()},
        "spread": float(y.std()),
        "best": best,
        "measurements": names,
        "weights": weights(X, y),
        "relevances": relevances(X, y, max_iters),
        "figure": "diabetes.png",
        "seconds": time.perf_counter() - started,
    }
    draw(outdir / "diabetes.png", names, y, scores[best], numbers)
    (outdir / "diabetes.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    lines = [
        f"diabetes: {numbers['patients']} patients, {numbers['folds']} folds, "
        f"standard deviation of the progression {numbers['spread']:.1f}"
    ]
    for name, part in numbers["scores"].items():
        lines.append(
            f"{name:20s} RMSE {part['rmse']:.2f}, mean log density {part['log_density']:.3f}, "
            f"{100 * part['coverage_95']:.0f} % in the 95 % interval"
        )
    for key, label in (("common", "one precision"), ("ard", "one per weight")):
        part = numbers["weights"][key]
        lines.append(
            f"weights, {label}: log evidence {part['log_evidence']:.1f}, "
            f"{part['determined']:.1f} of {len(part['weights'])} determined by the data"
        )
    order = np.argsort(numbers["relevances"])[::-1]
    lines.append("most relevant: " + ", ".join(numbers["measurements"][i] for i in order[:4]))
    lines.append(f"{numbers['seconds']:.1f} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="diabetes", help="folder for the figure and the numbers")
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out, folds=args.folds)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install scikit-learn matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

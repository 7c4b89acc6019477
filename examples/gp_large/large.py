"""A Gaussian process for 50,000 observations in eight dimensions, fitted without storing its covariance.

    python examples/gp_large/large.py --out report/

The task is an emulator: the borehole function, the flow of water through a hole drilled into two aquifers as
a function of eight physical quantities (Harper & Gupta 1983; Morris, Mitchell & Ylvisaker, Technometrics 35
(1993) 243), observed with noise.  The covariance of 50,000 points would take 19 GiB, and its Cholesky
factorisation 40 Tflop.  So the parameters are fitted

* exactly, to a random subset of the observations, which gives a good start;
* to all of them, by ``IterativeInference``: products with the covariance, a preconditioner, and probes whose
  standard errors say how far the likelihood can be trusted.

Predictions from the subset and from everything stand beside each other.  Writes ``large.png`` and
``large.json``.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import cola_gp as gp
from cola_core.errors import ConvergenceWarning

# Name, lower and upper limit of every input; metres and square metres a year.
INPUTS = (
    ("radius of the borehole", 0.05, 0.15),
    ("radius of influence", 100.0, 50000.0),
    ("transmissivity of the upper aquifer", 63070.0, 115600.0),
    ("head of the upper aquifer", 990.0, 1110.0),
    ("transmissivity of the lower aquifer", 63.1, 116.0),
    ("head of the lower aquifer", 700.0, 820.0),
    ("length of the borehole", 1120.0, 1680.0),
    ("conductivity of the borehole", 9855.0, 12045.0),
)
NOISE = 0.005  # standard deviation of the observations, relative to that of the function


def borehole(unit: np.ndarray) -> np.ndarray:
    """Flow in cubic metres a year at inputs ``(n, 8)`` given as parts of their ranges."""
    low, high = np.array([i[1] for i in INPUTS]), np.array([i[2] for i in INPUTS])
    rw, r, tu, hu, tl, hl, length, kw = (low + (high - low) * unit).T
    log = np.log(r / rw)
    return 2 * np.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))


def observations(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Inputs, standardised noisy targets, and the noise variance in units of the targets."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, len(INPUTS)))
    flow = borehole(X)
    y = (flow - flow.mean()) / flow.std()
    return X, y + NOISE * rng.normal(size=n), NOISE**2


def evaluate(model: gp.GP, data: gp.Data, X: np.ndarray, y: np.ndarray, alg: Any) -> dict[str, Any]:
    """Predictions of noisy targets: error, coverage and log density."""
    started = time.perf_counter()
    posterior = gp.Posterior(model, data, alg)
    mean, std = posterior.mean(X), np.sqrt(posterior.variance(X, include_noise=True))
    error = mean - y
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "coverage_95": float(np.mean(np.abs(error) <= 1.96 * std)),
        "mean_log_density": float(np.mean(-0.5 * (error / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi))),
        "seconds": time.perf_counter() - started,
        "mean": mean,
        "std": std,
    }


def described(result: gp.FitResult) -> dict[str, Any]:
    return {
        "log_likelihood": result.log_likelihood,
        "evaluations": result.evaluations,
        "seconds": result.seconds,
        "method": result.method,
        "reason": result.reason,
        "parameters": result.parameters,
    }


def draw(path: Path, y: np.ndarray, scores: dict[str, dict[str, Any]], full: gp.FitResult) -> None:
    """Errors of both predictions beside their bands, and what the lengthscales say of the inputs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    limit = 5 * NOISE
    bins = np.linspace(-limit, limit, 80)
    for number, (name, score) in enumerate(scores.items()):
        left.hist(score["mean"] - y, bins, histtype="step", color=f"C{number}", density=True, label=name)
    width = NOISE
    left.plot(
        bins, np.exp(-0.5 * (bins / width) ** 2) / (width * np.sqrt(2 * np.pi)), "k:", label="noise alone"
    )
    left.set(xlabel="error of the prediction of a noisy target", ylabel="density", title="Held-out points")
    left.legend()
    scales = [v for k, v in full.parameters.items() if "lengthscale" in k]
    right.barh([name for name, _, _ in INPUTS], 1 / np.array(scales), color="C1")
    right.invert_yaxis()
    right.set(xlabel="1 / lengthscale, in parts of the range", title="How much every input matters")
    figure.savefig(path, dpi=110)


def run(out: Path, n: int, test: int, subset: int, steps: int, rank: int | None) -> dict[str, Any]:
    """Fit to a subset and to all, predict, report."""
    X, y, noise = observations(n + test, 0)
    known = gp.Data(X[:n], y[:n])
    held_X, held_y = X[n:], y[n:]
    start = gp.GP(4.0 * gp.RBF(np.full(len(INPUTS), 2.0)), gp.ConstantMean(0.0), 4 * noise)
    small = gp.Data(X[:subset], y[:subset])
    first = gp.fit(start, small, max_iters=60)
    print(f"subset of {subset}:\n{first.summary()}\n", flush=True)
    alg = gp.IterativeInference(rank=rank)
    before = gp.condition(first.model, known, alg)
    print(
        f"all {n}, parameters of the subset: log marginal likelihood "
        f"{float(before.log_marginal_likelihood()):.6g} +- {before.info.standard_error:.2g}, "
        f"{before.info.iterations} steps of {before.info.method}\n",
        flush=True,
    )
    with warnings.catch_warnings():
        # a trial point of the line search may be harder than the tolerance allows
        warnings.simplefilter("ignore", ConvergenceWarning)
        full = gp.fit(first.model, known, alg=alg, max_iters=steps)
    print(f"all {n}:\n{full.summary()}\n", flush=True)
    scores = {
        f"from {subset}": evaluate(first.model, small, held_X, held_y, gp.DenseInference()),
        f"from {n}": evaluate(full.model, known, held_X, held_y, alg),
    }
    out.mkdir(parents=True, exist_ok=True)
    draw(out / "large.png", held_y, scores, full)
    report = {
        "n": n,
        "noise": NOISE,
        "subset": described(first),
        "all": {
            **described(full),
            "log_likelihood_before": float(before.log_marginal_likelihood()),
            "standard_error": before.info.standard_error,
            "iterations": before.info.iterations,
        },
        "scores": {
            name: {k: v for k, v in score.items() if k not in ("mean", "std")}
            for name, score in scores.items()
        },
    }
    (out / "large.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, score in report["scores"].items():
        print(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in score.items()))
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report"))
    parser.add_argument("--n", type=int, default=50_000, help="observations")
    parser.add_argument("--test", type=int, default=5_000, help="held-out points")
    parser.add_argument("--subset", type=int, default=2_000, help="observations of the exact fit")
    parser.add_argument("--steps", type=int, default=3, help="steps of L-BFGS with all observations")
    parser.add_argument("--rank", type=int, default=None, help="columns of the preconditioner")
    args = parser.parse_args(argv)
    run(args.out, args.n, args.test, args.subset, args.steps, args.rank)


if __name__ == "__main__":
    main()

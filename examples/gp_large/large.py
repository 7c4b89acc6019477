"""A Gaussian process for 50,000 observations in eight dimensions, without storing its covariance.

    python examples/gp_large/large.py --out report/

The data are a draw of a Matern process of order 3/2 whose eight lengthscales go from half of the range of
an input to six times of it, made of 20,000 random features (Rahimi & Recht, NIPS 2007), with noise.  Its
spectrum falls slowly: no thousand points stand for all the others, and every observation more is worth
having.  The covariance of 50,000 points would take 19 GiB, and its Cholesky factorisation 42 Tflop.  So

* the parameters are chosen by exact inference on a random subset;
* one preconditioned Lanczos run at full size (``IterativeInference``) gives the likelihood of everything at
  these parameters with its standard error, the gradient with its own, and the weights of the predictions;
* predictions of held-out points stand beside those from 5,000 observations by exact
  inference, and beside those from all of them through 1,000 inducing points (``Inducing``).

``--steps 2`` goes on with L-BFGS at full size, which takes minutes a step.  Writes ``large.png`` and
``large.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import cola_gp as gp

LENGTHSCALES = np.array([0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
NOISE = 0.2  # standard deviation of the observations; that of the function is near one half
ORDER = 1.5
FEATURES = 20_000


def draw_function(X: np.ndarray, seed: int) -> np.ndarray:
    """A draw of the process at ``X (n, 8)``; the spectrum of a Matern kernel is Student's t."""
    rng = np.random.default_rng(seed)
    mixed = np.sqrt(2 * ORDER / rng.chisquare(2 * ORDER, size=FEATURES))
    frequencies = rng.normal(size=(len(LENGTHSCALES), FEATURES)) * mixed / LENGTHSCALES[:, None]
    phases, weights = rng.uniform(0, 2 * np.pi, FEATURES), rng.normal(size=FEATURES)
    f = np.empty(len(X))
    for i in range(0, len(X), 1000):
        f[i : i + 1000] = np.cos(X[i : i + 1000] @ frequencies + phases) @ weights
    return f * np.sqrt(2 / FEATURES)


def observations(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, noisy targets, and the function itself."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, len(LENGTHSCALES)))
    f = draw_function(X, seed + 1)
    return X, f + NOISE * rng.normal(size=n), f


def scored(model: gp.GP, conditioned: Any, X: np.ndarray, y: np.ndarray, f: np.ndarray) -> dict[str, Any]:
    """Predictions of held-out points: errors, coverage and density of the targets."""
    started = time.process_time()
    mean = model.mean(X) + conditioned.latent_mean(X)
    std = np.sqrt(conditioned.latent_variance(X) + model.noise.variances(y))
    z = (y - mean) / std
    return {
        "rmse": float(np.sqrt(np.mean((mean - y) ** 2))),
        "rmse_of_the_function": float(np.sqrt(np.mean((mean - f) ** 2))),
        "nlpd": float(np.mean(0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi))),
        "coverage_95": float(np.mean(np.abs(z) <= 1.96)),
        "mean_square_of_standardised_errors": float(np.mean(z**2)),
        "predicting_seconds": time.process_time() - started,
        "mean": mean,
        "std": std,
    }


def at_full_size(model: gp.GP, known: gp.Data, alg: Any) -> tuple[Any, dict[str, Any]]:
    """Likelihood and gradient with their errors."""
    started = time.process_time()
    found = gp.condition(model, known, alg)
    conditioned = time.process_time()
    gradient = found.gradient()
    differentiated = time.process_time()
    kernel_errors, noise_error = found.gradient_error
    parts = [*zip(gradient, kernel_errors, strict=False), (gradient[-1], noise_error)]
    report = {
        "log_likelihood": float(found.log_marginal_likelihood()),
        "standard_error": found.info.standard_error,
        "steps": found.info.iterations,
        "residual": found.info.residual,
        "converged": found.info.converged,
        "kernel_gradient": [np.ravel(g).tolist() for g, _ in parts[:-1]],
        "kernel_gradient_error": [np.ravel(e).tolist() for _, e in parts[:-1]],
        "seconds": conditioned - started,
        "gradient_seconds": differentiated - conditioned,
    }
    return found, report


def through_points(model: gp.GP, known: gp.Data, count: int, subset: int) -> tuple[gp.GP, Any, float]:
    """The same through inducing points, whose own bound on a subset chooses the parameters."""
    started = time.process_time()
    points = known.X[:: max(1, known.n // count)][:count]
    start = gp.GP(gp.Inducing(model.kernel, points, fixed=True), model.mean, model.noise)
    fitted = gp.fit(start, gp.Data(known.X[:subset], known.y[:subset]), max_iters=10)
    return fitted.model, gp.condition(fitted.model, known), time.process_time() - started


def draw(path: Path, y: np.ndarray, scores: dict[str, dict[str, Any]], lengthscales: np.ndarray) -> None:
    """Errors in units of their told deviations, what observations are worth, and the lengthscales."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    names = list(scores)
    colours = [f"C{i}" for i in range(len(names))]
    places = np.arange(len(names))
    of_function = [scores[name]["rmse_of_the_function"] for name in names]
    bars = left.bar(places, of_function, color=colours)
    left.bar_label(bars, fmt="%.3f")
    left.set_xticks(places, [name.replace(", ", "\n").replace(" ", "\n") for name in names])
    left.set(ylabel="RMSE of the function, held-out points", title=f"Error (noise {NOISE:g} not included)")
    bins = np.linspace(-4, 4, 50)
    for name, colour in zip(names, colours, strict=True):
        z = (scores[name]["mean"] - y) / scores[name]["std"]
        middle.hist(z, bins, histtype="step", color=colour, density=True, label=name)
    middle.plot(bins, np.exp(-0.5 * bins**2) / np.sqrt(2 * np.pi), "k:", label="standard normal")
    middle.set(xlabel="error / told standard deviation", ylabel="density", title="Calibration")
    middle.set_ylim(0.0, 1.6 * middle.get_ylim()[1])  # room for the legend above the curves
    middle.legend(fontsize="small", loc="upper center")
    inputs = np.arange(1, len(LENGTHSCALES) + 1)
    right.semilogy(inputs, LENGTHSCALES, "k_", markersize=16, label="of the data")
    right.semilogy(inputs, lengthscales, "C1o", label="fitted")
    right.set(xlabel="input", ylabel="lengthscale", title="Lengthscales")
    right.legend()
    figure.savefig(path, dpi=110)


def run(
    out: Path,
    n: int,
    test: int,
    subset: int,
    few: int,
    points: int,
    steps: int = 0,
    rank: int | None = None,
    samples: int = 24,
) -> dict[str, Any]:
    """Choose parameters on a subset, condition on everything, predict, report; times are of the processor."""
    begun, wall = time.process_time(), time.perf_counter()
    X, y, f = observations(n + test, 0)
    subset, few = min(subset, n), min(few, n)  # never of the held-out observations
    known = gp.Data(X[:n], y[:n])
    held = (X[n:], y[n:], f[n:])

    kernel = 0.5 * gp.Matern32(np.ones(len(LENGTHSCALES)))
    start = gp.GP(kernel, gp.ConstantMean(float(y[:n].mean())), 0.1)
    first = gp.fit(start, gp.Data(X[:subset], y[:subset]), max_iters=40)
    model = first.model
    print(f"exact fit to {subset}:\n{first.summary()}\n", flush=True)

    # a residual r leaves an error of the order of r^2 in the likelihood
    alg = gp.IterativeInference(tol=2e-3, rank=rank, samples=samples, max_samples=samples, solve_tol=3e-3)
    if steps:
        model = gp.fit(model, known, alg=alg, max_iters=steps).model
    found, full = at_full_size(model, known, alg)
    print(
        f"all {n}: log marginal likelihood {full['log_likelihood']:.7g} +- {full['standard_error']:.2g}, "
        f"{full['steps']} steps of {found.info.method}",
        flush=True,
    )
    lines = zip(full["kernel_gradient"], full["kernel_gradient_error"], strict=True)
    for gradient, error in lines:
        print("  gradient", np.round(gradient, 1), "+-", np.round(error, 1), flush=True)

    started = time.process_time()
    exact = gp.condition(model, gp.Data(X[:few], y[:few]), gp.DenseInference())
    exact_seconds = time.process_time() - started
    sparse_model, sparse, sparse_seconds = through_points(model, known, points, min(n, 10 * points))
    scores = {
        f"{few} observations, exact": scored(model, exact, *held),
        f"{n} observations, iterative": scored(model, found, *held),
        f"{n} observations, {points} inducing points": scored(sparse_model, sparse, *held),
    }
    seconds = (exact_seconds, full["seconds"], sparse_seconds)
    for score, spent in zip(scores.values(), seconds, strict=True):
        score["seconds"] = spent
    full["error_of_variances"] = found.variance_errors.get("prediction")
    full["variances_from"] = found.variance_info.method

    out.mkdir(parents=True, exist_ok=True)
    lengthscales = np.concatenate(
        [np.ravel(v) for name, v in first.parameters.items() if "lengthscale" in name]
    )
    draw(out / "large.png", held[1], scores, lengthscales)
    report = {
        "n": n,
        "noise": NOISE,
        "subset": {
            "n": subset,
            "log_likelihood": first.log_likelihood,
            "evaluations": first.evaluations,
            "seconds": first.seconds,
            "parameters": first.parameters,
        },
        "all": full,
        "scores": {
            name: {k: v for k, v in score.items() if k not in ("mean", "std")}
            for name, score in scores.items()
        },
        "processor_seconds": time.process_time() - begun,
        "wall_seconds": time.perf_counter() - wall,
    }
    (out / "large.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, score in report["scores"].items():
        print(name, {k: round(v, 4) for k, v in score.items()})
    print(f"{report['processor_seconds']:.0f} s of a processor")
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("report"))
    parser.add_argument("--n", type=int, default=50_000, help="observations")
    parser.add_argument("--test", type=int, default=2_000, help="held-out points")
    parser.add_argument("--subset", type=int, default=3_000, help="observations that choose the parameters")
    parser.add_argument("--few", type=int, default=5_000, help="observations of the exact predictions")
    parser.add_argument("--points", type=int, default=1_000, help="inducing points")
    parser.add_argument("--steps", type=int, default=0, help="steps of L-BFGS with all observations")
    parser.add_argument("--rank", type=int, default=None, help="columns of the preconditioner")
    args = parser.parse_args(argv)
    run(args.out, args.n, args.test, args.subset, args.few, args.points, args.steps, args.rank)


if __name__ == "__main__":
    main()

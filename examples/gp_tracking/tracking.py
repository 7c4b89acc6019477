"""Tracking a vehicle through noisy, missing positions: a linear dynamical system learned and smoothed.

    python examples/gp_tracking/tracking.py --out report/

A made-up vehicle moves in the plane with a velocity that drifts.  Its position is measured once a second
with an error of some metres, and not at all inside of tunnels.  The model says that the state is position
and velocity; how much the velocity drifts and how large the errors are is learned, by
expectation-maximisation and by L-BFGS on the likelihood, whose gradient is in closed form.

Measured: the error of raw, filtered and smoothed positions; the share of true positions within the 95 %
intervals; the forecast of the next ten seconds; what single precision does to a vague prior, by covariances
and by square roots; and the time of filtering a hundred times as long a track step by step and by the
parallel scan.  Writes ``tracking.png`` and ``tracking.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from cola_gp import statespace as ss

DRIFT, ERROR = 0.05, 4.0  # variance of the acceleration, m^2/s^3; standard deviation of a measurement, m


def model(drift: float, error: float, dtype: Any = float) -> ss.LinearGaussian:
    """Position and velocity along both axes, ``(x, x', y, y')``, one step a second, little known at first."""
    A = np.kron(np.eye(2), [[1.0, 1.0], [0.0, 1.0]])
    Q = drift * np.kron(np.eye(2), [[1 / 3, 1 / 2], [1 / 2, 1.0]])
    H = np.kron(np.eye(2), [[1.0, 0.0]])
    parts = (A, Q, H, error**2 * np.eye(2), np.zeros(4), 1e4 * np.eye(4))
    return ss.LinearGaussian(*(np.asarray(part, dtype=dtype) for part in parts))


def track(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True states ``(n, 4)`` and measured positions ``(n, 2)``, NaN in tunnels."""
    truth = model(DRIFT, ERROR).replace(P0=np.diag([100.0, 25.0, 100.0, 25.0]))
    states, y = (one[0] for one in ss.sample(truth, n, key=seed))
    rng = np.random.default_rng(seed)
    for start in rng.integers(20, n - 20, size=max(1, n // 100)):
        y[start : start + 8] = np.nan
    y[rng.uniform(size=n) < 0.05] = np.nan
    return states, y


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean((a - b) ** 2)))


def learn(y: np.ndarray) -> tuple[ss.LinearGaussian, dict[str, Any]]:
    """Drift and error from the measurements alone, beginning far away."""
    start = model(5.0, 20.0)
    rough = ss.em(start, y, learn=("Q", "R"), max_iters=30, tol=1e-4)
    fitted = ss.gradient_fit(rough.model, y, learn=("Q", "R"))
    found = fitted.model
    return found, {
        "em": {"log_likelihood": rough.log_likelihood, "iterations": rough.iterations},
        "gradient": {
            "log_likelihood": fitted.log_likelihood,
            "iterations": fitted.iterations,
            "converged": fitted.converged,
            "reason": fitted.reason,
        },
        "error": float(np.sqrt(np.mean(np.diagonal(found.R)))),
        "drift": float(np.mean(np.diagonal(found.Q)[1::2])),
    }


def single_precision(n: int) -> dict[str, Any]:
    """Log-likelihood and smallest relative eigenvalue of a covariance in float32, for a prior of (1000
    km)^2.
    """
    precise = model(1e-4, 0.1).replace(P0=np.eye(4))
    y = ss.sample(precise, n, key=3)[1][0]
    vague = 1e12 * np.eye(4)
    double = precise.replace(P0=vague)
    single = model(1e-4, 0.1, np.float32).replace(P0=vague.astype(np.float32))
    answers = {"float64": ss.kalman_filter(double, y, form="sqrt")}
    for form in ("covariance", "sqrt"):
        answers[f"float32, {form}"] = ss.kalman_filter(single, y.astype(np.float32), form=form)
    out = {}
    for name, answer in answers.items():
        w = np.linalg.eigvalsh(np.asarray(answer.covariance, dtype=float))
        out[name] = {
            "log_likelihood": float(answer.log_likelihood),
            "smallest_eigenvalue": float(np.min(w[:, 0] / w[:, -1])),
        }
    return out


def seconds(n: int) -> dict[str, float]:
    """Filtering n steps one after the other and by the tree."""
    _, y = track(n, 1)
    taken = {}
    for method in ("sequential", "parallel"):
        begin = time.perf_counter()
        ss.log_likelihood(model(DRIFT, ERROR), y, method=method)
        taken[method] = time.perf_counter() - begin
    begin = time.perf_counter()
    ss.value_and_gradient(model(DRIFT, ERROR), y, method="parallel")
    taken["parallel, with gradient"] = time.perf_counter() - begin
    return taken


def plot(path: Path, states: np.ndarray, y: np.ndarray, smoothed: ss.Smoothed, ahead: ss.Forecast) -> None:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    left.plot(*y.T, ".", color="0.6", markersize=4, label="measured")
    left.plot(states[:, 0], states[:, 2], color="black", linewidth=1, label="true")
    left.plot(smoothed.mean[:, 0], smoothed.mean[:, 2], color="tab:blue", linewidth=1, label="smoothed")
    left.plot(*ahead.mean.T, "--", color="tab:red", label="forecast")
    left.set(xlabel="x / m", ylabel="y / m", title="Positions")
    left.set_aspect("equal", adjustable="datalim")
    left.legend()
    times = np.arange(len(y))
    deviation = 1.96 * np.sqrt(smoothed.covariance[:, 1, 1])
    right.fill_between(
        times, smoothed.mean[:, 1] - deviation, smoothed.mean[:, 1] + deviation, alpha=0.3, label="95 %"
    )
    right.plot(times, smoothed.mean[:, 1], label="smoothed")
    right.plot(times, states[:, 1], color="black", linewidth=1, label="true")
    right.set(xlabel="seconds", ylabel="velocity along x / (m/s)", title="A velocity that nobody measured")
    right.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def run(outdir: str | Path, n: int = 500, long: int = 50_000) -> dict[str, Any]:
    """The whole example; returns what was measured."""
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    states, y = track(n + 10)
    future, states, y = states[n:, ::2], states[:n], y[:n]
    fitted, learned = learn(y)
    filtered, smoothed = ss.kalman_filter(fitted, y), ss.kalman_smoother(fitted, y)
    position = states[:, ::2]
    deviation = np.sqrt(np.diagonal(smoothed.covariance, axis1=1, axis2=2)[:, ::2])
    inside = np.abs(smoothed.mean[:, ::2] - position) < 1.96 * deviation
    hidden = np.isnan(y).any(axis=1)
    ahead = ss.forecast(fitted, y, 10, include_noise=False)
    spread = np.sqrt(np.diagonal(ahead.covariance, axis1=1, axis2=2))
    numbers = {
        "steps": n,
        "missing": int(hidden.sum()),
        "truth": {"drift": DRIFT, "error": ERROR},
        "learned": learned,
        "rmse": {
            "measured": rmse(y, position),
            "filtered": rmse(filtered.mean[:, ::2], position),
            "smoothed": rmse(smoothed.mean[:, ::2], position),
            "smoothed_where_missing": rmse(smoothed.mean[hidden, ::2], position[hidden]),
        },
        "coverage_95": float(inside.mean()),
        "forecast": {
            "rmse": rmse(ahead.mean, future),
            "within_two_deviations": float(np.mean(np.abs(ahead.mean - future) < 2 * spread)),
        },
        "single_precision": single_precision(n),
        "seconds": {"steps": long, **seconds(long)},
    }
    plot(outdir / "tracking.png", states, y, smoothed, ahead)
    (outdir / "tracking.json").write_text(json.dumps(numbers, indent=1) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """What was measured, in words."""
    got, error, taken = numbers["learned"], numbers["rmse"], numbers["seconds"]
    lines = [
        f"{numbers['steps']} steps, {numbers['missing']} without a measurement",
        f"learned: error {got['error']:.2f} m (true {ERROR}), drift {got['drift']:.3f} (true {DRIFT}); "
        f"{got['gradient']['reason']}",
        f"RMSE of positions: measured {error['measured']:.2f} m, filtered {error['filtered']:.2f} m, "
        f"smoothed {error['smoothed']:.2f} m (in tunnels {error['smoothed_where_missing']:.2f} m)",
        f"95 % intervals hold {100 * numbers['coverage_95']:.0f} % of the true positions",
        f"ten seconds ahead: RMSE {numbers['forecast']['rmse']:.1f} m",
    ]
    for name, one in numbers["single_precision"].items():
        lines.append(
            f"stiff filter in {name}: log-likelihood {one['log_likelihood']:.2f}, smallest eigenvalue "
            f"{one['smallest_eigenvalue']:.1e} of the largest"
        )
    lines.append(
        f"{taken['steps']} steps: {taken['sequential']:.2f} s one by one, {taken['parallel']:.2f} s by the "
        f"tree, {taken['parallel, with gradient']:.2f} s with the gradient"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="tracking", help="folder for the figure and the numbers")
    print(report(run(parser.parse_args(argv).out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

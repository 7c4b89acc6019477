"""A Gaussian process of 100,000 measurements in time: fitted, interpolated and forecast without a matrix.

    python examples/gp_time_series/time_series.py --out report/

A made-up thermometer reads about every five minutes for a year, at times that are irregular, sometimes two
at once, with a seasonal swing, a daily cycle whose amplitude changes with the seasons, weather, and an outage
of a fortnight, of three days, and of many single hours.  The covariance is a sum of what each of these is in
time: a Matern of weeks, a daily cosine that loses its phase and amplitude over weeks, an exponential of days,
and noise.  Every term is the covariance of a stochastic differential equation, so the model has a state of
five numbers and inference is a Kalman filter and smoother: O(n) for likelihood, gradient, and prediction.

Its parameters are fitted by the marginal likelihood.  Measured are the readings that were taken during the
outages and hidden from the fit, beside linear interpolation, and a forecast of three days beside persistence
(the reading a whole number of days before).  Writes ``time_series.png`` and ``time_series.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import cola_gp as gp
from cola_gp.sde import form_of

DAYS = 365.0
READINGS = 100_000
FORECAST_DAYS = 3.0
# (start, length) of the long outages in days
OUTAGES = ((120.0, 14.0), (251.5, 3.0))


def readings(n: int, days: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Times in days (sorted, some twice) and temperatures of ``n`` readings, the outages included."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0.0, days, n))
    twice = rng.choice(n - 1, n // 100, replace=False)
    t[twice + 1] = t[twice]
    season = 10.0 - 9.0 * np.cos(2 * np.pi * t / 365.0)
    daily = (3.0 - 1.5 * np.cos(2 * np.pi * t / 365.0)) * np.sin(2 * np.pi * t - 2.0)
    # weather: fronts that pass within days, and eddies of an hour
    knots = np.arange(0.0, days + 1.0, 0.05)
    fronts = np.zeros(len(knots))
    kicks = rng.normal(size=len(knots))
    for k in range(1, len(knots)):
        fronts[k] = 0.985 * fronts[k - 1] + 0.45 * kicks[k]
    weather = np.interp(t, knots, fronts)
    return t, season + daily + weather + 0.3 * rng.normal(size=n)


def hidden(t: np.ndarray, days: float, seed: int = 1) -> np.ndarray:
    """Which readings fall into an outage: the long ones, and one hour of every third day."""
    scale = days / DAYS
    mask = np.zeros(len(t), dtype=bool)
    for start, length in OUTAGES:
        mask |= (t >= start * scale) & (t < (start + length) * scale)
    for day in np.random.default_rng(seed).uniform(0, days, int(days / 3)):
        mask |= (t >= day) & (t < day + 1 / 24)
    return mask


def model() -> gp.GP:
    """Season, day, weather and noise; units are days and degrees."""
    season = gp.Scale(gp.Matern32(30.0), 50.0)
    day = gp.Scale(gp.Cosine(1.0) * gp.Matern12(60.0), 5.0)
    weather = gp.Scale(gp.Matern12(1.0), 5.0)
    return gp.GP(season + day + weather, noise=0.2)


def score(
    truth: np.ndarray, mean: np.ndarray, variance: np.ndarray, baseline: np.ndarray
) -> dict[str, float]:
    """Errors and calibration of predicted readings."""
    error = mean - truth
    return {
        "readings": int(len(truth)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "baseline_rmse": float(np.sqrt(np.mean((baseline - truth) ** 2))),
        "coverage_95": float(np.mean(np.abs(error) <= 1.96 * np.sqrt(variance))),
        "mean_log_density": float(np.mean(-0.5 * (error**2 / variance + np.log(2 * np.pi * variance)))),
    }


def draw(path: Path, parts: dict[str, np.ndarray]) -> None:
    """The year, and the days around the outage of three days."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1)
    step = max(1, len(parts["t"]) // 20_000)
    above.plot(parts["t"][::step], parts["y"][::step], ".", color="0.7", ms=1, label="readings")
    above.plot(parts["grid"], parts["mean"], "C0", lw=0.6, label="posterior mean")
    above.set(xlabel="day", ylabel="temperature in °C", title=f"{len(parts['t']):,} readings of a year")
    above.legend(frameon=False, markerscale=6)
    start, stop = parts["window"]
    near = (parts["t"] > start) & (parts["t"] < stop)
    away = (parts["t_hidden"] > start) & (parts["t_hidden"] < stop)
    grid = (parts["grid"] > start) & (parts["grid"] < stop)
    band = 1.96 * np.sqrt(parts["variance"][grid])
    below.plot(parts["t"][near], parts["y"][near], "k.", ms=2, label="readings")
    below.plot(
        parts["t_hidden"][away], parts["y_hidden"][away], ".", color="C3", ms=2, label="hidden from the fit"
    )
    below.plot(parts["grid"][grid], parts["mean"][grid], "C0", lw=1)
    below.fill_between(
        parts["grid"][grid],
        parts["mean"][grid] - band,
        parts["mean"][grid] + band,
        color="C0",
        alpha=0.25,
        lw=0,
        label="95 % of readings",
    )
    below.set(xlabel="day", ylabel="temperature in °C", title="an outage")
    below.legend(frameon=False, ncol=3)
    figure.savefig(path, dpi=130)


def run(outdir: str | Path, n: int = READINGS, max_iters: int = 120) -> dict[str, Any]:
    """Fit, interpolate, forecast; write the figure and the numbers to ``outdir`` and return the numbers.

    The year gets shorter with ``n``, so that readings are always about five minutes apart.
    """
    started = time.perf_counter()
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    days = DAYS * n / READINGS
    t, y = readings(n, days)
    last = days - FORECAST_DAYS
    out, ahead = hidden(t, days) & (t < last), t >= last
    kept = ~(out | ahead)
    # the mean of a fitted year is no parameter: the seasonal term is wide enough to carry it
    centre = float(y[kept].mean())
    data = gp.Data(t[kept], y[kept] - centre)

    result = gp.fit(model(), data, fixed=["*.period"], max_iters=max_iters)
    begun = time.perf_counter()
    value, _ = gp.value_and_gradient(result.model, data)
    evaluation = time.perf_counter() - begun
    begun = time.perf_counter()
    posterior = gp.Posterior(result.model, data)
    grid = np.linspace(0.0, days, min(n, 20_000))
    mean, variance = centre + posterior.mean(grid), posterior.variance(grid, include_noise=True)
    prediction = time.perf_counter() - begun

    def judged(where: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
        at = t[where]
        found = centre + posterior.mean(at), posterior.variance(at, include_noise=True)
        return score(y[where], *found, baseline)

    filled = judged(out, np.interp(t[out], t[kept], y[kept]))
    before = t[ahead] - np.ceil(t[ahead] - last)
    forecast = judged(ahead, np.interp(before, t[kept], y[kept]))
    middle = (OUTAGES[1][0] + 0.5 * OUTAGES[1][1]) * days / DAYS
    draw(
        outdir / "time_series.png",
        {
            "t": t[kept],
            "y": y[kept],
            "t_hidden": t[out],
            "y_hidden": y[out],
            "grid": grid,
            "mean": mean,
            "variance": variance,
            "window": np.array([middle - 4.0, middle + 4.0]),
        },
    )
    numbers = {
        "readings": int(kept.sum()),
        "states": form_of(result.model.kernel).size,
        "method": result.method,
        "converged": result.converged,
        "reason": result.reason,
        "evaluations": result.evaluations,
        "log_likelihood": float(value),
        "parameters": result.parameters,
        "outages": filled,
        "forecast": forecast,
        "figure": "time_series.png",
        "seconds_per_likelihood_and_gradient": evaluation,
        "seconds_to_predict_grid": prediction,
        "seconds": time.perf_counter() - started,
    }
    (outdir / "time_series.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""

    def line(name: str, other: str, part: dict[str, float]) -> str:
        return (
            f"{name}: RMSE {part['rmse']:.3f} ({other} {part['baseline_rmse']:.3f}), "
            f"{100 * part['coverage_95']:.0f} % of {part['readings']:,} readings inside the 95 % band, "
            f"mean log density {part['mean_log_density']:.2f}"
        )

    return "\n".join(
        [
            f"{numbers['readings']:,} readings, a state of {numbers['states']} numbers, {numbers['method']}",
            f"fit: log marginal likelihood {numbers['log_likelihood']:.2f}, {numbers['reason']}, "
            f"{numbers['evaluations']} evaluations of "
            f"{numbers['seconds_per_likelihood_and_gradient']:.2f} s with their gradient",
            *(f"  {name} = {value:.4g}" for name, value in numbers["parameters"].items()),
            line("outages", "linear interpolation", numbers["outages"]),
            line(f"{FORECAST_DAYS:.0f} days ahead", "same hour of the last day", numbers["forecast"]),
            f"{numbers['seconds']:.1f} s",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="time_series", help="folder for the figure and the numbers")
    parser.add_argument("--readings", type=int, default=READINGS, help="how many, five minutes apart")
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out, args.readings)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

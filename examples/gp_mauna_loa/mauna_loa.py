"""Gaussian process regression on the atmospheric CO2 record of Mauna Loa, as in Rasmussen & Williams (2006,
5.4.3).

    python examples/gp_mauna_loa/mauna_loa.py --out report/

Monthly means of the weekly series that ships with statsmodels (1958 to 2001); months without a measurement
are left out.  The covariance is the book's: a smooth trend, a slowly changing seasonal cycle of exactly one
year, medium-term irregularities, and correlated plus independent noise.  Its parameters are fitted by the
marginal likelihood

* on nine tenths of the months, to measure how well the others are filled in;
* on all months before each of several cuts, to measure forecasts of the five years after it;
* on the whole record, to forecast fifteen more years.

Every measurement stands beside a least-squares parabola with yearly harmonics.  Writes ``mauna_loa.png`` and
``mauna_loa.json``.
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

CUTS = (1977.0, 1982.0, 1987.0, 1992.0, 1997.0)
AHEAD_YEARS = 5
FORECAST_YEARS = 15


def load() -> tuple[np.ndarray, np.ndarray]:
    """Time in years (middle of each month) and CO2 in parts per million, missing months dropped."""
    from statsmodels.datasets import co2

    monthly = co2.load_pandas().data["co2"].resample("MS").mean().dropna()
    years = np.asarray(monthly.index.year + (monthly.index.month - 0.5) / 12, dtype=float)
    return years, monthly.to_numpy(dtype=float)


def model() -> gp.GP:
    """The composite covariance, starting from the book's fitted values; units are years and ppm."""
    trend = gp.Scale(gp.RBF(67.0), 66.0**2)
    season = gp.Scale(gp.RBF(90.0) * gp.Periodic(1.3, period=1.0), 2.4**2)
    medium = gp.Scale(gp.RationalQuadratic(1.2, alpha=0.78), 0.66**2)
    weather = gp.Scale(gp.RBF(1.6 / 12), 0.18**2)
    return gp.GP(trend + season + medium + weather, noise=0.19**2)


def learn(
    years: np.ndarray, co2: np.ndarray, restarts: int, max_iters: int
) -> tuple[gp.FitResult, gp.Posterior, float]:
    """Fit to centred targets; the trend kernel is wide enough to carry what a mean function would.

    The period is known and kept at one year.
    """
    centre = float(co2.mean())
    data = gp.Data(years[:, None], co2 - centre)
    result = gp.fit(model(), data, fixed=["*.period"], restarts=restarts, max_iters=max_iters)
    return result, gp.Posterior(result.model, data), centre


def score(
    years: np.ndarray, co2: np.ndarray, known: np.ndarray, test: np.ndarray, restarts: int, max_iters: int
) -> dict[str, Any]:
    """Fit on the ``known`` months (a mask) and compare predictions of the ``test`` months with the truth."""
    result, posterior, centre = learn(years[known], co2[known], restarts, max_iters)
    mean = centre + posterior.mean(years[test])
    std = np.sqrt(posterior.variance(years[test], include_noise=True))
    error = mean - co2[test]
    baseline = seasonal_quadratic(years[known], co2[known], years[test]) - co2[test]
    density = posterior.log_predictive_density(years[test], co2[test] - centre)
    return {
        "years": years[test],
        "mean": mean,
        "std": std,
        "error": error,
        "baseline_error": baseline,
        "inside": np.abs(error) <= 1.96 * std,
        "density": density,
        "converged": result.converged,
    }


def summarise(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors of several scores taken together."""

    def together(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])

    return {
        "test_months": int(together("error").size),
        "rmse": float(np.sqrt(np.mean(together("error") ** 2))),
        "baseline_rmse": float(np.sqrt(np.mean(together("baseline_error") ** 2))),
        "coverage_95": float(np.mean(together("inside"))),
        "mean_log_density": float(np.mean(together("density"))),
        "all_converged": all(part["converged"] for part in parts),
    }


def fill_in(years: np.ndarray, co2: np.ndarray, restarts: int, max_iters: int) -> dict[str, Any]:
    """Hold out a random tenth of the months."""
    test = np.zeros(len(years), dtype=bool)
    test[np.random.default_rng(0).choice(len(years), len(years) // 10, replace=False)] = True
    return score(years, co2, ~test, test, restarts, max_iters)


def look_ahead(years: np.ndarray, co2: np.ndarray, restarts: int, max_iters: int) -> list[dict[str, Any]]:
    """Forecast the years after every cut from all months before it, refitting each time."""
    return [
        score(years, co2, years < cut, (years >= cut) & (years < cut + AHEAD_YEARS), restarts, max_iters)
        for cut in CUTS
    ]


def seasonal_quadratic(years: np.ndarray, co2: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Least squares by a parabola and two yearly harmonics: what a careful person would draw by hand."""

    def design(t: np.ndarray) -> np.ndarray:
        s = t - years.mean()
        waves = [f(2 * np.pi * k * t) for k in (1, 2) for f in (np.sin, np.cos)]
        return np.column_stack([np.ones_like(s), s, s**2, *waves])

    weights = np.linalg.lstsq(design(years), co2, rcond=None)[0]
    return design(at) @ weights


def draw(
    path: Path, years: np.ndarray, co2: np.ndarray, forecast: dict[str, Any], scores: list[dict[str, Any]]
) -> None:
    """Two panels: the record with the forecast, and the errors of the forecasts whose truth is known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(years, co2, "k.", ms=2, label="monthly means")
    left.plot(forecast["years"], forecast["mean"], "C0", lw=1, label="forecast")
    band = 1.96 * forecast["std"]
    left.fill_between(
        forecast["years"],
        forecast["mean"] - band,
        forecast["mean"] + band,
        color="C0",
        alpha=0.25,
        lw=0,
        label="95 % of observations",
    )
    left.set(xlabel="year", ylabel="CO$_2$ in ppm", title=f"Mauna Loa, forecast of {FORECAST_YEARS} years")
    left.legend(frameon=False)
    for number, part in enumerate(scores):
        color = f"C{number}"
        band = 1.96 * part["std"]
        right.fill_between(part["years"], -band, band, color=color, alpha=0.2, lw=0)
        right.plot(part["years"], -part["error"], color=color, lw=1)
    right.axhline(0.0, color="0.6", lw=0.8)
    right.set(
        xlabel="year",
        ylabel="measured minus forecast in ppm",
        title=f"forecasts of {AHEAD_YEARS} known years, 95 % bands",
    )
    figure.savefig(path, dpi=130)


def run(outdir: str | Path, quick: bool = True) -> dict[str, Any]:
    """Fit, score, forecast; write the figure and the numbers to ``outdir`` and return the numbers.

    ``quick`` limits the iterations and makes one start per fit: about ten seconds on one core.
    """
    started = time.perf_counter()
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    restarts, max_iters = (0, 60) if quick else (2, 200)
    years, co2 = load()
    filled = fill_in(years, co2, restarts, max_iters)
    scores = look_ahead(years, co2, restarts, max_iters)
    result, posterior, centre = learn(years, co2, restarts, max_iters)
    ahead = years[-1] + np.arange(1, 12 * FORECAST_YEARS + 1) / 12
    mean = centre + posterior.mean(ahead)
    std = np.sqrt(posterior.variance(ahead, include_noise=True))
    loo = posterior.leave_one_out()
    draw(outdir / "mauna_loa.png", years, co2, {"years": ahead, "mean": mean, "std": std}, scores)
    numbers = {
        "months": len(years),
        "first_year": float(years[0]),
        "last_year": float(years[-1]),
        "converged": result.converged,
        "reason": result.reason,
        "iterations": result.iterations,
        "log_likelihood": result.log_likelihood,
        "gradient_norm": result.gradient_norm,
        "jitter": result.jitter,
        "method": result.method,
        "parameters": result.parameters,
        "leave_one_out_rmse": float(np.sqrt(np.mean((loo.mean - posterior.data.y) ** 2))),
        "held_out_months": summarise([filled]),
        "years_ahead": summarise(scores),
        "forecast": {"year": float(ahead[-1]), "mean": float(mean[-1]), "std": float(std[-1])},
        "figure": "mauna_loa.png",
        "seconds": time.perf_counter() - started,
    }
    (outdir / "mauna_loa.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    last = numbers["forecast"]

    def line(name: str, part: dict[str, Any]) -> str:
        return (
            f"{name}: RMSE {part['rmse']:.3f} ppm (parabola and harmonics {part['baseline_rmse']:.3f}), "
            f"{100 * part['coverage_95']:.0f} % of {part['test_months']} months inside the 95 % band, "
            f"mean log density {part['mean_log_density']:.2f}"
        )

    return "\n".join(
        [
            f"Mauna Loa CO2: {numbers['months']} months, "
            f"{numbers['first_year']:.1f} to {numbers['last_year']:.1f}",
            f"fit: log marginal likelihood {numbers['log_likelihood']:.2f} by {numbers['method']}, "
            f"{numbers['reason']}, {numbers['iterations']} iterations",
            *(f"  {name} = {value:.4g}" for name, value in numbers["parameters"].items()),
            f"leave-one-out RMSE {numbers['leave_one_out_rmse']:.3f} ppm",
            line("random tenth of the months held out", numbers["held_out_months"]),
            line(f"{AHEAD_YEARS} years ahead, {len(CUTS)} times", numbers["years_ahead"]),
            f"forecast for {last['year']:.1f}: {last['mean']:.1f} +- {1.96 * last['std']:.1f} ppm (95 %)",
            f"{numbers['seconds']:.1f} s",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="mauna_loa", help="folder for the figure and the numbers")
    parser.add_argument("--full", action="store_true", help="restarts and more iterations")
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out, quick=not args.full)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install statsmodels matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

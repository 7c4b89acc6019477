"""A picture of 200 x 200 noisy measurements with gaps: exact Gaussian process regression on a grid.

    python examples/gp_spatial_grid/spatial_grid.py --out report/

A smooth field is measured with noise on a regular grid; a cloud hides a disc of it and some single pixels
failed.  A covariance matrix of 40,000 points takes 12.8 GB.  On the grid it is a Kronecker product of two
Toeplitz matrices: likelihood, gradient and prediction are exact and take milliseconds without gaps, and a
second or so with hundreds of missing values, which enter by a Schur complement.

Writes ``spatial_grid.png`` and ``spatial_grid.json``.
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

NOISE = 0.3


def truth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The field at ``(x, y)``: hills of different widths along the two directions."""
    waves = np.sin(5.0 * x + 1.0) * np.cos(9.0 * y) + 0.6 * np.sin(7.0 * (x + y))
    return waves + 1.2 * np.exp(-20.0 * ((x - 0.6) ** 2 + (y - 0.35) ** 2))


def measure(n: int, seed: int = 0) -> tuple[gp.Grid, np.ndarray, np.ndarray]:
    """Grid, field and measurements ``(n, n)``; NaN where nothing was measured."""
    rng = np.random.default_rng(seed)
    axis = gp.Regular(0.0, 1.0 / (n - 1), n)
    grid = gp.Grid(axis, axis)
    x, y = (column.reshape(n, n) for column in grid.points().T)
    field = truth(x, y)
    seen = field + NOISE * rng.normal(size=(n, n))
    seen[(x - 0.3) ** 2 + (y - 0.7) ** 2 < 0.04**2] = np.nan
    seen[tuple(rng.integers(0, n, size=(2, n // 2)))] = np.nan
    return grid, field, seen


def model() -> gp.GP:
    return gp.GP(1.0 * gp.RBF([0.2, 0.2]), noise=0.1)


def learn(grid: gp.Grid, seen: np.ndarray) -> tuple[gp.FitResult, gp.FitResult, gp.Posterior]:
    """Parameters from rows without gaps would do; here they come from the data with gaps, started from a fit
    in which the gaps hold the mean."""
    known = ~np.isnan(seen)
    filled = np.where(known, seen, seen[known].mean())
    rough = gp.fit(model(), gp.Data(grid, filled))
    data = gp.Data(grid, seen)
    result = gp.fit(rough.model, data)
    return rough, result, gp.Posterior(result.model, data)


def draw(path: Path, field: np.ndarray, seen: np.ndarray, mean: np.ndarray, std: np.ndarray) -> None:
    """Four pictures: the field, the measurements, the prediction, its standard deviation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    low, high = float(field.min()), float(field.max())
    pictures = [("field", field), ("measured", seen), ("predicted", mean), ("standard deviation", std)]
    for axes, (title, values) in zip(figure.subplots(1, 4), pictures, strict=True):
        limits = {} if values is std else {"vmin": low, "vmax": high}
        shown = axes.imshow(values.T, origin="lower", extent=(0, 1, 0, 1), **limits)
        axes.set(title=title, xticks=[0, 1], yticks=[0, 1], xlabel="$x_1$", ylabel="$x_2$")
        figure.colorbar(shown, ax=axes, shrink=0.75)
    figure.savefig(path, dpi=130)


def rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def run(outdir: str | Path, n: int = 200) -> dict[str, Any]:
    """Fit, predict every pixel; write the figure and the numbers to ``outdir`` and return the numbers."""
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    grid, field, seen = measure(n)
    started = time.perf_counter()
    rough, result, posterior = learn(grid, seen)
    fitted = time.perf_counter()
    mean = posterior.mean(grid).reshape(n, n)
    std = np.sqrt(posterior.variance(grid)).reshape(n, n)
    gaps = np.isnan(seen)
    numbers = {
        "points": n * n,
        "missing": int(gaps.sum()),
        "method": result.method,
        "converged": result.converged,
        "evaluations": rough.evaluations + result.evaluations,
        "log_likelihood": result.log_likelihood,
        "parameters": result.parameters,
        "rmse": rmse((mean - field)[~gaps]),
        "rmse_gaps": rmse((mean - field)[gaps]),
        "rmse_mean_in_gaps": rmse(seen[~gaps].mean() - field[gaps]),
        "inside_95": float(np.mean(np.abs(mean - field)[gaps] <= 1.96 * std[gaps])),
        "noise_std": float(np.sqrt(result.parameters["noise.variance"])),
        "fit_seconds": fitted - started,
        "predict_seconds": time.perf_counter() - fitted,
        "figure": "spatial_grid.png",
    }
    draw(outdir / "spatial_grid.png", field, seen, mean, std)
    (outdir / "spatial_grid.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    return "\n".join(
        [
            f"{numbers['points']:,} points, {numbers['missing']} missing: {numbers['method']}",
            f"fit in {numbers['fit_seconds']:.1f} s, {numbers['evaluations']} evaluations; "
            f"all pixels predicted in {numbers['predict_seconds']:.1f} s",
            *(f"  {name} = {value:.4g}" for name, value in numbers["parameters"].items()),
            f"noise {numbers['noise_std']:.3f} (true {NOISE})",
            f"error of the field: {numbers['rmse']:.3f} where measured, "
            f"{numbers['rmse_gaps']:.3f} in the gaps (the mean: {numbers['rmse_mean_in_gaps']:.3f}); "
            f"{100 * numbers['inside_95']:.0f} % of the gaps inside the 95 % band",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="spatial_grid", help="folder for the figure and the numbers")
    parser.add_argument("--size", type=int, default=200, help="points per axis")
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out, n=args.size)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

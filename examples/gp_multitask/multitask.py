"""Several sensors at once: intrinsic coregionalisation on a grid of times and tasks.

    python examples/gp_multitask/multitask.py --out report/

Five sensors record mixtures of two slow signals every hour.  One fails for the second half of the record and
two others have gaps.  A multitask Gaussian process (Bonilla, Chai & Williams 2008) learns the covariance
between the sensors, ``B B^T + diag(v)``, together with that in time, and fills the gaps from the sensors that
worked; one process per sensor cannot.

The data are a grid, time x sensor, with missing values: the covariance is a Kronecker product of a Toeplitz
matrix in time and a 5 x 5 matrix, and inference is exact.  Writes ``multitask.png`` and ``multitask.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import cola_gp as gp

NOISE = 0.15
MIXING = np.array([[1.0, 0.0], [0.8, 0.5], [0.2, 0.9], [-0.7, 0.6], [0.5, -0.8]])
TASKS = len(MIXING)


def record(n: int, seed: int = 0) -> tuple[gp.Grid, np.ndarray, np.ndarray]:
    """Grid of times and sensors, the signals ``(n, 5)`` and what was recorded (NaN where nothing was)."""
    rng = np.random.default_rng(seed)
    hours = gp.Regular(0.0, 1.0, n)
    t = hours.coordinates()
    slow = np.stack([np.sin(t / 9.0) + 0.5 * np.sin(t / 4.3), np.cos(t / 7.0) * np.sin(t / 23.0 + 1)], axis=1)
    signals = slow @ MIXING.T
    seen = signals + NOISE * rng.normal(size=signals.shape)
    seen[n // 2 :, 1] = np.nan
    seen[n // 4 : n // 3, 3] = np.nan
    seen[2 * n // 3 : 3 * n // 4, 4] = np.nan
    return gp.Grid(hours, np.arange(float(TASKS))), signals, seen


def multitask() -> gp.GP:
    time, sensor = gp.ActiveDims(gp.RBF(5.0), 0), gp.ActiveDims(gp.Coregion(TASKS, rank=2, variance=0.1), 1)
    return gp.GP(time * sensor, noise=0.05)


def together(grid: gp.Grid, seen: np.ndarray) -> tuple[gp.FitResult, np.ndarray, np.ndarray]:
    """The multitask process: its fit, and mean and standard deviation of every signal at every time."""
    data = gp.Data(grid, seen)
    result = gp.fit(multitask(), data, restarts=2)
    posterior = gp.Posterior(result.model, data)
    shape = seen.shape
    return result, posterior.mean(grid).reshape(shape), np.sqrt(posterior.variance(grid)).reshape(shape)


def apart(grid: gp.Grid, seen: np.ndarray) -> np.ndarray:
    """One process per sensor, for comparison: predictive means ``(n, 5)``."""
    hours = gp.Grid(grid.axes[0])
    means = []
    for column in seen.T:
        data = gp.Data(hours, column)
        result = gp.fit(gp.GP(1.0 * gp.RBF(5.0), noise=0.05), data)
        means.append(gp.Posterior(result.model, data).mean(hours))
    return np.stack(means, axis=1)


def task_correlation(model: gp.GP) -> np.ndarray:
    """Correlations between the sensors, ``(5, 5)``."""
    K = model.kernel.factors[1].kernel.covariance()
    scale = np.sqrt(np.diag(K))
    return K / np.outer(scale, scale)


def draw(
    path: Path, signals: np.ndarray, seen: np.ndarray, mean: np.ndarray, std: np.ndarray, alone: np.ndarray
) -> None:
    """One panel per sensor."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    t = np.arange(len(seen))
    for j, axes in enumerate(figure.subplots(TASKS, 1, sharex=True)):
        axes.fill_between(
            t, mean[:, j] - 1.96 * std[:, j], mean[:, j] + 1.96 * std[:, j], color="C0", alpha=0.25, lw=0
        )
        axes.plot(t, signals[:, j], "0.5", lw=1, label="signal")
        axes.plot(t, alone[:, j], "C1", lw=1, ls="--", label="one process per sensor")
        axes.plot(t, mean[:, j], "C0", lw=1, label="multitask, 95 %")
        axes.plot(t, seen[:, j], "k.", ms=2)
        axes.set(ylabel=f"sensor {j}")
    axes.set(xlabel="hour")
    figure.align_ylabels()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", frameon=False, ncol=3)
    figure.savefig(path, dpi=130)


def run(outdir: str | Path, n: int = 200) -> dict[str, Any]:
    """Fit both, fill the gaps; write the figure and the numbers to ``outdir`` and return the numbers."""
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    grid, signals, seen = record(n)
    result, mean, std = together(grid, seen)
    alone = apart(grid, seen)
    gaps = np.isnan(seen)

    def rmse(prediction: np.ndarray) -> float:
        return float(np.sqrt(np.mean((prediction - signals)[gaps] ** 2)))

    shared = MIXING @ MIXING.T
    numbers = {
        "times": n,
        "tasks": TASKS,
        "missing": int(gaps.sum()),
        "method": result.method,
        "converged": result.converged,
        "log_likelihood": result.log_likelihood,
        "rmse_multitask": rmse(mean),
        "rmse_single": rmse(alone),
        "inside_95": float(np.mean(np.abs(mean - signals)[gaps] <= 1.96 * std[gaps])),
        "correlation": task_correlation(result.model).tolist(),
        "mixing_correlation": (shared / np.sqrt(np.outer(np.diag(shared), np.diag(shared)))).tolist(),
        "seconds": result.seconds,
        "figure": "multitask.png",
    }
    draw(outdir / "multitask.png", signals, seen, mean, std, alone)
    (outdir / "multitask.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    rows = [" ".join(f"{value:6.2f}" for value in row) for row in numbers["correlation"]]
    return "\n".join(
        [
            f"{numbers['times']} times x {numbers['tasks']} sensors, {numbers['missing']} missing: "
            f"{numbers['method']}",
            f"fit in {numbers['seconds']:.1f} s, log marginal likelihood {numbers['log_likelihood']:.1f}",
            f"error in the gaps: {numbers['rmse_multitask']:.3f} multitask, "
            f"{numbers['rmse_single']:.3f} one process per sensor; "
            f"{100 * numbers['inside_95']:.0f} % inside the 95 % band",
            "correlations between the sensors:",
            *rows,
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="multitask", help="folder for the figure and the numbers")
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

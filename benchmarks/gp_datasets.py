"""How well Gaussian processes predict, beside GPyTorch and scikit-learn.

``python -m benchmarks.gp_datasets [--out FILE] [--short] [--splits N]``

Every data set ships inside a package (scikit-learn, statsmodels) or is generated.  Inputs and targets are
scaled by the training part; every model is a scaled kernel with one lengthscale per dimension and Gaussian
noise, from the same initial values.  Ours and GPyTorch make the same number of steps of Adam with the same
learning rate (in parameters of their own: logarithms here, softplus there).  Beside them stand ours and
scikit-learn's by L-BFGS-B until convergence, and ``GPRegressor``, which puts weak priors on lengthscales
where a kernel has several.
Held out: a fifth of the points, by seed.

Root mean squared error (RMSE) and mean negative log predictive density (NLPD) in units of the scaled target;
means over the splits, with the standard error of the mean difference to GPyTorch.  ``--out FILE`` writes the
tables as Markdown, ``--short`` takes two splits and few steps.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .machine import describe, single_threaded

RATE = 0.1
KERNELS: dict[str, float | None] = {"RBF": None, "Matern 5/2": 2.5}
VARIANCE, NOISE = 1.0, 0.1


class Split(NamedTuple):
    """Scaled training and test parts."""

    X: np.ndarray
    y: np.ndarray
    Z: np.ndarray
    t: np.ndarray


class Score(NamedTuple):
    rmse: float
    nlpd: float
    seconds: float


def datasets() -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """Name and a function that loads ``X (n, d)`` and ``y (n,)``."""
    from sklearn import datasets as sk

    def co2() -> tuple[np.ndarray, np.ndarray]:
        from statsmodels.datasets import co2

        monthly = co2.load_pandas().data["co2"].resample("MS").mean().dropna()
        years = np.asarray(monthly.index.year + (monthly.index.month - 0.5) / 12, dtype=float)
        return years[:, None], monthly.to_numpy(dtype=float)

    def sunspots() -> tuple[np.ndarray, np.ndarray]:
        from statsmodels.datasets import sunspots

        table = sunspots.load_pandas().data
        return table[["YEAR"]].to_numpy(dtype=float), np.sqrt(table["SUNACTIVITY"].to_numpy(dtype=float))

    def star98() -> tuple[np.ndarray, np.ndarray]:
        from statsmodels.datasets import star98

        found = star98.load_pandas()
        rate = found.endog["NABOVE"] / (found.endog["NABOVE"] + found.endog["NBELOW"])
        return found.exog.to_numpy(dtype=float)[:, :8], rate.to_numpy(dtype=float)

    return {
        "diabetes": lambda: sk.load_diabetes(return_X_y=True),
        "wine, alcohol": lambda: column(sk.load_wine().data, 0),
        "iris, petal width": lambda: column(sk.load_iris().data, 3),
        "breast cancer, smoothness": lambda: column(sk.load_breast_cancer().data[:, :10], 4),
        "linnerud, weight": lambda: (sk.load_linnerud().data, sk.load_linnerud().target[:, 0]),
        "Mauna Loa CO2": co2,
        "sunspots": sunspots,
        "star98": star98,
        "Friedman 1": lambda: sk.make_friedman1(500, n_features=8, noise=1.0, random_state=0),
    }


def column(table: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """One column as the target, the others as inputs."""
    return np.delete(table, target, axis=1), table[:, target]


def split(X: np.ndarray, y: np.ndarray, seed: int) -> Split:
    """A fifth held out; everything in units of the training part."""
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    mean, std = X[train].mean(0), X[train].std(0)
    std = np.where(std > 0, std, 1.0)
    centre, unit = y[train].mean(), y[train].std()
    return Split(
        (X[train] - mean) / std,
        (y[train] - centre) / unit,
        (X[test] - mean) / std,
        (y[test] - centre) / unit,
    )


def score(s: Split, mean: np.ndarray, variance: np.ndarray, seconds: float) -> Score:
    """variance: of the observations, noise included."""
    error = s.t - mean
    nlpd = 0.5 * np.mean(error**2 / variance + np.log(2 * np.pi * variance))
    return Score(float(np.sqrt(np.mean(error**2))), float(nlpd), seconds)


def ours(s: Split, matern: float | None, steps: int, optimizer: str) -> Score:
    import cola_gp as gp

    begin = time.process_time()
    lengthscale = np.full(s.X.shape[1], np.sqrt(s.X.shape[1]))
    kernel = gp.RBF(lengthscale) if matern is None else gp.Matern52(lengthscale)
    data = gp.Data(s.X, s.y)
    limit = {"max_iters": steps, "learning_rate": RATE} if optimizer == "adam" else {}
    found = gp.fit(gp.GP(VARIANCE * kernel, noise=NOISE), data, optimizer=optimizer, **limit)
    posterior = gp.Posterior(found.model, data)
    mean, variance = posterior.mean(s.Z), posterior.variance(s.Z, include_noise=True)
    return score(s, mean, variance, time.process_time() - begin)


def estimator(s: Split, matern: float | None) -> Score:
    import cola_gp as gp

    begin = time.process_time()
    kernel = None if matern is None else "matern52"
    found = gp.GPRegressor(kernel).fit(s.X, s.y)
    mean = found.predict(s.Z)
    variance = found.predictor_.variance(s.Z, include_noise=True)
    return score(s, mean, variance, time.process_time() - begin)


def theirs(s: Split, matern: float | None, steps: int) -> Score:
    import torch

    from .peers import gpytorch

    begin = time.process_time()
    lengthscale = np.sqrt(s.X.shape[1])
    model, likelihood = gpytorch.exact_gp(s.X, s.y, lengthscale, VARIANCE, NOISE, matern)
    with gpytorch.cholesky():
        gpytorch.fit(model, likelihood, steps, RATE)
        mean, variance = gpytorch.predict(model, likelihood, torch.from_numpy(s.Z))
    return score(s, mean, variance, time.process_time() - begin)


def scikit_learn(s: Split, matern: float | None) -> Score:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

    begin = time.process_time()
    lengthscale = np.full(s.X.shape[1], np.sqrt(s.X.shape[1]))
    base = RBF(lengthscale) if matern is None else Matern(lengthscale, nu=matern)
    kernel = ConstantKernel(VARIANCE) * base + WhiteKernel(NOISE)
    found = GaussianProcessRegressor(kernel, alpha=0.0).fit(s.X, s.y)
    mean, std = found.predict(s.Z, return_std=True)
    return score(s, mean, std**2, time.process_time() - begin)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gp_datasets", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args(argv)
    single_threaded()
    splits, steps = (2, 10) if options.short else (options.splits, 200)
    peers = find_spec("gpytorch") is not None
    lines = ["# Gaussian processes on data sets", "", _machine(), ""]
    lines.append(
        f"{splits} splits; Adam: {steps} steps of {RATE}. Ours and GPyTorch from the same start. "
        "Lower is better. ± is the standard error of the mean difference to GPyTorch over the splits."
    )
    worse = []
    for kernel, matern in KERNELS.items():
        lines += ["", f"## {kernel}", "", *HEAD]
        for name, load in datasets().items():
            X, y = load()
            parts = [split(X, y, seed) for seed in range(splits)]
            contenders: dict[str, Callable[[Split], Score]] = {
                "ours, Adam": lambda s, m=matern: ours(s, m, steps, "adam"),
                "ours, L-BFGS": lambda s, m=matern: ours(s, m, steps, "l-bfgs"),
                "GPRegressor": lambda s, m=matern: estimator(s, m),
                "scikit-learn": lambda s, m=matern: scikit_learn(s, m),
            }
            if peers:
                contenders["GPyTorch"] = lambda s, m=matern: theirs(s, m, steps)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                table = {c: [run(s) for s in parts] for c, run in contenders.items()}
            print(f"{kernel}, {name}", file=sys.stderr, flush=True)
            lines += _rows(name, X.shape, table, worse)
    lines += [
        "",
        "Worse than GPyTorch by more than two standard errors and 1 %: " + (", ".join(worse) or "none") + ".",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0


HEAD = [
    "| data (n, d) | | RMSE | NLPD | processor s |",
    "|---|---|---|---|---|",
]


def _rows(name: str, shape: tuple[int, ...], table: dict[str, list[Score]], worse: list[str]) -> list[str]:
    rows = []
    for i, (contender, scores) in enumerate(table.items()):
        cells = []
        for measure in ("rmse", "nlpd"):
            values = np.array([getattr(s, measure) for s in scores])
            text = f"{values.mean():.4f}"
            if "GPyTorch" in table and contender.startswith(("ours", "GPR")):
                difference = values - np.array([getattr(s, measure) for s in table["GPyTorch"]])
                error = difference.std(ddof=1) / np.sqrt(len(difference))
                text += f" ({difference.mean():+.4f} ± {error:.4f})"
                if difference.mean() > max(2 * error, 0.01):
                    worse.append(f"{name}, {contender}, {measure}")
            cells.append(text)
        label = f"{name} ({shape[0]}, {shape[1]})" if i == 0 else ""
        spent = np.mean([s.seconds for s in scores])
        rows.append(f"| {label} | {contender} | {cells[0]} | {cells[1]} | {spent:.2f} |")
    return rows


def _machine() -> str:
    m = describe()
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    return f"{m['processor']}, one thread, {m['system']}; Python {m['python']}; {versions}."


if __name__ == "__main__":
    raise SystemExit(main())

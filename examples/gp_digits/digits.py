"""Handwritten digits by Gaussian process classification, with probabilities that can be believed.

    python examples/gp_digits/digits.py --out report/

The 8x8 images that ship with scikit-learn.  One Gaussian process per digit against the rest, by expectation
propagation; its parameters are those of the largest evidence, so nothing is tuned on held-out images.  The
rest of the images measure three things:

* how many digits are right, beside Laplace's approximation and a logistic regression on the same pixels;
* whether the probabilities are honest: of the digits called with a certain confidence, how many are right;
* what confidence is good for: the error among the images that are kept when the least certain are refused.

Writes ``digits.png`` and ``digits.json``.
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

KEPT = (1.0, 0.95, 0.9, 0.8)


def load(train: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels between zero and one, and labels: a random ``train`` images to learn from, then all others."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    X, y = images[order] / 16.0, labels[order]
    return X[:train], y[:train], X[train:], y[train:]


def classifier(max_iters: int, approximation: str) -> gp.GPClassifier:
    """Pixels share a unit, so they are not scaled one by one, and one lengthscale serves all."""
    return gp.GPClassifier(
        gp.Scale(gp.RBF(2.0), 10.0), approximation=approximation, scale=False, max_iters=max_iters, tol=1e-3
    )


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Accuracy, mean log probability of the truth, and the mean gap between confidence and accuracy."""
    right = probabilities.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    gap = 0.0
    for b in np.unique(bins):
        inside = bins == b
        gap += np.mean(inside) * abs(right[inside].mean() - confidence[inside].mean())
    truth = probabilities[np.arange(len(labels)), labels]
    return {
        "accuracy": float(right.mean()),
        "log_probability": float(np.log(np.maximum(truth, 1e-300)).mean()),
        "calibration_gap": float(gap),
    }


def baseline(X: np.ndarray, y: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities of a logistic regression with scikit-learn's defaults."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000).fit(X, y).predict_proba(test)


def refusals(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Error among the most certain images, by the share of images that are kept."""
    wrong = probabilities.argmax(axis=1) != labels
    order = np.argsort(-probabilities.max(axis=1))
    return {f"{share:.2f}": float(wrong[order[: round(share * len(labels))]].mean()) for share in KEPT}


def draw(path: Path, images: np.ndarray, labels: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """The confusion matrix, the error against the share of images kept, and the least certain images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ours = found["expectation propagation"]
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subfigures(1, 3)

    counts = np.zeros((10, 10))
    np.add.at(counts, (labels, ours.argmax(axis=1)), 1)
    axes = left.add_subplot()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            color = "white" if i == j else "black"
            axes.text(j, i, int(count), ha="center", va="center", fontsize=7, color=color)
    axes.set(xlabel="called", ylabel="is", xticks=range(10), yticks=range(10), title="held-out digits")

    axes = middle.add_subplot()
    for name, probabilities in found.items():
        wrong = (probabilities.argmax(axis=1) != labels)[np.argsort(-probabilities.max(axis=1))]
        kept = np.arange(1, len(wrong) + 1)
        axes.plot(kept / len(wrong), 100 * np.cumsum(wrong) / kept, label=name)
    axes.set(xlabel="share of images kept, most certain first", ylabel="wrong among them in %")
    axes.legend(frameon=False)

    right.suptitle("least certain: called (is)", fontsize=10)
    grid = right.subplots(3, 4)
    for axes, index in zip(grid.flat, np.argsort(ours.max(axis=1)), strict=False):
        axes.imshow(images[index].reshape(8, 8), cmap="gray_r")
        called, is_ = int(ours[index].argmax()), int(labels[index])
        axes.set_title(f"{called} ({is_})", fontsize=8, color="C0" if called == is_ else "C3")
        axes.set_axis_off()
    figure.savefig(path, dpi=130)


def run(outdir: str | Path, train: int = 300, max_iters: int = 30) -> dict[str, Any]:
    """Learn from ``train`` images; write the figure and the numbers to ``outdir`` and return the numbers."""
    started = time.perf_counter()
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    X, y, test, labels = load(train)
    model = classifier(max_iters, "ep").fit(X, y)
    fitted = time.perf_counter() - started
    found = {
        "expectation propagation": model.predict_proba(test),
        "Laplace's approximation": classifier(max_iters, "laplace").fit(X, y).predict_proba(test),
        "logistic regression": baseline(X, y, test),
    }
    draw(outdir / "digits.png", test, labels, found)
    numbers = {
        "train": train,
        "test": len(labels),
        "scores": {name: score(labels, probabilities) for name, probabilities in found.items()},
        "error_among_kept": refusals(labels, found["expectation propagation"]),
        "log_evidence": model.log_marginal_likelihood(),
        "lengthscales": [float(np.exp(m.kernel.kernel.log_lengthscale)) for m in model.models_],
        "converged": all(result.converged for result in model.fit_results_),
        "evaluations": sum(result.evaluations for result in model.fit_results_),
        "fit_seconds": fitted,
        "figure": "digits.png",
    }
    (outdir / "digits.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    lines = [f"digits: {numbers['train']} images to learn from, {numbers['test']} held out"]
    for name, part in numbers["scores"].items():
        lines.append(
            f"{name:24s} {100 * part['accuracy']:.1f} % right, mean log probability "
            f"{part['log_probability']:.3f}, confidence off by {100 * part['calibration_gap']:.1f} %"
        )
    shares = numbers["error_among_kept"].items()
    kept = ", ".join(f"{100 * error:.1f} % of {100 * float(share):.0f} %" for share, error in shares)
    lines.append(f"wrong among the most certain: {kept}")
    lines.append(f"{numbers['evaluations']} evaluations of the evidence, fit {numbers['fit_seconds']:.1f} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="digits", help="folder for the figure and the numbers")
    parser.add_argument("--train", type=int, default=300, help="images to learn from (1797 in all)")
    args = parser.parse_args(argv)
    try:
        numbers = run(args.out, train=args.train)
    except ImportError as error:
        print(f"error: {error}; this example needs: pip install scikit-learn matplotlib", file=sys.stderr)
        return 1
    print(report(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A deep kernel in PyTorch: a network that learns in which coordinates a function is smooth.

    python examples/gp_deep_kernel/deep_kernel.py --out report/

The function is flat on both sides of a curve in the plane and jumps across it.  No stationary kernel
describes that: with a short lengthscale it forgets the flat parts, with a long one it blurs the edge.  A deep
kernel (Wilson, Hu, Salakhutdinov & Xing 2016) is an RBF kernel of the outputs of a network, whose weights are
parameters of the covariance like any other: all of them are fitted together, with an optimiser of PyTorch, by
the log marginal likelihood plus a normal prior on the weights.  Without the prior the likelihood of that many
parameters overfits (Ober, Rasmussen & van der Wilk 2021): ``--no-prior`` shows how.

Both models see the same noisy points and are compared on the same held-out ones.  Writes ``deep_kernel.png``
and ``deep_kernel.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cola_gp as gp
from cola_gp.torch_module import GPModule

NOISE = 0.1
WEIGHT_SD = 0.5  # of the normal prior of the network's weights


def truth(X: np.ndarray) -> np.ndarray:
    """A step across the curve ``x_1 = sin(2 x_0)``, on a gentle slope."""
    return np.tanh(12.0 * (X[:, 1] - np.sin(2.0 * X[:, 0]))) + 0.3 * X[:, 0]


def draw_data(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``n`` points of the square [-2, 2]^2 and noisy values there."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2.0, 2.0, (n, 2))
    return torch.tensor(X), torch.tensor(truth(X) + NOISE * rng.normal(size=n))


def plain_model() -> gp.GP:
    """What one would try first: an RBF kernel with one lengthscale per dimension."""
    return gp.GP(1.0 * gp.RBF([1.0, 1.0]), gp.ConstantMean(), noise=0.05)


def deep_model(width: int, seed: int) -> gp.GP:
    """The same kernel on the two outputs of a network with two hidden layers."""
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, width),
        torch.nn.Tanh(),
        torch.nn.Linear(width, 2),
    ).double()
    return gp.GP(
        1.0 * gp.Deep(gp.RBF([1.0, 1.0]), gp.Function.of_module(network)), gp.ConstantMean(), noise=0.05
    )


def train(
    model: gp.GP, X: torch.Tensor, y: torch.Tensor, steps: int, prior: bool = True
) -> tuple[GPModule, list[float]]:
    """Adam with a decaying step on minus the log marginal likelihood, and log prior, per point."""
    module = GPModule(model, dtype=torch.float64)
    weights = [p for name, p in module.named_parameters() if ".map." in name]
    if weights:
        # The network can scale its outputs itself; a lengthscale beside it would be a way around the prior.
        module.parts.kernel.kernel.kernel.requires_grad_(False)
    free = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(free, lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        likelihood = module(X, y)
        log_prior = -0.5 * sum((w * w).sum() for w in weights) / WEIGHT_SD**2 if prior else 0.0
        (-(likelihood + log_prior) / len(y)).backward()
        optimizer.step()
        schedule.step()
        history.append(float(likelihood.detach()))
    return module, history


def run(outdir: str | Path, quick: bool = True, prior: bool = True) -> dict[str, Any]:
    """Fit both models, compare them on held-out points, write the figure and the numbers.

    ``quick`` uses fewer points and steps: about ten seconds on one core.
    """
    started = time.perf_counter()
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    n, steps, width = (300, 250, 24) if quick else (400, 800, 32)
    X, y = draw_data(n, seed=0)
    Xt, yt = draw_data(1000, seed=1)
    numbers: dict[str, Any] = {"points": n, "steps": steps, "noise": NOISE, "prior": prior}
    posteriors = {}
    for name, model in (("rbf", plain_model()), ("deep", deep_model(width, seed=0))):
        module, history = train(model, X, y, steps, prior)
        with torch.no_grad():
            posterior = posteriors[name] = module.posterior(X, y)
            calibration = gp.calibration_report(posterior, Xt, yt)
        numbers[name] = {
            "log_likelihood": history[-1],
            "parameters": sum(p.numel() for p in module.parameters()),
            "rmse": calibration.rmse,
            "nlpd": calibration.nlpd,
            "coverage_95": calibration.coverage_at(0.95),
        }
    draw(outdir / "deep_kernel.png", posteriors, X)
    numbers["figure"] = "deep_kernel.png"
    numbers["seconds"] = time.perf_counter() - started
    (outdir / "deep_kernel.json").write_text(json.dumps(numbers, indent=2) + "\n")
    return numbers


def draw(path: Path, posteriors: dict[str, gp.Posterior], X: torch.Tensor) -> None:
    """The function, what the two models make of the points, and the coordinates that the network found."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 4)
    side = np.linspace(-2.0, 2.0, 80)
    mesh = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    images = [("the function", truth(mesh))]
    with torch.no_grad():
        for name, title in (("rbf", "RBF kernel"), ("deep", "deep kernel")):
            images.append((title, posteriors[name].mean(torch.tensor(mesh)).numpy()))
        deep = posteriors["deep"].model.kernel.kernel
        hidden = deep.map(torch.tensor(mesh)).numpy()
    for axes, (title, values) in zip(panels, images, strict=False):
        shown = axes.pcolormesh(side, side, values.reshape(80, 80), vmin=-1.7, vmax=1.7, rasterized=True)
        axes.set(title=title, aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    panels[0].plot(*X.numpy().T, "k.", ms=2)
    figure.colorbar(shown, ax=panels[2], label="value")
    panels[3].scatter(*hidden.T, c=truth(mesh), s=3, vmin=-1.7, vmax=1.7)
    panels[3].set(title="the plane as the kernel sees it", xlabel="first output", ylabel="second output")
    figure.savefig(path, dpi=130)


def report(numbers: dict[str, Any]) -> str:
    """The numbers in a few lines."""
    lines = [f"{numbers['points']} points, noise {numbers['noise']}, {numbers['steps']} steps of Adam"]
    for name, title in (("rbf", "RBF kernel "), ("deep", "deep kernel")):
        part = numbers[name]
        lines.append(
            f"{title}: {part['parameters']} parameters, log likelihood {part['log_likelihood']:.1f}; "
            f"held out: RMSE {part['rmse']:.3f}, NLPD {part['nlpd']:.3f}, "
            f"{100 * part['coverage_95']:.0f} % inside the 95 % interval"
        )
    lines.append(f"{numbers['seconds']:.0f} s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", default="deep_kernel_report", help="folder for the figure and the numbers")
    parser.add_argument("--quick", action="store_true", help="fewer points and steps")
    parser.add_argument("--no-prior", action="store_true", help="fit the weights by the likelihood alone")
    args = parser.parse_args(argv)
    print(report(run(args.out, quick=args.quick, prior=not args.no_prior)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""cola-pde: Poisson's equation on a million cells, its order of accuracy, and the eigenvalues of the
square."""

from __future__ import annotations

import time

import numpy as np
from figures import BLUE, GREY, ORANGE, picture, subplots
from section import Section

import cola_core as cola
from cola_pde import Grid, eigenmodes, exact_eigenvalues, observed_order, poisson, trigonometric

TITLE = "Partial differential equations: Poisson on 1024 x 1024"
ASKED = (
    "Solve -Laplacian(u) = f on a 1024 x 1024 grid with a manufactured solution, measure the order "
    "of convergence on refined grids, "
    "and compare the first eigenvalues of the square with the exact ones, pi² (i² + j²)."
)
CELLS = 1024


def run(section: Section) -> None:
    """Solve, refine, compare."""
    grid = Grid.box((CELLS, CELLS))
    case = trigonometric(grid)
    start = time.perf_counter()
    solution = poisson(grid, case.source, case.conditions("D", 2))
    seconds = time.perf_counter() - start
    exact = np.broadcast_to(case.solution(*solution.space.coordinates()), solution.space.shape)
    error = solution.u - exact
    section.plan(
        cola.explain(cola.solve, solution.operator.S, solution.u.reshape(-1)), "explain(solve, A, b)"
    )
    worst = float(np.abs(error).max())
    section.text(
        f"{solution.u.size:,} unknowns in {seconds:.2f} s; residual {float(solution.residual):.1e}, "
        f"recomputed; largest error against the manufactured solution {worst:.1e}."
    )

    table = observed_order(
        lambda g, f, bc: poisson(g, f, bc), [Grid.box((n, n)) for n in (32, 64, 128, 256, 512, 1024)], "D"
    )
    section.table(
        ["cells", "h", "largest error", "order", "rms error", "order"],
        [
            [
                " x ".join(map(str, r.cells)),
                f"{r.spacing:.3e}",
                f"{r.max_error:.3e}",
                "" if r.max_order is None else f"{r.max_order:.3f}",
                f"{r.l2_error:.3e}",
                "" if r.l2_order is None else f"{r.l2_order:.3f}",
            ]
            for r in table.rows
        ],
    )

    start = time.perf_counter()
    modes = eigenmodes(grid, 12, "D")
    eigen_seconds = time.perf_counter() - start
    truth = exact_eigenvalues(grid, 12, "D")
    independent = np.sort([np.pi**2 * (i * i + j * j) for i in range(1, 9) for j in range(1, 9)])[:12]
    gap = np.abs(modes.values / independent - 1)
    section.heading("Eigenvalues of the square")
    section.table(
        ["", "on the grid", "exact", "relative difference"],
        [
            [i + 1, f"{w:.9f}", f"{e:.9f}", f"{g:.1e}"]
            for i, (w, e, g) in enumerate(zip(modes.values, independent, gap, strict=True))
        ],
    )
    section.text(
        f"Twelve eigenvalues, with their multiplicities, in {1e3 * eigen_seconds:.1f} ms: sums of "
        f"one-dimensional ones."
    )

    draw(section, solution.u, table, [modes.mode(i) for i in (1, 4)])
    # second-order differences: each 1-d eigenvalue is off by (k pi h)^2 / 12, relatively
    allowed = (np.pi * np.sqrt(max(independent) / np.pi**2) / CELLS) ** 2 / 6
    section.check("residual of the linear system", float(solution.residual), 1e-12)
    section.check("largest error against the manufactured solution", worst, 2e-5)
    section.check("distance of the measured order from 2", abs(table.order - 2), 0.05)
    section.check("eigenvalues: relative difference, exact to second order in h", gap.max(), float(allowed))
    section.check(
        "exact eigenvalues: library against pi² (i² + j²)", np.abs(truth / independent - 1).max(), 1e-13
    )
    section.numbers.update(
        unknowns=solution.u.size,
        seconds_solve=seconds,
        residual=float(solution.residual),
        max_error=worst,
        order=table.order,
        orders=[{"h": r.spacing, "max_error": r.max_error, "rms_error": r.l2_error} for r in table.rows],
        eigenvalues=modes.values.tolist(),
        eigenvalues_exact=independent.tolist(),
        seconds_eigenvalues=eigen_seconds,
    )


def draw(section: Section, u: np.ndarray, table: object, modes: list[np.ndarray]) -> None:
    """The solution, the convergence, two modes."""
    figure, axes = subplots(1, 4, height=2.9, width=11)
    every = max(1, CELLS // 256)
    picture(axes[0]).imshow(u[::every, ::every].T, origin="lower", cmap="viridis")
    axes[0].set_title("solution")
    h = [r.spacing for r in table.rows]  # type: ignore[attr-defined]
    axes[1].loglog(h, [r.max_error for r in table.rows], "o-", color=BLUE, ms=4, label="largest")  # type: ignore[attr-defined]
    axes[1].loglog(h, [r.l2_error for r in table.rows], "s-", color=ORANGE, ms=4, label="rms")  # type: ignore[attr-defined]
    first = table.rows[0].l2_error  # type: ignore[attr-defined]
    axes[1].loglog(h, [0.6 * first * (x / h[0]) ** 2 for x in h], ":", color=GREY, label="h²")
    axes[1].set(xlabel="h", title="error")
    axes[1].legend()
    for ax, mode, name in zip(axes[2:], modes, ("second mode", "fifth mode"), strict=True):
        picture(ax).imshow(mode[::every, ::every].T, origin="lower", cmap="RdBu_r")
        ax.set_title(name)
    section.figure(
        figure,
        "The manufactured solution is recovered with second order; modes come from one-dimensional ones.",
        vector=False,
    )

"""cola-gpu on whatever device there is: the example program ``examples/mixed_precision_cg``, run and
checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from figures import BLUE, GREY, subplots
from section import Section

import cola_core as cola

TITLE = "Mixed precision: a million unknowns, and LQ"
ASKED = (
    "Solve a diagonally dominant system with a million unknowns to a residual of 1e-10, in double "
    "precision and mostly in single "
    "precision; factor a wide matrix as L Q and check the derivative of the factorisation against "
    "differences."
)


def run(section: Section) -> None:
    """Run the example, show its numbers."""
    example = Path(__file__).resolve().parents[2] / "mixed_precision_cg"
    sys.path.insert(0, str(example))
    try:
        import mixed_precision_cg as program
    finally:
        sys.path.remove(str(example))
    from cola_gpu import MixedPrecisionCG

    result = program.run(section.folder, quick=True)
    section.numbers.update(result)
    matrix, b = program.system(10_000)
    A = cola.PSD(cola.ops.Sparse.from_scipy(matrix))
    section.plan(
        cola.explain(cola.solve, A, b, alg=MixedPrecisionCG(tol=program.TOLERANCE), candidates=True),
        "explain(solve, A, b, alg=MixedPrecisionCG(tol=1e-10)), on the same system with 10,000 unknowns",
    )
    cg, lq = result["cg"], result["lq"]
    section.text(
        f"{cg['n']:,} unknowns, {cg['nonzeros']:,} entries, on NumPy. Residuals are recomputed with "
        f"SciPy's product."
    )
    section.table(
        ["method", "steps", "seconds", "residual"],
        [
            [cg[k]["method"], cg[k]["steps"], f"{cg[k]['seconds']:.2f}", f"{cg[k]['residual']:.1e}"]
            for k in ("double", "mixed")
        ],
    )
    m, n = lq["shape"]
    section.table(
        ["LQ", "value"],
        [
            ["shape", f"{m} x {n}"],
            ["|L Q - A| / |A|", f"{lq['factorisation_error']:.1e}"],
            ["|Q Q^T - I|", f"{lq['orthogonality_error']:.1e}"],
            ["slope by the adjoint", f"{lq['slope_by_adjoint']:.10g}"],
            ["slope by central differences", f"{lq['slope_by_differences']:.10g}"],
        ],
    )
    draw(section, cg)
    for key in ("double", "mixed"):
        section.check(f"CG, {key}: residual", cg[key]["residual"], 1.1 * cg["tolerance"])
    section.check("LQ: factorisation error", lq["factorisation_error"], 1e-13)
    section.check("LQ: orthogonality error", lq["orthogonality_error"], 1e-12)
    section.check("LQ: adjoint against central differences", lq["adjoint_error"], 1e-6)
    section.check("checks of the example that failed", sum(not held for held in result["checks"].values()), 0)


def draw(section: Section, cg: dict[str, Any]) -> None:
    """Two bars."""
    figure, axes = subplots(1, 1, height=1.7, width=8.5)
    times = [cg["mixed"]["seconds"], cg["double"]["seconds"]]
    axes.barh(["mixed precision", "double precision"], times, color=[BLUE, GREY], height=0.6)
    for y, value in enumerate(times):
        axes.text(value, y, f"  {value:.2f} s", va="center")
    axes.set(xlabel="seconds to a residual of 1e-10", xlim=(0, 1.15 * max(times)))
    axes.grid(axis="y", visible=False)
    section.figure(
        figure,
        f"Mixed precision is {cg['speedup']:.2f} times as fast here; how much depends on the "
        f"machine's memory.",
    )

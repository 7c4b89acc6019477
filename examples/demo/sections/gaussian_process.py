"""cola-gp on the CO2 record of Mauna Loa: the example program ``examples/gp_mauna_loa``, run and checked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from section import Section

import cola_core as cola

TITLE = "Gaussian process: CO2 at Mauna Loa"
ASKED = (
    "Fit the composite covariance of Rasmussen and Williams (2006, section 5.4.3) to the monthly CO2 "
    "record that statsmodels ships, "
    "by its exact marginal likelihood; fill in held-out months, forecast five years from five dates "
    "whose outcome is known, and forecast fifteen years more."
)


def run(section: Section) -> None:
    """Run the example, show its numbers."""
    example = Path(__file__).resolve().parents[2] / "gp_mauna_loa"
    sys.path.insert(0, str(example))
    try:
        import mauna_loa
    finally:
        sys.path.remove(str(example))
    numbers = mauna_loa.run(section.folder, quick=True)
    section.numbers.update(numbers)
    years, _ = mauna_loa.load()
    kernel = mauna_loa.model()
    section.plan(plan_of(kernel, years), "explain(logdet, K + noise): what every step of the fit asks")
    section.picture(
        (section.folder / numbers["figure"]).read_bytes(),
        "png",
        "Left: the record and the forecast. Right: errors of the forecasts whose outcome is known, "
        "with their 95 % bands.",
    )
    held, ahead = numbers["held_out_months"], numbers["years_ahead"]
    section.text(
        f"{numbers['months']} months; log marginal likelihood {numbers['log_likelihood']:.2f} by "
        f"{numbers['method']}, {numbers['iterations']} iterations: {numbers['reason']}. In "
        f"{numbers['forecast']['year']:.1f} the model expects "
        f"{numbers['forecast']['mean']:.1f} ± {1.96 * numbers['forecast']['std']:.1f} ppm."
    )
    section.table(
        ["measured on", "RMSE in ppm", "parabola + harmonics", "inside the 95 % band", "mean log density"],
        [
            [
                name,
                f"{part['rmse']:.3f}",
                f"{part['baseline_rmse']:.3f}",
                f"{100 * part['coverage_95']:.0f} % of {part['test_months']}",
                f"{part['mean_log_density']:.2f}",
            ]
            for name, part in (
                ("a random tenth of the months", held),
                ("five years ahead, five times", ahead),
            )
        ],
    )
    fitted = [(name, f"{value:.5g}") for name, value in numbers["parameters"].items()]
    half = (len(fitted) + 1) // 2
    left, right = fitted[:half], [*fitted[half:], ("", "")]
    section.table(
        ["fitted parameter", "value", "fitted parameter", "value"],
        [[*a, *b] for a, b in zip(left, right, strict=False)],
    )
    section.check(
        "held-out months: error relative to parabola + harmonics", held["rmse"] / held["baseline_rmse"], 0.5
    )
    # 52 months: three standard deviations of a binomial share are nine points
    section.check("held-out months: distance of the coverage from 95 %", abs(held["coverage_95"] - 0.95), 0.1)
    section.check(
        "five years ahead: error relative to parabola + harmonics",
        ahead["rmse"] / ahead["baseline_rmse"],
        1.0,
    )
    section.check("leave-one-out error in ppm", numbers["leave_one_out_rmse"], 0.4)


def plan_of(model: object, years: np.ndarray) -> object:
    """The plan of the log-determinant in the marginal likelihood, at the starting parameters."""
    import cola_gp as gp

    K = gp.CovarianceOperator(model.kernel, years[:, None]) if hasattr(gp, "CovarianceOperator") else None
    if K is None:
        from cola_gp.covariance import CovarianceOperator

        K = CovarianceOperator(model.kernel, years[:, None])
    return cola.explain(cola.logdet, cola.PSD(K + 0.04 * cola.ops.Identity(len(years))))

"""Least squares and Bayesian linear regression in float32: LQ of the design against the normal equations.

    python examples/lapack_use_cases/precision_table.py

Designs with singular values from 1 down to 1/kappa. *Least squares*: a consistent system (no residual, which
would bring in the square of kappa for any method), the error of the weights. *Bayesian regression*: noise of
variance one, a prior with `alpha = beta / kappa^2` (as weak as the weakest feature), the errors of the
posterior mean, of the log evidence's part that depends on the design alone, `sum log L_ii`, and of the log
evidence's gradient in the design, which is what trains features. Answers are compared with LQ in float64 of
the same float32 numbers. LQ loses kappa * eps, the normal equations kappa^2 * eps, and
their Cholesky factor ceases to exist at about kappa = 1/sqrt(eps) = 2.9e3 (Higham 2002, chapter 20; the claim
of section 2.2 of arXiv:1710.08717).

The last column counts the designs that `gelqf` refuses, unless told not to look, because a row depends on the
rows before it to rounding. PyTorch or JAX compute: NumPy's QR works in double precision on float32 arrays
too, so that a table made with it would flatter LQ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from frameworks import best_backend, library, value_and_gradient
from least_squares import evidence, least_squares, posterior

from cola_core.backends import Backend
from cola_core.errors import NotPositiveDefiniteError, SingularMatrixError
from cola_gpu.lapack import gelqf, potrf, sumlogdiag, syrk, trsm

__all__ = ["KAPPAS", "markdown", "measure"]

KAPPAS = tuple(10.0**k for k in range(1, 8))
METHODS = ("lq", "normal")

Array = Any


def problem(kappa: float, seed: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A float32 design (d, n) of condition number kappa, consistent targets, and targets with noise."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((d, d)))[0]
    V = np.linalg.qr(rng.standard_normal((n, d)))[0]
    Phi = ((U * np.geomspace(1.0, 1.0 / kappa, d)) @ V.T).astype(np.float32)
    clean = Phi.T.astype(float) @ rng.standard_normal(d)
    return Phi, clean.astype(np.float32), (clean + rng.standard_normal(n)).astype(np.float32)


def by_normal_equations(Phi: Array, y: Array, alpha: float) -> tuple[Array, Array]:
    """`(Phi Phi^T + alpha I)^-1 Phi y` and the log-determinant's half, by Cholesky of the product."""
    bk = library(Phi, y)
    L = potrf(syrk(Phi) + alpha * bk.eye(Phi.shape[0], Phi.dtype, bk.device(Phi)))
    return trsm(L, trsm(L, (Phi @ y)[:, None]), transpose=True)[:, 0], sumlogdiag(L)


def evidence_by_normal_equations(Phi: Array, y: Array, theta: Array) -> Array:
    """The log evidence up to a constant, from the Cholesky factor of `beta Phi Phi^T + alpha I`."""
    bk = library(Phi, y, theta)
    alpha, beta = bk.xp.exp(theta[0]), bk.xp.exp(theta[1])
    L = potrf(beta * syrk(Phi) + alpha * bk.eye(Phi.shape[0], Phi.dtype, bk.device(Phi)))
    z = beta * trsm(L, (Phi @ y)[:, None])
    return 0.5 * bk.xp.sum(z**2) - sumlogdiag(L)


def errors(bk: Backend, kappa: float, seed: int, d: int, n: int) -> dict[str, Any]:
    """Of each method: the relative errors of weights and posterior mean, the error of the determinant's part,
    and the relative one of the evidence's gradient (NaN where there is no Cholesky factor); and whether
    `gelqf` refuses the design."""
    problems = problem(kappa, seed, d, n)
    theta = np.array([-2 * np.log(kappa), 0.0], np.float32)
    exact = [a.astype(float) for a in problems]
    w = least_squares(*exact[:2])
    mean, factor = posterior(exact[0], exact[2], theta.astype(float))
    double = [bk.asarray(a) for a in exact]

    def slope(f: Any, at: Array) -> Array:
        return value_and_gradient(f, at)[1]

    weak = bk.asarray(theta.astype(float))
    ascent = bk.to_numpy(slope(lambda M: evidence(M, double[2], weak), double[0]))
    truth = w, mean, sumlogdiag(factor), ascent

    Phi, clean, noisy = (bk.asarray(a) for a in problems)
    prior = bk.asarray(theta)
    ours = posterior(Phi, noisy, prior, check=False)
    lq = (
        least_squares(Phi, clean, check=False),
        ours.mean,
        sumlogdiag(ours.precision_factor),
        slope(lambda M: evidence(M, noisy, prior, check=False), Phi),
    )

    def attempt(f: Any, *given: Any) -> Any:
        try:
            return f(*given)
        except NotPositiveDefiniteError:
            return None

    plain = attempt(by_normal_equations, Phi, clean, 0.0) or (None, None)
    bayes = attempt(by_normal_equations, Phi, noisy, float(np.exp(theta[0]))) or (None, None)
    down = attempt(slope, lambda M: evidence_by_normal_equations(M, noisy, prior), Phi)
    theirs = plain[0], *bayes, down

    def off(found: Any, exact: Any, scale: float) -> float:
        if found is None:
            return float("nan")
        return float(np.linalg.norm(bk.to_numpy(found).astype(float) - exact) / scale)

    scales = float(np.linalg.norm(w)), float(np.linalg.norm(mean)), 1.0, float(np.linalg.norm(ascent))
    return {
        "refused": refused(Phi),
        "lq": [off(*each) for each in zip(lq, truth, scales, strict=True)],
        "normal": [off(*each) for each in zip(theirs, truth, scales, strict=True)],
    }


def refused(Phi: Array) -> bool:
    """Whether `gelqf` takes the design for rank deficient."""
    try:
        gelqf(Phi)
    except SingularMatrixError:
        return True
    return False


def measure(bk: Backend, seeds: int = 7, d: int = 20, n: int = 200) -> list[dict[str, Any]]:
    """A row per condition number: medians over the seeds, and in how many of them Cholesky failed.

    The median counts a failure as infinite.
    """
    rows = []
    for kappa in KAPPAS:
        found = [errors(bk, kappa, seed, d, n) for seed in range(seeds)]
        row: dict[str, Any] = {"kappa": kappa, "seeds": seeds, "refused": sum(f["refused"] for f in found)}
        for method in METHODS:
            values = np.array([f[method] for f in found])
            row[method] = np.median(np.where(np.isnan(values), np.inf, values), axis=0).tolist()
            row[f"{method}_failed"] = np.isnan(values).sum(axis=0).tolist()
        rows.append(row)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""

    def cell(row: dict[str, Any], method: str, i: int) -> str:
        failed = row[f"{method}_failed"][i]
        value = row[method][i]
        if not np.isfinite(value):
            return "no factor" if failed == row["seeds"] else f"no factor ({failed})"
        return f"{value:.0e}" + (f" ({failed} failed)" if failed else "")

    titles = ("weights", "posterior mean", "log-determinant", "gradient")
    heads = [f"{title}: {name}" for title in titles for name in ("LQ", "normal")]
    lines = ["| kappa | " + " | ".join(heads) + " | refused |", "|---" * 10 + "|"]
    for row in rows:
        cells = [cell(row, method, i) for i in range(4) for method in METHODS]
        lines.append(
            f"| {row['kappa']:.0e} | " + " | ".join(cells) + f" | {row['refused']} of {row['seeds']} |"
        )
    return "\n".join(lines)


def main() -> int:
    bk = best_backend()
    if bk.name == "numpy":
        print("error: this table needs PyTorch or JAX; NumPy's QR computes in double precision")
        return 1
    print(markdown(measure(bk)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

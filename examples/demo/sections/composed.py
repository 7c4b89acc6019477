"""Problems nobody should do densely, with answers known by construction."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from figures import BLUE, GREEN, GREY, ORANGE, subplots
from section import Section, relative

import cola_core as cola
from cola_core import ops

TITLE = "Composed operators: a million unknowns by structure"
ASKED = (
    "Solve with, and take the log-determinant of, (A ⊗ B ⊗ C) + s I with three 100 x 100 factors, "
    "and of a diagonal plus a rank-50 "
    "term in 60,000 dimensions. As dense matrices they would take 8 TB and 29 GB. Both are built "
    "from known spectra, so the exact answers are known."
)
SIDE, SHIFT = 100, 0.5
SIZE, RANK = 60_000, 50


def run(section: Section) -> None:
    """Both problems, and how time grows with size."""
    kronecker = kronecker_part(section)
    low_rank = low_rank_part(section)
    section.heading("How time grows")
    growth(section, kronecker, low_rank)


def factor(n: int, seed: int) -> tuple[Any, Any]:
    """A symmetric positive definite matrix ``H diag(d) H`` with a Householder reflector H, and its
    eigenvalues d."""
    rng = np.random.default_rng(seed)
    d = np.geomspace(0.2, 5.0, n)
    v = rng.standard_normal(n)
    H = np.eye(n) - 2 * np.outer(v, v) / (v @ v)
    A = (H * d) @ H
    return (A + A.T) / 2, d


def kronecker_problem(n: int, s: float) -> tuple[Any, Any, Any, float]:
    """Operator, exact solution, right-hand side and exact log-determinant, none of them computed by the
    library."""
    factors, spectra = zip(*(factor(n, seed) for seed in (1, 2, 3)), strict=True)
    A = cola.kron(*(cola.PSD(ops.Dense(F)) for F in factors)) + s * ops.Identity(n**3)
    x = np.random.default_rng(4).standard_normal(n**3)
    X = x.reshape(n, n, n)
    for axis, F in enumerate(factors):
        X = np.moveaxis(np.tensordot(F, X, (1, axis)), 0, axis)
    b = X.reshape(-1) + s * x
    products = spectra[0][:, None, None] * spectra[1][:, None] * spectra[2]
    return A, x, b, float(np.log(products + s).sum(dtype=np.longdouble))


def kronecker_part(section: Section) -> dict[str, Any]:
    """``(A ⊗ B ⊗ C) + s I``."""
    section.heading(f"(A ⊗ B ⊗ C) + s I, N = {SIDE**3:,}")
    A, x, b, logdet = kronecker_problem(SIDE, SHIFT)
    section.plan(cola.explain(cola.solve, A, b), "explain(solve, A, b)")
    section.plan(cola.explain(cola.logdet, A), "explain(logdet, A)")
    found = answers(A, x, b, logdet)
    section.check("Kronecker + shift: solution against the chosen one", found["solution_error"], 1e-11)
    section.check("Kronecker + shift: log-determinant against the exact one", found["logdet_error"], 1e-12)
    section.numbers["kronecker_plus_shift"] = found
    summary(section, found)
    return found


def low_rank_problem(n: int, k: int) -> tuple[Any, Any, Any, float]:
    """``D + U U^H`` with U = D^(1/2) Q S^(1/2), Q orthonormal: its determinant is ``prod D prod (1 + S)``."""
    rng = np.random.default_rng(5)
    d = rng.uniform(0.5, 2.0, n)
    Q, _ = np.linalg.qr(rng.standard_normal((n, k)))
    s = np.geomspace(0.1, 1e3, k)
    U = np.sqrt(d)[:, None] * Q * np.sqrt(s)
    A = cola.PSD(ops.Diagonal(d)) + ops.LowRank(U)
    x = rng.standard_normal(n)
    b = d * x + U @ (U.T @ x)
    return A, x, b, float(np.log(d).sum(dtype=np.longdouble) + np.log1p(s).sum(dtype=np.longdouble))


def low_rank_part(section: Section) -> dict[str, Any]:
    """``D + U U^H``."""
    section.heading(f"Diagonal plus rank {RANK}, N = {SIZE:,}")
    A, x, b, logdet = low_rank_problem(SIZE, RANK)
    section.plan(cola.explain(cola.solve, A, b), "explain(solve, A, b)")
    section.plan(cola.explain(cola.logdet, A), "explain(logdet, A)")
    found = answers(A, x, b, logdet)
    section.check("low rank + diagonal: solution against the chosen one", found["solution_error"], 1e-11)
    section.check("low rank + diagonal: log-determinant against the exact one", found["logdet_error"], 1e-12)
    section.numbers["low_rank_plus_diagonal"] = found
    summary(section, found)
    return found


def answers(A: Any, x: Any, b: Any, logdet: float) -> dict[str, Any]:
    """Solve and log-determinant, with times, the recomputed residual and the errors against the truth."""
    start = time.perf_counter()
    found, info = cola.solve(A, b, return_info=True)
    solved = time.perf_counter() - start
    start = time.perf_counter()
    value = float(cola.logdet(A))
    determined = time.perf_counter() - start
    return {
        "unknowns": len(b),
        "solve_seconds": solved,
        "rule": info.rule,
        "residual": float(info.residual),
        "solution_error": relative(found, x),
        "logdet_seconds": determined,
        "logdet": value,
        "logdet_exact": logdet,
        "logdet_error": abs(value - logdet) / abs(logdet),
        "dense_bytes": 8 * len(b) ** 2,
    }


def summary(section: Section, found: dict[str, Any]) -> None:
    """The numbers as a table."""
    section.table(
        ["question", "answer", "exact", "relative error", "residual", "seconds"],
        [
            [
                "solve",
                "x",
                "x, chosen",
                f"{found['solution_error']:.1e}",
                f"{found['residual']:.1e}",
                f"{found['solve_seconds']:.3f}",
            ],
            [
                "logdet",
                f"{found['logdet']:.10f}",
                f"{found['logdet_exact']:.10f}",
                f"{found['logdet_error']:.1e}",
                "-",
                f"{found['logdet_seconds']:.3f}",
            ],
        ],
    )


def growth(section: Section, kronecker: dict[str, Any], low_rank: dict[str, Any]) -> None:
    """Time of a solve against size, beside a dense solve of the same matrices while they are small."""
    series: dict[str, list[tuple[int, float]]] = {"kronecker": [], "low_rank": [], "dense": []}
    for n in (8, 12, 25, 50):
        A, _, b, _ = kronecker_problem(n, SHIFT)
        series["kronecker"].append((n**3, seconds(A, b)))
        if n <= 12:
            M = A.to_dense()
            start = time.perf_counter()
            np.linalg.solve(M, b)
            series["dense"].append((n**3, time.perf_counter() - start))
    series["kronecker"].append((kronecker["unknowns"], kronecker["solve_seconds"]))
    for n in (500, 2_000, 15_000):
        A, _, b, _ = low_rank_problem(n, RANK)
        series["low_rank"].append((n, seconds(A, b)))
    series["low_rank"].append((low_rank["unknowns"], low_rank["solve_seconds"]))
    section.numbers["growth"] = series
    figure, axes = subplots(1, 1, height=3.6, width=8.5)
    for name, label, colour, mark in (
        ("kronecker", "(A ⊗ B ⊗ C) + s I", BLUE, "o"),
        ("low_rank", f"diagonal + rank {RANK}", GREEN, "s"),
        ("dense", "dense, measured", ORANGE, "^"),
    ):
        sizes, times = zip(*series[name], strict=True)
        axes.loglog(sizes, times, marker=mark, color=colour, label=label, ms=5)
    size, cost = series["dense"][-1]
    far = np.array([size, 1e6])
    axes.loglog(far, cost * (far / size) ** 3, color=GREY, ls=":", label="dense, extrapolated as N³")
    axes.set(
        xlabel="unknowns N",
        ylabel="seconds for one solve",
        ylim=(1e-5, 1e4),
        title="Time of one solve, plan included",
    )
    axes.legend(loc="upper left")
    section.figure(
        figure,
        "Structure makes the time grow about linearly; the dense solver runs out of memory long "
        "before a million.",
    )


def seconds(A: Any, b: Any) -> float:
    """The better of two."""
    best = np.inf
    for _ in range(2):
        start = time.perf_counter()
        cola.solve(A, b)
        best = min(best, time.perf_counter() - start)
    return float(best)

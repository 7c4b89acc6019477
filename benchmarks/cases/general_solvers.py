"""GMRES on a convection-diffusion problem and LSMR on sparse least squares, beside SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _gmres(short: bool, restart: int = 50) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import gmres

    m, tol = (20 if short else 200), 1e-6
    T = sp.diags_array([-1.3, 2.0, -0.7], offsets=[-1, 0, 1], shape=(m, m))
    eye = sp.eye_array(m)
    M = sp.csr_array(sp.kron(T, eye) + sp.kron(eye, T) + 0.02 * sp.eye_array(m * m))
    b = np.random.default_rng(0).standard_normal(m * m)
    A = cola.ops.Sparse.from_scipy(M)
    ours = cola.GMRES(tol=tol, restart=restart)

    def theirs() -> Any:
        x, flag = gmres(M, b, rtol=tol, atol=0.0, restart=restart, maxiter=1000)
        assert flag == 0
        return x

    def check(answer: Any) -> None:
        residual = np.linalg.norm(b - M @ answer) / np.linalg.norm(b)
        assert residual <= 1.1 * tol, f"residual {residual}"

    return [
        Contender(f"solve(A, b, GMRES(tol, restart={restart}))", lambda: cola.solve(A, b, ours)),
        Contender("scipy.sparse.linalg.gmres", theirs),
    ], check


def _lsmr(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import lsmr

    m, n, tol = (400, 200, 1e-6) if short else (100_000, 50_000, 1e-6)
    rng = np.random.default_rng(0)
    rows, columns = np.repeat(np.arange(m), 5), rng.integers(0, n, 5 * m)
    entries = rng.standard_normal(5 * m)
    M = sp.csr_array((entries, (rows, columns)), shape=(m, n)) + sp.eye_array(m, n, format="csr")
    b = rng.standard_normal(m)
    A = cola.ops.Sparse.from_scipy(M)

    def check(answer: Any) -> None:
        r = b - M @ answer
        size = np.linalg.norm(M.T @ r) / (sp.linalg.norm(M) * np.linalg.norm(r))
        assert size <= 1.1 * tol, f"normal residual {size}"

    return [
        Contender("lstsq(A, b, LSMR(tol))", lambda: cola.lstsq(A, b, cola.LSMR(tol=tol))),
        Contender(
            "scipy.sparse.linalg.lsmr", lambda: lsmr(M, b, atol=tol, btol=tol, conlim=0, maxiter=10_000)[0]
        ),
    ], check


BENCHES = [
    Bench(
        "gmres-50",
        "GMRES(50), convection-diffusion, n = 40,000",
        _gmres,
        Goal("ratio", 1.2, "scipy.sparse.linalg.gmres"),
        rounds=5,
    ),
    Bench(
        "gmres-20",
        "GMRES(20), convection-diffusion, n = 40,000",
        partial(_gmres, restart=20),
        Goal("ratio", 1.2, "scipy.sparse.linalg.gmres"),
        rounds=5,
    ),
    Bench(
        "lsmr-sparse",
        "LSMR, sparse, 100,000 x 50,000",
        _lsmr,
        Goal("ratio", 1.2, "scipy.sparse.linalg.lsmr"),
        rounds=7,
    ),
]

"""The exponential times vectors, and inverse square roots times vectors, beside SciPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _exponential(short: bool, t: float, k: int) -> tuple[list[Contender], Callable[[Any], None]]:
    """Convection and diffusion on a grid: not normal, norm about 8 t."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import expm_multiply

    m = 20 if short else 150
    T = sp.diags_array([1.3, -2.0, 0.7], offsets=[-1, 0, 1], shape=(m, m))
    M = sp.csr_array(t * (sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T)))
    b = np.random.default_rng(0).standard_normal((m * m, k))
    b = b[:, 0] if k == 1 else b
    A = cola.ops.Sparse.from_scipy(M)
    want = expm_multiply(M, b)

    def check(answer: Any) -> None:
        error = np.linalg.norm(answer - want) / np.linalg.norm(want)
        assert error <= 1e-11, f"error {error}"

    return [
        Contender("exp(A) @ b", lambda: cola.exp(A) @ b),
        Contender("scipy.sparse.linalg.expm_multiply", lambda: expm_multiply(M, b)),
    ], check


BENCHES = [
    Bench(
        f"exp-action-{name}",
        f"exp(tA) b, convection-diffusion, n = 22,500, t = {t:g}, {k} column{'s' if k > 1 else ''}",
        partial(_exponential, t=t, k=k),
        Goal("ratio", 1.0, "scipy.sparse.linalg.expm_multiply"),
        rounds=7,
    )
    for name, t, k in (("small", 1.0, 1), ("block", 1.0, 8), ("large", 40.0, 1))
]

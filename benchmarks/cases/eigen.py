"""Eigenvalues at both ends of the five-point Laplacian, beside ARPACK told where to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import eigsh

    m, k = (24 if short else 256), 10
    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    M = sp.csr_array(sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T))
    A = cola.PSD(cola.ops.Sparse.from_scipy(M))
    line = 2 - 2 * np.cos(np.pi * np.arange(1, m + 1) / (m + 1))
    every = np.sort(np.add.outer(line, line).ravel())
    want = np.concatenate([every[:k], every[-k:]])

    def ours() -> Any:
        return np.concatenate([cola.eigh(A, k, which)[0] for which in ("SA", "LA")])

    def theirs() -> Any:
        # shift-invert at the two ends, which it must be told; which="LA" takes fifty times as long
        return np.concatenate([np.sort(eigsh(M, k, sigma=s)[0]) for s in (0.0, 8.0)])

    def check(answer: Any) -> None:
        error = np.abs(answer - want).max()
        assert error <= 1e-9, f"error {error}: a copy of a double eigenvalue was missed, or one is wrong"

    return [Contender("eigh(A, 10, SA and LA)", ours), Contender("scipy eigsh(sigma=0 and 8)", theirs)], check


BENCHES = [
    Bench(
        "eigh-laplacian",
        "10 smallest and 10 largest eigenvalues, 256 x 256 Laplacian",
        _setup,
        Goal("ratio", 1.0, "scipy eigsh(sigma=0 and 8)"),
        rounds=5,
    )
]

"""Products with an RBF covariance matrix of 50,000 points in ten dimensions, beside plain blocked BLAS.

``python -m benchmarks.cases.kernel_product`` prints the peak memory of each, in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_gpu import kernels

from ..harness import Bench, Contender, Goal

N, D = 50_000, 10


def points(short: bool, dtype: str, columns: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    n = 2_000 if short else N
    return rng.normal(size=(n, D)).astype(dtype), rng.normal(size=(n, columns)).astype(dtype)


def plain(x: Any, V: Any, block: tuple[int, int] = (256, 512)) -> Any:
    """What one writes by hand: a block of inner products, the exponential in place, a product."""
    half = 0.5 * (x * x).sum(1)
    out = np.zeros_like(V)
    buffer = np.empty(block, x.dtype)
    for i in range(0, len(x), block[0]):
        rows = slice(i, i + block[0])
        for j in range(0, len(x), block[1]):
            columns = slice(j, j + block[1])
            q = buffer[: len(x[rows]), : len(x[columns])]
            np.matmul(x[rows], x[columns].T, out=q)
            q -= half[rows, None]
            q -= half[columns]
            np.exp(q, out=q)
            out[rows] += q @ V[columns]
    return out


def _product(dtype: str, columns: int) -> Callable[[bool], tuple[list[Contender], Callable[[Any], None]]]:
    def setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
        import torch

        x, V = points(short, dtype, columns)
        tx, tV = torch.from_numpy(x), torch.from_numpy(V)
        few = x[:50].astype(float)
        u = ((few[:, None] - x[None].astype(float)) ** 2).sum(-1)
        want = np.exp(-0.5 * u) @ V.astype(float)

        def check(answer: Any) -> None:
            bound = 1e-12 if dtype == "float64" else 2e-5
            np.testing.assert_allclose(np.asarray(answer)[:50], want, rtol=0, atol=bound * np.abs(want).max())

        return [
            Contender("rbf(x) @ V, NumPy", lambda: kernels.rbf(x) @ V),
            Contender("rbf(x, x.copy()) @ V, NumPy: all blocks", lambda: kernels.rbf(x, x.copy()) @ V),
            Contender("rbf(x) @ V, PyTorch", lambda: kernels.rbf(tx) @ tV),
            Contender("plain blocked BLAS, NumPy", lambda: plain(x, V)),
        ], check

    return setup


BENCHES = [
    Bench(
        f"kernel-product-{dtype}-{columns}",
        f"RBF, n = {N:,}, D = {D}, {dtype}, {columns} right-hand side{'s' if columns > 1 else ''}",
        _product(dtype, columns),
        Goal("ratio", 1.3, "plain blocked BLAS, NumPy"),
        needs=("torch",),
        rounds=3,
    )
    for dtype in ("float64", "float32")
    for columns in (1, 8)
]

PEAK = """
import resource, sys
from benchmarks.cases import kernel_product as case
who, dtype, columns = sys.argv[1], sys.argv[2], int(sys.argv[3])
x, V = case.points(False, dtype, columns)
if who == "torch":
    import torch
    x, V = torch.from_numpy(x), torch.from_numpy(V)
small = case.kernels.rbf(x[:100]) @ V[:100]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = case.plain(x, V) if who == "plain" else case.kernels.rbf(x) @ V
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mib = [t / 1024 for t in (after, after - before)]
print(f"{who:6s} {dtype} {columns}: {mib[0]:.0f} MiB, of which the product {mib[1]:.1f}")
"""

if __name__ == "__main__":
    for who in ("numpy", "torch", "plain"):
        for dtype in ("float64", "float32"):
            subprocess.run([sys.executable, "-c", PEAK, who, dtype, "1"], check=True)

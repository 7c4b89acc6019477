"""Exact Gaussian process systems ``(K + I/10) x = y`` without an n x n array: RBF, ten dimensions, float32.

Two sections: the product against the rate of multiply-adds and against KeOps (when it is installed), and the
whole solve by preconditioned conjugate gradients. Solutions are checked in float64 on rows drawn at random.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np

import cola_core as cola
from cola_gpu.bench import Target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.kernel_cases import product_work
from cola_gpu.kernels import rbf

from .rows import Row, peak_memory, timed

__all__ = ["TITLE", "rows"]

TITLE = "Exact GP solve: RBF, 10 dimensions, float32, no n x n array"
D, NOISE, LENGTHSCALE, TOLERANCE = 10, 0.1, 3.0, 1e-3
SIZES = {"cpu": (10_000,), "accelerator": (10_000, 100_000, 1_000_000), "short": (300,)}
SAMPLED = 32
WARM = 30.0  # seconds; a solve that takes longer is made once


def rows(target: Target, ceilings: Ceilings, short: bool) -> Iterator[Row]:
    """Products, then the solve, at every size."""
    for n in SIZES["short" if short else "accelerator" if target.accelerated else "cpu"]:
        rng = np.random.default_rng(n)
        X = rng.standard_normal((n, D)).astype(np.float32)
        y = (np.sin(X[:, 0]) + NOISE**0.5 * rng.standard_normal(n)).astype(np.float32)
        yield from _products(target, ceilings, X, y, 2 if short or n > 300_000 else 7)
        yield _solve(target, ceilings, X, y)


def _products(target: Target, ceilings: Ceilings, X: np.ndarray, y: np.ndarray, rounds: int) -> list[Row]:
    n = len(X)
    points, v = target.put(X), target.put(y)
    K = rbf(points, lengthscale=LENGTHSCALE)
    runs: dict[str, Callable[[], Any]] = {"cola_gpu.kernels.rbf(X) @ v": lambda: K @ v}
    lacking = _keops_lacks(target)
    if not lacking:
        runs["KeOps"] = _keops(points, v)
    picked = np.random.default_rng(1).choice(n, min(n, SAMPLED), replace=False)
    expected = _rows_of_kernel(X, picked) @ y.astype(float)
    scale = _rows_of_kernel(X, picked) @ np.abs(y.astype(float))

    def check(name: str, answer: Any) -> str:
        got = target.backend.to_numpy(answer).astype(float).reshape(n)[picked]
        error = float(np.max(np.abs(got - expected) / scale))
        assert error < 1e-4, f"the product is wrong by {error:.1e}"
        return f"error {error:.0e}"

    found = timed(
        target,
        f"product, n = {n:,}",
        runs,
        check,
        rounds,
        ceilings,
        lambda name: [product_work(n, n, D)],
    )
    return found + ([Row(f"product, n = {n:,}", "KeOps", missing=lacking)] if lacking else [])


def _solve(target: Target, ceilings: Ceilings, X: np.ndarray, y: np.ndarray) -> Row:
    n = len(X)
    K = rbf(target.put(X), lengthscale=LENGTHSCALE)
    A = cola.PSD(K + NOISE * cola.I_like(K))
    b = target.put(y)
    P = cola.preconditioners.Nystrom(rank=min(n // 10, 500), shift=NOISE)
    alg = cola.algorithms.CG(tol=TOLERANCE, max_iters=500, P=P)

    def run() -> Any:
        found = cola.solve(A, b, alg, return_info=True, on_failure="ignore")
        target.wait(found[0])
        return found

    def once() -> tuple[Any, int | None, float]:
        start = time.perf_counter()
        answer, memory = peak_memory(target, run)
        return answer, memory, time.perf_counter() - start

    (x, info), memory, seconds = once()
    if seconds < WARM:  # the first time compiles
        (x, info), memory, seconds = once()
    if memory is not None and n >= 100_000:
        assert memory < 4 * n * n / 10, f"{memory} bytes: something n x n is held"
    picked = np.random.default_rng(2).choice(n, min(n, SAMPLED), replace=False)
    solution = target.backend.to_numpy(x).astype(float)
    residual = _rows_of_kernel(X, picked) @ solution + NOISE * solution[picked] - y[picked]
    relative = float(np.sqrt(np.mean(residual**2)) / np.sqrt(np.mean(y.astype(float) ** 2)))
    if bool(info.converged):
        assert relative < 10 * TOLERANCE, f"the solution is wrong: residual {relative:.1e}"
    products = int(info.matvecs)
    ended = "converged" if bool(info.converged) else str(info.reason)
    note = (
        f"{int(info.iterations)} steps, {ended}; residual {float(info.residual):.0e}, on sampled rows in "
        f"float64 {relative:.0e}"
    )
    if memory is not None:
        note += f"; at most {memory / 2**20:.0f} MiB beside the data"
    row = Row(f"solve, n = {n:,}", "CG with Nystrom", rounds=[seconds], note=note)
    # the preconditioner multiplies a block; its exponentials are those of one product, so it counts as one
    row.least = product_work(n, n, D).flops * products / ceilings.flops_per_second("float32")
    row.bound = "arithmetic"
    return row


def _rows_of_kernel(X: np.ndarray, picked: np.ndarray) -> np.ndarray:
    """Rows of the kernel matrix in float64, a coordinate at a time (n may be a million)."""
    points = X.astype(float) / LENGTHSCALE
    squares = np.zeros((len(picked), len(X)))
    for j in range(X.shape[1]):
        squares += (points[picked, j][:, None] - points[:, j][None, :]) ** 2
    return np.exp(-0.5 * squares)


def _keops_lacks(target: Target) -> str:
    if find_spec("pykeops") is None:
        return "pykeops is not installed"
    return "" if target.framework == "torch" else "KeOps has no JAX arrays"


def _keops(points: Any, v: Any) -> Callable[[], Any]:
    with redirect_stdout(sys.stderr):  # it says there what it compiles
        import pykeops
        from pykeops.torch import LazyTensor
    pykeops.set_verbose(False)
    scaled = points / LENGTHSCALE
    x, z = LazyTensor(scaled[:, None, :]), LazyTensor(scaled[None, :, :])
    K, column = (-0.5 * ((x - z) ** 2).sum(-1)).exp(), v[:, None]
    return lambda: K @ column

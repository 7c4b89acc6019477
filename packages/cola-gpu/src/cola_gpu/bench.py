"""`cola-core gpu bench`: device ceilings (copies, matrix products), and what the algorithms make of them.

Every timing is the best of a few repeats after a warm-up, with the device synchronised. The copy bandwidth
and the matrix product rate are measured ceilings of this machine, not numbers from a data sheet; with
`--full` CG is also given as a fraction of the copy bandwidth: its steps move bytes and compute little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from cola_core import ops
from cola_core.backends import Backend, get_backend
from cola_core.errors import DeviceError

from . import lapack
from .cg import MixedPrecisionCG
from .devices import devices

__all__ = ["choose_device", "run"]


def choose_device(backend: str | None, device: str | None) -> tuple[str, str]:
    """The (framework, device) asked for, or the best there is: an accelerator if any, else NumPy."""
    there = devices()
    fitting = [
        d
        for d in there
        if (backend is None or d.framework == backend) and (device is None or device in (d.name, d.kind))
    ]
    if not fitting:
        names = ", ".join(f"{d.framework}/{d.name}" for d in there)
        raise DeviceError(
            f"there is no device {device or 'of any kind'} for {backend or 'any framework'} here; "
            f"found: {names}. `cola-core gpu info` says which frameworks are missing."
        )
    best = next((d for d in fitting if d.kind != "cpu"), fitting[0])
    return best.framework, best.name


def run(backend: str | None = None, device: str | None = None, quick: bool = True) -> dict[str, Any]:
    """All measurements as a flat dictionary of plain values (seconds, GB/s, GFLOP/s, ratios)."""
    framework, name = choose_device(backend, device)
    bk = get_backend(framework)
    out: dict[str, Any] = {"backend": framework, "device": name, "quick": quick}
    with _double_precision(framework):
        out.update(_copy(bk, name, quick))
        out.update(_matmul(bk, name, quick))
        out.update(_mixed_cg(bk, name, quick, out["copy_GBps"]))
        out.update(_lq(bk, name, quick))
    return out


def _copy(bk: Backend, device: str, quick: bool) -> dict[str, float]:
    n = 2**23 if quick else 2**26
    x = _put(bk, np.ones(n), device)
    if bk.name == "numpy":
        y = np.zeros_like(x)
        seconds = _best(bk, lambda: np.copyto(y, x))
    elif bk.name == "torch":
        y = bk.xp.zeros_like(x)
        seconds = _best(bk, lambda: y.copy_(x))
    else:
        # JAX arrays cannot be written into: this includes allocation
        seconds = _best(bk, lambda: bk.xp.copy(x))
    return {"copy_bytes": 16 * n, "copy_seconds": seconds, "copy_GBps": 16 * n / seconds / 1e9}


def _matmul(bk: Backend, device: str, quick: bool) -> dict[str, float]:
    n = 768 if quick else 4096
    out = {}
    for dtype in ("float32", "float64"):
        x = _put(bk, np.full((n, n), 1e-3, dtype), device)
        seconds = _best(bk, partial(bk.matmul, x, x))
        out[f"matmul_{dtype}_GFLOPs"] = 2 * n**3 / seconds / 1e9
    return out


def _mixed_cg(bk: Backend, device: str, quick: bool, bandwidth: float) -> dict[str, Any]:
    from cola_core.linalg import solve

    n = 2**17 if quick else 2**20
    A, b = laplacian_like(n)
    A = A.to(backend=bk.name) if bk.name != "numpy" else A
    A = A.to(device=device) if bk.name == "torch" else A
    b = _put(bk, b, device)
    out: dict[str, Any] = {"cg_n": n, "cg_tolerance": 1e-10}
    for name, precision in (("cg_float64", "float64"), ("cg_mixed", "auto")):
        alg = MixedPrecisionCG(tol=1e-10, max_iters=2000, precision=precision)
        x, info = solve(A, b, alg, return_info=True)
        seconds = _best(bk, partial(alg.run, A, b), repeats=3)
        residual = bk.to_numpy(b - A @ x)
        out[f"{name}_seconds"] = seconds
        out[f"{name}_iterations"] = int(info.iterations)
        out[f"{name}_residual"] = float(np.linalg.norm(residual) / np.linalg.norm(bk.to_numpy(b)))
        out[f"{name}_converged"] = bool(info.converged)
    if not quick:  # the quick problem lives in the cache, which is faster than the memory that was measured
        moved = A.matvec_cost.bytes + 10 * 8 * n  # at the least: the matrix once, and ten vector passes
        ideal = moved / (bandwidth * 1e9) * out["cg_float64_iterations"]
        out["cg_float64_bandwidth_fraction"] = ideal / out["cg_float64_seconds"]
    out["cg_mixed_speedup"] = out["cg_float64_seconds"] / out["cg_mixed_seconds"]
    return out


def _lq(bk: Backend, device: str, quick: bool) -> dict[str, float]:
    m, n = (150, 600) if quick else (1000, 8000)
    A = np.random.default_rng(0).standard_normal((m, n))
    Qbar, Lbar = A[:, ::-1].copy(), A[:, :m].copy()
    A, Qbar, Lbar = (_put(bk, x, device) for x in (A, Qbar, Lbar))
    out: dict[str, float] = {"lq_rows": m, "lq_columns": n}
    out["qr_seconds"] = _best(bk, lambda: bk.xp.linalg.qr(A.mT))
    out["lq_seconds"] = _best(bk, lambda: lapack.gelqf(A))
    Q, L = lapack.gelqf(A)
    out["lq_backward_seconds"] = _best(bk, lambda: lapack.gelqf_backward(Q, L, Qbar, Lbar))
    out["lq_over_qr"] = out["lq_seconds"] / out["qr_seconds"]
    return out


def laplacian_like(n: int) -> tuple[Any, np.ndarray]:
    """A diagonally dominant PSD matrix with five diagonals (about 2.4e3 conditioned), and a right-hand
    side."""
    from scipy.sparse import diags_array

    from cola_core import PSD

    far = max(2, int(n**0.5))
    bands = [
        np.full(n - abs(k), v) for k, v in ((-far, -0.5), (-1, -1.0), (0, 3.0025), (1, -1.0), (far, -0.5))
    ]
    M = diags_array(bands, offsets=[-far, -1, 0, 1, far], format="csr")
    return PSD(ops.Sparse.from_scipy(M)), np.random.default_rng(1).standard_normal(n)


def _put(bk: Backend, x: np.ndarray, device: str) -> Any:
    if bk.name == "torch":
        return bk.asarray(x, device=device)
    if bk.name == "jax":
        import jax

        platform, _, index = device.partition(":")
        return jax.device_put(bk.asarray(x), jax.devices(platform)[int(index or 0)])
    return bk.asarray(x)


def _best(bk: Backend, f: Callable[[], Any], repeats: int = 5) -> float:
    _wait(bk, f())
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        _wait(bk, f())
        best = min(best, time.perf_counter() - start)
    return best


def _wait(bk: Backend, x: Any) -> None:
    """Wait for the device: results of torch (CUDA) and JAX are promises."""
    if bk.name == "jax":
        import jax

        jax.block_until_ready(x)
    elif bk.name == "torch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()


class _double_precision:
    """JAX computes in float64 only if told to; the setting is put back afterwards."""

    def __init__(self, framework: str) -> None:
        self.framework = framework

    def __enter__(self) -> None:
        if self.framework == "jax":
            import jax

            self.before = jax.config.read("jax_enable_x64")
            jax.config.update("jax_enable_x64", True)

    def __exit__(self, *_: Any) -> None:
        if self.framework == "jax":
            import jax

            jax.config.update("jax_enable_x64", self.before)

"""Measured ceilings of a device: bytes per second, and flops per second of matrix products by dtype.

Bandwidth is the best of a copy (16 n bytes for n doubles), a triad `b + 2 c` (24 n) and a sum (8 n) of arrays
that no cache holds. float32 products are IEEE ones: tensor cores' tf32 is a dtype of its own here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cola_core.errors import ColaError

from .target import Target

__all__ = ["DTYPES", "Ceilings", "measure"]

DTYPES = ("float64", "float32", "tf32", "bfloat16", "float16")
LENGTHS = {"short": 2**14, "quick": 2**23, "full": 2**26}
ON_ACCELERATORS = {"short": 2**20, "quick": 2**27, "full": 2**28}
ORDERS = {"short": 48, "quick": 768, "full": 2048}
ORDERS_ON_ACCELERATORS = {"short": 512, "quick": 4096, "full": 8192}
HALF_ON_CPU = 512  # without hardware for it a larger product takes minutes


@dataclass(frozen=True)
class Ceilings:
    """bandwidth: GB/s of "copy", "triad" and "read". matmul: GFLOP/s by dtype. missing: dtypes that are not
    there, and why."""

    bandwidth: dict[str, float]
    matmul: dict[str, float]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def bytes_per_second(self) -> float:
        """The best bandwidth found."""
        return 1e9 * max(self.bandwidth.values())

    def flops_per_second(self, dtype: str) -> float:
        """Of matrix products in that dtype; a dtype without products of its own computes in float32."""
        return 1e9 * self.matmul.get(dtype, self.matmul["float32"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a dtype that is missing is null."""
        return {
            "bandwidth_GBps": dict(self.bandwidth),
            "matmul_GFLOPs": {dtype: self.matmul.get(dtype) for dtype in DTYPES},
            "missing": dict(self.missing),
        }


def measure(target: Target, size: str) -> Ceilings:
    """All ceilings; seconds on `size="quick"`, more on "full", nothing to rely on with "short"."""
    bandwidth = _bandwidth(target, (ON_ACCELERATORS if target.accelerated else LENGTHS)[size])
    rates, missing = {}, {}
    for dtype in DTYPES:
        lacking = _lacking(target, dtype)
        if lacking:
            missing[dtype] = lacking
            continue
        n = (ORDERS_ON_ACCELERATORS if target.accelerated else ORDERS)[size]
        n = min(n, HALF_ON_CPU) if dtype in ("bfloat16", "float16") and not target.accelerated else n
        try:
            rates[dtype] = _product(target, dtype, n)
        except (RuntimeError, TypeError, ValueError, ColaError) as error:
            missing[dtype] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return Ceilings(bandwidth, rates, missing)


def _lacking(target: Target, dtype: str) -> str:
    if dtype == "tf32" and target.kind != "cuda":
        return "tensor cores of NVIDIA GPUs only"
    if dtype == "float64" and target.kind == "mps":
        return "Apple GPUs have no double precision"
    if target.framework == "numpy" and dtype in ("bfloat16", "float16"):
        return "NumPy has no matrix products in half precision"
    return ""


def _bandwidth(target: Target, n: int) -> dict[str, float]:
    wide = "float32" if target.kind == "mps" else "float64"
    width = np.dtype(wide).itemsize
    b, c = target.put(np.ones(n), wide), target.put(np.full(n, 0.5), wide)
    runs = _passes(target, b, c)
    moved = {"copy": 2, "triad": 3, "read": 1}
    return {name: moved[name] * width * n / target.best(run) / 1e9 for name, run in runs.items()}


def _passes(target: Target, b: Any, c: Any) -> dict[str, Callable[[], Any]]:
    if target.framework == "jax":
        import jax

        # a program that adds a number it is given: a copy that the compiler cannot leave out
        copy = jax.jit(lambda x, a: x + a)
        triad = jax.jit(lambda x, y, a: x + a * y)
        total = jax.jit(lambda x: x.sum())
        zero, two = target.put(np.zeros(()), str(b.dtype)), target.put(np.full((), 2.0), str(b.dtype))
        return {
            "copy": lambda: copy(b, zero),
            "triad": lambda: triad(b, c, two),
            "read": lambda: total(b),
        }
    if target.framework == "torch":
        import torch

        y = torch.empty_like(b)
        return {
            "copy": lambda: y.copy_(b),
            "triad": lambda: torch.add(b, c, alpha=2.0, out=y),
            "read": lambda: b.sum(),
        }
    from scipy.linalg.blas import daxpy

    y, half = np.empty_like(b), b.size // 2
    return {
        "copy": lambda: np.copyto(y, b),
        "triad": lambda: daxpy(b, c, a=1e-9),  # c += a b, BLAS' one pass: reads both, writes one
        "read": lambda: np.dot(b[:half], b[half : 2 * half]),
    }


def _product(target: Target, dtype: str, n: int) -> float:
    """GFLOP/s of the product of two n x n matrices."""
    stored = "float32" if dtype == "tf32" else dtype
    A = target.put(np.random.default_rng(0).standard_normal((n, n)).astype(np.float32), stored)
    if target.framework == "jax":
        import jax

        precision: Any = "TF32_TF32_F32" if dtype == "tf32" else jax.lax.Precision.HIGHEST
        product = jax.jit(lambda X: jax.numpy.matmul(X, X, precision=precision))
        seconds = target.best(lambda: product(A))
    elif target.framework == "torch":
        with _tf32(target, dtype == "tf32"):
            seconds = target.best(lambda: A @ A)
    else:
        seconds = target.best(lambda: A @ A)
    return 2.0 * n**3 / seconds / 1e9


@contextmanager
def _tf32(target: Target, on: bool) -> Iterator[None]:
    """PyTorch's switch of the process, on or off within and as it was afterwards."""
    if target.kind != "cuda":
        yield
        return
    import torch

    switches: Any = torch.backends.cuda.matmul
    name: str
    value: Any
    if hasattr(switches, "fp32_precision"):  # PyTorch 2.9; reading the older one after it was set is an error
        name, value = "fp32_precision", "tf32" if on else "ieee"
    else:
        name, value = "allow_tf32", on
    before = getattr(switches, name)
    setattr(switches, name, value)
    try:
        yield
    finally:
        setattr(switches, name, before)

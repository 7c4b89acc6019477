"""The device that is measured: arrays on it, waiting for it, the best time of a few runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core.backends import Backend, get_backend
from cola_core.errors import DeviceError

from ..devices import Device, devices, jax_devices, jax_name
from ..missing import remedies

__all__ = ["SIZES", "Target", "choose", "double_precision"]

SIZES = ("short", "quick", "full")
ENOUGH = 1.5  # seconds of repeats, beyond which none is added


@dataclass(frozen=True)
class Target:
    """One device of one array library."""

    framework: str
    device: str
    kind: str
    description: str = ""

    @property
    def backend(self) -> Backend:
        """cola-core's backend of the library."""
        return get_backend(self.framework)

    @property
    def accelerated(self) -> bool:
        """Whether this is no CPU: sizes are larger then."""
        return self.kind != "cpu"

    def put(self, x: np.ndarray, dtype: str | None = None) -> Any:
        """A NumPy array as one on the device, of the dtype named (any the library has)."""
        x = np.asarray(x)
        if self.framework == "torch":
            import torch

            return torch.as_tensor(x, device=self.device, dtype=getattr(torch, dtype) if dtype else None)
        if self.framework == "jax":
            import jax
            import jax.numpy as jnp

            place = next(d for d in jax_devices() if jax_name(d) == self.device)
            return jax.device_put(jnp.asarray(x, dtype=dtype), place)
        return x.astype(dtype) if dtype else x

    def operator(self, A: Any) -> Any:
        """An operator of NumPy as one on the device."""
        if self.framework == "numpy":
            return A
        A = A.to(backend=self.framework)
        if self.framework == "torch":
            return A.to(device=self.device)
        return A.to(device=next(d for d in jax_devices() if jax_name(d) == self.device))

    def wait(self, x: Any = None) -> None:
        """Until the device is done: results of PyTorch on CUDA and of JAX are promises."""
        if self.framework == "jax":
            import jax

            jax.block_until_ready(x)
        elif self.framework == "torch" and self.kind == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        elif self.framework == "torch" and self.kind == "mps":
            import torch

            torch.mps.synchronize()

    def best(self, run: Callable[[], Any], repeats: int = 5, warm: bool = True) -> float:
        """The shortest wall-clock time of a few runs, after one that is not counted."""
        if warm:
            self.wait(run())
        spent, found = 0.0, float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            self.wait(run())
            taken = time.perf_counter() - start
            found, spent = min(found, taken), spent + taken
            if spent > ENOUGH:
                break
        return found


def choose(framework: str | None = None, device: str | None = None) -> Target:
    """The device asked for, as `gpu info` names it or by its kind; by default an accelerator if there is one,
    else NumPy.

    DeviceError where it is not there: what there is, and what is missing for the one wanted.
    """
    there = devices()
    alias = None if device is None else device.replace("gpu", "cuda")

    def fits(d: Device) -> bool:
        return (framework is None or d.framework == framework) and (
            device is None or alias in (d.name, d.kind)
        )

    fitting = [d for d in there if fits(d)]
    if not fitting:
        names = ", ".join(f"{d.framework}/{d.name}" for d in there)
        kind = (alias or "").partition(":")[0]
        lacking = remedies(framework) if kind in ("cuda", "") else ""
        raise DeviceError(
            f"there is no device {device or 'of any kind'} for {framework or 'any array library'} here; "
            f"found: {names}."
            + (f" Missing: {lacking}." if lacking else "")
            + " `cola-core gpu info` says more."
        )
    best = next((d for d in fitting if d.kind != "cpu"), fitting[0])
    return Target(best.framework, best.name, best.kind, best.description)


class double_precision:  # noqa: N801 - reads like a function
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

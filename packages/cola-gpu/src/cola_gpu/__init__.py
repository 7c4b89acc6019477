"""cola-gpu: speed, memory and reach for cola-core, on whatever device there is.

`DeviceCG`, `DeviceLanczos` and their like are Krylov methods that stay on the device; `MixedPrecisionCG` and
`MixedPrecisionGMRES` solve with products in low precision. `cola_gpu.kernels` has covariance functions with
fused products, `cola_gpu.lapack` differentiable dense factorisations, `cola_gpu.sharding` operators over many
devices. Importing this module imports none of PyTorch, JAX and Triton.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "DeviceBlockLanczos",
    "DeviceCG",
    "DeviceLOBPCG",
    "DeviceLanczos",
    "DeviceSLQ",
    "MixedPrecisionCG",
    "MixedPrecisionGMRES",
    "kernels",
    "lapack",
    "sharding",
]


def __getattr__(name: str) -> Any:
    if name == "MixedPrecisionCG":
        from .cg import MixedPrecisionCG

        return MixedPrecisionCG
    if name.startswith("Device") and name in __all__:
        from . import krylov

        return getattr(krylov, name)
    if name == "MixedPrecisionGMRES":
        from .gmres_ir import MixedPrecisionGMRES

        return MixedPrecisionGMRES
    if name in ("kernels", "lapack", "sharding"):
        from importlib import import_module

        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""cola-gpu: mixed-precision solvers and differentiable LAPACK for cola-core, on whatever device there is.

`MixedPrecisionCG` and `MixedPrecisionGMRES` are algorithms for `cola_core.solve`; `cola_gpu.lapack` holds the
differentiable dense factorisations. `DeviceCG`, `DeviceLanczos` and their
like are Krylov methods that stay on the device. Importing this module imports neither PyTorch nor JAX.
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

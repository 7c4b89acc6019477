"""Krylov methods that stay on the device: between two looks of the host, ``check_every`` steps are launched.

The methods are the core's (CG, Lanczos, LOBPCG, stochastic Lanczos quadrature) with the same settings,
derivatives and reports; what differs is how the steps are made. No step needs a value on the host: a column
that has converged, or a Krylov space that is exhausted, is frozen by masks. In PyTorch on CUDA the steps
between two looks are captured once and replayed as a CUDA graph; in JAX the whole iteration is one compiled
loop whose condition is evaluated after every ``check_every`` steps.

``Auto()`` takes them for operands on an accelerator and never for operands on the CPU, where they run on
request.
"""

from __future__ import annotations

from typing import Any

from .cg import DeviceCG
from .lanczos import DeviceBlockLanczos, DeviceLanczos
from .lobpcg import DeviceLOBPCG
from .slq import DeviceSLQ

__all__ = [
    "DeviceBlockLanczos",
    "DeviceCG",
    "DeviceLOBPCG",
    "DeviceLanczos",
    "DeviceSLQ",
    "loaded",
    "register",
]


def loaded(registrar: Any) -> None:
    """What is due when operands on an accelerator are first met: this package, which has been loaded to call
    this, and with it ``register``; nothing more."""


def register(registrar: Any) -> None:
    """Register the methods: automatic, but not applicable on the CPU, so that no choice changes there."""
    from cola_core.linalg import slogdet, solve, trace

    registrar.algorithm(solve, DeviceCG, name="device-cg")
    registrar.algorithm(slogdet, DeviceSLQ, name="device-slq")
    registrar.algorithm("eigsh", DeviceLanczos, name="device-lanczos")
    registrar.algorithm("eigsh", DeviceBlockLanczos, name="device-block-lanczos")
    registrar.algorithm("eigsh", DeviceLOBPCG, name="device-lobpcg")
    # on request, as in the core
    registrar.algorithm("geigsh", DeviceLOBPCG, name="device-lobpcg", automatic=False)
    registrar.algorithm(trace, DeviceSLQ, name="device-slq", automatic=False)

"""Which devices there are. A framework that is not installed is never imported, one that is broken is
reported."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

__all__ = ["Device", "Framework", "devices", "frameworks", "jax_devices", "jax_name"]


@dataclass(frozen=True)
class Device:
    """One device as one framework sees it; memory in bytes where it is known."""

    framework: str
    name: str
    kind: str
    description: str
    memory: int | None = None


@dataclass(frozen=True)
class Framework:
    """An array library: its version, or why it cannot be used."""

    name: str
    version: str | None
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def frameworks() -> list[Framework]:
    """NumPy, PyTorch and JAX: installed versions, or the reason they are missing."""
    found = []
    for name in ("numpy", "torch", "jax"):
        if find_spec(name) is None:
            found.append(Framework(name, None, f"not installed (pip install 'cola-gpu[{name}]')"))
            continue
        try:
            found.append(Framework(name, str(__import__(name).__version__)))
        except Exception as error:  # noqa: BLE001 - a broken installation is a finding, whatever it raises
            found.append(Framework(name, None, f"installed but broken: {type(error).__name__}: {error}"))
    return found


def devices() -> list[Device]:
    """All devices of all usable frameworks; the first is the CPU as NumPy uses it."""
    usable = {f.name for f in frameworks() if f.version is not None}
    found = [Device("numpy", "cpu", "cpu", f"{_processor()}, {_cores()} cores", _main_memory())]
    if "torch" in usable:
        found += _torch_devices()
    if "jax" in usable:
        found += _jax_devices()
    return found


def _torch_devices() -> list[Device]:
    import torch

    found = [Device("torch", "cpu", "cpu", f"{torch.get_num_threads()} threads")]
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        found.append(Device("torch", f"cuda:{i}", "cuda", properties.name, properties.total_memory))
    if torch.backends.mps.is_available():
        found.append(Device("torch", "mps", "mps", "Apple GPU"))
    return found


def jax_name(device: Any) -> str:
    """The name of a device of JAX, with one word for NVIDIA's: ``cuda:0``, ``cpu:0``."""
    return f"{_jax_kind(device)}:{device.id}"


def _jax_kind(device: Any) -> str:
    return "cuda" if device.platform in ("gpu", "cuda") else str(device.platform)


def jax_devices() -> list[Any]:
    """JAX's own devices: of its default platform, and the CPU."""
    import jax

    default = jax.devices()
    return [*default, *([] if default[0].platform == "cpu" else jax.devices("cpu"))]


def _jax_devices() -> list[Device]:
    found = []
    for device in jax_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
        found.append(Device("jax", jax_name(device), _jax_kind(device), device.device_kind, limit))
    return found


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _main_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

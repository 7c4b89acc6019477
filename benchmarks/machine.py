"""What the numbers were measured on: processor, threads, versions. No host name, no path."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["THREADS", "describe", "single_threaded"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = (
    "cola-core",
    "numpy",
    "scipy",
    "torch",
    "jax",
    "lineax",
    "linear-operator",
    "gpytorch",
    "scikit-learn",
    "pylops",
)


def single_threaded() -> None:
    """One thread for everybody; must run before an array library is imported."""
    for name in THREADS:
        os.environ[name] = "1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def describe() -> dict[str, Any]:
    """Processor, system and versions as plain values."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "blas": f"{blas.get('name')} {blas.get('version')}",
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""

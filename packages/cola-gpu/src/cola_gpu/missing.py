"""What is missing for accelerators, and how to get it: the driver, CUDA in PyTorch, Triton, a GPU in JAX.

Nothing is imported that is not installed; a library that is installed and fails is a finding, in its own
words.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec

__all__ = ["Part", "parts", "remedies"]


@dataclass(frozen=True)
class Part:
    """One thing that computing on an accelerator needs: what there is of it, and else how to get it ("" if it
    is complete)."""

    name: str
    found: str
    remedy: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.remedy


def parts() -> list[Part]:
    """The NVIDIA driver, CUDA in PyTorch, Triton and a GPU in JAX."""
    return [_driver(), _torch_cuda(), _triton(), _jax_gpu()]


def remedies(framework: str | None = None) -> str:
    """The remedies as one line for an error, of one array library or of all."""
    wanted = {"torch": ("driver", "torch-cuda"), "jax": ("driver", "jax-gpu")}
    names = wanted.get(framework or "", ("driver", "torch-cuda", "jax-gpu"))
    return "; ".join(
        f"{p.name}: {p.found}, {p.remedy}" for p in parts() if p.name in names and not p.complete
    )


def _driver() -> Part:
    if os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi"):
        return Part("driver", "an NVIDIA driver")
    return Part(
        "driver",
        "no NVIDIA driver",
        "an NVIDIA GPU and its driver are needed (nvidia-smi shows both; containers must be given the GPU)",
    )


def _torch_cuda() -> Part:
    if find_spec("torch") is None:
        return Part(
            "torch-cuda", "PyTorch is not installed", "pip install 'cola-gpu[torch]', in a build with CUDA"
        )
    try:
        import torch
    except Exception as error:  # noqa: BLE001 - a broken installation is a finding, whatever it raises
        return Part("torch-cuda", f"PyTorch is broken ({type(error).__name__}: {error})", "install it again")
    built = torch.version.cuda or torch.version.hip
    if built is None:
        return Part(
            "torch-cuda",
            f"PyTorch {torch.__version__} is built without CUDA",
            "install a build with CUDA (pytorch.org/get-started names the command)",
        )
    if not torch.cuda.is_available():
        return Part(
            "torch-cuda",
            f"PyTorch {torch.__version__} for CUDA {built} sees no device",
            "check the driver's version with nvidia-smi, and CUDA_VISIBLE_DEVICES",
        )
    return Part("torch-cuda", f"PyTorch {torch.__version__}, CUDA {built}")


def _triton() -> Part:
    if find_spec("triton") is None:
        return Part(
            "triton", "Triton is not installed", "pip install 'cola-gpu[triton]' (Linux); blocks do without"
        )
    try:
        import triton
    except Exception as error:  # noqa: BLE001 - as above
        return Part("triton", f"Triton is broken ({type(error).__name__}: {error})", "install it again")
    found = f"Triton {triton.__version__}"
    cuda = _torch_cuda()
    if cuda.complete:
        return Part("triton", found)
    return Part(
        "triton",
        f"{found}, nothing to compile for",
        "PyTorch with CUDA; TRITON_INTERPRET=1 runs kernels on the CPU, slowly, for tests",
    )


def _jax_gpu() -> Part:
    if find_spec("jax") is None:
        return Part("jax-gpu", "JAX is not installed", "pip install 'jax[cuda13]'")
    try:
        import jax

        platforms = {d.platform for d in jax.devices()}
    except Exception as error:  # noqa: BLE001 - as above
        return Part("jax-gpu", f"JAX is broken ({type(error).__name__}: {error})", "install it again")
    if platforms - {"cpu"}:
        return Part("jax-gpu", f"JAX {jax.__version__} with {', '.join(sorted(platforms))}")
    plugins = [name for name in ("jax_cuda13_plugin", "jax_cuda12_plugin") if find_spec(name)]
    if plugins:
        return Part(
            "jax-gpu",
            f"JAX {jax.__version__} with {plugins[0]} sees no GPU",
            "check the driver with nvidia-smi, and JAX_PLATFORMS and CUDA_VISIBLE_DEVICES",
        )
    return Part("jax-gpu", f"JAX {jax.__version__} for the CPU only", "pip install 'jax[cuda13]'")

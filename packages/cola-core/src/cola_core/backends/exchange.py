"""Arrays from one library to another, without a copy where DLPack and the devices allow."""

from __future__ import annotations

from typing import Any

from .base import Array, dtype_name, refuse_graph
from .registry import get_backend

__all__ = ["exchange"]


def exchange(x: Array, source: str, target: str, device: Any = None) -> Array:
    """``x`` of the library ``source`` as an array of ``target``.

    The result shares x's memory where both can look at it: contiguous arrays on the host between any two of
    NumPy, PyTorch and JAX (JAX wants 64-byte alignment), and on one GPU between PyTorch and JAX. Otherwise it
    is a copy. Values only: a tensor that requires gradients is refused with a BackendError; detach it.
    Writing into one of two arrays that share memory changes both, and JAX assumes that nobody does.
    """
    to = get_backend(target)
    if source == target:
        return x if device is None else to.asarray(x, device=device)
    refuse_graph(x, target)
    shared = _SHARE.get((source, target), lambda x: None)(x)
    if shared is None:
        shared = to.asarray(get_backend(source).to_numpy(x))
    return shared if device is None else to.asarray(shared, device=device)


def _numpy_to_torch(x: Any) -> Any:
    import torch

    if not x.flags.writeable or any(s < 0 for s in x.strides) or dtype_name(x.dtype) == "bfloat16":
        return None  # PyTorch knows neither read-only memory nor negative strides
    try:
        return torch.from_numpy(x)
    except (TypeError, ValueError):
        return None


def _torch_to_jax(x: Any) -> Any:
    import jax

    x = x.detach().resolve_conj().resolve_neg()
    if not jax.config.jax_enable_x64 and dtype_name(x.dtype) in ("float64", "complex128", "int64"):
        return None  # JAX in single precision: the copy rounds
    try:
        return jax.dlpack.from_dlpack(x.contiguous())
    except (TypeError, ValueError, RuntimeError, BufferError):
        if dtype_name(x.dtype) != "bfloat16":
            return None
        return jax.numpy.asarray(x.float().cpu().numpy(), dtype="bfloat16")  # NumPy has no such dtype


def _jax_to_torch(x: Any) -> Any:
    import torch

    try:
        return torch.utils.dlpack.from_dlpack(x)
    except (TypeError, ValueError, RuntimeError, BufferError):
        return None


_SHARE = {
    ("numpy", "torch"): _numpy_to_torch,
    ("torch", "jax"): _torch_to_jax,
    ("jax", "torch"): _jax_to_torch,
}

"""Which of the ways makes a product, and the error that says why the one asked for cannot."""

from __future__ import annotations

import importlib.util
import math
import os
from typing import Any

from cola_core.backends import backend_of
from cola_core.backends.base import dtype_name
from cola_core.errors import BackendError, DTypeError, ShapeError

__all__ = ["MOST_COORDINATES", "gradients", "path_for", "product"]

Array = Any
MOST_COORDINATES = 64
TRITON_DTYPES = ("float32", "float16", "bfloat16")


def path_for(fn: Any, x1: Array, x2: Array) -> str | None:
    """``"triton"``, ``"in place"``, or None where blocks of the function are multiplied."""
    be = backend_of(x1, x2)
    asked = fn.path_
    if asked == "triton":
        for x in (x1, x2):
            refuse_missing(fn, be, x)
        return "triton"
    if be is None or be.name not in ("numpy", "torch") or dtype_name(x1.dtype) not in _REAL:
        return None
    if hasattr(x1, "placements") or hasattr(x2, "placements"):  # DTensor: its operations, spread as it says
        return None
    if (
        asked == "auto"
        and be.name == "torch"
        and x1.device.type == "cuda"
        and _fits(x1)
        and _fits(x2)
        and _installed()
    ):
        return "triton"
    return "in place"


_REAL = ("float32", "float64", "float16", "bfloat16")


def _fits(x: Array) -> bool:
    return dtype_name(x.dtype) in TRITON_DTYPES and x.shape[-1] <= MOST_COORDINATES and _countable(x)


def _countable(x: Array) -> bool:
    """Whether 32 bits count the numbers of x."""
    return math.prod(x.shape) < 2**31


def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton's interpreter runs its kernels, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def refuse_missing(fn: Any, be: Any, x: Array) -> None:
    """An error that says what ``path="triton"`` lacks for these points."""
    name = f"{type(fn).__name__}(path='triton')"
    instead = "or leave path='auto', which takes blocks of bounded memory where Triton does not apply"
    if be is None or be.name != "torch":
        raise BackendError(
            f"{name} needs CUDA tensors of PyTorch; the points are arrays of "
            f"{'unknown type' if be is None else be.name}, shape {tuple(x.shape)}. Convert the operator with "
            f".to(backend='torch', device='cuda'), {instead}."
        )
    if not _installed():
        raise BackendError(
            f"{name} needs Triton, which is not installed: pip install 'cola-gpu[triton]', {instead}."
        )
    if x.device.type != "cuda" and not interpreting():
        import torch

        missing = (
            "the points are on " + str(x.device)
            if torch.cuda.is_available()
            else "PyTorch finds no CUDA device here"
        )
        raise BackendError(
            f"{name} needs CUDA: {missing} (points {tuple(x.shape)}, {dtype_name(x.dtype)}). Move them with "
            f".to(device='cuda') on a machine that has one, {instead}. (TRITON_INTERPRET=1, set before "
            "Triton is imported, runs the kernels slowly on the CPU, for tests.)"
        )
    if dtype_name(x.dtype) not in TRITON_DTYPES:
        raise DTypeError(
            f"{name} takes float32, float16 and bfloat16; the points {tuple(x.shape)} are "
            f"{dtype_name(x.dtype)}. Convert them, {instead}."
        )
    if x.shape[-1] > MOST_COORDINATES:
        raise ShapeError(
            f"{name} takes points of at most {MOST_COORDINATES} coordinates; these are {tuple(x.shape)}. "
            f"Project them, {instead}."
        )
    if not _countable(x):
        raise ShapeError(
            f"{name} counts with 32 bits; points {tuple(x.shape)} are too many. Cut them, {instead}."
        )


def _way(fn: Any, x1: Array, x2: Array) -> Any:
    if path_for(fn, x1, x2) == "triton":
        from . import triton_path

        return triton_path
    from . import inplace

    return inplace


def product(fn: Any, x1: Array, x2: Array, V: Array, params: Any) -> Array:
    """``K V``; complex V as twice as many real columns."""
    be = backend_of(x1, x2, V)
    if be is not None and be.is_complex(V):
        k = V.shape[1]
        Y = product(fn, x1, x2, be.xp.concat([be.xp.real(V), be.xp.imag(V)], axis=1), params)
        return Y[:, :k] + 1j * Y[:, k:]
    return _way(fn, x1, x2).product(fn, x1, x2, V, params)


def gradients(fn: Any, x1: Array, x2: Array, V: Array, G: Array, params: Any) -> Any:
    """Gradients of ``sum(G * (K V))`` in x1, x2 and params."""
    return _way(fn, x1, x2).gradients(fn, x1, x2, V, G, params)

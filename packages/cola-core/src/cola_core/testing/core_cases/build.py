"""Short ways to write an operator case of the core, and dense references made with NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..capabilities import Capabilities
from ..case import Case

__all__ = ["blocks", "diagonals", "kron", "kronsum", "of_arrays", "operator_case", "scatter"]


def operator_case(name: str, build: Any, reference: Any, **more: Any) -> Case:
    """build(put, dtype, seed) with put turning NumPy data into the backend's arrays."""

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return build(backend.asarray, dtype, seed)

    capabilities = more.pop("capabilities", Capabilities())
    return Case(name, factory=factory, reference=reference, capabilities=capabilities, **more)


def of_arrays(name: str, arrays: Any, build: Any, dense: Any, **more: Any) -> Case:
    """arrays(dtype, seed) -> NumPy arrays; build(*arrays) an operator of them, dense(*arrays) its matrix."""
    return operator_case(
        name,
        lambda put, dtype, seed: build(*map(put, arrays(dtype, seed))),
        lambda dtype, seed: dense(*arrays(dtype, seed)),
        **more,
    )


def kron(*Ms: Any) -> Any:
    out = Ms[0]
    for M in Ms[1:]:
        out = np.kron(out, M)
    return out


def kronsum(*Ms: Any) -> Any:
    sizes = [len(M) for M in Ms]
    out: Any = 0
    for i, M in enumerate(Ms):
        out = out + kron(*[M if j == i else np.eye(n, dtype=M.dtype) for j, n in enumerate(sizes)])
    return out


def blocks(*Ms: Any) -> Any:
    m, n = sum(M.shape[0] for M in Ms), sum(M.shape[1] for M in Ms)
    out = np.zeros((m, n), Ms[0].dtype)
    i = j = 0
    for M in Ms:
        out[i : i + M.shape[0], j : j + M.shape[1]] = M
        i, j = i + M.shape[0], j + M.shape[1]
    return out


def diagonals(d: Any) -> Any:
    return d[..., :, None] * np.eye(d.shape[-1], dtype=d.dtype)


def scatter(data_: Any, rows: Any, cols: Any, m: int, n: int) -> Any:
    out = np.zeros((m, n), data_.dtype)
    np.add.at(out, (rows, cols), data_)
    return out

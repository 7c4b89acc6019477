"""LQ forward and backward by ``gelqf`` and its adjoint, against the library's QR of the transpose and its
autodiff.

The loss is linear in Q and L. The peer's cotangents get the signs that make its (other) factors ours, so that
both gradients must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cola_gpu.bench import Target
from cola_gpu.bench.ceilings import Ceilings
from cola_gpu.bench.dense_cases import lq_backward_work, lq_work
from cola_gpu.lapack import gelqf

from .rows import Row, peak_memory, timed

__all__ = ["TITLE", "rows"]

TITLE = "LQ, forward and backward"
CPU = ((300, 2400, "float64"),)
ACCELERATOR = ((1000, 8000, "float64"), (1000, 8000, "float32"), (4000, 32_000, "float32"))
SHORT = ((12, 40, "float64"),)


def rows(target: Target, ceilings: Ceilings, short: bool) -> Iterator[Row]:
    """Every shape."""
    for m, n, dtype in SHORT if short else ACCELERATOR if target.accelerated else CPU:
        rng = np.random.default_rng(m)
        A, Qbar, Lbar = (rng.standard_normal(s) for s in ((m, n), (m, n), (m, m)))
        arrays = [target.put(a.astype(dtype)) for a in (A, Qbar, np.tril(Lbar))]
        peer = "torch.linalg.qr" if target.framework == "torch" else "jax.numpy.linalg.qr"
        runs = {
            "gelqf": _ours(target, *arrays),
            f"{peer} of the transpose": _peer(target, *arrays),
        }
        expected: list[np.ndarray] = []

        def check(name: str, answer: Any, expected: list[np.ndarray] = expected, runs: Any = runs) -> str:
            gradient = target.backend.to_numpy(answer).astype(float)
            expected.append(gradient)
            error = float(np.abs(gradient - expected[0]).max() / np.abs(expected[0]).max())
            assert error < 1e-3, f"the gradients differ by {error:.1e}"
            _, memory = peak_memory(target, runs[name])
            if memory is None:
                return ""
            size = answer.shape[0] * answer.shape[1] * _width(answer)
            return f"holds {memory / size:.2f} A beside its inputs"

        yield from timed(
            target,
            f"{m} x {n}, {dtype}",
            runs,
            check,
            2 if short else 7,
            ceilings,
            lambda name, m=m, n=n, dtype=dtype: [lq_work(m, n, dtype), lq_backward_work(m, n, dtype)],
        )


def _width(x: Any) -> int:
    """Bytes of an entry."""
    return int(np.dtype(str(x.dtype).rpartition(".")[2]).itemsize)


def _ours(target: Target, A: Any, Qbar: Any, Lbar: Any) -> Callable[[], Any]:
    def loss(M: Any) -> Any:
        Q, L = gelqf(M, check=False)
        return (Q * Qbar).sum() + (L * Lbar).sum()

    return _gradient(target, loss, A)


def _peer(target: Target, A: Any, Qbar: Any, Lbar: Any) -> Callable[[], Any]:
    xp = target.backend.xp
    qr = xp.linalg.qr
    diagonal = xp.linalg.diagonal(qr(A.mT)[1])
    signs = xp.where(diagonal < 0, -xp.ones_like(diagonal), xp.ones_like(diagonal))
    Qbar, Lbar = (signs[:, None] * Qbar).mT, (signs[None, :] * Lbar).mT

    def loss(M: Any) -> Any:
        Q, R = qr(M.mT)
        return (Q * Qbar).sum() + (R * Lbar).sum()

    return _gradient(target, loss, A)


def _gradient(target: Target, loss: Callable[[Any], Any], A: Any) -> Callable[[], Any]:
    if target.framework == "jax":
        import jax

        compiled = jax.jit(jax.grad(loss))
        return lambda: compiled(A)
    import torch

    leaf = A.detach().requires_grad_()
    return lambda: torch.autograd.grad(loss(leaf), leaf)[0]

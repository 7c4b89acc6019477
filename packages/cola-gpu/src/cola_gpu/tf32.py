"""Products on tensor cores in tfloat32, by a kernel of our own.

PyTorch's switch for this (`torch.backends.cuda.matmul.allow_tf32`) belongs to the process: another thread
would get it too, without having asked. A kernel says it for one product. Runs in Triton's interpreter, which
multiplies in float32.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from cola_core.errors import BackendError

__all__ = ["available", "matmul"]

ROWS, COLUMNS, INNER = 64, 32, 32


def available() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def matmul(A: Any, X: Any) -> Any:
    """`A X` for float32 tensors (m, n) and (n, k), operands taken as tfloat32, sums in float32.

    BackendError without Triton. Differentiates nothing: it is for the inside of an iteration.
    """
    if not available():
        raise BackendError(
            "products in tfloat32 on tensors of PyTorch need Triton (pip install 'cola-gpu[triton]')"
        )
    import torch
    import triton

    (m, n), k = A.shape, X.shape[-1]
    Y = torch.empty((m, k), dtype=torch.float32, device=A.device)
    if 0 in (m, k):
        return Y
    grid = (triton.cdiv(m, ROWS), triton.cdiv(k, COLUMNS))
    _kernel()[grid](A, X, Y, m, n, k, *A.stride(), *X.stride(), *Y.stride(), ROWS, COLUMNS, INNER)
    return Y


@cache
def _kernel() -> Any:
    from . import tf32_kernel

    return tf32_kernel.product

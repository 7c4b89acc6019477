"""The kernel of `tf32`; imports Triton."""

import triton
import triton.language as tl

__all__ = ["product"]


@triton.jit
def product(
    A,
    X,
    Y,
    m,
    n,
    k,
    a_row,
    a_column,
    x_row,
    x_column,
    y_row,
    y_column,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    """One block of `Y = A X`: A (m, n), X (n, k), with their strides."""
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, n, INNER):
        inner = (start + tl.arange(0, INNER)).to(tl.int64)
        a = tl.load(
            A + i[:, None] * a_row + inner[None, :] * a_column,
            mask=(i[:, None] < m) & (inner[None, :] < n),
            other=0.0,
        )
        x = tl.load(
            X + inner[:, None] * x_row + j[None, :] * x_column,
            mask=(inner[:, None] < n) & (j[None, :] < k),
            other=0.0,
        )
        total = tl.dot(a, x, total, input_precision="tf32")
    tl.store(
        Y + i[:, None] * y_row + j[None, :] * y_column,
        total,
        mask=(i[:, None] < m) & (j[None, :] < k),
    )

"""Cyclic Jacobi rotations of one small real matrix in one Triton program: one launch instead of thousands.

The rotations and rounds of ``jacobi``; a program of one block owns the matrix, whose rounds are separated by
barriers. Imported only where Triton is there; under ``TRITON_INTERPRET=1`` the same code runs on the CPU.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

__all__ = ["rotated"]


@triton.jit
def _sweeps(A, V, pairs, p, h, sweeps, H: tl.constexpr, P: tl.constexpr):
    """A (p, p) made diagonal and V (p, p) multiplied by the rotations, both in place; pairs (p - 1, 2, h)."""
    lane = tl.arange(0, H)
    across = tl.arange(0, P)
    real = lane < h
    whole = real[:, None] & (across[None, :] < p)
    for _ in range(sweeps):
        for r in range(p - 1):
            i = tl.load(pairs + (2 * r) * h + lane, mask=real, other=0)
            j = tl.load(pairs + (2 * r + 1) * h + lane, mask=real, other=0)
            a = tl.load(A + i * p + i, mask=real, other=0.0)
            b = tl.load(A + j * p + j, mask=real, other=0.0)
            z = tl.load(A + i * p + j, mask=real, other=0.0)
            # beside the diagonal entries it is nothing: a rotation would change no digit of them
            some = tl.abs(z) > 1e-30 * (tl.abs(a) + tl.abs(b))
            theta = (b - a) / tl.where(some, 2.0 * z, 1.0)
            t = 1.0 / (tl.abs(theta) + tl.sqrt(theta * theta + 1.0))
            t = tl.where(some, tl.where(theta >= 0.0, t, -t), 0.0)
            c = 1.0 / tl.sqrt(t * t + 1.0)
            s = (t * c)[:, None]
            c = c[:, None]
            over = i[:, None] * p + across[None, :]
            under = j[:, None] * p + across[None, :]
            x = tl.load(A + over, mask=whole, other=0.0)
            y = tl.load(A + under, mask=whole, other=0.0)
            tl.debug_barrier()
            tl.store(A + over, c * x - s * y, mask=whole)
            tl.store(A + under, s * x + c * y, mask=whole)
            tl.debug_barrier()
            left = across[None, :] * p + i[:, None]
            right = across[None, :] * p + j[:, None]
            x = tl.load(A + left, mask=whole, other=0.0)
            y = tl.load(A + right, mask=whole, other=0.0)
            v = tl.load(V + left, mask=whole, other=0.0)
            w = tl.load(V + right, mask=whole, other=0.0)
            tl.debug_barrier()
            tl.store(A + left, c * x - s * y, mask=whole)
            tl.store(A + right, s * x + c * y, mask=whole)
            tl.store(V + left, c * v - s * w, mask=whole)
            tl.store(V + right, s * v + c * w, mask=whole)
            tl.debug_barrier()


def rotated(A: Any, pairs: Any, sweeps: int) -> tuple[Any, Any]:
    """``V^T A V``, diagonal to rounding, and V, for a real (p, p) tensor with even p; pairs (p - 1, 2, p / 2)
    of 32-bit integers on the same device."""
    import torch

    p = A.shape[-1]
    D = A.contiguous().clone()
    V = torch.eye(p, dtype=A.dtype, device=A.device)
    H = triton.next_power_of_2(p // 2)
    # one stage: nothing may be loaded ahead of the stores of the round before
    _sweeps[(1,)](D, V, pairs, p, p // 2, sweeps, H=H, P=triton.next_power_of_2(p), num_warps=4, num_stages=1)
    return D, V

"""Launching the Triton kernels: what they are given, and their block sizes.

Everything is computed in float32; float16 and bfloat16 points are converted once, and vectors of these types
are multiplied as they are, with float32 sums. Block sizes are measured on the first product of a kind
(``triton.autotune``) on a device, and small and fixed in the interpreter. Nothing waits for the device.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from cola_core.backends import get_backend

from .paths import interpreting
from .scaled import back, scaled
from .triton_kernels import gradient_kernel, product_kernel

__all__ = ["gradients", "product"]

MOST_COLUMNS = 64  # of V in one program
MOST_NUMBERS = 2**31 - 2**16  # that 32 bits count
# rows, columns and warps of a program, to be tried; larger blocks of gradients spill, and compile for minutes
SIZES = {
    "product": ((32, 64, 4), (64, 64, 4), (128, 32, 4), (128, 64, 8), (64, 128, 8)),
    "gradient": ((32, 32, 4), (32, 64, 4), (64, 32, 4), (64, 64, 8)),
}
SMALL = {"BM": 32, "BN": 32}  # in the interpreter: several blocks, where the tests are small


def product(fn: Any, x1: torch.Tensor, x2: torch.Tensor, V: torch.Tensor, params: Any) -> torch.Tensor:
    """``K V``."""
    be: Any = get_backend("torch")
    with torch.no_grad(), _device(x1):
        points = scaled(be, fn, x1, x2, params, "float32")
        at, bt, alpha = _transposed(points)
        (n, d), m, columns = x1.shape, x2.shape[0], V.shape[1]
        if not n or not m or not columns:
            return V.new_zeros((n, columns))
        found = []
        most = max(MOST_NUMBERS // max(n, m), 1)
        for first in range(0, columns, most):
            W = V[:, first : first + most].contiguous()
            r = W.shape[1]
            out = torch.empty((n, r), dtype=torch.float32, device=V.device)
            wide = _columns(r)
            # (the interpreter multiplies the bits of bfloat16 as if they were whole numbers, seen in 3.9)
            half = W.dtype == torch.float16 or (W.dtype == torch.bfloat16 and not interpreting())
            settings = dict(
                D=d, CODE=fn.profile.code, BR=wide, PRECISION=fn.precision, HALF=half and wide > 1
            )
            arguments = (at, bt, W, out, alpha, n, m, r)
            _launch(
                "product", arguments, settings, lambda size, r=r, wide=wide: (-(-n // size), -(-r // wide))
            )
            found.append(out)
        out = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        if points.given.outputscale is not None:
            out *= points.given.outputscale
        return out.to(V.dtype)


def gradients(
    fn: Any, x1: torch.Tensor, x2: torch.Tensor, V: torch.Tensor, G: torch.Tensor, params: Any
) -> Any:
    """Gradients of ``sum(G * (K V))`` in x1, x2 and params."""
    be: Any = get_backend("torch")
    if max(x1.shape[0], x2.shape[0]) * V.shape[1] > MOST_NUMBERS:
        from . import inplace

        return inplace.gradients(fn, x1, x2, V, G, params)
    with torch.no_grad(), _device(x1):
        points = scaled(be, fn, x1, x2, params, "float32")
        at, bt, alpha = _transposed(points)
        G, V = G.contiguous(), V.contiguous()
        abar, totals, slopes = _one_side(fn, at, bt, G, V, alpha)
        bbar, _, _ = _one_side(fn, bt, at, V, G, alpha)
        values, alphas = totals.double().sum(), slopes.double().sum()
        return back(be, points, abar, bbar, values, alphas, x1, x2, params)


def _one_side(fn: Any, at: Any, bt: Any, G: Any, V: Any, alpha: Any) -> Any:
    """The gradient in the points at (D, n), and the sums of its rows."""
    (d, n), m, r = at.shape, bt.shape[1], V.shape[1]
    abar = torch.zeros((n, d), dtype=torch.float32, device=at.device)
    totals, slopes = (torch.zeros(n, dtype=torch.float32, device=at.device) for _ in range(2))
    if n and m and r:
        power = 1 << max(d - 1, 0).bit_length()
        settings = dict(D=d, DP=power, CODE=fn.profile.code, BR=_columns(r))
        arguments = (at, bt, G, V, abar, totals, slopes, alpha, n, m, r)
        _launch("gradient", arguments, settings, lambda size: (-(-n // size),))
    return abar, totals, slopes


def _transposed(points: Any) -> tuple[Any, Any, Any]:
    at = points.a.T.contiguous()
    bt = at if points.a is points.b else points.b.T.contiguous()
    alpha = points.given.alpha
    alpha = torch.ones((), device=at.device) if alpha is None else alpha.contiguous()
    return at, bt, alpha


def _columns(r: int) -> int:
    """Columns of V in one block: one, or what a product of blocks takes."""
    return 1 if r == 1 else min(max(1 << (r - 1).bit_length(), 16), MOST_COLUMNS)


def _device(x: torch.Tensor) -> Any:
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def _launch(name: str, arguments: Any, settings: Any, programs: Any) -> None:
    kernel = _kernel(name, interpreting())
    if interpreting():
        kernel[programs(SMALL["BM"])](*arguments, **settings, **SMALL)
    else:
        kernel[lambda meta: programs(meta["BM"])](*arguments, **settings)


@cache
def _kernel(name: str, interpreted: bool) -> Any:
    """The kernel, on a device with the block sizes to try."""
    plain = {"product": product_kernel, "gradient": gradient_kernel}[name]
    if interpreted:
        return plain
    import triton

    configs = [triton.Config({"BM": i, "BN": j}, num_warps=w, num_stages=2) for i, j, w in SIZES[name]]
    # the sizes of the problem belong to it roughly only: one measurement for all long ones
    return triton.autotune(configs=configs, key=["D", "CODE", "BR"])(plain)

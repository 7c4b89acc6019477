"""The factorisations as PyTorch functions: forward, reverse and second derivatives, `torch.func.vmap`.

Each is an `autograd.Function` with `setup_context`, whose backward and jvp are the formulas of `formulas.py`
written in torch operations, so that they can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd import forward_ad

from cola_core.backends import get_backend

from . import formulas

__all__ = ["gelqf", "potrf", "syevd"]

_bk = get_backend("torch")


def _nested(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """A ``jvp`` within which forward mode stays on: torch switches it off there, and the tangents of a
    ``torch.func.jvp`` around would be lost without a word."""

    @wraps(jvp)
    def enabled(*args: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(*args)

    return enabled


def _primals(tensors: Any) -> list[torch.Tensor]:
    """Saved tensors without the tangents of the mode that is at work."""
    return [_primal(t) for t in tensors]


def _primal(t: torch.Tensor) -> torch.Tensor:
    functorch = torch._C._functorch
    if functorch.is_batchedtensor(t):  # unpacking has no batching rule
        inner = _primal(functorch.get_unwrapped(t))
        return functorch._add_batch_dim(inner, functorch.maybe_get_bdim(t), functorch.maybe_get_level(t))
    return forward_ad.unpack_dual(t).primal


class _Gelqf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        Qt, R = torch.linalg.qr(A.mT)
        L = R.mT
        sign = torch.where(L.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(A.dtype)
        return (sign.unsqueeze(-1) * Qt.mT).contiguous(), torch.tril(L * sign.unsqueeze(-2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, Qbar: torch.Tensor, Lbar: torch.Tensor) -> torch.Tensor:
        Q, L = ctx.saved_tensors
        return formulas.gelqf_pullback(_bk, Q, L, Qbar, Lbar)

    @staticmethod
    @_nested
    def jvp(ctx: Any, dA: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        Q, L = _primals(ctx.saved_tensors)
        return formulas.gelqf_pushforward(_bk, Q, L, dA)


class _Potrf(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(A: torch.Tensor) -> torch.Tensor:
        L, info = torch.linalg.cholesky_ex(A)
        # as in JAX: a failed factorisation is NaN, not half a factor
        return torch.where((info == 0)[..., None, None], L, torch.full_like(L, float("nan")))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, Lbar: torch.Tensor) -> torch.Tensor:
        (L,) = ctx.saved_tensors
        return formulas.potrf_pullback(_bk, L, Lbar)

    @staticmethod
    @_nested
    def jvp(ctx: Any, dA: torch.Tensor) -> torch.Tensor:
        (L,) = _primals(ctx.saved_tensors)
        return formulas.potrf_pushforward(_bk, L, dA)


class _Syevd(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(A: torch.Tensor, gap_tol: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        lam, V = torch.linalg.eigh(A, UPLO="L")
        if A.shape[-1] == 0:
            return V.clone(), lam
        U = V.mT
        sign = torch.where(U.amax(dim=-1) >= -U.amin(dim=-1), 1.0, -1.0).to(A.dtype)
        return (sign.unsqueeze(-1) * U).contiguous(), lam

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.gap_tol = inputs[1]
        ctx.save_for_backward(*output)
        ctx.save_for_forward(*output)

    @staticmethod
    def backward(ctx: Any, Ubar: torch.Tensor, lambar: torch.Tensor) -> tuple[torch.Tensor, None]:
        U, lam = ctx.saved_tensors
        return formulas.syevd_pullback(_bk, U, lam, Ubar, lambar, ctx.gap_tol), None

    @staticmethod
    @_nested
    def jvp(ctx: Any, dA: torch.Tensor, _: None) -> tuple[torch.Tensor, torch.Tensor]:
        U, lam = _primals(ctx.saved_tensors)
        return formulas.syevd_pushforward(_bk, U, lam, dA, ctx.gap_tol)


def gelqf(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`A = L Q`, the diagonal of L non-negative."""
    return _Gelqf.apply(A)


def potrf(A: torch.Tensor) -> torch.Tensor:
    """Lower Cholesky factor; NaN where a matrix of the batch is not positive definite."""
    return _Potrf.apply(A)


def syevd(A: torch.Tensor, gap_tol: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvectors as rows with their largest entry positive, and ascending eigenvalues."""
    return _Syevd.apply(A, gap_tol)

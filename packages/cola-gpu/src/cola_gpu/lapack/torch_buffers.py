"""LQ in PyTorch within the buffers at hand: Q where A was, the cotangent of A where that of Q was.

`torch.geqrf` and `torch.linalg.householder_product` copy their input into `out` before they work there; with
`out` the input itself there is nothing to copy. They want columns, which the transpose of a row-major matrix
has, on CPU (LAPACK) and CUDA (cuSOLVER) alike. So the forward needs L, m x m, and LAPACK's workspace, which
is a block of rows; the adjoint needs one m x m matrix (and for a moment its lower half again, in blocks).

The incoming cotangent is overwritten only where nobody else can see it: autograd hands the same tensor to
several consumers (both sides of a sum), to hooks and to whoever called `backward(gradient)`. `exclusive`
looks at the reference counts of tensor, object and storage, compared with those of a cotangent known to be
unshared; on a PyTorch that does not show them, cotangents are copied.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import torch

from cola_core.backends import get_backend

from . import formulas

__all__ = [
    "exclusive",
    "factor_in_place",
    "gelqf_overwriting",
    "pullback",
    "pullback_overwriting",
    "unsuitable",
]

BLOCK = 128  # rows that are mirrored at a time
PIECE = 1024  # columns of a product that are added at a time


def factor_in_place(A: torch.Tensor) -> torch.Tensor:
    """L of `A = L Q` with the diagonal not negative; Q replaces A, which is contiguous and not recorded."""
    m = A.shape[-2]
    At = A.mT
    tau = torch.empty(A.shape[:-1], dtype=A.dtype, device=A.device)
    torch.geqrf(At, out=(At, tau))
    L = A[..., :m].tril()
    torch.linalg.householder_product(At, tau, out=At)
    sign = torch.where(L.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(A.dtype)
    A.mul_(sign.unsqueeze(-1))
    L.mul_(sign.unsqueeze(-2))
    return L


def pullback(
    Q: torch.Tensor,
    L: torch.Tensor,
    Qbar: torch.Tensor | None,
    Lbar: torch.Tensor | None,
    overwrite: bool = False,
) -> torch.Tensor:
    """`L^{-T} (Qbar + copyltu(M) Q)`, `M = L^T Lbar - Qbar Q^T`, not recorded; with `overwrite` in Qbar."""
    if not Q.numel():
        return torch.zeros_like(Q) if Qbar is None else Qbar
    if Lbar is None:
        assert Qbar is not None
        M = torch.matmul(Qbar, Q.mT).neg_()
    else:
        M = torch.matmul(L.mT, Lbar.tril())  # what stands above is not even to be multiplied by zero
        if Qbar is not None:
            _add_product(M, Qbar, Q.mT, -1.0)
    _mirror(M)
    if Qbar is None:
        G = torch.matmul(M, Q)
    elif overwrite:
        G = _add_product(Qbar, M, Q, 1.0)
    elif Q.dim() == 2:
        G = torch.addmm(Qbar, M, Q)
    else:
        G = torch.matmul(M, Q).add_(Qbar)
    del M
    if not G.is_contiguous():
        G = G.contiguous()
    Gt = G.mT
    torch.linalg.solve_triangular(L, Gt, upper=False, left=False, out=Gt)
    return G


def pullback_overwriting(
    Q: torch.Tensor, L: torch.Tensor, Qbar: torch.Tensor, Lbar: torch.Tensor
) -> torch.Tensor:
    """`pullback` in the memory of Qbar."""
    with torch.no_grad():
        # BLAS reads them while it writes
        place = Qbar.untyped_storage().data_ptr()
        Q, L = (X.clone() if X.untyped_storage().data_ptr() == place else X for X in (Q, L))
        return pullback(Q, L, Qbar, Lbar, overwrite=True)


def _add_product(C: torch.Tensor, A: torch.Tensor, B: torch.Tensor, alpha: float) -> torch.Tensor:
    """`C += alpha A B` in place, C contiguous. On CPUs in pieces: the copies of B that BLAS packs for itself
    are as large as the piece."""
    n = C.shape[-1]
    step = PIECE if C.device.type == "cpu" else max(n, 1)
    if C.dim() > 2:
        A, B = A.reshape(-1, *A.shape[-2:]), B.reshape(-1, *B.shape[-2:])
    flat = C.view(-1, *C.shape[-2:]) if C.dim() > 2 else C
    for j in range(0, n, step):
        part = flat[..., j : j + step]
        (part.baddbmm_ if C.dim() > 2 else part.addmm_)(A, B[..., j : j + step], alpha=alpha)
    return C


def _mirror(M: torch.Tensor) -> None:
    """The lower triangle copied into the upper one."""
    m = M.shape[-1]
    for i in range(0, m, BLOCK):
        j = min(i + BLOCK, m)
        D = M[..., i:j, i:j]
        D.copy_(D.tril() + D.tril(-1).mT)
        M[..., i:j, j:].copy_(M[..., j:, i:j].mT)


# --- the recorded form ----------------------------------------


class _Overwriting(torch.autograd.Function):
    """Reverse mode, of any order (beyond the first without overwriting)."""

    @staticmethod
    def forward(ctx: Any, A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        L = factor_in_place(A)
        ctx.mark_dirty(A)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(A, L)
        return A, L

    @staticmethod
    def backward(ctx: Any, Qbar: torch.Tensor | None, Lbar: torch.Tensor | None) -> torch.Tensor | None:
        Q, L = ctx.saved_tensors
        if Qbar is None and Lbar is None:
            return None
        if torch.is_grad_enabled():
            Qbar = torch.zeros_like(Q) if Qbar is None else Qbar
            Lbar = torch.zeros_like(L) if Lbar is None else Lbar
            return formulas.gelqf_pullback(get_backend("torch"), Q, L, Qbar, Lbar)
        references = sys.getrefcount(Qbar)  # a statement of its own: arguments on their way are counted too
        alone = Qbar is not None and exclusive(Qbar, references)
        return pullback(Q, L, Qbar, Lbar, overwrite=alone)


def gelqf_overwriting(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`Q, L` with Q in the storage of A."""
    if A.requires_grad and torch.is_grad_enabled():
        _unshared()  # before there is a backward pass under way
        return _Overwriting.apply(A)
    return A, factor_in_place(A)


def unsuitable(A: torch.Tensor) -> str | None:
    """Why A cannot be overwritten, and what to do instead."""
    bk = get_backend("torch")
    if not bk.is_concrete(A):
        return "it is traced or mapped (torch.func, torch.compile). Use overwrite=False there"
    if not A.is_contiguous():
        return f"it is not row-major (strides {tuple(A.stride())}). Pass A.contiguous(), or overwrite=False"
    if torch.autograd.forward_ad.unpack_dual(A).tangent is not None:
        return "it carries a tangent: overwriting has reverse mode only. Use overwrite=False"
    if A.requires_grad and torch.is_grad_enabled():
        if A.is_leaf:
            return (
                "it is a leaf that requires grad, whose values PyTorch must keep. Pass A.clone(), compute it "
                "from other leaves, or use torch.no_grad()"
            )
        if A._is_view():
            return "it is a view that requires grad, whose base PyTorch keeps in step. Pass A.clone()"
    elif A.is_inference() and not torch.is_inference_mode_enabled():
        return "it was made under torch.inference_mode. Pass A.clone()"
    return None


# --- who sees a cotangent ----------------------------------------


def exclusive(g: torch.Tensor, references: int) -> bool:
    """Whether a cotangent that came in is seen by nobody else; references: of the object in `backward`."""
    if g._is_view() or not g.is_contiguous() or type(g) is not torch.Tensor:
        return False
    alone = _unshared()
    return alone is not None and (references, *_counts(g)) == alone


def _counts(g: torch.Tensor) -> tuple[int, int]:
    return g._use_count(), torch._C._storage_Use_Count(g.untyped_storage()._cdata)


@cache
def _unshared() -> tuple[int, int, int] | None:
    """The counts of a cotangent that only its receiver holds; None if they do not tell one that is shared."""
    if not hasattr(torch.Tensor, "_use_count") or not hasattr(torch._C, "_storage_Use_Count"):
        return None
    seen: list[tuple[int, int, int]] = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return A * 1, A[..., :1] * 1

        @staticmethod
        def backward(ctx: Any, Qbar: Any, Lbar: Any) -> torch.Tensor:
            references = sys.getrefcount(Qbar)
            seen.append((references, *_counts(Qbar)))
            return Qbar * 1

    with torch.enable_grad():
        x, w = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2)
        Q, L = Probe.apply(x * 1)
        torch.autograd.grad((Q * w).sum() + L.sum(), x)
        Q, L = Probe.apply(x * 1)
        torch.autograd.grad((Q, L), x, (w, w[:, :1]))  # w is the caller's
    return seen[0] if seen[0] != seen[1] else None

"""First-order derivatives of converged eigenvalues in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..pytree import map_leaves, tree_leaves

__all__ = ["eigenvalues_of"]


def _merged(ctx: Any, tensors: list[torch.Tensor]) -> Any:
    supply = iter(tensors)
    leaves = iter(
        [next(supply) if is_tensor else n for is_tensor, n in zip(ctx.tensors, ctx.numbers, strict=True)]
    )
    return map_leaves(lambda _: next(leaves), ctx.A)


def eigenvalues_of(A: Any, w: torch.Tensor, X: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Converged eigenpairs with ``dw_i = x_i^H dA x_i`` (Hellmann-Feynman; simple eigenvalues). First order
    only: a derivative of the vectors, or a second one of the values, is an error rather than a silent
    zero."""
    return _Eigenvalues.apply(A, w, X, *tree_leaves(A))


class _Eigenvalues(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, A: Any, w: torch.Tensor, X: torch.Tensor, *leaves: Any) -> Any:
        ctx.A = A
        ctx.tensors = [isinstance(x, torch.Tensor) for x in leaves]
        ctx.numbers = [None if isinstance(x, torch.Tensor) else x for x in leaves]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(X, *(x for x in leaves if isinstance(x, torch.Tensor)))
        return w.clone(), X.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gw: Any, gX: Any) -> Any:
        if gX is not None:
            raise NotImplementedError(
                "eigenvectors found by Lanczos have no derivative here; use alg=Eigh(), or "
                "differentiate eigenvalues only"
            )
        X, *tensors = ctx.saved_tensors
        aliases = [t.detach().requires_grad_(t.requires_grad) for t in tensors]
        wanted = [t for t in aliases if t.requires_grad]
        found: Any = ()
        if gw is not None and wanted:
            with torch.enable_grad():
                y = (X.conj() * (_merged(ctx, aliases) @ X)).sum(-2)
                y = y.real if y.is_complex() else y
                found = torch.autograd.grad(y, wanted, gw, allow_unused=True)
        supply = iter(found)
        by_tensor = iter([next(supply, None) if t.requires_grad else None for t in aliases])
        return (None, None, None, *(next(by_tensor) if is_tensor else None for is_tensor in ctx.tensors))

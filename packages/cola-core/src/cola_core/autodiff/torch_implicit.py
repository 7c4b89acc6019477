"""Implicit derivative of a linear solve in PyTorch.

``x = A^{-1} b`` satisfies ``dx = A^{-1} (db - dA x)``. So with the cotangent g of x: ``u = A^{-H} g`` is b's,
and the entries of A receive the pull-back of ``-u`` through ``A(entries) @ x`` at fixed x. The iteration
itself is never recorded: memory does not grow with its length. ``u`` is again such a solve, and the saved x
keeps its place in the graph, so second and higher derivatives are exact too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from ..pytree import map_leaves, tree_leaves

__all__ = ["detached", "eigenvalues_of", "implicit_solve"]


def implicit_solve(
    A: Any,
    solve: Callable[[Any, Any], tuple[Any, Any]],
    b: torch.Tensor,
    solve_adjoint: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> tuple[Any, Any]:
    """``solve(A, b) -> (x, aux)`` with implicit derivatives of x in b and in every tensor of A;
    aux is passed through. ``solve_adjoint(A.H, b)`` serves the backward pass (default: ``solve``)."""
    box: list[Any] = []
    x = _Solve.apply(A, (solve, solve_adjoint or solve), box, b, *tree_leaves(A))
    return x, box[0]


def _rebuilt(A: Any, leaves: Any) -> Any:
    """A with its tensors replaced, in order."""
    supply = iter(leaves)
    return map_leaves(lambda _: next(supply), A)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, A: Any, solvers: tuple[Callable, Callable], box: list[Any], b: torch.Tensor, *leaves: Any
    ) -> torch.Tensor:
        x, aux = solvers[0](_rebuilt(A, [_detached(x) for x in leaves]), b.detach())
        box.append(aux)
        ctx.A, ctx.solvers = A, solvers
        ctx.tensors = [isinstance(x, torch.Tensor) for x in leaves]
        ctx.numbers = [None if isinstance(x, torch.Tensor) else x for x in leaves]
        ctx.save_for_backward(x, *(x for x in leaves if isinstance(x, torch.Tensor)))
        return x

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        again = torch.is_grad_enabled()  # True when a graph of this backward is wanted (create_graph=True)
        with torch.enable_grad():
            # aliases: derivatives at fixed x, although x itself depends on the entries
            aliases = [t.view_as(t) if again else t.detach().requires_grad_(t.requires_grad) for t in tensors]
            x = x if again else x.detach()
            A = _merged(ctx, aliases)
            solve, solve_adjoint = ctx.solvers
            g = grads[0] if again else grads[0].detach()
            u, _ = implicit_solve(A.H, solve_adjoint, g, solve)
            wanted = [t for t, s in zip(aliases, tensors, strict=True) if s.requires_grad]
            found: Any = ()
            if wanted:
                found = torch.autograd.grad(A @ x, wanted, -u, create_graph=again, allow_unused=True)
        supply = iter(found)
        by_tensor = iter([next(supply) if s.requires_grad else None for s in tensors])
        out = [next(by_tensor) if is_tensor else None for is_tensor in ctx.tensors]
        return (None, None, None, u if ctx.needs_input_grad[3] else None, *out)


def _merged(ctx: Any, tensors: list[torch.Tensor]) -> Any:
    supply = iter(tensors)
    return _rebuilt(
        ctx.A,
        [next(supply) if is_tensor else n for is_tensor, n in zip(ctx.tensors, ctx.numbers, strict=True)],
    )


def _detached(x: Any) -> Any:
    return x.detach() if isinstance(x, torch.Tensor) else x


def detached(A: Any) -> Any:
    """A without its derivative graph."""
    return map_leaves(_detached, A)


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

"""Dense decompositions as PyTorch functions: reverse and forward mode, any order, ``torch.func``."""

from __future__ import annotations

from typing import Any

import torch

from ..backends.torch_backend import BACKEND as be
from ..errors import NotDifferentiableError
from .dense_rule import DenseRule

__all__ = ["derive"]


def derive(rule: DenseRule, A: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The outputs of ``rule.compute(A)`` with the rule's derivatives."""
    if torch.compiler.is_compiling():  # compiled code has reverse mode only, and no functions with a jvp
        return _Reverse.apply(rule, A)
    return _Dense.apply(rule, A)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(rule: DenseRule, A: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # no output may be a view (V of V^H): forward mode refuses them
        return tuple(x.resolve_conj().contiguous() for x in rule.compute(be, A))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        rule, A = inputs
        ctx.rule = rule
        ctx.set_materialize_grads(False)
        if rule.constants:
            ctx.mark_non_differentiable(*(output[i] for i in rule.constants))
        kept = (A, *output) if rule.keeps_input else output
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor | None) -> Any:
        A, out = _kept(ctx)
        return None, ctx.rule.pull(_TOOLS, A, out, g)


class _Dense(_Reverse):
    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx: Any, _: None, dA: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        A, out = _kept(ctx)
        found = ctx.rule.push(_TOOLS, A, out, dA)
        return tuple(None if i in ctx.rule.constants else x for i, x in enumerate(found))


def _visible(*xs: torch.Tensor) -> bool:
    # autograd.grad(..., is_grads_batched=True) batches in its own older way
    return be.is_concrete(*xs) and not any(torch._C._functorch.is_legacy_batchedtensor(x) for x in xs)


def _kept(ctx: Any) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
    kept = ctx.saved_tensors
    A, out = (kept[0], kept[1:]) if ctx.rule.keeps_input else (None, kept)
    if _visible(*out):
        ctx.rule.check(be, A, out)
    return A, out


class _Quotient(torch.autograd.Function):
    """``K = E * C`` with the derivative of ``K T - S K = C``; the adjoint is an equation of the same kind."""

    generate_vmap_rule = True

    @staticmethod
    def forward(E: Any, S: Any, T: Any, C: torch.Tensor) -> torch.Tensor:
        return E * C

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        E, S, T, _ = inputs
        ctx.save_for_backward(E, S, T, output)
        ctx.save_for_forward(E, S, T, output)

    @staticmethod
    def backward(ctx: Any, gK: torch.Tensor) -> Any:
        E, S, T, K = ctx.saved_tensors
        gC = _quotient(be.conj(E), _adjoint(S), _adjoint(T), gK)
        gS = gC @ be.adjoint(K) if ctx.needs_input_grad[1] else None
        gT = -be.adjoint(K) @ gC if ctx.needs_input_grad[2] else None
        return None, gS, gT, gC

    @staticmethod
    def jvp(ctx: Any, _: Any, dS: Any, dT: Any, dC: Any) -> torch.Tensor:
        E, S, T, K = ctx.saved_tensors
        right = torch.zeros_like(K) if dC is None else dC
        if dS is not None:
            right = right + dS @ K
        if dT is not None:
            right = right - K @ dT
        return _quotient(E, S, T, right)


def _adjoint(X: torch.Tensor | None) -> torch.Tensor | None:
    return None if X is None else be.adjoint(X)


def _quotient(E: Any, S: Any, T: Any, C: torch.Tensor) -> torch.Tensor:
    return _Quotient.apply(E, S, T, C)


class _Tools:
    be = be

    def quotient(self, E: Any, S: Any, T: Any, C: torch.Tensor) -> torch.Tensor:
        again = self.differentiated_again(C, *(x for x in (S, T) if x is not None))
        return _quotient(E, S, T, C) if again else E * C

    def watch(self, X: torch.Tensor, bad: Any) -> torch.Tensor:
        return X  # reverse mode is ``pull``, which sees the cotangents itself

    def differentiated_again(self, *xs: torch.Tensor) -> bool:
        return not torch.compiler.is_compiling() and be.differentiating(*xs)

    def refuse(self, G: torch.Tensor, bad: torch.Tensor, message: str) -> torch.Tensor:
        if _visible(G, bad):
            if bool(bad.any()):
                raise NotDifferentiableError(message)
            return G
        nan = torch.where(bad, float("nan"), 0.0).to(be.real_dtype(G.dtype))
        return G + nan[..., None, None]


_TOOLS = _Tools()

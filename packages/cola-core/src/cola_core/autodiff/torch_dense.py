"""Dense decompositions as PyTorch functions: reverse and forward mode, any order, ``torch.func``."""

from __future__ import annotations

from typing import Any

import torch

from ..backends.torch_backend import BACKEND as be
from ..errors import NotDifferentiableError
from .dense_rule import DenseRule, mended
from .torch_loops import being_traced
from .torch_tree import nested_forward, primals

__all__ = ["derive"]


def derive(rule: DenseRule, A: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The outputs of ``rule.compute(A)`` with the rule's derivatives."""
    if being_traced():  # compiled code has reverse mode only, and no functions with a jvp
        return _Reverse.apply(rule, A)
    return _Dense.apply(rule, A)


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(rule: DenseRule, A: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # no output may be a view (V of V^H): forward mode refuses them
        out = rule.compute(be, A)
        if being_traced():
            return tuple(x.resolve_conj().contiguous() for x in out)
        return tuple(x.resolve_conj().contiguous() if x._is_view() else x for x in out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        rule, A = inputs
        ctx.rule = rule
        ctx.noted = [0.0]
        ctx.set_materialize_grads(False)
        if rule.constants:
            ctx.mark_non_differentiable(*(output[i] for i in rule.constants))
        kept = (A, *output) if rule.keeps_input else output
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    def backward(ctx: Any, *g: torch.Tensor | None) -> Any:
        A, out = _kept(ctx)
        spoilt = mended(be, ctx.rule, A, out)
        G = ctx.rule.pull(_Tools(ctx.noted[0]), A, out, g)
        if G is not None and spoilt is not None:
            G = G * spoilt[..., None, None]
        if G is not None and G.requires_grad and torch.is_grad_enabled() and be.is_concrete(G, *out):
            _note(ctx.noted, G, g)
        return None, G


class _Dense(_Reverse):
    generate_vmap_rule = True

    @staticmethod
    @nested_forward
    def jvp(ctx: Any, _: None, dA: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        A, out = _placed(ctx)
        spoilt = mended(be, ctx.rule, A, out)
        if spoilt is not None:
            dA = dA * spoilt[..., None, None]
        found = ctx.rule.push(_Tools(), A, out, dA)
        return tuple(None if i in ctx.rule.constants else x for i, x in enumerate(found))


def _note(noted: list[float], G: torch.Tensor, g: tuple[torch.Tensor | None, ...]) -> None:
    """Remember the size of what a second derivative will be made of: where it all cancels, as for the sum of
    the eigenvalues, the cotangents that come back are rounding errors of it."""
    parts = [x.detach().abs().max() for x in (G, *g) if x is not None and x.numel()]
    size = max(float(x) for x in parts)

    def note(R: torch.Tensor | None) -> None:
        if R is not None and be.is_concrete(R):
            noted[0] = max(noted[0], size * float(R.detach().abs().max()))

    G.register_hook(note)


def _kept(ctx: Any) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
    kept = ctx.saved_tensors
    A, out = (kept[0], kept[1:]) if ctx.rule.keeps_input else (None, kept)
    return A, out


def _placed(ctx: Any) -> tuple[torch.Tensor | None, tuple[torch.Tensor, ...]]:
    """The same in forward mode."""
    kept = primals(ctx.saved_tensors)
    return (kept[0], tuple(kept[1:])) if ctx.rule.keeps_input else (None, tuple(kept))


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
    @nested_forward
    def jvp(ctx: Any, _: Any, dS: Any, dT: Any, dC: Any) -> torch.Tensor:
        E, S, T, K = (None if x is None else primals([x])[0] for x in ctx.saved_tensors)
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
    """noted: the size of the numbers that cotangents were computed from, if known."""

    be = be

    def __init__(self, noted: float = 0.0) -> None:
        self.noted = noted

    def quotient(self, E: Any, S: Any, T: Any, C: torch.Tensor) -> torch.Tensor:
        again = self.differentiated_again(C, *(x for x in (S, T) if x is not None))
        return _quotient(E, S, T, C) if again else E * C

    def divided_by_gaps(self, w: torch.Tensor, X: torch.Tensor, gw: torch.Tensor | None) -> Any:
        if self.differentiated_again(X, w) or not be.is_concrete(X, w):
            return None
        gaps = 2 * w
        gaps = gaps[..., None, :] - gaps[..., :, None]
        gaps.diagonal(dim1=-2, dim2=-1).fill_(float("inf"))
        X = X.div_(gaps)
        inner = X + X.mT
        if gw is not None:
            inner.diagonal(dim1=-2, dim2=-1).add_(gw)
        return inner

    def watch(self, X: torch.Tensor, bad: Any) -> torch.Tensor:
        return X  # reverse mode is ``pull``, which sees the cotangents itself

    def differentiated_again(self, *xs: torch.Tensor) -> bool:
        return not being_traced() and be.differentiating(*xs)

    def refuse(self, G: torch.Tensor, bad: torch.Tensor, message: str) -> torch.Tensor:
        if be.is_concrete(G, bad):
            if bool(bad.any()):
                raise NotDifferentiableError(message)
            return G
        nan = torch.where(bad, float("nan"), 0.0).to(be.real_dtype(G.dtype))
        return G + nan[..., None, None]

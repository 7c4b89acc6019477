"""Products with derivatives that are wrong in exactly one way, in PyTorch and in JAX."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

__all__ = ["products", "stopped"]


def stopped(backend: str, x: Any) -> Any:
    """x without a derivative."""
    if backend == "torch":
        return x.detach()
    import jax

    return jax.lax.stop_gradient(x)


def products(A: Any) -> SimpleNamespace:
    """``M @ X`` for the arrays of A's library: without the conjugate in the gradient, with a forward
    derivative that is twice too large, with a second derivative that is zero."""
    return _torch() if A._concrete_backend().name == "torch" else _jax()


@cache
def _torch() -> SimpleNamespace:
    import torch

    def made(conjugate: bool = True, forward: float = 1.0, second: bool = True) -> Any:
        class Wrong(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(M: Any, X: Any) -> Any:
                return M @ X

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                ctx.save_for_backward(*inputs)
                ctx.save_for_forward(*inputs)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                M, X = ctx.saved_tensors if second else (x.detach() for x in ctx.saved_tensors)
                if not conjugate:
                    return grads[0] @ X.mT, M.mT @ grads[0]
                return grads[0] @ X.mH, M.mH @ grads[0]

            @staticmethod
            def jvp(ctx: Any, *tangents: Any) -> Any:
                M, X = ctx.saved_tensors
                dM, dX = (0 if t is None else t for t in tangents)
                left = 0 * (M @ X) if isinstance(dM, int) else dM @ X
                return forward_factor * (left if isinstance(dX, int) else left + M @ dX)

        forward_factor = forward
        return Wrong.apply

    return SimpleNamespace(
        no_conjugate=made(conjugate=False), wrong_forward=made(forward=2.0), zero_second=made(second=False)
    )


@cache
def _jax() -> SimpleNamespace:
    import jax
    import jax.numpy as jnp

    def reverse(conjugate: bool, second: bool) -> Any:
        @jax.custom_vjp
        def product(M: Any, X: Any) -> Any:
            return M @ X

        def backward(saved: Any, g: Any) -> Any:
            M, X = saved if second else jax.lax.stop_gradient(saved)
            if not conjugate:  # JAX's own cotangents are not conjugated
                M, X = jnp.conj(M), jnp.conj(X)
            return g @ X.mT, M.mT @ g

        product.defvjp(lambda M, X: (M @ X, (M, X)), backward)
        return product

    @jax.custom_jvp
    def forward(M: Any, X: Any) -> Any:
        return M @ X

    @forward.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (M, X), (dM, dX) = primals, tangents
        return M @ X, 2 * (dM @ X + M @ dX)

    return SimpleNamespace(
        no_conjugate=reverse(False, True), wrong_forward=forward, zero_second=reverse(True, False)
    )

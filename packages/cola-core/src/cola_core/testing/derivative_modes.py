"""How PyTorch and JAX are asked for derivatives of a real ``loss(arrays)``: each mode, in one convention.

Wirtinger: torch's gradient of a real loss in a complex array is ``df/dx + i df/dy``, JAX's is its complex
conjugate. ``pair(gradient, direction)`` is the directional derivative in either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["JaxModes", "Modes", "TorchModes", "modes_of"]

Loss = Callable[[list[Any]], Any]


class Modes(ABC):
    """Reverse, forward and second derivatives of one framework. Arrays are lists of its arrays."""

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f, compiled as a whole where that was asked for."""
        return f

    @abstractmethod
    def pair(self, gradient: Sequence[Any], direction: Sequence[Any]) -> float:
        """The directional derivative that a gradient (NumPy arrays) stands for."""

    @abstractmethod
    def gradient(self, loss: Loss, x: list[Any]) -> list[Any]:
        """Reverse mode."""

    @abstractmethod
    def forward(self, loss: Loss, x: list[Any], d: list[Any]) -> tuple[Any, Any]:
        """(value, directional derivative) in forward mode."""

    @abstractmethod
    def reverse_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        """The gradient of the directional derivative along d, by reverse mode twice."""

    @abstractmethod
    def forward_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        """The derivative of the gradient along d: forward over reverse."""

    @abstractmethod
    def vmapped(self, loss: Loss, stacked: list[Any]) -> tuple[Any, list[Any]]:
        """(values, gradients) of a batch of arguments at once."""


class TorchModes(Modes):
    """``torch.autograd`` in reverse, ``torch.func`` otherwise."""

    def pair(self, gradient: Sequence[Any], direction: Sequence[Any]) -> float:
        return float(sum(np.sum(np.conj(g) * d).real for g, d in zip(gradient, direction, strict=True)))

    def gradient(self, loss: Loss, x: list[Any]) -> list[Any]:
        import torch

        fresh = [a.detach().clone().requires_grad_(True) for a in x]
        return _torch_gradients(torch.autograd, loss(fresh), fresh)

    def forward(self, loss: Loss, x: list[Any], d: list[Any]) -> tuple[Any, Any]:
        import torch

        return torch.func.jvp(loss, (x,), (d,))

    def reverse_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        import torch

        fresh = [a.detach().clone().requires_grad_(True) for a in x]
        first = _torch_gradients(torch.autograd, loss(fresh), fresh, create_graph=True)
        along = sum((g.conj() * e).sum().real for g, e in zip(first, d, strict=True))
        return _torch_gradients(torch.autograd, along, fresh)

    def forward_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        import torch

        return torch.func.jvp(torch.func.grad(loss), (x,), (d,))[1]

    def vmapped(self, loss: Loss, stacked: list[Any]) -> tuple[Any, list[Any]]:
        import torch

        gradients, values = torch.func.vmap(torch.func.grad_and_value(loss))(stacked)
        return values, gradients


def _torch_gradients(autograd: Any, y: Any, x: list[Any], create_graph: bool = False) -> list[Any]:
    if not y.requires_grad:  # a constant: right where the derivative is zero
        return [_zeros(a) for a in x]
    found = autograd.grad(y, x, create_graph=create_graph, allow_unused=True)
    return [_zeros(a) if g is None else g for a, g in zip(x, found, strict=True)]


def _zeros(a: Any) -> Any:
    return 0 * a.detach()


class JaxModes(Modes):
    """JAX's transformations; ``jit``: each of them compiled as a whole."""

    def __init__(self, jit: bool = False) -> None:
        import jax

        self.wrap: Callable[[Any], Any] = jax.jit if jit else lambda f: f

    def compiled(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return self.wrap(f)

    def pair(self, gradient: Sequence[Any], direction: Sequence[Any]) -> float:
        return float(sum(np.sum(g * d).real for g, d in zip(gradient, direction, strict=True)))

    def gradient(self, loss: Loss, x: list[Any]) -> list[Any]:
        import jax

        return self.wrap(jax.grad(loss))(x)

    def forward(self, loss: Loss, x: list[Any], d: list[Any]) -> tuple[Any, Any]:
        import jax

        return self.wrap(lambda x, d: jax.jvp(loss, (x,), (d,)))(x, d)

    def reverse_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        import jax

        def along(x: list[Any], d: list[Any]) -> Any:
            return sum((g * e).sum().real for g, e in zip(jax.grad(loss)(x), d, strict=True))

        return self.wrap(jax.grad(along))(x, d)

    def forward_reverse(self, loss: Loss, x: list[Any], d: list[Any]) -> list[Any]:
        import jax

        return self.wrap(lambda x, d: jax.jvp(jax.grad(loss), (x,), (d,))[1])(x, d)

    def vmapped(self, loss: Loss, stacked: list[Any]) -> tuple[Any, list[Any]]:
        import jax

        return self.wrap(jax.vmap(jax.value_and_grad(loss)))(stacked)


def modes_of(backend: str, jit: bool = False) -> Modes:
    """The modes of a framework by its name."""
    if backend == "jax":
        return JaxModes(jit)
    if backend == "torch":
        return TorchModes()
    raise ValueError(f"{backend} has no derivatives: torch and jax have")

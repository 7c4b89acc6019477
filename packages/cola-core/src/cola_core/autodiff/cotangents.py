"""Looking at cotangents: what a derivative is asked for says whether it exists.

Vectors of a multiple eigenvalue, and phases of complex vectors, are chosen by chance. Only the cotangent of a
loss tells whether it depends on them, and in JAX and PyTorch alike it appears when a tangent is transposed.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends.base import Array, Backend

__all__ = ["inspected", "whole"]


def inspected(be: Backend, x: Array, look: Callable[..., Array], *others: Array) -> Array:
    """x itself. In reverse mode ``look(g, *others)`` takes the place of its cotangent g, in the convention
    that the directional derivative is ``Re <g, dx>``: it hands back g, or says that there is no derivative.
    others: constant arrays, all that ``look`` may refer to."""
    if be.name == "torch":
        from .torch_cotangents import inspected as rule

        return rule(x, look, others)  # type: ignore[no-any-return]
    if be.name == "jax":
        from .jax_cotangents import inspected as rule

        return rule(x, look, others)  # type: ignore[no-any-return]
    return x


def whole(be: Backend) -> bool:
    """Whether cotangents of an answer given now will be those of the whole loss, so that what they say of it
    holds."""
    if be.name != "torch":
        return True
    from .torch_cotangents import whole as found

    return found()

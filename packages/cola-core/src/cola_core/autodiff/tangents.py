"""How the derivative of an answer is stated: once, as a linear map of the tangents of its inputs.

An answer ``outputs = run(*inputs)`` comes with ``tangent(d, inputs, outputs)``, the directional derivative of
the outputs. It is written with

- ``d[i]``, the tangent of input i where that is an array;
- ``d.product(i, V)``, the product ``(dA) V`` where input i is an operator A, and ``d.adjoint(i, V)``, the
  product ``(dA)^H V``: through A's own arrays, so that no matrix is formed and every leaf gets its part;
- ``d.arrays(i)``, the tangents of the arrays it is made of;
- ``d.moves(i)``, False where input i has no tangent, so that its terms can be left out, and ``d.moving(i)``,
  the same for each of its arrays;

and with anything linear in these: products, sums, ``be.implicit_solve``. The inputs and outputs in it may be
differentiated again, so one formula gives derivatives of every order in both modes: JAX transposes it for
reverse mode, and so does autograd in PyTorch.
"""

from __future__ import annotations

from typing import Protocol

from ..backends.base import Array

__all__ = ["Tangents"]


class Tangents(Protocol):
    """What a derivative's formula is given."""

    def moves(self, i: int) -> bool:
        """Whether input i has a tangent."""
        ...

    def moving(self, i: int) -> list[bool]:
        """Whether each array of input i, in the order of ``tree_leaves`` without Python numbers, has one."""
        ...

    def __getitem__(self, i: int) -> Array:
        """The tangent of an array, zeros where it has none."""
        ...

    def arrays(self, i: int) -> list[Array]:
        """The tangents of all arrays of an operator or tuple, zeros where there are none."""
        ...

    def product(self, i: int, V: Array) -> Array:
        """``(dA) V`` of an operator A (zeros where it has no tangent)."""
        ...

    def adjoint(self, i: int, V: Array) -> Array:
        """``(dA)^H V``."""
        ...

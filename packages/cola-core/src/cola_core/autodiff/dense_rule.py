"""What a dense decomposition states about its derivative, once for all libraries.

A rule computes outputs from a matrix (..., m, n) without being recorded. ``push`` maps a tangent of the
matrix to tangents of the outputs (forward mode; JAX transposes it), ``pull`` cotangents of the outputs to
one of the matrix (reverse mode in PyTorch). Both are array programs in which the outputs keep their place
in the graph, so derivatives of any order follow. ``torch_dense`` and ``jax_dense`` make functions of the
libraries of a rule.

Conventions: cotangents are those of the real inner product ``Re tr(X^H Y)`` (PyTorch's; JAX's are
conjugated, which its own transposition sees to). A cotangent that is None is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..backends.base import Array
from ..errors import NotDifferentiableError

__all__ = ["DenseRule", "Tools", "Values", "hermitian", "mended", "skew"]


class Tools(Protocol):
    """What a rule needs of a library besides its backend. noted: the size of what cotangents were computed
    from, where it is known to be larger than theirs."""

    be: Any
    noted: float

    def quotient(self, E: Array, S: Array | None, T: Array | None, C: Array) -> Array:
        """``E * C``, differentiated as the K with ``K T - S K = C`` (see ``quotients``)."""

    def divided_by_gaps(self, w: Array, X: Array, gw: Array | None) -> Array | None:
        """The self-adjoint part of ``E * X``, ``E_ij = 1 / (w_j - w_i)``, plus ``diag(gw)``; X, real, may
        be overwritten; None where that may be differentiated itself."""

    def watch(self, X: Array, bad: Callable[[Array], Array]) -> Array:
        """X, a part of a tangent. Where the library finds cotangents by transposing the tangents' formulas,
        that of X is shown to ``bad``, and spoilt where the answer (of batch shape) is true."""

    def differentiated_again(self, *xs: Array) -> bool:
        """Whether formulas of these arrays may be differentiated themselves."""

    def refuse(self, G: Array, bad: Array, message: str) -> Array:
        """G; where ``bad`` (batch shape) is true, an error if values can be seen, else NaN."""


class DenseRule(Protocol):
    """One decomposition. name: for messages. keeps_input: whether the formulas need the matrix itself.
    constants: the numbers of outputs that are no functions to be differentiated (row numbers). whole: for
    rules that compute the first ``count`` outputs of another, whose formulas serve."""

    name: str
    keeps_input: bool
    constants: tuple[int, ...]
    whole: DenseRule | None
    count: int

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        """The outputs, by the library's own routine."""

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> tuple[Array, str] | None:
        """Where (batch shape) the outputs have no derivative, and what to say of it."""

    def push(self, tools: Tools, A: Array | None, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        """Tangents of the outputs."""

    def pull(
        self, tools: Tools, A: Array | None, out: tuple[Array, ...], g: tuple[Array | None, ...]
    ) -> Array | None:
        """The matrix's cotangent."""


@dataclass(frozen=True)
class Values:
    """The first output of another rule alone, which a routine of the library finds with less work."""

    whole: Any
    routine: Callable[[Any, Array], Array]
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    count: int = 1

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        return (self.routine(be, A),)


def mended(be: Any, rule: Any, A: Array | None, out: tuple[Array, ...]) -> Array | None:
    """What tangents and cotangents are multiplied by where the rule is broken: an error where values can be
    seen, else NaN there and one elsewhere; None for a rule that never is."""
    found = rule.broken(be, A, out)
    if found is None:
        return None
    bad, message = found
    if be.is_concrete(bad, *out):
        if bool(be.xp.any(bad)):
            raise NotDifferentiableError(message)
        return None
    one = be.astype(bad | ~bad, be.real_dtype(out[-1].dtype))
    return be.xp.where(bad, one * float("nan"), one)


def hermitian(be: Any, X: Array) -> Array:
    """The self-adjoint part."""
    return 0.5 * (X + be.adjoint(X))


def skew(be: Any, X: Array) -> Array:
    """The anti-self-adjoint part."""
    return 0.5 * (X - be.adjoint(X))

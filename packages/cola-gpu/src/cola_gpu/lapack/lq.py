"""`A = L Q` on the three libraries, and its derivative as a rule for `Backend.derived`.

In row-major memory the LQ factorisation of A is LAPACK's QR factorisation of the same buffer, read as A^T by
columns: `geqrf` and `orgqr` run on the transposed view, and Q comes out where A was. The functional form
makes one copy of A and factors that in place, so it needs no second buffer for R.

Source: Seeger et al., arXiv:1710.08717, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cola_core.errors import SingularMatrixError

from . import formulas

__all__ = ["Gelqf", "dependent_rows", "factor", "refuse_dependent"]

Array = Any


@dataclass(frozen=True)
class Gelqf:
    """`gelqf` with its tangents and adjoint. check: refuse rank deficient matrices, with an
    error where values can be looked at (here, under autograd too), else by factors that are NaN."""

    check: bool = True
    name: str = "gelqf"
    keeps_input: bool = False
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 2

    def compute(self, be: Any, A: Array) -> tuple[Array, ...]:
        """`Q, L`, the diagonal of L not negative."""
        Q, L = factor(be, A, self.check)
        if self.check and be.is_concrete(L):
            refuse_dependent(be, Q, L)
        return Q, L

    def broken(self, be: Any, A: Array | None, out: tuple[Array, ...]) -> None:
        """Nowhere: what is rank deficient gives an error, or factors that are NaN."""
        return None

    def push(self, tools: Any, A: Any, out: tuple[Array, ...], dA: Array) -> tuple[Array, ...]:
        """Tangents of Q and L."""
        Q, L = out
        return formulas.gelqf_pushforward(tools.be, Q, L, dA)

    def pull(self, tools: Any, A: Any, out: tuple[Array, ...], g: tuple[Array | None, ...]) -> Array | None:
        """The cotangent of A."""
        be, (Q, L), (Qbar, Lbar) = tools.be, out, g
        if Qbar is None and Lbar is None:
            return None
        given = [x for x in g if x is not None]
        if be.name == "torch" and be.is_concrete(Q, *given) and not tools.differentiated_again(Q, L, *given):
            from .torch_buffers import pullback

            return pullback(Q, L, Qbar, Lbar)
        Qbar = be.xp.zeros_like(Q) if Qbar is None else Qbar
        Lbar = be.xp.zeros_like(L) if Lbar is None else Lbar
        return formulas.gelqf_pullback(be, Q, L, Qbar, Lbar)


def factor(be: Any, A: Array, check: bool = False) -> tuple[Array, Array]:
    """`Q, L` with the diagonal of L not negative; with `check`, NaN where a row depends on others and that
    cannot be seen by the caller."""
    if be.name == "torch" and be.is_concrete(A):
        from .torch_buffers import factor_in_place

        Q = A.detach().clone(memory_format=_contiguous())
        return Q, factor_in_place(Q)
    Qt, R = be.xp.linalg.qr(A.mT)
    L = R.mT
    sign = be.astype(be.xp.where(be.xp.linalg.diagonal(L) < 0, -1.0, 1.0), A.dtype)
    if check and not be.is_concrete(A):
        bad = be.xp.any(dependent_rows(be, be.constant(L), A.shape[-1]), axis=-1)[..., None]
        sign = be.xp.where(bad, be.xp.nan * sign, sign)
    Q = sign[..., :, None] * Qt.mT
    return Q, be.xp.tril(L * sign[..., None, :])


def refuse_dependent(be: Any, Q: Array, L: Array, overwritten: bool = False) -> None:
    """An error if a row of `L Q` depends on those before it."""
    deficient = dependent_rows(be, L, Q.shape[-1])
    if bool(be.xp.any(deficient)):
        row = int(be.xp.argmax(be.astype(deficient, "int32"))) % L.shape[-1]
        raise SingularMatrixError(
            f"gelqf: A of shape {tuple(Q.shape)} ({Q.dtype}) is rank deficient: row {row} depends on the "
            "rows before it, so Q is not unique and has no derivative. Drop dependent rows or append "
            f"s*I as extra columns.{' (A was overwritten.)' if overwritten else ''}"
        )


def dependent_rows(be: Any, L: Array, n: int) -> Array:
    """Rows of A that are combinations of earlier ones up to rounding: `|L_ii|` small against the row's own
    norm.

    The row's norm, not the matrix's, is the yardstick: rows of very different size are harmless in LQ.
    """
    xp = be.xp
    limit = 4.0 * n**0.5 * float(xp.finfo(L.dtype).eps)
    pivots = xp.abs(xp.linalg.diagonal(L))
    return pivots <= limit * xp.linalg.vector_norm(L, axis=-1)


def _contiguous() -> Any:
    import torch

    return torch.contiguous_format

"""LDL factorisation with symmetric pivoting of a self-adjoint operator that fits as a dense matrix.

Source: Bunch & Kaufman, Math. Comp. 31 (1977) 163; Higham 2002, ch. 11. D has blocks of one and two rows; the
signs of its eigenvalues are those of the matrix (Sylvester), so that the inertia comes for free.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ..backends.base import Array, Backend
from ..cost import Cost
from ..dispatch.session import wanted
from ..errors import PropertyError
from ..properties import SelfAdjoint
from ..pytree import tree_leaves
from .base import Algorithm, refuse_batches
from .cholesky import asymmetry, check_finite
from .condition import inverse_norm1
from .dense_cost import dense_memory, with_entries
from .factor import dense_entries, record_direct, refined, warn_if_singular, with_columns
from .iteration import differentiated
from .kept_factor import LDL as KEPT
from .kept_factor import keeps, log_determinant, solution
from .lu import LU

__all__ = ["LDL", "LDLFactor"]


@dataclass(frozen=True)
class LDL(Algorithm):
    """``P A P^T = L D L^H``: ``n^3/3`` flops once, half of LU's, ``2 n^2`` per right-hand side; for
    self-adjoint operators, definite or not. Reads the lower triangle. NumPy and PyTorch (JAX has none: LU). A
    solve has implicit derivatives; a determinant that is differentiated is LU's.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.SelfAdjoint(np.array([[0.0, 2.0], [2.0, 0.0]]))
    >>> cola.solve(A, np.array([2.0, 4.0]), cola.LDL()).tolist()
    [2.0, 1.0]
    >>> [float(v) for v in cola.slogdet(A, cola.LDL())] == [-1.0, float(np.log(4))]
    True
    """

    gathers: ClassVar[str] = "entries"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint"
        if A.batch_shape:
            return "batches of operators are for LU"
        return True if A.backend is None or A.backend.name != "jax" else "JAX has no LDL factorisation"

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        k = operands[0].shape[-1] if operands and len(operands[0].shape) > 1 else 1
        moved = A.itemsize * n * n * 4
        work = n**3 / 3.0 + 2.0 * n**2 * k  # triangular solves are as fast as the factorisation
        own = Cost(0.0, moved, 3 * dense_memory(A), 0, 8, factor=work, steps=n)
        return with_entries(A, own)

    def factor(self, A: Any) -> LDLFactor:
        """Factor once for several solves, the determinant and the inertia."""
        return self._factor(A, dense_entries(A))

    def _factor(self, A: Any, M: Array, singular_ok: bool = False) -> LDLFactor:
        refuse_batches(A, "LDL", "LU()")
        be = A._concrete_backend()
        if not A.isa(SelfAdjoint) and be.is_concrete(M) and (gap := asymmetry(be, M)) is not None:
            raise PropertyError(
                f"LDL of {A!r}: the matrix is not self-adjoint (|A - A^H| reaches {gap:.3g}). Use LU(), or "
                "symmetrise it."
            )
        kept = M if keeps(be, M) else None
        factors = be.ldl_factor(M if kept is None else be.constant(M))
        n = M.shape[-1]
        if not n or singular_ok or not be.is_concrete(M):
            return LDLFactor(be, factors, M=kept)
        norm1 = be.constant(be.norm1(be.constant(M)))
        condition, rcond = None, be.ldl_rcond(factors, norm1)
        if rcond is None and wanted():
            solve = LDLFactor(be, factors).solve
            rcond = 1 / be.number(norm1 * inverse_norm1(be, solve, solve, n, M.dtype, be.device(M)))
        if rcond is not None:
            condition = 1 / rcond if rcond > 0 else float("inf")
        warn_if_singular(rcond, A, "LDL")
        return LDLFactor(be, factors, condition, norm1, kept)

    def solve(self, A: Any, b: Array) -> Array:
        check_finite(A, b)
        be = A._concrete_backend()
        if differentiated(be, A, b) and not be.is_concrete(b, *tree_leaves(A)):

            def once(operator: Any, rhs: Array) -> Any:
                return self.factor(operator).solve(rhs), None

            return be.implicit_solve(A, once, b)[0]
        M = dense_entries(A)
        factor = self._factor(A, M)
        X = factor.solve(b)
        if len(X.shape) == 2:
            X = refined(be, A, M, b, X, factor)
            if wanted():
                record_direct(A, X, b, factor, M)
        return X

    def slogdet(self, A: Any) -> tuple[Array, Array]:
        be = A._concrete_backend()
        if differentiated(be, A, be.zeros((), A.dtype, A.device)) and not be.is_concrete(*tree_leaves(A)):
            return LU().slogdet(A)  # the transformations of PyTorch do not go through these factors
        # a determinant is well defined however ill-conditioned the matrix
        return self._factor(A, dense_entries(A), singular_ok=True).slogdet()


@dataclass(frozen=True)
class LDLFactor:
    """The factors as the library keeps them. condition, norm1, M: as in ``LUFactor``."""

    be: Backend
    factors: Any
    condition: Any = None
    norm1: Any = None
    M: Array | None = None
    method: ClassVar[str] = "LDL"

    def solve(self, B: Array) -> Array:
        """``A^{-1} B``, ``2 n^2`` flops a column."""
        if self.M is None:
            return self.be.ldl_solve(self.factors, B)
        return with_columns(self.be, self.M, partial(solution, self.be, KEPT, self.M, tuple(self.factors)), B)

    def slogdet(self) -> tuple[Array, Array]:
        """Sign and log of the modulus of the determinant, from D."""
        if self.M is None:
            return ldl_slogdet(self.be, self.factors)
        return log_determinant(self.be, KEPT, self.M, tuple(self.factors))

    def inertia(self) -> tuple[int, int, int]:
        """How many eigenvalues are positive, negative and zero."""
        be, xp = self.be, self.be.xp
        d, below, first = _blocks(be, self.factors)
        if not d.shape[0]:
            return 0, 0, 0
        second = xp.concat([first[-1:] & False, first[:-1]])
        alone = ~(first | second)
        pairs = int(be.number(xp.sum(xp.astype(first, xp.int64))))  # each has one of either sign
        signs = [alone & (d > 0), alone & (d < 0), alone & (d == 0)]
        plus, minus, none = (int(be.number(xp.sum(xp.astype(s, xp.int64)))) for s in signs)
        return plus + pairs, minus + pairs, none


def _blocks(be: Backend, factors: Any) -> tuple[Array, Array, Array]:
    """Of D: what is on the diagonal, what is below it (zero but inside blocks of two rows), and which rows
    begin such blocks."""
    xp = be.xp
    LD, pivots = factors
    d = xp.linalg.diagonal(LD)
    d = xp.real(d) if be.is_complex(d) else d
    n = d.shape[-1]
    paired = pivots < 0  # rows of blocks of two come one after the other
    count = xp.cumulative_sum(xp.astype(paired, xp.int64))
    first = paired & (count % 2 == 1)
    below = xp.abs(xp.linalg.diagonal(LD, offset=-1)) if n > 1 else d[:0]
    below = xp.concat([below, xp.zeros_like(d[:1])])
    return d, xp.where(first, below, xp.zeros_like(below)), first


def ldl_slogdet(be: Backend, factors: Any) -> tuple[Array, Array]:
    """Sign and logarithm of the modulus of the determinant, from the factors as the library keeps them."""
    xp = be.xp
    d, below, first = _blocks(be, factors)
    if not d.shape[0]:
        return be.zeros((), factors[0].dtype) + 1, xp.sum(d)
    after = xp.concat([d[1:], d[:1]])
    scale = xp.where(first, below, xp.ones_like(d))
    second = xp.concat([first[-1:] & False, first[:-1]])
    # (d e - b^2) / b^2, which neither under- nor overflows
    block = (d / scale) * (after / scale) - 1
    value = xp.where(second, xp.ones_like(d), xp.where(first, block, d))
    with_log = xp.where(value == 0, xp.ones_like(value), xp.abs(value))
    log = xp.sum(xp.log(with_log) + 2 * xp.log(scale))
    log = xp.where(xp.any(value == 0), log - float("inf"), log)
    return be.astype(xp.prod(xp.sign(value)), factors[0].dtype), log

"""``inv(A)``: the inverse as an operator, lazy at the leaves and structural on compositions."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from ..algorithms.base import Algorithm, Auto, factorises
from ..algorithms.factor import record_direct
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask, choose_algorithm, ensure, select
from ..dispatch.question import Question, reporting
from ..dispatch.registry import REGISTRY
from ..dispatch.session import COLLECTED, SESSION
from ..errors import SingularMatrixError
from ..info import Info
from ..operators import (
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    Permutation,
    Product,
    ScalarMul,
    operator,
    static,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Property, SelfAdjoint, Unitary
from ..pytree import tree_leaves
from .operands import as_algorithm, square

__all__ = ["INV", "Inverse", "inv"]

RULES = RuleBook()
SURVIVES = frozenset({PSD, SelfAdjoint, Unitary})  # what an inverse inherits


# set while inverses cannot outlive a call, so that they keep their factorisations under a trace too
KEEP_FACTORS: ContextVar[bool] = ContextVar("cola_core_keep_factors", default=False)


@operator
class Inverse(LinearOperator):
    """``A^{-1}`` as an operator: a product solves. A direct factorisation is made at the first product and
    kept, so ``Ainv = inv(A)`` is the way to solve with one operator many times (and ``logdet(Ainv)`` reuses
    it too).
    """

    A: LinearOperator
    alg: Algorithm = static(default=Auto())

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _properties(self) -> frozenset[Property]:
        return self.A.properties & SURVIVES

    # What is declared of an inverse is not declared of the operator: it would change how the inverse is
    # computed, and a false declaration would make itself true.

    def factor(self) -> Any:
        """The kept factorisation, or None where a rule or an iterative algorithm answers."""
        found = self.__dict__.get("_factor")
        if found is not None:
            return found
        found = self._answerer(factor=True)
        return None if isinstance(found, Algorithm) else found

    def leaf(self) -> Algorithm | None:
        """The algorithm without a factorisation that answers for the whole operator; None where a rule or
        a factorisation does."""
        if self.__dict__.get("_factor") is not None:
            return None
        found = self._answerer(factor=False)
        return found if isinstance(found, Algorithm) and not factorises(found) else None

    def _answerer(self, factor: bool) -> Any:
        """The factorisation (made if ``factor``), else the algorithm; None where a rule has none."""
        from .solve import SOLVE

        A = self.A
        ensure(A)
        types = (type(A), type(self.alg))
        be = A._concrete_backend()
        probe = be.zeros((A.shape[-1], 1), A.dtype, A.device)
        for tier in REGISTRY.tiers("solve", types):
            for rule in select(SOLVE, tier, (A, probe), self.alg):
                if rule.factor is None or not factor:
                    return None
                found = rule.factor(A, alg=self.alg)
                if found is not NotImplemented:
                    return self._keep_factor(be, found)
        chosen, _ = choose_algorithm(SOLVE, (A, probe), self.alg)
        if not factor or not factorises(chosen):
            return chosen
        return self._keep_factor(be, chosen.factor(A))

    def _keep_factor(self, be: Any, factor: Any) -> Any:
        if _keepable(be, self.A):
            self.__dict__["_factor"] = factor
        return factor

    def _matmat(self, X: Array) -> Array:
        from .solve import SOLVE, check_solution

        current = SESSION.get()
        if current is None and COLLECTED.get() is not None:
            return reporting("solve", self.A, lambda: self._matmat(X))
        if current is None or current.recorder is None:
            factor = self.factor()
            if factor is not None:
                from ..algorithms.cholesky import check_finite

                check_finite(self.A, X)
                answer = factor.solve(X)
                if answer is not NotImplemented:
                    if current is not None and current.wanted:
                        record_direct(self.A, answer, X, factor)
                    return answer

        def check(Y: Array, info: Info) -> Info:
            return check_solution(self.A, Y, X, info)

        if current is None:
            # outermost: run the question so that a missed tolerance is reported
            return SOLVE.run(self.A, X, alg=self.alg, check=check)
        if current.wanted and current.recorder is None:
            return SOLVE.run(self.A, X, alg=self.alg, return_info=True, check=check)[0]
        return ask(SOLVE, (self.A, X), self.alg)

    def _rmatmat(self, X: Array) -> Array:
        return self._adjoint()._matmat(X)

    def _adjoint(self) -> LinearOperator:
        return self if self.A.isa(SelfAdjoint) else Inverse(self.A.H, self.alg)

    def _transpose(self) -> LinearOperator:
        return Inverse(self.A.T, self.alg)

    def _conj(self) -> LinearOperator:
        return Inverse(self.A.conj(), self.alg)

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        return Cost(2.0 * n * n, self.itemsize * n * n, self.itemsize * n * n, 1)


def _keepable(be: Any, A: LinearOperator) -> bool:
    """Whether a factorisation may outlive this call:
    not under a trace, and not if it holds an autograd graph."""
    if be.name == "numpy" or KEEP_FACTORS.get():
        return True
    arrays = tree_leaves(A)
    wanted = be.differentiating(*arrays) or any(getattr(x, "requires_grad", False) for x in arrays)
    return be.is_concrete(*arrays) and not wanted


INV = Question("inv", abstract=lambda A: A, doc="inverse as an operator")


def inv(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The inverse of a square operator, as an operator of the same structure where there is one.

    Lazy: nothing is factorised before the first product. Kronecker, block-diagonal, diagonal, permutation,
    product and unitary operators invert part by part; everything else becomes ``Inverse``, whose products
    solve. Raises NonSquareError for rectangular operators. return_info: also return an Info of what has been
    computed so far; how well a product went is told by ``inv(A).apply(b, return_info=True)``.

    >>> import numpy as np, cola_core as cola
    >>> K = cola.kron(np.diag([1.0, 2.0]), np.array([[2.0, 1.0], [1.0, 3.0]]))
    >>> x = cola.inv(K) @ np.ones(4)
    >>> bool(np.allclose(K @ x, 1))
    True
    """
    A = square(A, "inv")
    return INV.run(A, alg=as_algorithm(alg, "solve"), return_info=return_info, on_failure=on_failure)


inv.question = INV  # type: ignore[attr-defined]


def all_square(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: square factors or blocks."""
    for M in A.Ms:
        if not M.is_square:
            return f"factor {M!r} is not square"
    return True


def _nonzero(A: Any, d: Array, what: str) -> Array:
    be = A._concrete_backend()
    if be.is_concrete(d) and bool(be.xp.any(d == 0)):
        raise SingularMatrixError(f"{A!r} is singular: {what} is zero. For a pseudoinverse use pinv(A).")
    return d


@RULES.rule(
    INV,
    (LinearOperator,),
    id="inv/lazy",
    source="definition",
    complexity="O(1); that of solve at the first product",
)
def inv_lazy(A: Any, *, alg: Any) -> LinearOperator:
    return Inverse(A, alg)


@RULES.rule(INV, (Inverse,), id="inv/inverse", source="(A^-1)^-1 = A", complexity="O(1)")
def inv_inverse(A: Any, *, alg: Any) -> LinearOperator:
    return A.A


@RULES.rule(INV, (Identity,), id="inv/identity", source="definition", complexity="O(1)")
def inv_identity(A: Any, *, alg: Any) -> LinearOperator:
    return A


@RULES.rule(INV, (ScalarMul,), id="inv/scalar", source="definition", complexity="O(1)")
def inv_scalar(A: Any, *, alg: Any) -> LinearOperator:
    if isinstance(A.c, (int, float, complex)):
        if A.c == 0:
            raise SingularMatrixError(f"{A!r} is singular: the scalar is zero.")
        return ScalarMul(1 / A.c, A.n)
    # NumPy turns 0-d results into scalars, which have no precision of their own: data stays data
    c = A._concrete_backend().asarray(1 / _nonzero(A, A.c, "the scalar"), dtype=A.c.dtype)
    return ScalarMul(c, A.n, declared=A.declared & {PSD, SelfAdjoint})


@RULES.rule(INV, (Diagonal,), id="inv/diagonal", source="definition", complexity="O(N)")
def inv_diagonal(A: Any, *, alg: Any) -> LinearOperator:
    return Diagonal(
        1 / _nonzero(A, A.diag, "a diagonal entry"), declared=A.declared & {PSD, SelfAdjoint, Unitary}
    )


@RULES.rule(INV, (Permutation,), id="inv/permutation", source="P^-1 = P^T", complexity="O(N log N)")
def inv_permutation(A: Any, *, alg: Any) -> LinearOperator:
    return A.H


def is_unitary(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: the operator is known to be unitary."""
    return True if A.isa(Unitary) else "not known to be unitary"


@RULES.rule(
    INV,
    (LinearOperator,),
    id="inv/unitary",
    source="U^-1 = U^H",
    when=is_unitary,
    precedence=1,
    complexity="O(1)",
)
def inv_unitary(A: Any, *, alg: Any) -> LinearOperator:
    return A.H


@RULES.rule(
    INV,
    (Product,),
    id="inv/product",
    source="(AB)^-1 = B^-1 A^-1",
    when=all_square,
    complexity="that of the factors",
)
def inv_product(A: Any, *, alg: Any) -> LinearOperator:
    from ..operators import matmul

    out: Any = None
    for M in reversed(A.Ms):
        factor = ask(INV, (M,), alg)
        out = factor if out is None else matmul(out, factor)
    return _declare_like(out, A)


@RULES.rule(
    INV,
    (Kronecker,),
    id="inv/kronecker",
    source="Van Loan 2000, sec. 1",
    when=all_square,
    complexity="that of the factors",
)
def inv_kronecker(A: Any, *, alg: Any) -> LinearOperator:
    return _declare_like(A._kron(*(ask(INV, (M,), alg) for M in A.Ms)), A)


@RULES.rule(
    INV,
    (BlockDiag,),
    id="inv/blockdiag",
    source="definition",
    when=all_square,
    complexity="that of the blocks",
)
def inv_blockdiag(A: Any, *, alg: Any) -> LinearOperator:
    return _declare_like(A.with_blocks(*(ask(INV, (M,), alg) for M in A.Ms)), A)


def _declare_like(out: LinearOperator, A: LinearOperator) -> LinearOperator:
    """Self-adjointness, PSD and unitarity pass to the inverse."""
    keep = (A.properties & SURVIVES) - out.properties
    return out.replace(declared=out.declared | keep) if keep else out

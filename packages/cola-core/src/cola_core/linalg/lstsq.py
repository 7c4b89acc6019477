"""``lstsq(A, b)`` and ``pinv(A)``: least squares of least norm for any shape and rank."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Algorithm, Auto, factorises
from ..algorithms.factor import record_direct
from ..algorithms.lstsq import cutoff, reciprocals
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask, choose_algorithm
from ..dispatch.question import Question, reporting
from ..dispatch.session import COLLECTED, SESSION, record
from ..info import Info
from ..operators import (
    Diagonal,
    LinearOperator,
    Product,
    ScalarMul,
    Zero,
    as_operator,
    matmul,
    operator,
    split_scalar,
    static,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Property, SelfAdjoint, Stiefel, Unitary
from .inverse import Inverse, _keepable
from .operands import as_algorithm, right_side
from .structure import by_singular_values, structural
from .svd import SINGULAR

__all__ = ["LEAST_SQUARES", "PINV", "PseudoInverse", "check_least_squares", "lstsq", "pinv"]

RULES = RuleBook()


def _abstract(A: Any, b: Any, rcond: Any) -> Any:
    from ..backends.abstract import XP, AbstractArray

    dtype = XP.result_type(A.dtype, b.dtype)
    leads = AbstractArray(A.batch_shape, dtype), AbstractArray(b.shape[:-2], dtype)
    return AbstractArray((*XP.broadcast_arrays(*leads)[0].shape, A.shape[-1], b.shape[-1]), dtype)


LEAST_SQUARES = Question("lstsq", abstract=_abstract, doc="the least x that minimises |b - A x|")
PINV = Question("pinv", abstract=lambda A, rcond: A.H, doc="Moore-Penrose inverse as an operator")


def lstsq(
    A: Any,
    b: Any,
    alg: Any = Auto(),
    *,
    rcond: float | None = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """The x of least norm that minimises ``|b - A x|``, for an operator of any shape and rank.

    b: (m,) or (*batch, m, k). rcond: singular values of at most ``rcond * s_max`` count as zero (default
    ``max(m, n) * eps``), judged on the whole operator also where it is composed. The Info has the numerical
    rank and the relative residual ``|b - A x| / |b|`` (which a least-squares solution need not make small).
    Large operators with a fast product are answered by ``LSMR``, whose Info says by ``normal_residual`` how
    nearly the residual is orthogonal to the range.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> np.round(cola.lstsq(A, np.array([1.0, 3.0, 5.0])), 10).tolist()
    [1.0, 2.0]
    """
    A = as_operator(A)
    b = right_side(A, b, "lstsq", rows=A.shape[-2])
    vector = len(b.shape) == 1
    B = b[:, None] if vector else b
    out = LEAST_SQUARES.run(
        A,
        B,
        _positive(rcond, "lstsq"),
        alg=as_algorithm(alg, "lstsq"),
        return_info=return_info,
        on_failure=on_failure,
        check=lambda X, info: check_least_squares(A, X, B, info),
    )
    X, info = out if return_info else (out, None)
    X = X[..., 0] if vector else X
    return (X, info) if return_info else X


lstsq.question = LEAST_SQUARES  # type: ignore[attr-defined]


def _positive(rcond: Any, question: str) -> float | None:
    if rcond is None:
        return None
    if not float(rcond) >= 0:
        raise ValueError(f"{question}(rcond={rcond!r}): the relative cutoff must not be negative.")
    return float(rcond)


def check_least_squares(A: LinearOperator, X: Array, B: Array, info: Info) -> Info:
    """The residual of the whole system."""
    be = A.backend
    if be is None or 0 in X.shape or 0 in B.shape:
        return info.replace(residual=0.0)
    xp = be.xp
    bnorm, rnorm = be.norm(B), be.norm(B - A @ X)
    relative = xp.where(bnorm > 0, rnorm / xp.where(bnorm > 0, bnorm, xp.ones_like(bnorm)), rnorm)
    worst = xp.max(relative)
    return info.replace(residual=be.number(worst) if be.is_concrete(worst) else worst, residuals=relative)


def pinv(
    A: Any,
    alg: Any = Auto(),
    *,
    rcond: float | None = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """The Moore-Penrose inverse of an operator of any shape, as an operator.

    Singular values of at most ``rcond * s_max`` (default rcond ``max(m, n) * eps``) count as zero. For
    compositions that is the rule for the whole: a Kronecker product of a well and a badly scaled factor has
    the rank of its entries' matrix, not the product of ranks judged factor by factor. Lazy where no structure
    helps: nothing is factorised before the first product, which solves a least-squares problem.

    >>> import numpy as np, cola_core as cola
    >>> cola.pinv(cola.ops.Diagonal(np.array([0.0, 2.0]))).diag.tolist()
    [0.0, 0.5]
    """
    A = as_operator(A)
    return PINV.run(
        A,
        _positive(rcond, "pinv"),
        alg=as_algorithm(alg, "lstsq"),
        return_info=return_info,
        on_failure=on_failure,
    )


pinv.question = PINV  # type: ignore[attr-defined]


@operator
class PseudoInverse(LinearOperator):
    """``A^+`` as an operator: a product is a least-squares solution of least norm.

    A dense factorisation is made at the first product and kept.
    """

    A: LinearOperator
    alg: Algorithm = static(default=Auto())
    rcond: float | None = static(default=None)

    def _shape(self) -> tuple[int, ...]:
        *batch, m, n = self.A.shape
        return (*batch, n, m)

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _properties(self) -> frozenset[Property]:
        return self.A.properties & {PSD, SelfAdjoint, Unitary}

    def _matmat(self, X: Array) -> Array:
        current = SESSION.get()
        args = (self.A, X, self.rcond)
        if current is None and COLLECTED.get() is not None:
            return reporting("lstsq", self.A, lambda: self._matmat(X))
        if current is not None and current.recorder is not None:
            return ask(LEAST_SQUARES, args, self.alg)
        factor = self.__dict__.get("_factor")
        if factor is None:
            chosen: Any = self.leaf()
            if chosen is not None and factorises(chosen):
                factor = chosen.factor(self.A, self.rcond)
                if _keepable(self.A._concrete_backend(), self.A):
                    self.__dict__["_factor"] = factor
        if factor is not None:
            from ..algorithms.cholesky import check_finite

            check_finite(self.A, X)
            answer = factor.solve(X)
            if current is not None and current.wanted:
                record_direct(self.A, answer, X, factor)
            return answer
        if current is None:
            return LEAST_SQUARES.run(*args, alg=self.alg)
        return ask(LEAST_SQUARES, args, self.alg)

    def leaf(self) -> Algorithm | None:
        """The algorithm that answers for the whole operator; None where a rule does."""
        A = self.A
        probe = A._concrete_backend().zeros((A.shape[-2], 1), A.dtype, A.device)
        if structural("lstsq", A, self.alg, probe, self.rcond) is True:
            return None
        chosen, _ = choose_algorithm(LEAST_SQUARES, (A, probe, self.rcond), self.alg)
        return chosen  # type: ignore[no-any-return]

    def _rmatmat(self, X: Array) -> Array:
        return self._adjoint()._matmat(X)

    def _adjoint(self) -> LinearOperator:
        return self if self.A.isa(SelfAdjoint) else PseudoInverse(self.A.H, self.alg, self.rcond)

    def _transpose(self) -> LinearOperator:
        return PseudoInverse(self.A.T, self.alg, self.rcond)

    def _conj(self) -> LinearOperator:
        return PseudoInverse(self.A.conj(), self.alg, self.rcond)

    def _matvec_cost(self) -> Cost:
        m, n = self.shape[-2:]
        return Cost(2.0 * m * n, self.itemsize * m * n, self.itemsize * m * n, 1)


# -- pinv ----------------------------------------------------------------------------------------------------
@RULES.rule(
    PINV,
    (LinearOperator,),
    id="pinv/lazy",
    source="definition",
    complexity="O(1); that of lstsq at the first product",
)
def pinv_lazy(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    return PseudoInverse(A, alg, rcond)


def _orthonormal(A: Any, rcond: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns."""
    return True if A.isa(Stiefel) else "its columns are not known to be orthonormal"


@RULES.rule(
    PINV,
    (LinearOperator,),
    id="pinv/orthonormal",
    source="Q^+ = Q^H",
    when=_orthonormal,
    precedence=3,
    complexity="O(1)",
)
def pinv_orthonormal(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    return A.H


def _singular(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a singular value decomposition by rule."""
    allowed = by_singular_values(alg)
    return structural("svd", A, alg) if allowed is True else allowed


@RULES.rule(
    PINV,
    (LinearOperator,),
    id="pinv/svd",
    source="A^+ = V S^+ U^H; Golub & Van Loan, 4th ed., sec. 5.5.2",
    when=_singular,
    precedence=1,
    complexity="that of svd, O(N)",
)
def pinv_svd(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    """From a structured singular value decomposition; the rank is decided on all values together."""
    be = A._concrete_backend()
    U, s, V = ask(SINGULAR, (A,), alg)
    values = be.astype(reciprocals(be, s, cutoff(be, s, A.shape, A.dtype, rcond)), A.dtype)
    keep = frozenset(p for p in (PSD, SelfAdjoint) if A.isa(p))
    return Product(V, Diagonal(values), U.H, declared=keep)


def _inverted(A: Any, d: Array, rcond: Any) -> Array:
    be = A._concrete_backend()
    xp = be.xp
    size = xp.abs(d)
    keep = size > cutoff(be, size, A.shape, A.dtype, rcond)[..., None]
    return xp.where(keep, 1 / xp.where(keep, d, xp.ones_like(d)), xp.zeros_like(d))


@RULES.rule(PINV, (Diagonal,), id="pinv/diagonal", source="definition", complexity="O(N)")
def pinv_diagonal(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    keep = A.declared & {PSD, SelfAdjoint, Unitary}
    return Diagonal(_inverted(A, A.diag, rcond), declared=keep)


@RULES.rule(PINV, (Zero,), id="pinv/zero", source="definition", complexity="O(1)")
def pinv_zero(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    return A.H


@RULES.rule(PINV, (ScalarMul,), id="pinv/scalar", source="definition", complexity="O(1)")
def pinv_scalar(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    if isinstance(A.c, (int, float, complex)):
        return ScalarMul(1 / A.c if A.c else 0.0, A.n)
    be = A._concrete_backend()
    xp = be.xp
    zero = A.c == 0
    c = xp.where(zero, xp.zeros_like(A.c), 1 / xp.where(zero, xp.ones_like(A.c), A.c))
    return ScalarMul(be.asarray(c, dtype=A.c.dtype), A.n, declared=A.declared & {PSD, SelfAdjoint})


@RULES.rule(PINV, (Inverse,), id="pinv/inverse", source="(A^-1)^+ = A", precedence=4, complexity="O(1)")
def pinv_inverse(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    return A.A


def _isometry_beside(A: Any, rcond: Any, *, alg: Any) -> bool | str:
    """Guard: the first factor has orthonormal columns or the last one orthonormal rows."""
    if len(A.Ms) > 1 and (A.Ms[0].isa(Stiefel) or _orthonormal_rows(A.Ms[-1])):
        return True
    return "neither the first factor's columns nor the last one's rows are known to be orthonormal"


def _orthonormal_rows(M: LinearOperator) -> bool:
    return M.isa(Unitary) or (M.shape[-2] <= M.shape[-1] and M.H.isa(Stiefel))


@RULES.rule(
    PINV,
    (Product,),
    id="pinv/isometry",
    source="(Q A)^+ = A^+ Q^H, (A Q^H)^+ = Q A^+ for Q^H Q = I; Greville 1966",
    when=_isometry_beside,
    precedence=1,
    complexity="that of the other factors",
)
def pinv_isometry(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    first = A.Ms[0].isa(Stiefel)
    rest = A.Ms[1:] if first else A.Ms[:-1]
    inside = ask(PINV, (rest[0] if len(rest) == 1 else Product(*rest), rcond), alg)
    return matmul(inside, A.Ms[0].H) if first else matmul(A.Ms[-1].H, inside)


def _scaled(A: Any, rcond: Any, *, alg: Any) -> bool | str:
    """Guard: a number in front."""
    s, _ = split_scalar(A)
    return True if s is not None else "no number in front"


@RULES.rule(
    PINV,
    (Product,),
    id="pinv/scaled",
    source="(c A)^+ = A^+ / c",
    when=_scaled,
    complexity="that of the operator",
)
def pinv_scaled(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    inside = ask(PINV, (rest, rcond), alg)
    front = pinv_scalar(ScalarMul(s.c, inside.shape[-2], declared=s.declared), rcond, alg=alg)  # type: ignore[union-attr]
    return matmul(front, inside)


# -- lstsq ---------------------------------------------------------------------------------------------------
def _through(A: Any, b: Any, rcond: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns, or a singular value decomposition by rule."""
    if A.isa(Stiefel):
        return True
    return _singular(A, alg=alg)


@RULES.rule(
    LEAST_SQUARES,
    (LinearOperator,),
    id="lstsq/pinv",
    source="x = A^+ b",
    when=_through,
    precedence=1,
    complexity="that of pinv, one product",
)
def lstsq_pinv(A: Any, b: Array, rcond: Any, *, alg: Any) -> Array:
    """A product with the structured pseudoinverse."""
    be = A._concrete_backend()
    P = ask(PINV, (A, rcond), alg)
    record(Info(method="structured pseudoinverse", rank=_rank_of(be, P)))
    return P._matmat(b)


def _rank_of(be: Any, P: Any) -> int | None:
    """The least number of nonzero singular values in the batch, where it can be read off."""
    if be.name == "abstract":
        return None
    if isinstance(P, Zero):
        return 0
    for M in P.Ms if isinstance(P, Product) else (P,):
        if isinstance(M, Diagonal):
            count = be.xp.sum(be.xp.astype(M.diag != 0, M.diag.dtype), axis=-1)
            count = be.xp.real(count) if be.is_complex(count) else count
            return int(be.number(be.xp.min(count))) if be.is_concrete(count) else None
        if isinstance(M, ScalarMul) and isinstance(M.c, (int, float, complex)) and M.c == 0:
            return 0
    return min(P.shape[-2:])


@RULES.rule(
    LEAST_SQUARES,
    (Inverse,),
    id="lstsq/inverse",
    source="(A^-1)^+ = A",
    precedence=4,
    complexity="one product with A",
)
def lstsq_inverse(A: Any, b: Array, rcond: Any, *, alg: Any) -> Array:
    return A.A._matmat(b)

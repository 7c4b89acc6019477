"""``qr`` and ``lq``: orthonormal times triangular, part by part where A is a composition."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.qr import phases
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..operators import (
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    LowRank,
    Product,
    ScalarMul,
    Sliced,
    Triangular,
    Zero,
    as_operator,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Stiefel, Unitary
from .operands import as_algorithm
from .structure import structural

__all__ = ["LQ_FACTORS", "QR_FACTORS", "lq", "qr"]

RULES = RuleBook()


def _abstract_qr(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    *batch, m, n = A.shape
    k = min(m, n)
    return Dense(AbstractArray((*batch, m, k), A.dtype)), Dense(AbstractArray((*batch, k, n), A.dtype))


QR_FACTORS = Question("qr", abstract=_abstract_qr, doc="A = Q R")
LQ_FACTORS = Question("lq", abstract=_abstract_qr, doc="A = L Q")


def qr(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """Reduced QR factorisation ``A = Q @ R`` of an operator of any shape.

    Q (*batch, m, k) has orthonormal columns; R (*batch, k, n) is upper triangular (trapezoidal if wide) with
    a real, non-negative diagonal, so that both are unique where A has full column rank. k = min(m, n), or
    fewer where structure bounds the rank (a Kronecker product of tall by wide factors). The factors of a
    Kronecker product are Kronecker products, of a block diagonal block diagonals.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.kron(np.array([[3.0, 1.0], [4.0, 2.0]]), np.array([[0.0, 2.0], [-1.0, 5.0]]))
    >>> Q, R = cola.qr(A)
    >>> bool(np.allclose((Q @ R).to_dense(), A.to_dense()))
    True
    """
    A = as_operator(A)
    return QR_FACTORS.run(A, alg=as_algorithm(alg, "qr"), return_info=return_info, on_failure=on_failure)


qr.question = QR_FACTORS  # type: ignore[attr-defined]


def lq(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """Reduced LQ factorisation ``A = L @ Q`` of an operator of any shape.

    L (*batch, m, k) is lower triangular (trapezoidal if tall) with a real, non-negative diagonal; Q
    (*batch, k, n) has orthonormal rows. Unique where A has full row rank. Structured as for ``qr``.

    >>> import numpy as np, cola_core as cola
    >>> L, Q = cola.lq(np.array([[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]]))
    >>> np.round(L.to_dense(), 4).tolist()
    [[5.0, 0.0], [2.2, 2.0396]]
    """
    A = as_operator(A)
    return LQ_FACTORS.run(A, alg=as_algorithm(alg, "lq"), return_info=return_info, on_failure=on_failure)


lq.question = LQ_FACTORS  # type: ignore[attr-defined]


def _orthonormal(A: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns."""
    return True if A.isa(Stiefel) else "its columns are not known to be orthonormal"


@RULES.rule(
    QR_FACTORS,
    (LinearOperator,),
    id="qr/orthonormal",
    source="Q = Q I",
    when=_orthonormal,
    precedence=1,
    complexity="O(1)",
)
def qr_orthonormal(A: Any, *, alg: Any) -> Any:
    return A, Identity.like(A, A.shape[-1])


@RULES.rule(QR_FACTORS, (Diagonal,), id="qr/diagonal", source="d = sign(d) |d|", complexity="O(N)")
def qr_diagonal(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    size = be.astype(be.xp.abs(A.diag), A.dtype)
    return Diagonal(phases(be, A.diag), declared=frozenset({Unitary})), Diagonal(
        size, declared=frozenset({PSD})
    )


@RULES.rule(QR_FACTORS, (ScalarMul,), id="qr/scalar", source="c = sign(c) |c|", complexity="O(1)")
def qr_scalar(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    c = be.astype(A.value, A.dtype)
    size = be.astype(be.xp.abs(c), A.dtype)
    return (
        ScalarMul(phases(be, c), A.n, declared=frozenset({Unitary})),
        ScalarMul(size, A.n, declared=frozenset({PSD})),
    )


@RULES.rule(QR_FACTORS, (Zero,), id="qr/zero", source="Q = any orthonormal columns, R = 0", complexity="O(N)")
def qr_zero(A: Any, *, alg: Any) -> Any:
    m, n = A.shape[-2:]
    return leading_columns(A, min(m, n)), Zero.like(A, min(m, n), n)


def leading_columns(A: Any, k: int) -> LinearOperator:
    """The first k columns of the identity with as many rows as A."""
    be = A._concrete_backend()
    eye = Identity.like(A, A.shape[-2])
    if k == A.shape[-2]:
        return eye
    return Sliced(eye, None, be.xp.arange(k, device=A.device), declared=frozenset({Stiefel}))


def _upper(A: Any, *, alg: Any) -> bool | str:
    """Guard: an upper triangle."""
    return "a lower triangle" if A.lower else True


@RULES.rule(
    QR_FACTORS, (Triangular,), id="qr/triangular", source="R = D (D^H R)", when=_upper, complexity="O(N^2)"
)
def qr_triangular(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    if A.unit:
        return Identity.like(A), A
    p = phases(be, be.xp.linalg.diagonal(A.array))
    R = Triangular(be.conj(p)[..., :, None] * A.array, lower=False)
    return Diagonal(p, declared=frozenset({Unitary})), R


@RULES.rule(
    QR_FACTORS,
    (Kronecker,),
    id="qr/kronecker",
    source="Van Loan 2000, sec. 1",
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def qr_kronecker(A: Any, *, alg: Any) -> Any:
    pairs = [ask(QR_FACTORS, (M,), alg) for M in parts(A)]
    return A._kron(*(Q for Q, _ in pairs)), A._kron(*(R for _, R in pairs))


@RULES.rule(
    QR_FACTORS,
    (BlockDiag,),
    id="qr/blockdiag",
    source="definition",
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def qr_blockdiag(A: Any, *, alg: Any) -> Any:
    pairs = [ask(QR_FACTORS, (M,), alg) for M in parts(A)]
    return A.with_blocks(*(Q for Q, _ in pairs)), A.with_blocks(*(R for _, R in pairs))


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number times an operator with QR factors by rule."""
    s, rest = split_scalar(A)
    return "no number in front" if s is None else structural("qr", rest, alg)


@RULES.rule(
    QR_FACTORS,
    (Product,),
    id="qr/scaled",
    source="c A = (sign(c) Q)(|c| R)",
    when=_scaled,
    precedence=3,
    complexity="that of the operator",
)
def qr_scaled(A: Any, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    Q, R = ask(QR_FACTORS, (rest,), alg)
    be = A._concrete_backend()
    c = be.asarray(s.c, dtype=A.dtype, device=A.device)  # type: ignore[union-attr]
    keep = frozenset({Unitary} if Q.isa(Unitary) else {Stiefel})
    sign = ScalarMul(phases(be, c), Q.shape[-2], declared=frozenset({Unitary}))
    size = ScalarMul(be.astype(be.xp.abs(c), A.dtype), R.shape[-2], declared=frozenset({PSD}))
    return Product(sign, Q, declared=keep), Product(size, R)


def _first_orthonormal(A: Any, *, alg: Any) -> bool | str:
    """Guard: the first factor has orthonormal columns."""
    if len(A.Ms) > 1 and A.Ms[0].isa(Stiefel):
        return True
    return "the first factor is not known to have orthonormal columns"


@RULES.rule(
    QR_FACTORS,
    (Product,),
    id="qr/orthonormal-factor",
    source="U (Q R) = (U Q) R",
    when=_first_orthonormal,
    precedence=2,
    complexity="that of the other factors",
)
def qr_orthonormal_factor(A: Any, *, alg: Any) -> Any:
    U, *rest = parts(A)
    Q, R = ask(QR_FACTORS, (rest[0] if len(rest) == 1 else Product(*rest),), alg)
    return _declared(matmul(U, Q), U, Q), R


def _declared(out: LinearOperator, U: LinearOperator, Q: LinearOperator) -> LinearOperator:
    claim = Unitary if U.isa(Unitary) and Q.isa(Unitary) else Stiefel
    return out if out.isa(claim) else out.replace(declared=out.declared | {claim})


def _thin(A: Any, *, alg: Any) -> bool | str:
    """Guard: an inner dimension of at most half the size."""
    from .svd import thin_split

    return True if thin_split(A) is not None else "no factor is thin"


def qr_thin(A: Any, *, alg: Any) -> Any:
    """The QR factors of the tall factor, then of what remains, which has few rows."""
    from .svd import thin_split

    L, rest = thin_split(A)  # type: ignore[misc]
    Q1, R1 = ask(QR_FACTORS, (L,), alg)
    Q2, R = ask(QR_FACTORS, (Dense((R1 @ rest).to_dense()),), alg)
    return _declared(matmul(Q1, Q2), Q1, Q2), R


for _cls in (LowRank, Product):
    RULES.rule(
        QR_FACTORS,
        (_cls,),
        id=f"qr/thin-{_cls.__name__.lower()}",
        source="(Q1 R1) B = Q1 (Q2 R2)",
        when=_thin,
        precedence=1,
        complexity="QR factorisations of the tall factor and of an r x N matrix, O(N r^2)",
    )(qr_thin)


def _by_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: the adjoint has QR factors by rule."""
    return structural("qr", A.H, alg)


@RULES.rule(
    LQ_FACTORS,
    (LinearOperator,),
    id="lq/adjoint",
    source="A^H = Q R gives A = R^H Q^H",
    when=_by_adjoint,
    complexity="that of qr",
)
def lq_adjoint(A: Any, *, alg: Any) -> Any:
    Q, R = ask(QR_FACTORS, (A.H,), alg)
    return R.H, Q.H

"""``nullspace`` and ``orth``: orthonormal bases, as operators with the structure of A's singular vectors."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import NoRuleError, ShapeError
from ..operators import Dense, LinearOperator, LowRank, as_operator
from ..plugins.rulebook import RuleBook
from ..properties import Stiefel
from .norm import threshold
from .operands import for_singular_values
from .svd import RIGHT_SINGULAR, SINGULAR, columns

__all__ = ["NULLSPACE", "ORTH", "nullspace", "orth"]

RULES = RuleBook()


def _abstract(A: Any, tol: Any, rows: int = -1) -> Any:
    from ..backends.abstract import AbstractArray

    # how many columns there are depends on values: none are shown in a plan
    return Dense(AbstractArray((*A.batch_shape, A.shape[rows], 0), A.dtype))


NULLSPACE = Question("nullspace", abstract=_abstract, doc="orthonormal basis of the x with A x = 0")
ORTH = Question("orth", abstract=lambda A, tol: _abstract(A, tol, -2), doc="orthonormal basis of the range")


def nullspace(
    A: Any, tol: Any = None, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """An operator N (n, d) with orthonormal columns that span the x with ``A x = 0``.

    Right singular vectors with singular values of at most ``tol`` (default ``max(m, n) * eps * s_max`` of the
    whole operator). d depends on values, so this needs concrete arrays and one matrix (no batch).

    >>> import numpy as np, cola_core as cola
    >>> N = cola.nullspace(cola.kron(np.ones((1, 2)), np.eye(3)))
    >>> N.shape
    (6, 3)
    """
    A = _single(A, "nullspace")
    return NULLSPACE.run(
        A, tol, alg=for_singular_values(alg, "svd"), return_info=return_info, on_failure=on_failure
    )


nullspace.question = NULLSPACE  # type: ignore[attr-defined]


def orth(
    A: Any, tol: Any = None, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """An operator Q (m, r) with orthonormal columns that span the range of A; tolerance as for ``nullspace``.

    >>> import numpy as np, cola_core as cola
    >>> cola.orth(np.ones((3, 2))).shape
    (3, 1)
    """
    A = _single(A, "orth")
    return ORTH.run(
        A, tol, alg=for_singular_values(alg, "svd"), return_info=return_info, on_failure=on_failure
    )


orth.question = ORTH  # type: ignore[attr-defined]


def _single(A: Any, question: str) -> LinearOperator:
    A = as_operator(A)
    if A.batch_shape:
        raise ShapeError(
            f"{question}({A!r}): the matrices of a batch may have different dimensions; its batch shape is "
            f"{A.batch_shape}. Loop over the batch."
        )
    return A


def _where(A: Any, s: Array, tol: Any, small: bool) -> Array:
    be = A._concrete_backend()
    if not be.is_concrete(s):
        raise NoRuleError(
            f"the dimension of a null space or range of {A!r} depends on values and cannot be traced. "
            "Compute it outside the transformation, or use svd inside."
        )
    limit = threshold(A, s, tol)
    return be.xp.nonzero(s <= limit if small else s > limit)[0]


@RULES.rule(
    NULLSPACE,
    (LinearOperator,),
    id="nullspace/right-singular",
    source="Golub & Van Loan, 4th ed., sec. 2.4.2",
    complexity="that of the right singular vectors; only null vectors are formed",
)
def nullspace_right(A: Any, tol: Any, *, alg: Any) -> LinearOperator:
    s, V = ask(RIGHT_SINGULAR, (A,), alg)
    if A._concrete_backend().name == "abstract":
        return _abstract(A, tol)  # type: ignore[no-any-return]
    return columns(A, V, _where(A, s, tol, small=True))


def _no_kernel(A: Any, tol: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns, no tolerance given."""
    return True if tol is None and A.isa(Stiefel) else "not known to have orthonormal columns, or a tolerance"


@RULES.rule(
    NULLSPACE, (LinearOperator,), id="nullspace/orthonormal", source="Q x = 0 only for x = 0",
    when=_no_kernel, precedence=1, complexity="O(1)",
)  # fmt: skip
def nullspace_orthonormal(A: Any, tol: Any, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    return Dense(be.zeros((A.shape[-1], 0), A.dtype, A.device), declared=frozenset({Stiefel}))


@RULES.rule(
    NULLSPACE,
    (LowRank,),
    id="nullspace/lowrank",
    source="U V^H x = 0 where R V^H x = 0, U = Q R",
    complexity="O(N r^2), null space of an r x N matrix",
)
def nullspace_lowrank(A: Any, tol: Any, *, alg: Any) -> LinearOperator:
    """The null space of a k x n matrix."""
    be = A._concrete_backend()
    if A.rank > A.shape[-2]:
        return NotImplemented
    R = be.qr(A.U)[1]
    s, V = ask(RIGHT_SINGULAR, (Dense(be.matmul(R, be.adjoint(A.right))),), alg)
    if be.name == "abstract":
        return _abstract(A, tol)  # type: ignore[no-any-return]
    return columns(A, V, _where(A, s, tol, small=True))


@RULES.rule(
    ORTH,
    (LinearOperator,),
    id="orth/singular",
    source="Golub & Van Loan, 4th ed., sec. 2.4.2",
    complexity="that of svd; only vectors of the range are formed",
)
def orth_singular(A: Any, tol: Any, *, alg: Any) -> LinearOperator:
    U, s, _ = ask(SINGULAR, (A,), alg)
    if A._concrete_backend().name == "abstract":
        return _abstract(A, tol, -2)  # type: ignore[no-any-return]
    return columns(A, U, _where(A, s, tol, small=False))


def _orthonormal(A: Any, tol: Any, *, alg: Any) -> bool | str:
    """Guard: orthonormal columns, no tolerance given."""
    return _no_kernel(A, tol, alg=alg)


@RULES.rule(
    ORTH,
    (LinearOperator,),
    id="orth/orthonormal",
    source="definition",
    when=_orthonormal,
    precedence=1,
    complexity="O(1)",
)
def orth_orthonormal(A: Any, tol: Any, *, alg: Any) -> LinearOperator:
    return A

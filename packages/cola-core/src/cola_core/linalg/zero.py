"""Rules of the zero matrix, one for each question, without an array of its size."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..dispatch.choose import ask
from ..errors import NotPositiveDefiniteError, SingularMatrixError
from ..operators import Identity, LinearOperator, ScalarMul, Zero
from ..plugins.rulebook import RuleBook
from .determinant import SLOGDET
from .diagonal import DIAG, length
from .eigen import EIGH, EIGSH
from .eigen_rules import _some_of_all, _structured
from .factorizations import CHOLESKY
from .inverse import INV
from .matrix_function import APPLY_UNARY
from .scalar_function import ScalarFunction
from .solve import SOLVE
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()


@RULES.rule(INV, (Zero,), id="inv/zero", source="definition", complexity="O(1)")
def inv_zero(A: Any, *, alg: Any) -> LinearOperator:
    if A.shape[-1]:
        raise SingularMatrixError(f"{A!r} is singular: it is the zero matrix. Its pseudoinverse is {A.H!r}.")
    return A


@RULES.rule(SOLVE, (Zero,), id="solve/zero", source="inv/zero", complexity="O(1)")
def solve_zero(A: Any, b: Array, *, alg: Any) -> Array:
    return ask(INV, (A,), alg)._matmat(b)


@RULES.rule(SLOGDET, (Zero,), id="slogdet/zero", source="definition", complexity="O(1)")
def slogdet_zero(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    sign = be.zeros(A.batch_shape, A.dtype, A.device)
    value = be.zeros(A.batch_shape, be.real_dtype(A.dtype), A.device)
    return (sign, value - float("inf")) if A.shape[-1] else (sign + 1, value)


@RULES.rule(DIAG, (Zero,), id="diag/zero", source="definition", complexity="O(N)")
def diag_zero(A: Any, k: int, *, alg: Any) -> Array:
    return A._concrete_backend().zeros((*A.batch_shape, length(A, k)), A.dtype, A.device)


@RULES.rule(TRACE, (Zero,), id="trace/zero", source="definition", complexity="O(1)")
def trace_zero(A: Any, *, alg: Any) -> Array:
    return A._concrete_backend().zeros(A.batch_shape, A.dtype, A.device)


@RULES.rule(EIGH, (Zero,), id="eigh/zero", source="definition", complexity="O(N)")
def eigh_zero(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    return be.zeros(A.shape[:-1], be.real_dtype(A.dtype), A.device), Identity.like(A)


RULES.rule(
    EIGSH,
    (Zero,),
    id="eigsh/zero",
    source="eigenvalues of the parts, then the wanted ones",
    when=_structured,
    complexity="that of eigh, O(N log N), k eigenvectors formed",
)(_some_of_all)


@RULES.rule(APPLY_UNARY, (Zero,), id="function/zero", source="f(0) = f(0) I", complexity="O(1)")
def of_zero(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    if not A.shape[-1]:
        return A  # no eigenvalue, so none where f is not defined
    be = A._concrete_backend()
    value = f.on(be, be.zeros(A.batch_shape, be.real_dtype(A.dtype), A.device))
    facts = f.properties(A, value)
    value = be.asarray(value, dtype=be.xp.result_type(value.dtype, be.dtype(A.dtype)), device=A.device)
    return ScalarMul(value, A.shape[-1], declared=facts)


@RULES.rule(CHOLESKY, (Zero,), id="cholesky/zero", source="definition", complexity="O(1)")
def cholesky_zero(A: Any, *, alg: Any) -> LinearOperator:
    if A.shape[-1]:
        raise NotPositiveDefiniteError(f"cholesky({A!r}): the zero matrix is not positive definite.")
    return A

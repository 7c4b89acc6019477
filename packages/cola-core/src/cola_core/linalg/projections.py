"""Rules for projections: everything follows from ``P^2 = P`` and the eigenvalues one and zero."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..errors import SingularMatrixError
from ..operators import (
    Concatenated,
    Identity,
    LinearOperator,
    LowRank,
    Product,
    Projection,
    ScalarMul,
    Sliced,
    Sum,
    add,
    scale,
)
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint, Unitary
from .determinant import SLOGDET
from .diagonal import DIAG, exactly, length
from .eigen import EIG, EIGH, EIGSH, EIGVALS
from .eigen_rules import _some_of_all, _structured
from .inverse import INV
from .lstsq import PINV
from .matrix_function import APPLY_UNARY, ScalarFunction
from .solve import SOLVE
from .structure import by_eigenvalues
from .trace import TRACE

__all__: list[str] = []

RULES = RuleBook()


def _invertible(A: Any) -> None:
    n = A.shape[-1]
    if A.rank != n:
        raise SingularMatrixError(
            f"{A!r} is singular: a projection of rank {A.rank} in {n} dimensions. For the part of b in its "
            "range use P @ b; least squares solutions come from lstsq."
        )


@RULES.rule(
    SOLVE,
    (Projection,),
    id="solve/projection",
    source="P^2 = P: only the identity is invertible",
    complexity="one product",
)
def solve_projection(A: Any, b: Array, *, alg: Any) -> Array:
    _invertible(A)
    return A._matmat(b)


@RULES.rule(
    INV,
    (Projection,),
    id="inv/projection",
    source="P^2 = P: only the identity is invertible",
    complexity="O(1)",
)
def inv_projection(A: Any, *, alg: Any) -> LinearOperator:
    _invertible(A)
    return A  # type: ignore[no-any-return]


@RULES.rule(
    SLOGDET,
    (Projection,),
    id="slogdet/projection",
    source="P^2 = P: the determinant is 0 or 1",
    complexity="O(1)",
)
def slogdet_projection(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    sign, value = be.zeros(A.batch_shape, A.dtype, A.device), be.zeros(A.batch_shape, be.real_dtype(A.dtype))
    return (sign + 1, value) if A.rank == A.shape[-1] else (sign, value - float("inf"))


@RULES.rule(
    TRACE,
    (Projection,),
    id="trace/projection",
    source="the trace of a projection is its rank",
    complexity="O(1)",
)
def trace_projection(A: Any, *, alg: Any) -> Array:
    return A._concrete_backend().zeros(A.batch_shape, A.dtype, A.device) + A.rank


@RULES.rule(
    DIAG,
    (Projection,),
    id="diag/projection",
    source="(Q W^H)_ij = sum_k Q_ik conj(W_jk)",
    when=exactly,
    complexity="O(N r)",
)
def diag_projection(A: Any, k: int, *, alg: Any) -> Array:
    be, size = A._concrete_backend(), length(A, k)
    row, col = max(-k, 0), max(k, 0)
    Q = A.Q._dense_like(A)
    W = Q if A.W is None else A.W._dense_like(A)
    d = be.xp.sum(Q[..., row : row + size, :] * be.conj(W[..., col : col + size, :]), axis=-1)
    return (int(k == 0) - d) if A.complement else d


def _self_adjoint(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: an orthogonal projection."""
    return True if A.W is None else "the pseudoinverse of an oblique projection is another operator"


@RULES.rule(
    PINV,
    (Projection,),
    id="pinv/projection",
    source="P P P = P and P^H = P: Penrose 1955",
    when=_self_adjoint,
    precedence=4,
    complexity="O(1)",
)
def pinv_projection(A: Any, rcond: Any, *, alg: Any) -> LinearOperator:
    return A  # type: ignore[no-any-return]


# -- spectra -------------------------------------------------------------------------------------------------
def reflection(A: LinearOperator, Q: Array) -> LinearOperator:
    """A unitary ``I - Y Y^H`` whose first k columns span the columns of Q, which are orthonormal.

    The block reflector that takes the first unit vectors to ``Q Z``: with the SVD ``Q_1 = L S R^H`` of Q's
    leading k x k block, ``Z = -R L^H`` and ``Y = (E - Q Z) L (1 + S)^{-1/2}``.
    Source: Schreiber & Parlett, SINUM 25 (1988) 189.
    """
    be = A._concrete_backend()
    xp = be.xp
    k = Q.shape[-1]
    L, S, R = be.svd(Q[..., :k, :])
    # E - Q Z = E + Q R L^H, and (E + Q R L^H) L = [L; 0] + Q R
    Y = be.matmul(Q, R)
    pad = be.zeros((*L.shape[:-2], Q.shape[-2] - k, k), Q.dtype, be.device(Q))
    Y = Y + xp.concat([L, pad], axis=-2)
    Y = Y / be.astype(xp.sqrt(1 + S), Q.dtype)[..., None, :]
    return Sum(
        Identity.like(A),
        Product(ScalarMul(-1, Q.shape[-2]), LowRank(Y)),
        declared=frozenset({Unitary, SelfAdjoint}),
    )


def _ones_and_zeros(A: Any, dtype: Any) -> Array:
    """Eigenvalues in the order of a basis of Q's columns and of the rest."""
    be = A._concrete_backend()
    n, k = A.Q.shape[-2:]
    ones = be.zeros((*A.batch_shape, k), dtype, A.device) + (0 if A.complement else 1)
    rest = be.zeros((*A.batch_shape, n - k), dtype, A.device) + (1 if A.complement else 0)
    return be.xp.concat([ones, rest], axis=-1)


def _orthogonal(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: an orthogonal projection."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    return True if A.W is None else "an oblique projection is not self-adjoint"


@RULES.rule(
    EIGH,
    (Projection,),
    id="eigh/projection",
    source="eigenvalues 1 and 0; vectors by a block reflector: Schreiber & Parlett 1988",
    when=_orthogonal,
    complexity="O(N r^2)",
)
def eigh_projection(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    return _ones_and_zeros(A, be.real_dtype(A.dtype)), reflection(A, A.Q._dense_like(A))


RULES.rule(
    EIGSH,
    (Projection,),
    id="eigsh/projection",
    source="eigenvalues 1 and 0, then the wanted ones",
    when=_structured,
    complexity="that of eigh, O(N log N), k eigenvectors formed",
)(_some_of_all)


def _by_eigenvalues(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for eigenvalues."""
    return by_eigenvalues(alg)


@RULES.rule(
    EIG,
    (Projection,),
    id="eig/projection",
    source="eigenvalues 1 and 0, with the range of Q and what is orthogonal to W",
    when=_by_eigenvalues,
    complexity="O(N r^2)",
)
def eig_oblique(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    n, k = A.Q.shape[-2:]
    W, _ = be.xp.linalg.qr(A.left._dense_like(A))
    null = Sliced(reflection(A, W), None, be.asarray(_count(k, n), device=A.device))
    return _ones_and_zeros(A, A.dtype), Concatenated(A.Q, null, axis=-1)


def _count(start: int, stop: int) -> Any:
    import numpy as np

    return np.arange(start, stop)


@RULES.rule(
    EIGVALS,
    (Projection,),
    id="eigvals/projection",
    source="eigenvalues 1 and 0",
    when=_by_eigenvalues,
    complexity="O(N)",
)
def eigvals_projection(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    if A.isa(SelfAdjoint):
        return _ones_and_zeros(A, be.real_dtype(A.dtype))
    return _ones_and_zeros(A, be.xp.result_type(A.dtype, be.dtype("complex64")))


# -- functions -----------------------------------------------------------------------------------------------
@RULES.rule(
    APPLY_UNARY,
    (Projection,),
    id="function/projection",
    source="f(P) = f(0) I + (f(1) - f(0)) P",
    complexity="O(1)",
)
def of_projection(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    """Where f(0) is infinite (log, 1/sqrt) the projection is singular, unless it is the identity."""
    be = A._concrete_backend()
    xp = be.xp
    one = f.on(be, xp.ones((1,), dtype=be.real_dtype(A.dtype), device=A.device))
    facts = f.properties(A)
    if A.rank == A.shape[-1]:
        return ScalarMul(
            be.asarray(one[0], dtype=xp.result_type(one.dtype, be.dtype(A.dtype)), device=A.device),
            A.shape[-1],
            declared=facts,
        )
    one = be.astype(one, xp.result_type(one.dtype, be.dtype(A.dtype)))
    zero = f.on(be, 0 * xp.ones((1,), dtype=be.real_dtype(A.dtype), device=A.device))
    if be.is_concrete(zero) and not bool(xp.all(xp.isfinite(zero))):
        raise SingularMatrixError(
            f"{f.name}({A!r}): the projection has the eigenvalue zero, where {f.name} is not finite."
        )
    zero = be.astype(zero, one.dtype)
    shift = ScalarMul(be.asarray(zero[0], device=A.device), A.shape[-1])
    out = add(shift, scale(be.asarray(one[0] - zero[0], device=A.device), A))
    return out.replace(declared=out.declared | facts) if facts - out.properties else out

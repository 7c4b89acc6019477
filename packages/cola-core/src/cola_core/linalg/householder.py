"""Rules of reflections and products of reflections."""

from __future__ import annotations

from typing import Any

from ..backends.base import Array
from ..dispatch.choose import ask
from ..errors import SingularMatrixError
from ..operators import Householder, HouseholderProduct, LinearOperator
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint, Unitary
from .determinant import SLOGDET, of_entries
from .diagonal import DIAG, exactly, length
from .eigen import EIGH, EIGSH
from .eigen_rules import _some_of_all, _structured
from .inverse import INV
from .matrix_function import APPLY_UNARY, _spectral, _through_spectrum
from .solve import SOLVE
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()
SOURCE = "(I - b v v^H)^-1 = I - b/(b v^H v - 1) v v^H; Golub & Van Loan, 4th ed., sec. 2.1.4"


def _last_eigenvalue(A: Any) -> Array:
    """``1 - beta v^H v``; the others are one."""
    return 1 - A.coefficient * A.squared


def _taus(A: Any) -> tuple[Array, Array]:
    """The tau_i of a product, and what its reflections do to their vectors: ``1 - tau_i v_i^H v_i``."""
    xp = A.xp
    tau = A.coefficients
    return tau, 1 - tau * xp.sum(xp.abs(A.vectors) ** 2, axis=-2)


def _inverse_coefficient(A: Any, beta: Any, other: Array) -> Array:
    be = A._concrete_backend()
    if be.is_concrete(other) and bool(be.xp.any(other == 0)):
        raise SingularMatrixError(f"{A!r} is singular: beta v^H v is one for a reflection.")
    return -beta / other


@RULES.rule(INV, (Householder,), id="inv/householder", source=SOURCE, precedence=2, complexity="O(N)")
def inv_householder(A: Any, *, alg: Any) -> LinearOperator:
    if A.isa(Unitary):
        return A.H
    beta = _inverse_coefficient(A, A.coefficient, _last_eigenvalue(A))
    return Householder(A.vec, beta, declared=A.properties & {PSD, SelfAdjoint})


@RULES.rule(
    INV,
    (HouseholderProduct,),
    id="inv/householder-product",
    source=SOURCE,
    precedence=2,
    complexity="O(N r), r reflections",
)
def inv_householder_product(A: Any, *, alg: Any) -> LinearOperator:
    if A.isa(Unitary):
        return A.H
    # H_k^-1 ... H_1^-1 is the adjoint of the product of their adjoints in the order of A
    tau = A._concrete_backend().conj(_inverse_coefficient(A, *_taus(A)))
    return HouseholderProduct(A.V, tau, not A.backwards)


def _through_inverse(A: Any, b: Array, *, alg: Any) -> Array:
    return ask(INV, (A,), alg)._matmat(b)


@RULES.rule(
    SLOGDET,
    (Householder,),
    id="slogdet/householder",
    source="det(I - b v v^H) = 1 - b v^H v",
    complexity="O(N)",
)
def slogdet_householder(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    d = be.astype(_last_eigenvalue(A), A.dtype)
    return of_entries(be, be.xp.broadcast_to(d, A.batch_shape)[..., None])


@RULES.rule(
    SLOGDET,
    (HouseholderProduct,),
    id="slogdet/householder-product",
    source="product of the factors'",
    complexity="O(N r), r reflections",
)
def slogdet_householder_product(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    sign, value = of_entries(be, be.astype(_taus(A)[1], A.dtype))
    return (be.conj(sign) if A.backwards else sign), value


def _off_identity(A: Any, U: Array, V: Array, k: int) -> Array:
    """The k-th diagonal of ``I - U V^H``."""
    be, size = A._concrete_backend(), length(A, k)
    row, col = max(-k, 0), max(k, 0)
    out = be.xp.sum(U[..., row : row + size, :] * be.conj(V[..., col : col + size, :]), axis=-1)
    return 1 - out if k == 0 else -out


@RULES.rule(
    DIAG, (Householder,), id="diag/householder", source="1 - b |v_i|^2", when=exactly, complexity="O(N)"
)
def diag_householder(A: Any, k: int, *, alg: Any) -> Array:
    v, beta = A.direction[..., :, None], A.coefficient
    beta = beta[..., None, None] if getattr(beta, "shape", ()) else beta
    return _off_identity(A, beta * v, v, k)


@RULES.rule(
    DIAG,
    (HouseholderProduct,),
    id="diag/householder-product",
    source="entries of I - V T V^H",
    when=exactly,
    complexity="O(N r^2), r reflections",
)
def diag_householder_product(A: Any, k: int, *, alg: Any) -> Array:
    be = A._concrete_backend()
    V, T = A.compact()
    return _off_identity(A, be.matmul(V, be.adjoint(T) if A.backwards else T), V, k)


def _from_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


def _self_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint."""
    return True if A.isa(SelfAdjoint) else "not known to be self-adjoint: beta may be complex"


@RULES.rule(
    EIGH,
    (Householder,),
    id="eigh/householder",
    source="v is an eigenvector, what is orthogonal to it stays",
    when=_self_adjoint,
    complexity="O(N)",
)
def eigh_householder(A: Any, *, alg: Any) -> Any:
    """The eigenvectors are the columns of the reflection that takes the first axis to v."""
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    last = _last_eigenvalue(A)
    last = xp.real(last) if be.is_complex(last) else last
    others = xp.ones((*A.batch_shape, n), dtype=last.dtype, device=be.device(A.vec))
    w = xp.concat([xp.broadcast_to(last, A.batch_shape)[..., None], others[..., 1:]], axis=-1)[..., :n]
    head, tail = A.direction[..., :1], A.direction[..., 1:]
    size = xp.abs(head)
    phase = xp.where(size > 0, head / xp.where(size > 0, size, xp.ones_like(size)), xp.ones_like(head))
    head = head + phase * be.astype(xp.sqrt(A.squared), A.vec.dtype)[..., None]
    return w, Householder(xp.concat([head, tail], axis=-1)[..., :n])


for _cls, _name in ((Householder, "householder"), (HouseholderProduct, "householder-product")):
    RULES.rule(
        SOLVE,
        (_cls,),
        id=f"solve/{_name}",
        source=f"inv/{_name}",
        precedence=2,
        complexity="O(N k), times the number of reflections",
    )(_through_inverse)
    RULES.rule(
        TRACE,
        (_cls,),
        id=f"trace/{_name}",
        source="sum of the diagonal",
        when=exactly,
        complexity="that of diag",
    )(_from_diagonal)

RULES.rule(
    EIGSH,
    (Householder,),
    id="eigsh/householder",
    source="eigenvalues of the parts, then the wanted ones",
    when=_structured,
    complexity="that of eigh, O(N log N), k eigenvectors formed",
)(_some_of_all)
RULES.rule(
    APPLY_UNARY,
    (Householder,),
    id="function/householder",
    source="f(A) = V f(W) V^H",
    when=_spectral,
    complexity="that of eigh, O(N)",
)(_through_spectrum)

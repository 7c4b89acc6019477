"""``cholesky(A)``: the lower triangular factor as an operator, structured where A is."""

from __future__ import annotations

from typing import Any

from ..algorithms.banded import BandedCholesky
from ..algorithms.base import Auto
from ..algorithms.cholesky import look_for_asymmetry
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import NotPositiveDefiniteError
from ..operators import (
    Banded,
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    Product,
    ScalarMul,
    Triangular,
    Tridiagonal,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD
from .operands import as_algorithm, square

__all__ = ["CHOLESKY", "cholesky"]

RULES = RuleBook()

CHOLESKY = Question("cholesky", abstract=lambda A: A, doc="L with A = L L^H")


def cholesky(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """Lower triangular L with ``A = L L^H``, for a positive definite operator.

    A must be declared PSD (arrays: ``cholesky(cola_core.PSD(a))``); calling this on an undeclared operator is
    taken as the declaration, which the factorisation verifies (for stored entries, symmetry too).
    The factor of a Kronecker product is a Kronecker product, of a block diagonal a block diagonal.
    Raises NotPositiveDefiniteError.
    """
    A = square(A, "cholesky")
    if not A.isa(PSD):
        if isinstance(A, Dense):
            look_for_asymmetry(A._concrete_backend(), A, A.array)
        A = PSD(A)
    return CHOLESKY.run(A, alg=as_algorithm(alg, "cholesky"), return_info=return_info, on_failure=on_failure)


cholesky.question = CHOLESKY  # type: ignore[attr-defined]


def _root(A: Any, d: Any) -> Any:
    be = A._concrete_backend()
    xp = be.xp
    real = xp.real(d) if be.is_complex(d) else d
    if be.is_concrete(d) and bool(xp.any(~(real > 0))):
        raise NotPositiveDefiniteError(f"cholesky({A!r}): a diagonal entry is not positive.")
    return xp.sqrt(d)


@RULES.rule(CHOLESKY, (Identity,), id="cholesky/identity", source="definition", complexity="O(1)")
def cholesky_identity(A: Any, *, alg: Any) -> LinearOperator:
    return A


@RULES.rule(CHOLESKY, (ScalarMul,), id="cholesky/scalar", source="definition", complexity="O(1)")
def cholesky_scalar(A: Any, *, alg: Any) -> LinearOperator:
    return ScalarMul(_root(A, A.value), A.n, declared=frozenset({PSD}))


@RULES.rule(CHOLESKY, (Diagonal,), id="cholesky/diagonal", source="definition", complexity="O(N)")
def cholesky_diagonal(A: Any, *, alg: Any) -> LinearOperator:
    return Diagonal(_root(A, A.diag), declared=frozenset({PSD}))


def _auto(A: Any, *, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for."""
    return True if isinstance(alg, Auto) else f"{type(alg).__name__} was asked for explicitly"


def _cholesky_band(A: Any, *, alg: Any) -> LinearOperator:
    """The factor of a band matrix keeps the band, also where a dense one would cost less."""
    return ask(CHOLESKY, (A,), BandedCholesky())


for _cls in (Banded, Tridiagonal):
    RULES.rule(
        CHOLESKY,
        (_cls,),
        id=f"cholesky/{_cls.__name__.lower()}",
        source="Golub & Van Loan, 4th ed., sec. 4.3.5",
        when=_auto,
        complexity="O(N b^2)",
    )(_cholesky_band)


def _psd_parts(A: Any, *, alg: Any) -> bool | str:
    """Guard: parts known to be PSD."""
    return next((f"part {M!r} is not known to be PSD" for M in A.Ms if not M.isa(PSD)), True)


@RULES.rule(
    CHOLESKY,
    (Kronecker,),
    id="cholesky/kronecker",
    source="Van Loan 2000, sec. 1",
    when=_psd_parts,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def cholesky_kronecker(A: Any, *, alg: Any) -> LinearOperator:
    return A._kron(*(ask(CHOLESKY, (M,), alg) for M in parts(A)))


@RULES.rule(
    CHOLESKY,
    (BlockDiag,),
    id="cholesky/blockdiag",
    source="definition",
    when=_psd_parts,
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def cholesky_blockdiag(A: Any, *, alg: Any) -> LinearOperator:
    return A.with_blocks(*(ask(CHOLESKY, (M,), alg) for M in parts(A)))


def _gram(A: Any, *, alg: Any) -> bool | str:
    """Guard: B.H @ B with a B that is not wide."""
    if len(A.Ms) != 2:
        return "not a product of two"
    left, right = A.Ms
    if not left._adjoint_pair(right):
        return "not written as B.H @ B"
    if right.shape[-2] < right.shape[-1]:
        return "B is wide, so that B.H @ B is singular"
    return True


@RULES.rule(
    CHOLESKY,
    (Product,),
    id="cholesky/gram",
    source="B^H B = R^H R with B = Q R",
    when=_gram,
    precedence=1,
    complexity="QR factorisation of B",
)
def cholesky_gram(A: Any, *, alg: Any) -> LinearOperator:
    """The triangular factor of B itself, whose condition number is the square root of A's."""
    from .qr import QR_FACTORS

    _, R = ask(QR_FACTORS, (A.Ms[1],), Auto())
    be = A._concrete_backend()
    if isinstance(R, Triangular) and be.is_concrete(R.array):
        d = be.xp.abs(be.xp.linalg.diagonal(R.array))
        eps = float(be.xp.finfo(d.dtype).eps)
        if d.shape[-1] and not bool(be.xp.all(be.xp.min(d, axis=-1) > eps * be.xp.max(d, axis=-1))):
            raise NotPositiveDefiniteError(
                f"cholesky({A!r}): {A.Ms[1]!r} has linearly dependent columns, so that its Gram matrix is "
                "singular."
            )
    return R.H


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a non-negative number times a PSD operator."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    return True if s.isa(PSD) and rest.isa(PSD) else "number and operator must both be known non-negative"


@RULES.rule(
    CHOLESKY,
    (Product,),
    id="cholesky/scaled",
    source="c A = (sqrt(c) L)(sqrt(c) L)^H",
    when=_scaled,
    complexity="that of the operator",
)
def cholesky_scaled(A: Any, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    return matmul(ask(CHOLESKY, (s,), alg), ask(CHOLESKY, (rest,), alg))

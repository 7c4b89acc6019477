"""``schur``: unitary similarity to triangular form, read off where the structure has it."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import UnknownNameError
from ..operators import (
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    Permutation,
    Product,
    ScalarMul,
    Sum,
    Triangular,
    add,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint
from .eigen import EIGH
from .inverse import all_square
from .operands import as_algorithm, square
from .structure import by_eigenvalues, shift_split, structural

__all__ = ["SCHUR", "schur"]

RULES = RuleBook()


def _abstract(A: Any, output: str) -> Any:
    from ..backends.abstract import XP, AbstractArray

    dtype = A.dtype if output == "real" else XP.result_type(A.dtype, XP.complex64)
    return Dense(AbstractArray(A.shape, dtype)), Dense(AbstractArray(A.shape, dtype))


SCHUR = Question("schur", abstract=_abstract, doc="A = Z T Z^H")


def schur(
    A: Any, alg: Any = Auto(), *, output: str = "real", return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """Schur decomposition ``A = Z @ T @ Z.H`` as the pair (T, Z), in SciPy's order.

    Z is unitary; T is upper triangular for complex operators and ``output="complex"``. With ``output="real"``
    (default) a real operator keeps real factors, with 2 x 2 blocks on T's diagonal for pairs of complex
    eigenvalues. Self-adjoint operators have a diagonal T. On PyTorch the dense decomposition is SciPy's,
    made on the host; no library differentiates it.

    >>> import numpy as np, cola_core as cola
    >>> T, Z = cola.schur(np.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> bool(np.allclose((Z @ T @ Z.H).to_dense(), [[1, 2], [0, 3]]))
    True
    """
    A = square(A, "schur")
    if output not in ("real", "complex"):
        raise UnknownNameError(f'schur(output={output!r}): choose "real" or "complex".')
    return SCHUR.run(
        A, output, alg=as_algorithm(alg, "schur"), return_info=return_info, on_failure=on_failure
    )


schur.question = SCHUR  # type: ignore[attr-defined]


def _self_adjoint(A: Any, output: str, *, alg: Any) -> bool | str:
    """Guard: self-adjoint."""
    return True if A.isa(SelfAdjoint) else "not known to be self-adjoint"


@RULES.rule(
    SCHUR,
    (LinearOperator,),
    id="schur/self-adjoint",
    source="T = diag(w)",
    when=_self_adjoint,
    precedence=1,
    complexity="that of eigh",
)
def schur_self_adjoint(A: Any, output: str, *, alg: Any) -> Any:
    w, V = ask(EIGH, (A,), alg if by_eigenvalues(alg) is True else Auto())
    be = A._concrete_backend()
    return Diagonal(be.astype(w, A.dtype)), V


def _itself(A: Any, output: str, *, alg: Any) -> Any:
    return A, Identity.like(A)


for _cls in (Identity, ScalarMul, Diagonal):
    RULES.rule(SCHUR, (_cls,), id=f"schur/{_cls.__name__.lower()}", source="definition", complexity="O(1)")(
        _itself
    )


@RULES.rule(
    SCHUR,
    (Triangular,),
    id="schur/triangular",
    source="J L J is upper for lower L",
    complexity="O(1) for an upper triangle, O(N^2) for a lower one",
)
def schur_triangular(A: Any, output: str, *, alg: Any) -> Any:
    if not A.lower:
        return A, Identity.like(A)
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    J = Permutation(xp.flip(xp.arange(n, device=A.device), axis=0), A.dtype)
    return Triangular(xp.flip(A.array, axis=(-2, -1)), lower=False, unit=A.unit), J


def _triangular(M: Any, output: str) -> bool:
    """Whether M's T is known to have no 2 x 2 blocks: Kronecker compositions need that."""
    if M._is_complex() or output == "complex" or M.isa(SelfAdjoint):
        return True
    return isinstance(M, (Triangular, Diagonal, ScalarMul, Identity))


def _composes(A: Any, output: str, *, alg: Any) -> bool | str:
    """Guard: square factors whose T have no 2 x 2 blocks (complex, or known to be triangular)."""
    ok = all_square(A, alg=alg)
    if ok is not True:
        return ok
    for M in A.Ms:
        if not _triangular(M, output):
            return f'the real T of {M!r} may have 2 x 2 blocks; output="complex" has none'
    return True


@RULES.rule(
    SCHUR,
    (Kronecker,),
    id="schur/kronecker",
    source="Van Loan 2000, sec. 1",
    when=_composes,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def schur_kronecker(A: Any, output: str, *, alg: Any) -> Any:
    pairs = [ask(SCHUR, (M, output), alg) for M in parts(A)]
    return A._kron(*(T for T, _ in pairs)), A._kron(*(Z for _, Z in pairs))


@RULES.rule(
    SCHUR,
    (KronSum,),
    id="schur/kronsum",
    source="Horn & Johnson 1991, thm 4.4.5",
    when=_composes,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def schur_kronsum(A: Any, output: str, *, alg: Any) -> Any:
    pairs = [ask(SCHUR, (M, output), alg) for M in parts(A)]
    return A._kronsum(*(T for T, _ in pairs)), A._kron(*(Z for _, Z in pairs))


def _square(A: Any, output: str, *, alg: Any) -> bool | str:
    """Guard: square blocks."""
    return all_square(A, alg=alg)


@RULES.rule(
    SCHUR,
    (BlockDiag,),
    id="schur/blockdiag",
    source="definition",
    when=_square,
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def schur_blockdiag(A: Any, output: str, *, alg: Any) -> Any:
    pairs = [ask(SCHUR, (M, output), alg) for M in parts(A)]
    return A.with_blocks(*(T for T, _ in pairs)), A.with_blocks(*(Z for _, Z in pairs))


def _scaled(A: Any, output: str, *, alg: Any) -> bool | str:
    """Guard: a number times an operator with a Schur form by rule."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    if s._is_complex() and not rest._is_complex() and not _triangular(rest, output):
        return "a complex number times real 2 x 2 blocks"
    return structural("schur", rest, alg, output)


@RULES.rule(
    SCHUR,
    (Product,),
    id="schur/scaled",
    source="c A = Z (c T) Z^H",
    when=_scaled,
    complexity="that of the operator",
)
def schur_scaled(A: Any, output: str, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    T, Z = ask(SCHUR, (rest, output), alg)
    return matmul(s, T), Z  # type: ignore[arg-type]


def _shifted(A: Any, output: str, *, alg: Any) -> bool | str:
    """Guard: an operator with a Schur form by rule plus multiples of the identity."""
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    if any(s._is_complex() for s in split[1]) and not _triangular(split[0], output):
        return "a complex number added to real 2 x 2 blocks"
    return structural("schur", split[0], alg, output)


@RULES.rule(
    SCHUR,
    (Sum,),
    id="schur/shift",
    source="A + s I = Z (T + s I) Z^H",
    when=_shifted,
    complexity="that of the operator",
)
def schur_shift(A: Any, output: str, *, alg: Any) -> Any:
    base, shifts = shift_split(A)  # type: ignore[misc]
    T, Z = ask(SCHUR, (base, output), alg)
    for s in shifts:
        T = add(T, s)
    return T, Z

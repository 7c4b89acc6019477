"""The generalised eigenproblem ``A v = w B v``: what ``eigh(A, B=B)`` and ``eig(A, B=B)`` ask.

Rules dispatch on A; their guards look at B. Eigenvectors of the definite problem satisfy ``V^H B V = I``.
"""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.spectrum import check_which, order_by
from ..backends import backend_of
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import BackendError, NotPositiveDefiniteError, PropertyError, ShapeError
from ..operators import (
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    ScalarMul,
    Sum,
    add,
    matmul,
    parts,
    scale,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint
from .eigen import (
    EIG,
    EIGH,
    _finished,
    _refuse_shift_without_count,
    _sorted,
    checked_shift,
    columns,
    counted,
    joined,
    moved_back,
    outer_product,
    ranked,
)
from .operands import as_algorithm, square
from .shared_bases import pencils, same
from .structure import by_eigenvalues

__all__ = ["GEIG", "GEIGH", "GEIGS", "GEIGSH", "generalized_eig", "generalized_eigh"]

RULES = RuleBook()


def _shapes(A: Any, B: Any, columns: int, real: bool) -> Any:
    from ..backends.abstract import XP, AbstractArray
    from ..operators import Dense

    be = A._concrete_backend()
    dtype = XP.result_type(A.dtype, B.dtype)
    if not real:
        dtype = XP.result_type(dtype, XP.complex64)
    batch = XP.broadcast_arrays(AbstractArray(A.batch_shape, dtype), AbstractArray(B.batch_shape, dtype))[0]
    n = A.shape[-1]
    w = AbstractArray((*batch.shape, columns), be.real_dtype(dtype) if real else dtype)
    return w, Dense(AbstractArray((*batch.shape, n, columns), dtype))


def _definite(A: Any, B: Any) -> bool:
    return bool(A.isa(SelfAdjoint) and B.isa(PSD))


GEIGH = Question(
    "geigh", abstract=lambda A, B: _shapes(A, B, A.shape[-1], True), doc="A V = B V diag(w), B > 0"
)
GEIGSH = Question("geigsh", abstract=lambda A, B, k, which: _shapes(A, B, k, True), doc="some of these")
GEIG = Question(
    "geig", abstract=lambda A, B: _shapes(A, B, A.shape[-1], _definite(A, B)), doc="A V = B V diag(w)"
)
GEIGS = Question(
    "geigs", abstract=lambda A, B, k, which: _shapes(A, B, k, _definite(A, B)), doc="some of these"
)


def generalized_eigh(
    A: Any, B: Any, k: Any, which: str, alg: Any, sigma: Any, *, return_info: bool, on_failure: str
) -> Any:
    """``eigh(A, k, which, alg, sigma=sigma, B=B)``."""
    B = _right(A, B, "eigh")
    if not B.isa(PSD):
        raise PropertyError(
            f"eigh({A!r}, B={B!r}): B is not known to be positive definite. Declare it with "
            "cola_core.PSD(B), or use eig for a general B."
        )
    if k is None:
        _refuse_shift_without_count(A, sigma, "eigh")
        out = GEIGH.run(A, B, alg=as_algorithm(alg, "eigh"), return_info=return_info, on_failure=on_failure)
        return _finished(out, return_info, _sorted)
    k, which = counted(A, k, which, sigma, "SA", "eigh"), check_which(which)
    moved, which = _towards(A, B, sigma, which, "eigh")
    out = GEIGSH.run(
        moved, B, k, which, alg=as_algorithm(alg, "eigsh"), return_info=return_info, on_failure=on_failure
    )
    return _finished(out, return_info, lambda w, V: _sorted(moved_back(w, sigma), V))


def generalized_eig(
    A: Any, B: Any, k: Any, which: str, alg: Any, sigma: Any, *, return_info: bool, on_failure: str
) -> Any:
    """``eig(A, k, which, alg, sigma=sigma, B=B)``."""
    B = _right(A, B, "eig")
    if k is None:
        _refuse_shift_without_count(A, sigma, "eig")
        out = GEIG.run(A, B, alg=as_algorithm(alg, "eig"), return_info=return_info, on_failure=on_failure)
        return _finished(out, return_info, lambda w, V: ranked(w, V, "LM"))
    k, which = counted(A, k, which, sigma, "LM", "eig"), check_which(which, general=True)
    moved, which = _towards(A, B, sigma, which, "eig")
    out = GEIGS.run(
        moved, B, k, which, alg=as_algorithm(alg, "eigs"), return_info=return_info, on_failure=on_failure
    )

    def finish(w: Array, V: LinearOperator) -> tuple[Array, LinearOperator]:
        w, V = ranked(w, V, which)
        return moved_back(w, sigma), V

    return _finished(out, return_info, finish)


def _right(A: Any, B: Any, name: str) -> LinearOperator:
    B = square(B, name)
    if B.shape[-1] != A.shape[-1]:
        raise ShapeError(f"{name}({A!r}, B={B!r}): A is {A.shape}, B is {B.shape}; they must agree.")
    if A.backend is not None and B.backend is not None and A.backend is not B.backend:
        raise BackendError(
            f"{name}({A!r}, B={B!r}): A holds {A.backend.name} arrays, B {B.backend.name} ones. "
            f"Convert one: B.to(backend={A.backend.name!r})."
        )
    return B


def _towards(A: Any, B: Any, sigma: Any, which: str, name: str) -> tuple[Any, str]:
    if sigma is None:
        return A, which
    return add(A, scale(-checked_shift(A, sigma, name), B)), "SM"


# -- B a multiple of the identity, or diagonal ---------------------------------------------------------------
def _scalar_b(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: B is a multiple of the identity."""
    return True if isinstance(B, (Identity, ScalarMul)) else "B is not a multiple of the identity"


def _root(be: Any, c: Any) -> Any:
    return be.xp.sqrt(c) if hasattr(c, "shape") else c**0.5


@RULES.rule(
    GEIGH,
    (LinearOperator,),
    id="geigh/scalar-b",
    source="A v = w c v",
    when=_scalar_b,
    precedence=1,
    complexity="eigh of A",
)
def geigh_scalar(A: Any, B: Any, *, alg: Any) -> Any:
    w, V = ask(EIGH, (A,), alg)
    if isinstance(B, Identity):
        return w, V
    be: Any = backend_of(w)
    c = be.xp.real(B.c) if hasattr(B.c, "shape") and be.is_complex(B.c) else B.c
    n = V.shape[-1]
    return w / (c[..., None] if getattr(c, "shape", ()) else c), matmul(V, ScalarMul(1 / _root(be, c), n))


def _diagonal_b(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: B is diagonal."""
    return True if isinstance(B, Diagonal) else "B is not diagonal"


@RULES.rule(
    GEIGH,
    (LinearOperator,),
    id="geigh/diagonal-b",
    source="D^-1/2 A D^-1/2 has the same eigenvalues; Golub & Van Loan, 4th ed., sec. 8.7.1",
    when=_diagonal_b,
    complexity="eigh of D^-1/2 A D^-1/2",
)
def geigh_diagonal(A: Any, B: Any, *, alg: Any) -> Any:
    S = Diagonal(1 / B.xp.sqrt(_positive(B, B.diag)), declared=frozenset({PSD}))
    inner = matmul(matmul(S, A), S)
    w, V = ask(EIGH, (inner if inner.isa(SelfAdjoint) else SelfAdjoint(inner),), alg)
    return w, matmul(S, V)


def _positive(B: Any, d: Array) -> Array:
    be = B._concrete_backend()
    d = be.xp.real(d) if be.is_complex(d) else d
    if be.is_concrete(d) and bool(be.xp.any(d <= 0)):
        raise NotPositiveDefiniteError(f"eigh(B={B!r}): B is not positive definite; use eig.")
    return d


# -- part by part --------------------------------------------------------------------------------------------
def _fits(A: Any, B: Any) -> bool:
    return len(A.Ms) == len(B.Ms) and all(
        a.is_square and a.shape[-2:] == b.shape[-2:] for a, b in zip(A.Ms, B.Ms, strict=True)
    )


def _kronecker(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    if not isinstance(B, Kronecker) or not _fits(A, B):
        return "B is not a Kronecker product of factors of the same sizes"
    return by_eigenvalues(alg)


def _definite_parts(A: Any, B: Any) -> bool | str:
    for a, b in zip(A.Ms, B.Ms, strict=True):
        if not a.isa(SelfAdjoint):
            return f"part {a!r} is not known to be self-adjoint"
        if not b.isa(PSD):
            return f"part {b!r} of B is not known to be PSD"
    return True


def _definite_kronecker(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: self-adjoint factors, and B a Kronecker product of PSD factors of their sizes."""
    found = _kronecker(A, B, alg=alg)
    return found if found is not True else _definite_parts(A, B)


def _blocks(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    if not isinstance(B, BlockDiag) or A.multiplicities != B.multiplicities or not _fits(A, B):
        return "B is not block-diagonal in the same way"
    return by_eigenvalues(alg)


def _definite_blocks(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: self-adjoint blocks, and B of PSD blocks of their sizes."""
    found = _blocks(A, B, alg=alg)
    return found if found is not True else _definite_parts(A, B)


def _pairs(question: Any, A: Any, B: Any, alg: Any) -> list[Any]:
    return [ask(question, pair, alg) for pair in zip(parts(A), parts(B), strict=True)]


@RULES.rule(
    GEIGH,
    (Kronecker,),
    id="geigh/kronecker",
    source="(A1 x A2)(v1 x v2) = w1 w2 (B1 x B2)(v1 x v2)",
    when=_definite_kronecker,
    complexity="that of the pairs of factors, O(N)",
)
def geigh_kronecker(A: Any, B: Any, *, alg: Any) -> Any:
    found = _pairs(GEIGH, A, B, alg)
    return outer_product(A._concrete_backend(), [w for w, _ in found]), Kronecker(*(V for _, V in found))


@RULES.rule(
    GEIGH,
    (BlockDiag,),
    id="geigh/blockdiag",
    source="definition",
    when=_definite_blocks,
    complexity="that of the pairs of blocks, O(N)",
)
def geigh_blockdiag(A: Any, B: Any, *, alg: Any) -> Any:
    found = _pairs(GEIGH, A, B, alg)
    return joined(A, [w for w, _ in found]), A.with_blocks(*(V for _, V in found))


def _shared_mass(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: K1 x M2 + M1 x K2 + ... with the PSD factors M_i of B."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    if not isinstance(B, Kronecker):
        return "B is not a Kronecker product"
    found = pencils(A)
    if isinstance(found, str):
        return found
    if any(found.identities):
        return "an identity is a further operator beside those of B"
    for pair, b in zip(found.pairs, B.Ms, strict=False):
        if not b.isa(PSD):
            return f"factor {b!r} of B is not known to be PSD"
        if len(pair) > 2 or not any(same(M, b) for M in pair):
            return f"the factors of A are not one operator beside {b!r}"
        if not all(M.isa(SelfAdjoint) for M in pair):
            return "a factor is not known to be self-adjoint"
    return True if len(found.pairs) == len(B.Ms) else "B has another number of factors"


@RULES.rule(
    GEIGH,
    (Sum,),
    id="geigh/shared-mass",
    source="K1 x M2 + M1 x K2 with B = M1 x M2: Lynch, Rice & Thomas 1964; Golub & Van Loan, sec. 8.7",
    when=_shared_mass,
    complexity="that of one pair of factors per place, O(N)",
)
def geigh_shared_mass(A: Any, B: Any, *, alg: Any) -> Any:
    found: Any = pencils(A)
    decomposed = []
    for pair, b in zip(found.pairs, B.Ms, strict=True):
        other = next((M for M in pair if not same(M, b)), b)
        decomposed.append(ask(GEIGH, (other, b), alg))
    be: Any = A._concrete_backend()

    def eigenvalues(M: Any, i: int) -> Array:
        w = decomposed[i][0]
        return be.xp.ones_like(w) if same(M, B.Ms[i]) else w

    return found.combined(be, eigenvalues), Kronecker(*(V for _, V in decomposed))


# -- some of all ---------------------------------------------------------------------------------------------
def _some_of_all(question: Any) -> Any:
    def some(A: Any, B: Any, k: int, which: str, *, alg: Any) -> Any:
        w, V = ask(question, (A, B), alg)
        be: Any = backend_of(w)
        index = order_by(be, w, k, which)
        return be.xp.take_along_axis(w, index, axis=-1), columns(V, index)

    return some


for _cls, _name, _guard in (
    (Kronecker, "kronecker", _definite_kronecker),
    (BlockDiag, "blockdiag", _definite_blocks),
    (Sum, "shared-mass", _shared_mass),
):
    RULES.rule(
        GEIGSH,
        (_cls,),
        id=f"geigsh/{_name}",
        source="eigenvalues of the parts, then the wanted ones",
        when=_guard,
        complexity="that of geigh, O(N log N), k eigenvectors formed",
    )(_some_of_all(GEIGH))


# -- general B -----------------------------------------------------------------------------------------------
def _is_definite(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: self-adjoint, and B positive definite."""
    if not _definite(A, B):
        return "not self-adjoint with a positive definite B"
    return True if not operands or operands[1][1] != "I" else "the imaginary parts are all zero"


@RULES.rule(
    GEIG,
    (LinearOperator,),
    id="geig/definite",
    source="eigh",
    when=_is_definite,
    precedence=2,
    complexity="that of geigh",
)
def geig_definite(A: Any, B: Any, *, alg: Any) -> Any:
    try:
        return ask(GEIGH, (A, B), Auto() if not hasattr(alg, "geigh") else alg)
    except NotPositiveDefiniteError:
        return NotImplemented  # semidefinite only: infinite eigenvalues


@RULES.rule(
    GEIGS,
    (LinearOperator,),
    id="geigs/definite",
    source="eigsh",
    when=_is_definite,
    precedence=2,
    complexity="that of geigsh",
)
def geigs_definite(A: Any, B: Any, k: int, which: str, *, alg: Any) -> Any:
    try:
        return ask(GEIGSH, (A, B, k, check_which(which)), Auto() if not hasattr(alg, "geigsh") else alg)
    except NotPositiveDefiniteError:
        return NotImplemented


@RULES.rule(
    GEIG,
    (LinearOperator,),
    id="geig/scalar-b",
    source="A v = w c v",
    when=_scalar_b,
    precedence=1,
    complexity="eig of A",
)
def geig_scalar(A: Any, B: Any, *, alg: Any) -> Any:
    w, V = ask(EIG, (A,), alg)
    if isinstance(B, Identity):
        return w, V
    return w / (B.c[..., None] if getattr(B.c, "shape", ()) else B.c), V


def _general_kronecker(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: B is a Kronecker product of factors of the same sizes."""
    if _definite(A, B):
        return "eigh answers"
    return _kronecker(A, B, alg=Auto() if hasattr(alg, "eig") else alg)


def _general_blocks(A: Any, B: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: B is block-diagonal with blocks of the same sizes."""
    if _definite(A, B):
        return "eigh answers"
    return _blocks(A, B, alg=Auto() if hasattr(alg, "eig") else alg)


@RULES.rule(
    GEIG,
    (Kronecker,),
    id="geig/kronecker",
    source="(A1 x A2)(v1 x v2) = w1 w2 (B1 x B2)(v1 x v2)",
    when=_general_kronecker,
    complexity="that of the pairs of factors, O(N)",
)
def geig_kronecker(A: Any, B: Any, *, alg: Any) -> Any:
    found = _pairs(GEIG, A, B, alg)
    return outer_product(A._concrete_backend(), [w for w, _ in found]), Kronecker(*(V for _, V in found))


@RULES.rule(
    GEIG,
    (BlockDiag,),
    id="geig/blockdiag",
    source="definition",
    when=_general_blocks,
    complexity="that of the pairs of blocks, O(N)",
)
def geig_blockdiag(A: Any, B: Any, *, alg: Any) -> Any:
    found = _pairs(GEIG, A, B, alg)
    return joined(A, [w for w, _ in found]), A.with_blocks(*(V for _, V in found))


for _cls, _name, _guard in (
    (Kronecker, "kronecker", _general_kronecker),
    (BlockDiag, "blockdiag", _general_blocks),
):
    RULES.rule(
        GEIGS,
        (_cls,),
        id=f"geigs/{_name}",
        source="eigenvalues of the parts, then the wanted ones",
        when=_guard,
        complexity="that of geig, O(N log N), k eigenvectors formed",
    )(_some_of_all(GEIG))

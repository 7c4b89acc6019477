"""``svd`` and ``svdvals``: singular values and vectors, composed from the parts' where there is structure.

Raw answers (of rules and algorithms) are ``U, s, V`` with any order of s and at most min(m, n) triples: those
left out have the singular value zero, as for low rank. The public functions sort and, for values, complete.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.qr import phases
from ..algorithms.spectrum import singular_order
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import ShapeError, SingularMatrixError
from ..operators import (
    Adjoint,
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sliced,
    Transpose,
    Zero,
    as_operator,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import Stiefel, Unitary
from .eigen import EIGH, joined, outer_product
from .inverse import Inverse, is_unitary
from .operands import as_algorithm, as_promised
from .structure import spectral, structural

__all__ = ["RIGHT_SINGULAR", "SINGULAR", "SINGULAR_VALUES", "SOME_SINGULAR", "svd", "svdvals"]

RULES = RuleBook()


def _abstract_svd(A: Any, k: int | None = None, which: str = "LM") -> Any:
    from ..backends.abstract import AbstractArray

    be = A._concrete_backend()
    *batch, m, n = A.shape
    r = min(m, n) if k is None else k
    s = AbstractArray((*batch, r), be.real_dtype(A.dtype))
    return Dense(AbstractArray((*batch, m, r), A.dtype)), s, Dense(AbstractArray((*batch, n, r), A.dtype))


def _abstract_values(A: Any) -> Any:
    return _abstract_svd(A)[1]


def _abstract_right(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    *batch, _, n = A.shape
    s = AbstractArray((*batch, n), A._concrete_backend().real_dtype(A.dtype))
    return s, Dense(AbstractArray((*batch, n, n), A.dtype))


SINGULAR = Question("svd", abstract=_abstract_svd, doc="A = U diag(s) V^H", axes=1)
SOME_SINGULAR = Question("svds", abstract=_abstract_svd, doc="some singular triples", axes=1)
SINGULAR_VALUES = Question("svdvals", abstract=_abstract_values, doc="singular values", axes=1)
RIGHT_SINGULAR = Question(
    "right_singular",
    abstract=_abstract_right,
    doc="n singular values, zeros included, and all n vectors V",
    axes=1,
)


def svd(
    A: Any,
    k: int | None = None,
    which: str = "LM",
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Singular value decomposition ``A = U @ S @ V.H`` of an operator of any shape.

    U (*batch, m, r) and V (*batch, n, r) are operators with orthonormal columns, structured where A is; S is
    an ``ops.Diagonal`` of the non-negative singular values, descending. r = min(m, n), or less where the
    structure bounds the rank (low rank; Kronecker products of tall by wide factors). With k: the k largest
    (``which="LM"``) or smallest ("SM") triples only, still descending.

    >>> import numpy as np, cola_core as cola
    >>> U, S, V = cola.svd(cola.kron(np.diag([1.0, -2.0]), np.diag([3.0, 5.0])))
    >>> [round(float(x), 6) for x in S.diag]
    [10.0, 6.0, 5.0, 3.0]
    """
    A = as_operator(A)
    alg = as_algorithm(alg, "svd" if k is None else "svds")
    if k is None:
        out = SINGULAR.run(A, alg=alg, return_info=return_info, on_failure=on_failure)
    else:
        least = min(A.shape[-2:])
        singular_order(least, 1, which)
        if not isinstance(k, int) or not 0 < k <= least:
            raise ShapeError(f"svd({A!r}, k={k}): k must be between 1 and {least}.")
        out = SOME_SINGULAR.run(A, k, which, alg=alg, return_info=return_info, on_failure=on_failure)
    (U, s, V), info = out if return_info else (out, None)
    U, s, V = _descending(A, U, s, V)
    found = (U, Diagonal(s), V)
    return (found, info) if return_info else found


svd.question = SINGULAR  # type: ignore[attr-defined]


def svdvals(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The min(m, n) singular values, descending, shape (*batch, min(m, n)); no vectors are computed."""
    A = as_operator(A)
    out = SINGULAR_VALUES.run(
        A, alg=as_algorithm(alg, "svdvals"), return_info=return_info, on_failure=on_failure
    )
    s, info = out if return_info else (out, None)
    s = completed(A, s, min(A.shape[-2:]))
    xp = A._concrete_backend().xp
    s = as_promised(A, xp.flip(xp.sort(s, axis=-1), axis=-1), real=True)
    return (s, info) if return_info else s


svdvals.question = SINGULAR_VALUES  # type: ignore[attr-defined]


def completed(A: Any, s: Array, count: int) -> Array:
    """s with the zeros that a bounded rank left out."""
    missing = count - s.shape[-1]
    if missing <= 0:
        return s
    be = A._concrete_backend()
    zeros = be.zeros((*s.shape[:-1], missing), s.dtype, be.device(s))
    return be.xp.concat([s, zeros], axis=-1)


def _descending(A: Any, U: LinearOperator, s: Array, V: LinearOperator) -> tuple[Any, Array, Any]:
    """Sorted triples; structured vectors stay themselves times a permutation."""
    be = A._concrete_backend()
    xp = be.xp
    if s.shape[-1] < 2 or (be.is_concrete(s) and bool(xp.all(s[..., 1:] <= s[..., :-1]))):
        return U, s, V
    order = xp.argsort(-s, stable=True)
    if s.ndim > 1:
        return (
            _taken(be, U, order),
            xp.take_along_axis(s, order, axis=-1),
            _taken(be, V, order),
        )
    return columns(A, U, order, reorder=True), s[order], columns(A, V, order, reorder=True)


def _taken(be: Any, U: LinearOperator, order: Array) -> LinearOperator:
    """Columns chosen matrix by matrix of a batch."""
    xp = be.xp
    shape = (*order.shape[:-1], U.shape[-2], order.shape[-1])
    dense = xp.broadcast_to(U.to_dense(), (*order.shape[:-1], *U.shape[-2:]))
    index = xp.broadcast_to(order[..., None, :], shape)
    return Dense(xp.take_along_axis(dense, index, axis=-1), declared=U.declared)


def columns(A: Any, U: LinearOperator, index: Array, reorder: bool = False) -> LinearOperator:
    """The columns of U at an index array; ``reorder`` says that each is taken once."""
    keep = frozenset({Unitary} if reorder and U.isa(Unitary) else {Stiefel})
    if isinstance(U, Dense):
        return Dense(U.array[..., :, index], declared=keep)
    if isinstance(U, Sliced) and U.cols is not None and U.rows is None:
        return Sliced(U.A, None, U.cols[index], declared=keep)
    if reorder:
        P = Permutation(index, A.dtype).H
        return P if isinstance(U, Identity) else Product(U, P, declared=keep)
    return Sliced(U, None, index, declared=keep)


# -- rules ---------------------------------------------------------------------------------------------------
Triples = tuple[Callable[[], Any], Array, Callable[[], Any]]


def _triples(
    cls: Any,
    name: str,
    source: str,
    when: Any = None,
    precedence: int = 0,
    right: bool = True,
    complexity: str = "",
) -> Any:
    """Register ``fn(A, part, alg=...) -> (U(), s, V())`` for all triples, the values alone,
    and (``right``) the complete right side; ``part(M)`` asks the same of a part."""

    def note(fn: Any) -> Any:
        def register(question: Any, answer: Any) -> None:
            RULES.rule(
                question,
                (cls,),
                id=f"{question.name}/{name}",
                source=source,
                when=when,
                precedence=precedence,
                summary=(fn.__doc__ or name).partition("\n")[0],
                complexity=complexity,
            )(functools.wraps(fn)(answer))

        def triples(A: Any, *, alg: Any) -> Any:
            U, s, V = fn(A, lambda M: ask(SINGULAR, (M,), alg), alg=alg)
            return U(), s, V()

        def values(A: Any, *, alg: Any) -> Any:
            return fn(A, lambda M: (None, ask(SINGULAR_VALUES, (M,), alg), None), alg=alg)[1]

        def right_side(A: Any, *, alg: Any) -> Any:
            _, s, V = fn(A, lambda M: (None, *ask(RIGHT_SINGULAR, (M,), alg)), alg=alg)
            return s, V()

        register(SINGULAR, triples)
        register(SINGULAR_VALUES, values)
        if right:
            register(RIGHT_SINGULAR, right_side)
        return fn

    return note


def _ones(A: Any) -> Array:
    be = A._concrete_backend()
    return be.xp.ones((*A.batch_shape, A.shape[-1]), dtype=be.real_dtype(A.dtype), device=A.device)


@_triples(LinearOperator, "unitary", "U = U I I^H", when=is_unitary, precedence=2, complexity="O(N)")
def svd_unitary(A: Any, part: Any, *, alg: Any) -> Triples:
    return lambda: A, _ones(A), lambda: Identity.like(A)


def _diagonal(A: Any, d: Array, real: bool) -> Triples:
    be = A._concrete_backend()

    def left() -> Any:
        return Diagonal(phases(be, d), declared=frozenset({Unitary}))

    return left, be.xp.abs(d), lambda: Identity.like(A)


@_triples(Diagonal, "diagonal", "d = sign(d) |d|", complexity="O(N)")
def svd_diagonal(A: Any, part: Any, *, alg: Any) -> Triples:
    return _diagonal(A, A.diag, not A._is_complex())


@_triples(ScalarMul, "scalar", "c = sign(c) |c|", complexity="O(N)")
def svd_scalar(A: Any, part: Any, *, alg: Any) -> Triples:
    be = A._concrete_backend()
    one = be.xp.ones((A.n,), dtype=A.dtype, device=A.device)
    return _diagonal(A, be.astype(A.value, A.dtype)[..., None] * one, not A._is_complex())


@_triples(Kronecker, "kronecker", "Van Loan 2000, sec. 1", complexity="that of the factors, O(N)")
def svd_kronecker(A: Any, part: Any, *, alg: Any) -> Triples:
    found = [part(M) for M in parts(A)]
    s = outer_product(A._concrete_backend(), [s for _, s, _ in found])
    Us, Vs = [U for U, _, _ in found], [V for *_, V in found]
    return lambda: A._kron(*Us), s, lambda: A._kron(*Vs)


@_triples(BlockDiag, "blockdiag", "definition", complexity="that of the blocks, O(N)")
def svd_blockdiag(A: Any, part: Any, *, alg: Any) -> Triples:
    found = [part(M) for M in parts(A)]
    s = joined(A, [s for _, s, _ in found])
    Us, Vs = [U for U, _, _ in found], [V for *_, V in found]
    return lambda: A.with_blocks(*Us), s, lambda: A.with_blocks(*Vs)


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number times an operator with a singular value decomposition by rule."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    return structural("svd", rest, alg)


@_triples(
    Product,
    "scaled",
    "c A = (sign(c) U) |c| S V^H",
    when=_scaled,
    precedence=3,
    complexity="that of the operator, O(N)",
)
def svd_scaled(A: Any, part: Any, *, alg: Any) -> Triples:
    scalar, rest = split_scalar(A)
    c: Any = scalar.c  # type: ignore[union-attr]
    U, s, V = part(rest)
    be = A._concrete_backend()
    size: Any = abs(c) if isinstance(c, (int, float, complex)) else be.xp.abs(c)

    def left() -> Any:
        value = be.asarray(c, dtype=A.dtype, device=A.device)
        sign = phases(be, value)
        return Product(ScalarMul(sign, U.shape[-2], declared=frozenset({Unitary})), U, declared=_claims(U))

    return left, (size[..., None] if getattr(size, "shape", ()) else size) * s, lambda: V


def _claims(U: LinearOperator) -> frozenset[Any]:
    return frozenset({Unitary} if U.isa(Unitary) else {Stiefel})


def _orthonormal_factor(A: Any, *, alg: Any) -> bool | str:
    """Guard: the first factor has orthonormal columns or the last one is unitary."""
    if len(A.Ms) < 2:
        return "a single factor"
    if A.Ms[0].isa(Stiefel) or A.Ms[-1].isa(Unitary):
        return True
    return "neither the first factor has orthonormal columns nor is the last unitary"


def _rest(Ms: tuple[Any, ...]) -> Any:
    return Ms[0] if len(Ms) == 1 else Product(*Ms)


@_triples(
    Product,
    "orthonormal-factor",
    "Q (U S V^H) = (Q U) S V^H",
    when=_orthonormal_factor,
    precedence=2,
    complexity="that of the other factors",
)
def svd_orthonormal_factor(A: Any, part: Any, *, alg: Any) -> Triples:
    Ms = parts(A)
    if Ms[0].isa(Stiefel):
        Q, (U, s, V) = Ms[0], part(_rest(Ms[1:]))
        return lambda: _with_claim(matmul(Q, U), Q, U), s, lambda: V
    Q, (U, s, V) = Ms[-1], part(_rest(Ms[:-1]))
    return lambda: U, s, lambda: _with_claim(matmul(Q.H, V), Q, V)


def _with_claim(QU: LinearOperator, Q: LinearOperator, U: LinearOperator) -> LinearOperator:
    claim = Unitary if Q.isa(Unitary) and U.isa(Unitary) else Stiefel
    return QU if QU.isa(claim) else QU.replace(declared=QU.declared | {claim})


def thin_split(A: Any) -> tuple[LinearOperator, LinearOperator] | None:
    """``A = L R`` with an inner dimension of at most half of A's, at the thinnest place, or None."""
    if isinstance(A, LowRank):
        L, R = Dense(A.U), Dense(A.right)
        inner, found = A.rank, (L, R.H)
    elif isinstance(A, Product) and len(A.Ms) > 1:
        Ms = parts(A)
        sizes = [M.shape[-1] for M in Ms[:-1]]
        inner = min(sizes)
        at = sizes.index(inner) + 1
        found = (_rest(Ms[:at]), _rest(Ms[at:]))
    else:
        return None
    return found if 2 * inner <= min(A.shape[-2:]) else None


def _thin(A: Any, *, alg: Any) -> bool | str:
    """Guard: an inner dimension of at most half the size."""
    return True if thin_split(A) is not None else "no factor is thin"


def _svd_thin(A: Any, part: Any, *, alg: Any) -> Triples:
    """Two thin QR factorisations and a small decomposition."""
    from .qr import QR_FACTORS

    L, R = thin_split(A)  # type: ignore[misc]
    Q1, R1 = ask(QR_FACTORS, (L,), alg)
    Q2, R2 = ask(QR_FACTORS, (R.H,), alg)
    core = Dense((R1 @ R2.H).to_dense())
    U, s, V = part(core)
    return lambda: _with_claim(matmul(Q1, U), Q1, U), s, lambda: _with_claim(matmul(Q2, V), Q2, V)


for _cls in (LowRank, Product):
    _triples(
        _cls,
        f"thin-{_cls.__name__.lower()}",
        "Golub & Van Loan, 4th ed., sec. 8.6.3 (R-SVD), on both sides",
        when=_thin,
        precedence=1,
        right=False,
        complexity="QR factorisations of both factors, O(N r^2), and an r x r problem",
    )(_svd_thin)


@RULES.rule(RIGHT_SINGULAR, (Zero,), id="right_singular/zero", source="definition", complexity="O(N)")
def right_zero(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    s = be.zeros((*A.batch_shape, A.shape[-1]), be.real_dtype(A.dtype), A.device)
    return s, Identity.like(A, A.shape[-1])


@_triples(Zero, "zero", "definition", right=False, complexity="O(1)")
def svd_zero(A: Any, part: Any, *, alg: Any) -> Triples:
    """No triples: all singular values are zero."""
    be = A._concrete_backend()
    none = be.zeros((*A.batch_shape, 0), be.real_dtype(A.dtype), A.device)

    def empty(n: int) -> Any:
        return Dense(be.zeros((*A.batch_shape, n, 0), A.dtype, A.device), declared=frozenset({Stiefel}))

    return lambda: empty(A.shape[-2]), none, lambda: empty(A.shape[-1])


def _spectral(A: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint with an eigenbasis by rule."""
    return spectral(A, alg)


@_triples(
    LinearOperator,
    "self-adjoint",
    "A = V |w| (V sign(w))^H",
    when=_spectral,
    precedence=1,
    complexity="that of eigh, O(N)",
)
def svd_self_adjoint(A: Any, part: Any, *, alg: Any) -> Triples:
    be = A._concrete_backend()
    w, V = ask(EIGH, (A,), alg)

    def left() -> Any:
        sign = be.astype(phases(be, w), A.dtype)
        return Product(V, Diagonal(sign, declared=frozenset({Unitary})), declared=frozenset({Unitary}))

    return left, be.xp.abs(w), lambda: V


@_triples(Adjoint, "adjoint", "A^H = V S U^H", right=False, complexity="that of A")
def svd_adjoint(A: Any, part: Any, *, alg: Any) -> Triples:
    U, s, V = part(A.A)
    return lambda: V, s, lambda: U


@_triples(Transpose, "transpose", "A^T = conj(V) S U^T", right=False, complexity="that of A")
def svd_transpose(A: Any, part: Any, *, alg: Any) -> Triples:
    U, s, V = part(A.A)
    return lambda: V.conj(), s, lambda: U.conj()


@_triples(Inverse, "inverse", "A^-1 = V S^-1 U^H", right=False, complexity="that of A, O(N)")
def svd_inverse(A: Any, part: Any, *, alg: Any) -> Triples:
    U, s, V = part(A.A)
    be = A._concrete_backend()
    if be.is_concrete(s) and bool(be.xp.any(s == 0)):
        raise SingularMatrixError(f"{A.A!r} is singular, so that {A!r} has no singular values.")
    return lambda: V, 1 / s, lambda: U


def _structured(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: a singular value decomposition by rule, one operator (no batch)."""
    if A.batch_shape:
        return "batches of operators are not supported"
    return structural("svd", A, alg)


@RULES.rule(
    SOME_SINGULAR,
    (LinearOperator,),
    id="svds/structured",
    source="singular values of the parts, then the wanted ones",
    when=_structured,
    complexity="that of svd, O(N log N), k triples formed",
)
def svds_structured(A: Any, k: int, which: str, *, alg: Any) -> Any:
    """All values come from the parts for next to nothing; only the wanted vectors are ever formed."""
    be = A._concrete_backend()
    U, s, V = ask(SINGULAR, (A,), alg)
    if s.shape[-1] < (k if which == "LM" else min(A.shape[-2:])):
        return NotImplemented
    order = be.xp.argsort(-s, stable=True)[singular_order(s.shape[-1], k, which)]
    return columns(A, U, order), s[order], columns(A, V, order)

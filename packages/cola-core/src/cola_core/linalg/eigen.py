"""Eigenvalues and eigenvectors:
``eigh`` (self-adjoint), ``eig`` (general), a few of them (k, which), extremes.

Inside, decompositions of composed operators come in grid order (``EIGH``, ``EIG``); the public functions
sort. The eigenvectors are an operator: a Kronecker product of factor bases stays one.
"""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.eigh import require_self_adjoint
from ..algorithms.spectrum import WHICH, order_by
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..errors import ShapeError, UnknownNameError
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
    Sliced,
    Sum,
    Triangular,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint, Stiefel, Unitary
from .operands import as_algorithm, square
from .structure import shift_split, spectral, spectral_guard

__all__ = ["EIG", "EIGH", "EIGSH", "eig", "eigh", "eigmax", "eigmin", "eigvalsh", "outer_sum"]

RULES = RuleBook()


def _abstract_eigh(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    be = A._concrete_backend()
    w = AbstractArray(A.shape[:-1], be.real_dtype(A.dtype))
    return w, Dense(AbstractArray(A.shape, A.dtype), declared=frozenset({Unitary}))


def _abstract_eig(A: Any) -> Any:
    import numpy as np

    from ..backends.abstract import AbstractArray

    dtype = A.dtype if A.isa(SelfAdjoint) else np.result_type(A.dtype, np.complex64)
    return AbstractArray(A.shape[:-1], dtype), Dense(AbstractArray(A.shape, dtype))


def _abstract_some(A: Any, k: int, which: str) -> Any:
    from ..backends.abstract import AbstractArray

    be = A._concrete_backend()
    return AbstractArray((k,), be.real_dtype(A.dtype)), Dense(AbstractArray((A.shape[-1], k), A.dtype))


EIGH = Question("eigh", abstract=_abstract_eigh, doc="A = V diag(w) V^H of a self-adjoint operator")
EIG = Question("eig", abstract=_abstract_eig, doc="A V = V diag(w)")
EIGSH = Question("eigsh", abstract=_abstract_some, doc="some eigenpairs of a self-adjoint operator")


def eigh(
    A: Any,
    k: int | None = None,
    which: str = "SA",
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Eigenvalues and eigenvectors of an operator declared SelfAdjoint or PSD: ``A = V diag(w) V^H``.

    Without k: all, w (*batch, n) ascending and V a unitary operator, structured where A is. With k: that many
    of ``which`` (LM, SM by magnitude, LA, SA algebraic), w ascending, V an n x k operator with orthonormal
    columns. Raises PropertyError if A is not known to be self-adjoint: one triangle is never silently
    trusted.

    >>> import numpy as np, cola_core as cola
    >>> L = cola.SelfAdjoint(np.array([[2.0, -1.0], [-1.0, 2.0]]))
    >>> w, V = cola.eigh(cola.kronsum(L, L))
    >>> [round(float(x), 6) for x in w]
    [2.0, 4.0, 4.0, 6.0]
    """
    A = square(A, "eigh")
    require_self_adjoint(A, "eigh")
    n = A.shape[-1]
    if k is None:
        out = EIGH.run(A, alg=as_algorithm(alg, "eigh"), return_info=return_info, on_failure=on_failure)
        (w, V), info = out if return_info else (out, None)
        w, V = _sorted(A, w, V)
        return ((w, V), info) if return_info else (w, V)
    if which not in WHICH:
        raise UnknownNameError(f"which={which!r}; choose from {', '.join(WHICH)}")
    if not 0 < k <= n:
        raise ShapeError(f"eigh({A!r}, k={k}): k must be between 1 and {n}.")
    which = {"LR": "LA", "SR": "SA"}.get(which, which)
    out = EIGSH.run(
        A, k, which, alg=as_algorithm(alg, "eigsh"), return_info=return_info, on_failure=on_failure
    )
    (w, V), info = out if return_info else (out, None)
    w, V = _sorted(A, w, V)
    return ((w, V), info) if return_info else (w, V)


eigh.question = EIGH  # type: ignore[attr-defined]


def _sorted(A: Any, w: Array, V: LinearOperator) -> tuple[Array, LinearOperator]:
    """Ascending eigenvalues; a structured V stays itself times a permutation."""
    be = A._concrete_backend()
    xp = be.xp
    if w.ndim == 1 and be.is_concrete(w) and w.shape[0] > 1 and bool(xp.all(w[1:] >= w[:-1])):
        return w, V
    order = xp.argsort(w, stable=True)
    if w.ndim > 1:
        w = xp.take_along_axis(w, order, axis=-1)
        full = (*w.shape[:-1], A.shape[-1], w.shape[-1])
        dense = xp.broadcast_to(V.to_dense(), full)
        index = xp.broadcast_to(order[..., None, :], full)
        return w, Dense(xp.take_along_axis(dense, index, axis=-1), declared=V.declared)
    w = w[order]
    if isinstance(V, Dense):
        return w, Dense(V.array[..., order], declared=V.declared)
    if isinstance(V, Sliced) and V.cols is not None:
        return w, V.replace(cols=V.cols[order])
    # V P with (V P)[:, j] = V[:, order[j]]
    P = Permutation(order).H
    return w, Product(V, P, declared=frozenset({Unitary}) if V.isa(Unitary) else frozenset({Stiefel}))


def eigvalsh(
    A: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """All eigenvalues of a self-adjoint operator, ascending."""
    out = eigh(A, alg=alg, return_info=return_info, on_failure=on_failure)
    if return_info:
        (w, _), info = out
        return w, info
    return out[0]


eigvalsh.question = EIGH  # type: ignore[attr-defined]


def eig(
    A: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """All eigenvalues and right eigenvectors of a square operator: ``A V = V diag(w)``.

    w is complex (real where A is declared self-adjoint) and sorted by modulus, largest first.
    """
    A = square(A, "eig")
    out = EIG.run(A, alg=as_algorithm(alg, "eig"), return_info=return_info, on_failure=on_failure)
    (w, V), info = out if return_info else (out, None)
    xp = A._concrete_backend().xp
    order = xp.argsort(-xp.abs(w), stable=True)
    if w.ndim > 1:
        w = xp.take_along_axis(w, order, axis=-1)
        full = (*w.shape[:-1], A.shape[-1], w.shape[-1])
        index = xp.broadcast_to(order[..., None, :], full)
        V = Dense(xp.take_along_axis(xp.broadcast_to(V.to_dense(), full), index, axis=-1))
    else:
        w = w[order]
        V = Dense(V.array[:, order]) if isinstance(V, Dense) else Product(V, Permutation(order).H)
    return ((w, V), info) if return_info else (w, V)


eig.question = EIG  # type: ignore[attr-defined]


def eigmax(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The algebraically largest eigenvalue of a self-adjoint operator."""
    out = eigh(A, 1, "LA", alg, return_info=return_info, on_failure=on_failure)
    return (out[0][0][0], out[1]) if return_info else out[0][0]


def eigmin(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The algebraically smallest eigenvalue of a self-adjoint operator."""
    out = eigh(A, 1, "SA", alg, return_info=return_info, on_failure=on_failure)
    return (out[0][0][0], out[1]) if return_info else out[0][0]


eigmax.question = eigmin.question = EIGSH  # type: ignore[attr-defined]


# -- combining the parts' answers ----------------------------------------------------------------------------
def outer_sum(be: Any, parts: list[Array]) -> Array:
    """``parts[0][i] + parts[1][j] + ...`` flattened, last index fastest."""
    out = parts[0]
    for w in parts[1:]:
        out = out[..., :, None] + w[..., None, :]
        out = be.xp.reshape(out, (*out.shape[:-2], out.shape[-2] * out.shape[-1]))
    return out


def outer_product(be: Any, parts: list[Array]) -> Array:
    """``parts[0][i] * parts[1][j] * ...`` flattened, last index fastest."""
    out = parts[0]
    for w in parts[1:]:
        out = out[..., :, None] * w[..., None, :]
        out = be.xp.reshape(out, (*out.shape[:-2], out.shape[-2] * out.shape[-1]))
    return out


def joined(A: BlockDiag, parts: list[Array]) -> Array:
    """Vectors of the blocks one after the other, repeated as the blocks are."""
    xp = A.xp
    pieces = [w for w, t in zip(parts, A.multiplicities, strict=True) for _ in range(t)]
    dtypes = {p.dtype for p in pieces}
    if len(dtypes) > 1:
        common = xp.result_type(*pieces)
        pieces = [xp.astype(p, common) for p in pieces]
    lead = (
        xp.broadcast_arrays(*(p[..., :1] for p in pieces if p.shape[-1]))[0].shape[:-1]
        if A.batch_shape
        else ()
    )
    if lead:
        pieces = [xp.broadcast_to(p, (*lead, p.shape[-1])) for p in pieces]
    return xp.concat(pieces, axis=-1) if len(pieces) > 1 else pieces[0]


def _unitary(V: LinearOperator) -> LinearOperator:
    return V if V.isa(Unitary) else V.replace(declared=V.declared | {Unitary})


# -- eigh ----------------------------------------------------------------------------------------------------
@RULES.rule(EIGH, (Diagonal,), id="eigh/diagonal", source="definition")
def eigh_diagonal(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    w = be.xp.real(A.diag) if A._is_complex() else A.diag
    return w, Identity.like(A)


@RULES.rule(EIGH, (ScalarMul,), id="eigh/scalar", source="definition")
def eigh_scalar(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    c = be.astype(A.value, A.dtype)
    c = be.xp.real(c) if be.is_complex(c) else c
    return c[..., None] * be.xp.ones((A.n,), dtype=c.dtype, device=A.device), Identity.like(A)


@RULES.rule(EIGH, (Identity,), id="eigh/identity", source="definition")
def eigh_identity(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    return be.xp.ones((A.n,), dtype=be.real_dtype(A.dtype), device=A.device), A


@RULES.rule(EIGH, (Kronecker,), id="eigh/kronecker", source="Van Loan 2000, sec. 1", when=spectral_guard)
def eigh_kronecker(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    w = outer_product(A._concrete_backend(), [w for w, _ in pairs])
    return w, _unitary(Kronecker(*(V for _, V in pairs)))


@RULES.rule(EIGH, (KronSum,), id="eigh/kronsum", source="Lynch, Rice & Thomas 1964", when=spectral_guard)
def eigh_kronsum(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    w = outer_sum(A._concrete_backend(), [w for w, _ in pairs])
    return w, _unitary(Kronecker(*(V for _, V in pairs)))


@RULES.rule(EIGH, (BlockDiag,), id="eigh/blockdiag", source="definition", when=spectral_guard)
def eigh_blockdiag(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    return joined(A, [w for w, _ in pairs]), _unitary(A.with_blocks(*(V for _, V in pairs)))


def _shifted(A: Any, *, alg: Any) -> bool | str:
    split = shift_split(A)
    return "not one operator plus multiples of the identity" if split is None else spectral(split[0], alg)


def _shifted_self_adjoint(A: Any, *, alg: Any) -> bool | str:
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    return True if split[0].isa(SelfAdjoint) else f"{split[0]!r} is not known to be self-adjoint"


@RULES.rule(EIGH, (Sum,), id="eigh/shift", source="A + s I has A's eigenvectors", when=_shifted_self_adjoint)
def eigh_shift(A: Any, *, alg: Any) -> Any:
    base, shifts = shift_split(A)  # type: ignore[misc]
    w, V = ask(EIGH, (base,), alg)
    be = A._concrete_backend()
    for s in shifts:
        c: Any = s.c if isinstance(s, ScalarMul) else 1.0
        c = be.xp.real(c) if getattr(c, "dtype", None) is not None and be.is_complex(c) else c
        w = w + (c[..., None] if getattr(c, "shape", ()) else c)
    return w, V


def _scaled_self_adjoint(A: Any, *, alg: Any) -> bool | str:
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    return True if rest.isa(SelfAdjoint) else f"{rest!r} is not known to be self-adjoint"


def _scaled_spectral(A: Any, *, alg: Any) -> bool | str:
    ok = _scaled_self_adjoint(A, alg=alg)
    return ok if ok is not True else spectral(split_scalar(A)[1], alg)


@RULES.rule(EIGH, (Product,), id="eigh/scaled", source="c A has A's eigenvectors", when=_scaled_spectral)
def eigh_scaled(A: Any, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    w, V = ask(EIGH, (rest,), alg)
    c = s.c  # type: ignore[union-attr]
    be = A._concrete_backend()
    c = be.xp.real(c) if getattr(c, "dtype", None) is not None and be.is_complex(c) else c
    return (c[..., None] if getattr(c, "shape", ()) else c) * w, V


# -- a few eigenpairs ----------------------------------------------------------------------------------------
def _structured(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    if A.batch_shape:
        return "batches of operators are not supported"
    return spectral(A, alg)


def _some_of_all(A: Any, k: int, which: str, *, alg: Any) -> Any:
    """All eigenvalues come from the factors for next to nothing; only the wanted vectors are ever formed."""
    be = A._concrete_backend()
    w, V = ask(EIGH, (A,), alg)
    index = order_by(be, w, k, which)
    return w[index], Sliced(V, None, index, declared=frozenset({Stiefel}))


for _cls in (Diagonal, ScalarMul, Identity, Kronecker, KronSum, BlockDiag, Sum, Product):
    RULES.rule(
        EIGSH,
        (_cls,),
        id=f"eigsh/{_cls.__name__.lower()}",
        source="eigenvalues of the parts, then the wanted ones",
        when=_structured,
    )(_some_of_all)


# -- eig -----------------------------------------------------------------------------------------------------
def _self_adjoint(A: Any, *, alg: Any) -> bool | str:
    return True if A.isa(SelfAdjoint) else "not known to be self-adjoint"


@RULES.rule(EIG, (LinearOperator,), id="eig/self-adjoint", source="eigh", when=_self_adjoint, precedence=1)
def eig_self_adjoint(A: Any, *, alg: Any) -> Any:
    return ask(EIGH, (A,), Auto() if not hasattr(alg, "eigh") else alg)


@RULES.rule(EIG, (Diagonal,), id="eig/diagonal", source="definition")
def eig_diagonal(A: Any, *, alg: Any) -> Any:
    return A.diag, Identity.like(A)


@RULES.rule(
    EIG, (Triangular,), id="eig/triangular", source="back substitution; Golub & Van Loan, 4th ed., sec. 7.6.4"
)
def eig_triangular(A: Any, *, alg: Any) -> Any:
    """Eigenvalues are the diagonal, exactly; vectors by substitution.
    Steps back where eigenvalues (nearly) repeat."""
    be = A._concrete_backend()
    xp = be.xp
    T = be.astype(A.to_dense(), xp.result_type(A.dtype, be.dtype("complex64")))
    if not A.lower:
        return _eig_upper(be, T)
    answer = _eig_upper(be, xp.flip(T, axis=(-2, -1)))
    if answer is NotImplemented:
        return answer
    w, V = answer
    return xp.flip(w, axis=-1), Dense(xp.flip(V.array, axis=(-2, -1)))


def _eig_upper(be: Any, T: Array) -> Any:
    xp = be.xp
    n = T.shape[-1]
    w = xp.linalg.diagonal(T)
    gap = w[..., :, None] - w[..., None, :] + be.eye(n, T.dtype, be.device(T))
    if be.is_concrete(T) and n:
        smallest = be.number(xp.min(xp.abs(gap)))
        eps = float(xp.finfo(be.real_dtype(T.dtype)).eps)
        if smallest <= eps**0.5 * be.number(xp.max(xp.abs(T))):
            return NotImplemented
    V = be.eye(n, T.dtype, be.device(T)) + xp.zeros_like(T)
    for i in range(n - 2, -1, -1):
        # (T - w_j) v = 0 row i, for all j > i at once
        row = be.matmul(T[..., i : i + 1, i + 1 :], V[..., i + 1 :, i + 1 :])[..., 0, :]
        V = be.put(V, (..., i, slice(i + 1, n)), row / (w[..., i + 1 :] - w[..., i : i + 1]))
    norms = xp.linalg.vector_norm(V, axis=-2)
    return w, Dense(V / be.astype(norms, V.dtype)[..., None, :])


def _square_parts(A: Any, *, alg: Any) -> bool | str:
    return next((f"part {M!r} is not square" for M in A.Ms if not M.is_square), True)


@RULES.rule(EIG, (Kronecker,), id="eig/kronecker", source="Van Loan 2000, sec. 1", when=_square_parts)
def eig_kronecker(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return outer_product(A._concrete_backend(), [w for w, _ in pairs]), Kronecker(*(V for _, V in pairs))


@RULES.rule(EIG, (KronSum,), id="eig/kronsum", source="Lynch, Rice & Thomas 1964")
def eig_kronsum(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return outer_sum(A._concrete_backend(), [w for w, _ in pairs]), Kronecker(*(V for _, V in pairs))


@RULES.rule(EIG, (BlockDiag,), id="eig/blockdiag", source="definition", when=_square_parts)
def eig_blockdiag(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return joined(A, [w for w, _ in pairs]), A.with_blocks(*(V for _, V in pairs))

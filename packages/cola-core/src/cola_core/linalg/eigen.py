"""Eigenvalues and eigenvectors: ``eigh`` (self-adjoint), ``eig`` (general), a few of them (k, which, sigma),
extremes, and the generalised problem (B).

Inside, decompositions of composed operators come in grid order (``EIGH``, ``EIG``); the public functions
sort. The eigenvectors are an operator: a Kronecker product of factor bases stays one.
"""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Algorithm, Auto
from ..algorithms.eigh import require_self_adjoint
from ..algorithms.spectrum import check_which, order_by
from ..autodiff.eigenpairs import values_only
from ..backends import backend_of
from ..backends.base import Array
from ..dispatch.question import Question
from ..errors import PropertyError, ShapeError, UnknownNameError
from ..operators import BlockDiag, Dense, LinearOperator, Permutation, Product, ScalarMul, Sliced
from ..properties import SelfAdjoint, Stiefel, Unitary
from .operands import as_algorithm, square

__all__ = [
    "EIG",
    "EIGH",
    "EIGS",
    "EIGSH",
    "EIGVALS",
    "eig",
    "eigh",
    "eigmax",
    "eigmin",
    "eigvals",
    "eigvalsh",
    "joined",
    "outer_product",
    "outer_sum",
]


def _complex(dtype: Any) -> Any:
    import numpy as np

    from ..backends.base import dtype_name

    return np.result_type(dtype_name(dtype), np.complex64)


def _abstract_eigh(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    be = A._concrete_backend()
    w = AbstractArray(A.shape[:-1], be.real_dtype(A.dtype))
    return w, Dense(AbstractArray(A.shape, A.dtype), declared=frozenset({Unitary}))


def _abstract_eig(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    dtype = A.dtype if A.isa(SelfAdjoint) else _complex(A.dtype)
    return _abstract_eigvals(A), Dense(AbstractArray(A.shape, dtype))


def _abstract_eigvals(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    real = A.isa(SelfAdjoint)
    dtype = A._concrete_backend().real_dtype(A.dtype) if real else _complex(A.dtype)
    return AbstractArray(A.shape[:-1], dtype)


def _abstract_some(A: Any, k: int, which: str) -> Any:
    from ..backends.abstract import AbstractArray

    be = A._concrete_backend()
    shape = (*A.batch_shape, A.shape[-1], k)
    return AbstractArray((*A.batch_shape, k), be.real_dtype(A.dtype)), Dense(AbstractArray(shape, A.dtype))


def _abstract_some_general(A: Any, k: int, which: str) -> Any:
    from ..backends.abstract import AbstractArray

    if A.isa(SelfAdjoint):
        return _abstract_some(A, k, which)
    dtype, shape = _complex(A.dtype), (*A.batch_shape, A.shape[-1], k)
    return AbstractArray((*A.batch_shape, k), dtype), Dense(AbstractArray(shape, dtype))


EIGH = Question("eigh", abstract=_abstract_eigh, doc="A = V diag(w) V^H of a self-adjoint operator", axes=1)
EIG = Question("eig", abstract=_abstract_eig, doc="A V = V diag(w)", axes=1)
EIGVALS = Question("eigvals", abstract=_abstract_eigvals, doc="all eigenvalues", axes=1)
EIGSH = Question("eigsh", abstract=_abstract_some, doc="some eigenpairs of a self-adjoint operator", axes=1)
EIGS = Question("eigs", abstract=_abstract_some_general, doc="some eigenpairs", axes=1)


def eigh(
    A: Any,
    k: int | None = None,
    which: str = "SA",
    alg: Any = Auto(),
    *,
    sigma: Any = None,
    B: Any = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Eigenvalues and eigenvectors of an operator declared SelfAdjoint or PSD: ``A = V diag(w) V^H``.

    Without k: all, w (*batch, n) ascending and V a unitary operator, structured where A is. With k: that many
    of ``which`` (LM, SM by magnitude, LA, SA algebraic), w ascending, V an n x k operator with orthonormal
    columns. sigma: a real number; the k eigenvalues nearest to it (``which`` is then left out), found through
    ``(A - sigma I)^-1`` where A is large. B: a PSD operator (definite); solves ``A v = w B v`` with
    ``V^H B V = I``. Raises PropertyError if A (or B) is not known to be self-adjoint (PSD): one triangle is
    never silently trusted.

    >>> import numpy as np, cola_core as cola
    >>> L = cola.SelfAdjoint(np.array([[2.0, -1.0], [-1.0, 2.0]]))
    >>> w, V = cola.eigh(cola.kronsum(L, L))
    >>> [round(float(x), 6) for x in w]
    [2.0, 4.0, 4.0, 6.0]
    >>> [round(float(x), 6) for x in cola.eigh(cola.kronsum(L, L), 1, sigma=5.5)[0]]
    [6.0]
    """
    k, alg = _count_or_algorithm(k, alg)
    A = square(A, "eigh")
    require_self_adjoint(A, "eigh")
    if B is not None:
        from .generalized_eigen import generalized_eigh

        return generalized_eigh(A, B, k, which, alg, sigma, return_info=return_info, on_failure=on_failure)
    if k is None:
        _refuse_shift_without_count(A, sigma, "eigh")
        out = EIGH.run(A, alg=as_algorithm(alg, "eigh"), return_info=return_info, on_failure=on_failure)
        return _finished(out, return_info, _sorted)
    k, which = counted(A, k, which, sigma, "SA", "eigh"), check_which(which)
    shifted, which = shift_towards(A, sigma, which, "eigh")
    out = EIGSH.run(
        shifted, k, which, alg=as_algorithm(alg, "eigsh"), return_info=return_info, on_failure=on_failure
    )
    return _finished(out, return_info, lambda w, V: _sorted(moved_back(w, sigma), V))


eigh.question = EIGH  # type: ignore[attr-defined]


def eig(
    A: Any,
    k: int | None = None,
    which: str = "LM",
    alg: Any = Auto(),
    *,
    sigma: Any = None,
    B: Any = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Eigenvalues and right eigenvectors of a square operator: ``A V = V diag(w)``.

    w is complex (real where A is declared self-adjoint). Without k: all, sorted by modulus, largest first.
    With k: that many of ``which`` (LM, SM by modulus, LR, SR by real part, also called LA, SA, LI, SI by
    imaginary part), most wanted first, V an n x k operator. sigma: the k eigenvalues nearest to this number,
    nearest first. B: solves ``A v = w B v``. Eigenvectors are normalised to length one by dense algorithms.

    >>> import numpy as np, cola_core as cola
    >>> w, V = cola.eig(np.array([[0.0, 1.0], [-4.0, 0.0]]), 1, "LI")
    >>> complex(np.round(w[0], 6))
    2j
    """
    k, alg = _count_or_algorithm(k, alg)
    A = square(A, "eig")
    if B is not None:
        from .generalized_eigen import generalized_eig

        return generalized_eig(A, B, k, which, alg, sigma, return_info=return_info, on_failure=on_failure)
    if k is None:
        _refuse_shift_without_count(A, sigma, "eig")
        out = EIG.run(A, alg=as_algorithm(alg, "eig"), return_info=return_info, on_failure=on_failure)
        return _finished(out, return_info, lambda w, V: ranked(_real_if_known(A, w), V, "LM"))
    k, which = counted(A, k, which, sigma, "LM", "eig"), check_which(which, general=True)
    if A.isa(SelfAdjoint) and which[1] == "I":
        which = "LM"  # all imaginary parts are zero: any k eigenvalues will do
    shifted, which = shift_towards(A, sigma, which, "eig")
    out = EIGS.run(
        shifted, k, which, alg=as_algorithm(alg, "eigs"), return_info=return_info, on_failure=on_failure
    )

    def finish(w: Array, V: LinearOperator) -> tuple[Array, LinearOperator]:
        w, V = ranked(w, V, which)
        return _real_if_known(A, moved_back(w, sigma)), V

    return _finished(out, return_info, finish)


eig.question = EIG  # type: ignore[attr-defined]


def eigvalsh(
    A: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """All eigenvalues of a self-adjoint operator, (*batch, n) real, ascending."""
    A = square(A, "eigvalsh")
    require_self_adjoint(A, "eigvalsh")
    out = _eigvals(A, alg, return_info, on_failure)
    w, info = out if return_info else (out, None)
    xp = backend_of(w).xp  # type: ignore[union-attr]
    w = xp.sort(_real_if_known(A, w), axis=-1)
    return (w, info) if return_info else w


def eigvals(
    A: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """All eigenvalues of a square operator, (*batch, n), by modulus, largest first.

    Complex; real where A is declared self-adjoint. Holds for matrices without a basis of eigenvectors too.

    >>> import numpy as np, cola_core as cola
    >>> [complex(x) for x in cola.eigvals(np.array([[3.0, 1.0], [0.0, 3.0]]))]
    [(3+0j), (3+0j)]
    """
    A = square(A, "eigvals")
    out = _eigvals(A, alg, return_info, on_failure)
    w, info = out if return_info else (out, None)
    be: Any = backend_of(w)
    w = _real_if_known(A, w)
    w = be.xp.take_along_axis(w, order_by(be, w, w.shape[-1], "LM"), axis=-1)
    return (w, info) if return_info else w


def _eigvals(A: Any, alg: Any, return_info: bool, on_failure: str) -> Any:
    alg = as_algorithm(alg, "eigh" if A.isa(SelfAdjoint) else "eig")
    if isinstance(alg, Auto) or hasattr(alg, "eigvals"):
        return EIGVALS.run(A, alg=alg, return_info=return_info, on_failure=on_failure)
    # an algorithm that knows whole decompositions only
    question = EIGH if A.isa(SelfAdjoint) else EIG
    out = question.run(A, alg=alg, return_info=return_info, on_failure=on_failure)
    return (out[0][0], out[1]) if return_info else out[0]


eigvalsh.question = eigvals.question = EIGVALS  # type: ignore[attr-defined]


def eigmax(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The algebraically largest eigenvalue of a self-adjoint operator, of batch shape."""
    return _extreme(A, "LA", alg, return_info, on_failure)


def eigmin(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The algebraically smallest eigenvalue of a self-adjoint operator, of batch shape."""
    return _extreme(A, "SA", alg, return_info, on_failure)


eigmax.question = eigmin.question = EIGSH  # type: ignore[attr-defined]


def _extreme(A: Any, which: str, alg: Any, return_info: bool, on_failure: str) -> Any:
    with values_only():
        out = eigh(A, 1, which, alg, return_info=return_info, on_failure=on_failure)
    return (out[0][0][..., 0], out[1]) if return_info else out[0][..., 0]


# -- what the public functions share -------------------------------------------------------------------------
def _count_or_algorithm(k: Any, alg: Any) -> tuple[Any, Any]:
    """``eig(A, alg)``: the second argument may be the algorithm."""
    if isinstance(k, (Algorithm, str)) or (isinstance(k, type) and issubclass(k, Algorithm)):
        return None, k
    return k, alg


def counted(A: Any, k: Any, which: str, sigma: Any, default: str, name: str) -> int:
    """k, checked; and that ``which`` and sigma are not both given."""
    n = A.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int):
        try:
            k = k.__index__()
        except AttributeError:
            raise ShapeError(f"{name}({A!r}, k={k!r}): k must be an integer between 1 and {n}.") from None
    if not 0 < k <= n:
        raise ShapeError(f"{name}({A!r}, k={k}): k must be between 1 and {n}.")
    if sigma is not None and which not in (default, "LM"):
        raise UnknownNameError(
            f"{name}({A!r}, which={which!r}, sigma={sigma!r}): sigma alone says which eigenvalues are wanted "
            "(the nearest ones); leave which out."
        )
    return int(k)


def _refuse_shift_without_count(A: Any, sigma: Any, name: str) -> None:
    if sigma is not None:
        raise ShapeError(
            f"{name}({A!r}, sigma={sigma!r}) needs k: how many eigenvalues near sigma are wanted."
        )


def shift_towards(A: Any, sigma: Any, which: str, name: str) -> tuple[Any, str]:
    """The eigenvalues of A nearest sigma are those of ``A - sigma I`` of smallest modulus."""
    if sigma is None:
        return A, which
    from ..operators import add

    return add(A, ScalarMul(-checked_shift(A, sigma, name), A.shape[-1])), "SM"


def checked_shift(A: Any, sigma: Any, name: str) -> Any:
    """sigma as a number (or a 0-d array of A's library), real where the spectrum is."""
    if hasattr(sigma, "item") and type(sigma).__module__ == "numpy":
        sigma = sigma.item()
    if isinstance(sigma, complex) and A.isa(SelfAdjoint):
        if sigma.imag != 0 and name == "eigh":
            raise PropertyError(f"{name}({A!r}, sigma={sigma}): the spectrum is real, so sigma must be.")
        sigma = sigma.real if sigma.imag == 0 else sigma
    return sigma


def moved_back(w: Array, sigma: Any) -> Array:
    """Undo ``shift_towards`` on the eigenvalues."""
    if sigma is None:
        return w
    return w + (sigma.item() if type(sigma).__module__ == "numpy" else sigma)


def _finished(out: Any, return_info: bool, finish: Any) -> Any:
    (w, V), info = out if return_info else (out, None)
    w, V = finish(w, V)
    return ((w, V), info) if return_info else (w, V)


def _real_if_known(A: Any, w: Array) -> Array:
    """Eigenvalues in the dtype that is promised: real of self-adjoint operators, complex of others."""
    be: Any = backend_of(w)
    if A.isa(SelfAdjoint):
        return be.xp.real(w) if be.is_complex(w) else w
    return w if be.is_complex(w) else be.astype(w, be.xp.result_type(w.dtype, be.dtype("complex64")))


def _sorted(w: Array, V: LinearOperator) -> tuple[Array, LinearOperator]:
    """Ascending eigenvalues; a structured V stays itself times a permutation."""
    be: Any = backend_of(w)
    xp = be.xp
    if w.ndim == 1 and be.is_concrete(w) and (w.shape[0] < 2 or bool(xp.all(w[1:] >= w[:-1]))):
        return w, V
    return permuted(w, V, xp.argsort(w, stable=True))


def ranked(w: Array, V: LinearOperator, which: str) -> tuple[Array, LinearOperator]:
    """Eigenvalues in the order of ``which``, most wanted first."""
    be: Any = backend_of(w)
    return permuted(w, V, order_by(be, w, w.shape[-1], which))


def permuted(w: Array, V: LinearOperator, order: Array) -> tuple[Array, LinearOperator]:
    """The pairs in another order."""
    be: Any = backend_of(w)
    xp = be.xp
    if order.ndim > 1:
        w = xp.take_along_axis(w, order, axis=-1)
        full = (*w.shape[:-1], V.shape[-2], w.shape[-1])
        dense = xp.broadcast_to(V.to_dense(), full)
        index = xp.broadcast_to(order[..., None, :], full)
        return w, Dense(xp.take_along_axis(dense, index, axis=-1), declared=V.declared)
    w = w[order]
    if isinstance(V, Dense):
        return w, Dense(V.array[..., order], declared=V.declared)
    if isinstance(V, Sliced) and V.cols is not None:
        return w, V.replace(cols=V.cols[order])
    # V P with (V P)[:, j] = V[:, order[j]]
    keep = next((frozenset({p}) for p in (Unitary, Stiefel) if V.isa(p)), frozenset())
    return w, Product(V, Permutation(order).H, declared=keep)


def columns(V: LinearOperator, index: Array, declared: frozenset[Any] = frozenset()) -> LinearOperator:
    """The columns of V with these numbers ((k,), or (*batch, k) for a batch), nothing else formed."""
    if index.ndim == 1:
        return Sliced(V, None, index, declared=declared)
    be: Any = backend_of(index)
    rows = be.xp.arange(V.shape[-1], device=be.device(index))
    picked = be.astype(rows[:, None] == index[..., None, :], V.dtype)
    return Dense(V._matmat(picked), declared=declared)


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

"""``root(A)``: a factor F with ``F F^H = A``, structured where A is; ``sample(A, key)``: normal vectors with
covariance A, which are F times standard normal ones."""

from __future__ import annotations

import math
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.cholesky import look_for_asymmetry
from ..backends import get_backend
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import SESSION
from ..errors import NotPositiveDefiniteError, ShapeError
from ..operators import (
    BlockDiag,
    Concatenated,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    LowRank,
    Product,
    ScalarMul,
    Sliced,
    Sum,
    Transpose,
    Triangular,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Congruence
from ..pytree import tree_leaves
from .inverse import INV, Inverse
from .operands import as_algorithm, square
from .structure import middle, spectral, structural

__all__ = ["ROOT", "SAMPLE", "root", "sample"]

RULES = RuleBook()


def _abstract_sample(A: Any, key: Any, shape: tuple[int, ...]) -> Any:
    from ..backends.abstract import AbstractArray

    return AbstractArray((*shape, *A.shape[:-1]), A.dtype)


def _abstract_root(A: Any) -> Any:
    from ..backends.abstract import AbstractArray

    return Triangular(AbstractArray(A.shape, A.dtype))


ROOT = Question("root", abstract=_abstract_root, doc="F with A = F F^H")
SAMPLE = Question("sample", abstract=_abstract_sample, doc="normal vectors with covariance A")


def root(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """An operator F (n x r) with ``A = F F^H``, for a positive semidefinite A.

    Cholesky factors at the leaves, eigenvectors where those come from structure, the factor itself where A is
    written as ``F @ F.H`` or ``LowRank(U)``; a large operator given by its products has its square root by
    Lanczos. A must be declared PSD; calling this on an undeclared operator is taken as the declaration, which
    a factorisation verifies. Raises NotPositiveDefiniteError.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> F = cola.root(cola.kron(A, A))
    >>> bool(np.allclose((F @ F.H).to_dense(), np.kron(A.to_dense(), A.to_dense())))
    True
    """
    return ROOT.run(
        _claimed(A, "root"), alg=as_algorithm(alg, "root"), return_info=return_info, on_failure=on_failure
    )


root.question = ROOT  # type: ignore[attr-defined]


def sample(
    A: Any,
    key: Any,
    shape: tuple[int, ...] | int = (),
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Independent normal vectors of mean zero and covariance A, of shape ``(*shape, *batch, n)``.

    key: an int seed (or a JAX key), always given: there is no global random state. Complex operators:
    circular draws, ``E[x x^H] = A`` and ``E[x x^T] = 0``. A must be positive semidefinite; see ``root``.

    >>> import numpy as np, cola_core as cola
    >>> X = cola.sample(cola.PSD(np.diag([1.0, 100.0])), key=0, shape=(500,))
    >>> X.shape, bool(8 < X[:, 1].std() < 12)
    ((500, 2), True)
    """
    A = _claimed(A, "sample")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(not isinstance(s, int) or s < 0 for s in shape):
        raise ShapeError(f"sample({A!r}, shape={shape}): the shape is made of whole numbers >= 0.")
    return SAMPLE.run(
        A, key, shape, alg=as_algorithm(alg, "root"), return_info=return_info, on_failure=on_failure
    )


sample.question = SAMPLE  # type: ignore[attr-defined]


def _claimed(A: Any, question: str) -> LinearOperator:
    A = square(A, question)
    if not A.isa(PSD):
        if isinstance(A, Dense):
            look_for_asymmetry(A._concrete_backend(), A, A.array)
        A = PSD(A)
    return A


@RULES.rule(
    SAMPLE,
    (LinearOperator,),
    id="sample/root",
    source="x = F z has covariance F F^H",
    complexity="that of root, one product for all draws",
)
def sample_root(A: Any, key: Any, shape: tuple[int, ...], *, alg: Any) -> Array:
    F = ask(ROOT, (A,), alg)
    current = SESSION.get()
    if (
        A.backend is None
        and current is not None
        and current.recorder is not None
        and current.recorder.planning
    ):
        return _abstract_sample(A, key, shape)  # an operator without arrays has no placeholders to tell
    be = A.backend or get_backend("numpy")
    xp, count, n = be.xp, math.prod(shape), A.shape[-1]
    z = be.normal(key, (*A.batch_shape, F.shape[-1], count), A.dtype, A.device)
    x = F._matmat(z)
    x = xp.reshape(xp.moveaxis(x, -1, 0), (*shape, *A.batch_shape, n))
    return x


# -- roots ---------------------------------------------------------------------------------------------------
def _nonnegative(A: Any, d: Any) -> Any:
    """Square roots of entries that must not be negative (NaN under a trace)."""
    be = A._concrete_backend()
    real = be.xp.real(d) if be.is_complex(d) else d
    if be.is_concrete(real) and bool(be.xp.any(real < 0)):
        raise NotPositiveDefiniteError(f"root({A!r}): a diagonal entry is negative.")
    return be.xp.sqrt(real)


@RULES.rule(ROOT, (Identity,), id="root/identity", source="definition", complexity="O(1)")
def root_identity(A: Any, *, alg: Any) -> LinearOperator:
    return A


@RULES.rule(ROOT, (ScalarMul,), id="root/scalar", source="definition", complexity="O(1)")
def root_scalar(A: Any, *, alg: Any) -> LinearOperator:
    if isinstance(A.c, (int, float)) and A.c >= 0:
        return ScalarMul(math.sqrt(A.c), A.n)
    return ScalarMul(_nonnegative(A, A.value), A.n, declared=frozenset({PSD}))


@RULES.rule(ROOT, (Diagonal,), id="root/diagonal", source="definition", complexity="O(N)")
def root_diagonal(A: Any, *, alg: Any) -> LinearOperator:
    return Diagonal(A._concrete_backend().astype(_nonnegative(A, A.diag), A.dtype), declared=frozenset({PSD}))


def _psd_parts(A: Any, *, alg: Any) -> bool | str:
    """Guard: parts known to be PSD."""
    return next((f"part {M!r} is not known to be PSD" for M in A.Ms if not M.isa(PSD)), True)


@RULES.rule(
    ROOT,
    (Kronecker,),
    id="root/kronecker",
    source="Van Loan 2000, sec. 1",
    when=_psd_parts,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def root_kronecker(A: Any, *, alg: Any) -> LinearOperator:
    return A._kron(*(ask(ROOT, (M,), alg) for M in parts(A)))


@RULES.rule(
    ROOT,
    (BlockDiag,),
    id="root/blockdiag",
    source="definition",
    when=_psd_parts,
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def root_blockdiag(A: Any, *, alg: Any) -> LinearOperator:
    return A.with_blocks(*(ask(ROOT, (M,), alg) for M in parts(A)))


def _independent(A: Any, *, alg: Any) -> bool | str:
    """Guard: PSD terms with roots by rule, and no eigenbasis of the whole."""
    known = _psd_parts(A, alg=alg)
    if known is not True:
        return known
    if spectral(A, alg) is True:
        return "eigenvectors of the whole are known, and give a square root"
    for M in A.Ms:
        found = structural("root", M, alg)
        if found is not True:
            return found
    return True


@RULES.rule(
    ROOT,
    (Sum,),
    id="root/sum",
    source="F F^H + G G^H = [F G][F G]^H",
    when=_independent,
    complexity="that of the terms",
)
def root_sum(A: Any, *, alg: Any) -> LinearOperator:
    """One root beside the other: a draw is the sum of independent draws."""
    return Concatenated(*(ask(ROOT, (M,), alg) for M in parts(A)), axis=1)


def _one_factor(A: Any, *, alg: Any) -> bool | str:
    """Guard: U U^H."""
    return True if A.V is None else "two different factors"


@RULES.rule(ROOT, (LowRank,), id="root/lowrank", source="definition", when=_one_factor, complexity="O(1)")
def root_lowrank(A: Any, *, alg: Any) -> LinearOperator:
    return Dense(A.U)


def _scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a non-negative number times a PSD operator."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    return True if s.isa(PSD) and rest.isa(PSD) else "number and operator must both be known non-negative"


@RULES.rule(
    ROOT,
    (Product,),
    id="root/scaled",
    source="c A = (sqrt(c) F)(sqrt(c) F)^H",
    when=_scaled,
    precedence=1,
    complexity="that of the operator",
)
def root_scaled(A: Any, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    return matmul(ask(ROOT, (s,), alg), ask(ROOT, (rest,), alg))


def _congruence(A: Any, *, alg: Any) -> bool | str:
    """Guard: B.H @ B or B.H @ S @ B with a PSD S."""
    if not A.isa(Congruence) or len(A.Ms) > 3:
        return "not written as B.H @ B or B.H @ S @ B"
    S = middle(A)
    return True if len(A.Ms) == 2 or S.isa(PSD) else f"{S!r} is not known to be PSD"


@RULES.rule(
    ROOT,
    (Product,),
    id="root/gram",
    source="B^H S B = (B^H G)(B^H G)^H",
    when=_congruence,
    complexity="that of the middle factor",
)
def root_gram(A: Any, *, alg: Any) -> LinearOperator:
    return A.Ms[0] if len(A.Ms) == 2 else matmul(A.Ms[0], ask(ROOT, (middle(A),), alg))


def _principal(A: Any, *, alg: Any) -> bool | str:
    """Guard: a principal submatrix of a PSD operator."""
    return True if PSD in A._properties() else "not a principal submatrix of an operator known to be PSD"


@RULES.rule(
    ROOT,
    (Sliced,),
    id="root/sliced",
    source="rows of the whole root",
    when=_principal,
    complexity="that of the whole operator",
)
def root_sliced(A: Any, *, alg: Any) -> LinearOperator:
    return Sliced(ask(ROOT, (A.A,), alg), A.rows, None)


@RULES.rule(ROOT, (Transpose,), id="root/transpose", source="A^T = conj(F) conj(F)^H", complexity="that of A")
def root_transpose(A: Any, *, alg: Any) -> LinearOperator:
    return ask(ROOT, (PSD(A.A),), alg).conj()


@RULES.rule(
    ROOT,
    (Inverse,),
    id="root/inverse",
    source="A^-1 = F^-H F^-1",
    complexity="that of A; a system at each product",
)
def root_inverse(A: Any, *, alg: Any) -> LinearOperator:
    inside = PSD(A.A)
    be = A._concrete_backend()
    if be.name != "abstract" and be.differentiating(*tree_leaves(inside)) and spectral(inside, alg) is True:
        from .matrix_function import APPLY_UNARY
        from .scalar_function import ISQRT

        return ask(APPLY_UNARY, (inside, ISQRT), alg)  # type: ignore[no-any-return]
    F = ask(ROOT, (inside,), alg)
    return ask(INV, (F,), A.alg).H if F.is_square else NotImplemented


def _spectral(A: Any, *, alg: Any) -> bool | str:
    """Guard: an orthonormal eigenbasis by rule."""
    return spectral(A, alg)


@RULES.rule(
    ROOT,
    (LinearOperator,),
    id="root/spectral",
    source="A = V W V^H",
    when=_spectral,
    complexity="that of eigh, O(N)",
)
def root_spectral(A: Any, *, alg: Any) -> LinearOperator:
    """``V sqrt(w) V^H``: of all roots that have V the one that does not depend on the signs, phases and bases
    of eigenvectors, which LAPACK chooses differently from call to call."""
    from .eigen import EIGH
    from .matrix_function import APPLY_UNARY
    from .scalar_function import SQRT

    be = A._concrete_backend()
    if be.name != "abstract" and be.differentiating(*tree_leaves(A)):  # exact where eigenvalues meet
        return ask(APPLY_UNARY, (A, SQRT), alg)  # type: ignore[no-any-return]
    w, V = ask(EIGH, (A,), alg)
    return Product(V, Diagonal(be.astype(roots_of_eigenvalues(A, w), A.dtype)), V.H)


def roots_of_eigenvalues(A: Any, w: Array) -> Array:
    """``sqrt(w)`` with what rounding left below zero put to zero; a negative eigenvalue is an error."""
    be = A._concrete_backend()
    xp = be.xp
    if be.is_concrete(w) and 0 not in w.shape:
        low, top = be.number(xp.min(w)), be.number(xp.max(xp.abs(w)))
        if low < -1e3 * float(xp.finfo(w.dtype).eps) * top:
            raise NotPositiveDefiniteError(
                f"root({A!r}): the operator has the negative eigenvalue {low:.3g}, so it is no covariance. "
                "Remove the PSD declaration, or add a multiple of the identity."
            )
    return xp.sqrt(xp.maximum(w, xp.zeros_like(w)))

"""Rules for the eigenproblem: eigenvalues and eigenvectors of a composition in terms of its parts'."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.spectrum import check_which, nonnegative, order_by
from ..backends import backend_of
from ..backends.base import Array
from ..dispatch.choose import ask
from ..operators import (
    FFT,
    BlockDiag,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    LowRank,
    Permutation,
    Product,
    ScalarMul,
    Sum,
    Triangular,
    matmul,
    parts,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, Congruence, SelfAdjoint, Stiefel, Unitary
from .eigen import EIG, EIGH, EIGS, EIGSH, EIGVALS, columns, joined, outer_product, outer_sum
from .structure import by_eigenvalues, eigenbasis, middle, shift_split, spectral, spectral_guard

__all__ = ["RULES"]

RULES = RuleBook()


def _unitary(V: LinearOperator) -> LinearOperator:
    return V if V.isa(Unitary) else V.replace(declared=V.declared | {Unitary})


# -- eigh ----------------------------------------------------------------------------------------------------
@RULES.rule(EIGH, (Diagonal,), id="eigh/diagonal", source="definition", complexity="O(N)")
def eigh_diagonal(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    w = be.xp.real(A.diag) if A._is_complex() else A.diag
    return w, Identity.like(A)


@RULES.rule(EIGH, (ScalarMul,), id="eigh/scalar", source="definition", complexity="O(N)")
def eigh_scalar(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    c = be.astype(A.value, A.dtype)
    c = be.xp.real(c) if be.is_complex(c) else c
    return c[..., None] * be.xp.ones((A.n,), dtype=c.dtype, device=A.device), Identity.like(A)


@RULES.rule(EIGH, (Identity,), id="eigh/identity", source="definition", complexity="O(N)")
def eigh_identity(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    return be.xp.ones((A.n,), dtype=be.real_dtype(A.dtype), device=A.device), A


@RULES.rule(
    EIGH,
    (Kronecker,),
    id="eigh/kronecker",
    source="Van Loan 2000, sec. 1",
    when=spectral_guard,
    complexity="that of the factors, O(N)",
)
def eigh_kronecker(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    w = outer_product(A._concrete_backend(), [w for w, _ in pairs])
    return w, _unitary(A._kron(*(V for _, V in pairs)))


@RULES.rule(
    EIGH,
    (KronSum,),
    id="eigh/kronsum",
    source="Lynch, Rice & Thomas 1964",
    when=spectral_guard,
    complexity="that of the factors, O(N)",
)
def eigh_kronsum(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    w = outer_sum(A._concrete_backend(), [w for w, _ in pairs])
    return w, _unitary(A._kron(*(V for _, V in pairs)))


@RULES.rule(
    EIGH,
    (BlockDiag,),
    id="eigh/blockdiag",
    source="definition",
    when=spectral_guard,
    complexity="that of the blocks, O(N)",
)
def eigh_blockdiag(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIGH, (M,), alg) for M in parts(A)]
    return joined(A, [w for w, _ in pairs]), _unitary(A.with_blocks(*(V for _, V in pairs)))


def _shifted_self_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: one self-adjoint operator plus multiples of the identity."""
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    return True if split[0].isa(SelfAdjoint) else f"{split[0]!r} is not known to be self-adjoint"


@RULES.rule(
    EIGH,
    (Sum,),
    id="eigh/shift",
    source="A + s I has A's eigenvectors",
    when=_shifted_self_adjoint,
    complexity="that of the operator, O(N)",
)
def eigh_shift(A: Any, *, alg: Any) -> Any:
    base, shifts = shift_split(A)  # type: ignore[misc]
    w, V = ask(EIGH, (base,), alg)
    return _moved(A, w, shifts, real=True), V


def _moved(A: Any, w: Array, shifts: Any, real: bool = False) -> Array:
    """w plus the numbers of the multiples of the identity."""
    be = A._concrete_backend()
    for s in shifts:
        c: Any = s.c if isinstance(s, ScalarMul) else 1.0
        c = be.xp.real(c) if real and getattr(c, "dtype", None) is not None and be.is_complex(c) else c
        w = w + (c[..., None] if getattr(c, "shape", ()) else c)
    return w


def _scaled_self_adjoint(A: Any, *, alg: Any) -> bool | str:
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    return True if rest.isa(SelfAdjoint) else f"{rest!r} is not known to be self-adjoint"


def _scaled_spectral(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number times a self-adjoint operator with an eigenbasis by rule."""
    ok = _scaled_self_adjoint(A, alg=alg)
    return ok if ok is not True else spectral(split_scalar(A)[1], alg)


@RULES.rule(
    EIGH,
    (Product,),
    id="eigh/scaled",
    source="c A has A's eigenvectors",
    when=_scaled_spectral,
    complexity="that of the operator, O(N)",
)
def eigh_scaled(A: Any, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    w, V = ask(EIGH, (rest,), alg)
    return _times(A, s, w, real=True), V


def _times(A: Any, s: Any, w: Array, real: bool = False) -> Array:
    be, c = A._concrete_backend(), s.c
    c = be.xp.real(c) if real and getattr(c, "dtype", None) is not None and be.is_complex(c) else c
    return (c[..., None] if getattr(c, "shape", ()) else c) * w


def _similar(A: Any, *, alg: Any) -> bool | str:
    """Guard: U S U^H with a unitary U."""
    if not A.isa(Congruence):
        return "not U A U^H"
    if not A.Ms[0].isa(Unitary):
        return f"{A.Ms[0]!r} is not known to be unitary"
    return True


def _similar_self_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: U S U^H with a unitary U and a self-adjoint S."""
    found = _similar(A, alg=alg)
    if found is not True:
        return found
    return True if middle(A).isa(SelfAdjoint) else f"{middle(A)!r} is not known to be self-adjoint"


@RULES.rule(
    EIGH,
    (Product,),
    id="eigh/similarity",
    source="U S U^H has the eigenvectors U V; Golub & Van Loan, 4th ed., sec. 7.1.3",
    when=_similar_self_adjoint,
    precedence=-1,
    complexity="that of the middle factor",
)
def eigh_similarity(A: Any, *, alg: Any) -> Any:
    w, V = ask(EIGH, (middle(A),), alg)
    return w, _unitary(matmul(A.Ms[0], V))


def _self_adjoint_low_rank(A: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint, of a rank not above the size."""
    if not A.isa(SelfAdjoint):
        return "not known to be self-adjoint"
    return True if A.rank <= A.shape[-1] else f"{A.rank} columns are more than {A.shape[-1]} rows"


@RULES.rule(
    EIGH,
    (LowRank,),
    id="eigh/lowrank",
    source="QR of U; completion by a block reflector, Schreiber & Van Loan 1989",
    when=_self_adjoint_low_rank,
    complexity="O(N r^2)",
)
def eigh_lowrank(A: Any, *, alg: Any) -> Any:
    """``U V^H = Q1 (R V^H Q1) Q1^H``: a small eigenproblem, and n - r zeros.

    The other eigenvectors are the rest of a block reflector ``I - Y M^-1 Y^H`` that maps the first unit
    vectors to the eigenvectors, so nothing n x n is formed.
    """
    be = A._concrete_backend()
    xp = be.xp
    n, r = A.shape[-1], A.rank
    Q, R = xp.linalg.qr(A.U)
    small = be.matmul(R, be.matmul(be.adjoint(A.right), Q))
    small = (small + be.adjoint(small)) / 2
    claim = frozenset({PSD}) if A.isa(PSD) else frozenset({SelfAdjoint})
    w, G = ask(EIGH, (Dense(small, declared=claim),), Auto())
    Q = be.matmul(Q, G.to_dense())
    if A.isa(PSD):
        w = nonnegative(A, w)
    zeros = be.zeros((*w.shape[:-1], n - r), w.dtype, A.device)
    w = xp.concat([w, zeros], axis=-1)
    if r == n:
        return w, Dense(Q, declared=frozenset({Unitary}))
    # polar factor of the top block: S with I - Q11^H S = I + P, well conditioned
    left, _, right = be.svd(Q[..., :r, :])
    S = -be.matmul(left, be.adjoint(right))
    Y = xp.concat([Q[..., :r, :] - S, Q[..., r:, :]], axis=-2)
    eye = be.eye(r, A.dtype, A.device)
    M = eye - be.matmul(be.adjoint(Q[..., :r, :]), S)
    half = be.adjoint(be.lu_solve(be.lu_factor(be.adjoint(M)), be.adjoint(Y)))
    H = Sum(Identity.like(A), LowRank(-half, Y), declared=frozenset({Unitary}))
    turn = BlockDiag(Dense(S, declared=frozenset({Unitary})), Identity.like(A, n - r))
    return w, Product(H, turn, declared=frozenset({Unitary}))


# -- a few eigenpairs ----------------------------------------------------------------------------------------
def _structured(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: self-adjoint with an eigenbasis by rule."""
    return spectral(A, alg)


def _some_of_all(A: Any, k: int, which: str, *, alg: Any) -> Any:
    """All eigenvalues come from the factors for next to nothing; only the wanted vectors are ever formed."""
    w, V = ask(EIGH, (A,), alg)
    be: Any = backend_of(w)
    index = order_by(be, w, k, which)
    return be.xp.take_along_axis(w, index, axis=-1), columns(V, index, frozenset({Stiefel}))


for _cls in (Diagonal, ScalarMul, Identity, Kronecker, KronSum, BlockDiag, Sum, Product, LowRank):
    RULES.rule(
        EIGSH,
        (_cls,),
        id=f"eigsh/{_cls.__name__.lower()}",
        source="eigenvalues of the parts, then the wanted ones",
        when=_structured,
        complexity="that of eigh, O(N log N), k eigenvectors formed",
    )(_some_of_all)


def _structured_general(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: an eigenbasis by rule."""
    return eigenbasis(A, alg)


def _some_of_all_general(A: Any, k: int, which: str, *, alg: Any) -> Any:
    w, V = ask(EIG, (A,), alg)
    be: Any = backend_of(w)
    index = order_by(be, w, k, which)
    claim = frozenset({Stiefel}) if V.isa(Stiefel) else frozenset()
    return be.xp.take_along_axis(w, index, axis=-1), columns(V, index, claim)


for _general in (Diagonal, ScalarMul, Triangular, Permutation, Kronecker, KronSum, BlockDiag, Sum, Product):
    RULES.rule(
        EIGS,
        (_general,),
        id=f"eigs/{_general.__name__.lower()}",
        source="eigenvalues of the parts, then the wanted ones",
        when=_structured_general,
        complexity="that of eig, O(N log N), k eigenvectors formed",
    )(_some_of_all_general)


def _known_self_adjoint(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: self-adjoint, and no algorithm for general operators asked for."""
    if not A.isa(SelfAdjoint):
        return "not known to be self-adjoint"
    if not isinstance(alg, Auto) and hasattr(alg, "eigs") and not hasattr(alg, "eigsh"):
        return f"{type(alg).__name__} is for general operators"
    return True if which[1] != "I" else "the imaginary parts are all zero"


@RULES.rule(
    EIGS,
    (LinearOperator,),
    id="eigs/self-adjoint",
    source="eigsh",
    when=_known_self_adjoint,
    precedence=1,
    complexity="that of eigsh",
)
def eigs_self_adjoint(A: Any, k: int, which: str, *, alg: Any) -> Any:
    return ask(EIGSH, (A, k, check_which(which)), Auto() if not hasattr(alg, "eigsh") else alg)


def _few_of_low_rank(A: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: the largest by modulus, not more than the rank."""
    if which != "LM":
        return "eigenvalues other than the largest by modulus may be the zeros"
    if k > A.rank:
        return f"{k} eigenvalues are more than the rank {A.rank}"
    return by_eigenvalues(alg)


@RULES.rule(
    EIGS,
    (LowRank,),
    id="eigs/lowrank",
    source="U V^H and V^H U have the same nonzero eigenvalues; Horn & Johnson 2013, thm 1.3.22",
    when=_few_of_low_rank,
    complexity="O(N r^2 + r^3)",
)
def eigs_lowrank(A: Any, k: int, which: str, *, alg: Any) -> Any:
    """``V^H U y = w y`` gives ``A (U y) = w (U y)``."""
    be = A._concrete_backend()
    xp = be.xp
    w, Y = ask(EIG, (Dense(be.matmul(be.adjoint(A.right), A.U)),), Auto())
    index = order_by(be, w, k, which)
    w = xp.take_along_axis(w, index, axis=-1)
    X = be.matmul(be.astype(A.U, Y.dtype), columns(Y, index).to_dense())
    norms = xp.linalg.vector_norm(X, axis=-2)
    if be.is_concrete(norms) and bool(xp.any(norms == 0)):
        return NotImplemented  # U y vanishes: a zero eigenvalue whose vector is not in the range of U
    return w, Dense(X / be.astype(norms, X.dtype)[..., None, :])


# -- eig -----------------------------------------------------------------------------------------------------
def _self_adjoint(A: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint."""
    return True if A.isa(SelfAdjoint) else "not known to be self-adjoint"


@RULES.rule(
    EIG,
    (LinearOperator,),
    id="eig/self-adjoint",
    source="eigh",
    when=_self_adjoint,
    precedence=1,
    complexity="that of eigh",
)
def eig_self_adjoint(A: Any, *, alg: Any) -> Any:
    return ask(EIGH, (A,), Auto() if not hasattr(alg, "eigh") else alg)


@RULES.rule(EIG, (Diagonal,), id="eig/diagonal", source="definition", complexity="O(1)")
def eig_diagonal(A: Any, *, alg: Any) -> Any:
    return A.diag, Identity.like(A)


def _spread(A: Any) -> Array:
    be = A._concrete_backend()
    return be.astype(A.value, A.dtype)[..., None] * be.xp.ones((A.n,), dtype=A.dtype, device=A.device)


@RULES.rule(EIG, (ScalarMul,), id="eig/scalar", source="definition", complexity="O(N)")
def eig_scalar(A: Any, *, alg: Any) -> Any:
    return _spread(A), Identity.like(A)


@RULES.rule(
    EIG,
    (Triangular,),
    id="eig/triangular",
    source="back substitution; Golub & Van Loan, 4th ed., sec. 7.6.4",
    complexity="O(N^3)",
)
def eig_triangular(A: Any, *, alg: Any) -> Any:
    """Eigenvalues are the diagonal, exactly; vectors by substitution.

    A gap between eigenvalues below rounding is taken as rounding, so repeated ones give vectors that are as
    parallel as those of the matrix are (LAPACK's trevc), and compiled code does the same.
    """
    be = A._concrete_backend()
    xp = be.xp
    T = be.astype(A.to_dense(), xp.result_type(A.dtype, be.dtype("complex64")))
    if not A.lower:
        w, V = _eig_upper(be, T)
        return w, Dense(V)
    w, V = _eig_upper(be, xp.flip(T, axis=(-2, -1)))
    return xp.flip(w, axis=-1), Dense(xp.flip(V, axis=(-2, -1)))


def _eig_upper(be: Any, T: Array) -> tuple[Array, Array]:
    xp = be.xp
    n = T.shape[-1]
    w = xp.linalg.diagonal(T)
    if n == 0:
        return w, T
    eps = float(xp.finfo(be.real_dtype(T.dtype)).eps)
    tiny = float(xp.finfo(be.real_dtype(T.dtype)).smallest_normal)
    least = eps * xp.max(xp.sum(xp.abs(T), axis=-1), axis=-1)[..., None] + tiny
    V = be.eye(n, T.dtype, be.device(T)) + xp.zeros_like(T)
    for i in range(n - 2, -1, -1):
        # (T - w_j) v = 0 row i, for all j > i at once
        row = be.matmul(T[..., i : i + 1, i + 1 :], V[..., i + 1 :, i + 1 :])[..., 0, :]
        gap = w[..., i + 1 :] - w[..., i : i + 1]
        close = xp.abs(gap) < least
        row = row / xp.where(close, be.astype(least, T.dtype) + xp.zeros_like(gap), gap)
        V = be.put(V, (..., i, slice(i + 1, n)), row)
        # chains of repeated eigenvalues grow by 1/eps a step: scaled before they overflow
        size = xp.abs(row)
        big = be.astype(xp.where(size > 1 / eps, size, xp.ones_like(size)), T.dtype)
        V = be.put(V, (..., slice(i, n), slice(i + 1, n)), V[..., i:, i + 1 :] / big[..., None, :])
    norms = xp.linalg.vector_norm(V, axis=-2)
    return w, V / be.astype(norms, V.dtype)[..., None, :]


def _cycles(A: Any) -> tuple[Array, Array, Array]:
    """For every index: the least index of its cycle, its steps from there, and the cycle's length.

    By pointer doubling, so compiled code traces it: follow 1, 2, 4, ... steps at once.
    """
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    here = xp.arange(n, device=be.device(A.perm))
    jump, least = A.perm, here
    for _ in range(max(n, 1).bit_length()):
        least = xp.minimum(least, least[jump])
        jump = jump[jump]
    # steps from the least index: go on until it is met, again by doubling
    jump = xp.where(least == here, here, A.perm)  # the least index stays put
    steps = xp.astype(least != here, here.dtype)
    for _ in range(max(n, 1).bit_length()):
        steps = steps + steps[jump]
        jump = jump[jump]
    ones = xp.ones((n, 1), dtype=be.dtype(be.default_float), device=be.device(A.perm))
    length = xp.astype(be.index_add(least, ones, n)[:, 0], here.dtype)[least]
    return least, steps, length


def _roots_of_unity(A: Any) -> Array:
    _, steps, length = _cycles(A)
    return _turned(A, steps, length)


def _turned(A: Any, steps: Array, length: Array) -> Array:
    """``exp(2 pi i steps / length)``, quarter turns without rounding."""
    be = A._concrete_backend()
    xp = be.xp
    dtype = xp.result_type(A.dtype, be.dtype("complex64"))
    real = be.real_dtype(dtype)
    quarter = 4 * (be.astype(steps, real) / be.astype(length, real))
    nearest = xp.floor(quarter + 0.5)
    rest = (quarter - nearest) * (3.141592653589793 / 2)
    c, s = xp.cos(rest), xp.sin(rest)
    q = xp.astype(nearest, steps.dtype) % 4
    re = xp.where(q == 0, c, xp.where(q == 1, -s, xp.where(q == 2, -c, s)))
    im = xp.where(q == 0, s, xp.where(q == 1, c, xp.where(q == 2, -s, -c)))
    return be.astype(re, dtype) + 1j * be.astype(im, dtype)


@RULES.rule(
    EIG,
    (Permutation,),
    id="eig/permutation",
    source="each cycle is diagonalised by a Fourier transform; Davis 1979, sec. 2.4",
    complexity="O(N)",
)
def eig_permutation(A: Any, *, alg: Any) -> Any:
    """Cycles beside each other, those of one length together, each a Fourier transform; O(n).

    The sizes of the cycles are values, so compiled code takes the general way.
    """
    import numpy as np

    be = A._concrete_backend()
    if be.name == "abstract":
        return EIG.abstract(A)
    if not be.is_concrete(A.perm):
        return NotImplemented
    perm = np.asarray(be.to_numpy(A.perm))
    by_length: dict[int, list[list[int]]] = {}
    seen = np.zeros(len(perm), bool)
    for start in range(len(perm)):
        cycle = []
        while not seen[start]:
            seen[start] = True
            cycle.append(start)
            start = int(perm[start])
        if cycle:
            by_length.setdefault(len(cycle), []).append(cycle)
    if not by_length:
        return be.zeros((0,), be.xp.result_type(A.dtype, be.dtype("complex64"))), Identity.like(A)
    order = np.concatenate([np.concatenate(cycles) for cycles in by_length.values()])
    steps = np.concatenate([np.tile(np.arange(size), len(cs)) for size, cs in by_length.items()])
    length = np.concatenate([np.full(size * len(cs), size) for size, cs in by_length.items()])
    w = _turned(A, *(be.asarray(x, device=A.device) for x in (steps, length)))
    transforms = [
        FFT(size, inverse=True, dtype=w.dtype, backend=be.name, device=A.device) for size in by_length
    ]
    blocks = BlockDiag(*transforms, multiplicities=[len(cycles) for cycles in by_length.values()])
    place = Permutation(be.asarray(np.argsort(order), device=A.device))
    return w, Product(place, blocks, declared=frozenset({Unitary}))


def _general_shift(A: Any, *, alg: Any) -> bool | str:
    """Guard: one operator plus multiples of the identity."""
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    if A.isa(SelfAdjoint) and not split[0].isa(SelfAdjoint):
        return "the sum is self-adjoint, its operator is not known to be"
    return True


@RULES.rule(
    EIG,
    (Sum,),
    id="eig/shift",
    source="A + s I has A's eigenvectors",
    when=_general_shift,
    complexity="that of the operator, O(N)",
)
def eig_shift(A: Any, *, alg: Any) -> Any:
    base, shifts = shift_split(A)  # type: ignore[misc]
    w, V = ask(EIG, (base,), alg)
    return _moved(A, w, shifts), V


def _general_scaled(A: Any, *, alg: Any) -> bool | str:
    """Guard: a number in front."""
    s, rest = split_scalar(A)
    if s is None:
        return "no number in front"
    if A.isa(SelfAdjoint) and not rest.isa(SelfAdjoint):
        return "the product is self-adjoint, its operator is not known to be"
    return True


@RULES.rule(
    EIG,
    (Product,),
    id="eig/scaled",
    source="c A has A's eigenvectors",
    when=_general_scaled,
    complexity="that of the operator, O(N)",
)
def eig_scaled(A: Any, *, alg: Any) -> Any:
    s, rest = split_scalar(A)
    w, V = ask(EIG, (rest,), alg)
    return _times(A, s, w), V


def _general_similar(A: Any, *, alg: Any) -> bool | str:
    """Guard: U S U^H with a unitary U, not self-adjoint."""
    found = _similar(A, alg=alg)
    if found is not True:
        return found
    return "eigh answers" if A.isa(SelfAdjoint) else True


@RULES.rule(
    EIG,
    (Product,),
    id="eig/similarity",
    source="U S U^H has the eigenvectors U V; Golub & Van Loan, 4th ed., sec. 7.1.3",
    when=_general_similar,
    precedence=-1,
    complexity="that of the middle factor",
)
def eig_similarity(A: Any, *, alg: Any) -> Any:
    w, V = ask(EIG, (middle(A),), alg)
    return w, matmul(A.Ms[0], V)


def _square_parts(A: Any, *, alg: Any) -> bool | str:
    """Guard: square parts."""
    return next((f"part {M!r} is not square" for M in A.Ms if not M.is_square), True)


@RULES.rule(
    EIG,
    (Kronecker,),
    id="eig/kronecker",
    source="Van Loan 2000, sec. 1",
    when=_square_parts,
    complexity="that of the factors, O(N)",
)
def eig_kronecker(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return outer_product(A._concrete_backend(), [w for w, _ in pairs]), A._kron(*(V for _, V in pairs))


@RULES.rule(
    EIG,
    (KronSum,),
    id="eig/kronsum",
    source="Lynch, Rice & Thomas 1964",
    complexity="that of the factors, O(N)",
)
def eig_kronsum(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return outer_sum(A._concrete_backend(), [w for w, _ in pairs]), A._kron(*(V for _, V in pairs))


@RULES.rule(
    EIG,
    (BlockDiag,),
    id="eig/blockdiag",
    source="definition",
    when=_square_parts,
    complexity="that of the blocks, O(N)",
)
def eig_blockdiag(A: Any, *, alg: Any) -> Any:
    pairs = [ask(EIG, (M,), alg) for M in parts(A)]
    return joined(A, [w for w, _ in pairs]), A.with_blocks(*(V for _, V in pairs))


# -- eigenvalues alone ---------------------------------------------------------------------------------------
@RULES.rule(EIGVALS, (Diagonal,), id="eigvals/diagonal", source="definition", complexity="O(N)")
def eigvals_diagonal(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    return be.xp.real(A.diag) if A._is_complex() and A.isa(SelfAdjoint) else A.diag


@RULES.rule(EIGVALS, (ScalarMul,), id="eigvals/scalar", source="definition", complexity="O(N)")
def eigvals_scalar(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    w = _spread(A)
    return be.xp.real(w) if A._is_complex() and A.isa(SelfAdjoint) else w


@RULES.rule(EIGVALS, (Identity,), id="eigvals/identity", source="definition", complexity="O(N)")
def eigvals_identity(A: Any, *, alg: Any) -> Array:
    return eigh_identity(A, alg=alg)[0]


@RULES.rule(
    EIGVALS,
    (Triangular,),
    id="eigvals/triangular",
    source="Golub & Van Loan, 4th ed., sec. 7.1.2",
    complexity="O(N)",
)
def eigvals_triangular(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    d = be.xp.linalg.diagonal(A.array)
    d = be.xp.ones_like(d) if A.unit else d
    return d if A.isa(SelfAdjoint) else be.astype(d, be.xp.result_type(d.dtype, be.dtype("complex64")))


@RULES.rule(
    EIGVALS,
    (Permutation,),
    id="eigvals/permutation",
    source="a cycle of length L has the L-th roots of unity; Horn & Johnson 2013, sec. 0.9.6",
    complexity="O(N log N)",
)
def eigvals_permutation(A: Any, *, alg: Any) -> Array:
    return _roots_of_unity(A)


@RULES.rule(
    EIGVALS,
    (Kronecker,),
    id="eigvals/kronecker",
    source="Van Loan 2000, sec. 1",
    when=_square_parts,
    complexity="that of the factors, O(N)",
)
def eigvals_kronecker(A: Any, *, alg: Any) -> Array:
    return outer_product(A._concrete_backend(), [ask(EIGVALS, (M,), alg) for M in parts(A)])


@RULES.rule(
    EIGVALS,
    (KronSum,),
    id="eigvals/kronsum",
    source="eigenvalues are sums; Horn & Johnson 1991, 4.4.5",
    complexity="that of the factors, O(N)",
)
def eigvals_kronsum(A: Any, *, alg: Any) -> Array:
    return outer_sum(A._concrete_backend(), [ask(EIGVALS, (M,), alg) for M in parts(A)])


@RULES.rule(
    EIGVALS,
    (BlockDiag,),
    id="eigvals/blockdiag",
    source="definition",
    when=_square_parts,
    complexity="that of the blocks, O(N)",
)
def eigvals_blockdiag(A: Any, *, alg: Any) -> Array:
    return joined(A, [ask(EIGVALS, (M,), alg) for M in parts(A)])


@RULES.rule(
    EIGVALS,
    (Sum,),
    id="eigvals/shift",
    source="w + s",
    when=_general_shift,
    complexity="that of the operator, O(N)",
)
def eigvals_shift(A: Any, *, alg: Any) -> Array:
    base, shifts = shift_split(A)  # type: ignore[misc]
    return _moved(A, ask(EIGVALS, (base,), alg), shifts, real=A.isa(SelfAdjoint))


@RULES.rule(
    EIGVALS,
    (Product,),
    id="eigvals/scaled",
    source="c w",
    when=_general_scaled,
    complexity="that of the operator, O(N)",
)
def eigvals_scaled(A: Any, *, alg: Any) -> Array:
    s, rest = split_scalar(A)
    return _times(A, s, ask(EIGVALS, (rest,), alg), real=A.isa(SelfAdjoint))


@RULES.rule(
    EIGVALS,
    (Product,),
    id="eigvals/similarity",
    source="similar matrices",
    when=_similar,
    precedence=-1,
    complexity="that of the middle factor",
)
def eigvals_similarity(A: Any, *, alg: Any) -> Array:
    return ask(EIGVALS, (middle(A),), alg)


def _thin(A: Any, *, alg: Any) -> bool | str:
    """Guard: the rank is below the size."""
    return True if A.rank < A.shape[-1] else f"the rank {A.rank} is not below {A.shape[-1]}"


@RULES.rule(
    EIGVALS,
    (LowRank,),
    id="eigvals/lowrank",
    source="U V^H and V^H U have the same nonzero eigenvalues; Horn & Johnson 2013, thm 1.3.22",
    when=_thin,
    complexity="O(N r^2 + r^3)",
)
def eigvals_lowrank(A: Any, *, alg: Any) -> Array:
    be = A._concrete_backend()
    real = A.isa(SelfAdjoint)
    if real:
        w = eigh_lowrank_values(A)
    else:
        w = ask(EIGVALS, (Dense(be.matmul(be.adjoint(A.right), A.U)),), alg)
    zeros = be.zeros((*w.shape[:-1], A.shape[-1] - A.rank), w.dtype, A.device)
    return be.xp.concat([w, zeros], axis=-1)


def eigh_lowrank_values(A: Any) -> Array:
    """The r eigenvalues of a self-adjoint U V^H that need not be zero."""
    be = A._concrete_backend()
    Q, R = be.xp.linalg.qr(A.U)
    small = be.matmul(R, be.matmul(be.adjoint(A.right), Q))
    return ask(EIGVALS, (Dense((small + be.adjoint(small)) / 2, declared=frozenset({SelfAdjoint})),), Auto())


def _has_basis(A: Any, *, alg: Any) -> bool | str:
    """Guard: an eigenbasis by rule."""
    return spectral(A, alg) if A.isa(SelfAdjoint) else eigenbasis(A, alg)


@RULES.rule(
    EIGVALS,
    (LinearOperator,),
    id="eigvals/basis",
    source="eig, eigh",
    when=_has_basis,
    complexity="that of eigh or eig",
)
def eigvals_basis(A: Any, *, alg: Any) -> Array:
    """Of an operator with a rule for its whole eigendecomposition (of a plugin, say) and none for this."""
    return ask(EIGH if A.isa(SelfAdjoint) else EIG, (A,), alg)[0]

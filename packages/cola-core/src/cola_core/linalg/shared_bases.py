"""Sums of Kronecker products whose factors share eigenvectors.

``A1 x B1 x ... + A2 x B2 x ...``: where at each place there is one self-adjoint operator besides identities,
the sum has orthonormal eigenvectors ``V1 x V2 x ...`` and any question is answered through them. Where there
are two operators, one of them definite, both are diagonalised at once by a basis that is not orthonormal
(Golub & Van Loan, 4th ed., sec. 8.7.1; Rakitsch et al. 2013), which still solves and gives determinants.

"One operator" means the very same data, or powers of it: facts of how the sum was written, not of values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.factor import warn_if_singular
from ..algorithms.iteration import differentiated
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..errors import NotPositiveDefiniteError, SingularMatrixError
from ..operators import (
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    Product,
    ScalarMul,
    Sum,
    split_scalar,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint
from ..pytree import tree_leaves
from .determinant import SLOGDET, _spectral, of_entries
from .eigen import EIG, EIGH, EIGVALS, outer_product
from .scalar_function import signs
from .solve import SOLVE
from .structure import by_eigenvalues, shift_split
from .structured_factor import spectral_factor

__all__ = ["RULES", "KroneckerTerms", "pencils", "same"]

RULES = RuleBook()


def same(A: LinearOperator, B: LinearOperator) -> bool:
    """Whether two operators are the same data in the same structure."""
    if A is B:
        return True
    if type(A) is not type(B) or A.shape != B.shape:
        return False
    if any(A.__dict__[f] != B.__dict__[f] for f in A._static_fields if f != "declared"):
        return False
    for name in A._child_fields:
        a, b = A.__dict__[name], B.__dict__[name]
        a, b = (a, b) if isinstance(a, tuple) else ((a,), (b,))
        if len(a) != len(b):
            return False
        for x, y in zip(a, b, strict=True):
            if isinstance(x, LinearOperator):
                if not isinstance(y, LinearOperator) or not same(x, y):
                    return False
            elif isinstance(x, (int, float, complex)) and isinstance(y, (int, float, complex)):
                if x != y:
                    return False
            elif x is not y:
                return False
    return True


@dataclass(frozen=True)
class KroneckerTerms:
    """``sum_t c_t F_t1 x F_t2 x ...``; F is None for an identity.

    pairs: per place the different operators met there, without identities and powers. model: the first term
    that is a product or a sum, whose layout its eigenvectors get.
    """

    terms: tuple[tuple[Any, tuple[LinearOperator | None, ...]], ...]
    sizes: tuple[int, ...]
    pairs: tuple[tuple[LinearOperator, ...], ...]
    identities: tuple[bool, ...]
    model: Any

    def combined(self, be: Any, eigenvalues: Callable[[Any, int], Array]) -> Array:
        """``sum_t c_t w_t1 x w_t2 x ...`` with ``eigenvalues(F, place)`` for factors, ones for identities."""
        total: Any = None
        plain = [eigenvalues(pair[0], i) if pair else None for i, pair in enumerate(self.pairs)]
        known = next(w for w in plain if w is not None)
        for c, factors in self.terms:
            ws = []
            for i, F in enumerate(factors):
                if F is None:
                    ws.append(be.xp.ones((self.sizes[i],), dtype=known.dtype, device=be.device(known)))
                else:
                    base, power = _power(F)
                    w = eigenvalues(base, i)
                    ws.append(w if power == 1 else w**power)
            w = outer_product(be, ws)
            if not isinstance(c, (int, float, complex)) or c != 1:
                w = (c[..., None] if getattr(c, "shape", ()) else c) * w
            total = w if total is None else total + w
        return total


def _power(F: LinearOperator) -> tuple[LinearOperator, int]:
    """``M @ M @ ...`` as (M, how often)."""
    if isinstance(F, Product) and all(same(M, F.Ms[0]) for M in F.Ms[1:]):
        return F.Ms[0], len(F.Ms)
    return F, 1


def _term(M: LinearOperator, sizes: tuple[int, ...]) -> list[Any] | None:
    """One summand as (number, factors) terms; None where its factors are of other sizes."""
    scalar, K = split_scalar(M)
    c: Any = 1 if scalar is None else scalar.c
    if isinstance(K, (Identity, ScalarMul)):
        d = K.c if isinstance(K, ScalarMul) else 1
        return [(c * d if scalar is not None else d, (None,) * len(sizes))]
    if isinstance(K, Kronecker):
        grouped = _grouped(K.Ms, sizes)
        return None if grouped is None else [(c, grouped)]
    if isinstance(K, KronSum):
        if tuple(F.shape[-1] for F in K.Ms) != sizes:
            return None
        return [(c, tuple(F if j == i else None for j in range(len(sizes)))) for i, F in enumerate(K.Ms)]
    return None


def _grouped(Ms: tuple[LinearOperator, ...], sizes: tuple[int, ...]) -> tuple[Any, ...] | None:
    """Factors at their places; an identity may span several."""
    out: list[Any] = []
    for M in Ms:
        if not M.is_square:
            return None
        n = M.shape[-1]
        if not isinstance(M, Identity):
            if len(out) >= len(sizes) or sizes[len(out)] != n:
                return None
            out.append(M)
            continue
        span = 1
        while span < n or (n == 1 and len(out) < len(sizes) and sizes[len(out)] == 1):
            if len(out) >= len(sizes):
                return None
            span *= sizes[len(out)]
            out.append(None)
            if n == 1:
                break
        if span != n:
            return None
    return tuple(out) if len(out) == len(sizes) else None


def pencils(A: LinearOperator) -> KroneckerTerms | str:
    """A sum of Kronecker products over one grid, place by place; or why it is none."""
    if not isinstance(A, Sum):
        return "not a sum"
    candidates, model = [], None
    for M in A.Ms:
        K = split_scalar(M)[1]
        if isinstance(K, (Kronecker, KronSum)) and len(K.Ms) > 1:
            candidates.append(tuple(F.shape[-1] for F in K.Ms if F.is_square))
            model = K if model is None else model
    if not candidates:
        return "no term is a Kronecker product"
    sizes = max(candidates, key=len)
    terms: list[Any] = []
    for M in A.Ms:
        found = _term(M, sizes)
        if found is None:
            return f"{M!r} is not a Kronecker product over the sizes {sizes}"
        terms.extend(found)
    pairs: list[tuple[LinearOperator, ...]] = []
    identities = []
    for i in range(len(sizes)):
        distinct: list[LinearOperator] = []
        for _, factors in terms:
            if factors[i] is None:
                continue
            base, _ = _power(factors[i])
            if not any(same(base, M) for M in distinct):
                distinct.append(base)
        pairs.append(tuple(distinct))
        identities.append(any(factors[i] is None for _, factors in terms))
    return KroneckerTerms(tuple(terms), sizes, tuple(pairs), tuple(identities), model)


# -- one operator at each place ------------------------------------------------------------------------------
def _one_each(A: Any) -> KroneckerTerms | str:
    if shift_split(A) is not None:
        return "one operator plus multiples of the identity"
    found = pencils(A)
    if isinstance(found, str):
        return found
    crowded = next((pair for pair in found.pairs if len(pair) > 1), None)
    if crowded is not None:
        return f"{crowded[0]!r} and {crowded[1]!r} need not have the same eigenvectors"
    return found


def _shared(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a sum of Kronecker products with one self-adjoint operator at each place."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    found = _one_each(A)
    if isinstance(found, str):
        return found
    for pair in found.pairs:
        if pair and not pair[0].isa(SelfAdjoint):
            return f"factor {pair[0]!r} is not known to be self-adjoint"
    be = A._concrete_backend()
    for c, _ in found.terms:
        if isinstance(c, complex) or (hasattr(c, "dtype") and be.is_complex(c) and not A.isa(SelfAdjoint)):
            return "a number in front of a term is complex"
    return True


def _shared_general(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a sum of Kronecker products with one operator at each place, not self-adjoint."""
    allowed = by_eigenvalues(Auto() if hasattr(alg, "eig") else alg)
    if allowed is not True:
        return allowed
    found = _one_each(A)
    if isinstance(found, str):
        return found
    return "eigh answers" if A.isa(SelfAdjoint) else True


def _through(question: Any, A: Any, alg: Any) -> Any:
    found: Any = _one_each(A)
    be = A._concrete_backend()
    pairs = [ask(question, (pair[0],), alg) if pair else None for pair in found.pairs]
    w = found.combined(be, lambda M, i: pairs[i][0])  # type: ignore[index]
    Vs = [Identity.like(A, n) if p is None else p[1] for p, n in zip(pairs, found.sizes, strict=True)]
    return w, found.model._kron(*Vs)


SOURCE = "sums of Kronecker products of polynomials in one operator each; Horn & Johnson 1991, thm 4.2.12"


@RULES.rule(
    EIGH,
    (Sum,),
    id="eigh/shared-bases",
    source=SOURCE,
    when=_shared,
    precedence=-1,
    complexity="that of one operator per place, O(N)",
)
def eigh_shared(A: Any, *, alg: Any) -> Any:
    from .eigen_rules import _unitary

    w, V = _through(EIGH, A, alg)
    be = A._concrete_backend()
    return (be.xp.real(w) if be.is_complex(w) else w), _unitary(V)


@RULES.rule(
    EIG,
    (Sum,),
    id="eig/shared-bases",
    source=SOURCE,
    when=_shared_general,
    precedence=-1,
    complexity="that of one operator per place, O(N)",
)
def eig_shared(A: Any, *, alg: Any) -> Any:
    return _through(EIG, A, alg)  # type: ignore[no-any-return]


@RULES.rule(
    EIGVALS,
    (Sum,),
    id="eigvals/shared-bases",
    source=SOURCE,
    when=_shared_general,
    precedence=-1,
    complexity="that of one operator per place, O(N)",
)
def eigvals_shared(A: Any, *, alg: Any) -> Array:
    found: Any = _one_each(A)
    ws = [ask(EIGVALS, (pair[0],), alg) if pair else None for pair in found.pairs]
    return found.combined(A._concrete_backend(), lambda M, i: ws[i])


def _spectral_cost(A: Any, b: Any, *, alg: Any) -> Cost:
    n, k = b.shape[-2:]
    return A.matmat_cost(k) * 2 + Cost(2 * n * k, 4 * A.itemsize * n * k, 3 * A.itemsize * n * k, 0, 2)


@RULES.rule(
    SOLVE,
    (Sum,),
    id="solve/shared-bases",
    source=SOURCE,
    when=_shared,
    precedence=1,
    cost=_spectral_cost,
    factor=spectral_factor,
    complexity="eigh of one operator per place, O(N k sum n_i)",
)
def solve_shared(A: Any, b: Array, *, alg: Any) -> Array:
    return spectral_factor(A, alg=alg).solve(b)


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/shared-bases",
    source=SOURCE,
    when=_shared,
    precedence=2,
    complexity="eigh of one operator per place, O(N)",
)
def slogdet_shared(A: Any, *, alg: Any) -> tuple[Array, Array]:
    return _spectral(A, alg)


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/shared-eigenvalues",
    source=SOURCE,
    when=_shared_general,
    precedence=1,
    complexity="eigenvalues of one operator per place, O(N)",
)
def slogdet_shared_general(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    sign, value = of_entries(be, ask(EIGVALS, (A,), alg))
    if not A._is_complex() and be.is_complex(sign):
        sign = signs(be.xp, be.xp.real(sign))
    return be.astype(sign, A.dtype), value


# -- two operators at each place -----------------------------------------------------------------------------
def _two_each(A: Any) -> tuple[KroneckerTerms, list[tuple[Any, Any]]] | str:
    """The terms, and per place (the definite operator or None for the identity, the other or None)."""
    found = pencils(A)
    if isinstance(found, str):
        return found
    chosen: list[tuple[Any, Any]] = []
    for i, pair in enumerate(found.pairs):
        if any(not M.isa(SelfAdjoint) for M in pair):
            return f"a factor at place {i} is not known to be self-adjoint"
        powers = any(F is not None and _power(F)[1] > 1 for F in (f[i] for _, f in found.terms))
        if len(pair) + found.identities[i] <= 2 and (found.identities[i] or len(pair) < 2):
            chosen.append((None, pair[0] if pair else None))
            continue
        if len(pair) != 2 or found.identities[i] or powers:
            return f"more than two operators at place {i}"
        claimed = [M for M in pair if M.isa(PSD)]
        if not claimed:
            return f"neither {pair[0]!r} nor {pair[1]!r} is known to be PSD"
        definite = next((M for M in claimed if isinstance(M, Diagonal)), claimed[0])
        chosen.append((definite, next(M for M in pair if M is not definite)))
    return found, chosen


def _pencil(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a sum of Kronecker products with at most two self-adjoint operators a place, one PSD."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    found = _two_each(A)
    if isinstance(found, str):
        return found
    if all(b is None for b, _ in found[1]):
        return "orthonormal eigenvectors answer"
    return True


@dataclass(frozen=True)
class PencilFactor:
    """``X^H A X = diag(w)`` with ``X = X1 x X2 x ...`` and ``X_i^H B_i X_i = I``."""

    A: LinearOperator
    alg: Any
    w: Array | None = None
    X: LinearOperator | None = None
    Bs: tuple[Any, ...] = ()

    def solve(self, B: Array) -> Array:
        """``X (X^H B / w)``; differentiated as the solution, not through X."""
        be: Any = self.A._concrete_backend()
        if be.name != "abstract" and differentiated(be, self.A, B):
            B = be.astype(B, be.xp.result_type(B.dtype, self.A.dtype))
            return be.implicit_solve(
                self.A, lambda M, rhs: (_pencil_parts(M, self.alg)._apply(rhs), None), B
            )[0]
        factor = self if self.X is not None else _pencil_parts(self.A, self.alg)
        x = factor._apply(B)
        if be.name == "abstract" or not be.is_concrete(x) or 0 in x.shape:
            return x
        # a definite operator that is nearly singular spoils the basis: judged by the residual of the whole
        limit = float(be.xp.finfo(be.real_dtype(x.dtype)).eps) ** 0.65
        r = B - self.A._matmat(x)
        if _worst(be, r, B) > limit:
            x = x + factor._apply(r)
            if not _worst(be, B - self.A._matmat(x), B) <= 1e3 * limit:
                return NotImplemented
        return x

    def _apply(self, B: Array) -> Array:
        return self.X._matmat(self.X._rmatmat(B) / self.w[..., :, None])  # type: ignore[union-attr,index]

    def slogdet(self) -> Any:
        """NotImplemented: the determinant has its own rule."""
        return NotImplemented


def _worst(be: Any, r: Array, B: Array) -> float:
    size = be.norm(B)
    return be.number(be.xp.max(be.norm(r) / be.xp.where(size > 0, size, be.xp.ones_like(size))))


def _pencil_parts(A: Any, alg: Any) -> PencilFactor:
    from .generalized_eigen import GEIGH

    split: Any = _two_each(A)
    found, chosen = split
    be = A._concrete_backend()
    pairs = []
    for b, other in chosen:
        if b is not None:
            pairs.append(ask(GEIGH, (other, b), alg))
        else:
            pairs.append(None if other is None else ask(EIGH, (other,), alg))

    def eigenvalues(M: Any, i: int) -> Array:
        w = pairs[i][0]
        return be.xp.ones_like(w) if chosen[i][0] is not None and same(M, chosen[i][0]) else w

    w = found.combined(be, eigenvalues)
    X = found.model._kron(
        *(Identity.like(A, n) if p is None else p[1] for p, n in zip(pairs, found.sizes, strict=True))
    )
    return PencilFactor(A, alg, w, X, tuple(b for b, _ in chosen))


def _pencil_factor(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    xp = be.xp
    if be.name != "abstract" and differentiated(be, A, tree_leaves(A)[0]):
        if be.name == "torch" and be.is_concrete(*tree_leaves(A)):
            from ..autodiff.torch_implicit import detached

            if _pencil_factor(detached(A), alg=alg) is NotImplemented:
                return NotImplemented
        return PencilFactor(A, alg)
    try:
        factor = _pencil_parts(A, alg)
    except NotPositiveDefiniteError:
        return NotImplemented  # semidefinite only
    w: Any = factor.w
    if be.is_concrete(w) and w.shape[-1]:
        smallest, largest = be.number(xp.min(xp.abs(w))), be.number(xp.max(xp.abs(w)))
        if smallest == 0.0:
            raise SingularMatrixError(
                f"{A!r} is singular: a generalised eigenvalue is exactly zero. Add a definite term or "
                "project out the null space."
            )
        warn_if_singular(smallest / largest, A, "generalised eigenvalue")
    return factor


@RULES.rule(
    SOLVE,
    (Sum,),
    id="solve/kronecker-pencil",
    source="A x B + C x D by simultaneous diagonalisation; Golub & Van Loan, sec. 8.7; Rakitsch et al. 2013",
    when=_pencil,
    precedence=1,
    cost=_spectral_cost,
    factor=_pencil_factor,
    complexity="one generalised eigh per place, O(N k sum n_i)",
)
def solve_pencil(A: Any, b: Array, *, alg: Any) -> Any:
    factor = _pencil_factor(A, alg=alg)
    return factor if factor is NotImplemented else factor.solve(b)


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/kronecker-pencil",
    source="det A = prod(w) / |det X|^2 = prod(w) prod det(B_i)^(n / n_i)",
    when=_pencil,
    precedence=1,
    complexity="one generalised eigh per place, O(N sum n_i)",
)
def slogdet_pencil(A: Any, *, alg: Any) -> Any:
    try:
        factor = _pencil_parts(A, alg)
    except NotPositiveDefiniteError:
        return NotImplemented
    be = A._concrete_backend()
    known = be.xp.ones((A.shape[-1], 1), dtype=A.dtype, device=A.device)
    if be.name != "abstract" and be.is_concrete(factor.w) and A.shape[-1]:
        # a determinant has no residual: the basis is tried on a system with a known answer
        error = be.xp.max(be.norm(factor._apply(A._matmat(known)) - known))
        eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        if not be.number(error) <= eps**0.5 * A.shape[-1] ** 0.5:
            return NotImplemented
    sign, value = of_entries(be, factor.w)
    for b in factor.Bs:
        if b is not None:
            value = value + ask(SLOGDET, (b,), alg)[1] * (A.shape[-1] // max(b.shape[-1], 1))
    return be.astype(sign, A.dtype), value

"""Systems with Kronecker sums and shifted Kronecker products of general factors, by the factors' Schur forms.

``M_i = Z_i T_i Z_i^H`` makes ``c (M_1 (+) ... (+) M_p) + s I`` (and the same with products) unitarily similar
to a triangular matrix that is never formed: Bartels & Stewart 1972 for two factors of a sum. Backward stable,
unlike an eigenvector basis. The derivative is that of the solution, another such system.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.factor import warn_if_singular
from ..algorithms.iteration import differentiated
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..errors import SingularMatrixError
from ..operators import Kronecker, KronSum, LinearOperator, ScalarMul, Sum, split_scalar
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint
from ..pytree import tree_leaves
from .determinant import SLOGDET, of_entries
from .eigen import EIGVALS, outer_product, outer_sum
from .scalar_function import signs
from .schur import SCHUR
from .solve import SOLVE
from .structure import by_eigenvalues, shift_split, spectral
from .substitution import quasi_eigenvalues, substitute, substitute_traced

__all__ = ["KroneckerSchurFactor", "kronecker_shift"]

RULES = RuleBook()


def kronecker_shift(A: LinearOperator) -> tuple[str, tuple[LinearOperator, ...], Any, tuple[Any, ...]] | None:
    """``A = c K + s1 I + ...`` with K a Kronecker sum or product of square factors, as
    (kind, factors, c, multiples of the identity); None for anything else."""
    split = shift_split(A)
    base, shifts = (A, ()) if split is None else split
    scalar, K = split_scalar(base)
    if isinstance(K, KronSum):
        kind = "sum"
    elif isinstance(K, Kronecker) and split is not None and all(M.is_square for M in K.Ms):
        kind = "product"
    else:
        return None
    return kind, K.Ms, 1.0 if scalar is None else scalar.c, shifts


def _by_schur(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: square factors that fit into memory, without a known orthonormal eigenbasis."""
    if not (isinstance(alg, Auto) or hasattr(alg, "schur")):
        return f"{type(alg).__name__} was asked for explicitly"
    found = kronecker_shift(A)
    if found is None:
        return "not a Kronecker sum, nor a shifted Kronecker product, of square factors"
    if all(M.isa(SelfAdjoint) for M in found[1]):
        return "all factors are self-adjoint: their eigenvectors answer"
    budget = alg.memory_budget if isinstance(alg, Auto) else Auto().memory_budget
    for M in found[1]:
        if 96.0 * M.shape[-1] ** 2 > budget:
            return f"a dense Schur form of {M!r} exceeds the memory budget"
    return True


def _cost(A: Any, b: Any, *, alg: Any) -> Cost:
    n, k = b.shape[-2:]
    sizes = [M.shape[-1] for M in kronecker_shift(A)[1]]  # type: ignore[index]
    return Cost(8.0 * n * sum(sizes) * k, 32.0 * n * k * len(sizes), 48.0 * n * k, 0, 4 + sum(sizes))


@dataclass(frozen=True)
class KroneckerSchurFactor:
    """``A = Z T Z^H`` factor by factor, with T's diagonal w at hand.

    Empty where A is differentiated: every solve then decomposes inside the implicit function.
    """

    A: LinearOperator
    alg: Any
    Ts: tuple[Array, ...] = ()
    Zs: tuple[Any, ...] = ()

    def solve(self, B: Array) -> Array:
        """``Z (T^-1 (Z^H B))``."""
        be: Any = self.A._concrete_backend()
        xp = be.xp
        dtype = xp.result_type(B.dtype, self.A.dtype)
        B = be.astype(B, dtype)
        if self.A.batch_shape and B.shape[:-2] != self.A.batch_shape:
            like = be.zeros((*self.A.batch_shape, 1, 1), dtype)
            shape = xp.broadcast_arrays(like, B[..., :1, :1])[0].shape[:-2]
            B = xp.broadcast_to(B, (*shape, *B.shape[-2:]))
        if differentiated(be, self.A, B):
            return be.implicit_solve(self.A, lambda M, rhs: (_decomposed(M, self.alg)._apply(rhs), None), B)[
                0
            ]
        return (self if self.Ts else _decomposed(self.A, self.alg))._apply(B)

    def _apply(self, B: Array) -> Array:
        be: Any = self.A._concrete_backend()
        if be.name == "abstract":
            return B
        kind, _, c, shifts = kronecker_shift(self.A)  # type: ignore[misc]
        Z = Kronecker(*self.Zs)
        C = Z._rmatmat(B)
        lead = C.shape[:-2]
        s = sum((M.c if isinstance(M, ScalarMul) else 1.0 for M in shifts), 0.0)
        concrete = be.is_concrete(C, *self.Ts)
        if concrete:
            Ts, c, s, C = [be.to_numpy(T) for T in self.Ts], _host(be, c), _host(be, s), be.to_numpy(C)
        else:
            Ts = list(self.Ts)
        pieces = []
        for index in itertools.product(*map(range, lead)):
            r = len(lead)
            one = [_at(T, index, r, 2) for T in Ts]
            ci, si = _at(c, index, r, 0), _at(s, index, r, 0)
            if concrete:
                pieces.append(substitute(kind, one, ci, si, C[index]))
            else:
                pieces.append(substitute_traced(be, kind, one, ci, si, C[index]))
        device = self.A.device
        if concrete:
            pieces = [be.asarray(Y, device=device) for Y in pieces]
        Y = be.xp.reshape(be.xp.stack(pieces), C.shape) if lead else pieces[0]
        if not lead:
            Y = be.xp.reshape(Y, C.shape)
        X = Z._matmat(Y)
        return be.xp.real(X) if be.is_complex(X) and not be.is_complex(B) else X

    def slogdet(self) -> Any:
        """NotImplemented: the eigenvalues alone give it."""
        return NotImplemented


def _host(be: Any, c: Any) -> Any:
    return be.to_numpy(c) if hasattr(c, "shape") else c


def _at(x: Any, index: tuple[int, ...], rank: int, core: int) -> Any:
    """The entry of a batch, by broadcasting."""
    shape = getattr(x, "shape", ())
    mine = len(shape) - core
    if mine <= 0:
        return x
    tail = index[rank - mine :]
    return x[tuple(0 if n == 1 else i for i, n in zip(tail, shape[:mine], strict=True))]


def _decomposed(A: Any, alg: Any) -> KroneckerSchurFactor:
    kind, Ms, c, shifts = kronecker_shift(A)  # type: ignore[misc]
    be = A._concrete_backend()
    real = kind == "sum" and len(Ms) == 2 and not A._is_complex() and _on_host(A)
    pairs = [ask(SCHUR, (M, "real" if real else "complex"), alg) for M in Ms]
    Ts = tuple(T.to_dense() for T, _ in pairs)
    factor = KroneckerSchurFactor(A, alg, Ts, tuple(Z for _, Z in pairs))
    if be.name != "abstract" and be.is_concrete(*Ts):
        _look_for_zero(A, be, kind, Ts, c, shifts)
    return factor


def _on_host(A: Any) -> bool:
    """Whether LAPACK's routines on NumPy arrays will do the substitution."""
    be = A._concrete_backend()
    return be.name == "abstract" or be.is_concrete(*tree_leaves(A))


def _look_for_zero(A: Any, be: Any, kind: str, Ts: Any, c: Any, shifts: Any) -> None:
    """Refuse a zero eigenvalue, warn of a tiny one."""
    import numpy as np

    from ..backends import get_backend

    numpy = get_backend("numpy")
    hosts = [be.to_numpy(T) for T in Ts]
    if any(0 in T.shape for T in hosts):
        return
    if all(T.ndim == 2 for T in hosts):
        parts = [quasi_eigenvalues(T) for T in hosts]
    else:
        parts = [np.diagonal(T, axis1=-2, axis2=-1) for T in hosts]
    w = outer_sum(numpy, parts) if kind == "sum" else outer_product(numpy, parts)
    c = _host(be, c)
    w = w * (c[..., None] if np.ndim(c) else c)
    largest = np.abs(w).max()
    for M in shifts:
        s = _host(be, M.c if isinstance(M, ScalarMul) else 1.0)
        w = w + (s[..., None] if np.ndim(s) else s)
        largest = max(largest, np.abs(s).max())
    smallest = np.abs(w).min()
    if smallest == 0:
        raise SingularMatrixError(
            f"{A!r} is singular: an eigenvalue is exactly zero (in a Sylvester equation A X + X B = C: A "
            "and -B have one in common). Add a multiple of the identity or project out the null space."
        )
    warn_if_singular(float(smallest / largest), A, "Schur")


def _schur_factor(A: Any, *, alg: Any) -> Any:
    be = A._concrete_backend()
    leaves = tree_leaves(A)
    if be.name == "torch" and not be.is_concrete(*leaves):
        return NotImplemented
    probe = be.zeros((A.shape[-1], 1), A.dtype, A.device)
    if be.name != "abstract" and differentiated(be, A, probe):
        return KroneckerSchurFactor(A, alg)
    return _decomposed(A, alg)


def _solve(A: Any, b: Array, *, alg: Any) -> Any:
    factor = _schur_factor(A, alg=alg)
    return factor if factor is NotImplemented else factor.solve(b)


RULES.rule(
    SOLVE,
    (KronSum,),
    id="solve/kronsum-schur",
    source="Bartels & Stewart 1972",
    when=_by_schur,
    cost=_cost,
    factor=_schur_factor,
    summary="triangular Kronecker sum by back substitution",
    complexity="O(sum n_i^3 + N k sum n_i)",
)(_solve)

RULES.rule(
    SOLVE,
    (Sum,),
    id="solve/kronecker-shift",
    source="Golub, Nash & Van Loan 1979; Golub & Van Loan, 4th ed., sec. 7.6.3",
    when=_by_schur,
    precedence=1,
    cost=_cost,
    factor=_schur_factor,
    summary="shifted triangular Kronecker product or sum by back substitution",
    complexity="O(sum n_i^3 + N k sum n_i)",
)(_solve)


def _shift_by_eigenvalues(A: Any, *, alg: Any) -> bool | str:
    """Guard: a shifted Kronecker sum or product of square factors without a known orthonormal basis."""
    allowed = by_eigenvalues(alg)
    if allowed is not True:
        return allowed
    split = shift_split(A)
    if split is None or kronecker_shift(A) is None:
        return "not a shifted Kronecker sum or product of square factors"
    return True if spectral(split[0], alg) is not True else "its eigenvectors are known to be orthonormal"


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/kronecker-shift",
    source="det = prod(c w + s) over the products or sums w of the factors' eigenvalues",
    when=_shift_by_eigenvalues,
    precedence=1,
    complexity="eigenvalues of the factors, O(N)",
)
def slogdet_kronecker_shift(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    sign, value = of_entries(be, ask(EIGVALS, (A,), alg))
    if not A._is_complex():  # complex eigenvalues of a real matrix come in pairs: the phase is +1 or -1
        sign = signs(be.xp, be.xp.real(sign)) if be.is_complex(sign) else sign
    return be.astype(sign, A.dtype), value

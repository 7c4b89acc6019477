"""``solve(A, b)``: linear systems, taken apart by structure until a factorisation
or an iteration computes."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.iteration import relative_to, true_residual
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..info import Info
from ..operators import (
    Adjoint,
    BlockDiag,
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
)
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint
from ..reasons import REASONS, SINGULAR
from .inverse import INV, Inverse, all_square, is_unitary
from .operands import as_algorithm, right_side, square
from .stacked import gather, groups_of, scatter
from .structure import low_rank_size, shift_split, spectral, spectral_guard
from .structured_factor import spectral_factor, woodbury_factor

__all__ = ["SOLVE", "check_solution", "solve"]

RULES = RuleBook()


def _abstract(A: Any, b: Any) -> Any:
    from ..backends.abstract import XP, AbstractArray

    dtype = XP.result_type(A.dtype, b.dtype)
    batch = XP.broadcast_arrays(AbstractArray(A.batch_shape, dtype), AbstractArray(b.shape[:-2], dtype))[
        0
    ].shape
    return AbstractArray((*batch, *b.shape[-2:]), dtype)


SOLVE = Question("solve", abstract=_abstract, doc="x with A x = b")


def solve(
    A: Any,
    b: Any,
    alg: Any = Auto(),
    *,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """Solve ``A x = b`` for a square operator.

    A: operator or array, shape (*batch, n, n). b: (n,) or (*batch, n, k), as in ``numpy.linalg.solve``. alg:
    ``Auto()`` (structure first, then the cheapest algorithm), an algorithm object or a name. return_info:
    also return an ``Info`` with the relative residual recomputed from A. on_failure: what a missed tolerance
    does, "warn", "raise", "ignore".

    Raises NonSquareError, ShapeError, BackendError, DeviceError, NonFiniteError, SingularMatrixError,
    NotPositiveDefiniteError (a false PSD declaration), NoRuleError.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.kron(np.array([[3.0, 1.0], [1.0, 2.0]]), np.eye(2)) + 0.5 * cola.ops.Identity(4)
    >>> x = cola.solve(A, np.ones(4))
    >>> bool(np.allclose(A @ x, 1))
    True
    """
    A = square(A, "solve")
    b = right_side(A, b, "solve")
    vector = len(b.shape) == 1
    # rules see (*batch, n, k) only
    B = b[:, None] if vector else b
    out = SOLVE.run(
        A,
        B,
        alg=as_algorithm(alg, "solve"),
        return_info=return_info,
        on_failure=on_failure,
        check=lambda X, info: check_solution(A, X, B, info),
    )
    if return_info:
        X, info = out
        return (X[..., 0] if vector else X), info
    return out[..., 0] if vector else out


solve.question = SOLVE  # type: ignore[attr-defined]


def check_solution(A: LinearOperator, X: Array, B: Array, info: Info) -> Info:
    """The residual of the whole system, however many leaves contributed."""
    be = A.backend
    if be is None:
        return info.replace(residual=0.0)
    xp = be.xp
    if 0 in X.shape:
        return info.replace(residual=0.0)
    relative = be.constant(relative_to(be, true_residual(be, A, X, B), be.frobenius(B, axis=-2)))
    worst = xp.max(relative)
    residual = be.number(worst) if be.is_concrete(worst) else worst
    if isinstance(residual, float) and not residual < float("inf") and info.converged is True:
        info = info.replace(converged=False, reason=REASONS[SINGULAR])
    if info.tolerance is not None:
        # parts that meet the tolerance leave a larger residual in the whole:
        # a little is fair, their condition is not
        met = residual <= 10 * info.tolerance
        if met is False and info.converged is True:
            info = info.replace(reason="every part met the tolerance, the composed system does not")
        info = info.replace(
            converged=bool(info.converged) and met if isinstance(met, bool) else info.converged & met
        )
        info = info.replace(codes=None)  # those of the parts
    return info.replace(residual=residual, residuals=relative)


def _through_inverse(A: Any, b: Array, *, alg: Any) -> Array:
    return ask(INV, (A,), alg)._matmat(b)


for _cls, _name, _when, _complexity in (
    (Identity, "identity", None, "O(N k)"),
    (ScalarMul, "scalar", None, "O(N k)"),
    (Diagonal, "diagonal", None, "O(N k)"),
    (Permutation, "permutation", None, "O(N k)"),
    (Product, "product", all_square, "that of the factors"),
    (Kronecker, "kronecker", all_square, "O(sum n_i^3 + N k sum n_i) for dense factors"),
):
    RULES.rule(
        SOLVE,
        (_cls,),
        id=f"solve/{_name}",
        source=f"inv/{_name}",
        when=_when,
        summary="product with the structured inverse",
        complexity=_complexity,
    )(_through_inverse)


@RULES.rule(
    SOLVE,
    (BlockDiag,),
    id="solve/blockdiag",
    source="definition",
    when=all_square,
    complexity="O(sum n_i^3 + k sum n_i^2) for dense blocks",
)
def solve_blockdiag(A: Any, b: Array, *, alg: Any) -> Array:
    """Block by block, equal dense blocks in one batch; right-hand sides of repeated blocks are columns."""
    groups = groups_of(A, alg)
    found = [
        ask(SOLVE, (group.operator, B), alg) for group, B in zip(groups, gather(A, groups, b), strict=True)
    ]
    return scatter(A, groups, found, b.shape[-1])


@RULES.rule(
    SOLVE,
    (LinearOperator,),
    id="solve/unitary",
    source="U^-1 = U^H",
    when=is_unitary,
    precedence=1,
    complexity="one product with U^H",
)
def solve_unitary(A: Any, b: Array, *, alg: Any) -> Array:
    return A._rmatmat(b)


@RULES.rule(
    SOLVE, (Inverse,), id="solve/inverse", source="(A^-1)^-1 b = A b", complexity="one product with A"
)
def solve_inverse(A: Any, b: Array, *, alg: Any) -> Array:
    return A.A._matmat(b)


def _triangular_cost(A: Any, b: Any, *, alg: Any) -> Cost:
    n, k = b.shape[-2:]
    return Cost(n * n * k, A.itemsize * n * n / 2, A.itemsize * n * k, 0, 1)


@RULES.rule(
    SOLVE,
    (Triangular,),
    id="solve/triangular",
    source="substitution",
    cost=_triangular_cost,
    complexity="O(N^2 k)",
)
def solve_triangular(A: Any, b: Array, *, alg: Any) -> Array:
    return A._concrete_backend().solve_triangular(A.array, b, lower=A.lower, unit=A.unit)


def _knows_adjoint(A: Any, b: Any, *, alg: Any) -> bool | str:
    """Guard: the operator inside is known to be self-adjoint."""
    return True if A.A.isa(SelfAdjoint) else "the adjoint of a general operator has no rule"


@RULES.rule(
    SOLVE, (Adjoint,), id="solve/adjoint", source="A^H = A", when=_knows_adjoint, complexity="that of A"
)
def solve_adjoint(A: Any, b: Array, *, alg: Any) -> Array:
    return ask(SOLVE, (A.A, b), alg)


def _spectral_cost(A: Any, b: Any, *, alg: Any) -> Cost:
    """Two products with the eigenvectors, which cost about what products with A's factors do,
    and a division."""
    n, k = b.shape[-2:]
    return A.matmat_cost(k) * 2 + Cost(2 * n * k, 4 * A.itemsize * n * k, 3 * A.itemsize * n * k, 0, 2)


@RULES.rule(
    SOLVE,
    (KronSum,),
    id="solve/kronsum",
    source="fast diagonalisation: Lynch, Rice & Thomas 1964",
    when=spectral_guard,
    cost=_spectral_cost,
    factor=spectral_factor,
    complexity="eigh of the factors, O(N k sum n_i)",
)
def solve_kronsum(A: Any, b: Array, *, alg: Any) -> Array:
    return spectral_factor(A, alg=alg).solve(b)


def _shifted(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: one operator with an orthonormal eigenbasis by rule, plus multiples of the identity."""
    split = shift_split(A)
    if split is None:
        return "not one operator plus multiples of the identity"
    if isinstance(split[0], LowRank):
        return "the low-rank formulas cost less"
    return spectral(split[0], alg)


@RULES.rule(
    SOLVE,
    (Sum,),
    id="solve/shift",
    source="(V W V^H + s I)^-1 = V (W + s)^-1 V^H",
    when=_shifted,
    precedence=1,
    cost=_spectral_cost,
    factor=spectral_factor,
    complexity="eigh of the operator, two products with its eigenvectors",
)
def solve_shift(A: Any, b: Array, *, alg: Any) -> Array:
    return spectral_factor(A, alg=alg).solve(b)


def _woodbury_guard(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: a low-rank term beside others, of rank at most half the size."""
    k = low_rank_size(A)
    if k is None:
        return "not a low-rank operator plus others"
    n = A.shape[-1]
    if 2 * k > n:
        return f"the rank {k} is more than half of {n}"
    return True


def _woodbury_cost(A: Any, b: Any, *, alg: Any) -> Cost:
    n, k = A.shape[-1], low_rank_size(A) or 0
    return Cost(2 * n * k * k + 4 * n * k, A.itemsize * 4 * n * k, A.itemsize * n * k, 0, 6)


@RULES.rule(
    SOLVE,
    (Sum,),
    id="solve/woodbury",
    source="Woodbury 1950; Higham 2002, sec. 9.9",
    when=_woodbury_guard,
    cost=_woodbury_cost,
    factor=woodbury_factor,
    complexity="r + k systems with the other terms, O(N r (r + k) + r^3)",
)
def solve_woodbury(A: Any, b: Array, *, alg: Any) -> Array:
    """``(B + U V^H)^{-1} b``; the residual is checked, refined once,
    and the rule steps back if accuracy is lost."""
    factor = woodbury_factor(A, alg=alg)
    return factor if factor is NotImplemented else factor.solve(b)

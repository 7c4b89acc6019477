"""Solving with a grid of blocks: substitution where it is triangular, elimination of one block after the
other else.

Which block is the next pivot is decided from sizes and structure alone (``plan_of``): the one whose inverse
and fill cost least, after Markowitz. The pivots' values are unknown then, and a pivot may be singular where
the whole is not; the answer is judged by its residual, and ``NotImplemented`` lets the next way of solving
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.cholesky import check_finite
from ..algorithms.factor import singular_raises
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask, choose_algorithm
from ..dispatch.registry import REGISTRY
from ..dispatch.session import SESSION
from ..errors import NoRuleError, SingularMatrixError
from ..operators import (
    Block,
    Dense,
    Diagonal,
    Identity,
    Kronecker,
    LinearOperator,
    Product,
    ScalarMul,
    Sum,
    add,
    adopted,
    matmul,
    scale,
)
from ..operators.grid import concat_rows, offsets
from ..properties import PSD, SelfAdjoint
from ..pytree import tree_leaves
from .inverse import INV, Inverse
from .structured_factor import refined

__all__ = [
    "BlockElimination",
    "BlockSubstitution",
    "eliminates",
    "elimination_factor",
    "is_tridiagonal",
    "plan_of",
    "substitution_factor",
    "triangular_order",
]

MAX_SEARCH = 32  # block rows among which a pivot order is searched; tridiagonal grids need no search
Order = tuple[tuple[int, int], ...]


# -- triangular up to a permutation of block rows and columns ------------------------------------------------
def triangular_order(A: Block) -> Order | None:
    """Pivots (i, j) such that block row i involves, besides block column j, only columns of earlier
    pivots."""
    known = A.__dict__.get("_order", False)
    if known is False:
        known = A.__dict__["_order"] = _triangular_order(A)
    return known  # type: ignore[no-any-return]


def _triangular_order(A: Block) -> Order | None:
    heights, widths, cells = A._grid()
    if len(heights) != len(widths):
        return None
    left: dict[int, set[int]] = {i: set() for i in range(len(heights))}
    rows: dict[int, set[int]] = {j: set() for j in range(len(widths))}
    for i, j in cells:
        left[i].add(j)
        rows[j].add(i)
    ready = [i for i in reversed(range(len(heights))) if len(left[i]) == 1]
    order = []
    while ready:
        i = ready.pop()
        if len(left[i]) != 1:
            return None  # two rows with one block each in the same column
        (j,) = left[i]
        if heights[i] != widths[j]:
            return None
        order.append((i, j))
        left[i] = set()
        for r in sorted(rows.pop(j) - {i}, reverse=True):
            left[r].discard(j)
            if len(left[r]) == 1:
                ready.append(r)
    return tuple(order) if len(order) == len(heights) else None


@dataclass(frozen=True)
class BlockSubstitution:
    """Pivot after pivot, each once: ``x_j = A_ij^{-1} (b_i - sum of A_ic x_c over what is known)``."""

    A: Block
    order: Order
    inverses: tuple[LinearOperator, ...]

    def solve(self, B: Array) -> Array:
        heights, widths, cells = self.A._grid()
        top = offsets(heights)
        at: dict[int, list[int]] = {i: [] for i in range(len(heights))}
        for i, c in cells:
            at[i].append(c)
        x: dict[int, Any] = {}
        for (i, j), P in zip(self.order, self.inverses, strict=True):
            r = B[..., top[i] : top[i + 1], :]
            for c in at[i]:
                if c != j:
                    r = r - cells[i, c]._matmat(x[c])
            x[j] = P._matmat(r)
        return concat_rows(self.A._concrete_backend().xp, [x[j] for j in range(len(widths))])

    def slogdet(self) -> tuple[Array, Array]:
        """The product of the pivots' determinants."""
        sign, value = product_of_pivots(self.A, self.order, self.inverses, Auto())
        return self.A._concrete_backend().conj(sign), -value


def substitution_factor(A: Any, *, alg: Any) -> BlockSubstitution:
    """The inverses of the pivot blocks."""
    order = triangular_order(A)
    cells = A._grid()[2]
    return BlockSubstitution(
        A, order or (), tuple(ask(INV, (adopted(cells[at], A),), alg) for at in order or ())
    )


def product_of_pivots(A: Block, order: Order, pivots: Any, alg: Any) -> tuple[Array, Array]:
    """slogdet of the pivots together, with the sign of the permutation that puts them on the diagonal."""
    from .determinant import SLOGDET

    be = A._concrete_backend()
    odd = _inversions([i for i, _ in order], A.heights) + _inversions([j for _, j in order], A.widths)
    sign: Any = None
    value: Any = None
    for P in pivots:
        s, v = ask(SLOGDET, (P,), alg)
        sign, value = (s, v) if sign is None else (sign * s, value + v)
    sign = -sign if odd % 2 else sign
    if tuple(sign.shape) != A.batch_shape:
        sign, value = be.xp.broadcast_to(sign, A.batch_shape), be.xp.broadcast_to(value, A.batch_shape)
    return be.astype(sign, A.dtype), value


def _inversions(order: list[int], sizes: tuple[int, ...]) -> int:
    """Exchanges of neighbours that bring blocks in this order back to theirs, modulo two."""
    if order == sorted(order):
        return 0
    return sum(
        sizes[a] * sizes[b] for k, a in enumerate(order) for b in order[k + 1 :] if a > b and sizes[a] % 2
    )


# -- elimination: the plan -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Plan:
    """pivots in order, with the block rows below and the block columns right of each; flops and bytes
    held."""

    pivots: Order
    below: tuple[tuple[int, ...], ...]
    right: tuple[tuple[int, ...], ...]
    flops: float
    entries: float


def is_tridiagonal(A: Block) -> bool:
    """Blocks on the three middle diagonals only, with all of the main one, and square ones there."""
    cells = A._grid()[2]
    p = len(A.heights)
    return (
        A.heights == A.widths
        and all(abs(i - j) <= 1 for i, j in cells)
        and all((i, i) in cells for i in range(p))
    )


def plan_of(A: Block) -> Plan | None:
    """The order of elimination, from sizes and structure; None where there are no square pivots to go on
    with."""
    known = A.__dict__.get("_plan", False)
    if known is False:
        known = A.__dict__["_plan"] = _plan(A)
    return known  # type: ignore[no-any-return]


def _plan(A: Block) -> Plan | None:
    heights, widths, cells = A._grid()
    if len(heights) != len(widths):
        return None
    natural = is_tridiagonal(A)
    if not natural and len(heights) > MAX_SEARCH:
        return None
    kind = {at: _kind(M) for at, M in cells.items()}
    rows: dict[int, set[int]] = {j: set() for j in range(len(widths))}
    cols: dict[int, set[int]] = {i: set() for i in range(len(heights))}
    for i, j in kind:
        rows[j].add(i)
        cols[i].add(j)
    pivots, below, right = [], [], []
    flops = entries = 0.0
    for step in range(len(heights)):
        best: Any = None
        for i, j in [(step, step)] if natural else sorted(kind):
            if heights[i] == widths[j]:
                cost, held = _step_cost(heights, widths, kind, (i, j), rows[j] - {i}, cols[i] - {j})
                if best is None or cost < best[0]:
                    best = (cost, held, i, j)
        if best is None:
            return None
        cost, held, i, j = best
        flops, entries = flops + cost, entries + held
        down, across = sorted(rows.pop(j) - {i}), sorted(cols.pop(i) - {j})
        pivots.append((i, j))
        below.append(tuple(down))
        right.append(tuple(across))
        for r in down:
            for c in across:
                parts = [kind[r, j], kind[i, j], kind[i, c], kind.get((r, c), "light")]
                kind[r, c] = "light" if all(k == "light" for k in parts) else "dense"
                rows[c].add(r)
                cols[r].add(c)
        del kind[i, j]
        for r in down:
            del kind[r, j]
            cols[r].discard(j)
        for c in across:
            del kind[i, c]
            rows[c].discard(i)
    return Plan(tuple(pivots), tuple(below), tuple(right), flops, entries)


def _step_cost(
    heights: Any, widths: Any, kind: Any, pivot: Any, rows: set[int], cols: set[int]
) -> tuple[float, float]:
    """Flops of one elimination step and array entries it leaves behind."""
    i, j = pivot
    m, k = heights[i], sum(widths[c] for c in cols) + 1
    what = kind[i, j]
    flops = float(m) if what == "light" else what * k if what != "dense" else 2 / 3 * m**3 + 2.0 * m * m * k
    entries = 0.0 if what != "dense" else float(m * m)
    for c in cols:
        if rows and not (what == "light" and kind[i, c] == "light"):
            entries += m * widths[c]
        for r in rows:
            if not what == kind[i, c] == kind[r, j] == kind.get((r, c), "light") == "light":
                flops += 2.0 * heights[r] * m * widths[c]
                entries += heights[r] * widths[c]
    return flops, entries


def _kind(M: LinearOperator) -> Any:
    """What a pivot would be: "light" (diagonal), "dense" (factorised as an array), or the flops of a solve
    by structure, per column."""
    if isinstance(M, (Diagonal, ScalarMul, Identity)):
        return "light"
    if M.is_square and has_rule(M):
        return 2 * M.matvec_cost.flops
    return "dense"


def has_rule(M: LinearOperator) -> bool:
    """Whether a structural rule solves with M."""
    from .solve import SOLVE

    be = M._concrete_backend()
    probe = be.zeros((M.shape[-1], 1), M.dtype, M.device)
    for tier in REGISTRY.tiers(SOLVE.name, (type(M), Auto)):
        if any(rule.refuses((M, probe), Auto()) is None for rule in tier):
            return True
    return False


def eliminates(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: an order of square pivots whose fill is affordable, and no iteration is clearly cheaper."""
    if not isinstance(alg, Auto):
        return f"{type(alg).__name__} was asked for explicitly"
    plan = plan_of(A)
    if plan is None:
        return "no order of square pivot blocks"
    batch = 1
    for s in A.batch_shape:
        batch *= s
    memory = A.itemsize * batch * plan.entries
    if memory > alg.memory_budget:
        return f"the Schur complements need {memory / 2**20:,.0f} MiB"
    seconds = Cost(batch * plan.flops).seconds
    if operands and seconds > 0.05:  # where it matters, structure must not be dearer than an iteration
        from .solve import SOLVE

        try:
            chosen, _ = choose_algorithm(SOLVE, (A, *operands), alg)
        except NoRuleError:
            return True
        other = chosen.cost("solve", A, *operands).seconds * alg.risk(chosen.kind)
        if other < seconds:
            return f"{type(chosen).__name__} costs less ({other:.2g} s against {seconds:.2g} s)"
    return True


# -- elimination: the numbers --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Step:
    """One eliminated pivot: its inverse, the blocks below it and those right of it."""

    at: tuple[int, int]
    inverse: LinearOperator
    apply: Callable[[Array], Any]
    below: tuple[tuple[int, LinearOperator], ...]
    right: tuple[tuple[int, LinearOperator], ...]


@dataclass(frozen=True)
class BlockElimination:
    """Block LU: each pivot is inverted once, Schur complements are what remains of the others.

    Source: Golub & Van Loan, 4th ed., sec. 4.5; Higham 2002, ch. 13.
    """

    A: Block
    steps: tuple[Step, ...]

    def _apply(self, B: Array) -> Array:
        top = offsets(self.A.heights)
        b = [B[..., top[i] : top[i + 1], :] for i in range(len(self.A.heights))]
        for step in self.steps:
            if step.below:
                y = step.apply(b[step.at[0]])
                for r, M in step.below:
                    b[r] = b[r] - M._matmat(y)
        x: dict[int, Any] = {}
        for step in reversed(self.steps):
            i, j = step.at
            rhs = b[i]
            for c, M in step.right:
                rhs = rhs - M._matmat(x[c])
            x[j] = step.apply(rhs)
        return concat_rows(self.A._concrete_backend().xp, [x[j] for j in range(len(self.A.widths))])

    def solve(self, B: Array) -> Array:
        """Judged by the residual of the whole, refined once; NotImplemented where that does not help."""
        check_finite(self.A, B)
        be = self.A._concrete_backend()
        if be.name == "jax" and not be.is_concrete(B, *tree_leaves(self.A)):
            x = self._apply(B)  # under a trace nothing can be judged: refine in any case
            return x + self._apply(B - self.A._matmat(x))
        return refined(self.A, B, self._apply)

    def slogdet(self) -> tuple[Array, Array]:
        """The product of the pivots' determinants, after trying the factors on a system with a known
        answer."""
        A = self.A
        be = A._concrete_backend()
        known = be.xp.ones((A.shape[-1], 1), dtype=A.dtype, device=A.device)
        error = be.norm(self._apply(A._matmat(known)) - known)
        if be.is_concrete(error) and 0 not in known.shape:
            eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
            if not be.number(be.xp.max(error)) <= eps**0.5 * known.shape[-2] ** 0.5:
                return NotImplemented  # type: ignore[return-value]
        order = tuple(step.at for step in self.steps)
        sign, value = product_of_pivots(A, order, [step.inverse for step in self.steps], Auto())
        return be.conj(sign), -value


def elimination_factor(A: Any, *, alg: Any) -> Any:
    """Run the plan; NotImplemented where a pivot is singular (A itself need not be)."""
    plan = plan_of(A)
    if plan is None:
        return NotImplemented
    cells = {at: adopted(M, A) for at, M in A._grid()[2].items()}
    if _unjudged(A, plan, cells):
        return NotImplemented
    steps = []
    try:
        with singular_raises():
            for at, below, right in zip(plan.pivots, plan.below, plan.right, strict=True):
                steps.append(_eliminate(A, cells, at, below, right, alg))
    except SingularMatrixError:
        return NotImplemented
    return BlockElimination(A, tuple(steps))


def _unjudged(A: Any, plan: Plan, cells: Any) -> bool:
    """Whether a compiled program would trust a dense pivot, which may be singular, and could not look.

    The last pivot is singular only where the whole is.
    """
    be = A._concrete_backend()
    if be.name != "jax" or A.isa(PSD) or be.is_concrete(*tree_leaves(A)):
        return False
    return any(
        _kind(cells[at]) == "dense" and not cells[at].isa(PSD) for at in plan.pivots[:-1] if at in cells
    )


def _eliminate(A: Any, cells: Any, at: Any, below: Any, right: Any, alg: Any) -> Step:
    i, j = at
    P = cells.pop(at)
    inverse = ask(INV, (P,), alg)
    apply = _solver(inverse)
    lower = tuple((r, cells.pop((r, j))) for r in below)
    upper = tuple((c, cells.pop((i, c))) for c in right)
    for c, R in upper:
        Z: Any = None
        for r, L in lower:
            old = cells.get((r, c))
            new = _structured_update(old, L, inverse, R)
            if new is None:
                Z = apply(R._dense_like(A)) if Z is None else Z
                new = _dense_update(A, old, L._matmat(Z), P if i == j and r == c else None)
            cells[r, c] = new
    return Step(at, inverse, apply, lower, upper)


def _solver(inverse: LinearOperator) -> Callable[[Array], Any]:
    """Products with an inverse whose factorisation is held here, also where it may not be kept for longer."""
    current = SESSION.get()
    if isinstance(inverse, Inverse) and (current is None or current.recorder is None):
        factor = inverse.factor()
        if factor is not None:

            def apply(X: Array) -> Any:
                out = factor.solve(X)
                return inverse._matmat(X) if out is NotImplemented else out

            return apply
    return inverse._matmat


def _structured_update(old: Any, L: Any, inverse: Any, R: Any) -> LinearOperator | None:
    """``old - L P^{-1} R`` as an operator, where all of them merge into something that can be solved with."""
    if not (_merges(L) and _merges(inverse) and _merges(R) and (old is None or _merges(old))):
        return None
    new = scale(-1, matmul(matmul(L, inverse), R))
    new = new if old is None else add(old, new)
    if _merges(new) or (isinstance(new, Sum) and all(map(_merges, new.Ms)) and has_rule(new)):
        return new
    return None


def _merges(M: LinearOperator) -> bool:
    if isinstance(M, Product):
        return len(M.Ms) == 2 and isinstance(M.Ms[0], ScalarMul) and _merges(M.Ms[1])
    return isinstance(M, (Diagonal, ScalarMul, Identity, Kronecker))


def _dense_update(A: Any, old: Any, U: Array, pivot: Any) -> LinearOperator:
    """``old - U`` as an array; pivot: the eliminated diagonal block where the update is on the diagonal
    too."""
    if pivot is not None and A.isa(SelfAdjoint):
        if old is None and pivot.isa(PSD):  # saddle point: -B P^{-1} B^H
            return Product(ScalarMul(-1, U.shape[-1]), Dense(U, declared=frozenset({PSD})))
        facts = frozenset({PSD if A.isa(PSD) else SelfAdjoint})
    else:
        facts = frozenset()
    return Dense(-U if old is None else old._dense_like(A) - U, declared=facts)

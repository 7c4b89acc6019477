"""A sum of many terms, as stochastic methods see it: terms that are cheap (diagonal ones) are always used,
the others a few at a time, each with the weight that makes the sampled sum right on average.

``A = C + sum_i A_i`` is taken from a ``Sum`` of operators, or from one Gram matrix ``U U^H`` (``LowRank(U)``,
``B.H @ B``), whose terms are the outer products ``u_i u_i^H`` of its columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from ..operators import (
    Dense,
    Diagonal,
    Identity,
    LinearOperator,
    LowRank,
    NoDispatch,
    Product,
    ScalarMul,
    Sum,
    split_scalar,
)
from ..properties import Congruence
from ..pytree import flatten, node, register_pytrees, static, tree_leaves, unflatten
from .random_blocks import largest_eigenvalue

__all__ = ["NORM_STEPS", "SampledSum", "sampled_sum"]

NORM_STEPS = 4  # products with each term for the estimate of its norm


@node
@dataclass(frozen=True)
class SampledSum:
    """terms: the operators A_i; on JAX one operator whose leaves are stacked. columns: U (n, N) where the
    terms are outer products, else None. scale: a number in front of ``U U^H``. cheap: C or None.
    """

    terms: tuple[LinearOperator, ...]
    columns: Array | None
    scale: Any
    cheap: LinearOperator | None
    count: int = static()

    def norms(self, be: Any, n: int, dtype: Any, device: Any) -> Array:
        """Estimates of the norms of the terms (N,)."""
        xp = be.xp
        if self.columns is not None:
            sizes = xp.sum(xp.abs(self.columns) ** 2, axis=0)
            return sizes * self.scale
        v = be.normal(2, (n, 1), dtype, device)
        if len(self.terms) < self.count:
            return be.vmap(lambda M: largest_eigenvalue(be, M._matmat, v, NORM_STEPS))(self.terms[0])
        return xp.stack([largest_eigenvalue(be, M._matmat, v, NORM_STEPS) for M in self.terms])

    def product(self, be: Any, index: Array, weights: Array, X: Array) -> Array:
        """``sum_j weights[j] A_index[j] X``, and C X."""
        out: Any = None if self.cheap is None else self.cheap._matmat(X)
        if self.columns is not None:
            U = self.columns[:, index]
            inner = be.matmul(be.adjoint(U), X) * be.astype(weights * self.scale, X.dtype)[:, None]
            new = be.matmul(U, inner)
            return new if out is None else out + new
        weights = be.astype(weights, X.dtype)
        if len(self.terms) < self.count:
            some = _map(lambda x: x[index], self.terms[0])
            new = be.xp.sum(be.vmap(lambda M, w: w * M._matmat(X))(some, weights), axis=0)
            return new if out is None else out + new
        for j in range(index.shape[0]):
            new = weights[j] * self.terms[int(index[j])]._matmat(X)
            out = new if out is None else out + new
        return out


def _map(f: Any, *trees: Any) -> Any:
    """f of the arrays at the same place of operators of one structure."""
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, tuple):
        return tuple(_map(f, *parts) for parts in zip(*trees, strict=True))
    if hasattr(type(first), "_child_fields"):
        children = zip(*(flatten(t)[0] for t in trees), strict=True)
        return unflatten(type(first), flatten(first)[1], tuple(_map(f, *c) for c in children))
    return f(*trees)


def sampled_sum(A: LinearOperator, who: str) -> SampledSum:
    """A as a sum of terms, or an error that says what can be sampled."""
    register_pytrees()
    whole = A.A if isinstance(A, NoDispatch) else A
    parts = list(whole.Ms) if isinstance(whole, Sum) else [whole]
    cheap = [M for M in parts if isinstance(M, (Diagonal, ScalarMul, Identity))]
    rest = [M for M in parts if not isinstance(M, (Diagonal, ScalarMul, Identity))]
    C = None if not cheap else cheap[0] if len(cheap) == 1 else Sum(*cheap)
    if len(rest) == 1:
        gram = _columns(rest[0])
        if gram is not None and gram[0].shape[-1]:
            return SampledSum((), *gram, C, int(gram[0].shape[-1]))
    if len(rest) < 2:
        raise NotImplementedError(
            f"{who} works on sums of many terms, written as such: ops.Sum(A1, A2, ...), or a Gram matrix of "
            f"columns, ops.LowRank(U) or B.H @ B, with diagonal terms or without; {A!r} is neither. Use CG()."
        )
    be = A._concrete_backend()
    terms: tuple[LinearOperator, ...] = tuple(rest)
    if be.name == "jax":
        first = rest[0]
        shapes = [tuple(x.shape) for x in tree_leaves(first)]
        same = all(
            type(M) is type(first)
            and flatten(M)[1] == flatten(first)[1]
            and [tuple(getattr(x, "shape", ())) for x in tree_leaves(M)] == shapes
            for M in rest
        )
        if not same:
            raise NotImplementedError(
                f"{who} on JAX, where the loop is compiled once, needs terms of one class and one structure; "
                f'these differ: {A!r}. A.to(backend="numpy") has no such limit.'
            )
        terms = (_map(lambda *xs: be.xp.stack(xs), *rest),)
    return SampledSum(terms, None, 1.0, C, len(rest))


def _columns(M: LinearOperator) -> tuple[Array, Any] | None:
    """``(U, c)`` with ``M = c U U^H``."""
    scalar, rest = split_scalar(M)
    c = 1.0 if scalar is None else scalar.c
    if isinstance(rest, LowRank) and rest.V is None:
        return rest.U, c
    if isinstance(rest, Product) and len(rest.Ms) == 2 and M.isa(Congruence):
        if isinstance(rest.Ms[0], Dense):
            return rest.Ms[0].array, c
    return None

"""Traces of functions of Kronecker compositions, ``tr f(A) = sum f(w)``, with derivatives at ties.

Along a change of one factor, with the others in their eigenbases, A is a family of small matrices ``R_k``,
one for each k of the grid of the others' eigenvalues, and ``d tr f(A) = sum_k tr(f'(R_k) dR_k)``: a function
of the matrix, not of its eigenvectors, and symmetric in the others' eigenvalues. So first and second
derivatives are exact where eigenvalues are equal; third ones meet second ones of eigenvalues there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..algorithms.spectral_form import spectral_form
from ..backends.base import Array
from ..operators import Diagonal, Kronecker, KronSum, Sum, split_scalar
from .eigen import outer_product

__all__ = ["inverse_slope", "slope_of", "trace_by_places"]


def inverse_slope(be: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The derivative of ``log|x|``, of eigenvalues and of matrices."""

    def of_matrices(R: Array) -> Array:
        eye = be.eye(R.shape[-1], R.dtype, be.device(R))
        return be.xp.linalg.solve(R, eye + 0 * R)  # type: ignore[no-any-return]

    return lambda w: 1 / w, of_matrices


def slope_of(be: Any, f: Any) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """The derivative of f, of eigenvalues and of self-adjoint matrices."""
    slope = f.derivative()

    def of_matrices(R: Array) -> Array:
        w, V = be.eigh(be.constant(R))
        return spectral_form(be, slope, R, be.constant(w), be.constant(V), be.constant(be.adjoint(V)))

    return lambda w: slope.fn(be.xp, w), of_matrices


def _grid(A: Any) -> tuple[list[Any], list[Any]] | None:
    """A's terms (number, power at each place), and the operator at each place; None if it is no such sum."""
    from .shared_bases import _power, _term, same

    sizes = next(
        (
            tuple(F.shape[-1] for F in K.Ms)
            for K in (split_scalar(M)[1] for M in (A.Ms if isinstance(A, Sum) else (A,)))
            if isinstance(K, (Kronecker, KronSum)) and all(F.is_square for F in K.Ms)
        ),
        None,
    )
    if sizes is None or A.batch_shape:
        return None
    found: list[Any] = []
    places: list[Any] = [None] * len(sizes)
    for M in A.Ms if isinstance(A, Sum) else (A,):
        terms = _term(M, sizes)
        if terms is None:
            return None
        for c, factors in terms:
            powers = []
            for i, F in enumerate(factors):
                base, power = (None, 0) if F is None else _power(F)
                if base is not None and places[i] is not None and not same(base, places[i]):
                    return None
                places[i] = places[i] if base is None else base
                powers.append(power)
            found.append((c, powers))
    return (found, places) if all(M is not None for M in places) else None


def trace_by_places(A: Any, value: Callable[[Array], Array], w: Array, slope: Any) -> Array | None:
    """``value(w)`` of A's eigenvalues w, a sum over them with the derivative ``slope``; None if A is no
    sum of Kronecker products with one self-adjoint operator at each place."""
    grid = _grid(A)
    if grid is None:
        return None
    terms, places = grid
    be = A._concrete_backend()
    xp, dtype = be.xp, A.dtype
    real = be.real_dtype(dtype)
    count = len(places)
    plain = [isinstance(M, Diagonal) for M in places]

    def number(c: Any) -> Array:
        c = be.asarray(c, device=A.device) if isinstance(c, (int, float, complex)) else c
        return be.astype(xp.real(c) if be.is_complex(c) else c, real)

    leaves = [M.diag if p else M.to_dense() for M, p in zip(places, plain, strict=True)]
    leaves = [
        be.astype(xp.real(x), real) if p and be.is_complex(x) else x
        for x, p in zip(leaves, plain, strict=True)
    ]
    numbers = [number(c) for c, _ in terms]
    of_values, of_matrices = slope

    def run(w: Array, *inputs: Array) -> Any:
        return (value(w),), None

    def others(ws: list[Array], powers: list[int], left_out: int) -> Array:
        """The product of the eigenvalues at the other places, on their grid."""
        parts = [x**p for i, (x, p) in enumerate(zip(ws, powers, strict=True)) if i != left_out]
        return outer_product(be, parts) if parts else xp.ones((1,), dtype=real)

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        Ms, cs = inputs[1 : 1 + count], inputs[1 + count :]
        ws = [be.astype(x if p else be.eigvalsh(x), real) for x, p in zip(Ms, plain, strict=True)]
        total: Any = 0 * outputs[0]
        for i, M in enumerate(Ms):
            if not d.moves(1 + i):
                continue
            dM = d[1 + i]
            weights = [c * others(ws, powers, i) for c, (_, powers) in zip(cs, terms, strict=True)]
            if plain[i]:
                R = sum(v[:, None] * ws[i] ** p[i] for v, (_, p) in zip(weights, terms, strict=True))
                G = of_values(R)
                for v, (_, p) in zip(weights, terms, strict=True):
                    if p[i]:
                        total = total + xp.sum(v[:, None] * G * (p[i] * ws[i] ** (p[i] - 1) * dM))
                continue
            M = be.astype((M + be.adjoint(M)) / 2, dtype)
            dM = be.astype((dM + be.adjoint(dM)) / 2, dtype)
            powers_of = [be.eye(M.shape[-1], dtype, be.device(M)) + 0 * M]
            for _ in range(max(p[i] for _, p in terms)):
                powers_of.append(be.matmul(powers_of[-1], M))
            R = sum(
                be.astype(v, dtype)[:, None, None] * powers_of[p[i]]
                for v, (_, p) in zip(weights, terms, strict=True)
            )
            G = of_matrices(R)
            for v, (_, p) in zip(weights, terms, strict=True):
                if p[i]:
                    H = xp.sum(be.astype(v, dtype)[:, None, None] * G, axis=0)
                    part = xp.sum(xp.matrix_transpose(p[i] * be.matmul(H, powers_of[p[i] - 1])) * dM)
                    total = total + (xp.real(part) if be.is_complex(part) else part)
        moving = [t for t in range(len(terms)) if d.moves(1 + count + t)]
        if moving:
            grids = [
                outer_product(be, [x**p for x, p in zip(ws, powers, strict=True)]) for _, powers in terms
            ]
            G = of_values(sum(c * g for c, g in zip(cs, grids, strict=True)))
            for t in moving:
                total = total + xp.sum(G * grids[t]) * d[1 + count + t]
        return (total,)

    return be.differentiable(run, tangent, be.constant(w), *leaves, *numbers)[0][0]  # type: ignore[no-any-return]

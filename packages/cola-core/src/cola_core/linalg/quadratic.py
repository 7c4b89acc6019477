"""Quadratic forms: ``x^H A y``, ``b^H A^{-1} b``, and the latter together with ``log det A`` from one
factorisation, as Gaussian likelihoods need them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..algorithms.base import Auto
from ..algorithms.derivative_solve import Derivative
from ..algorithms.kept_factor import still
from ..backends import backend_of_type
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import aside
from ..errors import NonSquareError, ShapeError
from ..info import Info, combine
from ..operators import LinearOperator, as_operator
from ..plugins.rulebook import RuleBook
from ..properties import SelfAdjoint
from ..pytree import map_leaves, tree_leaves
from .determinant import SLOGDET, real_logarithm
from .inverse import INV, KEEP_FACTORS
from .operands import as_algorithm, right_side, square
from .solve import SOLVE, solve

__all__ = ["INV_QUAD_LOGDET", "inv_quad", "inv_quad_logdet", "quad_form"]

RULES = RuleBook()


def quad_form(A: Any, x: Any, y: Any = None) -> Any:
    """``x^H A y`` (y: x again) for every pair of columns; A itself is never formed.

    A: operator or array (*batch, m, n). x: (m,) or (*batch, m, k); y: (n,) or (*batch, n, k), of x's kind.
    Returns a number for vectors, (*batch, k) for matrices: the diagonal of ``X^H A Y``. Real where A is
    self-adjoint and y is not given. Cost: one product with k columns.

    >>> import numpy as np, cola_core as cola
    >>> K = cola.kron(np.diag([1.0, 2.0]), np.eye(2))
    >>> float(cola.quad_form(K, np.array([1.0, 1.0, 2.0, 0.0])))
    10.0
    """
    A = as_operator(A)
    same = y is None
    if same and not A.is_square:
        raise NonSquareError(
            f"quad_form({A!r}, x): x^H A x needs a square operator, its shape is {A.shape}; give y as well."
        )
    y = right_side(A, x if same else y, "quad_form")
    x = y if same else _left_side(A, x)
    if len(x.shape) != len(y.shape) and 1 in (len(x.shape), len(y.shape)):
        raise ShapeError(
            f"quad_form({A!r}, x, y): x has shape {tuple(x.shape)}, y has {tuple(y.shape)}; both must be "
            "vectors or both matrices with one column per form."
        )
    if len(x.shape) > 1 and x.shape[-1] != y.shape[-1]:
        raise ShapeError(
            f"quad_form({A!r}, x, y): x has {x.shape[-1]} columns, y has {y.shape[-1]}; forms pair them."
        )
    be = backend_of_type(type(y))
    X, Y = (x[:, None], y[:, None]) if len(x.shape) == 1 else (x, y)
    out = _inner(be, X, A._matmat(Y), same and A.isa(SelfAdjoint))
    return out[..., 0] if len(x.shape) == 1 else out


def _left_side(A: LinearOperator, x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        x = A._concrete_backend().as_value(x)
    if backend_of_type(type(x)) is None or len(x.shape) == 0:
        raise ShapeError(f"quad_form({A!r}, x, y): x must be an array of vectors, got {type(x).__name__}.")
    m = A.shape[-2]
    if (x.shape[0] if len(x.shape) == 1 else x.shape[-2]) != m:
        raise ShapeError(
            f"quad_form({A!r}, x, y): the operator has {m} rows, x has shape {tuple(x.shape)}; x must be "
            f"({m},) or (..., {m}, k)."
        )
    return x


def _inner(be: Any, X: Array, Y: Array, real: bool) -> Array:
    out = be.xp.sum(be.conj(X) * Y, axis=-2)
    return be.xp.real(out) if real and be.is_complex(out) else out


def inv_quad(
    A: Any, b: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """``b^H A^{-1} b`` for every column of b: a number for a vector, (*batch, k) for (*batch, n, k)."""
    A = square(A, "inv_quad")
    b = right_side(A, b, "inv_quad")
    be: Any = backend_of_type(type(b))
    closed = _has_closed_form(be, A, b)
    derivative = Derivative.here()
    fixed = (map_leaves(be.constant, A), be.constant(b)) if closed else (A, b)
    out = solve(*fixed, alg, return_info=return_info, on_failure=on_failure)
    X, info = out if return_info else (out, None)
    B, X = (b[:, None], X[..., None]) if len(b.shape) == 1 else (b, X)
    real = A.isa(SelfAdjoint)
    if closed:
        derivative = replace(derivative, question="inv_quad", policy=on_failure)
        value = _form(be, derivative, A, B, X, as_algorithm(alg, "solve"))
        value = be.xp.real(value) if be.is_complex(value) else value
    else:
        value = _inner(be, B, X, real)
    value = value[..., 0] if len(b.shape) == 1 else value
    return (value, info) if return_info else value


def _has_closed_form(be: Any, A: Any, b: Array) -> bool:
    """Whether a derivative may be wanted, and the solution is all that it takes."""
    return A.isa(SelfAdjoint) and A.backend is not None and be.differentiating(b, *tree_leaves(A))


def _form(be: Any, derivative: Derivative, A: Any, B: Array, X: Array, alg: Any) -> Array:
    """``b^H x`` for self-adjoint A and ``x = A^{-1} b``, known already, whose gradient in A is ``-x x^H``: no
    other system is solved for it. (Those of higher derivatives report themselves to ``derivative``.)"""
    B = be.xp.broadcast_to(be.astype(B, X.dtype), X.shape)
    alg = replace(alg, x0=None) if getattr(alg, "x0", None) is not None else alg  # a guess of x alone

    def once(A: Any, rhs: Array) -> tuple[Array, Info, None]:
        with aside(always=True) as inside:
            found = ask(SOLVE, (A, rhs), alg)
        return found, combine(inside.infos), None  # type: ignore[union-attr]

    def again(A: Any, rhs: Array) -> Array:
        return be.implicit_solve(A, derivative.solves(be, once), rhs)[0]  # type: ignore[no-any-return]

    def run(A: Any, B: Array, X: Array) -> Any:
        return (be.inner(B, X), X), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, Array]:
        A, _, _ = inputs
        X = outputs[1]
        moved = be.xp.zeros_like(X)
        if d.moves(0):
            moved = moved - d.product(0, X)
        if not d.moves(1):
            return be.inner(X, moved), again(A, moved)
        moved = moved + d[1]
        return be.inner(X, moved) + be.inner(d[1], X), again(A, moved)

    def cotangent(g: Any, inputs: Any, outputs: Any) -> Any:
        A, _, _ = inputs
        X = outputs[1]
        weight = g[0][..., None, :]
        U = X * weight
        if not still(be, g[1]):
            U = U + again(A.H, g[1])
        return [(-U, X)], U + X * be.conj(weight), None

    return be.differentiable(run, tangent, A, B, be.constant(X), cotangent=cotangent)[0][0]  # type: ignore[no-any-return]


def _abstract(A: Any, B: Any) -> Any:
    from ..backends.abstract import XP, AbstractArray

    be = A._concrete_backend()
    dtype = XP.result_type(A.dtype, B.dtype)
    sign, value = XP.linalg.slogdet(AbstractArray(A.shape, A.dtype))
    quad = XP.broadcast_arrays(AbstractArray((*A.batch_shape, 1), dtype), B[..., 0, :])[0]
    return (be.xp.real(quad) if A.isa(SelfAdjoint) else quad), sign, value


inv_quad.question = SOLVE  # type: ignore[attr-defined]
INV_QUAD_LOGDET = Question("inv_quad_logdet", abstract=_abstract, doc="b^H A^-1 b and the determinant")


def inv_quad_logdet(
    A: Any, b: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """``(b^H A^{-1} b, log det A)`` from one factorisation of A, or of each of its structural parts.

    b: (n,), giving one number, or (*batch, n, k), giving one per column. Large operators that are declared
    PSD take one run of conjugate gradients and stochastic quadrature. The logarithm is as ``logdet``'s.

    >>> import numpy as np, cola_core as cola
    >>> quad, value = cola.inv_quad_logdet(2 * cola.I_like(np.eye(3)), np.ones(3))
    >>> round(float(quad), 6), round(float(value), 6)
    (1.5, 2.079442)
    """
    A = square(A, "inv_quad_logdet")
    b = right_side(A, b, "inv_quad_logdet")
    vector = len(b.shape) == 1
    out = INV_QUAD_LOGDET.run(
        A,
        b[:, None] if vector else b,
        alg=as_algorithm(alg, "solve"),
        return_info=return_info,
        on_failure=on_failure,
    )
    (quad, sign, value), info = out if return_info else (out, None)
    quad = quad[..., 0] if vector else quad
    answer = (quad, real_logarithm(A, sign, value, "inv_quad_logdet"))
    return (answer, info) if return_info else answer


inv_quad_logdet.question = INV_QUAD_LOGDET  # type: ignore[attr-defined]


@contextmanager
def keeping_factors() -> Any:
    """Inverses made inside keep what they factorise, also under a trace: they do not outlive the call."""
    token = KEEP_FACTORS.set(True)
    try:
        yield
    finally:
        KEEP_FACTORS.reset(token)


@RULES.rule(
    INV_QUAD_LOGDET,
    (LinearOperator,),
    id="inv_quad_logdet/inverse",
    source="Rasmussen & Williams 2006, alg. 2.1",
    complexity="that of solve and slogdet, with one factorisation, O(N k)",
)
def through_inverse(A: Any, B: Array, *, alg: Any) -> Any:
    """The inverse keeps the factorisation that its first product makes; its determinant reads it off."""
    be: Any = A.backend or backend_of_type(type(B))
    with keeping_factors():
        kept = ask(INV, (A,), alg)
        X = kept._matmat(B)
        factor = kept.__dict__.get("_factor")
        if getattr(factor, "M", None) is not None and B.shape == X.shape:
            quad, sign, value = factor.quadratic(B, X)  # type: ignore[union-attr]
        else:
            sign, value = ask(SLOGDET, (kept,), alg)
            if A.backend is None:  # identities and numbers adopt the library of what they meet
                sign = be.asarray(sign, dtype=B.dtype)
                value = be.asarray(value, dtype=be.real_dtype(B.dtype))
            sign, value = be.conj(sign), -value
            quad = None
    real = A.isa(SelfAdjoint)
    if quad is None and _has_closed_form(be, A, B):
        quad = _form(be, Derivative.here(), A, B, be.constant(X), alg)
    elif quad is None:
        quad = _inner(be, B, X, False)
    quad = be.xp.real(quad) if real and be.is_complex(quad) else quad
    return quad, sign, value

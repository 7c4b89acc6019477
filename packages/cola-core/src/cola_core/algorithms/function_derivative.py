"""``f(A) X`` by products, with derivatives of any order in the arrays of A and in X that record no steps.

Along directions E_1, .., E_k of A's arrays, ``Phi(E_1, .., E_k; X) = D^k f(A)[E_1, .., E_k] X`` is the top of
f of a nest of blocks ``[[A, dA], [0, A]]`` applied to (0, .., 0, X) (Mathias 1996; see ``DirectionalBlock``),
and ``Psi(E_1, .., E_k; G, X)``, the gradient of ``Re <G, Phi(E_1, .., E_k, E; X)>`` in E, is pulled back
through products from a few vectors: the derivative of f(A) along a matrix of rank one has low rank (Kandolf,
Koskela, Relton & Schweitzer, SIMAX 42 (2021); for the gradient of an algorithm's own steps Kraemer et al.
2024). Both are linear in each E (over the reals), in X and in G, and their derivatives and transposes are
again such: nothing else is needed for any order in either mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..backends.base import Array
from .directional_block import DirectionalBlock, moving_leaves, pulled, with_leaves

__all__ = ["FunctionTimes", "derivative_question", "function_derivative"]


@dataclass(frozen=True)
class FunctionTimes:
    """How one algorithm makes products with f(A), and gradients of them.

    times(A, f, X, adjoint): ``f(A) X``, or ``f(A^H) X``. pairs(A, f, G, X): pairs (U, V) of (n, r) arrays for
    which the gradient of ``Re <G, f(A) X>`` is that of the sum of ``Re <U, A V>`` at fixed U and V; they are
    used one after the other. Both for A itself and for blocks made of it, which are not self-adjoint.
    """

    times: Callable[[Any, Any, Array, bool], Array]
    pairs: Callable[[Any, Any, Array, Array], Iterable[tuple[Array, Array]]]


def function_derivative(
    how: FunctionTimes, A: Any, f: Any, X: Array, value: Callable[..., tuple[Array, Any]], *known: Any
) -> tuple[Array, Any]:
    """``value(A, X, *known) -> (f(A) X, aux)`` with these derivatives. X: (n, k), of A's dtype; known: what A
    and f say already (a factorisation), which is not differentiated."""
    be = A._concrete_backend()

    def run(A: Any, X: Array, *known: Any) -> Any:
        Y, aux = value(A, X, *known)
        return (Y,), aux

    question = _Question(be, how, f)
    (Y,), aux = be.differentiable(
        run,
        lambda d, inputs, outputs: question.tangent(d, inputs[:2], outputs, False),
        A,
        X,
        *known,
        cotangent=lambda grads, inputs, outputs: (
            *question.cotangent(grads, inputs[:2], False),
            *(None for _ in known),
        ),
    )
    return Y, aux


def derivative_question(be: Any, how: FunctionTimes, f: Any) -> _Question:
    """The derivative's own questions: ``tangent(d, (A, X), outputs, False)`` and ``cotangent``."""
    return _Question(be, how, f)


@dataclass(frozen=True)
class _Question:
    be: Any
    how: FunctionTimes
    f: Any

    # -- Phi -------------------------------------------------------------------------------------------------
    def phi(self, A: Any, X: Array, turned: bool, *E: Any) -> Array:
        """``Phi(E; X)``, or that of ``f(A)^H``."""
        from ..linalg.lazy_function import reflected

        be = self.be

        def run(A: Any, X: Array, *E: Any) -> Any:
            f = reflected(self.f) if turned and not self.f.kind else self.f
            X, unit = _scaled(be, X)
            if not E:
                return (self.how.times(A, f, X, turned) * unit,), None
            E, scale = _of_one_size(be, A, E)
            if be.name == "jax" and not self.f.kind and not be.is_concrete(X, *moving_leaves(A)):
                # a compiled program knows a user's function at eigenvalues, of which blocks have no basis
                return (be.xp.full_like(X, float("nan")),), None
            B, zeros = _nested(be, A, E, turned), be.xp.zeros_like(X)
            whole = be.xp.concat([*[zeros] * (2 ** len(E) - 1), X], axis=-2)
            return (self.how.times(B, f, whole, False)[: X.shape[-2]] / scale * unit,), None

        def of_direction(j: int) -> Any:
            def gradient(grads: Any, inputs: Any) -> Any:
                A, X, *E = inputs
                rest = (*E[:j], *E[j + 1 :])
                return self.psi(A, X, grads[0], *rest) if turned else self.psi(A, grads[0], X, *rest)

            return gradient

        linear = {2 + j: of_direction(j) for j in range(len(E))}
        linear[1] = lambda grads, inputs: self.phi(inputs[0], grads[0], not turned, *inputs[2:])
        return be.differentiable(  # type: ignore[no-any-return]
            run,
            lambda d, inputs, outputs: self.tangent(d, inputs, outputs, turned),
            A,
            X,
            *E,
            cotangent=lambda grads, inputs, outputs: self.cotangent(grads, inputs, turned),
            linear=linear,
        )[0][0]

    def tangent(self, d: Any, inputs: Any, outputs: Any, turned: bool) -> tuple[Array]:
        A, X, *E = inputs
        parts = []
        if d.moves(1):
            parts.append(self.phi(A, d[1], turned, *E))
        if d.moves(0):
            parts.append(self.phi(A, X, turned, *E, _directions(d, 0, A)))
        for j in range(len(E)):
            if d.moves(2 + j):
                parts.append(self.phi(A, X, turned, *E[:j], tuple(d.arrays(2 + j)), *E[j + 1 :]))
        return (sum(parts[1:], parts[0]) if parts else 0 * outputs[0],)

    def cotangent(self, grads: Any, inputs: Any, turned: bool) -> tuple[Any, ...]:
        A, X, *E = inputs
        (G,) = grads
        left, right = (X, G) if turned else (G, X)
        own = _aligned(A, self.psi(A, left, right, *E)) if moving_leaves(A) else None
        others = [self.psi(A, left, right, *E[:j], *E[j + 1 :]) for j in range(len(E))]
        return (own, self.phi(A, G, not turned, *E), *others)

    # -- Psi -------------------------------------------------------------------------------------------------
    def psi(self, A: Any, G: Array, X: Array, *E: Any) -> tuple[Array, ...]:
        """``Psi(E; G, X)``: one array for each of ``moving_leaves(A)``."""
        be = self.be

        def run(A: Any, G: Array, X: Array, *E: Any) -> Any:
            E, scale = _of_one_size(be, A, E)
            (G, left), (X, right) = _scaled(be, G), _scaled(be, X)
            B = _nested(be, A, E, False)
            fill = 2 ** len(E) - 1
            top = be.xp.concat([G, *[be.xp.zeros_like(G)] * fill], axis=-2)
            bottom = be.xp.concat([*[be.xp.zeros_like(X)] * fill, X], axis=-2)
            total: Any = None
            for U, V in self.how.pairs(B, self.f, top, bottom):

                def product(*arrays: Array, V: Array = V) -> tuple[Array]:
                    return (_nested(be, with_leaves(A, arrays), E, False)._matmat(V),)

                part = pulled(be, product, moving_leaves(A), (U,))
                total = part if total is None else [x + y for x, y in zip(total, part, strict=True)]
            if total is None:
                return tuple(be.xp.zeros_like(x) for x in moving_leaves(A)), None
            return tuple(x / scale * left * right for x in total), None

        def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
            A, G, X, *E = inputs
            found = []
            if d.moves(0):
                found.append(self.psi(A, G, X, *E, _directions(d, 0, A)))
            if d.moves(1):
                found.append(self.psi(A, d[1], X, *E))
            if d.moves(2):
                found.append(self.psi(A, G, d[2], *E))
            for j in range(len(E)):
                if d.moves(3 + j):
                    found.append(self.psi(A, G, X, *E[:j], tuple(d.arrays(3 + j)), *E[j + 1 :]))
            if not found:
                return tuple(0 * y for y in outputs)
            return tuple(sum(parts[1:], parts[0]) for parts in zip(*found, strict=True))

        def of_direction(j: int) -> Any:
            def gradient(grads: Any, inputs: Any) -> Any:
                A, G, X, *E = inputs
                return self.psi(A, G, X, *E[:j], tuple(grads), *E[j + 1 :])

            return gradient

        def cotangent(grads: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
            A, G, X, *E = inputs
            C = tuple(grads)
            return (
                _aligned(A, self.psi(A, G, X, *E, C)),
                self.phi(A, X, False, *E, C),
                self.phi(A, G, True, *E, C),
                *(self.psi(A, G, X, *E[:j], C, *E[j + 1 :]) for j in range(len(E))),
            )

        linear: dict[int, Any] = {3 + j: of_direction(j) for j in range(len(E))}
        linear[1] = lambda grads, inputs: self.phi(inputs[0], inputs[2], False, *inputs[3:], tuple(grads))
        linear[2] = lambda grads, inputs: self.phi(inputs[0], inputs[1], True, *inputs[3:], tuple(grads))
        return be.differentiable(  # type: ignore[no-any-return]
            run, tangent, A, G, X, *E, cotangent=cotangent, linear=linear
        )[0]


def _nested(be: Any, A: Any, E: Any, turned: bool) -> Any:
    """The nest of blocks of A along E_1, .., E_k; every direction is one of A's arrays alone."""
    B = A
    for i, direction in enumerate(E):
        arrays = moving_leaves(B)[len(direction) :]
        given = (*direction, *(be.xp.zeros_like(x) for x in arrays))
        B = DirectionalBlock(B, given, turned and i == 0)
    return B


def _scaled(be: Any, X: Array) -> tuple[Array, Array]:
    """X of size one, and its size: the scale of a loss must not reach what converges or underflows."""
    xp = be.xp
    size = xp.max(xp.abs(X)) if 0 not in X.shape else xp.ones_like(xp.sum(xp.abs(X)))
    size = xp.where((size > 0) & xp.isfinite(size), size, xp.ones_like(size))
    return X / size, size


def _of_one_size(be: Any, A: Any, E: Any) -> tuple[Any, Any]:
    """The directions, each as large as A's arrays, and the product of the factors: a small one must not
    drown in what is not differentiated, or a large one drown that."""
    xp = be.xp

    def size(arrays: Any) -> Any:
        return sum((xp.sum(xp.abs(x) ** 2) for x in arrays[1:]), xp.sum(xp.abs(arrays[0]) ** 2)) ** 0.5

    whole: Any = 1.0
    found = []
    for direction in E:
        own, other = size(direction), size(moving_leaves(A))
        known = (own > 0) & (other > 0)
        ratio = xp.where(known, other, 1 + 0 * own) / xp.where(known, own, 1 + 0 * own)
        found.append(tuple(x * be.astype(ratio, be.real_dtype(x.dtype)) for x in direction))
        whole = whole * ratio
    return tuple(found), whole


def _directions(d: Any, i: int, A: Any) -> tuple[Array, ...]:
    """The tangents of A's moving leaves."""
    from ..pytree import tree_leaves
    from .directional_block import _moves

    arrays = [x for x in tree_leaves(A) if hasattr(x, "dtype")]
    return tuple(t for x, t in zip(arrays, d.arrays(i), strict=True) if _moves(x))


def _aligned(A: Any, gradients: Any) -> tuple[Any, ...]:
    """Gradients of A's moving leaves as one for each of its arrays, None for the others."""
    from ..pytree import tree_leaves
    from .directional_block import _moves

    supply = iter(gradients)
    return tuple(next(supply) if _moves(x) else None for x in tree_leaves(A) if hasattr(x, "dtype"))

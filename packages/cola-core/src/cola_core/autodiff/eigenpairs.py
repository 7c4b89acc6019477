"""Derivatives of some eigenpairs and singular triples, whatever iteration found them.

Self-adjoint A (with a definite B, if there is one), found vectors X with ``X^H B X = I``::

    M = X^H (dA X - dB X L),   dw = diag M,   dX = Z + X C,
    C_ji = M_ji / (w_i - w_j),   C_ii = -1/2 x_i^H dB x_i,
    A Z - B Z L = -(dA X - dB X L - B X M),   X^H B Z = 0

with ``L = X^H A X`` (Magnus, Econometric Theory 1 (1985) 179, for simple eigenvalues; Andrew & Tan, Numer.
Linear Algebra Appl. 5 (1998) 327, for some of many). Values need products only, vectors the solves of
``complement``: O(n k) memory, nothing recorded. A general A has the oblique form of the same, with
``(X^H X)^{-1} X^H`` for ``X^H`` and ``M = X^+ (dA X + A Z)``, so that its values need a solve (that for its
left vectors). Singular triples are the pairs of ``[0 A; A^H 0]``.

C is zero for pairs closer than the tolerance (and rounding): any other choice turns the vectors of a multiple
eigenvalue among themselves, so that losses of the projector ``X X^H`` and of symmetric functions of the
values are exact. A cotangent that sees such a turn, or the phase of a complex vector, is an error: the loss
has no derivative. So is an eigenvalue outside of the found ones that equals one of them. Second derivatives
of the *values* of a multiple eigenvalue do not exist one by one, and are refused.

Phases: ``x_i^H B dx_i`` is real, as that of ``eigh``. The error of a derivative is that of the pairs divided
by the gaps (between found ones, and to the rest).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..backends.base import Array, Backend
from ..errors import NotDifferentiableError
from ..pytree import tree_leaves
from .complement import Augmented, Complement, Manner, solve_complement
from .cotangents import inspected, whole

__all__ = ["general_pairs", "selfadjoint_pairs", "singular_triples", "values_only"]

VALUES_ONLY: ContextVar[bool] = ContextVar("cola_core_values_only", default=False)
"""Set where nobody will see the vectors of the pairs to be found: forward mode then solves nothing."""


@contextmanager
def values_only() -> Iterator[None]:
    """Within, pairs are found for their values alone."""
    token = VALUES_ONLY.set(True)
    try:
        yield
    finally:
        VALUES_ONLY.reset(token)


def selfadjoint_pairs(
    be: Backend,
    A: Any,
    run: Callable[..., Any],
    tol: float,
    method: str,
    *,
    B: Any = None,
    inverse: Any = None,
    preconditioner: Any = None,
) -> tuple[Array, Array, Any]:
    """``run(A) -> (w, X, aux)`` (``run(A, B)`` with a B) with the derivatives of w (k,) and X (n, k) in A
    and B. tol: of the pairs. inverse, preconditioner: see
    ``complement.Manner``."""
    inputs = (A,) if B is None else (A, B)
    formula = _SelfAdjoint(be, tol, method, inverse)
    formula.preconditioner = preconditioner
    return _differentiated(be, formula, run, inputs)


def general_pairs(
    be: Backend, A: Any, run: Callable[..., Any], tol: float, method: str, *, inverse: Any = None
) -> tuple[Array, Array, Any]:
    """The same for a general A: w and X complex, the columns of X of length one."""
    return _differentiated(be, _General(be, tol, method, inverse), run, (A,))


def singular_triples(
    be: Backend, A: Any, run: Callable[..., Any], tol: float, method: str
) -> tuple[Array, Array, Array, Any]:
    """``run(A) -> (U, s, V, aux)``, the same of singular triples."""
    m = A.shape[-2]

    def stacked(H: Any) -> Any:
        U, s, V, aux = run(H.A)
        return s, be.xp.concat([U, V], axis=-2), aux

    s, X, aux = _differentiated(be, _Triples(be, tol, method, None), stacked, (Augmented(A),))
    U, V = be.parted(X, m)
    return U, s, V, aux


def _differentiated(be: Backend, formula: Any, run: Any, inputs: tuple[Any, ...]) -> Any:
    def answer(*inputs: Any) -> Any:
        w, X, aux = run(*inputs)
        return (w, X), aux

    if not be.differentiating(*tree_leaves(inputs)):
        (w, X), aux = answer(*inputs)
    else:
        from ..algorithms.derivative_solve import Derivative

        formula.told = Derivative.here()
        only, checked = VALUES_ONLY.get(), whole(be)

        def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, Array]:
            return formula.tangent(d, inputs, outputs[0], outputs[1], only, checked)  # type: ignore[no-any-return]

        (w, X), aux = be.differentiable(answer, tangent, *inputs)
    return w, X, aux


class _Formula(ABC):
    """What the three kinds share: the vectors as functions of A alone, and which pairs are close."""

    hermitian = True
    told: Any = None
    preconditioner: Any = None

    def __init__(self, be: Backend, tol: float, method: str, inverse: Any) -> None:
        self.be, self.tol, self.method, self.inverse = be, tol, method, inverse

    def tangent(self, d: Any, inputs: Any, w: Array, X: Array, only: bool, checked: bool) -> Any:
        # the values are functions of these vectors, whose second use is refused where it would be wrong
        strict = self.frame(inputs, w, X)
        dw = self.values(d, inputs, strict)
        if only:
            return dw, self.be.xp.zeros_like(X)
        dX, close = self.vectors(d, inputs, X)
        return dw, self._guarded(X, dX, close) if checked else dX

    def frame(self, inputs: Any, w: Array, X: Array) -> Array:
        """X as a function of the inputs, which has no derivative where values are close."""
        be = self.be
        w, X = be.constant(w), be.constant(X)

        def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
            dX, close = self.vectors(d, inputs[:-2], outputs[0])
            return (self.once(dX, close),)

        (X,), _ = be.differentiable(lambda *given: ((given[-1] * 1,), None), tangent, *inputs, w, X)
        return X

    def _guarded(self, X: Array, dX: Array, close: Array) -> Array:
        """dX, whose cotangent must not see what is arbitrary."""
        be, xp = self.be, self.be.xp
        X = be.constant(X)
        phased = be.is_complex(X)
        if X.shape[-1] < 2 and not phased:
            return dX
        real = be.real_dtype(X.dtype)
        most = float(xp.finfo(real).eps) ** 0.4

        def look(g: Array, X: Array, close: Array) -> Array:
            fixed = be.constant(g)
            T = be.matmul(be.adjoint(X), fixed)
            turn = xp.where(close > 0, xp.abs(self.turned(T)), xp.zeros_like(close))
            if phased:
                turn = turn + be.matrix_diag(xp.abs(xp.imag(xp.linalg.diagonal(T))))
            bad = ~(xp.max(turn) <= most * xp.max(be.norm(fixed)))
            if not be.is_concrete(bad):
                return xp.where(bad, be.astype(0 * xp.real(g) + float("nan"), g.dtype), g)
            if bool(bad):
                raise NotDifferentiableError(
                    f"the loss depends on what is arbitrary in the eigenvectors found by {self.method}: a "
                    "rotation of those of equal eigenvalues among themselves, or the phase of a complex one, "
                    f"changes it (by {float(xp.max(turn)):.1e}), so that it has no derivative. Use functions "
                    "of the projector V V^H, of moduli, or split the eigenvalues."
                )
            return g

        return inspected(be, dX, look, X, be.astype(close, real))

    def turned(self, T: Array) -> Array:
        """What a turn of vectors among themselves changes a loss by, given ``X^H g``."""
        return T - self.be.adjoint(T)

    @abstractmethod
    def values(self, d: Any, inputs: Any, X: Array) -> Array:
        """Tangents of the eigenvalues."""

    @abstractmethod
    def vectors(self, d: Any, inputs: Any, X: Array) -> tuple[Array, Array]:
        """Tangents of the vectors, and which of them are close to one another."""

    def reciprocal(self, w: Array) -> tuple[Array, Array]:
        """``F_ji = 1/(w_i - w_j)``, zero for close pairs; and which ones are close, i != j."""
        be, xp = self.be, self.be.xp
        k = w.shape[-1]
        real = be.real_dtype(w.dtype)
        gap = w[None, :] - w[:, None]
        largest = xp.max(xp.abs(w)) if k else be.zeros((), real, be.device(w))
        close = be.constant(xp.abs(gap)) <= be.constant(largest) * self.apart(w)
        other = be.eye(k, real, be.device(w)) == 0
        F = xp.where(close, xp.zeros_like(gap), 1 / xp.where(close, xp.ones_like(gap), gap))
        close = close & other
        return F, close

    def apart(self, w: Array) -> float:
        """The least distance, relative to the largest value, of two values that count as different: the
        tolerance (but that of a rough answer says little of its values) and rounding."""
        eps = float(self.be.xp.finfo(self.be.real_dtype(w.dtype)).eps)
        return max(2 * min(self.tol, 1e-8), 100 * eps)

    def once(self, dX: Array, close: Array) -> Array:
        """dX for a derivative of a derivative of values, which close ones have not."""
        return self.without(
            dX,
            self.be.xp.any(close, axis=0),
            f"second derivatives of eigenvalues found by {self.method} do not exist where two of them are "
            f"equal to within the tolerance {self.tol:.1e}. Use a loss of the projector V V^H, add a term "
            "that splits them, or lower tol if they are only close.",
        )

    def without(self, dX: Array, marked: Array, message: str) -> Array:
        """dX, (..., k), where the marked columns have no derivative: they are NaN, and an error as soon as a
        cotangent shows that they are used."""
        be, xp = self.be, self.be.xp
        if be.is_concrete(marked) and not bool(xp.any(marked)):
            return dX
        real = be.real_dtype(dX.dtype)
        least = 100 * float(xp.finfo(real).eps)

        def look(g: Array, marks: Array) -> Array:
            fixed = be.constant(g)
            size = be.norm(fixed) if fixed.ndim > 1 else xp.abs(fixed)
            bad = (marks > 0) & (size > least * xp.max(size))
            if not be.is_concrete(bad):
                return xp.where(bad, be.astype(0 * xp.real(g) + float("nan"), g.dtype), g)
            if bool(xp.any(bad)):
                raise NotDifferentiableError(message)
            return g

        nothing = xp.zeros_like(be.constant(dX))
        lost = xp.where(marked, nothing + float("nan"), nothing)
        return inspected(be, dX, look, be.constant(be.astype(marked, real))) + lost

    def solve(self, A: Any, B: Any, W: Array, G: Array, L: Array, R: Array) -> Array:
        be, xp = self.be, self.be.xp
        if not L.shape[-1] or W.shape[-1] >= R.shape[-2]:  # there is nothing beside what was found
            return xp.zeros_like(R)
        w = xp.abs(be.constant(xp.linalg.diagonal(L)))
        s = xp.max(w)
        s = xp.where(s > 0, s, xp.ones_like(s))
        K = Complement(A, B, W, G, L, s, self.hermitian)
        real = be.real_dtype(R.dtype)
        tol = max(min(self.tol, 1e-8), 20 * float(xp.finfo(real).eps))
        return solve_complement(be, K, R, self.manner(tol))

    def manner(self, tol: float) -> Manner:
        return Manner(tol, self.method, self.inverse, self.preconditioner, self.told)

    def hermitized(self, L: Array) -> Array:
        return (L + self.be.adjoint(L)) / 2


class _SelfAdjoint(_Formula):
    def _moves(self, d: Any, inputs: Any, X: Array, L: Array) -> tuple[Any, Any]:
        """``dA X - dB X L`` and ``dB X``."""
        be = self.be
        N = d.product(0, X) if d.moves(0) else be.xp.zeros_like(X)
        if len(inputs) < 2 or not d.moves(1):
            return N, None
        dBX = d.product(1, X)
        return N - be.matmul(dBX, L), dBX

    def _matrix(self, inputs: Any, X: Array) -> Array:
        return self.hermitized(self.be.matmul(self.be.adjoint(X), inputs[0] @ X))

    def values(self, d: Any, inputs: Any, X: Array) -> Array:
        be = self.be
        L = self._matrix(inputs, X) if len(inputs) > 1 and d.moves(1) else None
        N, _ = self._moves(d, inputs, X, L)
        dw = be.xp.sum(be.conj(X) * N, axis=-2)
        return be.xp.real(dw) if be.is_complex(dw) else dw

    def vectors(self, d: Any, inputs: Any, X: Array) -> tuple[Array, Array]:
        be = self.be
        A, B = inputs[0], inputs[1] if len(inputs) > 1 else None
        G = X if B is None else B @ X
        XH = be.adjoint(X)
        L = self._matrix(inputs, X)
        w = be.xp.linalg.diagonal(L)
        F, close = self.reciprocal(be.xp.real(w) if be.is_complex(w) else w)
        N, dBX = self._moves(d, inputs, X, L)
        M = be.matmul(XH, N)
        C = be.astype(F, M.dtype) * M
        if dBX is not None:
            one = be.eye(X.shape[-1], X.dtype, be.device(X))
            C = C - 0.5 * be.matmul(XH, dBX) * (be.astype(close, X.dtype) + one)
        Z = self.solve(A, B, X, G, L, be.matmul(G, M) - N)
        return Z + be.matmul(X, C), close


class _General(_Formula):
    hermitian = False

    def turned(self, T: Array) -> Array:
        return T

    def _product(self, A: Any, X: Array) -> Array:
        from ..algorithms.thick_restart import product

        return product(self.be, A, X)

    def _push(self, d: Any, A: Any, X: Array) -> Array:
        be, xp = self.be, self.be.xp
        if not be.is_complex(X) or A._is_complex():
            return d.product(0, X)  # type: ignore[no-any-return]
        k = X.shape[-1]
        Y = d.product(0, xp.concat([xp.real(X), xp.imag(X)], axis=-1))
        return Y[..., :k] + 1j * Y[..., k:]

    def _parts(self, d: Any, inputs: Any, X: Array) -> tuple[Array, Array, Array, Array]:
        """The dual frame, the matrix of A in the frame X, Z, and ``M = X^+ (dA X + A Z)``."""
        be = self.be
        A = inputs[0]
        gram = be.matmul(be.adjoint(X), X)
        G = be.adjoint(be.xp.linalg.solve(gram, be.adjoint(X)))
        self._refuse_defective(G)
        GH = be.adjoint(G)
        L = be.matmul(GH, self._product(A, X))
        N = self._push(d, A, X)
        Z = self.solve(A, None, X, G, L, be.matmul(G, be.matmul(be.adjoint(X), N)) - N)
        M = be.matmul(GH, N + self._product(A, Z))
        return G, L, Z, M

    def _refuse_defective(self, G: Array) -> None:
        be = self.be
        if be.is_concrete(G) and G.shape[-1]:
            eps = float(be.xp.finfo(be.real_dtype(G.dtype)).eps)
            worst = be.number(be.constant(be.xp.max(be.norm(G))))
            if not worst < 0.01 * eps**-0.5:
                raise NotDifferentiableError(
                    f"eigenpairs found by {self.method} have no derivatives: the vectors are nearly "
                    f"dependent (condition {worst:.1e} of an eigenvalue), as those of a defective matrix are."
                )

    def values(self, d: Any, inputs: Any, X: Array) -> Array:
        return self.be.xp.linalg.diagonal(self._parts(d, inputs, X)[3])

    def vectors(self, d: Any, inputs: Any, X: Array) -> tuple[Array, Array]:
        be = self.be
        _, L, Z, M = self._parts(d, inputs, X)
        F, close = self.reciprocal(be.xp.linalg.diagonal(L))
        C = F * M
        # the columns keep their length one, and x_i^H dx_i real
        along = be.xp.sum(be.conj(X) * be.matmul(X, C), axis=-2)
        return Z + be.matmul(X, C) - X * along, close


class _Triples(_Formula):
    """Of ``[0 A; A^H 0]``, whose tangent gives both ``dA V`` and ``dA^H U``."""

    def values(self, d: Any, inputs: Any, X: Array) -> Array:
        be = self.be
        m = inputs[0].A.shape[-2]
        N = d.product(0, X)
        ds = be.xp.sum(be.conj(X[:m]) * N[:m], axis=-2)
        ds = be.xp.real(ds) if be.is_complex(ds) else ds
        s = be.xp.sum(be.conj(X[:m]) * (inputs[0] @ X)[:m], axis=-2)
        return self._without_zeros(ds, be.xp.abs(be.constant(s)))

    def _without_zeros(self, dX: Array, s: Array) -> Array:
        """A singular value has no derivative at zero, and its vectors are arbitrary."""
        xp = self.be.xp
        return self.without(
            dX,
            s <= self.apart(s) * xp.max(s),
            f"singular values found by {self.method} that are zero (to within {self.apart(s):.1e} of the "
            "largest) have no derivative, nor have their vectors. Ask for a smaller k.",
        )

    def vectors(self, d: Any, inputs: Any, X: Array) -> tuple[Array, Array]:
        be, xp = self.be, self.be.xp
        A = inputs[0].A
        m, k = A.shape[-2], X.shape[-1]
        U, V = X[:m], X[m:]
        L = self.hermitized(be.matmul(be.adjoint(U), A @ V))
        s = xp.linalg.diagonal(L)
        s = xp.real(s) if be.is_complex(s) else s
        F, close = self.reciprocal(s)
        N = d.product(0, X)
        M = be.matmul(be.adjoint(U), N[:m])
        MH = be.adjoint(M)
        both = s[None, :] + s[:, None]
        odd = (M - MH) / be.astype(xp.where(both > 0, both, xp.ones_like(both)), M.dtype)
        even = be.astype(F, M.dtype) * (M + MH)
        turned = xp.concat([be.matmul(U, even + odd), be.matmul(V, even - odd)], axis=-2)
        inside = xp.concat([be.matmul(U, M), be.matmul(V, be.matmul(be.adjoint(V), N[m:]))], axis=-2)
        low, high = be.zeros((A.shape[-1], k), X.dtype, be.device(X)), be.zeros((m, k), X.dtype, be.device(X))
        W = xp.concat([xp.concat([U, low], axis=-2), xp.concat([high, V], axis=-2)], axis=-1)
        Z = self.solve(inputs[0], None, W, W, L, inside - N)
        return self._without_zeros(Z + 0.5 * turned, xp.abs(be.constant(s))), close

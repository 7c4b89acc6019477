"""``TiedFunction``: f(A) of a composition by the eigenbases of its parts, where those have no derivative
(equal eigenvalues) or may have none (values cannot be looked at)."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.function_derivative import derivative_question, function_derivative
from ..algorithms.krylov_derivative import krylov_derivative
from ..algorithms.spectral_form import spectral_form
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import Diagonal, Kronecker, LinearOperator, Product, operator
from ..plugins.rulebook import RuleBook
from ..pytree import map_leaves, tree_leaves
from .diagonal import DIAG, exactly
from .trace import TRACE

__all__ = ["TiedFunction", "diagonal_by_basis", "spectral_times", "tied"]

RULES = RuleBook()
BLOCK = 128  # unit vectors at a time
DENSE = 512  # rows of a matrix that is formed for a derivative
STEPS = 1000  # of a Krylov space, at most


@operator
class TiedFunction(LinearOperator):
    """``f(A)`` (``products``, a ``FunctionAction``) with values by its eigenbasis (``spectral``) and
    derivatives by products with A, which do not see the basis."""

    spectral: LinearOperator
    products: LinearOperator

    def _shape(self) -> tuple[int, ...]:
        return self.products.shape

    def _dtype(self) -> Any:
        return self.products._dtype()

    def _adjoint(self) -> LinearOperator:
        return TiedFunction(self.spectral.H, self.products.H)

    def _transpose(self) -> LinearOperator:
        return TiedFunction(self.spectral.T, self.products.T)

    def _conj(self) -> LinearOperator:
        return TiedFunction(self.spectral.conj(), self.products.conj())

    def _matvec_cost(self) -> Cost:
        return self.spectral.matvec_cost

    def _matmat(self, X: Array) -> Array:
        return spectral_times(self.products, self.spectral, X)

    def _rmatmat(self, X: Array) -> Array:
        return spectral_times(self.products._adjoint(), self.spectral._adjoint(), X)


def spectral_times(action: Any, spectral: LinearOperator, X: Array) -> Array:
    """``spectral @ X``, which is ``action @ X``, with the derivatives of the latter."""
    be = action._concrete_backend()
    A = action.A
    if 0 in X.shape or not be.differentiating(X, *tree_leaves(A)):
        return spectral._matmat(X)
    if A.batch_shape:
        return action._matmat(X)  # type: ignore[no-any-return]
    from .lazy_function import announced, as_columns

    if be.name == "jax" and not action.f.kind and A.shape[-1] <= DENSE and isinstance(spectral, Product):
        return _dense_derivative(be, action, spectral, X)
    fixed = map_leaves(be.constant, spectral)

    def value(A: Any, X: Array, fixed: Any) -> tuple[Array, None]:
        return fixed._matmat(X), None

    def run(columns: Array) -> Array:
        how = krylov_derivative(True, action.alg.tol, STEPS)
        return function_derivative(how, A, action.f, columns, value, fixed)[0]

    return announced(action.f.name, A, lambda: as_columns(A, X, run))


@RULES.rule(
    TRACE,
    (TiedFunction,),
    id="trace/tied-function",
    source="tr f(A) = sum f(w)",
    complexity="O(N)",
)
def trace_of_tied(A: Any, *, alg: Any) -> Array:
    action = A.products
    be = A._concrete_backend()
    if action.f.real and isinstance(A.spectral, Product) and isinstance(A.spectral.Ms[1], Diagonal):
        from .spectral_trace import slope_of, trace_by_places

        values = A.spectral.Ms[1].diag
        found = trace_by_places(
            action.A, lambda values: be.xp.sum(values, axis=-1), values, slope_of(be, action.f)
        )
        if found is not None:
            return be.astype(found, A.dtype)  # type: ignore[no-any-return]
    return ask(TRACE, (A.spectral,), alg)  # type: ignore[no-any-return]


def _dense_derivative(
    be: Any, action: Any, spectral: LinearOperator, X: Array, of_tangent: bool = False
) -> Array:
    """``spectral @ X`` whose derivative is taken of the matrix of A: for a user's function in JAX, as
    compiled code can evaluate that at eigenvalues only, and blocks ``[[A, dA], [0, A]]`` have no basis."""

    def run(A: Any, X: Array, spectral: Any) -> Any:
        return (spectral._matmat(X),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        A, X, fixed = inputs
        total: Any = 0 * outputs[0]
        if d.moves(0):
            eye = be.eye(A.shape[-1], A.dtype, A.device)
            M, V = A._matmat(eye), fixed.Ms[0].to_dense()
            w = be.xp.real(be.xp.sum(be.conj(V) * be.matmul(be.constant(M), V), axis=-2))
            T = spectral_form(be, action.f, M, w, V, be.adjoint(V), d.product(0, eye))
            dtype = be.xp.result_type(T.dtype, X.dtype)
            total = total + be.matmul(be.astype(T, dtype), be.astype(X, dtype))
        if d.moves(1):
            total = total + _dense_derivative(be, action.replace(A=A), fixed, d[1], True)
        return (total,)

    fixed = map_leaves(be.constant, spectral)

    def transposed(grads: Any, inputs: Any) -> Array:
        A, _, fixed = inputs
        turned = action.replace(A=A)._adjoint()
        return _dense_derivative(be, turned, fixed.H, grads[0], True)

    linear = {1: transposed} if of_tangent else None
    return be.differentiable(run, tangent, action.A, X, fixed, linear=linear)[0][0]  # type: ignore[no-any-return]


def _main_exactly(A: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: the main diagonal, and no estimate by random probes asked for."""
    if k != 0:
        return f"composes only the main diagonal, not k={k}"
    return exactly(A, k, alg=alg)


@RULES.rule(
    DIAG,
    (TiedFunction,),
    id="diag/tied-function",
    source="diag(V f(W) V^H), with the derivatives of n products",
    when=_main_exactly,
    complexity="that of the eigenbasis; derivatives: n products with f(A)",
)
def diag_of_tied(A: Any, k: int, *, alg: Any) -> Array:
    action = A.products
    be, M, f = A._concrete_backend(), action.A, action.f
    question = derivative_question(be, krylov_derivative(True, action.alg.tol, STEPS), f)

    def tangent(d: Any, M: Any, I: Array) -> Array:
        moved = question.tangent(d, (M, I), (I,), False)[0]
        return be.xp.sum(I * moved, axis=-2)

    def cotangent(g: Array, M: Any, I: Array) -> Any:
        return question.cotangent((I * be.astype(g, I.dtype),), (M, I), False)[0]

    return diagonal_by_basis(be, M, A.spectral, tangent, cotangent)


def diagonal_by_basis(be: Any, M: Any, spectral: Any, tangent: Any, cotangent: Any = None) -> Array:
    """``diag(spectral)``, a function of M, whose derivative is made of some unit vectors at a time:
    ``tangent(d, M, I)`` gives the entries that belong to the columns I (n, c), and ``cotangent(g, M, I)`` the
    gradients of M's arrays."""
    n, dtype = M.shape[-1], M.dtype

    def units(M: Any) -> Any:
        for first in range(0, n, BLOCK):
            yield first, be.eye(n, dtype, M.device)[:, first : first + BLOCK]

    def run(M: Any, spectral: Any) -> Any:
        return (ask(DIAG, (spectral, 0), Auto()),), None

    def moved(d: Any, inputs: Any, outputs: Any) -> tuple[Array]:
        class Only:
            """The tangents of M alone, for the columns do not move."""

            moves = staticmethod(lambda i: i == 0)
            arrays, product = d.arrays, d.product

        parts = [tangent(Only, inputs[0], I) for _, I in units(inputs[0])]
        return (be.xp.concat(parts, axis=-1),)

    def gradient(grads: Any, inputs: Any, outputs: Any) -> Any:
        total: Any = None
        for first, I in units(inputs[0]):
            part = cotangent(grads[0][first : first + I.shape[-1]], inputs[0], I)
            total = (
                part
                if total is None
                else [x if y is None else x + y for x, y in zip(total, part, strict=True)]
            )
        return tuple(total), None

    fixed = map_leaves(be.constant, spectral)
    return be.differentiable(run, moved, M, fixed, cotangent=None if cotangent is None else gradient)[0][0]


def _plain(be: Any, w: Array) -> Array:
    """The numbers behind torch.func's derivatives (a batch hides them)."""
    if be.name == "torch":
        from torch._C import _functorch as hidden

        while hidden.is_gradtrackingtensor(w):
            w = hidden.get_unwrapped(w)
    return w


def tied(be: Any, w: Array, V: LinearOperator) -> bool:
    """Whether a factor of the eigenbasis V is differentiated and has equal eigenvalues, to what second
    derivatives need, or may have, as values cannot be looked at. w: in the order of V's columns."""
    w = _plain(be, w)
    if not be.is_concrete(w):
        return w.ndim == 1
    if w.ndim != 1 or not w.shape[0]:
        return False
    parts = V.Ms if isinstance(V, Kronecker) else (V,)
    W = be.to_numpy(w).reshape([M.shape[-1] for M in parts])
    slack = float(be.xp.finfo(w.dtype).eps) ** (1 / 3) * abs(W).max()
    for axis, M in enumerate(parts):
        if be.differentiating(*tree_leaves(M)):
            slices = W.swapaxes(0, axis).reshape(W.shape[axis], -1)
            order = slices[:, 0].argsort()
            gaps = abs(slices[order[1:]] - slices[order[:-1]]).max(axis=1, initial=0.0)
            if (gaps <= slack).any():
                return True
    return False

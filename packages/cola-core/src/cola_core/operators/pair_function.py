"""``PairFunction``: a function of pairs of points that brings its own matrix products, for ``Kernel``.

``Kernel`` evaluates any function block by block and multiplies the blocks. A function that can do better (a
compiled loop that keeps nothing, blocks overwritten in place) says so by being a ``PairFunction``: it gives
values only, and this module makes an operator's product of them: transposes, conjugates, batches, and
derivatives. Gradients of first order come from the function where it states them; those of any order, and
forward mode, from the blocks, as everywhere. Under JAX's traces, ``torch.func`` and ``torch.compile``
products are those of the blocks too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from ..backends import backend_of_type
from ..backends.base import Array, dtype_name
from ..errors import ShapeError
from ..pytree import tree_leaves

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["PairFunction"]


class PairFunction:
    """Base of functions ``fn(a, b, params=None)`` with fused products; see ``Kernel``.

    An object of such a class is part of an operator's structure: it is immutable, hashable, compares by
    value, and holds settings but no arrays (those are the ``params`` of ``Kernel``). A subclass defines
    ``__call__``, the (p, q) matrix of blocks a (p, d) and b (q, d), written with operations of the arrays'
    library so that it can be differentiated; ``path`` and ``matmat``; and may define ``rmatmat``,
    ``gradients``, ``flops`` and ``symmetric``.
    """

    symmetric: ClassVar[bool] = False
    """Whether ``fn(a, b)`` is the transpose of ``fn(b, a)``; then ``rmatmat`` and ``Kernel.T`` need no
    method of their own."""

    def __call__(self, a: Array, b: Array, params: Any = None) -> Array:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(a, b, params)")

    def path(self, x1: Array, x2: Array, columns: int, params: Any) -> str | None:
        """The name of what ``matmat`` would use for points of these shapes, dtypes and device and so many
        columns, or None where it has nothing to offer and the blocks of ``__call__`` should be multiplied.
        May raise where a path that was asked for is not there."""
        return None

    def matmat(self, x1: Array, x2: Array, V: Array, params: Any) -> Array:
        """``K V`` for ``K = fn(x1, x2)``, x1 (n, d), x2 (m, d), V (m, k) of their dtype or its complex
        counterpart: values only. The arrays must be left as they are."""
        raise NotImplementedError(f"{type(self).__name__} must define matmat(x1, x2, V, params)")

    def rmatmat(self, x1: Array, x2: Array, V: Array, params: Any) -> Array:
        """``K^T V``, V (n, k)."""
        if not self.symmetric:
            raise NotImplementedError(f"{type(self).__name__} must define rmatmat(x1, x2, V, params)")
        return self.matmat(x2, x1, V, params)

    def gradients(self, x1: Array, x2: Array, V: Array, G: Array, params: Any) -> Any:
        """The gradients of ``sum(G * (K V))``, all real, in x1, x2 and params (a tree like params, or None
        where that is None): values only. NotImplemented: those of the blocks are taken."""
        return NotImplemented

    def flops(self, d: int) -> float:
        """Arithmetic of one entry, for points of d coordinates."""
        return 3.0 * d + 20.0

    def footprint(self, d: int) -> float:
        """Numbers kept for one entry while a block of ``__call__`` is evaluated and differentiated, in units
        of a dozen: blocks are made smaller by it."""
        return 1.0


def refuse_arrays(fn: PairFunction) -> None:
    """TypeError where a function that is structure holds data."""
    for name, value in getattr(fn, "__dict__", {}).items():
        if backend_of_type(type(value)) is not None:
            raise TypeError(
                f"Kernel: {type(fn).__name__}.{name} is an array. A PairFunction holds settings only; arrays "
                "go into params=, where they take gradients."
            )


def path_of(K: Kernel, columns: int = 1) -> str | None:
    """The name of K's fused product, None where blocks are evaluated."""
    fn = K.fn
    if K.plain or not isinstance(fn, PairFunction) or K._concrete_backend().name == "abstract":
        return None
    if K.swapped and not fn.symmetric and type(fn).rmatmat is PairFunction.rmatmat:
        return None
    arrays = tree_leaves(K)
    if not K._concrete_backend().is_concrete(*arrays):
        return None
    if any(dtype_name(x.dtype) != K.entries for x in (K.x1, K._second)):
        return None
    return fn.path(K.x1, K._second, columns, K._parameters())


def fused(K: Kernel, X: Array) -> Array | None:
    """``K @ X``, (*batch, n, k), by the function's own product; None where it has none for these."""
    be = K._concrete_backend()
    if not be.is_concrete(X) or X.dtype != K.dtype and be.real_dtype(X.dtype) != K.dtype:
        return None
    xp = be.xp
    batch, lead = tuple(K.batch_shape), tuple(X.shape[:-2])
    if batch:
        if not math.prod(batch):
            return None
        if path_of(one_of(K, (0,) * len(batch)), X.shape[-1]) is None:
            return None
        shape = xp.broadcast_arrays(xp.empty((*batch, 0)), xp.empty((*lead, 0)))[0].shape[:-1]
        wide = xp.broadcast_to(X, (*shape, *X.shape[-2:]))
        extra = len(shape) - len(batch)
        found = [_product(one_of(K, i), _inner(xp, wide, extra, i)) for i in _places(batch)]
        out = xp.stack(found)  # (prod(batch), *shape[:extra], n, k)
        out = xp.reshape(out, (*batch, *out.shape[1:]))
        order = (*range(len(batch), len(batch) + extra), *range(len(batch)), len(shape), len(shape) + 1)
        return xp.permute_dims(out, order) if extra else out
    if path_of(K, X.shape[-1] * math.prod(lead)) is None:
        return None
    return _product(K, X)


def _places(batch: tuple[int, ...]) -> Any:
    import itertools

    return itertools.product(*map(range, batch))


def _inner(xp: Any, X: Array, extra: int, place: tuple[int, ...]) -> Array:
    """The right-hand sides of one member of the batch."""
    return X[(*(slice(None),) * extra, *place)]


def one_of(K: Kernel, place: tuple[int, ...]) -> Kernel:
    """One member of a batch of kernels."""

    def pick(x: Array | None) -> Array | None:
        if x is None or x.ndim == 2:
            return x
        own = place[len(place) - (x.ndim - 2) :]
        return x[tuple(0 if size == 1 else i for i, size in zip(own, x.shape[:-2], strict=True))]

    part: Kernel = K.replace(x1=pick(K.x1), x2=pick(K.x2), declared=frozenset())
    return part


def _product(K: Kernel, X: Array) -> Array:
    """``K @ X`` of an unbatched kernel, with derivatives. Several right-hand sides are columns of one."""
    be = K._concrete_backend()
    xp = be.xp
    if X.ndim > 2:
        lead, (m, k) = X.shape[:-2], X.shape[-2:]
        count = math.prod(lead)
        flat = xp.permute_dims(xp.reshape(X, (count, m, k)), (1, 0, 2))
        Y = _product(K, xp.reshape(flat, (m, count * k)))
        n = Y.shape[0]
        return xp.reshape(xp.permute_dims(xp.reshape(Y, (n, count, k)), (1, 0, 2)), (*lead, n, k))
    if not be.differentiating(*tree_leaves(K), X):
        return _values(K, X)
    moves = be.differentiating(*tree_leaves(K)), be.differentiating(X)
    plain = K.replace(plain=True, declared=frozenset())

    def run(A: Kernel, V: Array) -> Any:
        return (_values(A, V),), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> tuple[Array, ...]:
        A, V = inputs
        out = xp.zeros_like(outputs[0])
        if d.moves(0):
            out = out + d.product(0, V)
        if d.moves(1):
            out = out + A.replace(plain=False) @ d[1]
        return (out,)

    def cotangent(grads: Any, inputs: Any, outputs: Any) -> tuple[Any, ...]:
        A, V = inputs
        (G,) = grads
        of_kernel: Any = None
        if moves[0]:
            # what is to be differentiated again is made of products that can be
            again = be.differentiating(*tree_leaves(A), V, G) or be.is_complex(G) or be.is_complex(V)
            of_kernel = NotImplemented if again else _gradients(A, V, G)
            of_kernel = [(G, V)] if of_kernel is NotImplemented else of_kernel
        return of_kernel, A.replace(plain=False).H @ G if moves[1] else None

    return be.differentiable(run, tangent, plain, X, cotangent=cotangent)[0][0]


def _values(K: Kernel, X: Array) -> Array:
    be, x2 = K._concrete_backend(), K._second
    fn: Any = K.fn
    if K.conjugated:
        X = be.conj(X)
    times = fn.rmatmat if K.swapped else fn.matmat
    Y = times(K.x1, x2, X, K._parameters())
    want = (K.shape[-2], X.shape[-1])
    if tuple(Y.shape) != want:
        raise ShapeError(
            f"the product of {type(fn).__name__} has shape {tuple(Y.shape)} for points {tuple(K.x1.shape)} "
            f"and {tuple(x2.shape)} and {X.shape[-1]} columns; it must be {want}."
        )
    return be.conj(Y) if K.conjugated else Y


def _gradients(K: Kernel, V: Array, G: Array) -> Any:
    """One gradient for each array of K."""
    from .derivative import take_apart

    if K.swapped:  # <G, K^T V> = <V, K G>
        V, G = G, V
    fn: Any = K.fn
    found = fn.gradients(K.x1, K._second, V, G, K._parameters())
    if found is NotImplemented:
        return found
    first, second, params = found
    points = (first + second,) if K.x2 is None else (first, second)
    out = (*points, *(take_apart(params)[0] if K.params else ()))
    for x, g in zip(tree_leaves(K), out, strict=True):
        if tuple(x.shape) != tuple(g.shape):
            raise ShapeError(
                f"gradients of {type(K.fn).__name__}: one of shape {tuple(g.shape)} for an array of shape "
                f"{tuple(x.shape)}."
            )
    return out

"""``Jacobian``, ``Hessian``, ``GaussNewton`` and ``Fisher``: derivatives of functions, never formed.

A product costs about two to four evaluations of the function, by forward and reverse automatic
differentiation of PyTorch or JAX. Arguments and values of the function may be arrays of any shape, or nested
dicts, lists and tuples of arrays; they are strung together in the order of ``optree`` (dicts by sorted key),
each array in row-major order, and ``unravel`` takes a vector apart again.

The function is linearised anew at every product, because only then are derivatives through the point, jit and
changes of what the function reads correct; ``linearized()`` keeps a linearisation on request. The function is
part of the operator's structure: under ``jax.jit`` a new function object means a new compilation, and arrays
it closes over get gradients only as far as the library's own closures do; what should be data goes into
``x``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..backends import backend_of, backend_of_type, get_backend
from ..backends.base import Array, Backend, dtype_name
from ..cost import Cost
from ..errors import BackendError, DTypeError, ShapeError, UnknownNameError
from ..properties import PSD, Property, SelfAdjoint
from ..pytree import operator, register_pytrees, static
from .base import LinearOperator

__all__ = ["FIM", "Fisher", "GaussNewton", "Hessian", "Jacobian"]

COLUMNS = 64  # right-hand sides that are pushed through the function at a time


def take_apart(x: Any) -> tuple[tuple[Array, ...], Any]:
    """The arrays of x and how they are arranged (None for a single array)."""
    if backend_of_type(type(x)) is not None or isinstance(x, (int, float, complex)):
        return (_values(x),), None
    import optree

    register_pytrees()  # operators are trees too
    leaves, tree = optree.tree_flatten(x, namespace="cola_core")
    be = backend_of(*leaves) or get_backend("numpy")
    return tuple(be.as_value(leaf) for leaf in leaves), tree


def _values(x: Any) -> Array:
    return (backend_of_type(type(x)) or get_backend("numpy")).as_value(x)


def put_together(leaves: Any, tree: Any) -> Any:
    """The inverse of ``take_apart``."""
    return leaves[0] if tree is None else tree.unflatten(leaves)


def ravel(be: Backend, leaves: Any) -> Array:
    """Arrays strung together, in their common dtype."""
    flat = [be.xp.reshape(x, (-1,)) for x in leaves]
    if len(flat) == 1:
        return flat[0]
    if not flat:
        return be.zeros((0,), be.default_float)
    dtype = be.xp.result_type(*flat)
    return be.xp.concat([be.astype(x, dtype) for x in flat])


def unravel(be: Backend, v: Array, shapes: Any) -> list[Array]:
    """A vector cut into arrays of the given shapes; axes of v beyond the first stay behind."""
    out, at = [], 0
    for shape in shapes:
        size = math.prod(shape)
        out.append(be.xp.reshape(v[at : at + size], (*shape, *v.shape[1:])))
        at += size
    return out


def by_columns(be: Backend, f: Callable[[Array], Array], X: Array, rows: int, block: int) -> Array:
    """A function of vectors applied to the columns of (*batch, n, k), ``block`` of them at a time."""
    xp = be.xp
    batch, (n, k) = X.shape[:-2], X.shape[-2:]
    columns = xp.reshape(_swapped(X), (math.prod(batch) * k, n))
    count = columns.shape[0]
    if count == 1:
        Y = f(columns[0])[None]
    elif count == 0:
        Y = be.zeros((0, rows), X.dtype, be.device(X))
    else:
        many = be.vmap(f)
        pieces = [many(columns[i : i + block]) for i in range(0, count, block)]
        Y = pieces[0] if len(pieces) == 1 else xp.concat(pieces)
    return _swapped(xp.reshape(Y, (*batch, k, rows)))


def _swapped(X: Array) -> Array:
    return X.mT if hasattr(X, "mT") else X.swapaxes(-1, -2)


def by_parts(be: Backend, f: Callable[[Array], Array], X: Array) -> Array:
    """A real linear map of matrices applied to the real and imaginary parts at once."""
    if not be.is_complex(X):
        return f(X)
    k = X.shape[-1]
    Y = f(be.xp.concat([be.xp.real(X), be.xp.imag(X)], axis=-1))
    return Y[..., :k] + 1j * Y[..., k:]


@operator
class Jacobian(LinearOperator):
    """The m x n matrix of first derivatives of ``f`` at ``x``: n numbers in x, m in f(x).

    f: a differentiable function written with the operations of x's library (PyTorch or JAX; on NumPy products
    raise BackendError). x: an array or a tree of arrays. ``J @ v`` is a Jacobian-vector product, ``J.H @ u``
    a vector-Jacobian product; several columns are vectorised, ``block`` at a time. A complex x needs a
    complex differentiable f; a real x may have complex f(x). Products, ``to_dense`` and all questions are
    differentiable in x.

    >>> import cola_core as cola, numpy as np
    >>> J = cola.ops.Jacobian(lambda x: x[:2] * x[2], np.ones(3))
    >>> J.shape
    (2, 3)
    """

    f: Callable[[Any], Any] = static()
    xs: tuple[Array, ...]
    tree: Any = static(default=None)
    outs: tuple[tuple[int, ...], ...] = static(default=())
    outtree: Any = static(default=None)
    entries: str = static(default="float64")
    values: str = static(default="float64")
    block: int = static(default=COLUMNS)

    def __init__(
        self,
        f: Callable[[Any], Any],
        x: Any,
        *,
        block: int = COLUMNS,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if not callable(f):
            raise TypeError(f"{type(self).__name__}(f, x): f must be a function, got {type(f).__name__}.")
        if int(block) < 1:
            raise ShapeError(f"{type(self).__name__}: block must be at least 1, got {block}.")
        xs, tree = take_apart(x)
        for name, value in dict(f=f, xs=xs, tree=tree, block=int(block), declared=declared).items():
            object.__setattr__(self, name, value)
        self._look()
        self.__post_init__()

    def _look(self) -> None:
        """Find out what f returns."""
        be = backend_of(*self.xs) or get_backend("numpy")
        found: list[Any] = []

        def flat(*xs: Any) -> Any:
            leaves, tree = take_apart(self.f(put_together(xs, self.tree)))
            found.append(tree)
            return leaves

        leaves = be.result_like(flat, *self.xs)
        outs = tuple(tuple(map(int, y.shape)) for y in leaves)
        values = _common(be, leaves)
        if any(be.is_complex(x) for x in self.xs) and "complex" not in values and leaves:
            raise DTypeError(
                f"{type(self).__name__}: f maps complex numbers to {values} ones and so has no complex "
                "derivative. Write it as a function of the real and imaginary parts."
            )
        entries = _common(be, (*self.xs, *leaves))
        for name, value in dict(outs=outs, outtree=found[0], entries=entries, values=values).items():
            object.__setattr__(self, name, value)

    # -- vectors and trees -----------------------------------------------------------------------------------
    def ravel(self, x: Any) -> Array:
        """A tree like x as one vector."""
        return ravel(self._concrete_backend(), take_apart(x)[0])

    def unravel(self, v: Array) -> Any:
        """A vector of n numbers as a tree like x."""
        be = self._concrete_backend()
        return put_together(unravel(be, v, [x.shape for x in self.xs]), self.tree)

    def unravel_value(self, u: Array) -> Any:
        """A vector of m numbers as a tree like f(x)."""
        return put_together(unravel(self._concrete_backend(), u, self.outs), self.outtree)

    def _shape(self) -> tuple[int, ...]:
        return (sum(map(math.prod, self.outs)), sum(math.prod(x.shape) for x in self.xs))

    def _dtype(self) -> Any:
        return self.entries

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if backend == "abstract" or (dtype is None and backend is None):
            return self
        out = self.replace()
        out._look()
        return out

    # -- products --------------------------------------------------------------------------------------------
    def flat(self, *xs: Array) -> Array:
        """f as a function of the arrays of x with one vector as its value."""
        be = self._concrete_backend()
        return ravel(be, take_apart(self.f(put_together(xs, self.tree)))[0])

    def _real_point(self) -> bool:
        be = self._concrete_backend()
        return not any(be.is_complex(x) for x in self.xs)

    def _push(self, X: Array) -> Array:
        """J X for real X, or for any X where x is complex."""
        be = self._concrete_backend()
        shapes = [x.shape for x in self.xs]

        def one(v: Array) -> Array:
            vs = tuple(be.astype(p, x.dtype) for p, x in zip(unravel(be, v, shapes), self.xs, strict=True))
            return be.jvp(self.flat, self.xs, vs)[1]  # type: ignore[no-any-return]

        return self._as_wide(by_columns(be, one, X, self.shape[0], self.block), X)

    def _pull(self, U: Array) -> Array:
        """J^H U, of which only the real part comes out where x is real."""
        be = self._concrete_backend()
        _, pull = be.vjp(self.flat, *self.xs)

        def one(u: Array) -> Array:
            return ravel(be, pull(be.astype(u, self.values)))

        return self._as_wide(by_columns(be, one, U, self.shape[1], self.block), U)

    def _as_wide(self, Y: Array, X: Array) -> Array:
        """f is evaluated in the precision of x; products have that of the wider factor."""
        be = self._concrete_backend()
        wide = be.xp.result_type(Y.dtype, be.real_dtype(X.dtype))
        return Y if wide == Y.dtype else be.astype(Y, wide)

    def _planned(self, X: Array, rows: int) -> Array:
        be = self._concrete_backend()
        return be.zeros((*X.shape[:-2], rows, X.shape[-1]), be.xp.result_type(X.dtype, self.dtype))

    def _matmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "abstract":
            return self._planned(X, self.shape[0])
        self._demand(be)
        return by_parts(be, self._push, X) if self._real_point() else self._push(X)

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        if be.name == "abstract":
            return self._planned(X, self.shape[1])
        self._demand(be)
        if not self._real_point():
            return self._pull(X)
        if "complex" not in self.values:
            return by_parts(be, self._pull, X)
        k = X.shape[-1]  # z = Re z + i Re(-i z)
        Y = self._pull(be.xp.concat([X + 0j, -1j * X], axis=-1))
        return Y[..., :k] + 1j * Y[..., k:]

    def _demand(self, be: Backend) -> None:
        if be.name == "numpy":
            raise BackendError(f"{self!r} @ X: {be._no_derivatives('Jacobian-vector products')}")

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        m, n = self.shape
        if m >= n:
            return self._matmat(be.eye(n, self.dtype, self.device))
        return be.adjoint(self._rmatmat(be.eye(m, self.dtype, self.device)))

    def linearized(self) -> LinearOperator:
        """The same matrix with the linearisation kept: each product costs one instead of two evaluations of f
        and memory for f's intermediate results. It is a snapshot: not differentiable in x, not a pytree of x.
        """
        from .function import FunctionOperator

        be = self._concrete_backend()
        self._demand(be)
        if not self._real_point() or "complex" in self.values:
            raise DTypeError(f"{self!r}.linearized() is for real functions; its entries are {self.entries}.")
        shapes = [x.shape for x in self.xs]
        push = be.linearize(self.flat, *self.xs)
        _, pull = be.vjp(self.flat, *self.xs)

        def forward(v: Array) -> Array:
            return push(
                *(be.astype(p, x.dtype) for p, x in zip(unravel(be, v, shapes), self.xs, strict=True))
            )

        def backward(u: Array) -> Array:
            return ravel(be, pull(be.astype(u, self.values)))

        return FunctionOperator(
            forward, self.shape, self.entries, rmatvec=backward, backend=be.name, declared=self.properties
        )

    def _matvec_cost(self) -> Cost:
        # what f costs is not known: as much as a dense product, twice
        m, n = self.shape
        return Cost(4.0 * m * n, 2 * self.itemsize * (m * n + m + n), 2 * self.itemsize * (m + n), 1, 4)


def _common(be: Backend, arrays: Any) -> str:
    dtypes = [x.dtype for x in arrays]
    return dtype_name(be.xp.result_type(*dtypes)) if dtypes else be.default_float


@operator
class Hessian(Jacobian):
    """The n x n matrix of second derivatives of a scalar function ``f`` at ``x``: forward over reverse.

    Self-adjoint where x is real (PSD is not assumed: declare it with ``PSD(Hessian(f, x))`` where f is
    convex); complex symmetric for a complex differentiable f of complex x.
    """

    def _look(self) -> None:
        super()._look()
        if sum(map(math.prod, self.outs)) != 1:
            raise ShapeError(
                f"{type(self).__name__}(f, x) needs a function with one number as its value; f(x) has "
                f"shape{'s' if len(self.outs) != 1 else ''} {', '.join(map(str, self.outs))}. "
                "Use Jacobian(f, x), or sum over f."
            )
        if "complex" in self.values and self._real_point():
            raise DTypeError(
                f"{type(self).__name__}: f maps real numbers to complex ones; take its real or "
                "imaginary part."
            )

    def _shape(self) -> tuple[int, ...]:
        n = sum(math.prod(x.shape) for x in self.xs)
        return (n, n)

    def _properties(self) -> frozenset[Property]:
        return frozenset() if "complex" in self.entries else frozenset({SelfAdjoint})

    def flat(self, *xs: Array) -> Array:
        """The gradient of f as a vector."""
        be = self._concrete_backend()
        value, pull = be.vjp(super().flat, *xs)
        one = be.xp.ones_like(value)
        return be.conj(ravel(be, pull(one)))

    def _rmatmat(self, X: Array) -> Array:
        be = self._concrete_backend()
        return be.conj(self._matmat(be.conj(X)))  # symmetric, also where it is complex

    def _transpose(self) -> LinearOperator:
        return self

    def _to_dense(self) -> Array:
        be = self._concrete_backend()
        return self._matmat(be.eye(self.shape[-1], self.dtype, self.device))

    def linearized(self) -> LinearOperator:
        """The same matrix with the linearisation of the gradient kept; see ``Jacobian.linearized``."""
        from .function import FunctionOperator

        be = self._concrete_backend()
        self._demand(be)
        if "complex" in self.entries:
            raise DTypeError(f"{self!r}.linearized() is for real functions; its entries are {self.entries}.")
        shapes = [x.shape for x in self.xs]
        push = be.linearize(self.flat, *self.xs)

        def forward(v: Array) -> Array:
            return push(
                *(be.astype(p, x.dtype) for p, x in zip(unravel(be, v, shapes), self.xs, strict=True))
            )

        return FunctionOperator(
            forward, self.shape, self.entries, rmatvec=forward, backend=be.name, declared=self.properties
        )

    def _matvec_cost(self) -> Cost:
        n = self.shape[-1]
        return Cost(8.0 * n * n, 2 * self.itemsize * (n * n + 2 * n), 4 * self.itemsize * n, 1, 8)


@operator
class GaussNewton(LinearOperator):
    """``J^H H J``: the Jacobian of the model ``f`` at x around the Hessian of the loss at ``f(x)``.

    loss: a function of f(x), or of (f(x), y) where y is given (an array, or a tree of arrays), with one real
    number as its value; without it ``|f(x) - y|^2 / 2`` is meant, whose Hessian is the identity, and the
    operator is PSD. With a loss it is self-adjoint; declare ``PSD(...)`` where the loss is convex. A product
    costs a Jacobian-vector product, one of the loss's Hessian and a vector-Jacobian product.
    """

    J: Jacobian
    ys: tuple[Array, ...] = ()
    ytree: Any = static(default=None)
    loss: Callable[..., Any] | None = static(default=None)

    def __init__(
        self,
        f: Callable[[Any], Any],
        x: Any,
        loss: Callable[..., Any] | None = None,
        y: Any = None,
        *,
        block: int = COLUMNS,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        ys, ytree = ((), None) if y is None else _data(y)
        J = Jacobian(f, x, block=block)
        for name, value in dict(J=J, ys=ys, ytree=ytree, loss=loss, declared=declared).items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _check(self) -> None:
        if self.loss is not None and "complex" in self.J.entries:
            raise DTypeError(f"{self!r}: a loss needs a real model; the Jacobian's entries are complex.")

    def ravel(self, x: Any) -> Array:
        """A tree like x as one vector."""
        return self.J.ravel(x)

    def unravel(self, v: Array) -> Any:
        """A vector of n numbers as a tree like x."""
        return self.J.unravel(v)

    def _shape(self) -> tuple[int, ...]:
        return (self.J.shape[-1], self.J.shape[-1])

    def _dtype(self) -> Any:
        return self.J._dtype()

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD if self.loss is None else SelfAdjoint})

    def _loss(self, z: Array) -> Array:
        """The loss as a function of the vector of f(x)."""
        be = self._concrete_backend()
        value = self.J.unravel_value(z)
        args = (value,) if not self.ys else (value, put_together(self.ys, self.ytree))
        out = be.asarray(self.loss(*args))  # type: ignore[misc]
        if tuple(out.shape) not in ((), (1,)):
            raise ShapeError(
                f"the loss of {self!r} must return one number, it returned shape {tuple(out.shape)}."
            )
        return be.xp.reshape(out, ())

    def _curved(self, Z: Array) -> Array:
        """The Hessian of the loss at f(x), times Z."""
        be = self._concrete_backend()
        if self.loss is None:
            return Z
        value = self.J.flat(*self.J.xs)

        def gradient(z: Array) -> Array:
            out, pull = be.vjp(self._loss, z)
            return pull(be.xp.ones_like(out))[0]

        def one(t: Array) -> Array:
            return be.jvp(gradient, (value,), (be.astype(t, value.dtype),))[1]  # type: ignore[no-any-return]

        return by_parts(be, lambda T: by_columns(be, one, T, T.shape[-2], self.J.block), Z)

    def _matmat(self, X: Array) -> Array:
        if self._concrete_backend().name == "abstract":
            return self.J._planned(X, self.shape[0])
        return self.J._rmatmat(self._curved(self.J._matmat(X)))

    def _rmatmat(self, X: Array) -> Array:
        return self._matmat(X)

    def _adjoint(self) -> LinearOperator:
        return self

    def _matvec_cost(self) -> Cost:
        return self.J.matvec_cost + self.J.matvec_cost

    def _short(self) -> str:
        n = self.shape[-1]
        return f"{type(self).__name__}[{n}x{n}]"


def _data(y: Any) -> tuple[tuple[Array, ...], Any]:
    """Arrays of a tree as they are: labels stay integers."""
    if backend_of_type(type(y)) is not None:
        return (y,), None
    import optree

    leaves, tree = optree.tree_flatten(y, namespace="cola_core")
    return tuple(leaves), tree


LIKELIHOODS = ("categorical", "bernoulli", "gaussian", "poisson")


@operator
class Fisher(GaussNewton):
    """Fisher information ``mean_i J_i^H F_i J_i`` of a model with parameters theta, averaged over the data.

    logits_fn: theta -> natural parameters of the likelihood of every datum; the data are the first axis (for
    "categorical" all axes but the last, which runs over the classes), and ``mean=False`` sums over them.
    likelihood: "categorical" (logits; F = diag(p) - p p^T with p = softmax), "bernoulli" (logits;
    F = p (1 - p)), "poisson" (log rates; F = rate), "gaussian" (means, unit variance; F = 1), or a function:
    the log partition function of an exponential family, summed over the data, whose Hessian F is. PSD. These
    are the generalised Gauss-Newton matrices of the negative log-likelihoods (Martens 2020, sec. 9).
    """

    likelihood: Any = static(default="categorical")
    mean: bool = static(default=True)

    def __init__(
        self,
        logits_fn: Callable[[Any], Any],
        theta: Any,
        likelihood: Any = "categorical",
        *,
        mean: bool = True,
        block: int = COLUMNS,
        declared: frozenset[Property] = frozenset(),
    ) -> None:
        if not callable(likelihood) and likelihood not in LIKELIHOODS:
            raise UnknownNameError(
                f"Fisher: likelihood={likelihood!r} is not known; known are {', '.join(LIKELIHOODS)}, or a "
                "log partition function."
            )
        object.__setattr__(self, "likelihood", likelihood)
        object.__setattr__(self, "mean", bool(mean))
        loss = likelihood if callable(likelihood) else None
        super().__init__(logits_fn, theta, loss, block=block, declared=declared)

    def _check(self) -> None:
        if "complex" in self.J.entries:
            raise DTypeError(f"{self!r}: a likelihood needs real parameters; the Jacobian's are complex.")
        if len(self.J.outs) != 1:
            raise ShapeError(
                f"Fisher: logits_fn must return one array, it returned {len(self.J.outs)} of shapes "
                f"{self.J.outs}."
            )
        if self.likelihood == "categorical" and not self.J.outs[0]:
            raise ShapeError(
                "Fisher: categorical logits need an axis of classes; logits_fn returned one number. Did you "
                'mean likelihood="bernoulli"?'
            )

    @property
    def count(self) -> int:
        """Number of data."""
        shape = self.J.outs[0]
        return math.prod(shape[:-1]) if self.likelihood == "categorical" else (shape[0] if shape else 1)

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD})

    def _curved(self, Z: Array) -> Array:
        be = self._concrete_backend()
        xp = be.xp
        if callable(self.likelihood):
            out = super()._curved(Z)
        elif self.likelihood == "gaussian":
            out = Z
        else:
            value = self.J.flat(*self.J.xs)
            if self.likelihood == "categorical":
                classes = self.J.outs[0][-1]
                p = _softmax(xp, xp.reshape(value, (self.count, classes)))[..., None]
                T = xp.reshape(Z, (*Z.shape[:-2], self.count, classes, Z.shape[-1]))
                T = p * T
                out = xp.reshape(T - p * xp.sum(T, axis=-2, keepdims=True), Z.shape)
            elif self.likelihood == "bernoulli":
                e = xp.exp(-xp.abs(value))
                out = (e / (1 + e) ** 2)[:, None] * Z
            else:
                out = xp.exp(value)[:, None] * Z
        return out / max(self.count, 1) if self.mean else out


def _softmax(xp: Any, z: Array) -> Array:
    e = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def FIM(logits_fn: Callable[[Any], Any], theta: Any) -> Fisher:
    """``Fisher(logits_fn, theta)`` of a classifier, under the name of the CoLA package."""
    return Fisher(logits_fn, theta)

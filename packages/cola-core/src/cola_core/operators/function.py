"""``FunctionOperator``: a matrix given only by a function that multiplies it with vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends import get_backend
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..errors import ShapeError
from ..pytree import operator, static
from .base import LinearOperator

__all__ = ["FunctionOperator"]


@operator
class FunctionOperator(LinearOperator):
    """``A @ x = matvec(x)`` for x of shape (n,).

    matmat takes (n, k) at once (much faster where it exists); without it columns are vmapped (JAX, torch) or
    looped (NumPy); vectorized=True says that matvec and rmatvec take both. The adjoint is
    ``rmatvec``/``rmatmat`` if given, derived by automatic differentiation on JAX and torch, and an error on
    NumPy. Functions must not close over arrays that need gradients: give those as a custom operator.
    """

    matvec: Callable[[Array], Array] | None = static()  # type: ignore[assignment]
    size: tuple[int, int] = static()
    entries: str = static(default="float64")
    rmatvec: Callable[[Array], Array] | None = static(default=None)  # type: ignore[assignment]
    matmat: Callable[[Array], Array] | None = static(default=None)  # type: ignore[assignment]
    rmatmat: Callable[[Array], Array] | None = static(default=None)  # type: ignore[assignment]
    library: str = static(default="numpy")

    def __init__(
        self,
        matvec: Callable[[Array], Array] | None,
        shape: tuple[int, int],
        dtype: Any = "float64",
        *,
        rmatvec: Callable[[Array], Array] | None = None,
        matmat: Callable[[Array], Array] | None = None,
        rmatmat: Callable[[Array], Array] | None = None,
        vectorized: bool = False,
        backend: str = "numpy",
        declared: frozenset[Any] = frozenset(),
    ) -> None:
        if vectorized:
            matmat, rmatmat = matmat or matvec, rmatmat or rmatvec
        if matvec is None and matmat is None:
            raise ShapeError("FunctionOperator needs matvec or matmat.")
        if len(shape) != 2:
            raise ShapeError(f"FunctionOperator needs a shape (m, n), got {shape}.")
        values = dict(
            matvec=matvec,
            size=(int(shape[0]), int(shape[1])),
            entries=dtype_name(dtype),
            rmatvec=rmatvec,
            matmat=matmat,
            rmatmat=rmatmat,
            library=backend,
            declared=declared,
        )
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    @property
    def backend(self) -> Any:  # type: ignore[override]
        return get_backend(self.library)

    def _shape(self) -> tuple[int, ...]:
        return self.size

    def _dtype(self) -> Any:
        return self.entries

    def _restatic(self, dtype: Any, backend: str | None) -> LinearOperator:
        if backend == "abstract":  # planning: only the shape is needed
            return self.replace(library=backend)
        if backend is not None and backend != self.library:
            raise ShapeError(f"{self!r} is a {self.library} function and cannot be moved to {backend}.")
        if dtype is None or dtype_name(dtype) == self.entries:
            return self
        return self.replace(entries=dtype_name(dtype))

    def _columns(self, f: Callable[[Array], Array], X: Array, rows: int) -> Array:
        """Apply a function of vectors to every column of (*batch, n, k), and check what it returns."""
        be = self.backend
        xp = be.xp
        batch, (n, k) = X.shape[:-2], X.shape[-2:]
        if be.name == "abstract":
            return be.zeros((*batch, rows, k), self.dtype)
        columns = xp.reshape(X.mT if hasattr(X, "mT") else X.swapaxes(-1, -2), (-1, n))
        if be.name == "numpy" or columns.shape[0] <= 1:
            out = [f(columns[i]) for i in range(columns.shape[0])]
            for y in out:
                if getattr(y, "shape", None) != (rows,):
                    raise ShapeError(
                        f"the function of {self!r} returned shape {getattr(y, 'shape', type(y).__name__)} "
                        f"for a vector of {n}; it must return ({rows},)."
                    )
            Y = xp.stack(out) if out else be.zeros((0, rows), self.dtype)
        else:
            Y = _vmap(be.name)(f)(columns)
        if tuple(Y.shape) != (columns.shape[0], rows):
            self._reject_result(tuple(Y.shape[1:]), f"a vector of {n}", f"({rows},)")
        Y = xp.reshape(Y, (*batch, k, rows))
        return Y.mT if hasattr(Y, "mT") else Y.swapaxes(-1, -2)

    def _matmat(self, X: Array) -> Array:
        if self.library == "abstract" or (self.matvec is not None and (self.matmat is None or X.ndim > 2)):
            return self._columns(self.matvec, X, self.size[0])  # type: ignore[arg-type]
        return self._fold(self.matmat, X, self.size[0])

    def _reject_result(self, got: Any, given: str, wanted: str) -> None:
        raise ShapeError(
            f"the function of {self!r} returned shape {got} for {given}; it must return {wanted}."
        )

    def _fold(self, f: Any, X: Array, rows: int) -> Array:
        """A function of (n, k) applied to a batch: batches become columns."""
        if X.ndim == 2:
            Y = f(X)
            if tuple(getattr(Y, "shape", ())) != (rows, X.shape[1]):
                got = getattr(Y, "shape", type(Y).__name__)
                self._reject_result(got, f"an array {tuple(X.shape)}", f"{(rows, X.shape[1])}")
            return Y
        xp, batch, (n, k) = self.backend.xp, X.shape[:-2], X.shape[-2:]
        folded = xp.reshape(xp.moveaxis(xp.reshape(X, (-1, n, k)), 0, 1), (n, -1))
        Y = self._fold(f, folded, rows)
        return xp.reshape(xp.moveaxis(xp.reshape(Y, (Y.shape[0], -1, k)), 1, 0), (*batch, Y.shape[0], k))

    def _matvec_cost(self) -> Cost:
        """Not known: taken to be as far below a dense product as above a look at the vector."""
        m, n = self.shape[-2:]
        entries = float(m * n) ** 0.5 * max(m, n) ** 0.5
        return Cost(2.0 * entries, self.itemsize * (entries + m + n), self.itemsize * (m + n), 1, 2)

    def matmat_cost(self, k: float) -> Cost:
        """k products: a function of several columns at once saves calls."""
        one = self._matvec_cost()
        calls = one.calls * (k if self.matmat is None else 1)
        return Cost(one.flops * k, one.bytes * k, one.memory * k, k, calls)

    def _matvec(self, x: Array) -> Array:
        if self.matvec is None or self.library == "abstract":
            return self._matmat(x[:, None])[..., 0]
        y = self.matvec(x)
        if getattr(y, "shape", None) != (self.size[0],):
            raise ShapeError(
                f"the function of {self!r} returned shape {getattr(y, 'shape', type(y).__name__)} for a "
                f"vector of {self.size[1]}; it must return ({self.size[0]},)."
            )
        return y

    def _demand_adjoint(self) -> None:
        if self.library == "numpy" and self.rmatvec is None and self.rmatmat is None:
            raise NotImplementedError(
                f"{self!r} has no adjoint product: NumPy cannot derive it from matvec. Give rmatvec= (or "
                "rmatmat=), or declare SelfAdjoint(A) if it is."
            )

    def _adjoint(self) -> LinearOperator:
        self._demand_adjoint()
        return super()._adjoint()

    def _rmatmat(self, X: Array) -> Array:
        if self.library == "abstract":
            return self._columns(self.rmatvec, X, self.size[1])  # type: ignore[arg-type]
        if self.rmatmat is not None:
            return self._fold(self.rmatmat, X, self.size[1])
        if self.rmatvec is not None:
            return self._columns(self.rmatvec, X, self.size[1])
        from ..properties import SelfAdjoint

        if SelfAdjoint in self.properties:
            return self._matmat(X)
        self._demand_adjoint()
        return self._columns(_derived_adjoint(self), X, self.size[1])


def _vmap(name: str) -> Any:
    if name == "jax":
        import jax

        return jax.vmap
    import torch

    return torch.func.vmap


def _derived_adjoint(A: FunctionOperator) -> Callable[[Array], Array]:
    """x -> A^H x through the vector-Jacobian product of a linear map."""
    one = A.matvec if A.matvec is not None else lambda x: A._matmat(x[:, None])[..., 0]
    be = A.backend
    zero = be.zeros((A.size[1],), A.dtype)
    if be.name == "jax":
        import jax

        return lambda y: be.conj(jax.vjp(one, zero)[1](be.conj(y))[0])
    import torch

    # torch's vjp already conjugates (it pulls back with A^H)
    return lambda y: torch.func.vjp(one, zero)[1](y)[0]

"""Slices and permutations of rows that are spread: any row may go to any device.

A product gathers the vector, asks the operator inside (which is spread as its class is), and cuts its rows
from the gathered result; it lies in rows again, like the vector.
"""

from __future__ import annotations

from typing import Any

from cola_core import ops
from cola_core.ops import static

from .placing import OnDevices, laid, pieces, row_spec, whole
from .table import Layout, sharder

__all__ = ["SpreadPermutation", "SpreadSliced"]


class _Gathering(OnDevices):
    """Products of the next parent, between vectors that lie in rows."""

    mesh: Any
    axes: tuple[str, ...]

    def _on_devices(self: Any, X: Any, adjoint: bool) -> Any:
        p = pieces(self.mesh, self.axes)
        if X.shape[-2] and X.shape[-2] % p == 0:  # so that its gradient, too, lies in rows
            X = laid(X, self.mesh, self.axes, row_spec(X.ndim, self.axes))
        Y = self._plainly(whole(X, self.mesh, self.axes), adjoint)
        if not Y.shape[-2] or Y.shape[-2] % p:
            return whole(Y, self.mesh, self.axes)
        return laid(Y, self.mesh, self.axes, row_spec(Y.ndim, self.axes))


@ops.operator
class SpreadSliced(_Gathering, ops.Sliced):
    """``Sliced`` of an operator that is spread over axes of a mesh."""

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _check(self) -> None:
        """The selection is that of a ``Sliced`` that was checked."""

    def _of(self, A: Any, flipped: bool = False) -> Any:
        rows, cols = (self.cols, self.rows) if flipped else (self.rows, self.cols)
        return self.replace(A=A, rows=rows, cols=cols, declared=frozenset())

    def _adjoint(self) -> Any:
        return self._of(self.A.H, flipped=True)

    def _transpose(self) -> Any:
        return self._of(self.A.T, flipped=True)

    def _conj(self) -> Any:
        return self._of(self.A.conj())

    def _part(self, imaginary: bool) -> Any:
        return self._of(self.A.imag if imaginary else self.A.real)

    def _unspread(self) -> Any:
        return ops.Sliced(self.A, self.rows, self.cols, self.same, declared=self.declared)

    def _sent(self, columns: float) -> float:
        p, (m, n) = pieces(self.mesh, self.axes), self.shape[-2:]
        both = self.itemsize * columns * (m + n) * (p - 1) / p
        return both + self.A._sent(columns)


@ops.operator
class SpreadPermutation(_Gathering, ops.Permutation):
    """``Permutation`` of vectors that are spread over axes of a mesh; every device has the positions."""

    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    __init__ = ops.Permutation.__init__

    def _compose(self, other: Any) -> Any:
        if isinstance(other, SpreadPermutation) and (self.mesh, self.axes) == (other.mesh, other.axes):
            return self.replace(perm=other.perm[self.perm], entries=self.entries or other.entries)
        return NotImplemented

    def _unspread(self) -> Any:
        return ops.Permutation(self.perm, self.entries, declared=self.declared)

    def _sent(self, columns: float) -> float:
        p = pieces(self.mesh, self.axes)
        return 2 * self.itemsize * columns * self.shape[-1] * (p - 1) / p


@sharder(ops.Sliced)
def sliced(A: Any, layout: Layout) -> Any:
    """What is sliced by its own class; every device has the positions."""
    part = layout.part(A.A, "A")
    chosen: Any = [
        None if x is None else layout.keep(x, name, "positions may point to rows of any device")
        for name, x in (("rows", A.rows), ("cols", A.cols))
    ]
    rows, cols = chosen
    return SpreadSliced(part, rows, cols, A.same, layout.mesh, layout.axes, declared=A.declared)


@sharder(ops.Permutation)
def permutation(A: Any, layout: Layout) -> Any:
    """Every device has the positions."""
    known = {"declared": A.declared, "entries": A.entries, "mesh": layout.mesh, "axes": layout.axes}
    perm = layout.keep(A.perm, "perm", "positions may point to rows of any device")
    return ops.unflatten(
        SpreadPermutation, tuple(known[name] for name in SpreadPermutation._static_fields), (perm,)
    )

"""``Padded``: an operator of any size as the corner of one whose size the number of devices divides.

JAX spreads an array only over a number of devices that divides its length. A matrix of another size is
extended (by rows of zeros, or by points of a kernel) and spread; products extend the vector by zeros and cut
the result. The vectors themselves, of a length that cannot be spread, lie whole on every device: a product
gathers its result (one all-gather of m numbers).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from cola_core import ops
from cola_core.cost import Cost
from cola_core.linalg import diag, trace
from cola_core.ops import static
from cola_core.plugins import Registrar, RuleBook

from .placing import OnDevices, pieces, whole

__all__ = ["Padded", "beginning", "up_to"]


def up_to(length: int, pieces: int) -> int:
    """The least multiple of ``pieces`` that is not below ``length``."""
    return -(-length // pieces) * pieces


def beginning(x: Any, rows: int) -> Any:
    """The first rows of an array that is spread, put together on the host."""
    return jnp.asarray(np.asarray(x)[..., :rows, :])


@ops.operator
class Padded(OnDevices, ops.LinearOperator):
    """The first m rows and n columns of ``A``, which is spread over a mesh.

    size: (m, n). Declared properties are those of the corner; nothing is declared of A.
    """

    A: ops.LinearOperator
    size: tuple[int, int] = static(default=(0, 0))
    mesh: Any = static(default=None)
    axes: tuple[str, ...] = static(default=())

    def _shape(self) -> tuple[int, ...]:
        return (*self.A.shape[:-2], *self.size)

    def _unspread(self) -> Any:
        return ops.Dense(beginning(self.A.array, self.size[0]), declared=self.declared)  # type: ignore[attr-defined]

    def _on_devices(self, X: Any, adjoint: bool) -> Any:
        length = self.A.shape[-2] if adjoint else self.A.shape[-1]
        kept = self.size[1] if adjoint else self.size[0]
        X = whole(X, self.mesh, self.axes)
        X = jnp.pad(X, [(0, 0)] * (X.ndim - 2) + [(0, length - X.shape[-2]), (0, 0)])
        Y = self.A._rmatmat(X) if adjoint else self.A._matmat(X)
        return whole(Y, self.mesh, self.axes)[..., :kept, :]

    def _sent(self, columns: float) -> float:
        p = pieces(self.mesh, self.axes)
        return self.A._sent(columns) + self.itemsize * columns * self.size[0] * (p - 1) / p

    def _plainly(self, X: Any, adjoint: bool) -> Any:
        be = self._concrete_backend()
        length = self.A.shape[-2] if adjoint else self.A.shape[-1]
        more = be.zeros((*X.shape[:-2], length - X.shape[-2], X.shape[-1]), X.dtype, be.device(X))
        X = be.xp.concat([X, more], axis=-2)
        Y = self.A._rmatmat(X) if adjoint else self.A._matmat(X)
        return Y[..., : (self.size[1] if adjoint else self.size[0]), :]

    def _adjoint(self) -> Any:
        return self.replace(A=self.A.H, size=self.size[::-1], declared=frozenset())

    def _transpose(self) -> Any:
        return self.replace(A=self.A.T, size=self.size[::-1], declared=frozenset())

    def _conj(self) -> Any:
        return self.replace(A=self.A.conj(), declared=frozenset())

    def _part(self, imaginary: bool) -> Any:
        return self.replace(A=self.A.imag if imaginary else self.A.real, declared=frozenset())

    def _to_dense(self) -> Any:
        array = self.A._to_dense()
        if self._concrete_backend().name == "jax":
            array = whole(array, self.mesh, self.axes)
        return array[..., : self.size[0], : self.size[1]]

    def _matvec_cost(self) -> Cost:
        return self.A.matvec_cost

    def matmat_cost(self, k: float) -> Cost:
        """That of the extended operator."""
        return self.A.matmat_cost(k)

    def _dense_cost(self) -> Cost:
        return self.A.dense_cost


RULES = RuleBook()


@RULES.rule(diag, (Padded,), id="diag/padded", source="a corner's diagonal", complexity="that of A")
def diag_padded(A: Any, k: int, *, alg: Any) -> Any:
    """The beginning of the diagonal of what was extended."""
    m, n = A.size
    length = max(min(m, n - k) if k >= 0 else min(m + k, n), 0)
    return A._concrete_backend().gather(diag(A.A, k, alg))[..., :length]


@RULES.rule(trace, (Padded,), id="trace/padded", source="sum of the diagonal", complexity="that of diag")
def trace_padded(A: Any, *, alg: Any) -> Any:
    """What was added counts for nothing."""
    return A.xp.sum(diag(A, 0, alg), axis=-1)


# here and not with the plugin, which must not import JAX; there are no such operators before this is imported
_REGISTRAR = Registrar("gpu-sharding")
_REGISTRAR.include(RULES)
_REGISTRAR.commit()

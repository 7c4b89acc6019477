"""``AMG``: a cycle of algebraic multigrid by smoothed aggregation, from pyamg.

Vanek, Mandel & Brezina, Computing 56 (1996) 179; pyamg: Bell, Olson & Schroder, JOSS 7 (2022)
4142. For matrices of elliptic problems the number of steps does not grow with the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.base import Array
from ..cost import Cost
from ..operators import Identity, LinearOperator
from ..properties import PSD, Property
from ..pytree import operator, static
from .base import Preconditioner, on_host
from .sparse_entries import sparse_entries

__all__ = ["AMG", "MultigridCycle"]


@dataclass(frozen=True)
class AMG(Preconditioner):
    """One multigrid cycle for a sparse A, with pyamg (``pip install cola-core[amg]``).

    candidates: near-kernel vectors (n, k), such as the rigid motions of elasticity; default: constants.
    cycle: "V", "W" or "F". method: "smoothed_aggregation" or "ruge_stuben". options: further settings of
    pyamg's solver as (name, value) pairs. The set-up costs about ten to twenty products with A and each
    cycle about five. Arrays of PyTorch are copied to the host in each product.
    """

    candidates: Any = None
    cycle: str = "V"
    method: str = "smoothed_aggregation"
    options: tuple[tuple[str, Any], ...] = ()

    def build(self, A: LinearOperator) -> LinearOperator:
        from ..errors import SingularMatrixError, UnknownNameError

        on_host(A, "AMG")
        try:
            import pyamg
        except ImportError:
            raise ImportError(
                'AMG() needs pyamg: pip install "cola-core[amg]". Without it, IncompleteCholesky() and '
                "IncompleteLU() precondition sparse systems."
            ) from None
        if self.method not in ("smoothed_aggregation", "ruge_stuben"):
            raise UnknownNameError(
                f'AMG(method={self.method!r}); choose "smoothed_aggregation" or "ruge_stuben".'
            )
        if self.cycle not in ("V", "W", "F"):
            raise UnknownNameError(f'AMG(cycle={self.cycle!r}); choose "V", "W" or "F".')
        if not A.shape[-1]:
            return Identity.like(A)
        from scipy.sparse import csr_matrix

        S = csr_matrix(sparse_entries(A, "AMG"))
        S.indptr, S.indices = S.indptr.astype(np.int32), S.indices.astype(np.int32)
        if (S.diagonal() == 0).any():
            raise SingularMatrixError(f"AMG: {A!r} has a zero on its diagonal, which smoothing divides by.")
        more = dict(self.options)
        if self.method == "smoothed_aggregation":
            more.setdefault("symmetry", "hermitian" if A.isa(PSD) else "nonsymmetric")
            if self.candidates is not None:
                be = A._concrete_backend()
                B = be.to_numpy(be.asarray(self.candidates))
                more["B"] = B[:, None] if B.ndim == 1 else B
            levels = pyamg.smoothed_aggregation_solver(S, **more)
        else:
            levels = pyamg.ruge_stuben_solver(S, **more)
        return MultigridCycle(A, _Levels(levels, self.cycle))


class _Levels:
    """pyamg's hierarchy; equal to itself only, so that it can be part of an operator's structure."""

    def __init__(self, levels: Any, cycle: str) -> None:
        self.levels, self.cycle = levels, cycle

    def __call__(self, X: Any) -> Any:
        apply = self.levels.aspreconditioner(cycle=self.cycle).matvec
        dtype = self.levels.levels[0].A.dtype
        columns = X.reshape(-1, X.shape[-2], X.shape[-1])
        out = np.empty(columns.shape, np.result_type(dtype, X.dtype))
        for i, block in enumerate(columns):
            for j in range(block.shape[1]):
                out[i, :, j] = apply(np.ascontiguousarray(block[:, j]).astype(out.dtype, copy=False))
        return out.reshape(X.shape)


@operator
class MultigridCycle(LinearOperator):
    """One cycle on a zero first guess, as an operator close to ``A^{-1}``; made by ``AMG``."""

    A: LinearOperator
    levels: Any = static()

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _properties(self) -> frozenset[Property]:
        return frozenset({PSD}) if self.A.isa(PSD) else frozenset()

    def _matmat(self, X: Array) -> Array:
        be = self.A._concrete_backend()
        return be.asarray(self.levels(be.to_numpy(X)), X.dtype, be.device(X))

    def _adjoint(self) -> LinearOperator:
        raise NotImplementedError(
            "a multigrid cycle of an operator that is not declared PSD has no adjoint here; "
            "use IncompleteLU()."
        )

    _transpose = _adjoint

    def _conj(self) -> LinearOperator:
        raise NotImplementedError("the complex conjugate of a multigrid cycle is not offered.")

    def _matvec_cost(self) -> Cost:
        one = self.A.matvec_cost
        return Cost(5 * one.flops, 5 * one.bytes, 2 * one.memory, 1, 20 * one.calls)

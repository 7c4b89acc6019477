"""Flexible GMRES: the preconditioner may be another one at every step, an inner iteration for instance.
Saad, SIAM J. Sci. Comput. 14 (1993) 461; Saad 2003, alg. 9.6.

What the preconditioner gave is kept beside the Krylov basis, so that the correction is made of it directly.
In exact arithmetic and with a fixed preconditioner the steps are those of GMRES.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .gmres import GMRES

__all__ = ["FGMRES"]


@dataclass(frozen=True)
class FGMRES(GMRES):
    """GMRES with a preconditioner that may change: twice the memory, ``2 restart`` vectors per column.

    Settings as for ``GMRES``. P: for instance ``inv(A, GMRES(tol=0.1, max_iters=10))``, or an
    ``ops.FunctionOperator`` around any approximate solver; whether an inner iteration meets its own tolerance
    does not matter.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.ops.Tridiagonal(-np.ones(9), 3 * np.ones(10), -0.5 * np.ones(9))
    >>> inner = cola.inv(A, cola.GMRES(tol=0.1))
    >>> x, info = cola.solve(A, np.ones(10), cola.FGMRES(P=inner), return_info=True)
    >>> bool(info.converged)
    True
    """

    _method: ClassVar[str] = "FGMRES"
    _bases: ClassVar[int] = 2

    def _static(self, n: int, limit: int) -> dict[str, Any]:
        return {**super()._static(n, limit), "flexible": True}

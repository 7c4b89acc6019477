"""``ExponentialAction``: exp(A) known by its products, which only take products with A."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Algorithm, refuse_batches
from ..algorithms.exp_action import ExpAction
from ..algorithms.factor import dense_entries
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..errors import ShapeError
from ..operators import LinearOperator, operator, scale, static
from ..plugins.rulebook import RuleBook
from .determinant import SLOGDET
from .inverse import INV
from .lazy_function import announced
from .trace import TRACE

__all__ = ["ExponentialAction", "expm_multiply"]

RULES = RuleBook()


def expm_multiply(
    A: Any, B: Any, t: Any = 1.0, alg: Any = ExpAction(), return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """``exp(t A) B`` for one time or several, by products with A only (SciPy's name).

    t: a number, or a sequence of them, positive and negative in any order; then the answer has them in front,
    (times, n) or (times, n, k). Each time starts from the one before, and norms are estimated once. alg:
    ``ExpAction(...)``, or another algorithm for exp (``Lanczos()``, ``Arnoldi()``, ``Chebyshev()``), which
    starts from B each time. A: (n, n). B: (n,) or (n, k).

    >>> import numpy as np, cola_core as cola
    >>> Y = cola.expm_multiply(np.diag([0.0, 1.0]), np.ones(2), t=[0.0, 1.0, -1.0])
    >>> bool(np.allclose(Y[:, 1], np.exp([0.0, 1.0, -1.0])))
    True
    """
    from ..dispatch.question import reporting
    from .matrix_function import APPLY_UNARY
    from .operands import as_algorithm, square
    from .scalar_function import EXP

    A = square(A, "exp")
    be = A._concrete_backend()
    B = be.asarray(B)
    if len(B.shape) not in (1, 2) or B.shape[0] != A.shape[-1]:
        raise ShapeError(
            f"expm_multiply({A!r}, B): B has shape {tuple(B.shape)}, not ({A.shape[-1]},) or "
            f"({A.shape[-1]}, k)."
        )
    refuse_batches(A, "expm_multiply", "exp(A) @ B")
    vector = len(B.shape) == 1
    X = be.as_value(B[:, None] if vector else B)
    one = isinstance(t, (int, float)) or getattr(t, "shape", None) == ()
    times = [float(x) for x in ([t] if one else t)]
    chosen: Any = as_algorithm(alg, "apply_unary")

    def compute() -> list[Array]:
        if not isinstance(chosen, ExpAction):
            return [ask(APPLY_UNARY, (scale(x, A), EXP), chosen)._matmat(X) for x in times]
        if not be.is_complex(X) or A._is_complex():
            return list(chosen.expmv(A, be.astype(X, A.dtype), times))
        k = X.shape[-1]
        both = chosen.expmv(
            A, be.astype(be.xp.concat([be.xp.real(X), be.xp.imag(X)], axis=-1), A.dtype), times
        )
        return [Y[:, :k] + 1j * Y[:, k:] for Y in both]

    found = reporting("expm_multiply", A, compute, return_info, on_failure)
    answers, info = found if return_info else (found, None)
    answers = [Y[:, 0] if vector else Y for Y in answers]
    out = answers[0] if one else be.xp.stack(answers) if answers else be.zeros((0, *B.shape), A.dtype)
    return (out, info) if return_info else out


@operator
class ExponentialAction(LinearOperator):
    """``exp(A)`` of a square operator; ``exp(A) @ b`` by ``ExpAction``, with a warning where it fails.

    Its adjoint and transpose are exponentials too, its inverse is ``exp(-A)`` and its determinant ``e^tr A``.
    """

    A: LinearOperator
    alg: Algorithm = static(default=ExpAction())

    def _shape(self) -> tuple[int, ...]:
        return self.A.shape

    def _dtype(self) -> Any:
        return self.A._dtype()

    def _adjoint(self) -> LinearOperator:
        return ExponentialAction(self.A.H, self.alg)

    def _transpose(self) -> LinearOperator:
        return ExponentialAction(self.A.T, self.alg)

    def _conj(self) -> LinearOperator:
        return ExponentialAction(self.A.conj(), self.alg)

    def _matvec_cost(self) -> Cost:
        return self.alg.cost("apply_unary", self.A)

    def _matmat(self, X: Array) -> Array:
        return announced("exp", self.A, lambda: self._run(X))

    def _rmatmat(self, X: Array) -> Array:
        # not by a claim of self-adjointness, which a check has to be able to disprove
        return self._adjoint()._matmat(X)

    def _run(self, X: Array) -> Array:
        A = self.A
        be = A._concrete_backend()
        xp = be.xp
        if not xp.isdtype(X.dtype, ("real floating", "complex floating")):
            X = be.astype(X, self.dtype)
        alg: Any = self.alg
        if be.is_complex(X) and not A._is_complex():
            k = X.shape[-1]  # functions and kernels of a real operator may know real vectors only
            Y = alg.expmv(A, xp.concat([xp.real(X), xp.imag(X)], axis=-1))
            return Y[..., :k] + 1j * Y[..., k:]
        return alg.expmv(A, X)

    def _to_dense(self) -> Array:
        be = self.A._concrete_backend()
        return be.astype(be.expm(dense_entries(self.A)), self.A.dtype)


@RULES.rule(INV, (ExponentialAction,), id="inv/exponential", source="exp(A)^-1 = exp(-A)", complexity="O(1)")
def inv_exponential(A: Any, *, alg: Any) -> LinearOperator:
    return ExponentialAction(scale(-1, A.A), A.alg)


@RULES.rule(
    SLOGDET,
    (ExponentialAction,),
    id="slogdet/exponential",
    source="det exp(A) = e^tr(A)",
    complexity="that of the trace",
)
def slogdet_exponential(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    xp = be.xp
    value = ask(TRACE, (A.A,), alg if hasattr(alg, "trace") else _auto())
    if be.is_complex(value):
        return xp.exp(1j * xp.imag(value)), xp.real(value)
    return xp.ones_like(value), value


def _auto() -> Algorithm:
    from ..algorithms.base import Auto

    return Auto()

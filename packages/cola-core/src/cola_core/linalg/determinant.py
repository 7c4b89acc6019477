"""``slogdet`` and ``logdet``: determinants by structure, with their sign or complex phase."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..algorithms.base import Auto
from ..algorithms.hutchinson import Hutchinson
from ..algorithms.lanczos import Lanczos
from ..algorithms.slq import SLQ
from ..backends.base import Array
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..dispatch.session import weighted
from ..errors import NotPositiveDefiniteError, UnreliableResultWarning
from ..operators import (
    Adjoint,
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    Permutation,
    Product,
    ScalarMul,
    Sum,
    Transpose,
    Triangular,
    parts,
)
from ..plugins.rulebook import RuleBook
from ..properties import PSD
from .inverse import Inverse, all_square
from .operands import as_algorithm, as_promised, square
from .scalar_function import signs
from .solve import _shifted, _woodbury_cost, _woodbury_guard
from .stacked import groups_of
from .structure import by_eigenvalues, spectral_guard
from .structured_factor import woodbury_factor

__all__ = ["SLOGDET", "det", "logdet", "slogdet"]

RULES = RuleBook()


def _abstract(A: Any) -> Any:
    from ..backends.abstract import XP, AbstractArray

    return XP.linalg.slogdet(AbstractArray(A.shape, A.dtype))


SLOGDET = Question(
    "slogdet", abstract=_abstract, doc="sign and log of the modulus of the determinant", axes=0
)


def slogdet(
    A: Any,
    alg: Any = None,
    trace_alg: Any = None,
    *,
    log_alg: Any = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """``(sign, log |det A|)`` of a square operator, as ``numpy.linalg.slogdet``: batch shape each.

    The sign is a complex phase for complex operators and 0 (with -inf) for singular ones. Stochastic answers
    (SLQ) carry their standard error, truncation included, in the Info. log_alg, trace_alg: CoLA's pair of
    algorithms for tr(log A); log_alg is another name of alg, and Lanczos with a Hutchinson trace is SLQ.
    """
    A = square(A, "slogdet")
    alg = _of_trace_and_log(alg, log_alg, trace_alg)
    out = SLOGDET.run(A, alg=as_algorithm(alg, "slogdet"), return_info=return_info, on_failure=on_failure)
    (sign, value), info = out if return_info else (out, None)
    answer = as_promised(A, sign), as_promised(A, value, real=True)
    return (answer, info) if return_info else answer


def _of_trace_and_log(alg: Any, log_alg: Any, trace_alg: Any) -> Any:
    """One algorithm for what CoLA says by two: f(A) for log, and one for the trace of it."""
    if log_alg is not None:
        if alg is not None:
            raise TypeError("alg and log_alg are two names of one argument; give one of them.")
        alg = log_alg
    alg = Auto() if alg is None else alg
    if not isinstance(alg, Lanczos) or trace_alg is None:
        return alg  # a factorisation, or Auto, needs no estimate of the trace
    trace_alg = as_algorithm(trace_alg, "trace")
    if isinstance(trace_alg, Hutchinson):
        steps: dict[str, Any] = {} if alg.max_iters is None else {"max_iters": alg.max_iters}
        return SLQ(
            tol=trace_alg.tol,
            max_samples=min(trace_alg.max_iters, SLQ.max_samples),
            key=trace_alg.key,
            **steps,
        )
    raise NotImplementedError(
        f"logdet as the trace of a Lanczos logarithm by {type(trace_alg).__name__} takes n Lanczos runs: use "
        "logdet(A) for an exact answer, or logdet(A, SLQ()) for an estimate with its error."
    )


slogdet.question = SLOGDET  # type: ignore[attr-defined]


def logdet(
    A: Any,
    alg: Any = None,
    trace_alg: Any = None,
    *,
    log_alg: Any = None,
    return_info: bool = False,
    on_failure: str = "warn",
) -> Any:
    """``log det A``: real, of batch shape. Where det A is not positive the answer is NaN, with a warning.

    A negative or complex determinant has no real logarithm (``slogdet`` gives sign and modulus);
    -inf if singular. log_alg, trace_alg: see ``slogdet``.

    >>> import numpy as np, cola_core as cola
    >>> A = 2 * cola.kron(np.eye(3), np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> bool(np.isclose(cola.logdet(A), 6 * np.log(2) + 3 * np.log(3)))
    True
    """
    A = square(A, "logdet")
    alg = _of_trace_and_log(alg, log_alg, trace_alg)
    out = SLOGDET.run(A, alg=as_algorithm(alg, "slogdet"), return_info=return_info, on_failure=on_failure)
    (sign, value), info = out if return_info else (out, None)
    value = real_logarithm(A, sign, value, "logdet")
    return (value, info) if return_info else value


logdet.question = SLOGDET  # type: ignore[attr-defined]


def real_logarithm(A: Any, sign: Array, value: Array, question: str) -> Array:
    """``value`` where the determinant is positive (or zero), else NaN with a warning."""
    if not A.isa(PSD):
        be = A._concrete_backend()
        xp = be.xp
        eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
        real = xp.real(sign) if be.is_complex(sign) else sign
        bad = (xp.abs(sign - 1) > eps**0.5) & (xp.abs(sign) > 0) if be.is_complex(sign) else real < 0
        value = xp.where(bad, xp.asarray(float("nan"), dtype=value.dtype), value)
        if be.is_concrete(bad) and bool(xp.any(bad)):
            warnings.warn(
                f"{question}({A!r}): the determinant is negative or complex, so its real logarithm is NaN. "
                "Use slogdet for the sign and log|det|.",
                UnreliableResultWarning,
                stacklevel=3,
            )
    return value


def det(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The determinant of a square operator, batch shape: ``sign * exp(log |det A|)``.

    Large operators leave the range of floating-point numbers; the answer is then infinite or zero, with a
    warning that names ``slogdet``, which does not.

    >>> import numpy as np, cola_core as cola
    >>> round(float(cola.det(cola.kron(np.diag([1.0, 2.0]), np.diag([1.0, -3.0])))), 6)
    36.0
    """
    A = square(A, "det")
    out = SLOGDET.run(A, alg=as_algorithm(alg, "slogdet"), return_info=return_info, on_failure=on_failure)
    (sign, value), info = out if return_info else (out, None)
    sign, value = as_promised(A, sign), as_promised(A, value, real=True)
    be = A._concrete_backend()
    xp = be.xp
    singular = sign == 0
    with np.errstate(over="ignore", under="ignore"):
        size = xp.exp(xp.where(singular, xp.zeros_like(value), value))
    found = xp.where(singular, xp.zeros_like(sign), sign * be.astype(size, sign.dtype))
    if be.is_complex(found):  # infinity times a complex phase is NaN in one part
        found = xp.where(xp.isfinite(size), found, be.astype(size, sign.dtype))
    if be.is_concrete(size, singular):
        lost = ~xp.isfinite(size) | ((size == 0) & ~singular)
        if bool(xp.any(lost & ~xp.isnan(value))):
            warnings.warn(
                f"det({A!r}): the determinant is outside the range of {found.dtype}, so that it is given as "
                "infinite or zero. Use slogdet for its sign and logarithm.",
                UnreliableResultWarning,
                stacklevel=2,
            )
    return (found, info) if return_info else found


det.question = SLOGDET  # type: ignore[attr-defined]


def of_entries(be: Any, d: Array) -> tuple[Array, Array]:
    """slogdet of a diagonal (..., n): product of phases, sum of log moduli;
    zero entries give (0, -inf) quietly."""
    xp = be.xp
    magnitude = xp.abs(d)
    zero = magnitude == 0
    safe = xp.where(zero, xp.ones_like(magnitude), magnitude)
    phase = xp.where(zero, xp.zeros_like(d), d / safe)
    # log(0 * d) is -inf with the derivative NaN, where a constant -inf would have the derivative zero
    with np.errstate(divide="ignore"):
        logs = xp.where(zero, xp.log(xp.where(zero, 0 * magnitude, safe)), xp.log(safe))
    if be.name == "jax" and not be.is_complex(d):
        phase = be.constant(phase)  # its derivative is zero, and JAX's of a product cuts entries in halves
    return xp.prod(phase, axis=-1), xp.sum(logs, axis=-1)


def _power(be: Any, part: tuple[Array, Array], times: float) -> tuple[Array, Array]:
    sign, value = part
    return sign**times, value * times


def _repeated(be: Any, M: Any, times: int, alg: Any) -> tuple[Array, Array]:
    """slogdet of ``times`` copies of M: an estimate's error counts as often as the estimate."""
    return weighted(lambda: _power(be, ask(SLOGDET, (M,), alg), times), times)


def _combine(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    sign, value = parts[0]
    for s, v in parts[1:]:
        sign, value = sign * s, value + v
    return sign, value


@RULES.rule(SLOGDET, (Identity,), id="slogdet/identity", source="definition", complexity="O(1)")
def slogdet_identity(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    one = be.xp.ones((), dtype=A.dtype, device=A.device)
    return one, be.zeros((), be.real_dtype(A.dtype))


@RULES.rule(SLOGDET, (ScalarMul,), id="slogdet/scalar", source="det(c I) = c^n", complexity="O(1)")
def slogdet_scalar(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    c = be.astype(A.value, A.dtype)
    return _power(be, of_entries(be, c[..., None]), A.n)


@RULES.rule(SLOGDET, (Diagonal,), id="slogdet/diagonal", source="definition", complexity="O(N)")
def slogdet_diagonal(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    _believe(A, be.xp.real(A.diag) if A._is_complex() else A.diag)
    return of_entries(be, A.diag)


def _believe(A: Any, w: Array) -> None:
    """Refuse a PSD declaration that eigenvalues at hand disprove:
    an even number of negative ones would go unseen."""
    be = A._concrete_backend()
    if not A.isa(PSD) or not be.is_concrete(w) or not w.shape[-1]:
        return
    xp = be.xp
    low, top = be.number(xp.min(w)), be.number(xp.max(xp.abs(w)))
    if low < -1e3 * float(xp.finfo(w.dtype).eps) * top:
        raise NotPositiveDefiniteError(
            f"{A!r} is declared PSD but has the negative eigenvalue {low:.3g}. Remove the "
            "declaration, or use slogdet of the undeclared operator."
        )


@RULES.rule(
    SLOGDET, (Triangular,), id="slogdet/triangular", source="product of the diagonal", complexity="O(N)"
)
def slogdet_triangular(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    d = be.xp.linalg.diagonal(A.array)
    return of_entries(be, be.xp.ones_like(d) if A.unit else d)


@RULES.rule(
    SLOGDET,
    (Permutation,),
    id="slogdet/permutation",
    source="parity from the number of cycles",
    complexity="O(N log N)",
)
def slogdet_permutation(A: Any, *, alg: Any) -> tuple[Array, Array]:
    """Parity without a loop over cycles:
    follow every index by pointer doubling to the least index of its cycle."""
    be = A._concrete_backend()
    xp = be.xp
    n = A.shape[-1]
    jump = A.perm
    least = here = xp.arange(n, device=be.device(jump))
    for _ in range(max(n, 1).bit_length()):
        least = xp.minimum(least, least[jump])
        jump = jump[jump]
    cycles = xp.sum(xp.astype(least == here, A.dtype))
    sign = 1 - 2 * ((n - cycles) % 2) if not be.is_complex(A.dtype) else 1 - 2 * (xp.real(n - cycles) % 2)
    sign = be.astype(sign, A.dtype)
    return sign, be.zeros((), be.real_dtype(A.dtype))


@RULES.rule(
    SLOGDET,
    (Product,),
    id="slogdet/product",
    source="det(AB) = det A det B",
    when=all_square,
    complexity="that of the factors",
)
def slogdet_product(A: Any, *, alg: Any) -> tuple[Array, Array]:
    return _combine([ask(SLOGDET, (M,), alg) for M in parts(A)])


@RULES.rule(
    SLOGDET,
    (Kronecker,),
    id="slogdet/kronecker",
    source="Van Loan 2000, sec. 1",
    when=all_square,
    complexity="that of the factors; O(sum n_i^3) for dense ones",
)
def slogdet_kronecker(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be, N = A._concrete_backend(), A.shape[-1]
    return _combine([_repeated(be, M, N // max(M.shape[-1], 1), alg) for M in parts(A)])


@RULES.rule(
    SLOGDET,
    (BlockDiag,),
    id="slogdet/blockdiag",
    source="definition",
    when=all_square,
    complexity="that of the blocks; O(sum n_i^3) for dense ones",
)
def slogdet_blockdiag(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    found = []
    for group in groups_of(A, alg):
        sign, value = _repeated(be, group.operator, A.multiplicities[group.index[0]], alg)
        if group.stacked:
            sign, value = be.xp.prod(sign, axis=-1), be.xp.sum(value, axis=-1)
        found.append((sign, value))
    return _combine(found)


@RULES.rule(
    SLOGDET,
    (KronSum,),
    id="slogdet/kronsum",
    source="eigenvalues are sums",
    when=spectral_guard,
    precedence=1,
    complexity="eigh of the factors, O(N)",
)
def slogdet_kronsum(A: Any, *, alg: Any) -> tuple[Array, Array]:
    return _spectral(A, alg)


def _by_eigenvalues(A: Any, *, alg: Any) -> bool | str:
    """Guard: no algorithm was asked for, or one for eigenvalues."""
    return by_eigenvalues(alg)


@RULES.rule(
    SLOGDET,
    (KronSum,),
    id="slogdet/kronsum-eig",
    source="eigenvalues are sums",
    when=_by_eigenvalues,
    complexity="eigenvalues of the factors, O(N)",
)
def slogdet_kronsum_general(A: Any, *, alg: Any) -> tuple[Array, Array]:
    from .eigen import EIGVALS

    be = A._concrete_backend()
    w = ask(EIGVALS, (A,), alg)
    sign, value = of_entries(be, w)
    if not A._is_complex():  # complex eigenvalues of a real matrix come in pairs: the phase is +1 or -1
        sign = signs(be.xp, be.xp.real(sign))
    return be.astype(sign, A.dtype), value


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/shift",
    source="det(V W V^H + s I) = prod(w + s)",
    when=_shifted,
    precedence=1,
    complexity="eigh of the operator, O(N)",
)
def slogdet_shift(A: Any, *, alg: Any) -> tuple[Array, Array]:
    return _spectral(A, alg)


def _spectral(A: Any, alg: Any) -> tuple[Array, Array]:
    from .eigen import EIGH
    from .spectral_trace import inverse_slope, trace_by_places
    from .tied_function import tied

    w, V = ask(EIGH, (A,), alg)
    be = A._concrete_backend()
    _believe(A, w)
    if be.name not in ("numpy", "abstract") and tied(be, w, V):
        fixed = be.constant(w)
        found = trace_by_places(A, lambda w: of_entries(be, w)[1], fixed, inverse_slope(be))
        if found is not None:
            return be.astype(of_entries(be, fixed)[0], A.dtype), found
    sign, value = of_entries(be, w)
    return be.astype(sign, A.dtype), value


@RULES.rule(
    SLOGDET,
    (Sum,),
    id="slogdet/determinant-lemma",
    source="det(B + U V^H) = det(B) det(I + V^H B^-1 U); Harville 1997, thm 18.1.1",
    when=_woodbury_guard,
    cost=lambda A, *, alg: _woodbury_cost(A, A, alg=alg),
    complexity="that of the other terms, r systems with them, O(N r^2 + r^3)",
)
def slogdet_lemma(A: Any, *, alg: Any) -> tuple[Array, Array]:
    factor = woodbury_factor(A, alg=Auto())
    return factor if factor is NotImplemented else factor.slogdet(alg)


@RULES.rule(
    SLOGDET,
    (Inverse,),
    id="slogdet/inverse",
    source="det(A^-1) = 1 / det(A)",
    complexity="that of A; O(N) after a product with A^-1 has factorised A",
)
def slogdet_inverse(A: Any, *, alg: Any) -> tuple[Array, Array]:
    from ..dispatch.session import SESSION

    be = A._concrete_backend()
    current = SESSION.get()
    planning = current is not None and current.recorder is not None
    factor = None if planning else A.__dict__.get("_factor")
    # the factorisation an earlier product left behind gives the determinant for nothing
    found = NotImplemented if factor is None else factor.slogdet()
    sign, value = ask(SLOGDET, (A.A,), alg) if found is NotImplemented else found
    return be.conj(sign), -value


@RULES.rule(
    SLOGDET, (Adjoint,), id="slogdet/adjoint", source="det(A^H) = conj(det A)", complexity="that of A"
)
def slogdet_adjoint(A: Any, *, alg: Any) -> tuple[Array, Array]:
    sign, value = ask(SLOGDET, (A.A,), alg)
    return A._concrete_backend().conj(sign), value


@RULES.rule(SLOGDET, (Transpose,), id="slogdet/transpose", source="det(A^T) = det A", complexity="that of A")
def slogdet_transpose(A: Any, *, alg: Any) -> tuple[Array, Array]:
    return ask(SLOGDET, (A.A,), alg)

"""Functions of operators: ``exp``, ``log``, ``sqrt``, ``isqrt`` and any ``apply_unary(f, A)``, as operators.

Self-adjoint compositions go through the eigendecompositions of their parts; the exponential of a Kronecker
sum is a Kronecker product of exponentials; a large self-adjoint operator stays lazy and is applied by
Lanczos (``lazy_function``).
"""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Auto
from ..algorithms.spectrum import nonnegative
from ..dispatch.choose import ask
from ..dispatch.question import Question
from ..info import Info
from ..operators import (
    BlockDiag,
    Diagonal,
    Identity,
    Kronecker,
    KronSum,
    LinearOperator,
    Product,
    ScalarMul,
    Sum,
    matmul,
    parts,
    split_scalar,
)
from ..operators.algebra import power as operator_power
from ..plugins.rulebook import RuleBook
from ..properties import PSD, SelfAdjoint
from .lazy_function import FunctionAction
from .operands import as_algorithm, square
from .scalar_function import COS, EXP, ISQRT, LOG, SIGN, SIN, SQRT, ScalarFunction, power
from .structure import shift_split, spectral

__all__ = [
    "APPLY_UNARY",
    "ScalarFunction",
    "apply_unary",
    "cos",
    "exp",
    "funm",
    "isqrt",
    "log",
    "pow",
    "sign",
    "sin",
    "sqrt",
]

RULES = RuleBook()
LONGEST_PRODUCT = 64  # powers beyond it go through eigenvalues or a dense matrix


APPLY_UNARY = Question("apply_unary", abstract=lambda A, f: A, doc="f(A) as an operator")


def apply_unary(
    f: Any, A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """``f(A)`` as an operator, for f acting on arrays of eigenvalues (``lambda w: w**3``)
    or a ``ScalarFunction``.

    return_info: also return an ``Info`` of what has been computed so far; the products of a lazy answer have
    one of their own, see ``LinearOperator.apply``. on_failure: "warn", "raise" or "ignore" a missed
    tolerance. Both are the same for ``exp``, ``log``, ``sqrt``, ``isqrt``, ``sin``, ``cos``, ``sign`` and
    ``pow``.
    """
    A = square(A, "apply_unary")
    if not isinstance(f, ScalarFunction):
        user = f
        name = getattr(user, "__name__", "f")
        f = ScalarFunction(name, lambda xp, w: user(w), real=_real_valued(user, A))
    alg = as_algorithm(alg, "apply_unary")
    out = APPLY_UNARY.run(A, f, alg=alg, return_info=return_info, on_failure=on_failure)
    if not isinstance(alg, Auto):
        return out
    answer, *info = out if return_info else (out,)
    if isinstance(answer, FunctionAction):
        answer = answer.replace(chosen=True)
    return (answer, *info) if return_info else answer


def exp(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The exponential of a square operator, as an operator: ``exp(A) @ v``.

    >>> import numpy as np, cola_core as cola
    >>> E = cola.exp(cola.kronsum(np.diag([0.0, 1.0]), np.diag([0.0, 2.0])))
    >>> [round(float(x), 6) for x in cola.diag(E)] == [round(float(np.exp(x)), 6) for x in (0, 2, 1, 3)]
    True
    """
    return apply_unary(EXP, A, alg, return_info=return_info, on_failure=on_failure)


def log(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The principal logarithm of a regular operator.

    No eigenvalue may be zero; a real operator with negative eigenvalues has no real logarithm and is refused
    (a complex dtype gives the principal branch).
    """
    return apply_unary(LOG, A, alg, return_info=return_info, on_failure=on_failure)


def sqrt(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The principal square root; real of a real operator, whose eigenvalues must then not be negative.

    >>> import numpy as np, cola_core as cola
    >>> R = cola.sqrt(np.array([[4.0, 1.0], [0.0, 4.0]]))  # not diagonalisable
    >>> [[round(float(x), 6) for x in row] for row in R.to_dense()]
    [[2.0, 0.25], [0.0, 2.0]]
    """
    return apply_unary(SQRT, A, alg, return_info=return_info, on_failure=on_failure)


def isqrt(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """``A^{-1/2}``, the inverse of the principal square root."""
    return apply_unary(ISQRT, A, alg, return_info=return_info, on_failure=on_failure)


def sin(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The sine of a square operator, as an operator."""
    return apply_unary(SIN, A, alg, return_info=return_info, on_failure=on_failure)


def cos(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The cosine of a square operator, as an operator."""
    return apply_unary(COS, A, alg, return_info=return_info, on_failure=on_failure)


def sign(A: Any, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn") -> Any:
    """The matrix sign function: eigenvalues become +1 or -1 by the sign of their real part.

    General operators: none may lie on the imaginary axis (PropertyError). Self-adjoint ones are taken through
    their eigenvalues, with ``sign(0) = 0`` where rounding leaves a zero. Source: Higham 2008, ch. 5.

    >>> import numpy as np, cola_core as cola
    >>> S = cola.sign(np.array([[1.0, 5.0], [0.0, -2.0]]))
    >>> bool(np.allclose(S @ S.to_dense(), np.eye(2)))
    True
    """
    return apply_unary(SIGN, A, alg, return_info=return_info, on_failure=on_failure)


def pow(
    A: Any, alpha: float, alg: Any = Auto(), *, return_info: bool = False, on_failure: str = "warn"
) -> Any:
    """``A^alpha`` for a real exponent.

    A whole alpha multiplies the expression by repeated squaring, so that structure simplifies as it does when
    written out (a negative one first inverts); a product with an unstructured operator then costs ``|alpha|``
    products with it. Another one is the principal power ``exp(alpha log A)``: real of a real operator, which
    must have no negative eigenvalues.

    >>> import numpy as np, cola_core as cola
    >>> A = np.array([[2.0, 1.0], [0.0, 3.0]])
    >>> bool(np.allclose(cola.pow(A, -2) @ (A @ A), np.eye(2)))
    True
    >>> bool(np.allclose(cola.pow(cola.pow(A, 0.25), 4).to_dense(), A))
    True
    """
    A = square(A, "pow")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        raise TypeError(f"pow({A!r}, {alpha!r}): the exponent must be a real Python number.")
    if not abs(alpha) < float("inf"):
        raise ValueError(f"pow({A!r}, {alpha!r}): the exponent must be finite.")
    if float(alpha).is_integer() and abs(alpha) <= LONGEST_PRODUCT:
        from .inverse import inv

        base, info = A, Info(method="product")
        if alpha < 0:
            base, info = inv(A, alg, return_info=True, on_failure=on_failure)
        out = operator_power(base, abs(int(alpha)))
        return (out, info) if return_info else out
    return apply_unary(power(alpha), A, alg, return_info=return_info, on_failure=on_failure)


funm = apply_unary  # SciPy's name
_FUNCTIONS: tuple[Any, ...] = (apply_unary, exp, log, sqrt, isqrt, sin, cos, sign, pow)
for _f in _FUNCTIONS:
    _f.question = APPLY_UNARY


def _real_valued(f: Any, A: LinearOperator) -> bool:
    """Whether f maps real numbers to a real dtype: a static fact, tried on ones.
    Unknown (planning) counts as real."""
    be = A._concrete_backend()
    try:
        return not be.is_complex(f(be.xp.ones((1,), dtype=be.real_dtype(A.dtype), device=A.device)))
    except Exception:  # noqa: BLE001 - the function will say so itself when it is used
        return True


# -- rules ---------------------------------------------------------------------------------------------------
@RULES.rule(APPLY_UNARY, (Diagonal,), id="function/diagonal", source="definition", complexity="O(N)")
def of_diagonal(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    d = be.xp.real(A.diag) if A._is_complex() and A.isa(SelfAdjoint) else A.diag
    values = f.on(be, d)
    return Diagonal(values, declared=f.properties(A, values))


@RULES.rule(APPLY_UNARY, (ScalarMul,), id="function/scalar", source="definition", complexity="O(1)")
def of_scalar(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    value = f.on(be, A.value)
    facts = f.properties(A, None if A._is_complex() else value)
    if not A._adopts_precision():  # a number would adopt another precision than the array it came from
        value = be.asarray(value, device=A.device)
    return ScalarMul(value, A.n, declared=facts)


@RULES.rule(APPLY_UNARY, (Identity,), id="function/identity", source="definition", complexity="O(1)")
def of_identity(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    be = A._concrete_backend()
    value = f.on(be, be.xp.ones((), dtype=be.real_dtype(A.dtype), device=A.device))
    return ScalarMul(value, A.n, declared=f.properties(A, value))


def _square_blocks(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: square blocks."""
    return next((f"part {M!r} is not square" for M in A.Ms if not M.is_square), True)


@RULES.rule(
    APPLY_UNARY,
    (BlockDiag,),
    id="function/blockdiag",
    source="Higham 2008, thm 1.13",
    when=_square_blocks,
    complexity="that of the blocks",
)
def of_blockdiag(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return A.with_blocks(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)))


def _is_exp(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: exp."""
    return True if f.kind == "exp" else f"holds for exp, not for {f.name}"


@RULES.rule(
    APPLY_UNARY,
    (KronSum,),
    id="function/exp-kronsum",
    source="exp(A (+) B) = exp A (x) exp B; Higham 2008, thm 10.9",
    when=_is_exp,
    precedence=1,
    complexity="that of the factors",
)
def exp_kronsum(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return A._kron(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)), declared=f.properties(A))


def _multiplicative(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: f(a b) = f(a) f(b) (roots, powers, sign) and factors known to be PSD (self-adjoint for sign)."""
    if not f.multiplicative:
        return f"{f.name}(ab) is not {f.name}(a) {f.name}(b)"
    needed = SelfAdjoint if f.kind == "sign" else PSD
    return next((f"factor {M!r} is not known to be {needed}" for M in A.Ms if not M.isa(needed)), True)


@RULES.rule(
    APPLY_UNARY,
    (Kronecker,),
    id="function/root-kronecker",
    source="f(A (x) B) = f(A) (x) f(B) for multiplicative f",
    when=_multiplicative,
    precedence=1,
    complexity="that of the factors",
)
def root_kronecker(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    return A._kron(*(ask(APPLY_UNARY, (M, f), alg) for M in parts(A)), declared=f.properties(A))


def _exp_shift(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: exp of one operator plus multiples of the identity."""
    if f.kind != "exp":
        return f"holds for exp, not for {f.name}"
    return True if shift_split(A) is not None else "not one operator plus multiples of the identity"


@RULES.rule(
    APPLY_UNARY,
    (Sum,),
    id="function/exp-shift",
    source="exp(A + s I) = e^s exp A",
    when=_exp_shift,
    precedence=1,
    complexity="that of the operator",
)
def exp_shift(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    base, shifts = shift_split(A)  # type: ignore[misc]
    out = ask(APPLY_UNARY, (base, f), alg)
    for s in shifts:
        out = matmul(ask(APPLY_UNARY, (s, f), alg), out)
    return out


def _spectral(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: self-adjoint with an eigenbasis by rule."""
    return spectral(A, alg)


def _through_spectrum(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    from .eigen import EIGH

    w, V = ask(EIGH, (A,), alg)
    be = A._concrete_backend()
    if f.needs_positive and A.isa(PSD):
        w = nonnegative(A, w)
    values = f.on(be, w)
    out = Product(V, Diagonal(values), V.H, declared=f.properties(A, values))
    if be.name not in ("numpy", "abstract") and (f.real or A._is_complex()):
        from .tied_function import TiedFunction, tied

        if tied(be, w, V):
            from ..algorithms.lanczos import Lanczos

            eps = float(be.xp.finfo(w.dtype).eps)
            action = FunctionAction(A, f, Lanczos(tol=max(1e-13, 10 * eps)), declared=out.declared)
            return TiedFunction(out, action, declared=out.declared)
    return out


for _cls in (Kronecker, KronSum, Sum, Product):
    RULES.rule(
        APPLY_UNARY,
        (_cls,),
        id=f"function/{_cls.__name__.lower()}",
        source="f(A) = V f(W) V^H",
        when=_spectral,
        complexity="that of eigh, O(N)",
    )(_through_spectrum)


def _scaled(A: Any, f: Any, *, alg: Any) -> bool | str:
    """Guard: roots, powers and sign of a non-negative number times a PSD operator."""
    s, rest = split_scalar(A)
    if s is None or not f.multiplicative:
        return f"no number in front, or {f.name} is not multiplicative"
    return True if s.isa(PSD) and rest.isa(PSD) else "number and operator must both be known non-negative"


@RULES.rule(
    APPLY_UNARY,
    (Product,),
    id="function/scaled-root",
    source="f(c A) = f(c) f(A)",
    when=_scaled,
    precedence=1,
    complexity="that of the operator",
)
def of_scaled(A: Any, f: ScalarFunction, *, alg: Any) -> LinearOperator:
    s, rest = split_scalar(A)
    return matmul(ask(APPLY_UNARY, (s, f), alg), ask(APPLY_UNARY, (rest, f), alg))

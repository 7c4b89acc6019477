"""``f(H) e_1`` of the small matrices that Krylov methods leave behind, on the host in double precision.

Tridiagonal ones through their eigenvectors (LAPACK's stemr); Hessenberg ones by the dense algorithms for each
function, and by eigenvectors for a function that has none. A function outside its domain is an error that
names the Ritz value.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ColaError, NotPositiveDefiniteError, PropertyError, SingularMatrixError
from ..properties import PSD

__all__ = [
    "check_ritz_values",
    "hessenberg_function",
    "on_host",
    "small_function",
    "tridiagonal_function",
    "undefined",
]


def on_host(be: Any, A: Any, f: Any) -> Any:
    """f for NumPy arrays; a user's function is written for arrays of the operator's own library."""
    if f.kind or be.name == "numpy":
        return f
    return replace(
        f,
        fn=lambda xp, w: np.asarray(be.to_numpy(f.fn(be.xp, be.asarray(w, device=A.device)))),
        slope=lambda: on_host(be, A, f.derivative()),
    )


def check_ritz_values(A: Any, f: Any, theta: Any, weight: Any, eps: float) -> Any:
    """Real Ritz values where f is defined: what rounding left on the wrong side of zero is moved to zero,
    more than that is an error with the number.

    weight: the share of the vector in each Ritz vector, squared; values without a share are left alone.
    """
    if not (f.needs_positive or f.needs_nonzero) or not theta.size:
        return theta
    top, n = np.abs(theta).max(), max(A.shape[-1], 1)
    met = weight > (10 * eps) ** 2
    low = theta[met].min() if met.any() else 0.0
    if f.needs_positive and low < 0:
        if A.isa(PSD) and low < -1e3 * n * eps * top:
            raise NotPositiveDefiniteError(
                f"{f.name}: {A!r} is declared PSD but has the negative Ritz value {low:.3g}. Remove the "
                "declaration, or add a multiple of the identity."
            )
        rounding = 10 * n**0.5 * eps * top
        if not A.isa(PSD) and not A._is_complex() and (low < -rounding or f.needs_nonzero):
            raise PropertyError(
                f"{f.name} of {A!r}, which has the negative Ritz value {low:.3g}, is not real. Cast it to a "
                "complex dtype for the principal branch, or shift it."
            )
    clamp = A.isa(PSD) or not A._is_complex()
    theta = np.where(met & (theta < 0), 0.0, theta) if f.needs_positive and clamp else theta
    # below eps |A| a Ritz value is rounding error, and so would be all of the answer
    if f.needs_nonzero and (met & (np.abs(theta) <= eps * top)).any():
        raise SingularMatrixError(
            f"{f.name} of {A!r}: a Ritz value is zero to working precision, where {f.name} is not defined. "
            "Add a multiple of the identity."
        )
    return theta


def tridiagonal_function(A: Any, f: Any, alpha: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
    """``f(T) e_1``, the Ritz values and their weights, for T with diagonal alpha and off-diagonal beta."""
    from scipy.linalg import eigh_tridiagonal

    if alpha.size == 1:
        theta, S = alpha.copy(), np.ones((1, 1))
    else:
        theta, S = eigh_tridiagonal(alpha, beta)
    first = S[0]
    weight = first**2
    theta = check_ritz_values(A, f, theta, weight, eps)
    argument = theta.astype(np.complex128) if A._is_complex() and f.needs_positive else theta
    values = np.zeros(theta.shape, np.complex128)
    met = np.ones(theta.shape, bool)
    if f.needs_positive or f.needs_nonzero:
        met = weight > (10 * eps) ** 2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        found = np.asarray(f.on(_numpy(), argument[met]))
        if not np.iscomplexobj(found):
            values = values.real.copy()
        values[met] = found
        return S @ (values * first), theta, weight


def hessenberg_function(A: Any, f: Any, H: Any) -> Any:
    """``f(H) e_1`` for a general H. A function that is not defined on H's spectrum is an error."""
    if H.shape[0] > 1 and f.kind == "exp":
        from scipy.linalg import expm

        with np.errstate(over="ignore", invalid="ignore"):
            return expm(H)[:, 0]
    return small_function(A, f, H)[:, 0]


def small_function(A: Any, f: Any, H: Any) -> Any:
    """``f(H)`` for a general matrix that A left behind."""
    from ..operators import Dense
    from .dense_exp import ScalingSquaring
    from .directional_block import DirectionalBlock
    from .eigh import Eig
    from .matrix_log import InverseScalingSquaring
    from .matrix_root import DenmanBeavers
    from .matrix_sign import NewtonSign

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if H.shape[0] == 1:
            whole = H.astype(np.complex128) if f.needs_positive and np.iscomplexobj(H) else H
            return np.asarray(f.on(_numpy(), whole))
        if f.kind == "exp":
            from scipy.linalg import expm

            return expm(H)
        if not f.kind and isinstance(A, DirectionalBlock) and A.real_spectrum:
            return _by_polynomial(A, f, H)
        algorithm: Any = {
            "sin": ScalingSquaring,
            "cos": ScalingSquaring,
            "sqrt": DenmanBeavers,
            "isqrt": DenmanBeavers,
            "log": InverseScalingSquaring,
            "power": InverseScalingSquaring,
            "sign": NewtonSign,
        }.get(f.kind, Eig)
        small = Dense(np.ascontiguousarray(H))
        if f.kind == "power" and float(f.exponent).is_integer():
            return np.linalg.matrix_power(H, int(f.exponent))
        return np.asarray(algorithm().apply_unary(small, f).to_dense())


MOST_TERMS = 4096


def _by_polynomial(A: Any, f: Any, H: Any) -> Any:
    """f(H) by Chebyshev interpolation between the ends of a real spectrum whose eigenvalues come in defective
    pairs, where eigenvectors would lose half of the digits."""
    w = np.linalg.eigvals(H).real
    middle, spread = (w.max() + w.min()) / 2, (w.max() - w.min()) / 2
    # wider than a cluster: what is not normal is divided by the width
    for half in (max(spread, 0.05 * np.abs(w).max()) or 1.0, spread):
        c = _expansion(f, middle, half) if half else None
        if c is not None:
            break
    else:
        raise NotImplementedError(
            f"the derivative of {f.name} of {A.inner!r} by products: {f.name} is not smooth between its "
            "eigenvalues. Use Eigh(), or a function known by name."
        )
    c = c[: np.max(np.nonzero(np.abs(c) > 1e-16 * np.abs(c).max())[0], initial=0) + 1]
    S = (H - middle * np.eye(len(H))) / half
    # Clenshaw
    later = last = np.zeros(H.shape, np.result_type(H, c))
    for x in c[:0:-1]:
        last, later = 2 * S @ last - later + x * np.eye(len(H)), last
    return S @ last - later + c[0] * np.eye(len(H))


def _expansion(f: Any, middle: float, half: float) -> Any:
    """Chebyshev coefficients of f on an interval; None where they do not die out."""
    from numpy.polynomial.chebyshev import chebpts1
    from scipy.fft import dct

    count = 32
    while count <= MOST_TERMS:
        values = np.asarray(f.fn(np, middle + half * chebpts1(count)[::-1]))
        if not np.isfinite(values).all():
            return None
        c = np.asarray(dct(values.real, type=2) / count)
        if np.iscomplexobj(values):
            c = c + 1j * dct(values.imag, type=2) / count
        c[0] /= 2
        left = np.abs(c[-(count // 8) :]).max() / max(np.abs(c).max(), 1e-300)
        if left <= 1e-14 or (left <= 1e-10 and 2 * count > MOST_TERMS):
            return c
        count *= 2
    return None


def name_negative(A: Any, f: Any, H: Any, last: float) -> ColaError | None:
    """An error that names a Ritz value on the closed negative axis that is an eigenvalue by its residual."""
    if not f.needs_positive or np.iscomplexobj(H):
        return None
    w, V = np.linalg.eig(H)
    size = np.abs(H).max(initial=0.0)
    real = np.abs(w.imag) <= 1e-10 * size
    settled = np.abs(last * V[-1]) <= 1e-6 * size
    bad = real & settled & (w.real <= 0)
    if not bad.any():
        return None
    return PropertyError(
        f"{f.name} of {A!r}, which has the Ritz value {w.real[bad].min():.3g} on the closed negative axis, "
        "is not real. Cast it to a complex dtype for the principal branch, or shift it."
    )


def undefined(A: Any, f: Any) -> ColaError:
    """The error of a function that has no finite value on an invariant subspace of A."""
    if f.needs_nonzero:
        return SingularMatrixError(
            f"{f.name} of {A!r}: an eigenvalue is zero to working precision, where {f.name} is not defined. "
            "Add a multiple of the identity."
        )
    return PropertyError(f"{f.name} of {A!r} is not finite on an invariant subspace of the operator.")


def _numpy() -> Any:
    from ..backends import get_backend

    return get_backend("numpy")

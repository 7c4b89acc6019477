"""What the dense algorithms for functions of general matrices share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array
from ..cost import Cost
from ..errors import PropertyError
from .dense_cost import batch_size, dense_memory, with_entries
from .factor import warn_if_singular

__all__ = [
    "answer",
    "dense_function_cost",
    "inverse",
    "not_real",
    "one_norm",
    "only_for",
    "real_if",
    "repeat",
    "warn_if_nearly_singular",
]


def dense_function_cost(A: Any, factor: float) -> Cost:
    """``factor n^3`` flops and a handful of matrices."""
    n, b = A.shape[-1], batch_size(A)
    work = Cost(b * factor * n**3, b * A.itemsize * n * n * factor, 8 * dense_memory(A), 0, factor)
    return with_entries(A, work)


def answer(A: Any, f: Any, F: Array) -> Any:
    """The operator ``f(A)`` for its matrix F, in A's precision."""
    from ..operators import Dense

    be = A._concrete_backend()
    dtype = A.dtype if A._is_complex() or not be.is_complex(F) else be.xp.result_type(A.dtype, F.dtype)
    return Dense(be.astype(F, dtype) if F.dtype != dtype else F, declared=f.properties(A))


def only_for(algorithm: Any, A: Any, f: Any, *kinds: str) -> None:
    """Refuse, by name, a function that an algorithm asked for in person does not compute."""
    if f.kind not in kinds:
        raise PropertyError(
            f"{type(algorithm).__name__} computes {', '.join(kinds)} only, not {f.name} of {A!r}. Leave the "
            "algorithm out, or use Eigh(), Eig(), Lanczos() or Arnoldi()."
        )


def one_norm(be: Any, M: Array) -> Array:
    """The 1-norm of every matrix of the batch, without a derivative."""
    M = be.constant(M)
    return be.xp.max(be.xp.sum(be.xp.abs(M), axis=-2), axis=-1)


def inverse(be: Any, M: Array) -> Array:
    """``M^{-1}`` by LU."""
    return be.lu_solve(be.lu_factor(M), be.eye(M.shape[-1], M.dtype, be.device(M)) + 0 * M)


def warn_if_nearly_singular(be: Any, A: Any, M: Array, what: str) -> None:
    """An eigenvalue that is zero but for rounding decides all of a logarithm or an inverse power."""
    if be.is_concrete(M) and M.ndim == 2 and M.shape[-1]:
        warn_if_singular(be.lu_rcond(be.lu_factor(M), one_norm(be, M)), A, what)


def real_if(be: Any, A: Any, f: Any, F: Array, real: bool, slack: float = 1e-6) -> Array:
    """F, real where it has to be; imaginary parts beyond rounding are an error, never dropped."""
    if not real or not be.is_complex(F):
        return F
    xp = be.xp
    if be.is_concrete(F) and 0 not in F.shape:
        largest, imaginary = be.number(xp.max(xp.abs(F))), be.number(xp.max(xp.abs(xp.imag(F))))
        if imaginary > slack * largest:
            raise not_real(A, f)
    return xp.real(F)


def not_real(A: Any, f: Any) -> PropertyError:
    return PropertyError(
        f"{f.name}({A!r}) is not real: an eigenvalue lies on (or next to) the closed negative axis, or "
        f"{f.name} does not map conjugate eigenvalues to conjugate values. Cast the operator to a complex "
        "dtype, A.to(dtype='complex128'), for the principal branch."
    )


def repeat(be: Any, step: Callable[[Any], Any], state: Any, most: int, done: Callable[[Any], Any]) -> Any:
    """``state = step(state)`` at most ``most`` times, until ``done``.

    Traced, the number of steps is fixed (so that reverse-mode differentiation works): steps after the end
    must change nothing.
    """
    probe = state[0]
    if be.is_concrete(probe):
        for _ in range(most):
            state = step(state)
            if bool(done(state)):
                break
        return state
    if be.name == "jax":
        import jax

        return jax.lax.fori_loop(0, most, lambda _, s: step(s), state)
    for _ in range(most):
        state = step(state)
    return state

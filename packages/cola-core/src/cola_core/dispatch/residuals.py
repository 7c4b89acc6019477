"""How well an answer fits its question, recomputed from the operator: what ``explain(analyze=True)`` shows.

One probe vector for factorisations and decompositions, so that the check costs a few products. Questions that
are not listed (a determinant, a trace) have no cheap test and get None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["residual"]


def residual(question: str, args: tuple[Any, ...], answer: Any) -> float | None:
    """The relative residual, or None where there is none, or none that can be read."""
    check = CHECKS.get(question)
    A = args[0]
    if check is None or A.backend is None or 0 in A.shape:
        return None
    try:
        value = check(A, args[1:], answer)
        return None if value is None else float(A.backend.number(value))
    except Exception:  # noqa: BLE001 - lazy, traced or composed answers that cannot be tried on a vector
        return None


def _worst(be: Any, gap: Any, size: Any) -> Any:
    xp = be.xp
    gap, size = be.norm(gap), be.norm(size)
    return xp.max(gap / xp.where(size > 0, size, xp.ones_like(size)))


def _solve(A: Any, operands: Any, X: Any) -> Any:
    B = operands[0]
    return _worst(A.backend, B - A @ X, B)


def _pairs(A: Any, operands: Any, answer: Any) -> Any:
    """``A V z - V (w z)`` for a probe z, relative to the largest eigenvalue."""
    w, V = answer
    if A.batch_shape:
        return None
    be, xp = A.backend, A.xp
    z = be.normal(0, (w.shape[-1],), V.dtype, A.device)
    Vz = V @ z
    gap = A @ Vz - V @ (be.astype(w, V.dtype) * z)
    scale = xp.max(xp.abs(w)) * xp.linalg.vector_norm(Vz)
    return xp.linalg.vector_norm(gap) / xp.where(scale > 0, scale, xp.ones_like(scale))


def _triplets(A: Any, operands: Any, answer: Any) -> Any:
    """``A v - s u`` for the right singular vectors at once, as a probe through them."""
    U, s, V = answer
    if A.batch_shape:
        return None
    be, xp = A.backend, A.xp
    z = be.normal(0, (s.shape[-1],), A.dtype, A.device)
    right = V if V.shape[-2] == A.shape[-1] and V.shape[-1] == s.shape[-1] else V.H
    gap = A @ (right @ z) - U @ (be.astype(s, A.dtype) * z)
    scale = xp.max(xp.abs(s)) * xp.linalg.vector_norm(z)
    return xp.linalg.vector_norm(gap) / xp.where(scale > 0, scale, xp.ones_like(scale))


def _factors(multiply: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """Of a factorisation: the product of the factors against A, on a probe."""

    def check(A: Any, operands: Any, answer: Any) -> Any:
        if A.batch_shape:
            return None
        z = A.backend.normal(0, (A.shape[-1], 1), A.dtype, A.device)
        want = A @ z
        return _worst(A.backend, multiply(answer, z) - want, want)

    return check


def _of_two(answer: Any, z: Any) -> Any:
    return answer[0] @ (answer[1] @ z)


def _of_three(answer: Any, z: Any) -> Any:
    return answer[0] @ (answer[1] @ (answer[2] @ z))


def _squared(L: Any, z: Any) -> Any:
    return L @ (L.H @ z)


def _pencil(A: Any, operands: Any, answer: Any) -> Any:
    """``A V z - B V (w z)`` for a probe z, relative to the larger part."""
    (w, V), B = answer, operands[0]
    if A.batch_shape:
        return None
    be, xp = A.backend, A.xp
    z = be.normal(0, (w.shape[-1],), V.dtype, A.device)
    left, right = A @ (V @ z), B @ (V @ (be.astype(w, V.dtype) * z))
    scale = xp.maximum(xp.linalg.vector_norm(left), xp.linalg.vector_norm(right))
    return xp.linalg.vector_norm(left - right) / xp.where(scale > 0, scale, xp.ones_like(scale))


def _unitarily(answer: Any, z: Any) -> Any:
    T, Z = answer
    return Z @ (T @ (Z.H @ z))


CHECKS: dict[str, Callable[..., Any]] = {
    "solve": _solve,
    "eigh": _pairs,
    "eig": _pairs,
    "eigsh": _pairs,
    "eigs": _pairs,
    "geigh": _pencil,
    "geigsh": _pencil,
    "geig": _pencil,
    "geigs": _pencil,
    "svd": _triplets,
    "svds": _triplets,
    "cholesky": _factors(_squared),
    "root": _factors(_squared),
    "qr": _factors(_of_two),
    "lq": _factors(_of_two),
    "lu": _factors(_of_three),
    "schur": _factors(_unitarily),
}

"""Bringing what the user passes into the form rules expect,
with errors that name both sides and the remedy."""

from __future__ import annotations

from typing import Any

from ..algorithms.base import Algorithm, Auto
from ..backends import backend_of_type
from ..backends.base import dtype_name
from ..errors import BackendError, NonSquareError, ShapeError, UnknownNameError
from ..operators import LinearOperator, as_operator

__all__ = ["as_algorithm", "as_promised", "for_singular_values", "right_side", "square"]


def square(A: Any, question: str) -> LinearOperator:
    """A as a square operator."""
    A = as_operator(A)
    if not A.is_square:
        m, n = A.shape[-2:]
        hint = {
            "solve": "For least squares use lstsq(A, b)",
            "inv": "For a pseudoinverse use pinv(A)",
            "schur": "For singular values use svd(A)",
        }.get(question, "A.H @ A is square; its eigenvalues are the squares of A's singular values")
        raise NonSquareError(f"{question}({A!r}) needs a square operator; its shape is {m}x{n}. {hint}.")
    return A


def right_side(A: LinearOperator, b: Any, question: str, rows: int | None = None) -> Any:
    """b as an array of A's library with as many rows as A has columns (or as told)."""
    be = backend_of_type(type(b))
    if be is None:
        if isinstance(b, (list, tuple)):
            b = A._concrete_backend().asarray(b)
            be = A._concrete_backend()
        elif isinstance(b, LinearOperator):
            raise TypeError(f"{question}({A!r}, {b!r}): for an operator right side write inv(A) @ B.")
        else:
            raise BackendError(f"{question}({A!r}, b): b must be an array, got {type(b).__name__}.")
    if A.backend is not None and be is not A.backend:
        raise BackendError(
            f"{question}({A!r}, b): the operator holds {A.backend.name} arrays, b of shape {tuple(b.shape)} "
            f"is {be.name}. Convert one: A.to(backend={be.name!r})."
        )
    n = A.shape[-1] if rows is None else rows
    if len(b.shape) == 0 or (b.shape[0] if len(b.shape) == 1 else b.shape[-2]) != n:
        raise ShapeError(
            f"{question}({A!r}, b): the operator has shape {A.shape}, b has shape {tuple(b.shape)}; "
            f"b must be ({n},) or (..., {n}, k)."
        )
    if A.backend is not None and A.device is not None:
        A._check_device(b)
    if not dtype_name(b.dtype).startswith(("float", "complex", "bfloat")):
        b = be.astype(b, be.default_float)
    return b


def as_algorithm(alg: Any, question: str) -> Algorithm:
    """An algorithm object, class or name; unknown names list the known ones."""
    if isinstance(alg, Algorithm):
        return alg
    if isinstance(alg, type) and issubclass(alg, Algorithm):
        return alg()
    if isinstance(alg, str):
        if alg == "auto":
            return Auto()
        from ..plugins.manager import MANAGER

        return MANAGER.algorithm(question, alg)()
    raise UnknownNameError(
        f"alg={alg!r} is not an algorithm: pass an object such as CG(), or a name such as 'cg'."
    )


def as_promised(A: LinearOperator, x: Any, real: bool = False) -> Any:
    """x in the dtype of A (or the real one of its precision), whatever the parts that answered have.

    Parts without a dtype of their own answer in a default one, real parts of a complex product in a real one.
    """
    be = backend_of_type(type(x))
    if be is None or A.backend is None and A._dtype() is None:
        return x
    dtype = be.dtype(A._concrete_backend().real_dtype(A.dtype) if real else A.dtype)
    return x if x.dtype == dtype or (be.is_complex(x) and not be.is_complex(dtype)) else be.astype(x, dtype)


def for_singular_values(alg: Any, question: str) -> Algorithm:
    """The algorithm for an answer through singular values; one that knows none is refused, not replaced."""
    alg = as_algorithm(alg, question)
    known = ("svd", "svdvals", "eigh", "eig", "eigvals", "rank", "cond")
    if not isinstance(alg, Auto) and not any(callable(getattr(alg, name, None)) for name in known):
        raise UnknownNameError(
            f"{type(alg).__name__} finds no singular values, which {question} needs; pass SVD(), or leave "
            "the choice open."
        )
    return alg

"""What the methods share that improve a block of vectors by preconditioned residuals (LOBPCG, Davidson):
their settings, the first block, the end of the spectrum, the preconditioner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.base import Array, Backend
from ..errors import ShapeError
from ..properties import PSD, SelfAdjoint
from ..pytree import map_leaves
from .block_basis import alive, extend, independent
from .eigenpairs import PairIteration
from .iteration import as_preconditioner

__all__ = ["BlockPairIteration", "constant_preconditioner", "extreme", "first_block", "ready"]


@dataclass(frozen=True)
class BlockPairIteration(PairIteration):
    """Settings of both, and where they apply: few pairs of one self-adjoint operator."""

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    x0: Any = None
    P: Any = None
    key: Any = 0
    guard: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if A.batch_shape:
            return "batches of operators are not supported"
        k = next(x for x in operands if isinstance(x, int))
        if 4 * k >= A.shape[-1]:
            return f"{k} of {A.shape[-1]} eigenpairs is a large part of the spectrum"
        return True

    def _width(self, k: int, n: int) -> int:
        """Columns of the block: the k wanted vectors and some beside them."""
        return min(n, k + (max(k // 2, 3) if self.guard is None else int(self.guard)))


def constant_preconditioner(be: Backend, P: Any, A: Any) -> Any:
    """The preconditioner for A; the pairs found do not depend on it, so it has no derivative."""
    P = as_preconditioner(P, A)
    return None if P is None else map_leaves(lambda x: be.constant(x) if hasattr(x, "dtype") else x, P)


def extreme(A: Any, which: str, method: str) -> bool:
    """Whether the largest eigenvalues are wanted; interior ones are refused."""
    if which == "LA" or (which == "LM" and A.isa(PSD)):
        return True
    if which == "SA" or (which == "SM" and A.isa(PSD)):
        return False
    raise NotImplementedError(
        f"{method} finds eigenvalues at one end of the spectrum (LA, SA), not which={which!r} of {A!r}; use "
        "Lanczos() for LM, ShiftInvert() for SM and sigma."
    )


def first_block(be: Any, A: Any, x0: Any, key: Any, width: int, method: str) -> Array:
    """The vectors given, filled up with random ones, to (n, width); random ones also in place of dependent
    vectors, where values can be looked at."""
    n = A.shape[-1]
    X = be.normal(key, (n, width), A.dtype, A.device)
    if x0 is None:
        return _filled(be, X) if width == n else X
    given = be.asarray(x0.to_dense() if hasattr(x0, "to_dense") else x0)
    given = given[:, None] if given.ndim == 1 else given
    if given.ndim != 2 or given.shape[0] != n:
        raise ShapeError(f"{method}(x0=...) has shape {tuple(given.shape)}; {n} rows are needed for {A!r}.")
    given = be.astype(given, A.dtype)[:, :width]
    return _filled(be, be.xp.concat([given, X[:, given.shape[1] :]], axis=-1))


def _filled(be: Any, X: Array) -> Array:
    """X, or an orthonormal block that spans what X does and more, where columns of X are dependent."""
    if 0 in X.shape or not be.is_concrete(X):
        return X
    found = independent(be, X)
    lives = alive(be, found)
    if bool(be.xp.all(lives)):
        return X
    # the dead stand in front, in what is added at the end
    fresh = extend(be, found, be.normal(7919, tuple(X.shape), X.dtype, be.device(X)))
    return be.xp.where(lives, found, be.xp.flip(fresh, axis=-1))


def ready(be: Any, P: Any, X: Array) -> None:
    """Let a preconditioner that solves make its factorisation before the compiled loop, not inside."""
    if P is None or be.name != "jax":
        return
    from ..linalg.inverse import KEEP_FACTORS

    token = KEEP_FACTORS.set(True)
    try:
        P @ X
    finally:
        KEEP_FACTORS.reset(token)

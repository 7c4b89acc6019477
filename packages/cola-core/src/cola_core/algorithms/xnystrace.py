"""XNysTrace: the trace of a PSD operator from Nyström approximations that leave one test vector out each.

Source: Epperly, Tropp & Webber, SIMAX 45 (2024) 1 (arXiv 2301.07825). The test vectors are orthonormal here:
given the others each is uniform on the sphere of their complement, which is the length correction of XTrace,
and the residual of the approximation without test vector i is the Schur complement ``1 / (H^{-1})_ii`` of ``H
= Omega^H A Omega``. A is shifted by a multiple of the identity at rounding level; it shifts the trace by a
known amount and adds no variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends import backend_of
from ..backends.base import Array, Backend
from ..errors import NotPositiveDefiniteError
from ..properties import PSD
from .sketch import Sketch, Sketching, believable, next_key, spread

__all__ = ["XNysTrace"]


@dataclass(frozen=True)
class XNysTrace(Sketching):
    """The trace of a PSD operator from s products, with a leave-one-out standard error.

    Half the products of ``XTrace``, from one pass over A. Exact, up to rounding, once s exceeds the rank, and
    exact by n products where ``s >= n``. An operator that is declared PSD and shows a negative direction is
    refused (NaN under a trace).

    tol: standard error relative to the estimate (default 1e-3). Other settings as in ``XTrace``. Memory: 4 s
    vectors.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.PSD(cola.no_dispatch(np.diag(0.5 ** np.arange(200.0))))
    >>> t, info = cola.trace(A, cola.XNysTrace(), return_info=True)
    >>> bool(abs(t - 2) < 1e-3), info.matvecs
    (True, 16)
    """

    passes: ClassVar[int] = 1

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return (
            super().applicable(question, A, *operands) if A.isa(PSD) else "the operator is not declared PSD"
        )

    def trace(self, A: Any) -> Array:
        if A.shape[-1] == 0:
            return A._concrete_backend().zeros(A.batch_shape, A.dtype, A.device)
        return self._run(A, "trace")

    def _grow(self, A: Any, old: Any, stage: int, new: int) -> Sketch:
        be = A._concrete_backend()
        xp = be.xp
        G = be.normal(next_key(be, self.key, stage), (A.shape[-1], new), A.dtype, A.device)
        if old is not None:
            for _ in range(2):
                G = G - old.omega @ (be.adjoint(old.omega) @ G)
        omega = be.qr(G)[0]
        Y = A @ omega
        if old is not None:
            omega, Y = xp.concat([old.omega, omega], axis=-1), xp.concat([old.Y, Y], axis=-1)
        return Sketch(omega, Y, omega, Y)

    def _estimate(self, be: Backend, sketch: Sketch) -> Any:  # type: ignore[override]
        mean, error, rounding, low, top = be.jit(_leave_one_out)(sketch.omega, sketch.Y)
        xp = be.xp
        eps = float(xp.finfo(error.dtype).eps)
        negative = low < -1e3 * eps * top
        if be.is_concrete(negative) and bool(xp.any(negative)):
            raise NotPositiveDefiniteError(
                "XNysTrace of an operator that is declared PSD but has the Ritz value "
                f"{be.number(xp.min(low)):.3g}. Remove the declaration, or use XTrace()."
            )
        mean = xp.where(negative, mean + float("nan"), mean)
        return mean, error, rounding, xp.abs(mean)


def _leave_one_out(omega: Array, Y: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Mean, standard error, rounding error, smallest and largest Ritz value."""
    be: Any = backend_of(Y)
    xp = be.xp
    n, s = Y.shape[-2:]
    H = be.adjoint(omega) @ Y
    H = (H + be.adjoint(H)) / 2
    values = be.eigvalsh(be.constant(H))
    eps = float(xp.finfo(values.dtype).eps)
    lengths = be.norm(be.constant(Y))
    rounding = 4 * eps * xp.sum(lengths, axis=-1)
    # columns of Y are at least as long as those of H: they say how large rounding errors are in both
    shift = 8 * eps * n**0.5 * xp.max(lengths, axis=-1) + xp.maximum(-values[..., 0], 0 * values[..., 0])
    shift = xp.where(shift > 0, shift, xp.ones_like(shift))
    lift = be.astype(shift, Y.dtype)[..., None, None]
    eye = be.eye(s, Y.dtype, be.device(Y))
    L = be.cholesky(H + lift * eye)
    E = be.solve_triangular(L, eye + 0 * H)  # H^{-1} = E^H E
    B = (Y + lift * omega) @ be.adjoint(E)  # the approximation is B B^H
    BE = B @ E
    inverse, gram = be.adjoint(E) @ E, be.adjoint(BE) @ BE
    weight, lost = _diagonal(be, inverse), _diagonal(be, gram)
    whole = xp.sum(be.norm(B) ** 2, axis=-1)[..., None] - n * shift[..., None]
    mean, error = spread(be, whole - lost / weight + (n - s + 1) / weight)
    # without vectors i and j: the two by two blocks of both matrices
    both = weight[..., :, None] * weight[..., None, :]
    left = xp.maximum(1 - xp.abs(inverse) ** 2 / both, 1e-12 + xp.zeros_like(both))
    cross = xp.real(inverse * be.conj(gram)) if be.is_complex(gram) else inverse * gram
    share = (lost / weight)[..., :, None]
    twice = (share + share.mT - 2 * cross / both) / left
    pairs = (n - s + 2) / (weight[..., :, None] * left) - twice
    error = believable(be, error, be.constant(pairs))
    top = xp.max(xp.abs(values), axis=-1)
    rounding = rounding + 4 * eps * xp.abs(be.constant(mean))
    # of a zero operator nothing but the rounding of its shift would be told
    mean = xp.where(xp.max(lengths, axis=-1) > 0, mean, xp.zeros_like(mean))
    error = xp.hypot(error, rounding)
    return be.astype(mean, Y.dtype), error, rounding, values[..., 0], top


def _diagonal(be: Any, M: Array) -> Array:
    d = be.xp.linalg.diagonal(M)
    return be.xp.real(d) if be.is_complex(d) else d

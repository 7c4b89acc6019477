"""The largest singular triples of an operator known by its products: Golub-Kahan-Lanczos bidiagonalisation
with thick restart. Golub & Kahan 1965; Hernández, Román & Tomás, Electron. Trans. Numer. Anal. 31 (2008) 68.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import NonFiniteError, NoRuleError, UnknownNameError
from ..info import Info
from ..properties import Stiefel
from ..pytree import tree_leaves
from .base import Algorithm, question_memory, refuse_batches
from .krylov import first_vector
from .progress import ProgressBar

__all__ = ["LanczosSVD"]


@dataclass(frozen=True)
class LanczosSVD(Algorithm):
    """The k largest singular triples by products with A and its adjoint, fully reorthogonalised. Works on A
    itself, not on ``A^H A``, so that singular values far below the largest keep their digits.

    tol: of the residuals ``|A v - s u|`` and ``|A^H u - s v|`` relative to the largest singular value
    (default 1e-10 in double, 1e-5 in single); they are recomputed at exit. max_iters: products with A
    (default ``max(20 k, 1000)``). basis: vectors kept on each side (default ``max(2 k + 1, 30)``). key: seed
    of the start vector. start_vector: (min(m, n),) to use instead. pbar: show progress. Copies of a multiple
    value are looked for by starting again beside those found.
    """

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        least = min(A.shape[-2:])
        if question == "norm":
            if operands[0] != 2:
                return f"the norm of order {operands[0]!r} needs more than the largest singular value"
            k = 1
        else:
            k, which = operands
            if which != "LM":
                return "the smallest singular values are out of reach of products alone"
        if 4 * k >= least:
            return f"{k} of {least} singular values is a large part of them"
        be = A._concrete_backend()
        if be.name != "abstract" and not _undifferentiated(be, A):
            return "under a trace or differentiation the number of steps must not depend on values"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        m, n = A.shape[-2:]
        k = 1 if question == "norm" else operands[0]
        width = self._basis(k, min(m, n))
        steps = min(min(m, n), 10 * width)
        one = 2 * A.matvec_cost + Cost(4 * width * (m + n), 2 * width * A.itemsize * (m + n), 0, 0, 20)
        total = one * steps
        return Cost(total.flops, total.bytes, 2 * question_memory(A, width + 2), 2 * steps, total.calls)

    def _basis(self, k: int, least: int) -> int:
        return min(least, max(2 * k + 1, 30) if self.basis is None else max(int(self.basis), k + 2))

    def norm(self, A: Any, ord: Any) -> Array:
        if ord != 2:
            raise UnknownNameError(f"LanczosSVD answers the norm of order 2, not {ord!r}.")
        return self.svds(A, 1, "LM")[1][0]

    def svds(self, A: Any, k: int, which: str) -> tuple[Any, Array, Any]:
        from ..operators import Dense

        refuse_batches(A, "LanczosSVD", "SVD()")
        if which != "LM":
            raise UnknownNameError(
                f"LanczosSVD(which={which!r}): only the largest singular values come from products alone. "
                "Use SVD(), or svd(inv(A)) for the smallest."
            )
        be = A._concrete_backend()
        if not _undifferentiated(be, A):
            raise NoRuleError(
                f"LanczosSVD of {A!r} cannot be traced or differentiated: the number of restarts depends on "
                "values. Use alg=SVD() under a transformation."
            )
        m, n = A.shape[-2:]
        if m < n:
            V, s, U = self._run(be, A.H, k)
        else:
            U, s, V = self._run(be, A, k)
        some = frozenset({Stiefel})
        return Dense(U, declared=some), s, Dense(V, declared=some)

    def _run(self, be: Any, A: Any, k: int) -> tuple[Array, Array, Array]:
        """For at least as many rows as columns."""
        import numpy as np

        xp = be.xp
        m, n = A.shape[-2:]
        real = be.real_dtype(A.dtype)
        eps = float(xp.finfo(real).eps)
        tol = max(1e-10, 100 * eps) if self.tol is None else float(self.tol)
        limit = max(20 * k, 1000) if self.max_iters is None else int(self.max_iters)
        width = min(self._basis(k, n), max(limit, k + 1))
        AH = A.H
        U = be.zeros((width, m), A.dtype, A.device)
        V = be.zeros((width + 1, n), A.dtype, A.device)
        V = be.put(V, 0, _unit(be, first_vector(A, self.start_vector, self.key, n, "LanczosSVD")))
        B = np.zeros((width, width), np.complex128 if be.is_complex(A.dtype) else np.float64)
        kept, products, scale, last = 0, 0, 0.0, 0.0
        reason, found = "iteration limit reached", None

        def fresh(basis: Array, seed: int) -> Array:
            w = be.normal(seed, (basis.shape[-1],), A.dtype, A.device)
            return _unit(be, _against(be, basis, w)[1])

        bar = ProgressBar("LanczosSVD") if self.pbar else None
        while True:
            for j in range(kept, width):
                c, u = _against(be, U[:j], A @ V[j])
                products += 1
                a = be.number(xp.linalg.vector_norm(u))
                B[:j, j] = be.to_numpy(c)
                scale = max(scale, a, float(np.abs(B[:j, j]).max(initial=0.0)))
                if not a < float("inf"):
                    raise NonFiniteError(f"a product with {A!r} gave NaN or infinity in step {products}.")
                # A v_j lies in the span of what there is: go on with a direction that A V does not need
                lost = a <= 10 * eps * m**0.5 * scale
                B[j, j] = 0.0 if lost else a
                U = be.put(U, j, fresh(U[:j], products + 7) if lost else u / a)
                _, w = _against(be, V[: j + 1], AH @ U[j])
                last = be.number(xp.linalg.vector_norm(w))
                scale = max(scale, last)
                if last <= 10 * eps * m**0.5 * scale:
                    last = 0.0
                    if j + 1 < n:
                        V = be.put(V, j + 1, fresh(V[: j + 1], products + 3))
                else:
                    V = be.put(V, j + 1, w / last)
            P, s, Qh = np.linalg.svd(B)
            largest = max(float(s[0]), 1e-300)
            error = last * np.abs(P[-1, :])
            if bar is not None:
                bar(products, float(error[:k].max(initial=0.0)))
            if products >= limit or width == n:
                break
            keep, again = min(k + max((width - k) // 2, 1), width - 1), False
            if (error[:k] <= tol * largest).all():
                # one start vector meets one vector of each singular space: start again beside those found,
                # until nothing new is wanted and the next value is known well enough to stay behind
                same = found is not None and bool((np.abs(s[:k] - found) <= 10 * tol * largest).all())
                if same and error[k] <= max(0.01 * (s[k - 1] - s[k]), tol * largest):
                    break
                if not same:
                    found, keep, again = s[:k], k, True
            rotate_u = be.asarray(np.ascontiguousarray(P[:, :keep].T), dtype=A.dtype, device=A.device)
            rotate_v = be.asarray(np.ascontiguousarray(Qh[:keep].conj()), dtype=A.dtype, device=A.device)
            V = be.put(V, slice(0, keep), rotate_v @ V[:width])
            V = be.put(V, keep, V[width] + 0)
            U = be.put(U, slice(0, keep), rotate_u @ U)
            if again:
                V = be.put(V, keep, fresh(V[:keep], products + 11))
            B[:] = 0
            B[range(keep), range(keep)] = s[:keep]
            kept = keep
        if bar is not None:
            bar.close()
        left = be.asarray(np.ascontiguousarray(P[:, :k].T), dtype=A.dtype, device=A.device) @ U
        right = be.asarray(np.ascontiguousarray(Qh[:k].conj()), dtype=A.dtype, device=A.device) @ V[:width]
        values = be.asarray(s[:k].copy(), dtype=real, device=A.device)
        X, Y = left.T, right.T
        weights = be.astype(values, A.dtype)
        gap = xp.maximum(xp.max(be.norm(A @ Y - X * weights)), xp.max(be.norm(AH @ X - Y * weights)))
        residual = be.number(gap) / largest
        converged = residual <= max(10 * tol, 100 * eps * m**0.5)
        record(
            Info(
                method="LanczosSVD",
                converged=converged,
                reason="converged" if converged else reason,
                iterations=products,
                matvecs=2 * products + 2 * k,
                residual=residual,
                tolerance=tol,
                error_estimate=residual * largest,
            )
        )
        return X, values, Y


def _undifferentiated(be: Any, A: Any) -> bool:
    leaves = tree_leaves(A)
    return bool(be.is_concrete(*leaves)) and not any(getattr(x, "requires_grad", False) for x in leaves)


def _against(be: Any, basis: Array, w: Array) -> tuple[Array, Array]:
    """Coefficients of w in orthonormal rows, and what is left (classical Gram-Schmidt twice)."""
    total: Any = 0
    for _ in range(2):
        c = be.conj(basis) @ w
        w = w - basis.T @ c
        total = total + c
    return total, w


def _unit(be: Any, w: Array) -> Array:
    return w / be.xp.linalg.vector_norm(w)

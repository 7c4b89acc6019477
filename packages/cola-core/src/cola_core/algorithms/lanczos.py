"""Lanczos methods for self-adjoint operators:
some eigenpairs by thick restart, and f(A)b without eigenvectors.

Eigenpairs: Wu & Simon, SIMAX 22 (2000) 602. f(A)b: Saad, SINUM 29 (1992) 209; the error estimate is the
change over the last steps. Residuals ``|A v - w v|`` bound the eigenvalue errors and are recomputed at exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import NonFiniteError, NoRuleError
from ..info import Info
from ..properties import SelfAdjoint, Stiefel
from ..pytree import tree_leaves
from .base import Algorithm, question_memory, refuse_batches
from .krylov import first_vector
from .progress import ProgressBar
from .spectrum import order_by

__all__ = ["Lanczos"]


@dataclass(frozen=True)
class Lanczos(Algorithm):
    """Thick-restart Lanczos with full reorthogonalisation.

    tol: relative to the largest Ritz value found (default 1e-10 in double, 1e-5 in single). max_iters:
    products in all (default ``max(20 k, 1000)``). basis: vectors kept (default ``max(2 k + 1, 30)``). key:
    seed of the start vector. start_vector: (n,) to use instead of a random one. pbar: show progress.
    Copies of a multiple eigenvalue are looked for by starting again beside the vectors found, which can
    double the products; behind a tight cluster one may still be missed.
    """

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if A.batch_shape:
            return "batches of operators are not supported"
        if question == "eigsh":
            k, n = operands[0], A.shape[-1]
            if 4 * k >= n:
                return f"{k} of {n} eigenpairs is a large part of the spectrum"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        m = self._basis(operands[0], n) if question == "eigsh" else 50
        steps = min(n, 10 * m) if question == "eigsh" else min(n, m)
        one = A.matvec_cost + Cost(4 * m * n, 2 * m * A.itemsize * n, 0, 0, 10)
        total = one * steps
        return Cost(total.flops, total.bytes, question_memory(A, m + 4), steps, total.calls)

    def _basis(self, k: int, n: int) -> int:
        return min(n, max(2 * k + 1, 30) if self.basis is None else max(int(self.basis), k + 2))

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense

        refuse_batches(A, "Lanczos", "Eigh()")
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        leaves = tree_leaves(A)
        if not be.is_concrete(*leaves):
            raise NoRuleError(
                f"Lanczos eigenpairs of {A!r} cannot be traced: the number of restarts depends on "
                "values. Use alg=Eigh() under a transformation."
            )
        if any(getattr(x, "requires_grad", False) for x in leaves):
            from ..autodiff.torch_implicit import detached, eigenvalues_of

            w, V = self.eigsh(detached(A), k, which)
            w, X = eigenvalues_of(A, w, V.array)
            return w, Dense(X, declared=V.declared)
        eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
        tol = max(1e-10, 100 * eps) if self.tol is None else float(self.tol)
        limit = max(20 * k, 1000) if self.max_iters is None else int(self.max_iters)
        m = self._basis(k, n)
        host = be.zeros((m, m), A.dtype)
        V = be.zeros((m + 1, n), A.dtype, A.device)
        v = first_vector(A, self.start_vector, self.key, n, "Lanczos")
        V = be.put(V, 0, v / xp.linalg.vector_norm(v))
        T, kept, products, reason = host, 0, 0, "iteration limit reached"
        scale = 0.0
        locked: Any = None
        bar = ProgressBar("Lanczos") if self.pbar else None
        while True:
            # extend the basis from kept to m vectors; T carries the arrow left by the last restart
            size = m
            for j in range(kept, m):
                w = A @ V[j]
                products += 1
                c: Any = 0
                known = _filled(be, V, j + 1)
                for _ in range(2):
                    d = be.conj(known) @ w
                    w = w - known.T @ d
                    c = c + d
                c = c[: j + 1] if be.name != "jax" else c[:m]
                T = be.put(T, (slice(0, c.shape[0]), j), c)
                T = be.put(T, (j, slice(0, c.shape[0])), be.conj(c))
                b = float(xp.linalg.vector_norm(w))
                if not b < float("inf"):
                    raise NonFiniteError(
                        f"a product with {A!r} gave NaN or infinity in Lanczos step {products}."
                    )
                scale = max(scale, b, abs(complex(c[j])))
                if b <= 10 * eps * n**0.5 * scale:
                    # invariant subspace: the Ritz pairs are exact;
                    # go on with a fresh direction while one is missing
                    b = 0.0
                    if j + 1 < n:
                        w = be.normal(products + 1, (n,), A.dtype, A.device)
                        for _ in range(2):
                            w = w - known.T @ (be.conj(known) @ w)
                        w = w / xp.linalg.vector_norm(w)
                        V = be.put(V, j + 1, w)
                else:
                    V = be.put(V, j + 1, w / b)
                last = b
            theta, S = be.eigh(T[:size, :size])
            wanted = order_by(be, theta, k, which)
            error = xp.abs(last * S[size - 1, :])
            if bar is not None:
                bar(products, be.number(xp.max(error[wanted])) if k else 0.0)
            largest = max(be.number(xp.max(xp.abs(theta))), 1e-300)
            done = bool(xp.all(error[wanted] <= tol * largest))
            if products >= limit or m == n:
                break
            if done:
                # one start vector meets one vector of each eigenspace: start again beside those found, until
                # nothing new is wanted and the next eigenvalue is known well enough to stay behind
                after = order_by(be, theta, k + 1, which)[k]
                gap = be.number(xp.abs(theta[after] - theta[wanted[-1]]))
                behind = be.number(error[after]) <= max(0.01 * gap, tol * largest)
                same = locked is not None and bool(
                    xp.all(xp.abs(xp.sort(theta[wanted]) - locked) <= 10 * tol * largest)
                )
                if same and behind:
                    break
                if not same:
                    locked = xp.sort(theta[wanted])
                    V = be.put(V, slice(0, k), S[:, wanted].T @ V[:size])
                    w = be.normal(products + 1, (n,), A.dtype, A.device)
                    for _ in range(2):
                        w = w - V[:k].T @ (be.conj(V[:k]) @ w)
                    V = be.put(V, k, w / xp.linalg.vector_norm(w))
                    T = xp.zeros_like(T)
                    index = xp.arange(k)
                    T = be.put(T, (index, index), be.astype(theta[wanted], A.dtype))
                    kept = k
                    continue
            keep = min(k + max((m - k) // 2, 1), m - 1)
            chosen = order_by(be, theta, keep, which)
            Y = S[:, chosen]
            V = be.put(V, slice(0, keep), Y.T @ V[:size])
            V = be.put(V, keep, V[m] + 0)
            T = xp.zeros_like(T)
            index = xp.arange(keep)
            T = be.put(T, (index, index), be.astype(theta[chosen], A.dtype))
            # the arrow (coupling to the new vector) is recomputed by orthogonalisation in the next step
            kept = keep
        if bar is not None:
            bar.close()
        w = theta[wanted]
        X = V[:size].T @ S[:, wanted]
        order = xp.argsort(w)
        w, X = w[order], X[:, order]
        R = A @ X - X * be.astype(w, A.dtype)
        residual = be.number(xp.max(be.norm(R))) / largest if k else 0.0
        converged = residual <= max(10 * tol, 100 * eps * n**0.5)
        record(
            Info(
                method="Lanczos",
                converged=converged,
                reason="converged" if converged else reason,
                iterations=products,
                matvecs=products + k,
                residual=residual,
                tolerance=tol,
                error_estimate=residual * largest,
            )
        )
        index = order_by(be, w, k, which)
        return w[index], Dense(X[:, index], declared=frozenset({Stiefel}))

    def root(self, A: Any) -> Any:
        """The square root itself, which is self-adjoint."""
        from ..linalg.scalar_function import SQRT

        return self.apply_unary(A, SQRT)

    def apply_unary(self, A: Any, f: Any) -> Any:
        from ..linalg.matrix_function import LanczosFunction

        refuse_batches(A, f"Lanczos {f.name}", "Eigh()")

        return LanczosFunction(A, f, self, declared=f.properties(A))


def _filled(be: Any, V: Array, count: int) -> Array:
    """The first ``count`` basis vectors;
    on JAX all rows with the rest zeroed, since every new shape is compiled."""
    if be.name != "jax":
        return V[:count]
    return V * (be.xp.arange(V.shape[0]) < count)[:, None]

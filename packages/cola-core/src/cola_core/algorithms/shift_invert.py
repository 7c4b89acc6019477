"""Eigenvalues of smallest modulus, or nearest a shift, through the inverse: Saad 2011, sec. 8.1.

The eigenvalues of ``A^-1`` are ``1/w``, so those next to zero are its largest and well separated. The public
functions move zero to ``sigma`` before they ask.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import SESSION, Session, record
from ..errors import IllConditionedWarning, NoRuleError, SingularMatrixError
from ..info import Info
from ..properties import SelfAdjoint
from .arnoldi import Arnoldi
from .base import Algorithm, Auto, question_memory, refuse_batches
from .lanczos import Lanczos

__all__ = ["ShiftInvert"]

STEPS = 3  # bases of products: the spectrum of the inverse is so spread out that few restarts are needed


@dataclass(frozen=True)
class ShiftInvert(Algorithm):
    """Lanczos (self-adjoint A) or Arnoldi on ``A^-1``, for ``which="SM"`` and so for ``sigma``.

    tol, max_iters, basis, key: of the iteration. solver: the algorithm for the systems with A; the default
    chooses, and ``Auto`` takes this method only where it finds a rule or a factorisation.
    """

    tol: float | None = None
    max_iters: int | None = None
    key: Any = 0
    basis: int | None = None
    solver: Algorithm = Auto()

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        k, which = operands
        if which != "SM":
            return f"it finds eigenvalues of smallest modulus, or nearest sigma, not {which}"
        if 4 * k >= A.shape[-1] or A.shape[-1] < 20:
            return f"{k} of {A.shape[-1]} eigenpairs is a large part of the spectrum"
        if question == "eigsh" and not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        found = self._systems(A)
        return found if isinstance(found, str) else True

    def _systems(self, A: Any) -> Cost | str:
        """What one factorisation costs, or why there is no direct solve."""
        from ..dispatch.choose import choose_algorithm, select
        from ..dispatch.registry import REGISTRY
        from ..linalg.solve import SOLVE

        be = A._concrete_backend()
        probe = be.zeros((A.shape[-1], 1), A.dtype, A.device)
        for tier in REGISTRY.tiers("solve", (type(A), type(self.solver))):
            for _ in select(SOLVE, tier, (A, probe), self.solver):
                return A.matvec_cost * 4
        try:
            chosen, _ = choose_algorithm(SOLVE, (A, probe), self.solver)
        except NoRuleError:
            return "no algorithm solves with it"
        if isinstance(self.solver, Auto) and chosen.kind != "exact":
            return f"systems with it are solved by {type(chosen).__name__}, not directly"
        return chosen.cost("solve", A, probe)

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n, k = A.shape[-1], operands[0]
        m = self._inner(question)._basis(k, n)
        systems = self._systems(A)
        systems = systems if isinstance(systems, Cost) else A.matvec_cost
        # triangular solves read what the factorisation left behind, once per step
        one = Cost(4 * m * n + systems.memory / A.itemsize, 2 * m * A.itemsize * n + systems.memory, 0, 0, 20)
        total = one * (STEPS * m) + systems
        return replace(total, memory=systems.memory + question_memory(A, m + 4), matvecs=float(STEPS * m))

    def _inner(self, question: str) -> Any:
        method = Lanczos if question == "eigsh" else Arnoldi
        return method(tol=self.tol, max_iters=self.max_iters, key=self.key, basis=self.basis)

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._run("eigsh", A, k, which)

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._run("eigs", A, k, which)

    def _run(self, question: str, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..dispatch.choose import ask
        from ..linalg.inverse import INV
        from ..operators import ScalarMul, add

        refuse_batches(A, "ShiftInvert", "Eigh() or Eig()")
        if which != "SM":
            raise NotImplementedError(
                f"ShiftInvert finds eigenvalues of smallest modulus or nearest sigma, not which={which!r}."
            )
        be = A._concrete_backend()
        xp = be.xp
        inner = self._inner(question)
        moved: Any = 0.0
        quiet = Session(question="solve")
        token = SESSION.set(quiet)
        try:
            with warnings.catch_warnings():
                # close to an eigenvalue the systems are nearly singular, and their solutions all the better
                warnings.simplefilter("ignore", IllConditionedWarning)
                try:
                    mu, V = _several(inner, question, ask(INV, (A,), self.solver), k)
                except SingularMatrixError:
                    v = be.normal(self.key, (A.shape[-1],), A.dtype, A.device)
                    size = be.number(xp.linalg.vector_norm(A @ v) / xp.linalg.vector_norm(v))
                    moved = float(xp.finfo(be.real_dtype(A.dtype)).eps) ** 0.5 * (size or 1.0)
                    beside = add(A, ScalarMul(moved, A.shape[-1]))
                    mu, V = _several(inner, question, ask(INV, (beside,), self.solver), k)
        finally:
            SESSION.reset(token)
        w = 1 / mu - moved
        self._report(A, w, V, quiet)
        return w, V

    def _report(self, A: Any, w: Array, V: Any, quiet: Session) -> None:
        be = A._concrete_backend()
        xp = be.xp
        X = V.array
        AX = A @ X if not be.is_complex(X) or A._is_complex() else A @ xp.real(X) + 1j * (A @ xp.imag(X))
        gap = be.norm(AX - X * be.astype(w, X.dtype))
        k = w.shape[-1]
        probe = be.normal(self.key, (A.shape[-1],), A.dtype, A.device)
        size = xp.linalg.vector_norm(A @ probe) / xp.linalg.vector_norm(probe)
        scale = max(be.number(size), be.number(xp.max(xp.abs(w))), 1e-300)
        residual = be.number(xp.max(gap)) / scale
        made = [i for i in quiet.infos if i.method.startswith(("Lanczos", "Arnoldi"))]
        tol = made[-1].tolerance if made else 1e-10
        eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
        good = residual <= max(10 * tol, 100 * eps * A.shape[-1] ** 0.5) and all(i.converged for i in made)
        record(
            Info(
                method="shift-invert " + (made[-1].method if made else ""),
                converged=bool(good),
                reason="converged" if good else "the residuals are larger than the tolerance",
                iterations=sum(int(i.iterations or 0) for i in made),
                matvecs=k + 1 + sum(int(i.matvecs or 0) for i in quiet.infos if i not in made),
                residual=residual,
                tolerance=tol,
                error_estimate=residual * scale,
            )
        )


DOMINANT = 1e3


def _several(inner: Any, question: str, inverse: Any, k: int) -> tuple[Array, Any]:
    """k eigenpairs of largest modulus of the inverse, although one of them may dwarf the others.

    Lanczos measures errors against the largest. Where zero is all but an eigenvalue, its vectors are
    projected out and the rest is found without them.
    """
    from ..operators import Dense, Identity, LowRank, Product, Sum
    from ..properties import Stiefel

    if question != "eigsh":
        return getattr(inner, question)(inverse, k, "LM")
    be = inverse._concrete_backend()
    xp = be.xp
    mu, V = inner.eigsh(inverse, k, "LM")
    found, basis = [], []
    while k > 1:
        size = xp.abs(mu)
        great = int(be.number(xp.sum(xp.astype(size > DOMINANT * xp.min(size), size.dtype))))
        if great == 0:
            break
        order = xp.argsort(-size)
        found.append(mu[order[:great]])
        basis.append(V.array[:, order[:great]])
        Q = xp.concat(basis, axis=-1)

        away = Sum(Identity.like(inverse), LowRank(-Q, Q))
        D = Product(away, inverse, away, declared=frozenset({SelfAdjoint}))
        k -= great
        mu, V = inner.eigsh(D, k, "LM")
    if not found:
        return mu, V
    X = xp.concat([*basis, V.array], axis=-1)
    return xp.concat([*found, mu]), Dense(X, declared=frozenset({Stiefel}))

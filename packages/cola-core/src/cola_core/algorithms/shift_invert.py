"""Eigenvalues nearest a number, through the inverse: Saad 2011, sec. 8.1.

The eigenvalues of ``(A - s I)^{-1}`` are ``1/(w - s)``: those next to s are its largest and well separated.
For eigenvalues of smallest modulus s is zero (the public functions move ``sigma`` there before they ask); for
the smallest or largest ones of a sparse self-adjoint operator s lies just outside of Gershgorin's bound
(Horn & Johnson 2013, thm 6.1.1), where ``A - s I`` is definite and no eigenvalue can hide behind it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any

from ..autodiff.eigenpairs import general_pairs, selfadjoint_pairs
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import SESSION, Session
from ..errors import IllConditionedWarning, NoRuleError, SingularMatrixError
from ..info import Info, worst_code
from ..properties import PSD, SelfAdjoint
from ..pytree import tree_leaves
from .base import Algorithm, Auto, question_memory, refuse_batches
from .eigenpairs import PairIteration, basis_size, krylov_pairs, pair_tolerance, report_pairs
from .iteration import CONVERGED, RUNNING
from .thick_restart import product

__all__ = ["ShiftInvert"]

STEPS = 3  # bases of products: the spectrum of the inverse is so spread out that few restarts are needed
OUTSIDE = 1e-6  # how far outside of the bound, as a part of the width of the spectrum
DOMINANT = 1e3


@dataclass(frozen=True)
class ShiftInvert(PairIteration):
    """Lanczos (self-adjoint A) or Krylov-Schur on ``(A - s I)^-1``: ``which="SM"`` and so ``sigma``; "SA" and
    "LA" of sparse self-adjoint operators.

    tol, max_iters, basis, key, start_vector: of the iteration. solver: the algorithm for the systems; where
    it has a tolerance and none is set, that is a tenth of the iteration's. The default chooses, and ``Auto``
    takes this method only where it finds a rule or a factorisation.
    """

    tol: float | None = None
    max_iters: int | None = None
    key: Any = 0
    basis: int | None = None
    solver: Algorithm = Auto()
    start_vector: Any = None
    pbar: bool = False

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        k, which = operands
        if which not in ("SM", "SA", "LA"):
            return f"it finds eigenvalues of smallest modulus, or nearest sigma, not {which}"
        if 4 * k >= A.shape[-1] or A.shape[-1] < 20:
            return f"{k} of {A.shape[-1]} eigenpairs is a large part of the spectrum"
        if question == "eigsh" and not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if which != "SM" and (question != "eigsh" or not _bounded(A)):
            return "bounds of the spectrum are read off the entries of sparse self-adjoint operators only"
        if not _readable(A):
            return "under a trace the shift must not depend on values"
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
        m = basis_size(k, n, self.basis)
        systems = self._systems(A)
        systems = systems if isinstance(systems, Cost) else A.matvec_cost
        # triangular solves read what the factorisation left behind, once per step
        one = Cost(4 * m * n + systems.memory / A.itemsize, 2 * m * A.itemsize * n + systems.memory, 0, 0, 20)
        total = one * (STEPS * m) + systems
        return replace(total, memory=systems.memory + question_memory(A, m + 4), matvecs=float(STEPS * m))

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._run("eigsh", A, k, which)

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        return self._run("eigs", A, k, which)

    def _run(self, question: str, A: Any, k: int, which: str) -> tuple[Array, Any]:
        from ..operators import Dense
        from ..properties import Stiefel

        refuse_batches(A, "ShiftInvert", "Eigh() or Eig()")
        self._check(question, A, which)
        be = A._concrete_backend()
        tol = pair_tolerance(be, A.dtype, self.tol)
        hermitian = question == "eigsh"

        def run(operator: Any) -> tuple[Array, Array, Any]:
            _refuse_traced(operator)
            quiet = Session(question="solve")
            token = SESSION.set(quiet)
            try:
                with warnings.catch_warnings():
                    # close to an eigenvalue systems are nearly singular, and their solutions all the better
                    warnings.simplefilter("ignore", IllConditionedWarning)
                    w, X = self._around(operator, k, which, hermitian, tol)
            finally:
                SESSION.reset(token)
            gap = product(be, operator, X) - X * be.astype(w, X.dtype)
            return w, X, self._facts(operator, w, be.norm(gap), quiet.infos, k)

        def inverse(operator: Any) -> Any:
            return self._inverse_beside(operator, which, tol)

        if hermitian:
            w, X, facts = selfadjoint_pairs(be, A, run, tol, "ShiftInvert", inverse=inverse)
        else:
            w, X, facts = general_pairs(be, A, run, tol, "ShiftInvert", inverse=inverse)
        residuals, size, iterations, matvecs, code, condition = facts
        method = "shift-invert " + ("Lanczos" if hermitian else "KrylovSchur")
        report_pairs(be, A, method, residuals, size, tol, iterations, matvecs, code, condition)
        return w, Dense(X, declared=frozenset({Stiefel}) if hermitian else frozenset())

    def _check(self, question: str, A: Any, which: str) -> None:
        if which != "SM" and not (question == "eigsh" and which in ("SA", "LA")):
            raise NotImplementedError(
                f"ShiftInvert finds eigenvalues of smallest modulus or nearest sigma, not which={which!r}."
            )
        if which != "SM" and not _bounded(A):
            raise NotImplementedError(
                f"ShiftInvert(which={which!r}) needs bounds of the spectrum of {A!r}, read off the "
                "entries of a Sparse operator. Give sigma= beyond the wanted eigenvalues instead."
            )

    def _around(self, A: Any, k: int, which: str, hermitian: bool, tol: float) -> tuple[Array, Array]:
        """k pairs of A nearest the number that ``which`` says."""
        be = A._concrete_backend()
        eps = float(be.xp.finfo(be.real_dtype(A.dtype)).eps)
        if which != "SM":
            sigma, sign = _outside(A, which, eps)
            beside = _moved(A, -sigma, sign, declared=frozenset({PSD}))
            mu, X = self._inverse_pairs(beside, k, True, tol, "LA")
            return sigma + sign / mu, X
        try:
            mu, X = self._inverse_pairs(A, k, hermitian, tol, "LM")
            return 1 / mu, X
        except SingularMatrixError:
            v = be.normal(self.key, (A.shape[-1],), A.dtype, A.device)
            size = be.number(be.xp.linalg.vector_norm(A @ v) / be.xp.linalg.vector_norm(v))
            aside = eps**0.5 * (size or 1.0)
            mu, X = self._inverse_pairs(_moved(A, aside), k, hermitian, tol, "LM")
            return 1 / mu - aside, X

    def _solver(self, tol: float) -> Algorithm:
        """The solver, as accurate as the pairs need it."""
        solver = self.solver
        if any(f.name == "tol" for f in fields(solver)) and getattr(solver, "tol", None) is None:
            return replace(solver, tol=0.1 * tol)  # type: ignore[call-arg]
        return solver

    def _inverse_beside(self, A: Any, which: str, tol: float) -> Any:
        """``(A - t I)^{-1}`` for a t near the eigenvalues that were found, and t."""
        from ..dispatch.choose import ask
        from ..linalg.inverse import INV

        be = A._concrete_backend()
        if which == "SM":
            return ask(INV, (A,), self._solver(tol)), 0.0
        t, sign = _outside(A, which, float(be.xp.finfo(be.real_dtype(A.dtype)).eps))
        return sign * ask(INV, (_moved(A, -t, sign, declared=frozenset({PSD})),), self._solver(tol)), t

    def _inverse_pairs(self, A: Any, k: int, hermitian: bool, tol: float, which: str) -> tuple[Array, Array]:
        """k pairs of the inverse, although one of them may dwarf the others.

        Lanczos measures errors against the largest. Where zero is all but an eigenvalue, its vectors are
        projected out and the rest is found without them.
        """
        from ..dispatch.choose import ask
        from ..linalg.inverse import INV
        from ..operators import Identity, LowRank, Product, Sum

        inverse = ask(INV, (A,), self._solver(tol))
        method = "Lanczos" if hermitian else "KrylovSchur"

        def pairs(operator: Any, count: int) -> tuple[Array, Array]:
            return krylov_pairs(operator, self, count, which, hermitian=hermitian, method=method, eager=True)

        mu, X = pairs(inverse, k)
        if not hermitian:
            return mu, X
        be = A._concrete_backend()
        xp = be.xp
        found, basis = [], []
        while k > 1:
            size = xp.abs(mu)
            great = int(be.number(xp.sum(xp.astype(size > DOMINANT * xp.min(size), size.dtype))))
            if great == 0:
                break
            order = xp.argsort(-size)
            found.append(mu[order[:great]])
            basis.append(X[:, order[:great]])
            Q = xp.concat(basis, axis=-1)
            away = Sum(Identity.like(inverse), LowRank(-Q, Q))
            k -= great
            mu, X = pairs(Product(away, inverse, away, declared=frozenset({SelfAdjoint})), k)
        return (xp.concat([*found, mu]), xp.concat([*basis, X], axis=-1)) if found else (mu, X)

    def _facts(self, A: Any, w: Array, residuals: Array, infos: list[Info], k: int) -> tuple[Any, ...]:
        """What ``report_pairs`` is told: residuals, size of A, steps, products, code, condition."""
        be = A._concrete_backend()
        xp = be.xp
        probe = be.normal(self.key, (A.shape[-1],), A.dtype, A.device)
        size = xp.linalg.vector_norm(A @ probe) / xp.linalg.vector_norm(probe)
        made = [i for i in infos if i.method in ("Lanczos", "KrylovSchur")]
        condition = made[-1].condition if made else None
        good = all(i.converged for i in made)
        return (
            residuals,
            xp.maximum(size, xp.max(xp.abs(w))),
            sum(int(i.iterations or 0) for i in made),
            k + 1 + sum(int(i.matvecs or 0) for i in infos if i not in made),
            CONVERGED if good else max((worst_code(i) for i in made), default=RUNNING),
            None if condition is None else xp.ones_like(residuals) * condition,
        )


def _outside(A: Any, which: str, eps: float) -> tuple[float, float]:
    """A number just outside of the spectrum, and the sign of ``A`` minus that which is positive."""
    low, high = gershgorin(A)
    room = max(OUTSIDE, 100 * eps) * (high - low) + 100 * eps * max(abs(low), abs(high))
    room = room or 1.0
    low = max(low, 0.0) if A.isa(PSD) else low
    return (low - room, 1.0) if which == "SA" else (high + room, -1.0)


def _refuse_traced(A: Any) -> None:
    if not _readable(A):
        raise NoRuleError(
            f"ShiftInvert eigenpairs of {A!r} cannot be traced: where A is singular the shift depends on "
            "values. Use alg=Lanczos(), or Eigh(), under a transformation."
        )


def _moved(A: Any, shift: float, sign: float = 1.0, declared: frozenset[Any] = frozenset()) -> Any:
    """``sign (A + shift I)``, with what is known of it besides."""
    from ..operators import ScalarMul, add

    B = add(A if sign > 0 else -A, ScalarMul(sign * shift, A.shape[-1]))
    return B.replace(declared=B.declared | declared) if declared else B


def _bounded(A: Any) -> bool:
    """Whether Gershgorin's bounds can be had: the entries of a sparse self-adjoint operator."""
    from .sparse_lu import _sparse_terms

    return A.isa(SelfAdjoint) and bool(_sparse_terms(A))


def _readable(A: Any) -> bool:
    be = A._concrete_backend()
    return be.name == "abstract" or be.is_concrete(*tree_leaves(A))


def gershgorin(A: Any) -> tuple[float, float]:
    """Numbers below and above all eigenvalues of a sparse self-adjoint operator."""
    import numpy as np

    from .sparse_lu import _assembled

    M = _assembled(A)
    d = M.diagonal().real
    radius = np.asarray(abs(M).sum(axis=1)).ravel() - np.abs(d)
    return float((d - radius).min()), float((d + radius).max())

"""``prepare(solve, A)``: many systems with one operator, or with a sequence of nearby ones.

What can be kept is kept and what is kept is said: a factorisation (also inside a structured inverse), the
preconditioner that an iteration was given, and the space of past solutions, from which the next iteration
starts: the first guess is the combination of them with the least residual (Fischer, CMAME 163 (1998) 193).
``update(A2)`` names what may stay from before; nothing stale is used for an answer without being checked
against the new operator, since whatever is iterated stops by the true residual of A2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from ..algorithms.base import Algorithm, Auto
from ..algorithms.cg import CG
from ..algorithms.deflated_cg import DeflatedCG, Recycle
from ..algorithms.gmres import GMRES
from ..algorithms.iteration import as_preconditioner, differentiated
from ..backends.base import Array, dtype_name
from ..compiling import read_instead
from ..dispatch.question import question_of
from ..errors import BackendError, DTypeError, ShapeError, UnknownNameError
from ..operators import LinearOperator, as_operator
from ..properties import PSD
from ..pytree import tree_leaves
from .determinant import slogdet
from .inverse import Inverse, inv
from .lstsq import LEAST_SQUARES, PseudoInverse, check_least_squares, lstsq, pinv
from .operands import as_algorithm, right_side, square
from .solution_space import SolutionSpace
from .solve import SOLVE, check_solution, solve

__all__ = ["Prepared", "prepare"]

KEEPABLE = ("factorization", "preconditioner", "space")


def _refuse_compiled(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError(
        "prepare(...) keeps things between calls, which a function under torch.compile cannot: make it "
        "outside, or ask solve(A, b)."
    )


@read_instead(_refuse_compiled)
def prepare(question: Any, A: Any, alg: Any = Auto(), *, space: int = 10, recycle: int = 0) -> Prepared:
    """A solver for many right-hand sides: ``cache = prepare(solve, A)``, then ``cache(b)`` often.

    question: ``solve`` or ``lstsq``. alg: as for the question. space: past solutions kept for the first
    guesses of an iteration (columns; 0 keeps none; memory is twice as many vectors). Nothing is computed
    before the first call. recycle: low eigenvectors gathered by each run of CG to shorten the next
    (``DeflatedCG``; worth it where few small eigenvalues make many steps; 0, none). Derivatives and
    traced calls are answered by the question itself, without reuse.

    >>> import numpy as np, cola_core as cola
    >>> cache = cola.prepare(cola.solve, np.array([[2.0, 1.0], [1.0, 3.0]]))
    >>> [np.round(cache(b), 10).tolist() for b in np.eye(2)]
    [[0.6, -0.2], [-0.2, 0.4]]
    >>> cache.factorizations
    1
    """
    asked = question_of(question)
    if asked not in (SOLVE, LEAST_SQUARES):
        raise NotImplementedError(
            f"prepare({asked.name}, A) does not exist: solve and lstsq can be prepared. inv(A) and eigh(A) "
            "keep what they computed in the operators that they return."
        )
    A = square(A, "solve") if asked is SOLVE else as_operator(A)
    return Prepared(asked, A, as_algorithm(alg, asked.name), int(space), int(recycle))


def _answer_compiled(self: Any, b: Any, **how: Any) -> Any:
    """Inside of ``torch.compile`` nothing is kept: the question itself."""
    return (solve if self.question.name == "solve" else lstsq)(self.A, b, self.alg, **how)


class Prepared:
    """What ``prepare`` returns. Not thread-safe: one for each thread.

    A: the operator. solves, factorizations: how often systems were solved and factorisations or inverses
    made. stale: what belongs to an earlier operator (see ``update``).
    """

    def __init__(
        self, question: Any, A: LinearOperator, alg: Algorithm, space: int, recycle: int = 0
    ) -> None:
        self.question, self.A, self.alg = question, A, alg
        self.solves = self.factorizations = 0
        self.stale: frozenset[str] = frozenset()
        self._inverse: LinearOperator | None = None
        self._found: Algorithm | None = None  # the iteration that answers, where one does
        self._used = False  # whether the inverse has computed something
        self._preconditioner: Any = None
        self._space = SolutionSpace(space)
        self._recycle = Recycle(recycle) if recycle else None

    def __repr__(self) -> str:
        kept = [name for name, there in self._kept().items() if there]
        kept = [f"stale {name}" if name in self.stale else name for name in kept]
        return f"Prepared({self.question.name}, {self.A!r}: {', '.join(kept) or 'nothing kept yet'})"

    def _kept(self) -> dict[str, bool]:
        return {
            "factorization": self._used,
            "preconditioner": self._preconditioner is not None,
            "space": len(self._space) > 0,
        }

    @read_instead(_answer_compiled)
    def __call__(self, b: Any, *, return_info: bool = False, on_failure: str = "warn") -> Any:
        """The answer for one or several right-hand sides, as ``solve(A, b)`` or ``lstsq(A, b)`` gives it."""
        public = solve if self.question is SOLVE else lstsq
        b = right_side(self.A, b, self.question.name, rows=self.A.shape[-2])
        be = self.A._concrete_backend()
        reusable = be.is_concrete(b, *tree_leaves(self.A)) and not differentiated(be, self.A, b)
        if not reusable:
            return public(self.A, b, self.alg, return_info=return_info, on_failure=on_failure)
        self.solves += 1
        iteration = self._iteration()
        if iteration is not None:
            return self._iterate(be, b, iteration, return_info, on_failure)
        return self._through_inverse(b, return_info, on_failure)

    @property
    def inverse(self) -> LinearOperator:
        """``inv(A)`` (``pinv(A)`` of lstsq) with everything it has computed so far."""
        if self._inverse is None:
            make = inv if self.question is SOLVE else pinv
            self._inverse = make(self.A, self.alg)
        return self._inverse

    def slogdet(self) -> tuple[Array, Array]:
        """Sign and log-modulus of the determinant of A, from the factorisation where one is kept."""
        square(self.A, "slogdet")
        if self.question is not SOLVE or self._leaf() is not None:
            return slogdet(self.A)  # an iteration has no factors
        self._use()
        sign, value = slogdet(self.inverse)
        be = self.A._concrete_backend()
        return be.conj(sign), -value

    def logdet(self) -> Array:
        """``log |det A|``, as ``slogdet``."""
        return self.slogdet()[1]

    def update(self, A: Any, keep: Iterable[str] = ("space",)) -> None:
        """Go over to another operator of the same shape, dtype and library.

        keep: what may stay from before. "space" (default): the past solutions, multiplied by the new
        operator, so that nothing about them is stale, and the vectors of recycle, which serve nearby
        operators as they are. "preconditioner": the one that was built from the
        earlier operator. "factorization": the earlier one, which becomes the preconditioner of an iteration
        on the new operator (CG where both are PSD, else GMRES), to the algorithm's tol. Everything not named
        is made anew when it is needed; what is older than A is in ``stale``.
        """
        names = frozenset((keep,) if isinstance(keep, str) else keep)
        if not names <= set(KEEPABLE):
            unknown = ", ".join(sorted(names - set(KEEPABLE)))
            raise UnknownNameError(f"update(keep=...): {unknown} is not among {', '.join(KEEPABLE)}.")
        new, old = as_operator(A), self.A
        _same_kind(old, new)
        if "factorization" in names and self.question is not SOLVE:
            raise NotImplementedError(
                'update(keep="factorization") exists for solve, not for lstsq: prepare the normal equations.'
            )
        inverse, preconditioner = self._inverse if self._used else None, self._preconditioner
        be = new._concrete_backend()
        self.A, self._inverse, self._found, self._used = new, None, None, False
        self._preconditioner, self.stale = None, frozenset()
        if "preconditioner" in names and preconditioner is not None:
            self._preconditioner, self.stale = preconditioner, frozenset({"preconditioner"})
        if "factorization" in names and inverse is not None:
            self._preconditioner, self.stale = inverse, frozenset({"preconditioner"})
        if "space" in names and be.is_concrete(*tree_leaves(new)):
            self._space.move(be, new)
        else:
            self._space.clear()
        if self._recycle is not None and "space" not in names:
            self._recycle.clear()

    def refresh(self) -> None:
        """Throw away what is stale; it is made anew from A when it is needed."""
        if self.stale:
            self._preconditioner, self.stale = None, frozenset()

    def _use(self) -> None:
        if not self._used:
            self._used = True
            self.factorizations += 1

    def _through_inverse(self, b: Array, return_info: bool, on_failure: str) -> Any:
        vector = len(b.shape) == 1
        B = b[:, None] if vector else b
        self._use()
        check = check_solution if self.question is SOLVE else check_least_squares
        out = self.question.run(
            *((self.A, B) if self.question is SOLVE else (self.A, B, None)),
            alg=self.alg,
            return_info=return_info,
            on_failure=on_failure,
            check=lambda X, info: check(self.A, X, B, info),
            through=lambda: self.inverse._matmat(B),
        )
        X, info = out if return_info else (out, None)
        X = X[..., 0] if vector else X
        return (X, info) if return_info else X

    def _leaf(self) -> Algorithm | None:
        """The iteration that answers for the whole operator; None where a rule or a factorisation does."""
        if self._used or self._found is not None:
            return self._found
        inverse = self.inverse
        if isinstance(inverse, (Inverse, PseudoInverse)):
            leaf = inverse.leaf()
            if leaf is not None and leaf.kind != "exact" and hasattr(leaf, "x0"):
                self._found = leaf
        return self._found

    def _iteration(self) -> Algorithm | None:
        """The iteration with what is kept put in; None where there is nothing to iterate."""
        if "preconditioner" in self.stale:
            found = self._stale_iteration()
        else:
            leaf = self._leaf()
            if leaf is None:
                return None
            if self._preconditioner is None:
                self._preconditioner = as_preconditioner(getattr(leaf, "P", None), self.A)
            found = leaf
        return _with(found, P=self._preconditioner)

    def _stale_iteration(self) -> Algorithm:
        if not isinstance(self.alg, Auto) and hasattr(self.alg, "P") and self.alg.kind == "iterative":
            return self.alg
        settings = self.alg if isinstance(self.alg, Auto) else Auto()
        definite = self.A.isa(PSD) and self._preconditioner.isa(PSD)
        return settings.configure(CG if definite else GMRES)

    def _iterate(self, be: Any, b: Array, alg: Algorithm, return_info: bool, on_failure: str) -> Any:
        public = solve if self.question is SOLVE else lstsq
        one_matrix = not self.A.batch_shape and len(b.shape) <= 2
        if self._recycle is not None and self.question is SOLVE and type(alg) is CG and one_matrix:
            alg = DeflatedCG(**{f.name: getattr(alg, f.name) for f in fields(alg)}, recycle=self._recycle)
        if one_matrix and getattr(alg, "x0", None) is None:
            B = be.astype(b[:, None] if len(b.shape) == 1 else b, be.xp.result_type(b.dtype, self.A.dtype))
            alg = _with(alg, x0=self._space.guess(be, B))
        x, info = public(self.A, b, alg, return_info=True, on_failure=on_failure)
        if one_matrix:
            self._space.add(be, self.A, x[:, None] if len(x.shape) == 1 else x)
        return (x, info) if return_info else x


def _with(alg: Algorithm, **settings: Any) -> Algorithm:
    """The algorithm with those settings that it has and that are given."""
    known = {f.name for f in fields(alg)}
    return replace(alg, **{k: v for k, v in settings.items() if k in known and v is not None})


def _same_kind(old: LinearOperator, new: LinearOperator) -> None:
    """Refuse what the kept arrays cannot belong to."""
    if new.shape != old.shape:
        raise ShapeError(f"update({new!r}) of shape {new.shape}: prepared was {old!r} of shape {old.shape}.")
    if dtype_name(new.dtype) != dtype_name(old.dtype):
        raise DTypeError(
            f"update({new!r}) of dtype {dtype_name(new.dtype)}: prepared was {old!r} of "
            f"{dtype_name(old.dtype)}. Convert the operator, or prepare anew."
        )
    if new.backend is not old.backend:
        names = [A.backend.name if A.backend is not None else "no library" for A in (new, old)]
        raise BackendError(f"update({new!r}) holds {names[0]} arrays; prepared was {old!r} with {names[1]}.")

"""Solves that a derivative needs: they inherit everything from the solve whose answer is differentiated, and
say how they went.

The derivative of ``x = A^{-1} b`` takes one more solve, with ``A^H`` (reverse mode) or with A (forward mode),
by the same algorithm with its tolerance, budgets and (adjoint) preconditioner. What fails there makes the
derivative wrong and not the value, so it is reported by itself: as an ``Info`` of the method "gradient of
...", under the failure policy (``on_failure``) of the question that was asked. In eager PyTorch that
happens where the derivative is computed. Programs of JAX tell the host by a callback, which costs nothing
where the tolerance is met (unless ``infos()`` was open while they were traced, when it tells of every solve);
an error raised there arrives as JAX's own error that quotes it. ``on_failure="ignore"`` leaves the callback
out of the program.

A value that missed its tolerance has been reported as such; its derivative is that of another system, however
well its own solve went, and its ``Info`` says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..backends.base import Array, Backend
from ..dispatch.session import COLLECTED, aside, record, session
from ..info import Info, report
from ..pytree import map_leaves

__all__ = ["Derivative", "solved"]

Solve = Callable[[Any, Array], tuple[Array, Info, Any]]

UNCONVERGED = "the value that is differentiated missed its tolerance"


def solved(
    be: Backend,
    A: Any,
    B: Array,
    value: Callable[[Any, Array], tuple[Array, Any]],
    forward: Solve,
    adjoint: Solve,
    told: Callable[[Any, Array, Array, Any], Info],
) -> Array:
    """``A^{-1} B`` as one differentiable step.

    value(A, B) -> (X, found): the solve itself, with its first guess. forward, adjoint: (A, B) -> (X, Info,
    found), the solves of derivatives, with A and with its adjoint. told(A, X, B, found) -> Info of the value,
    which is recorded.
    """
    derivative = Derivative.here()
    again, backward = derivative.solves(be, forward), derivative.solves(be, adjoint)
    if be.name == "jax":
        X, found = be.implicit_solve(A, value, B, backward, again)
        infos = [told(map_leaves(be.constant, A), be.constant(X), be.constant(B), found)]
    else:  # there are numbers inside, also under transformations; of a batch of operators one after the other
        infos = []

        def solve(A: Any, B: Array) -> tuple[Array, None]:
            X, found = value(A, B)
            infos.append(told(A, X, B, found))
            return X, None

        X, _ = be.implicit_solve(A, solve, B, backward, again)
    derivative.failed = any(info.converged is False for info in infos)
    for info in infos:
        record(info)
    return X


@dataclass
class Derivative:
    """What the solves for the derivative of one answer inherit from the question that asked for it.

    question: its name. policy: ``on_failure``. collected: the list of ``infos()`` that was open, and the
    thread that had opened it. failed: whether the answer is known to have missed its tolerance.
    """

    question: str
    policy: str
    collected: list[Info] | None
    thread: int
    failed: bool = False

    @classmethod
    def here(cls) -> Derivative:
        """Of an answer to the question that is running."""
        current, collected = session(), COLLECTED.get()
        thread = 0 if collected is None else threading.get_ident()
        if current is None:
            return cls("solve", "warn", collected, thread)
        return cls(current.question or "solve", current.on_failure, collected, thread)

    def solves(self, be: Backend, solve: Solve) -> Callable[[Any, Array], tuple[Array, Any]]:
        """``solve(A, B) -> (X, info, aux)`` as ``be.implicit_solve`` wants it, with ``info`` told and zero
        columns left out."""

        def reported(A: Any, B: Array) -> tuple[Array, Any]:
            places = _columns(be, A, B)
            if places is None:
                X, info, aux = solve(A, B)
                self.tell(be, A, info)
                return X, aux
            none = be.zeros((A.shape[-1], B.shape[-1]), B.dtype, be.device(B))
            if not places.shape[0]:
                return none, None
            X, info, aux = solve(A, B[:, places])
            self.tell(be, A, info)
            return be.put(none, (slice(None), places), X), aux

        return reported

    def asked(self, be: Backend, A: Any, solve: Callable[[], Array]) -> Array:
        """``solve()``, with all that it reports told as of a derivative."""
        with aside(always=True) as inside:
            out = solve()
        for info in inside.infos:  # type: ignore[union-attr]
            self.tell(be, A, info)
        return out

    def tell(self, be: Backend, A: Any, info: Info) -> None:
        """Report the Info of a derivative's solve, now or when the traced program runs."""
        info = info.replace(method=f"gradient of {info.method}")
        name = f"gradient of {self.question}"
        if be.name == "jax" and not be.is_concrete(*_numbers(info)):
            self._later(be, name, repr(A), info)
            return
        if self.failed and info.converged is True:
            info = info.replace(converged=False, codes=None, reason=UNCONVERGED)
        self._deliver(name, lambda: repr(A), info)

    def _deliver(self, name: str, operator: Callable[[], str], info: Info) -> None:
        collected = COLLECTED.get()
        if collected is None and threading.get_ident() != self.thread:
            collected = self.collected  # the library computes derivatives in a thread of its own
        if collected is not None:
            collected.append(info)
        if info.converged is False and self.policy != "ignore":
            _report(info, self.policy, name, operator())

    def _later(self, be: Backend, name: str, operator: str, info: Info) -> None:
        """From inside a compiled program: always where somebody collects, else only of failures."""
        import jax

        collected, policy = self.collected, self.policy
        if collected is None and policy == "ignore":
            return
        fields = [n for n in NUMBERS if getattr(info, n) is not None]
        values = [jax.numpy.asarray(getattr(info, n)) for n in fields]
        method, tolerance, reason = info.method, info.tolerance, info.__dict__["reason"]

        def listener(*found: Any) -> None:  # outlives the trace: it must hold none of its arrays
            told = dict(zip(fields, (np.asarray(x) for x in found), strict=True))
            converged = bool(told.pop("converged").all())
            if converged and collected is None:
                return
            numbers: dict[str, Any] = {n: (x.item() if not x.shape else x) for n, x in told.items()}
            made = Info(method=method, tolerance=tolerance, reason=reason, converged=converged, **numbers)
            if collected is not None:
                collected.append(made)
            if not converged and policy != "ignore":
                _report(made, policy, name, operator)

        def tell() -> None:
            be.report(listener, *values)

        if collected is not None:
            tell()
        else:
            jax.lax.cond(jax.numpy.all(info.converged), lambda: None, tell)


def _report(info: Info, policy: str, name: str, operator: str) -> None:
    method = info.method.removeprefix("gradient of ")
    report(info.replace(method=method), policy, name, operator, stacklevel=2)


NUMBERS = ("converged", "codes", "iterations", "matvecs", "residual", "residuals")


def _numbers(info: Info) -> list[Any]:
    return [x for x in (info.converged, info.residual, info.iterations) if hasattr(x, "shape")]


def _columns(be: Backend, A: Any, B: Array) -> Array | None:
    """The indices of the columns that are not zero; None for all, and where it cannot be told."""
    if len(B.shape) != 2 or A.batch_shape or not be.is_concrete(B):
        return None
    some = be.xp.any(B != 0, axis=-2)
    if bool(be.xp.all(some)):
        return None
    return be.xp.nonzero(some)[0]

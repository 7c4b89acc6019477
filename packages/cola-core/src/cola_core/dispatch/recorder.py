"""``Recorder``: builds a plan while a question runs, on placeholders or on real operands.

Measuring takes two readings a node where Python's own bookkeeping of memory is on (``tracemalloc``, which
NumPy reports its arrays to): the peak while it ran, above what was held when it began. What PyTorch, JAX and
libraries in C allocate is not seen, and then no number is shown.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .plan import PlanNode
from .registry import REGISTRY
from .session import SESSION, Session

__all__ = ["Recorder", "take_times"]


@dataclass(slots=True)
class _Running:
    """A node that is being answered. start, peak: bytes; spent: seconds used for measuring within it."""

    node: PlanNode
    begun: float
    infos: int
    start: float = 0.0
    peak: float = 0.0
    spent: float = 0.0


class Recorder:
    """planning: leaves answer with placeholders instead of computing. library, device: whose arrays the
    placeholders stand for, and the kind of device they are on. thorough: note every candidate. measure: take
    memory and residuals beside times."""

    def __init__(
        self,
        planning: bool,
        library: str = "",
        thorough: bool = False,
        measure: bool = False,
        device: str = "",
    ) -> None:
        self.planning = planning
        self.library = library
        self.device = device
        self.thorough = thorough
        self.measure = measure
        self.root: PlanNode | None = None
        self._stack: list[_Running] = []

    def ask(self, question: Any, args: tuple[Any, ...], alg: Any, answer: Callable[..., Any]) -> Any:
        A = args[0]
        node = PlanNode(question.name, repr(A), A.shape, planning=self.planning, thorough=self.thorough)
        if self.root is None:
            self.root = node
        parent = self._stack[-1] if self._stack else None
        running = self._enter(node, parent)
        try:
            found = answer(question, args, alg, node)
        except Exception as error:
            self._leave(running, parent)
            if not self.planning or not node.by or parent is None and isinstance(error, LookupError):
                raise
            # a rule that computes on values cannot be planned through: say so and answer with the shape
            node.note = f"not planned further: {type(error).__name__}: {error}".splitlines()[0][:160]
            found = question.abstract(*args)
        except BaseException:
            self._leave(running, parent)
            raise
        else:
            self._measured(running, question, args, found)
            self._leave(running, parent)
        if self.thorough:
            classes = tuple(type(a) for a in args[: question.operators])
            rules = REGISTRY.rules.get(question.name, ())
            node.unmatched = sum(not r.matches((*classes, type(alg))) for r in rules)
        return found

    # -- measuring -------------------------------------------------------------------------------------------
    def _enter(self, node: PlanNode, parent: _Running | None) -> _Running:
        current = SESSION.get()
        infos = 0 if current is None else len(current.infos)
        running = _Running(node, 0.0, infos)
        self._stack.append(running)
        if self._tracing():
            held, peak = tracemalloc.get_traced_memory()
            if parent is not None:
                parent.peak = max(parent.peak, peak)
            tracemalloc.reset_peak()
            running.start = running.peak = held
        running.begun = time.perf_counter()
        return running

    def _measured(self, running: _Running, question: Any, args: tuple[Any, ...], found: Any) -> None:
        """Close the readings of a node that has its answer."""
        if self.planning:
            return
        node, stop = running.node, time.perf_counter()
        node.seconds = stop - running.begun - running.spent
        if self._tracing():
            running.peak = max(running.peak, tracemalloc.get_traced_memory()[1])
            node.peak = max(running.peak - running.start, 0.0)
        current = SESSION.get()
        new = [] if current is None else current.infos[running.infos :]
        made = [i.matvecs for i in new if _plain(i.matvecs)]
        node.products = float(sum(made)) if made else None
        missed = next((i for i in new if i.converged is False), None)
        if missed is not None:
            told = f"{missed.method} did not converge: {missed.reason}"
            node.note = f"{node.note}; {told}" if node.note else told
        if self.measure and node.sent_per_product:
            node.collectives = _of_product(args)
            running.spent += time.perf_counter() - stop
            stop = time.perf_counter()
        if self.measure:
            from .residuals import residual

            known = [float(i.residual) for i in new if _plain(i.residual)]
            token = SESSION.set(Session())  # what the check itself asks is no part of the plan
            try:
                again = residual(question.name, args, found)
            finally:
                SESSION.reset(token)
            node.residual = again if again is not None else max(known, default=None)
            running.spent += time.perf_counter() - stop

    def _leave(self, running: _Running, parent: _Running | None) -> None:
        self._stack.pop()
        if parent is None:
            return
        if self._tracing():
            parent.peak = max(parent.peak, running.peak)
            tracemalloc.reset_peak()
        parent.spent += running.spent
        node, siblings = running.node, parent.node.children
        twin = siblings[-1] if siblings else None
        if twin is None or not _same(twin, node):
            siblings.append(node)
            return
        twin.repeated += 1
        if node.seconds is not None:
            twin.seconds = (twin.seconds or 0) + node.seconds
        if node.products is not None:
            twin.products = (twin.products or 0) + node.products
        for name in ("peak", "residual"):
            values = [v for v in (getattr(twin, name), getattr(node, name)) if v is not None]
            setattr(twin, name, max(values, default=None))

    def _tracing(self) -> bool:
        return self.measure and self.library == "numpy" and tracemalloc.is_tracing()


def _of_product(args: tuple[Any, ...]) -> Any:
    """What the compiled product with a vector sends between devices: with one that lies like those asked
    about, where there is one."""
    A = args[0]
    be = A._concrete_backend()
    n = A.shape[-1]
    right = [x for x in args[1:] if getattr(x, "shape", ())[:1] == (n,) and not hasattr(x, "_child_fields")]
    x = right[0] if right else be.zeros((n,), A.dtype, A.device)
    x = x if len(x.shape) == 1 else x[:, :1]
    return be.collectives(lambda A, x: A @ x, A, x)


def _plain(value: Any) -> bool:
    """A number that can be read: not None, and not traced."""
    if value is None or isinstance(value, (int, float)):
        return value is not None
    try:
        float(value)
    except Exception:  # noqa: BLE001 - each framework has its own tracer error
        return False
    return True


def take_times(into: PlanNode, other: PlanNode) -> None:
    """The times of a second run, where it went the same way."""
    if into.by == other.by and len(into.children) == len(other.children):
        into.seconds = other.seconds
        for a, b in zip(into.children, other.children, strict=True):
            take_times(a, b)


def _same(a: PlanNode, b: PlanNode) -> bool:
    """Whether two neighbours would print alike, so that twenty equal blocks take one line."""
    if (a.question, a.operator, a.shape, a.by, a.settings, a.note) != (
        b.question,
        b.operator,
        b.shape,
        b.by,
        b.settings,
        b.note,
    ):
        return False
    return len(a.children) == len(b.children) and all(map(_same, a.children, b.children))

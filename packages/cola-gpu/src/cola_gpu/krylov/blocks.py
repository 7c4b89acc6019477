"""Loops whose condition is looked at after every block of steps.

A block is a function of a tuple of arrays that makes several steps without looking at any value. ``Block``
launches it: the first time step by step, which warms up libraries and caches, the second time, too, to see
whether anything waits for the device; from the third time on as one recorded graph, where there is a recorder
(``graphs``), whose buffers the arrays of the state then are. What cannot be recorded is launched step by
step, and that is noted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cola_core.backends import Backend

from . import graphs

__all__ = ["Block", "OnDevice", "drive", "repeated"]

State = tuple[Any, ...]


class Block:
    """Launches a block of steps again and again: ``state = block(state)``.

    The arrays of a state that was handed out are overwritten by the next call.
    """

    def __init__(self, be: Backend, work: Callable[[State], State], recorded: bool = True) -> None:
        self.be, self.work, self.recorded = be, work, recorded
        self.calls = 0
        self.recorder: graphs.Recorder | None = None
        self.buffers: State = ()
        self.replay: Callable[[], None] | None = None

    def __call__(self, state: State) -> State:
        """One more block."""
        self.calls += 1
        if self.replay is not None:
            _into(self.buffers, state)
            self.replay()
            return self.buffers
        if self.calls == 2 and self.recorded:
            self.recorder = graphs.recorder_for(self.be, *state)
        if self.recorder is None:
            return self.work(state)
        if self.calls == 2:
            out, problem = self.recorder.trial(lambda: self.work(state))
            if problem:
                self._give_up(problem)
            return out  # type: ignore[no-any-return]
        self.buffers = _distinct(state)
        try:
            self.replay = self.recorder.record(lambda: _into(self.buffers, self.work(self.buffers)))
        except Exception as error:  # noqa: BLE001 - whatever it is, steps can still be launched one by one
            first = (str(error).splitlines() or [""])[0][:120]
            self._give_up(f"{type(error).__name__}: {first}")
            return self.work(self.buffers)
        graphs.note(self.recorder.name)
        self.replay()
        return self.buffers

    def _give_up(self, problem: str) -> None:
        if self.recorder is not None:
            graphs.note(f"launched step by step: no {self.recorder.name} ({problem})")
        self.recorder = None


def _storage(x: Any) -> int:
    return int(x.untyped_storage().data_ptr())


def _distinct(state: State) -> State:
    """The same values, each in memory of its own."""
    seen: set[int] = set()
    out = []
    for x in state:
        if _storage(x) in seen or not x.is_contiguous():
            x = x.clone()
        seen.add(_storage(x))
        out.append(x)
    return tuple(out)


def _into(buffers: State, state: State) -> None:
    """Copy a state into the buffers; an array that lies in another's buffer is saved before that changes."""
    held = {_storage(b) for b in buffers}
    moved = [
        x if x is b else x.clone() if _storage(x) in held else x for b, x in zip(buffers, state, strict=True)
    ]
    for b, x in zip(buffers, moved, strict=True):
        if x is not b:
            b.copy_(x)


def repeated(be: Backend, step: Callable[[State], State], times: int) -> Callable[[State], State]:
    """A block of so many steps: one loop of known length in JAX, launched one after the other elsewhere."""
    if times == 1:
        return step
    if be.name == "jax":
        import jax

        return lambda state: jax.lax.fori_loop(0, times, lambda _, s: step(s), state)

    def block(state: State) -> State:
        for _ in range(times):
            state = step(state)
        return state

    return block


def drive(
    be: Backend,
    going: Callable[[State], Any],
    block: Callable[[State], State],
    state: State,
    recorded: bool = True,
) -> State:
    """``while going(state): state = block(state)``; the host waits once a block, in JAX not at all."""
    if be.name == "jax" or not be.is_concrete(*state):
        return be.while_loop(going, block, state)  # type: ignore[no-any-return]
    launched = Block(be, block, recorded)
    while bool(going(state)):
        state = launched(state)
    return state


class OnDevice:
    """A backend whose loops are driven by blocks of ``every`` steps, and whose small eigenproblems do not
    make the host wait; everything else is the backend's own.

    A step after the condition has become false changes nothing: its result is thrown away by a mask.
    """

    def __init__(self, be: Backend, every: int, recorded: bool = True) -> None:
        self._be, self._every, self._recorded = be, every, recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._be, name)

    def eigh(self, A: Any) -> tuple[Any, Any]:
        """As the backend's, for small matrices."""
        from .jacobi import small_eigh

        return small_eigh(self._be, A)

    def while_loop(self, cond: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """As the backend's, for a tuple of arrays and numbers."""
        be = self._be
        device = next((be.device(x) for x in state if hasattr(x, "shape")), None)
        state = tuple(x if hasattr(x, "shape") else be.asarray(x, device=device) for x in state)

        def step(old: State) -> State:
            on, new = cond(old), body(old)
            return tuple(be.xp.where(on, be.astype(n, o.dtype), o) for o, n in zip(old, new, strict=True))

        traced = be.name != "jax" and not be.is_concrete(*state)
        times = 1 if traced else self._every
        return drive(be, cond, body if times == 1 else repeated(be, step, times), state, self._recorded)

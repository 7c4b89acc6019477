"""Recording a piece of work on a device once, to launch it again as a whole: CUDA graphs behind a small door.

A recorder takes work that reads and writes tensors at fixed addresses, and returns a function that does the
same work on the same tensors again. Recording itself does not execute anything. (Nguyen et al., "Accelerating
PyTorch with CUDA Graphs", 2021.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from cola_core.backends import Backend

__all__ = ["CudaGraphs", "Recorder", "note", "noted", "recorder_for"]

_NOTES: ContextVar[list[str] | None] = ContextVar("cola_gpu_notes", default=None)


class Recorder(Protocol):
    """What ``blocks.Block`` needs."""

    name: str

    def trial(self, work: Callable[[], Any]) -> tuple[Any, str]:
        """``work()``, done once for its result, and what in it forbids recording ("" if nothing was seen)."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Note down what ``work`` launches, without doing it; the result does it each time it is called.
        Raises whatever shows that the work cannot be recorded."""


class CudaGraphs:
    """The recorder of PyTorch on CUDA."""

    name = "CUDA graph"

    def __init__(self, device: Any) -> None:
        self.device = device

    def trial(self, work: Callable[[], Any]) -> tuple[Any, str]:
        """PyTorch warns of its own operations that wait. To look for them first is worth a block: a capture
        that fails leaves the allocator in a state that costs memory."""
        import torch

        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                out = work()
        finally:
            torch.cuda.set_sync_debug_mode(before)
        waits = [w for w in said if "synchronizing CUDA operation" in str(w.message)]
        for w in said:
            if w not in waits:
                warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
        return out, "the operator waits for the device" if waits else ""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture on a stream of its own; allocations come from the graph's pool and live as long as it."""
        import torch

        with torch.cuda.device(self.device):
            before = torch.cuda.current_stream()
            graph = torch.cuda.CUDAGraph()
            try:
                # other threads may allocate meanwhile: only what this one does counts
                stream = torch.cuda.Stream()
                with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                    work()
            finally:
                torch.cuda.set_stream(before)  # which a capture that failed does not restore
        return graph.replay  # type: ignore[no-any-return]


def recorder_for(be: Backend, *arrays: Any) -> Recorder | None:
    """The recorder for work on these arrays, or None where every block is launched step by step."""
    if be.name != "torch" or not arrays or not all(x.is_cuda for x in arrays):
        return None
    return CudaGraphs(arrays[0].device)


def note(text: str) -> None:
    """Tell how the steps were launched, to whoever listens (``noted``)."""
    notes = _NOTES.get()
    if notes is not None and text not in notes:
        notes.append(text)


@contextmanager
def noted() -> Any:
    """Within, a list that receives the notes."""
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)

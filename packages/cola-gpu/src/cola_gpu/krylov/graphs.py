"""Recording a piece of work on a device once, to launch it again as a whole: CUDA graphs behind a small door.

A recorder takes work that reads and writes tensors at fixed addresses, and returns a function that does the
same work on the same tensors again. Recording itself does not execute anything. (Nguyen et al., "Accelerating
PyTorch with CUDA Graphs", 2021.)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from cola_core.backends import Backend

__all__ = ["CudaGraphs", "Recorder", "noted", "note", "recorder_for"]

_NOTES: ContextVar[list[str] | None] = ContextVar("cola_gpu_notes", default=None)


class Recorder(Protocol):
    """What ``blocks.Block`` needs."""

    name: str

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Note down what ``work`` launches, without doing it; the result does it each time it is called.
        Raises whatever shows that the work cannot be recorded (it waits for a value, say)."""


class CudaGraphs:
    """The recorder of PyTorch on CUDA."""

    name = "CUDA graph"

    def __init__(self, device: Any) -> None:
        self.device = device

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Capture on a stream of its own; allocations come from the graph's pool and live as long as it."""
        import torch

        with torch.cuda.device(self.device):
            graph = torch.cuda.CUDAGraph()
            # other threads may allocate meanwhile: only what this one does counts
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                work()
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

"""What a computation in PyTorch or JAX allocates: bytes written, the largest array, and flops of products."""

from __future__ import annotations

import math


class Spy:
    """Bytes of all arrays that were made, and the size of the largest; views make none."""

    def __init__(self):
        self.bytes, self.largest = 0, 0

    def __enter__(self):
        from torch import Tensor
        from torch.utils._python_dispatch import TorchDispatchMode

        spy = self

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if not func.is_view:
                    for x in out if isinstance(out, (tuple, list)) else (out,):
                        if isinstance(x, Tensor) and str(x.layout) == "torch.strided":
                            size = x.untyped_storage().nbytes() // x.element_size()
                            spy.largest = max(spy.largest, size)
                            spy.bytes += x.numel() * x.element_size()
                return out

        self.mode = Mode()
        self.mode.__enter__()
        return self

    def __exit__(self, *error):
        return self.mode.__exit__(*error)


class Peak:
    """The most bytes that the tensors made inside have held together."""

    def __init__(self):
        self.bytes, self._alive = 0, {}

    def __enter__(self):
        from torch import Tensor
        from torch.utils._python_dispatch import TorchDispatchMode

        spy = self

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if not func.is_view:
                    for x in out if isinstance(out, (tuple, list)) else (out,):
                        if isinstance(x, Tensor) and x.untyped_storage()._cdata not in spy._alive:
                            spy._count(x.untyped_storage())
                return out

        self.mode = Mode()
        self.mode.__enter__()
        return self

    def __exit__(self, *error):
        return self.mode.__exit__(*error)

    def _count(self, storage):
        from torch.multiprocessing.reductions import StorageWeakRef

        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.bytes = max(self.bytes, sum(size for _, size in self._alive.values()))


def sizes(jaxpr):
    """Entries of every array in a JAX program, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (math.prod(getattr(v.aval, "shape", ())) for v in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

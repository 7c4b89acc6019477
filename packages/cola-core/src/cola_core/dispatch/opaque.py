"""Under ``torch.compile`` a question is one step of the program.

Dynamo, which reads Python to compile it, cannot read a dispatcher (context variables, caches, clocks). Where
it meets an ``opaque`` function it reads ``inline`` in its place (see ``compiling``): the function becomes a
single call, whose inside is traced with arrays that have shapes only, as JAX traces. Eager code never sees
any of this, and PyTorch is not imported here: ``inline`` runs only where Dynamo is reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..compiling import read_instead

__all__ = ["opaque"]

F = TypeVar("F", bound=Callable[..., Any])


def opaque(fn: F) -> F:
    """Make a function of a module, or a method of a class of one, a single step of a compiled program.

    Its arguments are arrays, operators, algorithms and static settings; its answer is made of arrays and
    operators.
    """
    if hasattr(fn, "_torchdynamo_inline"):
        return fn
    module, name = fn.__module__, fn.__qualname__

    def inline(*args: Any, **kwargs: Any) -> Any:
        from ..autodiff.torch_compile import step

        return step(module, name, args, kwargs)

    return read_instead(inline)(fn)

"""What NumPy's and PyTorch's functions do when an operator is among their arguments.

``x @ A``, ``x + A``, ``c * A`` and the functions behind these signs (``np.matmul``, ``torch.add``) mean
arithmetic of operators. Every other function wants entries, which an operator does not have: it raises a
TypeError that names what to write instead. Nothing ever becomes an array of Python objects.
"""

from __future__ import annotations

import operator as signs
import sys
from collections.abc import Callable
from typing import Any

from ..compiling import being_compiled

__all__ = ["TorchFunction", "array_function", "array_ufunc", "torch_function"]

_SIGNS: dict[str, tuple[str, Callable[..., Any]]] = {
    # the library's name: (the special method's, the function)
    "matmul": ("matmul", signs.matmul),
    "add": ("add", signs.add),
    "sub": ("sub", signs.sub),
    "subtract": ("sub", signs.sub),
    "mul": ("mul", signs.mul),
    "multiply": ("mul", signs.mul),
    "div": ("truediv", signs.truediv),
    "divide": ("truediv", signs.truediv),
    "true_divide": ("truediv", signs.truediv),
    "truediv": ("truediv", signs.truediv),
    "neg": ("neg", signs.neg),
    "negative": ("neg", signs.neg),
    "positive": ("pos", signs.pos),
    "pow": ("pow", signs.pow),
    "power": ("pow", signs.pow),
}

# functions of other libraries, and the expression that says the same of an operator
_INSTEAD = {
    "dot": "x @ A",
    "mm": "x @ A",
    "mv": "A @ x",
    "bmm": "x @ A",
    "vdot": "x @ A",
    "inner": "x @ A",
    "multi_dot": "A @ B",
    "einsum": "x @ A",
    "tensordot": "x @ A",
    "transpose": "A.T",
    "matrix_transpose": "A.T",
    "adjoint": "A.H",
    "conjugate": "A.conj()",
    "conj": "A.conj()",
    "diagonal": "cola_core.diag(A)",
    "matrix_rank": "cola_core.rank(A)",
    "matrix_norm": "cola_core.norm(A)",
    "eigvals": "cola_core.eig(A)[0]",
    "matrix_power": "A ** k",
    "matrix_exp": "cola_core.exp(A)",
    "expm": "cola_core.exp(A)",
    "logm": "cola_core.log(A)",
    "sqrtm": "cola_core.sqrt(A)",
    "hstack": "cola_core.ops.Concatenated(A, B, axis=-1)",
    "vstack": "cola_core.ops.Concatenated(A, B, axis=-2)",
    "concatenate": "cola_core.ops.Concatenated(A, B)",
    "block": "cola_core.ops.Block([[A, B], [C, D]])",
    "block_diag": "cola_core.block_diag(A, B)",
}
_ANOTHER = {"sum", "load", "save"}  # ours of this name does something else
_ENTRYWISE = {"exp", "log", "sqrt", "sin", "cos", "sign"}  # the matrix function is another thing
_FACTS: dict[str, Callable[[Any], Any]] = {
    "shape": lambda A: A.shape,
    "ndim": lambda A: A.ndim,
    "size": lambda A: _size(A.shape),
    "iscomplexobj": lambda A: A._is_complex(),
    "isrealobj": lambda A: not A._is_complex(),
}


def array_ufunc(A: Any, ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The signs of arithmetic with a NumPy array on either side; a TypeError for all other ufuncs."""
    name = ufunc.__name__
    if name == "matmul" and inputs[1] is A and method == "__call__" and not kwargs:
        return A.__rmatmul__(inputs[0])
    if method == "__call__" and not kwargs:
        if name in ("equal", "not_equal"):  # an operator equals itself only, as any object does
            return (inputs[0] is inputs[1]) == (name == "equal")
        if name in _SIGNS:
            return _arithmetic(name, inputs)
    if "out" in kwargs:
        raise TypeError(f"numpy.{name} cannot write {A!r} into an array: write x = x + A, not x += A.")
    raise TypeError(_refusal("numpy", name if method == "__call__" else f"{name}.{method}", A))


def _arithmetic(name: str, operands: tuple[Any, ...]) -> Any:
    """A sign of arithmetic between an operator and whatever stands beside it."""
    from .base import LinearOperator

    sign, function = _SIGNS[name]
    if isinstance(operands[0], LinearOperator):
        if being_compiled():  # the sign would come back here
            found = getattr(operands[0], f"__{sign}__")(*operands[1:])
            if found is not NotImplemented:
                return found
        return function(*operands)
    x, A = operands  # not by the sign: the array would call us again
    found = getattr(A, f"__r{sign}__")(x) if sign != "pow" else NotImplemented
    if found is NotImplemented:
        raise TypeError(f"{type(x).__name__} and {A!r} cannot be combined by {name}.")
    return found


def array_function(A: Any, func: Any, args: tuple[Any, ...]) -> Any:
    """Shape, rank and kind for NumPy's inquiries; for the rest a TypeError with our own spelling."""
    if args and args[0] is A and func.__name__ in _FACTS:
        return _FACTS[func.__name__](A)
    module = getattr(func, "__module__", None) or "numpy"
    raise TypeError(_refusal(module, func.__name__, A))


def torch_function(cls: type, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """The same for PyTorch's functions; ``t @ A`` arrives here too."""
    from .base import LinearOperator

    kwargs = kwargs or {}
    if len(args) == 2 and not kwargs and func in _matrix_products():  # this much traces
        x, A = args
        if being_compiled() and "matmul" not in _TAUGHT:
            raise TypeError(
                "this version of torch.compile does not tell A @ x from x @ A where A is an operator. Write "
                "A.__matmul__(x) or A.__rmatmul__(x)."
            )
        return A.__rmatmul__(x) if isinstance(A, LinearOperator) else x @ A
    name = getattr(func, "__name__", str(func))
    plain = name.strip("_")
    if name.startswith("__r") and plain[1:] in _SIGNS:
        args, plain = args[::-1], plain[1:]
    if len(args) <= 2 and not kwargs and plain in _SIGNS:
        return _arithmetic(plain, args)
    if plain in ("eq", "ne") and len(args) == 2:
        return (args[0] is args[1]) == (plain == "eq")
    name = name.removeprefix("linalg_")
    A = next((a for a in (*args, *kwargs.values()) if isinstance(a, LinearOperator)), None)
    raise TypeError(_refusal("torch", name, A if A is not None else cls.__name__))


_TAUGHT: set[str] = set()


class TorchFunction(classmethod):  # type: ignore[type-arg]
    """``__torch_function__``, which sees to it that ``torch.compile`` tells ``A @ x`` from ``x @ A``.

    Dynamo hands both to ``__torch_function__`` with the tensor first. For ``-``, ``/`` and the like the
    function it names is the reversed one in the one case; its table of those lacks ``@``, so that the two are
    alike, and one answer would be wrong. It asks for this attribute before it looks into the table.
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if "matmul" not in _TAUGHT and "torch._dynamo.variables.builtin" in sys.modules:
            _teach()
        return super().__get__(instance, owner)


def _teach() -> None:
    builtin: Any = sys.modules["torch._dynamo.variables.builtin"]
    try:
        reverse = sys.modules["torch"].Tensor.__rmatmul__
        builtin.populate_builtin_to_tensor_fn_map()
        builtin.BUILTIN_TO_TENSOR_RFN_MAP.setdefault(signs.matmul, reverse)
    except AttributeError:  # another version, still being imported: the product is refused
        return
    _TAUGHT.add("matmul")


def _matrix_products() -> tuple[Any, ...]:
    import torch

    return (torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)


def _refusal(library: str, name: str, A: Any) -> str:
    import cola_core

    library = library if library.startswith(("numpy", "torch")) else "numpy"
    what = f"{library}.{name} takes arrays, and {A!r} is an operator"
    if name in _ENTRYWISE:
        own = f"cola_core.{name}(A) is the matrix function" if hasattr(cola_core, name) else ""
        return f"{what}: {own + '; ' if own else ''}of the entries it is {library}.{name}(A.to_dense())."
    instead = _INSTEAD.get(name)
    if instead is None and name not in _ANOTHER and callable(getattr(cola_core, name, None)):
        instead = f"cola_core.{name}(A, ...)"
    if instead is not None and instead.startswith("cola_core.") and not _exists(instead):
        instead = None
    if instead is None:
        return f"{what}: take A.to_dense() first, if the matrix fits into memory."
    return f"{what}: write {instead}."


def _exists(text: str) -> bool:
    """Whether the function that a replacement names is there."""
    import cola_core

    found: Any = cola_core
    for part in text.partition("(")[0].split(".")[1:]:
        found = getattr(found, part, None)
    return found is not None


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for s in shape:
        size *= s
    return size

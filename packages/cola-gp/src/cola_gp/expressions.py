"""Kernels from text, for the command line: ``"rbf + periodic(period=1) * rbf(lengthscale=90)"``.

Names, numbers, ``+``, ``*`` and keyword arguments only; the text is parsed and never evaluated.  Every
additive term whose kernel has no variance of its own is given one, because an amplitude fixed at one is
seldom meant.
"""

from __future__ import annotations

import ast
from typing import Any

import numpy as np

from cola_core.errors import UnknownNameError

from . import kernels
from .kernels import Kernel, Product, Scale, Sum

NAMES: dict[str, type] = {
    "rbf": kernels.RBF,
    "matern12": kernels.Matern12,
    "matern32": kernels.Matern32,
    "matern52": kernels.Matern52,
    "rq": kernels.RationalQuadratic,
    "periodic": kernels.Periodic,
    "linear": kernels.Linear,
    "constant": kernels.Constant,
    "white": kernels.White,
}
_OWN_VARIANCE = (kernels.Linear, kernels.Constant, kernels.White, Scale)


def parse_kernel(text: str, d: int = 1) -> Kernel:
    """The kernel written in ``text`` for ``d`` dimensions.

    Lengthscales not given start at ``sqrt(d)``, one per dimension.  ``dims`` chooses dimensions:
    ``matern32(dims=0) * rbf(dims=(1, 2))``.  Raises UnknownNameError or ValueError.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(
            f"{text!r} is not a kernel expression such as 'rbf + linear' or '2 * rbf * periodic'."
        ) from None
    kernel = _build(tree, text, d)
    if not isinstance(kernel, Kernel):
        raise ValueError(f"{text!r} is a number, not a kernel.")
    terms = kernel.terms if isinstance(kernel, Sum) else (kernel,)
    scaled = [_with_variance(term) for term in terms]
    return scaled[0] if len(scaled) == 1 else Sum(*scaled)


def _with_variance(term: Kernel) -> Kernel:
    parts = term.factors if isinstance(term, Product) else (term,)
    return term if any(isinstance(part, _OWN_VARIANCE) for part in parts) else Scale(term, 1.0)


def _build(node: ast.AST, text: str, d: int) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
        left, right = _build(node.left, text, d), _build(node.right, text, d)
        if isinstance(node.op, ast.Mult):
            return left * right
        if not (isinstance(left, Kernel) and isinstance(right, Kernel)):
            raise ValueError(
                f"in {text!r}: a number can scale a kernel but not be added to one; use constant(...)."
            )
        return left + right
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, (int, float))
        and not isinstance(node.value, bool)
    ):
        return float(node.value)
    if isinstance(node, ast.Name):
        return _make(node.id, {}, d)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
        try:
            options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        except ValueError:
            raise ValueError(f"in {text!r}: arguments must be numbers or tuples of numbers.") from None
        if None in options:
            raise ValueError(f"in {text!r}: arguments must be written name=number.")
        return _make(node.func.id, options, d)  # type: ignore[arg-type]
    raise ValueError(
        f"in {text!r}: only kernel names, numbers, +, * and name=number arguments are understood."
    )


def _make(name: str, options: dict[str, Any], d: int) -> Kernel:
    if name not in NAMES:
        raise UnknownNameError(f"unknown kernel {name!r}; known are {', '.join(NAMES)}.")
    cls = NAMES[name]
    dims = options.pop("dims", None)
    width = d if dims is None else (1 if isinstance(dims, int) else len(dims))
    allowed = [field[4:] for field in cls._child_fields]  # type: ignore[attr-defined]
    for option in options:
        if option not in allowed:
            raise UnknownNameError(
                f"kernel {name} has no parameter {option!r}; it has {', '.join([*allowed, 'dims'])}."
            )
    if "lengthscale" in allowed and "lengthscale" not in options:
        options["lengthscale"] = 1.0 if width == 1 else np.full(width, np.sqrt(width))
    kernel = cls(**options)
    return kernel if dims is None else kernels.ActiveDims(kernel, dims)

"""Derivatives of products, in the operator's arrays and in the vector: both orders, reverse and forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import data
from ..derivatives import Derivatives, demand
from ..moving import Moving
from ..precision import precision
from ..registry import check

FRAMEWORKS = ("jax", "torch")


def _adjoint_too(case: Any) -> bool:
    return case.capabilities.adjoint.is_open


def _product(
    case: Any, backend: Any, dtype: str, seed: int, what: str, apply: Callable[[Any, Any], Any], side: int
) -> Derivatives:
    """``Re sum(w * y) + sum(|y|^2) / 2`` of a product y: its second derivatives vanish nowhere."""
    with precision(backend.name, dtype):
        A = Moving(case.build_for(dtype), backend, seed)
    M = A.matrix
    x = data.normal(seed + 1000, (M.shape[-1 - side],), dtype)
    out = (*M.shape[:-2], M.shape[-2 + side])
    w = data.normal(seed + 7, out, dtype)

    def loss(new: list[Any]) -> Any:
        y = apply(A.operator(new[:-1]), new[-1])
        xp = backend.xp
        return xp.sum(xp.real(backend.asarray(w) * y)) + xp.sum(xp.real(xp.conj(y) * y)) / 2

    def reference(new: list[Any]) -> Any:
        N = A.dense(new[:-1])
        y = (N.conj().swapaxes(-1, -2) if side else N) @ new[-1]
        return np.sum((w * y).real) + np.sum(np.abs(y) ** 2) / 2

    axes = [[*d, data.normal(seed + 41 + i, x.shape, dtype)] for i, d in enumerate(A.directions)]
    return Derivatives(
        backend,
        loss,
        reference,
        [*A.arrays, x],
        axes,
        rtol=1e-6 * case.tolerance,
        size=1.0,
        jit=True,
        what=what,
    )


def _hold(
    case: Any, backend: Any, dtype: str, seed: int, modes: Iterable[str], adjoint: bool = False
) -> None:
    if adjoint:
        f = _product(case, backend, dtype, seed, "A.H @ y", lambda A, y: A.H @ y, 1)
    else:
        f = _product(case, backend, dtype, seed, "A @ x", lambda A, x: A @ x, 0)
    demand(f, modes)


@check(
    "operator.grad", "operator", "capability", capability="grad", backends=FRAMEWORKS, dtypes="double-pair"
)
def check_grad(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The gradient of a function of ``A @ x`` in A's arrays and in x equals differences."""
    _hold(case, backend, dtype, seed, ("reverse",))


@check(
    "operator.grad-forward",
    "operator",
    "capability",
    capability="grad",
    backends=FRAMEWORKS,
    dtypes="double-pair",
)
def check_grad_forward(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The forward derivative of a function of ``A @ x`` equals differences of the dense product."""
    _hold(case, backend, dtype, seed, ("forward",))


@check(
    "operator.grad-adjoint",
    "operator",
    "capability",
    capability="grad",
    backends=FRAMEWORKS,
    dtypes="double-pair",
    applies=_adjoint_too,
)
def check_grad_adjoint(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The gradient of a function of ``A.H @ y`` equals differences of the dense product."""
    _hold(case, backend, dtype, seed, ("reverse",), adjoint=True)


@check(
    "operator.grad-second",
    "operator",
    "capability",
    capability="grad2",
    backends=FRAMEWORKS,
    dtypes="double-pair",
)
def check_grad_second(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Second derivatives of a function of ``A @ x``, reverse and forward over reverse, equal differences."""
    _hold(case, backend, dtype, seed, ("reverse-reverse", "forward-reverse"))

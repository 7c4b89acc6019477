"""What the conformance kit checks:
`cola-core check-plugin circulant`, and tests/test_conformance.py under pytest.

A case is a factory, a dense reference made without the operator, and the capabilities that are not claimed
(each with its reason). The kit takes it from there: products, adjoints, dtypes, batches, derivatives, plans,
pickling, ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.operators import LinearOperator
from cola_core.properties import PSD
from cola_core.testing import Capabilities, Case, closed, data, only

from .algorithm import CirculantCG
from .bases import Fourier, Hartley
from .operator import Circulant

__all__ = ["cases"]

N = 7


def cases() -> list[Case]:
    """Operators, one case per rule, and the algorithm."""
    return [
        Case("circulant", factory=_general, reference=_dense(_column)),
        Case("circulant-psd", factory=_psd, reference=_dense(_psd_column)),
        *(_rule(rule, _general, _column) for rule in GENERAL_RULES),
        *(_rule(rule, _psd, _psd_column) for rule in SELF_ADJOINT_RULES),
        Case("fourier", factory=_fourier, reference=_fourier_dense, capabilities=BASIS),
        Case("hartley", factory=_hartley, reference=_hartley_dense, capabilities=REAL_BASIS),
        Case(
            "circulant-cg",
            kind="algorithm",
            factory=lambda backend, dtype, seed: CirculantCG(),
            questions=("solve",),
            problem=_toeplitz,
            capabilities=Capabilities(batch=closed("one preconditioner for one operator")),
        ),
    ]


GENERAL_RULES = ("solve", "inv", "slogdet", "trace", "diag", "eig", "apply_unary:function")
SELF_ADJOINT_RULES = ("eigh", "eigsh")

BASIS = Capabilities(
    dtypes=only("complex128", reason="Fourier vectors are complex"),
    grad=closed("there are no entries to differentiate with respect to"),
)
REAL_BASIS = Capabilities(
    dtypes=only("float64", "float32", reason="Hartley vectors are real"),
    grad=closed("there are no entries to differentiate with respect to"),
)


# -- columns, made once for operator and reference -----------------------------------------------------------
def _column(dtype: str, seed: int) -> Any:
    """Diagonally dominant, so that every question has a well-conditioned answer."""
    c = data.normal(seed, (N,), dtype) / 4
    c[0] = 3
    return c


def _psd_column(dtype: str, seed: int) -> Any:
    """Symmetric as a column of a self-adjoint circulant must be,
    and dominant enough to be positive definite."""
    c = data.normal(seed, (N,), dtype) / 4
    c = (c + np.conj(np.roll(c[::-1], 1))) / 2
    c[0] = 3
    return c.astype(dtype)


def _general(backend: Any, dtype: str, seed: int) -> LinearOperator:
    return Circulant(backend.asarray(_column(dtype, seed)))


def _psd(backend: Any, dtype: str, seed: int) -> LinearOperator:
    return PSD(Circulant(backend.asarray(_psd_column(dtype, seed))))


def _dense(column: Callable[[str, int], Any]) -> Callable[[str, int], Any]:
    """Shifted copies of the column, one after the other: the definition, without the operator."""
    return lambda dtype, seed: np.stack([np.roll(column(dtype, seed), j) for j in range(N)], axis=-1)


def _rule(name: str, factory: Any, column: Any) -> Case:
    question, _, family = name.partition(":")
    rule = f"circulant:{family or question}/circulant"
    return Case(
        f"rule-{question}",
        kind="rule",
        rule=rule,
        questions=(question,),
        factory=factory,
        reference=_dense(column),
    )


# -- the bases -----------------------------------------------------------------------------------------------
def _fourier(backend: Any, dtype: str, seed: int) -> LinearOperator:
    return Fourier(backend.zeros((0,), dtype), N)


def _fourier_dense(dtype: str, seed: int) -> Any:
    j = np.arange(N)
    return np.exp(2j * np.pi * np.outer(j, j) / N) / np.sqrt(N)


def _hartley(backend: Any, dtype: str, seed: int) -> LinearOperator:
    return Hartley(backend.zeros((0,), dtype), N)


def _hartley_dense(dtype: str, seed: int) -> Any:
    t = 2 * np.pi * np.outer(np.arange(N), np.arange(N)) / N
    return (np.cos(t) + np.sin(t)) / np.sqrt(N)


# -- the algorithm's problem ---------------------------------------------------------------------------------
def _toeplitz(backend: Any, dtype: str, seed: int, n: int, condition: float) -> Any:
    """``rho^|i-j|``, whose condition number tends to ``((1 + rho) / (1 - rho))^2``;
    with a phase if complex."""
    rho = (condition**0.5 - 1) / (condition**0.5 + 1)
    lag = np.subtract.outer(np.arange(n), np.arange(n))
    M = rho ** np.abs(lag)
    if np.dtype(dtype).kind == "c":
        M = M * np.exp(0.3j * lag)
    M = M.astype(dtype)
    return PSD(backend.asarray(M)), M

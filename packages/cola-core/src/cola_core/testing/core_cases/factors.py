"""Operators whose factorisations need a structure of their own: a permutation in front, a Gram matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import linalg, ops
from .. import data
from ..capabilities import Capabilities, closed
from ..case import Case
from .build import of_arrays, operator_case

__all__ = ["operator_cases"]

ROWS = np.array([2, 0, 3, 1, 5, 4])


def _gram(B: Any) -> Any:
    B = ops.Dense(B)
    return B.H @ B


def operator_cases() -> list[Case]:
    """Products and pseudoinverses."""
    return [
        operator_case(
            "product-permuted",
            lambda put, t, s: ops.Product(
                ops.Permutation(put(ROWS), t), ops.Dense(put(data.normal(s, (6, 4), t)))
            ),
            lambda t, s: data.normal(s, (6, 4), t)[ROWS],
        ),
        of_arrays("gram", lambda t, s: [data.normal(s, (7, 4), t)], _gram, lambda B: B.conj().T @ B),
        of_arrays(
            "pseudoinverse",
            lambda t, s: [data.normal(s, (6, 4), t)],
            lambda M: linalg.pinv(ops.Dense(M)),
            np.linalg.pinv,
            tolerance=10.0,
            capabilities=Capabilities(
                matrix_free=closed("the first product factorises the matrix it inverts"),
                torch_compile=closed(
                    "a solve looks at its session, a context variable, which torch does not compile"
                ),
            ),
        ),
    ]

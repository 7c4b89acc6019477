"""Operators made from data points: kernels and interpolations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD
from .. import data
from ..capabilities import Capabilities, closed
from ..case import Case
from .build import of_arrays, operator_case

normal = data.normal


def _cubic(a: Any, b: Any) -> Any:
    return (a @ b.T + 1) ** 3 / 10


def _scaled(a: Any, b: Any, p: Any) -> Any:
    return p["variance"] * (a @ (p["scale"] * b).T + 1) ** 2


def _scaled_dense(a: Any, b: Any, variance: Any, scale: Any) -> Any:
    return variance * (a @ (scale * b).T + 1) ** 2


INDEX = np.array([[0, 1], [1, 2], [3, 2], [3, 3], [0, 3]])
RIGHT = np.array([[2, 1, 0], [1, 3, 3]])


def weights(index: Any, values: Any, extent: int) -> Any:
    """The matrix of interpolation weights."""
    W = np.zeros((*values.shape[:-1], extent), values.dtype)
    for place in np.ndindex(*values.shape):
        W[(*place[:-1], index[place[-index.ndim :]])] += values[place]
    return W


def _interpolated(put: Any, t: Any, s: Any) -> Any:
    K, w = PSD(ops.Dense(put(data.psd(s, 4, t)))), put(normal(s + 1, (5, 2), t))
    return ops.Interpolated(K, put(INDEX), w)


def _interpolated_dense(t: Any, s: Any) -> Any:
    W = weights(INDEX, normal(s + 1, (5, 2), t), 4)
    return W @ data.psd(s, 4, t) @ W.conj().T


def _two_sided(put: Any, t: Any, s: Any) -> Any:
    A, B = (ops.Dense(put(normal(s + i, (2, 2), t))) for i in (0, 1))
    left, right = put(normal(s + 2, (5, 2), t)), put(normal(s + 3, (2, 3), t))
    return ops.Interpolated(ops.Kronecker(A, B), put(INDEX), left, put(RIGHT), right)


def _two_sided_dense(t: Any, s: Any) -> Any:
    W, V = weights(INDEX, normal(s + 2, (5, 2), t), 4), weights(RIGHT, normal(s + 3, (2, 3), t), 4)
    return W @ np.kron(normal(s, (2, 2), t), normal(s + 1, (2, 2), t)) @ V.conj().T


def _batched(put: Any, t: Any, s: Any) -> Any:
    K, w = ops.Dense(put(data.general(s, 4, t))), put(normal(s + 1, (2, 5, 2), t))
    return ops.Interpolated(K, put(np.stack([INDEX, INDEX[::-1]])), w)


def _batched_dense(t: Any, s: Any) -> Any:
    W = normal(s + 1, (2, 5, 2), t)
    Ws = [weights(INDEX, W[0], 4), weights(INDEX[::-1], W[1], 4)]
    return np.stack([V @ data.general(s, 4, t) @ V.conj().T for V in Ws])


def operator_cases() -> list[Case]:
    """Operators made from data points."""
    return [
        of_arrays(
            "kernel",
            lambda t, s: [normal(s, (6, 2), t), normal(s + 1, (4, 2), t)],
            lambda a, b: ops.Kernel(a, b, _cubic, 4, 3),
            _cubic,
            tolerance=10,
        ),
        of_arrays(
            "kernel-square",
            lambda t, s: [0.2 * normal(s, (5, 3), t), np.asarray([2.0, 0.5, 1.0], t)],
            lambda a, p: (
                ops.Kernel(a, None, _scaled, params={"variance": p[:1], "scale": p[1:2]})
                + 2.0 * ops.Identity(5)
            ),
            lambda a, p: _scaled_dense(a, a, p[:1], p[1:2]) + 2 * np.eye(5, dtype=a.dtype),
            tolerance=10,
            capabilities=Capabilities(
                torch_compile=closed("torch does not trace how optree takes trees of parameters apart")
            ),
        ),
        of_arrays(
            "kernel-batch",
            lambda t, s: [0.4 * normal(s, (2, 4, 3), t), 0.4 * normal(s + 1, (4, 3), t)],
            lambda a, b: ops.Kernel(a, b, _cubic, 3),
            lambda a, b: np.stack([_cubic(x, b) for x in a]),
            tolerance=10,
            capabilities=Capabilities(questions=closed("nearly singular: a polynomial of few coordinates")),
        ),
        operator_case("interpolated", _interpolated, _interpolated_dense, tolerance=10),
        operator_case("interpolated-two-sided", _two_sided, _two_sided_dense, tolerance=10),
        operator_case(
            "interpolated-batch",
            _batched,
            _batched_dense,
            tolerance=10,
            capabilities=Capabilities(questions=closed("singular: five points of a grid of four")),
        ),
    ]

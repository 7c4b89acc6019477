"""Operators that are derivatives of functions, and parts of complex operators.

The functions are written without naming a library, so that one serves all; references are worked out by hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ... import ops
from .. import data
from ..capabilities import Capabilities, closed, only
from ..case import Case
from .build import of_arrays

normal = data.normal


def _model(x: Any) -> Any:
    return x[:3] * x[1:4] + x[2:5] ** 2


def _model_jacobian(x: Any) -> Any:
    J = np.zeros((3, 5), x.dtype)
    for i in range(3):
        J[i, i] += x[i + 1]
        J[i, i + 1] += x[i]
        J[i, i + 2] += 2 * x[i + 2]
    return J


def _square(x: Any) -> Any:
    return x * (3 + x) + 0.5 * x.sum()


def _square_jacobian(x: Any) -> Any:
    return np.diag(3 + 2 * x) + 0.5 * np.ones((len(x), len(x)), x.dtype)


def _scalar(x: Any) -> Any:
    return (x**4).sum() / 12 + (x * x).sum() + x.sum() ** 2 / 2


def _scalar_hessian(x: Any) -> Any:
    return np.diag(x**2 + 2) + np.ones((len(x), len(x)), x.dtype)


def _quartic(z: Any, y: Any) -> Any:
    return ((z - y) ** 4).sum() / 12 + ((z - y) ** 2).sum()


def _of_tree(x: Any) -> Any:
    return {"sum": x["a"] + x["b"], "product": x["a"][0] * x["b"]}


def _tree_jacobian(a: Any, b: Any) -> Any:
    eye, zero = np.eye(3, dtype=a.dtype), np.zeros((3, 2), a.dtype)
    first = np.stack([b, *zero.T], axis=1)
    return np.block([[first, a[0] * eye], [eye, eye]])


def _logits(x: Any) -> Any:
    return (x[:, None] * x[None, :] + x[None, :]).reshape(4, 4) * 0.5


def _logits_fisher(x: Any) -> Any:
    n = len(x)
    J = np.zeros((n, n, n), x.dtype)
    for i in range(n):
        J[i, :, i] += 0.5 * x
        J[i, :, :] += 0.5 * (x[i] + 1) * np.eye(n, dtype=x.dtype)
    Z = _logits(x)
    p = np.exp(Z - Z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return sum(J[i].T @ (np.diag(p[i]) - np.outer(p[i], p[i])) @ J[i] for i in range(n)) / n


def _complex(M: Any) -> Any:
    return (M[0] + 1j * M[1]).astype("complex64" if M.dtype == np.float32 else "complex128")


def _part_arrays(t: Any, s: Any) -> list[Any]:
    if "complex" in t:
        t = "float64"
    return [_complex(normal(s, (2, 2, 2), t)), _complex(normal(s + 1, (2, 3, 3), t))]


def operator_cases() -> list[Case]:
    """Operators that are derivatives of functions, and parts of complex operators."""
    both = only("torch", "jax", reason="NumPy does not differentiate functions")
    moving = closed("a function stays with its library")
    any_entries = Capabilities(backends=both, moving=moving)
    real = Capabilities(backends=both, moving=moving, complex=closed("a loss is a real function"))

    def point(n: int) -> Any:
        return lambda t, s: [(0.3 * normal(s, (n,), t)).astype(t)]

    return [
        of_arrays(
            "jacobian-wide",
            point(5),
            lambda x: ops.Jacobian(_model, x),
            _model_jacobian,
            capabilities=any_entries,
        ),
        of_arrays(
            "jacobian",
            point(5),
            lambda x: ops.Jacobian(_square, x, block=3),
            _square_jacobian,
            capabilities=any_entries,
        ),
        of_arrays(
            "jacobian-tree",
            lambda t, s: [normal(s, (3,), t), normal(s + 1, (3,), t)],
            lambda a, b: ops.Jacobian(_of_tree, {"b": b, "a": a}),
            _tree_jacobian,
            capabilities=replace(
                any_entries, torch_compile=closed("torch does not trace how optree takes trees apart")
            ),
        ),
        of_arrays(
            "hessian",
            point(5),
            lambda x: ops.Hessian(_scalar, x),
            _scalar_hessian,
            capabilities=any_entries,
        ),
        of_arrays(
            "gauss-newton",
            point(4),
            lambda x: ops.GaussNewton(_square, x),
            lambda x: _square_jacobian(x).conj().T @ _square_jacobian(x),
            capabilities=any_entries,
        ),
        of_arrays(
            "gauss-newton-loss",
            lambda t, s: [(0.3 * normal(s, (4,), t)).astype(t), normal(s + 1, (4,), t)],
            lambda x, y: ops.GaussNewton(_square, x, _quartic, y),
            lambda x, y: (
                _square_jacobian(x).T @ np.diag((_square(x) - y) ** 2 + 2) @ _square_jacobian(x)
            ).astype(x.dtype),
            capabilities=real,
        ),
        of_arrays(
            "real-part",
            _part_arrays,
            lambda A, B: ops.Kronecker(ops.Dense(A), ops.Dense(B)).real,
            lambda A, B: np.kron(A, B).real,
            tolerance=10,
            capabilities=Capabilities(
                complex=closed("the part is real"),
                grad=closed("the entries that it is a part of are complex"),
            ),
        ),
        of_arrays(
            "imaginary-part",
            _part_arrays,
            lambda A, B: ops.Kronecker(ops.Dense(A), ops.Dense(B)).imag,
            lambda A, B: np.kron(A, B).imag,
            tolerance=10,
            capabilities=Capabilities(
                complex=closed("the part is real"),
                grad=closed("the entries that it is a part of are complex"),
            ),
        ),
        of_arrays("fisher", point(4), lambda x: ops.Fisher(_logits, x), _logits_fisher, capabilities=real),
    ]

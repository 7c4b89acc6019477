"""The product with the symmetrised second difference at unit spacing: three points, O(n)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .fuse import fused
from .spectrum import end_weights


def second_difference(X: Any, centring: str, kind: str, xp: Any) -> Any:
    """``S X`` for X (..., n, k), S = W^(1/2) A W^(-1/2) the unit-spacing ``-d2/dx2`` of `spectrum`."""
    if isinstance(X, np.ndarray):
        return _in_place(X, centring, kind)
    return fused(_functional, X, xp, centring, kind)


def _in_place(X: np.ndarray, centring: str, kind: str) -> np.ndarray:
    out = 2 * X
    out[..., 1:, :] -= X[..., :-1, :]
    out[..., :-1, :] -= X[..., 1:, :]
    first, last = np.s_[..., 0, :], np.s_[..., -1, :]
    if kind == "P":
        out[first] -= X[last]
        out[last] -= X[first]
    elif centring == "cell":
        for end, letter in zip((first, last), kind, strict=True):
            if letter == "D":  # the ghost value is minus the last one, so that the side's mean vanishes
                out[end] += X[end]
            else:
                out[end] -= X[end]
    else:
        # a Neumann vertex has weight 1/2: its link to the neighbour grows from 1 to sqrt(2) (two of them: 2)
        n = X.shape[-2]
        a, b = (1 / math.sqrt(w) for w in end_weights(centring, kind))
        links = {(0, 1): a * b} if n == 2 else {(0, 1): a, (n - 1, n - 2): b} if n > 2 else {}
        for (i, j), link in links.items():
            if link != 1.0:
                out[..., i, :] -= X.dtype.type(link - 1) * X[..., j, :]
                out[..., j, :] -= X.dtype.type(link - 1) * X[..., i, :]
    return out


def _functional(X: Any, xp: Any, centring: str, kind: str) -> Any:
    n = X.shape[-2]
    first, last = X[..., :1, :], X[..., -1:, :]
    if kind == "P":
        left, right = last, first
    elif centring == "cell":
        left, right = (e if letter == "N" else -e for e, letter in zip((first, last), kind, strict=True))
    else:
        weights = end_weights(centring, kind)
        if weights != (1.0, 1.0):
            root = np.ones((n, 1))
            root[0] *= math.sqrt(weights[0])
            root[-1] *= math.sqrt(weights[1])
            root = xp.asarray(root, dtype=X.dtype)
            if hasattr(root, "to") and hasattr(X, "device"):
                root = root.to(X.device)
            return root * _natural(X / root, kind, xp)
        left = right = 0 * first
    return _shifted(X, left, right, xp)


def _natural(U: Any, kind: str, xp: Any) -> Any:
    """The vertex-centred difference before symmetrisation: a Neumann ghost mirrors the inner neighbour."""
    n = U.shape[-2]
    zero = 0 * U[..., :1, :]
    left = U[..., 1:2, :] if kind[0] == "N" and n > 1 else zero
    right = U[..., n - 2 : n - 1, :] if kind[1] == "N" and n > 1 else zero
    return _shifted(U, left, right, xp)


def _shifted(X: Any, left: Any, right: Any, xp: Any) -> Any:
    return 2 * X - xp.concat([left, X[..., :-1, :]], axis=-2) - xp.concat([X[..., 1:, :], right], axis=-2)

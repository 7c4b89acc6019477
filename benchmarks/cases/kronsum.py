"""Kronecker sums: fast diagonalisation of a separable problem on a 1024 x 1024 grid (n = 1,048,576), and
Sylvester's equation with general factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg

import cola_core as cola

from ..harness import Bench, Contender, Goal


def stiffness(n: int, seed: int) -> Any:
    """A variable-coefficient second difference, as a dense symmetric positive definite matrix."""
    c = 1 + np.random.default_rng(seed).random(n + 1)
    return np.diag(c[1:] + c[:-1]) - np.diag(c[1:-1], 1) - np.diag(c[1:-1], -1)


def _grid(short: bool) -> tuple[Any, Any, Any, Callable[[Any], None]]:
    n = 64 if short else 1024
    A, B = stiffness(n, 0), stiffness(n, 1)
    b = np.random.default_rng(2).standard_normal(n * n)

    def check(answer: Any) -> None:
        X = answer.reshape(n, n)
        np.testing.assert_allclose(A @ X + X @ B.T, b.reshape(n, n), atol=1e-8)

    return A, B, b, check


def _solve(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    A, B, b, check = _grid(short)
    n = len(A)
    K = cola.kronsum(cola.PSD(A), cola.PSD(B))

    def by_hand() -> Any:
        wa, Va = np.linalg.eigh(A)
        wb, Vb = np.linalg.eigh(B)
        return (Va @ ((Va.T @ b.reshape(n, n) @ Vb) / (wa[:, None] + wb)) @ Vb.T).reshape(-1)

    return [
        Contender("solve(kronsum(A, B), b)", lambda: cola.solve(K, b)),
        Contender("by hand, eigh and four products", by_hand),
    ], check


def _again(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    A, B, b, check = _grid(short)
    n = len(A)
    inverse = cola.inv(cola.kronsum(cola.PSD(A), cola.PSD(B)))
    inverse @ b
    wa, Va = np.linalg.eigh(A)
    wb, Vb = np.linalg.eigh(B)

    def by_hand() -> Any:
        return (Va @ ((Va.T @ b.reshape(n, n) @ Vb) / (wa[:, None] + wb)) @ Vb.T).reshape(-1)

    return [
        Contender("inv(kronsum(A, B)) @ b, kept", lambda: inverse @ b),
        Contender("by hand, four products", by_hand),
    ], check


def _sylvester(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 40 if short else 400
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n)) + 2 * np.sqrt(n) * np.eye(n) for _ in range(2))
    C = rng.standard_normal((n, n))

    def check(X: Any) -> None:
        np.testing.assert_allclose(A @ X + X @ B, C, atol=1e-8)

    return [
        Contender("sylvester(A, B, C)", lambda: cola.sylvester(A, B, C)),
        Contender("scipy.linalg.solve_sylvester", lambda: scipy.linalg.solve_sylvester(A, B, C)),
    ], check


BENCHES = [
    Bench(
        "kronsum-solve-1024",
        "Kronecker sum, 1024 x 1024 grid: solve",
        _solve,
        Goal("ratio", 1.3, "by hand, eigh and four products"),
        rounds=5,
    ),
    Bench(
        "kronsum-again-1024",
        "Kronecker sum, 1024 x 1024 grid: solve again",
        _again,
        Goal("ratio", 1.3, "by hand, four products"),
        rounds=9,
    ),
    Bench(
        "sylvester-400",
        "Sylvester equation, 400 x 400, general factors",
        _sylvester,
        Goal("ratio", 1.3, "scipy.linalg.solve_sylvester"),
        rounds=9,
    ),
]

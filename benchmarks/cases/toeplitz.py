"""Toeplitz products by real FFTs of good length, against the same written by hand;
Toeplitz and circulant systems against SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _product(n: int) -> Callable[[bool], tuple[list[Contender], Callable[[Any], None]]]:
    def setup(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
        size = 500 if short else n
        rng = np.random.default_rng(0)
        column, row, x = (rng.standard_normal(size) for _ in range(3))
        row[0] = column[0]
        T = cola.ops.Toeplitz(column, row)
        L = scipy.fft.next_fast_len(2 * size - 1, real=True)
        symbol = np.concatenate([column, np.zeros(L - 2 * size + 1), row[:0:-1]])
        spectrum = scipy.fft.rfft(symbol)
        expected = scipy.linalg.matmul_toeplitz((column, row), x)

        def by_hand() -> Any:
            return scipy.fft.irfft(spectrum * scipy.fft.rfft(x, L), L)[:size]

        def check(answer: Any) -> None:
            np.testing.assert_allclose(answer, expected, atol=1e-9 * np.abs(expected).max())

        return [
            Contender("Toeplitz(c, r) @ x", lambda: T @ x),
            Contender("by hand, symbol transformed before", by_hand),
            Contender("scipy.linalg.matmul_toeplitz", lambda: scipy.linalg.matmul_toeplitz((column, row), x)),
        ], check

    return setup


def _solve(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 200 if short else 4096
    column = 1 / (1.0 + np.arange(n)) ** 2
    column[0] = 2
    b = np.random.default_rng(1).standard_normal(n)
    T = cola.PSD(cola.ops.Toeplitz(column))
    plain = cola.ops.Toeplitz(column)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(plain @ answer, b, atol=1e-6)

    return [
        Contender("solve(T, b), declared PSD", lambda: cola.solve(T, b)),
        Contender("solve(T, b), nothing declared", lambda: cola.solve(plain, b)),
        Contender("scipy.linalg.solve_toeplitz", lambda: scipy.linalg.solve_toeplitz(column, b)),
    ], check


def _circulant(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 500 if short else 2**16
    rng = np.random.default_rng(2)
    column, b = rng.standard_normal(n) / n, rng.standard_normal(n)
    column[0] = 2
    C = cola.ops.Circulant(column)

    def by_hand() -> Any:
        return scipy.fft.irfft(scipy.fft.rfft(b) / scipy.fft.rfft(column), n)

    def check(answer: Any) -> None:
        np.testing.assert_allclose(C @ answer, b, atol=1e-9)

    return [
        Contender("solve(Circulant(c), b)", lambda: cola.solve(C, b)),
        Contender("by hand, real FFTs", by_hand),
        Contender("scipy.linalg.solve_circulant", lambda: scipy.linalg.solve_circulant(column, b)),
    ], check


BENCHES = [
    Bench(
        "toeplitz-product",
        "Toeplitz @ x, n = 65,536",
        _product(2**16),
        Goal("ratio", 1.2, "by hand, symbol transformed before"),
        rounds=31,
    ),
    Bench(
        "toeplitz-product-odd",
        "Toeplitz @ x, n = 70,001 (a length no FFT likes)",
        _product(70_001),
        Goal("ratio", 1.2, "by hand, symbol transformed before"),
        rounds=31,
    ),
    Bench("toeplitz-solve", "Toeplitz solve, n = 4,096, positive definite", _solve, rounds=7),
    Bench("circulant-solve", "Circulant solve, n = 65,536", _circulant, rounds=31),
]

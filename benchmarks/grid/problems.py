"""The cells of the grid: structure x size x question x dtype, each with a check of its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

import cola_core as cola

__all__ = ["Cell", "Problem", "cells"]


@dataclass
class Problem:
    """ask(A, alg) -> answer; check(answer) -> relative error; question: what algorithms are registered for.

    operands: those that algorithms judge and price with.
    """

    A: Any
    question: str
    ask: Callable[[Any, Any], Any]
    error: Callable[[Any], float]
    operands: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Cell:
    """name: structure; what: the question. sizes: full and short. accuracy: what every answer has to reach;
    given: passed to Auto, where less than the default is enough."""

    name: str
    what: str
    sizes: tuple[Any, Any]
    build: Callable[[Any, np.random.Generator], Problem] = field(repr=False)
    dtype: str = "float64"
    accuracy: float = 1e-6
    given: float | None = None

    def problem(self, short: bool) -> Problem:
        return self.build(self.sizes[1 if short else 0], np.random.default_rng(7))

    def title(self, short: bool = False) -> str:
        size = self.sizes[1 if short else 0]
        shown = "x".join(map(str, size)) if isinstance(size, tuple) else str(size)
        return f"{self.what} | {self.name} | {shown} | {self.dtype}"


# -- operators -----------------------------------------------------------------------------------------------
Make = Callable[[Any, np.random.Generator, str], Any]


def general(n: int, rng: Any, dtype: str) -> Any:
    M = rng.standard_normal((n, n))
    if "complex" in dtype:
        M = M + 1j * rng.standard_normal((n, n))
    return cola.ops.Dense(M.astype(dtype))


def self_adjoint(n: int, rng: Any, dtype: str) -> Any:
    M = general(n, rng, dtype).array
    return cola.SelfAdjoint(cola.ops.Dense((M + M.conj().T) / 2))


def definite(n: int, rng: Any, dtype: str) -> Any:
    M = general(n, rng, dtype).array
    return cola.PSD(cola.ops.Dense(M @ M.conj().T / n + np.eye(n, dtype=dtype)))


def batch_of(count: int, make: Make) -> Make:
    def build(n: int, rng: Any, dtype: str) -> Any:
        one = [make(n, rng, dtype) for _ in range(count)]
        whole = cola.ops.Dense(np.stack([M.array for M in one]))
        return cola.PSD(whole) if make is definite else whole

    return build


def tall(shape: tuple[int, int], rng: Any, dtype: str) -> Any:
    return cola.ops.Dense(rng.standard_normal(shape).astype(dtype))


def sparse_tall(shape: tuple[int, int], rng: Any, dtype: str) -> Any:
    m, n = shape
    M = sp.random_array((m, n), density=5 / n, rng=rng, format="csr", dtype=dtype)
    M = M + sp.diags_array([np.full(n, 3.0)], offsets=[0], shape=(m, n))
    return cola.ops.Sparse.from_scipy(sp.csr_array(M.astype(dtype)))


def _laplacian(shape: tuple[int, ...]) -> Any:
    total = None
    for at, m in enumerate(shape):
        T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
        M = sp.eye_array(1)
        for i, size in enumerate(shape):
            M = sp.kron(M, T if i == at else sp.eye_array(size))
        total = M if total is None else total + M
    return sp.csr_array(total)


def poisson(shape: tuple[int, ...], rng: Any, dtype: str) -> Any:
    return cola.PSD(cola.ops.Sparse.from_scipy(_laplacian(shape).astype(dtype)))


def convection(shape: tuple[int, ...], rng: Any, dtype: str) -> Any:
    n = int(np.prod(shape))
    drift = sp.diags_array([-0.4, 0.4], offsets=[-1, 1], shape=(n, n))
    return cola.ops.Sparse.from_scipy(sp.csr_array(_laplacian(shape) + drift).astype(dtype))


def helmholtz(shape: tuple[int, ...], rng: Any, dtype: str) -> Any:
    n = int(np.prod(shape))
    return cola.SelfAdjoint(
        cola.ops.Sparse.from_scipy(sp.csr_array(_laplacian(shape) - 0.5 * sp.eye_array(n)).astype(dtype))
    )


def tridiagonal(n: int, rng: Any, dtype: str) -> Any:
    off = -np.ones(n - 1, dtype)
    return cola.PSD(cola.ops.Tridiagonal(off, np.full(n, 2.5, dtype), off))


def banded(n: int, rng: Any, dtype: str) -> Any:
    bands = rng.standard_normal((9, n)).astype(dtype)
    bands[4] += 12
    return cola.ops.Banded(bands, (4, 4))


def kernel(n: int, rng: Any, dtype: str) -> Any:
    x = rng.uniform(size=(n, 2)).astype(dtype)

    def rbf(a: Any, b: Any) -> Any:
        d = (a**2).sum(-1)[:, None] + (b**2).sum(-1)[None, :] - 2 * a @ b.T
        return np.exp(-50.0 * np.maximum(d, 0))

    K = cola.PSD(cola.ops.Kernel(x, fn=rbf))
    return K + 0.5 * cola.ops.Identity(n, dtype)


def toeplitz(n: int, rng: Any, dtype: str) -> Any:
    return cola.PSD(cola.ops.Toeplitz((np.exp(-np.arange(n) / 5.0) + (np.arange(n) == 0)).astype(dtype)))


def unstructured_kronsum(sizes: tuple[int, int], rng: Any, dtype: str) -> Any:
    """Kronecker sum plus a random diagonal: fast products, and no rule."""
    parts = [definite(m, rng, dtype) for m in sizes]
    d = cola.PSD(cola.ops.Diagonal(rng.uniform(1, 2, int(np.prod(sizes))).astype(dtype)))
    return cola.PSD(cola.kronsum(*parts) + d)


def kronecker(sizes: tuple[int, int], rng: Any, dtype: str) -> Any:
    return cola.kron(*(definite(m, rng, dtype) for m in sizes))


def low_rank(sizes: tuple[int, int], rng: Any, dtype: str) -> Any:
    n, k = sizes
    U = rng.standard_normal((n, k)).astype(dtype) / n**0.5
    L = cola.ops.Dense(U)
    return cola.PSD(L @ L.H + cola.ops.Diagonal(rng.uniform(1, 2, n).astype(dtype)))


def blocks(sizes: tuple[int, int], rng: Any, dtype: str) -> Any:
    count, n = sizes
    return cola.block_diag(*(definite(n, rng, dtype) for _ in range(count)))


def function(n: int, rng: Any, dtype: str, psd: bool = True) -> Any:
    """Known by its products only, and well conditioned."""
    d = np.linspace(1.0, 4.0, n).astype(dtype)

    def times(X: Any) -> Any:
        Y = (d[:, None] if X.ndim > 1 else d) * X
        return Y + 0.25 * (np.roll(X, 1, 0) + np.roll(X, -1, 0))

    A = cola.ops.FunctionOperator(times, (n, n), dtype, rmatvec=times, vectorized=True)
    return cola.PSD(A) if psd else A


def general_function(n: int, rng: Any, dtype: str) -> Any:
    return function(n, rng, dtype, psd=False)


# -- questions -----------------------------------------------------------------------------------------------
def _norm(x: Any) -> float:
    return float(np.linalg.norm(np.asarray(x)))


def solve(make: Make, dtype: str, k: int = 0) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        shape = (*A.batch_shape, A.shape[-1], k or 1)
        b = rng.standard_normal(shape if k or A.batch_shape else shape[:1]).astype(dtype)
        size_b = _norm(b)
        column = b if b.ndim > 1 else b[:, None]

        def ask(B: Any, alg: Any) -> Any:
            return cola.solve(B, b, alg, on_failure="raise")

        return Problem(A, "solve", ask, lambda x: _norm(A @ x - b) / size_b, (column,))

    return build


def slogdet(make: Make, dtype: str, per_row: bool = False) -> Callable[..., Problem]:
    """per_row: the error counts relative to n, too, as an estimate promises."""

    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        want = _reference(A)

        def error(found: Any) -> float:
            return float(np.max(np.abs(found[1] - want) / np.maximum(np.abs(want), A.shape[-1])))

        def ask(B: Any, alg: Any) -> Any:
            return cola.slogdet(B, alg, on_failure="raise")

        return Problem(A, "slogdet", ask, error)

    return build


def _reference(A: Any) -> Any:
    """The log-determinant by the cheapest direct road there is, with structure."""
    return np.asarray(cola.slogdet(A, cola.Auto(memory=1e10, accuracy=1e-5))[1])


def eigsh(make: Make, dtype: str, k: int, which: str) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        seen: list[float] = []

        def ask(B: Any, alg: Any) -> Any:
            return cola.eigh(B, k, which, alg, on_failure="raise")

        def error(found: Any) -> float:
            w, V = found
            V = V.to_dense()
            scale = float(np.abs(w).max()) if which != "SA" else _norm(A @ np.ones(A.shape[-1])) or 1.0
            # contenders must agree on which eigenvalues were wanted
            total = float(np.sum(w))
            seen.append(total)
            apart = abs(total - seen[0]) / (abs(seen[0]) + 1e-300)
            return max(_norm(A @ V - V * w) / scale, apart * 1e-2)

        return Problem(A, "eigsh", ask, error, (k, which))

    return build


def svds(make: Make, dtype: str, k: int) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)

        def ask(B: Any, alg: Any) -> Any:
            return cola.svd(B, k, "LM", alg, on_failure="raise")

        def error(found: Any) -> float:
            U, s, V = (x.to_dense() if hasattr(x, "to_dense") else x for x in found)
            s = np.diagonal(s) if s.ndim > 1 else s
            right = V if V.shape == (A.shape[-1], len(s)) else V.conj().T
            return _norm(A @ right - U * s) / float(np.max(s))

        return Problem(A, "svds", ask, error, (k, "LM"))

    return build


def trace(make: Make, dtype: str, of_inverse: bool = False) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        want = complex(np.sum(cola.diag(A, 0, cola.Exact())))

        def ask(B: Any, alg: Any) -> Any:
            return cola.trace(B, alg, on_failure="ignore")

        return Problem(A, "trace", ask, lambda t: abs(complex(t) - want) / abs(want))

    return build


def diag(make: Make, dtype: str) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        want = cola.diag(A, 0, cola.Exact())

        def ask(B: Any, alg: Any) -> Any:
            return cola.diag(B, 0, alg, on_failure="ignore")

        return Problem(A, "diag", ask, lambda d: _norm(d - want) / _norm(want), (0,))

    return build


def exp_action(make: Make, dtype: str, t: float = -1.0) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        from cola_core.algorithms import ExpAction
        from cola_core.linalg.scalar_function import EXP

        A = t * make(size, rng, dtype)
        v = rng.standard_normal(A.shape[-1]).astype(dtype)
        want = cola.exp(A, ExpAction()) @ v

        def ask(B: Any, alg: Any) -> Any:
            return cola.exp(B, alg) @ v

        return Problem(A, "apply_unary", ask, lambda y: _norm(y - want) / _norm(want), (EXP,))

    return build


def lstsq(make: Make, dtype: str) -> Callable[..., Problem]:
    def build(size: Any, rng: Any) -> Problem:
        A = make(size, rng, dtype)
        b = rng.standard_normal(A.shape[-2]).astype(dtype)

        def ask(B: Any, alg: Any) -> Any:
            return cola.lstsq(B, b, alg, on_failure="raise")

        def error(x: Any) -> float:
            r = b - A @ x
            return _norm(A.H @ r) / (_norm(b) * _norm(A @ (x / max(_norm(x), 1e-300))))

        return Problem(A, "lstsq", ask, error, (b[:, None], None))

    return build


# -- the grid ------------------------------------------------------------------------------------------------
def cells() -> Iterator[Cell]:
    """All cells; sizes are chosen so that the slowest contender that counts takes seconds."""
    d, s, z = "float64", "float32", "complex128"

    def cell(what: str, name: str, sizes: Any, question: Any, make: Any, *rest: Any, **more: Any) -> Cell:
        dtype = more.pop("dtype", d)
        return Cell(name, what, sizes, question(make, dtype, *rest), dtype, **more)

    for n in (50, 400, 1001, 2000):
        yield cell("solve", "dense", (n, 20), solve, general)
    yield cell("solve", "dense", (1001, 20), solve, general, dtype=s, accuracy=1e-3)
    yield cell("solve", "dense", (500, 20), solve, general, dtype=z)
    yield cell("solve 100 columns", "dense", (1000, 20), solve, general, 100)
    for n in (50, 400, 1500):
        yield cell("solve", "dense PSD", (n, 20), solve, definite)
    yield cell("solve", "dense PSD", (1500, 20), solve, definite, dtype=s, accuracy=1e-3)
    yield cell("solve 100 columns", "dense PSD", (1000, 20), solve, definite, 100)
    for n in (100, 1000):
        yield cell("solve", "dense self-adjoint", (n, 20), solve, self_adjoint)
    yield cell("solve", "batch of 50 dense", (60, 5), solve, batch_of(50, general))
    yield cell("solve", "batch of 50 dense PSD", (60, 5), solve, batch_of(50, definite))
    for shape in ((20, 20), (60, 60), (200, 200)):
        yield cell("solve", "Poisson 2-D", (shape, (5, 5)), solve, poisson)
    yield cell("solve", "Poisson 2-D", ((150, 150), (5, 5)), solve, poisson, dtype=s, accuracy=1e-3)
    yield cell("solve 20 columns", "Poisson 2-D", ((100, 100), (5, 5)), solve, poisson, 20)
    for shape in ((10, 10, 10), (30, 30, 30)):
        yield cell("solve", "Poisson 3-D", (shape, (3, 3, 3)), solve, poisson)
    for shape in ((30, 30), (150, 150)):
        yield cell("solve", "convection 2-D", (shape, (5, 5)), solve, convection)
    yield cell("solve", "shifted Laplacian", ((80, 80), (5, 5)), solve, helmholtz)
    for n in (500, 100_000):
        yield cell("solve", "tridiagonal PSD", (n, 20), solve, tridiagonal)
    yield cell("solve 20 columns", "tridiagonal PSD", (20_000, 20), solve, tridiagonal, 20)
    for n in (300, 50_000):
        yield cell("solve", "banded", (n, 20), solve, banded)
    for n in (500, 3000):
        yield cell("solve", "kernel + I", (n, 30), solve, kernel)
    for n in (200, 2000, 50_000):
        yield cell("solve", "Toeplitz PSD", (n, 20), solve, toeplitz)
    for sizes in ((20, 20), (60, 60), (200, 200)):
        yield cell("solve", "Kronecker sum + diagonal", (sizes, (4, 4)), solve, unstructured_kronsum)
    yield cell("solve", "Kronecker", ((100, 100), (4, 4)), solve, kronecker)
    for sizes in ((1000, 10), (50_000, 20)):
        yield cell("solve", "low rank + diagonal", (sizes, (20, 2)), solve, low_rank)
    yield cell("solve", "block diagonal", ((20, 100), (3, 4)), solve, blocks)
    for n in (300, 3000, 100_000):
        yield cell("solve", "function PSD", (n, 20), solve, function)
    yield cell("solve", "function", (5000, 20), solve, general_function)
    yield cell("solve 20 columns", "function PSD", (5000, 20), solve, function, 20)

    for n in (100, 1001):
        yield cell("slogdet", "dense", (n, 20), slogdet, general)
    yield cell("slogdet", "dense PSD", (1500, 20), slogdet, definite)
    yield cell("slogdet", "batch of 50 dense", (40, 5), slogdet, batch_of(50, general))
    for shape in ((30, 30), (120, 120)):
        yield cell("slogdet", "Poisson 2-D", (shape, (5, 5)), slogdet, poisson)
    yield cell("slogdet", "tridiagonal PSD", (50_000, 20), slogdet, tridiagonal)
    yield cell("slogdet", "Toeplitz PSD", (1000, 20), slogdet, toeplitz)
    yield cell("slogdet", "Kronecker", ((100, 100), (4, 4)), slogdet, kronecker)
    yield cell("slogdet, to 5 %", "kernel + I", (2000, 30), slogdet, kernel, accuracy=5e-2, given=5e-2)
    yield cell(
        "slogdet, to 5 %", "Kronecker sum + diagonal", ((70, 70), (4, 4)), slogdet, unstructured_kronsum,
        accuracy=5e-2, given=5e-2,
    )  # fmt: skip

    for which in ("LA", "SA"):
        for n in (100, 1000):
            yield cell(f"5 eigenpairs {which}", "dense self-adjoint", (n, 30), eigsh, self_adjoint, 5, which)
    yield cell("5 eigenpairs LM", "dense PSD", (1500, 30), eigsh, definite, 5, "LM", dtype=s, accuracy=1e-3)
    yield cell("6 eigenpairs LA", "Poisson 2-D", ((60, 61), (6, 7)), eigsh, poisson, 6, "LA")
    yield cell("6 eigenpairs SM", "Poisson 2-D", ((60, 61), (6, 7)), eigsh, poisson, 6, "SM")
    yield cell("6 eigenpairs SM", "Poisson 2-D", ((20, 21), (6, 7)), eigsh, poisson, 6, "SM")
    yield cell("6 eigenpairs SA", "tridiagonal PSD", (2000, 30), eigsh, tridiagonal, 6, "SA")
    yield cell("6 eigenpairs LA", "kernel + I", (1500, 40), eigsh, kernel, 6, "LA")
    yield cell("4 eigenpairs LA", "function PSD", (5000, 40), eigsh, function, 4, "LA", accuracy=1e-5)
    for shape in ((200, 150), (2000, 800)):
        yield cell("5 singular triples", "dense", (shape, (30, 20)), svds, tall, 5)
    yield cell("5 singular triples", "sparse", ((20_000, 2000), (30, 20)), svds, sparse_tall, 5)

    yield cell("trace", "function PSD", (1000, 20), trace, function)
    yield cell("trace, to 5 %", "function PSD", (50_000, 20), trace, function, accuracy=5e-2, given=5e-2)
    yield cell("trace", "Poisson 2-D", ((100, 100), (5, 5)), trace, poisson)
    yield cell("diagonal", "kernel + I", (2000, 20), diag, kernel)
    yield cell("diagonal", "function PSD", (1500, 20), diag, function)

    yield cell("exp times a vector", "dense self-adjoint", (300, 20), exp_action, definite)
    yield cell("exp times a vector", "dense", (300, 20), exp_action, general, -0.05)
    yield cell("exp times a vector", "Poisson 2-D", ((100, 100), (5, 5)), exp_action, poisson)
    yield cell("exp times a vector", "convection 2-D", ((100, 100), (5, 5)), exp_action, convection)

    for shape in ((200, 100), (3000, 500)):
        yield cell("least squares", "dense", (shape, (30, 10)), lstsq, tall)
    yield cell("least squares", "sparse", ((10_000, 1500), (40, 10)), lstsq, sparse_tall)
    yield cell("least squares", "sparse", ((40_000, 20_000), (40, 10)), lstsq, sparse_tall)

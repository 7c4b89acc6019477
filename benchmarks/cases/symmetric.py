"""Systems with self-adjoint operators: CG on every library, blocks of right-hand sides, indefinite ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal


def _poisson(m: int) -> Any:
    import scipy.sparse as sp

    T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    return sp.csr_array(sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T))


def _within(M: Any, b: Any, tol: float) -> Callable[[Any], None]:
    def check(answer: Any) -> None:
        x = np.asarray(answer)
        residual = np.max(np.linalg.norm(b - M @ x, axis=0) / np.linalg.norm(b, axis=0))
        assert residual <= 1.1 * tol, f"residual {residual}"

    return check


def _cg_torch(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import torch

    torch.set_num_threads(1)
    m, tol = (20 if short else 316), 1e-6
    M, b = _poisson(m), np.random.default_rng(0).standard_normal(m * m)
    A = cola.PSD(cola.ops.Sparse.from_scipy(M))
    there = cola.PSD(cola.ops.Sparse(torch.as_tensor(A.data), A.rows, A.cols, A.size))
    rhs = torch.as_tensor(b)
    return [
        Contender("CG, PyTorch", lambda: cola.solve(there, rhs, cola.CG(tol=tol))),
        Contender("CG, NumPy", lambda: cola.solve(A, b, cola.CG(tol=tol))),
    ], _within(M, b, tol)


def _cg_jax(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    from jax.experimental.sparse import BCOO
    from jax.scipy.sparse.linalg import cg

    m, tol = (20 if short else 316), 1e-6
    M, b = _poisson(m), np.random.default_rng(0).standard_normal(m * m)
    host = cola.ops.Sparse.from_scipy(M)
    A = cola.PSD(cola.ops.Sparse(jnp.asarray(host.data), host.rows, host.cols, host.size))
    theirs, rhs = BCOO.from_scipy_sparse(M), jnp.asarray(b)
    solve = jax.jit(lambda M, b: cg(lambda v: M @ v, b, tol=tol)[0])
    return [
        Contender("CG, JAX", lambda: cola.solve(A, rhs, cola.CG(tol=tol)).block_until_ready()),
        Contender("jax.scipy.sparse.linalg.cg", lambda: solve(theirs, rhs).block_until_ready()),
    ], _within(M, b, tol)


def _block(M: Any, A: Any, n: int, tol: float) -> tuple[list[Contender], Callable[[Any], None]]:
    B = np.random.default_rng(0).standard_normal((n, 32))
    columns = [np.ascontiguousarray(B[:, j]) for j in range(32)]
    return [
        Contender("BlockCG", lambda: cola.solve(A, B, cola.BlockCG(tol=tol))),
        Contender(
            "32 times CG", lambda: np.stack([cola.solve(A, b, cola.CG(tol=tol)) for b in columns], axis=1)
        ),
        Contender("CG with 32 columns", lambda: cola.solve(A, B, cola.CG(tol=tol))),
    ], _within(M, B, tol)


def _block_poisson(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    m = 12 if short else 316
    M = _poisson(m)
    return _block(M, cola.PSD(cola.ops.Sparse.from_scipy(M)), m * m, 1e-8)


def _block_kernel(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    n = 50 if short else 1000
    points = np.random.default_rng(1).uniform(size=(n, 3))
    square = np.sum((points[:, None] - points[None]) ** 2, axis=-1)
    M = np.exp(-square / 0.1) + 0.1 * np.eye(n)
    return _block(M, cola.no_dispatch(cola.PSD(cola.ops.Dense(M))), n, 1e-8)


def _minres(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import scipy.sparse as sp
    from scipy.sparse.linalg import minres

    m, steps = (12 if short else 316), (30 if short else 400)
    M = sp.csr_array(_poisson(m) - 0.5 * sp.eye_array(m * m))  # indefinite; as many steps for both
    A = cola.SelfAdjoint(cola.ops.Sparse.from_scipy(M))
    b = np.random.default_rng(0).standard_normal(m * m)

    def ours() -> Any:
        return cola.solve(A, b, cola.MINRES(tol=1e-300, max_iters=steps), on_failure="ignore")

    def check(answer: Any) -> None:
        other = minres(M, b, rtol=1e-300, maxiter=steps)[0]
        mine, theirs = (np.linalg.norm(b - M @ x) for x in (answer, other))
        assert mine <= 1.01 * theirs, (mine, theirs)

    return [
        Contender(f"MINRES, {steps} steps", ours),
        Contender("scipy.sparse.linalg.minres", lambda: minres(M, b, rtol=1e-300, maxiter=steps)[0]),
    ], check


BENCHES = [
    Bench(
        "cg-torch",
        "CG on PyTorch, 2-D Poisson, n = 100,000",
        _cg_torch,
        Goal("ratio", 1.2, "CG, NumPy"),
        needs=("torch",),
        rounds=7,
    ),
    Bench(
        "cg-jax",
        "CG on JAX, 2-D Poisson, n = 100,000",
        _cg_jax,
        Goal("ratio", 1.0, "jax.scipy.sparse.linalg.cg"),
        needs=("jax",),
        rounds=7,
    ),
    Bench(
        "block-cg-poisson",
        "32 right-hand sides, 2-D Poisson, n = 100,000",
        _block_poisson,
        Goal("ratio", 0.5, "32 times CG"),
        rounds=3,
    ),
    Bench(
        "block-cg-kernel",
        "32 right-hand sides, kernel matrix, n = 1,000",
        _block_kernel,
        Goal("ratio", 0.5, "32 times CG"),
        rounds=3,
    ),
    Bench(
        "minres",
        "MINRES, indefinite Helmholtz matrix, n = 100,000",
        _minres,
        Goal("ratio", 1.2, "scipy.sparse.linalg.minres"),
        rounds=7,
    ),
]

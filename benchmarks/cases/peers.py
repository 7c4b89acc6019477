"""PyTorch and JAX, against their own hand-written code and the packages people use there,
where those are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender
from .kronecker import spd


def _torch(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import torch

    torch.set_num_threads(1)
    n = 20 if short else 100
    M, N = spd(n, 0), spd(n, 1)
    A, B = torch.as_tensor(M), torch.as_tensor(N)
    b = torch.as_tensor(np.random.default_rng(2).standard_normal(n * n))

    def ours() -> Any:
        inverse = cola.inv(cola.kron(cola.PSD(A), cola.PSD(B)))
        return inverse @ b, -cola.logdet(inverse)

    def by_hand() -> Any:
        L, R = torch.linalg.cholesky(A), torch.linalg.cholesky(B)
        X = torch.cholesky_solve(torch.cholesky_solve(b.reshape(n, n).T, R).T, L)
        return X.reshape(-1), 2 * n * (L.diagonal().log().sum() + R.diagonal().log().sum())

    contenders = [Contender("ours", ours), Contender("by hand, torch", by_hand)]
    if find_spec("linear_operator"):
        from linear_operator import to_linear_operator
        from linear_operator.operators import KroneckerProductLinearOperator

        def linear_operator() -> Any:
            K = KroneckerProductLinearOperator(to_linear_operator(A), to_linear_operator(B))
            return K.solve(b[:, None])[:, 0], K.logdet()

        contenders.append(Contender("linear_operator", linear_operator))

    want = n * (np.linalg.slogdet(M)[1] + np.linalg.slogdet(N)[1])

    def check(answer: Any) -> None:
        x, value = answer
        X = x.detach().numpy().reshape(n, n)
        np.testing.assert_allclose(M @ X @ N.T, b.numpy().reshape(n, n), atol=1e-6)
        np.testing.assert_allclose(float(value), want, rtol=1e-6)

    return contenders, check


def _jax(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    m, tol = (10 if short else 100), 1e-6
    n = m * m
    b = jnp.asarray(np.random.default_rng(0).standard_normal(n))

    def laplacian(v: Any) -> Any:
        V = v.reshape(m, m)
        P = jnp.pad(V, 1)
        return (4 * V - P[:-2, 1:-1] - P[2:, 1:-1] - P[1:-1, :-2] - P[1:-1, 2:]).reshape(v.shape)

    A = cola.PSD(cola.ops.FunctionOperator(laplacian, (n, n), "float64", rmatvec=laplacian, backend="jax"))
    ours = jax.jit(lambda rhs: cola.solve(A, rhs, cola.CG(tol=tol)))
    theirs = jax.jit(lambda rhs: jax.scipy.sparse.linalg.cg(laplacian, rhs, tol=tol, maxiter=10_000)[0])
    contenders = [
        Contender("ours, jitted CG", lambda: ours(b).block_until_ready()),
        Contender("jax.scipy.sparse.linalg.cg, jitted", lambda: theirs(b).block_until_ready()),
    ]
    if find_spec("lineax"):
        import lineax as lx

        op = lx.FunctionLinearOperator(
            laplacian, jax.ShapeDtypeStruct((n,), jnp.float64), lx.positive_semidefinite_tag
        )
        solver = lx.CG(rtol=tol, atol=0.0, max_steps=10_000)
        lineax = jax.jit(lambda rhs: lx.linear_solve(op, rhs, solver).value)
        contenders.append(Contender("lineax CG, jitted", lambda: lineax(b).block_until_ready()))

    def check(answer: Any) -> None:
        residual = float(jnp.linalg.norm(b - laplacian(answer)) / jnp.linalg.norm(b))
        assert residual <= 1e-5, f"residual {residual}"

    return contenders, check


BENCHES = [
    Bench("torch-kron", "PyTorch: Kronecker 100x100, solve and logdet", _torch, needs=("torch",), rounds=15),
    Bench("jax-cg", "JAX: CG on a matrix-free 2-D Laplacian, n = 10,000", _jax, needs=("jax",), rounds=7),
]

"""Values with gradients in PyTorch, against the same written by hand; and how long JAX compiles them.

Whoever writes by hand knows the closed form of a gradient; who does not, differentiates plain array code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import cola_core as cola

from ..harness import Bench, Contender, Goal

Made = tuple[list[Contender], Callable[[Any], None]]


def _with_gradient(f: Callable[..., Any], *arrays: Any) -> Callable[[], Any]:
    """Value and gradients of f as one flat NumPy array."""
    import torch

    def run() -> Any:
        leaves = [x.detach().requires_grad_() for x in arrays]
        value = f(*leaves)
        return value.detach(), *torch.autograd.grad(value, leaves)

    return run


def _flat(answer: Any) -> Any:
    return np.concatenate([np.ravel(np.asarray(x)) for x in answer])


def _beside(ours: Callable[[], Any], others: dict[str, Callable[[], Any]], name: str) -> Made:
    """Contenders that must agree with the first of the others."""
    expected = _flat(next(iter(others.values()))())

    def check(answer: Any) -> None:
        np.testing.assert_allclose(_flat(answer), expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())

    return [Contender(name, ours), *(Contender(k, f) for k, f in others.items())], check


# -- marginal likelihood of a Gaussian process ---------------------------------------------------------------
def _gp(short: bool) -> Made:
    import torch

    n = 200 if short else 2000
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(size=(n, 2)))
    y = torch.tensor(np.sin(4 * x.numpy().sum(1)) + 0.1 * rng.normal(size=n))
    theta = torch.tensor([1.3, 0.3, 0.1], dtype=torch.float64)  # amplitude, length, noise
    square = (x[:, None, :] - x[None, :, :]).square().sum(-1)
    log2pi = float(n * np.log(2 * np.pi))

    def ours(theta: Any) -> Any:
        s, length, noise = theta
        K = s**2 * torch.exp(square * (-0.5 / length**2))
        A = cola.PSD(cola.ops.Dense(K)) + cola.PSD(cola.ops.ScalarMul(noise**2, n))
        quad, logdet = cola.inv_quad_logdet(A, y[:, None])
        return 0.5 * (quad.sum() + logdet + log2pi)

    def recorded(theta: Any) -> Any:
        s, length, noise = theta
        K = s**2 * torch.exp(square * (-0.5 / length**2)) + noise**2 * torch.eye(n, dtype=torch.float64)
        L = torch.linalg.cholesky(K)
        alpha = torch.cholesky_solve(y[:, None], L)[:, 0]
        return 0.5 * (y @ alpha + 2 * torch.log(torch.diagonal(L)).sum() + log2pi)

    def closed_form() -> Any:
        s, length, noise = theta.tolist()
        E = torch.exp(square * (-0.5 / length**2))
        K = s**2 * E
        K.diagonal().add_(noise**2)
        L = torch.linalg.cholesky(K)
        alpha = torch.cholesky_solve(y[:, None], L)
        value = 0.5 * ((y @ alpha)[0] + 2 * torch.log(torch.diagonal(L)).sum() + log2pi)
        W = torch.cholesky_inverse(L).addmm_(alpha, alpha.T, alpha=-1.0)  # twice the derivative in K
        EW = E.mul_(W)
        ds = s * EW.sum()
        dlength = 0.5 * s**2 / length**3 * (EW * square).sum()
        return value, torch.stack([ds, dlength, noise * torch.diagonal(W).sum()])

    run = _with_gradient(ours, theta)
    others = {"closed form by hand": closed_form, "autograd by hand": _with_gradient(recorded, theta)}
    return _beside(run, others, "inv_quad_logdet(A, y)")


# -- structured operators ------------------------------------------------------------------------------------
def _kronecker(short: bool) -> Made:
    import torch

    n = 20 if short else 150
    rng = np.random.default_rng(1)
    M = [rng.normal(size=(n, n)) / n**0.5 for _ in range(2)]
    a, b = (torch.tensor(m @ m.T + np.eye(n)) for m in M)
    y = torch.tensor(rng.normal(size=n * n))

    def ours(a: Any, b: Any) -> Any:
        K = cola.kron(cola.PSD(a), cola.PSD(b))
        return cola.solve(K, y).square().sum() + cola.logdet(K)

    def by_hand(a: Any, b: Any) -> Any:
        A, B = torch.linalg.cholesky(a), torch.linalg.cholesky(b)
        X = torch.cholesky_solve(y.reshape(n, n), A)
        X = torch.cholesky_solve(X.T, B)
        logs = [torch.log(torch.diagonal(L)).sum() for L in (A, B)]
        return X.square().sum() + 2 * n * (logs[0] + logs[1])

    return _beside(
        _with_gradient(ours, a, b),
        {"by hand": _with_gradient(by_hand, a, b)},
        "solve + logdet of a Kronecker",
    )


def _toeplitz(short: bool) -> Made:
    import torch

    n = 500 if short else 2**16
    rng = np.random.default_rng(2)
    c, r, x = (torch.tensor(rng.normal(size=n)) for _ in range(3))
    length = cola.operators.fourier.good_length(2 * n - 1)

    def ours(c: Any, r: Any) -> Any:
        return (cola.ops.Toeplitz(c, r) @ x).square().sum()

    def by_hand(c: Any, r: Any) -> Any:
        gap = torch.zeros(length - 2 * n + 1, dtype=c.dtype)
        symbol = torch.fft.rfft(torch.cat([c, gap, r[1:].flip(0)]))
        return torch.fft.irfft(symbol * torch.fft.rfft(x, length), length)[:n].square().sum()

    return _beside(
        _with_gradient(ours, c, r), {"by hand": _with_gradient(by_hand, c, r)}, "Toeplitz(c, r) @ x"
    )


def _kernel(short: bool) -> Made:
    import torch

    n = 300 if short else 3000
    rng = np.random.default_rng(3)
    x, p = torch.tensor(rng.normal(size=(n, 3))), torch.tensor([1.3, 0.7], dtype=torch.float64)
    v = torch.tensor(rng.normal(size=n))

    def rbf(a: Any, b: Any, p: Any) -> Any:
        square = (a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * a @ b.T
        return p[0] * torch.exp(square / (-(p[1] ** 2)))

    def ours(x: Any, p: Any) -> Any:
        return (cola.ops.Kernel(x, None, rbf, params=p) @ v).square().sum()

    def by_hand(x: Any, p: Any) -> Any:
        return (rbf(x, x, p) @ v).square().sum()

    return _beside(
        _with_gradient(ours, x, p),
        {"by hand, the matrix stored": _with_gradient(by_hand, x, p)},
        "Kernel(x, params=p) @ v",
    )


def _sparse(short: bool) -> Made:
    import scipy.sparse as sp
    import torch

    k = 20 if short else 300
    rng = np.random.default_rng(4)
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(k, k))
    M = (sp.kron(line, sp.eye_array(k)) + sp.kron(sp.eye_array(k), line)).tocoo()
    S = cola.ops.Sparse(torch.tensor(M.data), M.row, M.col, M.shape)
    X = torch.tensor(rng.normal(size=(k * k, 4)))

    def ours(data: Any, X: Any) -> Any:
        return (S.replace(data=data) @ X).square().sum()

    def gathered(data: Any, X: Any) -> Any:
        out = torch.zeros_like(X)
        return out.index_add(0, S.rows, data[:, None] * X[S.cols]).square().sum()

    # torch's own CSR product is no contender: its gradient in the entries is a dense n x n matrix
    others = {"gather and add by hand": _with_gradient(gathered, S.data, X)}
    return _beside(_with_gradient(ours, S.data, X), others, "Sparse(data) @ X, 4 columns")


def _low_rank(short: bool) -> Made:
    import torch

    n, k = (500, 10) if short else (50_000, 50)
    rng = np.random.default_rng(5)
    U, d = torch.tensor(rng.normal(size=(n, k)) / n**0.5), torch.tensor(rng.uniform(1, 2, size=n))
    y = torch.tensor(rng.normal(size=n))

    def ours(U: Any, d: Any) -> Any:
        A = cola.ops.LowRank(U) + cola.PSD(cola.ops.Diagonal(d))
        quad, logdet = cola.inv_quad_logdet(A, y[:, None])
        return quad.sum() + logdet

    def by_hand(U: Any, d: Any) -> Any:
        W = U / d[:, None]
        L = torch.linalg.cholesky(U.T @ W + torch.eye(k, dtype=U.dtype))
        z = torch.linalg.solve_triangular(L, (W.T @ y)[:, None], upper=False)
        logdet = 2 * torch.log(torch.diagonal(L)).sum() + torch.log(d).sum()
        return (y * y / d).sum() - z.square().sum() + logdet

    return _beside(
        _with_gradient(ours, U, d), {"Woodbury by hand": _with_gradient(by_hand, U, d)}, "inv_quad_logdet"
    )


# -- iterative solves ----------------------------------------------------------------------------------------
def _solve_poisson(library: str) -> Callable[[bool], Made]:
    """CG on the five-point Laplacian: value and gradient in right-hand side and entries, beside the value."""

    def setup(short: bool) -> Made:
        import scipy.sparse as sp

        m, tol = (20 if short else 316), 1e-6
        T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
        M = sp.csr_array(sp.kron(T, sp.eye_array(m)) + sp.kron(sp.eye_array(m), T)).tocoo()
        rhs, weights = np.random.default_rng(0).standard_normal((2, m * m))
        alg = cola.CG(tol=tol)

        def solved(asarray: Callable[[Any], Any], S: Any) -> Any:
            w = asarray(weights)
            return lambda data, b: (cola.solve(cola.PSD(S.replace(data=data)), b, alg) * w).sum()

        if library == "torch":
            import torch

            arrays = torch.tensor(M.data), torch.tensor(rhs)
            S = cola.ops.Sparse(arrays[0], M.row, M.col, M.shape)
            f = solved(torch.tensor, S)
            both = _with_gradient(f, *arrays)

            def value() -> Any:
                return (f(*arrays),)
        else:
            import jax
            import jax.numpy as jnp

            jax.config.update("jax_enable_x64", True)
            arrays = jnp.asarray(M.data), jnp.asarray(rhs)
            S = cola.ops.Sparse(arrays[0], M.row, M.col, M.shape)
            f = solved(jnp.asarray, S)
            alone, together = jax.jit(f), jax.jit(jax.value_and_grad(f, (0, 1)))

            def value() -> Any:
                return (jax.block_until_ready(alone(*arrays)),)

            def both() -> Any:
                found, gradients = jax.block_until_ready(together(*arrays))
                return found, *gradients

        expected = float(value()[0])

        def check(answer: Any) -> None:
            np.testing.assert_allclose(float(answer[0]), expected, rtol=1e-6, atol=1e-6)

        return [Contender("value and gradient", both), Contender("value", value)], check

    return setup


# -- compiling -----------------------------------------------------------------------------------------------
def _compiled(kind: str) -> Callable[[bool], Made]:
    """Tracing and compiling value and gradient of a solve: a new function every time, its first call."""

    def setup(short: bool) -> Made:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        rng = np.random.default_rng(6)
        if kind == "poisson":
            k = 16
            line = 2 * np.eye(k) - np.eye(k, k=1) - np.eye(k, k=-1)
            D = np.kron(line, np.eye(k)) + np.kron(np.eye(k), line)
            i, j = np.nonzero(D)
            arrays = [jnp.asarray(D[i, j]), jnp.asarray(rng.normal(size=k * k))]
            S = cola.ops.Sparse(arrays[0], i, j, D.shape)
        elif kind == "kronecker":
            M = [rng.normal(size=(20, 20)) for _ in range(2)]
            arrays = [jnp.asarray(m @ m.T + np.eye(20)) for m in M] + [jnp.asarray(rng.normal(size=400))]
        else:
            M = [rng.normal(size=(100, 100))]
            arrays = [jnp.asarray(M[0] @ M[0].T + np.eye(100)), jnp.asarray(rng.normal(size=100))]

        def loss(arrays: Any) -> Any:
            if kind == "poisson":
                x = cola.solve(cola.PSD(S.replace(data=arrays[0])), arrays[1], cola.CG())
            elif kind == "kronecker":
                x = cola.solve(cola.kron(cola.PSD(arrays[0]), cola.PSD(arrays[1])), arrays[2])
            else:
                x = cola.solve(cola.PSD(cola.ops.Dense(arrays[0])), arrays[1])
            return jnp.sum(x * x)

        def first_call() -> Any:
            made = jax.jit(lambda arrays: jax.value_and_grad(loss)(arrays))
            return jax.block_until_ready(made(arrays))

        again = jax.jit(jax.value_and_grad(loss))

        def call() -> Any:
            return jax.block_until_ready(again(arrays))

        expected = call()

        def check(answer: Any) -> None:
            np.testing.assert_allclose(float(answer[0]), float(expected[0]), rtol=1e-8)

        return [Contender("first call", first_call), Contender("a later call", call)], check

    return setup


_TORCH, _JAX = ("torch",), ("jax",)


def _eigenvectors(short: bool) -> Made:
    """A projector onto half of the eigenvectors, and the eigenvalues."""
    import torch

    n = 40 if short else 500
    rng = np.random.default_rng(0)
    A, W = (torch.as_tensor(rng.standard_normal((n, n))) for _ in range(2))

    def loss(w: Any, V: Any) -> Any:
        V = V[:, : n // 2]
        return (W * (V @ V.mT)).sum() + (w**2).sum()

    def ours(A: Any) -> Any:
        w, V = cola.eigh(cola.SelfAdjoint((A + A.mT) / 2))
        return loss(w, V.array)

    ours_, theirs = (
        _with_gradient(ours, A),
        _with_gradient(lambda A: loss(*torch.linalg.eigh((A + A.mT) / 2)), A),
    )
    return _beside(ours_, {"torch.linalg.eigh": theirs}, "eigh(A)")


BENCHES = [
    Bench(
        "grad-eigh",
        "eigenvalues, a projector and their gradient, n = 500 (PyTorch)",
        _eigenvectors,
        Goal("ratio", 1.1, "torch.linalg.eigh"),
        needs=_TORCH,
        rounds=7,
    ),
    Bench(
        "grad-gp",
        "marginal likelihood and gradient, n = 2,000 points in the plane, 3 hyperparameters (PyTorch)",
        _gp,
        Goal("ratio", 1.15, "closed form by hand"),
        needs=_TORCH,
        rounds=7,
    ),
    Bench(
        "grad-kronecker",
        "solve + logdet of a Kronecker product, 150 x 150 twice, value and gradient (PyTorch)",
        _kronecker,
        Goal("ratio", 3, "by hand"),  # two questions factor each factor twice, and look at every part
        needs=_TORCH,
    ),
    Bench(
        "grad-toeplitz",
        "Toeplitz @ x, n = 65,536, value and gradient (PyTorch)",
        _toeplitz,
        Goal("ratio", 1.2, "by hand"),
        needs=_TORCH,
    ),
    Bench(
        "grad-kernel",
        "Kernel @ x, n = 3,000, value and gradient (PyTorch)",
        _kernel,
        Goal("ratio", 1.5, "by hand, the matrix stored"),
        needs=_TORCH,
        rounds=7,
    ),
    Bench(
        "grad-sparse",
        "Sparse @ X, 2-D Laplacian of n = 90,000, value and gradient (PyTorch)",
        _sparse,
        Goal("ratio", 1.2, "gather and add by hand"),
        needs=_TORCH,
    ),
    Bench(
        "grad-lowrank",
        "rank 50 plus diagonal, n = 50,000, value and gradient (PyTorch)",
        _low_rank,
        Goal("ratio", 1.5, "Woodbury by hand"),
        needs=_TORCH,
    ),
    *(
        Bench(
            f"grad-cg-{library}",
            f"CG, 2-D Poisson, n = 100,000, value and gradient in b and the entries ({title})",
            _solve_poisson(library),
            Goal("ratio", 2.2, "value"),
            needs=(library,),
            rounds=5,
        )
        for library, title in (("torch", "PyTorch"), ("jax", "JAX"))
    ),
    *(
        Bench(
            f"compile-{kind}",
            f"jitted solve and gradient, {title}: until the first answer (JAX)",
            _compiled(kind),
            Goal("above", 1.0, "a later call"),
            needs=_JAX,
            rounds=3,
        )
        for kind, title in (
            ("dense", "dense, n = 100"),
            ("kronecker", "Kronecker, 20 x 20 twice"),
            ("poisson", "CG on a 2-D Laplacian, n = 256"),
        )
    ),
]

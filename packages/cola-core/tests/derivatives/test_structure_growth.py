"""The gradient of a structured operator keeps its structure, and costs like the value.

Counted, not timed: bytes of every array that PyTorch makes, forwards and backwards. Doubling n multiplies
those of the gradient by no more than the value's own factor plus 30 %, no array has n x n entries (or any
part of that), and the gradient of a leaf has the leaf's shape.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from leaves import taken_apart
from spies import Spy

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend

torch = pytest.importorskip("torch")


def _spd(rng, n):
    a = rng.normal(size=(n, n)) / n**0.5
    return a @ a.T + np.eye(n)


def _psd(f, a):
    return cola.PSD(ops.Dense(f(a)))


def _rbf(a, b, p):
    square = (a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * a @ b.T
    return p[0] * (-square / p[1] ** 2).exp()


def kronecker(n, rng, f):
    return cola.kron(_psd(f, _spd(rng, n)), _psd(f, _spd(rng, n)))


def kronecker_general(n, rng, f):
    return cola.kron(f(_spd(rng, n) + np.triu(rng.normal(size=(n, n)) / n)), f(_spd(rng, n)))


def kronecker_shift(n, rng, f):
    return kronecker(n, rng, f) + cola.PSD(ops.ScalarMul(f(np.asarray(0.5)), n * n))


def kronsum(n, rng, f):
    return cola.kronsum(_psd(f, _spd(rng, n)), _psd(f, _spd(rng, n)))


def toeplitz(n, rng, f):
    c, r = rng.normal(size=n) / n, rng.normal(size=n) / n
    c[0] = 3
    return ops.Toeplitz(f(c), f(r))


def toeplitz_psd(n, rng, f):
    return cola.PSD(ops.Toeplitz(f(3.0 * (np.arange(n) == 0) + 0.5 / (1 + np.arange(n)) ** 2)))


def hankel(n, rng, f):
    c, r = rng.normal(size=n) / n, rng.normal(size=n) / n
    c[-1] = 3
    return ops.Hankel(f(c), f(r))


def circulant(n, rng, f):
    return ops.Circulant(f(rng.normal(size=n) / n + 3 * (np.arange(n) == 0)))


def circulant_prime(n, rng, f):
    return circulant({256: 257, 512: 521}[n], rng, f)


def convolution(n, rng, f):
    return ops.ConvolveND(f(rng.normal(size=(3, 2))), (16, n // 16))


def convolution_circular(n, rng, f):
    return ops.ConvolveND(f(np.array([[4.0, 0.5], [0.3, 0.1]])), (16, n // 16), "circular")


def sparse(n, rng, f):
    i = np.arange(n)
    rows, cols = np.concatenate([i, i[1:], i[:-1]]), np.concatenate([i, i[:-1], i[1:]])
    data = np.concatenate([rng.uniform(4, 5, n), rng.uniform(-1, 1, 2 * n - 2)])
    return ops.Sparse(f(data), rows, cols, (n, n))


def diagonal(n, rng, f):
    return cola.PSD(ops.Diagonal(f(rng.uniform(1, 2, n))))


def tridiagonal(n, rng, f):
    return ops.Tridiagonal(
        f(rng.uniform(-1, 1, n - 1)), f(rng.uniform(3, 4, n)), f(rng.uniform(-1, 1, n - 1))
    )


def banded(n, rng, f):
    bands = rng.uniform(-1, 1, (4, n))
    bands[1] += 5
    return ops.Banded(f(bands), (2, 1))


def low_rank(n, rng, f):
    return ops.LowRank(f(rng.normal(size=(n, 3))), f(rng.normal(size=(n, 3))))


def low_rank_diagonal(n, rng, f):
    return ops.LowRank(f(rng.normal(size=(n, 3)) / n**0.5)) + cola.PSD(ops.Diagonal(f(rng.uniform(1, 2, n))))


def kernel(n, rng, f):
    x = f(rng.normal(size=(n, 2)))
    K = ops.Kernel(x, None, _rbf, 32, params=f(np.array([1.3, 0.7])))
    return cola.PSD(K) + cola.PSD(ops.ScalarMul(f(np.asarray(0.5)), n))


def interpolated(n, rng, f):
    index = np.stack([np.arange(n) % 64, (np.arange(n) + 1) % 64], axis=1)
    grid = cola.kron(_psd(f, _spd(rng, 8)), _psd(f, _spd(rng, 8)))
    return ops.Interpolated(grid, index, f(rng.uniform(size=(n, 2)))) + cola.PSD(
        ops.ScalarMul(f(np.asarray(0.5)), n)
    )


def khatri_rao(n, rng, f):
    return ops.KhatriRao(f(rng.normal(size=(4, n))), f(rng.normal(size=(5, n))))


def hadamard(n, rng, f):
    U = ops.LowRank(f(rng.normal(size=(n, 2))), f(rng.normal(size=(n, 2))))
    return ops.HadamardProduct(U, toeplitz(n, rng, f))


def householder(n, rng, f):
    return ops.Householder(f(rng.normal(size=n)))


def householder_product(n, rng, f):
    return ops.HouseholderProduct(f(rng.normal(size=(n, 3))), f(rng.normal(size=3)))


def transforms(n, rng, f):
    F = ops.DCT(n, backend="torch")
    return F.H @ ops.Diagonal(f(rng.uniform(1, 2, n))) @ F


def permutation(n, rng, f):
    d = ops.Diagonal(f(rng.uniform(1, 2, n)))
    return ops.Permutation(d.backend.asarray(rng.permutation(n)), "float64") @ d


def block_diagonal(n, rng, f):
    return cola.block_diag(f(_spd(rng, 16)), f(_spd(rng, 16)), multiplicities=[n // 32, n // 32])


def block(n, rng, f):
    d, b, c = rng.uniform(1, 2, n), rng.normal(size=(n, 3)) / n**0.5, _spd(rng, 3)
    return ops.Block([[ops.Diagonal(f(d)), f(b)], [f(b.T), f(c)]])


def sliced(n, rng, f):
    T = ops.Toeplitz(f(rng.normal(size=2 * n)), f(rng.normal(size=2 * n)))
    index = T.backend.asarray
    return ops.Sliced(T, index(np.arange(n) * 2), index(rng.permutation(2 * n)[:n]))


def concatenated(n, rng, f):
    return ops.Concatenated(toeplitz(n, rng, f), sparse(n, rng, f))


def projection(n, rng, f):
    U = rng.normal(size=(n, 3))
    return ops.Projection.oblique(f(U), f(U + rng.normal(size=(n, 3)) / 9))


def total(n, rng, f):
    return ops.Sum(toeplitz(n, rng, f), sparse(n, rng, f), low_rank(n, rng, f))


def product(n, rng, f):
    return ops.Product(sparse(n, rng, f), toeplitz(n, rng, f), tridiagonal(n, rng, f))


def real_part(n, rng, f):
    return ops.RealPart(ops.Circulant(f(rng.normal(size=n) + 1j * rng.normal(size=n))))


def function(n, rng, f):
    c = f(rng.normal(size=3))
    A = ops.FunctionOperator(
        lambda x: torch.cumsum(x, 0), (n, n), "float64", matmat=lambda X: torch.cumsum(X, 0), backend="torch"
    )
    return c[0] * A


def jacobian(n, rng, f):
    return ops.Jacobian(lambda x: x * x.cumsum(0).sin(), f(rng.normal(size=n)))


def hessian(n, rng, f):
    return ops.Hessian(lambda x: (x * x.cumsum(0)).sin().sum(), f(rng.normal(size=n)))


SQUARE = {"kronecker", "kronecker_general", "kronecker_shift", "kronsum"}  # of n^2 rows
DENSE_BLOCKS = {"kernel"}  # whose value costs n^2, a block at a time

FAMILIES = {
    f.__name__: f
    for f in (
        kronecker, kronecker_general, kronecker_shift, kronsum, toeplitz, toeplitz_psd, hankel, circulant,
        circulant_prime, convolution, convolution_circular, sparse, diagonal, tridiagonal, banded, low_rank,
        low_rank_diagonal, kernel, interpolated, khatri_rao, hadamard, householder, householder_product,
        transforms, permutation, block_diagonal, block, sliced, concatenated, projection, total, product,
        real_part, function, jacobian, hessian,
    )
}  # fmt: skip


def _number(x):
    return (x * x.conj()).real.sum()


RATIO = 16  # bytes of value and gradient, by those of the value

RECTANGULAR = {"solve", "logdet", "trace", "eigvals", "inv_quad_logdet"}
NOT_ASKED = {
    "khatri_rao": RECTANGULAR,
    "concatenated": RECTANGULAR,
    "low_rank": {"solve", "logdet", "inv_quad_logdet"},  # singular
    "projection": RECTANGULAR,  # singular, and its eigenvalues are zeros and ones
    "householder": {"svdvals"},  # ones
}

# LAPACK's and SuperLU's answers, whose bytes PyTorch does not see
ON_THE_HOST = {(A, q) for A in ("banded", "tridiagonal", "sparse") for q in ("logdet", "inv_quad_logdet")}

QUESTIONS = {
    "product": lambda A, b: _number(A @ b),
    "adjoint": lambda A, b: _number(A.H @ b),
    "solve": lambda A, b: _number(cola.solve(A, b)),
    "logdet": lambda A, b: cola.logdet(A),
    "trace": lambda A, b: cola.trace(A),
    "diag": lambda A, b: _number(cola.diag(A)),
    "eigvals": lambda A, b: _number(cola.eigvals(A)),
    "svdvals": lambda A, b: _number(cola.svdvals(A)),
    "inv_quad_logdet": lambda A, b: sum(x.sum() for x in cola.inv_quad_logdet(A, b)),
}


def _measure(name, question, n):
    """Bytes and the largest array of the value alone and of value and gradient; and what the leaves hold.
    None where the value itself is that of a dense matrix."""
    rng, be = np.random.default_rng(0), get_backend("torch")
    A = FAMILIES[name](n, rng, be.asarray)
    size = max(A.shape)
    b = be.asarray(rng.normal(size=(A.shape[-2 if question == "adjoint" else -1], 2)))
    ask = QUESTIONS[question]
    arrays, rebuilt = taken_apart(A)
    wanted = [x.clone().requires_grad_() for x in arrays]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Spy() as value:
            ask(A, b)
        if value.largest > 0.4 * size * size:
            return None
        with Spy() as both:
            gradient = torch.autograd.grad(ask(rebuilt(wanted), b), wanted, allow_unused=True)
    assert all(g is None or g.shape == x.shape for g, x in zip(gradient, wanted, strict=True))
    assert all(g is None or bool(torch.isfinite(g).all()) for g in gradient)
    return value, both, sum(x.numel() * x.element_size() for x in arrays), size


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_gradient_grows_as_the_value(name, question):
    if question in NOT_ASKED.get(name, ()):
        pytest.skip("there is no such answer, or it is a constant")
    found = []
    for size in (16, 32) if name in SQUARE else (256, 512):
        found.append(_measure(name, question, size))
        if found[-1] is None:
            pytest.skip("the value is that of a dense matrix")
    (v1, g1, leaves1, _), (v2, g2, leaves2, n) = found
    # the gradient is as large as the leaves, also where the value is one number of them
    before, after = v1.bytes + leaves1, v2.bytes + leaves2
    growth, allowed = g2.bytes / g1.bytes, 1.3 * max(after / before, leaves2 / leaves1)
    assert growth <= allowed, f"doubling n: the gradient's bytes x {growth:.2f}, allowed x {allowed:.2f}"
    assert g2.largest < 0.4 * n * n, f"an array of {g2.largest / n / n:.2f} n^2 numbers"
    if (name, question) not in ON_THE_HOST:
        assert g2.bytes <= RATIO * after, f"the gradient moves {g2.bytes / after:.1f} times the value's bytes"

"""What operators say a product costs, beside the work that is really done."""

import numpy as np
import pytest
import scipy.sparse as sp
from zoo import ZOO

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.profile import BUILT_IN, using_profile


def asarray(x):
    return np.asarray(x, float)


@pytest.mark.parametrize("name", ZOO)
def test_plausible(name, rng):
    build, _ = ZOO[name](rng, False)
    A = build(asarray)
    m, n = A.shape[-2:]
    one, dense = A.matvec_cost, A.dense_cost
    for cost in (one, dense, A.matmat_cost(3)):
        for field in ("flops", "bytes", "memory", "matvecs", "calls"):
            assert np.isfinite(getattr(cost, field)) and getattr(cost, field) >= 0
    assert one.bytes > 0, "a product at least writes its answer"
    batch = int(np.prod(A.shape[:-2]))
    # a large overhead is fair for small matrices (padded transforms, factors); a forgotten factor n is not
    assert one.flops <= 400 * batch * max(m, n) ** 2 + 2000
    three = A.matmat_cost(3)
    assert one.flops <= three.flops * 1.0001 and three.flops <= 3.0001 * one.flops
    assert one.bytes <= three.bytes * 1.0001 and three.bytes <= 3.0001 * one.bytes + 24 * batch * (m + n)
    assert three.matvecs >= 3
    assert A.H.matvec_cost.flops == pytest.approx(one.flops, rel=1.0, abs=100)


def _dense(rng, m, n):
    return ops.Dense(rng.standard_normal((m, n)))


COMPOSED = {
    "dense": lambda r: _dense(r, 30, 40),
    "adjoint": lambda r: ops.Adjoint(ops.NoDispatch(_dense(r, 30, 40))),
    "batch": lambda r: ops.Dense(r.standard_normal((5, 20, 30))),
    "sum": lambda r: ops.Sum(*(ops.NoDispatch(_dense(r, 30, 40)) for _ in range(3))),
    "product": lambda r: ops.Product(_dense(r, 30, 40), _dense(r, 40, 20), _dense(r, 20, 35)),
    "kronecker": lambda r: ops.Kronecker(_dense(r, 12, 9), _dense(r, 7, 11), _dense(r, 5, 5)),
    "kronsum": lambda r: ops.KronSum(_dense(r, 12, 12), _dense(r, 11, 11)),
    "block diagonal": lambda r: ops.BlockDiag(_dense(r, 12, 9), _dense(r, 20, 25)),
    "block": lambda r: cola.block([[_dense(r, 12, 9), None], [_dense(r, 20, 9), _dense(r, 20, 25)]]),
    "concatenated": lambda r: ops.Concatenated(_dense(r, 12, 9), _dense(r, 20, 9), axis=-2),
    "low rank": lambda r: ops.LowRank(r.standard_normal((50, 4)), r.standard_normal((40, 4))),
    "nested": lambda r: ops.Kronecker(
        ops.Sum(ops.NoDispatch(_dense(r, 9, 9)), ops.NoDispatch(_dense(r, 9, 9))),
        ops.Product(_dense(r, 8, 3), _dense(r, 3, 8)),
    ),
}


@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("k", [1, 6])
def test_flops_are_those_of_the_products_made(name, k, rng, monkeypatch):
    A = COMPOSED[name](rng)
    be, counted = get_backend("numpy"), []
    plain = type(be).matmul

    def counting(self, X, Y):
        Z = plain(self, X, Y)
        counted.append(2.0 * X.shape[-1] * Z.size)
        return Z

    X = rng.standard_normal((A.shape[-1], k))
    monkeypatch.setattr(type(be), "matmul", counting)
    A._matmat(X)
    said = A.matmat_cost(k).flops
    assert 0.8 * sum(counted) <= said <= 1.6 * sum(counted), (said, sum(counted))


def _tri(n):
    return ops.Tridiagonal(np.ones(n - 1), np.ones(n), np.ones(n - 1))


def _csr(n):
    return ops.Sparse.from_scipy(
        sp.csr_array(sp.diags_array([np.ones(n)] * 3, offsets=[0, 1, -1], shape=(n, n)))
    )


GROWTH = {
    # structure: from n to 4n, the work of a product grows so many times
    "dense": (lambda n: ops.Dense(np.zeros((n, n))), 16, 16),
    "triangular": (lambda n: ops.Triangular(np.zeros((n, n))), 16, 16),
    "diagonal": (lambda n: ops.Diagonal(np.ones(n)), 4, 4),
    "tridiagonal": (_tri, 4, 4),
    "sparse": (_csr, 4, 4),
    "toeplitz": (lambda n: ops.Toeplitz(np.ones(n)), 4, 6),
    "circulant": (lambda n: ops.Circulant(np.ones(n)), 4, 6),
    "low rank": (lambda n: ops.LowRank(np.ones((n, 3)), np.ones((n, 3))), 4, 4),
    "kernel": (lambda n: ops.Kernel(np.ones((n, 2)), fn=lambda a, b: a @ b.T), 16, 16),
    "kronecker": (lambda n: ops.Kronecker(ops.Dense(np.zeros((n, n))), ops.Diagonal(np.ones(8))), 8, 17),
}


@pytest.mark.parametrize("name", GROWTH)
def test_growth(name):
    build, low, high = GROWTH[name]
    small, large = build(256).matvec_cost, build(1024).matvec_cost
    assert 0.95 * low <= large.flops / small.flops <= 1.05 * high
    assert 0.9 * low <= large.bytes / small.bytes <= 1.1 * high


TRANSFORMED = {
    "toeplitz": lambda n: ops.Toeplitz(np.ones(n * n)),
    "circulant": lambda n: ops.Circulant(np.ones(n * n)),
    "fourier": lambda n: ops.FFT(n * n),
    "cosine": lambda n: ops.DCT(n * n),
    "convolution": lambda n: ops.ConvolveND(np.ones((n, n)), (n, n)),
    "kronecker": lambda n: ops.Kronecker(ops.Toeplitz(np.ones(n)), ops.Toeplitz(np.ones(n))),
    "kronsum": lambda n: ops.KronSum(ops.Toeplitz(np.ones(n)), ops.Toeplitz(np.ones(n))),
    "block diagonal": lambda n: ops.BlockDiag(ops.Toeplitz(np.ones(n * n)), ops.Diagonal(np.ones(n))),
    "block": lambda n: cola.block([[ops.Toeplitz(np.ones(n * n)), ops.Diagonal(np.ones(n * n))]]),
    "concatenated": lambda n: ops.Concatenated(*[ops.Toeplitz(np.ones(n * n))] * 2, axis=-2),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_every_column_is_transformed_but_a_matrix_is_read_once(name):
    """Measured, 16 columns take 14 to 24 times as long as one of 10,000 numbers."""
    A = TRANSFORMED[name](100)
    with using_profile(BUILT_IN):
        assert 10 <= A.matmat_cost(16).seconds / A.matmat_cost(1).seconds <= 16.1
    D = _dense(np.random.default_rng(0), 100, 100)
    assert D.matmat_cost(16).bytes < 10 * D.matmat_cost(1).bytes


def test_entries_at_hand_cost_nothing_and_others_what_they_take(rng):
    n = 200
    D = ops.Dense(rng.standard_normal((n, n)))
    assert D.dense_cost.flops == D.dense_cost.bytes == D.dense_cost.memory == 0
    kron = ops.Kronecker(_dense(rng, 20, 20), _dense(rng, 10, 10))
    for A in (ops.Toeplitz(np.ones(n)), _tri(n), _csr(n), kron):
        assert A.dense_cost.flops == 0 and A.dense_cost.memory == 8 * n * n
    f = ops.FunctionOperator(lambda x: x, (n, n))
    assert f.dense_cost.matvecs == n and f.dense_cost.flops >= n * f.matvec_cost.flops
    B = ops.Product(D, ops.Diagonal(np.ones(n)), D)
    assert B.dense_cost.flops >= 2 * n**3
    structured = cola.LU().cost("slogdet", ops.Toeplitz(np.ones(n)))
    assert structured.memory > cola.LU().cost("slogdet", D).memory

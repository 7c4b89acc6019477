"""What ``Auto`` takes: by cost, within memory, for an accuracy, and never by a number of rows."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import cola_core as cola
from cola_core.backends.abstract import AbstractArray
from cola_core.errors import NoRuleError


def chosen(question, *args, **auto):
    return cola.explain(question, *args, alg=cola.Auto(**auto)).root.by.rpartition("/")[2]


def poisson(m, dims=2):
    T = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    one = sp.eye_array(m)
    terms = []
    for at in range(dims):
        M = T if at == 0 else one
        for other in range(1, dims):
            M = sp.kron(M, T if other == at else one)
        terms.append(M)
    return cola.PSD(cola.ops.Sparse.from_scipy(sp.csr_array(sum(terms[1:], terms[0]))))


def dense(n, dtype="float64", *claims):
    A = cola.ops.Dense(AbstractArray((n, n), dtype))
    for claim in claims:
        A = claim(A)
    return A, AbstractArray((n,), dtype)


@pytest.mark.parametrize("n", [1, 2, 10, 100, 999, 1000, 1001, 1024, 2000, 5000, 10_000, 15_000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_a_dense_matrix_that_fits_is_factorised(n, dtype):
    for claims, names in (((), {"lu"}), ((cola.PSD,), {"cholesky"}), ((cola.SelfAdjoint,), {"lu", "ldl"})):
        A, b = dense(n, dtype, *claims)
        assert chosen(cola.solve, A, b, memory=1e11) in names
        assert chosen(cola.slogdet, A, memory=1e11) in names


def test_the_answer_at_1001_rows_is_right(rng):
    A = rng.standard_normal((1001, 1001))
    x = rng.standard_normal(1001)
    found, info = cola.solve(A, A @ x, return_info=True)
    assert np.abs(found - x).max() < 1e-8 and info.residual < 1e-10


def test_sparse_systems():
    A, b = poisson(30), np.ones(900)
    assert chosen(cola.solve, A, b) == "sparselu"
    T = cola.ops.Tridiagonal(np.ones(99), 3 * np.ones(100), np.ones(99))
    assert (
        cola.explain(cola.solve, T, np.ones(100)).root.by.split("/")[1].startswith(("banded", "tridiagonal"))
    )


def test_memory_decides():
    A, b = dense(3000)
    assert chosen(cola.solve, A, b) == "lu"
    assert chosen(cola.solve, A, b, memory=1e8) not in ("lu", "cholesky")
    plan = cola.explain(cola.solve, A, b, alg=cola.Auto(memory=1e8), candidates=True)
    assert any("budget" in reason for _, reason, _ in plan.root.rejected)
    assert chosen(cola.solve, A, b, prefer="memory") not in ("lu", "cholesky")
    P, b = dense(3000, "float64", cola.PSD)
    assert chosen(cola.solve, P, b, prefer="memory") != "cholesky"


def test_accuracy_decides():
    A, _ = dense(3000, "float64", cola.PSD)
    loose = cola.explain(cola.slogdet, A, alg=cola.Auto(memory=1e8)).root
    assert loose.kind == "stochastic"
    with pytest.raises(NoRuleError, match="accuracy"):
        cola.explain(cola.slogdet, A, alg=cola.Auto(memory=1e8, accuracy=1e-8))
    S = cola.no_dispatch(poisson(100))
    b = np.ones(S.shape[0])
    root = cola.explain(cola.solve, S, b, alg=cola.Auto(accuracy=1e-4, memory=1e7)).root
    assert root.kind == "iterative" and "tol=0.0001" in root.settings and root.accuracy == 1e-4
    root = cola.explain(cola.solve, S, b, alg=cola.Auto(accuracy=1e-4, tol=1e-6, memory=1e7)).root
    assert "tol=1e-06" in root.settings
    with pytest.raises(NoRuleError, match="accuracy"):
        cola.explain(cola.solve, *dense(10, "float32"), alg=cola.Auto(accuracy=1e-12))


def test_wrong_settings_of_auto():
    for settings in ({"prefer": "cheap"}, {"accuracy": 0}, {"accuracy": -1e-3}, {"memory": 0}):
        with pytest.raises(ValueError, match="Auto"):
            cola.Auto(**settings)


def test_accuracy_of_kinds():
    A, b = dense(50, "float64", cola.PSD)
    assert cola.Cholesky().accuracy("solve", A, b) < 1e-15
    assert cola.CG().accuracy("solve", A, b) == 1e-8
    assert cola.CG(tol=1e-3).accuracy("solve", A, b) == 1e-3
    assert cola.SLQ(tol=1e-2).accuracy("slogdet", A) == 1e-2
    A, b = dense(50, "float32", cola.PSD)
    assert cola.CG(tol=1e-30).accuracy("solve", A, b) > 1e-8


def test_a_large_operator_with_fast_products_stays_one(rng):
    """100,000 unknowns: a dense matrix would be 80 GB."""
    n = 100_000
    d = np.linspace(1.0, 2.0, n)
    products = []

    def apply(X):
        products.append(X.shape[1] if X.ndim > 1 else 1)
        return X * (d[:, None] if X.ndim > 1 else d)

    A = cola.PSD(cola.ops.FunctionOperator(apply, (n, n), vectorized=True, rmatvec=apply))
    b = rng.standard_normal(n)
    tracemalloc.start()
    try:
        x = cola.solve(A, b)
        w, _ = cola.eigh(A, 1, "LA", on_failure="ignore", alg=cola.Auto(max_iters=30))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.abs(A @ x - b).max() < 1e-6 and 1.5 < w[0] < 2.001
    assert peak < 2e8, f"{peak / 1e9:.2f} GB"
    assert sum(products) < n / 10


def test_a_function_of_moderate_size_is_not_made_dense_either(rng):
    """3,000 products to have the entries, against as many as an iteration needs."""
    n, products = 3000, []
    d = np.linspace(1.0, 2.0, n)

    def apply(x):
        products.append(1)
        return d * x

    for A in (
        cola.PSD(cola.ops.FunctionOperator(apply, (n, n), rmatvec=apply)),
        cola.ops.FunctionOperator(apply, (n, n), rmatvec=apply),
    ):
        products.clear()
        b = rng.standard_normal(n)
        x, info = cola.solve(A, b, return_info=True)
        assert info.converged and np.abs(d * x - b).max() < 1e-5
        assert len(products) < 300


def test_estimates_use_precision_and_library():
    from cola_core.dispatch.choose import seconds

    double, _ = dense(2000)
    single, _ = dense(2000, "float32")
    cost = cola.LU().cost("slogdet", double)
    assert seconds(cost, single) < seconds(cost, double)


def test_the_log_determinant_of_a_large_operator_with_a_fast_product_is_not_densified():
    n = 12_000
    d = np.linspace(1, 2, n)
    A = cola.PSD(cola.ops.LinearOperator(np.float64, (n, n), lambda X: d[:, None] * X))
    plan = cola.explain(cola.logdet, A)
    assert plan.root.by == "core:slogdet/slq" and plan.root.total.memory < 1e9
    value, info = cola.logdet(A, return_info=True)
    assert abs(value - np.log(d).sum()) <= 4 * info.standard_error


def test_an_algorithm_for_general_operators_is_heard_on_self_adjoint_ones():
    M = np.random.default_rng(0).standard_normal((60, 60))
    A = cola.PSD(cola.ops.Dense(M @ M.T))
    (w, _), info = cola.eig(A, 3, alg=cola.KrylovSchur(), return_info=True)
    assert "Krylov" in info.method
    assert np.allclose(np.sort(w.real)[::-1], np.linalg.eigvalsh(M @ M.T)[::-1][:3])

"""Every question with a rule or algorithm of this package: against dense answers and the core's own way."""

import numpy as np
import pytest
import scipy.linalg

from cola_core import (
    Cholesky,
    Eigh,
    diag,
    eigh,
    eigmin,
    exp,
    explain,
    inv,
    kronsum,
    logdet,
    no_dispatch,
    slogdet,
    solve,
    sqrt,
    trace,
)
from cola_core.backends import get_backend
from cola_core.errors import SingularMatrixError
from cola_core.ops import Dense, KronSum
from cola_core.properties import PSD
from cola_pde import Diffusion1D, Laplacian1D
from cola_pde.tridiagonal import Tridiagonal

REGULAR = ("DD", "DN", "ND")


def planned(question, *args):
    return str(explain(question, *args))


def test_one_dimension_against_dense(combination, rng):
    centring, kind = combination
    A = Laplacian1D(3.0, 7, kind, centring)
    S = A.to_dense()
    w, V = eigh(A)
    # ascending, whatever the transform's order
    np.testing.assert_allclose(w, np.linalg.eigvalsh(S), atol=1e-13)
    np.testing.assert_allclose(V.to_dense() * w @ V.to_dense().T, S, atol=1e-13)
    for which, expected in (("SA", np.linalg.eigvalsh(S)[:3]), ("LA", np.linalg.eigvalsh(S)[-3:])):
        w, V = eigh(A, 3, which)
        np.testing.assert_allclose(w, expected, atol=1e-13)
        np.testing.assert_allclose(S @ V.to_dense(), V.to_dense() * w, atol=1e-13)
    np.testing.assert_allclose(exp(A).to_dense(), scipy.linalg.expm(S), rtol=1e-9)
    np.testing.assert_allclose((sqrt(A) @ sqrt(A)).to_dense(), S, atol=1e-12)
    np.testing.assert_allclose(trace(A), np.trace(S))
    np.testing.assert_allclose(diag(A), np.diag(S))
    np.testing.assert_allclose(diag(A, 1), np.diag(S, 1), atol=1e-15)
    b = rng.standard_normal((2, 7, 3))
    if kind in REGULAR:
        np.testing.assert_allclose(solve(A, b), np.linalg.solve(S, b), atol=1e-13)
        np.testing.assert_allclose(inv(A) @ b, np.linalg.solve(S, b), atol=1e-13)
        np.testing.assert_allclose(logdet(A), np.linalg.slogdet(S)[1], rtol=1e-12)
        assert "pde:solve/laplacian1d" in planned(solve, A, b)
    else:
        with pytest.raises(SingularMatrixError, match="null space"):
            solve(A, b)
        sign, value = slogdet(A)
        assert sign == 0 and value == -np.inf


def test_rules_agree_with_the_fallback(combination, rng):
    """The same questions with the structure hidden, so that the core's dense algorithms answer."""
    centring, kind = combination
    A = Laplacian1D(1.7, 6, kind, centring)
    plain = PSD(no_dispatch(A))
    np.testing.assert_allclose(eigh(A)[0], eigh(plain, alg=Eigh())[0], atol=1e-13)
    np.testing.assert_allclose(trace(A), trace(plain), rtol=1e-13)
    np.testing.assert_allclose(diag(A), diag(plain), rtol=1e-13)
    np.testing.assert_allclose(exp(A).to_dense(), exp(plain, alg=Eigh()).to_dense(), atol=1e-10)
    if kind in REGULAR:
        b = rng.standard_normal(6)
        np.testing.assert_allclose(solve(A, b), solve(plain, b, Cholesky()), atol=1e-13)
        np.testing.assert_allclose(logdet(A), logdet(plain, Cholesky()), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kronecker_sums_on_every_backend(backend_name, dtype, rng):
    be = get_backend(backend_name)
    dtype = "float64" if backend_name == "jax" else dtype  # eager JAX compiles everything again per dtype
    scale = be.asarray(2.0, dtype=dtype)
    A = KronSum(
        Laplacian1D(scale, 4, "DD", "vertex"), Laplacian1D(scale, 3, "P"), Laplacian1D(scale, 2, "NN")
    )
    S = be.to_numpy(A.to_dense()).astype(np.float64)
    b = rng.standard_normal((24, 2))
    tol = 1e-12 if dtype == "float64" else 2e-4
    answers = {
        "solve": (solve(A, be.asarray(b, dtype=dtype)), np.linalg.solve(S, b)),
        "logdet": (logdet(A), np.linalg.slogdet(S)[1]),
        "exp": (exp(-0.1 * A) @ be.asarray(b, dtype=dtype), scipy.linalg.expm(-0.1 * S) @ b),
        "sqrt": (sqrt(A).to_dense(), scipy.linalg.sqrtm(S)),
        "trace": (trace(A), np.trace(S)),
        "diag": (diag(A), np.diag(S)),
        "eigh": (eigh(A)[0], np.linalg.eigvalsh(S)),
        "eigmin": (eigmin(A), np.linalg.eigvalsh(S)[0]),
    }
    for name, (found, expected) in answers.items():
        assert found.dtype == be.dtype(dtype), name
        np.testing.assert_allclose(be.to_numpy(found), expected, atol=tol * 10, rtol=tol, err_msg=name)


def test_batched_scale_and_a_dense_factor(rng):
    scales = np.array([1.0, 2.5])
    A = Laplacian1D(scales, 5, "DN")
    S = A.to_dense()
    b = rng.standard_normal((5, 2))
    np.testing.assert_allclose(solve(A, b), np.linalg.solve(S, np.stack([b, b])), atol=1e-13)
    np.testing.assert_allclose(logdet(A), np.linalg.slogdet(S)[1])
    G = rng.standard_normal((3, 3))
    mixed = kronsum(Laplacian1D(1.0, 4), PSD(Dense(G @ G.T)))
    np.testing.assert_allclose(
        solve(mixed, np.ones(12)), np.linalg.solve(mixed.to_dense(), np.ones(12)), atol=1e-11
    )


def test_derivative_in_the_diffusivity():
    """d/dc of a solve and a log-determinant through ``scale``, on the libraries that differentiate."""
    jax = pytest.importorskip("jax")
    b = jax.numpy.arange(1.0, 6.0)

    def loss(c):
        A = Laplacian1D(c, 5, "DN")
        return jax.numpy.sum(solve(A, b)) + logdet(A)

    c, h = 1.3, 1e-6
    numeric = (loss(jax.numpy.asarray(c + h)) - loss(jax.numpy.asarray(c - h))) / (2 * h)
    np.testing.assert_allclose(jax.grad(loss)(jax.numpy.asarray(c)), numeric, rtol=1e-7)


@pytest.mark.parametrize(
    ("centring", "kind"), [("cell", "DD"), ("vertex", "DN"), ("cell", "NN"), ("vertex", "NN")]
)
def test_tridiagonal_algorithm(centring, kind, rng):
    n = 40  # large enough to be the cheapest candidate
    ends = np.array([2.0 * (kind[0] == "D"), 3.0 * (kind[1] == "D")])
    A = Diffusion1D(rng.uniform(0.5, 2, n - 1), ends, kind, centring)
    S = A.to_dense()
    w, V = eigh(A)
    np.testing.assert_allclose(w, np.linalg.eigvalsh(S), atol=1e-12)
    np.testing.assert_allclose(V.to_dense() * w @ V.to_dense().T, S, atol=1e-12)
    assert "pde:eigh/tridiagonal" in planned(eigh, A)
    b = rng.standard_normal((n, 3))
    if kind != "NN":
        np.testing.assert_allclose(solve(A, b), np.linalg.solve(S, b), rtol=1e-9)
        assert "pde:solve/tridiagonal" in planned(solve, A, b)
    else:
        assert "pde:solve/tridiagonal" not in planned(solve, A, b)
        with pytest.raises(SingularMatrixError):
            solve(A, b, Tridiagonal())


def test_periodic_diffusion_takes_the_dense_way(rng):
    A = Diffusion1D(rng.uniform(0.5, 2, 9), np.zeros(2), "P")
    assert "tridiagonal" not in planned(eigh, A)
    np.testing.assert_allclose(eigh(A)[0], np.linalg.eigvalsh(A.to_dense()), atol=1e-12)

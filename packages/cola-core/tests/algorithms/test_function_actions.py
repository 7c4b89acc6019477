"""f(A) b by products: Lanczos, Arnoldi, Chebyshev, contour quadrature and exp, against dense references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import fractional_power, sqrtm

import cola_core as cola
from cola_core import PSD, SelfAdjoint, ops
from cola_core.algorithms import Arnoldi, Chebyshev, ContourQuadrature, ExpAction, Lanczos

FUNCTIONS = {
    "exp": (cola.exp, np.exp),
    "log": (cola.log, np.log),
    "sqrt": (cola.sqrt, np.sqrt),
    "isqrt": (cola.isqrt, lambda w: w**-0.5),
    "power": (lambda A, alg: cola.pow(A, -0.3, alg), lambda w: w**-0.3),
    "sin": (cola.sin, np.sin),
    "cos": (cola.cos, np.cos),
    "sign": (cola.sign, np.sign),
    "user": (lambda A, alg: cola.apply_unary(lambda w: 1 / (2 + w), A, alg), lambda w: 1 / (2 + w)),
}
ROOTS = ("sqrt", "isqrt", "log", "power")


def with_spectrum(w, rng, kind=float):
    n = len(w)
    Z = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if kind is complex else 0)
    Q = np.linalg.qr(Z)[0]
    return (Q * w) @ Q.conj().T, lambda f, b: (Q * f(w)) @ (Q.conj().T @ b)


SPECTRA = {
    "even": np.linspace(0.5, 2, 60),
    "decaying": np.logspace(-3, 1, 60),
    "clustered": np.repeat([0.01, 1.0, 5.0], 20) * (1 + 1e-6 * np.arange(60)),
    "outlier": np.append(np.linspace(1, 2, 59), 1e4),
}


def run(F, b):
    return F.apply(b, return_info=True, on_failure="ignore")


def relative(y, want):
    return np.max(np.linalg.norm(y - want, axis=0) / np.linalg.norm(want, axis=0))


@pytest.mark.parametrize("spectrum", list(SPECTRA))
@pytest.mark.parametrize("kind", [float, complex])
def test_against_the_spectrum_and_within_the_estimate(spectrum, kind, rng):
    w = SPECTRA[spectrum]
    M, apply = with_spectrum(w, rng, kind)
    A = cola.no_dispatch(PSD(ops.Dense(M)))
    b = rng.normal(size=(60, 2))
    for name, (f, g) in FUNCTIONS.items():
        if w.max() > 100 and name in ("exp", "sin", "cos"):
            continue
        algorithms = [Lanczos(), Arnoldi(tol=1e-8), Chebyshev(max_iters=4000)]
        algorithms += [ContourQuadrature()] if name in ROOTS else []
        for alg in algorithms:
            if name == "sign" and isinstance(alg, Chebyshev):
                continue  # not smooth
            y, info = run(f(A, alg), b)
            error = relative(y, apply(g, b))
            floor = 1e-15 * w.max() / w.min() * 10
            assert info.converged, (name, alg, info)
            assert error <= max(3 * info.error_estimate, floor, 1e-13), (name, alg, info)
            assert error <= 1e-7, (name, alg)


@pytest.mark.parametrize("c", [1e-9, 1.0, 1e9])
def test_units_do_not_matter(c, rng):
    w = np.logspace(-2, 0, 50)
    M, apply = with_spectrum(w, rng)
    A = cola.no_dispatch(PSD(ops.Dense(c * M)))
    b = 1e9 * rng.normal(size=(50, 1))
    steps = []
    for alg in (Lanczos(), Arnoldi(), ContourQuadrature(), Chebyshev()):
        for f, g in ((cola.isqrt, lambda w: w**-0.5), (cola.sqrt, np.sqrt)):
            y, info = run(f(A, alg), b)
            assert info.converged, (alg, info)
            assert relative(y, apply(lambda w, g=g: g(c * w), b)) < 1e-7
            steps.append(info.iterations)
    assert all(s > 1 for s in steps)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(backend, dtype, rng):
    w = np.linspace(0.5, 2, 40)
    M, apply = with_spectrum(w, rng, complex if dtype == "complex64" else float)
    A = cola.no_dispatch(PSD(ops.Dense(backend.asarray(M.astype(dtype)))))
    b = rng.normal(size=(40, 2)).astype(dtype)
    for alg in (Lanczos(), Arnoldi(), Chebyshev(), ContourQuadrature()):
        y, info = run(cola.isqrt(A, alg), backend.asarray(b))
        y = backend.to_numpy(y)
        assert y.dtype == np.dtype(dtype)
        assert info.converged and relative(y, apply(lambda w: w**-0.5, b)) < 1e-4, (alg, info)


def test_invariant_spaces_are_exact(rng):
    n = 50
    b = rng.normal(size=(n, 2))
    v = rng.normal(size=n)
    cases = {
        "multiple of I": (3.0 * np.eye(n), 1),
        "two eigenvalues": (np.diag(np.repeat([1.0, 4.0], n // 2)), 2),
        "rank one plus I": (2.0 * np.eye(n) + np.outer(v, v), 2),
    }
    for name, (M, steps) in cases.items():
        w, V = np.linalg.eigh(M)
        A = cola.no_dispatch(PSD(ops.Dense(M)))
        want = (V * np.log(w)) @ (V.T @ b)
        for alg in (Lanczos(), Arnoldi()):
            y, info = run(cola.log(A, alg), b)
            assert info.converged and "exact" in info.reason, (name, info)
            assert info.iterations <= 4 and steps <= 2
            np.testing.assert_allclose(y, want, atol=1e-11)
        y, info = run(cola.log(A, ContourQuadrature()), b)
        assert info.converged and relative(y, want) < 1e-8, (name, info)
        y, info = run(cola.log(A, Chebyshev()), b)
        assert info.converged and relative(y, want) < 1e-7, (name, info)


def test_zero_vectors_and_small_sizes(rng):
    A = cola.no_dispatch(PSD(ops.Dense(np.diag([1.0, 2.0, 3.0]))))
    b = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    for alg in (Lanczos(), Arnoldi(), Chebyshev(), ContourQuadrature()):
        y, info = run(cola.log(A, alg), b)
        assert info.converged, (alg, info)
        np.testing.assert_allclose(y, np.log([1, 2, 3])[:, None] * b, atol=1e-7)
        for n in (0, 1):
            one = cola.no_dispatch(PSD(ops.Dense(2.0 * np.ones((n, n)))))
            np.testing.assert_allclose(cola.log(one, alg) @ np.ones(n), np.log(2) * np.ones(n), atol=1e-8)
    zero = cola.no_dispatch(PSD(ops.Dense(np.zeros((3, 3)))))
    for alg in (Lanczos(), Arnoldi(), Chebyshev()):
        np.testing.assert_allclose(cola.exp(zero, alg) @ np.ones(3), np.ones(3), atol=1e-7)


def grcar(n):
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.diag(np.ones(n - 1), -1)


def convection_diffusion(n, peclet=0.8):
    return 2 * np.eye(n) - (1 + peclet) * np.eye(n, k=-1) - (1 - peclet) * np.eye(n, k=1)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_non_normal_operators(backend, rng):
    for M in (grcar(60), convection_diffusion(60) + 0.1 * np.eye(60)):
        A = cola.no_dispatch(ops.Dense(backend.asarray(M)))
        b = rng.normal(size=(60, 2))
        cases = [(cola.exp, sl.expm), (cola.sqrt, sqrtm), (cola.log, sl.logm), (cola.sin, sl.sinm)]
        cases.append((lambda A, alg: cola.pow(A, 0.4, alg), lambda M: fractional_power(M, 0.4)))
        for f, reference in cases:
            want = reference(M) @ b
            y, info = run(f(A, Arnoldi()), backend.asarray(b))
            assert info.converged, info
            assert relative(backend.to_numpy(y), want) <= max(10 * info.error_estimate, 1e-10), info
        F = cola.exp(A, Arnoldi())
        c = backend.asarray(b)
        for G, W in ((F.H, sl.expm(M.T)), (F.T, sl.expm(M.T)), (F.conj(), sl.expm(M))):
            assert relative(backend.to_numpy(G @ c), W @ b) < 1e-9


def test_a_function_that_is_not_defined_names_the_value(rng):
    M = np.diag(np.append(np.linspace(1, 2, 39), -3.0))
    b = rng.normal(size=(40, 1))
    for alg in (Lanczos(), ContourQuadrature(), Chebyshev()):
        with pytest.raises(cola.errors.PropertyError, match=r"Ritz value.* -[0-9.]+"):
            cola.log(cola.no_dispatch(SelfAdjoint(ops.Dense(M))), alg) @ b
    with pytest.raises(cola.errors.PropertyError, match=r"Ritz value -3"):
        cola.log(cola.no_dispatch(ops.Dense(M)), Arnoldi()) @ b
    for alg in (Lanczos(), ContourQuadrature()):
        with pytest.raises(cola.errors.ColaError, match="declared PSD|positive definite"):
            cola.log(cola.no_dispatch(PSD(ops.Dense(M))), alg) @ b
    with pytest.raises(cola.errors.SingularMatrixError, match="Ritz value is zero"):
        cola.isqrt(cola.no_dispatch(PSD(ops.Dense(np.diag([0.0, 1.0])))), Lanczos()) @ np.ones(2)
    with pytest.raises(cola.errors.PropertyError, match="SelfAdjoint"):
        cola.exp(ops.Dense(M + np.eye(40, k=1)), Chebyshev())
    with pytest.raises(cola.errors.PropertyError, match="negative axis"):
        cola.exp(PSD(ops.Dense(np.eye(3))), ContourQuadrature())
    complex_log = cola.log(cola.no_dispatch(SelfAdjoint(ops.Dense(M + 0j))), Lanczos()) @ b
    np.testing.assert_allclose(complex_log, np.log(np.diag(M) + 0j)[:, None] * b, atol=1e-9)


def test_misses_are_announced(rng):
    w = np.logspace(-4, 0, 200)
    M, apply = with_spectrum(w, rng)
    A = cola.no_dispatch(PSD(ops.Dense(M)))
    b = rng.normal(size=(200, 1))
    want = apply(lambda w: w**-0.5, b)
    starved = (Lanczos(max_iters=10), Arnoldi(max_iters=10), Chebyshev(max_iters=20))
    for alg in (*starved, ContourQuadrature(max_iters=10)):
        F = cola.isqrt(A, alg)
        with pytest.warns(cola.ConvergenceWarning):
            F @ b
        y, info = run(F, b)
        assert not info.converged
        assert relative(y, want) <= 10 * info.error_estimate, (alg, info)
    y, info = run(cola.exp(A, Chebyshev(bounds=(0.5, 1.0))), b)
    assert not info.converged and "interval" in info.reason
    y, info = run(cola.isqrt(A, ContourQuadrature(bounds=(0.1, 1.0))), b)
    assert not info.converged and "interval" in info.reason
    bad = SelfAdjoint(ops.FunctionOperator(lambda v: v * float("nan"), (5, 5)))
    for alg in (Lanczos(), Arnoldi()):
        with pytest.raises(cola.errors.NonFiniteError, match="NaN"):
            cola.exp(bad, alg) @ np.ones(5)


def test_underflow_is_no_convergence(rng):
    """The first Ritz values are far below the largest eigenvalue, and their exponentials are zero."""
    w = -np.linspace(0, 1e4, 300)
    A = cola.no_dispatch(SelfAdjoint(ops.Diagonal(w)))
    b = rng.normal(size=(300, 1))
    for alg in (Lanczos(), Arnoldi()):
        y, info = run(cola.exp(A, alg), b)
        assert info.converged and relative(y, np.exp(w)[:, None] * b) < 1e-8, (alg, info)
    y, info = run(cola.exp(A, Chebyshev()), b)
    error = np.linalg.norm(y - np.exp(w)[:, None] * b) / np.linalg.norm(y)
    assert error < 1e-8 if info.converged else not info.error_estimate < error


def test_columns_stop_on_their_own(rng):
    n = 100
    A = cola.no_dispatch(PSD(ops.Diagonal(np.linspace(0.01, 1, n))))
    e = np.zeros(n)
    e[7] = 1.0
    b = np.stack([e, rng.normal(size=n), 1e-8 * rng.normal(size=n)], axis=1)
    d = np.linspace(0.01, 1, n)[:, None]
    y, info = run(cola.sqrt(A, Lanczos()), b)
    assert info.converged and bool(np.all(info.converged_columns))
    np.testing.assert_allclose(
        np.linalg.norm(y - np.sqrt(d) * b, axis=0) / np.linalg.norm(y, axis=0), 0, atol=1e-9
    )
    alone, _ = run(cola.sqrt(A, Lanczos()), b[:, :1])
    np.testing.assert_allclose(alone[:, 0], np.sqrt(d[7, 0]) * e, atol=1e-14)


def test_memory_is_bounded(rng):
    n = 400
    w = np.logspace(-2, 0, n)
    A = cola.no_dispatch(PSD(ops.Diagonal(w)))
    b = rng.normal(size=(n, 1))
    whole, info = run(cola.isqrt(A, Lanczos()), b)
    two, again = run(cola.isqrt(A, Lanczos(basis=15)), b)
    assert again.converged and relative(two, w[:, None] ** -0.5 * b) < 1e-9
    assert info.matvecs == info.iterations and again.matvecs > again.iterations  # the second pass is counted
    B = cola.no_dispatch(ops.Diagonal(w + 0.5))
    y, info = run(cola.exp(B, Arnoldi(basis=8, tol=1e-9)), b)
    assert info.converged and relative(y, np.exp(w + 0.5)[:, None] * b) < 1e-8


def test_callbacks_and_budgets_stop(rng):
    A = cola.no_dispatch(PSD(ops.Diagonal(np.logspace(-6, 0, 300))))
    b = rng.normal(size=(300, 1))
    seen = []
    stop = lambda step, error: seen.append(step) or step > 20  # noqa: E731
    for alg in (Lanczos(callback=stop), Chebyshev(callback=stop), ContourQuadrature(callback=stop)):
        seen.clear()
        _, info = run(cola.isqrt(A, alg), b)
        assert not info.converged and "callback" in info.reason and seen


def test_shifted_solves_for_what_is_not_self_adjoint(rng):
    M = convection_diffusion(40, 0.3) + 0.5 * np.eye(40)
    w = np.linalg.eigvals(M)
    assert np.abs(w.imag).max() < 1e-8
    bounds = (0.9 * w.real.min(), 1.1 * w.real.max())
    b = rng.normal(size=(40, 2))
    alg = ContourQuadrature(bounds=bounds, solver=cola.LU(), tol=1e-6)
    for f, reference in ((cola.sqrt, sqrtm), (cola.log, sl.logm)):
        y, info = run(f(cola.no_dispatch(ops.Dense(M)), alg), b)
        assert relative(y, reference(M) @ b) < 1e-5, info


def test_batches_of_vectors_and_complex_ones(rng):
    w = np.linspace(1, 3, 20)
    A = cola.no_dispatch(PSD(ops.Dense(np.diag(w))))
    b = rng.normal(size=(2, 20, 3)) + 1j * rng.normal(size=(2, 20, 3))
    for alg in (Lanczos(), Arnoldi(), Chebyshev(), ContourQuadrature()):
        np.testing.assert_allclose(cola.sqrt(A, alg) @ b, np.sqrt(w)[:, None] * b, atol=1e-7)
    batch = PSD(ops.Dense(np.stack([np.eye(3), 2 * np.eye(3)])))
    for alg in (Lanczos(), Arnoldi(), Chebyshev(), ContourQuadrature()):
        with pytest.raises(NotImplementedError, match="batch"):
            cola.sqrt(batch, alg)


@pytest.mark.parametrize("library", ["numpy", "torch"], indirect=False)
def test_exp_at_several_times(backend, rng):
    M = rng.normal(size=(30, 30))
    b = rng.normal(size=(30, 2))
    times = [0.5, 0.0, 2.0, -1.0, 2.0]
    A = ops.Dense(backend.asarray(M))
    Y, info = cola.expm_multiply(A, backend.asarray(b), times, return_info=True)
    want = np.stack([sl.expm(t * M) @ b for t in times])
    assert info.converged
    for y, w in zip(backend.to_numpy(Y), want, strict=True):
        assert relative(y, w) < 1e-11
    y = cola.expm_multiply(A, backend.asarray(b[:, 0] + 1j * b[:, 1]), 0.5)
    np.testing.assert_allclose(backend.to_numpy(y), want[0, :, 0] + 1j * want[0, :, 1], atol=1e-9)
    y = cola.expm_multiply(A, backend.asarray(b), [0.5], alg=Arnoldi())
    np.testing.assert_allclose(backend.to_numpy(y)[0], want[0], atol=1e-9 * np.abs(want[0]).max())
    assert cola.expm_multiply(A, backend.asarray(b), []).shape == (0, 30, 2)
    with pytest.raises(cola.errors.ShapeError):
        cola.expm_multiply(A, backend.asarray(b[:7]))


def test_large_norms_go_to_a_krylov_space(rng):
    n = 200
    S = rng.normal(size=(n, n))
    M = 60 * (S - S.T) / np.linalg.norm(S - S.T, 2)
    b = rng.normal(size=(n, 1))
    counted = ops.FunctionOperator(lambda v: M @ v, (n, n), rmatvec=lambda v: M.T @ v)
    want = sl.expm(M) @ b
    spent = {}
    for krylov in (False, True):
        y, info = run(cola.exp(counted, ExpAction(krylov=krylov)), b)
        assert info.converged and relative(y, want) < 1e-11, info
        spent[krylov] = info.matvecs
    assert spent[True] < spent[False]
    y, info = run(cola.exp(cola.no_dispatch(ops.Dense(M)), ExpAction()), b)
    assert relative(y, want) < 1e-11 and info.converged


def test_torch_gradients(rng):
    torch = pytest.importorskip("torch")
    G = rng.normal(size=(5, 5))
    M = torch.as_tensor(G @ G.T + np.eye(5)).requires_grad_()
    b = torch.as_tensor(rng.normal(size=(5, 1))).requires_grad_()
    for alg in (Lanczos(), Arnoldi(), Chebyshev(degree=60, bounds=(0.5, 40.0)), ContourQuadrature(tol=1e-9)):

        def value(M, b, alg=alg):
            S = (M + M.T) / 2
            A = cola.no_dispatch(ops.Dense(S) if isinstance(alg, Arnoldi) else PSD(ops.Dense(S)))
            return cola.sqrt(A, alg) @ b

        assert torch.autograd.gradcheck(value, (M, b), atol=1e-5), alg


def test_jax_compiles_stops_early_and_differentiates(rng):
    jax = pytest.importorskip("jax")
    n = 40
    w = np.linspace(1, 1.6, n)
    M, _ = with_spectrum(w, rng)
    D = rng.normal(size=(n, n))
    D = 0.1 * (D + D.T)
    b = jax.numpy.asarray(rng.normal(size=(n, 1)))

    def value(t, alg):
        A = cola.no_dispatch(PSD(ops.Dense(jax.numpy.asarray(M) + t * jax.numpy.asarray(D))))
        y, info = cola.isqrt(A, alg).apply(b, return_info=True)
        return jax.numpy.sum(y**2), (info.iterations, info.error_estimate)

    def dense(t):
        w, V = np.linalg.eigh(M + t * D)
        return float(np.sum(((V * w**-0.5) @ (V.T @ np.asarray(b))) ** 2))

    slope = (dense(1e-5) - dense(-1e-5)) / 2e-5
    for alg in (Lanczos(), ContourQuadrature()):
        got = jax.jit(jax.value_and_grad(lambda t, alg=alg: value(t, alg), has_aux=True))(0.0)
        (v, (steps, error)), s = got
        np.testing.assert_allclose(float(v), dense(0.0), rtol=1e-8)
        np.testing.assert_allclose(float(s), slope, rtol=1e-5)
        assert float(error) < 1e-6
        if isinstance(alg, Lanczos):
            assert int(steps) < n  # chunks behind the tolerance are skipped


def test_jax_outside_of_programs(rng):
    jax = pytest.importorskip("jax")
    w = np.linspace(0.5, 2, 40)
    M, apply = with_spectrum(w, rng)
    A = cola.no_dispatch(PSD(ops.Dense(jax.numpy.asarray(M))))
    b = rng.normal(size=(40, 2))
    for alg in (Lanczos(), Chebyshev(), ContourQuadrature()):
        y, info = run(cola.isqrt(A, alg), jax.numpy.asarray(b))
        assert info.converged and relative(np.asarray(y), apply(lambda w: w**-0.5, b)) < 1e-7, (alg, info)


@pytest.mark.parametrize("exponent", [-0.3, -0.5, -1.5])
@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_negative_powers_of_singular_operators_never_converge_to_infinity(scale, exponent):
    """An invariant subspace is exact only where the function is finite on it, and infinity is no norm to
    compare an error with."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        values = np.where(np.arange(6) < 3, rng.uniform(0.1, 1, 6), 0)
        B = np.linalg.inv(Q + 0.1 * rng.standard_normal((6, 6)))
        for M in ((Q * values) @ Q.T, Q @ np.diag(values) @ B):
            try:
                y, info = cola.pow(cola.ops.Dense(scale * M), exponent, cola.Arnoldi()).apply(
                    rng.standard_normal(6), return_info=True, on_failure="ignore"
                )
            except cola.errors.ColaError:
                continue
            assert np.isfinite(y).all() or not info.converged, (seed, info)

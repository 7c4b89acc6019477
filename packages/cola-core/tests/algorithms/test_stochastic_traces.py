"""XTrace, XNysTrace, XDiag, Hutch++, Hutchinson: errors that can be believed, exact cases, budgets."""

from __future__ import annotations

import numpy as np
import pytest
from compare import tolerance
from problems import indefinite, spectrum, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.errors import NotPositiveDefiniteError

N = 120
SPECTRA = {
    "decaying": spectrum("decaying", N, 1e8),
    "slowly": spectrum("decaying", N, 1e2),
    "polynomial": spectrum("polynomial", N, 1e8),
    "clustered": spectrum("clustered", N, 1e6),
    "step": spectrum("step", N, 1e4),
    "flat": spectrum("flat", N),
    "indefinite": indefinite(N),
}
TRACES = (cola.XTrace, cola.XNysTrace, cola.HutchPP, cola.Hutchinson)


def hidden(array, *properties):
    A = ops.Dense(array)
    for p in properties:
        A = p(A)
    return cola.no_dispatch(A)


def asked(question, A, alg, *more):
    return question(A, *more, alg, return_info=True, on_failure="ignore")


def size_of_errors(question, A, want, algs, *more):
    """Errors in units of the reported standard error."""
    out = []
    for alg in algs:
        value, info = asked(question, A, alg, *more)
        out.append(
            np.linalg.norm(np.asarray(value) - want) / (info.standard_error + 1e-12 * abs(np.sum(want)))
        )
    return np.asarray(out)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("cls", TRACES)
def test_standard_errors_are_believable(cls, name):
    """Errors are as large as reported, over thirty keys: no more than three times, and not wildly less."""
    w = SPECTRA[name]
    if cls is cola.XNysTrace and w.min() < 0:
        w = np.sort(np.abs(w))[::-1]
    A = hidden(with_spectrum(w, 1), cola.PSD if w.min() > 0 else cola.SelfAdjoint)
    limit = {cola.XTrace: 32, cola.XNysTrace: 32}.get(cls, 96)
    ratios = size_of_errors(
        cola.trace, A, w.sum(), [cls(tol=1e-4, max_iters=limit, key=key) for key in range(30)]
    )
    assert np.sum(ratios > 3) <= 1, np.sort(ratios)
    assert np.sqrt(np.mean(ratios**2)) < 1.4
    if name != "step":  # whose range is exhausted: the error is that of rounding
        assert np.sqrt(np.mean(ratios**2)) > 0.2


@pytest.mark.parametrize("tol", [3e-2, 1e-2])
def test_standard_errors_after_adaptive_growth(tol):
    """Stopping where the error looks small enough does not make it look smaller than it is."""
    w = SPECTRA["slowly"]
    A = hidden(with_spectrum(w, 2), cola.PSD)
    for cls in (cola.XTrace, cola.XNysTrace, cola.HutchPP):
        ratios = size_of_errors(cola.trace, A, w.sum(), [cls(tol=tol, key=key) for key in range(40)])
        assert np.sum(ratios > 3) <= 2, (cls, np.sort(ratios))


@pytest.mark.parametrize("k", [0, 2, -3])
def test_diagonals(k, rng):
    """XDiag of a matrix that is not symmetric, on and off the main diagonal."""
    M = with_spectrum(SPECTRA["decaying"], 1) + 1e-3 * rng.standard_normal((N, N))
    algs = [cola.XDiag(tol=1e-3, max_iters=40, key=key) for key in range(20)]
    ratios = size_of_errors(cola.diag, hidden(M), np.diagonal(M, k), algs, k)
    assert ratios.max() < 2 and ratios.mean() > 0.2


def test_backends_and_dtypes(backend, dtype, rng):
    """Every estimator on every library, in the dtype of the operator."""
    n = 48
    w = spectrum("decaying", n, 1e4)
    M = with_spectrum(w, 3, complex_="complex" in dtype).astype(dtype)
    A = hidden(backend.asarray(M), cola.PSD)
    algs = [cola.XTrace(samples=8, max_iters=16), cola.XNysTrace(samples=8, max_iters=16)]
    for alg in [*algs, cola.HutchPP(max_iters=30, bs=5)]:
        value, info = asked(cola.trace, A, alg)
        assert str(value.dtype).rpartition(".")[2] == dtype
        assert abs(complex(value) - w.sum()) < 5 * float(info.standard_error) + 10 * tolerance(dtype)
    d, info = asked(cola.diag, A, cola.XDiag(samples=8, max_iters=16), 0)
    gap = np.linalg.norm(np.asarray(backend.to_numpy(d)) - np.diagonal(M))
    assert gap < 4 * float(info.standard_error)


@pytest.mark.parametrize("factor", [1.0, 2.0**-30, 2.0**40])
def test_exact_cases(backend, factor):
    """Low rank, zero and multiples of the identity: rounding errors and no NaN, in any units."""
    n, dtype = 64, "float64"
    low = with_spectrum(np.r_[np.arange(1.0, 6.0), np.zeros(n - 5)], 4)
    for M, exact in ((low, True), (np.zeros((n, n)), True), (np.eye(n), True)):
        M = M * factor
        A = hidden(backend.asarray(M), cola.PSD)
        for cls in (cola.XTrace, cola.XNysTrace):
            value, info = asked(cola.trace, A, cls(samples=16, max_iters=16))
            assert bool(info.converged) is exact
            assert abs(float(value) - np.trace(M)) <= 1e-11 * max(np.trace(M), 1e-300)
            assert float(info.standard_error) <= 1e-10 * max(np.trace(M), 1e-300)
        if M[0, 0] != factor:
            d, info = asked(cola.diag, A, cola.XDiag(samples=16, max_iters=16), 0)
            gap = np.max(np.abs(np.asarray(backend.to_numpy(d)) - np.diagonal(M)))
            assert gap <= 1e-10 * max(np.trace(M), 1e-300)
    assert dtype in str(value.dtype)


def test_more_products_than_rows_are_never_made():
    """Where twice the sketch is as long as the operator, n products give the exact answer."""
    w = SPECTRA["flat"][:20]
    M = with_spectrum(w, 5)
    for cls, products in ((cola.XTrace, 20), (cola.XNysTrace, 16 + 20), (cola.HutchPP, None)):
        value, info = asked(cola.trace, hidden(M, cola.PSD), cls(tol=1e-12))
        assert info.converged and abs(value - w.sum()) < 1e-12 and info.standard_error == 0
        assert info.reason == "exact" and info.matvecs <= (products or 60)
    d, info = asked(cola.diag, hidden(M), cola.XDiag(), 1)
    np.testing.assert_allclose(d, np.diagonal(M, 1), atol=1e-14)


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("cls", TRACES)
def test_small_sizes(cls, n):
    M = np.diag(np.arange(1.0, n + 1))
    value, _ = asked(cola.trace, hidden(M, cola.PSD), cls())
    assert abs(value - np.trace(M)) < 1e-12
    assert cola.diag(hidden(M), 0, cola.XDiag()).shape == (n,)
    assert cola.diag(hidden(M), n + 1, cola.XDiag()).shape == (0,)


@pytest.mark.parametrize("cls", (cola.XTrace, cola.XNysTrace, cola.HutchPP))
def test_one_test_vector_has_no_spread(cls):
    value, info = asked(cola.trace, hidden(with_spectrum(SPECTRA["flat"], 1), cola.PSD), cls(max_iters=1))
    assert np.isfinite(value) and not info.converged


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_batches(library):
    """A batch of operators is estimated as its members are, by one sketch."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    backend = get_backend(library)
    M = np.stack([with_spectrum(s * SPECTRA["decaying"], seed) for seed, s in enumerate((1.0, 1e3, 1e-3))])
    A = hidden(backend.asarray(M), cola.PSD)
    want = np.trace(M, axis1=-2, axis2=-1)
    for cls in TRACES[:3]:
        value, info = asked(cola.trace, A, cls(tol=1e-2))
        assert bool(info.converged)
        assert np.max(np.abs(np.asarray(value) / want - 1)) < 6e-2
    d, info = asked(cola.diag, A, cola.XDiag(tol=1e-2, max_iters=48), 0)
    for got, one in zip(np.asarray(d), M, strict=True):
        assert np.linalg.norm(got - np.diag(one)) < 0.1 * np.linalg.norm(np.diag(one))


def test_five_times_more_accurate_than_hutchinson():
    """At one number of products, on a spectrum that decays."""
    w = 0.9 ** np.arange(300.0)
    A = hidden(with_spectrum(w, 1), cola.PSD)

    def error(make):
        return np.sqrt(np.mean([(asked(cola.trace, A, make(key))[0] - w.sum()) ** 2 for key in range(10)]))

    plain = error(lambda key: cola.Hutchinson(tol=1e-9, max_iters=80, key=key))
    assert 5 * error(lambda key: cola.XTrace(samples=40, max_iters=40, key=key)) < plain
    assert 5 * error(lambda key: cola.XNysTrace(samples=80, max_iters=80, key=key)) < plain


def test_hutchpp_finds_how_much_low_rank_is_worth():
    decaying, flat = (hidden(with_spectrum(w, 1)) for w in (0.8 ** np.arange(400.0), np.linspace(1, 2, 400)))
    products = asked(cola.trace, decaying, cola.HutchPP(tol=1e-4))[1].matvecs
    assert products <= 200
    _, info = asked(cola.trace, flat, cola.HutchPP(tol=1e-2))
    assert info.converged and info.matvecs <= 200


def test_many_rows_in_single_precision():
    n = 100_000
    d = (1.0 / np.arange(1, n + 1) ** 1.5).astype(np.float32)
    A = cola.PSD(cola.no_dispatch(ops.Diagonal(d)))
    for cls in (cola.XTrace, cola.XNysTrace):
        value, info = asked(cola.trace, A, cls(tol=1e-2, samples=16))
        assert abs(float(value) - d.sum(dtype=np.float64)) < 4 * info.standard_error


def test_an_operator_declared_psd_that_is_not():
    A = hidden(np.diag(np.linspace(-1, 1, 100)), cola.PSD)
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value"):
        cola.trace(A, cola.XNysTrace())


@pytest.mark.parametrize("cls", (cola.XTrace, cola.XNysTrace, cola.HutchPP))
def test_products_that_are_not_numbers(cls):
    A = cola.PSD(ops.FunctionOperator(lambda x: x * np.nan, (200, 200), rmatvec=lambda x: x * np.nan))
    value, info = asked(cola.trace, A, cls())
    assert np.isnan(value) and not info.converged and "NaN" in info.reason
    if cls is cola.XTrace:
        d, info = asked(cola.diag, A, cola.XDiag(), 0)
        assert np.isnan(d).all() and d.shape == (200,) and not info.converged


@pytest.mark.parametrize("cls", (cola.XTrace, cola.XNysTrace, cola.HutchPP, cola.Hutchinson))
def test_watched(cls):
    """A callback sees every stage and may end it; so does a budget of time."""
    A, seen = hidden(with_spectrum(SPECTRA["slowly"], 1), cola.PSD), []
    hear = lambda step, error: seen.append((step, error)) or len(seen) == 2  # noqa: E731
    more = {"bs": 8} if cls in (cola.Hutchinson, cola.HutchPP) else {"samples": 4}
    _, info = asked(cola.trace, A, cls(tol=1e-9, callback=hear, **more))
    assert not info.converged and "callback" in info.reason and len(seen) >= 2
    _, info = asked(cola.trace, A, cls(tol=1e-9, max_seconds=0.0, **more))
    assert not info.converged and "time budget" in info.reason


@pytest.mark.parametrize("cls", (cola.XTrace, cola.XNysTrace))
def test_gradients_are_unbiased(cls):
    """Over keys, the derivative of an estimate is that of the trace."""
    if not installed("torch"):
        pytest.skip("torch is not installed")
    import torch

    M, D = with_spectrum(spectrum("decaying", 30, 1e2), 1), with_spectrum(np.linspace(-1, 3, 30), 2)
    found = []
    for key in range(60):
        X = torch.tensor(M, requires_grad=True)
        cola.trace(hidden(X, cola.PSD), cls(samples=8, max_iters=8, key=key), on_failure="ignore").backward()
        found.append(float((X.grad * torch.tensor(D)).sum()))
    assert abs(np.mean(found) - np.trace(D)) < 4 * np.std(found) / len(found) ** 0.5


def test_under_jit():
    """The sketch has a fixed size there, and the Info comes out with the answer."""
    if not installed("jax"):
        pytest.skip("jax is not installed")
    import jax

    w = spectrum("decaying", 160, 1e6)
    A = hidden(jax.numpy.asarray(with_spectrum(w, 1)), cola.PSD)
    value, info = jax.jit(lambda A: asked(cola.trace, A, cola.XTrace()))(A)
    assert abs(float(value) - w.sum()) < 4 * float(info.standard_error)
    assert bool(info.converged) == (float(info.standard_error) <= 1e-3 * float(value))


def test_auto_takes_the_estimator_of_the_operator():
    """n products where that costs no more, XNysTrace for PSD operators, XTrace otherwise."""
    d = 1.0 / np.arange(1.0, 30_001) ** 2

    def method(A, question=cola.trace, *more):
        return question(A, *more, return_info=True, on_failure="ignore")[1].method

    def slow(d):
        def times(x):
            return d[:, None] * x

        return ops.FunctionOperator(None, (len(d), len(d)), matmat=times, rmatmat=times)

    assert method(slow(d[:200])) in ("", "direct", "Exact")
    assert method(cola.PSD(slow(d))) == "XNysTrace"
    assert method(slow(d)) == "XTrace"

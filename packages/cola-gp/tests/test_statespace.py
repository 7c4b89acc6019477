"""Filter, smoother and likelihood against the dense joint Gaussian of all states and observations."""

import math

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import (
    BackendError,
    DTypeError,
    NonFiniteError,
    NotPositiveDefiniteError,
    ShapeError,
    UnknownNameError,
)
from cola_gp import statespace as ss

LIBRARIES = ["numpy", "torch", "jax"]
VARIANTS = [(f, m) for f in ("covariance", "sqrt") for m in ("sequential", "parallel")]
NAMES = ("A", "Q", "H", "R", "m0", "P0")


def library(name):
    if name != "numpy":
        pytest.importorskip(name)
    if name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return get_backend(name)


def spd(rng, *shape):
    M = rng.normal(size=(*shape, shape[-1]))
    return M @ M.swapaxes(-1, -2) / shape[-1] + 0.1 * np.eye(shape[-1])


def random_model(seed, s=3, p=2, n=6, varying=False):
    rng = np.random.default_rng(seed)
    t, u = ((n - 1,), (n,)) if varying else ((), ())
    model = ss.LinearGaussian(
        A=0.6 * rng.normal(size=(*t, s, s)),
        Q=spd(rng, *t, s),
        H=rng.normal(size=(*u, p, s)),
        R=spd(rng, *u, p),
        m0=rng.normal(size=s),
        P0=spd(rng, s),
    )
    return model, rng.normal(size=(n, p))


def joint(model, n):
    """Mean and covariance of all states stacked, and the block-diagonal H and R, from the definition."""
    at = lambda x, k: x[k] if x.ndim == 3 else x  # noqa: E731
    s, p = model.states, model.observed
    mean, cov = np.zeros((n, s)), np.zeros((n, s, n, s))
    mean[0], cov[0, :, 0] = model.m0, model.P0
    for k in range(n - 1):
        A = at(model.A, k)
        mean[k + 1] = A @ mean[k]
        for j in range(k + 1):
            cov[k + 1, :, j] = A @ cov[k, :, j]
            cov[j, :, k + 1] = cov[k + 1, :, j].T
        cov[k + 1, :, k + 1] = A @ cov[k, :, k] @ A.T + at(model.Q, k)
    H, R = np.zeros((n, p, n, s)), np.zeros((n, p, n, p))
    for k in range(n):
        H[k, :, k], R[k, :, k] = at(model.H, k), at(model.R, k)
    return mean.ravel(), cov.reshape(n * s, n * s), H.reshape(n * p, n * s), R.reshape(n * p, n * p)


def dense(model, y, upto=None):
    """States given the observations (before ``upto``) and the log density of those, by one big solve."""
    n, p = y.shape
    mean, cov, H, R = joint(model, n)
    seen = ~np.isnan(y.ravel()) & (np.arange(n * p) < p * (n if upto is None else upto))
    H, R, v = H[seen], R[np.ix_(seen, seen)], y.ravel()[seen]
    S = H @ cov @ H.T + R
    v = v - H @ mean
    gain = np.linalg.solve(S, H @ cov).T
    value = -0.5 * (v @ np.linalg.solve(S, v) + np.linalg.slogdet(S)[1] + len(v) * math.log(2 * math.pi))
    s = model.states
    return (mean + gain @ v).reshape(n, s), (cov - gain @ H @ cov).reshape(n, s, n, s), value


def on(be, model):
    return ss.LinearGaussian(*(be.asarray(getattr(model, name)) for name in NAMES))


def holes(y, seed):
    rng = np.random.default_rng(seed)
    y = np.where(rng.uniform(size=y.shape) < 0.3, np.nan, y)
    y[len(y) // 2] = np.nan
    return y


# what compiles slowly on JAX is left to the conformance kit
CASES = [
    (k, f, m) for k in LIBRARIES for f, m in VARIANTS if k != "jax" or (f, m) in (VARIANTS[0], VARIANTS[3])
]


@pytest.mark.parametrize("name, form, method", CASES)
def test_dense_joint_gaussian(name, form, method):
    be = library(name)
    cases = [(2, 3, 5, True, True), (3, 2, 5, False, False), (2, 1, 6, True, True), (1, 1, 1, False, False)]
    for seed, (s, p, n, varying, missing) in enumerate(cases[:1] if name == "jax" else cases):
        model, y = random_model(seed, s, p, n, varying)
        y = holes(y, seed) if missing else y
        mean, cov, value = dense(model, y)
        given = be.asarray(y)
        got = ss.kalman_smoother(on(be, model), given, form=form, method=method)
        close = lambda a, b: np.testing.assert_allclose(be.to_numpy(a), b, rtol=1e-9, atol=1e-10)  # noqa: E731
        close(got.mean, mean)
        close(got.covariance, np.stack([cov[k, :, k] for k in range(n)]))
        close(got.cross_covariance, np.array([cov[k + 1, :, k] for k in range(n - 1)]).reshape(n - 1, s, s))
        close(got.log_likelihood, value)
        close(ss.log_likelihood(model, given, form=form, method=method), value)  # NumPy parameters follow
        if (name, form) == ("jax", "sqrt"):  # compiles slowly
            continue
        filtered = ss.kalman_filter(model, given, form=form, method=method)
        close(filtered.log_likelihood, value)
        for k in range(n):
            mean, cov, _ = dense(model, y, k + 1)
            close(filtered.mean[k], mean[k])
            close(filtered.covariance[k], cov[k, :, k])
            mean, cov, _ = dense(model, y, k)
            close(filtered.predicted_mean[k], mean[k])
            close(filtered.predicted_covariance[k], cov[k, :, k])
        assert (filtered.factor is None) == (form == "covariance")


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("form, method", VARIANTS)
def test_batches(name, form, method):
    """Two models of three axes (batch, time, matrix) on four series each, one by one and at once."""
    be = library(name)
    models = [random_model(seed, 2, 1, 5, varying=seed == 1)[0] for seed in (0, 1)]
    y = holes(np.random.default_rng(4).normal(size=(4, 2, 5, 1)), 5)
    full = lambda x, n: np.broadcast_to(x, (n, *x.shape[-2:]))  # noqa: E731
    stacked = ss.LinearGaussian(
        *(
            be.asarray(
                np.stack(
                    [
                        getattr(m, name)
                        if name in ("m0", "P0")
                        else full(getattr(m, name), 4 if name in "AQ" else 5)
                        for m in models
                    ]
                )
            )
            for name in NAMES
        )
    )
    got = ss.kalman_smoother(stacked, be.asarray(y), form=form, method=method)
    assert tuple(got.mean.shape) == (4, 2, 5, 2) and tuple(got.cross_covariance.shape) == (4, 2, 4, 2, 2)
    for i, j in np.ndindex(4, 2):
        mean, cov, value = dense(models[j], y[i, j])
        np.testing.assert_allclose(be.to_numpy(got.mean)[i, j], mean, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(be.to_numpy(got.covariance)[i, j, 2], cov[2, :, 2], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(be.to_numpy(got.log_likelihood)[i, j], value, rtol=1e-10)


def test_one_model_on_many_series():
    model, _ = random_model(0, 2, 1, 5)
    y = np.random.default_rng(1).normal(size=(3, 5, 1))
    together = ss.log_likelihood(model, y)
    assert together.shape == (3,)
    np.testing.assert_allclose(together, [ss.log_likelihood(model, y[i]) for i in range(3)], rtol=1e-12)


@pytest.mark.parametrize("method", ["sequential", "parallel"])
def test_long_series_agree(method):
    """300 steps: the order in time makes no difference beyond rounding."""
    model, y = random_model(3, 3, 2, 300)
    y = holes(y, 1)
    reference = ss.kalman_smoother(model, y, method="sequential", form="sqrt")
    got = ss.kalman_smoother(model, y, method=method)
    np.testing.assert_allclose(got.mean, reference.mean, atol=1e-10)
    np.testing.assert_allclose(got.covariance, reference.covariance, atol=1e-10)
    np.testing.assert_allclose(got.log_likelihood, reference.log_likelihood, rtol=1e-12)


@pytest.mark.parametrize("form, method", VARIANTS)
def test_singular_covariances(form, method):
    """A known start, a constant component, and noise of rank one."""
    model = ss.LinearGaussian(
        A=[[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        Q=0.1 * np.outer([0.5, 1.0, 0.0], [0.5, 1.0, 0.0]),
        H=[[1.0, 0.0, 1.0]],
        R=[[0.3]],
        m0=[1.0, 0.5, 0.0],
        P0=np.diag([0.0, 0.0, 2.0]),
    )
    y = np.array([1.0, np.nan, 2.0, 2.7, 2.9])[:, None]
    mean, cov, value = dense(model, y)
    got = ss.kalman_smoother(model, y, form=form, method=method)
    np.testing.assert_allclose(got.mean, mean, atol=1e-9)
    np.testing.assert_allclose(got.covariance, [cov[k, :, k] for k in range(5)], atol=1e-9)
    np.testing.assert_allclose(got.log_likelihood, value, rtol=1e-10)


def test_any_sizes():
    """Random sizes, missing values, changes with time, in all forms and methods, against the dense joint."""
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    @hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
    @hypothesis.given(
        seed=st.integers(0, 999),
        s=st.integers(1, 4),
        p=st.integers(1, 3),
        n=st.integers(1, 9),
        varying=st.booleans(),
        missing=st.booleans(),
        variant=st.sampled_from(VARIANTS),
    )
    def check(seed, s, p, n, varying, missing, variant):
        model, y = random_model(seed, s, p, n, varying)
        y = holes(y, seed) if missing else y
        mean, cov, value = dense(model, y)
        got = ss.kalman_smoother(model, y, form=variant[0], method=variant[1])
        np.testing.assert_allclose(got.mean, mean, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(got.covariance, [cov[k, :, k] for k in range(n)], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(got.log_likelihood, value, rtol=1e-9, atol=1e-9)

    check()


def test_mask_is_nan():
    model, y = random_model(2, 2, 2, 6)
    mask = np.random.default_rng(0).uniform(size=y.shape) < 0.6
    one = ss.kalman_smoother(model, y, mask)
    two = ss.kalman_smoother(model, np.where(mask, y, np.nan))
    np.testing.assert_array_equal(one.mean, two.mean)
    assert float(one.log_likelihood) == float(two.log_likelihood)
    nothing = ss.kalman_filter(model, np.full((3, 2), np.nan))
    assert float(nothing.log_likelihood) == 0.0
    np.testing.assert_allclose(nothing.mean[1], model.A @ model.m0, rtol=1e-12)


def test_jax_compiles_and_differentiates():
    be = library("jax")
    import jax

    # 11 times: chunks of four, the last with a time that is not there
    model, y = random_model(0, 2, 1, 11)
    y = holes(y, 3)
    for form, method in (VARIANTS[0], VARIANTS[3]):
        run = jax.jit(
            lambda m, y, f=form, t=method: jax.value_and_grad(
                lambda q: ss.log_likelihood(q, y, form=f, method=t)
            )(m)
        )
        value, gradient = run(on(be, model), be.asarray(y))
        np.testing.assert_allclose(value, dense(model, y)[2], rtol=1e-10)
        check_gradient(model, y, gradient)


def test_parallel_in_jax_compiles_the_same_whatever_the_length():
    """The program for a hundred thousand times is that for a hundred (unrolled trees grow with log n)."""
    library("jax")
    import jax

    from cola_gp.statespace.model import prepare
    from cola_gp.statespace.score import _value_and_score

    def program(n, form):
        model, y = random_model(0, 2, 1, 3)
        problem = prepare(on(library("jax"), model), jax.numpy.asarray(y))
        arrays = [x if x is None else jax.ShapeDtypeStruct(x.shape, x.dtype) for x in problem.arrays]
        arrays[6] = jax.ShapeDtypeStruct((n, 1), y.dtype)
        made = jax.make_jaxpr(lambda a: _value_and_score(a, form=form, method="parallel"))(tuple(arrays))
        return str(made).count("\n")

    for form in ("covariance", "sqrt"):
        assert program(100_000, form) <= 1.05 * program(100, form)


def test_parallel_gradient_of_a_long_series_in_jax():
    be = library("jax")
    model, y = random_model(3, 2, 2, 1100)
    y = holes(y, 1)
    want, slopes = ss.value_and_gradient(model, y, method="sequential")
    value, found = ss.value_and_gradient(on(be, model), be.asarray(y), method="parallel", form="covariance")
    np.testing.assert_allclose(value, want, rtol=1e-12)
    for name in NAMES:
        expected = getattr(slopes, name)
        np.testing.assert_allclose(
            getattr(found, name), expected, rtol=0, atol=1e-10 * np.abs(expected).max()
        )


def test_prefixes_of_an_associative_operation():
    """Products of matrices, in either order in time: no chunks, two of two, and five of five."""
    from cola_gp.statespace.scans import parallel

    be = library("jax")
    rng = np.random.default_rng(0)
    for n, backwards in ((1, False), (3, False), (23, True)):
        M = np.linalg.qr(rng.normal(size=(n, 2, 2)))[0]
        want = [M[-1] if backwards else M[0]]
        for k in range(1, n):
            want.append(M[n - 1 - k] @ want[-1] if backwards else want[-1] @ M[k])
        (found,) = parallel(be, lambda a, b: (a[0] @ b[0],), (be.asarray(M),), reverse=backwards)
        np.testing.assert_allclose(be.to_numpy(found), want[::-1] if backwards else want, atol=1e-12)


@pytest.mark.parametrize("form, method", VARIANTS)
def test_torch_differentiates(form, method):
    torch = pytest.importorskip("torch")
    model, y = random_model(0, 2, 1, 5)
    y = holes(y, 3)
    leaves = [torch.tensor(getattr(model, k), requires_grad=True) for k in NAMES]
    ss.log_likelihood(ss.LinearGaussian(*leaves), torch.tensor(y), form=form, method=method).backward()
    check_gradient(model, y, ss.LinearGaussian.__new__(ss.LinearGaussian), [x.grad for x in leaves])


@pytest.mark.parametrize("form, method", VARIANTS)
@pytest.mark.parametrize("varying", [False, True])
def test_gradient_in_closed_form(form, method, varying):
    model, y = random_model(5, 2, 2, 5, varying)
    y = holes(y, 3)
    value, gradient = ss.value_and_gradient(model, y, form=form, method=method)
    np.testing.assert_allclose(value, dense(model, y)[2], rtol=1e-10)
    assert all(getattr(gradient, k).shape == getattr(model, k).shape for k in NAMES)
    check_gradient(model, y, gradient)


def test_gradient_of_singular_models():
    """Q, R and P0 of rank one: nothing of these is inverted."""
    model, y = random_model(1, 2, 2, 5)
    one = np.ones((2, 2))
    model = model.replace(Q=0.3 * one, R=0.2 * one, P0=0.1 * one, H=np.array([[1.0, 0.3], [0.2, -1.0]]))
    check_gradient(model, y, ss.value_and_gradient(model, y, method="sequential")[1])


def test_gradient_of_batches():
    model, _ = random_model(0, 2, 1, 5, varying=True)
    y = np.random.default_rng(1).normal(size=(3, 5, 1))
    lone = model.replace(Q=model.Q[:1], m0=np.broadcast_to(model.m0, (3, 2)), P0=model.P0[None])
    value, gradient = ss.value_and_gradient(lone, y)
    each = [ss.value_and_gradient(model.replace(Q=model.Q[0]), y[i]) for i in range(3)]
    np.testing.assert_allclose(value, [v for v, _ in each], rtol=1e-12)
    for name in ("A", "H", "R"):
        np.testing.assert_allclose(
            getattr(gradient, name), sum(getattr(g, name) for _, g in each), rtol=1e-10
        )
    np.testing.assert_allclose(gradient.Q[0], sum(g.Q for _, g in each), rtol=1e-10)
    np.testing.assert_allclose(gradient.P0[0], sum(g.P0 for _, g in each), rtol=1e-10)
    np.testing.assert_allclose(gradient.m0, [g.m0 for _, g in each], rtol=1e-10)


def test_second_derivatives():
    """Hessian by numbers that scale A and Q, in JAX and torch, against differences of the closed-form
    gradient.
    """
    model, y = random_model(0, 2, 1, 5)

    def gradient(t):
        g = ss.value_and_gradient(model.replace(A=t[0] * model.A, Q=t[1] * model.Q), y)[1]
        return np.array([np.sum(g.A * model.A), np.sum(g.Q * model.Q)])

    t = np.array([1.1, 0.9])
    want = [(gradient(t + h) - gradient(t - h)) / 2e-6 for h in 1e-6 * np.eye(2)]
    for name in ("torch", "jax"):
        try:
            be = library(name)
        except pytest.skip.Exception:
            continue
        moved = on(be, model)

        def value(t, moved=moved, be=be):
            return ss.log_likelihood(moved.replace(A=t[0] * moved.A, Q=t[1] * moved.Q), be.asarray(y))

        if name == "jax":
            import jax

            got = jax.jit(jax.hessian(value))(be.asarray(t))
        else:
            import torch

            got = torch.autograd.functional.hessian(value, torch.tensor(t))
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


def test_maps_over_batches():
    """``vmap`` of values and gradients, in torch and JAX, is the batch."""
    model, _ = random_model(0, 2, 1, 4)
    y = np.random.default_rng(1).normal(size=(3, 4, 1))
    want = ss.log_likelihood(model, y)
    step = 1e-6 * np.ones_like(y)
    slope = (ss.log_likelihood(model, y + step) - ss.log_likelihood(model, y - step)) / 2e-6
    for name in ("torch", "jax"):
        try:
            be = library(name)
        except pytest.skip.Exception:
            continue
        moved = on(be, model)
        value = lambda y, m=moved: ss.log_likelihood(m, y)  # noqa: E731
        if name == "jax":
            from jax import grad, vmap
        else:
            from torch.func import grad, vmap
        np.testing.assert_allclose(be.to_numpy(vmap(value)(be.asarray(y))), want, rtol=1e-10)
        gradient = be.to_numpy(vmap(grad(value))(be.asarray(y)))
        np.testing.assert_allclose(gradient.sum(axis=(1, 2)), slope, rtol=1e-6)


def test_what_auto_stands_for():
    from cola_gp.statespace.filtering import chosen
    from cola_gp.statespace.model import prepare

    pick = lambda m, y, **o: chosen(prepare(m, y), o.get("form", "auto"), o.get("method", "auto"))  # noqa: E731
    model, y = random_model(0, 2, 1, 100)
    assert pick(model, y) == ("covariance", "parallel")
    assert pick(model, y[:10]) == ("covariance", "sequential")
    assert pick(model, y.astype(np.float32)) == ("sqrt", "parallel")
    assert pick(model, y, form="sqrt", method="sequential") == ("sqrt", "sequential")
    assert pick(model.replace(P0=1e12 * np.eye(2)), y) == ("sqrt", "parallel")
    assert pick(model.replace(R=np.zeros((1, 1))), y) == ("sqrt", "parallel")
    assert pick(random_model(0, 20, 1, 100)[0], y) == ("covariance", "sequential")


def check_gradient(model, y, gradient, parts=None):
    """Central differences of the dense likelihood, along symmetric directions for covariances."""
    for i, name in enumerate(NAMES):
        value, got = getattr(model, name), np.asarray(parts[i] if parts else getattr(gradient, name))
        for index in np.ndindex(value.shape):
            step = np.zeros_like(value)
            step[index] = 0.5
            if name in ("Q", "R", "P0"):
                step = step + step.swapaxes(-1, -2)
            high, low = (
                dense(model.replace(**{name: value + sign * 1e-5 * step}), y)[2] for sign in (1.0, -1.0)
            )
            np.testing.assert_allclose(np.sum(got * step), (high - low) / 2e-5, rtol=1e-5, atol=1e-6)


def tracking(n, dtype=np.float64):
    """Constant velocity, dt 1, q 1e-4, r 1e-2, a vague prior: stiff in float32."""
    A, Q = np.array([[1.0, 1.0], [0.0, 1.0]]), 1e-4 * np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]])
    H, R = np.array([[1.0, 0.0]]), np.array([[1e-2]])
    rng = np.random.default_rng(0)
    x, y = np.array([3.0, 0.5]), []
    for _ in range(n):
        y.append(x[:1] + 0.1 * rng.normal(size=1))
        x = A @ x + np.linalg.cholesky(Q) @ rng.normal(size=2)
    model = ss.LinearGaussian(*(np.asarray(a, dtype) for a in (A, Q, H, R, np.zeros(2), 100.0 * np.eye(2))))
    return model, np.asarray(y, dtype)


@pytest.mark.parametrize("name, method", [(k, m) for k, f, m in CASES if (f == "sqrt") != (k == "jax")])
def test_float32_stays_positive(name, method):
    be = library(name)
    n = 500 if name == "numpy" or (name, method) == ("jax", "sequential") else 40
    model, y = tracking(n)
    want = ss.kalman_smoother(model, y, method="sequential", form="sqrt")
    single = on(be, tracking(2, np.float32)[0])
    given = be.asarray(y.astype(np.float32))
    got = ss.kalman_smoother(single, given, method=method)
    assert got.factor is not None  # the square-root form is taken by itself
    # compiling the filter as well takes JAX some seconds
    filtered = got if name == "jax" else ss.kalman_filter(single, given, method=method)
    np.testing.assert_allclose(be.to_numpy(got.log_likelihood), want.log_likelihood, rtol=2e-3)
    np.testing.assert_allclose(be.to_numpy(got.mean), want.mean, atol=0.02)
    for answer in (filtered, got):
        P = np.asarray(be.to_numpy(answer.covariance), dtype=float)
        w = np.linalg.eigvalsh(P)
        assert np.min(w[:, 0] / w[:, -1]) > -1e-6
    np.testing.assert_allclose(be.to_numpy(got.covariance)[20:], want.covariance[20:], rtol=0.02, atol=1e-6)


def test_vague_prior_in_single_precision():
    """Variances of 1e12 beside a noise of 1e-2: the tree must not take differences of huge numbers."""
    model, y = tracking(200)
    vague = model.replace(P0=1e12 * np.eye(2))
    want = float(ss.log_likelihood(vague, y, form="sqrt", method="sequential"))
    single = ss.LinearGaussian(*(getattr(vague, name).astype(np.float32) for name in NAMES))
    smoothed = ss.kalman_smoother(vague, y, form="sqrt", method="sequential")
    np.testing.assert_allclose(
        ss.kalman_smoother(vague, y).covariance, smoothed.covariance, rtol=1e-6, atol=1e-9
    )
    for form, method in VARIANTS:
        assert abs(float(ss.log_likelihood(vague, y, form=form, method=method)) - want) < 1e-2
        if form == "sqrt":
            got = float(ss.log_likelihood(single, y.astype(np.float32), form=form, method=method))
            assert abs(got - want) < 0.05


def test_bad_input():
    model, y = random_model(0, 2, 2, 5)
    good = {name: getattr(model, name) for name in NAMES}
    make = lambda **new: ss.LinearGaussian(**{**good, **new})  # noqa: E731
    with pytest.raises(ShapeError, match=r"m0 has shape \(3,\)"):
        make(m0=np.zeros(3))
    with pytest.raises(ShapeError, match="Q must be a matrix"):
        make(Q=np.zeros(3))
    with pytest.raises(DTypeError, match="A must be"):
        make(A="x")
    with pytest.raises(DTypeError, match="H is complex"):
        make(H=1j * model.H)
    with pytest.raises(NonFiniteError, match="R of shape"):
        make(R=np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="Q is not symmetric"):
        make(Q=[[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match="P0 has a negative variance"):
        make(P0=-np.eye(2))
    with pytest.raises(ShapeError, match="observes 2 values"):
        ss.kalman_filter(model, np.zeros(5))
    with pytest.raises(ShapeError, match="no observations"):
        ss.kalman_filter(model, np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="mask has shape"):
        ss.kalman_filter(model, y, np.ones(5, bool))
    with pytest.raises(NonFiniteError, match="infinite"):
        ss.kalman_filter(model, np.full((5, 2), np.inf))
    with pytest.raises(DTypeError, match="y must be"):
        ss.kalman_filter(model, "y")
    with pytest.raises(ShapeError, match="A has 3 entries on its time axis"):
        ss.kalman_filter(make(A=np.zeros((3, 2, 2))), y)
    with pytest.raises(ShapeError, match="do not broadcast"):
        ss.kalman_filter(make(A=np.zeros((3, 1, 2, 2))), np.zeros((4, 5, 2)))
    for option in ({"form": "root"}, {"method": "fast"}):
        with pytest.raises(UnknownNameError, match="there are auto"):
            ss.kalman_filter(model, y, **option)
    certain = make(R=np.zeros((2, 2)), H=np.ones((2, 2)))
    for method in ("auto", "parallel"):
        with pytest.raises(NotPositiveDefiniteError, match="Give R a positive variance"):
            ss.kalman_filter(certain, y, method=method)


def test_noise_free_observations_of_moving_states():
    """R = 0 and Q of rank one: the elements of the tree do not exist, the steps do, and "auto" finds them."""
    model = ss.LinearGaussian(
        A=[[1.0, 0.5], [0.0, 1.0]], Q=np.diag([0.0, 0.1]), H=[[1.0, 0.0]], R=[[0.0]], m0=[0, 0], P0=np.eye(2)
    )
    y = np.cumsum(np.random.default_rng(0).normal(size=60))
    want = ss.log_likelihood(model, y, method="sequential")
    with pytest.raises(NotPositiveDefiniteError):
        ss.log_likelihood(model, y, method="parallel")
    assert float(ss.log_likelihood(model, y)) == float(want)


def test_libraries_are_not_mixed():
    torch = pytest.importorskip("torch")
    model, y = random_model(0, 2, 2, 5)
    moved = model.replace(A=torch.tensor(model.A))
    with pytest.raises(BackendError):
        ss.kalman_filter(moved, y)

"""Kernels in time: state-space inference against dense matrices and against the textbook filter."""

import math

import numpy as np
import pytest

import cola_core as cola
import cola_gp as gp
from cola_core.errors import NoRuleError, NotPositiveDefiniteError, ShapeError
from cola_gp import statespace as ss
from cola_gp._struct import leaves, with_leaves
from cola_gp.inference import DenseInference, StateSpaceInference
from cola_gp.sde import Cotangent, NoForm, StateSpaceCovariance, factorise, form_of, harmonics_needed

KERNELS = {
    "matern12": gp.Matern12(0.7),
    "matern32": 1.5 * gp.Matern32(0.7),
    "matern52": 2.0 * gp.Matern52([0.4]),
    "constant": gp.Constant(2.0),
    "linear": gp.Linear(0.5) + gp.Matern12(0.5),
    "cosine": gp.Cosine(1.3) * gp.Matern32(1.0),
    "periodic": gp.Periodic(1.5, 0.8),
    "quasi-periodic": 0.7 * (gp.Periodic(2.0, 0.8) * gp.Matern12(2.0)),
    "sum": gp.Matern52(0.5) + gp.Constant(0.4) + gp.Linear(0.3) + gp.White(0.2),
    "product": gp.Matern32(1.0) * gp.Matern12(0.4) * gp.Linear(0.5),
    "white": gp.White(0.2) * gp.Constant(3.0)
    + gp.White(0.3) * gp.Matern32(1.0)
    + gp.ActiveDims(gp.Matern12(1.0), 0),
    "polynomial": gp.Polynomial(2) * gp.Matern32(2.0),
}
CHEAP = ("matern12", "matern32", "matern52", "sum", "white")


def times(n, seed=0, span=4.0):
    """Unsorted times with repetitions, close pairs and a gap."""
    t = np.random.default_rng(seed).uniform(0, span, n)
    if n > 6:
        t[3] = t[2]
        t[4] = t[2] + 1e-9
        t[5] = 3 * span
    return t


def problem(name, n, seed=0):
    t = times(n, seed)
    rng = np.random.default_rng(seed + 1)
    y = np.sin(t) + 0.3 * rng.normal(size=n)
    noise = gp.FixedNoise(rng.uniform(0.05, 0.2, n)) if seed % 2 else 0.1
    return gp.GP(KERNELS[name], gp.ConstantMean(0.2), noise), gp.Data(t, y)


def as_linear_gaussian(kernel, t, y, r):
    """The same process for :mod:`cola_gp.statespace`: a model and its observations in time."""
    order = np.argsort(t, kind="stable")
    t = t[order]
    (A, Q, P, H), white, _ = form_of(kernel).steps(t, np.diff(t, prepend=t[0]))
    A, Q = (np.moveaxis(M[..., 1:], -1, 0) if len(t) > 1 else np.zeros((1, *P.shape)) for M in (A, Q))
    H = np.broadcast_to(H, (len(P), len(t))).T[:, None, :]
    R = (r[order] + white)[:, None, None]
    return ss.LinearGaussian(A=A, Q=Q, H=H, R=R, m0=np.zeros(len(P)), P0=P), y[order]


def textbook_filter(kernel, t, y, r):
    """Log likelihood by the Kalman filter, one observation after the other (Sarkka 2013, theorem 4.2)."""
    order = np.argsort(t, kind="stable")
    t, y, r = t[order], y[order], r[order]
    (A, Q, P, H), white, _ = form_of(kernel).steps(t, np.diff(t, prepend=t[0]))
    H = np.broadcast_to(H, (len(P), len(t)))
    m, C, total = np.zeros(len(P)), P, 0.0
    for k in range(len(t)):
        if k:
            m, C = A[..., k] @ m, A[..., k] @ C @ A[..., k].T + Q[..., k]
        S = H[:, k] @ C @ H[:, k] + r[k] + white[k]
        e = y[k] - H[:, k] @ m
        total -= 0.5 * (e * e / S + math.log(2 * math.pi * S))
        gain = C @ H[:, k] / S
        m, C = m + gain * e, C - np.outer(gain, gain) * S
    return total


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("n", [1, 2, 9, 90])
def test_dense_structured_and_filter_agree(name, n):
    """The triple check: the same likelihood three ways, and the gradient two ways, to 1e-8."""
    model, data = problem(name, n, seed=n)
    dense, dense_gradient = gp.value_and_gradient(model, data, DenseInference())
    value, gradient = gp.value_and_gradient(model, data, StateSpaceInference())
    r = model.noise.variances(data.y)
    textbook = textbook_filter(model.kernel, data.X[:, 0], data.y - 0.2, r)
    assert float(value) == pytest.approx(float(dense), rel=1e-8, abs=1e-8)
    assert float(value) == pytest.approx(textbook, rel=1e-8, abs=1e-8)
    filtered = ss.log_likelihood(*as_linear_gaussian(model.kernel, data.X[:, 0], data.y - 0.2, r))
    assert float(value) == pytest.approx(float(filtered), rel=1e-8, abs=1e-8)
    for a, b in zip(gradient, dense_gradient, strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8 * max(1.0, float(np.max(np.abs(b)))))
    prior = gp.represent(
        gp.CovarianceOperator(model.kernel, data.X), alg=cola.Auto(rules=("gp:represent/state-space",))
    ).operator
    assert isinstance(prior, StateSpaceCovariance)
    quadratic, log_det = cola.inv_quad_logdet(prior + model.noise.operator(data.y), data.y - 0.2)
    total = -0.5 * (quadratic + log_det + n * math.log(2 * math.pi))
    assert float(total) == pytest.approx(float(dense), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_predictions_equal_the_dense_ones(name):
    model, data = problem(name, 70, seed=2)
    rng = np.random.default_rng(0)
    # before, between, after and exactly at observations
    Z = np.concatenate([[-1.0, 20.0], rng.uniform(0, 5, 7), data.X[:3, 0]])[:, None]
    ours, dense = (gp.Posterior(model, data, alg) for alg in (StateSpaceInference(), DenseInference()))
    assert ours.method == "state space (Kalman)"
    np.testing.assert_allclose(ours.mean(Z), dense.mean(Z), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.variance(Z), dense.variance(Z), rtol=1e-8, atol=1e-9)
    covariance = ours.covariance(Z)
    np.testing.assert_allclose(covariance, dense.covariance(Z), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(covariance), ours.variance(Z), rtol=1e-8, atol=1e-11)
    a, b = ours.leave_one_out(), dense.leave_one_out()
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-9)
    assert ours.variance(Z[:1]).shape == (1,) and ours.covariance(Z[:1]).shape == (1, 1)


@pytest.mark.parametrize("name", sorted(KERNELS))
@pytest.mark.parametrize("n", [1, 3, 50])
def test_the_operator_is_the_kernel_matrix(name, n, rng):
    t = times(n)
    kernel = KERNELS[name]
    K = kernel(t[:, None])
    found = gp.represent(
        gp.CovarianceOperator(kernel, t[:, None]), alg=cola.Auto(rules=("gp:represent/state-space",))
    )
    A = found.operator
    size = np.max(np.abs(K))
    assert A.isa(cola.PSD) and A.shape == (n, n)
    np.testing.assert_allclose(A.to_dense(), K, rtol=1e-9, atol=1e-11 * size)
    V = rng.normal(size=(2, n, 3))
    np.testing.assert_allclose(A @ V, K @ V, rtol=1e-9, atol=1e-10 * size)
    np.testing.assert_allclose(A.H @ V[0, :, 0], K @ V[0, :, 0], rtol=1e-9, atol=1e-10 * size)
    np.testing.assert_allclose(cola.diag(A), np.diagonal(K), rtol=1e-10)
    assert float(cola.trace(A)) == pytest.approx(np.trace(K), rel=1e-10)
    D = rng.uniform(0.1, 0.2, n)
    B = 2.0 * A + cola.PSD(cola.ops.Diagonal(D)) + 0.1 * cola.I_like(A)
    assert isinstance(B, StateSpaceCovariance)
    M = 2 * K + np.diag(D + 0.1)
    np.testing.assert_allclose(cola.solve(B, V), np.linalg.solve(M, V), rtol=1e-7, atol=1e-8)
    assert float(cola.logdet(B)) == pytest.approx(np.linalg.slogdet(M)[1], rel=1e-8, abs=1e-8)


def test_pulls_back_any_cotangent(rng):
    """``pull`` is the transpose of the derivative of the model's matrices, also where those are unrelated."""
    t = np.sort(times(8))
    gaps = np.diff(t, prepend=t[0])
    for name in ("matern52", "periodic", "sum", "product", "white", "quasi-periodic"):
        kernel = KERNELS[name]
        steps, white, pull = form_of(kernel).steps(t, gaps)
        weights = [rng.normal(size=x.shape) for x in (*steps, white)]
        weights[3] = weights[3] * steps.H  # that of a likelihood vanishes with what is observed
        rest = np.zeros((len(steps.H), len(t) - steps.H.shape[1]))
        got = pull(Cotangent(*weights[:3], np.concatenate([weights[3], rest], axis=1)), weights[4])

        def value(parts, weights=weights, kernel=kernel):
            s, w, _ = form_of(with_leaves(kernel, parts)).steps(t, gaps)
            return sum(np.sum(a * b) for a, b in zip((*s, w), weights, strict=True))

        start = leaves(kernel)
        for i, leaf in enumerate(start):
            ends = []
            for step in (1e-6, -1e-6):
                moved = list(start)
                moved[i] = leaf + step
                ends.append(value(moved))
            assert np.sum(got[i]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-5), (name, i)


def test_tiny_noise_and_coincident_times_lose_nothing():
    """Where a Cholesky factorisation fails: 3,000 times, some equal or 1e-13 apart, noise 1e-10; against the
    same filter in extended precision, one step after the other."""
    n = 1500
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 100, n))
    t[100:110] = t[100]
    t[200:220] = t[200] + 1e-13 * np.arange(20)
    for kernel in (gp.Matern12(1.0), gp.Matern32(1.0), gp.Matern52(1.0)):

        def parts(dtype, serial, kernel=kernel):
            times = t.astype(dtype)
            gaps = np.diff(times, prepend=times[:1])
            assert np.finfo(dtype).eps <= np.finfo(float).eps
            steps, _, _ = form_of(kernel).steps(times, gaps)
            factor = factorise(steps, np.full(n, 1e-10, dtype), serial=serial)
            assert factor.layout.chunks == (1 if serial else 39)
            return factor.log_det()

        assert float(parts(np.float64, False)) == pytest.approx(float(parts(np.longdouble, True)), rel=1e-12)


def test_chunks_that_do_not_fit_together_are_given_up():
    """A prior of variance 1e10 on a slope and an offset that the data hardly tell apart."""
    n = 900
    t = np.sort(np.random.default_rng(0).uniform(0, 1, n))
    kernel = gp.Matern52(1.0) + gp.Constant(1e5) + gp.Linear(1e5)
    steps, _, _ = form_of(kernel).steps(t, np.diff(t, prepend=t[0]))
    factor = factorise(steps, np.full(n, 1e-9))
    assert factor.layout.chunks == 1
    with pytest.warns(cola.errors.IllConditionedWarning):
        gp.Posterior(gp.GP(kernel, noise=1e-10), gp.Data(t, np.sin(t)), StateSpaceInference())


def test_float32_stays_accurate():
    n = 400
    t = np.sort(np.random.default_rng(1).uniform(0, 10, n)).astype(np.float32)
    y = np.sin(t) + np.float32(0.05) * np.random.default_rng(2).normal(size=n).astype(np.float32)
    for kernel in (1.0 * gp.Matern32(1.0), 1.0 * gp.Matern52(1.0)):
        model = gp.GP(kernel, noise=1e-4)
        single, single_gradient = gp.value_and_gradient(model, gp.Data(t, y), StateSpaceInference())
        exact, gradient = gp.value_and_gradient(
            model, gp.Data(t.astype(float), y.astype(float)), StateSpaceInference()
        )
        assert single.dtype == np.float32
        assert float(single) == pytest.approx(float(exact), rel=1e-4)
        for a, b in zip(single_gradient, gradient, strict=True):
            assert float(a) == pytest.approx(float(b), rel=2e-3, abs=1e-2)


def test_the_cheapest_structure_is_taken_and_explained():
    t = np.sort(np.random.default_rng(0).uniform(0, 100, 3000))
    data = gp.Data(t, np.sin(t))
    model = gp.GP(1.0 * gp.Matern32(1.0), noise=0.1)
    assert isinstance(model.prior(data.X), StateSpaceCovariance)
    text = str(gp.explain(model, data))
    assert "by gp:represent/state-space" in text and "by gp:condition/state-space" in text
    plan = str(gp.explain(gp.GP(gp.RBF(1.0)), data))
    assert "RBF is not the covariance of a state of finite size" in plan
    plane = gp.explain(model, np.zeros((5, 2)))
    assert "the inputs have 2 dimensions, not time alone" in str(plane)
    assert "the kernel is white noise alone" in str(gp.explain(gp.GP(gp.White(1.0)), t[:5]))


def test_nothing_of_size_n_by_n_is_held():
    import tracemalloc

    n = 4000
    t = np.linspace(0, 50, n)
    model, data = gp.GP(1.0 * gp.Matern32(1.0), noise=0.1), gp.Data(t, np.sin(t))
    tracemalloc.start()
    posterior = gp.Posterior(model, data)
    gp.value_and_gradient(model, data)
    posterior.variance(np.linspace(-1, 60, n)[:, None])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n * n / 8


def test_sampling_covariance():
    t = times(40)
    A = gp.represent(
        gp.CovarianceOperator(KERNELS["sum"], t[:, None]), alg=cola.Auto(rules=("gp:represent/state-space",))
    ).operator
    K = KERNELS["sum"](t[:, None])
    count = 40_000
    X = cola.sample(A, 3, (count,))
    assert X.shape == (count, 40)
    # the standard error of an entry of a sample covariance (Wishart)
    error = np.sqrt((K**2 + np.outer(np.diagonal(K), np.diagonal(K))) / count)
    z = (X.T @ X / count - K) / error
    assert np.max(np.abs(z)) < 5.5
    assert abs(np.mean(X)) < 0.1
    assert cola.sample(A, 0, ()).shape == (40,)
    np.testing.assert_array_equal(cola.sample(A, 1, (2,)), cola.sample(A, 1, (2,)))


def test_a_fit_finds_what_a_dense_fit_finds():
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 20, 120))
    data = gp.Data(t, np.sin(t) + 0.2 * rng.normal(size=120))
    model = gp.GP(1.0 * gp.Matern52(1.0), noise=0.1)
    ours = gp.fit(model, data, alg=StateSpaceInference())
    dense = gp.fit(model, data, alg=DenseInference())
    assert ours.converged and ours.method == "state space (Kalman)"
    assert ours.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-8)


@pytest.mark.parametrize("name", ["matern52", "quasi-periodic", "sum"])
def test_torch_values_and_both_gradients(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, data = problem(name, 60, seed=4)
    alg = cola.Auto(rules=("gp:represent/state-space",))
    expected, gradient = gp.value_and_gradient(model, data, StateSpaceInference())
    moved = gp.Data(torch.tensor(data.X), torch.tensor(data.y))
    params = [torch.tensor(np.asarray(v), requires_grad=True) for v in leaves(model)]
    value = gp.marginal_likelihood(with_leaves(model, params), moved, alg)
    value.backward()
    assert float(value.detach()) == pytest.approx(float(expected), rel=1e-10)
    for p, g in zip(params, gradient, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g, rtol=1e-7, atol=1e-8)
    closed_value, closed = gp.value_and_gradient(model, moved, StateSpaceInference())
    assert float(closed_value) == pytest.approx(float(expected), rel=1e-10)
    for a, g in zip(closed, gradient, strict=True):
        np.testing.assert_allclose(a.numpy(), g, rtol=1e-8, atol=1e-9)
    Z = torch.linspace(-1, 6, 5, dtype=torch.float64)[:, None]
    ours, dense = (gp.Posterior(model, d, StateSpaceInference()) for d in (moved, data))
    np.testing.assert_allclose(ours.mean(Z).numpy(), dense.mean(Z.numpy()), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(ours.covariance(Z).numpy(), dense.covariance(Z.numpy()), rtol=1e-9, atol=1e-10)


def test_jax_compiles_values_and_both_gradients():
    jax = pytest.importorskip("jax", reason="jax is not installed")
    model, data = problem("matern32", 40, seed=4)
    alg = cola.Auto(rules=("gp:represent/state-space",))
    expected, gradient = gp.value_and_gradient(model, data, StateSpaceInference())
    with jax.enable_x64(True):
        moved = gp.Data(jax.numpy.asarray(data.X), jax.numpy.asarray(data.y))
        traced = with_leaves(model, [jax.numpy.asarray(v) for v in leaves(model)])
        value, auto = jax.jit(jax.value_and_grad(lambda m, d: gp.marginal_likelihood(m, d, alg)))(
            traced, moved
        )
        closed_value, closed = jax.jit(lambda m, d: gp.value_and_gradient(m, d, StateSpaceInference()))(
            traced, moved
        )
        Z = np.linspace(-1.0, 6.0, 4)[:, None]
        predicted = jax.jit(predict)(traced, moved, jax.numpy.asarray(Z))
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    assert float(closed_value) == pytest.approx(float(expected), rel=1e-10)
    for a, b, g in zip(leaves(auto), closed, gradient, strict=True):
        np.testing.assert_allclose(a, g, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(b, g, rtol=1e-8, atol=1e-9)
    for a, b in zip(predicted, predict(model, data, Z), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_periodic_kernels_inside_compiled_functions():
    """With a number of harmonics given; NaN where it is too small, and a refusal that says so without one."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    _, data = problem("periodic", 20, seed=4)

    def evaluate(log_lengthscale, data, harmonics=8):
        kernel = gp.Periodic(log_lengthscale=log_lengthscale, period=0.8, harmonics=harmonics)
        return gp.value_and_gradient(gp.GP(1.3 * kernel, noise=0.1), data, StateSpaceInference())

    with jax.enable_x64(True):
        moved = gp.Data(jax.numpy.asarray(data.X), jax.numpy.asarray(data.y))
        run = jax.jit(evaluate, static_argnames="harmonics")
        value, gradient = run(jax.numpy.asarray(np.log(3.0)), moved)
        lost, nothing = run(jax.numpy.asarray(0.0), moved)
        with pytest.raises(NoRuleError, match=r"give it Periodic\(..., harmonics=J\)"):
            run(jax.numpy.asarray(np.log(3.0)), moved, harmonics=None)
    model = gp.GP(1.3 * gp.Periodic(3.0, 0.8), noise=0.1)
    expected, slopes = gp.value_and_gradient(model, data, DenseInference())
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-7, atol=1e-9)
    assert np.isnan(lost) and np.all(np.isnan(nothing))


def test_harmonics_needed():
    """What they leave out of the variance, by the series itself."""
    from scipy.special import ive

    for lengthscale in (3.0, 1.0, 0.3):
        needed = harmonics_needed(lengthscale)
        terms = 2 * ive(np.arange(1, 200), lengthscale**-2)
        assert terms[needed:].sum() < 1e-15 <= terms[needed - 2 :].sum()
    # the size of the state is a fact of the covariance, so a plan sees it as the computation does
    plan = gp.explain(gp.GP(gp.Periodic(0.5), noise=0.1), np.linspace(0.0, 1.0, 10_000))
    assert [node.by for node in plan.root.children] == [
        f"gp:{q}/state-space" for q in ("represent", "condition")
    ]
    assert form_of(gp.Periodic(1.0, harmonics=3)).size == form_of(gp.Periodic(1.0)).size  # has a value: 13
    assert gp.Periodic(1.0, harmonics=3).replace(log_period=np.array(0.0)).harmonics == 3
    assert repr(gp.Periodic(1.0)) == "Periodic(lengthscale=1, period=1)"
    for wrong in (0, -1, True):
        with pytest.raises(ValueError, match="harmonics must be a positive integer"):
            gp.Periodic(1.0, harmonics=wrong)


def predict(model, data, Z):
    posterior = gp.Posterior(model, data, StateSpaceInference())
    return posterior.mean(Z), posterior.variance(Z)


def test_refusals_name_what_and_why():
    with pytest.raises(NoForm, match="RationalQuadratic"):
        form_of(gp.Matern12(1.0) + gp.RationalQuadratic(1.0))
    with pytest.raises(NoForm, match="harmonics"):
        form_of(gp.Periodic(1e-3, 1.0))
    with pytest.raises(NoForm, match=r"dimensions \(1,\)"):
        form_of(gp.ActiveDims(gp.Matern12(1.0), 1))
    with pytest.raises(ShapeError, match="transition has shape"):
        StateSpaceCovariance(np.zeros((2, 2, 3)), np.zeros((2, 2, 3)), np.eye(3), np.zeros((3, 1)))
    with pytest.raises(ShapeError, match="observed has shape"):
        StateSpaceCovariance(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), np.eye(1), np.zeros((1, 2)))
    with pytest.raises(ShapeError, match="white has shape"):
        StateSpaceCovariance(
            np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), np.eye(1), np.ones((1, 1)), None, np.ones(2)
        )
    twice = gp.represent(
        gp.CovarianceOperator(gp.Matern12(1.0), np.zeros((2, 1))),
        alg=cola.Auto(rules=("gp:represent/state-space",)),
    ).operator
    with pytest.raises(NotPositiveDefiniteError, match="add noise to the diagonal"):
        cola.solve(twice, np.ones(2))


def likelihoods(n, seed=0):
    rng = np.random.default_rng(seed)
    t = times(n, seed)
    f = np.sin(2 * t)
    return t, {
        "bernoulli": (gp.BernoulliLikelihood(), (f > rng.normal(size=n)).astype(float)),
        "poisson": (gp.PoissonLikelihood(), rng.poisson(np.exp(f)).astype(float)),
        "student": (gp.StudentTLikelihood(0.2, 4.0), f + 0.2 * rng.standard_t(2, size=n)),
        "outliers": (gp.StudentTLikelihood(0.2, 4.0, "hessian"), f + 0.2 * rng.standard_t(2, size=n)),
    }


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "student", "outliers"])
@pytest.mark.parametrize("n", [1, 60])
def test_laplace_in_time_equals_the_dense_one(name, n):
    t, known = likelihoods(n)
    likelihood, y = known[name]
    Z = np.concatenate([[-1.0, 20.0, 2.5], t[:1]])[:, None]
    for kernel in (1.3 * gp.Matern32(0.7), gp.Matern52(0.5) + gp.Linear(0.3)):
        model, data = gp.GP(kernel, gp.ConstantMean(0.1), likelihood), gp.Data(t, y)
        ours, dense = (
            gp.Posterior(model, data, cola.Auto(rules=(f"gp:represent/{form}",)))
            for form in ("state-space", "dense")
        )
        assert float(ours.log_marginal_likelihood()) == pytest.approx(float(dense.log_marginal_likelihood()))
        np.testing.assert_allclose(ours.mean(Z), dense.mean(Z), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(ours.variance(Z), dense.variance(Z), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(ours.covariance(Z), dense.covariance(Z), rtol=1e-8, atol=1e-9)
        _, gradient = gp.value_and_gradient(model, data, cola.Auto(rules=("gp:represent/state-space",)))
        _, expected = gp.value_and_gradient(model, data, cola.Auto(rules=("gp:represent/dense",)))
        for a, b in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n", [31, 32, 33, 35, 36, 37, 48, 49, 50])
def test_lengths_around_the_chunks(n, rng):
    """One chunk up to 32 times; beyond, rows of chunks that are full or padded."""
    t = np.sort(rng.uniform(0, 3, n))
    kernel = gp.Matern32(0.7) + gp.Constant(0.5)
    steps, _, _ = form_of(kernel).steps(t, np.diff(t, prepend=t[0]))
    factor = factorise(steps, np.full(n, 0.1))
    assert factor.layout.chunks == (1 if n <= 32 else -(-n // factor.layout.steps))
    V = kernel(t[:, None]) + 0.1 * np.eye(n)
    B = rng.normal(size=(n, 2))
    np.testing.assert_allclose(factor.solve(B), np.linalg.solve(V, B), rtol=1e-9, atol=1e-10)
    whitened = factor.innovations(B)
    np.testing.assert_allclose(whitened.T @ whitened, B.T @ np.linalg.solve(V, B), rtol=1e-9, atol=1e-10)
    assert float(factor.log_det()) == pytest.approx(np.linalg.slogdet(V)[1], rel=1e-10)


def test_random_compositions_equal_the_dense_answers():
    hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    st = hypothesis.strategies
    scales = st.floats(0.2, 3.0)
    base = st.one_of(
        scales.map(gp.Matern12),
        scales.map(gp.Matern32),
        scales.map(gp.Matern52),
        scales.map(gp.Constant),
        scales.map(gp.Linear),
        scales.map(gp.Cosine),
        scales.map(gp.White),
    )
    kernels = st.recursive(
        base,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
            st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
            st.tuples(inner, scales).map(lambda p: gp.Scale(*p)),
        ),
        max_leaves=3,
    )

    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @hypothesis.given(kernels, st.sampled_from([1, 2, 7, 40]), st.integers(0, 3))
    def check(kernel, n, seed):
        hypothesis.assume(form_of(kernel).size)
        t = times(n, seed)
        model, data = gp.GP(kernel, noise=0.3), gp.Data(t, np.cos(t))
        value, gradient = gp.value_and_gradient(model, data, StateSpaceInference())
        dense, expected = gp.value_and_gradient(model, data, DenseInference())
        assert float(value) == pytest.approx(float(dense), rel=1e-8, abs=1e-8)
        for a, b in zip(gradient, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7 * max(1.0, float(np.max(np.abs(b)))))

    check()


def test_missing_targets_and_noise_that_varies_in_time():
    g = np.linspace(0, 5, 120)
    y = np.sin(g)
    y[::7] = np.nan
    noise = gp.HeteroscedasticNoise(gp.Affine([[0.2]], [-2.0]))
    for data in (gp.Data(gp.Grid(g), y), gp.Data(g, np.sin(g))):
        model = gp.GP(1.0 * gp.Matern32(1.0), noise=noise if data.n == 120 else 0.1)
        ours, dense = (gp.Posterior(model, data, alg) for alg in (StateSpaceInference(), DenseInference()))
        np.testing.assert_allclose(ours.mean(g), dense.mean(g), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(ours.variance(g), dense.variance(g), rtol=1e-8, atol=1e-11)
        mine, theirs = (
            gp.value_and_gradient(model, data, alg)[1] for alg in (StateSpaceInference(), DenseInference())
        )
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_draws_from_the_posterior_have_its_moments():
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 5, 120))
    model = gp.GP(gp.Matern32(2.0) + gp.White(0.01), noise=0.1)
    posterior = gp.Posterior(model, gp.Data(t, np.sin(t)), StateSpaceInference())
    Z = np.linspace(-2, 8, 8)
    count = 20_000
    draws, C = posterior.sample(Z, count, key=1), posterior.covariance(Z)
    variance = np.diagonal(C)
    z = (np.cov(draws.T) - C) / np.sqrt((C**2 + np.outer(variance, variance)) / count)
    assert np.max(np.abs(z)) < 4.5
    assert np.max(np.abs((draws.mean(0) - posterior.mean(Z)) / np.sqrt(variance / count))) < 4.5


def test_compiled_answers_that_would_be_wrong_are_nan():
    """In a compiled program the filter cannot change its mind where chunks do not fit together."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    t = np.sort(np.random.default_rng(0).uniform(0, 1, 400))
    kernel = gp.Constant(1e5) + gp.Linear(1e5)
    with jax.enable_x64(True):
        times = jax.numpy.asarray(t)
        gaps = jax.numpy.asarray(np.diff(t, prepend=t[0]))
        steps = form_of(kernel).steps(times, gaps)[0]
        log_det = jax.jit(lambda r: factorise(steps, r + 0 * times).log_det())
        assert np.isnan(log_det(1e-12))
        expected = factorise(
            form_of(kernel).steps(t, np.diff(t, prepend=t[0]))[0], np.full(400, 0.1)
        ).log_det()
        assert float(log_det(0.1)) == pytest.approx(float(expected), rel=1e-10)

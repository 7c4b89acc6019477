"""The use cases against dense formulas, conditioning of the joint Gaussian, scikit-learn and the literature.

Gradients, in PyTorch and in JAX, against central differences of NumPy's values.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

pytest.importorskip("cola_gpu", reason="cola_gpu is not installed")

import gaussian_process
import kalman
import least_squares
import pca
import precision_table
import sparse_gp
from data import diabetes, iris, nile
from frameworks import best_backend, fit, value_and_gradient

from cola_core.backends import get_backend
from cola_core.errors import NotPositiveDefiniteError
from cola_gpu.lapack import potrf, syrk

DIFFERENTIATING = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
LIBRARIES = ["numpy", *DIFFERENTIATING]


@pytest.fixture(params=LIBRARIES)
def bk(request):
    return get_backend(request.param)


@pytest.fixture
def regression():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((23, 3))
    return X, np.sin(X[:, 0]) + 0.3 * rng.standard_normal(23), X[:7] + 0.1, np.log([1.3, 0.4, 1.7])


def slopes(f, theta, step=1e-5):
    """Central differences of a NumPy function."""
    return np.array([(f(theta + e) - f(theta - e)) / (2 * step) for e in step * np.eye(len(theta))])


def agrees(bk, f, theta, **tolerance):
    """Value in every library as in NumPy; gradient, where there is one, as differences say.

    f(asarray, theta) -> number, given how data become arrays.
    """
    expected = f(np.asarray, theta)
    reference = slopes(lambda t: float(f(np.asarray, t)), theta)
    if bk.name == "numpy":
        assert np.isfinite(expected)
        return reference
    value, gradient = value_and_gradient(lambda t: f(bk.asarray, t), bk.asarray(theta))
    assert np.isclose(float(value), expected, rtol=1e-10)
    gradient = bk.to_numpy(gradient)
    np.testing.assert_allclose(gradient, reference, **{"rtol": 1e-6, "atol": 1e-7, **tolerance})
    return gradient


# -- Gaussian processes --------------------------------------------------------------------------------------
def kernel(X, Z, theta):
    distance = ((X[:, None] - Z[None]) ** 2).sum(-1)
    return np.exp(2 * theta[0]) * np.exp(-0.5 * distance / np.exp(2 * theta[2]))


def test_gp_likelihood(bk, regression):
    X, y, _, theta = regression
    K = kernel(X, X, theta) + np.exp(2 * theta[1]) * np.eye(len(y))
    density = scipy.stats.multivariate_normal(np.zeros(len(y)), K).logpdf(y)
    assert np.isclose(gaussian_process.negative_log_marginal(X, y, theta), -density, rtol=1e-10)
    found = agrees(bk, lambda a, t: gaussian_process.negative_log_marginal(a(X), a(y), t), theta)
    # the textbook's gradient, tr((K^-1 - K^-1 y y^T K^-1) dK) / 2, for the noise
    inverse = np.linalg.inv(K)
    weights = inverse - np.outer(inverse @ y, inverse @ y)
    expected = np.exp(2 * theta[1]) * np.trace(weights)
    assert np.isclose(found[1], expected, rtol=1e-6)


def test_gp_prediction(bk, regression):
    X, y, at, theta = regression
    K = kernel(X, X, theta) + np.exp(2 * theta[1]) * np.eye(len(y))
    cross = kernel(X, at, theta)
    mean, variance = gaussian_process.predict(*map(bk.asarray, (X, y, theta, at)))
    np.testing.assert_allclose(bk.to_numpy(mean), cross.T @ np.linalg.solve(K, y), rtol=1e-8)
    expected = np.exp(2 * theta[0]) - np.diag(cross.T @ np.linalg.solve(K, cross))
    np.testing.assert_allclose(bk.to_numpy(variance), expected, rtol=1e-8)


def test_sparse_bound(bk, regression):
    X, y, Z, theta = regression
    jitter = sparse_gp.JITTER * np.exp(2 * theta[0]) * np.eye(len(Z))
    cross = kernel(Z, X, theta)
    Q = cross.T @ np.linalg.solve(kernel(Z, Z, theta) + jitter, cross)
    noise = np.exp(2 * theta[1])
    density = scipy.stats.multivariate_normal(np.zeros(len(y)), Q + noise * np.eye(len(y))).logpdf(y)
    expected = density - np.trace(kernel(X, X, theta) - Q) / (2 * noise)
    assert np.isclose(sparse_gp.bound(X, y, Z, theta), expected, rtol=1e-9)
    assert expected < -gaussian_process.negative_log_marginal(X, y, theta)
    agrees(bk, lambda a, t: sparse_gp.bound(a(X), a(y), a(Z), t), theta)
    # in the inducing points too
    agrees(
        bk,
        lambda a, p: sparse_gp.bound(a(X), a(y), p.reshape(Z.shape), a(theta)),
        Z.ravel(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_sparse_gp_with_all_points_is_the_exact_one(bk, regression):
    X, y, at, theta = regression
    arrays = [bk.asarray(a) for a in (X, y, X, theta)]
    exact = -gaussian_process.negative_log_marginal(X, y, theta)
    assert np.isclose(float(sparse_gp.bound(*arrays)), exact, atol=1e-2)
    mean, variance = sparse_gp.predict(*arrays, bk.asarray(at))
    expected = gaussian_process.predict(X, y, theta, at)
    np.testing.assert_allclose(bk.to_numpy(mean), expected[0], atol=1e-3)
    np.testing.assert_allclose(bk.to_numpy(variance), expected[1], atol=1e-3)


# -- linear models -------------------------------------------------------------------------------------------
def test_least_squares(bk):
    rng = np.random.default_rng(3)
    Phi, y = rng.standard_normal((5, 31)), rng.standard_normal(31)
    expected = np.linalg.lstsq(Phi.T, y, rcond=None)[0]
    np.testing.assert_allclose(
        bk.to_numpy(least_squares.least_squares(bk.asarray(Phi), bk.asarray(y))), expected, rtol=1e-10
    )
    agrees(
        bk,
        lambda a, p: (least_squares.least_squares(p.reshape(5, 31), a(y)) ** 2).sum(),
        Phi.ravel(),
        rtol=1e-5,
    )


@pytest.mark.parametrize("d, n", [(4, 25), (9, 6)])
def test_evidence(bk, d, n):
    rng = np.random.default_rng(d)
    Phi, y, theta = rng.standard_normal((d, n)), rng.standard_normal(n), np.log([0.7, 3.1])
    alpha, beta = np.exp(theta)
    covariance = np.eye(n) / beta + Phi.T @ Phi / alpha
    density = scipy.stats.multivariate_normal(np.zeros(n), covariance).logpdf(y)
    assert np.isclose(least_squares.evidence(Phi, y, theta), density, rtol=1e-10)
    agrees(bk, lambda a, t: least_squares.evidence(a(Phi), a(y), t), theta)
    if d < n:
        agrees(
            bk, lambda a, p: least_squares.evidence(p.reshape(d, n), a(y), a(theta)), Phi.ravel(), rtol=1e-5
        )
    found = least_squares.posterior(*map(bk.asarray, (Phi, y, theta)))
    inverse = np.linalg.inv(beta * Phi @ Phi.T + alpha * np.eye(d))
    np.testing.assert_allclose(bk.to_numpy(found.mean), beta * inverse @ Phi @ y, rtol=1e-9)
    at = rng.standard_normal((d, 3))
    np.testing.assert_allclose(
        bk.to_numpy(found.variance(bk.asarray(at))), np.diag(at.T @ inverse @ at), rtol=1e-9
    )


def test_evidence_is_what_scikit_learn_maximises():
    linear = pytest.importorskip("sklearn.linear_model")
    _, X, y = diabetes()
    model = linear.BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, compute_score=True, tol=1e-9
    ).fit(X, y)
    theta = np.log([model.lambda_, model.alpha_])
    Phi = np.ascontiguousarray(X.T)
    assert np.isclose(least_squares.evidence(Phi, y, theta), model.scores_[-1], rtol=1e-8)
    np.testing.assert_allclose(least_squares.posterior(Phi, y, theta).mean, model.coef_, rtol=1e-6)
    np.testing.assert_allclose(slopes(lambda t: least_squares.evidence(Phi, y, t), theta), 0, atol=1e-2)
    bk = best_backend()
    data = bk.asarray(Phi), bk.asarray(y)
    found = fit(lambda t: -least_squares.evidence(*data, t), bk.asarray(np.zeros(2)))
    np.testing.assert_allclose(found, theta, atol=2e-2)


@pytest.mark.parametrize("name", DIFFERENTIATING[:1])  # NumPy's QR is in double precision whatever the dtype
def test_lq_needs_no_double_precision_and_the_normal_equations_do(name):
    eps = float(np.finfo(np.float32).eps)
    rows = precision_table.measure(get_backend(name), seeds=5)
    kappas = np.array([row["kappa"] for row in rows])
    assert kappas[0] == 1e1 and kappas[-1] == 1e7
    lq = np.array([row["lq"] for row in rows])
    normal = np.array([row["normal"] for row in rows])
    # LQ: the first power of the condition number at the most, and no failures
    assert (lq[:, 0] <= 4 * kappas * eps).all() and all(sum(row["lq_failed"]) == 0 for row in rows)
    assert 0.5 < np.polyfit(np.log10(kappas), np.log10(lq[:, 0]), 1)[0] < 1.25
    assert (lq[:, 1:] <= 4 * kappas[:, None] * eps).all()
    # normal equations: the square, as long as there is a factor
    assert 1.5 < np.polyfit(np.log10(kappas[:3]), np.log10(normal[:3, 0]), 1)[0] < 2.5
    assert (normal[:3, 0] > 0.02 * kappas[:3] ** 2 * eps).all()
    assert (normal[2, [0, 1, 3]] > 100 * lq[2, [0, 1, 3]]).all()
    # and from 1 / sqrt(eps) = 2.9e3 on there is none
    assert all(sum(row["normal_failed"]) == 0 for row in rows if row["kappa"] < 0.5 / eps**0.5)
    assert all(row["normal_failed"] == [5, 5, 5, 5] for row in rows if row["kappa"] > 10 / eps**0.5)
    # what gelqf refuses is refused for a reason
    assert all(row["refused"] == 0 for row in rows if row["kappa"] < 1e4) and rows[-1]["refused"] == 5


@pytest.mark.parametrize("name", DIFFERENTIATING[:1])
def test_the_table_shown_is_of_this_shape(name):
    shown = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    rows = precision_table.measure(get_backend(name), seeds=1)
    head, rule, *body = precision_table.markdown(rows).splitlines()
    assert f"{head}\n{rule}\n" in shown and len(body) == 7
    assert "no factor" in body[-1] and "no factor" in shown


# -- Kalman filters ------------------------------------------------------------------------------------------
def state_space(seed, n=3, p=2):
    rng = np.random.default_rng(seed)
    F = np.eye(n) + 0.3 * rng.standard_normal((n, n))
    W, S = (np.tril(rng.standard_normal((n, n))) + 2 * np.eye(n) for _ in range(2))
    V = np.tril(rng.standard_normal((p, p))) + np.eye(p)
    return kalman.Model(F, W, rng.standard_normal((p, n)), V, rng.standard_normal(n), S)


def joint(model, T):
    """Mean and covariance of (x_1 .. x_T, y_1 .. y_T)."""
    F, W, H, V, mean, S = (np.asarray(m, float) for m in model)
    n, p = len(F), len(H)
    means, blocks = [mean], [[S @ S.T]]
    for t in range(1, T):
        means.append(F @ means[-1])
        blocks.append([F @ b for b in blocks[t - 1]] + [F @ blocks[t - 1][-1] @ F.T + W @ W.T])
    P = np.zeros((T * n, T * n))
    for t, row in enumerate(blocks):
        for s, block in enumerate(row):
            P[t * n : (t + 1) * n, s * n : (s + 1) * n] = block
            P[s * n : (s + 1) * n, t * n : (t + 1) * n] = block.T
    big, noise = np.kron(np.eye(T), H), np.kron(np.eye(T), V @ V.T)
    x = np.concatenate(means)
    assert noise.shape == (T * p, T * p)
    return x, P, big @ x, big @ P @ big.T + noise, P @ big.T


def condition(model, y, known):
    """Mean and covariance of all states given the first `known` observations, by dense algebra."""
    x, P, m, C, cross = joint(model, len(y))
    k = known * y.shape[1]
    gain = np.linalg.solve(C[:k, :k], cross[:, :k].T).T
    return x + gain @ (y.ravel()[:k] - m[:k]), P - gain @ cross[:, :k].T


@pytest.mark.parametrize("seed, T", [(0, 1), (1, 6)])
def test_filter_and_smoother_are_conditioning(bk, seed, T):
    model, n = state_space(seed), 3
    y = np.random.default_rng(seed + 9).standard_normal((T, 2))
    arrays = kalman.Model(*map(bk.asarray, model)), bk.asarray(y)
    filtered = kalman.kalman_filter(*arrays)
    means, factors = kalman.rts_smoother(*arrays)
    for t in range(T):
        part = slice(t * n, (t + 1) * n)
        for known, m, S in ((t + 1, filtered.means, filtered.factors), (T, means, factors)):
            mean, covariance = condition(model, y, known)
            S = bk.to_numpy(S[t])
            assert (np.triu(S, 1) == 0).all()
            np.testing.assert_allclose(bk.to_numpy(m[t]), mean[part], rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(S @ S.T, covariance[part, part], rtol=1e-7, atol=1e-9)
    _, _, m, C, _ = joint(model, T)
    density = scipy.stats.multivariate_normal(m, C).logpdf(y.ravel())
    assert np.isclose(float(filtered.log_likelihood), density, rtol=1e-10)


def test_likelihood_of_the_filter_has_gradients(bk):
    model = state_space(4)
    y = np.random.default_rng(4).standard_normal((4, 2))

    def of_parameters(a, p):
        """Of the transition and of scales of the noises."""
        fixed = kalman.Model(*map(a, model))
        changed = fixed._replace(F=p[:9].reshape(3, 3), W=p[9] * fixed.W, V=p[10] * fixed.V)
        return kalman.log_likelihood(changed, a(y))

    agrees(bk, of_parameters, np.concatenate([model.F.ravel(), [0.8, 1.2]]), rtol=1e-5)


def tracking(dtype):
    """Position, velocity and acceleration, of which almost nothing is known, from a very good radar."""
    dt, q = 0.1, 1e-3
    F = scipy.linalg.expm(dt * np.diag([1.0, 1.0], 1))
    noise = np.array([[dt**5 / 20, dt**4 / 8, dt**3 / 6], [0, dt**3 / 3, dt**2 / 2], [0, 0, dt]])
    W = np.sqrt(q) * np.linalg.cholesky(noise + np.triu(noise, 1).T)
    model = (F, W, np.eye(3)[:1], 1e-3 * np.eye(1), np.zeros(3), 1e2 * np.eye(3))
    return kalman.Model(*(m.astype(dtype) for m in model))


def covariance_filter(model, y):
    """The textbook's filter; the covariance after every step."""
    F, W, H, V, mean, S = model
    P, found = S @ S.T, []
    for t in range(len(y)):
        if t:
            P = F @ P @ F.T + W @ W.T
        gain = P @ H.T / (H @ P @ H.T + V @ V.T)
        P = P - gain @ H @ P
        found.append(P)
    return found


def test_square_roots_stay_positive_in_single_precision_where_covariances_do_not(bk):
    time = 0.1 * np.arange(20)
    y = (3 * time + 2 * time**2 + 1e-3 * np.random.default_rng(0).standard_normal(20))[:, None]
    single = kalman.Model(*map(bk.asarray, tracking(np.float32))), bk.asarray(y.astype(np.float32))
    exact = kalman.kalman_filter(tracking(np.float64), y)
    found = kalman.kalman_filter(*single)
    smooth, exact_smooth = kalman.rts_smoother(*single), kalman.rts_smoother(tracking(np.float64), y)
    pairs = [(found.factors, exact.factors), (smooth[1], exact_smooth[1])]
    for factors, references in pairs:
        for S, reference in zip(factors, references, strict=True):
            S = bk.to_numpy(S)
            assert S.dtype == np.float32 and (np.diag(S) > 0).all()
            # standard deviations, each to its own scale
            np.testing.assert_allclose(
                np.linalg.norm(S, axis=1), np.linalg.norm(reference, axis=1), rtol=1e-2
            )
    assert np.isclose(float(found.log_likelihood), float(exact.log_likelihood), rtol=1e-3)
    lost = [np.linalg.eigvalsh(P.astype(float))[0] for P in covariance_filter(tracking(np.float32), y)]
    assert min(lost) < -1e-3
    healthy = covariance_filter(tracking(np.float64), y)
    np.testing.assert_allclose(
        np.sqrt(np.diag(healthy[-1])), np.linalg.norm(exact.factors[-1], axis=1), rtol=1e-3
    )


def test_the_nile():
    """Durbin & Koopman (2012), section 2.10: variances 15099 and 1469.1."""
    pytest.importorskip("statsmodels")
    bk = best_backend()
    if bk.name == "numpy":
        pytest.skip("there is no library that differentiates")
    y = bk.asarray(nile()[1][:, None])
    model = kalman.local_level(bk.asarray(0.5 * np.log([15099.0, 1469.1])))
    smoothed = kalman.rts_smoother(model, y)[0]
    assert np.isclose(float(smoothed[0][0]), 1111.2, atol=1.0)
    _, gradient = value_and_gradient(
        lambda t: kalman.log_likelihood(kalman.local_level(t), y),
        bk.asarray(0.5 * np.log([15099.0, 1469.1])),
    )
    np.testing.assert_allclose(bk.to_numpy(gradient), 0, atol=1e-2)


# -- principal components ------------------------------------------------------------------------------------
def test_pca(bk):
    X = np.ascontiguousarray(iris()[1].T)
    found = pca.pca(bk.asarray(X), 2)
    Y = X - X.mean(axis=1, keepdims=True)
    U, s, _ = np.linalg.svd(Y, full_matrices=False)
    np.testing.assert_allclose(bk.to_numpy(found.variance), s[:2] ** 2 / X.shape[1], rtol=1e-10)
    projector = bk.to_numpy(found.components).T @ bk.to_numpy(found.components)
    np.testing.assert_allclose(projector, U[:, :2] @ U[:, :2].T, atol=1e-9)
    lost = float(pca.reconstruction_error(bk.asarray(X), 2))
    assert np.isclose(lost, (s[2:] ** 2).sum() / X.shape[1], rtol=1e-10)
    small = X[:, :9]
    agrees(bk, lambda a, p: pca.reconstruction_error(p.reshape(4, 9), 2), small.ravel(), rtol=1e-5, atol=1e-6)


def test_whitening_by_lq_works_in_single_precision_where_the_covariance_has_no_factor(bk):
    X = precision_table.problem(1e5, 0, 6, 300)[0]
    found = pca.whiten(bk.asarray(X))
    rows = bk.to_numpy(found.rows).astype(float)
    assert found.rows.dtype == bk.xp.float32
    np.testing.assert_allclose(rows @ rows.T / 300, np.eye(6), atol=1e-4)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-2)
    Y = X - X.mean(axis=1, keepdims=True)
    assert np.linalg.norm(bk.to_numpy(found.L).astype(float) @ rows - Y) < 1e-6 * np.linalg.norm(Y)
    # the covariance: no factor, or one that whitens nothing
    try:
        L = bk.to_numpy(potrf(syrk(bk.asarray(Y), alpha=1 / 300))).astype(float)
        rows = np.linalg.solve(L, Y)
        assert np.abs(rows @ rows.T / 300 - np.eye(6)).max() > 0.1
    except NotPositiveDefiniteError:
        pass
    double = pca.whiten(bk.asarray(X.astype(float)))
    again = double.apply(bk.asarray(X.astype(float)))
    np.testing.assert_allclose(bk.to_numpy(again), bk.to_numpy(double.rows), atol=1e-8)


@pytest.mark.parametrize("module", [gaussian_process, sparse_gp, least_squares, kalman, pca])
def test_the_programs_run(module, capsys, monkeypatch):
    """With the iterations cut short: what they print on real data is checked above."""
    import frameworks

    minimize = frameworks.scipy.optimize.minimize
    monkeypatch.setattr(
        frameworks.scipy.optimize, "minimize", lambda *a, **k: minimize(*a, **k, options={"maxiter": 2})
    )
    assert module.main() == 0
    assert len(capsys.readouterr().out.splitlines()) >= 3

"""Whole models against GPyTorch and scikit-learn: likelihood, its derivatives, predictions.

Numbers were computed with GPyTorch 1.15 in float64 by Cholesky (``max_cholesky_size``), ``mll * n``.  Its
parameters are softplus of raw ones, so a derivative for a raw parameter times ``theta / (1 - exp(-theta))``
is that for the logarithm of theta (of ``theta - 1e-4`` under the exponential for its noise).
"""

import numpy as np
import pytest

import cola_gp as gp

T = np.arange(12.0)
X = np.stack([np.sin(1.3 * T), np.cos(0.7 * T)], axis=1)
TASK = T % 3
Y = np.sin(2 * X[:, 0]) + 0.3 * TASK + 0.1 * X[:, 1]
Z = np.array([[0.2, -0.3], [1.5, 0.4]])
FIXED = gp.FixedNoise(0.05 + 0.02 * T)


def by_log(raw, theta, floor=0.0):
    return np.asarray(raw) * theta / (1.0 - np.exp(-(theta - floor)))


def check(model, inputs, tests, value, gradient, mean, variance):
    data = gp.Data(inputs, Y)
    found, slopes = gp.value_and_gradient(model, data)
    np.testing.assert_allclose(found, value, rtol=1e-10)
    np.testing.assert_allclose(gp.marginal_likelihood(model, data), value, rtol=1e-10)
    named = dict(zip((n for n, _, _ in gp._struct.named_leaves(model)), slopes, strict=True))
    for name, expected in gradient.items():
        np.testing.assert_allclose(named[name], expected, rtol=1e-7, atol=1e-9, err_msg=name)
    posterior = gp.Posterior(model, data)
    np.testing.assert_allclose(posterior.mean(tests), mean, rtol=1e-8)
    np.testing.assert_allclose(posterior.variance(tests), variance, rtol=1e-7)


def test_linear_mean_and_fixed_noise():
    check(
        gp.GP(1.3 * gp.Matern32([0.7, 1.1]), gp.LinearMean([0.4, -0.2], 0.3), FIXED),
        X,
        Z,
        -11.744669626142564,
        {
            "mean.weight": [1.084019700433962, 0.48500557401854505],
            "mean.offset": -0.22336075608742811,
            "kernel.log_variance": by_log(-1.7014056735557244, 1.3),
            "kernel.kernel.log_lengthscale": by_log(
                [0.7821302798585645, 1.03600986657115], np.array([0.7, 1.1])
            ),
        },
        [0.7921186627897283, 1.171827025501147],
        [0.3126342679374394, 0.7627261305822964],
    )


def test_polynomial():
    check(
        gp.GP(0.8 * gp.RBF(0.9) + gp.Polynomial(2, 1.0, 0.5), gp.ConstantMean(0.2), noise=0.1),
        X,
        Z,
        -13.721590536795219,
        {
            "mean.value": 0.29416076461113283,
            "kernel.terms.0.log_variance": by_log(-0.10510446329072613, 0.8),
            "kernel.terms.0.kernel.log_lengthscale": by_log(-0.695049169239696, 0.9),
            "kernel.terms.1.log_offset": by_log(-0.6323590168383465, 0.5),
            "noise.log_variance": by_log(-0.16676237114673473, 0.1, 1e-4),
        },
        [0.7755658939992409, 1.27193597279287],
        [0.08310259270451881, 0.4852522658364311],
    )


def test_spectral_mixture():
    weight, frequency, bandwidth = np.array([0.6, 1.4]), np.array([[0.3], [1.1]]), np.array([[0.2], [0.05]])
    check(
        gp.GP(
            gp.ActiveDims(gp.SpectralMixture(weight, frequency, bandwidth), 0),
            gp.ConstantMean(0.0),
            noise=0.1,
        ),
        X,
        Z,
        -10.976126632571823,
        {
            "mean.value": 1.493973852694546,
            "kernel.kernel.log_weight": by_log([0.4201645752437209, -0.6822593775560165], weight),
            "kernel.kernel.log_frequency": by_log([[-0.0858232277428913], [-0.4136655655593886]], frequency),
            "kernel.kernel.log_bandwidth": by_log([[-0.8889919401613589], [-0.5237306702389348]], bandwidth),
            "noise.log_variance": by_log(-0.7275683348287728, 0.1, 1e-4),
        },
        [0.7089573448291573, 0.01941871031879705],
        [0.05157102550211223, 0.8099704523799767],
    )


def test_deep_kernel():
    network = gp.Network(
        [
            np.transpose([[0.5, -0.3], [0.8, 0.1], [-0.4, 0.9]]),
            np.transpose([[0.7, 0.2, -0.5], [0.1, -0.6, 0.4]]),
        ],
        [[0.1, -0.2, 0.3], [0.0, 0.1]],
    )
    check(
        gp.GP(1.2 * gp.Deep(gp.RBF(0.6), network), gp.ConstantMean(0.1), noise=0.05),
        X,
        Z,
        -13.78326063858756,
        {
            "mean.value": -0.09952504245714477,
            "kernel.log_variance": by_log(1.4575392660518518, 1.2),
            "kernel.kernel.kernel.log_lengthscale": by_log(-3.5875737435500374, 0.6),
            "kernel.kernel.map.weights.0": np.transpose(
                [
                    [-9.614618479841067, -8.511786420080693],
                    [15.862709639616385, 23.237759196594318],
                    [-11.334104851734699, -14.418976314589056],
                ]
            ),
            "kernel.kernel.map.offsets.0": [0.20090117811104946, 14.534367104313176, 5.611903674498265],
            "kernel.kernel.map.weights.1": np.transpose(
                [
                    [-3.054475711963423, -6.352627234233787, -0.3220907014888986],
                    [-4.849299525272356, -31.63822175806685, -26.1988930161048],
                ]
            ),
            "kernel.kernel.map.offsets.1": [0.0, 0.0],  # a shift of all images changes nothing
            "noise.log_variance": by_log(2.5604080502445377, 0.05, 1e-4),
        },
        [0.9380498738742821, 1.2657681094018711],
        [0.025395997122795944, 0.03978752162646404],
    )


def test_tasks_on_scattered_points():
    root = [[0.5, -0.2], [1.1, 0.3], [-0.7, 0.8]]
    tasks = gp.Coregion(root=root, variance=[0.3, 0.2, 0.9])
    check(
        gp.GP(gp.ActiveDims(gp.RBF(0.9), (0, 1)) * gp.ActiveDims(tasks, 2), noise=FIXED),
        np.column_stack([X, TASK]),
        np.column_stack([Z, [2.0, 0.0]]),
        -14.998947026846473,
        {
            "kernel.factors.1.kernel.root": [
                [0.9879240946809325, 1.807699788588902],
                [-1.2753493717452158, -0.18393460199713207],
                [1.682852591376756, -0.09224372934863995],
            ]
        },
        [1.3449855378085291, 0.4438341874961188],
        [0.2589950617357524, 0.3600096956949156],
    )


def test_scikit_learn_agrees_on_composites():
    sk = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    k = sk.kernels
    cases = [
        (
            gp.Constant(1.7) * gp.RBF([0.6, 1.2]) + gp.White(0.1),
            k.ConstantKernel(1.7) * k.RBF([0.6, 1.2]) + k.WhiteKernel(0.1),
        ),
        (
            gp.RationalQuadratic(0.6, 1.4) + gp.Constant(0.5) * gp.Matern52(0.8),
            k.RationalQuadratic(0.6, 1.4) + k.ConstantKernel(0.5) * k.Matern(0.8, nu=2.5),
        ),
        (gp.Matern12(0.9) * gp.Matern32([0.7, 2.0]), k.Matern(0.9, nu=0.5) * k.Matern([0.7, 2.0], nu=1.5)),
    ]
    for ours, theirs in cases:
        reference = sk.GaussianProcessRegressor(theirs, alpha=0.02, optimizer=None).fit(X, Y)
        value, slope = reference.log_marginal_likelihood(theirs.theta, eval_gradient=True)
        found, gradient = gp.value_and_gradient(gp.GP(ours, noise=0.02), gp.Data(X, Y))
        np.testing.assert_allclose(found, value, rtol=1e-10)
        mine = np.concatenate([np.ravel(g) for g in gradient[:-1]])
        np.testing.assert_allclose(np.sort(mine), np.sort(slope), rtol=1e-8)
        mean, sd = reference.predict(Z, return_std=True)
        posterior = gp.Posterior(gp.GP(ours, noise=0.02), gp.Data(X, Y))
        np.testing.assert_allclose(posterior.mean(Z), mean, rtol=1e-9)
        white = ours.diag(Z) - ours.cross_diag(Z)  # scikit-learn adds its white kernel to predictions
        np.testing.assert_allclose(posterior.variance(Z) + white, sd**2, rtol=1e-8)

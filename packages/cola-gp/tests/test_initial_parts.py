"""Initial values of means, of noise that depends on inputs or tasks, and of polynomials."""

import numpy as np
import pytest

import cola_gp as gp


def tasks(rng, n=60):
    X = np.column_stack([rng.uniform(5, 7, n), 1e4 * rng.normal(size=n), rng.integers(0, 3, n)])
    return X, np.array([3.0, -2.0, 10.0])[X[:, 2].astype(int)] + 0.1 * rng.normal(size=n)


def test_means_start_at_averages_and_least_squares(rng):
    X, y = tasks(rng)
    start = gp.initialise(gp.GP(gp.RBF(), gp.TaskMean(3, dim=2)), gp.Data(X, y))
    np.testing.assert_allclose(start.mean.value, [3.0, -2.0, 10.0], atol=0.1)
    line = gp.Data(X[:, :2], X[:, :2] @ [2.0, -3e-4] + 40.0)
    start = gp.initialise(gp.GP(1.0 * gp.RBF(), gp.LinearMean([0.0, 0.0])), line)
    np.testing.assert_allclose(start.mean.weight, [2.0, -3e-4], rtol=1e-8)
    np.testing.assert_allclose(start.mean.offset, 40.0, rtol=1e-8)
    both = gp.initialise(gp.GP(gp.RBF(), gp.ConstantMean() + gp.TaskMean(3, dim=2)), gp.Data(X, y))
    np.testing.assert_allclose(both.mean(X), gp.TaskMean([3.0, -2.0, 10.0], 2)(X), atol=0.1)
    # The kernel explains what the mean leaves.
    assert float(np.exp(gp.initialise(gp.GP(1.0 * gp.RBF()), gp.Data(X, y)).kernel.log_variance)) > 10
    alone = gp.initialise(gp.GP(1.0 * gp.RBF(), gp.TaskMean(3, dim=2)), gp.Data(X, y))
    assert float(np.exp(alone.kernel.log_variance)) < 0.1


def test_a_task_without_data_gets_the_average_and_other_numbers_are_left_alone(rng):
    X, y = tasks(rng)
    start = gp.initialise(gp.GP(gp.RBF(), gp.TaskMean(4, dim=2)), gp.Data(X, y))
    np.testing.assert_allclose(start.mean.value[3], y.mean())
    for mean in (gp.TaskMean(2, dim=2), gp.TaskMean(2, dim=7), gp.LinearMean([1.0])):
        kept = gp.initialise(gp.GP(gp.RBF(), mean), gp.Data(X, y)).mean
        assert gp._struct.leaves(kept)[0].tolist() == gp._struct.leaves(mean)[0].tolist()
        with pytest.raises(ValueError):
            kept(X)


def test_noise_starts_at_the_scatter_of_neighbours(rng):
    x = np.sort(rng.uniform(0, 10, 300))
    data = gp.Data(x, np.sin(x) + 0.2 * rng.normal(size=300))
    common = float(np.exp(gp.initialise(gp.GP(gp.RBF()), data).noise.log_variance))
    assert 0.02 < common < 0.08
    network = gp.Network.random((1, 4, 1), seed=2)
    for noise in (gp.HeteroscedasticNoise(gp.Affine([0.3], 5.0)), gp.HeteroscedasticNoise(network)):
        start = gp.initialise(gp.GP(gp.RBF(), noise=noise), data).noise
        np.testing.assert_allclose(
            np.mean(np.log(start.variances(data.y, data.X))), np.log(common), rtol=1e-6
        )
    X = np.column_stack([x, np.arange(300) % 2])
    start = gp.initialise(gp.GP(gp.RBF(), noise=gp.TaskNoise([1.0, 5.0], dim=1)), gp.Data(X, data.y)).noise
    assert start.log_variance[0] == start.log_variance[1]
    fixed = gp.HeteroscedasticNoise(lambda X: X[:, 0] - 3.0)
    assert gp.initialise(gp.GP(gp.RBF(), noise=fixed), data).noise is fixed


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_a_polynomial_starts_with_the_variance_of_the_data(degree, rng):
    X = rng.uniform(50, 60, (40, 2))
    data = gp.Data(X, 100.0 * rng.normal(size=40))
    start = gp.initialise(gp.GP(gp.Polynomial(degree)), data)
    np.testing.assert_allclose(np.mean(start.kernel.diag(X)), np.mean(data.y**2), rtol=1e-9)


def test_tasks_share_the_variance_of_the_data(rng):
    X, y = tasks(rng)
    kernel = gp.ActiveDims(gp.RBF([1.0, 1.0]), (0, 1)) * gp.ActiveDims(gp.Coregion(3, 2), 2)
    start = gp.initialise(gp.GP(kernel), gp.Data(X, y)).kernel
    np.testing.assert_allclose(np.mean(start.diag(X)), np.mean(y**2), rtol=1e-9)
    wrong = gp.GP(gp.ActiveDims(gp.Coregion(2), 2))
    assert gp.initialise(wrong, gp.Data(X, y)).kernel.kernel.tasks == 2

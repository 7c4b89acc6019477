"""Kernels, means and noise from text."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import UnknownNameError
from cola_gp.expressions import parse_kernel, parse_mean, parse_noise


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize(
    "text",
    [
        "rbf",
        "matern12 + matern32 * matern52",
        "rq(alpha=2) + periodic(period=0.5)",
        "cosine(period=2) * rbf",
        "mixture(components=3)",
        "polynomial(degree=3, offset=0.5) + white",
        "deep(rbf + 0.5 * linear, hidden=(4, 3), images=2, activation='sin')",
        "constant * deep(matern32(lengthscale=0.7), hidden=3)",
    ],
)
def test_every_kernel_has_a_name(text, d, rng):
    kernel, X = parse_kernel(text, d), rng.normal(size=(4, d))
    assert kernel(X).shape == (4, 4)
    assert np.linalg.eigvalsh(kernel(X)).min() > -1e-10


def test_kernels_are_what_the_text_says():
    tasks = parse_kernel("rbf(dims=(0, 1)) * tasks(count=3, rank=2, dims=2)", 3)
    assert isinstance(tasks, gp.Product)  # the tasks bring a variance
    assert tasks.factors[1].kernel.root.shape == (3, 2) and tasks.factors[1].dims == (2,)
    assert parse_kernel("polynomial(degree=4)").degree == 4
    assert isinstance(parse_kernel("cosine"), gp.Scale)
    assert parse_kernel("mixture", 2).log_frequency.shape == (4, 2)
    deep = parse_kernel("deep(rbf, hidden=(5, 4), images=3, seed=1)", 2)
    assert isinstance(deep, gp.Scale) and [w.shape for w in deep.kernel.map.weights] == [
        (2, 5),
        (5, 4),
        (4, 3),
    ]
    assert deep.kernel.kernel.log_lengthscale.shape == (3,)
    assert isinstance(parse_kernel("linear(dims=0) + rbf(dims=1)", 2).terms[0], gp.ActiveDims)


def test_means_and_noises(rng):
    X = np.concatenate([rng.normal(size=(5, 2)), rng.integers(0, 3, (5, 1))], axis=1)
    for text in ("zero", "constant(value=2)", "linear", "tasks(count=3, dims=2)", "network(hidden=(4, 3))"):
        assert parse_mean(text, 3)(X).shape == (5,)
    both = parse_mean("linear + tasks(count=3, dims=2)", 3)
    assert isinstance(both, gp.SumMean)
    assert parse_mean("constant(value=2)")(X).tolist() == [2.0] * 5
    for text in (
        "gaussian(variance=0.2)",
        "tasks(count=3, dims=2, variance=0.2)",
        "linear(variance=0.2)",
        "0.2",
    ):
        np.testing.assert_allclose(parse_noise(text, 3).variances(X[:, 0], X), 0.2)
    assert parse_noise("network(hidden=4)", 3).variances(X[:, 0], X).shape == (5,)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("rbf + 1", ValueError, "can scale a kernel but not be added"),
        ("3.0", ValueError, "is a number, not a kernel"),
        ("rbf(", ValueError, "is not a kernel expression"),
        ("rbf - linear", ValueError, "are understood"),
        ("rbf(1.0)", ValueError, "name=number"),
        ("rbf(lengthscale=x)", ValueError, "must be numbers"),
        ("deep", ValueError, "deep needs a kernel, as in"),
        ("deep(2.0)", ValueError, "deep needs a kernel, not a number"),
        ("cube", UnknownNameError, "known are rbf, .*, deep"),
        ("rbf(period=1)", UnknownNameError, "it has lengthscale, dims"),
        ("mixture(weight=1)", UnknownNameError, "it has components, dims"),
        ("__import__('os')", ValueError, "only kernel names"),
    ],
)
def test_what_is_not_understood(text, error, match):
    with pytest.raises(error, match=match):
        parse_kernel(text, 2)


def test_what_is_not_a_mean_or_noise():
    with pytest.raises(ValueError, match="cannot be done with a mean"):
        parse_mean("linear * linear", 2)
    with pytest.raises(UnknownNameError, match="mean linear has no parameter 'dims'; it has offset"):
        parse_mean("linear(dims=1)", 2)
    with pytest.raises(UnknownNameError, match="unknown mean 'rbf'"):
        parse_mean("rbf")
    with pytest.raises(ValueError, match="column of the task numbers"):
        parse_noise("tasks(count=2, dims=(0, 1))", 2)
    with pytest.raises(ValueError, match="cannot be done with a noise"):
        parse_noise("linear + linear")
    with pytest.raises(ValueError, match="noise variance must be positive"):
        parse_noise("gaussian(variance=-1.0)")


def test_the_command_line_takes_tasks_means_and_noise(tmp_path, rng):
    from cola_core.cli import main

    X = np.column_stack([rng.uniform(-3, 3, 60), rng.integers(0, 2, 60)])
    y = np.sin(X[:, 0]) + 2.0 * X[:, 1] + 0.05 * rng.normal(size=60)
    table = tmp_path / "data.csv"
    np.savetxt(table, np.column_stack([X, y]), delimiter=",", header="x,task,y", comments="")
    options = [
        "--kernel",
        "rbf(dims=0) * tasks(count=2, dims=1)",
        "--mean",
        "constant + tasks(count=2, dims=1)",
    ]
    noise = ["--noise", "tasks(count=2, dims=1, variance=0.1)", "--max-iters", "30"]
    out = tmp_path / "m.npz"
    assert main(["gp", "fit", str(table), "--target", "y", *options, *noise, "--out", str(out)]) == 0
    predictor, _ = gp.Predictor.load(out)
    assert predictor.scaling.x_scale[1] == 1.0 and predictor.scaling.x_shift[1] == 0.0
    assert isinstance(predictor.model.noise, gp.TaskNoise) and isinstance(predictor.model.mean, gp.SumMean)
    np.testing.assert_allclose(predictor.mean(np.array([[0.5, 1.0]])), 2 + np.sin(0.5), atol=0.15)

"""The marginal likelihood and its gradient: every structure against dense formulas and differences."""

import math

import numpy as np
import pytest

import cola_gp as gp
from cola_core import ops
from cola_gp._struct import leaves, named_leaves, with_leaves
from cola_gp.inference import Problem


def dense_reference(model, data):
    """Rasmussen & Williams (2.30) written out."""
    X = data.X.points() if isinstance(data.X, gp.Grid) else data.X
    K = model.kernel(X) + np.diag(model.noise.variances(data.y))
    r = data.y - model.mean(X)
    sign, logdet = np.linalg.slogdet(K)
    assert sign == 1
    return -0.5 * r @ np.linalg.solve(K, r) - 0.5 * logdet - 0.5 * len(r) * math.log(2 * math.pi)


def cases():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(14, 2))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=14)
    points = gp.Data(X, y)
    axes = (np.linspace(0, 1, 5), np.linspace(0, 2, 4), np.sort(rng.normal(size=3)))
    grid = gp.Data(gp.Grid(*axes), rng.normal(size=60))
    flat = gp.Data(gp.Grid(axes[0]), rng.normal(size=5))
    rbf = 1.5 * gp.RBF([0.5, 0.8])
    linear = gp.Linear([0.5, 2.0]) + gp.Constant(0.3)
    return {
        "dense": (gp.GP(rbf + gp.White(0.05), noise=0.1), points, "dense Cholesky"),
        "dense-mean": (gp.GP(rbf * gp.Matern32(2.0), gp.ConstantMean(0.4), 0.1), points, "dense Cholesky"),
        "dense-fixed-noise": (
            gp.GP(rbf, gp.ConstantMean(0.4), gp.FixedNoise(rng.uniform(0.05, 0.2, 14))),
            points,
            "dense Cholesky",
        ),
        "low-rank": (gp.GP(linear, gp.ConstantMean(0.1), noise=0.2), points, "low rank (Woodbury)"),
        "low-rank-product": (gp.GP(1.3 * linear * gp.Linear(0.7), noise=0.2), points, "low rank (Woodbury)"),
        "low-rank-fixed-noise": (
            gp.GP(linear, noise=gp.FixedNoise(rng.uniform(0.05, 0.2, 14))),
            points,
            "low rank (Woodbury)",
        ),
        "grid": (gp.GP(1.5 * gp.RBF([0.5, 0.8, 1.0]), noise=0.1), grid, "Kronecker eigenbasis"),
        "grid-shared": (
            gp.GP(gp.RBF(0.5) * gp.Periodic(1.0, [0.9, 1.2, 2.0]), gp.ConstantMean(0.2), noise=0.1),
            grid,
            "Kronecker eigenbasis",
        ),
        "grid-active": (
            gp.GP(
                2.0
                * gp.ActiveDims(gp.Matern12(0.5), 0)
                * gp.ActiveDims(gp.Matern52(0.5) + gp.Constant(0.2), 2),
                noise=0.1,
            ),
            grid,
            "Kronecker eigenbasis",
        ),
        "grid-not-separable": (gp.GP(gp.Matern32(0.5), noise=0.1), grid, "dense Cholesky"),
        "grid-fixed-noise": (
            gp.GP(gp.RBF(0.5), noise=gp.FixedNoise(np.full(60, 0.3))),
            grid,
            "dense Cholesky",
        ),
        "grid-one-axis": (gp.GP(gp.RBF(0.5), noise=0.1), flat, "dense Cholesky"),
    }


CASES = cases()


@pytest.fixture(params=sorted(CASES))
def case(request):
    return CASES[request.param]


def test_value_matches_the_dense_formula_by_both_roads(case):
    model, data, name = case
    expected = dense_reference(model, data)
    assert gp.condition(model, data).method == name
    assert float(gp.marginal_likelihood(model, data)) == pytest.approx(expected, rel=1e-10, abs=1e-9)
    value, _ = gp.value_and_gradient(model, data)
    assert float(value) == pytest.approx(expected, rel=1e-10, abs=1e-9)


def test_gradient_matches_finite_differences(case):
    model, data, _ = case
    _, gradient = gp.value_and_gradient(model, data)
    start = leaves(model)
    assert [np.shape(g) for g in gradient] == [np.shape(v) for v in start]
    h = 1e-5
    for i, (name, value, trainable) in enumerate(named_leaves(model)):
        if not trainable:
            continue
        for j in range(value.size):
            ends = []
            for sign in (1, -1):
                moved = [np.array(v) for v in start]
                moved[i].flat[j] += sign * h
                ends.append(dense_reference(with_leaves(model, moved), data))
            expected = (ends[0] - ends[1]) / (2 * h)
            assert np.ravel(gradient[i])[j] == pytest.approx(expected, rel=2e-6, abs=2e-7), name


def test_the_covariance_operator_has_the_structure(case):
    model, data, name = case
    prior = gp.represent(gp.CovarianceOperator(model.kernel, data.X), Problem(model, data)).operator
    kinds = {
        "dense Cholesky": ops.Dense,
        "low rank (Woodbury)": ops.LowRank,
        "Kronecker eigenbasis": ops.Kronecker,
    }
    assert isinstance(prior, kinds[name])
    points = data.X.points() if isinstance(data.X, gp.Grid) else data.X
    np.testing.assert_allclose(prior.to_dense(), model.kernel(points), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        model.covariance(data.X).to_dense(),
        model.kernel(points) + np.diag(model.noise.variances(data.y)),
        rtol=1e-10,
        atol=1e-12,
    )


def test_explain_names_what_was_taken_and_why_not_the_rest():
    _, data, _ = CASES["dense"]
    model = gp.GP(1.3 * gp.RBF(0.7), noise=0.1)
    plan = gp.explain(model, data)
    assert plan.root.by == "gp:condition/represent"
    assert [node.by for node in plan.root.children] == ["gp:represent/dense", "gp:condition/dense"]
    text = str(plan)
    assert "the inputs are not a Grid" in text
    assert "no finite feature map" in text
    assert "not gp:represent/lazy: costs more" in text
    assert str(gp.explain(model, data.X)) == text  # the plan rests on static facts
    form, inference = plan.root.children
    assert form.cost is None  # what follows from a form is counted once
    assert plan.root.estimate == inference.estimate > 0


def test_an_algorithm_asked_for_brings_its_form(case):
    model, data, _ = case
    expected = dense_reference(model, data)
    for alg in (gp.DenseInference(), gp.IterativeInference()):
        assert float(gp.condition(model, data, alg).log_marginal_likelihood()) == pytest.approx(
            expected, rel=1e-2
        )
    assert gp.condition(model, data, gp.DenseInference()).method == "dense Cholesky"
    inner = gp.explain(model, data, gp.DenseInference()).root
    inner = inner.children[0] if inner.by == "gp:condition/white" else inner
    assert [n.by for n in inner.children] == ["gp:represent/dense", "gp:condition/dense"]


def test_value_and_gradient_match_scikit_learn(rng):
    sk = pytest.importorskip("sklearn.gaussian_process", reason="scikit-learn is not installed")
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, RationalQuadratic, WhiteKernel

    X = rng.normal(size=(20, 2))
    y = np.sin(X[:, 0]) + 0.1 * rng.normal(size=20)
    theirs = sk.GaussianProcessRegressor(
        ConstantKernel(1.5) * RBF([0.5, 0.8]) + RationalQuadratic(0.7, 1.2) + WhiteKernel(0.1),
        optimizer=None,
        alpha=0.0,
    ).fit(X, y)
    value, gradient = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)
    model = gp.GP(gp.Constant(1.5) * gp.RBF([0.5, 0.8]) + gp.RationalQuadratic(0.7, 1.2), noise=0.1)
    ours, parts = gp.value_and_gradient(model, gp.Data(X, y))
    assert float(ours) == pytest.approx(value, rel=1e-11)
    flat = np.concatenate([np.ravel(p) for p in parts])
    # scikit-learn sorts the parameters of a kernel by name: alpha before length_scale
    np.testing.assert_allclose(flat, gradient[[0, 1, 2, 4, 3, 5]], rtol=1e-8)


def test_torch_autodiff_equals_the_closed_form(case):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model, data, _ = case
    _, expected = gp.value_and_gradient(model, data)
    params = [torch.tensor(np.asarray(v), requires_grad=True) for v in leaves(model)]
    moved = to_backend(data, lambda a: torch.tensor(np.asarray(a)))
    value = gp.marginal_likelihood(with_leaves(model, params), moved)
    assert float(value.detach()) == pytest.approx(float(gp.marginal_likelihood(model, data)), rel=1e-9)
    value.backward()
    compare(model, expected, [p.grad for p in params])
    with torch.no_grad():
        closed = gp.value_and_gradient(model, moved)[1]
    compare(model, expected, closed)


@pytest.mark.parametrize("name", ["dense-fixed-noise", "low-rank", "grid-shared"])
def test_jax_autodiff_equals_the_closed_form(name):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    model, data, _ = CASES[name]
    _, expected = gp.value_and_gradient(model, data)
    with jax.enable_x64(True):
        moved = to_backend(data, jax.numpy.asarray)
        traced = with_leaves(model, [jax.numpy.asarray(v) for v in leaves(model)])
        value, gradient = jax.jit(jax.value_and_grad(gp.marginal_likelihood))(traced, moved)
        assert float(value) == pytest.approx(float(gp.marginal_likelihood(model, data)), rel=1e-9)
        compare(model, expected, leaves(gradient))
        compare(model, expected, jax.jit(gp.value_and_gradient)(traced, moved)[1])


def to_backend(data, convert):
    X = gp.Grid(*(convert(a) for a in data.X.axes)) if isinstance(data.X, gp.Grid) else convert(data.X)
    return gp.Data(X, convert(data.y))


def compare(model, expected, found):
    for (name, _, _), e, f in zip(named_leaves(model), expected, found, strict=True):
        np.testing.assert_allclose(np.asarray(f), e, rtol=1e-7, atol=1e-8, err_msg=name)


def test_float32_stays_float32_and_close(rng):
    X = rng.normal(size=(30, 2))
    y = np.sin(X[:, 0])
    model = gp.GP(1.0 * gp.RBF(0.7), noise=0.01)
    value, gradient = gp.value_and_gradient(model, gp.Data(X, y))
    single, single_gradient = gp.value_and_gradient(
        model, gp.Data(X.astype(np.float32), y.astype(np.float32))
    )
    assert single.dtype == np.float32
    assert float(single) == pytest.approx(float(value), rel=1e-4)
    for a, b in zip(single_gradient, gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3)
    assert float(
        gp.marginal_likelihood(model, gp.Data(X.astype(np.float32), y.astype(np.float32)))
    ) == pytest.approx(float(value), rel=1e-4)


def test_one_point_by_hand():
    model = gp.GP(2.0 * gp.RBF(1.0), noise=0.5)
    data = gp.Data(np.array([[0.3]]), np.array([1.2]))
    expected = -0.5 * 1.2**2 / 2.5 - 0.5 * math.log(2 * math.pi * 2.5)
    assert float(gp.marginal_likelihood(model, data)) == pytest.approx(expected, rel=1e-12)


def test_nothing_is_kept_between_evaluations(case):
    """Choices are remembered by static facts; the covariance and its derivative go with the evaluation."""
    import gc

    from cola_gp.inference import Representation

    model, data, _ = case
    gp.value_and_gradient(model, data)  # what is remembered once
    gc.freeze()  # from here on, only what is new is looked at: the heap of all libraries takes a second
    try:
        for _ in range(3):
            gp.value_and_gradient(model, data)
            gp.marginal_likelihood(model, data)
        gc.collect()
        kinds = (Problem, Representation, gp.inference.Conditioned)
        assert not [o for o in gc.get_objects() if isinstance(o, kinds)]
    finally:
        gc.unfreeze()

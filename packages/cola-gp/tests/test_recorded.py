"""Kernels in PyTorch's graph: first and second derivatives in every mode are those of the steps."""

import numpy as np
import pytest

import cola_gp as gp
from cola_gp._struct import leaves, with_leaves
from cola_gp.kernels.symmetric import symmetric

torch = pytest.importorskip("torch", reason="torch is not installed")

KERNELS = {
    "sum": 1.3 * gp.Matern32([0.7, 1.1]) + gp.White(0.2) + gp.Linear(0.5),
    "product": gp.RBF(0.9) * gp.Periodic(0.8, [1.3, 1.9]),
    "deep": 0.7 * gp.Deep(gp.Matern52(0.9), gp.Network.random((2, 3, 2), seed=1)) + gp.RationalQuadratic(0.7),
}


@pytest.fixture(params=sorted(KERNELS))
def kernel(request, monkeypatch):
    # Few points and small blocks, so that plain evaluation can be compared in every mode.
    monkeypatch.setattr("cola_gp.kernels.symmetric.LEAST", 4)
    monkeypatch.setattr("cola_gp.kernels.symmetric.BLOCK_ENTRIES", 1)
    return KERNELS[request.param]


def problem(rng, kernel, n=20):
    X = torch.tensor(np.repeat(rng.normal(size=(n // 2, 2)), 2, axis=0))
    return X, torch.tensor(rng.normal(size=(n, n))), [torch.tensor(v) for v in leaves(kernel)]


def test_first_derivatives(kernel, rng):
    X, W, params = problem(rng, kernel)
    found = []
    for evaluate in (lambda k, X: symmetric(k, X)[0], lambda k, X: k(X)):
        moving = [p.clone().requires_grad_() for p in params]
        points = X.clone().requires_grad_()
        value = (W * evaluate(with_leaves(kernel, moving), points)).sum()
        found.append([value.detach(), *torch.autograd.grad(value, [*moving, points])])
    for ours, plain in zip(*found, strict=True):
        np.testing.assert_allclose(ours.numpy(), plain.numpy(), rtol=1e-9, atol=1e-11)
    only_points = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad((W * symmetric(kernel, only_points)[0]).sum(), only_points)
    np.testing.assert_allclose(slope.numpy(), found[1][-1].numpy(), rtol=1e-9, atol=1e-11)


def test_second_derivatives_and_forward_mode(kernel, rng):
    X, W, params = problem(rng, kernel, 12)
    sizes = [p.numel() for p in params]
    start = torch.cat([p.reshape(-1) for p in params])

    def value(theta, evaluate):
        moved = [t.reshape(p.shape) for t, p in zip(torch.split(theta, sizes), params, strict=True)]
        K = evaluate(with_leaves(kernel, moved))
        return (W * K * K).sum()

    def ours(theta):
        return value(theta, lambda k: symmetric(k, X)[0])

    def plain(theta):
        return value(theta, lambda k: k(X))

    expected = torch.autograd.functional.hessian(plain, start)
    size = float(expected.abs().max())
    for hessian in (torch.autograd.functional.hessian(ours, start), torch.func.hessian(ours)(start)):
        np.testing.assert_allclose(hessian.numpy(), expected.numpy(), rtol=1e-7, atol=1e-9 * size)
    slope = torch.func.jacfwd(ours)(start)
    np.testing.assert_allclose(
        slope.numpy(), torch.func.grad(plain)(start).numpy(), rtol=1e-8, atol=1e-9 * size
    )
    moves = torch.stack([start, 1.01 * start])
    both = torch.func.vmap(torch.func.grad(ours))(moves)
    np.testing.assert_allclose(both[0].numpy(), slope.numpy(), rtol=1e-8, atol=1e-9 * size)


def test_the_graph_holds_no_matrix_but_the_covariance(rng):
    kernel = 1.3 * gp.Matern32(np.ones(4)) + gp.RationalQuadratic(np.ones(4))
    X = torch.tensor(rng.normal(size=(600, 4)))
    moving = [torch.tensor(v, requires_grad=True) for v in leaves(kernel)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        K = symmetric(with_leaves(kernel, moving), X)[0]
    matrices = {t.data_ptr() for t in kept if t.numel() >= 600 * 600}
    assert matrices <= {K.data_ptr()}


def test_parameters_of_another_dtype(rng):
    X = torch.tensor(rng.normal(size=(600, 2)), dtype=torch.float32)
    scale = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    K = symmetric(gp.RBF(log_lengthscale=scale), X)[0]
    (slope,) = torch.autograd.grad(K.sum(), scale)
    assert slope.dtype == torch.float64 and K.dtype == torch.float32
    plain = gp.RBF(np.exp(0.1)).evaluate(X.double())[1](torch.ones((600, 600), dtype=torch.float64))[0]
    np.testing.assert_allclose(float(slope), float(plain), rtol=1e-4)


def test_the_likelihood_is_differentiated_as_its_closed_form(rng):
    X = rng.normal(size=(540, 2))
    data = gp.Data(torch.tensor(X), torch.tensor(np.sin(X[:, 0])))
    model = gp.GP(1.3 * gp.Matern52([0.7, 1.1]), noise=0.1)
    value, closed = gp.value_and_gradient(model, data)
    moving = [torch.tensor(v, requires_grad=True) for v in leaves(model)]
    found = gp.marginal_likelihood(with_leaves(model, moving), data)
    np.testing.assert_allclose(float(found.detach()), float(value), rtol=1e-11)
    for a, b in zip(torch.autograd.grad(found, moving), closed, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8)

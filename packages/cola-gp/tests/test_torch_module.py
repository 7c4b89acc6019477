"""GPModule: parameters, buffers, checkpoints and training of a torch module."""

import io

import numpy as np
import pytest

import cola_gp as gp
from cola_gp import functional

torch = pytest.importorskip("torch", reason="torch is not installed")

from cola_gp.torch_module import GPModule  # noqa: E402


def toy(rng, n=30):
    X = np.sort(rng.uniform(0, 6, n))[:, None]
    return torch.tensor(X), torch.tensor(np.sin(X[:, 0]) + 0.1 * rng.normal(size=n))


def test_parameters_and_buffers():
    kernel = 1.0 * gp.RBF([1.0, 2.0]) + gp.Linear(0.5)
    model = gp.GP(kernel, gp.ConstantMean(0.5), gp.FixedNoise(np.full(3, 0.1)))
    module = GPModule(model, dtype=torch.float64)
    assert {name for name, _ in module.named_parameters()} == {
        f"parts.{name}" for name in functional.parameters(model)
    }
    assert [name for name, _ in module.named_buffers()] == ["parts.noise.variance"]
    assert "lengthscale=[1., 2.]" in repr(module)
    assert {p.dtype for p in module.to(torch.float32).parameters()} == {torch.float32}
    with pytest.raises(TypeError, match="needs a GP, not RBF"):
        GPModule(gp.RBF(1.0))


def test_gradient_is_the_closed_form(rng):
    X, y = toy(rng)
    model = gp.GP(1.2 * gp.Matern52(0.8), gp.ConstantMean(0.1), noise=0.2)
    module = GPModule(model, dtype=torch.float64)
    value = module(X, y)
    value.backward()
    want, closed = gp.value_and_gradient(model, gp.Data(X.numpy(), y.numpy()))
    assert value.item() == pytest.approx(float(want))
    for name, g in zip(functional.parameters(model), closed, strict=True):
        np.testing.assert_allclose(module.get_parameter(f"parts.{name}").grad, g, rtol=1e-8)


@pytest.mark.parametrize("optimizer", ["Adam", "LBFGS"])
def test_training_with_optimizers_of_torch(rng, optimizer):
    X, y = toy(rng)
    model = gp.GP(1.0 * gp.RBF(1.0), noise=0.1)
    module = GPModule(model, dtype=torch.float64)
    if optimizer == "Adam":
        steps, chosen = 120, torch.optim.Adam(module.parameters(), lr=0.1)
    else:
        steps, chosen = 8, torch.optim.LBFGS(module.parameters(), line_search_fn="strong_wolfe")

    def closure():
        chosen.zero_grad()
        loss = -module(X, y) / len(y)
        loss.backward()
        return loss

    for _ in range(steps):
        chosen.step(closure)
    want = gp.fit(model, gp.Data(X.numpy(), y.numpy()))
    assert module(X, y).item() == pytest.approx(want.log_likelihood, abs=0.05)
    with torch.no_grad():
        posterior = module.posterior(X, y)
        mean = posterior.mean(X[:4])
    np.testing.assert_allclose(
        mean, gp.Posterior(want.model, gp.Data(X.numpy(), y.numpy())).mean(X[:4].numpy()), atol=0.02
    )


def test_checkpoints_and_frozen_parameters(rng):
    X, y = toy(rng)
    module = GPModule(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), dtype=torch.float64)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.3
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = GPModule(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), dtype=torch.float64)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other(X, y).item() == module(X, y).item()
    module.parts.noise.requires_grad_(False)
    module(X, y).backward()
    assert module.parts.noise.log_variance.grad is None
    assert module.parts.kernel.log_variance.grad is not None


def test_prediction_is_differentiable(rng):
    X, y = toy(rng, 12)
    module = GPModule(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), dtype=torch.float64)
    Z = torch.tensor([[2.5]], dtype=torch.float64)
    module.posterior(X, y).mean(Z).sum().backward()
    slope = float(module.parts.noise.log_variance.grad)
    h = 1e-6

    def mean(t):
        model = gp.GP(1.0 * gp.RBF(1.0), noise=float(0.1 * np.exp(t)))
        return float(gp.Posterior(model, gp.Data(X.numpy(), y.numpy())).mean(Z.numpy())[0])

    assert slope == pytest.approx((mean(h) - mean(-h)) / (2 * h), rel=1e-5)


def test_single_precision_on_a_grid(rng):
    axes = [np.linspace(0, 1, 5), np.linspace(0, 1, 4)]
    y = rng.normal(size=20)
    model = gp.GP(1.0 * gp.RBF([0.3, 0.4]), noise=0.1)
    module = GPModule(model)
    grid = gp.Grid(*(torch.tensor(a, dtype=torch.float32) for a in axes))
    value = module(grid, torch.tensor(y, dtype=torch.float32))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(
        float(gp.marginal_likelihood(model, gp.Data(gp.Grid(*axes), y))), rel=1e-4
    )


def test_deep_kernel_trains_with_the_rest(rng):
    """Weights of a torch network are parameters of the module; names that modules use are kept apart."""
    X, y = toy(rng, 12)
    network = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    model = gp.GP(1.0 * gp.Deep(gp.RBF(1.0), gp.Function.of_module(network)), noise=0.1)
    module = GPModule(model, dtype=torch.float64)
    assert "parts.kernel.kernel.map.parameters_.0" in dict(module.named_parameters())
    before = module(X, y).item()
    module(X, y).backward()
    _, closed = gp.value_and_gradient(model, gp.Data(X, y))
    for p, g in zip(module.parts.kernel.kernel.map.parameters(), closed[1:5], strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-7, atol=1e-10)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        (-module(X, y)).backward()
        optimizer.step()
    assert module(X, y).item() > before

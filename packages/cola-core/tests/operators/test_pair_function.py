"""Functions that bring products of their own: values, transposes, batches and derivatives through Kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from compare import close
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.backends import backend_of
from cola_core.errors import ShapeError

CALLS: list[str] = []


@dataclass(frozen=True)
class Skewed(ops.PairFunction):
    """``scale (a.b + 1 + |a|^2)``, not symmetric; every fused product is counted."""

    slopes: bool = True
    wrong: bool = False

    def __call__(self, a, b, params=None):
        scale = 1.0 if params is None else params["scale"]
        return scale * (a @ b.T + 1 + (a * a).sum(-1)[:, None])

    def path(self, x1, x2, columns, params):
        return "counted"

    def matmat(self, x1, x2, V, params):
        CALLS.append("matmat")
        Y = backend_of(V).matmul(self(x1, x2, params), V)
        return Y[1:] if self.wrong else Y

    def rmatmat(self, x1, x2, V, params):
        CALLS.append("rmatmat")
        return backend_of(V).matmul(self(x1, x2, params).T, V)

    def gradients(self, x1, x2, V, G, params):
        if not self.slopes:
            return NotImplemented
        CALLS.append("gradients")
        scale, W = params["scale"], G @ V.T
        first = scale * (W @ x2 + 2 * W.sum(1)[:, None] * x1)
        total = (W * self(x1, x2)).sum() + 0 * scale
        return first, scale * (W.T @ x1), {"scale": total}

    def flops(self, d):
        return 2.0 * d


def test_products_transposes_conjugates_and_batches(backend, rng):
    f = backend.asarray
    a, b = rng.normal(size=(2, 1, 4, 3)), rng.normal(size=(3, 5, 3))
    D = np.stack([[Skewed()(x, y) for y in b] for x in a[:, 0]])
    K = ops.Kernel(f(a), f(b), Skewed())
    X = rng.normal(size=(6, 1, 1, 5, 2))
    close(backend, K @ f(X), D @ X, "float64")
    close(backend, K.T @ f(X[0, :, :, :4]), np.swapaxes(D, -1, -2) @ X[0, :, :, :4], "float64")
    one, M = ops.Kernel(f(a[0, 0]), f(b[0]), Skewed()), D[0, 0]
    CALLS.clear()
    close(backend, one @ f(X), M @ X, "float64")
    close(backend, one @ f(X[0] + 1j * X[1]), M @ (X[0] + 1j * X[1]), "complex128")
    close(backend, one.H @ f(M[:, 0]), M.T @ M[:, 0], "float64")
    close(backend, one.to_dense(), M, "float64")
    assert CALLS == ["matmat", "matmat", "rmatmat"]
    assert one._products() == "counted" and "products=counted" in str(one.describe())
    assert "Kernel[4x5, products=counted]" == repr(one)
    assert one.matvec_cost.flops == (2.0 * 3 + 2) * 4 * 5


def test_plans_say_how_products_are_made(backend, rng):
    A = cola.PSD(ops.Kernel(backend.asarray(rng.normal(size=(4, 3))), None, Skewed())) + 3.0 * ops.Identity(4)
    plan = cola.explain(cola.solve, A, backend.asarray(np.ones(4)), alg=cola.CG())
    assert "products=counted" in str(plan)


def test_complex_points_are_conjugated(backend, rng):
    a, b = (rng.normal(size=(4, 2)) + 1j * rng.normal(size=(4, 2)) for _ in range(2))
    K, D = ops.Kernel(backend.asarray(a), backend.asarray(b), Skewed()), Skewed()(a, b)
    X = rng.normal(size=(4, 3)) + 0j
    close(backend, K.H @ backend.asarray(X), D.conj().T @ X, "complex128")
    close(backend, K.conj() @ backend.asarray(X), D.conj() @ X, "complex128")
    close(backend, K.T @ backend.asarray(X), D.T @ X, "complex128")


@pytest.mark.skipif(not installed("torch"), reason="derivatives of this kind are PyTorch's")
@pytest.mark.parametrize("slopes", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
def test_derivatives_of_every_order_are_those_of_the_blocks(slopes, transposed, rng):
    import torch

    a, b, V = (torch.tensor(rng.normal(size=s)) for s in ((4, 3), (5, 3), (4 if transposed else 5, 2)))
    scale = torch.tensor(1.3, dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in (a, b, scale, V))

    def product(a, b, scale, V):
        K = ops.Kernel(a, b, Skewed(slopes), params={"scale": scale})
        return (K.T if transposed else K) @ V

    CALLS.clear()
    product(*inputs).sum().backward()
    assert ("gradients" in CALLS) == slopes
    assert torch.autograd.gradcheck(product, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(product, inputs)
    square = ops.Kernel(a, None, Skewed(slopes), params={"scale": scale})
    assert torch.autograd.gradcheck(
        lambda a, s: ops.Kernel(a, None, Skewed(slopes), params={"scale": s}) @ V[:4], (a, scale)
    )
    CALLS.clear()
    W = V.detach()[:4].clone().requires_grad_()
    fixed = ops.Kernel(a.detach(), None, Skewed(slopes), params={"scale": scale.detach()})
    (g,) = torch.autograd.grad((fixed @ W).sum(), W)
    close(backend_of(g), g, square.to_dense().detach().numpy().T @ np.ones((4, 2)), "float64")
    assert CALLS == ["matmat", "rmatmat"]  # nothing but the vectors moves: no gradient of points


@pytest.mark.skipif(not installed("torch"), reason="derivatives of this kind are PyTorch's")
def test_inside_of_transformations_products_are_blocks(rng):
    import torch

    a, V = torch.tensor(rng.normal(size=(4, 3))), torch.tensor(rng.normal(size=(4, 2)))
    CALLS.clear()

    def total(s):
        return (ops.Kernel(a, None, Skewed(), params={"scale": s}) @ V).sum()

    s = torch.tensor([1.0, 2.0], dtype=torch.float64)
    unit = float((Skewed()(a, a) @ V).sum())
    close(backend_of(s), torch.func.vmap(torch.func.grad(total))(s), np.array([unit, unit]), "float64")
    assert not CALLS


def test_numbers_as_parameters_are_of_the_points_library(backend, rng):
    a = rng.normal(size=(3, 2))
    K = ops.Kernel(backend.asarray(a, dtype="float32"), None, Skewed(), params={"scale": 2.0})
    if backend.name != "numpy":  # where it is a double precision array, as before
        assert str(K.dtype).rpartition(".")[2] == "float32"
    ones = backend.asarray(np.ones(3), dtype="float32")
    close(backend, K @ ones, 2 * Skewed()(a, a) @ np.ones(3), "float32")


def test_what_a_function_must_not_do(rng):
    @dataclass(frozen=True, eq=False)
    class Holding(Skewed):
        data: object = None

    a = rng.normal(size=(3, 2))
    with pytest.raises(TypeError, match="Holding.data is an array"):
        ops.Kernel(a, None, Holding(data=a))
    with pytest.raises(ShapeError, match=r"product of Skewed has shape \(2, 1\)"):
        ops.Kernel(a, None, Skewed(wrong=True)) @ np.ones(3)
    base = ops.PairFunction()
    missing = (
        lambda: base(a, a),
        lambda: base.matmat(a, a, a, None),
        lambda: base.rmatmat(a, a, a, None),
    )
    for call in missing:
        with pytest.raises(NotImplementedError, match="PairFunction must define"):
            call()
    assert cola.ops.Kernel(a, None, lambda x, y: x @ y.T)._products() is None

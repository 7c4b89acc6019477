"""The Triton kernels: on a device where there is one, else in Triton's interpreter, which has to be chosen
before Triton is imported: then this file runs itself in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from kernel_references import NAMES, UNIT, dense, function, given, largest_error, put, rounded, values

from cola_core import ops
from cola_core.backends import get_backend

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

CUDA = torch.cuda.is_available()
INSIDE = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if CUDA and not INSIDE else "cpu"
RNG = np.random.default_rng(7)


def here(test):
    """A test of the process that has a device or the interpreter; no test of the other."""
    return test if CUDA or INSIDE else None


def elsewhere(test):
    """The test that starts that process."""
    return None if CUDA or INSIDE else test


@elsewhere
def test_in_the_interpreter():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        __file__,
    ]
    known = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}
    ran = subprocess.run(
        command, env=known | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout


def tensor(x, dtype="float32"):
    return torch.tensor(np.asarray(x)).to(getattr(torch, dtype)).to(DEVICE)


def kernel(name, x, y, params, **settings):
    be = get_backend("torch")
    on = {k: v.to(DEVICE) for k, v in put(be, params, "float32").items()}
    return ops.Kernel(x, y, function(name, path="triton", **settings), params=on)


def host(x):
    return values(get_backend("torch"), x.detach().float().cpu())


@here
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 3, 10, 33, 64])
def test_products_equal_the_formula(name, d):
    n, m = (45, 71) if d < 30 else (33, 20)
    a, b, V = (rounded(RNG.normal(size=s) + 2, "float32") for s in ((n, d), (m, d), (m, 7)))
    b[:4] = a[:4]
    b[4:8] = rounded(a[4:8] * (1 + 4 * UNIT["float32"]), "float32")
    params = given(name, d, RNG)
    D = dense(name, a, b, params)
    K = kernel(name, tensor(a), tensor(b), params)
    assert K._products() == "triton"
    for columns in (1, 7):
        assert largest_error(host(K @ tensor(V[:, :columns])), D @ V[:, :columns]) < 3e-6
    assert largest_error(host(K.T @ tensor(a[:, :1])), D.T @ a[:, :1]) < 3e-6


@here
@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (1, 1), (1, 97), (131, 2), (33, 32)])
@pytest.mark.parametrize("columns", [0, 1, 7])
def test_sizes(sizes, columns):
    n, m = sizes
    a, b, V = (rounded(RNG.normal(size=s), "float32") for s in ((n, 2), (m, 2), (m, columns)))
    K = kernel("Matern52", tensor(a), tensor(b), {"lengthscale": 0.5})
    Y = K @ tensor(V)
    assert tuple(Y.shape) == (n, columns)
    assert largest_error(host(Y), dense("Matern52", a, b, {"lengthscale": 0.5}) @ V) < 2e-6


@here
@settings(max_examples=10, deadline=None)  # beside the sizes above
@drawn(
    shape=st.tuples(st.integers(0, 70), st.integers(0, 70), st.integers(1, 5), st.integers(1, 20)),
    name=st.sampled_from(NAMES),
    log=st.integers(-8, 8),
    seed=st.integers(0, 99),
)
def test_any_shape_and_scale(shape, name, log, seed):
    n, m, d, k = shape
    rng = np.random.default_rng(seed)
    a, V = rounded(rng.normal(size=(n, d)), "float32"), rounded(rng.normal(size=(m, k)), "float32")
    b = np.concatenate([a[: min(n, m, 3)], rounded(rng.normal(size=(m, d)), "float32")])[:m]
    params = {"lengthscale": float(np.float32(10.0**log)), "outputscale": 0.5}
    got = host(kernel(name, tensor(a), tensor(b), params) @ tensor(V))
    np.testing.assert_allclose(got, dense(name, a, b, params) @ V, rtol=0, atol=2e-5 * max(m, 1) ** 0.5)


@here
@pytest.mark.parametrize("name", NAMES)
def test_lengthscales_whose_squares_overflow(name):
    a = tensor(RNG.normal(size=(40, 3)))
    params = {"lengthscale": 1e-25} | ({"alpha": 2.0} if name == "RationalQuadratic" else {})
    x = a.requires_grad_()
    Y = kernel(name, x, None, params) @ torch.ones(40, 1, device=DEVICE)
    Y.sum().backward()
    assert largest_error(host(Y), np.ones((40, 1))) < 1e-6 and not host(x.grad).any()


@here
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("columns", [1, 5])
def test_half_precision_is_summed_in_single(dtype, columns):
    a, b, V = (rounded(RNG.normal(size=s), dtype) for s in ((40, 3), (300, 3), (300, columns)))
    D = dense("Matern32", a, b, {"lengthscale": 2.0})
    K = ops.Kernel(
        tensor(a, dtype),
        tensor(b, dtype),
        function("Matern32", path="triton"),
        params={"lengthscale": tensor(2.0, dtype)},
    )
    Y = K @ tensor(V, dtype)
    assert Y.dtype == getattr(torch, dtype)
    # rounding of K's entries and of the result, none of the sums of 300 terms
    assert largest_error(host(Y), D @ V) < 2 * UNIT[dtype]
    assert largest_error(host(Y), D @ V) > 0


@here
def test_tf32_is_asked_for_and_only_concerns_the_product():
    a, V = rounded(RNG.normal(size=(80, 3)), "float32"), rounded(RNG.normal(size=(80, 20)), "float32")
    D = dense("RBF", a, a, {})
    K = kernel("RBF", tensor(a), None, {}, precision="tf32")
    assert "precision='tf32'" in str(K.describe())
    assert largest_error(host(K @ tensor(V)), D @ V) < 2.0**-10
    assert largest_error(host(K @ tensor(V[:, :1])), D @ V[:, :1]) < 2e-6


@here
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("d", "columns"), [(1, 1), (3, 1), (3, 7), (10, 7)])
def test_gradients_equal_those_of_double_precision(name, d, columns):
    same = d == 3
    a, b = rounded(RNG.normal(size=(40, d)), "float32"), rounded(RNG.normal(size=(37, d)), "float32")
    b[:3] = a[:3]
    V, G = (rounded(RNG.normal(size=(s, columns)), "float32") for s in (40 if same else 37, 40))
    params = given(name, d, RNG, ard=d != 10)
    found = []
    for dtype, path, device in (
        ("float32", "triton", DEVICE),
        ("float64", "chunked", "cpu"),
    ):
        leaves = [torch.tensor(x).to(getattr(torch, dtype)).to(device) for x in (a, b, V)]
        trees = {k: torch.tensor(v).to(getattr(torch, dtype)).to(device) for k, v in params.items()}
        wanted = [x.requires_grad_() for x in ([leaves[0], leaves[2]] if same else leaves)]
        wanted += [x.requires_grad_() for x in trees.values()]
        K = ops.Kernel(leaves[0], None if same else leaves[1], function(name, path=path), params=trees)
        loss = (torch.tensor(G).to(leaves[0]) * (K @ leaves[2])).sum()
        found.append([x.detach().cpu().double().numpy() for x in torch.autograd.grad(loss, wanted)])
    for x, y in zip(*found, strict=True):
        assert largest_error(x, y) < 2e-5


@here
def test_second_derivatives_and_transformations_are_not_lost():
    x, V = tensor(RNG.normal(size=(12, 2))), tensor(RNG.normal(size=(12, 1)))

    def loss(scale, path="triton"):
        K = ops.Kernel(x, None, function("Matern52", path=path), params={"lengthscale": scale})
        return ((K @ V) ** 2).sum()

    scale = tensor(0.8).requires_grad_()
    (first,) = torch.autograd.grad(loss(scale), scale, create_graph=True)
    (second,) = torch.autograd.grad(first, scale)
    want = torch.func.hessian(lambda s: loss(s, "chunked"))(scale.detach().double().float())
    torch.testing.assert_close(second, want, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(torch.func.grad(loss)(scale.detach()), first.detach(), rtol=1e-4, atol=1e-4)
    _, slope = torch.func.jvp(loss, (scale.detach(),), (torch.ones_like(scale),))
    torch.testing.assert_close(slope, first.detach(), rtol=1e-4, atol=1e-4)


@here
def test_a_solve_runs_on_such_operators():
    import cola_core as cola
    from cola_core.algorithms import CG

    a, y = rounded(RNG.normal(size=(50, 3)), "float32"), rounded(RNG.normal(size=50), "float32")
    K = cola.PSD(kernel("Matern32", tensor(a), None, {})) + 0.5 * ops.Identity(50)
    got = cola.solve(K, tensor(y), CG(tol=1e-5))
    assert largest_error(host(got), np.linalg.solve(dense("Matern32", a, a, {}) + 0.5 * np.eye(50), y)) < 1e-4


@here
def test_what_the_path_refuses():
    from cola_core.errors import DTypeError, ShapeError
    from cola_gpu import kernels

    with pytest.raises(DTypeError, match="takes float32, float16 and bfloat16; the points .* are float64"):
        kernels.rbf(torch.zeros(3, 2, dtype=torch.float64, device=DEVICE), path="triton")
    with pytest.raises(ShapeError, match="at most 64 coordinates"):
        kernels.rbf(torch.zeros(3, 65, device=DEVICE), path="triton")
    wide = kernels.rbf(torch.zeros(3, 65, device=DEVICE))
    assert wide._products() == "in place"
    assert kernels.rbf(torch.zeros(3, 2, device="cpu"))._products() == "in place"

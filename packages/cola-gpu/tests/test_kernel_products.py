"""Products of covariance operators without Triton: values, gradients, memory, and what refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from kernel_references import NAMES, UNIT, dense, function, given, largest_error, put, rounded, values

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.errors import BackendError, ShapeError, UnknownNameError
from cola_gpu import kernels
from cola_gpu.kernels import inplace


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that a few hundred points take several."""
    monkeypatch.setattr(inplace, "ENTRIES", 2**10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 3, 10, 65])
def test_values_are_those_of_the_formula(backend, name, d, dtype, rng, small_blocks):
    if backend.name == "jax" and (d == 3 or dtype == "float32" and d != 10):
        return  # compiled anew for every shape: few
    a, b, V = rng.normal(size=(131, d)) + 3, rng.normal(size=(95, d)) + 3, rng.normal(size=(95, 3))
    b[:7] = a[:7]  # duplicates, and points a rounding error or little more apart
    b[7:14] = a[7:14] * (1 + 4 * UNIT[dtype])
    b[14:20] = a[14:20] + 1e-3
    params = given(name, d, rng)
    a, b, V = (rounded(x, dtype) for x in (a, b, V))
    D = dense(name, a, b, params)
    x, y = (backend.asarray(z, dtype=dtype) for z in (a, b))
    K = ops.Kernel(x, y, function(name), params=put(backend, params, dtype))
    # the bound of the module: relative errors of distances of 64 (d + 4) units, and those of sums
    bound = 8 * (d + 4) * UNIT[dtype]
    W = backend.asarray(V, dtype=dtype)
    assert largest_error(values(backend, K @ W), D @ V) < bound
    U = backend.asarray(a[:, :1], dtype=dtype)
    assert largest_error(values(backend, K.T @ U), D.T @ a[:, :1]) < bound
    assert largest_error(values(backend, K.to_dense()), D) < 8 * UNIT[dtype]
    if dtype == "float64":
        Z = backend.asarray(V + 2j * V[::-1])
        assert largest_error(values(backend, K @ Z), D @ (V + 2j * V[::-1])) < bound


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_single_entries_of_a_product_are_as_accurate_as_stated(name, dtype, rng, small_blocks):
    # clusters far apart, as seen from the lengthscale: the expansion of |a - b|^2 alone has no digits left
    centres = 300 * rng.normal(size=(4, 6))
    a = np.concatenate([c + 0.1 * rng.normal(size=(30, 6)) for c in centres] + [centres[:1]] * 3)
    a = rounded(rng.permutation(a), dtype)
    x = np.asarray(a, dtype)
    for same in (True, False):
        K = ops.Kernel(x, None if same else x[:-1].copy(), function(name))
        D = dense(name, a, a if same else a[:-1], {})
        eye = np.eye(D.shape[1], dtype=dtype)
        bound = 4 * UNIT[dtype] * np.max(np.abs(a)) + 64 * 10 * UNIT[dtype]
        assert np.max(np.abs(K @ eye - D)) < bound
        assert np.max(np.abs(np.asarray(K.to_dense()) - D)) < bound


@pytest.mark.parametrize("n", [0, 1, 2, 37])
@pytest.mark.parametrize("k", [0, 1, 7])
def test_small_sizes(backend, n, k, rng):
    if backend.name == "jax" and (n == 2 or k == 7):
        return
    a, b = rng.normal(size=(n, 2)), rng.normal(size=(5, 2))
    K = ops.Kernel(backend.asarray(a), backend.asarray(b), kernels.Matern32())
    D = dense("Matern32", a, b, {})
    assert largest_error(values(backend, K @ backend.asarray(np.ones((5, k)))), D @ np.ones((5, k))) < 1e-14
    assert (
        largest_error(values(backend, K.T @ backend.asarray(np.ones((n, k)))), D.T @ np.ones((n, k))) < 1e-14
    )
    S = ops.Kernel(backend.asarray(a), None, kernels.Matern32())
    assert (S @ backend.asarray(np.ones((n, k)))).shape == (n, k)


@settings(max_examples=25, deadline=None)
@drawn(
    shape=st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9), st.integers(0, 4)),
    name=st.sampled_from(NAMES),
    same=st.booleans(),
    log=st.integers(-6, 6),
    seed=st.integers(0, 99),
)
def test_any_shape_and_scale(shape, name, same, log, seed):
    n, m, d, k = shape
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, d))
    b = a if same else np.concatenate([rng.normal(size=(m, d)), a[: min(n, 3)]])
    V = rng.normal(size=(len(b), k))
    params = {"lengthscale": 10.0**log}
    entries, inplace.ENTRIES = inplace.ENTRIES, 2**8
    try:
        Y = ops.Kernel(a, None if same else b, function(name), params=params) @ V
    finally:
        inplace.ENTRIES = entries
    np.testing.assert_allclose(Y, dense(name, a, b, params) @ V, rtol=0, atol=1e-12 * max(len(b), 1))


@pytest.mark.parametrize("name", NAMES)
def test_lengthscales_whose_squares_overflow(backend, name, rng):
    a = rng.normal(size=(9, 6))
    x = backend.asarray(a, dtype="float32")
    V = backend.asarray(np.ones((9, 2)), dtype="float32")
    for scale, want in ((1e-25, np.ones((9, 2))), (1e25, np.full((9, 2), 9.0))):
        params = {"lengthscale": backend.asarray(scale, dtype="float32")}
        if name == "RationalQuadratic":
            params["alpha"] = backend.asarray(2.0, dtype="float32")
        K = ops.Kernel(x, None, function(name), params=params)
        assert largest_error(values(backend, K @ V), want) < 1e-6


def test_batches_of_points_and_of_right_hand_sides(backend, rng):
    a, b = rng.normal(size=(2, 1, 6, 2)), rng.normal(size=(3, 4, 2))
    V = rng.normal(size=(5, 1, 1, 4, 2))
    D = np.stack([[dense("RBF", x, y, {}) for y in b] for x in a[:, 0]])
    K = kernels.rbf(backend.asarray(a), backend.asarray(b))
    assert largest_error(values(backend, K @ backend.asarray(V)), D @ V) < 1e-14
    one = kernels.rbf(backend.asarray(a[0, 0]), backend.asarray(b[0]))
    assert largest_error(values(backend, one @ backend.asarray(V)), D[0, 0] @ V) < 1e-14


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 3, 6])
def test_first_gradients_in_torch(name, d, rng, small_blocks):
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    for same in (False, True):
        a, b = 2 * rng.normal(size=(70, d)), 2 * rng.normal(size=(51, d))
        b[:5] = a[:5]
        params = given(name, d, rng)
        V, G = rng.normal(size=(70 if same else 51, 2)), be.asarray(rng.normal(size=(70, 2)))
        leaves = [be.asarray(x).requires_grad_() for x in ((a, V) if same else (a, b, V))]
        trees = {key: be.asarray(np.asarray(x)).requires_grad_() for key, x in params.items()}
        wanted = [*leaves, *trees.values()]

        def loss(make):
            first, second = leaves[0], None if same else leaves[1]  # noqa: B023
            return (G * (make(first, second) @ leaves[-1])).sum()  # noqa: B023

        got = torch.autograd.grad(loss(lambda x, y: ops.Kernel(x, y, function(name), params=trees)), wanted)  # noqa: B023
        want = torch.autograd.grad(loss(lambda x, y: formula(torch, name, x, y, trees)), wanted)  # noqa: B023
        for x, y in zip(got, want, strict=True):
            assert largest_error(values(be, x), values(be, y)) < 1e-11
        single = [x.detach().float().requires_grad_() for x in wanted]
        leaves, trees = single[: len(leaves)], dict(zip(trees, single[len(leaves) :], strict=True))
        G = G.float()
        got = torch.autograd.grad(loss(lambda x, y: ops.Kernel(x, y, function(name), params=trees)), single)  # noqa: B023
        for x, y in zip(got, want, strict=True):
            assert x.dtype == torch.float32 and largest_error(values(be, x), values(be, y)) < 2e-5


@pytest.mark.parametrize("name", NAMES)
def test_what_runs_on_a_device_looks_at_no_number(name, rng, monkeypatch):
    torch = pytest.importorskip("torch")
    from cola_gpu.kernels import scaled

    be = get_backend("torch")
    x, V = torch.tensor(rng.normal(size=(50, 6))).requires_grad_(), torch.tensor(rng.normal(size=(50, 2)))
    params = {key: torch.tensor(value).requires_grad_() for key, value in given(name, 6, rng).items()}
    wanted = (x, *params.values())
    found = []
    for device in (False, True):
        if device:
            monkeypatch.setattr(inplace, "ENTRIES_DEVICE", 2**9)
            for module in (scaled, inplace):
                monkeypatch.setattr(module, "on_host", lambda be, x: False)
            monkeypatch.setattr(be.__class__, "number", lambda self, x: pytest.fail("a number was read"))
        Y = ops.Kernel(x, None, function(name), params=params) @ V
        found.append((Y.detach(), *torch.autograd.grad((Y * Y).sum(), wanted)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_which_tensors_take_triton_by_themselves(monkeypatch):
    torch = pytest.importorskip("torch")
    from cola_gpu.kernels import paths

    class OnDevice:
        def __init__(self, shape, dtype):
            self.shape, self.dtype, self.device = shape, dtype, torch.device("cuda:0")

    monkeypatch.setattr(paths, "backend_of", lambda *xs: get_backend("torch"))
    for installed in (True, False):
        monkeypatch.setattr(paths, "_installed", lambda: installed)  # noqa: B023
        for dtype, d, fits in (
            (torch.float32, 64, True),
            (torch.bfloat16, 3, True),
            (torch.float16, 1, True),
            (torch.float64, 3, False),
            (torch.float32, 65, False),
        ):
            x = OnDevice((10**6, d), dtype)
            want = "triton" if fits and installed else "in place"
            assert paths.path_for(kernels.RBF(), x, x) == want
            assert paths.path_for(kernels.RBF("chunked"), x, x) == "in place"
    huge = OnDevice((2**26, 32), torch.float32)
    monkeypatch.setattr(paths, "_installed", lambda: True)
    assert paths.path_for(kernels.RBF(), huge, huge) == "in place"
    with pytest.raises(ShapeError, match="counts with 32 bits"):
        paths.path_for(kernels.RBF("triton"), huge, huge)


def formula(torch, name, x, y, params):
    """The matrix in PyTorch, to be differentiated once, with zero as slope of the root at zero."""
    y = x if y is None else y
    s = (((x[:, None] - y[None]) / params["lengthscale"]) ** 2).sum(-1)
    tie = s == 0
    r = torch.where(tie, 0.0, torch.sqrt(torch.where(tie, 1.0, s)))
    t, q = 3**0.5 * r, 5**0.5 * r
    values = {
        "RBF": lambda: torch.exp(-s / 2),
        "Matern12": lambda: torch.exp(-r),
        "Matern32": lambda: (1 + t) * torch.exp(-t),
        "Matern52": lambda: (1 + q + 5 * s / 3) * torch.exp(-q),
        "RationalQuadratic": lambda: (1 + s / (2 * params["alpha"])) ** -params["alpha"],
    }
    return params["outputscale"] * values[name]()


@pytest.mark.parametrize("name", ["RBF", "Matern32", "Matern52", "RationalQuadratic"])
def test_derivatives_of_both_orders_also_where_points_coincide(name, rng):
    torch = pytest.importorskip("torch")
    a, b, V = (torch.tensor(rng.normal(size=s)) for s in ((4, 2), (3, 2), (3, 1)))
    b[:2] = a[:2]
    scale, out = torch.tensor([0.7, 1.2], dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    inputs = tuple(x.requires_grad_() for x in (a, b, scale, out, V))

    def product(a, b, scale, out, V):
        params = {"lengthscale": scale, "outputscale": out}
        return ops.Kernel(a, b, function(name), params=params) @ V

    assert torch.autograd.gradcheck(product, inputs, check_forward_ad=True)
    # the slope of Matern 3/2 has a kink there, which differences see
    assert torch.autograd.gradgradcheck(product, inputs, atol=1e-4)


def test_derivatives_in_jax(rng):
    jax = pytest.importorskip("jax")
    torch = pytest.importorskip("torch")
    a, b, V = rng.normal(size=(6, 2)), rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    b[:2] = a[:2]
    inputs = (a, b, np.array([0.7, 1.2]), np.array(1.3), V)

    def loss(a, b, scale, out, V):
        K = ops.Kernel(a, b, kernels.Matern52(), 3, 2, params={"lengthscale": scale, "outputscale": out})
        return ((K @ V) ** 2).sum()

    got = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3, 4)))(*map(jax.numpy.asarray, inputs))
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    for x, y in zip(got, torch.autograd.grad(loss(*tensors), tensors), strict=True):
        np.testing.assert_allclose(np.asarray(x), y.numpy(), rtol=1e-9, atol=1e-11)
    hessian = jax.jit(jax.hessian(loss, argnums=2))(*map(jax.numpy.asarray, inputs))
    want = torch.func.hessian(loss, argnums=2)(*(x.detach() for x in tensors))
    np.testing.assert_allclose(np.asarray(hessian), want.numpy(), rtol=1e-9, atol=1e-10)


def test_transformations_of_torch(rng):
    torch = pytest.importorskip("torch")
    x, V = torch.tensor(rng.normal(size=(6, 2))), torch.tensor(rng.normal(size=(6, 2)))

    def loss(scale):
        return ((kernels.matern32(x, lengthscale=scale) @ V) ** 2).sum()

    scales = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    one_by_one = torch.stack([torch.func.grad(loss)(s) for s in scales])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(scales), one_by_one)
    leaf = scales[0].clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(loss(leaf), leaf)[0], one_by_one[0])


def test_questions_run_on_such_operators(backend, rng):
    x, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    K = kernels.matern32(backend.asarray(x), lengthscale=0.7) + 0.1 * ops.Identity(60)
    D = dense("Matern32", x, x, {"lengthscale": 0.7}) + 0.1 * np.eye(60)
    from cola_core.algorithms import CG, SLQ

    got = cola.solve(K, backend.asarray(y), CG(tol=1e-11))
    assert largest_error(values(backend, got), np.linalg.solve(D, y)) < 1e-8
    value = float(cola.logdet(K, SLQ(key=0)))
    assert abs(value - np.linalg.slogdet(D)[1]) < 0.05 * abs(np.linalg.slogdet(D)[1]) + 1
    assert largest_error(values(backend, cola.diag(K)), np.diagonal(D)) < 1e-14


MEMORY = """
import resource, sys
import numpy as np
library = sys.argv[1]
import cola_core
from cola_gpu import kernels
n = 6000
x, v = np.random.default_rng(0).normal(size=(n, 10)), np.ones((n, 1))
if library == "torch":
    import torch
    x, v = torch.tensor(x), torch.tensor(v)
def step(n):
    y = x[:n].clone().requires_grad_() if library == "torch" else x[:n]
    out = kernels.matern52(y, lengthscale=2.0) @ v[:n]
    if library == "torch":
        out.sum().backward()
step(300)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
step(n)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_products_and_gradients_hold_no_matrix(library):
    pytest.importorskip(library)
    ran = subprocess.run([sys.executable, "-c", MEMORY, library], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 24e6 < 6000 * 6000 * 8 / 10


def test_programs_of_jax_hold_no_matrix():
    jax = pytest.importorskip("jax")
    n = 6000
    x, v = jax.numpy.zeros((n, 3)), jax.numpy.ones((n, 1))

    def loss(x, v):
        return ((kernels.matern32(x, lengthscale=2.0) @ v) ** 2).sum()

    for program in (loss, jax.grad(loss)):
        temporaries = jax.jit(program).lower(x, v).compile().memory_analysis().temp_size_in_bytes
        assert temporaries < n * n * 8 / 2


def test_asking_for_what_is_not_there(rng):
    x = rng.normal(size=(5, 2))
    with pytest.raises(BackendError, match=r"RBF\(path='triton'\) needs CUDA tensors of PyTorch; .*numpy"):
        kernels.rbf(x, path="triton")
    with pytest.raises(BackendError, match="CUDA tensors of PyTorch"):
        ops.Kernel(x, None, kernels.RBF("triton")) @ np.ones(5)
    with pytest.raises(UnknownNameError, match="path='cuda' is not known; known are auto, chunked, triton"):
        kernels.RBF(path="cuda")
    with pytest.raises(UnknownNameError, match="no parameter is called 'scale'"):
        ops.Kernel(x, None, kernels.RBF(), params={"scale": 2.0})
    with pytest.raises(ShapeError, match=r"lengthscale has shape \(3,\); it must be \(\), \(1,\) or \(2,\)"):
        kernels.rbf(x, lengthscale=np.ones(3))
    with pytest.raises(ValueError, match="lengthscale must be positive"):
        kernels.rbf(x, lengthscale=-1.0)
    with pytest.raises(TypeError, match="params must be a dict"):
        ops.Kernel(x, None, kernels.RBF(), params=np.ones(2))


@pytest.mark.parametrize("name", ["lengthscale", "outputscale"])
def test_parameters_that_are_not_positive_are_refused(backend, name):
    """The operator is declared positive semidefinite, on every library and whatever gets a gradient."""
    x = backend.asarray(np.ones((3, 2)))
    for bad in (-1.0, 0.0, np.nan, backend.asarray(np.asarray(-1.0))):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            kernels.rbf(x, **{name: bad})
    if backend.name == "torch":
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            kernels.rbf(x, **{name: backend.asarray(np.asarray(-1.0)).requires_grad_()})


def test_triton_asked_for_without_a_device_says_what_is_missing(monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a device here")
    from cola_gpu.kernels import paths

    monkeypatch.setattr(paths, "interpreting", lambda: False)
    x = torch.zeros((5, 2))
    monkeypatch.setattr(paths, "_installed", lambda: True)
    with pytest.raises(BackendError, match="PyTorch finds no CUDA device here"):
        kernels.rbf(x, path="triton")
    monkeypatch.setattr(paths, "_installed", lambda: False)
    with pytest.raises(
        BackendError, match=r"Triton, which is not installed: pip install 'cola-gpu\[triton\]'"
    ):
        kernels.rbf(x, path="triton")


def test_descriptions_name_the_path(rng):
    K = kernels.rbf(rng.normal(size=(5, 2)), path="chunked")
    assert "products=in place" in str(K.describe()) and "path='chunked'" in str(K.describe())
    assert hash(kernels.RBF()) == hash(kernels.RBF()) and kernels.RBF() != kernels.Matern12()
    assert K.isa(cola.PSD) and not kernels.rbf(K.x1, K.x1).isa(cola.PSD)


def test_importing_takes_no_array_library():
    code = "import sys, cola_gpu.kernels as k; k.RBF(); print({'torch', 'jax', 'triton'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_second_derivatives_where_distributed_tensors_are_known():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.distributed.tensor")  # then backward passes look for them among what was saved
    x = torch.linspace(0, 1, 10, dtype=torch.float64).reshape(5, 2).requires_grad_()

    def total(y):
        return (kernels.matern52(x.detach(), y) @ torch.ones(5, dtype=torch.float64)).sum()

    (g,) = torch.autograd.grad(total(x), x, create_graph=True)
    (second,) = torch.autograd.grad(g.sum(), x)
    torch.testing.assert_close(second, torch.func.hessian(total)(x.detach()).sum((0, 1)))

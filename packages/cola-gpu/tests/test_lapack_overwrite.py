"""`gelqf(A, overwrite=True)`: where Q and the gradient lie, who is left alone, and the memory it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import BackendError, SingularMatrixError
from cola_gpu import lapack

SHAPES = [(3, 5), (4, 4), (1, 1), (2, 3, 7), (2, 2, 1, 4), (0, 4), (2, 0, 3), (130, 150)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_same_values_in_the_same_memory(rng, name, shape, dtype):
    if name == "torch":
        pytest.importorskip("torch")
    be = get_backend(name)
    A, Qbar = rng.standard_normal((2, *shape)).astype(dtype)
    Lbar = rng.standard_normal((*shape[:-1], shape[-2])).astype(dtype)
    Q0, L0 = lapack.gelqf(A)
    G0 = lapack.gelqf_backward(Q0, L0, Qbar, Lbar) if A.size else Qbar
    a, qbar = be.asarray(A.copy()), be.asarray(Qbar.copy())
    Q, L = lapack.gelqf(a, overwrite=True)
    assert Q is a and L.dtype == a.dtype
    tol = 1e-12 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(be.to_numpy(Q), Q0, atol=tol)
    np.testing.assert_allclose(be.to_numpy(L), L0, atol=10 * tol)
    assert (np.triu(be.to_numpy(L), 1) == 0).all()
    G = lapack.gelqf_backward(Q, L, qbar, be.asarray(Lbar), overwrite=True)
    assert G is qbar
    np.testing.assert_allclose(be.to_numpy(G), G0, atol=100 * tol * max(1.0, abs(G0).max(initial=0)))


def test_what_cannot_be_overwritten_is_refused(rng):
    A = rng.standard_normal((3, 5))
    with pytest.raises(BackendError, match="row-major.*ascontiguousarray"):
        lapack.gelqf(np.asfortranarray(A), overwrite=True)
    frozen = A.copy()
    frozen.flags.writeable = False
    with pytest.raises(BackendError, match="read-only"):
        lapack.gelqf(frozen, overwrite=True)
    with pytest.raises(SingularMatrixError, match="was overwritten"):
        lapack.gelqf(np.ones((2, 3)), overwrite=True)


def test_jax_is_referred_to_donation():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(BackendError, match="donate_argnums"):
        lapack.gelqf(jnp.ones((2, 3)), overwrite=True)


def test_torch_refusals(rng):
    torch = pytest.importorskip("torch")
    A = torch.tensor(rng.standard_normal((3, 5)))
    with pytest.raises(BackendError, match=r"strides.*contiguous\(\)"):
        lapack.gelqf(torch.tensor(rng.standard_normal((5, 3))).T, overwrite=True)
    leaf = A.clone().requires_grad_()
    with pytest.raises(BackendError, match=r"leaf that requires grad.*clone\(\)"):
        lapack.gelqf(leaf, overwrite=True)
    with pytest.raises(BackendError, match="view that requires grad"):
        lapack.gelqf((leaf * 1)[:2], overwrite=True)
    with pytest.raises(BackendError, match="overwrite=False"):
        torch.func.vmap(lambda A: lapack.gelqf(A, overwrite=True).L)(A.expand(2, 3, 5).clone())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(A.clone(), A.clone())
        with pytest.raises(BackendError, match="reverse mode only"):
            lapack.gelqf(dual, overwrite=True)
    with torch.no_grad():  # a leaf may be overwritten by who says that nothing is recorded
        assert lapack.gelqf(leaf, overwrite=True).Q is leaf
    B = leaf.detach().requires_grad_()
    C = B.exp()
    lapack.gelqf(C, overwrite=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        C.sum().backward()  # exp wants its result back, which is Q now: PyTorch says so


class Recorded:
    """A leaf X, `A = 2 X` overwritten, and weights of a loss."""

    def __init__(self, rng, shape=(6, 9)):
        import torch

        self.X = torch.tensor(rng.standard_normal(shape), requires_grad=True)
        self.W = torch.tensor(rng.standard_normal(shape))
        self.V = torch.tensor(rng.standard_normal((*shape[:-1], shape[-2])))

    def factors(self, overwrite):
        return lapack.gelqf(2 * self.X, overwrite=overwrite)

    def gradient(self, loss, overwrite=True, **options):
        import torch

        Q, L = self.factors(overwrite)
        return torch.autograd.grad(loss(Q, L), self.X, **options)[0]


LOSSES = {
    "both": lambda p: lambda Q, L: (Q * p.W).sum() + (L * p.V).sum(),
    "Q alone": lambda p: lambda Q, L: (Q * p.W).sum(),
    "L alone": lambda p: lambda Q, L: (L * p.V).sum(),
    "Q twice": lambda p: lambda Q, L: (Q * p.W).sum() + (Q**3).sum() + L.sum(),
    "a sum with another": lambda p: lambda Q, L: ((Q + 3 * p.X) * p.W).sum() + (L * p.V).sum(),
    "an expanded cotangent": lambda p: lambda Q, L: Q.sum() + L.sum(),
}


@pytest.mark.parametrize("shape", [(6, 9), (2, 3, 4)])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_through_the_overwriting_form(rng, name, shape):
    torch = pytest.importorskip("torch")
    p = Recorded(rng, shape)
    loss = LOSSES[name](p)
    torch.testing.assert_close(p.gradient(loss), p.gradient(loss, overwrite=False), atol=1e-12, rtol=1e-12)


def test_a_cotangent_of_ones_own_is_overwritten_and_no_other(rng):
    torch = pytest.importorskip("torch")
    from cola_gpu.lapack import torch_buffers

    seen = []
    original = torch_buffers.exclusive

    def spy(g, references):
        seen.append(original(g, references))
        return seen[-1]

    p = Recorded(rng)
    exact = p.gradient(LOSSES["both"](p), overwrite=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_buffers, "exclusive", spy)
        # made in the backward pass, and seen by nobody else
        torch.testing.assert_close(p.gradient(LOSSES["both"](p)), exact)
        assert seen.pop() is (torch_buffers._unshared() is not None)
        # the caller's
        given = p.W.clone()
        Q, L = p.factors(True)
        torch.testing.assert_close(torch.autograd.grad((Q, L), p.X, (given, p.V))[0], exact)
        assert seen.pop() is False and torch.equal(given, p.W)
        # a hook's
        Q, L = p.factors(True)
        kept: list = []
        Q.register_hook(kept.append)
        torch.testing.assert_close(torch.autograd.grad((Q * p.W).sum() + (L * p.V).sum(), p.X)[0], exact)
        assert seen.pop() is False and torch.equal(kept[0], p.W)
        # one that is asked for beside
        Q, L = p.factors(True)
        g, qbar = torch.autograd.grad((Q * p.W).sum() + (L * p.V).sum(), (p.X, Q))
        torch.testing.assert_close(g, exact)
        assert seen.pop() is False and torch.equal(qbar, p.W)
        # retained
        Q, L = p.factors(True)
        Q.retain_grad()
        ((Q * p.W).sum() + (L * p.V).sum()).backward()
        torch.testing.assert_close(p.X.grad, exact)
        assert torch.equal(Q.grad, p.W)
        # the graph used twice
        Q, L = p.factors(True)
        value = (Q * p.W).sum() + (L * p.V).sum()
        first = torch.autograd.grad(value, p.X, retain_graph=True)[0]
        torch.testing.assert_close(torch.autograd.grad(value, p.X)[0], first)


def test_second_derivatives_of_the_overwriting_form(rng):
    torch = pytest.importorskip("torch")
    p = Recorded(rng, (2, 4))
    found = []
    for overwrite in (True, False):
        g = p.gradient(lambda Q, L: (Q**3).sum() + (L * p.V).sum(), overwrite, create_graph=True)
        found.append(torch.autograd.grad((g * p.W).sum(), p.X)[0])
    torch.testing.assert_close(*found, atol=1e-11, rtol=1e-11)


# --- memory ----------------------------------------

PROGRAM = """
import sys
from cola_gpu import lapack

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

def made(library, *shape):
    if library == "torch":
        import torch
        return torch.empty(shape, dtype=torch.float64).normal_()
    import numpy as np
    out = np.empty(shape)
    for row in out:
        row[:] = np.random.standard_normal(shape[1])
    return out

def explicit(A, Qbar, Lbar):
    Q, L = lapack.gelqf(A, overwrite=True)
    assert lapack.gelqf_backward(Q, L, Qbar, Lbar, overwrite=True) is Qbar

def recorded(X, W, V):
    import torch
    class Handed(torch.autograd.Function):  # a recorded tensor without a copy of X
        @staticmethod
        def forward(ctx, X, handle):
            ctx.mark_dirty(X)
            return X
        @staticmethod
        def backward(ctx, g):
            return None, g.sum()
    handle = torch.ones((), dtype=torch.float64, requires_grad=True)
    Q, L = lapack.gelqf(Handed.apply(X, handle), overwrite=True)
    ((Q * W).sum() + L.sum()).backward()

library, mode = sys.argv[1:]
if library == "torch":
    import torch
    torch.set_num_threads(1)
run = {"explicit": explicit, "recorded": recorded}[mode]

def all_of(m, n):
    return [made(library, m, n), made(library, m, n), made(library, m, m)]

run(*all_of(60, 100))
m, n = 1000, 8000
arrays = all_of(m, n)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts from here
before = status("VmRSS")
run(*arrays)
print((status("VmHWM") - before) / (8 * m * n))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak of the resident set")
@pytest.mark.parametrize(
    "library,mode,limit", [("numpy", "explicit", 0.6), ("torch", "explicit", 0.6), ("torch", "recorded", 1.6)]
)
def test_forward_and_backward_need_little_more_than_their_inputs(library, mode, limit):
    # recorded: one A is the cotangent of Q, in which the gradient of A is returned
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, library, mode], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= limit, "in units of A, 1000 x 8000 in float64"

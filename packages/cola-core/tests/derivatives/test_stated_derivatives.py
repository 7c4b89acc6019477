"""The two ways in which a derivative is stated, ``implicit_solve`` and ``differentiable``, in every mode,
order and nesting that the frameworks have."""

import numpy as np
import pytest

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.pytree import tree_leaves

N = 4


def solved(xp, be):
    """A solve by an iteration beside the dense inverse."""

    def ours(M, b):
        A = cola.PSD(cola.no_dispatch(cola.ops.Dense((M + M.T) / 2)))
        return (cola.solve(A, b, cola.CG(tol=1e-14)) ** 3).sum()

    def dense(M, b):
        return ((xp.linalg.inv((M + M.T) / 2) @ b) ** 3).sum()

    return ours, dense


def stated(transposed):
    def make(xp, be):
        """A determinant whose derivative is stated; a Python number and two operators are in it."""

        def inverse(A, rhs):
            return be.implicit_solve(A, lambda A, b: (xp.linalg.inv(A.to_dense()) @ b, None), rhs)[0]

        def tangent(d, inputs, outputs):
            assert d.moves(0)
            X = inverse(inputs[0], d.product(0, be.eye(N, inputs[0].dtype)))
            return ((X * be.eye(N, inputs[0].dtype)).sum(),)

        def cotangent(grads, inputs, outputs):
            eye = be.eye(N, inputs[0].dtype)
            return ([(inverse(inputs[0].H, eye) * grads[0], eye)],)

        def run(A):
            return (xp.linalg.slogdet(A.to_dense())[1],), None

        def ours(M, b):
            A = cola.ops.Dense((M + M.T) / 2) * 2.0 + cola.ops.Diagonal(b**2)
            (value,), _ = be.differentiable(run, tangent, A, cotangent=cotangent if transposed else None)
            return value**2

        def dense(M, b):
            L = xp.linalg.cholesky(M + M.T + xp.diag(b**2))
            return (2 * xp.log(xp.diagonal(L)).sum()) ** 2

        return ours, dense

    make.__name__ = f"stated-transposed-{transposed}"
    return make


def moved(xp, be):
    """A product with the adjoint, and a second input, an array, which may stand still."""

    def tangent(d, inputs, outputs):
        A, b = inputs
        out = d.adjoint(0, b[:, None])[:, 0]
        return (out + A.H @ d[1] if d.moves(1) else out,)

    def ours(M, b):
        A = cola.ops.Kronecker(cola.ops.Dense(M[:2, :2]), cola.ops.Dense(M[2:, 2:]))
        (y,), _ = be.differentiable(lambda A, b: ((A.H @ b,), None), tangent, A, b)
        (z,), _ = be.differentiable(lambda A, b: ((A.H @ b,), None), tangent, A, be.zeros((N,), M.dtype) + 1)
        return (y**3).sum() + (z**2).sum()

    def dense(M, b):
        K = xp.kron(M[:2, :2], M[2:, 2:])
        return ((K.T @ b) ** 3).sum() + ((K.T @ xp.ones_like(b)) ** 2).sum()

    return ours, dense


CASES = [solved, stated(False), stated(True), moved]


def arrays(rng):
    M, V = rng.standard_normal((2, N, N))
    return M @ M.T + N * np.eye(N), rng.standard_normal(N), V, rng.standard_normal(N)


def same(got, want):
    for g, w in zip(got, want, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert np.isfinite(g).all() and np.abs(g - w).max() <= 1e-8 * max(np.abs(w).max(), 1.0), (g, w)


TORCH = {
    "grad": lambda t, f, M, b, V, v: t.func.grad(f, (0, 1))(M, b),
    "eager": lambda t, f, M, b, V, v: t.autograd.functional.jacobian(f, (M, b)),
    "eager-hessian": lambda t, f, M, b, V, v: t.autograd.functional.hessian(f, (M, b)),
    "jvp": lambda t, f, M, b, V, v: t.func.jvp(f, (M, b), (V, v)),
    "hessian": lambda t, f, M, b, V, v: t.func.hessian(f, (0, 1))(M, b),
    "reverse-reverse": lambda t, f, M, b, V, v: t.func.jacrev(t.func.jacrev(f, (0, 1)), (0, 1))(M, b),
    "reverse-forward": lambda t, f, M, b, V, v: t.func.jacrev(t.func.jacfwd(f, (0, 1)), (0, 1))(M, b),
    "vmap-grad": lambda t, f, M, b, V, v: t.func.vmap(t.func.grad(f, (0, 1)))(
        t.stack([M, 2 * M]), t.stack([b, v])
    ),
    "grad-vmap": lambda t, f, M, b, V, v: t.func.grad(
        lambda M, b: t.func.vmap(f, (None, 0))(M, t.stack([b, v])).sum(), (0, 1)
    )(M, b),
    "third": lambda t, f, M, b, V, v: t.func.jvp(lambda M: t.func.hessian(f)(M, b), (M,), (V,)),
    "eager-over-func": lambda t, f, M, b, V, v: _eager_over_func(t, f, M, b, V),
    "dual-numbers": lambda t, f, M, b, V, v: _dual(t, f, M, b, V, v),
}


def _eager_over_func(t, f, M, b, V):
    M = M.clone().requires_grad_()
    return t.autograd.grad((t.func.grad(f)(M, b) * V).sum(), M)


def _dual(t, f, M, b, V, v):
    forward = t.autograd.forward_ad
    M = M.clone().requires_grad_()
    with forward.dual_level():
        tangent = forward.unpack_dual(f(forward.make_dual(M, V), forward.make_dual(b, v))).tangent
    return [tangent.detach(), *t.autograd.grad(tangent, M)]


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mode", TORCH)
def test_torch(mode, make, rng):
    torch = pytest.importorskip("torch")
    ours, dense = make(torch, get_backend("torch"))
    given = [torch.as_tensor(x) for x in arrays(rng)]
    got, want = (torch.utils._pytree.tree_leaves(TORCH[mode](torch, f, *given)) for f in (ours, dense))
    same([x.detach() for x in got], [x.detach() for x in want])


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
def test_torch_forward_over_forward(make, rng):
    """Against differences: torch 2.13 itself loses terms here (of ``linalg.solve``)."""
    torch = pytest.importorskip("torch")
    ours, dense = make(torch, get_backend("torch"))
    M, b, V, v = (torch.as_tensor(x) for x in arrays(rng))
    jvp = torch.func.jvp
    got = jvp(lambda M, b: jvp(ours, (M, b), (V, v))[1], (M, b), (V, v))[1]
    h = 1e-3
    f = [dense(M + i * h * V, b + i * h * v) for i in (-2, -1, 0, 1, 2)]
    want = (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * h**2)
    assert abs(got - want) < 1e-5 * max(abs(want), 1)


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
def test_torch_gradcheck(make, rng):
    torch = pytest.importorskip("torch")
    ours, _ = make(torch, get_backend("torch"))
    given = tuple(torch.as_tensor(x).requires_grad_() for x in arrays(rng)[:2])
    assert torch.autograd.gradcheck(ours, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, given, check_fwd_over_rev=True)


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
def test_jax(make, rng):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        ours, dense = make(jax.numpy, get_backend("jax"))
        M, b, V, v = (jax.numpy.asarray(x) for x in arrays(rng))

        def everything(f):
            stacked = jax.numpy.stack([M, 2 * M]), jax.numpy.stack([b, v])
            return jax.jit(
                lambda M, b: (
                    jax.grad(f, (0, 1))(M, b),
                    jax.jvp(f, (M, b), (V, v)),
                    jax.hessian(f)(M, b),
                    jax.jacrev(jax.jacrev(f))(M, b),
                    jax.vmap(jax.grad(f, (0, 1)))(*stacked),
                )
            )(M, b)

        same(jax.tree_util.tree_leaves(everything(ours)), jax.tree_util.tree_leaves(everything(dense)))


def test_what_is_not_differentiated_is_not_recorded(backend):
    """``run`` is called as it is where no derivative can be wanted, and never inside a graph."""
    be = backend
    seen = []

    def run(A):
        seen.append(be.differentiating(*tree_leaves(A)))
        return (A @ be.xp.ones_like(be.zeros((2,), "float64")),), "told"

    A = cola.ops.Diagonal(be.asarray([1.0, 2.0]))
    (_,), told = be.differentiable(run, None, A)
    assert told == "told" and seen == [False]
    if be.name == "torch":
        A = cola.ops.Diagonal(be.asarray([1.0, 2.0]).requires_grad_())
        (y,), told = be.differentiable(run, lambda d, i, o: (d.product(0, be.eye(2, "float64")[:, 0]),), A)
        assert told == "told" and seen == [False, False] and y.requires_grad

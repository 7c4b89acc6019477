"""What peers of this library answer wrongly, as regression tests: gradients that are zero or None, second
derivatives that are zero or wrong, and leaves that a structure forgets."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from zoo import installed
from zoo.common import spd

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import check_derivatives

LIBRARIES = pytest.mark.parametrize(
    "library",
    [
        pytest.param(x, marks=pytest.mark.skipif(not installed(x), reason=f"{x} is not installed"))
        for x in ("torch", "jax")
    ],
)
torch_only = pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
SECOND = ("reverse", "reverse-reverse", "forward-reverse")


def _symmetric(rng, n):
    d = rng.normal(size=(n, n))
    return d + d.T


@torch_only
def test_both_the_matrix_and_the_right_side_have_gradients_through_cg(rng):
    """In a peer, b's is None where A has one, and an error where it has none."""
    import torch

    a = spd(rng, 6)
    A, b = torch.tensor(a, requires_grad=True), torch.tensor(rng.normal(size=6), requires_grad=True)
    x = cola.solve(cola.PSD(ops.Dense(A)), b, cola.CG(tol=1e-12))
    gA, gb = torch.autograd.grad(x.sum(), (A, b))
    u = np.linalg.solve(a, np.ones(6))
    np.testing.assert_allclose(gb.numpy(), u, rtol=1e-8)
    np.testing.assert_allclose(gA.numpy(), -np.outer(u, x.detach().numpy()), rtol=1e-7, atol=1e-12)
    (gb,) = torch.autograd.grad(cola.solve(cola.PSD(ops.Dense(A.detach())), b, cola.CG(tol=1e-12)).sum(), b)
    np.testing.assert_allclose(gb.numpy(), u, rtol=1e-8)


@LIBRARIES
def test_second_derivatives_through_cg_are_those_of_the_solution(library, rng):
    """In a peer they are silently those of a function with A fixed."""
    be, a, b = get_backend(library), spd(rng, 5), rng.normal(size=5)

    def loss(x):
        y = cola.solve(cola.PSD(ops.Dense(x[0])), x[1], cola.CG(tol=1e-13))
        return be.xp.sum(y * y * y)

    along = [[_symmetric(rng, 5), rng.normal(size=5)] for _ in range(2)]
    jit = library == "jax"
    modes = SECOND[2:] if jit else SECOND
    check_derivatives(
        be,
        loss,
        lambda x: np.sum(np.linalg.solve(*x) ** 3),
        [a, b],
        modes,
        directions=along,
        jit=jit,
        rtol=1e-5,
    )


@LIBRARIES
@pytest.mark.parametrize("question", ["exp", "log"])
def test_slq_differentiates_the_function_it_was_asked_for(library, question, rng):
    """A peer returns the log-determinant's gradient for every function. Signs on all coordinates of a
    diagonal matrix have no variance, so that the estimate and its derivative are exact."""
    if library == "jax" and question == "log":
        pytest.skip("JAX compiles each; one is asked")
    be, d = get_backend(library), rng.uniform(1, 3, size=8)
    f, derivative = {"exp": (cola.exp, np.exp), "log": (cola.log, lambda x: 1 / x)}[question]
    alg = cola.SLQ(key=3)

    def loss(x):
        A = cola.PSD(cola.no_dispatch(cola.PSD(ops.Diagonal(x))))
        return be.xp.real(cola.trace(f(A, cola.Lanczos()), alg)) if question == "exp" else cola.logdet(A, alg)

    if library == "torch":
        import torch

        x = be.asarray(d).requires_grad_()
        (got,) = torch.autograd.grad(loss(x), x)
    else:
        import jax

        got = jax.grad(loss)(be.asarray(d))
    np.testing.assert_allclose(be.to_numpy(got), derivative(d), rtol=1e-6)


@LIBRARIES
def test_a_field_that_is_none_once_is_data_the_next_time(library, rng):
    """A peer settles which attributes are arrays by the first instance: its later gradients are values."""
    be = get_backend(library)
    c, r = rng.normal(size=4), rng.normal(size=4)
    U, V = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    v = be.asarray(rng.normal(size=4))
    first = [ops.Toeplitz(be.asarray(c)), ops.LowRank(be.asarray(U)), ops.Tridiagonal(be.asarray(c[:3]), v)]
    for A, fields in zip(first, (("column",), ("U",), ("alpha", "beta")), strict=True):
        _gradient_is_an_operator(be, A, fields, v)
    then = [
        ops.Toeplitz(be.asarray(c), be.asarray(r)),
        ops.LowRank(be.asarray(U), be.asarray(V)),
        ops.Tridiagonal(be.asarray(c[:3]), v, be.asarray(r[:3])),
    ]
    for A, fields in zip(then, (("column", "row"), ("U", "V"), ("alpha", "beta", "gamma")), strict=True):
        _gradient_is_an_operator(be, A, fields, v)


def _gradient_is_an_operator(be, A, fields, v):
    step = 1e-6
    if be.name == "jax":
        import jax

        G = jax.grad(lambda A: be.xp.sum((A @ v) ** 2))(A)
        assert type(G) is type(A)
        found = {name: getattr(G, name) for name in fields}
    else:
        import torch

        arrays = {name: getattr(A, name).clone().requires_grad_() for name in fields}
        y = (A.replace(**arrays) @ v).square().sum()
        found = dict(zip(arrays, torch.autograd.grad(y, list(arrays.values())), strict=True))
    for name in fields:
        x = be.to_numpy(getattr(A, name))
        for i in np.ndindex(*x.shape):
            ends = []
            for s in (step, -step):
                moved = x.copy()
                moved[i] += s
                y = be.to_numpy(A.replace(**{name: be.asarray(moved)}) @ v)
                ends.append(np.sum(y**2))
            got = be.to_numpy(found[name])[i]
            assert abs(got - (ends[0] - ends[1]) / (2 * step)) < 1e-6 * max(1, abs(got)), (type(A), name, i)


@LIBRARIES
@pytest.mark.parametrize("question", ["inv_quad", "inv_quad_logdet"])
@pytest.mark.parametrize("alg", ["auto", "cg"])
def test_hessians_of_quadratic_forms_are_not_zero(library, question, alg, rng):
    """In a peer they are exactly zero, and documented as twice differentiable."""
    if library == "jax" and (alg, question) != ("cg", "inv_quad"):
        pytest.skip("JAX compiles each; one is asked")
    be, a, b = get_backend(library), spd(rng, 5), rng.normal(size=(5, 1))
    chosen = {"auto": cola.Auto(), "cg": cola.CG(tol=1e-13)}[alg]
    if question == "inv_quad_logdet":
        chosen = {"auto": cola.Auto(), "cg": cola.Cholesky()}[alg]

    def loss(x):
        A = cola.PSD(ops.Dense(x[0]))
        if question == "inv_quad":
            return be.xp.sum(cola.inv_quad(A, x[1], chosen))
        return sum(be.xp.sum(y) for y in cola.inv_quad_logdet(A, x[1], chosen)[:2])

    def reference(x):
        M, b = x
        quad = np.sum(b * np.linalg.solve(M, b))
        return quad if question == "inv_quad" else quad + np.linalg.slogdet(M)[1]

    along = [[_symmetric(rng, 5), rng.normal(size=(5, 1))] for _ in range(2)]
    jit = library == "jax"
    check_derivatives(be, loss, reference, [a, b], SECOND, directions=along, jit=jit, rtol=1e-5)


@torch_only
def test_the_sum_of_toeplitz_eigenvalues_moves_with_the_first_entry_only():
    """A peer's Lanczos gives (1, 1, 1, 1, 1, 1) for it."""
    import torch

    c = torch.tensor([4.0, 1.0, 0.5, 0.2, 0.1, 0.05], dtype=torch.float64, requires_grad=True)
    A = cola.PSD(ops.Toeplitz(c))
    for alg in (cola.Auto(), cola.Lanczos(), cola.Eigh()):
        w, _ = cola.eigh(A, 6, "LA", alg)
        (g,) = torch.autograd.grad(w.sum(), c)
        np.testing.assert_allclose(g.numpy(), [6, 0, 0, 0, 0, 0], atol=1e-9)
    (g,) = torch.autograd.grad(cola.eigvals(A).real.sum(), c)
    np.testing.assert_allclose(g.numpy(), [6, 0, 0, 0, 0, 0], atol=1e-9)


@LIBRARIES
def test_toeplitz_gradients_are_sums_along_diagonals(library, rng):
    be, n = get_backend(library), 6
    c, b = 3.0 * (np.arange(n) == 0) + 0.5 / (1 + np.arange(n)) ** 2, rng.normal(size=n)

    def loss(x):
        return be.xp.sum(cola.solve(cola.PSD(ops.Toeplitz(x[0])), x[1]) ** 2)

    def reference(x):
        return np.sum(np.linalg.solve(sl.toeplitz(x[0]), x[1]) ** 2)

    check_derivatives(be, loss, reference, [c, b], ("reverse",), jit=library == "jax")


@LIBRARIES
def test_gradients_reach_the_entries_of_sparse_and_batched_leaves(library, rng):
    """Each entry its own, duplicates together; one array that serves a whole batch the batch's sum."""
    be = get_backend(library)
    rows, cols = np.array([2, 0, 1, 1, 0]), np.array([0, 1, 1, 2, 1])  # out of order, (0, 1) twice
    data, X = rng.normal(size=5), rng.normal(size=(2, 3, 2))
    jit = library == "jax"

    def dense(data):
        M = np.zeros((3, 3))
        np.add.at(M, (rows, cols), data)
        return M

    check_derivatives(
        be,
        lambda x: be.xp.sum((ops.Sparse(x[0], rows, cols, (3, 3)) @ x[1]) ** 2),
        lambda x: np.sum((dense(x[0]) @ x[1]) ** 2),
        [data, X],
        ("reverse", "forward-reverse"),
        jit=jit,
    )
    # one factor for a batch of two others
    a, b = spd(rng, 2), np.stack([spd(rng, 3), spd(rng, 3)])

    def batched(x):
        return be.xp.sum(cola.solve(cola.kron(x[0], x[1]), x[2]) ** 2)

    def want(x):
        return sum(np.sum(np.linalg.solve(np.kron(x[0], x[1][i]), x[2][i]) ** 2) for i in range(2))

    check_derivatives(be, batched, want, [a, b, rng.normal(size=(2, 6, 1))], ("reverse",), jit=jit)


@torch_only
def test_parameters_of_a_module_are_not_lost(rng):
    """A module's weights as leaves have their gradients; hidden in a function they are refused by name where
    an implicit derivative would lose them, and right where the function itself is differentiated."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Linear(4, 4, bias=False).double()
    b = torch.tensor(rng.normal(size=4), requires_grad=True)
    shift = 3 * torch.eye(4, dtype=torch.float64)
    y = cola.solve(ops.Dense(net.weight) + ops.ScalarMul(3.0, 4), b, cola.GMRES(tol=1e-12))
    found = torch.autograd.grad(y.square().sum(), (net.weight, b))
    want = torch.autograd.grad(torch.linalg.solve(net.weight + shift, b).square().sum(), (net.weight, b))
    for got, right in zip(found, want, strict=True):
        np.testing.assert_allclose(got.numpy(), right.numpy(), atol=1e-8)
    hidden = ops.FunctionOperator(lambda x: net(x) + 3 * x, (4, 4), "float64", backend="torch")
    with pytest.raises(cola.errors.NotDifferentiableError, match="closes over"):
        cola.solve(hidden, b, cola.GMRES())
    with pytest.raises(cola.errors.NotDifferentiableError, match="closes over"):
        cola.solve(hidden + ops.ScalarMul(b[0], 4), b.detach(), cola.GMRES())
    direct = (hidden @ b).sum()
    (g,) = torch.autograd.grad(direct, net.weight)
    np.testing.assert_allclose(g.numpy(), np.tile(b.detach().numpy(), (4, 1)))


@torch_only
def test_a_tensor_that_requires_gradients_does_not_leave_pytorch_silently():
    import torch

    a = torch.eye(3, dtype=torch.float64, requires_grad=True)
    for library in ("numpy", *(["jax"] if installed("jax") else [])):
        with pytest.raises(cola.errors.BackendError, match="detach"):
            ops.Dense(a).to(backend=library)
        with pytest.raises(cola.errors.BackendError, match="detach"):
            get_backend(library).asarray(a)
        assert ops.Dense(a.detach()).to(backend=library).backend.name == library
    with pytest.raises(cola.errors.BackendError, match="torch"):
        cola.solve(ops.Dense(np.eye(3)), a[0])
    with pytest.raises(cola.errors.BackendError, match="torch"):
        ops.Dense(np.eye(3)) @ a[0]
    with pytest.raises(cola.errors.BackendError, match="torch"):
        (a[0, 0] * ops.Dense(np.eye(3))) @ np.ones(3)
    with pytest.raises(cola.errors.BackendError, match="torch"):
        ops.Toeplitz(np.ones(3), a[0]) @ a[0]


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
def test_a_tracer_does_not_meet_numpy_leaves_silently():
    import jax
    import jax.numpy as jnp

    A = ops.Dense(2 * np.eye(3))
    for f in (lambda b: A @ b, lambda b: cola.solve(A, b), lambda b: (b[0] * A) @ np.ones(3)):
        with pytest.raises(cola.errors.BackendError, match="jax"):
            jax.grad(lambda b, f=f: jnp.sum(f(b)))(jnp.ones(3))


def test_numpy_says_which_library_differentiates():
    J = ops.Jacobian(lambda x: np.sin(x), np.ones(3))
    H = ops.Hessian(lambda x: np.sum(x**2), np.ones(3))
    for ask in (lambda: J @ np.ones(3), lambda: H @ np.ones(3), lambda: J.to_dense(), lambda: cola.trace(H)):
        with pytest.raises(cola.errors.BackendError, match="PyTorch or JAX"):
            ask()
    A = ops.Dense(np.eye(3))
    for name in ("requires_grad", "requires_grad_", "grad", "backward"):
        assert not hasattr(A, name)
        with pytest.raises(AttributeError, match="PyTorch or JAX"):
            getattr(A, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        A.nonsense  # noqa: B018


@torch_only
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_what_is_kept_between_products_cuts_no_graph(mode, rng):
    """Transforms, CSR forms and adjoints are kept of an operator: never while a derivative is wanted."""
    import torch
    from torch.autograd import forward_ad

    c, d, v = (torch.tensor(rng.normal(size=6)) for _ in range(3))
    index = np.arange(6)
    made = {
        "circulant": (c, lambda c: ops.Circulant(c)),
        "toeplitz": (c, lambda c: ops.Toeplitz(c, d)),
        "hankel": (c, lambda c: ops.Hankel(c, d)),
        "sparse": (c, lambda c: ops.Sparse(c, index, index[::-1].copy(), (6, 6))),
        "adjoint": (c, lambda c: ops.Toeplitz(c, d).H),
    }
    for name, (x, build) in made.items():
        want = build(torch.ones_like(x)) @ v  # the operators are linear in their data ...
        base = build(torch.zeros_like(x)) @ v
        A = build(x)
        A @ v, A.H @ v  # noqa: B018 - fills what is kept
        if mode == "reverse":
            y = x.clone().requires_grad_()
            B = build(y)
            for _ in range(2):
                (g,) = torch.autograd.grad((B @ v).sum(), y)
            assert abs(g.sum() - (want - base).sum()) < 1e-10, name
            with torch.no_grad():
                B @ v  # noqa: B018
            (g,) = torch.autograd.grad((B @ v).sum(), y)
            assert abs(g.sum() - (want - base).sum()) < 1e-10, name
        else:
            with forward_ad.dual_level():
                B = build(forward_ad.make_dual(x, torch.ones_like(x)))
                for _ in range(2):
                    tangent = forward_ad.unpack_dual(B @ v).tangent
                assert torch.allclose(tangent, want - base), name
                tangent = forward_ad.unpack_dual(A @ forward_ad.make_dual(v, v)).tangent
            assert torch.allclose(tangent, A @ v), name

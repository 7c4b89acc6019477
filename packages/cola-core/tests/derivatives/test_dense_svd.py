"""Derivatives of dense singular value decompositions against differences of NumPy's, at ties too."""

from functools import cache

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import NotDifferentiableError

# singular values, and how many of them the loss takes (between two groups, where it is differentiable)
TIES = {"distinct": ((3.0, 2.0, 1.0), 2), "equal": ((2.0, 2.0, 1.0), 2), "zeros": ((3.0, 0.0, 0.0), 1)}
SHAPES = ((3, 3), (5, 3), (3, 5))


def problem(ties, shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)

    def draw(m, n):
        imaginary = 1j * rng.normal(size=(m, n)) if np.issubdtype(dtype, np.complexfloating) else 0
        return rng.normal(size=(m, n)) + imaginary

    m, n = shape
    s, k = TIES[ties]
    U, V = np.linalg.qr(draw(m, 3))[0], np.linalg.qr(draw(n, 3))[0]
    A = (U * np.array(s)) @ V.conj().T
    D, M, N = draw(m, n), draw(m, m), draw(n, n)
    return [X.astype(dtype) for X in (A, D, M, N, draw(m, n))], k


def loss_of(be, svd, A, k, M, N, W):
    """Projectors onto left and right vectors, and the unitary factor between them; k leading values."""
    U, s, V = svd(A)
    U, V = U[..., :k], V[..., :k]

    def real(x):
        return be.xp.real(x) if be.is_complex(x) else x

    def inner(X, Y):
        return real(be.xp.sum(be.conj(X) * Y))

    one, two, both = be.matmul(U, be.adjoint(U)), be.matmul(V, be.adjoint(V)), be.matmul(U, be.adjoint(V))
    return inner(M, one) + inner(N, two) + inner(W, both) + be.xp.sum(s[..., :k])


def reference(A, k, *weights):
    def svd(A):
        U, s, Vh = np.linalg.svd(A)
        return U, s, Vh.conj().T

    return float(loss_of(get_backend("numpy"), svd, A, k, *weights))


def differences(A, D, k, *weights, h=1e-3):
    f = [reference(A + i * h * D, k, *weights) for i in (-2, -1, 0, 1, 2)]
    return (f[0] - 8 * f[1] + 8 * f[3] - f[4]) / (12 * h), (
        -f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]
    ) / (12 * h * h)


def torch_derivatives(arrays, k, full):
    import torch

    be = get_backend("torch")
    A, D, *weights = map(torch.as_tensor, arrays)

    def loss(t):
        return loss_of(be, lambda A: be.svd(A, full), A + t * D, k, *weights)

    t = torch.zeros((), dtype=be.real_dtype(A.dtype), requires_grad=True)
    first = torch.autograd.grad(loss(t), t, create_graph=True)[0]
    (second,) = torch.autograd.grad(first, t)
    t = t.detach()
    return first, second, torch.func.jvp(loss, (t,), (torch.ones_like(t),))[1], torch.func.hessian(loss)(t)


def jax_derivatives(arrays, k, full):
    import jax.numpy as jnp

    return _jax_program(k, full)(*map(jnp.asarray, arrays))


@cache
def _jax_program(k, full):
    import jax
    import jax.numpy as jnp

    be = get_backend("jax")

    def all_four(A, D, *weights):
        def loss(t):
            return loss_of(be, lambda A: be.svd(A, full), A + t * D, k, *weights)

        t = jnp.zeros((), be.real_dtype(A.dtype))
        reverse = jax.grad(loss)
        return (
            reverse(t),
            jax.grad(reverse)(t),
            jax.jvp(loss, (t,), (jnp.ones_like(t),))[1],
            jax.hessian(loss)(t),
        )

    return jax.jit(all_four)


JAX_CASES = {
    ("equal", (5, 3)): [(np.float64, False)],
    ("zeros", (5, 3)): [(np.float64, False)],
    ("zeros", (3, 5)): [(np.complex128, True)],
}
DERIVATIVES = {"torch": torch_derivatives, "jax": jax_derivatives}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("library", DERIVATIVES)
def test_what_does_not_see_the_basis_is_exact_at_ties(library, ties, shape):
    pytest.importorskip(library)
    cases = [(dtype, full) for dtype in (np.float64, np.complex128) for full in (False, True)]
    if library == "jax":  # one program takes seconds to compile
        cases = JAX_CASES.get((ties, shape), [])
    for dtype, full in cases:
        (A, D, *weights), k = problem(ties, shape, dtype)
        one, two = differences(A, D, k, *weights)
        first, second, forward, forward_second = map(float, DERIVATIVES[library]((A, D, *weights), k, full))
        assert first == pytest.approx(one, rel=1e-7, abs=1e-8)
        assert forward == pytest.approx(one, rel=1e-7, abs=1e-8)
        assert second == pytest.approx(two, rel=1e-5, abs=1e-5)
        assert forward_second == pytest.approx(two, rel=1e-5, abs=1e-5)


def test_single_precision():
    pytest.importorskip("torch")
    (A, D, *weights), k = problem("equal", (5, 3))
    one, two = differences(A, D, k, *weights)
    first, second, *_ = torch_derivatives([X.astype(np.float32) for X in (A, D, *weights)], k, False)
    assert float(first) == pytest.approx(one, rel=1e-4) and float(second) == pytest.approx(two, rel=2e-3)


def test_losses_without_a_derivative_are_refused():
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    A = torch.diag(torch.tensor([3.0, 3.0, 0.0], dtype=torch.float64))[:, :2].clone().requires_grad_()
    U, s, V = be.svd(A)
    with pytest.raises(NotDifferentiableError, match="equal singular values"):
        U[1, 0].backward(retain_graph=True)
    (U @ V.mT)[2, 0].backward(retain_graph=True)
    assert A.grad[2, 0] == pytest.approx(1 / 3)
    Z = torch.zeros(3, 2, dtype=torch.float64).requires_grad_()
    U, s, V = be.svd(Z)
    with pytest.raises(NotDifferentiableError):  # the vectors of zeros are any
        (U @ U.mT)[0, 2].backward()


@pytest.mark.parametrize("library", DERIVATIVES)
def test_it_is_nan_where_values_cannot_be_seen(library):
    pytest.importorskip(library)
    be = get_backend(library)
    A = be.asarray(np.eye(3)[:, :2])
    depends = lambda A: be.svd(A)[0][1, 0]  # noqa: E731
    fine = lambda A: be.xp.sum(be.svdvals(A)) + be.matmul(*_outer(be, A))[0, 1]  # noqa: E731
    if library == "jax":
        import jax

        grad = lambda f: jax.jit(jax.grad(f))  # noqa: E731
    else:
        import torch

        grad = torch.func.grad
    assert np.isnan(be.to_numpy(grad(depends)(A))).all()
    assert np.isfinite(be.to_numpy(grad(fine)(A))).all()


def _outer(be, A):
    U, _, V = be.svd(A)
    return U, be.adjoint(V)


@pytest.mark.parametrize("dtype", (np.float64, np.complex128))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_checks(shape, dtype):
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    (A, *_), _ = problem("distinct", shape, dtype)
    A = torch.as_tensor(A).requires_grad_()

    def f(A):
        U, s, V = be.svd(A, full=True)
        return s**2, be.svdvals(A) ** 3, U[..., :2] @ V[..., :2].mH, U[..., 3:] @ U[..., 3:].mH

    assert torch.autograd.gradcheck(f, A, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, A, check_fwd_over_rev=True, fast_mode=True)


def test_compiled_and_vectorised():
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    A = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(A):
        U, s, V = be.svd(A)
        return (s**3).sum() + (U @ V.mT)[..., 0, 0].sum()

    expected = torch.func.grad(loss)(A)
    assert torch.allclose(torch.func.vmap(torch.func.grad(loss))(A), expected)
    A = A[0].requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (found,) = torch.autograd.grad(compiled(A), A)
    assert torch.allclose(found, expected[0])

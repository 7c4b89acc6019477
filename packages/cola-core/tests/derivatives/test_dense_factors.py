"""Derivatives of dense LU, QR, LQ, Cholesky and general eigendecompositions: orders, modes, refusals."""

import numpy as np
import pytest

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.errors import NotDifferentiableError

SHAPES = ((3, 3), (4, 2), (2, 4))
DTYPES = (np.float64, np.complex128)


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape)
    if np.issubdtype(dtype, np.complexfloating):
        X = X + 1j * rng.normal(size=shape)
    return X.astype(dtype)


def factors(be, A):
    """Everything smooth in one tuple; the eigenvectors by what does not see their phases."""
    Q, R = be.qr(A)
    L, Z = be.lq(A)
    _, lower, upper = be.lu(A)
    return Q, R, L, Z, lower, upper


def square_factors(be, A):
    n = A.shape[-1]
    w, V = be.eig(A)
    first = V[..., :, :1] * be.conj(V[..., :, :1][..., :1, :])
    spectral = be.xp.sum(w**3, axis=-1) + be.xp.sum(be.eigvals(A) ** 2, axis=-1)
    chol = be.cholesky(be.matmul(A, be.adjoint(A)) + be.eye(n, A.dtype))
    return spectral, be.xp.abs(first), chol


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_checks(dtype):
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    check, again = torch.autograd.gradcheck, torch.autograd.gradgradcheck
    for shape in SHAPES:
        A = torch.as_tensor(draw(shape, dtype)).requires_grad_()
        assert check(lambda A: factors(be, A), A, check_forward_ad=True, fast_mode=True)
        assert again(lambda A: factors(be, A), A, check_fwd_over_rev=True, fast_mode=True)
    A = torch.as_tensor(draw((2, 2, 2), dtype)).requires_grad_()
    for part in range(3):
        assert check(lambda A: square_factors(be, A)[part], A, check_forward_ad=True, fast_mode=True)  # noqa: B023
        assert again(lambda A: square_factors(be, A)[part], A, check_fwd_over_rev=True, fast_mode=True)  # noqa: B023


def _loss(be, parts, weights):
    total = 0
    for X, W in zip(parts, weights, strict=True):
        y = be.asarray(W) * X
        total = total + be.xp.sum(be.xp.real(y) + be.xp.imag(y) if be.is_complex(y) else y)
    return total


@pytest.mark.parametrize("shape", ((4, 2), (2, 4), (3, 3)), ids=str)
def test_both_libraries_agree_and_vectorise(shape):
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    import jax.numpy as jnp

    dtype = np.complex128 if shape != (3, 3) else np.float64
    X = draw((2, *shape), dtype)
    ask = factors if shape != (3, 3) else square_factors
    tb, jb = get_backend("torch"), get_backend("jax")
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=tuple(p.shape)) for p in ask(tb, torch.as_tensor(X[0]))]
    tl = lambda A: _loss(tb, ask(tb, A), weights)  # noqa: E731
    jl = lambda A: _loss(jb, ask(jb, A), weights)  # noqa: E731
    ours = torch.func.vmap(torch.func.grad(tl))(torch.as_tensor(X)).numpy()
    D = draw(shape, dtype, 2)
    slope = torch.func.jvp(torch.func.grad(tl), (torch.as_tensor(X[0]),), (torch.as_tensor(D),))[1].numpy()

    @jax.jit
    def program(X, D):
        return jax.vmap(jax.grad(jl))(X), jax.jvp(jax.grad(jl), (X[0],), (D,))[1]

    theirs, their_slope = program(jnp.asarray(X), jnp.asarray(D))
    assert np.allclose(ours, np.conj(theirs), atol=1e-9)
    assert np.allclose(slope, np.conj(their_slope), atol=1e-8)


def test_semisimple_ties_of_general_matrices():
    """A projector onto the invariant subspace of a double eigenvalue with two vectors, to second order."""
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    X, D, M = (draw((4, 4), seed=i) for i in range(3))
    A = X @ np.diag([3.0, 3.0, 1.0, -0.5]) @ np.linalg.inv(X)

    def reference(t):
        w, V = np.linalg.eig(A + t * D)
        i = np.argsort(-w.real)
        w, V = w[i], V[:, i]
        return np.sum(M * (V[:, :2] @ np.linalg.inv(V)[:2])).real

    def loss(t):
        w, V = be.eig(torch.as_tensor(A) + t * torch.as_tensor(D))
        i = torch.argsort(-w.real)
        V = V[:, i]
        return (torch.as_tensor(M) * (V[:, :2] @ torch.linalg.inv(V)[:2])).sum().real

    h = 1e-3
    f = [reference(k * h) for k in (-2, -1, 0, 1, 2)]
    one = (f[0] - 8 * f[1] + 8 * f[3] - f[4]) / (12 * h)
    two = (-f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]) / (12 * h * h)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(loss(t), t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    assert first.item() == pytest.approx(one, rel=1e-6)
    assert second.item() == pytest.approx(two, rel=1e-4)


def test_what_has_no_derivative_is_refused_by_name():
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    leaf = lambda X: torch.tensor(X, dtype=torch.float64, requires_grad=True)  # noqa: E731
    with pytest.raises(NotDifferentiableError, match="defective"):
        be.eig(leaf([[3.0, 1.0], [0.0, 3.0]]))[0].real.sum().backward()
    with pytest.raises(NotDifferentiableError, match="depends on those before"):
        be.qr(leaf([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]))[0].sum().backward()
    with pytest.raises(NotDifferentiableError, match="row"):
        be.lq(leaf([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]))[0].sum().backward()
    with pytest.raises(NotDifferentiableError, match="pivot"):
        be.lu(leaf([[1.0, 2.0], [2.0, 4.0]]))[1].sum().backward()
    with pytest.raises(NotDifferentiableError, match="phases"):
        (be.eig(leaf([[0.0, 1.0], [-2.0, 0.0]]))[1].real.sum()).backward()
    with pytest.raises(NotImplementedError, match="Schur"):
        cola.schur(leaf([[0.0, 1.0], [-2.0, 0.0]]))


def test_jax_refuses_eagerly_too():
    jax = pytest.importorskip("jax")
    be = get_backend("jax")
    A = be.asarray(np.array([[1.0, 2.0], [2.0, 4.0]]))
    for f in (lambda A: be.lu(A)[2][1, 1] + be.lu(A)[1][1, 0], lambda A: be.qr(A)[0][0, 0]):
        with pytest.raises(NotDifferentiableError):
            jax.grad(f)(A)
    with pytest.raises(NotDifferentiableError, match="defective"):
        jax.grad(lambda A: be.eigvals(A)[0].real)(be.asarray(np.array([[3.0, 1.0], [0.0, 3.0]])))
    with pytest.raises(NotImplementedError, match="Schur"):
        jax.grad(lambda A: be.schur(A)[0][0, 0])(A)
    assert np.isnan(be.to_numpy(jax.jit(jax.grad(lambda A: be.qr(A)[0][0, 1]))(A))).any()


def test_second_derivatives_of_sums_of_eigenvalues_vanish():
    """Where everything cancels, rounding errors are not taken for a dependence on phases."""
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    for ask in (lambda A: be.eigvals(A).sum().real, lambda A: be.eigvalsh((A + A.mH) / 2).sum()):
        A = torch.as_tensor(draw((3, 3), np.complex128)).requires_grad_()
        (G,) = torch.autograd.grad(ask(A), A, create_graph=True)
        (H,) = torch.autograd.grad((G.abs() ** 2).sum(), A)
        assert torch.allclose(H, torch.zeros_like(H), atol=1e-12)

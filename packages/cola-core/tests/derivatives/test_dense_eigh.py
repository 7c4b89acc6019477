"""Derivatives of dense self-adjoint eigendecompositions against differences of NumPy's, at ties too."""

from functools import cache

import numpy as np
import pytest

from cola_core.errors import NotDifferentiableError

GAPS = {"1e-2": 1e-2, "1e-6": 1e-6, "1e-14": 1e-14, "rounding": 0.0, "exact": 0.0}


def tied_problem(gap, dtype=np.float64, n=5, seed=0, large=1.0):
    """A with its two lowest eigenvalues a gap apart, a direction D and the weights M of a projector loss."""
    rng = np.random.default_rng(seed)
    shape = (n, n)
    is_complex = np.issubdtype(dtype, np.complexfloating)

    def draw():
        return rng.normal(size=shape) + (1j * rng.normal(size=shape) if is_complex else 0)

    w = np.array([1.0, 1.0 + GAPS[gap], 2.0, 3.5, 5.0][:n])
    Q = np.linalg.qr(draw())[0]
    A = np.diag(w) if gap == "exact" else (Q * w) @ Q.conj().T
    sym = lambda X: ((X + X.conj().T) / 2).astype(dtype)  # noqa: E731
    return sym(A) * large, sym(draw()) * large, sym(draw()) / large


def projector_loss(A, M):
    V = np.linalg.eigh(A)[1][:, :2]
    return np.real(np.sum(M.conj() * (V @ V.conj().T)))


def differences(A, D, M, h=1e-3):
    """First and second derivative along D, to fourth order."""
    f = [projector_loss(A + k * h * D, M) for k in (-2, -1, 0, 1, 2)]
    return (f[0] - 8 * f[1] + 8 * f[3] - f[4]) / (12 * h), (
        -f[0] + 16 * f[1] - 30 * f[2] + 16 * f[3] - f[4]
    ) / (12 * h * h)


def torch_derivatives(A, D, M):
    import torch

    from cola_core.backends import get_backend

    be = get_backend("torch")
    A, D, M = map(torch.as_tensor, (A, D, M))

    def loss(t):
        V = be.eigh(A + t * D)[1][..., :2]
        return (M.conj() * (V @ V.mH)).sum().real

    t = torch.zeros((), dtype=M.real.dtype, requires_grad=True)
    first = torch.autograd.grad(loss(t), t, create_graph=True)[0]
    (second,) = torch.autograd.grad(first, t)
    t = t.detach()
    forward = torch.func.jvp(loss, (t,), (torch.ones_like(t),))[1]
    return first.item(), second.item(), forward.item(), torch.func.hessian(loss)(t).item()


def jax_derivatives(A, D, M):
    import jax.numpy as jnp

    return tuple(map(float, _jax_program()(*map(jnp.asarray, (A, D, M)))))


@cache
def _jax_program():
    """All four in one program, compiled once for a shape and dtype."""
    import jax
    import jax.numpy as jnp

    from cola_core.backends import get_backend

    be = get_backend("jax")

    def all_four(A, D, M):
        def loss(t):
            V = be.eigh(A + t * D)[1][..., :2]
            return jnp.sum(jnp.conj(M) * (V @ jnp.conj(V.mT))).real

        t = jnp.zeros((), M.real.dtype)
        reverse = jax.grad(loss)
        forward = jax.jvp(loss, (t,), (jnp.ones_like(t),))[1]
        return reverse(t), jax.grad(reverse)(t), forward, jax.hessian(loss)(t)

    return jax.jit(all_four)


DERIVATIVES = {"torch": torch_derivatives, "jax": jax_derivatives}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("library", DERIVATIVES)
def test_the_projector_is_differentiated_at_any_gap(library, gap):
    pytest.importorskip(library)
    for dtype in (np.float64, np.complex128) if gap in ("exact", "1e-6") else (np.float64,):
        A, D, M = tied_problem(gap, dtype)
        one, two = differences(A, D, M)
        first, second, forward, forward_second = DERIVATIVES[library](A, D, M)
        assert first == pytest.approx(one, rel=1e-7, abs=1e-8)
        assert forward == pytest.approx(one, rel=1e-7, abs=1e-8)
        # at small gaps the second derivative cancels terms of 1 / gap
        slack = 1e-5 if gap != "1e-6" else 1e-3
        assert second == pytest.approx(two, rel=slack, abs=slack)
        assert forward_second == pytest.approx(two, rel=slack, abs=slack)


@pytest.mark.parametrize("library", DERIVATIVES)
@pytest.mark.parametrize("large", (1e-200, 2.0**60))
def test_units_do_not_matter(library, large):
    """jax 0.10.2's own rule gives NaN for eigenvalues above 2^53, tied or not."""
    pytest.importorskip(library)
    for gap in ("exact", "1e-2"):
        A, D, M = tied_problem(gap)
        first = DERIVATIVES[library](A * large, D * large, M / large if large > 1 else M)[0]
        expected = differences(A, D, M)[0] / (large if large > 1 else 1)
        assert first == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("library", DERIVATIVES)
def test_single_precision(library):
    pytest.importorskip(library)
    A, D, M = tied_problem("exact")
    one, two = differences(A, D, M)
    first, second, *_ = DERIVATIVES[library](*(X.astype(np.float32) for X in (A, D, M)))
    assert first == pytest.approx(one, rel=1e-4) and second == pytest.approx(two, rel=1e-3)


def test_a_loss_that_depends_on_the_basis_is_refused_by_name():
    torch = pytest.importorskip("torch")
    from cola_core.backends import get_backend

    be = get_backend("torch")
    A = torch.diag(torch.tensor([1.0, 1.0, 3.0], dtype=torch.float64)).requires_grad_()
    w, V = be.eigh(A)
    with pytest.raises(NotDifferentiableError, match="basis of eigenvectors"):
        V[1, 0].backward(retain_graph=True)
    with pytest.raises(NotDifferentiableError, match="functions of the matrix"):
        # V f(w) V^H is differentiable, but what w and V are told does not say how
        M = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
        (M * (V @ torch.diag(w**2) @ V.mT)).sum().backward()
    # symmetric functions of the values are fine, and the whole projector is
    (w[0] * w[1] + (V[:, :2] @ V[:, :2].mT)[0, 2]).backward()
    assert torch.allclose(A.grad, torch.diag(torch.tensor([1.0, 1.0, 0.0]).double()) + _corner(torch))
    # phases of complex eigenvectors are arbitrary as well
    B = torch.diag(torch.arange(3.0)).to(torch.complex128).requires_grad_()
    with pytest.raises(NotDifferentiableError, match="phases"):
        (be.eigh(B)[1].sum() * (1 + 2j)).real.backward()


def _corner(torch):
    G = torch.zeros(3, 3, dtype=torch.float64)
    G[0, 2] = G[2, 0] = -0.25
    return G


@pytest.mark.parametrize("library", DERIVATIVES)
def test_it_is_nan_where_values_cannot_be_seen(library):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    A = be.asarray(np.diag([1.0, 1.0, 3.0]))
    depends = lambda A: be.eigh(A)[1][1, 0]  # noqa: E731
    fine = lambda A: (be.eigh(A)[1][:, 2] ** 2)[0]  # noqa: E731
    if library == "jax":
        import jax

        grad = lambda f: jax.jit(jax.grad(f))  # noqa: E731
    else:
        import torch

        grad = torch.func.grad
    assert np.isnan(be.to_numpy(grad(depends)(A))).all()
    assert np.isfinite(be.to_numpy(grad(fine)(A))).all()


@pytest.mark.parametrize("dtype", (np.float64, np.complex128))
def test_torch_checks(dtype):
    torch = pytest.importorskip("torch")
    from cola_core.backends import get_backend

    be = get_backend("torch")
    rng = np.random.default_rng(3)
    A = rng.normal(size=(2, 3, 3)) + (1j * rng.normal(size=(2, 3, 3)) if dtype == np.complex128 else 0)
    A = torch.as_tensor(A.astype(dtype)).requires_grad_()

    def f(A):
        w, V = be.eigh((A + A.mH) / 2)
        return w**2, be.eigvalsh((A + A.mH) / 2) ** 3, V[..., :2] @ V[..., :2].mH

    assert torch.autograd.gradcheck(f, A, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, A, check_fwd_over_rev=True)


def test_both_libraries_agree_and_vectorise():
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    import jax.numpy as jnp

    from cola_core.backends import get_backend

    rng = np.random.default_rng(4)
    X = rng.normal(size=(3, 4, 4)) + 1j * rng.normal(size=(3, 4, 4))
    W = rng.normal(size=(4, 4))

    def loss(be):
        def of(A):
            w, V = be.eigh((A + be.adjoint(A)) / 2)
            values = be.eigvalsh((A + be.adjoint(A)) / 2)
            return be.xp.sum(be.asarray(W) * be.xp.abs(V) ** 2) + be.xp.sum(w * values**2)

        return of

    tl, jl = loss(get_backend("torch")), loss(get_backend("jax"))
    ours = torch.func.vmap(torch.func.grad(tl))(torch.as_tensor(X)).numpy()
    theirs = jax.vmap(jax.grad(jl))(jnp.asarray(X))
    assert np.allclose(ours, np.conj(theirs), atol=1e-11)  # JAX's gradients are conjugates
    real = X.real.copy()
    ours = torch.func.vmap(torch.func.hessian(tl))(torch.as_tensor(real)).numpy()
    theirs = jax.jit(jax.vmap(jax.hessian(jl)))(jnp.asarray(real))
    assert np.allclose(ours, theirs, atol=1e-9)


def test_compiled():
    torch = pytest.importorskip("torch")
    from cola_core.backends import get_backend

    be = get_backend("torch")
    A = torch.diag(torch.tensor([1.0, 1.0, 2.0, 4.0], dtype=torch.float64)).requires_grad_()
    M = torch.arange(16.0, dtype=torch.float64).reshape(4, 4)

    def loss(A):
        w, V = be.eigh(A)
        return w.sum() ** 2 + (M * (V[:, :2] @ V[:, :2].mT)).sum()

    (expected,) = torch.autograd.grad(loss(A), A)
    (found,) = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(A), A)
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("library", DERIVATIVES)
def test_no_and_one_row(library):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    be = get_backend(library)
    for n in (0, 1):
        A = be.asarray(2 * np.eye(n))
        f = lambda A: be.xp.sum(be.eigvalsh(A) ** 2) + be.xp.sum(be.eigh(A)[1] ** 2)  # noqa: E731
        if library == "torch":
            A.requires_grad_()
            f(A).backward()
            G = A.grad
        else:
            import jax

            G = jax.grad(f)(A)
        assert np.allclose(be.to_numpy(G), 4 * np.eye(n))

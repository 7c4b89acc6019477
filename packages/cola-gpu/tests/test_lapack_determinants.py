"""`inverse, det, slogdet`: values, adjoints, derivatives, and those of the determinant at every rank."""

from __future__ import annotations

import numpy as np
import pytest

from cola_core.errors import NonFiniteError, NonSquareError, NotDifferentiableError, SingularMatrixError
from cola_gpu import lapack

EPS = {"float32": 2e-5, "float64": 1e-12}


def of_rank(rng, n, rank, scale=1.0):
    """Exactly that rank in exact arithmetic: rounding may leave pivots that are not zero."""
    return scale * rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))


def cofactors(A):
    """By minors."""
    n = len(A)
    return np.array(
        [
            [(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(A, i, 0), j, 1)) for j in range(n)]
            for i in range(n)
        ]
    ).reshape(n, n)


def hessian(A):
    """Second derivatives of the determinant by minors of two rows and columns less."""
    n = len(A)
    H = np.zeros((n, n, n, n))
    for i in range(n):
        for j in range(n):
            for k in range(n):
                for m in range(n):
                    if i != k and j != m:
                        minor = np.delete(np.delete(A, [i, k], 0), [j, m], 1)
                        sign = (-1) ** (i + j + k + m) * (1 if (k > i) == (m > j) else -1)
                        H[i, j, k, m] = sign * np.linalg.det(minor)
    return H


def cases(rng):
    regular = rng.standard_normal((4, 4))
    graded = np.diag([1e6, 1.0, 1e-6, 1e-9]) @ regular
    integers = np.array([[1.0, 2, 3, 4], [2, 4, 6, 8], [0, 1, 0, 1], [1, 0, 0, 2]])  # a pivot exactly zero
    return {
        "regular": regular,
        "rank n-1": of_rank(rng, 4, 3),
        "rank n-1, exactly": integers,
        "rank n-2": of_rank(rng, 4, 2),
        "rank n-3": of_rank(rng, 4, 1),
        "zero": np.zeros((4, 4)),
        "all but singular": of_rank(rng, 4, 3) + 1e-10 * regular,
        "graded": graded,
        "orthogonal, tied": np.linalg.qr(regular)[0],
        "one": np.array([[0.0]]),
        "two": np.array([[1.0, 2.0], [2.0, 4.0]]),
    }


NAMES = list(cases(np.random.default_rng(0)))


# --- values and refusals ----------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n,batch", [(0, ()), (0, (2,)), (1, ()), (5, ()), (4, (2, 3))])
def test_values(backend, rng, n, batch, dtype):
    A = (rng.standard_normal((*batch, n, n)) + 3 * np.eye(n)).astype(dtype)
    a, reference = backend.asarray(A), A.astype(np.float64)
    X = lapack.inverse(a)
    d = lapack.det(a)
    sign, logabs = lapack.slogdet(a)
    assert X.dtype == d.dtype == sign.dtype == logabs.dtype == backend.dtype(dtype)
    X, d, sign, logabs = (backend.to_numpy(x) for x in (X, d, sign, logabs))
    np.testing.assert_allclose(X, np.linalg.inv(reference), atol=50 * EPS[dtype])
    np.testing.assert_allclose(d, np.linalg.det(reference), rtol=50 * EPS[dtype])
    np.testing.assert_allclose(sign * np.exp(logabs), np.linalg.det(reference), rtol=50 * EPS[dtype])


def test_singular_and_bad_input(backend, rng):
    singular = np.zeros((2, 3, 3))
    singular[1] = np.eye(3)
    a = backend.asarray(singular)
    with pytest.raises(SingularMatrixError, match="inverse.*pinv"):
        lapack.inverse(a)
    X = backend.to_numpy(lapack.inverse(a, check=False))
    assert np.isnan(X[0]).all() and (X[1] == np.eye(3)).all()
    sign, logabs = (backend.to_numpy(x) for x in lapack.slogdet(a))
    assert sign[0] == 0 and logabs[0] == -np.inf and sign[1] == 1 and logabs[1] == 0
    assert backend.to_numpy(lapack.det(a)).tolist() == [0.0, 1.0]
    for routine in (lapack.inverse, lapack.det, lapack.slogdet):
        with pytest.raises(NonSquareError, match=routine.__name__):
            routine(backend.asarray(np.ones((2, 3))))
        with pytest.raises(NonFiniteError, match=routine.__name__):
            routine(backend.asarray(np.full((2, 2), np.nan)))


# --- adjoints ----------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_det_backward_is_the_matrix_of_cofactors(backend, rng, name):
    A = cases(rng)[name]
    expected = cofactors(A)
    found = lapack.det_backward(backend.asarray(A), backend.asarray(np.array(2.0)))
    scale = max(abs(expected).max(), np.linalg.norm(A, 2) ** (len(A) - 1))
    np.testing.assert_allclose(backend.to_numpy(found), 2 * expected, atol=1e-13 * scale)


def test_det_backward_of_a_batch_in_float32(backend, rng):
    A = np.stack([of_rank(rng, 5, r) for r in (5, 4, 3)])
    expected = np.stack([cofactors(a) for a in A]) * np.array([1.0, -2.0, 3.0])[:, None, None]
    bar = backend.asarray(np.array([1.0, -2.0, 3.0], np.float32))
    found = lapack.det_backward(backend.asarray(A.astype(np.float32)), bar)
    assert found.dtype == backend.dtype("float32")
    np.testing.assert_allclose(backend.to_numpy(found), expected, atol=1e-4 * abs(expected).max())


def test_inverse_and_slogdet_backward(backend, rng):
    A, dA, Xbar = rng.standard_normal((3, 2, 4, 4))
    A += 3 * np.eye(4)
    g, h = rng.standard_normal(2), 1e-6
    Abar = backend.to_numpy(lapack.inverse_backward(*map(backend.asarray, (lapack.inverse(A), Xbar))))
    slope = ((lapack.inverse(A + h * dA) - lapack.inverse(A - h * dA)) * Xbar).sum() / (2 * h)
    assert (Abar * dA).sum() == pytest.approx(slope, rel=1e-7)
    Abar = backend.to_numpy(lapack.slogdet_backward(backend.asarray(A), backend.asarray(g)))
    slope = ((lapack.slogdet(A + h * dA)[1] - lapack.slogdet(A - h * dA)[1]) * g).sum() / (2 * h)
    assert (Abar * dA).sum() == pytest.approx(slope, rel=1e-7)
    with pytest.raises(SingularMatrixError):
        lapack.slogdet_backward(backend.asarray(np.zeros((2, 2))), backend.asarray(np.array(1.0)))


# --- derivatives of the libraries ----------------------------------------


def close(found, expected, A, less):
    scale = max(abs(expected).max(), np.linalg.norm(A, 2) ** max(len(A) - less, 0))
    # beside singular matrices Jacobi's formula is used up to condition numbers of eps^(-1/3)
    assert abs(found - expected).max() <= 1e-10 * scale
    assert abs(found - expected).max() <= 1e-13 * scale or np.linalg.cond(A) < 2e5


@pytest.mark.parametrize("name", NAMES)
def test_torch_gradient_and_hessian_at_every_rank(rng, name):
    torch = pytest.importorskip("torch")
    A = cases(rng)[name]
    x = torch.tensor(A, requires_grad=True)
    (g,) = torch.autograd.grad(lapack.det(x), x, create_graph=True)
    close(g.detach().numpy(), cofactors(A), A, 1)
    D = rng.standard_normal(A.shape)
    expected = np.einsum("ijkl,kl->ij", hessian(A), D)
    if g.requires_grad:
        (gg,) = torch.autograd.grad((g * torch.tensor(D)).sum(), x)
        close(gg.numpy(), expected, A, 2)
    # the same through torch.func, forward over reverse
    found = torch.func.jvp(torch.func.grad(lapack.det), (x.detach(),), (torch.tensor(D),))[1]
    close(found.numpy(), expected, A, 2)


def test_jax_gradient_and_hessian_at_every_rank(rng):
    jax = pytest.importorskip("jax")
    As = np.stack([A for A in cases(rng).values() if A.shape == (4, 4)])
    second = jax.jit(jax.hessian(lapack.det))
    first = jax.jit(jax.grad(lambda A: lapack.det(A).sum()))
    gradients = first(As)  # a batch in which only some are singular
    for A, g in zip(As, gradients, strict=True):
        close(np.asarray(g), cofactors(A), A, 1)
        close(np.asarray(second(A)), hessian(A), A, 2)
    mapped = jax.jit(jax.vmap(jax.grad(lapack.det)))(As)
    np.testing.assert_allclose(mapped, gradients, atol=1e-12 * abs(np.asarray(gradients)).max())


def test_torch_checks_and_vmap(rng):
    torch = pytest.importorskip("torch")
    As = torch.tensor(np.stack([of_rank(rng, 3, r) for r in (3, 2, 1)]), requires_grad=True)
    assert torch.autograd.gradcheck(lapack.det, [As], check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lapack.det, [As], check_fwd_over_rev=True)
    (together,) = torch.autograd.grad(lapack.det(As).sum(), As)
    mapped = torch.func.vmap(torch.func.grad(lapack.det))(As.detach())
    torch.testing.assert_close(mapped, together, atol=1e-13, rtol=1e-12)

    def both(A):
        A = A + 3 * torch.eye(3, dtype=A.dtype)
        return lapack.inverse(A), lapack.slogdet(A).logabsdet

    assert torch.autograd.gradcheck(both, [As], check_forward_ad=True)
    assert torch.autograd.gradgradcheck(both, [As], check_fwd_over_rev=True)
    for one, batched in zip(torch.func.vmap(both)(As.detach()), both(As.detach()), strict=True):
        torch.testing.assert_close(one, batched)
    single = As.detach().float().requires_grad_()
    assert torch.autograd.grad(lapack.det(single).sum(), single)[0].dtype == torch.float32


def test_jax_inverse_and_slogdet(rng):
    jax = pytest.importorskip("jax")
    from jax.test_util import check_grads

    A = jax.numpy.asarray(rng.standard_normal((2, 3, 3)) + 3 * np.eye(3))
    check_grads(jax.jit(lambda A: (lapack.inverse(A), lapack.slogdet(A).logabsdet)), [A], order=2)


def test_third_derivatives_exist_or_are_refused(rng):
    torch = pytest.importorskip("torch")

    def third(A):
        x = torch.tensor(A, requires_grad=True)
        g = lapack.det(x)
        for _ in range(3):
            (g,) = torch.autograd.grad(g.sum(), x, create_graph=True)
        return g

    # det(x) = x00 x11 x22 - ...: its third derivative in the direction of all ones is 6 det(ones) = 0 in sum
    assert abs(third(rng.standard_normal((3, 3))).sum().item()) < 1e-8
    with pytest.raises(NotImplementedError, match="third derivatives"):
        third(of_rank(rng, 3, 2))


def test_singular_matrices_where_there_is_no_derivative(rng):
    torch = pytest.importorskip("torch")
    A = torch.zeros((3, 3), dtype=torch.float64, requires_grad=True)
    value = lapack.slogdet(A).logabsdet
    assert value == -np.inf
    with pytest.raises(NotDifferentiableError, match="slogdet"):
        value.backward()
    found = torch.func.vmap(torch.func.grad(lambda A: lapack.slogdet(A).logabsdet))(
        torch.stack([torch.eye(3), torch.zeros(3, 3)])
    )
    assert torch.equal(found[0], torch.eye(3)) and torch.isnan(found[1]).all()
    X = torch.func.vmap(lapack.inverse)(torch.stack([torch.eye(3), torch.zeros(3, 3)]))
    assert torch.equal(X[0], torch.eye(3)) and torch.isnan(X[1]).all()

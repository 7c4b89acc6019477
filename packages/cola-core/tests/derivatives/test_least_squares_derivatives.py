"""Derivatives of least squares: every shape and rank, dense and by iteration, and ranks that change."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import SingularMatrixError
from cola_core.testing.derivatives import check_derivatives

SHAPES = [(7, 4), (4, 7), (5, 5)]
ALL = [cola.LSTSQ(), cola.LSMR(tol=1e-13), cola.LSQR(tol=1e-13), cola.CGLS(tol=1e-13), cola.CG(tol=1e-13)]


def name(alg):
    return type(alg).__name__


def matrix(m, n, rank, seed=0, complex_=False):
    rng = np.random.default_rng(seed)

    def unitary(k):
        return np.linalg.qr(rng.normal(size=(k, k)) + complex_ * 1j * rng.normal(size=(k, k)))[0]

    S = np.zeros((m, n))
    S[range(rank), range(rank)] = np.linspace(1, 3, rank)
    D = unitary(m) @ S @ unitary(n).conj().T
    return D if complex_ else np.real(D)


def right_side(m, complex_=False):
    rng = np.random.default_rng(4)
    b = rng.normal(size=m)
    return b + 1j * rng.normal(size=m) if complex_ else b


def held(library, alg, shape, rank, complex_, **more):
    """Full rank in the entries; deficient rank in the factors of a product, which keep it."""
    m, n = shape
    w = np.random.default_rng(3).normal(size=n)

    def least(x):
        weights = w
        if library == "torch":
            import torch

            weights = torch.tensor(w)
        return (weights * x.real).sum() + (abs(x) ** 2).sum()

    if rank == min(m, n):
        arrays = [matrix(m, n, rank, 0, complex_), right_side(m, complex_)]

        def loss(found):
            return least(cola.lstsq(ops.Dense(found[0]), found[1], alg))

        def reference(found):
            x = np.linalg.pinv(found[0]) @ found[1]
            return float(w @ x.real + np.sum(np.abs(x) ** 2))
    else:
        U, V = matrix(m, rank, rank, 1, complex_), matrix(rank, n, rank, 2, complex_)
        arrays = [U, V, right_side(m, complex_)]

        def loss(found):
            A = cola.no_dispatch(ops.Dense(found[0]) @ ops.Dense(found[1]))
            return least(cola.lstsq(A, found[2], alg))

        def reference(found):
            x = np.linalg.pinv(found[0] @ found[1], rcond=1e-9) @ found[2]
            return float(w @ x.real + np.sum(np.abs(x) ** 2))

    check_derivatives(library, loss, reference, arrays, **more)


@pytest.mark.parametrize("alg", ALL, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("deficient", [False, True])
@pytest.mark.parametrize("complex_", [False, True])
def test_every_shape_and_rank_on_torch(alg, shape, deficient, complex_):
    pytest.importorskip("torch")
    held("torch", alg, shape, min(shape) - 2 * deficient, complex_)


@pytest.mark.parametrize(("alg", "shape", "complex_"), [(ALL[0], (4, 7), True), (ALL[1], (7, 4), False)])
def test_deficient_rank_on_jax(alg, shape, complex_):
    pytest.importorskip("jax")
    held("jax", alg, shape, 2, complex_, jit=True)


@pytest.mark.parametrize("alg", ALL[:2], ids=name)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_change_of_rank_is_refused_on_torch(alg, shape):
    torch = pytest.importorskip("torch")
    D = torch.tensor(matrix(*shape, 2))
    b = torch.tensor(right_side(shape[0]))

    def loss(D):
        return cola.lstsq(ops.Dense(D), b, alg).square().sum() + cola.lstsq(ops.Dense(D), b, alg).sum()

    with pytest.raises(SingularMatrixError, match="the derivative of lstsq"):
        torch.autograd.grad(loss(D.requires_grad_()), D)
    D = D.detach()
    b.requires_grad_()  # in the right-hand side there is one
    (g,) = torch.autograd.grad(loss(D), b)
    P = torch.linalg.pinv(D, rcond=1e-9)
    torch.testing.assert_close(g, P.T @ (2 * P @ b.detach() + 1))


@pytest.mark.parametrize("alg", ALL[:2], ids=name)
def test_forward_mode_of_deficient_rank(alg):
    """Along a direction that keeps the rank the part in the null space counts; along others: refused."""
    torch = pytest.importorskip("torch")
    D, b = matrix(7, 4, 2), right_side(7)
    step = D @ np.random.default_rng(1).normal(size=(4, 4))
    h = 1e-6
    want = (np.linalg.pinv(D + h * step, rcond=1e-7) @ b - np.linalg.pinv(D - h * step, rcond=1e-7) @ b) / (
        2 * h
    )

    def f(D):
        return cola.lstsq(ops.Dense(D), torch.tensor(b), alg)

    got = torch.func.jvp(f, (torch.tensor(D),), (torch.tensor(step),))[1]
    np.testing.assert_allclose(got.numpy(), want, atol=1e-7)
    change = torch.ones((7, 4), dtype=torch.float64)
    assert torch.func.jvp(f, (torch.tensor(D),), (change,))[1].isnan().all()
    from torch.autograd import forward_ad

    with forward_ad.dual_level(), pytest.raises(SingularMatrixError, match="does not have full rank"):
        f(forward_ad.make_dual(torch.tensor(D), change))


def test_a_change_of_rank_in_jax_is_an_error_or_nan():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    D, b = jnp.asarray(matrix(7, 4, 2)), jnp.asarray(right_side(7))

    def f(D):
        return (cola.lstsq(ops.Dense(D), b, cola.LSTSQ()) ** 2).sum()

    with pytest.raises(SingularMatrixError, match="does not have full rank"):
        jax.grad(f)(D)
    assert bool(jnp.all(jnp.isnan(jax.jit(jax.grad(f))(D))))
    along = jax.jit(lambda D, d: jax.jvp(f, (D,), (d,))[1])
    step = D @ jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))
    h = 1e-6
    sides = [np.linalg.norm(np.linalg.pinv(D + s * step, rcond=1e-7) @ b) ** 2 for s in (h, -h)]
    np.testing.assert_allclose(float(along(D, step)), (sides[0] - sides[1]) / (2 * h), rtol=1e-5)
    assert np.isnan(float(along(D, jnp.ones((7, 4)))))


@pytest.mark.parametrize("damp", [0.0, 0.3])
def test_preconditioner_damping_and_first_guess(damp):
    torch = pytest.importorskip("torch")
    D = torch.tensor(matrix(9, 5, 5), requires_grad=True)
    b = torch.tensor(right_side(9), requires_grad=True)
    P = torch.diag(torch.linspace(0.5, 2, 5, dtype=torch.float64))
    want = torch.linalg.solve(D.mT @ D + damp**2 * torch.eye(5, dtype=torch.float64), D.mT @ b)
    want = torch.autograd.grad(want.square().sum(), (D, b))
    x0 = torch.ones(5, dtype=torch.float64)
    for more in ({"P": ops.Dense(P)}, {"x0": x0}) if not damp else ({},):
        x = cola.lstsq(ops.Dense(D), b, cola.LSMR(tol=1e-13, damp=damp, **more))
        for g, w in zip(torch.autograd.grad(x.square().sum(), (D, b)), want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-7, atol=1e-9)


def test_a_pseudoinverse_as_an_operator_has_these_derivatives():
    torch = pytest.importorskip("torch")
    D = torch.tensor(matrix(7, 4, 4), requires_grad=True)
    b = torch.tensor(right_side(7), requires_grad=True)
    want = torch.autograd.grad((torch.linalg.pinv(D) @ b).square().sum(), (D, b))
    for alg in (cola.LSTSQ(), cola.LSMR(tol=1e-13)):
        got = torch.autograd.grad((cola.pinv(ops.Dense(D), alg) @ b).square().sum(), (D, b))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-7, atol=1e-9)

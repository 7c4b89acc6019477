"""PyTorch derivatives of the LAPACK family: gradcheck, gradgradcheck, forward mode, vmap, ties."""

from __future__ import annotations

import numpy as np
import pytest

from cola_gpu import lapack

torch = pytest.importorskip("torch")


def sym(A):
    return 0.5 * (A + A.mT)


def both_checks(f, *inputs):
    inputs = [torch.tensor(x, requires_grad=True) for x in inputs]
    assert torch.autograd.gradcheck(f, inputs, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, inputs, check_fwd_over_rev=True)


@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (1, 4), (1, 1), (2, 2, 3)])
def test_gelqf(rng, shape):
    both_checks(lambda A: tuple(lapack.gelqf(A)), rng.standard_normal(shape))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n,batch", [(4, ()), (1, ()), (2, (2,))])
def test_potrf(rng, n, batch, lower, spd):
    both_checks(lambda A: lapack.potrf(sym(A), lower=lower), spd(rng, n, batch))


@pytest.mark.parametrize("n,batch", [(4, ()), (1, ()), (2, (2,))])
def test_syevd(rng, n, batch, spd):
    both_checks(lambda A: tuple(lapack.syevd(sym(A))), spd(rng, n, batch))


@pytest.mark.parametrize(
    "transpose,rightside,lower", [(False, False, True), (True, False, False), (False, True, False)]
)
def test_trsm(rng, transpose, rightside, lower):
    A, B = rng.standard_normal((3, 3)) + 3 * np.eye(3), rng.standard_normal((2, 3, 3))
    options = {"transpose": transpose, "rightside": rightside, "lower": lower, "alpha": 0.5}
    both_checks(lambda A, B: lapack.trsm(A, B, **options), A, B)


def test_syrk_and_sumlogdiag(rng, spd):
    both_checks(lambda A: lapack.syrk(A, alpha=0.5), rng.standard_normal((2, 2, 3)))
    both_checks(lapack.sumlogdiag, spd(rng, 3, (2,)))


@pytest.mark.parametrize("name", ["gelqf", "potrf", "syevd", "trsm", "syrk", "sumlogdiag"])
def test_autograd_is_the_explicit_adjoint(rng, name, spd):
    A = torch.tensor(spd(rng, 4, (2,)), requires_grad=True)
    extra = (torch.tensor(rng.standard_normal((2, 4, 3))),) if name == "trsm" else ()
    out = getattr(lapack, name)(A, *extra)
    outs = tuple(out) if isinstance(out, tuple) else (out,)
    bars = [torch.tensor(rng.standard_normal(tuple(o.shape))) for o in outs]
    (got,) = torch.autograd.grad(outs, A, bars)
    before = [A, *outs] if name in ("trsm", "syrk", "sumlogdiag") else list(outs)
    before = [A] if name in ("syrk", "sumlogdiag") else before
    want = getattr(lapack, f"{name}_backward")(*(x.detach() for x in before), *bars)
    want = want[0] if isinstance(want, tuple) else want
    torch.testing.assert_close(got, want, atol=1e-11, rtol=1e-11)


def test_vmap_and_hessian(rng):
    A = torch.tensor(rng.standard_normal((3, 2, 4)))
    for ours, batched in zip(torch.func.vmap(lapack.gelqf)(A), lapack.gelqf(A), strict=True):
        torch.testing.assert_close(ours, batched)

    def loss(a):
        Q, L = lapack.gelqf(a)
        return (Q**3).sum() + lapack.sumlogdiag(L)

    H = torch.func.hessian(loss)(A[0]).reshape(8, 8)
    torch.testing.assert_close(H, H.T, atol=1e-10, rtol=1e-10)
    batched = torch.func.vmap(torch.func.grad(loss))(A)
    torch.testing.assert_close(batched[1], torch.func.grad(loss)(A[1]))


@pytest.mark.parametrize(
    "diagonal", [[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0 + 1e-14, 2.0, 3.0]]
)
def test_ties_give_finite_gradients(diagonal):
    A = torch.diag(torch.tensor(diagonal, dtype=torch.float64)).requires_grad_()
    U, lam = lapack.syevd(A)
    P = U[:2].mT @ U[:2]
    (g,) = torch.autograd.grad((P[0, 1] + P[2, 0]) + (lam**2).sum(), A, create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), A)
    assert torch.isfinite(g).all() and torch.isfinite(gg).all()


def test_gelqf_float32_and_failures_under_transforms(rng):
    A = torch.tensor(rng.standard_normal((3, 5)), dtype=torch.float32, requires_grad=True)
    lapack.gelqf(A).L.sum().backward()
    assert A.grad.dtype == torch.float32
    deficient = torch.ones((2, 2, 3), dtype=torch.float64)
    deficient[1, 0, 0] = 5.0
    L = torch.func.vmap(lambda a: lapack.gelqf(a).L)(deficient)
    assert torch.isnan(torch.tril(L[0])).any() and torch.isfinite(L[1]).all()


@pytest.mark.parametrize("name", ["gelqf", "potrf", "syevd"])
def test_forward_over_forward(rng, name, spd):
    A, D = spd(rng, 4, ()), rng.standard_normal((4, 4))
    A, D = torch.tensor(A), torch.tensor(D + D.T)

    def loss(t):
        out = getattr(lapack, name)(A + t * D)
        return (out if name == "potrf" else out[1]).pow(3).sum()

    def pushed(t):
        return torch.func.jvp(loss, (t,), (torch.ones_like(t),))[1]

    t, step = torch.zeros((), dtype=torch.float64), 1e-3
    expected = (loss(t + step) - 2 * loss(t) + loss(t - step)) / step**2
    found = torch.func.jvp(pushed, (t,), (torch.ones_like(t),))[1]
    assert float(found) == pytest.approx(float(expected), rel=1e-4)

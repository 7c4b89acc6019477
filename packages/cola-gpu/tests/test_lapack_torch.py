"""PyTorch derivatives of the LAPACK family: gradcheck, gradgradcheck, forward mode, vmap, ties."""

from __future__ import annotations

import numpy as np
import pytest

from cola_core.errors import NotDifferentiableError, SingularMatrixError
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


@pytest.mark.parametrize("diagonal", [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0 + 1e-14, 2.0, 3.0]])
def test_second_derivatives_at_ties(rng, diagonal):
    # the two lowest eigenvectors enter through their projector alone, which no tie disturbs
    D, C, E = (torch.tensor(x + x.T) for x in rng.standard_normal((3, 4, 4)))

    def loss(A):
        U = lapack.syevd(A).U[:2]
        return ((U.mT @ U) * C).sum()

    A = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    x = A.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(x), x, create_graph=True)
    (gg,) = torch.autograd.grad((g * D).sum(), x)
    step, mixed = 1e-4, 0.0
    for s, t in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
        V = torch.linalg.eigh(A + s * step * D + t * step * E)[1][:, :2]
        mixed += s * t * float(((V @ V.mT) * C).sum()) / (4 * step**2)
    assert float((gg * E).sum()) == pytest.approx(mixed, rel=1e-5)


def test_gap_tol_of_syevd():
    A = torch.diag(torch.tensor([1.0, 1.0 + 1e-6, 2.0], dtype=torch.float64)).requires_grad_()
    C = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)

    def gradient(rows, gap_tol):
        U = lapack.syevd(A, gap_tol=gap_tol).U[:rows]
        return torch.autograd.grad(((U.mT @ U) * C).sum(), A)[0]

    torch.testing.assert_close(gradient(2, 1e-5), gradient(2, None), rtol=1e-5, atol=1e-5)
    assert abs(gradient(1, None)[0, 1]) > 1e5  # one of them alone turns fast
    with pytest.raises(NotDifferentiableError, match="basis"):
        gradient(1, 1e-5)


def test_a_loss_of_part_of_a_tied_group_is_refused():
    A = torch.zeros((4, 4), dtype=torch.float64, requires_grad=True)
    U, lam = lapack.syevd(A)
    with pytest.raises(NotDifferentiableError, match="basis"):
        torch.autograd.grad(U[0, 1] + 2 * U[1, 0], A, retain_graph=True)
    (g,) = torch.autograd.grad((lam**2).sum(), A)
    assert (g == 0).all()


def test_gelqf_float32_and_failures_under_transforms(rng):
    A = torch.tensor(rng.standard_normal((3, 5)), dtype=torch.float32, requires_grad=True)
    lapack.gelqf(A).L.sum().backward()
    assert A.grad.dtype == torch.float32
    deficient = torch.ones((2, 2, 3), dtype=torch.float64)
    deficient[1, 0, 0] = 5.0
    L = torch.func.vmap(lambda a: lapack.gelqf(a).L)(deficient)
    assert torch.isnan(torch.tril(L[0])).any() and torch.isfinite(L[1]).all()
    with pytest.raises(SingularMatrixError, match="row 1"):
        torch.func.grad(lambda a: lapack.gelqf(a).L.sum())(deficient[0])


@pytest.mark.parametrize("name", ["gelqf", "syevd", "det"])
def test_compiled_gradients(rng, name, spd):
    A = torch.tensor(spd(rng, 3))

    def loss(A):
        out = getattr(lapack, name)(A)
        return sum((x**3).sum() for x in out) if isinstance(out, tuple) else (out**2).sum()

    found = [
        torch.autograd.grad(f(a), a)[0]
        for f in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager"))
        for a in [A.clone().requires_grad_()]
    ]
    torch.testing.assert_close(*found)


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

"""JAX derivatives of the LAPACK family: both modes, second order, jit, vmap, ties."""

from __future__ import annotations

import numpy as np
import pytest

from cola_core.errors import NotDifferentiableError, SingularMatrixError
from cola_gpu import lapack

jax = pytest.importorskip("jax")
jnp = jax.numpy


def sym(A):
    return 0.5 * (A + A.mT)


def check(f, *inputs, thorough=False):
    """Both modes to first order, reverse to second; `thorough`: all combinations to second order."""
    from jax.test_util import check_grads

    inputs = tuple(jnp.asarray(x) for x in inputs)
    if not thorough:
        check_grads(jax.jit(f), inputs, order=1, modes=("fwd",))
    check_grads(jax.jit(f), inputs, order=2, modes=("fwd", "rev") if thorough else ("rev",))


@pytest.mark.parametrize("shape", [(3, 5), (3, 3), (2, 1, 2)])
def test_gelqf(rng, shape):
    check(lambda A: tuple(lapack.gelqf(A)), rng.standard_normal(shape), thorough=shape == (3, 5))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("n,batch", [(4, ()), (1, ()), (2, (2,))])
def test_potrf(rng, n, batch, lower, spd):
    check(lambda A: lapack.potrf(sym(A), lower=lower), spd(rng, n, batch), thorough=lower and n == 4)


@pytest.mark.parametrize("n,batch", [(4, ()), (1, ()), (2, (2,))])
def test_syevd(rng, n, batch, spd):
    check(lambda A: tuple(lapack.syevd(sym(A))), spd(rng, n, batch), thorough=n == 4)


@pytest.mark.parametrize(
    "transpose,rightside,lower", [(False, False, True), (True, False, False), (False, True, False)]
)
def test_trsm(rng, transpose, rightside, lower):
    A, B = rng.standard_normal((3, 3)) + 3 * np.eye(3), rng.standard_normal((2, 3, 3))
    options = {"transpose": transpose, "rightside": rightside, "lower": lower, "alpha": 0.5}
    check(lambda A, B: lapack.trsm(A, B, **options), A, B)


def test_syrk_and_sumlogdiag(rng, spd):
    check(lambda A: lapack.syrk(A, alpha=0.5), rng.standard_normal((2, 2, 3)))
    check(lapack.sumlogdiag, spd(rng, 3, (2,)))


@pytest.mark.parametrize("name", ["gelqf", "potrf", "syevd", "trsm", "syrk", "sumlogdiag"])
def test_vjp_is_the_explicit_adjoint(rng, name, spd):
    A = jnp.asarray(spd(rng, 4, (2,)))
    extra = (jnp.asarray(rng.standard_normal((2, 4, 3))),) if name == "trsm" else ()
    function = getattr(lapack, name)
    out, pull = jax.vjp(lambda A: function(A, *extra), A)
    bars = jax.tree.map(lambda o: jnp.asarray(rng.standard_normal(o.shape)), out)
    (got,) = pull(bars)
    outs, barred = jax.tree.leaves(out), jax.tree.leaves(bars)
    before = [A] if name in ("syrk", "sumlogdiag") else ([A, *outs] if name == "trsm" else outs)
    want = getattr(lapack, f"{name}_backward")(*before, *barred)
    want = want[0] if isinstance(want, tuple) else want
    np.testing.assert_allclose(got, want, atol=1e-11)


def test_jit_vmap_and_hessian(rng):
    A = jnp.asarray(rng.standard_normal((3, 2, 4)))
    for ours, batched in zip(jax.jit(jax.vmap(lapack.gelqf))(A), lapack.gelqf(A), strict=True):
        np.testing.assert_allclose(ours, batched, atol=1e-14)

    def loss(a):
        Q, L = lapack.gelqf(a)
        return (Q**3).sum() + lapack.sumlogdiag(L)

    H = jax.jit(jax.hessian(loss))(A[0]).reshape(8, 8)
    np.testing.assert_allclose(H, H.T, atol=1e-10)


@pytest.mark.parametrize("diagonal", [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0 + 1e-14, 2.0, 3.0]])
def test_first_and_second_derivatives_at_ties(rng, diagonal):
    # the two lowest eigenvectors enter through their projector alone, which no tie disturbs
    D, C, E = (x + x.T for x in rng.standard_normal((3, 4, 4)))

    def loss(A):
        U = lapack.syevd(A).U[:2]
        return ((U.mT @ U) * C).sum()

    def value(A):
        V = np.linalg.eigh(A)[1][:, :2]
        return ((V @ V.T) * C).sum()

    A = np.diag(diagonal)
    grad = jax.grad(loss)
    first, second = jax.jit(lambda A, E: jax.jvp(grad, (A,), (E,)))(A, E)
    step, mixed = 1e-4, 0.0
    for s, t in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
        mixed += s * t * value(A + s * step * D + t * step * E) / (4 * step**2)
    slope = (value(A + step * D) - value(A - step * D)) / (2 * step)
    assert float((first * D).sum()) == pytest.approx(slope, rel=1e-5)
    assert float((second * D).sum()) == pytest.approx(mixed, rel=1e-5)


def test_failures_under_jit_are_nan_not_plausible_numbers():
    deficient = jnp.ones((2, 3))
    L = jax.jit(lapack.gelqf)(deficient).L
    assert jnp.isnan(jnp.tril(L)).any() and (jnp.triu(L, 1) == 0).all()
    assert jnp.isnan(jax.jit(lapack.potrf)(-jnp.eye(3))).any()
    assert jnp.isnan(jax.jit(jax.grad(lambda A: lapack.gelqf(A).L.sum()))(deficient)).all()
    with pytest.raises(SingularMatrixError, match="row 1"):
        jax.grad(lambda A: lapack.gelqf(A).L.sum())(deficient)  # nothing is staged: there are values to see
    slope = jax.grad(lambda A: lapack.slogdet(A)[1])
    assert jnp.isnan(jax.jit(slope)(jnp.zeros((2, 2)))).all()
    with pytest.raises(NotDifferentiableError, match="slogdet"):
        slope(jnp.zeros((2, 2)))

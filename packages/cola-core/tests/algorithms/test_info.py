"""What answers say about themselves: on every question, on lazy answers, and inside compiled functions."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from zoo import installed
from zoo.common import spd

import cola_core as cola
from cola_core import linalg, ops

N = 12


@pytest.fixture
def A(backend, rng):
    return cola.PSD(ops.Dense(backend.asarray(spd(rng, N))))


@pytest.fixture
def b(backend, rng):
    return backend.asarray(rng.normal(size=N))


def test_every_question_takes_return_info_and_on_failure():
    for name in linalg.__all__:
        public = getattr(linalg, name)
        if inspect.isfunction(public) and getattr(public, "question", None) is not None:
            parameters = inspect.signature(public).parameters
            assert {"return_info", "on_failure"} <= set(parameters), name


def test_questions_with_lazy_answers_say_what_they_did(backend, A):
    for ask in (cola.inv, cola.pinv, cola.exp, cola.log, cola.sqrt, cola.isqrt, cola.sin, cola.cos):
        F, info = ask(A, return_info=True)
        assert F.shape == (N, N) and isinstance(info, cola.Info) and info.method and info.converged
    for F, info in (
        cola.cholesky(A, return_info=True),
        cola.root(A, return_info=True),
        cola.sign(A, return_info=True),
        cola.pow(A, -2, return_info=True),
        cola.pow(A, 0.5, return_info=True),
        cola.apply_unary(lambda w: w**3, A, return_info=True),
    ):
        assert F.shape == (N, N) and isinstance(info, cola.Info)
    x, info = cola.sample(A, 0, (3,), return_info=True)
    assert x.shape == (3, N) and isinstance(info, cola.Info)
    with pytest.raises(cola.errors.UnknownNameError, match="on_failure"):
        cola.exp(A, on_failure="shout")


def test_products_with_lazy_answers_say_how_they_went(backend, A, b):
    x, info = cola.inv(A, cola.CG()).apply(b, return_info=True)
    assert info.method == "CG" and info.converged and 0 < info.residual <= info.tolerance
    x, info = cola.inv(A, cola.LU()).apply(b, return_info=True)
    assert "LU" in info.method and 0 < info.residual < 1e-12
    y, info = cola.exp(cola.no_dispatch(A), cola.Lanczos()).apply(b, return_info=True)
    assert "Lanczos" in info.method and info.error_estimate is not None
    y, info = (cola.inv(A, cola.CG()) + ops.Identity(N)).apply(b, return_info=True)
    assert info.method == "CG"
    y, info = A.apply(b, return_info=True)
    assert info.converged and info.residual is None
    bad = cola.inv(A, cola.CG(max_iters=1))
    with pytest.warns(cola.ConvergenceWarning, match="iteration limit"):
        bad.apply(b)
    with pytest.raises(cola.ConvergenceError, match="iteration limit"):
        bad.apply(b, on_failure="raise")
    x, info = bad.apply(b, return_info=True, on_failure="ignore")
    assert not info.converged and info.reason == "iteration limit reached"


def test_infos_of_a_block_of_code(backend, A, b):
    with cola.infos() as found:
        cola.inv(A, cola.CG()) @ b
        cola.solve(A, b)
        cola.exp(cola.no_dispatch(A), cola.Lanczos()) @ b
        cola.inv(A, cola.Cholesky()) @ b
        cola.logdet(A)
    assert [i.method for i in found if i.method == "CG"] == ["CG"]
    assert len([i for i in found if i.residual is not None]) == 3
    assert all(i.converged and i.seconds is not None for i in found)
    before = len(found)
    cola.solve(A, b)
    assert len(found) == before


def test_columns_have_infos_of_their_own(backend, A, rng):
    B = backend.asarray(np.stack([np.zeros(N), rng.normal(size=N), 1e-200 * rng.normal(size=N)], axis=1))
    _, info = cola.solve(A, B, cola.CG(max_iters=2), return_info=True, on_failure="ignore")
    assert info.reasons == ("converged", "iteration limit reached", "iteration limit reached")
    assert [bool(c) for c in info.converged_columns] == [True, False, False]
    assert not info.converged and info.reason == "iteration limit reached" and info.residuals.shape == (3,)
    assert info.as_dict()["codes"] == [1, 0, 0]


def test_direct_answers_name_their_algorithm(backend, A, b):
    x, info = cola.solve(A, b, cola.LU(), return_info=True)
    assert "LU" in info.method and 0 < info.residual < 1e-12 and info.plugin == "core"


def test_a_preconditioner_that_solves_is_no_part_of_the_answer(backend, A, b):
    P = cola.inv(A, cola.CG(max_iters=2))
    _, info = cola.solve(A, b, cola.GMRES(P=P), return_info=True)
    assert info.method == "GMRES" and info.converged and not info.parts


def test_an_operator_that_fails_to_solve_fails_what_uses_it(backend, A, b):
    S = ops.Identity(N) + cola.inv(A, cola.CG(max_iters=1))
    if backend.name == "jax":
        return  # compiled, the failure inside is not visible; the residual is
    _, info = cola.solve(cola.no_dispatch(S), b, cola.GMRES(), return_info=True, on_failure="ignore")
    assert not info.converged and "iteration limit" in info.reason


def test_infos_leave_compiled_functions():
    jax = pytest.importorskip("jax")
    a = jax.numpy.asarray(spd(np.random.default_rng(0), N))

    @jax.jit
    def solve(a, b, limit):
        A = cola.PSD(ops.Dense(a))
        return cola.solve(A, b, cola.CG(max_iters=2), return_info=True, on_failure="raise")

    x, info = solve(a, jax.numpy.ones(N), 3)
    assert not bool(info.converged) and info.reason == "iteration limit reached" and info.seconds is None
    assert float(info.residual) > 1e-8 and info.reasons == ("iteration limit reached",)
    x, info = solve(a, jax.numpy.zeros(N), 3)
    assert bool(info.converged) and info.reason == "converged"
    assert info.as_dict()["reason"] == "converged"


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
@pytest.mark.parametrize("alg", [cola.LU(), cola.CG()], ids=["direct", "iterative"])
def test_what_a_preconditioner_solves_in_a_compiled_loop_is_not_reported(rng, alg):
    import jax
    import jax.numpy as jnp

    jax.clear_caches()  # what a program reports, it reports while it is traced
    A = cola.PSD(ops.Dense(jnp.asarray(spd(rng, N))))
    b = jnp.asarray(rng.normal(size=N))
    settings = cola.CG(P=cola.inv(A, alg))
    with jax.checking_leaks(), cola.infos() as found:
        x = settings.solve(A, b)
        y = jax.jit(settings.solve)(A, b)
    assert found == []
    np.testing.assert_allclose(A @ x, b, atol=1e-8)
    np.testing.assert_allclose(A @ y, b, atol=1e-8)
    with cola.infos() as found:
        cola.solve(A, b, settings)
    assert [info.method for info in found] == ["CG"] and found[0].converged and found[0].matvecs < 8

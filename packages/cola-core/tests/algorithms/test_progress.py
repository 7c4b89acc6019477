"""Progress bars: shown when asked for, on every backend, and silent otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from zoo.common import spd

import cola_core as cola
from cola_core.algorithms import CG, GMRES, Exact, Hutch, Lanczos


def _problem(backend, rng, n=30):
    a = spd(rng, n)
    A = cola.PSD(cola.no_dispatch(cola.ops.Dense(backend.asarray(a))))
    return A, backend.asarray(rng.normal(size=n))


@pytest.mark.parametrize("algorithm", [CG, GMRES])
def test_solvers_show_their_steps(backend, rng, capsys, algorithm):
    A, b = _problem(backend, rng)
    cola.solve(A, b, algorithm())
    assert capsys.readouterr().err == ""
    cola.solve(A, b, algorithm(pbar=True))
    if backend.name == "jax":
        import jax

        jax.effects_barrier()
    shown = capsys.readouterr().err
    assert algorithm.__name__ in shown and "error" in shown


def test_a_compiled_solve_shows_its_steps(rng, capsys):
    jax = pytest.importorskip("jax")
    from cola_core.backends import get_backend

    A, b = _problem(get_backend("jax"), rng)
    solve = jax.jit(lambda A, b: cola.solve(A, b, CG(pbar=True)))
    solve(A, b).block_until_ready()
    jax.effects_barrier()
    assert "CG" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", [CG, GMRES])
def test_a_callback_sees_every_step_and_may_stop(backend, rng, algorithm):
    A, b = _problem(backend, rng)
    settings = {} if algorithm is CG else {"restart": 2}
    seen = []
    _, info = cola.solve(
        A, b, algorithm(callback=lambda *told: seen.append(told), **settings), return_info=True
    )
    assert info.converged and seen[-1][0] == info.iterations
    assert all(type(step) is int and type(error) is float for step, error in seen)
    assert [step for step, _ in seen] == sorted(step for step, _ in seen)
    assert seen[-1][1] < seen[0][1]
    alg = algorithm(callback=lambda step, error: step >= 4, **settings)
    with pytest.warns(cola.errors.ConvergenceWarning, match="stopped by the callback"):
        _, info = cola.solve(A, b, alg, return_info=True)
    assert not info.converged and info.iterations == 4 and info.reason == "stopped by the callback"


def test_a_time_budget_ends_a_solve(backend, rng):
    import time

    A, b = _problem(backend, rng)
    alg = cola.Auto(max_seconds=0.0).configure(CG)
    _, info = cola.solve(A, b, alg, return_info=True, on_failure="ignore")
    assert info.reason == "the time budget was used up" and info.iterations < 3
    alg = CG(callback=lambda step, error: time.sleep(0.02), max_seconds=0.05, tol=1e-12)
    _, info = cola.solve(A, b, alg, return_info=True, on_failure="ignore")
    assert info.reason == "the time budget was used up" and info.iterations < 10
    assert cola.solve(A, b, CG(max_seconds=1e4), return_info=True)[1].converged


def test_a_compiled_solve_asks_its_callback(rng):
    jax = pytest.importorskip("jax")
    from cola_core.backends import get_backend

    A, b = _problem(get_backend("jax"), rng)
    seen = []

    def callback(step, error):
        seen.append(step)
        return step == 3

    solve = jax.jit(lambda A, b: cola.solve(A, b, CG(callback=callback), return_info=True))
    for _ in range(2):
        _, info = solve(A, b)
        assert int(info.iterations) == 3 and not info.converged
        assert info.reason == "stopped by the callback"
    assert seen == [1, 2, 3, 1, 2, 3]


def test_a_watched_solve_compiles_once(rng):
    pytest.importorskip("jax")
    from cola_core.algorithms import cg
    from cola_core.backends import get_backend

    be = get_backend("jax")
    A, b = _problem(be, rng)
    cola.solve(A, b, CG(callback=lambda step, error: False))
    compiled = be.jit(cg._iterate, static=("watch",))
    before = compiled._cache_size()
    cola.solve(A, b, CG(callback=lambda step, error: False))
    cola.solve(A, b, CG(max_seconds=100))
    assert compiled._cache_size() == before


def test_solves_inside_solves_have_watches_of_their_own(backend, rng):
    A, b = _problem(backend, rng)
    outer, inner = [], []
    P = cola.inv(A, CG(tol=0.1, callback=lambda step, error: inner.append(step)))
    if backend.name != "jax":
        alg = GMRES(P=P, restart=1, max_iters=3, callback=lambda step, error: outer.append(step))
        cola.solve(A, b, alg, on_failure="ignore")
        assert outer == [1, 2, 3] and len(inner) > 3
    nested = CG(callback=lambda step, error: outer.append(len(cola.solve(A, b, P.alg).shape)))
    cola.solve(A, b, nested)
    assert outer[-1] == 1


def test_progress_is_another_word_for_pbar(rng, capsys):
    from cola_core.backends import get_backend

    A, b = _problem(get_backend("numpy"), rng)
    cola.solve(A, b, CG(progress=True))
    assert "CG" in capsys.readouterr().err
    assert cola.Auto(progress=True).configure(CG).pbar


def test_other_iterations_show_theirs(backend, rng, capsys):
    A, _ = _problem(backend, rng)
    cola.eigh(A, 2, "LA", Lanczos(pbar=True))
    cola.trace(A, Hutch(pbar=True, tol=0.5))
    cola.diag(A, 0, Exact(bs=7, pbar=True))
    if backend.name == "jax":
        import jax

        jax.effects_barrier()
    shown = capsys.readouterr().err
    assert all(name in shown for name in ("Lanczos", "Hutchinson", "Exact"))


def test_auto_passes_settings_on_to_what_it_chooses(rng):
    auto = cola.Auto(tol=1e-3, pbar=True, x0=np.ones(3))
    cg = auto.configure(CG)
    assert (cg.tol, cg.pbar) == (1e-3, True) and cg.x0 is auto.x0
    assert auto.configure(cola.LU) == cola.LU()


def test_lanczos_starts_where_it_is_told(backend, rng):
    A, b = _problem(backend, rng)
    w, _ = cola.eigh(A, 2, "LA", Lanczos(start_vector=b))
    want = np.linalg.eigvalsh(backend.to_numpy(A.to_dense()))[-2:]
    np.testing.assert_allclose(backend.to_numpy(w), want, rtol=1e-8)
    with pytest.raises(cola.errors.ShapeError, match="start_vector"):
        cola.eigh(A, 2, "LA", Lanczos(start_vector=b[:3]))


def test_probes_of_either_distribution(backend, rng):
    A, _ = _problem(backend, rng)
    exact = float(np.trace(backend.to_numpy(A.to_dense())))
    for rand in ("normal", "rademacher"):
        t, info = cola.trace(A, Hutch(rand=rand, tol=1e-2), return_info=True)
        assert abs(float(t) - exact) < 5 * float(info.standard_error)
    with pytest.raises(cola.errors.UnknownNameError, match="rand"):
        Hutch(rand="uniform")

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

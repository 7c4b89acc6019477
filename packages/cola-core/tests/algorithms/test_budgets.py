"""Every registered algorithm that takes steps tells a callback of them, stops when it says so or when its
time is up, and shows a progress bar."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from problems import poisson, with_spectrum
from zoo import installed

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import ExpAction
from cola_core.dispatch.registry import REGISTRY

N = 60
SETTINGS = {
    "AlternatingProjections": {"block": 6},
    "IterativeRefinement": {"inner": cola.CG(tol=0.1), "tol": 1e-10},
    "BlockKrylovSVD": {"tol": 1e-12},
    "LanczosSVD": {"basis": 8},
    "KrylovSchur": {"basis": 8},
    "Arnoldi": {"basis": 8},
    "Lanczos": {"basis": 8},
    "RandomizedSVD": {"tol": 1e-10},
    "HutchPP": {"tol": 1e-2},
    "Hutchinson": {"tol": 1e-4},
    "Probing": {"tol": 1e-4, "colors": tuple(range(10)) * (N // 10)},
}
LIBRARIES = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.skipif(not installed("torch"), reason="torch is not installed")),
]
STEPPING = ("iterative", "stochastic")


def pairs():
    cola.solve(np.eye(2), np.ones(2))  # the registry fills at the first question
    found = {
        (e.cls.__name__, question): e.cls
        for question, entries in REGISTRY.algorithms.items()
        for e in entries
        if e.cls.kind in STEPPING and e.provenance.plugin == "core"
    }
    return [
        pytest.param(cls, question, id=f"{name}-{question}")
        for (name, question), cls in sorted(found.items())
    ]


def operator(be, cls, question):
    name = cls.__name__
    if name == "ToeplitzCG":
        return cola.PSD(ops.Toeplitz(be.asarray(np.exp(-np.arange(N) / 5.0))))
    if name == "ShiftInvert":
        M = sp.coo_array(poisson(8, 9))
        return cola.PSD(ops.Sparse(be.asarray(M.data), be.asarray(M.row), be.asarray(M.col), M.shape))
    M = with_spectrum(np.logspace(0, 2, N), 0)
    if name == "SVRG":
        return cola.PSD(ops.Sum(*[ops.Dense(be.asarray(M / 8)) for _ in range(8)]))
    if question in ("eigs", "geigs"):
        return cola.no_dispatch(ops.Dense(be.asarray(M + np.triu(M, 1))))
    return cola.no_dispatch(cola.PSD(ops.Dense(be.asarray(M))))


def ask(be, cls, question, alg):
    """The Info of a question that the algorithm answers in some steps."""
    A = operator(be, cls, question)
    n, name = A.shape[-1], cls.__name__
    b = be.asarray(np.random.default_rng(0).standard_normal(n))
    k = 1 if name == "PowerIteration" else 2
    ends = {"sigma": 1.0} if name == "ShiftInvert" else {}
    pencil = {"B": cola.PSD(ops.Diagonal(be.asarray(np.linspace(1.0, 2.0, n))))}
    function = cola.exp if name == "ExpAction" else cola.isqrt if name == "ContourQuadrature" else cola.sqrt
    quiet = {"return_info": True, "on_failure": "ignore"}
    if question == "trace" and name == "SLQ":
        A = cola.log(A, cola.Lanczos())
    asks = {
        "solve": lambda: cola.solve(A, b, alg, **quiet),
        "lstsq": lambda: cola.lstsq(A, b, alg, **quiet),
        "slogdet": lambda: cola.slogdet(A, alg, **quiet),
        "trace": lambda: cola.trace(A, alg, **quiet),
        "diag": lambda: cola.diag(A, 0, alg, **quiet),
        "eigsh": lambda: cola.eigh(A, k, "LM", alg, **ends, **quiet),
        "eigs": lambda: cola.eig(A, k, "LM", alg, **ends, **quiet),
        "geigsh": lambda: cola.eigh(A, k, "LA", alg, **pencil, **quiet),
        "geigs": lambda: cola.eig(A, k, "LM", alg, **pencil, **quiet),
        "svds": lambda: cola.svd(A, k, alg=alg, **quiet),
        "norm": lambda: cola.norm(A, 2, alg, **quiet),
        "root": lambda: cola.sample(A, 0, alg=alg, **quiet),
        "apply_unary": lambda: function(A, alg).apply(b, **quiet),
    }
    return asks[question]()[-1]


def check(be, cls, question, capsys):
    settings = SETTINGS.get(cls.__name__, {})
    told = []
    ask(be, cls, question, cls(callback=lambda *now: told.append(now), **settings))
    assert told and all(type(step) is int and type(error) is float for step, error in told)

    stopped = []

    def stop(step, error):
        stopped.append(step)
        return True

    info = ask(be, cls, question, cls(callback=stop, **settings))
    assert not info.converged and info.reason == "stopped by the callback"
    assert len(stopped) == 1

    info = ask(be, cls, question, cls(max_seconds=0.0, **settings))
    assert not info.converged and info.reason == "the time budget was used up"

    capsys.readouterr()
    ask(be, cls, question, cls(progress=True, **settings))
    if be.name == "jax":
        import jax

        jax.effects_barrier()
    assert "it/s" in capsys.readouterr().err


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("cls", "question"), pairs())
def test_steps_are_told_and_may_be_ended(backend, cls, question, capsys):
    if cls is cola.Arnoldi and question == "geigsh":
        with pytest.raises(NotImplementedError, match="ARPACK tells nothing"):
            ask(backend, cls, question, cls(max_seconds=1.0))
        return
    check(backend, cls, question, capsys)


@pytest.mark.parametrize("library", ["jax"])
@pytest.mark.parametrize("cls", [cola.Chebyshev, ExpAction], ids=lambda cls: cls.__name__)
def test_compiled_functions_of_operators(backend, cls, capsys):
    check(backend, cls, "apply_unary", capsys)


def test_a_budget_of_products_leaves_part_of_the_exponential(rng):
    M = -5.0 * with_spectrum(np.linspace(0.0, 100.0, 30), 1)
    A, b = cola.no_dispatch(ops.Dense(M)), rng.standard_normal(30)
    alg = ExpAction(max_iters=120, krylov=False)
    y, info = cola.exp(A, alg).apply(b, return_info=True, on_failure="ignore")
    assert not info.converged and info.reason == "iteration limit reached"
    full, whole = cola.exp(A, ExpAction(krylov=False)).apply(b, return_info=True)
    assert whole.converged and np.linalg.norm(y) > np.linalg.norm(full)

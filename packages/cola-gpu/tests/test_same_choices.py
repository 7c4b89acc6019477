"""Installed, the package changes nothing on the CPU: plans of every question of the core, and derivatives
with the reports of their solves, are those without it."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import cola_core as cola
from cola_core import ops
from cola_core.dispatch import infos
from cola_core.plugins import MANAGER
from cola_core.testing.probes import PROBES


def gaussian(a, b):
    return ((a[..., :, None, :] - b[..., None, :, :]) ** 2).sum(-1) * -0.5


def operators(backend, dtype):
    """By name, an operator and the matrix it is: for the questions that suit it."""
    rng = np.random.default_rng(3)
    M = rng.standard_normal((12, 12))
    S = M @ M.T / 12 + 2 * np.eye(12)
    K, T = S[:4, :4], np.diag(np.full(12, 3.0)) + np.diag(-np.ones(11), 1) + np.diag(-np.ones(11), -1)
    points = rng.standard_normal((12, 2))

    def put(x):
        return backend.asarray(np.asarray(x, dtype=dtype))

    def psd(x):
        return cola.PSD(ops.Dense(put(x)))

    csr, c = sp.csr_array(T), np.r_[3.0, -1.0, np.zeros(10)]
    rows, columns = csr.tocoo().coords
    sparse = cola.PSD(ops.Sparse(put(csr.tocoo().data), rows, columns, (12, 12)))
    low = cola.PSD(ops.LowRank(put(M[:, :2])))
    return {
        "dense": (ops.Dense(put(M)), M),
        "self-adjoint": (cola.SelfAdjoint(ops.Dense(put(M + M.T))), M + M.T),
        "definite": (psd(S), S),
        "products only": (cola.PSD(cola.no_dispatch(ops.Dense(put(S)))), S),
        "batch": (cola.PSD(ops.Dense(put(np.stack([S, T])))), np.stack([S, T])),
        "rectangular": (ops.Dense(put(M[:, :5])), M[:, :5]),
        "diagonal": (cola.PSD(ops.Diagonal(put(np.arange(1.0, 13)))), np.diag(np.arange(1.0, 13))),
        "sparse": (sparse, T),
        "band": (cola.PSD(ops.Tridiagonal(put(-np.ones(11)), put(np.full(12, 3.0)), put(-np.ones(11)))), T),
        "toeplitz": (cola.PSD(ops.Toeplitz(put(c))), T),
        "kronecker": (cola.PSD(cola.kron(psd(K), psd(S[:3, :3]))), np.kron(K, S[:3, :3])),
        "sum": (psd(S) + cola.PSD(ops.Diagonal(put(np.ones(12)))), S + np.eye(12)),
        "low rank": (low + cola.I_like(low), M[:, :2] @ M[:, :2].T + np.eye(12)),
        "product": (ops.Dense(put(M)) @ sparse, M @ T),
        "blocks": (cola.PSD(ops.BlockDiag(psd(K), psd(K))), np.kron(np.eye(2), K)),
        "kernel": (cola.PSD(ops.Kernel(put(points), None, gaussian)), np.eye(12)),
        "large": (cola.PSD(cola.no_dispatch(ops.Diagonal(put(np.ones(5000))))), None),
    }  # fmt: skip


LARGE = ("solve", "slogdet", "trace", "diag", "inv_quad_logdet", "eigsh")
SETTINGS = (None, cola.Auto(memory=1e6), cola.Auto(accuracy=1e-4), cola.Auto(prefer="speed"))


def plan(asked, arguments, **options):
    """Who answers each question of a plan, how, at what estimate; or with what error it ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = cola.explain(asked, *arguments, **options)
        except (cola.errors.ColaError, TypeError, ValueError) as error:
            return type(error).__name__  # the message lists everybody
    return [
        (n.question, n.operator, n.by, n.settings, n.total, n.estimate, n.note.partition(" of shape")[0])
        for n in found.nodes()
    ]


def plans(backend, dtype):
    out = {}
    for name, (A, M) in operators(backend, dtype).items():
        for probe in PROBES.values():
            if M is None and probe.question.name not in LARGE or M is not None and not probe.suits(A, M):
                continue
            if M is None and probe.name.startswith("eigsh"):
                asked, arguments = cola.eigh, (A, 3, "LA")
            elif M is None:
                b = backend.xp.ones((5000, 2), dtype=backend.dtype(dtype))
                asked, arguments = probe.public(A, (b,) if probe.name in ("solve", "inv_quad_logdet") else ())
            else:
                asked, arguments = probe.public(A, probe.operands(A, M, backend, dtype, 0))
            for alg in SETTINGS if probe.name in LARGE else SETTINGS[:1]:
                out[name, probe.name, repr(alg)] = plan(asked, arguments, **({"alg": alg} if alg else {}))
    return out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_plans(backend, dtype):
    MANAGER.load("gpu", "name", explicit=True)
    with_it = plans(backend, dtype)
    with MANAGER.only(disable=("gpu",)):
        without = plans(backend, dtype)
    assert with_it.keys() == without.keys()
    for key, known in without.items():
        assert with_it[key] == known, key
    planned = [p for p in without.values() if not isinstance(p, str)]
    assert len(planned) > 800 and len({n[2] for p in planned for n in p}) > 150
    assert not any(n[2].startswith("gpu:") for p in planned for n in p)


def derivatives(library):
    """Values, gradients and reports of losses of structured operators, by PyTorch or JAX."""
    backend = cola.backends.get_backend(library)
    rng = np.random.default_rng(4)
    M = rng.standard_normal((8, 8))
    S, points = M @ M.T / 8 + 2 * np.eye(8), rng.standard_normal((8, 2))
    y, Y = backend.asarray(np.ones(8)), backend.asarray(np.ones(16))
    cg, lanczos = cola.CG(tol=1e-9), cola.Lanczos(tol=1e-9)

    def kernel(a, b):
        return backend.xp.exp(gaussian(a, b))

    def solve(A, b=y, alg=None):
        return b @ (cola.solve(A, b) if alg is None else cola.solve(A, b, alg))

    def definite(a):
        return cola.PSD(ops.Dense(a))

    def symmetric(a):
        return cola.SelfAdjoint(ops.Dense(a))

    losses = {
        "solve": lambda a: solve(definite(a)),
        "logdet": lambda a: cola.logdet(definite(a)),
        "by products": lambda a: solve(cola.PSD(cola.no_dispatch(definite(a))), alg=cg),
        "eigenvalues": lambda a: (cola.eigh(symmetric(a), 2, "LA", alg=lanczos)[0] ** 2).sum(),
        "exponential": lambda a: (cola.exp(symmetric(a)) @ y).sum(),
        "kronecker": lambda a: solve(cola.kron(definite(a), 2.0 * ops.Identity(2)), Y),
        "kernel": lambda a: solve(cola.PSD(ops.Kernel(a, None, kernel)) + ops.Identity(8)),
    }
    if library == "jax":  # every loss is compiled anew
        losses = {name: losses[name] for name in ("logdet", "by products", "kernel")}
    out = {}
    for name, loss in losses.items():
        with infos() as told:
            made = value_and_grad(library, loss, points if name == "kernel" else S)
        steps = [None if i.iterations is None else int(i.iterations) for i in told]
        report = [(i.method, i.rule, i.plugin, k) for i, k in zip(told, steps, strict=True)]
        out[name] = (*map(np.asarray, made), report)
    return out


def value_and_grad(library, loss, start):
    if library == "jax":
        import jax

        return jax.value_and_grad(loss)(jax.numpy.asarray(start))
    import torch

    x = torch.tensor(start, requires_grad=True)
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_derivatives(library):
    pytest.importorskip(library)
    MANAGER.load("gpu", "name", explicit=True)
    with_it = derivatives(library)
    with MANAGER.only(disable=("gpu",)):
        without = derivatives(library)
    for name, (value, grad, told) in without.items():
        assert np.isfinite(value) and np.isfinite(grad).all() and np.abs(grad).max() > 0, name
        assert np.array_equal(with_it[name][0], value) and np.array_equal(with_it[name][1], grad), name
        assert with_it[name][2] == told, name
    assert any(told for *_, told in without.values())

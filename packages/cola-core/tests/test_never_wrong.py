"""Answers that other libraries, or an early version of this one, gave silently wrong. One phenomenon per test."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops

N = 6
RNG = np.random.default_rng(7)
GENERAL = RNG.standard_normal((N, N))
SPD = GENERAL @ GENERAL.T + N * np.eye(N)


@pytest.fixture
def put(backend):
    """Arrays of the library under test."""
    if backend.name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    return lambda x, dtype=None: backend.asarray(np.asarray(x, dtype=dtype))


def host(x):
    return x.detach().resolve_conj().numpy() if hasattr(x, "detach") else np.asarray(x)


def name_of(dtype):
    return str(dtype).rpartition(".")[2]


# -- precision and library of the answer ---------------------------------------------------------------------------
NEUTRAL = {
    "shift": lambda S: S + 2.0 * ops.Identity(N),
    "kron": lambda S: cola.kron(S, ops.Identity(2)),
    "kronsum": lambda S: cola.kronsum(S, ops.Identity(2)),
    "blocks": lambda S: cola.block_diag(S, ops.Identity(2), 2.0 * ops.Identity(1)),
    "scaled": lambda S: 2.0 * S,
    "kron_shift": lambda S: cola.kron(S, ops.Identity(2)) + 0.5 * ops.Identity(2 * N),
    "lowrank": lambda S: ops.LowRank(S.to_dense()[:, :2]) + 0.7 * ops.Identity(N),
    "diagonal": lambda S: ops.Diagonal(S.to_dense()[0] ** 2) + 0.3 * ops.Identity(N),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("kind", NEUTRAL)
def test_parts_without_arrays_change_neither_precision_nor_library(backend, put, kind, dtype):
    matrix = SPD + (1j * (GENERAL - GENERAL.T) if "complex" in dtype else 0)
    A = NEUTRAL[kind](cola.PSD(put(matrix, dtype)))
    dense = host(A.to_dense()).astype(complex)
    real = {"complex64": "float32"}.get(dtype, dtype)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    b = put(np.ones(A.shape[-1]), dtype)
    answers = {
        "dense": (A.to_dense(), dense, dtype),
        "solve": (cola.solve(A, b), np.linalg.solve(dense, np.ones(len(dense))), dtype),
        "logdet": (cola.slogdet(A)[1], np.linalg.slogdet(dense)[1], real),
        "trace": (cola.trace(A), np.trace(dense), dtype),
        "diag": (cola.diag(A), np.diag(dense), dtype),
        "root": (cola.sqrt(cola.PSD(A)) @ (cola.sqrt(cola.PSD(A)) @ b), dense @ np.ones(len(dense)), dtype),
    }
    if A.isa(cola.SelfAdjoint):
        answers["eigenvalues"] = (cola.eigvalsh(A), np.linalg.eigvalsh(dense), real)
    for what, (value, wanted, kept) in answers.items():
        assert type(value) is type(b) or isinstance(value, np.generic), what
        assert name_of(value.dtype) == kept, what
        assert np.abs(host(value) - wanted).max() <= tolerance * max(1, np.abs(wanted).max()), what


def test_a_python_number_keeps_its_digits(put):
    """torch.as_tensor(0.1) is single precision."""
    A = cola.kron(cola.PSD(put(SPD)), 0.1 * ops.Identity(3))
    wanted = 0.3 * np.trace(SPD)
    assert abs(float(cola.trace(A)) - wanted) < 1e-13 * wanted


def test_the_identity_as_preconditioner(put):
    """Its product returns the operand itself, which the iteration then updates in place."""
    for P in (ops.Identity(N), cola.I_like(ops.Dense(put(SPD)))):
        x, info = cola.solve(cola.PSD(put(SPD)), put(np.ones(N)), cola.CG(P=P), return_info=True)
        assert info.converged and np.allclose(host(x), np.linalg.solve(SPD, np.ones(N)))

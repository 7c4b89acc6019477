"""Many blocks of one shape are asked as a batch, with the answers of single blocks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl
from compare import close
from zoo.common import spd, well

import cola_core as cola
from cola_core import PSD, ops
from cola_core.algorithms import CG, LU, Cholesky


def _mixed(rng, put, definite):
    """Dense blocks of two shapes in turn, repeats, and blocks that are no stored matrix."""
    make = spd if definite else well
    blocks = [make(rng, 2 + i % 2) for i in range(12)]
    times = [1 + (i % 4 == 1) for i in range(12)]
    d = rng.uniform(1, 2, size=3)
    operators = [PSD(ops.Dense(put(b))) if definite else ops.Dense(put(b)) for b in blocks]
    operators.insert(5, PSD(ops.Diagonal(put(d))))
    blocks.insert(5, np.diag(d))
    times.insert(5, 2)
    A = cola.block_diag(*operators, multiplicities=times)
    return A, sl.block_diag(*(b for b, t in zip(blocks, times, strict=True) for _ in range(t)))


@pytest.mark.parametrize("definite", [True, False])
def test_answers_equal_dense(backend, rng, definite):
    A, D = _mixed(rng, backend.asarray, definite)
    close(backend, cola.slogdet(A)[1], np.linalg.slogdet(D)[1], "float64", scale=10)
    close(backend, cola.slogdet(A)[0], np.linalg.slogdet(D)[0], "float64")
    for shape in ((len(D),), (len(D), 3), (2, len(D), 3)):
        b = rng.normal(size=shape)
        close(backend, cola.solve(A, backend.asarray(b)), np.linalg.solve(D, b), "float64", scale=10)
        close(backend, cola.solve(A, backend.asarray(b), LU()), np.linalg.solve(D, b), "float64", scale=10)
    if definite:
        x = cola.solve(A, backend.asarray(b), Cholesky())
        close(backend, x, np.linalg.solve(D, b), "float64", scale=10)


def test_blocks_of_one_kind_are_one_question(rng):
    A = cola.block_diag(*(ops.Dense(well(rng, 3)) for _ in range(50)))
    plan = cola.explain(cola.slogdet, A)
    assert [(n.question, n.shape) for n in plan.nodes()] == [("slogdet", (150, 150)), ("slogdet", (50, 3, 3))]


def test_an_algorithm_without_batches_gets_single_blocks(rng):
    A = cola.block_diag(*(PSD(ops.Dense(spd(rng, 3))) for _ in range(6)))
    x, info = cola.solve(A, np.ones(18), CG(), return_info=True)
    assert info.method == "CG" and np.linalg.norm(A @ x - 1) < 1e-7


def test_singular_blocks_are_found_in_a_batch(backend, rng):
    blocks = [well(rng, 4) for _ in range(6)]
    blocks[3][:, 3] = blocks[3][:, :3].sum(-1) * (1 + 1e-15 * rng.normal(size=4))
    A = cola.block_diag(*(ops.Dense(backend.asarray(b)) for b in blocks))
    with pytest.warns(cola.errors.IllConditionedWarning):
        cola.solve(A, backend.asarray(np.ones(24)))
    blocks[3][:] = 0
    A = cola.block_diag(*(ops.Dense(backend.asarray(b)) for b in blocks))
    sign, value = cola.slogdet(A)
    assert float(sign) == 0 and float(value) == -np.inf
    with pytest.raises(cola.errors.SingularMatrixError):
        cola.solve(A, backend.asarray(np.ones(24)))


def test_derivatives_reach_every_block(rng):
    torch = pytest.importorskip("torch")
    blocks = [torch.tensor(well(rng, 3), requires_grad=True) for _ in range(6)]
    value = cola.logdet(cola.block_diag(*(ops.Dense(b @ b.T) for b in blocks)))
    for b, g in zip(blocks, torch.autograd.grad(value, blocks), strict=True):
        np.testing.assert_allclose(g.numpy(), 2 * np.linalg.inv(b.detach().numpy()).T, rtol=1e-8)

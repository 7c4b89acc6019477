"""The table of the CoLA paper: six questions on eleven kinds of operators, 47 cells answered by structure.

Every cell builds an operator of its column, asks the question of its row, compares with the dense answer, and
looks at the plan: the answer at the top must come from a rule, not from an algorithm on the whole matrix.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg as sl

import cola_core as cola
from cola_core import ops

N = 12


def _general(rng, n):
    return rng.normal(size=(n, n)) + 2 * n**0.5 * np.eye(n)


def _spd(rng, n):
    a = rng.normal(size=(n, n))
    return a @ a.T / n + np.eye(n)


# -- columns: (operator, dense) of a question, since a column's rules may ask for more structure -------------
def diagonal(rng, row):
    d = rng.uniform(1, 2, N) * rng.choice([-1, 1], N)
    return ops.Diagonal(d), np.diag(d)


def triangular(rng, row):
    a = np.triu(rng.normal(size=(N, N)) / N) + np.diag(np.linspace(1, 3, N))
    return ops.Triangular(a, lower=False), a


def permutation(rng, row):
    p = rng.permutation(N)
    return ops.Permutation(p), np.eye(N)[p]


def convolution(rng, row):
    c = rng.normal(size=N) / N
    c[0] += 2
    return ops.Circulant(c), sl.circulant(c)


def sparse(rng, row):
    a = np.where(rng.random((N, N)) < 0.3, rng.normal(size=(N, N)), 0) + np.eye(N)
    i, j = np.nonzero(a)
    return ops.Sparse(a[i, j], i, j, (N, N)), a


def projection(rng, row):
    q = np.linalg.qr(rng.normal(size=(N, 4)))[0]
    return ops.Projection(cola.Stiefel(q)), q @ q.T


def sum_(rng, row):
    if row == "eigs":
        a, b = _spd(rng, 3), _spd(rng, 4)
        A = cola.kron(cola.PSD(a), cola.PSD(b))
        return A + 0.5 * ops.Identity(N), np.kron(a, b) + 0.5 * np.eye(N)
    U, V, d = rng.normal(size=(N, 2)), rng.normal(size=(N, 2)), rng.uniform(3, 4, N)
    return ops.LowRank(U, V) + ops.Diagonal(d), U @ V.T + np.diag(d)


def product(rng, row):
    a, b = _general(rng, N), _general(rng, N)
    return ops.Dense(a) @ ops.Dense(b), a @ b


def kronecker(rng, row):
    a, b = _general(rng, 3), _general(rng, 4)
    return cola.kron(a, b), np.kron(a, b)


def block_diagonal(rng, row):
    a, b = _general(rng, 2) / 3, _general(rng, 4) / 3
    return cola.block_diag(a, b, multiplicities=[4, 1]), sl.block_diag(a, a, a, a, b)


def two_by_two(rng, row):
    a, b, c, d = _general(rng, 8), rng.normal(size=(8, 4)), rng.normal(size=(4, 8)), _general(rng, 4)
    return ops.Block([[a, b], [c, d]]), np.block([[a, b], [c, d]])


# -- rows ----------------------------------------------------------------------------------------------------
def inverse(A, D, rng):
    b = rng.normal(size=(N, 2))
    want = np.linalg.solve(D, b)
    np.testing.assert_allclose(cola.solve(A, b), want, atol=1e-9)
    np.testing.assert_allclose(cola.inv(A) @ b, want, atol=1e-9)
    return cola.explain(cola.solve, A, b)


def eigs(A, D, rng):
    symmetric = A.isa(cola.SelfAdjoint)
    w, V = (cola.eigh if symmetric else cola.eig)(A)
    V = V.to_dense()
    np.testing.assert_allclose(D @ V, V * w, atol=1e-8 * np.abs(D).sum())
    assert np.linalg.matrix_rank(V) == N
    want = np.linalg.eigvals(D)
    for z in want:  # as sets: the order of conjugate pairs is nobody's
        assert np.abs(w - z).min() < 1e-7
    return cola.explain(cola.eigh if symmetric else cola.eig, A)


def diag(A, D, rng):
    for k in (0, 1, -3):
        np.testing.assert_allclose(cola.diag(A, k), np.diag(D, k), atol=1e-10)
        assert cola.explain(cola.diag, A, k).root.kind.startswith("rule")
    return cola.explain(cola.diag, A)


def trace(A, D, rng):
    np.testing.assert_allclose(cola.trace(A), np.trace(D), atol=1e-10)
    return cola.explain(cola.trace, A)


def exp(A, D, rng):
    E = cola.exp(A)
    x = rng.normal(size=N)
    np.testing.assert_allclose(E @ x, sl.expm(D) @ x, atol=1e-8 * np.abs(sl.expm(D)).max())
    return cola.explain(cola.exp, A)


def det(A, D, rng):
    sign, value = cola.slogdet(A)
    if A.shape[-1] > np.linalg.matrix_rank(D):
        assert sign == 0 and value == -np.inf
    else:
        np.testing.assert_allclose((sign, value), np.linalg.slogdet(D), atol=1e-9)
    return cola.explain(cola.slogdet, A)


COLUMNS = (
    diagonal, triangular, permutation, convolution, sparse, projection, sum_, product, kronecker,
    block_diagonal, two_by_two,
)  # fmt: skip
TABLE = {
    #        D T P C S Pr Sum Prod Kron BlkDiag 2x2; R: own rule, d: derived from other rules
    inverse: "R R R R . . R R R R R",
    eigs:    "R R . R . R R . R R .",
    diag:    "R R R R R . R . . R R",
    trace:   "d d d d d R d . R d d",
    exp:     "d . . d . d . . . d .",
    det:     "d d R d . d d R d d .",
}  # fmt: skip
CELLS = [
    pytest.param(
        row,
        column,
        id=f"{row.__name__}-{column.__name__.rstrip('_')}",
    )
    for row, marks in TABLE.items()
    for column, mark in zip(COLUMNS, marks.split(), strict=True)
    if mark != "."
]


def test_there_are_47_cells():
    assert len(CELLS) == 47


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_cell(row, column):
    rng = np.random.default_rng(47)
    A, D = column(rng, row.__name__)
    np.testing.assert_allclose(A.to_dense(), D, atol=1e-12)
    plan = row(A, D, rng)
    assert plan.root.kind.startswith("rule"), f"an algorithm answers for the whole:\n{plan}"
    whole = [n for n in plan.nodes() if n.shape[-2:] == (N, N) and not n.kind.startswith("rule")]
    assert not whole or column is product, f"an algorithm answers for a matrix of full size:\n{plan}"

"""Derivatives of the matrix sign function, a polar factor and the solution of Sylvester's equation."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.testing.derivatives import check_derivatives


def test_sign_of_a_general_matrix(rng):
    pytest.importorskip("torch")
    S = rng.standard_normal((4, 4)) + 4 * np.eye(4)
    A, C = S @ np.diag([1.0, 2.0, -1.0, -3.0]) @ np.linalg.inv(S), rng.standard_normal((4, 4))

    def reference(a):
        w, V = np.linalg.eig(a[0])
        return np.sum(((V * np.sign(w.real)) @ np.linalg.inv(V)).real * a[1])

    check_derivatives(
        "torch", lambda a: (cola.sign(ops.Dense(a[0])).to_dense() * a[1]).sum(), reference, [A, C]
    )


def test_polar_factor_by_a_root(rng):
    """There is no function for it: ``A (A^H A)^(-1/2)``."""
    pytest.importorskip("torch")
    A, C = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))

    def loss(a):
        gram = cola.PSD(ops.Dense(a[0].mT @ a[0]))
        return ((a[0] @ cola.isqrt(gram).to_dense()) * a[1]).sum()

    def reference(a):
        U, _, Vh = np.linalg.svd(a[0], full_matrices=False)
        return np.sum((U @ Vh) * a[1])

    check_derivatives("torch", loss, reference, [A, C])


def test_sylvester(rng):
    pytest.importorskip("torch")
    A, B = rng.standard_normal((2, 3, 3)) + 4 * np.eye(3)
    C, D = rng.standard_normal((2, 3, 3))
    one = np.eye(3)

    def loss(a):
        X = cola.sylvester(ops.Dense(a[0]), ops.Dense(a[1]), a[2])
        return (X * a[3]).sum()

    def reference(a):
        K = np.kron(a[0], one) + np.kron(one, a[1].T)
        return np.linalg.solve(K, a[2].ravel()) @ a[3].ravel()

    check_derivatives("torch", loss, reference, [A, B, C, D])

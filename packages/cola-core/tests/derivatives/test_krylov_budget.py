"""The derivative of f(A) b by a Krylov space has a budget of its own."""

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import Lanczos, ops
from cola_core.errors import ConvergenceWarning


def problem(n):
    rng = np.random.default_rng(3)
    A, D = rng.standard_normal((2, n, n))
    return (A + A.T) / 2, (D + D.T) / 2, rng.standard_normal(n)


def forward(n, steps):
    torch = pytest.importorskip("torch")
    A, D, b = map(torch.as_tensor, problem(n))

    def product(A):
        return cola.exp(cola.SelfAdjoint(ops.Dense(A)), Lanczos(max_iters=steps)) @ b

    return torch.func.jvp(product, (A,), (D,))[1].numpy()


def test_as_many_steps_as_rows_are_enough_for_forward_mode():
    A, D, b = problem(3)
    got = forward(3, 3)
    from scipy.linalg import expm_frechet

    assert np.allclose(got, expm_frechet(A, D)[1] @ b, rtol=1e-9)


def test_a_missed_tolerance_of_the_derivative_is_a_warning():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        forward(30, 3)
    said = [str(w.message) for w in seen if issubclass(w.category, ConvergenceWarning)]
    assert any("the derivative of exp" in message for message in said), said

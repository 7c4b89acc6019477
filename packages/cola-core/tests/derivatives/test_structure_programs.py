"""The program of a structured operator's gradient in JAX has no n x n array, where the value's has none.

Nothing is compiled: the program is traced and its arrays are looked at.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from large import LARGE
from leaves import taken_apart
from spies import sizes
from zoo import installed

import cola_core as cola
from cola_core.backends import get_backend

pytestmark = pytest.mark.skipif(not installed("jax"), reason="jax is not installed")

NONE = {"projection_shift", "transforms", "permutation", "unitary", "identity"}  # nothing to differentiate in
PRODUCTS = [name for name in LARGE if name not in NONE | {"exponential"}]  # an action, of as many steps

SOLVES = (
    "kron", "kron_psd", "kron_shift", "kronsum", "blockdiag", "diagonal", "diagonal_plus_lowrank",
    "block_schur", "circulant", "convolution_circular", "sparse",
)  # fmt: skip
DETERMINANTS = tuple(name for name in SOLVES if name != "sparse")


def _squares(x):
    import jax.numpy as jnp

    return jnp.sum(jnp.real(x * jnp.conj(x)))


QUESTIONS = {
    "product": lambda A, b: _squares(A @ b),
    "solve": lambda A, b: _squares(cola.solve(A, b)),
    "logdet": lambda A, b: cola.slogdet(A)[1],
    "diag": lambda A, b: _squares(cola.diag(A)),
}


def _largest(name, question):
    import jax

    be = get_backend("jax")
    A = LARGE[name](np.random.default_rng(7))(be.asarray)
    n = max(A.shape)
    b = be.asarray(np.ones((A.shape[-1], 2)))
    arrays, rebuilt = taken_apart(A)
    ask = QUESTIONS[question]

    def loss(arrays):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ask(rebuilt(arrays), b)

    value = max(sizes(jax.make_jaxpr(loss)(arrays).jaxpr), default=0)
    traced, shapes = jax.make_jaxpr(jax.grad(loss), return_shape=True)(arrays)
    assert [g.shape for g in shapes] == [x.shape for x in arrays]
    return value / n / n, max(sizes(traced.jaxpr), default=0) / n / n


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_of_products(name):
    value, gradient = _largest(name, "product")
    assert value < 0.4, f"{name}: the product itself has an array of {value:.2f} n^2 numbers"
    assert gradient < 0.4, f"{name}: an array of {gradient:.2f} n^2 numbers"


@pytest.mark.parametrize(
    ("question", "name"),
    [
        (q, name)
        for q, names in (("solve", SOLVES), ("logdet", DETERMINANTS), ("diag", SOLVES))
        for name in names
    ],
)
def test_gradients_of_answers(question, name):
    value, gradient = _largest(name, question)
    assert gradient < 0.4 or gradient <= 1.1 * value, (
        f"{name}: arrays of {value:.2f} and {gradient:.2f} n^2 numbers"
    )
    assert value < 0.4, f"{name}: the value itself has an array of {value:.2f} n^2 numbers"

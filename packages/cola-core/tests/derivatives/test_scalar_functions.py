"""Derivatives of functions of eigenvalues, of any order, against differences of complex steps."""

import numpy as np
import pytest

from cola_core.errors import BackendError
from cola_core.linalg.scalar_function import (
    COS,
    EXP,
    ISQRT,
    LOG,
    SIGN,
    SIN,
    SQRT,
    ScalarFunction,
    power,
)

NAMED = (EXP, LOG, SQRT, ISQRT, SIN, COS, power(1.7), power(-2.0), power(3.0), LOG.of_inverse())
POINTS = np.array([0.3, 1.0, 2.7])


@pytest.mark.parametrize("f", NAMED, ids=lambda f: f.name)
def test_closed_forms_of_any_order(f):
    for _ in range(4):
        slope = f.derivative()
        step = np.imag(f.fn(np, POINTS + 1e-30j)) / 1e-30
        assert np.allclose(slope.fn(np, POINTS), step, rtol=1e-12)
        assert f.derivative() is slope
        f = slope


def test_sign_is_flat_and_has_no_derivative_at_zero():
    values = SIGN.derivative().fn(np, np.array([-2.0, 0.0, 3.0]))
    assert values[0] == 0 == values[2] and np.isnan(values[1])


def test_a_function_of_the_user_is_differentiated_by_the_library(backend):
    library = backend
    f = ScalarFunction("tanh", lambda xp, w: xp.tanh(w) ** 2)
    w = library.asarray(np.linspace(-1, 1, 5))
    if library.name == "numpy":
        with pytest.raises(BackendError, match="numpy"):
            f.derivative().fn(np, w)
        return
    t = np.tanh(np.linspace(-1, 1, 5))
    first, second = f.derivative(), f.derivative().derivative()
    assert np.allclose(library.to_numpy(first.fn(library.xp, w)), 2 * t * (1 - t**2), atol=1e-6)
    expected = 2 * (1 - t**2) * (1 - 3 * t**2)
    assert np.allclose(library.to_numpy(second.fn(library.xp, w)), expected, atol=1e-5)


def test_conjugates():
    f = ScalarFunction("phase", lambda xp, w: xp.exp(1j * w), real=False)
    w = np.array([0.5])
    made = ScalarFunction(
        "phase", f.fn, real=False, slope=lambda: ScalarFunction("d", lambda xp, w: 1j * f.fn(xp, w))
    )
    assert np.allclose(made.conjugate().derivative().fn(np, w), -1j * np.exp(-1j * w))

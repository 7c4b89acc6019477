"""Data, grids and scaling refuse bad input and survive extreme but valid input."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import BackendError, DTypeError, NonFiniteError, ShapeError


def test_shapes_and_conversion():
    data = gp.Data([1, 2, 3], [4, 5, 6])
    assert data.X.shape == (3, 1) and data.X.dtype == float and data.n == 3
    grid = gp.Grid([0.0, 1.0], [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(grid.points()[:4], [[0, 2], [0, 3], [0, 4], [1, 2]])
    assert grid.shape == (6, 2)
    assert gp.Data(grid, np.arange(6.0).reshape(2, 3)).y.shape == (6,)


def test_bad_input():
    with pytest.raises(ShapeError, match="3 points but y has 2"):
        gp.Data(np.zeros((3, 1)), np.zeros(2))
    with pytest.raises(ShapeError, match="2 axes, not shape"):
        gp.Data(np.zeros((3, 1, 1)), np.zeros(3))
    with pytest.raises(ShapeError, match="1 axis, not shape"):
        gp.Data(np.zeros((3, 1)), np.zeros((3, 2)))
    with pytest.raises(ShapeError, match=r"shape \(3, 1\); give its column, y\[:, 0\]"):
        gp.Data(np.zeros((3, 1)), np.zeros((3, 1)))
    with pytest.raises(NonFiniteError, match="y holds 1 NaN"):
        gp.Data(np.zeros((3, 1)), np.array([0.0, np.nan, 1.0]))
    with pytest.raises(NonFiniteError, match="X holds 1 NaN or inf"):
        gp.Data(np.array([0.0, np.inf]), np.zeros(2))
    with pytest.raises(DTypeError, match="numbers"):
        gp.Data([[1.0]], ["a"])
    with pytest.raises(DTypeError, match="complex"):
        gp.Data(np.zeros((2, 1)), np.zeros(2, dtype=complex))
    with pytest.raises(DTypeError, match="float32"):
        gp.Data(np.zeros((2, 1), dtype=np.float32), np.zeros(2))
    with pytest.raises(ShapeError, match="no data"):
        gp.Data(np.zeros((0, 1)), np.zeros(0))
    with pytest.raises(ShapeError, match="at least one axis"):
        gp.Grid()
    with pytest.raises(ShapeError, match=r"grid has shape \(2, 3\)"):
        gp.Data(gp.Grid([0.0, 1.0], [2.0, 3.0, 4.0]), np.zeros((3, 2)))


def test_mixed_backends():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(BackendError, match="numpy array and y a torch array"):
        gp.Data(np.zeros((2, 1)), torch.zeros(2))
    with pytest.raises(BackendError, match="numpy array and y a torch array.*is of the library of its step"):
        gp.Data(gp.Grid(gp.Regular(0.0, 0.1, 2)), torch.zeros(2))


def test_scaling_round_trip_at_extreme_magnitudes(rng):
    for unit in (1e-200, 1e-9, 1.0, 1e12, 1e200):
        X = unit * rng.normal(size=(20, 2))
        y = unit * (rng.normal(size=20) + 100)
        scaling = gp.Scaling.of(X, y)
        assert np.all(np.isfinite(scaling.inputs(X)))
        np.testing.assert_allclose(scaling.targets(y).std(), 1.0, rtol=1e-9)
        np.testing.assert_allclose(scaling.mean(scaling.targets(y)), y, rtol=1e-12)


def test_scaling_of_constants():
    X = np.column_stack([np.full(5, 3.0), np.arange(5.0)])
    scaling = gp.Scaling.of(X, np.full(5, 0.1))
    np.testing.assert_array_equal(scaling.inputs(X)[:, 0], 0)
    np.testing.assert_allclose(scaling.targets(np.full(5, 0.1)), 0, atol=1e-15)
    assert scaling.y_scale == 1.0
    zero = gp.Scaling.of(np.zeros((3, 1)), np.zeros(3))
    assert zero.x_scale[0] == 1.0 and zero.y_scale == 1.0

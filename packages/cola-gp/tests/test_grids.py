"""Grids: axes of points, regular axes, subsets; what Data makes of missing targets."""

import itertools

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import NonFiniteError, ShapeError


def test_points_are_all_combinations(rng):
    X, tasks, time = rng.normal(size=(4, 2)), np.arange(3.0), gp.Regular(1.0, 0.5, 2)
    grid = gp.Grid(X, tasks, time)
    assert grid.sizes == (4, 3, 2) and grid.widths == (2, 1, 1) and grid.shape == (24, 4)
    expected = [[*a, b, c] for a, b, c in itertools.product(X, tasks, [1.0, 1.5])]
    np.testing.assert_array_equal(grid.points(), expected)
    assert [c.start for c in grid.columns] == [0, 2, 3]


def test_affine_moves_every_axis(rng):
    grid = gp.Grid(rng.normal(size=(4, 2)), rng.normal(size=3), gp.Regular(1.0, 0.5, 2))
    shift, scale = rng.normal(size=4), rng.uniform(0.5, 2, 4)
    np.testing.assert_allclose(
        grid.affine(shift, scale).points(), (grid.points() - shift) / scale, rtol=1e-12
    )
    subset = gp.GridSubset(grid, [5, 0, 7])
    np.testing.assert_allclose(
        subset.affine(shift, scale).points(), ((grid.points() - shift) / scale)[[5, 0, 7]]
    )
    assert isinstance(grid.affine(shift, scale).axes[2], gp.Regular)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_regular_is_checked(dtype):
    x = np.linspace(3, 5, 101).astype(dtype)
    axis = gp.Regular.of(x)
    assert axis.count == 101 and axis.dtype == dtype
    np.testing.assert_allclose(axis.coordinates(), x, rtol=4 * np.finfo(dtype).eps)
    x[50] += 1e-3
    with pytest.raises(ValueError, match="not equally spaced"):
        gp.Regular.of(x)
    assert gp.Regular.of(x, tol=1e-2).count == 101
    with pytest.raises(ShapeError, match="count=0"):
        gp.Regular(0.0, 1.0, 0)
    with pytest.raises(ValueError, match="step other than zero"):
        gp.Regular(0.0, 0.0, 3)
    assert gp.Regular.of([2.0]).shape == (1,)


def test_missing_targets_become_a_subset(rng):
    grid = gp.Grid(np.arange(3.0), np.arange(4.0))
    y = rng.normal(size=(3, 4))
    y[1, 2] = y[2, 0] = np.nan
    data = gp.Data(grid, y)
    assert isinstance(data.X, gp.GridSubset) and data.n == 10 and data.X.shape == (10, 2)
    known = ~np.isnan(y.ravel())
    np.testing.assert_array_equal(data.X.points(), grid.points()[known])
    np.testing.assert_array_equal(data.y, y.ravel()[known])
    again = gp.Data(gp.GridSubset.observed(grid, y), y.ravel()[known])
    np.testing.assert_array_equal(again.X.index, data.X.index)
    assert isinstance(gp.Data(grid, np.zeros((3, 4))).X, gp.Grid)


def test_bad_subsets_and_grids_say_why():
    grid = gp.Grid(np.arange(3.0), np.arange(4.0))
    with pytest.raises(NonFiniteError, match="all 12 targets"):
        gp.Data(grid, np.full((3, 4), np.nan))
    with pytest.raises(NonFiniteError, match="1 NaN or infinite"):
        gp.Data(grid, np.full(12, 1.0) + np.where(np.arange(12) == 3, np.inf, 0))
    with pytest.raises(ShapeError, match="12 points"):
        gp.GridSubset(grid, [0, 12])
    with pytest.raises(ValueError, match="occurs twice"):
        gp.GridSubset(grid, [0, 0])
    with pytest.raises(TypeError, match="integer"):
        gp.GridSubset(grid, [0.5])
    with pytest.raises(ShapeError, match="grid axis 1 is empty"):
        gp.Grid(np.arange(3.0), np.zeros((0, 2)))


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_grids_of_other_libraries(library, rng):
    pytest.importorskip(library)
    from cola_core.backends import get_backend

    backend = get_backend(library)
    X, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 3))
    y[1, 1] = np.nan
    axes = (backend.asarray(X), gp.Regular.of(backend.asarray(np.arange(3.0))))
    data = gp.Data(gp.Grid(*axes), backend.asarray(y))
    np.testing.assert_allclose(
        backend.to_numpy(data.X.points()), gp.Data(gp.Grid(X, np.arange(3.0)), y).X.points(), rtol=1e-6
    )


def test_scaled_and_saved_with_missing_values(tmp_path, rng):
    grid = gp.Grid(gp.Regular(100.0, 0.1, 6), np.array([1.0, 5.0, 7.0, 20.0]))
    y = 1e3 + rng.normal(size=(6, 4))
    y[2, 1] = np.nan
    predictor = gp.Predictor.fit(grid, y, max_iters=3)
    assert isinstance(predictor.data.X, gp.GridSubset) and predictor.data.n == 23
    assert isinstance(predictor.data.X.grid.axes[0], gp.Regular)
    predictor.save(tmp_path / "m.npz")
    again, _ = gp.Predictor.load(tmp_path / "m.npz")
    np.testing.assert_allclose(again.mean(grid), predictor.mean(grid), rtol=1e-12)
    np.testing.assert_allclose(again.mean(grid), predictor.mean(grid.points()), rtol=1e-9)
    np.testing.assert_array_equal(again.data.X.missing, [9])

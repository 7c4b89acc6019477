"""The affine pair (A, b) of every boundary combination against assembly by ghost elimination."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cola_core.backends import get_backend
from cola_pde.boundary import BY_LETTER, Dirichlet, Neumann, Periodic, normalise
from cola_pde.discretise import neg_laplacian
from cola_pde.errors import BoundaryError, GridError
from cola_pde.grid import Axis, Grid
from cola_pde.ops import Diffusion1D, Laplacian1D
from cola_pde.space import Space
from cola_pde.spectrum import KINDS


def data(axis, end):
    return lambda x, y: np.sin(1.3 * x + 0.4 * axis) + y * (1.5 - end) - 0.25 * x * y


def pairs(kinds):
    out = []
    for axis, kind in enumerate(kinds):
        if kind == "P":
            out.append((Periodic(), Periodic()))
        else:
            out.append(tuple(type(BY_LETTER[k]())(data(axis, e)) for e, k in enumerate(kind)))
    return tuple(out)


@pytest.mark.parametrize("centrings", list(itertools.product(("cell", "vertex"), repeat=2)), ids="-".join)
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="-".join)
def test_two_dimensional_pairs(kinds, centrings, rng, dense_system):
    box = [(4, -0.5, 0.7), (5, 0.0, 2.0)]
    grid = Grid(*(Axis(*b, centring=c) for b, c in zip(box, centrings, strict=True)))
    space = Space(grid, pairs(kinds))
    given = {(a, e): data(a, e) for a in (0, 1) for e in (0, 1) if kinds[a] != "P"}
    A, b, points = dense_system([(*x, c, k) for x, c, k in zip(box, centrings, kinds, strict=True)], given)
    pair = neg_laplacian(space)
    assert space.shape == tuple(len(p) for p in points)
    for axis, p in enumerate(points):
        np.testing.assert_allclose(space.points(axis), p, atol=1e-14)
    np.testing.assert_allclose(pair.A.to_dense(), A, atol=1e-11)
    np.testing.assert_allclose(0 if pair.b is None else pair.b, b, atol=1e-11)
    u = rng.standard_normal(space.shape)
    before = u.copy()
    np.testing.assert_allclose(pair(u).ravel(), A @ u.ravel() + b.ravel(), atol=1e-10)
    np.testing.assert_array_equal(u, before)
    S = pair.S.to_dense()
    np.testing.assert_allclose(S, S.T, atol=1e-12)


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_tiny_axes(combination, cells, backend_name, dense_system):
    centring, kind = combination
    if (centring, kind, cells) == ("vertex", "DD", 1):
        with pytest.raises(GridError, match="no unknown"):
            _ = Space(Grid(Axis(1, centring="vertex")), "D").shape
        return
    be = get_backend(backend_name)
    conditions = (
        [(Periodic(), Periodic())] if kind == "P" else [tuple(type(BY_LETTER[k]())(2.0) for k in kind)]
    )
    pair = neg_laplacian(Space(Grid(Axis(cells, 0, 3, centring)), conditions), backend=backend_name)
    given = {} if kind == "P" else {(0, 0): lambda x: 2.0, (0, 1): lambda x: 2.0}
    A, b, _ = dense_system([(cells, 0.0, 3.0, centring, kind)], given)
    np.testing.assert_allclose(be.to_numpy(pair.A.to_dense()), A, atol=1e-13)
    if kind != "P":
        np.testing.assert_allclose(be.to_numpy(pair.b), b, atol=1e-13)


def test_three_dimensions_float32_torch_and_jax(backend_name, rng, dense_system):
    be = get_backend(backend_name)
    grid = Grid.box((3, 4, 2), 0.0, (1.0, 2.0, 1.0), ("cell", "vertex", "vertex"))
    space = Space(grid, "DN,N,P")
    pair = neg_laplacian(space, dtype="float32", backend=backend_name)
    A, _, _ = dense_system(
        [(3, 0.0, 1.0, "cell", "DN"), (4, 0.0, 2.0, "vertex", "NN"), (2, 0.0, 1.0, "vertex", "P")]
    )
    assert pair.S.dtype == be.dtype("float32") and pair.b is None
    u = rng.standard_normal(space.shape)
    out = pair(be.asarray(u, dtype="float32"))
    np.testing.assert_allclose(be.to_numpy(out).ravel(), A @ u.ravel(), rtol=1e-4, atol=1e-3)


axes = st.tuples(
    st.integers(1, 5),
    st.floats(-2, 0),
    st.floats(0.1, 3),
    st.sampled_from(["cell", "vertex"]),
    st.sampled_from(KINDS),
).filter(lambda axis: (axis[0], *axis[3:]) != (1, "vertex", "DD"))


@given(st.lists(axes, min_size=1, max_size=3), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_any_grid_in_any_dimension(dense_system, axes, seed):
    rng = np.random.default_rng(seed)
    slopes = rng.standard_normal((len(axes), 2, len(axes)))
    given, conditions = {}, []
    for i, (*_, kind) in enumerate(axes):
        if kind == "P":
            conditions.append("P")
            continue
        for end in (0, 1):
            given[i, end] = lambda *x, s=slopes[i, end]: 1 + sum(c * xi for c, xi in zip(s, x, strict=True))
        conditions.append(tuple(type(BY_LETTER[k]())(given[i, e]) for e, k in enumerate(kind)))
    A, b, points = dense_system(axes, given)
    pair = neg_laplacian(Space(Grid(*(Axis(*axis[:4]) for axis in axes)), conditions))
    u = rng.standard_normal(pair.space.shape)
    scale = np.abs(A).max() + np.abs(b).max()
    np.testing.assert_allclose(pair(u).ravel(), A @ u.ravel() + b.ravel(), atol=1e-12 * max(scale, 1))


def a(x):
    return 1 + x**2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("centring", ["cell", "vertex"])
def test_variable_coefficient_matrix(kind, centring, dense_axis):
    cells = 6
    pair = neg_laplacian(Space(Grid(Axis(cells, 0, 1, centring)), kind), coefficients=[a])
    assert isinstance(pair.S, Diffusion1D)
    h = 1 / cells
    x = pair.space.points(0)
    faces = np.append(x - h / 2, x[-1] + h / 2)
    values = a(faces)
    if kind == "P":  # the faces at both ends are one
        values[0] = values[-1] = a(faces[0] % 1.0)
    elif centring == "vertex":  # a Neumann vertex mirrors its half cell
        values = np.where(faces < 0, a(-faces), np.where(faces > 1, a(2 - faces), values))
    A, _ = dense_axis(cells, h, centring, kind, values)
    np.testing.assert_allclose(pair.A.to_dense(), A, atol=1e-10)


def test_data_forms_agree(rng):
    grid = Grid.box((4, 6))
    shape = Space(grid).shape
    as_callable = neg_laplacian(Space(grid, [(Dirichlet(lambda x, y: 3 + 0 * y), Neumann(0.0)), "D"])).b
    as_number = neg_laplacian(Space(grid, [(Dirichlet(3.0), Neumann(0.0)), "D"])).b
    as_array = neg_laplacian(Space(grid, [(Dirichlet(np.full(shape[1], 3.0)), Neumann(0.0)), "D"])).b
    np.testing.assert_array_equal(as_callable, as_number)
    np.testing.assert_array_equal(as_callable, as_array)


def test_boundary_shorthands():
    assert [type(c).__name__ for c in normalise("DN,P", 2)[0]] == ["Dirichlet", "Neumann"]
    assert normalise("D", 3) == ((Dirichlet(), Dirichlet()),) * 3
    assert normalise(Neumann(1.0), 1) == ((Neumann(1.0), Neumann(1.0)),)
    assert normalise(["N", (Dirichlet(1.0), Neumann())], 2)[1] == (Dirichlet(1.0), Neumann())


def test_constant_coefficients_stay_fast():
    pair = neg_laplacian(Space(Grid.box((4, 4)), "D"), coefficients=[2.0, 3])
    assert all(isinstance(M, Laplacian1D) for M in pair.S.Ms)


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (GridError, lambda: Axis(0)),
        (GridError, lambda: Axis(2.5)),
        (GridError, lambda: Axis(True)),
        (GridError, lambda: Axis(4, 1.0, 1.0)),
        (GridError, lambda: Axis(4, 0.0, np.inf)),
        (GridError, lambda: Axis(4, "a", 1.0)),
        (GridError, lambda: Axis(4, centring="edge")),
        (GridError, lambda: Grid()),
        (GridError, lambda: Grid(4)),
        (GridError, lambda: Grid.box((4, 4), upper=(1.0, 2.0, 3.0))),
        (GridError, lambda: Space("grid")),
        (BoundaryError, lambda: Space(Grid.box((4, 4)), ["D"])),
        (BoundaryError, lambda: Space(Grid.box((4, 4)), "DX")),
        (BoundaryError, lambda: Space(Grid.box((4, 4)), 7)),
        (BoundaryError, lambda: Space(Grid.box((4,)), "PD")),
        (BoundaryError, lambda: Space(Grid.box((4,)), [(Dirichlet(), 3)])),
        (BoundaryError, lambda: neg_laplacian(Space(Grid.box((4, 4)), Dirichlet(np.ones(5))))),
        (BoundaryError, lambda: neg_laplacian(Space(Grid.box((4,)), Dirichlet(np.nan)))),
        (BoundaryError, lambda: neg_laplacian(Space(Grid.box((4,)), Dirichlet("warm")))),
        (GridError, lambda: neg_laplacian(Space(Grid.box((4,))), coefficients=[1, 2])),
        (GridError, lambda: neg_laplacian(Space(Grid.box((4,))), coefficients=[-1.0])),
        (GridError, lambda: neg_laplacian(Space(Grid.box((4,))), coefficients=[np.ones(4)])),
        (GridError, lambda: neg_laplacian(Space(Grid.box((4,))), coefficients=[lambda x: x - 0.5])),
        (GridError, lambda: Space(Grid.box((4,))).evaluate(np.ones(3))),
        (GridError, lambda: Space(Grid.box((4,))).evaluate(lambda x: 1 / (x - x[0]))),
    ],
)
def test_bad_input_is_refused_with_words(error, make):
    with np.errstate(all="ignore"), pytest.raises(error) as caught:
        make()
    assert "\n" not in str(caught.value)

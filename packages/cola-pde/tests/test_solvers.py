"""Poisson, heat, eigenmodes: against dense systems assembled elsewhere, closed forms, measured orders."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg

from cola_core import explain, logdet, solve, trace
from cola_core.backends import get_backend
from cola_core.errors import ColaError, ShapeError
from cola_pde import (
    Axis,
    Dirichlet,
    Grid,
    GridError,
    IncompatibleError,
    Neumann,
    Periodic,
    Space,
    eigenmodes,
    exact_eigenvalues,
    heat,
    neg_laplacian,
    observed_order,
    poisson,
    trigonometric,
)
from cola_pde.spectrum import KINDS

CENTRINGS = ["cell", "vertex"]
ALL = list(itertools.product(CENTRINGS, KINDS))


def problem(kinds, centrings, cells=(4, 5)):
    upper = (0.9, 1.7)
    grid = Grid(*(Axis(n, 0.0, u, c) for n, u, c in zip(cells, upper, centrings, strict=True)))
    axes = [(n, 0.0, u, c, k) for n, u, c, k in zip(cells, upper, centrings, kinds, strict=True)]
    return grid, axes


def weights(space):
    out = np.ones(space.shape)
    for axis in range(space.ndim):
        ends = space.root_weights(axis)
        slabs = np.moveaxis(out, axis, 0)
        slabs[0] *= ends[0] ** 2
        slabs[-1] *= ends[1] ** 2
    return out


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ALL, ALL)), ids=str)
def test_poisson_against_dense_solve(first, second, rng, dense_system):
    centrings, kinds = (first[0], second[0]), (first[1], second[1])
    grid, axes = problem(kinds, centrings)
    case = trigonometric(grid)
    bc = case.conditions(",".join(kinds), 2)
    given = {(a, e): bc[a][e].value for a in (0, 1) for e in (0, 1) if kinds[a] != "P"}
    A, b, _ = dense_system(axes, given)
    space = Space(grid, bc)
    f = rng.standard_normal(space.shape)
    w = weights(space)
    if space.singular:
        f -= np.sum(w * (f - b)) / np.sum(w)
    kept = f.copy()
    found = poisson(grid, f, bc)
    np.testing.assert_array_equal(f, kept)
    expected = np.linalg.lstsq(A, (f - b).ravel(), rcond=None)[0].reshape(space.shape)
    if space.singular:
        expected -= np.sum(w * expected) / np.sum(w)
        assert abs(np.sum(w * found.u)) < 1e-10
        assert found.imbalance < 1e-12
    np.testing.assert_allclose(found.u, expected, atol=1e-10)
    assert found.info.converged and float(found.residual) < 1e-11


@pytest.mark.parametrize(
    ("bc", "dtype"), [("D", "float64"), ("DN,P", "float32"), ("DN,P", "float64"), ("N", "float32")]
)
def test_poisson_on_every_backend(backend_name, bc, dtype, rng):
    be = get_backend(backend_name)
    grid = Grid.box((6, 5), 0.0, 1.0, ("cell", "vertex"))
    f = rng.standard_normal(Space(grid, bc).shape)
    reference = poisson(grid, f, bc, imbalance=1.0)
    found = poisson(grid, be.asarray(f, dtype=dtype), bc, imbalance=1.0)
    assert found.u.dtype == be.dtype(dtype) and type(found.u) is type(be.asarray(f))
    tol = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(be.to_numpy(found.u), reference.u, atol=tol)
    assert bool(found.info.converged)


def test_poisson_gradients(backend_name):
    be = get_backend(backend_name)
    grid = Grid.box((4, 4))
    f, g = np.ones((4, 4)), np.ones(4)

    def loss(f, g):
        bc = [(Dirichlet(g), Neumann()), "D"]
        return be.xp.sum(poisson(grid, f, bc, check=False).u ** 2)

    step = 1e-6
    df, dg = np.zeros_like(f), np.zeros_like(g)
    df[1, 2], dg[1] = step, step
    numeric = [
        (loss(be.asarray(f + df), be.asarray(g)) - loss(be.asarray(f - df), be.asarray(g))) / (2 * step),
        (loss(be.asarray(f), be.asarray(g + dg)) - loss(be.asarray(f), be.asarray(g - dg))) / (2 * step),
    ]
    if backend_name == "torch":
        import torch

        fs, gs = torch.tensor(f, requires_grad=True), torch.tensor(g, requires_grad=True)
        found = torch.autograd.grad(loss(fs, gs), (fs, gs))
    elif backend_name == "jax":
        import jax

        found = jax.grad(loss, argnums=(0, 1))(be.asarray(f), be.asarray(g))
    else:
        # NumPy has no derivatives; the loss is still smooth
        assert all(np.isfinite(float(x)) for x in numeric)
        return
    np.testing.assert_allclose(
        [float(found[0][1, 2]), float(found[1][1])], [float(x) for x in numeric], rtol=1e-6
    )


def test_poisson_under_jit():
    jax = pytest.importorskip("jax")
    grid = Grid.box((6, 6))
    for bc in ("D", "N"):
        f = np.random.default_rng(0).standard_normal((6, 6))
        found = jax.jit(lambda f, bc=bc: poisson(grid, f, bc, imbalance=1.0).u)(jax.numpy.asarray(f))
        np.testing.assert_allclose(np.asarray(found), poisson(grid, f, bc, imbalance=1.0).u, atol=1e-12)


@pytest.mark.parametrize("centring", CENTRINGS)
@pytest.mark.parametrize("kinds", ["D,D", "N,N", "P,P", "DN,ND", "N,D", "P,DN"])
def test_second_order_is_measured(kinds, centring):
    grids = [Grid.box((n, n), 0.0, (1.0, 1.5), centring) for n in (16, 32, 64)]
    table = observed_order(poisson, grids, kinds)
    assert 1.9 < table.order < 2.1, str(table)
    assert len(str(table).splitlines()) == 4


def test_second_order_with_variable_coefficients(combination):
    """-(a u')' = f with u = exp(x), a = 1 + x^2: f = -exp(x) (1 + x)^2, crossed with a plain axis."""
    centring, kind = combination
    if kind == "P":
        a, u, f = (lambda x: 2 + np.cos(x)), np.sin, (lambda x: np.sin(x) * (2 + 2 * np.cos(x)))
        upper, side, bc = 2 * math.pi, None, Periodic()
    else:
        a, u, f = (lambda x: 1 + x**2), np.exp, (lambda x: -np.exp(x) * (1 + x) ** 2)
        upper = 1.0
        side = [
            Dirichlet(u(e)) if letter == "D" else Neumann((-1, 1)[i] * np.exp(e))
            for i, (e, letter) in enumerate(zip((0.0, 1.0), kind, strict=True))
        ]
        bc = tuple(side)
    errors = []
    for n in (32, 64):
        grid = Grid(Axis(n, 0.0, upper, centring), Axis(4, 0.0, 1.0))
        found = poisson(grid, lambda x, y: f(x) + 0 * y, [bc, Neumann()], coefficients=[a, 3.0])
        w = weights(found.space)
        error = found.u - u(found.space.coordinates()[0])
        if found.space.singular:
            error = error - np.sum(w * error) / np.sum(w)
        errors.append(np.max(np.abs(error)))
    assert 1.8 < math.log2(errors[0] / errors[1]) < 2.2, errors


def test_three_dimensions(rng, dense_system):
    grid = Grid.box((3, 4, 2), 0.0, (1.0, 2.0, 1.0), ("cell", "vertex", "cell"))
    axes = [(3, 0.0, 1.0, "cell", "DN"), (4, 0.0, 2.0, "vertex", "NN"), (2, 0.0, 1.0, "cell", "P")]
    A, _, _ = dense_system(axes)
    f = rng.standard_normal(Space(grid, "DN,N,P").shape)
    np.testing.assert_allclose(
        poisson(grid, f, "DN,N,P").u.ravel(), np.linalg.solve(A, f.ravel()), atol=1e-11
    )


def test_one_axis_and_one_unknown():
    grid = Grid(Axis(1))
    assert poisson(grid, 4.0, "D").u == pytest.approx([1.0])
    assert poisson(grid, 0.0, "N").u == pytest.approx([0.0])
    x = Space(Grid(Axis(8))).points(0)
    u = poisson(Grid(Axis(8, centring="vertex")), 2.0, "D").u  # the scheme is exact for parabolas
    y = np.arange(1, 8) / 8
    np.testing.assert_allclose(u, y * (1 - y), atol=1e-14)
    assert len(x) == 8


@pytest.mark.parametrize("kind", ["NN", "P"])
def test_singular_and_heat_on_one_long_axis_with_a_variable_coefficient(kind, rng):
    """So large that a function of the lone factor would be left to Lanczos, wrong for a pseudo-inverse."""
    n = 1100
    grid = Grid(Axis(n))
    coefficients = [lambda x: 2 + np.sin(2 * np.pi * x)]
    f = rng.standard_normal(n)
    found = poisson(grid, f - f.mean(), kind, coefficients=coefficients)
    assert found.residual < 1e-8 and abs(found.u.mean()) < 1e-10
    later = heat(grid, f, 1e-5, kind, coefficients=coefficients)
    w, V = np.linalg.eigh(found.operator.A.to_dense())
    np.testing.assert_allclose(later.u, V @ (np.exp(-1e-5 * w) * (V.T @ f)), atol=1e-9)


def test_square_centre_value():
    """-Laplacian(u) = 1 on the unit square: u at the centre is 0.0736713532815 (exact series)."""
    values = []
    for n in (32, 64):
        u = poisson(Grid.box((n, n), centring="vertex"), 1.0, "D").u
        values.append(u[n // 2 - 1, n // 2 - 1])
    extrapolated = (4 * values[1] - values[0]) / 3
    assert abs(extrapolated - 0.0736713532815) < 1e-7
    assert abs(values[1] - 0.0736713532815) < 1e-4


def test_fast_path_is_found_by_dispatch():
    S = neg_laplacian(Space(Grid.box((8, 8)), "D")).S
    plan = str(explain(solve, S, np.ones(64)))
    assert "eigh/laplacian1d" in plan and "pde" in plan
    dense = S.to_dense()
    assert float(logdet(S)) == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    assert float(trace(S)) == pytest.approx(np.trace(dense), rel=1e-13)


def test_incompatible_problems_are_refused():
    grid = Grid.box((16, 16))
    with pytest.raises(IncompatibleError, match="mean"):
        poisson(grid, 1.0, "N")
    with pytest.raises(IncompatibleError):
        poisson(grid, 0.0, Neumann(1.0))
    balanced = poisson(grid, -4.0, Neumann(1.0))  # flux in through four sides of length 1 balances the sink
    assert balanced.imbalance < 1e-14 and float(balanced.residual) < 1e-12
    projected = poisson(grid, 1.0, "P", imbalance=1.0)
    np.testing.assert_allclose(projected.u, 0, atol=1e-14)
    assert projected.imbalance > 0.4


@pytest.mark.parametrize(("centring", "kind"), ALL)
def test_heat_against_dense_exponential(centring, kind, rng, dense_system):
    other = ("vertex", "DN")
    grid, axes = problem((kind, other[1]), (centring, other[0]))
    bc = trigonometric(grid).conditions(f"{kind},{other[1]}", 2)
    given = {(a, e): bc[a][e].value for a in (0, 1) for e in (0, 1) if axes[a][4] != "P"}
    A, b, _ = dense_system(axes, given)
    space = Space(grid, bc)
    u0, f = rng.standard_normal(space.shape), rng.standard_normal(space.shape)
    t = 0.03
    # the affine system u' = -A u + (f - b) as one linear system of size N + 1
    N = space.size
    M = np.zeros((N + 1, N + 1))
    M[:N, :N], M[:N, N] = -t * A, t * (f - b).ravel()
    expected = (scipy.linalg.expm(M) @ np.append(u0.ravel(), 1.0))[:N]
    kept = u0.copy()
    found = heat(grid, u0, t, bc, source=f)
    np.testing.assert_array_equal(u0, kept)
    np.testing.assert_allclose(found.u.ravel(), expected, atol=1e-11)


def test_heat_keeps_its_invariants(backend_name):
    be = get_backend(backend_name)
    grid = Grid.box((8, 8))
    u0 = trigonometric(grid).solution
    start = Space(grid, "N").evaluate(u0)
    for bc in ("N", "P"):
        later = be.to_numpy(heat(grid, u0, 0.05, bc, backend=backend_name).u)
        assert later.mean() == pytest.approx(start.mean(), rel=1e-12)  # no flux, so mass is conserved
        assert later.max() < start.max() and later.min() > start.min()
    far = heat(grid, u0, 1e4, Dirichlet(2.0), backend=backend_name)  # towards the steady state, in one step
    np.testing.assert_allclose(be.to_numpy(far.u), 2.0, atol=1e-9)
    np.testing.assert_allclose(be.to_numpy(heat(grid, u0, 0.0, backend=backend_name).u), start, atol=1e-13)


def test_heat_decays_like_the_lowest_mode():
    n, t = 32, 0.1
    grid = Grid.box((n, n))
    found = heat(grid, lambda x, y: np.sin(np.pi * x) * np.sin(np.pi * y), t)
    rate = 2 * (2 * n * math.sin(math.pi / (2 * n))) ** 2  # the discrete eigenvalue, exactly
    x, y = found.space.coordinates()
    np.testing.assert_allclose(
        found.u, math.exp(-rate * t) * np.sin(np.pi * x) * np.sin(np.pi * y), rtol=1e-11
    )


@pytest.mark.parametrize(("first", "second"), list(itertools.product(ALL, ALL[::2])), ids=str)
def test_eigenmodes_against_dense(first, second, dense_system):
    centrings, kinds = (first[0], second[0]), (first[1], second[1])
    grid, axes = problem(kinds, centrings)
    A, _, _ = dense_system(axes)
    modes = eigenmodes(grid, 7, ",".join(kinds))
    expected = np.sort(np.linalg.eigvals(A).real)[:7]
    np.testing.assert_allclose(modes.values, expected, atol=1e-12 * np.abs(A).max())
    w = weights(modes.space) * np.prod(grid.spacings)
    shapes = [modes.mode(i).ravel() for i in range(7)]
    for value, u in zip(modes.values, shapes, strict=True):
        np.testing.assert_allclose(A @ u, value * u, atol=1e-10 * np.abs(A).max())
    gram = np.array([[np.sum(w.ravel() * u * v) for u in shapes] for v in shapes])
    np.testing.assert_allclose(gram, np.eye(7), atol=1e-11)


def test_square_eigenvalues_and_their_multiplicities():
    exact = exact_eigenvalues(Grid.box((4, 4)), 10)
    pairs = sorted(m * m + n * n for m in range(1, 8) for n in range(1, 8))[:10]
    np.testing.assert_allclose(exact, np.pi**2 * np.array(pairs))
    modes = eigenmodes(Grid.box((1024, 1024), centring="vertex"), 8)
    np.testing.assert_allclose(modes.values, exact[:8], rtol=1e-4)
    assert [m for _, m in modes.multiplicities()] == [1, 2, 1, 2, 2]
    h = 1 / 1024
    discrete = [4 / h**2 * (math.sin(m * math.pi * h / 2) ** 2 + math.sin(n * math.pi * h / 2) ** 2)
                for m, n in ((1, 1), (1, 2), (2, 1), (2, 2))]  # fmt: skip
    np.testing.assert_allclose(modes.values[:4], discrete, rtol=1e-13)


def test_torus_and_cube():
    torus = eigenmodes(Grid.box((64, 64)), 9, "P")
    assert [m for _, m in torus.multiplicities()] == [1, 4, 4]
    cube = eigenmodes(Grid.box((32,) * 3), 4, "D")
    assert [m for _, m in cube.multiplicities()] == [1, 3]
    assert cube.values[0] == pytest.approx(3 * math.pi**2, rel=1e-2)


def test_eigenmodes_with_a_variable_coefficient():
    """-((1+x)^2 u')' = lam u on [0, 1], u = 0: lam = 1/4 + (k pi / log 2)^2."""
    grid = Grid(Axis(400, centring="vertex"))
    modes = eigenmodes(grid, 3, "D", coefficients=[lambda x: (1 + x) ** 2])
    exact = [0.25 + (k * math.pi / math.log(2)) ** 2 for k in (1, 2, 3)]
    np.testing.assert_allclose(modes.values, exact, rtol=2e-4)


def test_eigenmodes_on_every_backend(backend_name):
    modes = eigenmodes(Grid.box((6, 5)), 5, "DN,P", backend=backend_name)
    np.testing.assert_allclose(modes.values, eigenmodes(Grid.box((6, 5)), 5, "DN,P").values, rtol=1e-13)
    be = get_backend(backend_name)
    assert type(modes.mode(2)) is type(be.asarray(np.ones(2)))


def test_more_modes_than_unknowns():
    assert len(eigenmodes(Grid.box((2, 2)), 100).values) == 4


@pytest.mark.parametrize(
    ("error", "make"),
    [
        (GridError, lambda: poisson(Grid.box((4,)), np.ones(5))),
        (GridError, lambda: poisson(Grid.box((4,)), np.nan)),
        (GridError, lambda: eigenmodes(Grid.box((4,)), 0)),
        (GridError, lambda: eigenmodes(Grid.box((4,)), 2).mode(2)),
        (GridError, lambda: heat(Grid.box((4,)), np.ones(3), 1.0)),
        (ShapeError, lambda: heat(Grid.box((4,)), 1.0, -1.0)),
        (ShapeError, lambda: heat(Grid.box((4,)), 1.0, math.inf)),
        (ColaError, lambda: poisson(Grid.box((4,)), 1.0, backend="cupy")),
    ],
)
def test_bad_input_is_refused_with_words(error, make):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value)

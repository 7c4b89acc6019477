"""The tree of a composition, and its picture."""

import json
import subprocess
import sys

import numpy as np
import pytest
from zoo import ZOO, installed

import cola_core as cola
from cola_core import ops
from cola_core.picture import regions


# -- describe ------------------------------------------------------------------------------------------------
def test_a_tree():
    A = cola.kron(cola.PSD(np.eye(3)), np.ones((2, 2))) + 0.5 * ops.Identity(6)
    assert str(cola.describe(A)).splitlines() == [
        "Sum  6x6  float64  numpy",
        f"│  104 B, ~{A.matvec_cost.flops:.3g} flop per product",
        "├─ Kronecker  6x6",
        "│  │  104 B, ~60 flop per product",
        "│  ├─ Dense  3x3  PSD, (SelfAdjoint)",
        "│  │     72 B, ~18 flop per product",
        "│  └─ Dense  2x2",
        "│        32 B, ~8 flop per product",
        "└─ ScalarMul  6x6  PSD, SelfAdjoint",
        "      0 B, ~6 flop per product",
    ]
    assert str(A.describe()) == repr(cola.describe(A))


def test_shared_arrays_are_counted_once_and_equal_blocks_folded():
    block = np.ones((4, 4))
    tree = cola.block_diag(*[block] * 200).describe()
    assert tree.bytes == block.nbytes
    assert len(tree.children) == 1 and tree.children[0].repeated == 200
    assert len(str(tree).splitlines()) == 4
    many = str(cola.block_diag(*[np.eye(1 + i) for i in range(40)]).describe())
    assert "... and 28 more" in many and len(many.splitlines()) == 2 + 24 + 1


def test_plain_values():
    A = cola.inv(ops.Sparse(np.ones(3), np.arange(3), np.arange(3), (3, 3)), cola.LU())
    found = json.loads(A.describe().to_json())
    assert found == A.describe().as_dict()
    assert (found["operator"], found["shape"], found["settings"]) == ("Inverse", [3, 3], {"alg": "LU()"})
    (child,) = found["children"]
    assert (child["operator"], child["detail"], child["bytes"]) == ("Sparse", "nnz=3", 72)
    assert found["declared"] == [] and found["library"] == "numpy"


def test_operators_without_arrays_and_in_tuples():
    assert str(cola.describe(ops.Identity(3))).startswith("Identity  3x3  (PSD)")
    assert str(cola.describe(ops.Zero(3, 2))).splitlines()[0] == "Zero  3x2"
    K = ops.Block([[np.eye(2), np.ones((2, 1))], [None, np.eye(1)]])
    assert [c.shape for c in K.describe().children] == [(2, 2), (2, 1), (1, 1)]


@pytest.mark.parametrize("name", list(ZOO))
def test_every_operator_is_described_and_drawn(name, rng):
    build, dense = ZOO[name](rng, False)
    A = build(np.asarray)
    assert str(cola.describe(A)).startswith(type(A).__name__)
    mask = covered(regions(A), dense.shape)
    assert not (np.abs(dense) > 1e-12)[~mask].any()  # where the picture is empty the matrix is zero


def covered(found, shape):
    """Entries whose centre lies in some region."""
    y, x = np.meshgrid(np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5, indexing="ij")
    mask = np.zeros(shape, dtype=bool)
    for r in found:
        inside = (y > r.row) & (y < r.row + r.height) & (x > r.col) & (x < r.col + r.width)
        offset = (x - r.col) / r.width * r.height - (y - r.row)  # above the diagonal: positive
        if r.kind in ("dense", "lowrank", "product", "stripes"):
            mask |= inside
        elif r.kind == "diagonal":
            mask |= inside & (np.abs(offset) < 0.5)
        elif r.kind == "lower":
            mask |= inside & (offset < 0.5)
        elif r.kind == "upper":
            mask |= inside & (offset > -0.5)
        elif r.kind == "band":
            slope = r.slope or r.height / r.width
            offset = slope * (x - r.col) - (y - r.row)
            mask |= inside & (offset < slope * (r.above + 0.5)) & (offset > -r.below - 0.5)
        elif r.kind == "points":
            mask[(r.row + r.rows).astype(int), (r.col + r.cols).astype(int)] = True
    return mask


# -- spy -----------------------------------------------------------------------------------------------------
def kinds(found):
    return [r.kind for r in found if r.kind != "block"]


def test_regions_say_what_is_where():
    A = cola.block_diag(np.ones((2, 3)), ops.Diagonal(np.ones(2)), ops.Triangular(np.ones((3, 3))))
    found = regions(A)
    assert [(r.kind, r.row, r.col, r.height, r.width) for r in found] == [
        ("block", 0, 0, 2, 3),
        ("dense", 0, 0, 2, 3),
        ("block", 2, 3, 2, 2),
        ("diagonal", 2, 3, 2, 2),
        ("block", 4, 5, 3, 3),
        ("lower", 4, 5, 3, 3),
    ]
    assert kinds(regions(ops.LowRank(np.ones((5, 1))) + ops.Identity(5))) == ["lowrank", "diagonal"]
    assert kinds(regions(cola.kron(ops.Identity(3), np.ones((2, 2))))) == ["dense"] * 3
    assert kinds(regions(cola.kron(ops.Triangular(np.ones((3, 3))), ops.Identity(2)))) == ["diagonal"] * 6
    assert kinds(regions(ops.FunctionOperator(lambda x: x, (3, 3)))) == ["product"]
    assert kinds(regions(ops.Dense(np.ones((3, 3))) @ ops.Triangular(np.ones((3, 3))))) == ["product"]
    assert kinds(regions(2 * ops.Triangular(np.ones((3, 3)), lower=False))) == ["upper"]
    assert regions(ops.Zero(3, 3)) == []


def fields(r):
    return (r.kind, r.row, r.col, r.height, r.width, r.below, r.above)


def test_bands_are_bands_and_corners():
    wide = np.array([2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    assert [fields(r) for r in regions(ops.Circulant(wide))] == [
        ("band", 0, 0, 8, 8, 1, 1),
        ("lower", 7, 0, 1, 1, 0, 0),
        ("upper", 0, 7, 1, 1, 0, 0),
    ]
    assert kinds(regions(ops.Circulant(np.ones(8)))) == ["stripes"]
    narrow = ops.Toeplitz(np.array([1.0, 2.0, 0.0, 0.0]), np.array([1.0, 0.0, 3.0, 0.0, 0.0]))
    assert [fields(r) for r in regions(narrow)] == [("band", 0, 0, 4, 5, 1, 2)]
    assert kinds(regions(ops.Toeplitz(np.ones(3)))) == ["stripes"]
    (found,) = regions(ops.Hankel(np.ones(3), np.ones(4)))
    assert (found.kind, found.slope) == ("stripes", -1)
    for A, below, above in (
        (ops.Banded(np.ones((4, 6)), (2, 1)), 2, 1),
        (ops.Tridiagonal(np.ones(5), np.ones(6), np.ones(5)), 1, 1),
    ):
        assert [fields(r) for r in regions(A)] == [("band", 0, 0, 6, 6, below, above)]


def test_reflections_projections_and_products_by_entries():
    v = np.arange(1.0, 5.0)
    assert kinds(regions(ops.Householder(v))) == ["diagonal", "lowrank"]
    P = ops.Projection.onto(v[:, None])
    assert kinds(regions(P)) == ["lowrank"]
    assert kinds(regions(ops.Projection.onto(v[:, None], complement=True))) == ["diagonal", "lowrank"]
    T = ops.Triangular(np.ones((4, 4)))
    assert kinds(regions(ops.HadamardProduct(np.ones((4, 4)), T))) == ["lower"]
    assert kinds(regions(ops.HadamardProduct(np.ones((4, 4)), P))) == ["dense"]
    found = regions(ops.KhatriRao(np.ones((2, 4)), T))
    assert [fields(r)[:5] for r in found if r.kind == "lower"] == [
        ("lower", 0, 0, 4, 4),
        ("lower", 4, 0, 4, 4),
    ]
    assert [fields(r)[:5] for r in regions(ops.KhatriRao(np.ones((4, 2)), T, rowwise=True))][1::2] == [
        ("lower", 0, 0, 4, 4),
        ("lower", 0, 4, 4, 4),
    ]
    assert kinds(regions(ops.Adjoint(T))) == ["upper"] and kinds(regions(cola.inv(T))) == ["lower"]
    (turned,) = regions(ops.Transpose(ops.Banded(np.ones((3, 6)), (2, 0), (7, 6))))
    assert fields(turned) == ("band", 0, 0, 6, 7, 0, 2)
    K = ops.Kernel(np.ones((3, 1)), np.ones((2, 1)), lambda x, y: x @ y.T)
    assert [fields(r)[:5] for r in regions(K)] == [("dense", 0, 0, 3, 2)]


def test_stacks_and_grids():
    D, T = ops.Diagonal(np.ones(2)), ops.Triangular(np.ones((2, 2)))
    grid = regions(ops.Block([[D, None], [np.ones((3, 2)), np.ones((3, 1))]]))
    assert [fields(r)[:5] for r in grid if r.kind == "block"] == [
        ("block", 0, 0, 2, 2),
        ("block", 2, 0, 3, 2),
        ("block", 2, 2, 3, 1),
    ]
    assert kinds(grid) == ["diagonal", "dense", "dense"]
    beside = regions(ops.Concatenated(D, T, axis=1))
    assert [fields(r)[:3] for r in beside if r.kind != "block"] == [("diagonal", 0, 0), ("lower", 0, 2)]


def test_large_structure_is_drawn_coarsely():
    many = cola.block_diag(*[np.ones((2, 2))] * 5, multiplicities=[10_000] * 5)
    (band,) = regions(many)
    assert (band.kind, band.below, band.above, band.width) == ("band", 2, 2, 100_000)
    n = 100_000
    rows = np.arange(n)
    (points,) = regions(ops.Sparse(np.ones(n), rows, (7 * rows) % n, (n, n)), max_size=64)
    assert points.rows.size <= 64 * 64
    (band,) = regions(cola.kron(ops.Identity(5_000), np.ones((4, 4))))
    assert (band.kind, band.below, band.height) == ("band", 4, 20_000)


@pytest.mark.skipif(not installed("matplotlib"), reason="matplotlib is not installed")
def test_the_artists_are_where_the_regions_are():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    A = cola.block_diag(np.ones((2, 3)), ops.Diagonal(np.ones(2)), ops.Permutation([1, 0]))
    ax = A.spy()
    assert ax.get_xlim() == (0, 7) and ax.get_ylim() == (6, 0) and ax.get_aspect() == 1
    drawn = [(p.get_gid(), (p.get_x(), p.get_y(), p.get_width(), p.get_height())) for p in ax.patches]
    assert [gid for gid, _ in drawn] == ["block", "dense", "block", "block"]
    np.testing.assert_allclose(drawn[1][1], (0, 0, 3, 2), atol=1e-9)
    np.testing.assert_allclose(drawn[2][1], (3, 2, 2, 2), atol=1e-9)
    line, points = ax.lines
    assert line.get_gid() == "diagonal" and line.get_xdata() == [3, 5] and line.get_ydata() == [2, 4]
    assert points.get_gid() == "points"
    assert points.get_xdata().tolist() == [6.5, 5.5] and points.get_ydata().tolist() == [4.5, 5.5]
    given = pyplot.figure().add_subplot()
    assert cola.spy(ops.Triangular(np.eye(3)) + ops.LowRank(np.ones((3, 1))), ax=given) is given
    triangle, rank = given.patches
    from cola_core.picture import Region, _artists

    (band,) = _artists(Region("band", 0, 0, 4, 6, 1, 2, slope=1.0), "k")
    corners = {tuple(map(float, p)) for p in band.get_xy()}
    assert corners == {(0, 0), (2, 0), (6, 4), (3, 4), (0, 1)}
    assert triangle.get_xy().tolist()[:3] == [[0, 0], [0, 3], [3, 3]] and rank.get_hatch() == "///"
    given.figure.canvas.draw()
    pyplot.close("all")


@pytest.mark.skipif(not installed("matplotlib"), reason="matplotlib is not installed")
def test_the_artists_of_bands_and_stripes():
    from matplotlib import pyplot

    ax = ops.Toeplitz(np.array([2.0, -1.0, 0.0, 0.0])).spy()
    (band,) = ax.patches
    assert band.get_gid() == "band" and not ax.lines
    corners = {tuple(map(float, p)) for p in band.get_xy()}
    assert corners == {(0, 0), (1, 0), (4, 3), (4, 4), (3, 4), (0, 1)}
    for A, sign in ((ops.Toeplitz(np.ones(4), np.ones(6)), 1), (ops.Hankel(np.ones(4), np.ones(6)), -1)):
        ax = A.spy()
        (field,) = ax.patches
        assert (field.get_width(), field.get_height(), field.get_gid()) == (6, 4, "stripes")
        assert len(ax.lines) > 4 and {line.get_gid() for line in ax.lines} == {"stripes"}
        for line in ax.lines:
            (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
            assert np.isclose((y1 - y0) / (x1 - x0), sign)
            assert min(x0, x1) >= 0 and max(x0, x1) <= 6 and y0 >= 0 and y1 <= 4 + 1e-9
    ax = ops.Sparse(np.ones(2), np.array([0, 2]), np.array([1, 0]), (3, 2)).spy()
    (points,) = ax.lines
    assert (points.get_xdata().tolist(), points.get_ydata().tolist()) == ([1.5, 0.5], [0.5, 2.5])
    pyplot.close("all")


def test_without_matplotlib_it_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import numpy as np, cola_core as cola\n"
        "try:\n    cola.spy(np.eye(2))\n"
        "except cola.errors.ColaError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cola-core[plot]" in done.stdout

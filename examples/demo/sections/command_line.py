"""Two finite-element matrices from pyamg's collection, worked on through the command line as a user would."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from figures import GREY, picture, subplots
from section import Section, relative

from cola_core import PSD, SelfAdjoint
from cola_core.io import write_matrix_market
from cola_core.ops import Sparse

TITLE = "Command line: finite-element matrices from files"
ASKED = (
    "Two stiffness matrices that ship with pyamg are written to Matrix Market files: Laplace's "
    "equation on a triangulation "
    "around an airfoil, and linear elasticity of a clamped bar. What is in the files? Solve with a "
    "load, find the ten lowest "
    "eigenvalues, the log-determinant and the trace, and show who answers, and how well."
)


def run(section: Section) -> None:
    """Files, commands, figures, checks."""
    from pyamg.gallery import load_example

    airfoil(section, load_example("airfoil"))
    bar(section, load_example("bar"))


def airfoil(section: Section, data: dict[str, Any]) -> None:
    """Every matrix command, on the airfoil."""
    matrix, points = data["A"].tocsr(), np.asarray(data["vertices"])
    triangles = np.asarray(data["elements"])
    inside, load = unknowns(points, triangles)
    section.heading("An airfoil")
    write_matrix_market(
        section.folder / "airfoil.mtx", SelfAdjoint(Sparse.from_scipy(matrix)), "pyamg: airfoil"
    )
    np.save(section.folder / "airfoil-load.npy", load[inside])
    section.command("info", "airfoil.mtx")
    section.command("explain", "solve", "airfoil.mtx", "--psd", "--candidates")
    section.command("solve", "airfoil.mtx", "--psd", "--rhs", "airfoil-load.npy", "--out", "airfoil-u.npy")
    section.text(
        "The same system by an algorithm asked for by name; the residual is recomputed from the answer."
    )
    section.command(
        "solve", "airfoil.mtx", "--psd", "--rhs", "airfoil-load.npy", "--alg", "cg", "--tol", "1e-10"
    )
    section.command("eigs", "airfoil.mtx", "-k", "10", "--out", "airfoil-modes.npz")
    section.command("logdet", "airfoil.mtx")
    section.command("logdet", "airfoil.mtx", "--psd", "--alg", "slq", "--key", "0")
    section.command("trace", "airfoil.mtx")
    section.command("trace", "airfoil.mtx", "--alg", "hutchinson", "--key", "0")

    dense = matrix.toarray()
    u = np.load(section.folder / "airfoil-u.npy")
    modes = np.load(section.folder / "airfoil-modes.npz")
    exact = np.linalg.eigvalsh(dense)
    logdet = json.loads(section.command("logdet", "airfoil.mtx", "--json"))
    guess = json.loads(
        section.command("logdet", "airfoil.mtx", "--psd", "--alg", "slq", "--key", "0", "--json")
    )
    trace = json.loads(section.command("trace", "airfoil.mtx", "--json"))
    estimate = json.loads(
        section.command("trace", "airfoil.mtx", "--alg", "hutchinson", "--key", "0", "--json")
    )
    truth = float(np.linalg.slogdet(dense)[1])
    section.check(
        "airfoil: residual of the solution, by SciPy's product", relative(matrix @ u, load[inside]), 1e-12
    )
    section.check(
        "airfoil: ten eigenvalues against LAPACK", np.abs(modes["values"] / exact[:10] - 1).max(), 1e-9
    )
    section.check("airfoil: log-determinant against LAPACK", abs(logdet["logdet"] / truth - 1), 1e-11)
    section.check(
        "airfoil: trace against the sum of the diagonal", abs(trace["trace"] / matrix.trace() - 1), 1e-14
    )
    section.check(
        "airfoil: error of the estimated log-determinant, in its own standard errors",
        abs(guess["logabsdet"] - truth) / guess["standard_error"],
        4.0,
    )
    section.check(
        "airfoil: error of the estimated trace, in its own standard errors",
        abs(estimate["trace"] - matrix.trace()) / estimate["standard_error"],
        4.0,
    )
    section.numbers["airfoil"] = {
        "unknowns": matrix.shape[0],
        "nonzeros": int(matrix.nnz),
        "eigenvalues": modes["values"].tolist(),
        "logdet": logdet["logdet"],
        "logdet_estimate": guess["logabsdet"],
        "logdet_standard_error": guess["standard_error"],
        "trace": trace["trace"],
        "trace_estimate": estimate["trace"],
        "trace_standard_error": estimate["standard_error"],
        "solve_method": logdet["plan"]["by"],
    }
    figure, axes = subplots(1, 4, height=3.1)
    draw(axes[0], points, triangles, None, "the mesh")
    for ax, values, title in (
        (axes[1], u, "solution, load 1"),
        (axes[2], modes["vectors"][:, 1], "second mode"),
        (axes[3], modes["vectors"][:, 9], "tenth mode"),
    ):
        nodal = np.zeros(len(points))
        nodal[inside] = values
        draw(ax, points, triangles, nodal, title)
    section.figure(
        figure,
        f"{len(points)} points, {len(triangles)} triangles; u = 0 on the outer boundary and on the "
        "airfoil. The solution and the modes are the files that the commands above wrote.",
        vector=False,
    )


def unknowns(points: Any, triangles: Any) -> tuple[Any, Any]:
    """Interior points of a triangulation (the unknowns, in the matrix's order) and the load of f = 1."""
    edges = np.sort(
        np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1
    )
    found, count = np.unique(edges, axis=0, return_counts=True)
    inside = np.setdiff1d(np.arange(len(points)), found[count == 1])
    a, b, c = (points[triangles[:, i]] for i in range(3))
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    load = np.zeros(len(points))
    np.add.at(load, triangles, np.repeat(area[:, None] / 3, 3, axis=1))
    return inside, load


def draw(axes: Any, points: Any, triangles: Any, values: Any, title: str) -> None:
    """A triangulation, or a piecewise linear function on it."""
    picture(axes).set_title(title)
    x, y = points.T
    if values is None:
        axes.triplot(x, y, triangles, color="#2456a6", lw=0.5)
        return
    signed = values.min() < -1e-8 * values.max()
    limit = np.abs(values).max()
    axes.tripcolor(
        x,
        y,
        triangles,
        values,
        shading="gouraud",
        cmap="RdBu_r" if signed else "viridis",
        vmin=-limit if signed else None,
        vmax=limit if signed else None,
    )
    axes.triplot(x, y, triangles, color=GREY, lw=0.15)


def bar(section: Section, data: dict[str, Any]) -> None:
    """A three-dimensional elastic bar, clamped at one end, under its own weight."""
    matrix, points = data["A"].tocsr(), np.asarray(data["vertices"])
    free = matrix.shape[0] // 3
    section.heading("A clamped elastic bar")
    write_matrix_market(
        section.folder / "bar.mtx", PSD(Sparse.from_scipy((matrix + matrix.T) / 2)), "pyamg: bar"
    )
    weight = np.tile([0.0, 0.0, -1.0], free)
    np.savetxt(section.folder / "bar-weight.txt", weight)
    section.command("info", "bar.mtx", "--psd")
    section.command("solve", "bar.mtx", "--psd", "--rhs", "bar-weight.txt", "--out", "bar-u.npy")
    section.command("eigs", "bar.mtx", "--psd", "-k", "10", "--out", "bar-modes.npz")
    u = np.load(section.folder / "bar-u.npy")
    modes = np.load(section.folder / "bar-modes.npz")
    exact = np.linalg.eigvalsh(matrix.toarray())[:10]
    section.check("bar: residual of the solution, by SciPy's product", relative(matrix @ u, weight), 1e-10)
    section.check(
        "bar: ten eigenvalues against LAPACK, pairs included", np.abs(modes["values"] / exact - 1).max(), 1e-9
    )
    section.numbers["bar"] = {
        "unknowns": matrix.shape[0],
        "nonzeros": int(matrix.nnz),
        "eigenvalues": modes["values"].tolist(),
    }
    figure, axes = subplots(1, 3, height=2.5, subplot_kw={"projection": "3d"})
    elements = np.asarray(data["elements"])
    vectors = modes["vectors"]
    for ax, field, size, title in (
        (axes[0], u, 0.6, "under its own weight"),
        (axes[1], vectors[:, 0], 0.6, "first mode: bending"),
        (axes[2], vectors[:, 2], 0.35, "third mode: torsion"),
    ):
        moved = points.copy()
        moved[:free] += size * field.reshape(-1, 3) / np.abs(field).max()
        bricks(ax, points, moved, elements)
        ax.set_title(title)
    section.figure(
        figure, f"{len(elements)} bricks, {matrix.shape[0]} displacements; not to scale.", vector=False
    )


FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def bricks(axes: Any, points: Any, moved: Any, elements: Any) -> None:
    """The outer faces of a mesh of bricks, coloured by how far they moved."""
    from matplotlib import colormaps
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    seen: dict[tuple[int, ...], list[int]] = {}
    for element in elements:
        corners = ordered(points, element)
        for face in FACES:
            nodes = [int(corners[i]) for i in face]
            key = tuple(sorted(nodes))
            if key in seen:
                seen[key] = []  # shared by two bricks: inside
            else:
                seen[key] = nodes
    outer = [nodes for nodes in seen.values() if nodes]
    distance = np.linalg.norm(moved - points, axis=1)
    colours = colormaps["viridis"](np.array([distance[nodes].mean() for nodes in outer]) / distance.max())
    faces = Poly3DCollection(
        [moved[nodes] for nodes in outer], facecolors=colours, edgecolors="#1d2530", linewidths=0.2
    )
    axes.add_collection3d(faces)
    low, high = points.min(axis=0) - 0.1, points.max(axis=0) + 0.1
    axes.set(xlim=(low[0], high[0]), ylim=(low[1] - 0.3, high[1] + 0.3), zlim=(low[2] - 0.6, high[2] + 0.3))
    axes.set_box_aspect((high[0] - low[0], high[1] - low[1] + 0.6, high[2] - low[2] + 0.9), zoom=1.2)
    axes.view_init(26, -52)
    axes.set_axis_off()


def ordered(points: Any, element: Any) -> Any:
    """The corners of an axis-parallel brick, by z, then y, then x."""
    corners = points[element]
    return element[np.lexsort((corners[:, 0], corners[:, 1], corners[:, 2]))]

"""cola-emlp: all linear maps that commute with a group, with their number certified."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from figures import picture, subplots
from section import Section

import cola_core as cola
from cola_emlp import SO, S, T, equivariance_error, equivariant_basis

TITLE = "Equivariance: maps that commute with a group"
ASKED = (
    "Find every linear map from matrices to matrices, T(2) -> T(2), that commutes with all "
    "permutations of five points, S(5), and "
    "with all rotations of space, SO(3): an orthonormal basis, its dimension, and the error on "
    "random group elements."
)
# S(5): partitions of four indices (Bell number 15). SO(3): the three isotropic tensors of rank 4 (Weyl 1939).
CASES = (("S(5)", S(5), 15), ("SO(3)", SO(3), 3))


def run(section: Section) -> None:
    """Bases, projectors, pictures."""
    rows, pictures = [], []
    for name, group, known in CASES:
        start = time.perf_counter()
        basis = equivariant_basis((T(2) >> T(2))(group))
        seconds = time.perf_counter() - start
        error = equivariance_error(basis, basis.rep, samples=10, key=0)
        projector = basis.projector()
        trace = float(np.real(cola.trace(projector)))
        rng = np.random.default_rng(0)
        x = rng.standard_normal(basis.size)
        y = np.asarray(projector @ x)
        rows.append(
            [
                name,
                basis.size,
                basis.dimension,
                known,
                f"{basis.residual:.1e}",
                f"{error:.1e}",
                f"{1e3 * seconds:.1f} ms",
                basis.method,
            ]
        )
        section.plan(
            cola.explain(cola.trace, projector),
            f"{name}: explain(trace, projector onto the equivariant maps)",
        )
        section.check(f"{name}: dimension against the known one, {known}", abs(basis.dimension - known), 0)
        section.check(f"{name}: equivariance error on ten random group elements", error, 1e-12)
        section.check(f"{name}: trace of the projector against the dimension", abs(trace - known), 1e-10)
        section.check(
            f"{name}: projecting twice changes nothing", float(np.linalg.norm(projector @ y - y)), 1e-12
        )
        section.numbers[name] = {
            "size": basis.size,
            "dimension": basis.dimension,
            "known_dimension": known,
            "method": basis.method,
            "certified": basis.certified,
            "residual": float(basis.residual),
            "equivariance_error": float(error),
            "seconds": seconds,
        }
        pictures.append((name, basis))
    section.table(
        ["group", "maps", "equivariant", "known", "residual", "equivariance error", "time", "method"], rows
    )
    draw(section, pictures)


def draw(section: Section, pictures: list[tuple[str, Any]]) -> None:
    """S(5): which entries of the map are tied together. SO(3): the three maps."""
    figure, axes = subplots(1, 4, height=2.9, width=11)
    maps = pictures[0][1].maps()
    # basis maps of a permutation group have disjoint supports: number each entry by its map
    picture(axes[0]).imshow(np.abs(maps).argmax(axis=0), cmap="tab20", interpolation="nearest")
    axes[0].set_title("S(5): 15 classes of entries")
    for i, (ax, M) in enumerate(zip(axes[1:], pictures[1][1].maps(), strict=True), 1):
        limit = np.abs(M).max()
        picture(ax).imshow(M, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        ax.set_title(f"SO(3): map {i} of 3")
    section.figure(
        figure,
        "Left: a 25 x 25 matrix commutes with S(5) if entries of one colour are equal. Right: an "
        "orthonormal basis of the 9 x 9 matrices that commute with rotations.",
        vector=False,
    )

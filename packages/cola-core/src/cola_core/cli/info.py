"""``cola-core info FILE``: what is in a matrix file, and what is known about it."""

from __future__ import annotations

import argparse
from typing import Any

from .facts import stored
from .output import bytes_text, facts, json_text, number
from .problem import load_matrix, matrix_options


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="facts about a matrix in a file", description=__doc__)
    matrix_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    args.backend = "numpy"  # facts are about the file
    A = load_matrix(args)
    if not stored(A):
        return _composition(A, args)
    found = describe(A, args.file)
    if args.json:
        print(json_text(found))
        return 0
    m, n = found["shape"]
    rows = [
        ("file", found["file"]),
        ("operator", found["operator"]),
        ("shape", f"{m:,} x {n:,}"),
        (
            "entries",
            f"{found['nnz']:,} nonzero, {found['density']:.3g} of all, {found['nnz_per_row']:.3g} per row",
        ),
        ("dtype", found["dtype"]),
        ("memory", bytes_text(found["memory"])),
        ("1-norm", number(found["norm1"])),
    ]
    if m == n:
        rows += [
            ("symmetric", _symmetric(found)),
            ("bandwidth", f"{found['bandwidth'][0]} below, {found['bandwidth'][1]} above the diagonal"),
            ("diagonal", _diagonal(found)),
            (
                "dominance",
                f"{found['dominant_rows']:,} of {m:,} rows; smallest |a_ii| / sum |a_ij| is {_ratio(found)}",
            ),
        ]
    rows.append(("declared", ", ".join(found["properties"]) or "nothing"))
    facts(rows)
    if not args.quiet and found.get("hint"):
        print(f"\n{found['hint']}")
    return 0


def _composition(A: Any, args: argparse.Namespace) -> int:
    """A saved operator that is no plain matrix: the tree it is."""
    tree = A.describe()
    if args.json:
        print(json_text({"file": str(args.file), "operator": repr(A), "structure": tree.as_dict()}))
        return 0
    m, n = A.shape[-2:]
    facts(
        [
            ("file", args.file),
            ("shape", f"{m:,} x {n:,}"),
            ("memory", bytes_text(tree.bytes)),
            ("known", ", ".join(sorted(p.name for p in A.properties)) or "nothing"),
        ]
    )
    print(f"\n{tree}")
    return 0


def describe(A: Any, file: str) -> dict[str, Any]:
    """The facts as plain values."""
    import numpy as np

    from ..operators import Sparse
    from .facts import asymmetry, bandwidth, diagonal_of, dominance, entries, norm1

    m, n = A.shape[-2:]
    data, _, _ = entries(A)
    nnz = int(np.count_nonzero(data))
    index_bytes = A.rows.nbytes + A.cols.nbytes if isinstance(A, Sparse) else 0
    out: dict[str, Any] = {
        "file": str(file),
        "operator": repr(A),
        "shape": [m, n],
        "nnz": nnz,
        "density": nnz / max(m * n, 1),
        "nnz_per_row": nnz / max(m, 1),
        "dtype": str(A.dtype),
        "memory": int((A.data if isinstance(A, Sparse) else A.to_dense()).nbytes + index_bytes),
        "norm1": norm1(A),
        "properties": sorted(p.name for p in A.properties),
    }
    if m != n:
        return out
    complex_entries = "complex" in out["dtype"]
    largest = float(np.abs(data).max(initial=0.0))
    gap, _ = asymmetry(A, conjugate=False)
    adjoint_gap = asymmetry(A)[0] if complex_entries else gap
    d = diagonal_of(A)
    dominant, ratio = dominance(A)
    out |= {
        "symmetric": gap == 0.0,
        "asymmetry": gap / largest if largest else 0.0,
        "hermitian": adjoint_gap == 0.0,
        "bandwidth": list(bandwidth(A)),
        "diagonal_zeros": int(np.count_nonzero(d == 0)),
        "diagonal_min": float(np.real(d).min(initial=np.inf)) if d.size else None,
        "diagonal_max": float(np.real(d).max(initial=-np.inf)) if d.size else None,
        "dominant_rows": dominant,
        "dominance": ratio,
    }
    out["hint"] = _hint(out)
    return out


def _hint(found: dict[str, Any]) -> str:
    """What to declare, where the entries suggest it; entries alone are never a declaration."""
    if not found["hermitian"] or "PSD" in found["properties"]:
        return ""
    rows = found["shape"][0]
    if found["diagonal_min"] is not None and found["diagonal_min"] > 0 and found["dominant_rows"] == rows:
        return (
            "Self-adjoint, diagonally dominant with a positive diagonal, hence positive semidefinite: "
            "pass --psd."
        )
    if "SelfAdjoint" not in found["properties"]:
        return "The entries are self-adjoint, but nothing declares it: pass --self-adjoint (or --psd)."
    return ""


def _symmetric(found: dict[str, Any]) -> str:
    if found["symmetric"]:
        return "yes" if "complex" not in found["dtype"] or not found["hermitian"] else "yes, and Hermitian"
    if found["hermitian"]:
        return "no; Hermitian"
    return f"no; max |A - A^T| is {found['asymmetry']:.3g} of the largest entry"


def _diagonal(found: dict[str, Any]) -> str:
    if found["diagonal_min"] is None:
        return "empty"
    zeros = found["diagonal_zeros"]
    tail = f", {zeros:,} zeros" if zeros else ", no zeros"
    return f"{found['diagonal_min']:.6g} to {found['diagonal_max']:.6g}{tail}"


def _ratio(found: dict[str, Any]) -> str:
    return "infinite" if found["dominance"] == float("inf") else f"{found['dominance']:.4g}"

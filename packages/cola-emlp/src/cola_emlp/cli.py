"""`cola-core emlp basis GROUP REP`: dimension, method and certificate of an equivariant basis.

`register(subparsers)` adds the command `emlp` to an argparse subparsers object. Imports nothing heavy until
it runs.
"""

from __future__ import annotations

import argparse
import json
from typing import Any


def register(subparsers: Any) -> None:
    """Add `emlp` with its sub commands; the chosen one is stored as `run`, a function of the parsed
    arguments.
    """
    emlp = subparsers.add_parser("emlp", help="groups, representations and equivariant bases")
    commands = emlp.add_subparsers(dest="emlp_command", required=True, metavar="COMMAND")
    basis = commands.add_parser(
        "basis",
        help="the equivariant basis of a representation",
        description="Compute and certify an orthonormal basis of all vectors or linear maps "
        "that a group leaves unchanged.",
        epilog='examples: cola-core emlp basis "SO(3)" "T(2)->T(2)"; cola-core emlp basis "S(5)*O(3)" "V->V"',
    )
    basis.add_argument("group", help='a group: "SO(3)", "S(5)", "O(1,3)", "Sp(2)", "S(5)*O(3)", ...')
    basis.add_argument("rep", help='a representation: "T(2)->T(2)", "3V + T(1,1)", "V^4", ...')
    basis.add_argument(
        "--samples", type=int, default=5, help="random group elements for the equivariance error (default 5)"
    )
    basis.add_argument("--seed", type=int, default=0, help="seed of those elements (default 0)")
    basis.add_argument("--json", action="store_true", help="print one JSON object")
    basis.set_defaults(run=run_basis)


def run_basis(args: argparse.Namespace) -> int:
    """Print the basis report; 0 on success. Errors are `ColaError`s and left to the caller."""
    report = basis_report(args.group, args.rep, samples=args.samples, seed=args.seed)
    if args.json:
        print(json.dumps(report, indent=2))
        return 0
    width = max(map(len, report))
    for name, value in report.items():
        if name == "blocks":
            if len(value) > 1:
                for b in value:
                    print(
                        f"{'block':<{width}}  {b['copies']} x {b['word']}: {b['dimension']} each, "
                        f"{b['method']}"
                    )
            continue
        shown = (
            f"{value:.2e}"
            if name in ("residual", "equivariance_error")
            else f"{value:.4f}"
            if name == "seconds"
            else value
        )
        print(f"{name:<{width}}  {shown}")
    return 0


def basis_report(group: str, rep: str, *, samples: int = 5, seed: int = 0) -> dict[str, Any]:
    """The facts the command prints, as plain data."""
    from time import perf_counter

    from .bases import equivariance_error, equivariant_basis
    from .errors import ParseError
    from .parse import parse_group, parse_rep

    if samples < 1:
        raise ParseError(f"--samples must be at least 1, got {samples}")
    if seed < 0:
        raise ParseError(f"--seed must be at least 0, got {seed}")
    g, r = parse_group(group), parse_rep(rep)
    start = perf_counter()
    basis = equivariant_basis(r, g)
    seconds = perf_counter() - start
    return {
        "group": str(g),
        "representation": repr(r),
        "size": basis.size,
        "dimension": basis.dimension,
        "exact_dimension": basis.exact,
        "method": basis.method,
        "certified": basis.certified,
        "residual": basis.residual,
        "equivariance_error": equivariance_error(basis, basis.rep, samples=samples, key=seed),
        "samples": samples,
        "seconds": seconds,
        "blocks": [
            {"word": repr(w.word), "copies": w.copies, "dimension": w.dimension, "method": w.method}
            for w in basis.words
        ],
    }

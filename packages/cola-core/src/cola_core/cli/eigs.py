"""``cola-core eigs FILE -k 10``: some eigenvalues of a self-adjoint matrix, each with its recomputed
residual."""

from __future__ import annotations

import argparse
from typing import Any

from .output import table
from .problem import algorithm, load_matrix, matrix_options, run_options


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("eigs", help="some eigenvalues and eigenvectors", description=__doc__)
    matrix_options(parser)
    parser.add_argument("-k", type=int, default=6, help="how many (default 6)")
    parser.add_argument(
        "--which",
        default="SA",
        help="SA, LA: smallest, largest; SM, LM: by magnitude (default SA)",
    )
    run_options(parser, key=True)
    parser.add_argument("--out", metavar="FILE", help="write values and vectors here (.npz)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute, report, write."""
    import numpy as np

    from ..algorithms.spectrum import WHICH
    from ..errors import UnknownNameError
    from ..io import check_target, write_arrays
    from ..linalg import eigh
    from .running import asked, finished

    if args.which not in WHICH:
        raise UnknownNameError(f"--which {args.which}; choose from {', '.join(WHICH)}.")
    if args.out is not None:
        check_target(args.out, (".npz",))
    A = load_matrix(args)
    outcome = asked(
        eigh, A, args.k, args.which, alg=algorithm("eigsh", args, A, args.k, args.which), name="eigs"
    )
    w, V = outcome.answer
    be = A._concrete_backend()
    vectors = V.to_dense()
    R = be.to_numpy(A @ vectors - vectors * be.astype(w, A.dtype))
    values, vectors = np.asarray(be.to_numpy(w)), np.asarray(be.to_numpy(vectors))
    gaps = np.linalg.norm(R, axis=0)
    scale = max(float(np.abs(values).max(initial=0.0)), 1e-300)
    written = args.out if args.out is not None and outcome.accepted(args) else None
    if written:
        write_arrays(written, values=values, vectors=vectors, residuals=gaps)

    def show() -> None:
        print_rows = [
            (i + 1, f"{v:.12g}", f"{g:.2e}") for i, (v, g) in enumerate(zip(values, gaps, strict=True))
        ]
        table(("", "eigenvalue", "|A v - w v|"), print_rows, right=(0, 1, 2))
        print()

    info = outcome.info
    method = info.method or "direct"
    if info.matvecs is not None:
        method += f", {int(info.matvecs):,} products: {info.reason}"
    rows = [
        ("method", method),
        ("residual", f"{gaps.max(initial=0.0) / scale:.3e}  (worst, relative to the largest shown)"),
    ]
    if args.out is not None:
        rows.append(("written", str(written) if written else f"no: {args.out} awaits --accept-unreliable"))
    result = {
        "shape": list(A.shape),
        "which": args.which,
        "eigenvalues": values,
        "residuals": gaps,
        "residual": float(gaps.max(initial=0.0) / scale),
        "out": written,
    }
    return finished(args, outcome, rows, result, show)

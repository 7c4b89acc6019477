"""``cola-core solve FILE --rhs b.npy``: solve A x = b, with the plan taken and the residual recomputed."""

from __future__ import annotations

import argparse
from typing import Any

from .problem import algorithm, load_matrix, load_rhs, matrix_options, run_options


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("solve", help="solve a linear system", description=__doc__)
    matrix_options(parser)
    parser.add_argument(
        "--rhs", required=True, metavar="FILE", help="right-hand side: .mtx, .npy, .npz, .txt"
    )
    run_options(parser)
    parser.add_argument("--out", metavar="FILE", help="write x here (.npy, .npz, .mtx, .txt)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Solve, report, write."""
    import numpy as np

    from ..io import check_target, write_array
    from ..linalg import solve
    from .running import asked, finished

    if args.out is not None:
        check_target(args.out)
    A = load_matrix(args)
    b = load_rhs(args.rhs, A, args)
    alg = algorithm("solve", args, A, b)
    outcome = asked(solve, A, b, alg=alg, name="solve")
    be = A._concrete_backend()
    x = np.asarray(be.to_numpy(outcome.answer))
    residual, backward = errors(A, x, b)
    info = outcome.info
    if not np.isfinite(x).all():
        outcome.doubts.append(f"the solution of {args.file} has entries that are NaN or infinite")
    written = args.out if args.out is not None and outcome.accepted(args) else None
    if written:
        write_array(written, x)
    rows = [("method", _method(info)), ("residual", f"{residual:.3e}  (|b - A x| / |b|, recomputed)")]
    if info.tolerance is not None:
        rows[-1] = (
            "residual",
            f"{residual:.3e}  (|b - A x| / |b|, recomputed; tolerance {float(info.tolerance):.1e})",
        )
    rows.append(("backward error", f"{backward:.3e}  (|b - A x| / (|A| |x| + |b|), 1-norms)"))
    rows.append(("|x|", f"{np.linalg.norm(x):.10g}"))
    if args.out is not None:
        rows.append(("written", str(written) if written else f"no: {args.out} awaits --accept-unreliable"))
    result = {
        "shape": list(A.shape),
        "residual": residual,
        "backward_error": backward,
        "norm_x": float(np.linalg.norm(x)),
        "out": written,
    }
    return finished(args, outcome, rows, result)


def errors(A: Any, x: Any, b: Any) -> tuple[float, float]:
    """Relative residual (worst column) and normwise backward error, recomputed in double precision on the
    host."""
    import numpy as np

    from ..operators import Sparse
    from .facts import MAX_ROWS, norm1, stored

    be = A._concrete_backend()
    b = np.asarray(be.to_numpy(b))
    b = b.astype(np.result_type(b.dtype, np.float64))
    columns, X = b.reshape(b.shape[0], -1), x.reshape(x.shape[0], -1)
    if stored(A) or A.shape[-1] <= MAX_ROWS:
        M: Any = A.to_scipy() if isinstance(A, Sparse) else np.asarray(be.to_numpy(A.to_dense()))
        M = M.astype(np.result_type(M.dtype, np.float64))
        norm = (
            norm1(Sparse.from_scipy(M)) if isinstance(A, Sparse) else np.abs(M).sum(axis=0).max(initial=0.0)
        )
    else:
        from scipy.sparse.linalg import onenormest

        from ..interop import to_scipy

        M = to_scipy(A.to(dtype="complex128" if A._is_complex() else "float64"))
        norm = onenormest(M)
    R = columns - M @ X
    size = np.linalg.norm(columns, axis=0)
    gap = np.linalg.norm(R, axis=0)
    relative = np.where(size > 0, gap / np.where(size > 0, size, 1), gap)
    scale = norm * np.abs(X).sum(axis=0) + np.abs(columns).sum(axis=0)
    backward = np.abs(R).sum(axis=0) / np.where(scale > 0, scale, 1)
    return float(relative.max(initial=0.0)), float(backward.max(initial=0.0))


def _method(info: Any) -> str:
    if info.iterations is None:
        return info.method or "direct"
    steps, products = int(info.iterations), int(info.matvecs or 0)
    return f"{info.method}, {steps:,} iterations, {products:,} products: {info.reason}"

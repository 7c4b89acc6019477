"""``cola-core trace FILE``: the trace, exactly or (--alg hutchinson) from random probes with its standard
error."""

from __future__ import annotations

import argparse
from typing import Any

from .output import number
from .problem import algorithm, load_matrix, matrix_options, run_options


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("trace", help="trace, exactly or estimated", description=__doc__)
    matrix_options(parser)
    run_options(parser, key=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute and report."""
    from ..linalg import diag, trace
    from .logdet import number_of
    from .running import asked, finished

    A = load_matrix(args)
    outcome = asked(trace, A, alg=algorithm("trace", args, A), name="trace")
    value = number_of(A, outcome.answer)
    info = outcome.info
    rows = [("trace", number(value)), ("method", info.method or "direct")]
    result: dict[str, Any] = {
        "shape": list(A.shape),
        "trace": value,
        "standard_error": None,
        "rounding_bound": None,
    }
    if info.standard_error is not None:
        result["standard_error"] = float(info.standard_error)
        rows[-1] = ("method", f"{info.method}, {int(info.iterations):,} probes: {info.reason}")
        rows.append(("standard error", f"{result['standard_error']:.3e}"))
    else:
        xp = A.xp
        size = float(xp.sum(xp.abs(diag(A)))) if A.shape[-1] else 0.0
        # Higham 2002, eq. 4.4: the error of a sum of n numbers
        result["rounding_bound"] = A.shape[-1] * float(xp.finfo(A.dtype).eps) * size
        rows.append(("rounding", f"at most {result['rounding_bound']:.1e}  (n eps sum |a_ii|)"))
    return finished(args, outcome, rows, result)

"""``cola-core logdet FILE``: sign and logarithm of the determinant, with the error of the factorisation or
estimate."""

from __future__ import annotations

import argparse
import math
from typing import Any

from .output import number
from .problem import algorithm, load_matrix, matrix_options, run_options


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("logdet", help="log-determinant and sign", description=__doc__)
    matrix_options(parser)
    run_options(parser, key=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compute and report."""
    from ..linalg import slogdet
    from .running import asked, finished

    A = load_matrix(args)
    outcome = asked(slogdet, A, alg=algorithm("slogdet", args, A), name="logdet")
    sign, value = (number_of(A, part) for part in outcome.answer)
    info = outcome.info
    rows = [("log|det|", number(value)), ("sign", number(sign)), ("method", info.method or "direct")]
    result: dict[str, Any] = {
        "shape": list(A.shape),
        "sign": sign,
        "logabsdet": value,
        "logdet": value if sign == 1 else None,
        "standard_error": None,
        "factorisation_residual": None,
    }
    if info.standard_error is not None:
        result["standard_error"] = float(info.standard_error)
        rows.append(("standard error", f"{result['standard_error']:.3e}  (truncation included)"))
    elif math.isfinite(value):
        gap = factorisation_residual(A, outcome.plan)
        if gap is not None:
            result["factorisation_residual"] = gap
            rows.append(
                ("residual", f"{gap:.3e}  (backward error of the factorisation, on a random right-hand side)")
            )
    return finished(args, outcome, rows, result)


def number_of(A: Any, x: Any) -> Any:
    """A Python number from a 0-d array of A's library; real where the imaginary part is zero."""
    value = A._concrete_backend().to_numpy(x).item()
    return value.real if isinstance(value, complex) and value.imag == 0 else value


def factorisation_residual(A: Any, plan: Any) -> float | None:
    """How well the same factorisation solves: a determinant has no residual of its own. None if there was
    none."""
    import warnings

    import numpy as np

    from ..algorithms.base import factorises
    from ..dispatch.registry import REGISTRY
    from ..linalg import solve
    from .solve import errors

    entry = REGISTRY.algorithm("solve", plan.root.by.rpartition("/")[2])
    if entry is None or not factorises(entry.cls):
        return None
    be = A._concrete_backend()
    b = be.normal(0, (A.shape[-1],), A.dtype, A.device)
    with warnings.catch_warnings():
        # how the factorisation did is the question here, and the number answers it
        warnings.simplefilter("ignore")
        x = solve(A, b, entry.cls())
    return errors(A, np.asarray(be.to_numpy(x)), b)[1]

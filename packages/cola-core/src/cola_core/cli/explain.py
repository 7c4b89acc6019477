"""``cola-core explain QUESTION FILE``: who would answer, at what cost, before anything runs."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

from ..errors import UnknownNameError
from ..io.atomic import atomic_path, check_folder
from .problem import algorithm, load_matrix, load_rhs, matrix_options

# question on the command line -> (public function, the name under which its algorithms are registered)
QUESTIONS = {
    "solve": ("solve", "solve"),
    "inv": ("inv", "solve"),
    "lstsq": ("lstsq", "lstsq"),
    "pinv": ("pinv", "lstsq"),
    "det": ("det", "slogdet"),
    "logdet": ("logdet", "slogdet"),
    "slogdet": ("slogdet", "slogdet"),
    "trace": ("trace", "trace"),
    "diag": ("diag", "diag"),
    "norm": ("norm", "norm"),
    "cond": ("cond", "norm"),
    "rank": ("rank", "svdvals"),
    "eigs": ("eigh", "eigsh"),
    "eigh": ("eigh", "eigh"),
    "eigvalsh": ("eigvalsh", "eigvals"),
    "eig": ("eig", "eig"),
    "eigvals": ("eigvals", "eigvals"),
    "svd": ("svd", "svd"),
    "svdvals": ("svdvals", "svdvals"),
    "cholesky": ("cholesky", "cholesky"),
    "lu": ("lu", "lu"),
    "qr": ("qr", "qr"),
    "lq": ("lq", "lq"),
    "schur": ("schur", "schur"),
    "exp": ("exp", "apply_unary"),
    "log": ("log", "apply_unary"),
    "sqrt": ("sqrt", "apply_unary"),
    "isqrt": ("isqrt", "apply_unary"),
    "sin": ("sin", "apply_unary"),
    "cos": ("cos", "apply_unary"),
    "sign": ("sign", "apply_unary"),
    "nullspace": ("nullspace", "svdvals"),
    "orth": ("orth", "svdvals"),
    "root": ("root", "root"),
}
RIGHT_HAND_SIDES = ("solve", "lstsq")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain", help="the plan of a question, before anything runs", description=__doc__
    )
    parser.add_argument("question", metavar="QUESTION", help=", ".join(QUESTIONS))
    matrix_options(parser)
    parser.add_argument("--rhs", metavar="FILE", help="right-hand side of solve, lstsq (default: one column)")
    parser.add_argument("-k", type=int, default=6, help="how many eigenvalues, for eigs (default 6)")
    parser.add_argument("--which", default="SA", help="which of them (default SA)")
    parser.add_argument("--alg", default="auto", metavar="NAME", help="plan with this algorithm")
    parser.add_argument("--candidates", action="store_true", help="also show who was refused, and why")
    parser.add_argument(
        "--analyze",
        action="store_true",
        help="run it, and show measured beside estimated time, memory, products and residual",
    )
    parser.add_argument("--html", metavar="FILE", help="write the plan as one self-contained page")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    from ..dispatch import explain
    from ..errors import UnreliableResultWarning

    if args.html is not None:
        check_folder(args.html)
    A = load_matrix(args)
    public, registered = _question(args.question, A)
    operands: list[Any] = []
    if args.question in RIGHT_HAND_SIDES:
        be = A._concrete_backend()
        operands = [be.zeros((A.shape[-2],), A.dtype) if args.rhs is None else load_rhs(args.rhs, A, args)]
    elif args.rhs is not None:
        raise UnknownNameError(f"--rhs belongs to solve and lstsq, not to {args.question}.")
    if args.question == "eigs":
        operands = [args.k, args.which]
    with warnings.catch_warnings():
        # the answer is thrown away; how far it could be trusted does not matter here
        warnings.simplefilter("ignore", UnreliableResultWarning)
        plan = explain(
            public,
            A,
            *operands,
            alg=algorithm(registered, args, A, *_for_algorithm(args.question, operands)),
            candidates=args.candidates,
            analyze=args.analyze,
        )
    if args.html is not None:
        with atomic_path(args.html) as temporary:
            temporary.write_text(plan.to_html(), encoding="utf-8")
        if not args.json and not args.quiet:
            print(f"written {args.html}", file=sys.stderr)
    print(plan.to_json() if args.json else plan)
    return 0


def _question(name: str, A: Any) -> tuple[Any, str]:
    """The public function and the name its algorithms are registered under; a plugin's question itself."""
    from .. import linalg
    from ..dispatch.question import QUESTIONS as KNOWN
    from ..plugins.manager import MANAGER

    if name in QUESTIONS:
        public, registered = QUESTIONS[name]
        return getattr(linalg, public), registered
    MANAGER.ensure(A)  # a plugin may bring the question
    if name in KNOWN:
        return KNOWN[name], name
    raise UnknownNameError(f"{name!r} is not a question; known are {', '.join(QUESTIONS)}.")


def _for_algorithm(question: str, operands: list[Any]) -> list[Any]:
    """What follows the operator where an algorithm judges whether it applies."""
    if question == "lstsq":  # of columns, and with a tolerance for the rank
        return [*(b if b.ndim > 1 else b[:, None] for b in operands), None]
    return [0] if question == "diag" else operands

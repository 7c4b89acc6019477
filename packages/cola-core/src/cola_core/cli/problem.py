"""The part all matrix commands share: a matrix from a file, what is claimed of it, and the algorithm asked
for."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from typing import Any

from ..errors import PropertyError, ShapeError, UnknownNameError

__all__ = ["algorithm", "load_matrix", "load_rhs", "matrix_options", "run_options"]

DTYPES = ("float32", "float64", "complex64", "complex128")


def matrix_options(parser: argparse.ArgumentParser) -> None:
    """FILE and how to take it."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="the matrix: .mtx, .mtx.gz, .npz (dense, or SciPy sparse), .npy, .txt, or .cola (saved)",
    )
    claims = parser.add_mutually_exclusive_group()
    claims.add_argument(
        "--psd", action="store_true", help="declare it positive semidefinite (checked on probes)"
    )
    claims.add_argument(
        "--self-adjoint",
        action="store_true",
        help="declare it symmetric or Hermitian (checked); .mtx headers may do so",
    )
    parser.add_argument(
        "--backend", default="numpy", help="array library that computes: numpy, torch, jax (default numpy)"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="precision (default: the file's)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run_options(parser: argparse.ArgumentParser, key: bool = False) -> None:
    """Which algorithm, with which settings, and what to do with a doubtful answer."""
    parser.add_argument(
        "--alg", default="auto", metavar="NAME", help="algorithm by name (default: the cheapest that applies)"
    )
    parser.add_argument("--tol", type=float, help="tolerance of an iterative or stochastic algorithm")
    parser.add_argument("--max-iters", type=int, help="limit on its iterations")
    if key:
        parser.add_argument("--key", type=int, help="seed of a stochastic algorithm")
    parser.add_argument(
        "--accept-unreliable",
        action="store_true",
        help="exit 0, and write --out, although a warning was given",
    )


def load_matrix(args: argparse.Namespace) -> Any:
    """The operator, with the user's claims verified as far as entries and probes can."""
    from ..io import read_operator
    from ..operators import Sparse
    from ..properties import PSD, SelfAdjoint

    backend = _backend(args.backend)
    A = read_operator(args.file, backend=backend.name)
    if A.batch_shape:
        raise ShapeError(f"{args.file} holds a batch {A.batch_shape} of operators; commands take one matrix.")
    if args.psd or args.self_adjoint:
        claim = PSD if args.psd else SelfAdjoint
        if not A.is_square:
            raise ShapeError(
                f"{args.file}: a matrix of shape {A.shape} cannot be declared {claim}; it is not square."
            )
        A = claim(A)
        _verify(A, args)
    if args.dtype is not None:
        if "complex" in str(A.dtype) and "complex" not in args.dtype:
            raise PropertyError(
                f"{args.file} is complex; --dtype {args.dtype} would drop the imaginary parts."
            )
        A = A.to(dtype=args.dtype)
    if A.backend is not None and A.backend is not backend:
        if isinstance(A, Sparse):
            A = Sparse(backend.asarray(A.data), A.rows, A.cols, A.size, declared=A.declared)
        else:
            A = A.to(backend=backend.name)
    return A


def _backend(name: str) -> Any:
    from ..backends import get_backend

    if name == "jax" and "jax" not in sys.modules:
        # a file's doubles are meant as doubles; in a process of its own the switch is nobody else's
        os.environ.setdefault("JAX_ENABLE_X64", "1")
    return get_backend(name)


def _verify(A: Any, args: argparse.Namespace) -> None:
    """A false claim gives wrong numbers, so refuse the ones that the entries contradict."""
    import numpy as np

    from ..properties import PSD, check_properties
    from .facts import MAX_ROWS, asymmetry, diagonal_of, stored

    option = "--psd" if args.psd else "--self-adjoint"
    known = stored(A) or A.shape[-1] <= MAX_ROWS  # entries are looked at where they can be had
    worst, where = asymmetry(A) if known else (0.0, (0, 0))
    if worst > 0:
        i, j = where
        size, mirrored = A[i, j], A[j, i]
        scale = max(abs(size), abs(mirrored))
        if worst > 1e-10 * scale:
            raise PropertyError(
                f"{args.file} is not self-adjoint, although {option} says so: entry ({i + 1}, "
                f"{j + 1}) is {size:.6g}, entry ({j + 1}, {i + 1}) is {mirrored:.6g}."
            )
    if known and A.isa(PSD):
        d = np.real(diagonal_of(A))
        if d.size and d.min() < 0:
            i = int(np.argmin(d))
            raise PropertyError(
                f"{args.file} is not positive semidefinite, although --psd says so: diagonal entry "
                f"{i + 1} is {d[i]:.6g}."
            )
    try:
        check_properties(A)
    except PropertyError:
        raise PropertyError(
            f"{args.file} is not positive semidefinite, although {option} says so: a vector v with "
            f"v^H A v < 0 exists."
        ) from None


def load_rhs(path: str, A: Any, args: argparse.Namespace) -> Any:
    """The right-hand side as an array of A's library, precision and size."""
    import numpy as np

    from ..io import read_array

    b = read_array(path)
    n = A.shape[-2]
    if b.ndim not in (1, 2) or b.shape[0] != n:
        raise ShapeError(
            f"{path} has shape {tuple(b.shape)}, but {args.file} is {n}x{A.shape[-1]}: the right-hand "
            f"side must be ({n},) or ({n}, k)."
        )
    want = str(A.dtype).rpartition(".")[2]
    if np.iscomplexobj(b) and "complex" not in want:
        want = {"float32": "complex64"}.get(want, "complex128")
    return A._concrete_backend().asarray(np.ascontiguousarray(b.astype(want, copy=False)))


def algorithm(question: str, args: argparse.Namespace, A: Any, *operands: Any) -> Any:
    """``Auto`` or the named algorithm, with the settings of the command line.

    A setting it lacks is an error, and so is a matrix it does not apply to: CG on one that is not declared
    PSD.
    """
    from ..algorithms import Auto

    given: dict[str, Any] = {name: getattr(args, name, None) for name in ("tol", "max_iters", "key")}
    given = {name: value for name, value in given.items() if value is not None}
    for name, positive in (("tol", "positive"), ("max_iters", "at least 1")):
        if name in given and not given[name] > 0:
            raise UnknownNameError(f"--{name.replace('_', '-')} must be {positive}, not {given[name]}.")
    if args.alg == "auto":
        return Auto(**given)
    from ..plugins.manager import MANAGER

    cls: Any = MANAGER.algorithm(question, args.alg)
    known = {f.name for f in fields(cls)}
    for name in given:
        if name not in known:
            raise UnknownNameError(
                f"--{name.replace('_', '-')} does not apply: {cls.__name__} has no such setting."
            )
    chosen = cls(**given)
    # with a shape that does not fit, the question itself has the better message
    verdict = chosen.applicable(question, A, *operands) if A.is_square else True
    if verdict is not True:
        raise PropertyError(
            f"--alg {args.alg} does not apply to {args.file}: {verdict}. Declare what you know "
            "(--psd, --self-adjoint), or take another algorithm."
        )
    return chosen

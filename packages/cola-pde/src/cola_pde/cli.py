"""``cola-core pde poisson|eigen|heat``: solve model problems on a box and print plan, residual and time.

The problem is the manufactured one (`cola_pde.trigonometric`), so the error is known, or a constant source
given by ``--source``. ``--out`` writes the grid function with its coordinates to an ``.npz`` file, complete
or not at all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cola_core.io import check_target, write_arrays

from .errors import GridError


def register(subparsers: Any) -> None:
    """Add the ``pde`` command to argparse subparsers; each leaf sets ``run(args) -> exit status``."""
    pde = subparsers.add_parser("pde", help="Poisson, eigenmodes and heat on a box", description=__doc__)
    commands = pde.add_subparsers(dest="pde_command", required=True, metavar="poisson|eigen|heat")
    for name, run, text in (
        ("poisson", run_poisson, "solve -Laplacian(u) = f"),
        ("eigen", run_eigen, "lowest eigenvalues of -Laplacian against the exact ones"),
        ("heat", run_heat, "advance u_t = Laplacian(u), exactly in time"),
    ):
        parser = commands.add_parser(name, help=text, description=text)
        _grid_arguments(parser)
        parser.set_defaults(run=run)
        if name == "eigen":
            parser.add_argument("-k", type=int, default=10, help="how many eigenvalues (default 10)")
        else:
            parser.add_argument("--out", type=Path, help="write u and the coordinates to this .npz file")
        if name == "poisson":
            parser.add_argument(
                "--source", type=float, help="a constant source instead of the manufactured one"
            )
            parser.add_argument(
                "--order",
                type=int,
                default=0,
                metavar="LEVELS",
                help="also measure the order of convergence on this many grids, halving the cells from --n",
            )
        if name == "heat":
            parser.add_argument("--time", type=float, default=0.01, help="how far to advance (default 0.01)")


def _grid_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=256, help="cells per axis (default 256)")
    parser.add_argument("--dim", type=int, default=2, help="number of axes (default 2)")
    parser.add_argument("--length", type=float, default=1.0, help="side of the box (default 1)")
    parser.add_argument(
        "--bc",
        default="D",
        help="D, N or P for all sides, two letters for lower and upper side, comma between axes (default D)",
    )
    parser.add_argument("--centring", choices=("cell", "vertex"), default="cell")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--backend", default="numpy", help="numpy, torch or jax (default numpy)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _grid(args: argparse.Namespace) -> Any:
    from .grid import Grid

    if args.dim < 1:
        raise GridError(f"--dim must be at least 1, got {args.dim}")
    if args.n < 1 or args.n**args.dim > 2**31:
        raise GridError(
            f"--n {args.n} with --dim {args.dim} is {args.n**args.dim} cells; choose between 1 and 2^31"
        )
    return Grid.box((args.n,) * args.dim, 0.0, args.length, args.centring)


def run_poisson(args: argparse.Namespace) -> int:
    from cola_core import explain, solve

    from .elliptic import poisson
    from .manufactured import observed_order, trigonometric

    _check_out(args.out)
    grid = _grid(args)
    case = trigonometric(grid)
    conditions = case.conditions(args.bc, grid.ndim) if args.source is None else args.bc
    source = case.source if args.source is None else args.source
    options = {"dtype": args.dtype, "backend": args.backend}
    solution = poisson(grid, source, conditions, **options)
    space, be = solution.space, solution.operator.S._concrete_backend()
    result: dict[str, Any] = {
        **_facts(args, space, be.to_numpy(solution.u).dtype),
        "seconds": solution.info.seconds,
    }
    result["residual"] = float(solution.residual)
    u = be.to_numpy(solution.u)
    if args.source is None:
        exact = np.broadcast_to(case.solution(*space.coordinates()), space.shape)
        error = u - exact
        if space.singular:
            error = error - error.mean()
        result["max_error"] = float(np.max(np.abs(error)))
    if space.singular:
        result["imbalance"] = solution.imbalance
        result["plan"] = (
            "null space of constants: pseudo-inverse through the eigenbasis (eigh of the Kronecker sum)"
        )
    else:
        result["plan"] = str(explain(solve, solution.operator.S, be.xp.reshape(solution.u, (-1,))))
    if args.order > 1:
        cells = [args.n >> level for level in reversed(range(args.order))]
        if cells[0] < 2:
            raise GridError(f"--order {args.order} halves --n {args.n} below 2 cells")
        grids = [type(grid).box((c,) * args.dim, 0.0, args.length, args.centring) for c in cells]
        table = observed_order(lambda g, f, bc: poisson(g, f, bc, check=False), grids, args.bc)
        result["order"] = table.order
        result["order_table"] = str(table)
    if args.out is not None:
        _write(args.out, space, u)
        result["out"] = str(args.out)
    return _print(args, result)


def run_eigen(args: argparse.Namespace) -> int:
    from .modes import eigenmodes, exact_eigenvalues

    grid = _grid(args)
    start = time.perf_counter()
    modes = eigenmodes(grid, args.k, args.bc, dtype=args.dtype, backend=args.backend)
    seconds = time.perf_counter() - start
    exact = exact_eigenvalues(grid, len(modes.values), args.bc)
    scale = np.where(exact == 0, 1.0, exact)
    result = {
        **_facts(args, modes.space, args.dtype),
        "seconds": seconds,
        "eigenvalues": modes.values.tolist(),
        "exact": exact.tolist(),
        "relative_error": (np.abs(modes.values - exact) / scale).tolist(),
        "multiplicities": [m for _, m in modes.multiplicities()],
        "plan": "best-first sums of the factors' spectra: " + ", ".join(repr(V) for V in modes.bases),
    }
    return _print(args, result)


def run_heat(args: argparse.Namespace) -> int:
    from cola_core import exp, explain

    from .heating import heat
    from .manufactured import trigonometric

    _check_out(args.out)
    grid = _grid(args)
    initial = trigonometric(grid).solution
    solution = heat(grid, initial, args.time, args.bc, dtype=args.dtype, backend=args.backend)
    space, be = solution.space, solution.operator.S._concrete_backend()
    u = be.to_numpy(solution.u)
    start = np.broadcast_to(initial(*space.coordinates()), space.shape)
    result = {
        **_facts(args, space, be.to_numpy(solution.u).dtype),
        "time": args.time,
        "seconds": solution.info.seconds,
        "max_before": float(np.max(start)),
        "max_after": float(np.max(u)),
        "min_after": float(np.min(u)),
        "plan": str(explain(exp, -args.time * solution.operator.separable)),
    }
    if args.out is not None:
        _write(args.out, space, u)
        result["out"] = str(args.out)
    return _print(args, result)


def _facts(args: argparse.Namespace, space: Any, dtype: Any) -> dict[str, Any]:
    return {
        "command": f"pde {args.pde_command}",
        "unknowns": list(space.shape),
        "bc": list(space.kinds),
        "centring": args.centring,
        "dtype": str(dtype),  # the one used: JAX without x64 computes in float32
        "backend": args.backend,
    }


def _print(args: argparse.Namespace, result: dict[str, Any]) -> int:
    if getattr(args, "quiet", False):  # a global flag of cola-core: the result only
        result.pop("plan", None)
    if args.json:
        print(json.dumps(result))
        return 0
    if "eigenvalues" in result:
        rows = zip(result.pop("eigenvalues"), result.pop("exact"), result.pop("relative_error"), strict=True)
        table = [f"{'eigenvalue':>18} {'exact':>18} {'rel. error':>11}"]
        table += [f"{value:18.10f} {exact:18.10f} {error:11.2e}" for value, exact, error in rows]
        result["table"] = "\n" + "\n".join(table)
    for key, value in result.items():
        if isinstance(value, list):
            value = " x ".join(map(str, value)) if key == "unknowns" else ", ".join(map(str, value))
        elif isinstance(value, float):
            value = f"{value:.6g}"
        text = str(value)
        print(f"{key}:\n{text.strip(chr(10))}" if "\n" in text else f"{key}: {text}")
    return 0


def _check_out(path: Path | None) -> None:
    """Refuse a hopeless target before computing."""
    if path is not None:
        check_target(path, (".npz",))


def _write(path: Path, space: Any, u: np.ndarray) -> None:
    write_arrays(path, u=u, **{f"x{axis}": space.points(axis) for axis in range(space.ndim)})

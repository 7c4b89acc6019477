"""`cola-core gpu info` and `cola-core gpu bench`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

__all__ = ["register"]


def register(subparsers: Any) -> None:
    """Add the `gpu` command to the argument parser of `cola-core`."""
    gpu = subparsers.add_parser("gpu", help="devices and what they can do", description=__doc__)
    commands = gpu.add_subparsers(dest="gpu_command", required=True)
    info = commands.add_parser("info", help="array libraries and devices found")
    info.add_argument("--json", action="store_true", help="machine-readable output")
    info.set_defaults(func=_info)
    bench = commands.add_parser("bench", help="measure bandwidth, matrix products, mixed-precision CG and LQ")
    bench.add_argument("--json", action="store_true", help="machine-readable output")
    bench.add_argument(
        "--backend", choices=("numpy", "torch", "jax"), help="default: one with an accelerator"
    )
    bench.add_argument("--device", help="a device of that library as `gpu info` names it, such as cuda:0")
    bench.add_argument("--full", action="store_true", help="larger sizes (minutes instead of seconds)")
    bench.set_defaults(func=_bench)


def _info(args: argparse.Namespace) -> int:
    from .devices import devices, frameworks

    libraries, found = frameworks(), devices()
    if args.json:
        report = {"frameworks": [f.as_dict() for f in libraries], "devices": [vars(d) for d in found]}
        _print(json.dumps(report, indent=2))
        return 0
    for f in libraries:
        _print(f"{f.name:6s} {f.version or f.problem}")
    _print("")
    for d in found:
        memory = "" if d.memory is None else f", {d.memory / 2**30:.1f} GiB"
        _print(f"{d.framework + '/' + d.name:14s} {d.description}{memory}")
    if all(d.kind == "cpu" for d in found):
        _print("\nno accelerator found; everything runs on the CPU")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from .bench import run

    result = run(backend=args.backend, device=args.device, quick=not args.full)
    if args.json:
        _print(json.dumps(result, indent=2))
        return 0
    _print(f"device              {result['backend']}/{result['device']}")
    _print(f"copy                {result['copy_GBps']:.1f} GB/s")
    for dtype in ("float32", "float64"):
        _print(f"matmul {dtype}      {result[f'matmul_{dtype}_GFLOPs']:.1f} GFLOP/s")
    for name in ("cg_float64", "cg_mixed"):
        _print(
            f"{name:19s} {result[f'{name}_seconds'] * 1e3:.1f} ms, {result[f'{name}_iterations']} steps, "
            f"residual {result[f'{name}_residual']:.1e} (n = {result['cg_n']})"
        )
    _print(f"mixed speed-up      {result['cg_mixed_speedup']:.2f}x")
    if "cg_float64_bandwidth_fraction" in result:
        _print(f"cg of copy speed    {100 * result['cg_float64_bandwidth_fraction']:.0f} %")
    _print(
        f"LQ {result['lq_rows']}x{result['lq_columns']}          {result['lq_seconds'] * 1e3:.1f} ms "
        f"(QR {result['qr_seconds'] * 1e3:.1f} ms), adjoint {result['lq_backward_seconds'] * 1e3:.1f} ms"
    )
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")

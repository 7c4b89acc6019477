"""`cola-core gpu info` and `cola-core gpu bench`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["register"]


def register(subparsers: Any) -> None:
    """Add the `gpu` command to the argument parser of `cola-core`."""
    gpu = subparsers.add_parser("gpu", help="devices and what they can do", description=__doc__)
    commands = gpu.add_subparsers(dest="gpu_command", required=True)
    info = commands.add_parser("info", help="array libraries and devices found, and what is missing")
    info.add_argument("--json", action="store_true", help="machine-readable output")
    info.set_defaults(func=_info)
    bench = commands.add_parser(
        "bench", help="measure bandwidth and matrix products, and every algorithm against them"
    )
    bench.add_argument("cases", nargs="*", metavar="CASE", help="algorithms to measure (default: all)")
    bench.add_argument("--json", action="store_true", help="machine-readable output")
    bench.add_argument(
        "--backend", choices=("numpy", "torch", "jax"), help="default: one with an accelerator"
    )
    bench.add_argument(
        "--device", help="a device as `gpu info` names it, such as cuda:0, or a kind, such as cuda"
    )
    size = bench.add_mutually_exclusive_group()
    for name, text in (
        ("short", "smallest sizes: whether it runs, not how fast"),
        ("quick", "moderate sizes (the default)"),
        ("full", "sizes that no cache holds: minutes"),
    ):
        size.add_argument(f"--{name}", dest="size", action="store_const", const=name, help=text)
    bench.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the screen")
    bench.set_defaults(func=_bench, size="quick")


def _info(args: argparse.Namespace) -> int:
    from .devices import devices, frameworks
    from .missing import parts

    libraries, found, needed = frameworks(), devices(), parts()
    if args.json:
        report = {
            "frameworks": [f.as_dict() for f in libraries],
            "devices": [vars(d) for d in found],
            "accelerator": [{**vars(p), "complete": p.complete} for p in needed],
        }
        _print(json.dumps(report, indent=2))
        return 0
    for f in libraries:
        _print(f"{f.name:6s} {f.version or f.problem}")
    _print("")
    for d in found:
        memory = "" if d.memory is None else f", {d.memory / 2**30:.1f} GiB"
        _print(f"{d.framework + '/' + d.name:14s} {d.description}{memory}")
    _print("")
    for p in needed:
        _print(f"{p.name:10s} {p.found}" + ("" if p.complete else f"; to have it: {p.remedy}"))
    if all(d.kind == "cpu" for d in found):
        _print("\nno accelerator found; everything runs on the CPU")
    return 0


def _bench(args: argparse.Namespace) -> int:
    from .bench.run import as_text, run

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"{text} ...\n")

    result = run(args.backend, args.device, args.size, tuple(args.cases), say)
    text = json.dumps(result, indent=2) if args.json else as_text(result)
    if args.out is None:
        _print(text)
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")

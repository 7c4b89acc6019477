"""``python -m benchmarks gpu``: all sections on one device; a table named after the hardware.

    python -m benchmarks gpu --device cuda              # writes benchmarks/results/gpu-<hardware>.md
    python -m benchmarks gpu --device cpu --short       # whether it runs; writes nothing
    python -m benchmarks gpu lq --backend jax           # one section, on JAX

Times are by the clock on the wall, medians over interleaved rounds. Every answer is checked before it is
timed, and every time stands beside the least that the device's measured bandwidth and matrix products allow.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..harness import seconds
from ..machine import describe, single_threaded

__all__ = ["main"]

SECTIONS = ("kernel", "lanczos", "mixed", "lq", "roofline")
RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write where asked to. Exit status 1 if there is no such device."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)"
    )
    parser.add_argument(
        "--device", default="cuda", help="as `cola-core gpu info` names it, or a kind (default: cuda)"
    )
    parser.add_argument("--backend", choices=("torch", "jax"), default="torch", help="array library")
    parser.add_argument("--short", action="store_true", help="small sizes: whether it runs, not how fast")
    parser.add_argument("--out", type=Path, help="folder for gpu-<hardware>.md (default with --short: none)")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section is called {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if options.device.startswith("cpu"):
        single_threaded()

    from cola_core.errors import DeviceError
    from cola_gpu.bench import choose

    try:
        target = choose(options.backend, options.device)
    except DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    text = _measure(target, options.sections or list(SECTIONS), options.short)
    out = options.out or (None if options.short else RESULTS)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / file_name(target)).write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


def file_name(target: Any) -> str:
    """``gpu-nvidia-a100-sxm4-80gb.md``; of a CPU its kind and library, which is not what this is for."""
    name = target.description if target.accelerated else f"{target.kind} {target.framework}"
    return f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.md"


def _measure(target: Any, sections: list[str], short: bool) -> str:
    from cola_gpu.bench import ceilings, run
    from cola_gpu.bench.target import double_precision

    from . import kernel, lanczos, lq, mixed

    size = "short" if short else "full" if target.accelerated else "quick"
    lines = heading(target)
    with double_precision(target.framework):
        found = ceilings.measure(target, size)
        lines += ceilings_table(found)
        for name, module in (("kernel", kernel), ("lanczos", lanczos), ("mixed", mixed), ("lq", lq)):
            if name in sections:
                print(f"{name} ...", file=sys.stderr, flush=True)
                lines += table(module.TITLE, list(module.rows(target, found, short)))
    if "roofline" in sections:
        print("roofline ...", file=sys.stderr, flush=True)
        lines += roofline_table(run(target.framework, target.device, size))
    return "\n".join(lines) + "\n"


def heading(target: Any) -> list[str]:
    """What was measured on what: no host name, no path."""
    machine = describe()
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items())
    hardware = target.description if target.accelerated else machine["processor"]
    return [
        f"# cola-gpu on {hardware}",
        "",
        f"{target.framework}/{target.device}{_driver(target)}; host {machine['processor']}, "
        f"{machine['system']}; Python {machine['python']}; {versions}. Wall-clock medians of interleaved "
        "rounds.",
    ]


def _driver(target: Any) -> str:
    if target.kind != "cuda":
        return ""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.max.sm", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    driver, _, clock = said.splitlines()[0].partition(", ")
    return f", driver {driver}, at most {clock}"


def ceilings_table(found: Any) -> list[str]:
    """Bandwidths and rates of products."""
    lines = ["", "## Ceilings", "", "| what | measured |", "|---|---|"]
    lines += [f"| bandwidth, {name} | {value:.4g} GB/s |" for name, value in found.bandwidth.items()]
    lines += [f"| matrix product, {dtype} | {rate:.4g} GFLOP/s |" for dtype, rate in found.matmul.items()]
    lines += [f"| matrix product, {dtype} | none: {reason} |" for dtype, reason in found.missing.items()]
    return lines


def table(title: str, rows: list[Any]) -> list[str]:
    """One section."""
    lines = [
        "",
        f"## {title}",
        "",
        "| problem | | median | ours / it | of roofline | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.missing:
            lines.append(f"| {row.problem} | {row.contender} | not measured: {row.missing} | | | |")
            continue
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        part = "" if row.fraction is None else f"{100 * row.fraction:.0f} % ({row.bound})"
        lines.append(
            f"| {row.problem} | {row.contender} | {seconds(row.median)} | {ratio} | {part} | {row.note} |"
        )
    return lines


def roofline_table(result: dict[str, Any]) -> list[str]:
    """What ``cola-core gpu bench`` reports."""
    lines = [
        "",
        "## Every algorithm against its roofline",
        "",
        "| algorithm | size | best time | of roofline | bound by | counted |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["algorithms"]:
        if "missing" in row:
            lines.append(f"| {row['title']} | | not measured: {row['missing']} | | | |")
            continue
        size = ", ".join(f"{key} = {value}" for key, value in row["size"].items())
        lines.append(
            f"| {row['title']} | {size} | {seconds(row['seconds'])} | {100 * row['fraction']:.0f} % | "
            f"{row['bound']} | {row['model']} |"
        )
    return lines

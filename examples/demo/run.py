"""The main job on real data, end to end, on NumPy alone; writes one HTML page and the numbers as JSON.

    python examples/demo/run.py --out demo-report

A section that fails is shown as failed, with its traceback, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# before NumPy is imported: one thread, so that times mean the same everywhere and a busy machine does not
# thrash
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

from page import page  # noqa: E402
from section import Section  # noqa: E402

SECTIONS = ("command_line", "composed", "gaussian_process", "poisson", "equivariance", "mixed_precision")


def run_section(name: str, out: Path) -> Section:
    """Run one section; whatever it raises is recorded, not hidden."""
    module = importlib.import_module(f"sections.{name}")
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    section = Section(name, module.TITLE, folder, asked=module.ASKED)
    start = time.perf_counter()
    try:
        module.run(section)
    except Exception:  # noqa: BLE001 - the report must be written, with the failure in it
        section.error = traceback.format_exc()
    section.seconds = time.perf_counter() - start
    return section


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in (
        "cola-core",
        "cola-gp",
        "cola-pde",
        "cola-emlp",
        "cola-gpu",
        "numpy",
        "scipy",
        "torch",
        "jax",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": found,
    }


def write(path: Path, text: str) -> None:
    """Complete or not at all."""
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def main(argv: list[str] | None = None) -> int:
    """Run the sections, print a line for each, write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("demo-report"), help="folder of the report (default demo-report)"
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="run only this section (repeatable)"
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    sections = []
    for name in args.only or SECTIONS:
        section = run_section(name, args.out)
        sections.append(section)
        held = sum(c.ok for c in section.checks)
        verdict = "ok    " if section.ok else "FAILED"
        print(
            f"{verdict}  {section.title:<58} {held}/{len(section.checks)} checks  {section.seconds:6.1f} s",
            flush=True,
        )
        for check in section.checks:
            if not check.ok:
                print(f"        {check.name}: {check.value:.3g} is not below {check.below:g}")
        if section.error:
            print(f"        {section.error.strip().splitlines()[-1]}")
    report = {
        "schema": 1,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "ok": all(s.ok for s in sections),
        "seconds": time.perf_counter() - start,
        "machine": machine(),
        "sections": {s.id: s.as_dict() for s in sections},
    }
    write(args.out / "numbers.json", json.dumps(report, indent=2, allow_nan=False, default=float) + "\n")
    write(args.out / "index.html", page(report, sections))
    print(
        f"\n{report['seconds']:.0f} s. Open {args.out / 'index.html'}; the numbers are in "
        f"{args.out / 'numbers.json'}"
    )
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())

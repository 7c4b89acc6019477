"""The benchmark: ceilings of a device, then every case as a fraction of its roof. And its report as text."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cola_core.errors import ColaError, UnknownNameError

from .case import Case
from .ceilings import DTYPES, Ceilings, measure
from .roofline import roof
from .target import SIZES, Target, choose, double_precision

__all__ = ["all_cases", "as_text", "run"]

PACKAGES = ("cola-core", "cola-gpu", "numpy", "scipy", "torch", "triton", "jax")


def all_cases() -> list[Case]:
    """Every case, in the order of the report."""
    from . import dense_cases, eigen_cases, kernel_cases, sparse_cases

    return [*sparse_cases.CASES, *eigen_cases.CASES, *kernel_cases.CASES, *dense_cases.CASES]


def run(
    backend: str | None = None,
    device: str | None = None,
    size: str = "quick",
    names: tuple[str, ...] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Everything measured on one device, as plain values.

    size: "short" (whether it runs, not how fast), "quick" (about a minute) or "full". names: cases to run
    (default all). Keys: backend, device, kind, description, size, versions, ceilings, algorithms (a list of
    rows with seconds, roof_seconds, fraction, bound, model, size and what the answer says of itself; or
    "missing" with the reason), and mixed_speedup where both solvers ran. DeviceError where the device is not
    there.
    """
    if size not in SIZES:
        raise UnknownNameError(f"unknown size {size!r}; known are {', '.join(SIZES)}")
    cases = all_cases()
    unknown = sorted(set(names) - {c.name for c in cases})
    if unknown:
        known = ", ".join(c.name for c in cases)
        raise UnknownNameError(f"no case is called {', '.join(unknown)}; known are {known}")
    target = choose(backend, device)
    with double_precision(target.framework):
        progress("ceilings")
        ceilings = measure(target, size)
        rows = []
        for case in cases:
            if not names or case.name in names:
                progress(case.name)
                rows.append(_row(case, target, size, ceilings))
    out = {
        "backend": target.framework,
        "device": target.device,
        "kind": target.kind,
        "description": target.description,
        "size": size,
        "versions": _versions(),
        "ceilings": ceilings.as_dict(),
        "algorithms": rows,
    }
    seconds = {row["name"]: row["seconds"] for row in rows if "seconds" in row}
    if {"cg", "mixed-cg"} <= seconds.keys():
        out["mixed_speedup"] = seconds["cg"] / seconds["mixed-cg"]
    return out


def _row(case: Case, target: Target, size: str, ceilings: Ceilings) -> dict[str, Any]:
    row: dict[str, Any] = {"name": case.name, "title": case.title, "model": case.model}
    if target.framework not in case.libraries:
        return row | {"missing": f"it runs on arrays of {', '.join(case.libraries)}"}
    try:
        problem = case.prepare(target, size)
        answer = problem.run()
        target.wait(answer)
    except (ColaError, MemoryError, NotImplementedError, RuntimeError) as error:  # the others are measured
        return row | {"missing": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    seconds = target.best(problem.run, warm=False)
    least = roof(problem.phases(answer), ceilings)
    return row | {
        "size": problem.size,
        "seconds": seconds,
        "roof_seconds": least.seconds,
        "fraction": least.fraction(seconds),
        "bound": least.bound,
        **problem.facts(answer),
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def as_text(result: dict[str, Any]) -> str:
    """The result of `run` for people."""
    ceilings = result["ceilings"]
    bandwidth = ", ".join(f"{name} {value:.1f}" for name, value in ceilings["bandwidth_GBps"].items())
    lines = [
        f"device     {result['backend']}/{result['device']}: {result['description']}",
        "versions   " + ", ".join(f"{name} {v}" for name, v in result["versions"].items()),
        f"bandwidth  {bandwidth} GB/s",
    ]
    for dtype in DTYPES:
        rate = ceilings["matmul_GFLOPs"][dtype]
        said = f"{rate:.1f} GFLOP/s" if rate is not None else f"none ({ceilings['missing'][dtype]})"
        lines.append(f"matmul     {dtype:9s} {said}")
    lines += ["", f"{'algorithm':15s} {'seconds':>10s} {'roof':>10s} {'of roof':>8s}  bound by"]
    for row in result["algorithms"]:
        if "missing" in row:
            lines.append(f"{row['name']:15s} not measured: {row['missing']}")
            continue
        size = ", ".join(f"{key} = {value}" for key, value in row["size"].items())
        lines.append(
            f"{row['name']:15s} {row['seconds']:10.3g} {row['roof_seconds']:10.3g} "
            f"{100 * row['fraction']:6.0f} %  {row['bound']:10s} {size}"
        )
    lines += ["", "what the roofs count:"]
    lines += [f"  {row['name']:15s} {row['title']}: {row['model']}" for row in result["algorithms"]]
    if "mixed_speedup" in result:
        lines += ["", f"mixed-precision CG is {result['mixed_speedup']:.2f} times as fast as float64 CG"]
    if result["size"] != "full":
        lines.append("small problems live in caches, which may be faster than the memory that was measured")
    return "\n".join(lines)

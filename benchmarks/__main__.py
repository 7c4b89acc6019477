"""`python -m benchmarks [--short] [--out DIR] [--list] [NAME ...]`, `python -m benchmarks grid`,
`python -m benchmarks gpu`"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from .machine import describe, single_threaded


def main(argv: list[str] | None = None) -> int:
    """Run the chosen benches; exit status 1 if one that is due misses its goal (never with --short)."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["grid"]:
        from .grid.run import main as grid

        return grid(argv[1:])
    if argv[:1] == ["gpu"]:
        from .gpu.run import main as gpu

        return gpu(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benches whose name starts so (default: all)"
    )
    parser.add_argument(
        "--short", action="store_true", help="small sizes, two rounds: whether it runs, not how fast"
    )
    parser.add_argument("--out", type=Path, help="folder for results.md and results.json")
    parser.add_argument("--wall", action="store_true", help="wall-clock instead of processor times")
    parser.add_argument("--cola-ml", metavar="PYTHON", help="an interpreter with cola-ml; see README.md")
    parser.add_argument("--list", action="store_true", help="names and titles only")
    options = parser.parse_args(argv)
    single_threaded()

    # array libraries are imported from here on, with the number of threads settled
    from .cases import all_benches
    from .harness import Result, measure, measure_elsewhere
    from .report import as_json, as_markdown

    wanted = [b for b in all_benches() if not options.names or b.name.startswith(tuple(options.names))]
    if options.list:
        print("\n".join(f"{b.name:28} {b.title}" for b in wanted))
        return 0
    if not wanted:
        parser.error(f"no bench is called {', '.join(options.names)}")
    results = []
    for bench in wanted:
        missing = [m for m in bench.needs if find_spec(m) is None]
        if missing:
            result = Result(bench.name, bench.title, skipped=f"{', '.join(missing)} is not installed")
        else:
            print(f"{bench.name} ...", file=sys.stderr, flush=True)
            result = measure(bench, options.short, time.perf_counter if options.wall else None)
            if options.cola_ml and bench.exchange is not None and not options.short:
                script = Path(__file__).parent / "peers" / "cola_ml.py"
                measure_elsewhere(bench, result, "cola-ml", options.cola_ml, script)
        results.append(result)
    machine = {"clock": "wall" if options.wall else "processor", **describe()}
    text = as_markdown(results, machine)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(text, encoding="utf-8")
        (options.out / "results.json").write_text(as_json(results, machine), encoding="utf-8")
    print(text)
    return 0 if options.short or all(r.met is not False for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())

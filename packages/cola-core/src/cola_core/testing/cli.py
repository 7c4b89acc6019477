"""The library side of ``cola-core check-plugin NAME [--backend B] [--json]``."""

from __future__ import annotations

import dataclasses
import json as _json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, TextIO

from ..errors import PluginLoadError, UnknownNameError
from .plugin_checks import check_plugin
from .run import CheckResult, installed

__all__ = ["run_check_plugin"]


def run_check_plugin(
    name: str,
    backends: Sequence[str] | None = None,
    json: bool = False,
    verbose: bool = False,
    out: TextIO | None = None,
) -> int:
    """Check an installed plugin and print what was found.
    Returns 0 (all well), 1 (a check failed), 2 (cannot load).

    A backend that is asked for by name and not installed is a failure;
    otherwise its checks are skipped, visibly.
    """
    stream = sys.stdout if out is None else out
    missing = [b for b in backends or () if not installed(b)]
    if missing:
        return _cannot(f"backend {', '.join(missing)} is not installed", name, json, stream)
    try:
        results = check_plugin(name, backends)
    except (PluginLoadError, UnknownNameError) as error:
        return _cannot(str(error), name, json, stream)
    failed = [r for r in results if not r.ok]
    if json:
        summary: dict[str, Any] = {"plugin": name, "ok": not failed, "counts": dict(_counts(results))}
        summary["results"] = [dataclasses.asdict(r) for r in results]
        print(_json.dumps(summary, indent=2), file=stream)
        return 1 if failed else 0
    for result in results:
        if verbose or result.status in ("failed", "skipped", "expected"):
            mark = " (advisory)" if result.status == "failed" and result.ok else ""
            print(f"{result}{mark}", file=stream)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(_counts(results).items()))
    print(f"{name}: {counts}", file=stream)
    return 1 if failed else 0


def _counts(results: Sequence[CheckResult]) -> Counter[str]:
    return Counter(r.status for r in results)


def _cannot(message: str, name: str, json: bool, stream: TextIO) -> int:
    text = _json.dumps({"plugin": name, "ok": False, "error": message}) if json else f"{name}: {message}"
    print(text, file=stream)
    return 2

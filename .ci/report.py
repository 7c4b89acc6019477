"""The end of the log of `make test`: what failed, then one line per environment and one for all of them.

`python .ci/report.py RESULT_JSON SECONDS [ENVIRONMENT...]` reads the file that `tox --result-json` wrote.
A log is read from its end, so the last lines of every failed command are repeated here. The exit status is 0
when every environment that was asked for (by default those of env_list in tox.ini) has run and passed.
"""

import configparser
import json
import re
import sys
from collections import Counter
from pathlib import Path

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?)\b")
CLOSING = re.compile(r"^=*\s*(?=\d+ \w+).* in \d+\.\d+s.*$", re.MULTILINE)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
TAIL = 60


def counts(output: str) -> Counter[str]:
    """What the closing lines of pytest say, summed; empty for the output of any other command."""
    found: Counter[str] = Counter()
    for number, what in COUNT.findall("\n".join(CLOSING.findall(ANSI.sub("", output)))):
        found[what.rstrip("s") if what in {"errors", "warnings"} else what] += int(number)
    return found


def phrase(found: Counter[str]) -> str:
    """Counts in pytest's words and order."""
    order = ["failed", "error", "passed", "skipped", "xfailed", "xpassed", "deselected"]
    return ", ".join(
        f"{found[what]} {what}{'s' if what == 'error' and found[what] > 1 else ''}"
        for what in order
        if found[what]
    )


def env_list() -> list[str]:
    """What tox runs when it is not told."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Path(__file__).resolve().parent.parent / "tox.ini")
    return [name.strip() for name in parser["tox"]["env_list"].split(",")]


def closing(text: str) -> str:
    return f" {text} ".center(100, "=")


def main(argv: list[str]) -> int:
    path, seconds, wanted = Path(argv[0]), float(argv[1]), argv[2:] or env_list()
    environments = json.loads(path.read_text())["testenvs"] if path.exists() else {}
    total: Counter[str] = Counter()
    lines = []
    bad = 0
    for name in wanted:
        record = environments.get(name, {})
        # in tox's file, `setup` holds the installations and `test` the commands
        commands = [*record.get("setup", []), *record.get("test", [])]
        found = sum((counts(c["output"]) for c in commands), Counter())
        ok = record.get("result", {}).get("success", False)
        if not ok:
            bad += 1
            for command in commands:
                if command["retcode"] not in (0, None):
                    text = ANSI.sub("", command["output"] + command["err"]).splitlines()
                    print(closing(f"{name}: the last lines of what failed"))
                    print("+", " ".join(command["command"]))
                    print("\n".join(text[-TAIL:]))
            if not found["failed"] + found["error"]:
                total["error"] += 1  # no test has failed, but an installation, a check or the environment has
        total += found
        took = record.get("result", {}).get("duration", 0.0)
        words = phrase(found) or ("passed" if ok else "failed" if record else "not run")
        lines.append(closing(f"{name}: {'ok' if ok else 'FAILED'}: {words} in {took:.2f}s"))
    print("\n".join(lines))
    if bad:
        print(f"{bad} of {len(wanted)} environments failed")
    print(closing(f"{phrase(total) or 'nothing ran'} in {seconds:.2f}s"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Fail unless this environment holds exactly the versions of a constraints file: `python .ci/floors.py FILE`.

A constraint on a package that nobody installs is silently without effect; here it is an error.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def pins(text: str) -> dict[str, str]:
    """The `name==version` lines of a constraints file."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return dict(line.split("==") for line in lines if line)


def main(argv: list[str]) -> int:
    wrong = 0
    for name, wanted in pins(Path(argv[0]).read_text()).items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        if found != wanted:
            print(f"{name}: {wanted} wanted, {found} found", file=sys.stderr)
            wrong += 1
    if not wrong:
        print(f"this environment holds the versions of {argv[0]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

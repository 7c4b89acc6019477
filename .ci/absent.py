"""Fail unless every named module is absent from this environment: `python .ci/absent.py torch jax`.

An environment that is meant to lack a package proves nothing when the package has come in by a dependency.
"""

import sys
from importlib.util import find_spec


def main(names: list[str]) -> int:
    if not names:
        print("usage: absent.py MODULE...", file=sys.stderr)
        return 2
    found = {name: spec.origin for name in names if (spec := find_spec(name)) is not None}
    for name, origin in found.items():
        print(f"{name} should not be installed here, but is: {origin}", file=sys.stderr)
    if not found:
        print(f"absent, as they should be: {', '.join(names)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

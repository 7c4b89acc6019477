"""The command line ``cola-core``; also ``python -m cola_core``.

Exit status: 0 done, 1 an expected error (one line on stderr), 2 wrong usage, 3 a result that is flagged
unreliable and was not accepted, 130 interrupted. A sub-command of a plugin is imported only when it is the
one asked for.
"""

from __future__ import annotations

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; argv without the program's name. Returns the exit status."""
    from .program import run

    return run(argv)
